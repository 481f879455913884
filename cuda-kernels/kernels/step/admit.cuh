// Which items are stepped, and how: the check of the gradient, the header of after the step, bias corrections, the first eigenvalue.
#pragma once
#include "math.cuh"
#include "reduce.cuh"

// The core's bias corrections. `beta^age` is formed in double precision.
__device__ __forceinline__ float kls_weights_sum(float beta, double age) { return (float)(1.0 - pow((double)beta, age)); }

__device__ inline void kls_correct(const kls_step_params &p, kls_scalars &s, const kls_header &header) {
    const uint64_t skipped = header.started != 0 && p.factors_only;
    const double age = (double)(header.step - skipped);
    s.numerator = s.second = s.factor = 1.0f;
    if (p.correction == KLS_CORRECTION_NONE) return;
    const double ahead = p.numerator == KLS_NUMERATOR_NESTEROV ? 1 : 0;
    const float numerator = p.numerator == KLS_NUMERATOR_GRADIENT ? 1.0f : 1.0f / kls_weights_sum(p.beta1, age + ahead);
    if (p.correction == KLS_CORRECTION_STEP_SIZE) {
        s.numerator = numerator * sqrtf(kls_weights_sum(p.beta2, age));
        return;
    }
    s.numerator = numerator;
    s.second = 1.0f / kls_weights_sum(p.beta2, age);
    // The factors have averaged a gradient in a first step of factors only too.
    if (p.factors_only || !p.starts_from_lambda) s.factor = 1.0f / kls_weights_sum(p.beta2, (double)header.step);
}

// log2 of the largest gain of the estimates on squares of the gradient: of all modes but the one with the least to add.
__device__ inline int kls_gain_log2(const kls_step_params &p, uint32_t item, bool started) {
    int sum = 0, least = 0x7fffffff;
    const int floor = kls_exponent(p.floor);
    for (uint32_t k = 0; k < p.order; k++) {
        if (p.modes[k] == KLS_IDENTITY) continue;
        int gain = 0;
        if (started) {
            if (!p.has_lambda) continue;
            if (p.weighting == KLS_WEIGHT_INVERSE_ROOT) {
                int exponent = 0x7fffffff;
                kls_own_of(p.lambda[k].of(item), p.dims[k], [&](uint32_t, float x) { exponent = kls_least()(exponent, kls_exponent(x)); });
                gain = -kls_reduce(exponent, kls_least());
            } else if (p.divisor != KLS_DIVISOR_NONE) {
                int exponent = floor;
                const bool of_factor = p.by_factors && p.modes[k] == KLS_FULL;
                kls_own_of((of_factor ? p.factor[k] : p.lambda[k]).of(item), of_factor ? kls_triangle(p.dims[k]) : p.dims[k],
                           [&](uint32_t, float x) { exponent = kls_largest()(exponent, kls_exponent(x)); });
                gain = -kls_reduce(exponent, kls_largest());
            }
        } else {
            // A scale-free first eigenvalue brings the gradient nearer to 1.
            if (p.scale_free) continue;
            const int exponent = kls_exponent(kls_larger(p.first_lambda, p.floor));
            const int power = p.divisor == KLS_DIVISOR_NONE && p.weighting == KLS_WEIGHT_ONE ? 0
                              : p.divisor == KLS_DIVISOR_SQUARES && p.factors_only           ? 2
                                                                                             : 1;
            gain = power * (exponent < 0 ? -exponent : exponent);
        }
        sum += gain;
        least = kls_least()(least, gain);
    }
    return least == 0x7fffffff ? 0 : sum - least;
}

// (mean square)^(1/K')
__device__ __forceinline__ float kls_scale_free_lambda(const kls_step_params &p, double squares) {
    const double mean = squares / p.elements;
    return (float)(p.preconditioned_modes == 1 ? mean : p.preconditioned_modes == 2 ? sqrt(mean) : pow(mean, 1.0 / p.preconditioned_modes));
}

// The measure of what has been measured before it was clipped. Each element is rounded on its own when it is read, so the largest one comes out
// a little larger than it may be.
__device__ __forceinline__ kls_measure kls_clipped(kls_measure m, float factor) {
    if (m.largest >= __float_as_uint(kls_infinity())) return m;
    m.sum *= (double)factor * (double)factor;
    m.largest = __float_as_uint(__uint_as_float(m.largest) * (factor * 1.000001f));
    return m;
}

