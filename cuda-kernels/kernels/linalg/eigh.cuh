// The eigendecomposition of a symmetric matrix by cyclic Jacobi rotations, in an order that lets half as many pairs as there are columns be
// rotated at a time (a tournament's: everybody meets everybody once in a sweep). One block to an item: it is for small matrices, larger ones are
// decomposed in panels (eigh_panels.cuh). (Golub and Van Loan, 8.5; Brent and Luk, 1985.)
#pragma once
#include "../batch.h"
#include "bits.cuh"
#include "sum.cuh"

#define KLS_EIGH_THREADS 512
// Six to twelve are usual; the more, the more eigenvalues are nothing but rounding.
#define KLS_EIGH_SWEEPS 40

struct kls_eigh_params {
    // The lower triangle, destroyed; eigenvectors as columns; both with contiguous rows.
    kls_array<float> a, vectors;
    // d eigenvalues, descending.
    kls_array<float> values;
    // 2 d + 2 numbers for each item.
    kls_array<float> work;
    kls_items items;
    uint32_t d, failed;
};

// Who meets in pair k of a round: n - 1 players in a circle and one in its middle, n even; the smaller number first. Of an odd number of
// columns the last player is nobody.
__device__ __forceinline__ void kls_pair(uint32_t n, uint32_t round, uint32_t k, uint32_t &low, uint32_t &high) {
    uint32_t x = round + k, y = k == 0 ? n - 1 : round + (n - 1) - k;
    if (x >= n - 1) x -= n - 1;
    if (k > 0 && y >= n - 1) y -= n - 1;
    low = x < y ? x : y;
    high = x < y ? y : x;
}

// Whether the element beside the diagonal elements x and y is to be rotated away: not where it is small beside both eigenvalues, or so small that no
// rounding of the largest one, which is near 1, would show it.
__device__ __forceinline__ bool kls_is_rotated(float x, float y, float off) {
    return fabsf(off) > 0x1p-25f * sqrtf(fabsf(x) * fabsf(y)) && fabsf(off) > 0x1p-40f;
}

// The rotation that does so: its sine, and the sine over one plus the cosine. The diagonal elements become x - tangent off and y + tangent off.
struct kls_rotation {
    float tangent, sine, half;

    __device__ __forceinline__ kls_rotation(float x, float y, float off) {
        const float ratio = (y - x) / (2 * off);
        // Beyond this the root is the ratio itself, whose square might overflow.
        tangent = fabsf(ratio) > 0x1p30f ? 0.5f / ratio
                  : ratio < 0            ? -1.0f / (-ratio + sqrtf(1.0f + ratio * ratio))
                                         : 1.0f / (ratio + sqrtf(1.0f + ratio * ratio));
        const float c = 1.0f / sqrtf(1.0f + tangent * tangent);
        sine = tangent * c;
        half = sine / (1.0f + c);
    }
};

// (x, y) <- (c x - s y, s x + c y), with c = 1 - s t: as a difference from what was there, so that small angles, of which there are many, round
// less than the cosine would (Rutishauser, 1966).
__device__ __forceinline__ void kls_rotate(float &x, float &y, float s, float t) {
    const float old = x;
    x -= s * (y + t * x);
    y += s * (old - t * y);
}

// A 2 x 2 block, rotated from both sides.
__device__ __forceinline__ void kls_rotate_block(float block[2][2], float s_row, float t_row, float s_column, float t_column) {
    for (uint32_t i = 0; i < 2; i++) kls_rotate(block[i][0], block[i][1], s_column, t_column);
    for (uint32_t j = 0; j < 2; j++) kls_rotate(block[0][j], block[1][j], s_row, t_row);
}

