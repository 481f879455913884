// Memory of the device: filled, copied, and written from what a launch carries with it.
#pragma once
#include "../batch.h"
#include "chunks.cuh"

constexpr uint32_t KLS_CARRIED = 480;

// As many numbers as the parameters of a kernel hold, by value: no memory of the host is read when it runs, so that a captured graph may have it.
struct kls_io_write_params {
    uint64_t *to;
    uint32_t count, unused;
    uint64_t words[KLS_CARRIED];
};

KLS_FLAT_KERNEL(kls_io_write, kls_io_write_params, 256) {
    for (uint32_t i = threadIdx.x; i < p.count; i += 256) p.to[i] = p.words[i];
}

struct kls_io_fill_params {
    kls_items items;
    kls_array<uint32_t> to;
    uint64_t len;
    uint32_t value, unused;
};

KLS_FLAT_KERNEL(kls_io_fill, kls_io_fill_params, KLS_CHUNK_THREADS) {
    const uint32_t values[4] = {p.value, p.value, p.value, p.value};
    for (uint32_t item = blockIdx.y; item < p.items.count; item += gridDim.y) {
        if (!kls_takes_part(p.items, item)) continue;
        uint32_t *to = p.to.of(item);
        const bool quads = kls_holds_quads(to);
        const uint64_t threads = static_cast<uint64_t>(gridDim.x) * KLS_CHUNK_THREADS;
        for (uint64_t i = 4 * (static_cast<uint64_t>(blockIdx.x) * KLS_CHUNK_THREADS + threadIdx.x); i < p.len; i += 4 * threads)
            kls_store4(to, quads, i, kls_count4(i, p.len), values);
    }
}

struct kls_io_copy_params {
    kls_items items;
    kls_array<const uint32_t> from;
    kls_array<uint32_t> to;
    uint64_t len;
};

KLS_FLAT_KERNEL(kls_io_copy, kls_io_copy_params, KLS_CHUNK_THREADS) {
    for (uint32_t item = blockIdx.y; item < p.items.count; item += gridDim.y) {
        if (!kls_takes_part(p.items, item)) continue;
        const uint32_t *from = p.from.of(item);
        uint32_t *to = p.to.of(item);
        const bool from_quads = kls_holds_quads(from), to_quads = kls_holds_quads(to);
        const uint64_t threads = static_cast<uint64_t>(gridDim.x) * KLS_CHUNK_THREADS;
        for (uint64_t i = 4 * (static_cast<uint64_t>(blockIdx.x) * KLS_CHUNK_THREADS + threadIdx.x); i < p.len; i += 4 * threads) {
            uint32_t words[4];
            kls_load4(from, from_quads, i, kls_count4(i, p.len), words);
            kls_store4(to, to_quads, i, kls_count4(i, p.len), words);
        }
    }
}
