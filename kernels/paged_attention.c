/* Paged attention on the CPU: one call for prefill, chunked prefill and decode.
 *
 * query, out   (num_rows, num_heads, head_dim)
 * key_cache    (num_blocks, num_kv_heads, head_dim / P, block_size, P), P = 2 for bfloat16, 1 for float32
 * value_cache  (num_blocks, num_kv_heads, block_size / P, head_dim, P)
 *              both of int8 instead, with P = 2 and scales behind each page, as attention.h has them
 * block_table  (num_sequences, max_blocks)
 * row_sequence (num_rows), row_position (num_rows): row r reads positions 0 .. row_position[r] of its sequence.
 * first, ancestors (num_rows) or NULL: the rows of trees, see `attend`; they read what these tell instead.
 */
#include "attention.h"

/* Returns 0, or -1 for shapes that this kernel does not take. */
int outrider_paged_attention(const void *query, const void *key_cache, const void *value_cache,
                             const int32_t *block_table, const int32_t *row_sequence, const int32_t *row_position,
                             void *out, const int32_t *first, const uint64_t *ancestors, int64_t num_rows,
                             const struct attention *a, int64_t dtype, int64_t num_threads) {
    if (!can_attend(a)) return -1;
    #pragma omp parallel for schedule(dynamic, 1) num_threads((int)num_threads)
    for (int64_t unit = 0; unit < num_rows * a->num_kv_heads; unit++) {
        const int64_t row = unit / a->num_kv_heads, kv_head = unit % a->num_kv_heads;
        const int64_t at = row * a->num_heads * a->head_dim;
        const int32_t *blocks = block_table + row_sequence[row] * a->max_blocks;
        const int64_t length = first ? first[row] : (int64_t)row_position[row] + 1;
        const uint64_t nodes = ancestors ? ancestors[row] : 0;
        if (dtype == BFLOAT16)
            attend((const uint16_t *)query + at, key_cache, value_cache, (uint16_t *)out + at, blocks, length, nodes,
                   kv_head, a, BFLOAT16);
        else
            attend((const float *)query + at, key_cache, value_cache, (float *)out + at, blocks, length, nodes,
                   kv_head, a, FLOAT32);
    }
    return 0;
}
