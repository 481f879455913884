/* Random numbers: xorshift32, as digits/src/random.rs. */
#ifndef RANDOM_H
#define RANDOM_H

#include <stdint.h>

typedef uint32_t random_source; /* Starts with a seed other than 0. */

static inline uint32_t random_next(random_source *r) {
    *r ^= *r << 13;
    *r ^= *r >> 17;
    *r ^= *r << 5;
    return *r;
}

/* In [-1, 1). */
static inline float random_uniform(random_source *r) { return (float)(random_next(r) >> 8) / 8388608.0f - 1.0f; }

/* Below n. */
static inline uint32_t random_below(random_source *r, uint32_t n) { return (uint32_t)(((uint64_t)random_next(r) * n) >> 32); }

#endif
