// The end of a step: eigenvalues and header become those of after it, and the scale of the factors is balanced.
#pragma once
#include "math.cuh"
#include "reduce.cuh"

struct kls_mean_log2 {
    bool known;
    int mean;
};

// The mean binary exponent of a mode's eigenvalues, but for those at the floor: they say nothing of the scale of the others.
__device__ inline kls_mean_log2 kls_mean_log2_of(const kls_step_params &p, uint32_t item, uint32_t k) {
    const float *lambda = p.lambda[k].of(item);
    long long sum = 0;
    int count = 0;
    kls_own_of(lambda, p.dims[k], [&](uint32_t, float x) {
        if (x > p.floor) sum += kls_exponent(x), count++;
    });
    sum = kls_reduce(sum, kls_sum());
    count = kls_reduce(count, kls_sum());
    return {count > 0, count > 0 ? (int)(sum / count) : 0};
}

__device__ inline void kls_scale_mode(const kls_step_params &p, uint32_t item, uint32_t k, int log2) {
    float *lambda = p.lambda[k].of(item), *factor = p.factor[k].of(item);
    const float scale = kls_exp2i(log2);
    kls_own_of(lambda, p.dims[k], [&](uint32_t i, float x) { lambda[i] = kls_larger(x * scale, p.floor); });
    if (p.modes[k] == KLS_FULL) kls_own_of(factor, kls_triangle(p.dims[k]), [&](uint32_t i, float x) { factor[i] = x * scale; });
}

// Moves an even power of two between the mode with the largest and the one with the smallest mean eigenvalue.
__device__ inline void kls_rebalance(const kls_step_params &p, uint32_t item) {
    bool known = false;
    uint32_t low = 0, high = 0;
    int low_mean = 0, high_mean = 0;
    for (uint32_t k = 0; k < p.order; k++) {
        if (p.modes[k] == KLS_IDENTITY) continue;
        const kls_mean_log2 own = kls_mean_log2_of(p, item, k);
        if (!own.known) continue;
        if (!known || own.mean < low_mean) low = k, low_mean = own.mean;
        if (!known || own.mean >= high_mean) high = k, high_mean = own.mean;
        known = true;
    }
    if (!known || high_mean - low_mean <= 2) return;
    // The mean moves, but the largest must stay in range.
    int largest = -0x7fffffff;
    const auto look = [&](uint32_t, float x) { largest = kls_largest()(largest, kls_exponent(x)); };
    kls_own_of(p.lambda[low].of(item), p.dims[low], look);
    if (p.modes[low] == KLS_FULL) kls_own_of(p.factor[low].of(item), kls_triangle(p.dims[low]), look);
    largest = kls_reduce(largest, kls_largest());
    const int room = KLS_NORM_LIMIT_LOG2 - 1 - largest, shift = kls_least()(2 * ((high_mean - low_mean + 2) / 4), room & ~1);
    if (shift <= 0) return;
    if (threadIdx.x == 0) kls_count(&p.next[item].rebalanced, 1);
    kls_scale_mode(p, item, low, shift);
    kls_scale_mode(p, item, high, -shift);
}

KLS_KERNEL(kls_step_finish, kls_step_params, KLS_BLOCK) {
    const uint32_t item = kls_step_item(p);
    if (!kls_step_takes(p, item)) return;
    const uint32_t flags = p.flags[item];
    if (flags & KLS_FAILED) {
        if (threadIdx.x == 0) {
            kls_count(&p.headers[item].skipped, 1);
            if (p.bounds) p.bounds[item] = kls_infinity();
        }
        return;
    }
    if (flags & KLS_RUNS) {
        if (p.has_lambda)
            for (uint32_t k = 0; k < p.order; k++) {
                if (p.modes[k] == KLS_IDENTITY) continue;
                const float *from = p.new_lambda[k].of(item);
                float *lambda = p.lambda[k].of(item);
                kls_own_of(from, p.dims[k], [&](uint32_t i, float x) { lambda[i] = x; });
            }
        __syncthreads();
        if (p.gauge && p.preconditioned_modes > 1) kls_rebalance(p, item);
    }
    if (threadIdx.x == 0) p.headers[item] = p.next[item];
}
