// The size of dense arrays, in two stages.
#pragma once
#include "measure.cuh"

struct kls_io_magnitude_params {
    kls_items items;
    kls_array<const float> x;
    uint64_t len;
    // Out: chunk by chunk. The chunks of an item follow each other.
    kls_measure *chunks;
};

KLS_KERNEL(kls_io_magnitude, kls_io_magnitude_params, KLS_CHUNK_THREADS) {
    const uint64_t chunks = kls_chunks(p.len);
    for (uint32_t item = blockIdx.y; item < p.items.count; item += gridDim.y) {
        if (!kls_takes_part(p.items, item)) continue;
        const float *x = p.x.of(item);
        const bool quads = kls_holds_quads(x);
        for (uint64_t chunk = blockIdx.x; chunk < chunks; chunk += gridDim.x) {
            kls_measure m = kls_nothing_measured();
            for (uint32_t ahead = 4 * threadIdx.x; ahead < KLS_CHUNK; ahead += 4 * KLS_CHUNK_THREADS) {
                const uint64_t i = chunk * KLS_CHUNK + ahead;
                if (i >= p.len) break;
                const uint32_t count = kls_count4(i, p.len);
                float values[4];
                kls_load4(x, quads, i, count, values);
                for (uint32_t j = 0; j < 4; j++)
                    if (j < count) kls_measure_one(m, values[j]);
            }
            m = kls_measure_block(m);
            if (threadIdx.x == 0) p.chunks[item * chunks + chunk] = m;
        }
    }
}

struct kls_io_magnitude_sum_params {
    kls_items items;
    const kls_measure *chunks;
    // Of an item.
    uint64_t count;
    // Out: one per item.
    kls_measure *out;
};

KLS_KERNEL(kls_io_magnitude_sum, kls_io_magnitude_sum_params, KLS_CHUNK_THREADS) {
    for (uint32_t item = blockIdx.x; item < p.items.count; item += gridDim.x) {
        if (!kls_takes_part(p.items, item)) continue;
        kls_measure m = kls_nothing_measured();
        for (uint64_t i = threadIdx.x; i < p.count; i += KLS_CHUNK_THREADS) kls_measure_and(m, p.chunks[item * p.count + i]);
        m = kls_measure_block(m);
        if (threadIdx.x == 0) p.out[item] = m;
    }
}
