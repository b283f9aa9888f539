/* The Gumbel-max draw on the CPU: per row argmax over tokens of score + noise(seed, position, token), where scores are
 * what temperature, top-k, top-p and min-p make of logits (num_rows, vocab_size), float32.
 *
 * The noise is kernels/philox.py's, word for word: counter (token / 4, position, 0, 0), word token % 4. A row is one
 * thread's work from beginning to end: its bits depend on no other.
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

/* The generator's words are the low halves of 64-bit lanes, eight groups side by side: a product of low halves is then
 * one instruction, and what gathers in the high halves is never read. */
typedef uint64_t v8w __attribute__((vector_size(64)));
enum { GROUPS = 8 };

INLINE v8w multiply_low(v8w a, uint32_t factor) {
#ifdef __AVX512F__
    return (v8w)_mm512_mul_epu32((__m512i)a, _mm512_set1_epi32((int)factor));
#else
    return (a & 0xffffffffu) * factor;
#endif
}

/* word[j] lane i is word j of group + i. */
INLINE void philox_lanes(uint32_t group, const struct stream *stream, v8w word[WORDS]) {
    const v8w lane = {0, 1, 2, 3, 4, 5, 6, 7};
    v8w c0 = lane + group, c1 = (uint64_t)(uint32_t)stream->position - (v8w){0}, c2 = {0}, c3 = {0};
    uint32_t k0 = (uint32_t)stream->seed, k1 = (uint32_t)(stream->seed >> 32);
    for (int round = 0; round < ROUNDS; round++, k0 += STEP_A, k1 += STEP_B) {
        const v8w p0 = multiply_low(c0, FACTOR_A), p1 = multiply_low(c2, FACTOR_B);
        c0 = (p1 >> 32) ^ c1 ^ k0, c1 = p1, c2 = (p0 >> 32) ^ c3 ^ k1, c3 = p0;
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

/* exp(-gap) is at most 2 ** -n for the n here: words above 2 ** (32 - n) are too large for noise above the gap. */
INLINE uint32_t largest_word(float gap) {
    const float powers = gap * 1.44269504f - MARGIN;
    return 0xffffffffu >> (powers < 0.0f ? 0 : powers < 31.0f ? (int)powers : 31);
}

/* The smallest of each group's words. */
INLINE v8w smallest_word(const v8w word[WORDS]) {
#ifdef __AVX512F__
    const __m512i a = _mm512_min_epu32((__m512i)word[0], (__m512i)word[1]);
    const __m512i b = _mm512_min_epu32((__m512i)word[2], (__m512i)word[3]);
    return (v8w)_mm512_min_epu32(a, b) & 0xffffffffu;
#else
    v8w smallest = word[0] & 0xffffffffu;
    for (int j = 1; j < WORDS; j++) {
        const v8w other = word[j] & 0xffffffffu, is_less = (v8w)(other < smallest);
        smallest = (other & is_less) | (smallest & ~is_less);
    }
    return smallest;
#endif
}

/* Draws among the BLOCK tokens from `first` on; their scores are (logit - top) * inverse. */
INLINE void draw_block(const float *logit, int64_t first, float top, float inverse, const struct stream *stream,
                       struct best *best) {
    v16f high = load(logit, 0, FLOAT32);
    for (int i = LANES; i < BLOCK; i += LANES) high = most(high, load(logit, i, FLOAT32));
    const float highest = (largest_lane(high) - top) * inverse;
    if (best->value - highest >= MAX_NOISE) return;
    /* Most groups have no word small enough for the highest score of all. */
    const uint64_t largest = largest_word(best->value - highest);
    for (int part = 0; part < BLOCK; part += WORDS * GROUPS) {
        v8w word[WORDS];
        philox_lanes((uint32_t)((first + part) / WORDS), stream, word);
        if (!any_lane((v16i)(smallest_word(word) <= largest))) continue;
        for (int i = 0; i < WORDS * GROUPS; i++) {
            const uint32_t bits = (uint32_t)word[i % WORDS][i / WORDS];
            if (bits > largest) continue;
            const float score = (logit[part + i] - top) * inverse;
            if (bits <= largest_word(best->value - score)) offer(best, score + gumbel(bits), first + part + i);
        }
    }
}

static struct best draw_token(const float *logit, int64_t vocab_size, struct best leader, float inverse,
                              const struct stream *stream) {
    const float top = leader.value;
    uint32_t word[WORDS];
    philox((uint32_t)(leader.token / WORDS), stream, word);
    struct best best = {gumbel(word[leader.token % WORDS]), leader.token};
    int64_t first = 0;
    for (; first + BLOCK <= vocab_size; first += BLOCK) draw_block(logit + first, first, top, inverse, stream, &best);
    float rest[BLOCK];
    for (int i = 0; i < BLOCK; i++) rest[i] = first + i < vocab_size ? logit[first + i] : -INFINITY;
    if (first < vocab_size) draw_block(rest, first, top, inverse, stream, &best);
    return best;
}

/* One row's token, NONE where there is none; its value, where it was drawn with noise, counts from the leader's score. */
static struct best draw_row(float *logit, int64_t vocab_size, const struct draw *d, const struct scratch *scratch) {
    const struct best best = leader(logit, vocab_size);
    if (best.token == NONE || d->temperature == 0.0f) return best;
    const struct stream stream = {d->seed, (uint64_t)d->position};
    const float inverse = 1.0f / d->temperature;
    if (!has_filter(d, vocab_size) && !d->keeps_scores) return draw_token(logit, vocab_size, best, inverse, &stream);
    float *score = scratch->score;
    int64_t t = 0;
    for (; t + LANES <= vocab_size; t += LANES)
        store(score, t, (load(logit, t, FLOAT32) - best.value) * inverse, FLOAT32);
    for (; t < vocab_size; t++) score[t] = (logit[t] - best.value) * inverse;
    for (; t % LANES; t++) score[t] = -INFINITY;
    filter(scratch, vocab_size, d);
    if (d->keeps_scores) memcpy(logit, score, (size_t)vocab_size * sizeof *score);
    return draw_token(score, vocab_size, (struct best){0.0f, best.token}, 1.0f, &stream);
}

/* Scores that are read, and a row with noise takes as long as eight without, beyond which threads are worth waking. */
enum { NOISE_COST = 8, WORTH_THREADS = 1 << 19 };

static int is_worth_threads(const struct draw *draws, int64_t num_rows, int64_t vocab_size) {
    int64_t cost = 0;
    for (int64_t row = 0; row < num_rows; row++) cost += draws[row].temperature == 0.0f ? 1 : NOISE_COST;
    return num_rows > 1 && cost * vocab_size > WORTH_THREADS;
}

/* Returns 0, or -1 without the memory for it. */
int outrider_sample(float *logits, const struct draw *draws, int64_t *drawn, int64_t num_rows, int64_t vocab_size,
                    int64_t num_threads) {
    int failed = 0;
    #pragma omp parallel num_threads((int)num_threads) if (is_worth_threads(draws, num_rows, vocab_size)) \
        reduction(| : failed)
    {
        struct scratch *scratch = own_scratch(vocab_size);
        failed = !scratch;
        #pragma omp for schedule(dynamic, 1)
        for (int64_t row = 0; row < num_rows; row++)
            if (!failed) drawn[row] = draw_row(logits + row * vocab_size, vocab_size, draws + row, scratch).token;
    }
    return failed ? -1 : 0;
}

/* Of exp(score - top), over all scores. */
static float sum_weights(const float *score, int64_t size, float top) {
    v16f sum = {0};
    int64_t t = 0;
    for (; t + LANES <= size; t += LANES) {
        const v16f gap = load(score, t, FLOAT32) - top;
        sum += choose(gap > broadcast(-87.0f), exp_lanes(gap), broadcast(0.0f));
    }
    float total = sum_lanes(sum);
    for (; t < size; t++) total += expf(score[t] - top);
    return total;
}

/* What would be drawn if the tokens before were forbidden, `count` times, and how likely each seems. */
static void draw_several(float *logit, int64_t vocab_size, const struct draw *d, int64_t count, int64_t *tokens,
                         float *chances, const struct scratch *scratch) {
    float forbidden[64], values[64];
    const struct best best = leader(logit, vocab_size);
    const float total = best.token == NONE ? 1.0f : sum_weights(logit, vocab_size, best.value);
    float noisy_total = 0.0f, top = 0.0f;
    int64_t found = 0;
    for (; found < count; found++) {
        const struct best next = draw_row(logit, vocab_size, d, scratch);
        tokens[found] = next.token;
        if (next.token == NONE) break;
        forbidden[found] = logit[next.token];
        logit[next.token] = -INFINITY;
        values[found] = 0.0f;
        if (d->temperature != 0.0f) {
            /* Anew from the first leader: a draw's own value counts from its leader, which falls when that is drawn. */
            uint32_t word[WORDS];
            philox((uint32_t)(next.token / WORDS), &(struct stream){d->seed, (uint64_t)d->position}, word);
            values[found] = (forbidden[found] - best.value) / d->temperature + gumbel(word[next.token % WORDS]);
        }
        if (found == 0) top = values[0];
        noisy_total += expf(values[found] - top);
    }
    for (int64_t i = 0; i < found; i++) {
        logit[tokens[i]] = forbidden[i];
        chances[i] = d->temperature == 0.0f ? expf(forbidden[i] - best.value) / total
                                            : expf(values[i] - top) / noisy_total;
    }
    for (int64_t i = found; i < count; i++) tokens[i] = NONE, chances[i] = 0.0f;
}

/* tokens and chances (num_rows, count), count at most 64. Returns 0, or -1 without the memory for it. */
int outrider_sample_several(float *logits, const struct draw *draws, int64_t count, int64_t *tokens, float *chances,
                            int64_t num_rows, int64_t vocab_size, int64_t num_threads) {
    int failed = 0;
    #pragma omp parallel num_threads((int)num_threads) if (is_worth_threads(draws, num_rows, vocab_size)) \
        reduction(| : failed)
    {
        struct scratch *scratch = own_scratch(vocab_size);
        failed = !scratch;
        #pragma omp for schedule(dynamic, 1)
        for (int64_t row = 0; row < num_rows; row++)
            if (!failed)
                draw_several(logits + row * vocab_size, vocab_size, draws + row, count, tokens + row * count,
                             chances + row * count, scratch);
    }
    return failed ? -1 : 0;
}
