/* Forbids what top-k, top-p and min-p exclude, without sorting the vocabulary.
 *
 * Tokens rank by score, equal ones by their number. A cut is the last token that stays. It is found by counting how
 * many tokens, or how much probability, lies above seven thresholds at a time; once few tokens are left between two of
 * them, these are sorted. Sums run through a row in one order, so what a row keeps depends on that row alone.
 */
#pragma once
#include <math.h>
#include <stdlib.h>
#include "vectors.h"
#ifdef __AVX512F__
#include <immintrin.h>
#endif

/* How one row is drawn; kernels/sample.py has the same. */
struct draw {
    uint64_t seed;
    int64_t position;
    int64_t top_k;      /* 0 for all */
    double top_p, min_p; /* 1 and 0 for all */
    float temperature;  /* 0 for the highest score without noise */
};

struct ranked {
    float score;
    int32_t token;
};

/* One thread's memory. */
struct scratch {
    float *weight;         /* (vocab_size + LANES) */
    struct ranked *ranked; /* (vocab_size) */
};

/* How many tokens, and how much of the weight, reach a threshold. */
struct tally {
    int64_t count;
    float mass;
};

enum { THRESHOLDS = 7, FEW = 256, MAX_PASSES = 40, SUMMED_AT_ONCE = 64 * LANES };

INLINE int any_lane(v16i mask) {
#ifdef __AVX512F__
    return _mm512_test_epi32_mask((__m512i)mask, (__m512i)mask) != 0;
#else
    int any = 0;
    for (int i = 0; i < LANES; i++) any |= mask[i];
    return any;
#endif
}

INLINE int64_t sum_counts(v16i counts) {
    int64_t sum = 0;
    for (int i = 0; i < LANES; i++) sum += counts[i];
    return sum;
}

/* weight = exp(score), zero where that is next to nothing and up to the next whole vector. */
static void weigh_all(const float *score, float *weight, int64_t size) {
    for (int64_t t = 0; t < size; t += LANES) {
        v16f s = broadcast(-INFINITY);
        if (t + LANES <= size) s = load(score, t, FLOAT32);
        else
            for (int64_t i = t; i < size; i++) s[i - t] = score[i];
        store(weight, t, choose(s > broadcast(-87.0f), exp_lanes(s), broadcast(0.0f)), FLOAT32);
    }
}

static float sum_weights(const float *weight, int64_t size) {
    float total = 0.0f;
    for (int64_t from = 0; from < size; from += SUMMED_AT_ONCE) {
        const int64_t to = from + SUMMED_AT_ONCE < size ? from + SUMMED_AT_ONCE : size;
        v16f sum = {0};
        for (int64_t t = from; t < to; t += LANES) sum += load(weight, t, FLOAT32);
        total += sum_lanes(sum);
    }
    return total;
}

/* What reaches each threshold; scores beyond the last whole vector count one by one. */
static void tally_all(const float *score, const float *weight, int64_t size, const float threshold[THRESHOLDS],
                      struct tally tally[THRESHOLDS]) {
    for (int j = 0; j < THRESHOLDS; j++) tally[j] = (struct tally){0, 0.0f};
    const int64_t whole = size / LANES * LANES;
    for (int64_t from = 0; from < whole; from += SUMMED_AT_ONCE) {
        const int64_t to = from + SUMMED_AT_ONCE < whole ? from + SUMMED_AT_ONCE : whole;
        v16f mass[THRESHOLDS];
        v16i count[THRESHOLDS];
        for (int j = 0; j < THRESHOLDS; j++) mass[j] = (v16f){0}, count[j] = (v16i){0};
        for (int64_t t = from; t < to; t += LANES) {
            const v16f s = load(score, t, FLOAT32), w = load(weight, t, FLOAT32);
            for (int j = 0; j < THRESHOLDS; j++) {
                const v16i reaches = s >= broadcast(threshold[j]);
                mass[j] += (v16f)((v16i)w & reaches);
                count[j] -= reaches;
            }
        }
        for (int j = 0; j < THRESHOLDS; j++) {
            tally[j].mass += sum_lanes(mass[j]);
            tally[j].count += sum_counts(count[j]);
        }
    }
    for (int64_t t = whole; t < size; t++)
        for (int j = 0; j < THRESHOLDS; j++)
            if (score[t] >= threshold[j]) tally[j].mass += weight[t], tally[j].count++;
}

static int compare_ranks(const void *one, const void *other) {
    const struct ranked *a = one, *b = other;
    if (a->score != b->score) return a->score > b->score ? -1 : 1;
    return a->token < b->token ? -1 : a->token > b->token;
}

/* The last token that stays: the first in the order of ranks with which `wanted` is reached; where it is not reached,
 * all from `lowest` on stay. No score is above 0. */
