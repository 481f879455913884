// The first gradient that is not zero: it sets the eigenbasis and the first eigenvalues.
#pragma once
#include "estimate.cuh"

// First eigenvalues, and where they are from the start the factors and bases too.
KLS_FLAT_KERNEL(kls_step_start, kls_step_params, 256) {
    const uint32_t item = kls_step_item(p), k = p.mode, d = p.dims[k];
    if (!kls_step_takes(p, item)) return;
    const float first = p.scalars[item].lambda;
    if (p.has_lambda) {
        float *lambda = p.lambda[k].of(item);
        KLS_EACH(i, d) lambda[i] = first;
    }
    if (p.modes[k] != KLS_FULL) return;
    const bool factor = !p.factors_only && p.starts_from_lambda;
    KLS_EACH(i, (uint64_t)d * d) {
        const uint32_t row = (uint32_t)i / d, column = (uint32_t)i - row * d;
        if (p.identity_first) p.basis[k].of(item)[i] = row == column ? 1.0f : 0.0f;
        if (factor && column <= row) p.factor[k].of(item)[(uint64_t)row * (row + 1) / 2 + column] = row == column ? first : 0.0f;
    }
}

// Forgets what became of the mode before.
KLS_FLAT_KERNEL(kls_step_forget_turn, kls_step_params, KLS_BLOCK) {
    const uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= p.mode || !kls_step_takes(p, p.first + i)) return;
    p.flags[p.first + i] &= ~(KLS_TURN | KLS_TURNED);
}

// values = diag(Delta~): the gradient seen in the basis tells small eigenvalues from rounding better than its square did.
KLS_FLAT_KERNEL(kls_step_start_values, kls_step_params, 256) {
    const uint32_t item = kls_step_item(p), k = p.mode, d = p.dims[k];
    if (!kls_step_takes(p, item)) return;
    const float *square = p.delta[k].of(item);
    float *values = p.values.of(item);
    KLS_EACH(i, d) values[i] = square[i * ((uint64_t)d + 1)];
}

// The basis of mode k becomes the state's: the identity where the decomposition failed.
KLS_FLAT_KERNEL(kls_step_start_basis, kls_step_params, 256) {
    const uint32_t item = kls_step_item(p), k = p.mode, d = p.dims[k];
    if (!kls_step_takes(p, item)) return;
    const bool failed = p.flags[item] & KLS_TURNED;
    if (failed && blockIdx.x % p.blocks == 0 && threadIdx.x == 0) kls_count(&p.next[item].refresh_failures, 1);
    const float *from = p.new_basis[k].of(item);
    float *basis = p.basis[k].of(item);
    KLS_EACH(i, (uint64_t)d * d) basis[i] = failed ? ((uint32_t)i % (d + 1) == 0 ? 1.0f : 0.0f) : from[i];
}

// c_k where all eigenvalues are lambda.
__device__ __forceinline__ float kls_first_scale(const kls_step_params &p, uint32_t k, float lambda) {
    float scale = p.scale[k];
    for (uint32_t j = 0; j < p.order; j++) {
        if (j == k || p.divisor == KLS_DIVISOR_NONE) continue;
        const float d = (float)p.dims[j];
        scale /= p.modes[j] == KLS_IDENTITY ? d : p.divisor == KLS_DIVISOR_SUM ? d * lambda : d * lambda * lambda;
    }
    return scale;
}

// The factor of a first step of factors only: (1 - beta2) Delta_k, in its eigenbasis, or where there is none as it is (in the square).
KLS_KERNEL(kls_step_start_factor, kls_step_params, KLS_BLOCK) {
    const uint32_t item = kls_step_item(p), k = p.mode, d = p.dims[k];
    if (!kls_step_takes(p, item)) return;
    const bool decomposed = !(p.flags[item] & KLS_TURNED);
    const kls_scalars &s = p.scalars[item];
    const float weight = (1.0f - p.beta2) * kls_first_scale(p, k, s.lambda) / s.normaliser / s.normaliser;
    const bool broken = !kls_is_finite(weight * (float)p.elements);
    const float *values = p.values.of(item), *square = p.delta[k].of(item);
    float *factor = p.factor[k].of(item);
    for (uint32_t row = 0; row < d; row++)
        KLS_OWN(column, row + 1) {
            const float x = decomposed ? (row == column ? kls_larger(values[row] * weight, 0.0f) : 0.0f) : weight * square[(uint64_t)row * d + column];
            factor[(uint64_t)row * (row + 1) / 2 + column] = x;
        }
    if (decomposed && p.has_lambda && p.eigenvalues != KLS_AVERAGE) {
        float *lambda = p.lambda[k].of(item);
        kls_own_of(values, d, [&](uint32_t i, float x) { lambda[i] = weight * s.factor * x; });
        kls_count_raised(p, p.next[item], kls_settle(lambda, d, p.lowest[k]));
    }
    __syncthreads();
    if (broken && threadIdx.x == 0) p.flags[item] |= KLS_FAILED;
}
