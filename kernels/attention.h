/* Attention of one row to its sequence's pages.
 *
 * A key page is (head_dim / P, block_size, P) and a value page (block_size / P, head_dim, P), with P as in matmul.h:
 * scores of sixteen tokens are then one vector, sixteen numbers of the result another, and nothing is summed across
 * lanes. Tokens are reduced in the order of logical positions, one tile of whole pages at a time, so a row's bits
 * depend on neither its batch nor its place in the cache.
 */
#pragma once
#include "vectors.h"

enum { MAX_DIM = 256, TILE = 128, HEADS_AT_ONCE = 4, VECTORS_OF_DIMS = 4, VECTORS_OF_TOKENS = 2 };

struct attention {
    int64_t num_heads, num_kv_heads, head_dim, block_size, max_blocks;
    int64_t window;     /* a row reads this many newest positions, its own included; 0 for all */
    float scale;        /* of the scores */
    float softcap;      /* scores become softcap * tanh(score / softcap); 0 for none */
    const float *sinks; /* (num_heads) a score that takes weight but has no value; NULL for none */
};

/* Which tokens a row reads: `length` logical positions of its sequence. Those from `tail` on lie in pages of the row's
 * own, one behind the other, all before in the cache. */
struct tokens {
    const void *keys, *values; /* the cache */
    const int32_t *blocks;
    int64_t length, tail;
    const void *tail_keys, *tail_values;
};

/* A page of one KV head: where its keys and values begin, `at` values behind a base each. */
struct page {
    const void *keys, *values;
    int64_t at;
};

static const float UNSEEN = -1e30f;

INLINE struct page find_page(const struct tokens *tokens, int64_t position, int64_t kv_head,
                             const struct attention *a) {
    const int64_t size = a->block_size, values = size * a->head_dim;
    if (position < tokens->tail)
        return (struct page){tokens->keys, tokens->values,
                             (tokens->blocks[position / size] * a->num_kv_heads + kv_head) * values};
    return (struct page){tokens->tail_keys, tokens->tail_values, (position - tokens->tail) / size * values};
}

/* Scores of all places of a page, seen or not: (count, TILE) from column `at` on. Brings the value page closer too. */
INLINE void score_page(const int count, const void *query, struct page page, float score[HEADS_AT_ONCE][TILE],
                       int64_t at, const struct attention *a, const int dtype) {
    for (int64_t first = 0; first < a->block_size; first += VECTORS_OF_TOKENS * LANES) {
        v16f dot[HEADS_AT_ONCE][VECTORS_OF_TOKENS];
        for (int g = 0; g < count; g++)
            for (int i = 0; i < VECTORS_OF_TOKENS; i++) dot[g][i] = (v16f){0};
        for (int64_t d = 0; d < a->head_dim; d += PAIR(dtype))
            for (int i = 0; i < VECTORS_OF_TOKENS; i++) {
                const int64_t place = page.at + d * a->block_size + (first + i * LANES) * PAIR(dtype);
                __builtin_prefetch((const char *)page.values + place * BYTES(dtype), 0, 2);
                for (int g = 0; g < count; g++)
                    dot[g][i] = multiply_add(dot[g][i], page.keys, place, query, g * a->head_dim + d, dtype);
            }
        for (int g = 0; g < count; g++)
            for (int i = 0; i < VECTORS_OF_TOKENS; i++) {
                v16f s = dot[g][i] * a->scale;
                if (a->softcap != 0.0f) {
                    const v16f twice = exp_lanes(s * (2.0f / a->softcap));
                    s = a->softcap * (twice - 1.0f) / (twice + 1.0f);
                }
                store(score[g], at + first + i * LANES, s, FLOAT32);
            }
    }
}

/* One head's scores become weights relative to the highest so far, in the cache's dtype; those before `first` and from
 * `stop` on become zero. Returns by how much earlier weights shrink. */
INLINE float weigh(float *score, void *weights, int64_t first, int64_t stop, float *peak, float *sum, const int dtype) {
    const int64_t end = (stop + LANES - 1) / LANES * LANES;
    for (int64_t t = 0; t < first; t++) score[t] = UNSEEN;
    for (int64_t t = stop; t < end; t++) score[t] = UNSEEN;
    v16f highest = broadcast(*peak);
    for (int64_t t = 0; t < end; t += LANES) highest = larger(load(score, t, FLOAT32), highest);
    const float top = largest_lane(highest);
    v16f added = {0};
    for (int64_t t = 0; t < end; t += LANES) {
        const v16f s = load(score, t, FLOAT32);
        const v16f e = choose(s == broadcast(UNSEEN), broadcast(0.0f), exp_lanes(s - top));
        store(weights, t, e, dtype);
        added += e;
    }
    const float keep = top == *peak ? 1.0f : exp_lanes(broadcast(*peak - top))[0];
    *sum = *sum * keep + sum_lanes(added);
    *peak = top;
    return keep;
}

