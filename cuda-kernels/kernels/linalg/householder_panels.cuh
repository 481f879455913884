// The orthogonal factor of a square matrix by Householder reflections, for matrices that are too large for one block of threads: one block makes the
// reflections of a panel of columns, and many apply their product I - V T V^T to what is beside it. (Schreiber and Van Loan, 1989.)
//
// V lies in A's columns from below the diagonal on; the ones on its diagonal and the zeros above are not written.
#pragma once
#include "householder.cuh"
#include "squares.cuh"

// Columns of a panel.
#define KLS_QR_PANEL 32
// Rows that are in shared memory at a time.
#define KLS_QR_ROWS 64

struct kls_qr_panels_params {
    // Both with contiguous rows. A is destroyed.
    kls_array<float> a, q;
    // The signs of diag R, d of them, and for each panel the upper triangular T, with contiguous rows.
    kls_array<float> signs, triangles;
    kls_items items;
    uint32_t d, failed;
    // The first column of the panel, and whether its reflections are applied from the first to the last to the columns of A after it, or the other way
    // round to those of Q from it on.
    uint32_t start, to_q;
};

// As in householder.cuh: every column's largest element near 1. One thread to a column.
KLS_FLAT_KERNEL(kls_qr_scale, kls_qr_panels_params, 64) {
    const uint64_t d = p.d, c = (uint64_t)blockIdx.x * 64 + threadIdx.x;
    if (c >= d) return;
    for (uint32_t item = blockIdx.y; item < p.items.count; item += gridDim.y) {
        if (!kls_takes_part(p.items, item)) continue;
        float *a = p.a.of(item), largest = 0;
        bool finite = true;
        for (uint64_t i = 0; i < d; i++) {
            const float x = a[i * d + c];
            finite = finite && kls_is_finite(x);
            largest = fmaxf(largest, fabsf(x));
        }
        if (!finite) atomicOr(&p.items.flags[item], p.failed);
        const float scale = kls_exp2i(-kls_exponent(largest));
        if (finite && largest > 0)
            for (uint64_t i = 0; i < d; i++) a[i * d + c] *= scale;
    }
}

// The reflections of one panel. Sixteen threads have a column together.
KLS_KERNEL(kls_qr_panel, kls_qr_panels_params, 512) {
    constexpr uint32_t GROUPS = 512 / KLS_QR_PANEL;
    __shared__ float room[512 + 32], parts[GROUPS][KLS_QR_PANEL], triangle[KLS_QR_PANEL][KLS_QR_PANEL + 1], dots[KLS_QR_PANEL];
    const uint32_t t = threadIdx.x, item = blockIdx.x, c = t % KLS_QR_PANEL, group = t / KLS_QR_PANEL;
    if (!kls_takes_part(p.items, item)) return;
    const uint64_t d = p.d, start = p.start;
    const uint32_t size = (uint32_t)min((uint64_t)KLS_QR_PANEL, d - start);
    float *a = p.a.of(item), *own = a + start + c;
    for (uint32_t at = t; at < KLS_QR_PANEL * KLS_QR_PANEL; at += 512) triangle[at / KLS_QR_PANEL][at % KLS_QR_PANEL] = 0;

    for (uint32_t j = 0; j < size; j++) {
        const uint64_t column = start + j;
        const float *v = a + column;
        float square = 0;
        for (uint64_t i = column + 1 + t; i < d; i += 512) square = kls_fma(v[i * d], v[i * d], square);
        square = kls_block_sum<512>(square, room);
        const float pivot = v[column * d];
        float tau = 0, beta = pivot;
        if (square > 0) {
            const float norm = sqrtf(pivot * pivot + square);
            // Of the other sign than the pivot, so that nothing cancels.
            beta = pivot < 0 ? norm : -norm;
            tau = (beta - pivot) / beta;
            const float scale = 1.0f / (pivot - beta);
            for (uint64_t i = column + 1 + t; i < d; i += 512) a[i * d + column] *= scale;
        }
        if (t == 0) p.signs.of(item)[column] = beta < 0 ? -1.0f : 1.0f;
        __syncthreads();
        if (tau == 0) continue;

        // What columns after it have along v, and the vectors before it too.
        float along = 0;
        if (c < size && c != j) {
            if (group == 0) along = own[column * d];
            for (uint64_t i = column + 1 + group; i < d; i += GROUPS) along = kls_fma(v[i * d], own[i * d], along);
        }
        parts[group][c] = along;
        __syncthreads();
        along = 0;
        for (uint32_t g = 0; g < GROUPS; g++) along += parts[g][c];
        if (c > j && c < size) {
            along *= -tau;
            if (group == 0) own[column * d] += along;
            for (uint64_t i = column + 1 + group; i < d; i += GROUPS) own[i * d] = kls_fma(v[i * d], along, own[i * d]);
        } else if (c < j && group == 0) {
            dots[c] = along;
        }
        __syncthreads();
        // Column j of T = -tau T V^T v, with tau on the diagonal. A thread has a row.
        if (t < j) {
            float x = 0;
            for (uint32_t k = t; k < j; k++) x = kls_fma(triangle[t][k], dots[k], x);
            triangle[t][j] = -tau * x;
        }
        if (t == j) triangle[t][j] = tau;
    }
    __syncthreads();
    float *out = p.triangles.of(item) + start * KLS_QR_PANEL;
    for (uint32_t at = t; at < KLS_QR_PANEL * KLS_QR_PANEL; at += 512) out[at] = triangle[at / KLS_QR_PANEL][at % KLS_QR_PANEL];
}

