// The arithmetic of single numbers, each as the core has it.
#pragma once
#include "../rank.cuh"
#include "params.cuh"

// Lower bound of every denominator.
constexpr float KLS_FLOOR = 1.0f / 9223372036854775808.0f;
// Squared norms stay below 2 to this power.
constexpr int KLS_NORM_LIMIT_LOG2 = 120;
constexpr float KLS_EPSILON = 1.1920929e-7f;

// The larger one, the first of equals and of those that do not compare.
__device__ __forceinline__ float kls_larger(float a, float b) { return a < b ? b : a; }
__device__ __forceinline__ float kls_smaller(float a, float b) { return b < a ? b : a; }

// lambda^p
__device__ __forceinline__ float kls_power(float lambda, float p) {
    return p == 0.5f ? sqrtf(lambda) : p == 0.25f ? sqrtf(sqrtf(lambda)) : p == 1.0f ? lambda : powf(lambda, p);
}

// w(lambda)
__device__ __forceinline__ float kls_weight(uint32_t weighting, float lambda) {
    return weighting == KLS_WEIGHT_INVERSE_ROOT ? 1.0f / sqrtf(lambda) : weighting == KLS_WEIGHT_ROOT ? sqrtf(lambda) : 1.0f;
}

__device__ __forceinline__ float kls_average(float beta, float old, float fresh) { return beta * old + (1.0f - beta) * fresh; }

// m / (root + eps) with the product of all modes' roots.
__device__ __forceinline__ float kls_precondition(float m, float root, float eps) { return m / (kls_larger(root, KLS_FLOOR) + eps); }

// correction m / (sqrt(second d) + eps)
__device__ __forceinline__ float kls_normalise(float m, float d, float correction, float second, float eps) {
    return m * correction / (kls_larger(sqrtf(d * second), KLS_FLOOR) + eps);
}

// What makes an item's direction of its numerator.
struct kls_divisor {
    float correction, second, eps;
    bool preconditions;
};

__device__ __forceinline__ kls_divisor kls_divisor_of(const kls_step_params &p, const kls_scalars &s, bool preconditions) {
    const float eps = p.factor_damping && p.direction != KLS_SECOND_MOMENT ? 0.0f : p.eps;
    return {s.numerator, s.second, eps, preconditions};
}

// `second_moment` is of after this step; `root` is the product of all modes' roots.
__device__ __forceinline__ float kls_divide(const kls_step_params &p, const kls_divisor &by, float m, float second_moment, float root) {
    if (p.direction == KLS_SECOND_MOMENT) return kls_normalise(m, second_moment, by.correction, by.second, by.eps);
    if (p.direction == KLS_MOMENTUM || !by.preconditions) return m * by.correction;
    return kls_precondition(m * by.correction, root, by.eps);
}

// Whether parameters stay in range that move by a direction of which this is the largest element.
__device__ __forceinline__ bool kls_stays_in_range(float largest, float lr) {
    // An exponent says of zero and of what is not finite what it would of other numbers.
    return kls_is_finite(largest) && (largest == 0 || kls_exponent(largest) + kls_exponent(lr) + 2 <= KLS_NORM_LIMIT_LOG2);
}

// The numerator of the direction, from the average of after this step.
__device__ __forceinline__ float kls_numerator(uint32_t kind, float beta1, float m, float g) {
    return kind == KLS_NUMERATOR_AVERAGE ? m : kind == KLS_NUMERATOR_NESTEROV ? kls_average(beta1, m, g) : g;
}

// The grafted method's second moment of after this step.
__device__ __forceinline__ float kls_graft_moment(const kls_step_params &p, float v, float g) {
    if (p.graft == KLS_GRAFT_ADAGRAD) return kls_smaller(v + g * g, kls_exp2i(KLS_NORM_LIMIT_LOG2));
    return p.graft == KLS_GRAFT_NONE || p.graft == KLS_GRAFT_SGD ? v : p.beta2 * v + (1.0f - p.beta2) * (g * g);
}

// The grafted method's direction. `v` is of after this step.
__device__ __forceinline__ float kls_graft_direction(const kls_step_params &p, const kls_scalars &s, float m, float g, float v) {
    switch (p.graft) {
    case KLS_GRAFT_ADAM: return kls_normalise(m, v, s.numerator, s.second, p.eps);
    case KLS_GRAFT_RMSPROP:
    case KLS_GRAFT_ADAGRAD: return kls_normalise(g, v, 1.0f, 1.0f, p.eps);
    default: return g;
    }
}

__device__ __forceinline__ void kls_count(uint32_t *counter, uint32_t n) {
    const uint32_t sum = *counter + n;
    *counter = sum < n ? 0xffffffffu : sum;
}

// The product of the tables of the modes but the last, and that one's number; those that `modes` has no bit of count as ones.
struct kls_row_and_last {
    float prefix, last;
};
__device__ __forceinline__ kls_row_and_last kls_tables_at(const kls_step_params &p, uint32_t item, uint32_t modes, uint32_t i) {
    const uint32_t last = p.order - 1;
    uint32_t row = i / p.dims[last];
    const uint32_t column = i - row * p.dims[last];
    kls_row_and_last out = {1.0f, modes >> last & 1 ? p.weight[last].of(item)[column] : 1.0f};
    if (last == 1) {
        if (modes & 1) out.prefix = p.weight[0].of(item)[row];
    } else {
        // Mode by mode from the first on, as everywhere.
        uint32_t below = 1;
        for (uint32_t k = 0; k < last; k++) below *= p.dims[k];
        for (uint32_t k = 0; k < last; k++) {
            below /= p.dims[k];
            const uint32_t index = row / below;
            row -= index * below;
            if (modes >> k & 1) out.prefix *= p.weight[k].of(item)[index];
        }
    }
    return out;
}
