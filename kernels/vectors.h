/* Vectors of sixteen floats, and how they meet memory in float32, bfloat16 or int8.
 *
 * GCC's generic vectors, so the same source serves AVX-512, AVX2 and NEON. Functions are inlined into callers that pass
 * `dtype` as a constant.
 */
#pragma once
#include <float.h>
#include <stdint.h>
#include <string.h>
#if defined(__AVX512BF16__) || defined(__AVX2__)
#include <immintrin.h>
#endif

typedef float v16f __attribute__((vector_size(64)));
typedef int32_t v16i __attribute__((vector_size(64)));
typedef uint32_t v16u __attribute__((vector_size(64)));
typedef uint16_t v16h __attribute__((vector_size(32)));
typedef int16_t v16s __attribute__((vector_size(32)));
typedef int16_t v32s __attribute__((vector_size(64)));
typedef int8_t v16b __attribute__((vector_size(16)));
typedef int8_t v32b __attribute__((vector_size(32)));

enum { LANES = 16 };
enum { FLOAT32 = 0, BFLOAT16 = 1, INT8 = 2 }; /* int8 is how a cache may store numbers, no dtype of a model */

#define INLINE static inline __attribute__((always_inline))

/* How many neighbouring values along a reduction share a 32-bit lane, with integers widened to 16 bits. */
#define PAIR(dtype) ((dtype) == FLOAT32 ? 1 : 2)
#define BYTES(dtype) ((dtype) == INT8 ? 1 : (dtype) == BFLOAT16 ? 2 : 4)

INLINE v16f broadcast(float value) { return value - (v16f){0}; }

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

/* To bfloat16 by rounding to nearest even, as torch does; what is no number stays none. */
INLINE v16h to_bfloat16(v16f value) {
    const v16u bits = (v16u)value;
    const v16u rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    const v16u is_number = (v16u)(value == value);
    return __builtin_convertvector((rounded & is_number) | (0x7fc0 & ~is_number), v16h);
}

INLINE void store(void *base, int64_t index, v16f value, const int dtype) {
    if (dtype == BFLOAT16) {
        const v16h half = to_bfloat16(value);
        memcpy((uint16_t *)base + index, &half, sizeof half);
    } else {
        memcpy((float *)base + index, &value, sizeof value);
    }
}

INLINE float load_one(const void *base, int64_t index, const int dtype) {
    if (dtype == BFLOAT16) {
        const uint32_t bits = (uint32_t)((const uint16_t *)base)[index] << 16;
        float value;
        memcpy(&value, &bits, sizeof value);
        return value;
    }
    return ((const float *)base)[index];
}

INLINE void store_one(void *base, int64_t index, float value, const int dtype) {
    if (dtype == BFLOAT16) ((uint16_t *)base)[index] = to_bfloat16(broadcast(value))[0];
    else ((float *)base)[index] = value;
}

INLINE v16f choose(v16i mask, v16f yes, v16f no) { return (v16f)(((v16i)yes & mask) | ((v16i)no & ~mask)); }

/* The larger one; what is no number wins. */
INLINE v16f larger(v16f a, v16f b) { return choose(a <= b, b, a); }

/* Over all lanes, in halves: 8 with 8, 4 with 4, 2 with 2, 1 with 1. */
#define OVER_LANES(value, JOIN)                                                                                       \
    do {                                                                                                              \
        value = JOIN(value, __builtin_shuffle(value, (v16i){8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7}));  \
        value = JOIN(value, __builtin_shuffle(value, (v16i){4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11}));  \
        value = JOIN(value, __builtin_shuffle(value, (v16i){2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13}));  \
        value = JOIN(value, __builtin_shuffle(value, (v16i){1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14}));  \
    } while (0)
#define PLUS(a, b) ((a) + (b))

INLINE float sum_lanes(v16f value) {
    OVER_LANES(value, PLUS);
    return value[0];
}

INLINE float largest_lane(v16f value) {
    OVER_LANES(value, larger);
    return value[0];
}

