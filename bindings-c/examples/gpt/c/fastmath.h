/* exp that compilers turn into vector code. */
#ifndef GPT_FASTMATH_H
#define GPT_FASTMATH_H

#include "real.h"
#include <math.h>
#include <stdint.h>
#include <string.h>

#ifdef GPT_DOUBLE

static inline real fast_exp(real x) { return exp(x); }

#else

/* exp(x) with a relative error below 3e-7 where the result is a normal float; x is clamped to [-87, 88], NaN is not preserved.
 *
 * Method: x = k log 2 + r with |r| <= log(2) / 2, a polynomial for exp(r), and k put into the exponent bits. log 2 is split in two so that
 * k log 2 is exact. No branch and no library call: a loop over it vectorises. */
static inline real fast_exp(real x) {
    x = x < -87.0f ? -87.0f : x;
    x = x > 88.0f ? 88.0f : x;
    const int32_t biased = (int32_t)(x * 1.44269504f + 127.5f); /* positive: truncation rounds x / log 2 to the nearest */
    const float kf = (float)(biased - 127);
    const float r = (x - kf * 0.693359375f) - kf * -2.12194440e-4f;
    float y = 1.9875691500e-4f; /* minimax coefficients of Cephes' expf */
    y = y * r + 1.3981999507e-3f;
    y = y * r + 8.3334519073e-3f;
    y = y * r + 4.1665795894e-2f;
    y = y * r + 1.6666665459e-1f;
    y = y * r + 5.0000001201e-1f;
    y = (y * r) * r + r + 1.0f;
    const int32_t bits = (int32_t)((uint32_t)biased << 23);
    float power;
    memcpy(&power, &bits, sizeof power);
    return y * power;
}

#endif
#endif
