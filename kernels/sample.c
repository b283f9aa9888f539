/* The Gumbel-max draw on the CPU: per row argmax over tokens of score + noise(seed, position, token), where scores are
 * what temperature, top-k, top-p and min-p make of logits (num_rows, vocab_size), float32.
 *
 * The noise is kernels/philox.py's, word for word: counter (token / 4, position, 0, 0), word token % 4; sixteen calls
 * of the generator run side by side. A row is one thread's work from beginning to end: its bits depend on no other.
 *
 * Tokens that cannot win are skipped exactly. With b the best value so far, a token of score s wins only if its noise
 * exceeds g = b - s, and noise -log(-log1p(-w)) exceeds g only if w < exp(-g). So most tokens cost an integer
 * comparison, and with every score of a block far below b not even that.
 */
#include <math.h>
#include <stdlib.h>
#include "filter.h"
enum { WORDS = 4, BLOCK = WORDS * LANES, ROUNDS = 10, NONE = -1 };
static const uint32_t FACTOR_A = 0xD2511F53u, FACTOR_B = 0xCD9E8D57u, STEP_A = 0x9E3779B9u, STEP_B = 0xBB67AE85u;
static const float MAX_NOISE = 23.0f; /* noise lies below 22.89 */
static const float MARGIN = 0.02f;    /* more than float32 rounds a score and its noise by */

/* One request's place in the generator's stream. */
struct stream {
    uint64_t seed, position;
};

static inline void philox(uint32_t group, const struct stream *stream, uint32_t word[WORDS]) {
    uint32_t c0 = group, c1 = (uint32_t)stream->position, c2 = 0, c3 = 0;
    uint32_t k0 = (uint32_t)stream->seed, k1 = (uint32_t)(stream->seed >> 32);
    for (int round = 0; round < ROUNDS; round++, k0 += STEP_A, k1 += STEP_B) {
        const uint64_t p0 = (uint64_t)FACTOR_A * c0, p1 = (uint64_t)FACTOR_B * c2;
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)p1;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)p0;
    }
    word[0] = c0, word[1] = c1, word[2] = c2, word[3] = c3;
}

/* The halves of sixteen 64-bit products. */
INLINE void multiply_wide(v16u a, uint32_t factor, v16u *high, v16u *low) {
#ifdef __AVX512F__
    const __m512i x = (__m512i)a, f = _mm512_set1_epi32((int)factor);
    const __m512i even = _mm512_mul_epu32(x, f), odd = _mm512_mul_epu32(_mm512_srli_epi64(x, 32), f);
    *high = (v16u)_mm512_mask_blend_epi32(0xaaaa, _mm512_srli_epi64(even, 32), odd);
    *low = (v16u)_mm512_mask_blend_epi32(0xaaaa, even, _mm512_slli_epi64(odd, 32));
#else
    typedef uint64_t v16w __attribute__((vector_size(128)));
    *high = __builtin_convertvector((__builtin_convertvector(a, v16w) * factor) >> 32, v16u);
    *low = a * factor;
#endif
}

/* The same for sixteen groups from `group` on: word[j] lane i is word j of group + i. */
INLINE void philox_lanes(uint32_t group, const struct stream *stream, v16u word[WORDS]) {
    const v16u lane = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    v16u c0 = lane + group, c1 = (uint32_t)stream->position - (v16u){0}, c2 = {0}, c3 = {0};
    uint32_t k0 = (uint32_t)stream->seed, k1 = (uint32_t)(stream->seed >> 32);
    for (int round = 0; round < ROUNDS; round++, k0 += STEP_A, k1 += STEP_B) {
        v16u high_a, low_a, high_b, low_b;
        multiply_wide(c0, FACTOR_A, &high_a, &low_a);
        multiply_wide(c2, FACTOR_B, &high_b, &low_b);
        c0 = high_b ^ c1 ^ k0, c1 = low_b, c2 = high_a ^ c3 ^ k1, c3 = low_a;
    }
    word[0] = c0, word[1] = c1, word[2] = c2, word[3] = c3;
}

static inline float gumbel(uint32_t bits) {
    const double w = ((double)bits + 0.5) / 4294967296.0;
    return (float)-log(-log1p(-w));
}

/* The best token so far; equal values go to the lower token. */
struct best {
    float value;
    int64_t token;
};

static inline void offer(struct best *best, float value, int64_t token) {
    if (value > best->value || (value == best->value && token < best->token)) *best = (struct best){value, token};
}

/* The first token of the highest score; none where that is no finite number, or any score is none. */
static struct best leader(const float *score, int64_t count) {
    v16f highest = broadcast(-INFINITY);
    v16i odd = {0};
    int64_t t = 0;
    for (; t + LANES <= count; t += LANES) {
        const v16f s = load(score, t, FLOAT32);
        odd |= s != s;
        highest = larger(s, highest);
    }
    struct best best = {largest_lane(highest), NONE};
    int is_odd = any_lane(odd);
    for (; t < count; t++) {
        is_odd |= score[t] != score[t];
        best.value = score[t] > best.value ? score[t] : best.value;
    }
    if (is_odd || !isfinite(best.value)) return best;
    for (t = 0; t + LANES <= count && !any_lane(load(score, t, FLOAT32) == best.value); t += LANES) {}
    while (score[t] != best.value) t++;
    best.token = t;
    return best;
}