/* exp(x) = 2^n * 2^f with n the nearest integer; 2^f by its Taylor series to f^6, relative error below 2e-7.
 * x is taken to lie in [-87, 87]; what is no number stays none. */
INLINE v16f exp_lanes(v16f x) {
    const v16f above = choose(x < broadcast(-87.0f), broadcast(-87.0f), x);
    const v16f bounded = choose(above > broadcast(87.0f), broadcast(87.0f), above);
    const v16f scaled = bounded * 1.44269504f;
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

/* acc + a * b over the `PAIR(dtype)` values of each lane: `a` holds the same pair in all lanes. */
INLINE v16f multiply_add(v16f acc, const void *b, int64_t index, const void *a, int64_t at, const int dtype) {
    if (dtype == FLOAT32) return acc + load(b, index, FLOAT32) * ((const float *)a)[at];
#ifdef __AVX512BF16__
    int32_t pair;
    memcpy(&pair, (const uint16_t *)a + at, sizeof pair);
    const __m512i many = _mm512_loadu_si512((const uint16_t *)b + index);
    return (v16f)_mm512_dpbf16_ps((__m512)acc, (__m512bh)many, (__m512bh)_mm512_set1_epi32(pair));
#else
    v16u many;
    memcpy(&many, (const uint16_t *)b + index, sizeof many);
    acc += (v16f)(many << 16) * load_one(a, at, BFLOAT16);
    return acc + (v16f)(many & 0xffff0000u) * load_one(a, at + 1, BFLOAT16);
#endif
}

/* acc + a * b over the pair of integers of each lane, 16 bits in `a`, which holds the same pair in all lanes. Exact, as
 * long as the sum fits. */
INLINE v16i multiply_add_integers(v16i acc, const int8_t *b, const int16_t *a) {
    v32b bytes;
    int32_t pair;
    memcpy(&bytes, b, sizeof bytes);
    memcpy(&pair, a, sizeof pair);
#if defined(__AVX512VNNI__)
    const __m512i many = _mm512_cvtepi8_epi16((__m256i)bytes);
    return (v16i)_mm512_dpwssd_epi32((__m512i)acc, many, _mm512_set1_epi32(pair));
#elif defined(__AVX2__)
    const __m256i all = _mm256_set1_epi32(pair);
    const __m128i *half = (const __m128i *)&bytes;
    __m256i *sum = (__m256i *)&acc;
    for (int i = 0; i < 2; i++)
        sum[i] = _mm256_add_epi32(sum[i], _mm256_madd_epi16(_mm256_cvtepi8_epi16(half[i]), all));
    return acc;
#else
    const v16i many = (v16i)__builtin_convertvector(bytes, v32s);
    return acc + (many << 16 >> 16) * a[0] + (many >> 16) * a[1];
#endif
}

/* To the nearest integer, of two the even one; |x| below 2^22. */
INLINE v16i round_lanes(v16f x) {
    const v16f magic = broadcast(12582912.0f); /* as in exp_lanes */
    return __builtin_convertvector((x + magic) - magic, v16i);
}

/* x as integers of at most `most`, times the scale that is returned. What needs a scale below the normal numbers
 * becomes zero. */
INLINE float quantise(const void *x, int64_t index, int64_t size, int16_t *integers, float most, const int dtype) {
    v16f largest = {0};
    for (int64_t i = 0; i < size; i += LANES) {
        const v16f v = load(x, index + i, dtype);
        largest = larger(choose(v < broadcast(0.0f), -v, v), largest);
    }
    const float scale = largest_lane(largest) / most;
    const float divisor = scale < FLT_MIN ? __builtin_inff() : scale;
    for (int64_t i = 0; i < size; i += LANES) {
        const v16s small = __builtin_convertvector(round_lanes(load(x, index + i, dtype) / divisor), v16s);
        memcpy(integers + i, &small, sizeof small);
    }
    return scale;
}
