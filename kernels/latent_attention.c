/* Attention to a paged cache of latents on the CPU: each token has one key for all heads, and its first numbers are its
 * value.
 *
 * query        (num_rows, num_heads, latent_dim)
 * cache        (num_blocks, block_size, latent_dim)
 * out          (num_rows, num_heads, value_dim)
 * block_table  (num_sequences, max_blocks)
 * row_sequence (num_rows), row_position (num_rows): row r reads positions 0 .. row_position[r] of its sequence.
 * first, ancestors (num_rows) or NULL: the rows of trees, as in paged_attention.c; they read what these tell instead.
 *
 * Sixteen heads are the lanes of a vector while scores are summed, so that each token is read once for all of them and
 * softmax needs no sum across lanes. Tokens are reduced in the order of logical positions, one tile of TILE at a time,
 * and heads never meet: a row's bits depend on neither its batch nor its place in the cache.
 */
#include "vectors.h"

/* A tile's sums and the weights beside them fill the registers: 32 of AVX-512, or 16 of half the size. */
#ifdef __AVX512F__
enum { TOKENS_AT_ONCE = 8, HEADS_AT_ONCE = 4, VECTORS_AT_ONCE = 4 };
#else
enum { TOKENS_AT_ONCE = 4, HEADS_AT_ONCE = 4, VECTORS_AT_ONCE = 1 };
#endif
enum { TILE = 64, MAX_LATENT = 640, MAX_VALUE = 512 };

struct latent_attention {
    int64_t num_heads, latent_dim, value_dim, block_size, max_blocks;
    float scale; /* of the scores */
};

/* The tokens that a row has yet to read, in order: from `start` on the first `first` of its sequence, then those whose
 * bits are set. */
struct tokens {
    const void *cache;
    const int32_t *blocks;
    int64_t start, first;
    uint64_t ancestors;
};

/* The running softmax of sixteen heads, one a lane, and their results so far, up to division by `sum`. */
struct heads {
    v16f peak, sum, total[LANES][MAX_VALUE / LANES];
};

static const float UNSEEN = -1e30f;

/* Finds the next tile of a row's tokens. Returns how many there are; the list is filled up with any. */
INLINE int64_t find_tokens(struct tokens *tokens, const void *found[TILE], const struct latent_attention *a,
                           const int dtype) {
    int64_t count = 0;
    for (; count < TILE; count++) {
        int64_t place = tokens->start;
        if (place < tokens->first) tokens->start++;
        else if (tokens->ancestors) {
            place = tokens->first + __builtin_ctzll(tokens->ancestors);
            tokens->ancestors &= tokens->ancestors - 1;
        } else break;
        const int64_t at = tokens->blocks[place / a->block_size] * a->block_size + place % a->block_size;
        found[count] = (const char *)tokens->cache + at * a->latent_dim * BYTES(dtype);
    }
    for (int64_t i = count; i < TILE; i++) found[i] = count ? found[count - 1] : tokens->cache;
    return count;
}

/* Lays `count` heads of a row's query, (count, latent_dim), out as (latent_dim / P, 16, P); other lanes are zero. */
INLINE void spread_query(const uint32_t *query, int64_t count, uint32_t *lanes, int64_t words) {
    memset(lanes, 0, (size_t)(words * LANES) * sizeof *lanes);
    for (int64_t h = 0; h < count; h++)
        for (int64_t w = 0; w < words; w++) lanes[w * LANES + h] = query[h * words + w];
}

/* score[t] = the sixteen heads' scores of token t. Brings the next tile's tokens closer, too. */
INLINE void score_tokens(const void *query, const void *const token[TILE], const void *const next[TILE], int64_t count,
                         v16f score[TILE], const struct latent_attention *a, const int dtype) {
    for (int64_t t = 0; t < count; t += TOKENS_AT_ONCE) {
        v16f dot[TOKENS_AT_ONCE];
        for (int i = 0; i < TOKENS_AT_ONCE; i++) dot[i] = (v16f){0};
        for (int64_t d = 0; d < a->latent_dim; d += PAIR(dtype))
            for (int i = 0; i < TOKENS_AT_ONCE; i++) {
                if (d * BYTES(dtype) % 64 == 0)
                    __builtin_prefetch((const char *)next[t + i] + d * BYTES(dtype), 0, 2);
                dot[i] = multiply_add(dot[i], query, d * LANES, token[t + i], d, dtype);
            }
        for (int i = 0; i < TOKENS_AT_ONCE; i++) score[t + i] = dot[i] * a->scale;
    }
}

