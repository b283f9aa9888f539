/* Attention of one row to its sequence's pages.
 *
 * A key page is (head_dim / P, block_size, P) and a value page (block_size / P, head_dim, P), with P as in matmul.h:
 * scores of sixteen tokens are then one vector, sixteen numbers of the result another, and nothing is summed across
 * lanes. Tokens are reduced in the order of logical positions, one tile of whole pages at a time, so a row's bits
 * depend on neither its batch nor its place in the cache.
 *
 * A cache of int8 has P = 2, and behind the integers of a page its tokens' scales, block_size floats: a token's key is
 * its integers times its scale. A key's scale multiplies its score, and a value's scale its weight. Queries, and the
 * weights of a tile, become integers of 16 bits with one scale, so that products are of integers and sums exact.
 *
 * `dtype` is that of queries and results, `stored` that of the cache: the same, or INT8.
 */
#pragma once
#include "vectors.h"

enum { MAX_DIM = 256, TILE = 128, MAX_SHORT = 32767, HEADS_AT_ONCE = 4, VECTORS_OF_DIMS = 4, VECTORS_OF_TOKENS = 2 };

struct attention {
    int64_t num_heads, num_kv_heads, head_dim, block_size, max_blocks;
    int64_t is_int8;    /* whether the cache is of int8 */
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

/* A page of one KV head: where its keys and values begin, `at` values of the cache behind a base each. */
struct page {
    const void *keys, *values;
    int64_t at;
};

static const float UNSEEN = -1e30f;

/* Values of a page, its scales included. */
INLINE int64_t page_size(const struct attention *a, const int stored) {
    return a->block_size * (a->head_dim + (stored == INT8 ? (int64_t)sizeof(float) : 0));
}

/* The scales of a page of int8, of keys or of values. */
INLINE float *scales_of(const void *base, int64_t at, const struct attention *a) {
    return (float *)((int8_t *)base + at + a->block_size * a->head_dim);
}

INLINE void prefetch_scales(const void *base, int64_t at, const struct attention *a) {
    for (int64_t t = 0; t < a->block_size; t += LANES) __builtin_prefetch(scales_of(base, at, a) + t, 0, 2);
}

INLINE struct page find_page(const struct tokens *tokens, int64_t position, int64_t kv_head,
                             const struct attention *a, const int stored) {
    const int64_t size = a->block_size, values = page_size(a, stored);
    if (position < tokens->tail)
        return (struct page){tokens->keys, tokens->values,
                             (tokens->blocks[position / size] * a->num_kv_heads + kv_head) * values};
    return (struct page){tokens->tail_keys, tokens->tail_values, (position - tokens->tail) / size * values};
}

/* Scores of sixteen places, scaled and capped. */
INLINE v16f cap_scores(v16f s, const struct attention *a) {
    if (a->softcap != 0.0f) {
        const v16f twice = exp_lanes(s * (2.0f / a->softcap));
        s = a->softcap * (twice - 1.0f) / (twice + 1.0f);
    }
    return s;
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
            for (int i = 0; i < VECTORS_OF_TOKENS; i++)
                store(score[g], at + first + i * LANES, cap_scores(dot[g][i] * a->scale, a), FLOAT32);
    }
}

/* As `score_page`, of integers; `scale` has each head's, of its query and of the scores. */
INLINE void score_integers(const int count, int16_t query[HEADS_AT_ONCE][MAX_DIM], const float *scale,
                           struct page page, float score[HEADS_AT_ONCE][TILE], int64_t at, const struct attention *a) {
    const int8_t *keys = (const int8_t *)page.keys + page.at, *values = (const int8_t *)page.values + page.at;
    const float *key_scale = scales_of(page.keys, page.at, a);
    prefetch_scales(page.values, page.at, a);
    for (int64_t first = 0; first < a->block_size; first += VECTORS_OF_TOKENS * LANES) {
        v16i dot[HEADS_AT_ONCE][VECTORS_OF_TOKENS];
        for (int g = 0; g < count; g++)
            for (int i = 0; i < VECTORS_OF_TOKENS; i++) dot[g][i] = (v16i){0};
        for (int64_t d = 0; d < a->head_dim; d += 2) {
            const int64_t place = d * a->block_size + first * 2;
            __builtin_prefetch(values + place, 0, 2);
            for (int i = 0; i < VECTORS_OF_TOKENS; i++)
                for (int g = 0; g < count; g++)
                    dot[g][i] = multiply_add_integers(dot[g][i], keys + place + i * LANES * 2, query[g] + d);
        }
        for (int g = 0; g < count; g++)
            for (int i = 0; i < VECTORS_OF_TOKENS; i++) {
                const int64_t t = first + i * LANES;
                const v16f s = __builtin_convertvector(dot[g][i], v16f) * scale[g] * load(key_scale, t, FLOAT32);
                store(score[g], at + t, cap_scores(s, a), FLOAT32);
            }
    }
}

