// What a refresh does besides products and factorisations. See core/src/refresh.rs and core/src/cholesky_qr.rs.
#pragma once
#include "../batch.h"
#include "../rank.cuh"
#include "bits.cuh"
#include "sum.cuh"

struct kls_refresh_begin_params {
    kls_array<const float> diagonal;
    // Two numbers for each item: a power of two that brings the largest of the diagonal near 1, and its inverse.
    kls_array<float> scales;
    kls_items items;
    uint32_t d;
    // Bits that are cleared, that are set where something is not finite, and where nothing is positive.
    uint32_t cleared, failed, singular;
};

KLS_KERNEL(kls_refresh_begin, kls_refresh_begin_params, 256) {
    __shared__ float room[256 + 32];
    const uint32_t item = blockIdx.x;
    if (!kls_takes_part(p.items, item)) return;
    const float *diagonal = p.diagonal.of(item);
    float largest = 0;
    bool finite = true;
    for (uint32_t i = threadIdx.x; i < p.d; i += 256) {
        const float x = diagonal[i];
        finite = finite && kls_is_finite(x);
        largest = kls_is_finite(x) && x > largest ? x : largest;
    }
    finite = __syncthreads_and(finite);
    largest = kls_block_max<256>(largest, room);
    if (threadIdx.x != 0) return;
    const float scale = kls_exp2i(-kls_exponent(largest));
    p.scales.of(item)[0] = scale;
    p.scales.of(item)[1] = 1.0f / scale;
    unsigned flags = p.items.flags[item] & ~p.cleared;
    if (!finite) flags |= p.failed;
    if (!(largest > 0)) flags |= p.singular;
    p.items.flags[item] = flags;
}

struct kls_descending_order_params {
    kls_array<const float> key;
    kls_array<uint32_t> order;
    kls_items items;
    uint32_t d, unused;
};

// order[place] = the element that is at this place in descending order; equal ones keep their order.
KLS_FLAT_KERNEL(kls_descending_order, kls_descending_order_params, 256) {
    const uint32_t j = blockIdx.x * 256 + threadIdx.x;
    if (j >= p.d) return;
    for (uint32_t item = blockIdx.y; item < p.items.count; item += gridDim.y) {
        if (kls_takes_part(p.items, item)) p.order.of(item)[kls_rank(p.key.of(item), p.d, j)] = j;
    }
}

// Number `i` of one of two vectors of numbers without a pattern, in [-2, 2).
__device__ __forceinline__ float kls_probe(uint32_t which, uint32_t i) {
    const uint32_t bits = (i + 1) * (which == 0 ? 0x9e3779b9u : 0x85ebca6bu);
    const uint32_t mixed = (bits ^ (bits >> 15)) * 0x2c1b3c6du;
    return ((float)(mixed >> 8) * 0x1p-23f - 1.0f) * 2.0f;
}

struct kls_probe_params {
    // Q, columns contiguous.
    kls_array<const float> q;
    // Q^T x of both vectors x, then Q Q^T x - x of both.
    kls_array<float> along, image;
    kls_items items;
    uint32_t d, unused;
};

// along = Q^T x: eight threads to a column.
KLS_KERNEL(kls_probe_along, kls_probe_params, 256) {
    __shared__ float room[2][256];
    const uint32_t lane = threadIdx.x % 8, column = blockIdx.x * 32 + threadIdx.x / 8;
    for (uint32_t item = blockIdx.y; item < p.items.count; item += gridDim.y) {
        if (!kls_takes_part(p.items, item)) continue;
        float sum[2] = {0, 0};
        if (column < p.d) {
            const float *q = p.q.of(item) + (uint64_t)column * p.d;
            for (uint32_t first = lane; first < p.d; first += 64) {
                // As below.
                float x[8];
KLS_UNROLL
                for (uint32_t j = 0; j < 8; j++) x[j] = q[min(first + j * 8, p.d - 1)];
KLS_UNROLL
                for (uint32_t j = 0; j < 8; j++) {
                    const uint32_t i = first + j * 8;
                    const float here = i < p.d ? x[j] : 0.0f;
                    sum[0] = kls_fma(here, kls_probe(0, i), sum[0]);
                    sum[1] = kls_fma(here, kls_probe(1, i), sum[1]);
                }
            }
        }
        __syncthreads();
        for (uint32_t v = 0; v < 2; v++) room[v][threadIdx.x] = sum[v];
        __syncthreads();
        if (lane < 2 && column < p.d) {
            float total = 0;
            for (uint32_t i = 0; i < 8; i++) total += room[lane][threadIdx.x - lane + i];
            p.along.of(item)[lane * p.d + column] = total;
        }
    }
}

