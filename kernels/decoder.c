/* A whole stack of Llama-like decoder layers in one call: embedding, layers, final norm, logits.
 *
 * One team of threads walks through the phases of every layer and meets at a barrier after each; within a phase,
 * threads take units of work as they come. Activations between layers are float32; what enters a product has the
 * weights' dtype. A unit computes the same bits whoever takes it and whatever the other rows are.
 */
#include <math.h>
#include <sched.h>
#include <stdatomic.h>
#include <omp.h>

#include "attention.h"
#include "matmul.h"
#include "rows.h"

struct matrix {
    const void *panels; /* as matmul.h packs them */
    const float *bias;  /* (num_outputs) or NULL */
    int64_t num_inputs, num_outputs;
};

struct layer {
    const float *attention_norm, *mlp_norm; /* (hidden_size) */
    const float *query_norm, *key_norm;     /* (head_dim) or NULL */
    struct matrix query_key_value, attention_output, gate_up, down; /* gate_up: panels of gate and up by turns */
    void *key_cache, *value_cache;
    int64_t window; /* as in attention.h */
    int64_t rotates; /* 0 for a layer without rotary positions */
    int64_t tap;     /* its place among the tapped layers, -1 for none */
};

struct decoder {
    int64_t dtype, hidden_size, intermediate_size, num_layers, num_taps, rotary_dim, vocab_size;
    int64_t final_tap; /* the place among the taps of what is behind the final norm, -1 for none */
    float norm_epsilon, rotary_scale, embedding_scale, residual_scale, logit_scale;
    struct attention attention;
    const void *embedding;  /* (vocab_size, hidden_size) */
    const float *frequency; /* (rotary_dim / 2) radians a position */
    const float *final_norm;
    struct matrix output;
    const struct layer *layers;
};

/* Where intermediate results of all rows are. */
struct buffers {
    float *hidden;   /* (num_rows, hidden_size) the residual stream */
    float *rotation; /* (num_rows, rotary_dim) cosines, then sines */
    void *normed;    /* (num_rows, hidden_size) */
    float *mixed;    /* (num_rows, (num_heads + 2 num_kv_heads) head_dim) queries, keys, values */
    void *query;     /* (num_rows, num_heads, head_dim) */
    void *attended;  /* likewise */
    void *activated; /* (num_rows, intermediate_size) */
};

/* Threads that meet between phases. Phases by turns use the two counters of units that are taken. */
struct team {
    atomic_int arrived, round;
    struct { atomic_long taken; char apart[64 - sizeof(atomic_long)]; } phase[2];
};

/* One of them, and the phase that it is in. */
struct worker {
    struct team *team;
    int size, round;
};

enum { SPINS = 4000, ALIGNMENT = 64 };

