/* Forbids what top-k, top-p and min-p exclude, without sorting the vocabulary.
 *
 * Tokens rank by score, equal ones by their number. A cut is the last token that stays. It is found by summing what
 * reaches five thresholds at a time, of probability or, for top-k, of tokens; once few tokens are left between two of
 * them, these are sorted. Sums run through a row in one order, so what a row keeps depends on that row alone.
 */
#pragma once
#include <math.h>
#include <stdlib.h>
#include "draw.h"
#include "vectors.h"
#ifdef __AVX512F__
#include <immintrin.h>
#endif

struct ranked {
    float score;
    int32_t token;
};

/* One thread's memory for a row, kept for its next: to take it anew costs more than most rows. */
struct scratch {
    int64_t size;
    float *score, *weight; /* (size + LANES) */
    struct ranked *ranked; /* (size) */
};

/* NULL without memory. */
static struct scratch *own_scratch(int64_t size) {
    static _Thread_local struct scratch own;
    if (own.size >= size) return &own;
    free(own.score), free(own.weight), free(own.ranked);
    const size_t bytes = (size_t)(size + LANES) * sizeof(float);
    own = (struct scratch){0, malloc(bytes), malloc(bytes), malloc((size_t)size * sizeof(struct ranked))};
    if (!own.score || !own.weight || !own.ranked) return NULL;
    own.size = size;
    return &own;
}

enum { THRESHOLDS = 5, FEW = 512, MAX_PASSES = 40, SUMMED_AT_ONCE = 64 * LANES };

INLINE int any_lane(v16i mask) {
#ifdef __AVX512F__
    return _mm512_test_epi32_mask((__m512i)mask, (__m512i)mask) != 0;
#else
    int any = 0;
    for (int i = 0; i < LANES; i++) any |= mask[i];
    return any;
#endif
}

/* The larger one of two numbers. */
INLINE v16f most(v16f a, v16f b) {
#ifdef __AVX512F__
    return (v16f)_mm512_max_ps((__m512)a, (__m512)b);
#else
    return larger(a, b);
#endif
}

/* Adds the weights of the lanes whose score reaches the threshold. */
INLINE v16f add_reaching(v16f sum, v16f score, v16f weight, float threshold) {
#ifdef __AVX512F__
    const __mmask16 reaches = _mm512_cmp_ps_mask((__m512)score, _mm512_set1_ps(threshold), _CMP_GE_OQ);
    return (v16f)_mm512_mask_add_ps((__m512)sum, reaches, (__m512)sum, (__m512)weight);
#else
    return sum + (v16f)((v16i)weight & (score >= broadcast(threshold)));
#endif
}

/* How much of the weight reaches each threshold. Rows end with forbidden scores up to a whole vector. */
static void sum_reaching(const float *score, const float *weight, int64_t size, const float threshold[THRESHOLDS],
                         float mass[THRESHOLDS]) {
    for (int j = 0; j < THRESHOLDS; j++) mass[j] = 0.0f;
    for (int64_t from = 0; from < size; from += SUMMED_AT_ONCE) {
        const int64_t to = from + SUMMED_AT_ONCE < size ? from + SUMMED_AT_ONCE : size;
        v16f sum[THRESHOLDS];
        for (int j = 0; j < THRESHOLDS; j++) sum[j] = (v16f){0};
        for (int64_t t = from; t < to; t += LANES) {
            const v16f s = load(score, t, FLOAT32), w = load(weight, t, FLOAT32);
            for (int j = 0; j < THRESHOLDS; j++) sum[j] = add_reaching(sum[j], s, w, threshold[j]);
        }
        for (int j = 0; j < THRESHOLDS; j++) mass[j] += sum_lanes(sum[j]);
    }
}

/* How many scores lie from `low` on and below `high`. */
static int64_t count_between(const float *score, int64_t size, float low, float high) {
    v16i count = {0};
    for (int64_t t = 0; t < size; t += LANES) {
        const v16f s = load(score, t, FLOAT32);
        count -= (s >= broadcast(low)) & (s < broadcast(high));
    }
    int64_t sum = 0;
    for (int i = 0; i < LANES; i++) sum += count[i];
    return sum;
}

static int compare_ranks(const void *one, const void *other) {
    const struct ranked *a = one, *b = other;
    if (a->score != b->score) return a->score > b->score ? -1 : 1;
    return a->token < b->token ? -1 : a->token > b->token;
}

/* The last token that stays: the first in the order of ranks with which the weights reach `wanted`; where they do not,
 * all from `lowest` on stay. No score is above 0. */
