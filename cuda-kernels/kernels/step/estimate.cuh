// The estimate: weights, c_k, what modes without a factor see of the gradient, and the eigenvalues of after the step.
#pragma once
#include "math.cuh"
#include "reduce.cuh"

__device__ __forceinline__ float kls_norm_of(const float *lambda, uint32_t count) {
    double sum = 0;
    kls_own_of(lambda, count, [&](uint32_t, float x) { sum += (double)x * (double)x; });
    return (float)sqrt(kls_reduce(sum, kls_sum()));
}

__device__ __forceinline__ float kls_sum_of(const float *values, uint32_t count) {
    double sum = 0;
    kls_own_of(values, count, [&](uint32_t, float x) { sum += (double)x; });
    return (float)kls_reduce(sum, kls_sum());
}

// The weights of all modes from the eigenvalues of before this step, or of the modes in `option` from those of after it, and c_k.
KLS_KERNEL(kls_step_weigh, kls_step_params, KLS_BLOCK) {
    const uint32_t item = kls_step_item(p);
    if (!kls_step_takes(p, item)) return;
    float divisors[KLS_MODES];
    for (uint32_t k = 0; k < p.order; k++) {
        divisors[k] = 1.0f;
        if (p.modes[k] == KLS_IDENTITY) {
            // Its weight is 1, not normalised.
            divisors[k] = (float)p.dims[k];
            continue;
        }
        if (!p.has_lambda) continue;
        const float *lambda = (p.option >> k & 1 ? p.new_lambda[k] : p.lambda[k]).of(item);
        float *weight = p.weight[k].of(item), norm = 1.0f;
        if (p.divisor == KLS_DIVISOR_SUM) divisors[k] = kls_sum_of(lambda, p.dims[k]);
        if (p.divisor == KLS_DIVISOR_SQUARES) norm = divisors[k] = kls_norm_of(lambda, p.dims[k]);
        if (p.by_factors && p.modes[k] == KLS_FULL) divisors[k] = p.scalars[item].norm[k];
        kls_own_of(lambda, p.dims[k], [&](uint32_t i, float x) { weight[i] = kls_weight(p.weighting, x / norm); });
    }
    if (threadIdx.x != 0) return;
    for (uint32_t k = 0; k < p.order; k++) {
        float alpha = p.scale[k];
        if (p.divisor != KLS_DIVISOR_NONE)
            for (uint32_t j = 0; j < p.order; j++)
                if (j != k) alpha /= kls_larger(divisors[j], p.floor);
        p.scalars[item].alpha[k] = alpha;
    }
}

// F-Shampoo variant 1: S~_k of mode `p.mode`, both triangles, in the place of the new basis.
KLS_FLAT_KERNEL(kls_step_unpack, kls_step_params, 256) {
    const uint32_t item = kls_step_item(p), d = p.dims[p.mode];
    if (!kls_step_takes(p, item)) return;
    const float *factor = p.factor[p.mode].of(item);
    float *out = p.new_basis[p.mode].of(item);
    KLS_EACH(i, (uint64_t)d * d) {
        const uint32_t row = (uint32_t)i / d, column = (uint32_t)i - row * d;
        const uint64_t high = row < column ? column : row, low = row < column ? row : column;
        out[i] = factor[high * (high + 1) / 2 + low];
    }
}

// The same over its norm, which has been measured; I / sqrt(d) of a factor of zero.
KLS_FLAT_KERNEL(kls_step_normalise_factor, kls_step_params, 256) {
    const uint32_t item = kls_step_item(p), d = p.dims[p.mode];
    if (!kls_step_takes(p, item)) return;
    float *square = p.new_basis[p.mode].of(item);
    const kls_measure measure = p.other_measure[item];
    const double norm = sqrt(measure.sum);
    const bool first = blockIdx.x % p.blocks == 0 && threadIdx.x == 0;
    if (measure.largest == 0) {
        KLS_EACH(i, (uint64_t)d * d) square[i] = (uint32_t)i % (d + 1) == 0 ? 1.0f / sqrtf((float)d) : 0.0f;
    } else {
        // Brought near 1 first: a tiny norm is no normal number, and its inverse would leave the range.
        const float scale = kls_exp2i(-kls_exponent(__uint_as_float(measure.largest)));
        const float scaled = (float)(norm * scale);
        KLS_EACH(i, (uint64_t)d * d) square[i] = square[i] * scale / scaled;
    }
    if (first) p.scalars[item].norm[p.mode] = (float)norm;
}

