// The blocked Cholesky factorisation A = L L^T and the solve X L^T = Y that goes with it. Columns are contiguous.
//
// A block of columns is factorised in shared memory, the rows below it are solved for, and the product kernel takes what they contribute off
// the columns after it.
#pragma once
#include "../batch.h"
#include "bits.cuh"

#define KLS_CHOLESKY_BLOCK 64

struct kls_cholesky_block_params {
    kls_array<float> a;
    kls_items items;
    uint64_t column_stride;
    // Columns of the block, and the bit that a pivot sets that is no positive finite number.
    uint32_t size, failed;
};

// The diagonal block `a` becomes L, with zeros above its diagonal. One thread to a row.
KLS_KERNEL(kls_cholesky_block, kls_cholesky_block_params, KLS_CHOLESKY_BLOCK) {
    __shared__ float l[KLS_CHOLESKY_BLOCK][KLS_CHOLESKY_BLOCK + 1];
    // Apart, so that nobody has to wait before a pivot's root takes its place.
    __shared__ float diagonal[KLS_CHOLESKY_BLOCK];
    const uint32_t item = blockIdx.x, n = p.size, i = threadIdx.x;
    if (!kls_takes_part(p.items, item)) return;
    float *a = p.a.of(item);
    for (uint32_t j = 0; j < n; j++) l[i][j] = i >= j && i < n ? a[j * p.column_stride + i] : 0.0f;
    diagonal[i] = i < n ? l[i][i] : 1.0f;
    __syncthreads();
    for (uint32_t j = 0; j < n; j++) {
        // Every thread sums up the pivot for itself: that costs less than to wait for the one whose row it is in.
        float pivot = diagonal[j], x = l[i][j];
        for (uint32_t k = 0; k < j; k++) {
            const float y = l[j][k];
            pivot = kls_fma(-y, y, pivot);
            x = kls_fma(-l[i][k], y, x);
        }
        if (!kls_is_finite(pivot) || pivot <= 0) {
            if (i == 0) atomicOr(&p.items.flags[item], p.failed);
            return;
        }
        const float root = sqrtf(pivot);
        if (i >= j) l[i][j] = i == j ? root : x / root;
        __syncthreads();
    }
    for (uint32_t j = 0; j < n; j++)
        if (i < n) a[j * p.column_stride + i] = l[i][j];
}

struct kls_solve_block_params {
    kls_array<float> x;
    kls_array<const float> l;
    kls_items items;
    uint64_t x_column_stride, l_column_stride;
    // Not 0: the block of the same shape on the other side of the matrix' diagonal, which begins so many elements after X, becomes zero.
    uint64_t mirror;
    uint32_t rows, size;
};

// X <- X L^-T of a few columns: each thread solves for a row of X.
KLS_KERNEL(kls_solve_block, kls_solve_block_params, KLS_CHOLESKY_BLOCK) {
    // l[k][j] is L's element (j, k): what one column contributes to the later ones is contiguous.
    alignas(16) __shared__ float l[KLS_CHOLESKY_BLOCK][KLS_CHOLESKY_BLOCK];
    __shared__ float x[KLS_CHOLESKY_BLOCK][KLS_CHOLESKY_BLOCK];
    constexpr uint32_t GROUP = 16;
    const uint32_t n = p.size, t = threadIdx.x, row0 = blockIdx.x * KLS_CHOLESKY_BLOCK, row = row0 + t;
    for (uint32_t item = blockIdx.y; item < p.items.count; item += gridDim.y) {
        if (!kls_takes_part(p.items, item)) continue;
        const float *l_of_item = p.l.of(item);
        float *x_of_item = p.x.of(item);
        __syncthreads();
        for (uint32_t k = 0; k < KLS_CHOLESKY_BLOCK; k++) {
            // Columns beyond the last are those of the identity.
            l[k][t] = k < n && t < n ? (t >= k ? l_of_item[k * p.l_column_stride + t] : 0.0f) : t == k ? 1.0f : 0.0f;
            x[k][t] = k < n && row < p.rows ? x_of_item[k * p.x_column_stride + row] : 0.0f;
        }
        __syncthreads();
        for (uint32_t first = 0; first < n; first += GROUP) {
            float y[GROUP];
KLS_UNROLL
            for (uint32_t j = 0; j < GROUP; j++) y[j] = x[first + j][t];
            for (uint32_t k = 0; k < first; k++) {
                const float factor = x[k][t];
KLS_UNROLL
                for (uint32_t j = 0; j < GROUP; j++) y[j] = kls_fma(-factor, l[k][first + j], y[j]);
            }
KLS_UNROLL
            for (uint32_t j = 0; j < GROUP; j++) {
                y[j] /= l[first + j][first + j];
KLS_UNROLL
                for (uint32_t k = j + 1; k < GROUP; k++) y[k] = kls_fma(-y[j], l[first + j][first + k], y[k]);
            }
KLS_UNROLL
            for (uint32_t j = 0; j < GROUP; j++) x[first + j][t] = y[j];
        }
        if (row < p.rows)
            for (uint32_t k = 0; k < n; k++) x_of_item[k * p.x_column_stride + row] = x[k][t];
        if (p.mirror != 0)
            for (uint32_t r = 0; r < KLS_CHOLESKY_BLOCK && row0 + r < p.rows; r++)
                if (t < n) x_of_item[p.mirror + (row0 + r) * p.x_column_stride + t] = 0.0f;
    }
}