// Whether the update of an item in one pass stays in range, as follows from the largest element of its gradient and a bound on its momentum,
// which becomes that of after this step. Sums, products and quotients are rounded monotonically, so that numbers that are no larger become none
// that are larger; denominators are at least what they are without a second moment.
__device__ __forceinline__ bool kls_prove(const kls_step_params &p, const kls_scalars &s, bool preconditions, uint32_t item, float largest) {
    const float before = p.bounds[item], after = p.numerator == KLS_NUMERATOR_GRADIENT ? before : kls_average(p.beta1, before, largest);
    const float numerator = kls_numerator(p.numerator, p.beta1, after, largest);
    const float most = kls_divide(p, kls_divisor_of(p, s, preconditions), numerator, 0.0f, 1.0f);
    // Where nothing is known of the state, the check of the update finds a bound.
    p.bounds[item] = kls_is_finite(before) ? kls_larger(before, after) : 0.0f;
    return kls_is_finite(before) && kls_stays_in_range(most, kls_value(p.lr));
}

// The flags at the start of a step: who has a gradient, and for whom (`first` and the number of blocks) a refresh is due: the bits in `option`.
KLS_FLAT_KERNEL(kls_step_begin, kls_step_params, KLS_BLOCK) {
    const uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= p.mode) return;
    const uint32_t item = p.first + i;
    p.flags[item] = (p.grads[p.places[item].tensor] ? KLS_PRESENT : 0) | p.option;
}

KLS_KERNEL(kls_step_admit, kls_step_params, KLS_BLOCK) {
    const uint32_t item = kls_step_item(p);
    if (!kls_step_takes(p, item)) return;
    const kls_header header = p.headers[item];
    const bool began = header.started != 0;
    const kls_measure measure = p.clip ? kls_clipped(p.gradient_measure[item], *p.clip) : p.gradient_measure[item];
    const int gain = kls_gain_log2(p, item, began);
    // Every thread has looked at the flags before one changes them.
    __syncthreads();
    if (threadIdx.x != 0) return;
    const float lr = kls_value(p.lr), largest = __uint_as_float(measure.largest);
    const bool zero = measure.largest == 0;
    bool usable = kls_is_finite(largest) && kls_is_finite(lr) && lr >= 0;
    if (usable && !zero) usable = ilogb(measure.sum) + (gain > 0 ? gain : 0) < KLS_NORM_LIMIT_LOG2;
    if (!usable) {
        kls_count(&p.headers[item].skipped, 1);
        return;
    }
    kls_header next = header;
    kls_scalars s;
    const uint32_t old = p.flags[item];
    uint32_t flags = KLS_PRESENT | KLS_ACTIVE;
    next.step++;
    const bool starting = !began && p.preconditioned_modes > 0, turned = p.full_modes > 0;
    if (starting) {
        if (zero) {
            // Nothing to estimate a basis from, and a zero momentum: only weight decay acts.
            flags |= p.factors_only && next.step == 1 ? KLS_RESTS : KLS_DECAYS;
        } else {
            flags |= KLS_STARTING | (p.factors_only ? KLS_RESTS : KLS_RUNS);
            next.started = 1;
            if (turned && p.rests_at_first) flags |= KLS_RESTS;
        }
    } else {
        flags |= KLS_RUNS;
    }
    const bool due = (flags & KLS_RUNS) && (old & (starting ? KLS_DUE_AT_START : KLS_DUE));
    if (p.identity_first == 0 || header.last_refresh > 0 || (due && !p.apply_first)) flags |= KLS_PRECONDITIONS;
    if (due) {
        flags |= KLS_DUE;
        next.last_refresh = next.step;
        next.postponed = 0;
        if (turned && (next.refreshes / p.full_modes + 1) % p.polish_period == 0) flags |= KLS_POLISHES;
    }
    kls_correct(p, s, next);
    s.normaliser = kls_exp2i(zero ? 0 : -kls_exponent(largest));
    s.lambda = kls_larger(p.scale_free ? kls_scale_free_lambda(p, measure.sum) : p.first_lambda, p.floor);
    if (p.bounds && !kls_prove(p, s, flags & KLS_PRECONDITIONS, item, largest)) flags |= KLS_UNPROVEN;
    p.lengths[item] = 1.0f;
    for (uint32_t k = 0; k < KLS_MODES; k++) s.alpha[k] = p.scale[k], s.norm[k] = 1.0f;
    p.next[item] = next;
    p.scalars[item] = s;
    p.flags[item] = flags;
}