// diag(Delta_k) of a mode without a factor but for c_k: sums over all elements with one index of squares of the weighted gradient, or with
// `by_products` of products of `aside` and y, in `splits` parts. `option`: the modes that weigh.
__device__ __forceinline__ float kls_square_of(const kls_step_params &p, uint32_t item, const float *x, uint32_t i) {
    const kls_row_and_last w = kls_tables_at(p, item, p.option, i);
    const float y = x[i] * w.prefix * w.last;
    return y * y;
}

template <class F> __device__ void kls_sums(const kls_step_params &p, uint32_t item, F &&f) {
    const uint32_t k = p.mode, d = p.dims[k], left = kls_left(p, k), right = kls_right(p, k), splits = p.splits[k];
    float *out = p.diagonal[k].of(item);
    const uint32_t block = blockIdx.x % p.blocks;
    __shared__ float all[256];
    if (right == 1) {
        // A row has one element of each sum: 32 neighbouring sums by eight threads each.
        const uint32_t tile = block / splits, split = block % splits;
        const uint32_t i = tile * 32 + threadIdx.x % 32;
        float sum = 0;
        if (i < d)
            for (uint64_t l = split * 8 + threadIdx.x / 32; l < left; l += 8 * splits) sum += f((uint32_t)(l * d + i));
        all[threadIdx.x] = sum;
        __syncthreads();
        if (threadIdx.x < 32 && i < d) {
            for (uint32_t j = 1; j < 8; j++) sum += all[j * 32 + threadIdx.x];
            out[split * d + i] = sum;
        }
        return;
    }
    const uint32_t i = block / splits, split = block % splits;
    const uint64_t count = (uint64_t)left * right;
    float sum = 0;
    for (uint64_t e = (uint64_t)split * 256 + threadIdx.x; e < count; e += 256ull * splits) {
        const uint32_t l = (uint32_t)(e / right), r = (uint32_t)(e - (uint64_t)l * right);
        sum += f((l * d + i) * right + r);
    }
    all[threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.x < 16) {
        for (uint32_t j = 1; j < 16; j++) sum += all[j * 16 + threadIdx.x];
        all[threadIdx.x] = sum;
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        for (uint32_t j = 1; j < 16; j++) sum += all[j];
        out[split * d + i] = sum;
    }
}

KLS_KERNEL(kls_step_sums_of_squares, kls_step_params, 256) {
    const uint32_t item = kls_step_item(p);
    if (!kls_step_takes(p, item)) return;
    const float *x = p.gradient.of(item);
    kls_sums(p, item, [&](uint32_t i) { return kls_square_of(p, item, x, i); });
}

// `option`: whether y is the weighted gradient, in the product's place, or the gradient.
KLS_KERNEL(kls_step_sums_of_products, kls_step_params, 256) {
    const uint32_t item = kls_step_item(p);
    if (!kls_step_takes(p, item)) return;
    const float *x = p.aside.of(item), *y = (p.option ? p.product : p.gradient).of(item);
    kls_sums(p, item, [&](uint32_t i) { return x[i] * y[i]; });
}

// Bounds the eigenvalues of a mode from below and counts those that are raised.
__device__ __forceinline__ uint32_t kls_raise(float *lambda, uint32_t d, float lowest, float noise) {
    uint32_t count = 0;
    kls_own_of(lambda, d, [&](uint32_t i, float x) {
        const float value = kls_larger(x, noise);
        count += value < lowest;
        lambda[i] = kls_larger(value, lowest);
    });
    return count;
}

// The same of eigenvalues that have just been read off a factor: at least what they cannot be told from, the rounding of the largest of them.
__device__ __forceinline__ uint32_t kls_settle(float *lambda, uint32_t d, float lowest) {
    float largest = 0;
    kls_own_of(lambda, d, [&](uint32_t, float x) { largest = kls_larger(largest, x); });
    return kls_raise(lambda, d, lowest, KLS_EPSILON * kls_reduce(largest, kls_largest()));
}

