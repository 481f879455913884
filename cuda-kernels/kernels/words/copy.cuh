// Words of 32 bits copied; the two ranges have nothing in common.
#pragma once
#include "../kernel.h"

struct kls_copy_words {
    const uint32_t *from;
    uint32_t *to;
    uint64_t count;
};

KLS_FLAT_KERNEL(copy_words, kls_copy_words, 256) {
    const uint64_t step = (uint64_t)gridDim.x * blockDim.x;
    for (uint64_t i = (uint64_t)blockIdx.x * blockDim.x + threadIdx.x; i < p.count; i += step) p.to[i] = p.from[i];
}
