// What a step moves: the parameter in the caller's buffer, or the master weights in the state.
#pragma once
#include "../batch.h"
#include "format.cuh"

struct kls_theta {
    // The tensors' parameters; NULL: there are none.
    void *const *pointers;
    // The master weights; a base of NULL: there are none.
    kls_array<float> master;
    // Steps made before this one. Only looked at where there are master weights, which are taken from the parameter in the first step, and for
    // stochastic rounding.
    kls_array<const uint64_t> steps;
    // Of the parameter.
    uint32_t format, unused;
};

// The parameter of one item.
struct kls_item_theta {
    char *param;
    float *master;
    bool param_quads, master_quads;
    // Whether the master weights have not been taken from the parameter yet.
    bool fresh;
};

// Where an item's piece begins; NULL if its tensor has none.
__device__ __forceinline__ char *kls_piece(void *const *pointers, const kls_place &place, uint32_t format) {
    char *tensor = static_cast<char *>(pointers[place.tensor]);
    return tensor ? tensor + place.offset * kls_format_size(format) : nullptr;
}

__device__ __forceinline__ kls_item_theta kls_theta_of(const kls_theta &theta, const kls_geometry &g, const kls_place &place, uint32_t item) {
    kls_item_theta own;
    own.param = kls_piece(theta.pointers, place, theta.format);
    own.master = theta.master.base ? theta.master.of(item) : nullptr;
    own.param_quads = kls_piece_holds_quads(g, own.param, theta.format);
    own.master_quads = kls_holds_quads(own.master);
    own.fresh = own.master && *theta.steps.of(item) == 0;
    return own;
}

// Up to four elements, from `i`, which is `ahead` after the index.
__device__ __forceinline__ void kls_read_theta4(const kls_theta &theta, const kls_item_theta &own, const kls_geometry &g, const kls_index &index,
                                                uint32_t ahead, uint64_t i, uint32_t count, float out[4]) {
    if (own.master && !own.fresh)
        kls_load4(kls_global(own.master), own.master_quads, i, count, out);
    else
        kls_read_piece4(g, own.param, theta.format, own.param_quads, index, ahead, count, out);
}
