// Elementwise passes over squares of d x d: one row of the grid to an item.
#pragma once
#include "../batch.h"
#include "bits.cuh"

// Runs `f(item, row, column)` for the elements of this thread, in items that take part: every so many elements one, as there are threads in a row of
// the grid.
template <class F> __device__ __forceinline__ void kls_for_elements(const kls_items &items, uint32_t d, F f) {
    const uint32_t at = blockIdx.x * 256 + threadIdx.x, threads = gridDim.x * 256;
    // From one element to the next without a division.
    const uint32_t first = at / d, rows = threads / d, columns = threads - rows * d;
    for (uint32_t item = blockIdx.y; item < items.count; item += gridDim.y) {
        if (!kls_takes_part(items, item)) continue;
        for (uint32_t row = first, column = at - first * d; row < d; row += rows) {
            f(item, row, column);
            column += columns;
            if (column >= d) column -= d, row++;
        }
    }
}

struct kls_gather_square_params {
    kls_array<const float> from;
    kls_array<float> to;
    // Places of rows and columns that are taken, or NULL for their own; a factor of each item's, or NULL.
    kls_array<const uint32_t> order;
    kls_array<const float> scale;
    kls_items items;
    uint32_t d, permutes_rows;
};

// to[i][j] = scale from[order[i]][order[j]], or of row i where rows are not permuted.
KLS_FLAT_KERNEL(kls_gather_square, kls_gather_square_params, 256) {
    kls_for_elements(p.items, p.d, [&](uint32_t item, uint32_t i, uint32_t j) {
        const uint32_t *order = p.order.base ? p.order.of(item) : nullptr;
        const uint64_t row = order && p.permutes_rows ? order[i] : i, column = order ? order[j] : j;
        const float x = p.from.of(item)[row * p.d + column];
        p.to.of(item)[(uint64_t)i * p.d + j] = p.scale.base ? x * p.scale.of(item)[0] : x;
    });
}

struct kls_place_rotation_params {
    kls_array<const float> columns;
    kls_array<float> rotation;
    kls_array<const uint32_t> order;
    kls_items items;
    uint32_t d, unused;
};

// The matrix whose columns are contiguous in `columns`, by rows, each at the place in `order` (NULL: its own).
KLS_KERNEL(kls_place_rotation, kls_place_rotation_params, 256) {
    // Turned around in shared memory, so that both sides are accessed along their rows.
    __shared__ float tile[32][33];
    const uint32_t across = (p.d + 31) / 32, tx = threadIdx.x % 32, ty = threadIdx.x / 32;
    for (uint32_t item = blockIdx.y; item < p.items.count; item += gridDim.y) {
        if (!kls_takes_part(p.items, item)) continue;
        const float *columns = p.columns.of(item);
        const uint32_t *order = p.order.base ? p.order.of(item) : nullptr;
        float *rotation = p.rotation.of(item);
        for (uint32_t at = blockIdx.x; at < across * across; at += gridDim.x) {
            const uint32_t row0 = at / across * 32, column0 = at % across * 32;
            __syncthreads();
            for (uint32_t c = ty; c < 32; c += 8)
                if (column0 + c < p.d && row0 + tx < p.d) tile[c][tx] = columns[(uint64_t)(column0 + c) * p.d + row0 + tx];
            __syncthreads();
            for (uint32_t r = ty; r < 32; r += 8) {
                if (row0 + r >= p.d || column0 + tx >= p.d) continue;
                const uint64_t row = order ? order[row0 + r] : row0 + r;
                rotation[row * p.d + column0 + tx] = tile[tx][r];
            }
        }
    }
}

struct kls_transpose_lower_params {
    kls_array<const float> from;
    kls_array<float> to;
    kls_items items;
    uint32_t d, unused;
};

// The lower triangle, rows contiguous, to where its columns are contiguous.
KLS_FLAT_KERNEL(kls_transpose_lower, kls_transpose_lower_params, 256) {
    kls_for_elements(p.items, p.d, [&](uint32_t item, uint32_t i, uint32_t j) {
        if (j <= i) p.to.of(item)[(uint64_t)j * p.d + i] = p.from.of(item)[(uint64_t)i * p.d + j];
    });
}

struct kls_newton_schulz_params {
    kls_array<float> square;
    kls_items items;
    uint32_t d, unused;
};

// A <- (3 I - A) / 2 of a symmetric matrix that comes in as its lower triangle.
KLS_FLAT_KERNEL(kls_newton_schulz, kls_newton_schulz_params, 256) {
    kls_for_elements(p.items, p.d, [&](uint32_t item, uint32_t i, uint32_t j) {
        if (j > i) return;
        float *a = p.square.of(item), x = -0.5f * a[(uint64_t)i * p.d + j];
        if (i == j) x += 1.5f;
        a[(uint64_t)i * p.d + j] = x;
        a[(uint64_t)j * p.d + i] = x;
    });
}

struct kls_angles_params {
    kls_array<float> t;
    kls_items items;
    uint32_t d, unused;
};

// Where T is nearly diagonal: the angles of the infinitesimal rotation that diagonalises it. See core/src/eigenvectors.rs.
KLS_FLAT_KERNEL(kls_angles, kls_angles_params, 256) {
    kls_for_elements(p.items, p.d, [&](uint32_t item, uint32_t i, uint32_t j) {
        if (j >= i) return;
        const uint64_t d = p.d;
        float *t = p.t.of(item);
        const float gap = t[j * d + j] - t[i * d + i], x = t[i * d + j];
        const float angle = fabsf(x) <= gap * 0x1p-10f && gap > 0 ? x / gap : 0.0f;
        t[i * d + j] = angle;
        t[j * d + i] = -angle;
    });
}

struct kls_unit_diagonal_params {
    kls_array<float> square;
    kls_items items;
    uint32_t d, unused;
};

// Ones on the diagonal.
KLS_FLAT_KERNEL(kls_unit_diagonal, kls_unit_diagonal_params, 256) {
    const uint32_t i = blockIdx.x * 256 + threadIdx.x;
    if (i >= p.d) return;
    for (uint32_t item = blockIdx.y; item < p.items.count; item += gridDim.y)
        if (kls_takes_part(p.items, item)) p.square.of(item)[(uint64_t)i * p.d + i] = 1.0f;
}

struct kls_restore_lower_params {
    kls_array<float> square;
    kls_array<const float> diagonal;
    kls_items items;
    uint32_t d, unused;
};

// The lower triangle from the upper one, and the diagonal.
KLS_FLAT_KERNEL(kls_restore_lower, kls_restore_lower_params, 256) {
    kls_for_elements(p.items, p.d, [&](uint32_t item, uint32_t i, uint32_t j) {
        float *a = p.square.of(item);
        if (j < i) a[(uint64_t)i * p.d + j] = a[(uint64_t)j * p.d + i];
        if (j == i) a[(uint64_t)i * p.d + i] = p.diagonal.of(item)[i];
    });
}

struct kls_check_square_params {
    kls_array<const float> square;
    kls_items items;
    uint32_t d, lower, failed, unused;
};

// Sets a bit where an element, or one of the lower triangle, is not finite.
KLS_FLAT_KERNEL(kls_check_square, kls_check_square_params, 256) {
    kls_for_elements(p.items, p.d, [&](uint32_t item, uint32_t i, uint32_t j) {
        if ((!p.lower || j <= i) && !kls_is_finite(p.square.of(item)[(uint64_t)i * p.d + j])) atomicOr(&p.items.flags[item], p.failed);
    });
}