static struct ranked find_cut(const struct scratch *row, int64_t size, float wanted, float lowest) {
    float low = lowest, high = 1e-6f, above = 0.0f; /* what reaches `high` is too little, what reaches `low` enough */
    for (int64_t pass = 0; pass < MAX_PASSES; pass++) {
        float threshold[THRESHOLDS], mass[THRESHOLDS];
        for (int j = 0; j < THRESHOLDS - 1; j++) threshold[j] = high + (low - high) * (float)(j + 1) / THRESHOLDS;
        threshold[THRESHOLDS - 1] = low;
        sum_reaching(row->score, row->weight, size, threshold, mass);
        int j = 0;
        while (j < THRESHOLDS && mass[j] < wanted) j++;
        if (j == THRESHOLDS) return (struct ranked){low, (int32_t)size};
        if (threshold[j] == low && (j == 0 || threshold[j - 1] == high)) break; /* no number lies between them */
        low = threshold[j];
        if (j) high = threshold[j - 1], above = mass[j - 1];
        if (pass > 0 && count_between(row->score, size, low, high) <= FEW) break;
    }
    int64_t count = 0;
    for (int64_t t = 0; t < size; t += LANES) {
        const v16f s = load(row->score, t, FLOAT32);
        const v16i between = (s >= broadcast(low)) & (s < broadcast(high));
        if (!any_lane(between)) continue;
        for (int i = 0; i < LANES; i++)
            if (between[i]) row->ranked[count++] = (struct ranked){s[i], (int32_t)t + i};
    }
    qsort(row->ranked, (size_t)count, sizeof *row->ranked, compare_ranks);
    struct ranked cut = {low, (int32_t)size};
    double sum = above; /* thousands of equal weights, added one by one, would all be rounded to the same side */
    for (int64_t i = 0; i < count && (i == 0 || sum < wanted); i++) {
        cut = row->ranked[i];
        sum += row->weight[cut.token];
    }
    return cut;
}

static void apply_cut(const struct scratch *row, int64_t size, struct ranked cut) {
    const v16i lane = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    for (int64_t t = 0; t < size; t += LANES) {
        const v16f s = load(row->score, t, FLOAT32);
        const v16i stays = (s > broadcast(cut.score)) | ((s == broadcast(cut.score)) & (lane + (int32_t)t <= cut.token));
        store(row->score, t, choose(stays, s, broadcast(-INFINITY)), FLOAT32);
    }
}

/* The lowest score that is not forbidden. */
static float lowest_score(const float *score, int64_t size) {
    v16f lowest = {0};
    for (int64_t t = 0; t < size; t += LANES) {
        const v16f s = load(score, t, FLOAT32);
        lowest = choose((s < lowest) & (s > broadcast(-INFINITY)), s, lowest);
    }
    float found = 0.0f;
    for (int i = 0; i < LANES; i++) found = lowest[i] < found ? lowest[i] : found;
    return found;
}

/* weight = exp(score), zero where that is next to nothing; returns the sum. */
static float weigh_all(const struct scratch *row, int64_t size) {
    float total = 0.0f;
    for (int64_t from = 0; from < size; from += SUMMED_AT_ONCE) {
        const int64_t to = from + SUMMED_AT_ONCE < size ? from + SUMMED_AT_ONCE : size;
        v16f sum = {0};
        for (int64_t t = from; t < to; t += LANES) {
            const v16f s = load(row->score, t, FLOAT32);
            const v16f e = choose(s > broadcast(-87.0f), exp_lanes(s), broadcast(0.0f));
            store(row->weight, t, e, FLOAT32);
            sum += e;
        }
        total += sum_lanes(sum);
    }
    return total;
}

static int has_filter(const struct draw *d, int64_t size) {
    return (d->top_k > 0 && d->top_k < size) || d->top_p < 1.0 || d->min_p > 0.0;
}

/* Top-k, then top-p over what it left, then min-p. The highest score of the row is 0; forbidden ones follow its last up
 * to a whole vector. */
static void filter(const struct scratch *row, int64_t size, const struct draw *d) {
    if (d->top_k > 0 && d->top_k < size) {
        for (int64_t t = 0; t < size; t += LANES) store(row->weight, t, broadcast(1.0f), FLOAT32); /* tokens count alike */
        apply_cut(row, size, find_cut(row, size, (float)d->top_k, lowest_score(row->score, size)));
    }
    if (d->top_p < 1.0) {
        const float wanted = (float)(d->top_p * weigh_all(row, size));
        /* All tokens below weigh less than what may be cut: the leader alone weighs 1. */
        apply_cut(row, size, find_cut(row, size, wanted, (float)log((1.0 - d->top_p) / (double)size) - 1.0f));
    }
    if (d->min_p > 0.0) {
        const float lowest = (float)log(d->min_p);
        for (int64_t t = 0; t < size; t++)
            if (row->score[t] < lowest) row->score[t] = -INFINITY;
    }
}
