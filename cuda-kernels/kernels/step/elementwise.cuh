// Passes over the elements of the items' tensors.
#pragma once
#include "math.cuh"

// out = x . prod_k table_k, of the modes in `option`: the weighted gradient X_k.
KLS_FLAT_KERNEL(kls_step_weighted, kls_step_params, 256) {
    const uint32_t item = kls_step_item(p);
    if (!kls_step_takes(p, item)) return;
    const float *x = p.gradient.of(item);
    float *out = p.product.of(item);
    KLS_EACH(i, p.elements) {
        const kls_row_and_last w = kls_tables_at(p, item, p.option, (uint32_t)i);
        out[i] = x[i] * w.prefix * w.last;
    }
}

// product = gradient times its normaliser.
KLS_FLAT_KERNEL(kls_step_normalised, kls_step_params, 256) {
    const uint32_t item = kls_step_item(p);
    if (!kls_step_takes(p, item)) return;
    const float *x = p.grad.of(item), scale = p.scalars[item].normaliser;
    float *out = p.product.of(item);
    KLS_EACH(i, p.elements) out[i] = x[i] * scale;
}

// The momentum of after this step. Where a refresh has turned it along, it lies in scratch.
__device__ __forceinline__ float kls_new_momentum(const kls_step_params &p, uint32_t item, bool moved, uint64_t i, float g) {
    if (p.numerator == KLS_NUMERATOR_GRADIENT) return 0.0f;
    return moved ? p.new_momentum.of(item)[i] : kls_average(p.beta1, p.momentum.of(item)[i], g);
}

// What a refresh moves: the averages of after this step, of items that refresh. `option`: whether the second moment is complete, as nothing of
// this step comes to it after the refresh.
KLS_FLAT_KERNEL(kls_step_averages, kls_step_params, 256) {
    const uint32_t item = kls_step_item(p);
    if (!kls_step_takes(p, item)) return;
    const float *gradient = p.gradient.of(item);
    KLS_EACH(i, p.elements) {
        const float g = gradient[i];
        if (p.momentum.base) p.new_momentum.of(item)[i] = kls_average(p.beta1, p.momentum.of(item)[i], g);
        if (p.second_moment.base) {
            const float d = p.second_moment.of(item)[i];
            p.new_second_moment.of(item)[i] = p.option ? kls_average(p.beta2, d, g * g) : d;
        }
    }
}

// The second moment of after this step. `moved`: the item's refresh has put what it was, or with `complete` what it is, in scratch.
__device__ __forceinline__ float kls_new_second_moment(const kls_step_params &p, uint32_t item, bool moved, bool complete, uint64_t i, float g) {
    if (!moved) return kls_average(p.beta2, p.second_moment.of(item)[i], g * g);
    const float d = p.new_second_moment.of(item)[i];
    return complete ? d : kls_average(p.beta2, d, g * g);
}

// Where the chain of mode products that leads out of the eigenbasis starts.
__device__ __forceinline__ float *kls_chain_start(const kls_step_params &p, uint32_t item) {
    return (p.full_modes % 2 ? p.product : p.update).of(item);
}

// The numerator divided. `option`: the flag of items whose averages have moved.
KLS_FLAT_KERNEL(kls_step_divide, kls_step_params, 256) {
    const uint32_t item = kls_step_item(p);
    if (!kls_step_takes(p, item)) return;
    const uint32_t flags = p.flags[item];
    const bool moved = flags & p.option, preconditions = flags & KLS_PRECONDITIONS;
    const kls_scalars &s = p.scalars[item];
    const float correction = s.numerator, second = s.second;
    const float eps = p.factor_damping && p.direction != KLS_SECOND_MOMENT ? 0.0f : p.eps;
    const uint32_t all = (1u << p.order) - 1;
    const bool reads_gradient = !moved || p.numerator != KLS_NUMERATOR_AVERAGE || p.direction == KLS_SECOND_MOMENT;
    uint32_t tables = 0;
    for (uint32_t k = 0; k < p.order; k++) tables |= p.modes[k] != KLS_IDENTITY ? 1u << k : 0;
    tables &= all;
    const float *gradient = p.gradient.of(item);
    float *out = kls_chain_start(p, item);
    KLS_EACH(i, p.elements) {
        const float g = reads_gradient ? gradient[i] : 0.0f;
        const float m = kls_numerator(p.numerator, p.beta1, kls_new_momentum(p, item, moved, i, g), g);
        if (p.direction == KLS_SECOND_MOMENT) {
            out[i] = kls_normalise(m, kls_new_second_moment(p, item, moved, false, i, g), correction, second, eps);
        } else if (p.direction == KLS_MOMENTUM || !preconditions) {
            out[i] = m * correction;
        } else {
            const kls_row_and_last root = kls_tables_at(p, item, tables, (uint32_t)i);
            out[i] = kls_precondition(m * correction, root.prefix * root.last, eps);
        }
    }
}

// The numerator as it is, for a graft that divides it in the parameter's coordinates.
KLS_FLAT_KERNEL(kls_step_numerator, kls_step_params, 256) {
    const uint32_t item = kls_step_item(p);
    if (!kls_step_takes(p, item)) return;
    const bool moved = p.flags[item] & p.option;
    const float *gradient = p.gradient.of(item);
    float *out = kls_chain_start(p, item);
    KLS_EACH(i, p.elements) {
        const float g = gradient[i];
        out[i] = kls_numerator(p.numerator, p.beta1, kls_new_momentum(p, item, moved, i, g), g);
    }
}

// product = the grafted method's direction; Adam's numerator is in the update's place.
KLS_FLAT_KERNEL(kls_step_graft, kls_step_params, 256) {
    const uint32_t item = kls_step_item(p);
    if (!kls_step_takes(p, item)) return;
    const kls_scalars &s = p.scalars[item];
    const float *grad = p.grad.of(item), *numerator = p.update.of(item);
    float *out = p.product.of(item);
    KLS_EACH(i, p.elements) {
        const float g = grad[i], m = p.graft == KLS_GRAFT_ADAM ? numerator[i] : 0.0f;
        const float v = p.graft_moment.base ? kls_graft_moment(p, p.graft_moment.of(item)[i], g) : 0.0f;
        out[i] = kls_graft_direction(p, s, m, g, v);
    }
}

// The moments of after this step become the state's. `option`: the flag of items whose averages have moved.
KLS_FLAT_KERNEL(kls_step_commit_moments, kls_step_params, 256) {
    const uint32_t item = kls_step_item(p);
    if (!kls_step_takes(p, item)) return;
    const bool moved = p.flags[item] & p.option;
    const float *gradient = p.gradient.of(item), *grad = p.grad.of(item);
    KLS_EACH(i, p.elements) {
        const float g = gradient[i];
        if (p.momentum.base) p.momentum.of(item)[i] = kls_new_momentum(p, item, moved, i, g);
        if (p.second_moment.base) p.second_moment.of(item)[i] = kls_new_second_moment(p, item, moved, p.apply_first, i, g);
        if (p.graft_moment.base) p.graft_moment.of(item)[i] = kls_graft_moment(p, p.graft_moment.of(item)[i], grad[i]);
    }
}

// Averages and factors of an item whose first step failed are what they were: nothing.
KLS_FLAT_KERNEL(kls_step_undo, kls_step_params, 256) {
    const uint32_t item = kls_step_item(p);
    if (!kls_step_takes(p, item)) return;
    float *state = p.state.of(item);
    KLS_EACH(i, p.averages_len) state[i] = 0.0f;
}
