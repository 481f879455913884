/* Random numbers that are the same on every machine: SplitMix64. */
#ifndef GPT_RNG_H
#define GPT_RNG_H

#include <math.h>
#include <stdint.h>

typedef struct {
    uint64_t state;
} rng;

static inline uint64_t rng_next(rng *r) {
    uint64_t z = (r->state += 0x9E3779B97F4A7C15u);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

/* Independent streams of one seed. */
static inline rng rng_stream(uint64_t seed, uint64_t stream) {
    rng r = {seed};
    r.state = rng_next(&r) + stream;
    r.state = rng_next(&r);
    return r;
}

/* Uniform in [0, 1). */
static inline double rng_uniform(rng *r) { return (double)(rng_next(r) >> 11) * 0x1p-53; }

/* Standard normal, by Box and Muller. */
static inline double rng_normal(rng *r) {
    const double radius = sqrt(-2 * log(1 - rng_uniform(r)));
    return radius * cos(6.283185307179586 * rng_uniform(r));
}

#endif
