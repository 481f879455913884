// The orthogonal factor of a square matrix by Householder reflections, as core/src/linalg/portable/qr.rs makes it: the way out where Cholesky
// factors break down. One block to an item: it is for small matrices, larger ones are factorised in panels (householder_panels.cuh).
#pragma once
#include "../batch.h"
#include "bits.cuh"
#include "sum.cuh"

#define KLS_HOUSEHOLDER_THREADS 512

struct kls_householder_params {
    // Both with contiguous rows. A is destroyed.
    kls_array<float> a, q;
    // 3 d numbers for each item.
    kls_array<float> work;
    kls_items items;
    uint32_t d, failed;
};

// A = Q R with diag R >= 0. Every thread has columns of its own, so that sums down a column need nobody else and rows are accessed along.
KLS_KERNEL(kls_householder, kls_householder_params, KLS_HOUSEHOLDER_THREADS) {
    __shared__ float room[KLS_HOUSEHOLDER_THREADS + 32];
    const uint32_t item = blockIdx.x, t = threadIdx.x;
    if (!kls_takes_part(p.items, item)) return;
    const uint64_t d = p.d;
    float *a = p.a.of(item), *q = p.q.of(item);
    float *v = p.work.of(item), *taus = v + d, *signs = taus + d;

    // Every column's largest element near 1: Q does not depend on it, and norms can be neither too large nor too small. What becomes so small
    // later on that its square vanishes is far below the rounding of its column.
    bool finite = true;
    for (uint64_t c = t; c < d; c += KLS_HOUSEHOLDER_THREADS) {
        float largest = 0;
        for (uint64_t i = 0; i < d; i++) {
            const float x = a[i * d + c];
            finite = finite && kls_is_finite(x);
            largest = fmaxf(largest, fabsf(x));
        }
        const float scale = kls_exp2i(-kls_exponent(largest));
        if (largest > 0)
            for (uint64_t i = 0; i < d; i++) a[i * d + c] *= scale;
    }
    if (!__syncthreads_and(finite)) {
        if (t == 0) atomicOr(&p.items.flags[item], p.failed);
        return;
    }

    for (uint64_t j = 0; j < d; j++) {
        float square = 0;
        for (uint64_t i = j + 1 + t; i < d; i += KLS_HOUSEHOLDER_THREADS) square = kls_fma(a[i * d + j], a[i * d + j], square);
        square = kls_block_sum<KLS_HOUSEHOLDER_THREADS>(square, room);
        const float pivot = a[j * d + j];
        float tau = 0, beta = pivot;
        if (square > 0) {
            const float norm = sqrtf(pivot * pivot + square);
            // Of the other sign than the pivot, so that nothing cancels.
            beta = pivot < 0 ? norm : -norm;
            tau = (beta - pivot) / beta;
            const float scale = 1.0f / (pivot - beta);
            for (uint64_t i = j + 1 + t; i < d; i += KLS_HOUSEHOLDER_THREADS) a[i * d + j] = v[i] = a[i * d + j] * scale;
        }
        if (t == 0) {
            taus[j] = tau;
            signs[j] = beta < 0 ? -1.0f : 1.0f;
        }
        __syncthreads();
        if (tau == 0) continue;
        for (uint64_t c = j + 1 + t; c < d; c += KLS_HOUSEHOLDER_THREADS) {
            float along = a[j * d + c];
            for (uint64_t i = j + 1; i < d; i++) along = kls_fma(v[i], a[i * d + c], along);
            along *= -tau;
            a[j * d + c] += along;
            for (uint64_t i = j + 1; i < d; i++) a[i * d + c] = kls_fma(v[i], along, a[i * d + c]);
        }
        // The next column is somebody else's.
        __syncthreads();
    }

    // Q = H_0 ... H_(d-1) D with the signs D of diag R.
    for (uint64_t c = t; c < d; c += KLS_HOUSEHOLDER_THREADS)
        for (uint64_t i = 0; i < d; i++) q[i * d + c] = i == c ? signs[c] : 0.0f;
    for (uint64_t j = d; j-- > 0;) {
        const float tau = taus[j];
        if (tau == 0) continue;
        __syncthreads();
        for (uint64_t i = j + 1 + t; i < d; i += KLS_HOUSEHOLDER_THREADS) v[i] = a[i * d + j];
        __syncthreads();
        // Columns before j are still those of D, whose rows from j on are zero.
        for (uint64_t c = t; c < d; c += KLS_HOUSEHOLDER_THREADS) {
            if (c < j) continue;
            float along = q[j * d + c];
            for (uint64_t i = j + 1; i < d; i++) along = kls_fma(v[i], q[i * d + c], along);
            along *= -tau;
            q[j * d + c] += along;
            for (uint64_t i = j + 1; i < d; i++) q[i * d + c] = kls_fma(v[i], along, q[i * d + c]);
        }
    }
}
