/* The model's number type. Training runs in float; the gradient check is compiled a second time with -DGPT_DOUBLE, where finite
 * differences are exact enough to test every element. */
#ifndef GPT_REAL_H
#define GPT_REAL_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#ifdef GPT_DOUBLE
typedef double real;
#else
typedef float real;
#endif

/* By the exponent's bits: the program is compiled with -ffinite-math-only, under which isfinite() is always true. */
static inline bool is_finite(double x) {
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    return (bits >> 52 & 0x7FF) != 0x7FF;
}

#endif
