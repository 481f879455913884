// C = alpha A B, or C += alpha A B, of matrices with any strides, for every item that takes part.
//
// The columns of B and C and the index that is summed over have two levels, (outer, inner), so that every mode product and every product of
// unfoldings is one product, whatever the order of the tensor: see src/linalg/product.rs.
#pragma once
#include "../batch.h"
#include "bits.cuh"

enum {
    KLS_PRODUCT_LOWER = 1,      // only the lower triangle of C, which is square
    KLS_PRODUCT_ACCUMULATE = 2, // C += instead of C =
    KLS_PRODUCT_UPPER_A = 4,    // A is zero below its diagonal
};

struct kls_product_params {
    kls_array<const float> a, b;
    kls_array<float> c;
    // A factor of each item's, or NULL.
    kls_array<const float> scale;
    kls_items items;
    uint64_t a_row, a_outer, a_inner;
    uint64_t b_outer, b_inner, b_column_outer, b_column_inner;
    uint64_t c_row, c_column_outer, c_column_inner;
    uint32_t rows, columns, depth;
    // How many of the columns, and of what is summed over, make one step of the outer level.
    uint32_t inner_columns, inner_depth;
    uint32_t options;
    float alpha;
    uint32_t unused;
};

#define KLS_PRODUCT_TILE 64
#define KLS_PRODUCT_DEPTH 16

// Where something with a two-level index lies.
__device__ __forceinline__ uint64_t kls_two_levels(uint32_t i, uint32_t count, uint32_t inner_count, uint64_t outer, uint64_t inner) {
    if (inner_count >= count) return i * inner;
    const uint32_t o = i / inner_count;
    return o * outer + (i - o * inner_count) * inner;
}

// Where the tile of this block begins, of tiles of `tile` x `tile`.
__device__ __forceinline__ void kls_product_place(const kls_product_params &p, uint32_t tile, uint32_t &row0, uint32_t &column0) {
    uint32_t row_tile, column_tile;
    if (p.options & KLS_PRODUCT_LOWER) {
        // Tiles on and below the diagonal, one row of them after another.
        row_tile = (uint32_t)((sqrtf(8.0f * (float)blockIdx.x + 1.0f) - 1.0f) * 0.5f);
        while ((uint64_t)row_tile * (row_tile + 1) / 2 > blockIdx.x) row_tile--;
        while ((uint64_t)(row_tile + 1) * (row_tile + 2) / 2 <= blockIdx.x) row_tile++;
        column_tile = blockIdx.x - (uint32_t)((uint64_t)row_tile * (row_tile + 1) / 2);
    } else {
        const uint32_t tiles = (p.columns + tile - 1) / tile;
        row_tile = blockIdx.x / tiles;
        column_tile = blockIdx.x - row_tile * tiles;
    }
    row0 = row_tile * tile, column0 = column_tile * tile;
}

// Which of the elements of a tile a thread loads: neighbours in memory to neighbouring threads, whichever index is contiguous.
struct kls_product_part {
    uint32_t line, depth, next_line, next_depth;

    __device__ __forceinline__ explicit kls_product_part(bool along_depth) {
        const uint32_t t = threadIdx.x;
        line = along_depth ? t / KLS_PRODUCT_DEPTH : t % KLS_PRODUCT_TILE;
        depth = along_depth ? t % KLS_PRODUCT_DEPTH : t / KLS_PRODUCT_TILE;
        next_line = along_depth ? 16 : 0;
        next_depth = along_depth ? 0 : 4;
    }
};