/* total += weights of `tokens` places of a page times their values; `lanes` vectors from `first` on. */
INLINE void add_values(const int count, const int lanes, struct page page, int64_t tokens,
                       uint32_t weights[HEADS_AT_ONCE][TILE], int64_t at, v16f total[HEADS_AT_ONCE][MAX_DIM / LANES],
                       int64_t first, struct page next, const struct attention *a, const int dtype) {
    v16f part[HEADS_AT_ONCE][VECTORS_OF_DIMS];
    for (int g = 0; g < count; g++)
        for (int i = 0; i < lanes; i++) part[g][i] = total[g][first + i];
    for (int64_t t = 0; t < tokens / PAIR(dtype) * PAIR(dtype); t += PAIR(dtype))
        for (int i = 0; i < lanes; i++) {
            const int64_t place = t * a->head_dim + (first + i) * LANES * PAIR(dtype);
            __builtin_prefetch((const char *)next.keys + (next.at + place) * BYTES(dtype), 0, 2);
            for (int g = 0; g < count; g++)
                part[g][i] = multiply_add(part[g][i], page.values, page.at + place, weights[g], at + t, dtype);
        }
    /* The place beside an odd last token may hold anything, even what is no number. */
    if (tokens % PAIR(dtype))
        for (int i = 0; i < lanes; i++) {
            v16u last;
            const int64_t place = page.at + (tokens - 1) * a->head_dim + (first + i) * LANES * 2;
            memcpy(&last, (const uint16_t *)page.values + place, sizeof last);
            last &= 0xffffu;
            for (int g = 0; g < count; g++)
                part[g][i] = multiply_add(part[g][i], &last, 0, weights[g], at + tokens - 1, dtype);
        }
    for (int g = 0; g < count; g++)
        for (int i = 0; i < lanes; i++) total[g][first + i] = part[g][i];
}

/* `count` query heads that share a KV head; query and out are theirs, (count, head_dim), `sinks` too. */
INLINE void attend_heads(const int count, const void *query, const struct tokens *tokens, void *out, int64_t kv_head,
                         const float *sinks, const struct attention *a, const int dtype) {
    const int64_t length = tokens->length, dim = a->head_dim, size = a->block_size, tile = TILE / size * size;
    const int lanes = (int)(dim / LANES);
    const int64_t begin = a->window && length > a->window ? length - a->window : 0;
    float score[HEADS_AT_ONCE][TILE] __attribute__((aligned(64)));
    uint32_t weights[HEADS_AT_ONCE][TILE] __attribute__((aligned(64)));
    v16f total[HEADS_AT_ONCE][MAX_DIM / LANES];
    float peak[HEADS_AT_ONCE], sum[HEADS_AT_ONCE];
    #define PAGE(position) find_page(tokens, position, kv_head, a)

    for (int g = 0; g < count; g++) {
        peak[g] = sinks ? sinks[g] : UNSEEN;
        sum[g] = sinks ? 1.0f : 0.0f;
        for (int d = 0; d < lanes; d++) total[g][d] = (v16f){0};
    }
    for (int64_t start = begin / tile * tile; start < length; start += tile) {
        const int64_t stop = length - start < tile ? length - start : tile;
        const int64_t first = begin > start ? begin - start : 0, page = first / size * size;
        for (int64_t t = page; t < stop; t += size)
            score_page(count, query, PAGE(start + t), score, t, a, dtype);
        for (int g = 0; g < count; g++) {
            const float keep = weigh(score[g], weights[g], first, stop, &peak[g], &sum[g], dtype);
            for (int d = 0; d < lanes; d++) total[g][d] *= keep;
        }
        for (int64_t t = page; t < stop; t += size) {
            const int64_t seen = stop - t < size ? stop - t : size, ahead = start + tile + t;
            const struct page here = PAGE(start + t), next = PAGE(ahead < length ? ahead : start + t);
            int d = 0;
            for (; d + VECTORS_OF_DIMS <= lanes; d += VECTORS_OF_DIMS)
                add_values(count, VECTORS_OF_DIMS, here, seen, weights, t, total, d, next, a, dtype);
            for (; d < lanes; d++) add_values(count, 1, here, seen, weights, t, total, d, next, a, dtype);
        }
    }
    for (int g = 0; g < count; g++)
        for (int d = 0; d < lanes; d++) store(out, g * dim + d * LANES, total[g][d] / sum[g], dtype);
    #undef PAGE
}

/* Functions of their own, so that sums stay in registers. */
#define ATTEND(COUNT, DTYPE)                                                                                       \
    static __attribute__((noinline)) void attend_##COUNT##_##DTYPE(const void *query, const struct tokens *tokens, \
                                                                   void *out, int64_t kv_head, const float *sinks, \
                                                                   const struct attention *a) {                    \
        attend_heads(COUNT, query, tokens, out, kv_head, sinks, a, DTYPE);                                         \
    }
#define ATTEND_ANY(DTYPE)                                                          \
    ATTEND(1, DTYPE) ATTEND(2, DTYPE) ATTEND(3, DTYPE) ATTEND(4, DTYPE)            \
    static const attend_some attend_##DTYPE[HEADS_AT_ONCE + 1] = {0, attend_1_##DTYPE, attend_2_##DTYPE, \
                                                                  attend_3_##DTYPE, attend_4_##DTYPE};

