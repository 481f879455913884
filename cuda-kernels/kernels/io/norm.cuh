// The norm of all gradients together, and the factor that clips it.
#pragma once
#include "magnitude.cuh"
#include "scalar.cuh"

struct kls_norm {
    // Of squares.
    double sum;
    // Its root, and the smaller of 1 and `limit / norm`.
    float norm, factor;
};

__device__ __forceinline__ void kls_clip(kls_norm &norm, const kls_scalar &limit) {
    const double root = sqrt(norm.sum), most = kls_value(limit);
    norm.norm = static_cast<float>(root);
    norm.factor = root > most ? static_cast<float>(most / root) : 1;
}

struct kls_io_norm_params {
    kls_items items;
    const kls_measure *measures;
    kls_scalar limit;
    // In where it `adds`: the sum of what came before. Out.
    kls_norm *norm;
    uint32_t adds, unused;
};

// One block. An item that is not finite is not stepped, so that it says nothing about how far the others may go.
KLS_KERNEL(kls_io_norm, kls_io_norm_params, KLS_CHUNK_THREADS) {
    kls_measure m = kls_nothing_measured();
    for (uint32_t item = threadIdx.x; item < p.items.count; item += KLS_CHUNK_THREADS)
        if (kls_takes_part(p.items, item) && p.measures[item].largest < 0x7f800000) kls_measure_and(m, p.measures[item]);
    m = kls_measure_block(m);
    if (threadIdx.x == 0) {
        kls_norm norm = {p.adds ? p.norm->sum + m.sum : m.sum, 0, 0};
        kls_clip(norm, p.limit);
        *p.norm = norm;
    }
}