// 256 threads make a tile of 64 x 64, each 4 x 4 of it, from 16 steps of depth at a time: one in shared memory, one under way.
KLS_KERNEL(kls_product, kls_product_params, 256) {
    alignas(16) __shared__ float a_tile[2][KLS_PRODUCT_DEPTH][KLS_PRODUCT_TILE + 4];
    alignas(16) __shared__ float b_tile[2][KLS_PRODUCT_DEPTH][KLS_PRODUCT_TILE + 4];
    const bool lower = p.options & KLS_PRODUCT_LOWER;
    uint32_t row0, column0;
    kls_product_place(p, KLS_PRODUCT_TILE, row0, column0);
    const uint32_t first = p.options & KLS_PRODUCT_UPPER_A ? row0 : 0;

    const kls_product_part a_part(p.a_inner == 1), b_part(p.b_inner == 1);
    // The 4 x 4 elements of neighbouring threads are neighbours where C is contiguous.
    const uint32_t along = threadIdx.x % 16, across = threadIdx.x / 16;
    const uint32_t tx = p.c_row == 1 ? across : along, ty = p.c_row == 1 ? along : across;
    uint64_t b_at[4];
    for (uint32_t l = 0; l < 4; l++)
        b_at[l] = kls_two_levels(column0 + b_part.line + l * b_part.next_line, p.columns, p.inner_columns, p.b_column_outer, p.b_column_inner);

    for (uint32_t item = blockIdx.y; item < p.items.count; item += gridDim.y) {
        if (!kls_takes_part(p.items, item)) continue;
        const float *a = p.a.of(item), *b = p.b.of(item);
        float *c = p.c.of(item);
        float sum[4][4];
        for (uint32_t i = 0; i < 4; i++)
            for (uint32_t j = 0; j < 4; j++) sum[i][j] = 0;

        float a_next[4], b_next[4];
        auto load = [&](uint32_t start) {
            for (uint32_t l = 0; l < 4; l++) {
                const uint32_t row = row0 + a_part.line + l * a_part.next_line, k = start + a_part.depth + l * a_part.next_depth;
                a_next[l] = row < p.rows && k < p.depth
                                ? a[row * p.a_row + kls_two_levels(k, p.depth, p.inner_depth, p.a_outer, p.a_inner)]
                                : 0.0f;
            }
            for (uint32_t l = 0; l < 4; l++) {
                const uint32_t column = column0 + b_part.line + l * b_part.next_line, k = start + b_part.depth + l * b_part.next_depth;
                b_next[l] = column < p.columns && k < p.depth
                                ? b[b_at[l] + kls_two_levels(k, p.depth, p.inner_depth, p.b_outer, p.b_inner)]
                                : 0.0f;
            }
        };
        auto keep = [&](uint32_t buffer) {
            for (uint32_t l = 0; l < 4; l++) {
                a_tile[buffer][a_part.depth + l * a_part.next_depth][a_part.line + l * a_part.next_line] = a_next[l];
                b_tile[buffer][b_part.depth + l * b_part.next_depth][b_part.line + l * b_part.next_line] = b_next[l];
            }
        };
        // The item before may still be read.
        __syncthreads();
        load(first);
        keep(0);
        __syncthreads();
        uint32_t buffer = 0;
        for (uint32_t start = first; start < p.depth; start += KLS_PRODUCT_DEPTH, buffer ^= 1) {
            const bool more = p.depth - start > KLS_PRODUCT_DEPTH;
            if (more) load(start + KLS_PRODUCT_DEPTH);
KLS_UNROLL
            for (uint32_t k = 0; k < KLS_PRODUCT_DEPTH; k++) {
                const float *a_line = &a_tile[buffer][k][ty * 4], *b_line = &b_tile[buffer][k][tx * 4];
KLS_UNROLL
                for (uint32_t i = 0; i < 4; i++)
KLS_UNROLL
                    for (uint32_t j = 0; j < 4; j++) sum[i][j] = kls_fma(a_line[i], b_line[j], sum[i][j]);
            }
            if (more) keep(buffer ^ 1);
            __syncthreads();
        }

        const float alpha = p.scale.base ? p.alpha * p.scale.of(item)[0] : p.alpha;
        const bool accumulate = p.options & KLS_PRODUCT_ACCUMULATE;
        uint32_t first_row = row0 + ty * 4, first_column = column0 + tx * 4;
        KLS_COMPUTED_HERE(first_row);
        KLS_COMPUTED_HERE(first_column);
KLS_UNROLL
        for (uint32_t pair = 0; pair < 4; pair += 2) {
            float *at[4][2], old[4][2];
KLS_UNROLL
            for (uint32_t j = 0; j < 2; j++) {
                const uint32_t column = first_column + pair + j;
                float *top = c + kls_two_levels(column, p.columns, p.inner_columns, p.c_column_outer, p.c_column_inner);
KLS_UNROLL
                for (uint32_t i = 0; i < 4; i++) {
                    const uint32_t row = first_row + i;
                    const bool exists = row < p.rows && column < p.columns && !(lower && row < column);
                    at[i][j] = exists ? top + row * p.c_row : NULL;
                }
            }
            // All that is read of two columns is under way before the first element is written: the compiler cannot know that this does not change
            // the others. For all four there are too few registers.
KLS_UNROLL
            for (uint32_t j = 0; j < 2; j++)
KLS_UNROLL
                for (uint32_t i = 0; i < 4; i++) {
                    old[i][j] = 0;
                    if (accumulate && at[i][j]) old[i][j] = *at[i][j];
                }
KLS_UNROLL
            for (uint32_t j = 0; j < 2; j++)
KLS_UNROLL
                for (uint32_t i = 0; i < 4; i++) {
                    const float x = alpha * sum[i][pair + j];
                    if (at[i][j]) *at[i][j] = accumulate ? old[i][j] + x : x;
                }
        }
    }
}
