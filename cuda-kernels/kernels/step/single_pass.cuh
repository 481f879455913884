// The step of items that nothing preconditions: AdamW, RMSProp, SGD. Gradient, moments and parameter are read once and written once, wherever
// they lie, and no array lies between them.
#pragma once
#include "../io/commit.cuh"
#include "../io/gather.cuh"
#include "math.cuh"

struct kls_single_pass_params {
    kls_step_params step;
    // How the gradient is read, and how the parameter moves. The gradient goes nowhere, and the update comes from nowhere.
    kls_io_gather_params gather;
    kls_io_commit_params commit;
};

// An item's moments of before the step; NULL where the method has none.
struct kls_item_moments {
    float *momentum, *second;
    bool momentum_quads, second_quads;
};

__device__ __forceinline__ kls_item_moments kls_moments_of(const kls_step_params &p, uint32_t item) {
    kls_item_moments own;
    own.momentum = p.momentum.base ? p.momentum.of(item) : nullptr;
    own.second = p.second_moment.base ? p.second_moment.of(item) : nullptr;
    own.momentum_quads = kls_holds_quads(own.momentum), own.second_quads = kls_holds_quads(own.second);
    return own;
}

// Four elements of gradient and moments, which become those of after the step, and the direction.
struct kls_pass4 {
    float g[4], m[4], v[4], direction[4];
};

__device__ __forceinline__ void kls_pass4_at(const kls_single_pass_params &p, const kls_item_gradient &gradient, const kls_item_moments &moments,
                                             const kls_divisor &by, const kls_index &index, uint32_t ahead, uint64_t i, uint32_t count,
                                             kls_pass4 &x) {
    kls_read_gradient4(p.gather, gradient, index, ahead, i, count, x.g);
    for (uint32_t j = 0; j < 4; j++) x.m[j] = x.v[j] = 0;
    if (moments.momentum) kls_load4(moments.momentum, moments.momentum_quads, i, count, x.m);
    if (moments.second) kls_load4(moments.second, moments.second_quads, i, count, x.v);
    for (uint32_t j = 0; j < 4; j++) {
        const float g = x.g[j];
        if (moments.momentum) x.m[j] = kls_average(p.step.beta1, x.m[j], g);
        if (moments.second) x.v[j] = kls_average(p.step.beta2, x.v[j], g * g);
        const float numerator = kls_numerator(p.step.numerator, p.step.beta1, x.m[j], g);
        x.direction[j] = kls_divide(p.step, by, numerator, x.v[j], 1.0f);
    }
}

// Items whose update may leave the range: whether it does, and if not, the bound on their momentum.
KLS_KERNEL(kls_step_check_update, kls_single_pass_params, KLS_CHUNK_THREADS) {
    const kls_geometry &g = p.gather.geometry;
    const kls_items &items = p.gather.items;
    const uint64_t chunks = kls_chunks(g.len);
    const float lr = kls_value(p.step.lr);
    // The bits of the largest element.
    __shared__ uint32_t largest, bad;
    for (uint32_t item = blockIdx.y; item < items.count; item += gridDim.y) {
        if (!kls_takes_part(items, item)) continue;
        const kls_item_gradient gradient = kls_gradient_of(p.gather, p.gather.places[item], item);
        const kls_item_moments moments = kls_moments_of(p.step, item);
        const kls_divisor by = kls_divisor_of(p.step, p.step.scalars[item], items.flags[item] & KLS_PRECONDITIONS);
        uint32_t own = 0, fails = 0;
        for (uint64_t chunk = blockIdx.x; chunk < chunks; chunk += gridDim.x) {
            const uint64_t start = chunk * KLS_CHUNK;
            const kls_index index = kls_seek(g, start);
            for (uint32_t ahead = 4 * threadIdx.x; ahead < KLS_CHUNK; ahead += 4 * KLS_CHUNK_THREADS) {
                const uint64_t i = start + ahead;
                if (i >= g.len) break;
                const uint32_t count = kls_count4(i, g.len);
                kls_pass4 x;
                kls_pass4_at(p, gradient, moments, by, index, ahead, i, count, x);
                for (uint32_t j = 0; j < 4; j++) {
                    if (j >= count) break;
                    own = max(own, __float_as_uint(x.m[j]) & 0x7fffffffu);
                    fails |= !kls_stays_in_range(x.direction[j], lr);
                }
            }
        }
        if (threadIdx.x == 0) largest = 0, bad = 0;
        __syncthreads();
        atomicMax(&largest, own);
        atomicOr(&bad, fails);
        __syncthreads();
        if (threadIdx.x == 0) {
            atomicMax(reinterpret_cast<uint32_t *>(p.step.bounds) + item, largest);
            if (bad) atomicOr(&items.flags[item], KLS_FAILED);
        }
        __syncthreads();
    }
}

KLS_FLAT_KERNEL(kls_step_single_pass, kls_single_pass_params, KLS_CHUNK_THREADS) {
    const kls_geometry &g = p.commit.geometry;
    const kls_items &items = p.commit.items;
    const uint64_t chunks = kls_chunks(g.len);
    const kls_decay decay = kls_decay_of(p.commit);
    for (uint32_t item = blockIdx.y; item < items.count; item += gridDim.y) {
        if (!kls_takes_part(items, item)) continue;
        const kls_place place = p.commit.places[item];
        const kls_item_gradient gradient = kls_gradient_of(p.gather, place, item);
        const kls_item_theta own = kls_theta_of(p.commit.theta, g, place, item);
        if (!own.param) continue;
        const kls_item_moments moments = kls_moments_of(p.step, item);
        const kls_divisor by = kls_divisor_of(p.step, p.step.scalars[item], items.flags[item] & KLS_PRECONDITIONS);
        const uint64_t key = kls_commit_key(p.commit, place, item);
        for (uint64_t chunk = blockIdx.x; chunk < chunks; chunk += gridDim.x) {
            const uint64_t start = chunk * KLS_CHUNK;
            const kls_index index = kls_seek(g, start);
            for (uint32_t ahead = 4 * threadIdx.x; ahead < KLS_CHUNK; ahead += 4 * KLS_CHUNK_THREADS) {
                const uint64_t i = start + ahead;
                if (i >= g.len) break;
                const uint32_t count = kls_count4(i, g.len);
                float theta[4] = {0, 0, 0, 0};
                kls_read_theta4(p.commit.theta, own, g, index, ahead, i, count, theta);
                kls_pass4 x;
                kls_pass4_at(p, gradient, moments, by, index, ahead, i, count, x);
                for (uint32_t j = 0; j < 4; j++) theta[j] = kls_moved(decay, theta[j], true, decay.lr, x.direction[j]);
                if (moments.momentum) kls_store4(moments.momentum, moments.momentum_quads, i, count, x.m);
                if (moments.second) kls_store4(moments.second, moments.second_quads, i, count, x.v);
                kls_write_theta4(p.commit, own, index, ahead, i, count, key, theta);
            }
        }
    }
}