/* One head's scores become weights relative to the highest so far, in `dtype`; those before `first` and from `stop` on
 * become zero. Returns by how much earlier weights shrink. */
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

/* Weights of a tile times the scales of its values, as integers of one scale, which is returned. */
INLINE float weigh_integers(float *weights, const float *value_scale, int64_t stop, int16_t *integers) {
    const int64_t end = (stop + LANES - 1) / LANES * LANES;
    for (int64_t t = 0; t < end; t += LANES) {
        const v16f e = load(weights, t, FLOAT32);
        /* A place without weight may hold any scale, even what is no number. */
        store(weights, t, choose(e == broadcast(0.0f), e, e * load(value_scale, t, FLOAT32)), FLOAT32);
    }
    return quantise(weights, 0, end, integers, MAX_SHORT, FLOAT32);
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

/* As `add_values`, of integers; `scale` has that of each head's weights. */
INLINE void add_integers(const int count, const int lanes, struct page page, int64_t tokens,
                         int16_t weights[HEADS_AT_ONCE][TILE], const float *scale, int64_t at,
                         v16f total[HEADS_AT_ONCE][MAX_DIM / LANES], int64_t first, struct page next,
                         const struct attention *a) {
    const int8_t *values = (const int8_t *)page.values + page.at, *keys = (const int8_t *)next.keys + next.at;
    v16i part[HEADS_AT_ONCE][VECTORS_OF_DIMS];
    for (int g = 0; g < count; g++)
        for (int i = 0; i < lanes; i++) part[g][i] = (v16i){0};
    for (int64_t t = 0; t < tokens; t += 2)
        for (int i = 0; i < lanes; i++) {
            const int64_t place = t * a->head_dim + (first + i) * LANES * 2;
            if (i % 2 == 0) __builtin_prefetch(keys + place, 0, 2);
            for (int g = 0; g < count; g++)
                part[g][i] = multiply_add_integers(part[g][i], values + place, weights[g] + at + t);
        }
    for (int g = 0; g < count; g++)
        for (int i = 0; i < lanes; i++) total[g][first + i] += __builtin_convertvector(part[g][i], v16f) * scale[g];
}

/* `count` query heads that share a KV head; query and out are theirs, (count, head_dim), `sinks` too. */
INLINE void attend_heads(const int count, const void *query, const struct tokens *tokens, void *out, int64_t kv_head,
                         const float *sinks, const struct attention *a, const int dtype, const int stored) {
    const int64_t length = tokens->length, dim = a->head_dim, size = a->block_size, tile = TILE / size * size;
    const int lanes = (int)(dim / LANES);
    const int64_t begin = a->window && length > a->window ? length - a->window : 0;
    float score[HEADS_AT_ONCE][TILE] __attribute__((aligned(64)));
    uint32_t weights[HEADS_AT_ONCE][TILE] __attribute__((aligned(64)));
    v16f total[HEADS_AT_ONCE][MAX_DIM / LANES];
    float peak[HEADS_AT_ONCE], sum[HEADS_AT_ONCE];
    /* Of a cache of int8: */
    int16_t short_query[HEADS_AT_ONCE][MAX_DIM], short_weights[HEADS_AT_ONCE][TILE];
    float query_scale[HEADS_AT_ONCE], weight_scale[HEADS_AT_ONCE], value_scale[TILE];
    #define PAGE(position) find_page(tokens, position, kv_head, a, stored)

    for (int g = 0; g < count; g++) {
        peak[g] = sinks ? sinks[g] : UNSEEN;
        sum[g] = sinks ? 1.0f : 0.0f;
        for (int d = 0; d < lanes; d++) total[g][d] = (v16f){0};
        if (stored == INT8)
            query_scale[g] = quantise(query, g * dim, dim, short_query[g], MAX_SHORT, dtype) * a->scale;
    }
    for (int64_t start = begin / tile * tile; start < length; start += tile) {
        const int64_t stop = length - start < tile ? length - start : tile;
        const int64_t first = begin > start ? begin - start : 0, page = first / size * size;
        for (int64_t t = page; t < stop; t += size)
            if (stored == INT8) score_integers(count, short_query, query_scale, PAGE(start + t), score, t, a);
            else score_page(count, query, PAGE(start + t), score, t, a, dtype);
        for (int64_t t = page; stored == INT8 && t < stop; t += size) {
            const struct page here = PAGE(start + t);
            memcpy(value_scale + t, scales_of(here.values, here.at, a), (size_t)size * sizeof(float));
        }
        for (int g = 0; g < count; g++) {
            const int as = stored == INT8 ? FLOAT32 : dtype;
            const float keep = weigh(score[g], weights[g], first, stop, &peak[g], &sum[g], as);
            for (int d = 0; d < lanes; d++) total[g][d] *= keep;
            if (stored == INT8)
                weight_scale[g] = weigh_integers((float *)weights[g], value_scale, stop, short_weights[g]);
        }
        for (int64_t t = page; t < stop; t += size) {
            const int64_t seen = stop - t < size ? stop - t : size, ahead = start + tile + t;
            const struct page here = PAGE(start + t), next = PAGE(ahead < length ? ahead : start + t);
            if (stored == INT8) prefetch_scales(next.keys, next.at, a);
            #define ADD(vectors)                                                                                       \
                if (stored == INT8)                                                                                    \
                    add_integers(count, vectors, here, seen, short_weights, weight_scale, t, total, d, next, a);       \
                else add_values(count, vectors, here, seen, weights, t, total, d, next, a, dtype)
            int d = 0;
            for (; d + VECTORS_OF_DIMS <= lanes; d += VECTORS_OF_DIMS) ADD(VECTORS_OF_DIMS);
            for (; d < lanes; d++) ADD(1);
            #undef ADD
        }
    }
    for (int g = 0; g < count; g++)
        for (int d = 0; d < lanes; d++) store(out, g * dim + d * LANES, total[g][d] / sum[g], dtype);
    #undef PAGE
}

/* Functions of their own, so that sums stay in registers. */
#define ATTEND(COUNT, DTYPE, STORED)                                                                                   \
    static __attribute__((noinline)) void attend_##COUNT##_##DTYPE##_##STORED(                                         \
        const void *query, const struct tokens *tokens, void *out, int64_t kv_head, const float *sinks,                \
        const struct attention *a) {                                                                                   \
        attend_heads(COUNT, query, tokens, out, kv_head, sinks, a, DTYPE, STORED);                                     \
    }