// Q = the signs of diag R on the diagonal.
KLS_FLAT_KERNEL(kls_qr_identity, kls_qr_panels_params, 256) {
    kls_for_elements(p.items, p.d, [&](uint32_t item, uint32_t i, uint32_t j) {
        p.q.of(item)[(uint64_t)i * p.d + j] = i == j ? p.signs.of(item)[i] : 0.0f;
    });
}

// C <- (I - V T^T V^T) C, or with T, for 32 columns of C. Each of 256 threads makes four of what 32 vectors have of them, and four columns of 2 rows
// in 64.
KLS_KERNEL(kls_qr_reflect, kls_qr_panels_params, 256) {
    alignas(16) __shared__ float c_rows[KLS_QR_ROWS][32], inner[KLS_QR_PANEL][32], weights[KLS_QR_PANEL][32];
    __shared__ float v_rows[KLS_QR_ROWS][KLS_QR_PANEL + 1], triangle[KLS_QR_PANEL][KLS_QR_PANEL + 1];
    const uint32_t t = threadIdx.x, line = t / 8, x0 = t % 8 * 4;
    const uint64_t d = p.d, start = p.start;
    const uint64_t column0 = start + (p.to_q ? 0 : KLS_QR_PANEL) + (uint64_t)blockIdx.x * 32;
    for (uint32_t item = blockIdx.y; item < p.items.count; item += gridDim.y) {
        if (!kls_takes_part(p.items, item)) continue;
        const float *a = p.a.of(item), *t_of_panel = p.triangles.of(item) + start * KLS_QR_PANEL;
        float *c = p.to_q ? p.q.of(item) : p.a.of(item);
        // Rows from `row0` on; beyond the last row and the last column there are zeros.
        auto load = [&](uint64_t row0) {
            __syncthreads();
            for (uint32_t at = t; at < KLS_QR_ROWS * 32; at += 256) {
                const uint32_t i = at / 32, j = at % 32;
                const uint64_t row = row0 + i, vector = start + j, column = column0 + j;
                v_rows[i][j] = row < d && vector < d && row >= vector ? (row == vector ? 1.0f : a[row * d + vector]) : 0.0f;
                c_rows[i][j] = row < d && column < d ? c[row * d + column] : 0.0f;
            }
            __syncthreads();
        };
        float sum[4] = {0, 0, 0, 0};
        for (uint64_t row0 = start; row0 < d; row0 += KLS_QR_ROWS) {
            load(row0);
            for (uint32_t i = 0; i < KLS_QR_ROWS; i++)
                for (uint32_t x = 0; x < 4; x++) sum[x] = kls_fma(v_rows[i][line], c_rows[i][x0 + x], sum[x]);
        }
        // V^T C, then T^T V^T C or T V^T C.
        __syncthreads();
        for (uint32_t x = 0; x < 4; x++) inner[line][x0 + x] = sum[x];
        for (uint32_t at = t; at < KLS_QR_PANEL * KLS_QR_PANEL; at += 256) {
            const uint32_t i = at / KLS_QR_PANEL, j = at % KLS_QR_PANEL;
            triangle[p.to_q ? i : j][p.to_q ? j : i] = t_of_panel[at];
        }
        __syncthreads();
        for (uint32_t x = 0; x < 4; x++) sum[x] = 0;
        for (uint32_t k = 0; k < KLS_QR_PANEL; k++)
            for (uint32_t x = 0; x < 4; x++) sum[x] = kls_fma(triangle[line][k], inner[k][x0 + x], sum[x]);
        for (uint32_t x = 0; x < 4; x++) weights[line][x0 + x] = sum[x];
        for (uint64_t row0 = start; row0 < d; row0 += KLS_QR_ROWS) {
            load(row0);
            for (uint32_t i = line; i < KLS_QR_ROWS; i += 32) {
                if (row0 + i >= d) break;
                for (uint32_t x = 0; x < 4; x++) sum[x] = c_rows[i][x0 + x];
                for (uint32_t k = 0; k < KLS_QR_PANEL; k++)
                    for (uint32_t x = 0; x < 4; x++) sum[x] = kls_fma(-v_rows[i][k], weights[k][x0 + x], sum[x]);
                for (uint32_t x = 0; x < 4; x++)
                    if (column0 + x0 + x < d) c[(row0 + i) * d + column0 + x0 + x] = sum[x];
            }
        }
    }
}
