/* Paged attention on the CPU: one call for prefill, chunked prefill and decode.
 *
 * query, out   (num_rows, num_heads, head_dim)
 * key_cache    (num_blocks, num_kv_heads, block_size, head_dim), value_cache the same
 * block_table  (num_sequences, max_blocks)
 * row_sequence (num_rows), row_position (num_rows): row r reads positions 0 .. row_position[r] of its sequence.
 *
 * A row's bits never depend on its batch: each (row, KV head) is reduced by itself, in the order of logical positions,
 * in tiles of one block. Vectors are GCC's generic ones, so the same source serves AVX-512, AVX2 and NEON.
 */
#include <stdint.h>
#include <string.h>

typedef float v16f __attribute__((vector_size(64)));
typedef int32_t v16i __attribute__((vector_size(64)));
typedef uint32_t v16u __attribute__((vector_size(64)));
typedef uint16_t v16h __attribute__((vector_size(32)));

enum { MAX_GROUP = 16, MAX_DIM = 256, MAX_BLOCK = 128, LANES = 16 };
enum { FLOAT32 = 0, BFLOAT16 = 1 };

#define INLINE static inline __attribute__((always_inline))

INLINE v16f load(const void *base, int64_t index, const int dtype) {
    if (dtype == BFLOAT16) {
        v16h half;
        memcpy(&half, (const uint16_t *)base + index, sizeof half);
        return (v16f)(__builtin_convertvector(half, v16u) << 16);
    }
    v16f value;
    memcpy(&value, (const float *)base + index, sizeof value);
    return value;
}

/* To bfloat16 by rounding to nearest even, as torch does. Values here are finite. */
INLINE void store(void *base, int64_t index, v16f value, const int dtype) {
    if (dtype == BFLOAT16) {
        const v16u bits = (v16u)value;
        const v16h half = __builtin_convertvector((bits + 0x7fff + ((bits >> 16) & 1)) >> 16, v16h);
        memcpy((uint16_t *)base + index, &half, sizeof half);
    } else {
        memcpy((float *)base + index, &value, sizeof value);
    }
}

INLINE float sum_lanes(v16f value) {
    float lane[LANES];
    memcpy(lane, &value, sizeof lane);
    for (int width = LANES / 2; width > 0; width /= 2)
        for (int i = 0; i < width; i++) lane[i] += lane[i + width];
    return lane[0];
}

INLINE v16f broadcast(float value) { return value - (v16f){0}; }

INLINE v16f larger(v16f a, v16f b) {
    const v16i mask = a > b;
    return (v16f)(((v16i)a & mask) | ((v16i)b & ~mask));
}

/* exp(x) = 2^n * 2^f with n the nearest integer; 2^f by its Taylor series to f^6, relative error below 2e-7. */
INLINE v16f exp_lanes(v16f x) {
    const v16f scaled = larger(x, broadcast(-87.0f)) * 1.44269504f;
    const v16f magic = broadcast(12582912.0f); /* 1.5 * 2^23: adding it rounds to an integer */
    const v16f n = (scaled + magic) - magic;
    const v16f f = (scaled - n) * 0.693147181f;
    v16f p = broadcast(1.0f / 720);
    p = p * f + 1.0f / 120;
    p = p * f + 1.0f / 24;
    p = p * f + 1.0f / 6;
    p = p * f + 0.5f;
    p = p * f + 1.0f;
    p = p * f + 1.0f;
    return (v16f)((v16i)p + (__builtin_convertvector(n, v16i) << 23));
}

