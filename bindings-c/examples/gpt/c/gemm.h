/* Single-threaded dense matrix product. */
#ifndef GPT_GEMM_H
#define GPT_GEMM_H

#include "real.h"
#include <stdbool.h>

/* Which operand is stored transposed: op(A) is m x k, op(B) is k x n, all row-major. */
typedef enum {
    GEMM_NN, /* A (m, k), B (k, n) */
    GEMM_NT, /* A (m, k), B (n, k): a linear layer's forward pass */
    GEMM_TN  /* A (k, m), B (k, n): a weight gradient */
} gemm_layout;

/* C = op(A) op(B), or C += op(A) op(B) if `accumulate`; `bias` (n elements, or NULL) is added to every row. lda, ldb and ldc are the
 * distances between stored rows. C must not overlap A, B or bias. Packing buffers are static: one call at a time per process. */
void gemm(gemm_layout layout, int m, int n, int k, const real *a, int lda, const real *b, int ldb, real *c, int ldc, bool accumulate,
          const real *bias);

#endif
