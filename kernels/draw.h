#pragma once
#include <stdint.h>

/* How one row is drawn; kernels/sample.py has the same. */
struct draw {
    uint64_t seed;
    int64_t position;
    int64_t top_k;      /* 0 for all */
    double top_p, min_p; /* 1 and 0 for all */
    float temperature;   /* 0 for the highest score without noise */
    int32_t keeps_scores; /* whether the row is to hold what it was drawn from */
};
