/* y (num_rows, num_outputs) = x (num_rows, num_inputs) @ w.T + bias: w packed as in matmul.h, bias float32 or NULL.
 *
 * With several heads, each has a weight of its own and its own part of a row: x (num_rows, num_heads, num_inputs),
 * y (num_rows, num_heads, num_outputs), w head after head, bias (num_heads, num_outputs).
 */
#include "matmul.h"

INLINE void linear(const void *x, const void *panels, const float *bias, void *y, int64_t num_rows, int64_t num_heads,
                   int64_t num_inputs, int64_t num_outputs, int num_threads, const int dtype) {
    const int64_t num_panels = (num_outputs + PANEL - 1) / PANEL;
    const int64_t step = rows_of_unit(num_threads, num_heads * num_panels, num_rows);
    const int64_t cuts = (num_rows + step - 1) / step;
    #pragma omp parallel for schedule(dynamic, 1) num_threads(num_threads)
    for (int64_t unit = 0; unit < num_heads * num_panels * cuts; unit++) {
        const int64_t head = unit / cuts / num_panels, column = unit / cuts % num_panels * PANEL;
        const int64_t from = unit % cuts * step;
        const int64_t to = from + step < num_rows ? from + step : num_rows;
        const int64_t width = num_outputs - column < PANEL ? num_outputs - column : PANEL;
        const char *panel = (const char *)panels + (head * num_panels * PANEL + column) * num_inputs * BYTES(dtype);
        const float *added = bias ? bias + head * num_outputs + column : 0;
        for (int64_t row = from; row < to; row += MAX_ROWS) {
            const int64_t count = to - row < MAX_ROWS ? to - row : MAX_ROWS;
            v16f tile[MAX_ROWS][PANEL_VECTORS];
            multiply(count, (const char *)x + (row * num_heads + head) * num_inputs * BYTES(dtype),
                     num_heads * num_inputs, panel, num_inputs, tile, dtype);
            for (int64_t r = 0; r < count; r++)
                for (int64_t c = 0; c < width; c += LANES) {
                    const int64_t at = ((row + r) * num_heads + head) * num_outputs + column + c;
                    v16f sum = tile[r][c / LANES];
                    if (width - c >= LANES) {
                        if (added) sum += load(added, c, FLOAT32);
                        store(y, at, sum, dtype);
                    } else
                        for (int64_t i = 0; i < width - c; i++)
                            store_one(y, at + i, sum[i] + (added ? added[c + i] : 0.0f), dtype);
                }
        }
    }
}

void outrider_linear(const void *x, const void *panels, const float *bias, void *y, int64_t num_rows, int64_t num_heads,
                     int64_t num_inputs, int64_t num_outputs, int64_t dtype, int64_t num_threads) {
    if (dtype == BFLOAT16)
        linear(x, panels, bias, y, num_rows, num_heads, num_inputs, num_outputs, (int)num_threads, BFLOAT16);
    else
        linear(x, panels, bias, y, num_rows, num_heads, num_inputs, num_outputs, (int)num_threads, FLOAT32);
}
