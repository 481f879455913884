// Passes over the elements of the items' tensors.
#pragma once
#include "../io/chunks.cuh"
#include "math.cuh"

// The tables of up to four elements from `i` on, as kls_tables_at has them.
struct kls_tables4 {
    float prefix[4], last[4];
};
__device__ __forceinline__ kls_tables4 kls_tables4_at(const kls_step_params &p, uint32_t item, uint32_t modes, uint32_t i, uint32_t count) {
    kls_tables4 out = {};
    const uint32_t last = p.order - 1, columns = p.dims[last];
    if (columns % 4 == 0) {
        // The four are of one row.
        const kls_row_and_last first = kls_tables_at(p, item, modes, i);
        for (uint32_t j = 0; j < 4; j++) out.prefix[j] = first.prefix, out.last[j] = 1.0f;
        if (modes >> last & 1) kls_load4<float>(p.weight[last].of(item), true, i % columns, 4, out.last);
    } else {
        for (uint32_t j = 0; j < 4; j++) {
            if (j >= count) break;
            const kls_row_and_last own = kls_tables_at(p, item, modes, i + j);
            out.prefix[j] = own.prefix, out.last[j] = own.last;
        }
    }
    return out;
}

// out = x . prod_k table_k, of the modes in `option`: the weighted gradient X_k. Modes in bits from 8 on are those of a second one.
KLS_FLAT_KERNEL(kls_step_weighted, kls_step_params, 256) {
    const uint32_t item = kls_step_item(p);
    if (!kls_step_takes(p, item)) return;
    const uint32_t modes = p.option & 255, others = p.option >> 8;
    const float *x = p.gradient.of(item);
    float *out = p.product.of(item), *other = p.update.of(item);
    const bool quads = kls_holds_quads(x);
    KLS_EACH_FOUR(i, p.elements) {
        const uint32_t count = kls_count4(i, p.elements);
        float own[4] = {0, 0, 0, 0}, y[4] = {0, 0, 0, 0};
        kls_load4(x, quads, i, count, own);
        const kls_tables4 w = kls_tables4_at(p, item, modes, (uint32_t)i, count);
        for (uint32_t j = 0; j < 4; j++)
            if (j < count) y[j] = own[j] * w.prefix[j] * w.last[j];
        kls_store4(out, true, i, count, y);
        if (!others) continue;
        const kls_tables4 v = kls_tables4_at(p, item, others, (uint32_t)i, count);
        for (uint32_t j = 0; j < 4; j++)
            if (j < count) y[j] = own[j] * v.prefix[j] * v.last[j];
        kls_store4(other, true, i, count, y);
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

// Where the chain of mode products that leads out of the eigenbasis starts.
__device__ __forceinline__ float *kls_chain_start(const kls_step_params &p, uint32_t item) {
    return (p.full_modes % 2 ? p.product : p.update).of(item);
}

// The numerator divided. `option`: the flag of items whose averages have moved.
KLS_FLAT_KERNEL(kls_step_divide, kls_step_params, 256) {
    const uint32_t item = kls_step_item(p);
    if (!kls_step_takes(p, item)) return;
    const uint32_t flags = p.flags[item];
    const bool moved = flags & p.option;
    const kls_divisor by = kls_divisor_of(p, p.scalars[item], flags & KLS_PRECONDITIONS);
    const bool reads_gradient = !moved || p.numerator != KLS_NUMERATOR_AVERAGE || p.direction == KLS_SECOND_MOMENT;
    const bool reads_tables = p.direction != KLS_SECOND_MOMENT && p.direction != KLS_MOMENTUM && by.preconditions;
    uint32_t tables = 0;
    for (uint32_t k = 0; k < p.order; k++) tables |= p.modes[k] != KLS_IDENTITY ? 1u << k : 0;
    const float *gradient = p.gradient.of(item);
    const float *momentum = p.numerator == KLS_NUMERATOR_GRADIENT ? nullptr : (moved ? p.new_momentum : p.momentum).of(item);
    const float *second = p.direction == KLS_SECOND_MOMENT ? (moved ? p.new_second_moment : p.second_moment).of(item) : nullptr;
    const bool gradient_quads = kls_holds_quads(gradient), momentum_quads = kls_holds_quads(momentum), second_quads = kls_holds_quads(second);
    float *out = kls_chain_start(p, item);
    KLS_EACH_FOUR(i, p.elements) {
        const uint32_t count = kls_count4(i, p.elements);
        float g[4] = {0, 0, 0, 0}, m[4] = {0, 0, 0, 0}, d[4] = {0, 0, 0, 0}, x[4] = {0, 0, 0, 0};
        if (reads_gradient) kls_load4(gradient, gradient_quads, i, count, g);
        if (momentum) kls_load4(momentum, momentum_quads, i, count, m);
        if (second) kls_load4(second, second_quads, i, count, d);
        kls_tables4 root = {{1, 1, 1, 1}, {1, 1, 1, 1}};
        if (reads_tables) root = kls_tables4_at(p, item, tables, (uint32_t)i, count);
        for (uint32_t j = 0; j < 4; j++) {
            if (j >= count) break;
            const float numerator = kls_numerator(p.numerator, p.beta1, moved ? m[j] : kls_average(p.beta1, m[j], g[j]), g[j]);
            const float fresh = second ? kls_average(p.beta2, d[j], g[j] * g[j]) : 0.0f;
            x[j] = kls_divide(p, by, numerator, fresh, root.prefix[j] * root.last[j]);
        }
        kls_store4(out, true, i, count, x);
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

// The grafted method's direction is measured, chunk by chunk, as kls_io_magnitude would if it lay there; it is written only of items that have
// nothing to precondition with: it is their update. Adam's numerator is in the update's place.
KLS_KERNEL(kls_step_graft, kls_step_params, KLS_CHUNK_THREADS) {
    const uint32_t item = kls_step_item(p), chunk = blockIdx.x % p.blocks;
    if (!kls_step_takes(p, item)) return;
    const kls_scalars &s = p.scalars[item];
    const bool writes = !(p.flags[item] & KLS_PRECONDITIONS);
    const float *grad = p.grad.of(item);
    float *update = p.update.of(item);
    const bool grad_quads = kls_holds_quads(grad);
    const float *moment = p.graft_moment.base ? p.graft_moment.of(item) : nullptr;
    const bool moment_quads = kls_holds_quads(moment);
    kls_measure measure = kls_nothing_measured();
    for (uint32_t ahead = 4 * threadIdx.x; ahead < KLS_CHUNK; ahead += 4 * KLS_CHUNK_THREADS) {
        const uint64_t i = (uint64_t)chunk * KLS_CHUNK + ahead;
        if (i >= p.elements) break;
        const uint32_t count = kls_count4(i, p.elements);
        float g[4] = {0, 0, 0, 0}, m[4] = {0, 0, 0, 0}, v[4] = {0, 0, 0, 0}, x[4] = {0, 0, 0, 0};
        kls_load4(grad, grad_quads, i, count, g);
        if (p.graft == KLS_GRAFT_ADAM) kls_load4<float>(update, true, i, count, m);
        if (moment) kls_load4(moment, moment_quads, i, count, v);
        for (uint32_t j = 0; j < 4; j++) {
            if (j >= count) break;
            x[j] = kls_graft_direction(p, s, m[j], g[j], moment ? kls_graft_moment(p, v[j], g[j]) : 0.0f);
            kls_measure_one(measure, x[j]);
        }
        if (writes) kls_store4(update, true, i, count, x);
    }
    measure = kls_measure_block(measure);
    kls_measure *out = p.blocks == 1 ? p.other_measure : reinterpret_cast<kls_measure *>(p.partials);
    if (threadIdx.x == 0) out[item * (uint64_t)p.blocks + chunk] = measure;
}

// The moments of after this step become the state's. `option`: the flag of items whose averages have moved.
KLS_FLAT_KERNEL(kls_step_commit_moments, kls_step_params, 256) {
    const uint32_t item = kls_step_item(p);
    if (!kls_step_takes(p, item)) return;
    const bool moved = p.flags[item] & p.option;
    const float *gradient = p.gradient.of(item), *grad = p.grad.of(item);
    float *momentum = p.momentum.base ? p.momentum.of(item) : nullptr, *second = p.second_moment.base ? p.second_moment.of(item) : nullptr;
    float *graft = p.graft_moment.base ? p.graft_moment.of(item) : nullptr;
    // Where a refresh has turned them they lie in scratch.
    const float *old_momentum = moved && momentum ? p.new_momentum.of(item) : momentum;
    const float *old_second = moved && second ? p.new_second_moment.of(item) : second;
    const bool reads_gradient = (momentum && !moved) || (second && !(moved && p.apply_first));
    const bool gradient_quads = kls_holds_quads(gradient), grad_quads = kls_holds_quads(grad), graft_quads = kls_holds_quads(graft);
    const bool momentum_quads = kls_holds_quads(momentum), second_quads = kls_holds_quads(second);
    const bool old_momentum_quads = kls_holds_quads(old_momentum), old_second_quads = kls_holds_quads(old_second);
    KLS_EACH_FOUR(i, p.elements) {
        const uint32_t count = kls_count4(i, p.elements);
        float g[4] = {0, 0, 0, 0}, x[4] = {0, 0, 0, 0};
        if (reads_gradient) kls_load4(gradient, gradient_quads, i, count, g);
        if (momentum) {
            kls_load4(old_momentum, old_momentum_quads, i, count, x);
            if (!moved)
                for (uint32_t j = 0; j < 4; j++) x[j] = kls_average(p.beta1, x[j], g[j]);
            kls_store4(momentum, momentum_quads, i, count, x);
        }
        if (second) {
            kls_load4(old_second, old_second_quads, i, count, x);
            if (!(moved && p.apply_first))
                for (uint32_t j = 0; j < 4; j++) x[j] = kls_average(p.beta2, x[j], g[j] * g[j]);
            kls_store4(second, second_quads, i, count, x);
        }
        if (graft) {
            kls_load4(graft, graft_quads, i, count, x);
            kls_load4(grad, grad_quads, i, count, g);
            for (uint32_t j = 0; j < 4; j++) x[j] = kls_graft_moment(p, x[j], g[j]);
            kls_store4(graft, graft_quads, i, count, x);
        }
    }
}

// Averages and factors of an item whose first step failed are what they were: nothing.
KLS_FLAT_KERNEL(kls_step_undo, kls_step_params, 256) {
    const uint32_t item = kls_step_item(p);
    if (!kls_step_takes(p, item)) return;
    float *state = p.state.of(item);
    KLS_EACH(i, p.averages_len) state[i] = 0.0f;
}
