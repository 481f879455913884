/* Register-tiled matrix product in the manner of GotoBLAS: a tile of C stays in registers while a packed panel of B streams from L1.
 *
 * Vectors are GCC/Clang vector extensions, so one kernel serves SSE, AVX2, AVX-512 and NEON; -march=native picks the width. Compile with
 * -ffp-contract=fast, or -std=c11 forbids the fused multiply-adds that are half of the speed. */
#include "gemm.h"
#include <stddef.h>
#include <string.h>

#if defined(__AVX512F__)
#define VECTOR_BYTES 64
#define MR 12 /* 24 accumulators of 32 registers */
#elif defined(__AVX__)
#define VECTOR_BYTES 32
#define MR 6 /* 12 accumulators of 16 registers */
#else
#define VECTOR_BYTES 16
#define MR 6
#endif

#define LANES ((int)(VECTOR_BYTES / sizeof(real)))
#define NR (2 * LANES)
#define KC 256 /* a KC x NR panel of B takes half of a 32 KiB L1 */
#define MC (16 * MR)
#define NC 512

typedef real vec __attribute__((vector_size(VECTOR_BYTES)));
typedef real vec_unaligned __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(real)), may_alias));

static _Alignas(64) real packed_a[MC * KC];
static _Alignas(64) real packed_b[NC * KC];

/* acc = A panel (MR x k, element (i, p) at a[i * row + p * col]) times packed B panel (k x NR), then stored to the C tile. */
static inline __attribute__((always_inline)) void tile(int k, const real *a, ptrdiff_t row, ptrdiff_t col, const real *b, real *c,
                                                       ptrdiff_t ldc, bool add, const real *bias) {
    vec acc[MR][2];
    for (int i = 0; i < MR; i++) {
        acc[i][0] = (vec){0};
        acc[i][1] = (vec){0};
    }
    for (int p = 0; p < k; p++) {
        const vec b0 = *(const vec *)(const void *)b;
        const vec b1 = *(const vec *)(const void *)(b + LANES);
        for (int i = 0; i < MR; i++) {
            const real x = a[i * row];
            acc[i][0] += x * b0;
            acc[i][1] += x * b1;
        }
        a += col;
        b += NR;
    }
    for (int i = 0; i < MR; i++) {
        for (int h = 0; h < 2; h++) {
            vec_unaligned *out = (vec_unaligned *)(c + i * ldc + h * LANES);
            vec sum = acc[i][h];
            if (bias) sum += *(const vec_unaligned *)(bias + h * LANES);
            if (add) sum += *out;
            *out = sum;
        }
    }
}

/* Broadcasts read A equally well in either direction, so only a transposed A (long strides, many pages) is worth packing. */
static void tile_packed(int k, const real *a, const real *b, real *c, ptrdiff_t ldc, bool add, const real *bias) {
    tile(k, a, 1, MR, b, c, ldc, add, bias);
}

static void tile_rows(int k, const real *a, ptrdiff_t lda, const real *b, real *c, ptrdiff_t ldc, bool add, const real *bias) {
    tile(k, a, lda, 1, b, c, ldc, add, bias);
}

/* A tile that sticks out of C: computed in full beside it, the part inside is copied. */
static void tile_edge(int m, int n, int k, const real *a, const real *b, real *c, ptrdiff_t ldc, bool add, const real *bias) {
    _Alignas(64) real whole[MR * NR];
    tile_packed(k, a, b, whole, NR, false, NULL);
    for (int i = 0; i < m; i++) {
        for (int j = 0; j < n; j++) {
            real sum = whole[i * NR + j];
            if (bias) sum += bias[j];
            if (add) sum += c[i * ldc + j];
            c[i * ldc + j] = sum;
        }
    }
}

/* One MR-row panel, rows beyond m zero. */
static void pack_a_panel(real *to, const real *a, ptrdiff_t row, ptrdiff_t col, int m, int k) {
    if (m == MR && row == 1) {
        for (int p = 0; p < k; p++) memcpy(to + p * MR, a + p * col, MR * sizeof(real));
        return;
    }
    for (int p = 0; p < k; p++) {
        for (int i = 0; i < MR; i++) to[p * MR + i] = i < m ? a[i * row + p * col] : 0;
    }
}

/* One NR-column panel, columns beyond n zero. */
static void pack_b_panel(real *to, const real *b, ptrdiff_t row, ptrdiff_t col, int n, int k) {
    if (n == NR && col == 1) {
        for (int p = 0; p < k; p++) memcpy(to + p * NR, b + p * row, (size_t)NR * sizeof(real));
        return;
    }
    for (int j = 0; j < NR; j++) {
        for (int p = 0; p < k; p++) to[p * NR + j] = j < n ? b[p * row + j * col] : 0;
    }
}

static int smaller(int x, int y) { return x < y ? x : y; }

/* Rows [0, m) of C against the packed block of B. */
static void multiply_block(int m, int n, int k, const real *a, ptrdiff_t row, ptrdiff_t col, real *c, ptrdiff_t ldc, bool add,
                           const real *bias) {
    const bool packed = col != 1 || n % NR != 0;
    for (int i = 0; i < m; i += MR) {
        if (packed || m - i < MR) pack_a_panel(packed_a + (ptrdiff_t)i * k, a + i * row, row, col, smaller(MR, m - i), k);
    }
    for (int j = 0; j < n; j += NR) {
        const real *panel_b = packed_b + (ptrdiff_t)j * k;
        const real *panel_bias = bias ? bias + j : NULL;
        for (int i = 0; i < m; i += MR) {
            const real *panel_a = packed_a + (ptrdiff_t)i * k;
            real *out = c + i * ldc + j;
            if (m - i < MR || n - j < NR)
                tile_edge(smaller(MR, m - i), smaller(NR, n - j), k, panel_a, panel_b, out, ldc, add, panel_bias);
            else if (packed)
                tile_packed(k, panel_a, panel_b, out, ldc, add, panel_bias);
            else
                tile_rows(k, a + i * row, row, panel_b, out, ldc, add, panel_bias);
        }
    }
}

void gemm(gemm_layout layout, int m, int n, int k, const real *a, int lda, const real *b, int ldb, real *c, int ldc, bool accumulate,
          const real *bias) {
    const ptrdiff_t row_a = layout == GEMM_TN ? 1 : lda, col_a = layout == GEMM_TN ? lda : 1;
    const ptrdiff_t row_b = layout == GEMM_NT ? 1 : ldb, col_b = layout == GEMM_NT ? ldb : 1;
    for (int j = 0; j < n; j += NC) {
        const int nb = smaller(NC, n - j);
        for (int p = 0; p < k; p += KC) {
            const int kb = smaller(KC, k - p);
            const real *block_bias = bias && p == 0 ? bias + j : NULL;
            for (int jj = 0; jj < nb; jj += NR)
                pack_b_panel(packed_b + (ptrdiff_t)jj * kb, b + p * row_b + (j + jj) * col_b, row_b, col_b, smaller(NR, nb - jj), kb);
            for (int i = 0; i < m; i += MC)
                multiply_block(smaller(MC, m - i), nb, kb, a + i * row_a + p * col_a, row_a, col_a, c + (ptrdiff_t)i * ldc + j, ldc,
                               accumulate || p > 0, block_bias);
        }
    }
}
