/* Vectors of sixteen floats, and how they meet memory in float32 or bfloat16.
 *
 * GCC's generic vectors, so the same source serves AVX-512, AVX2 and NEON. Functions are inlined into callers that pass
 * `dtype` as a constant.
 */
#pragma once
#include <stdint.h>
#include <string.h>
#ifdef __AVX512BF16__
#include <immintrin.h>
#endif

typedef float v16f __attribute__((vector_size(64)));
typedef int32_t v16i __attribute__((vector_size(64)));
typedef uint32_t v16u __attribute__((vector_size(64)));
typedef uint16_t v16h __attribute__((vector_size(32)));

enum { LANES = 16 };
enum { FLOAT32 = 0, BFLOAT16 = 1 };

#define INLINE static inline __attribute__((always_inline))

/* How many neighbouring values along a reduction share a 32-bit lane. */
#define PAIR(dtype) ((dtype) == BFLOAT16 ? 2 : 1)
#define BYTES(dtype) ((dtype) == BFLOAT16 ? 2 : 4)

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