#define ATTEND_ANY(DTYPE, STORED)                                                                                      \
    ATTEND(1, DTYPE, STORED) ATTEND(2, DTYPE, STORED) ATTEND(3, DTYPE, STORED) ATTEND(4, DTYPE, STORED)                \
    static const attend_some attend_##DTYPE##_##STORED[HEADS_AT_ONCE + 1] = {                                          \
        0, attend_1_##DTYPE##_##STORED, attend_2_##DTYPE##_##STORED, attend_3_##DTYPE##_##STORED,                      \
        attend_4_##DTYPE##_##STORED};

typedef void (*attend_some)(const void *, const struct tokens *, void *, int64_t, const float *,
                            const struct attention *);
ATTEND_ANY(FLOAT32, FLOAT32)
ATTEND_ANY(FLOAT32, INT8)
ATTEND_ANY(BFLOAT16, BFLOAT16)
ATTEND_ANY(BFLOAT16, INT8)

/* One KV head, all the query heads that share it. query, out: the row's (num_heads, head_dim). */
INLINE void attend_group(const void *query, const struct tokens *tokens, void *out, int64_t kv_head,
                         const struct attention *a, const int dtype) {
    const int64_t group = a->num_heads / a->num_kv_heads;
    const attend_some *some = dtype == BFLOAT16 ? a->is_int8 ? attend_BFLOAT16_INT8 : attend_BFLOAT16_BFLOAT16
                              : a->is_int8      ? attend_FLOAT32_INT8
                                                : attend_FLOAT32_FLOAT32;
    for (int64_t g = 0; g < group; g += HEADS_AT_ONCE) {
        const int64_t head = kv_head * group + g, at = head * a->head_dim * BYTES(dtype);
        const int64_t count = group - g < HEADS_AT_ONCE ? group - g : HEADS_AT_ONCE;
        some[count]((const char *)query + at, tokens, (char *)out + at, kv_head, a->sinks ? a->sinks + head : 0, a);
    }
}

