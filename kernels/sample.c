/* The Gumbel-max draw on the CPU: per row argmax over tokens of score + noise(seed, position, token).
 *
 * scores (num_rows, vocab_size) float32; leaders (num_rows): each row's highest score's token; seeds, positions, drawn
 * (num_rows). The noise is kernels/philox.py's, word for word: counter (token / 4, position, 0, 0), word token % 4.
 *
 * Tokens that cannot win are skipped exactly. With b the best value so far, a token of score s wins only if its noise
 * exceeds b - s, and noise -log(-log1p(-w)) exceeds g only if w < exp(-g). So most tokens cost an integer comparison.
 */
#include <math.h>
#include <stdint.h>

enum { MAX_NOISE = 23 }; /* noise lies below 22.89 */

static inline void philox(uint32_t group, uint64_t position, uint64_t seed, uint32_t word[4]) {
    uint32_t c0 = group, c1 = (uint32_t)position, c2 = 0, c3 = 0;
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    for (int round = 0; round < 10; round++) {
        const uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)p1;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    word[0] = c0, word[1] = c1, word[2] = c2, word[3] = c3;
}

static inline float gumbel(uint32_t bits) {
    const double w = ((double)bits + 0.5) / 4294967296.0;
    return (float)-log(-log1p(-w));
}

void outrider_sample(const float *scores, const int64_t *leaders, const uint64_t *seeds, const int64_t *positions,
                     int64_t *drawn, int64_t num_rows, int64_t vocab_size) {
    /* limit[i]: words from here on are too large for noise above i. Rounded up, so that nothing is lost. */
    uint64_t limit[MAX_NOISE];
    for (int i = 0; i < MAX_NOISE; i++) limit[i] = (uint64_t)ceil(exp(-(double)i) * 4294967296.0) + 1;

    for (int64_t row = 0; row < num_rows; row++) {
        const float *score = scores + row * vocab_size;
        const uint64_t seed = seeds[row], position = (uint64_t)positions[row];
        uint32_t word[4];
        int64_t winner = leaders[row];
        philox((uint32_t)(winner >> 2), position, seed, word);
        float best = score[winner] + gumbel(word[winner & 3]);

        for (int64_t first = 0; first < vocab_size; first += 4) {
            const int count = vocab_size - first < 4 ? (int)(vocab_size - first) : 4;
            int hopeful = 0;
            for (int i = 0; i < count; i++) hopeful |= best - score[first + i] < MAX_NOISE;
            if (!hopeful) continue;
            philox((uint32_t)(first >> 2), position, seed, word);
            for (int i = 0; i < count; i++) {
                const float gap = best - score[first + i];
                /* The hundredth is more than float32 rounds a score and its noise by. */
                if (!(gap < MAX_NOISE) || (gap > 0.01f && word[i] >= limit[(int)(gap - 0.01f)])) continue;
                const float value = score[first + i] + gumbel(word[i]);
                if (value > best || (value == best && first + i < winner)) best = value, winner = first + i;
            }
        }
        drawn[row] = winner;
    }
}