static struct ranked find_cut(const float *score, const float *weight, int64_t size, struct tally wanted, float lowest,
                              struct ranked *ranked) {
    float low = lowest, high = 1e-6f; /* what reaches `high` is too little, what reaches `low` is enough */
    struct tally above = {0, 0.0f};
    for (int64_t pass = 0, inside = size; pass < MAX_PASSES && inside > FEW; pass++) {
        float threshold[THRESHOLDS];
        struct tally tally[THRESHOLDS];
        for (int j = 0; j < THRESHOLDS - 1; j++) threshold[j] = high + (low - high) * (float)(j + 1) / THRESHOLDS;
        threshold[THRESHOLDS - 1] = low;
        tally_all(score, weight, size, threshold, tally);
        int j = 0;
        while (j < THRESHOLDS && tally[j].count < wanted.count && tally[j].mass < wanted.mass) j++;
        if (j == THRESHOLDS) return (struct ranked){low, (int32_t)size};
        inside = tally[j].count - (j ? tally[j - 1].count : above.count);
        if (threshold[j] == low && (j == 0 || threshold[j - 1] == high)) break; /* no number lies between them */
        low = threshold[j];
        if (j) high = threshold[j - 1], above = tally[j - 1];
    }
    int64_t count = 0;
    for (int64_t t = 0; t < size; t += LANES) {
        const int64_t stop = t + LANES < size ? t + LANES : size;
        if (stop - t == LANES && !any_lane((load(score, t, FLOAT32) >= low) & (load(score, t, FLOAT32) < high))) continue;
        for (int64_t i = t; i < stop; i++)
            if (score[i] >= low && score[i] < high) ranked[count++] = (struct ranked){score[i], (int32_t)i};
    }
    qsort(ranked, (size_t)count, sizeof *ranked, compare_ranks);
    struct ranked cut = {low, (int32_t)size};
    for (int64_t i = 0; i < count; i++) {
        cut = ranked[i];
        above.count++;
        above.mass += weight[cut.token];
        if (above.count >= wanted.count || above.mass >= wanted.mass) break;
    }
    return cut;
}

static void apply_cut(float *score, float *weight, int64_t size, struct ranked cut) {
    const v16i lane = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    int64_t t = 0;
    for (; t + LANES <= size; t += LANES) {
        const v16f s = load(score, t, FLOAT32);
        const v16i stays = (s > broadcast(cut.score)) | ((s == broadcast(cut.score)) & (lane + (int32_t)t <= cut.token));
        store(score, t, choose(stays, s, broadcast(-INFINITY)), FLOAT32);
        store(weight, t, (v16f)((v16i)load(weight, t, FLOAT32) & stays), FLOAT32);
    }
    for (; t < size; t++)
        if (!(score[t] > cut.score || (score[t] == cut.score && t <= cut.token))) score[t] = -INFINITY, weight[t] = 0.0f;
}

/* The lowest score that is not forbidden. */
static float lowest_score(const float *score, int64_t size) {
    v16f lowest = {0};
    int64_t t = 0;
    for (; t + LANES <= size; t += LANES) {
        const v16f s = load(score, t, FLOAT32);
        lowest = choose((s < lowest) & (s > broadcast(-INFINITY)), s, lowest);
    }
    float found = 0.0f;
    for (int i = 0; i < LANES; i++) found = lowest[i] < found ? lowest[i] : found;
    for (; t < size; t++)
        if (score[t] < found && score[t] > -INFINITY) found = score[t];
    return found;
}

/* Top-k, then top-p over what it left, then min-p. The highest score is 0. */
static void filter(float *score, int64_t size, const struct draw *d, struct scratch *scratch) {
    const int has_top_k = d->top_k > 0 && d->top_k < size, has_top_p = d->top_p < 1.0;
    if (has_top_k || has_top_p) weigh_all(score, scratch->weight, size);
    if (has_top_k) {
        const struct tally wanted = {d->top_k, INFINITY};
        const float lowest = lowest_score(score, size);
        apply_cut(score, scratch->weight, size, find_cut(score, scratch->weight, size, wanted, lowest, scratch->ranked));
    }
    if (has_top_p) {
        const struct tally wanted = {INT64_MAX, (float)(d->top_p * sum_weights(scratch->weight, size))};
        /* All tokens below weigh less than what may be cut: the leader alone weighs 1. */
        const float lowest = (float)log((1.0 - d->top_p) / (double)size) - 1.0f;
        apply_cut(score, scratch->weight, size, find_cut(score, scratch->weight, size, wanted, lowest, scratch->ranked));
    }
    if (d->min_p > 0.0) {
        const float lowest = (float)log(d->min_p);
        for (int64_t t = 0; t < size; t++)
            if (score[t] < lowest) score[t] = -INFINITY;
    }
}