/* Stores (tokens / P, 16, P) numbers of token t and, in bfloat16, of the one behind it. */
INLINE void store_pair(void *base, int64_t index, v16f even, v16f odd, const int dtype) {
    if (dtype == FLOAT32) {
        store(base, index, even, FLOAT32);
        return;
    }
    const v16u pair = __builtin_convertvector(to_bfloat16(even), v16u) |
                      __builtin_convertvector(to_bfloat16(odd), v16u) << 16;
    memcpy((uint16_t *)base + index, &pair, sizeof pair);
}

/* Scores become weights relative to the highest so far, (count / P, 16, P). Returns by how much earlier ones shrink. */
INLINE v16f weigh(const v16f score[TILE], int64_t count, void *weights, struct heads *heads, const int dtype) {
    v16f top = heads->peak, added = {0};
    for (int64_t t = 0; t < count; t++) top = larger(score[t], top);
    for (int64_t t = 0; t < count; t += PAIR(dtype)) {
        const v16f even = exp_lanes(score[t] - top);
        v16f odd = {0};
        if (dtype == BFLOAT16 && t + 1 < count) odd = exp_lanes(score[t + 1] - top);
        store_pair(weights, t * LANES, even, odd, dtype);
        added += even;
        added += odd;
    }
    const v16f keep = exp_lanes(heads->peak - top);
    heads->sum = heads->sum * keep + added;
    heads->peak = top;
    return keep;
}

/* total = total * keep + weights times the tokens' values, in `lanes` vectors of dimensions from `first` on. */
INLINE void add_values(const int lanes, const void *const token[TILE], int64_t count, const void *weights, v16f keep,
                       struct heads *heads, int64_t num_heads, int64_t first, const int dtype) {
    uint32_t values[TILE * VECTORS_AT_ONCE * LANES] __attribute__((aligned(64))); /* (count / P, lanes * 16, P) */
    for (int64_t t = 0; t < count; t += PAIR(dtype))
        for (int v = 0; v < lanes; v++) {
            const int64_t d = first + v * LANES;
            const v16f even = load(token[t], d, dtype);
            v16f odd = {0}; /* beside an odd last token; its weight is zero too */
            if (dtype == BFLOAT16 && t + 1 < count) odd = load(token[t + 1], d, dtype);
            if (dtype == FLOAT32) store(values, (t * lanes + v) * LANES, even, FLOAT32);
            else { /* nothing to round: the upper halves are the numbers */
                const v16u pair = (v16u)even >> 16 | (v16u)odd;
                memcpy(values + (t / 2 * lanes + v) * LANES, &pair, sizeof pair);
            }
        }
    for (int64_t h = 0; h < num_heads; h += HEADS_AT_ONCE) {
        v16f part[HEADS_AT_ONCE][VECTORS_AT_ONCE];
        for (int g = 0; g < HEADS_AT_ONCE; g++)
            for (int v = 0; v < lanes; v++) part[g][v] = heads->total[h + g][first / LANES + v] * keep[h + g];
        for (int64_t t = 0; t < count; t += PAIR(dtype))
            for (int v = 0; v < lanes; v++)
                for (int g = 0; g < HEADS_AT_ONCE; g++)
                    part[g][v] = multiply_add(part[g][v], values, (t * lanes + v * PAIR(dtype)) * LANES, weights,
                                              t * LANES + (h + g) * PAIR(dtype), dtype);
        for (int g = 0; g < HEADS_AT_ONCE; g++)
            for (int v = 0; v < lanes; v++) heads->total[h + g][first / LANES + v] = part[g][v];
    }
}