typedef void (*attend_some)(const void *, const struct tokens *, void *, int64_t, const float *,
                            const struct attention *);
ATTEND_ANY(FLOAT32)
ATTEND_ANY(BFLOAT16)

/* One KV head, all the query heads that share it. query, out: the row's (num_heads, head_dim). */
INLINE void attend_group(const void *query, const struct tokens *tokens, void *out, int64_t kv_head,
                         const struct attention *a, const int dtype) {
    const int64_t group = a->num_heads / a->num_kv_heads;
    for (int64_t g = 0; g < group; g += HEADS_AT_ONCE) {
        const int64_t head = kv_head * group + g, at = head * a->head_dim * BYTES(dtype);
        const int64_t count = group - g < HEADS_AT_ONCE ? group - g : HEADS_AT_ONCE;
        (dtype == BFLOAT16 ? attend_BFLOAT16 : attend_FLOAT32)[count]((const char *)query + at, tokens, (char *)out + at,
                                                                      kv_head, a->sinks ? a->sinks + head : 0, a);
    }
}

/* Copies one token's key and value of a KV head from one page to another. */
INLINE void copy_token(const struct page *from, int64_t from_place, char *keys, char *values, int64_t to_place,
                       const struct attention *a, const int dtype) {
    const int64_t dim = a->head_dim, size = a->block_size, pair = PAIR(dtype);
    const uint32_t *source = (const uint32_t *)from->keys + from->at / pair;
    for (int64_t i = 0; i < dim / pair; i++) ((uint32_t *)keys)[i * size + to_place] = source[i * size + from_place];
    for (int64_t d = 0; d < dim; d++) {
        const int64_t source_at = from->at + (from_place / pair * dim + d) * pair + from_place % pair;
        const int64_t target_at = (to_place / pair * dim + d) * pair + to_place % pair;
        if (dtype == BFLOAT16) ((uint16_t *)values)[target_at] = ((const uint16_t *)from->values)[source_at];
        else ((uint32_t *)values)[target_at] = ((const uint32_t *)from->values)[source_at];
    }
}

/* A row of a tree whose ancestors are not neighbours in the cache: they are laid out as they will be once they are
 * accepted, so that the row's bits are those that it has without a tree. */
static __attribute__((noinline)) void attend_branch(const void *query, struct tokens tokens, uint64_t ancestors,
                                                    void *out, int64_t kv_head, const struct attention *a,
                                                    const int dtype) {
    const int64_t size = a->block_size, bytes = size * a->head_dim * BYTES(dtype), first = tokens.length;
    const int64_t length = first + __builtin_popcountll(ancestors), tail = first / size * size;
    const int64_t num_pages = (length - tail + size - 1) / size;
    char pages[2 * num_pages * bytes] __attribute__((aligned(64)));
    char *keys = pages, *values = pages + num_pages * bytes;
    const struct page begun = find_page(&tokens, tail, kv_head, a);
    memcpy(keys, (const char *)begun.keys + begun.at * BYTES(dtype), (size_t)bytes);
    memcpy(values, (const char *)begun.values + begun.at * BYTES(dtype), (size_t)bytes);
    int64_t to = first - tail;
    for (uint64_t left = ancestors; left; left &= left - 1, to++) {
        const int64_t from = first + __builtin_ctzll(left), page = to / size * bytes;
        const struct page source = find_page(&tokens, from, kv_head, a);
        copy_token(&source, from % size, keys + page, values + page, to % size, a, dtype);
    }
    tokens.length = length, tokens.tail = tail, tokens.tail_keys = keys, tokens.tail_values = values;
    attend_group(query, &tokens, out, kv_head, a, dtype);
}

/* One row and one KV head. The row reads `length` positions; of a tree, those before its nodes, and the nodes, at most
 * 64 from there on in the cache, whose bits are set in `ancestors`. */
INLINE void attend(const void *query, const void *key_cache, const void *value_cache, void *out, const int32_t *blocks,
                   int64_t length, uint64_t ancestors, int64_t kv_head, const struct attention *a, const int dtype) {
    struct tokens tokens = {key_cache, value_cache, blocks, length, INT64_MAX, 0, 0};
    if (ancestors & (ancestors + 1)) {
        if (dtype == BFLOAT16) attend_branch(query, tokens, ancestors, out, kv_head, a, BFLOAT16);
        else attend_branch(query, tokens, ancestors, out, kv_head, a, FLOAT32);
        return;
    }
    tokens.length += __builtin_popcountll(ancestors); /* neighbours, as in a chain */
    attend_group(query, &tokens, out, kv_head, a, dtype);
}

/* Whether this kernel takes such shapes. */
INLINE int can_attend(const struct attention *a) {
    return a->num_heads % a->num_kv_heads == 0 && a->head_dim % LANES == 0 && a->head_dim <= MAX_DIM &&
           a->block_size % (VECTORS_OF_TOKENS * LANES) == 0 && a->block_size <= TILE;
}
