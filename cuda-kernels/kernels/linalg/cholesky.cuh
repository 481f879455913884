// The blocked Cholesky factorisation A = L L^T and the solve X L^T = Y that goes with it. Columns are contiguous.
//
// A block of columns is factorised in shared memory, the rows below it are solved for, and the product kernel takes what they contribute off
// the columns after it.
#pragma once
#include "../batch.h"
#include "bits.cuh"

#define KLS_CHOLESKY_BLOCK 64

// Columns that a thread works on in registers, and columns of which it fetches its row at a time. All of these loads are under way before the first
// one is waited for. Under a condition each would be waited for before the next: what is not there is fetched from a place that is, and gets into
// nothing that is kept.
constexpr uint32_t KLS_CHOLESKY_GROUP = 16, KLS_CHOLESKY_LOADS = 32;

// A thread's row of a matrix, to shared memory, where to[k][i] is element (i, k): what one column contributes to the later ones is contiguous. It ends
// with column `last`.
__device__ __forceinline__ void kls_fetch_row(float (&to)[KLS_CHOLESKY_BLOCK][KLS_CHOLESKY_BLOCK], const float *row, uint64_t column_stride,
                                              uint32_t last) {
KLS_NO_UNROLL
    for (uint32_t first = 0; first < KLS_CHOLESKY_BLOCK; first += KLS_CHOLESKY_LOADS) {
        float x[KLS_CHOLESKY_LOADS];
KLS_UNROLL
        for (uint32_t j = 0; j < KLS_CHOLESKY_LOADS; j++) x[j] = row[min(first + j, last) * column_stride];
KLS_UNROLL
        for (uint32_t j = 0; j < KLS_CHOLESKY_LOADS; j++) to[first + j][threadIdx.x] = x[j];
    }
}

// The same of a lower triangle, of which nothing above the diagonal is read.
__device__ __forceinline__ void kls_fetch_triangle(float (&to)[KLS_CHOLESKY_BLOCK][KLS_CHOLESKY_BLOCK], const float *l, uint64_t column_stride,
                                                   uint32_t size) {
    const uint32_t row = min(threadIdx.x, size - 1);
    kls_fetch_row(to, l + row, column_stride, row);
}

// The thread's row of the group of columns from `first` on, less what the columns before the group contribute.
__device__ __forceinline__ void kls_begin_group(float (&y)[KLS_CHOLESKY_GROUP], const float (&x)[KLS_CHOLESKY_BLOCK][KLS_CHOLESKY_BLOCK],
                                                const float (&l)[KLS_CHOLESKY_BLOCK][KLS_CHOLESKY_BLOCK], uint32_t first) {
    const uint32_t row = threadIdx.x;
KLS_UNROLL
    for (uint32_t j = 0; j < KLS_CHOLESKY_GROUP; j++) y[j] = x[first + j][row];
    for (uint32_t k = 0; k < first; k++) {
        const float factor = x[k][row];
KLS_UNROLL
        for (uint32_t j = 0; j < KLS_CHOLESKY_GROUP; j++) y[j] = kls_fma(-factor, l[k][first + j], y[j]);
    }
}

struct kls_cholesky_block_params {
    kls_array<float> a;
    kls_items items;
    uint64_t column_stride;
    // Columns of the block, and the bit that a pivot sets that is no positive finite number.
    uint32_t size, failed;
};