/* Draws among the BLOCK tokens from `first` on. */
INLINE void draw_block(const float *score, int64_t first, const struct stream *stream, struct best *best) {
    /* Tokens 4 i + j of the block in lane i of part j, as the generator has their words. */
    const v16i evens = {0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30};
    const v16f a = load(score, 0, FLOAT32), b = load(score, 16, FLOAT32);
    const v16f c = load(score, 32, FLOAT32), d = load(score, 48, FLOAT32);
    const v16f highest = larger(larger(a, b), larger(c, d));
    if (!any_lane(best->value - highest < MAX_NOISE)) return;
    v16u word[WORDS];
    philox_lanes((uint32_t)(first / WORDS), stream, word);
    const v16f even_ab = __builtin_shuffle(a, b, evens), odd_ab = __builtin_shuffle(a, b, evens + 1);
    const v16f even_cd = __builtin_shuffle(c, d, evens), odd_cd = __builtin_shuffle(c, d, evens + 1);
    const v16f part[WORDS] = {
        __builtin_shuffle(even_ab, even_cd, evens),
        __builtin_shuffle(odd_ab, odd_cd, evens),
        __builtin_shuffle(even_ab, even_cd, evens + 1),
        __builtin_shuffle(odd_ab, odd_cd, evens + 1),
    };
    v16i hit[WORDS], any = {0};
    for (int j = 0; j < WORDS; j++) {
        /* exp(-gap) is at most 2 ** -n: words above 2 ** (32 - n) are too large. */
        const v16f powers = (best->value - part[j]) * 1.44269504f - MARGIN;
        const v16f bounded = larger(broadcast(0.0f), choose(powers < 31.0f, powers, broadcast(31.0f)));
        hit[j] = word[j] <= 0xffffffffu >> __builtin_convertvector(bounded, v16u);
        any |= hit[j];
    }
    if (!any_lane(any)) return;
    for (int j = 0; j < WORDS; j++)
        for (int i = 0; i < LANES; i++)
            if (hit[j][i]) offer(best, part[j][i] + gumbel(word[j][i]), first + WORDS * i + j);
}

static int64_t draw_token(const float *score, int64_t vocab_size, int64_t leader, const struct stream *stream) {
    uint32_t word[WORDS];
    philox((uint32_t)(leader / WORDS), stream, word);
    struct best best = {score[leader] + gumbel(word[leader % WORDS]), leader};
    int64_t first = 0;
    for (; first + BLOCK <= vocab_size; first += BLOCK) draw_block(score + first, first, stream, &best);
    float rest[BLOCK];
    for (int i = 0; i < BLOCK; i++) rest[i] = first + i < vocab_size ? score[first + i] : -INFINITY;
    if (first < vocab_size) draw_block(rest, first, stream, &best);
    return best.token;
}

/* One row's token, NONE where there is none; a row drawn with noise holds its scores afterwards. */
static int64_t draw_row(float *score, int64_t vocab_size, const struct draw *d, struct scratch *scratch) {
    const struct best best = leader(score, vocab_size);
    if (best.token == NONE || d->temperature == 0.0f) return best.token;
    int64_t t = 0;
    for (; t + LANES <= vocab_size; t += LANES)
        store(score, t, (load(score, t, FLOAT32) - best.value) / d->temperature, FLOAT32);
    for (; t < vocab_size; t++) score[t] = (score[t] - best.value) / d->temperature;
    filter(score, vocab_size, d, scratch);
    const struct stream stream = {d->seed, (uint64_t)d->position};
    return draw_token(score, vocab_size, best.token, &stream);
}

/* Returns 0, or -1 without the memory for it. */
int outrider_sample(float *scores, const struct draw *draws, int64_t *drawn, int64_t num_rows, int64_t vocab_size,
                    int64_t num_threads) {
    int failed = 0;
    #pragma omp parallel num_threads((int)num_threads) if (num_rows > 1) reduction(| : failed)
    {
        struct scratch scratch = {malloc((size_t)(vocab_size + LANES) * sizeof(float)),
                                  malloc((size_t)vocab_size * sizeof(struct ranked))};
        failed = !scratch.weight || !scratch.ranked;
        #pragma omp for schedule(dynamic, 1)
        for (int64_t row = 0; row < num_rows; row++)
            if (!failed) drawn[row] = draw_row(scores + row * vocab_size, vocab_size, draws + row, &scratch);
        free(scratch.weight);
        free(scratch.ranked);
    }
    return failed ? -1 : 0;
}