/* One row, one KV head, its `group` query heads. `dim` and `dtype` are constants in each inlined copy. */
INLINE void attend(const void *query, const void *key_cache, const void *value_cache, void *out, int64_t query_at,
                   const int32_t *blocks, int64_t length, int64_t kv_head, int64_t num_kv_heads, int64_t block_size,
                   int group, float scale, const int dim, const int dtype) {
    float score[MAX_GROUP][MAX_BLOCK] __attribute__((aligned(64)));
    v16f total[MAX_GROUP][MAX_DIM / LANES];
    float peak[MAX_GROUP], weight[MAX_GROUP];
    const int lanes = dim / LANES;

    memset(total, 0, sizeof total);
    for (int g = 0; g < group; g++) peak[g] = -1e30f, weight[g] = 0.0f;

    for (int64_t start = 0; start < length; start += block_size) {
        const int tokens = length - start < block_size ? (int)(length - start) : (int)block_size;
        const int padded = (tokens + LANES - 1) / LANES * LANES;
        const int64_t page = (blocks[start / block_size] * num_kv_heads + kv_head) * block_size * dim;

        for (int g = 0; g < group; g++) {
            v16f q[MAX_DIM / LANES];
            for (int d = 0; d < lanes; d++) q[d] = load(query, query_at + g * dim + d * LANES, dtype) * scale;
            for (int t = 0; t < tokens; t++) {
                v16f dot = {0};
                for (int d = 0; d < lanes; d++) dot += q[d] * load(key_cache, page + t * dim + d * LANES, dtype);
                score[g][t] = sum_lanes(dot);
            }
            for (int t = tokens; t < padded; t++) score[g][t] = -1e30f;

            float highest = peak[g];
            for (int t = 0; t < tokens; t++) highest = score[g][t] > highest ? score[g][t] : highest;
            const float keep = exp_lanes(broadcast(peak[g] - highest))[0];
            v16f sum = {0};
            for (int t = 0; t < padded; t += LANES) {
                const v16f e = exp_lanes(load(score[g], t, FLOAT32) - highest);
                store(score[g], t, e, FLOAT32);
                sum += e;
            }
            weight[g] = weight[g] * keep + sum_lanes(sum);
            peak[g] = highest;
            for (int d = 0; d < lanes; d++) total[g][d] *= keep;
        }
        for (int t = 0; t < tokens; t++)
            for (int d = 0; d < lanes; d++) {
                const v16f value = load(value_cache, page + t * dim + d * LANES, dtype);
                for (int g = 0; g < group; g++) total[g][d] += score[g][t] * value;
            }
    }
    for (int g = 0; g < group; g++)
        for (int d = 0; d < lanes; d++)
            store(out, query_at + g * dim + d * LANES, total[g][d] / weight[g], dtype);
}

/* Returns 0, or -1 for shapes that this kernel does not take. */
int outrider_paged_attention(const void *query, const void *key_cache, const void *value_cache,
                             const int32_t *block_table, const int32_t *row_sequence, const int32_t *row_position,
                             void *out, int64_t num_rows, int64_t num_heads, int64_t num_kv_heads, int64_t head_dim,
                             int64_t block_size, int64_t max_blocks, float scale, int64_t dtype) {
    if (num_heads % num_kv_heads || num_heads / num_kv_heads > MAX_GROUP) return -1;
    if (head_dim % LANES || head_dim > MAX_DIM || block_size % LANES || block_size > MAX_BLOCK) return -1;
    const int group = (int)(num_heads / num_kv_heads);

    #pragma omp parallel for schedule(dynamic, 1)
    for (int64_t unit = 0; unit < num_rows * num_kv_heads; unit++) {
        const int64_t row = unit / num_kv_heads, kv_head = unit % num_kv_heads;
        const int64_t query_at = (row * num_heads + kv_head * group) * head_dim;
        const int32_t *blocks = block_table + row_sequence[row] * max_blocks;
        #define ATTEND(DIM, DTYPE)                                                                             \
            attend(query, key_cache, value_cache, out, query_at, blocks, (int64_t)row_position[row] + 1, kv_head, \
                   num_kv_heads, block_size, group, scale, DIM, DTYPE)
        if (head_dim == 64 && dtype == BFLOAT16) ATTEND(64, BFLOAT16);
        else if (head_dim == 64) ATTEND(64, FLOAT32);
        else if (head_dim == 128 && dtype == BFLOAT16) ATTEND(128, BFLOAT16);
        else if (head_dim == 128) ATTEND(128, FLOAT32);
        else if (dtype == BFLOAT16) ATTEND((int)head_dim, BFLOAT16);
        else ATTEND((int)head_dim, FLOAT32);
        #undef ATTEND
    }
    return 0;
}