/* Copies one token's key and value of a KV head from one page to another. */
INLINE void copy_token(const struct page *from, int64_t from_place, const struct page *to, int64_t to_place,
                       const struct attention *a, const int stored) {
    const int64_t dim = a->head_dim, size = a->block_size, pair = PAIR(stored), bytes = BYTES(stored) * pair;
    const char *keys = (const char *)from->keys + from->at * BYTES(stored);
    const char *values = (const char *)from->values + from->at * BYTES(stored);
    char *to_keys = (char *)to->keys + to->at * BYTES(stored), *to_values = (char *)to->values + to->at * BYTES(stored);
    for (int64_t i = 0; i < dim / pair; i++)
        memcpy(to_keys + (i * size + to_place) * bytes, keys + (i * size + from_place) * bytes, (size_t)bytes);
    for (int64_t d = 0; d < dim; d++) {
        const int64_t source = (from_place / pair * dim + d) * pair + from_place % pair;
        const int64_t target = (to_place / pair * dim + d) * pair + to_place % pair;
        memcpy(to_values + target * BYTES(stored), values + source * BYTES(stored), BYTES(stored));
    }
    if (stored == INT8) {
        scales_of(to->keys, to->at, a)[to_place] = scales_of(from->keys, from->at, a)[from_place];
        scales_of(to->values, to->at, a)[to_place] = scales_of(from->values, from->at, a)[from_place];
    }
}

/* A row of a tree whose ancestors are not neighbours in the cache: they are laid out as they will be once they are
 * accepted, so that the row's bits are those that it has without a tree. */
static __attribute__((noinline)) void attend_branch(const void *query, struct tokens tokens, uint64_t ancestors,
                                                    void *out, int64_t kv_head, const struct attention *a,
                                                    const int dtype, const int stored) {
    const int64_t size = a->block_size, values = page_size(a, stored), bytes = values * BYTES(stored);
    const int64_t first = tokens.length, tail = first / size * size;
    const int64_t length = first + __builtin_popcountll(ancestors);
    const int64_t num_pages = (length - tail + size - 1) / size;
    char pages[2 * num_pages * bytes] __attribute__((aligned(64)));
    struct page to = {pages, pages + num_pages * bytes, 0};
    const struct page begun = find_page(&tokens, tail, kv_head, a, stored);
    memcpy(pages, (const char *)begun.keys + begun.at * BYTES(stored), (size_t)bytes);
    memcpy(pages + num_pages * bytes, (const char *)begun.values + begun.at * BYTES(stored), (size_t)bytes);
    int64_t place = first - tail;
    for (uint64_t left = ancestors; left; left &= left - 1, place++) {
        const int64_t from = first + __builtin_ctzll(left);
        const struct page source = find_page(&tokens, from, kv_head, a, stored);
        to.at = place / size * values;
        if (stored == INT8) copy_token(&source, from % size, &to, place % size, a, INT8);
        else if (stored == BFLOAT16) copy_token(&source, from % size, &to, place % size, a, BFLOAT16);
        else copy_token(&source, from % size, &to, place % size, a, FLOAT32);
    }
    tokens.length = length, tokens.tail = tail, tokens.tail_keys = to.keys, tokens.tail_values = to.values;
    attend_group(query, &tokens, out, kv_head, a, dtype);
}

/* One row and one KV head. The row reads `length` positions; of a tree, those before its nodes, and the nodes, at most
 * 64 from there on in the cache, whose bits are set in `ancestors`. */
INLINE void attend(const void *query, const void *key_cache, const void *value_cache, void *out, const int32_t *blocks,
                   int64_t length, uint64_t ancestors, int64_t kv_head, const struct attention *a, const int dtype) {
    struct tokens tokens = {key_cache, value_cache, blocks, length, INT64_MAX, 0, 0};
    if (ancestors & (ancestors + 1)) {
        if (a->is_int8) attend_branch(query, tokens, ancestors, out, kv_head, a, dtype, INT8);
        else attend_branch(query, tokens, ancestors, out, kv_head, a, dtype, dtype);
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