// The diagonal block `a` becomes L, with zeros above its diagonal. One thread to a row.
KLS_KERNEL(kls_cholesky_block, kls_cholesky_block_params, KLS_CHOLESKY_BLOCK) {
    // Columns of A, which become those of L. A thread meets the others' elements only in columns of L.
    alignas(16) __shared__ float l[KLS_CHOLESKY_BLOCK][KLS_CHOLESKY_BLOCK];
    alignas(16) __shared__ float diagonal[KLS_CHOLESKY_GROUP];
    const uint32_t item = blockIdx.x, n = p.size, i = threadIdx.x;
    if (!kls_takes_part(p.items, item)) return;
    float *a = p.a.of(item);
    kls_fetch_triangle(l, a, p.column_stride, n);
    for (uint32_t first = 0; first < n; first += KLS_CHOLESKY_GROUP) {
        float x[KLS_CHOLESKY_GROUP], pivot[KLS_CHOLESKY_GROUP];
        kls_begin_group(x, l, l, first);

        // One barrier to a column. If a pivot's own thread told the others its root, all would wait for it, and then again for each other's elements
        // of the column. Instead every thread has all pivots of the group, and takes off them what each column contributes just as their own threads
        // do: all have the same roots, bit for bit, and fail alike.
KLS_UNROLL
        for (uint32_t j = 0; j < KLS_CHOLESKY_GROUP; j++)
            if (i == first + j) diagonal[j] = i < n ? x[j] : 1.0f;
        __syncthreads();
KLS_UNROLL
        for (uint32_t j = 0; j < KLS_CHOLESKY_GROUP; j++) pivot[j] = diagonal[j];
KLS_UNROLL
        for (uint32_t j = 0; j < KLS_CHOLESKY_GROUP; j++) {
            if (!kls_is_finite(pivot[j]) || pivot[j] <= 0) {
                if (i == 0) atomicOr(&p.items.flags[item], p.failed);
                return;
            }
            const uint32_t column = first + j;
            const float root = sqrtf(pivot[j]);
            x[j] = i > column && i < n ? x[j] / root : i == column ? root : 0.0f;
            l[column][i] = x[j];
            __syncthreads();
KLS_UNROLL
            for (uint32_t k = j + 1; k < KLS_CHOLESKY_GROUP; k++) {
                const float y = l[column][first + k];
                pivot[k] = kls_fma(-y, y, pivot[k]);
                x[k] = kls_fma(-x[j], y, x[k]);
            }
        }
    }
    for (uint32_t j = 0; j < n; j++)
        if (i < n) a[j * p.column_stride + i] = l[j][i];
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
    alignas(16) __shared__ float l[KLS_CHOLESKY_BLOCK][KLS_CHOLESKY_BLOCK];
    __shared__ float x[KLS_CHOLESKY_BLOCK][KLS_CHOLESKY_BLOCK];
    const uint32_t n = p.size, t = threadIdx.x, row0 = blockIdx.x * KLS_CHOLESKY_BLOCK, row = row0 + t;
    // What is fetched in its place is one of this block's rows, which no other one writes.
    const uint32_t existing_row = row < p.rows ? row : row0;
    for (uint32_t item = blockIdx.y; item < p.items.count; item += gridDim.y) {
        if (!kls_takes_part(p.items, item)) continue;
        float *x_of_item = p.x.of(item);
        __syncthreads();
        kls_fetch_triangle(l, p.l.of(item), p.l_column_stride, n);
        kls_fetch_row(x, x_of_item + existing_row, p.x_column_stride, n - 1);
        __syncthreads();
        for (uint32_t first = 0; first < n; first += KLS_CHOLESKY_GROUP) {
            float y[KLS_CHOLESKY_GROUP];
            kls_begin_group(y, x, l, first);
KLS_UNROLL
            for (uint32_t j = 0; j < KLS_CHOLESKY_GROUP; j++) {
                y[j] /= l[first + j][first + j];
KLS_UNROLL
                for (uint32_t k = j + 1; k < KLS_CHOLESKY_GROUP; k++) y[k] = kls_fma(-y[j], l[first + j][first + k], y[k]);
            }
KLS_UNROLL
            for (uint32_t j = 0; j < KLS_CHOLESKY_GROUP; j++) x[first + j][t] = y[j];
        }
        if (row < p.rows)
            for (uint32_t k = 0; k < n; k++) x_of_item[k * p.x_column_stride + row] = x[k][t];
        if (p.mirror != 0)
            for (uint32_t r = 0; r < KLS_CHOLESKY_BLOCK && row0 + r < p.rows; r++)
                if (t < n) x_of_item[p.mirror + (row0 + r) * p.x_column_stride + t] = 0.0f;
    }
}
