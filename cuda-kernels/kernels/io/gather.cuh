// Gradients (or parameters) from the caller's buffers to dense f32, one item after another.
#pragma once
#include "measure.cuh"
#include "scalar.cuh"
#include "theta.cuh"

struct kls_io_gather_params {
    kls_items items;
    kls_geometry geometry;
    const kls_place *places;
    // The tensors' buffers; an item whose tensor has none is left out.
    void *const *pointers;
    // Where they come to lie; a base of NULL: nowhere, they are only measured.
    kls_array<float> out;
    // A factor on all elements, and another one on the device unless NULL.
    kls_scalar scale;
    const float *clip;
    // `decay` times this is added; without pointers nothing is.
    kls_theta theta;
    // Out: what was written, measured chunk by chunk. The chunks of an item follow each other.
    kls_measure *chunks;
    float decay;
    uint32_t format;
};

// One item's gradient.
struct kls_item_gradient {
    const char *base;
    bool quads, penalised;
    // The factor on it; what its penalty is of.
    float scale;
    kls_item_theta theta;
};

// `base` is NULL where the item's tensor has none.
__device__ __forceinline__ kls_item_gradient kls_gradient_of(const kls_io_gather_params &p, const kls_place &place, uint32_t item) {
    kls_item_gradient own = {};
    own.base = kls_piece(p.pointers, place, p.format);
    if (!own.base) return own;
    own.quads = kls_piece_holds_quads(p.geometry, own.base, p.format);
    own.scale = p.clip ? kls_value(p.scale) * *p.clip : kls_value(p.scale);
    if (p.theta.pointers) own.theta = kls_theta_of(p.theta, p.geometry, place, item);
    own.penalised = own.theta.param || own.theta.master;
    return own;
}

// Up to four elements, from `i`, which is `ahead` after the index, as a step wants them.
__device__ __forceinline__ void kls_read_gradient4(const kls_io_gather_params &p, const kls_item_gradient &own, const kls_index &index,
                                                   uint32_t ahead, uint64_t i, uint32_t count, float x[4]) {
    kls_read_piece4(p.geometry, own.base, p.format, own.quads, index, ahead, count, x);
    if (own.scale != 1)
        for (uint32_t j = 0; j < 4; j++) x[j] *= own.scale;
    if (own.penalised) {
        float weights[4] = {0, 0, 0, 0};
        kls_read_theta4(p.theta, own.theta, p.geometry, index, ahead, i, count, weights);
        for (uint32_t j = 0; j < 4; j++) x[j] += p.decay * weights[j];
    }
}

template <bool MEASURES> __device__ __forceinline__ void kls_gather(const kls_io_gather_params &p) {
    const kls_geometry &g = p.geometry;
    const uint64_t chunks = kls_chunks(g.len);
    for (uint32_t item = blockIdx.y; item < p.items.count; item += gridDim.y) {
        if (!kls_takes_part(p.items, item)) continue;
        const kls_item_gradient own = kls_gradient_of(p, p.places[item], item);
        if (!own.base) continue;
        float *out = p.out.base ? p.out.of(item) : nullptr;
        const bool out_quads = kls_holds_quads(out);
        for (uint64_t chunk = blockIdx.x; chunk < chunks; chunk += gridDim.x) {
            const uint64_t start = chunk * KLS_CHUNK;
            const kls_index index = kls_seek(g, start);
            kls_measure m = kls_nothing_measured();
            for (uint32_t ahead = 4 * threadIdx.x; ahead < KLS_CHUNK; ahead += 4 * KLS_CHUNK_THREADS) {
                const uint64_t i = start + ahead;
                if (i >= g.len) break;
                const uint32_t count = kls_count4(i, g.len);
                float x[4];
                kls_read_gradient4(p, own, index, ahead, i, count, x);
                if (MEASURES)
                    for (uint32_t j = 0; j < 4; j++)
                        if (j < count) kls_measure_one(m, x[j]);
                if (out) kls_store4(out, out_quads, i, count, x);
            }
            if (MEASURES) {
                m = kls_measure_block(m);
                if (threadIdx.x == 0) p.chunks[item * chunks + chunk] = m;
            }
        }
    }
}

KLS_FLAT_KERNEL(kls_io_gather, kls_io_gather_params, KLS_CHUNK_THREADS) { kls_gather<false>(p); }
KLS_KERNEL(kls_io_gather_measured, kls_io_gather_params, KLS_CHUNK_THREADS) { kls_gather<true>(p); }

struct kls_io_missing_params {
    kls_items items;
    const kls_place *places;
    void *const *pointers;
    // Set in the flags of items whose tensors have no buffer, taken from those that have one.
    uint32_t bit, unused;
};

KLS_FLAT_KERNEL(kls_io_missing, kls_io_missing_params, 256) {
    for (uint32_t item = blockIdx.x * 256 + threadIdx.x; item < p.items.count; item += gridDim.x * 256)
        if (kls_takes_part(p.items, item)) {
            const uint32_t flags = p.items.flags[item];
            p.items.flags[item] = p.pointers[p.places[item].tensor] ? flags & ~p.bit : flags | p.bit;
        }
}
