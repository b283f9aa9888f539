/* Products of a few rows with a packed weight matrix.
 *
 * A weight (num_outputs, num_inputs) is packed into panels of 64 outputs, each (num_inputs / P, 64, P) with P = 2
 * values of bfloat16 or 1 of float32 in a 32-bit lane; outputs beyond the last are zero. Every output is one sum in the
 * order of its inputs, whatever the number of rows: a row's bits do not depend on the rows beside it.
 */
#pragma once
#include "vectors.h"

enum { PANEL = 64, PANEL_VECTORS = PANEL / LANES, MAX_ROWS = 6 };

/* As many sums as the registers hold beside the weights: 6 x 4 of the 32 of AVX-512, else one vector of columns. */
#ifdef __AVX512F__
enum { VECTORS_AT_ONCE = PANEL_VECTORS };
#else
enum { VECTORS_AT_ONCE = 1 };
#endif

INLINE void multiply_exactly(const int rows, const void *x, int64_t stride, const void *panel, int64_t num_inputs,
                             v16f out[MAX_ROWS][PANEL_VECTORS], const int dtype) {
    for (int first = 0; first < PANEL_VECTORS; first += VECTORS_AT_ONCE) {
        v16f sum[MAX_ROWS][VECTORS_AT_ONCE];
        for (int r = 0; r < rows; r++)
            for (int v = 0; v < VECTORS_AT_ONCE; v++) sum[r][v] = (v16f){0};
        for (int64_t k = 0; k < num_inputs; k += PAIR(dtype))
            for (int r = 0; r < rows; r++)
                for (int v = 0; v < VECTORS_AT_ONCE; v++)
                    sum[r][v] = multiply_add(sum[r][v], panel, k * PANEL + (first + v) * LANES * PAIR(dtype), x,
                                             r * stride + k, dtype);
        for (int r = 0; r < rows; r++)
            for (int v = 0; v < VECTORS_AT_ONCE; v++) out[r][first + v] = sum[r][v];
    }
}

/* Functions of their own: inlined into a larger one, the sums would not stay in registers. */
#define MULTIPLY(ROWS, DTYPE)                                                                                         \
    static __attribute__((noinline)) void multiply_##ROWS##_##DTYPE(const void *x, int64_t stride, const void *panel, \
                                                                    int64_t num_inputs,                               \
                                                                    v16f out[MAX_ROWS][PANEL_VECTORS]) {              \
        multiply_exactly(ROWS, x, stride, panel, num_inputs, out, DTYPE);                                             \
    }
#define MULTIPLY_ANY(DTYPE)                                                                                           \
    MULTIPLY(1, DTYPE) MULTIPLY(2, DTYPE) MULTIPLY(3, DTYPE) MULTIPLY(4, DTYPE) MULTIPLY(5, DTYPE) MULTIPLY(6, DTYPE) \
    static const multiply_rows multiply_##DTYPE[MAX_ROWS + 1] = {0,                                                   \
                                                                 multiply_1_##DTYPE, multiply_2_##DTYPE,              \
                                                                 multiply_3_##DTYPE, multiply_4_##DTYPE,              \
                                                                 multiply_5_##DTYPE, multiply_6_##DTYPE};

typedef void (*multiply_rows)(const void *, int64_t, const void *, int64_t, v16f[MAX_ROWS][PANEL_VECTORS]);
MULTIPLY_ANY(FLOAT32)
MULTIPLY_ANY(BFLOAT16)

/* out[r] = the 64 outputs of row r; 1 to MAX_ROWS rows, `stride` values apart. */
INLINE void multiply(int64_t rows, const void *x, int64_t stride, const void *panel, int64_t num_inputs,
                     v16f out[MAX_ROWS][PANEL_VECTORS], const int dtype) {
    (dtype == BFLOAT16 ? multiply_BFLOAT16 : multiply_FLOAT32)[rows](x, stride, panel, num_inputs, out);
}

/* How many rows of a panel are one unit of work: all, or fewer where panels are few beside the threads. */
INLINE int64_t rows_of_unit(int num_threads, int64_t num_panels, int64_t num_rows) {
    if (num_rows == 0) return MAX_ROWS;
    const int64_t cuts = (4 * num_threads + num_panels - 1) / num_panels;
    const int64_t rows = (num_rows + cuts - 1) / cuts;
    return (rows + MAX_ROWS - 1) / MAX_ROWS * MAX_ROWS;
}
