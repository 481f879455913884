// The eigendecomposition of a symmetric matrix by cyclic Jacobi rotations of whole panels of columns, for matrices that are too large for one block of
// threads. The panels meet in pairs as the columns do in eigh.cuh; in a round of a sweep
//
// - one block for each pair turns the diagonal block of its two panels towards diagonal form, in shared memory, and leaves the product of its rotations;
// - one block for each tile of the matrix between two pairs, and of the eigenvectors, multiplies that tile by these products.
//
// Which tiles these are does not depend on the numbers. A sweep in which nothing was left to rotate is the last: what is launched for later ones
// returns at once. (Golub and Van Loan, 8.5.6.)
#pragma once
#include "eigh.cuh"
#include "squares.cuh"

// Most columns of a panel, which has a power of two of at least four, and of a pair.
#define KLS_EIGH_PANEL 32
#define KLS_EIGH_PAIR (2 * KLS_EIGH_PANEL)
// Sweeps over a diagonal block in one round: a second one costs less than another round does.
#define KLS_EIGH_INNER_SWEEPS 2

struct kls_eigh_panels_params {
    // The lower triangle, destroyed; eigenvectors as columns; both with contiguous rows.
    kls_array<float> a, vectors;
    // d eigenvalues, descending.
    kls_array<float> values;
    // For each pair U - I with its orthogonal matrix U, rows contiguous: a small rotation is not rounded as numbers near 1 are.
    kls_array<float> rotations;
    // The eigenvalues as they come, and the places of the descending ones.
    kls_array<float> diagonal;
    kls_array<uint32_t> order;
    // The largest magnitude, as bits; the last sweep that rotated anything; for each pair whether it rotates in this round.
    kls_array<uint32_t> words;
    kls_items items;
    // The binary logarithm of a panel's columns; how many panels, an even number, of which the last may be empty.
    uint32_t d, log_panel, panels, failed;
    // Sweeps count from 1; at the end how many there were.
    uint32_t sweep, round;
};

// The columns of the two panels of pair k, numbered from 0.
struct kls_panels {
    uint32_t panel, low, high;

    __device__ __forceinline__ kls_panels(const kls_eigh_panels_params &p, uint32_t k) : panel(1u << p.log_panel) {
        kls_pair(p.panels, p.round, k, low, high);
        low *= panel;
        high *= panel;
    }
    // Beyond the last column there may be more.
    __device__ __forceinline__ uint32_t column(uint32_t i) const { return i < panel ? low + i : high + (i - panel); }
};

// A power of two that brings the largest magnitude near 1.
__device__ __forceinline__ float kls_eigh_scale(uint32_t bits) {
    return bits > 0 ? kls_exp2i(-kls_exponent(__uint_as_float(bits))) : 1.0f;
}

KLS_FLAT_KERNEL(kls_eigh_begin, kls_eigh_panels_params, 256) {
    const uint32_t item = blockIdx.x * 256 + threadIdx.x;
    if (!kls_takes_part(p.items, item)) return;
    p.words.of(item)[0] = 0;
    p.words.of(item)[1] = 0;
}

// The largest magnitude in the lower triangle: one block to a row. As bits NaN is larger than all that is finite.
KLS_KERNEL(kls_eigh_measure, kls_eigh_panels_params, 256) {
    __shared__ uint32_t largest;
    for (uint32_t item = blockIdx.y; item < p.items.count; item += gridDim.y) {
        if (!kls_takes_part(p.items, item)) continue;
        const float *row = p.a.of(item) + (uint64_t)blockIdx.x * p.d;
        uint32_t own = 0;
        for (uint32_t j = threadIdx.x; j <= blockIdx.x; j += 256) own = max(own, __float_as_uint(row[j]) & 0x7fffffffu);
        __syncthreads();
        if (threadIdx.x == 0) largest = 0;
        __syncthreads();
        atomicMax(&largest, own);
        __syncthreads();
        if (threadIdx.x == 0) atomicMax(&p.words.of(item)[0], largest);
    }
}