// image = Q along - x: eight threads to a row, each of another warp.
KLS_KERNEL(kls_probe_image, kls_probe_params, 256) {
    __shared__ float room[2][8][32];
    // A warp has neighbouring rows, which are neighbours in memory.
    const uint32_t lane = threadIdx.x % 32, slice = threadIdx.x / 32, row = blockIdx.x * 32 + lane;
    for (uint32_t item = blockIdx.y; item < p.items.count; item += gridDim.y) {
        if (!kls_takes_part(p.items, item)) continue;
        float sum[2] = {0, 0};
        if (row < p.d) {
            const float *q = p.q.of(item) + row, *along = p.along.of(item);
            for (uint32_t first = slice; first < p.d; first += 64) {
                // Loads of eight columns are under way together; behind the last one there are zeros.
                float x[8], y[2][8];
KLS_UNROLL
                for (uint32_t i = 0; i < 8; i++) {
                    const uint32_t j = min(first + i * 8, p.d - 1);
                    x[i] = q[(uint64_t)j * p.d], y[0][i] = along[j], y[1][i] = along[p.d + j];
                }
KLS_UNROLL
                for (uint32_t i = 0; i < 8; i++) {
                    const float here = first + i * 8 < p.d ? x[i] : 0.0f;
                    sum[0] = kls_fma(here, y[0][i], sum[0]);
                    sum[1] = kls_fma(here, y[1][i], sum[1]);
                }
            }
        }
        __syncthreads();
        room[0][slice][lane] = sum[0];
        room[1][slice][lane] = sum[1];
        __syncthreads();
        if (slice < 2 && row < p.d) {
            float total = -kls_probe(slice, row);
            for (uint32_t i = 0; i < 8; i++) total += room[slice][i][lane];
            p.image.of(item)[slice * p.d + row] = total;
        }
    }
}

struct kls_probe_judge_params {
    kls_array<const float> image;
    kls_items items;
    uint32_t d, found;
    float tolerance;
    uint32_t unused;
};

// Sets a bit where the length of an image is above the tolerance, or not finite.
KLS_KERNEL(kls_probe_judge, kls_probe_judge_params, 256) {
    __shared__ float room[256 + 32];
    const uint32_t item = blockIdx.x;
    if (!kls_takes_part(p.items, item)) return;
    bool good = true;
    for (uint32_t v = 0; v < 2; v++) {
        const float *image = p.image.of(item) + (uint64_t)v * p.d;
        float sum = 0;
        for (uint32_t i = threadIdx.x; i < p.d; i += 256) sum = kls_fma(image[i], image[i], sum);
        sum = kls_block_sum<256>(sum, room);
        good = good && kls_is_finite(sum) && sqrtf(sum) <= p.tolerance;
    }
    if (threadIdx.x == 0 && !good) atomicOr(&p.items.flags[item], p.found);
}

struct kls_refresh_end_params {
    kls_items items;
    // What was cleared at the beginning and is needed no more; what tells that all went well, if `failed` is not among the flags.
    uint32_t failed, turned;
};

KLS_FLAT_KERNEL(kls_refresh_end, kls_refresh_end_params, 256) {
    const uint32_t item = blockIdx.x * 256 + threadIdx.x;
    if (!kls_takes_part(p.items, item)) return;
    if (!(p.items.flags[item] & p.failed)) p.items.flags[item] |= p.turned;
}
