// Where the elements of a batch's pieces lie in the caller's buffers.
#pragma once
#include "../kernel.h"

constexpr uint32_t KLS_MAX_ORDER = 6;

// The innermost dim comes first. Dims that lie together have been made one, so that a dense piece has a single dim.
struct kls_geometry {
    uint64_t len;
    uint64_t strides[KLS_MAX_ORDER];
    // Of all dims but the outermost one, each at most 2^30, and how they divide.
    uint32_t dims[KLS_MAX_ORDER], multipliers[KLS_MAX_ORDER], shifts[KLS_MAX_ORDER];
    uint32_t order;
    // Whether every four elements, from a multiple of four on, lie together, at a multiple of four elements from the piece's first.
    uint32_t quads;
};

// One item: its tensor's number, that of its piece among all slices' pieces of the tensor, and where the piece begins in the tensor's buffers.
struct kls_place {
    uint32_t tensor, slice;
    uint64_t offset;
};

// The index of an element, from which those of the next few follow without long divisions.
struct kls_index {
    uint64_t outermost;
    uint32_t at[KLS_MAX_ORDER - 1];
};

__device__ __forceinline__ kls_index kls_seek(const kls_geometry &g, uint64_t element) {
    kls_index index;
    for (uint32_t k = 0; k < KLS_MAX_ORDER - 1; k++) {
        index.at[k] = 0;
        if (k + 1 < g.order) {
            const uint64_t next = element / g.dims[k];
            index.at[k] = static_cast<uint32_t>(element - next * g.dims[k]);
            element = next;
        }
    }
    index.outermost = element;
    return index;
}

// Where the element lies that comes `ahead` elements later, below 2^30: counted in elements from the piece's first.
__device__ __forceinline__ uint64_t kls_offset(const kls_geometry &g, const kls_index &index, uint32_t ahead) {
    uint64_t offset = 0;
    uint32_t carry = ahead;
    for (uint32_t k = 0; k < KLS_MAX_ORDER - 1; k++)
        if (k + 1 < g.order) {
            const uint32_t n = index.at[k] + carry;
            // Granlund and Montgomery's division by a constant: exact for n below 2^31.
            carry = (static_cast<uint32_t>((static_cast<uint64_t>(n) * g.multipliers[k]) >> 32) + n) >> g.shifts[k];
            offset += (n - carry * g.dims[k]) * g.strides[k];
        }
    return offset + (index.outermost + carry) * g.strides[g.order - 1];
}