// Scaled and mirrored; the first vectors are those of the identity.
KLS_FLAT_KERNEL(kls_eigh_prepare, kls_eigh_panels_params, 256) {
    kls_for_elements(p.items, p.d, [&](uint32_t item, uint32_t i, uint32_t j) {
        const uint32_t bits = p.words.of(item)[0];
        if (bits >= 0x7f800000u) {
            if (i == 0 && j == 0) atomicOr(&p.items.flags[item], p.failed);
            return;
        }
        const uint64_t at = (uint64_t)i * p.d + j;
        p.vectors.of(item)[at] = i == j ? 1.0f : 0.0f;
        if (j > i) return;
        float *a = p.a.of(item);
        const float x = a[at] * kls_eigh_scale(bits);
        a[at] = x;
        a[(uint64_t)j * p.d + i] = x;
    });
}

// The diagonal block of a pair of panels, and what turns it.
KLS_KERNEL(kls_eigh_solve, kls_eigh_panels_params, 256) {
    __shared__ float a[KLS_EIGH_PAIR][KLS_EIGH_PAIR + 1], u[KLS_EIGH_PAIR][KLS_EIGH_PAIR + 1];
    __shared__ float sines[KLS_EIGH_PANEL], halves[KLS_EIGH_PANEL];
    const uint32_t t = threadIdx.x, pairs = 1u << p.log_panel, n = 2 * pairs;
    const kls_panels own(p, blockIdx.x);
    for (uint32_t item = blockIdx.y; item < p.items.count; item += gridDim.y) {
        if (!kls_takes_part(p.items, item)) continue;
        uint32_t *words = p.words.of(item);
        // Others may write the number of this sweep meanwhile, but only if the one before it rotated something.
        if (words[1] + 1 < p.sweep) continue;
        float *whole = p.a.of(item);
        __syncthreads();
        for (uint32_t at = t; at < n * n; at += 256) {
            const uint32_t i = at >> p.log_panel >> 1, j = at & (n - 1), row = own.column(i), column = own.column(j);
            a[i][j] = row < p.d && column < p.d ? whole[(uint64_t)row * p.d + column] : 0.0f;
            u[i][j] = 0;
        }
        __syncthreads();
        bool rotates = false;
        for (uint32_t at = t; at < n * n; at += 256) {
            const uint32_t i = at >> p.log_panel >> 1, j = at & (n - 1);
            rotates = rotates || (i < j && kls_is_rotated(a[i][i], a[j][j], a[i][j]));
        }
        rotates = __syncthreads_or(rotates);
        if (t == 0) words[2 + blockIdx.x] = rotates;
        if (!rotates) continue;
        if (t == 0) atomicMax(&words[1], p.sweep);

        for (uint32_t sweep = 0; sweep < KLS_EIGH_INNER_SWEEPS && rotates; sweep++) {
            rotates = false;
            for (uint32_t round = 0; round < n - 1; round++) {
                bool rotated = false;
                if (t < pairs) {
                    uint32_t i, j;
                    kls_pair(n, round, t, i, j);
                    const float x = a[i][i], y = a[j][j], off = a[i][j];
                    float sine = 0, half = 0;
                    rotated = kls_is_rotated(x, y, off);
                    if (rotated) {
                        const kls_rotation by(x, y, off);
                        sine = by.sine;
                        half = by.half;
                        a[i][i] = x - by.tangent * off;
                        a[j][j] = y + by.tangent * off;
                        a[i][j] = a[j][i] = 0;
                    }
                    sines[t] = sine;
                    halves[t] = half;
                }
                if (!__syncthreads_or(rotated)) continue;
                rotates = true;
                // Two by two elements between pairs k and k + apart, around the circle: of an even number those opposite each other meet once.
                for (uint32_t at = t; at < pairs * (pairs / 2); at += 256) {
                    const uint32_t apart = (at >> p.log_panel) + 1, k = at & (pairs - 1);
                    if (2 * apart == pairs && k >= apart) continue;
                    const uint32_t l = k + apart < pairs ? k + apart : k + apart - pairs;
                    if (sines[k] == 0 && sines[l] == 0) continue;
                    uint32_t i[2], j[2];
                    kls_pair(n, round, k, i[0], i[1]);
                    kls_pair(n, round, l, j[0], j[1]);
                    float block[2][2];
                    for (uint32_t x = 0; x < 2; x++)
                        for (uint32_t y = 0; y < 2; y++) block[x][y] = a[i[x]][j[y]];
                    kls_rotate_block(block, sines[k], halves[k], sines[l], halves[l]);
                    for (uint32_t x = 0; x < 2; x++)
                        for (uint32_t y = 0; y < 2; y++) a[i[x]][j[y]] = a[j[y]][i[x]] = block[x][y];
                }
                for (uint32_t at = t; at < n * pairs; at += 256) {
                    const uint32_t row = at >> p.log_panel, k = at & (pairs - 1);
                    const float s = sines[k], half = halves[k];
                    if (s == 0) continue;
                    uint32_t i, j;
                    kls_pair(n, round, k, i, j);
                    // As kls_rotate, of the elements of U.
                    const float x = u[row][i] + (row == i ? 1.0f : 0.0f), y = u[row][j] + (row == j ? 1.0f : 0.0f);
                    u[row][i] -= s * (y + half * x);
                    u[row][j] += s * (x - half * y);
                }
                __syncthreads();
            }
        }

        float *rotation = p.rotations.of(item) + (uint64_t)blockIdx.x * n * n;
        for (uint32_t at = t; at < n * n; at += 256) {
            const uint32_t i = at >> p.log_panel >> 1, j = at & (n - 1), row = own.column(i), column = own.column(j);
            if (row < p.d && column < p.d) whole[(uint64_t)row * p.d + column] = a[i][j];
            rotation[at] = u[i][j];
        }
    }
}