static void relax(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Waits for all. A thread that waits long lets others run: the machine may have fewer free cores than threads. */
static void meet(struct worker *w) {
    struct team *team = w->team;
    const int now = w->round++;
    if (atomic_fetch_add_explicit(&team->arrived, 1, memory_order_acq_rel) == w->size - 1) {
        atomic_store_explicit(&team->arrived, 0, memory_order_relaxed);
        /* Nobody takes units of the phase that ends any more: its counter is ready for the phase after the next. */
        atomic_store_explicit(&team->phase[now & 1].taken, 0, memory_order_relaxed);
        atomic_store_explicit(&team->round, now + 1, memory_order_release);
        return;
    }
    for (int spins = 0; atomic_load_explicit(&team->round, memory_order_acquire) == now; spins++)
        if (spins < SPINS) relax();
        else sched_yield();
}

static int64_t take(struct worker *w) {
    return atomic_fetch_add_explicit(&w->team->phase[w->round & 1].taken, 1, memory_order_relaxed);
}

#define FOR_UNITS(unit, count) for (int64_t unit = take(w), end_ = (count); unit < end_; unit = take(w))

/* out = x / rms(x) * weight */
INLINE void normalise(const float *x, const float *weight, void *out, int64_t size, float epsilon, const int dtype) {
    v16f squares = {0};
    int64_t i = 0;
    for (; i + LANES <= size; i += LANES) {
        const v16f v = load(x, i, FLOAT32);
        squares += v * v;
    }
    float sum = sum_lanes(squares);
    for (; i < size; i++) sum += x[i] * x[i];
    const float scale = 1.0f / sqrtf(sum / (float)size + epsilon);
    for (i = 0; i + LANES <= size; i += LANES)
        store(out, i, load(x, i, FLOAT32) * scale * load(weight, i, FLOAT32), dtype);
    for (; i < size; i++) store_one(out, i, x[i] * scale * weight[i], dtype);
}

#define PANELS(count) (((count) + PANEL - 1) / PANEL)

/* For each tile of a product x @ w.T: `out` holds its rows' outputs from `column` on, `width` of them. */
#define FOR_TILES(x, stride, num_panels, num_rows, BODY)                                                             \
    do {                                                                                                              \
        const int64_t step_ = rows_of_unit(w->size, num_panels, num_rows);                                            \
        const int64_t cuts_ = ((num_rows) + step_ - 1) / step_;                                                       \
        FOR_UNITS(unit_, (num_panels) * cuts_) {                                                                      \
            const int64_t index = unit_ / cuts_, from_ = unit_ % cuts_ * step_;                                       \
            const int64_t to_ = from_ + step_ < (num_rows) ? from_ + step_ : (num_rows);                              \
            const int64_t column = index * PANEL;                                                                     \
            for (int64_t row = from_; row < to_; row += MAX_ROWS) {                                                   \
                const int64_t count = to_ - row < MAX_ROWS ? to_ - row : MAX_ROWS;                                    \
                const char *x_ = (const char *)(x) + row * (stride) * BYTES(dtype);                                   \
                BODY                                                                                                  \
            }                                                                                                         \
        }                                                                                                             \
    } while (0)

INLINE const void *panel_of(const struct matrix *matrix, int64_t index, const int dtype) {
    return (const char *)matrix->panels + index * PANEL * matrix->num_inputs * BYTES(dtype);
}

/* out (num_rows, num_outputs) float32: = x @ w.T + bias, or += `scale` times that. */
INLINE void project(struct worker *w, const void *x, const struct matrix *matrix, float *out,
                    int64_t num_rows, float scale, const int adds, const int dtype) {
    FOR_TILES(x, matrix->num_inputs, PANELS(matrix->num_outputs), num_rows, {
        v16f tile[MAX_ROWS][PANEL_VECTORS];
        multiply(count, x_, matrix->num_inputs, panel_of(matrix, index, dtype), matrix->num_inputs, tile, dtype);
        const float *values = (const float *)tile;
        const int64_t width = matrix->num_outputs - column < PANEL ? matrix->num_outputs - column : PANEL;
        for (int64_t r = 0; r < count; r++) {
            float *to = out + (row + r) * matrix->num_outputs + column;
            for (int64_t c = 0; c < width; c++) {
                const float value = (values[r * PANEL + c] + (matrix->bias ? matrix->bias[column + c] : 0.0f)) * scale;
                to[c] = adds ? to[c] + value : value;
            }
        }
    });
}

/* out (num_rows, size) = silu(gate) * up */
INLINE void activate(struct worker *w, const void *x, const struct matrix *matrix, void *out,
                     int64_t num_rows, int64_t size, const int dtype) {
    FOR_TILES(x, matrix->num_inputs, PANELS(size), num_rows, {
        v16f gate[MAX_ROWS][PANEL_VECTORS];
        v16f up[MAX_ROWS][PANEL_VECTORS];
        multiply(count, x_, matrix->num_inputs, panel_of(matrix, 2 * index, dtype), matrix->num_inputs, gate, dtype);
        multiply(count, x_, matrix->num_inputs, panel_of(matrix, 2 * index + 1, dtype), matrix->num_inputs, up, dtype);
        for (int64_t r = 0; r < count; r++)
            for (int v = 0; v < PANEL_VECTORS; v++) {
                const v16f product = gate[r][v] / (1.0f + exp_lanes(-gate[r][v])) * up[r][v];
                const int64_t at = (row + r) * size + column + v * LANES;
                if (column + (v + 1) * LANES <= size) store(out, at, product, dtype);
                else
                    for (int64_t i = 0; column + v * LANES + i < size; i++) store_one(out, at + i, product[i], dtype);
            }
    });
}

/* Rotates the first rotary_dim values of a head by their position; halves belong together, as in GPT-NeoX. */
INLINE void rotate(float *head, const float *cosine, const float *sine, int64_t half) {
    for (int64_t i = 0; i < half; i++) {
        const float a = head[i], b = head[half + i];
        head[i] = a * cosine[i] - b * sine[i];
        head[half + i] = b * cosine[i] + a * sine[i];
    }
}

/* Stores a token's key and value of one KV head in the row's slot of the cache. */
INLINE void keep(const struct layer *layer, const float *key, const float *value, int64_t block, int64_t offset,
                 int64_t kv_head, const struct attention *a, const int dtype) {
    const int64_t dim = a->head_dim, size = a->block_size, pair = PAIR(dtype);
    const int64_t page = (block * a->num_kv_heads + kv_head) * page_size(a, dtype);
    uint32_t narrow[MAX_DIM];
    for (int64_t i = 0; i < dim; i += LANES) store(narrow, i, load(key, i, FLOAT32), dtype);
    for (int64_t i = 0; i < dim / pair; i++)
        ((uint32_t *)layer->key_cache)[page / pair + i * size + offset] = narrow[i];
    for (int64_t i = 0; i < dim; i += LANES) store(narrow, i, load(value, i, FLOAT32), dtype);
    for (int64_t i = 0; i < dim; i++) {
        const int64_t place = page + offset / pair * pair * dim + i * pair + offset % pair;
        if (dtype == BFLOAT16) ((uint16_t *)layer->value_cache)[place] = ((const uint16_t *)narrow)[i];
        else ((uint32_t *)layer->value_cache)[place] = narrow[i];
    }
}

/* As `keep`, in a cache of int8. */
INLINE void keep_integers(const struct layer *layer, const float *key, const float *value, int64_t block,
                          int64_t offset, int64_t kv_head, const struct attention *a) {
    const int64_t dim = a->head_dim, page = (block * a->num_kv_heads + kv_head) * page_size(a, INT8);
    int8_t *keys = (int8_t *)layer->key_cache + page, *values = (int8_t *)layer->value_cache + page;
    int16_t integers[MAX_DIM];
    scales_of(keys, 0, a)[offset] = quantise(key, 0, dim, integers, 127.0f, FLOAT32);
    for (int64_t i = 0; i < dim; i++)
        keys[(i / 2 * a->block_size + offset) * 2 + i % 2] = (int8_t)integers[i];
    scales_of(values, 0, a)[offset] = quantise(value, 0, dim, integers, 127.0f, FLOAT32);
    for (int64_t i = 0; i < dim; i++) values[(offset / 2 * dim + i) * 2 + offset % 2] = (int8_t)integers[i];
}

/* One row: norms and rotary positions of queries and keys; keys and values go to their slot of the cache. */
INLINE void place_row(const struct decoder *d, const struct layer *layer, const struct rows *rows,
                      const struct buffers *b, int64_t row, const int dtype) {
    const struct attention *a = &d->attention;
    const int64_t dim = a->head_dim, half = d->rotary_dim / 2;
    float *heads = b->mixed + row * (a->num_heads + 2 * a->num_kv_heads) * dim;
    const float *cosine = b->rotation + row * d->rotary_dim, *sine = cosine + half;
    for (int64_t h = 0; h < a->num_heads + a->num_kv_heads; h++) {
        const float *norm = h < a->num_heads ? layer->query_norm : layer->key_norm;
        if (norm) normalise(heads + h * dim, norm, heads + h * dim, dim, d->norm_epsilon, FLOAT32);
        if (layer->rotates) rotate(heads + h * dim, cosine, sine, half);
    }
    char *query = (char *)b->query + row * a->num_heads * dim * BYTES(dtype);
    for (int64_t i = 0; i < a->num_heads * dim; i += LANES) store(query, i, load(heads, i, FLOAT32), dtype);
    const int64_t block = rows->write_block[row], offset = rows->write_offset[row];
    for (int64_t h = 0; h < a->num_kv_heads; h++) {
        const float *key = heads + (a->num_heads + h) * dim, *value = key + a->num_kv_heads * dim;
        if (a->is_int8) keep_integers(layer, key, value, block, offset, h, a);
        else keep(layer, key, value, block, offset, h, a, dtype);
    }
}

/* Keeps the residual stream of a row as a tap of the model's dtype. */
INLINE void keep_tap(const float *residual, void *tap, int64_t size, const int dtype) {
    int64_t i = 0;
    for (; i + LANES <= size; i += LANES) store(tap, i, load(residual, i, FLOAT32), dtype);
    for (; i < size; i++) store_one(tap, i, residual[i], dtype);
}

INLINE void run(const struct decoder *d, const struct rows *rows, const struct buffers *b, struct worker *w,
                const int dtype) {
    const struct attention *whole = &d->attention;
    const int64_t n = rows->num_rows, hidden = d->hidden_size;
    #define TAP(row, place) (rows->taps + ((row) * d->num_taps + (place)) * hidden * BYTES(dtype))

    FOR_UNITS(row, n) {
        const int64_t half = d->rotary_dim / 2;
        for (int64_t i = 0; i < half; i++) {
            const float angle = (float)rows->row_position[row] * d->frequency[i];
            b->rotation[row * d->rotary_dim + i] = cosf(angle) * d->rotary_scale;
            b->rotation[row * d->rotary_dim + half + i] = sinf(angle) * d->rotary_scale;
        }
        for (int64_t i = 0; i < hidden; i++)
            b->hidden[row * hidden + i] =
                load_one(d->embedding, rows->token_ids[row] * hidden + i, dtype) * d->embedding_scale;
    }
    meet(w);
    for (int64_t l = 0; l < d->num_layers; l++) {
        const struct layer *layer = d->layers + l;
        struct attention a = *whole;
        a.window = layer->window;
        #define NORMALISE(row, weight) \
            normalise(b->hidden + row * hidden, weight, (char *)b->normed + row * hidden * BYTES(dtype), hidden, \
                      d->norm_epsilon, dtype)
        FOR_UNITS(row, n) {
            NORMALISE(row, layer->attention_norm);
            if (layer->tap >= 0)
                keep_tap(b->hidden + row * hidden, TAP(row, layer->tap), hidden, dtype);
        }
        meet(w);
        project(w, b->normed, &layer->query_key_value, b->mixed, n, 1.0f, 0, dtype);
        meet(w);
        FOR_UNITS(row, n) place_row(d, layer, rows, b, row, dtype);
        meet(w);
        FOR_UNITS(unit, n * a.num_kv_heads) {
            const int64_t row = unit / a.num_kv_heads, at = row * a.num_heads * a.head_dim * BYTES(dtype);
            const int64_t length = rows->first ? rows->first[row] : (int64_t)rows->row_position[row] + 1;
            attend((const char *)b->query + at, layer->key_cache, layer->value_cache, (char *)b->attended + at,
                   rows->block_table + rows->row_sequence[row] * a.max_blocks, length,
                   rows->ancestors ? rows->ancestors[row] : 0, unit % a.num_kv_heads, &a, dtype);
        }
        meet(w);
        project(w, b->attended, &layer->attention_output, b->hidden, n, d->residual_scale, 1, dtype);
        meet(w);
        FOR_UNITS(row, n) NORMALISE(row, layer->mlp_norm);
        meet(w);
        activate(w, b->normed, &layer->gate_up, b->activated, n, d->intermediate_size, dtype);
        meet(w);
        project(w, b->activated, &layer->down, b->hidden, n, d->residual_scale, 1, dtype);
        meet(w);
    }
    if (d->final_tap >= 0) {
        FOR_UNITS(row, n)
            normalise(b->hidden + row * hidden, d->final_norm, TAP(row, d->final_tap), hidden, d->norm_epsilon, dtype);
        meet(w);
    }
    FOR_UNITS(index, rows->num_logit_rows)
        normalise(b->hidden + rows->logit_rows[index] * hidden, d->final_norm,
                  (char *)rows->hidden + index * hidden * BYTES(dtype), hidden, d->norm_epsilon, dtype);
    meet(w);
    project(w, rows->hidden, &d->output, rows->logits, rows->num_logit_rows, d->logit_scale, 0, dtype);
}

static int64_t aligned(int64_t bytes) { return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT; }

/* Bytes of scratch that so many rows need; its buffers are laid out one behind the other. */
int64_t outrider_decoder_scratch(const struct decoder *d, int64_t num_rows, char *scratch, struct buffers *b) {
    const struct attention *a = &d->attention;
    const int64_t bytes = BYTES(d->dtype), attention_size = a->num_heads * a->head_dim;
    struct buffers own;
    if (!b) b = &own;
    char *at = scratch;
    #define PLACE(field, size) b->field = (void *)at, at += aligned(num_rows * (size))
    PLACE(hidden, d->hidden_size * 4);
    PLACE(rotation, d->rotary_dim * 4);
    PLACE(normed, d->hidden_size * bytes);
    PLACE(mixed, (attention_size + 2 * a->num_kv_heads * a->head_dim) * 4);
    PLACE(query, attention_size * bytes);
    PLACE(attended, attention_size * bytes);
    PLACE(activated, d->intermediate_size * bytes);
    #undef PLACE
    return at - scratch;
}

void outrider_decoder_run(const struct decoder *d, const struct rows *rows, int64_t num_threads) {
    struct buffers b;
    struct team team;
    memset(&team, 0, sizeof team);
    outrider_decoder_scratch(d, rows->num_rows, rows->scratch, &b);
    #pragma omp parallel num_threads((int)num_threads)
    {
        struct worker w = {&team, omp_get_num_threads(), 0};
        if (d->dtype == BFLOAT16) run(d, rows, &b, &w, BFLOAT16);
        else run(d, rows, &b, &w, FLOAT32);
    }
}

/* The output layer alone: logits (num_rows, vocab_size) of hidden states (num_rows, hidden_size) as `run` gives them. */
void outrider_decoder_output(const struct decoder *d, const void *hidden, float *logits, int64_t num_rows,
                             int64_t num_threads) {
    struct team team;
    memset(&team, 0, sizeof team);
    #pragma omp parallel num_threads((int)num_threads)
    {
        struct worker w = {&team, omp_get_num_threads(), 0};
        if (d->dtype == BFLOAT16) project(&w, hidden, &d->output, logits, num_rows, d->logit_scale, 0, BFLOAT16);
        else project(&w, hidden, &d->output, logits, num_rows, d->logit_scale, 0, FLOAT32);
    }
}
