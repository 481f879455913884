// The parameter of after the step, from the parameter, the update and the weight decay, as the core's `Decay` and `Rounder` have it.
#pragma once
#include "scalar.cuh"
#include "rounder.cuh"
#include "theta.cuh"

constexpr uint32_t KLS_DECAY_BEFORE = 0, KLS_DECAY_AFTER = 1, KLS_DECAY_L2 = 2, KLS_DECAY_INDEPENDENT = 3;

struct kls_io_commit_params {
    kls_items items;
    kls_geometry geometry;
    const kls_place *places;
    // Where it does not `move`: the places that take the direction, all f32, without master weights.
    kls_theta theta;
    kls_array<const float> update;
    // One factor on the update per item, or NULL.
    const float *factors;
    kls_scalar lr;
    uint64_t seed;
    float weight_decay;
    uint32_t decay_kind;
    uint32_t stochastic;
    uint32_t moves;
    // Items that have one of these flags only decay, or rest. There must be flags if a bit is set.
    uint32_t decays, rests;
};

// Learning rate and weight decay of a launch.
struct kls_decay {
    float lr, before, after;
};

__device__ __forceinline__ kls_decay kls_decay_of(const kls_io_commit_params &p) {
    const float lr = kls_value(p.lr), per_rate = lr * p.weight_decay;
    const float before = p.decay_kind == KLS_DECAY_BEFORE ? 1 - per_rate : p.decay_kind == KLS_DECAY_INDEPENDENT ? 1 - p.weight_decay : 1;
    return {lr, before, p.decay_kind == KLS_DECAY_AFTER ? per_rate : 0};
}

// `theta - rate direction`, or without the second, with the decay.
__device__ __forceinline__ float kls_moved(const kls_decay &decay, float theta, bool updates, float rate, float direction) {
    const float decayed = theta * decay.before;
    const float updated = updates ? decayed - rate * direction : decayed;
    return updated - decay.after * updated;
}

__device__ __forceinline__ uint64_t kls_commit_key(const kls_io_commit_params &p, const kls_place &place, uint32_t item) {
    return p.stochastic ? kls_rounding_key(p.seed, place.tensor, place.slice, *p.theta.steps.of(item) + 1) : 0;
}

// Writes up to four elements from `i` on, which is `ahead` after the index, of what moves.
__device__ __forceinline__ void kls_write_theta4(const kls_io_commit_params &p, const kls_item_theta &own, const kls_index &index,
                                                 uint32_t ahead, uint64_t i, uint32_t count, uint64_t key, const float x[4]) {
    if (own.master) kls_store4(own.master, own.master_quads, i, count, x);
    if (p.theta.format == KLS_F32) {
        kls_store_piece4(p.geometry, reinterpret_cast<float *>(own.param), own.param_quads, index, ahead, count, x);
    } else {
        uint16_t bits[4];
        for (uint32_t j = 0; j < 4; j++) bits[j] = kls_to_bf16(x[j], p.stochastic, p.stochastic ? kls_rounding_number(key, i + j) : 0);
        kls_store_piece4(p.geometry, reinterpret_cast<uint16_t *>(own.param), own.param_quads, index, ahead, count, bits);
    }
}

KLS_FLAT_KERNEL(kls_io_commit, kls_io_commit_params, KLS_CHUNK_THREADS) {
    const kls_geometry &g = p.geometry;
    const uint64_t chunks = kls_chunks(g.len);
    const kls_decay decay = kls_decay_of(p);
    for (uint32_t item = blockIdx.y; item < p.items.count; item += gridDim.y) {
        if (!kls_takes_part(p.items, item)) continue;
        const kls_place place = p.places[item];
        const kls_item_theta own = kls_theta_of(p.theta, g, place, item);
        if (!own.param) continue;
        const uint32_t flags = p.decays | p.rests ? p.items.flags[item] : 0;
        const bool rests = flags & p.rests, updates = !rests && !(flags & p.decays);
        const float *update = p.update.of(item);
        const bool update_quads = kls_holds_quads(update);
        const float factor = p.factors ? p.factors[item] : 1, rate = decay.lr * factor;
        const uint64_t key = kls_commit_key(p, place, item);
        for (uint64_t chunk = blockIdx.x; chunk < chunks; chunk += gridDim.x) {
            const uint64_t start = chunk * KLS_CHUNK;
            const kls_index index = kls_seek(g, start);
            for (uint32_t ahead = 4 * threadIdx.x; ahead < KLS_CHUNK; ahead += 4 * KLS_CHUNK_THREADS) {
                const uint64_t i = start + ahead;
                if (i >= g.len) break;
                const uint32_t count = kls_count4(i, g.len);
                float direction[4] = {0, 0, 0, 0}, x[4] = {0, 0, 0, 0};
                if (updates) kls_load4(update, update_quads, i, count, direction);
                if (p.moves) {
                    kls_read_theta4(p.theta, own, g, index, ahead, i, count, x);
                    if (!rests)
                        for (uint32_t j = 0; j < 4; j++) x[j] = kls_moved(decay, x[j], updates, rate, direction[j]);
                } else if (updates) {
                    for (uint32_t j = 0; j < 4; j++) x[j] = factor * direction[j];
                }
                kls_write_theta4(p, own, index, ahead, i, count, key, x);
            }
        }
    }
}
