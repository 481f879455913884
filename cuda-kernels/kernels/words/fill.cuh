// Words of 32 bits set to one value.
#pragma once
#include "../kernel.h"

struct kls_fill_words {
    uint32_t *at;
    uint64_t count;
    uint32_t value;
    uint32_t unused;
};

KLS_FLAT_KERNEL(fill_words, kls_fill_words, 256) {
    const uint64_t step = (uint64_t)gridDim.x * blockDim.x;
    for (uint64_t i = (uint64_t)blockIdx.x * blockDim.x + threadIdx.x; i < p.count; i += step) p.at[i] = p.value;
}