__device__ __forceinline__ void kls_count_raised(const kls_step_params &p, kls_header &header, uint32_t count) {
    const uint32_t all = kls_reduce(count, kls_sum());
    if (threadIdx.x == 0) kls_count(p.clamps ? &header.clamped : &header.floored, all);
}

// Bits of `option` from here on: modes whose diag(Delta) is to be taken from sums, whether they have a factor or not.
constexpr uint32_t KLS_BY_SUMS = 1u << 8;

// diag(Delta_k) but for c_k, of a group of this thread's indices.
__device__ __forceinline__ void kls_diagonals_of(const kls_step_params &p, uint32_t item, uint32_t k, uint32_t first, float out[KLS_GROUP]) {
    const uint32_t d = p.dims[k];
    for (uint32_t j = 0; j < KLS_GROUP; j++) out[j] = 0;
    if (p.modes[k] == KLS_FULL && !(p.option & KLS_BY_SUMS << k)) {
        const float *delta = p.delta[k].of(item);
        kls_each_of_group(first, d, [&](uint32_t j, uint32_t i) { out[j] = delta[i * ((uint64_t)d + 1)]; });
        return;
    }
    const float *part = p.diagonal[k].of(item);
    for (uint32_t split = 0; split < p.splits[k]; split++, part += d)
        kls_each_of_group(first, d, [&](uint32_t j, uint32_t i) { out[j] += part[i]; });
}

// The eigenvalues of after this step, before any refresh, of the modes in `option`, and whether nothing left the range in the estimate.
KLS_KERNEL(kls_step_eigenvalues, kls_step_params, KLS_BLOCK) {
    const uint32_t item = kls_step_item(p);
    if (!kls_step_takes(p, item)) return;
    const bool starting = p.flags[item] & KLS_STARTING;
    const kls_scalars &s = p.scalars[item];
    uint32_t broken = 0;
    for (uint32_t k = 0; k < p.order; k++) {
        if (p.modes[k] == KLS_IDENTITY || !(p.option >> k & 1)) continue;
        const bool full = p.modes[k] == KLS_FULL;
        const uint32_t d = p.dims[k];
        const float alpha = s.alpha[k];
        if (!p.has_lambda) {
            if (!full) continue;
            KLS_OWN_GROUPS(first, d) {
                float diagonal[KLS_GROUP];
                kls_diagonals_of(p, item, k, first, diagonal);
                kls_each_of_group(first, d, [&](uint32_t j, uint32_t) { broken |= !kls_is_finite(alpha * diagonal[j]); });
            }
            continue;
        }
        const float *old = p.lambda[k].of(item), *factor = p.factor[k].of(item);
        float *lambda = p.new_lambda[k].of(item);
        const bool keeps = p.eigenvalues == KLS_AT_REFRESH && full && !starting, reads = p.eigenvalues != KLS_AVERAGE && full;
        const bool of_factor = reads && !keeps;
        const float *from = of_factor ? factor : old, correction = of_factor ? s.factor : 1.0f;
        KLS_OWN_GROUPS(first, d) {
            float diagonal[KLS_GROUP], before[KLS_GROUP] = {};
            kls_diagonals_of(p, item, k, first, diagonal);
            kls_each_of_group(first, d, [&](uint32_t j, uint32_t i) { before[j] = from[of_factor ? (uint64_t)i * (i + 3) / 2 : i]; });
            kls_each_of_group(first, d, [&](uint32_t j, uint32_t i) {
                const float fresh = alpha * diagonal[j];
                const float x = keeps ? before[j] : kls_average(p.beta2, before[j], fresh) * correction;
                broken |= !kls_is_finite(fresh) || !kls_is_finite(x);
                lambda[i] = x;
            });
        }
        if (keeps) continue;
        kls_count_raised(p, p.next[item], reads ? kls_settle(lambda, d, p.lowest[k]) : kls_raise(lambda, d, p.lowest[k], 0.0f));
    }
    broken = kls_reduce(broken, kls_largest());
    if (broken && threadIdx.x == 0) p.flags[item] |= KLS_FAILED;
}
