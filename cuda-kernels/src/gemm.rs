//! Products of plain matrices in batches, as libraries make them: see [`crate::queue::Queue::multiply`].

use crate::linalg::Precision;
use crate::queue::DevicePtr;

/// Format of the factors in memory. What is computed is f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Input {
    /// 32 bits; every [`Precision`] but [`Precision::Tf32x3`].
    F32,
    /// 16 bits, bf16; [`Precision::Fp32`].
    Bf16,
    /// 16 bits, IEEE; [`Precision::Fp32`].
    F16,
}

/// A factor: matrices of one shape, row-major, one after another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Factor {
    /// The first element of the first.
    pub at: DevicePtr,
    /// Elements from row to row, as it lies in memory.
    pub leading: usize,
    /// Elements from matrix to matrix; 0: one matrix for all.
    pub stride: usize,
    /// Whether its transpose is taken.
    pub transposed: bool,
}

/// C = alpha A B + beta C, for `count` matrices: C is m x n, A (as taken) m x k, B k x n, all row-major.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gemm {
    /// Rows of C.
    pub m: usize,
    /// Columns of C.
    pub n: usize,
    /// Columns of A, rows of B.
    pub k: usize,
    /// How many products.
    pub count: usize,
    /// Scale of the product.
    pub alpha: f32,
    /// A.
    pub a: Factor,
    /// B.
    pub b: Factor,
    /// Format of A and B.
    pub input: Input,
    /// Scale of what was in C before; 0: C may hold anything.
    pub beta: f32,
    /// The first element of the first C, f32.
    pub c: DevicePtr,
    /// Elements from row to row of C.
    pub c_leading: usize,
    /// Elements from C to C.
    pub c_stride: usize,
    /// How it is computed.
    pub precision: Precision,
}