/* Up to sixteen heads of a row; query and out are theirs, (num_heads, latent_dim) and (num_heads, value_dim). */
INLINE void attend_heads(const void *query, struct tokens tokens, void *out, int64_t num_heads,
                         const struct latent_attention *a, const int dtype) {
    uint32_t lanes[MAX_LATENT * LANES] __attribute__((aligned(64)));
    uint32_t weights[TILE * LANES] __attribute__((aligned(64)));
    const void *lists[2][TILE], **token = lists[0], **next = lists[1];
    v16f score[TILE];
    struct heads heads;
    const int64_t vectors = a->value_dim / LANES;
    int64_t count = find_tokens(&tokens, token, a, dtype);

    spread_query(query, num_heads, lanes, a->latent_dim / PAIR(dtype));
    heads.peak = broadcast(UNSEEN), heads.sum = (v16f){0};
    for (int h = 0; h < LANES; h++)
        for (int64_t v = 0; v < vectors; v++) heads.total[h][v] = (v16f){0};
    while (count > 0) {
        const int64_t ahead = find_tokens(&tokens, next, a, dtype);
        score_tokens(lanes, token, next, count, score, a, dtype);
        const v16f keep = weigh(score, count, weights, &heads, dtype);
        int64_t d = 0;
        for (; d + VECTORS_AT_ONCE * LANES <= a->value_dim; d += VECTORS_AT_ONCE * LANES)
            add_values(VECTORS_AT_ONCE, token, count, weights, keep, &heads, num_heads, d, dtype);
        for (; d < a->value_dim; d += LANES) add_values(1, token, count, weights, keep, &heads, num_heads, d, dtype);
        const void **read = token;
        token = next, next = read, count = ahead;
    }
    for (int64_t h = 0; h < num_heads; h++)
        for (int64_t v = 0; v < vectors; v++)
            store(out, h * a->value_dim + v * LANES, heads.total[h][v] / heads.sum[h], dtype);
}

static __attribute__((noinline)) void attend_FLOAT32(const void *query, struct tokens tokens, void *out,
                                                     int64_t num_heads, const struct latent_attention *a) {
    attend_heads(query, tokens, out, num_heads, a, FLOAT32);
}

static __attribute__((noinline)) void attend_BFLOAT16(const void *query, struct tokens tokens, void *out,
                                                      int64_t num_heads, const struct latent_attention *a) {
    attend_heads(query, tokens, out, num_heads, a, BFLOAT16);
}

/* Returns 0, or -1 for shapes that this kernel does not take. */
int outrider_latent_attention(const void *query, const void *cache, const int32_t *block_table,
                              const int32_t *row_sequence, const int32_t *row_position, void *out,
                              const int32_t *first, const uint64_t *ancestors, int64_t num_rows,
                              const struct latent_attention *a, int64_t dtype, int64_t num_threads) {
    if (a->latent_dim % 2 || a->latent_dim > MAX_LATENT || a->value_dim % LANES || a->value_dim > MAX_VALUE) return -1;
    const int64_t groups = (a->num_heads + LANES - 1) / LANES, bytes = BYTES(dtype);
    #pragma omp parallel for schedule(dynamic, 1) num_threads((int)num_threads)
    for (int64_t unit = 0; unit < num_rows * groups; unit++) {
        const int64_t row = unit / groups, head = unit % groups * LANES, at = row * a->num_heads + head;
        const int64_t num_heads = a->num_heads - head < LANES ? a->num_heads - head : LANES;
        const struct tokens tokens = {cache, block_table + row_sequence[row] * a->max_blocks, 0,
                                      first ? first[row] : (int64_t)row_position[row] + 1,
                                      ancestors ? ancestors[row] : 0};
        (dtype == BFLOAT16 ? attend_BFLOAT16 : attend_FLOAT32)((const char *)query + at * a->latent_dim * bytes, tokens,
                                                               (char *)out + at * a->value_dim * bytes, num_heads, a);
    }
    return 0;
}
