// The direction: denominators, graft, length, and the check of the update.
#pragma once
#include "estimate.cuh"

// tau^{1/2} mode by mode, so that no product leaves the range; see the core's `trace_scales`.
__device__ __forceinline__ float kls_trace(const kls_step_params &p, uint32_t item, uint32_t k) {
    const uint32_t d = p.dims[k];
    const bool refreshed = p.flags[item] & p.option;
    if (p.modes[k] != KLS_FULL) return kls_sum_of((p.apply_first ? p.lambda[k] : p.new_lambda[k]).of(item), d);
    const float *factor = p.factor[k].of(item), *delta = p.delta[k].of(item);
    const float alpha = p.scalars[item].alpha[k];
    double old = 0, fresh = 0;
    kls_own(d, [&](uint32_t i) { return factor[(uint64_t)i * (i + 3) / 2]; }, [&](uint32_t, float x) { old += (double)x; });
    old = kls_reduce(old, kls_sum());
    if (p.apply_first) return (float)old;
    kls_own(d, [&](uint32_t i) { return delta[i * ((uint64_t)d + 1)]; }, [&](uint32_t, float x) { fresh += (double)x; });
    fresh = kls_reduce(fresh, kls_sum());
    return refreshed ? (float)fresh : kls_average(p.beta2, (float)old, (float)(alpha * fresh));
}

// The tables whose product over the modes is the denominator. `option`: the flag of items that have been refreshed in this step.
KLS_KERNEL(kls_step_roots, kls_step_params, KLS_BLOCK) {
    const uint32_t item = kls_step_item(p);
    if (!kls_step_takes(p, item)) return;
    const float added = p.factor_damping ? p.eps : 0.0f;
    const float modes = (float)p.preconditioned_modes, exponent = 0.5f * (modes - 1.0f) / modes;
    float others = 1.0f;
    for (uint32_t k = 0; k < p.order; k++)
        if (p.modes[k] == KLS_IDENTITY) others /= sqrtf((float)p.dims[k]);
    for (uint32_t k = 0; k < p.order; k++) {
        if (p.modes[k] == KLS_IDENTITY) continue;
        float scale = 1.0f;
        if (p.direction == KLS_TRACE_SCALED) {
            scale = others / powf(kls_larger(kls_trace(p, item, k), KLS_FLOOR), exponent);
            others = 1.0f;
        }
        const float *lambda = (p.apply_first ? p.lambda[k] : p.new_lambda[k]).of(item);
        float *root = p.weight[k].of(item);
        kls_own_of(lambda, p.dims[k], [&](uint32_t i, float x) {
            const float own = kls_power(x + added, p.power);
            root[i] = p.direction == KLS_TRACE_SCALED ? own * scale : own;
        });
    }
}

// A norm over another one, which is at least 2^-63; at most what the type holds.
__device__ __forceinline__ float kls_over(double a, double b) {
    const double ratio = a / (b < (double)KLS_FLOOR ? (double)KLS_FLOOR : b);
    return ratio < 3.402823466e38 ? (float)ratio : 3.402823466e38f;
}

// What the direction is multiplied by for the length of the graft and the cap, and whether the update stays in range.
KLS_FLAT_KERNEL(kls_step_judge, kls_step_params, KLS_BLOCK) {
    const uint32_t item = p.first + blockIdx.x * blockDim.x + threadIdx.x;
    if (item >= p.first + p.mode || !kls_step_takes(p, item)) return;
    const kls_measure update = p.update_measure[item];
    const double natural = sqrt(update.sum);
    const float largest = __uint_as_float(update.largest);
    float length = 1.0f;
    const bool grafts = p.graft != KLS_GRAFT_NONE && (p.flags[item] & KLS_PRECONDITIONS);
    const double grafted = grafts ? sqrt(p.other_measure[item].sum) : natural;
    if (grafts) length = kls_over(grafted, natural);
    if (p.capped) {
        const double cap = (double)p.cap * sqrt((double)p.elements);
        if (kls_over(grafted, cap) > 1.0f) {
            kls_count(&p.next[item].capped, 1);
            length = kls_over(cap, natural);
        }
    }
    if (!kls_stays_in_range(largest * length, kls_value(p.lr))) p.flags[item] |= KLS_FAILED;
    p.lengths[item] = length;
}

// The inner product of direction and gradient, in p.blocks parts.
KLS_KERNEL(kls_step_dot, kls_step_params, KLS_BLOCK) {
    const uint32_t item = kls_step_item(p);
    if (!kls_step_takes(p, item)) return;
    const float *update = p.update.of(item), *grad = p.grad.of(item);
    double sum = 0;
    KLS_EACH(i, p.elements) sum += (double)update[i] * (double)grad[i];
    sum = kls_reduce(sum, kls_sum());
    if (threadIdx.x == 0) p.partials[(uint64_t)item * p.blocks + blockIdx.x % p.blocks] = sum;
}

// How long the direction is and how far it points from the gradient, from that product, in `option` parts.
KLS_KERNEL(kls_step_measured, kls_step_params, KLS_BLOCK) {
    const uint32_t item = kls_step_item(p);
    if (!kls_step_takes(p, item)) return;
    double dot = 0;
    KLS_OWN(i, p.option) dot += p.partials[(uint64_t)item * p.option + i];
    dot = kls_reduce(dot, kls_sum());
    if (threadIdx.x != 0) return;
    const double update = sqrt(p.update_measure[item].sum), grad = sqrt(p.gradient_measure[item].sum);
    kls_header &header = p.next[item];
    header.update_rms = (float)(update / sqrt((double)p.elements) * (double)p.lengths[item]);
    header.update_cosine = update > 0 && grad > 0 ? (float)(dot / update / grad) : 0.0f;
}