KLS_KERNEL(kls_eigh, kls_eigh_params, KLS_EIGH_THREADS) {
    __shared__ float room[KLS_EIGH_THREADS + 32];
    const uint32_t item = blockIdx.x, t = threadIdx.x, d = p.d, n = d + d % 2, pairs = n / 2;
    if (!kls_takes_part(p.items, item)) return;
    float *a = p.a.of(item), *vectors = p.vectors.of(item), *values = p.values.of(item);
    // Of every pair's angle: the sine, and the sine over one plus the cosine.
    float *sines = p.work.of(item), *halves = sines + pairs;
    const uint64_t elements = (uint64_t)d * d;

    // Scaled by a power of two, so that its largest element is near 1, and mirrored.
    float largest = 0;
    bool finite = true;
    for (uint64_t at = t; at < elements; at += KLS_EIGH_THREADS) {
        const uint32_t i = (uint32_t)(at / d), j = (uint32_t)(at - (uint64_t)i * d);
        if (j > i) continue;
        finite = finite && kls_is_finite(a[at]);
        largest = fmaxf(largest, fabsf(a[at]));
    }
    if (!__syncthreads_and(finite)) {
        if (t == 0) atomicOr(&p.items.flags[item], p.failed);
        return;
    }
    largest = kls_block_max<KLS_EIGH_THREADS>(largest, room);
    const float scale = largest > 0 ? kls_exp2i(-kls_exponent(largest)) : 1.0f;
    for (uint64_t at = t; at < elements; at += KLS_EIGH_THREADS) {
        const uint32_t i = (uint32_t)(at / d), j = (uint32_t)(at - (uint64_t)i * d);
        vectors[at] = i == j ? 1.0f : 0.0f;
        if (j > i) continue;
        const float x = a[at] * scale;
        a[at] = x;
        a[(uint64_t)j * d + i] = x;
    }
    __syncthreads();

    bool converged = d < 2;
    for (uint32_t sweep = 0; sweep < KLS_EIGH_SWEEPS && !converged; sweep++) {
        bool rotated = false;
        for (uint32_t round = 0; round < n - 1; round++) {
            for (uint32_t k = t; k < pairs; k += KLS_EIGH_THREADS) {
                uint32_t i, j;
                kls_pair(n, round, k, i, j);
                float s = 0, half = 0;
                if (j < d) {
                    const float x = a[(uint64_t)i * d + i], y = a[(uint64_t)j * d + j], off = a[(uint64_t)i * d + j];
                    if (kls_is_rotated(x, y, off)) {
                        rotated = true;
                        const kls_rotation by(x, y, off);
                        s = by.sine;
                        half = by.half;
                        a[(uint64_t)i * d + i] = x - by.tangent * off;
                        a[(uint64_t)j * d + j] = y + by.tangent * off;
                        a[(uint64_t)i * d + j] = 0;
                        a[(uint64_t)j * d + i] = 0;
                    }
                }
                sines[k] = s;
                halves[k] = half;
            }
            __syncthreads();
            for (uint64_t at = t; at < (uint64_t)pairs * pairs; at += KLS_EIGH_THREADS) {
                const uint32_t k = (uint32_t)(at / pairs), l = (uint32_t)(at - (uint64_t)k * pairs);
                if (k == l || (sines[k] == 0 && sines[l] == 0)) continue;
                uint32_t i[2], j[2];
                kls_pair(n, round, k, i[0], i[1]);
                kls_pair(n, round, l, j[0], j[1]);
                // A block and its mirror image are rotated in the same arithmetic, so that the matrix stays symmetric to the bit.
                const bool mirrored = k > l;
                float block[2][2];
                for (uint32_t x = 0; x < 2; x++)
                    for (uint32_t y = 0; y < 2; y++) {
                        const float value = i[x] < d && j[y] < d ? a[(uint64_t)i[x] * d + j[y]] : 0.0f;
                        if (mirrored) block[y][x] = value;
                        else block[x][y] = value;
                    }
                const uint32_t first = mirrored ? l : k, second = mirrored ? k : l;
                kls_rotate_block(block, sines[first], halves[first], sines[second], halves[second]);
                for (uint32_t x = 0; x < 2; x++)
                    for (uint32_t y = 0; y < 2; y++)
                        if (i[x] < d && j[y] < d) a[(uint64_t)i[x] * d + j[y]] = mirrored ? block[y][x] : block[x][y];
            }
            for (uint64_t at = t; at < (uint64_t)d * pairs; at += KLS_EIGH_THREADS) {
                const uint32_t row = (uint32_t)(at / pairs), k = (uint32_t)(at - (uint64_t)row * pairs);
                if (sines[k] == 0) continue;
                uint32_t i, j;
                kls_pair(n, round, k, i, j);
                float *v = vectors + (uint64_t)row * d;
                kls_rotate(v[i], v[j], sines[k], halves[k]);
            }
            __syncthreads();
        }
        converged = !__syncthreads_or(rotated);
    }

    // Descending: the columns change places by way of `a`.
    float *unsorted = p.work.of(item);
    for (uint32_t i = t; i < d; i += KLS_EIGH_THREADS) unsorted[i] = a[(uint64_t)i * d + i];
    __syncthreads();
    uint32_t *places = reinterpret_cast<uint32_t *>(unsorted + d);
    for (uint32_t j = t; j < d; j += KLS_EIGH_THREADS) {
        const float x = unsorted[j];
        uint32_t place = 0;
        for (uint32_t i = 0; i < d; i++) place += unsorted[i] > x || (i < j && unsorted[i] == x);
        places[j] = place;
        const float value = x / scale;
        converged = converged && kls_is_finite(value);
        values[place] = value;
    }
    __syncthreads();
    for (uint64_t at = t; at < elements; at += KLS_EIGH_THREADS) {
        const uint64_t row = at / d;
        a[row * d + places[at - row * d]] = vectors[at];
    }
    __syncthreads();
    for (uint64_t at = t; at < elements; at += KLS_EIGH_THREADS) vectors[at] = a[at];
    if (!__syncthreads_and(converged) && t == 0) atomicOr(&p.items.flags[item], p.failed);
}
