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

KLS_FLAT_KERNEL(kls_io_commit, kls_io_commit_params, KLS_CHUNK_THREADS) {
    const kls_geometry &g = p.geometry;
    const kls_theta &theta = p.theta;
    const uint64_t chunks = kls_chunks(g.len);
    const float lr = kls_value(p.lr), per_rate = lr * p.weight_decay;
    const float before = p.decay_kind == KLS_DECAY_BEFORE ? 1 - per_rate : p.decay_kind == KLS_DECAY_INDEPENDENT ? 1 - p.weight_decay : 1;
    const float after = p.decay_kind == KLS_DECAY_AFTER ? per_rate : 0;
    for (uint32_t item = blockIdx.y; item < p.items.count; item += gridDim.y) {
        if (!kls_takes_part(p.items, item)) continue;
        const kls_place place = p.places[item];
        const kls_item_theta own = kls_theta_of(theta, g, place, item);
        if (!own.param) continue;
        const uint32_t flags = p.decays | p.rests ? p.items.flags[item] : 0;
        const bool rests = flags & p.rests, updates = !rests && !(flags & p.decays);
        const float *update = p.update.of(item);
        const bool update_quads = kls_holds_quads(update);
        const float factor = p.factors ? p.factors[item] : 1, rate = lr * factor;
        const uint64_t key = p.stochastic ? kls_rounding_key(p.seed, place.tensor, place.slice, *theta.steps.of(item) + 1) : 0;
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
                    kls_read_theta4(theta, own, g, index, ahead, i, count, x);
                    if (!rests)
                        for (uint32_t j = 0; j < 4; j++) {
                            const float decayed = x[j] * before;
                            const float updated = updates ? decayed - rate * direction[j] : decayed;
                            x[j] = updated - after * updated;
                        }
                } else if (updates) {
                    for (uint32_t j = 0; j < 4; j++) x[j] = factor * direction[j];
                }
                if (own.master) kls_store4(own.master, own.master_quads, i, count, x);
                if (theta.format == KLS_F32) {
                    kls_store_piece4(g, reinterpret_cast<float *>(own.param), own.param_quads, index, ahead, count, x);
                } else {
                    uint16_t bits[4];
                    for (uint32_t j = 0; j < 4; j++)
                        bits[j] = kls_to_bf16(x[j], p.stochastic, p.stochastic ? kls_rounding_number(key, i + j) : 0);
                    kls_store_piece4(g, reinterpret_cast<uint16_t *>(own.param), own.param_quads, index, ahead, count, bits);
                }
            }
        }
    }
}