// sum[i][j] = the sum over k < n of x[k][4 ty + i] y[k][4 tx + j]
__device__ __forceinline__ void kls_eigh_sums(const float (*x)[KLS_EIGH_PAIR + 4], const float (*y)[KLS_EIGH_PAIR + 4], uint32_t n, uint32_t tx,
                                              uint32_t ty, float sum[4][4]) {
    for (uint32_t i = 0; i < 4; i++)
        for (uint32_t j = 0; j < 4; j++) sum[i][j] = 0;
    for (uint32_t k0 = 0; k0 < n; k0 += 8) {
KLS_UNROLL
        for (uint32_t k = 0; k < 8; k++) {
            const float *x_line = &x[k0 + k][4 * ty], *y_line = &y[k0 + k][4 * tx];
KLS_UNROLL
            for (uint32_t i = 0; i < 4; i++)
KLS_UNROLL
                for (uint32_t j = 0; j < 4; j++) sum[i][j] = kls_fma(x_line[i], y_line[j], sum[i][j]);
        }
    }
}

// The tiles of the matrix between two different pairs, (k, l) with k > l: A <- U_k^T A U_l, and its mirror image; then the tiles of the eigenvectors,
// V <- V U_l. Each of 256 threads makes 4 x 4 elements.
KLS_KERNEL(kls_eigh_apply, kls_eigh_panels_params, 256) {
    alignas(16) __shared__ float x[KLS_EIGH_PAIR][KLS_EIGH_PAIR + 4], u[KLS_EIGH_PAIR][KLS_EIGH_PAIR + 4];
    const uint32_t t = threadIdx.x, tx = t % 16, ty = t / 16, d = p.d, n = 2u << p.log_panel;
    const uint32_t pairs = p.panels / 2, tiles = pairs * (pairs - 1) / 2;
    const bool of_vectors = blockIdx.x >= tiles;
    uint32_t k, l, row0 = 0;
    if (of_vectors) {
        const uint32_t tile = blockIdx.x - tiles;
        k = l = tile % pairs;
        row0 = tile / pairs * KLS_EIGH_PAIR;
    } else {
        k = (uint32_t)((sqrtf(8.0f * (float)blockIdx.x + 1.0f) + 1.0f) * 0.5f);
        while (k * (k - 1) / 2 > blockIdx.x) k--;
        while ((k + 1) * k / 2 <= blockIdx.x) k++;
        l = blockIdx.x - k * (k - 1) / 2;
    }
    const kls_panels rows(p, k), columns(p, l);
    const uint32_t height = of_vectors ? KLS_EIGH_PAIR : n;
    const bool mine = 4 * ty < height && 4 * tx < n;

    for (uint32_t item = blockIdx.y; item < p.items.count; item += gridDim.y) {
        if (!kls_takes_part(p.items, item)) continue;
        const uint32_t *words = p.words.of(item);
        // Nothing in this sweep so far, and perhaps nothing any more.
        if (words[1] < p.sweep) continue;
        const bool from_right = words[2 + l], from_left = !of_vectors && words[2 + k];
        if (!from_right && !from_left) continue;
        float *a = p.a.of(item), *vectors = p.vectors.of(item);
        const float *rotations = p.rotations.of(item);
        auto load_rotation = [&](uint32_t pair) {
            for (uint32_t at = t; at < n * n; at += 256) u[at >> p.log_panel >> 1][at & (n - 1)] = rotations[(uint64_t)pair * n * n + at];
        };
        // x[j][i] is the tile's element (i, j): of the matrix that is its mirror image's element (j, i).
        __syncthreads();
        if (of_vectors) {
            for (uint32_t at = t; at < KLS_EIGH_PAIR * n; at += 256) {
                const uint32_t i = at >> p.log_panel >> 1, j = at & (n - 1), row = row0 + i, column = columns.column(j);
                x[j][i] = row < d && column < d ? vectors[(uint64_t)row * d + column] : 0.0f;
            }
        } else {
            for (uint32_t at = t; at < n * n; at += 256) {
                const uint32_t j = at >> p.log_panel >> 1, i = at & (n - 1), row = rows.column(i), column = columns.column(j);
                x[j][i] = row < d && column < d ? a[(uint64_t)column * d + row] : 0.0f;
            }
        }
        if (from_right) load_rotation(l);
        __syncthreads();
        float y[4][4], sum[4][4];
        if (mine) {
            for (uint32_t i = 0; i < 4; i++)
                for (uint32_t j = 0; j < 4; j++) y[i][j] = x[4 * tx + j][4 * ty + i];
            if (from_right) {
                kls_eigh_sums(x, u, n, tx, ty, sum);
                for (uint32_t i = 0; i < 4; i++)
                    for (uint32_t j = 0; j < 4; j++) y[i][j] += sum[i][j];
            }
        }
        if (of_vectors) {
            for (uint32_t i = 0; i < 4 && mine; i++)
                for (uint32_t j = 0; j < 4; j++) {
                    const uint32_t row = row0 + 4 * ty + i, column = columns.column(4 * tx + j);
                    if (row < d && column < d) vectors[(uint64_t)row * d + column] = y[i][j];
                }
            continue;
        }
        // From here on x[i][j] is the tile's element (i, j).
        auto keep = [&]() {
            __syncthreads();
            for (uint32_t i = 0; i < 4 && mine; i++)
                for (uint32_t j = 0; j < 4; j++) x[4 * ty + i][4 * tx + j] = y[i][j];
        };
        keep();
        if (from_left) {
            load_rotation(k);
            __syncthreads();
            if (mine) {
                kls_eigh_sums(u, x, n, tx, ty, sum);
                for (uint32_t i = 0; i < 4; i++)
                    for (uint32_t j = 0; j < 4; j++) y[i][j] += sum[i][j];
            }
            keep();
        }
        __syncthreads();
        for (uint32_t at = t; at < n * n; at += 256) {
            const uint32_t i = at >> p.log_panel >> 1, j = at & (n - 1), row = rows.column(i), column = columns.column(j);
            if (row < d && column < d) a[(uint64_t)row * d + column] = x[i][j];
        }
        for (uint32_t at = t; at < n * n; at += 256) {
            const uint32_t j = at >> p.log_panel >> 1, i = at & (n - 1), row = rows.column(i), column = columns.column(j);
            if (row < d && column < d) a[(uint64_t)column * d + row] = x[i][j];
        }
    }
}

KLS_FLAT_KERNEL(kls_eigh_diagonal, kls_eigh_panels_params, 256) {
    const uint32_t i = blockIdx.x * 256 + threadIdx.x;
    if (i >= p.d) return;
    for (uint32_t item = blockIdx.y; item < p.items.count; item += gridDim.y)
        if (kls_takes_part(p.items, item)) p.diagonal.of(item)[i] = p.a.of(item)[(uint64_t)i * p.d + i];
}

// The eigenvalues in descending order, and whether all is well.
KLS_FLAT_KERNEL(kls_eigh_end, kls_eigh_panels_params, 256) {
    const uint32_t i = blockIdx.x * 256 + threadIdx.x;
    if (i >= p.d) return;
    for (uint32_t item = blockIdx.y; item < p.items.count; item += gridDim.y) {
        if (!kls_takes_part(p.items, item)) continue;
        const uint32_t *words = p.words.of(item);
        const float value = p.diagonal.of(item)[p.order.of(item)[i]] / kls_eigh_scale(words[0]);
        p.values.of(item)[i] = value;
        if (!kls_is_finite(value) || words[1] >= p.sweep) atomicOr(&p.items.flags[item], p.failed);
    }
}
