//! The Cholesky factorisation and the triangular solve that goes with it, by blocks of columns, with nearly all of the work in products.

use super::Precision;
use super::kernel::{INVALID, dimension, kernel, over};
use super::product::{Matrix, Product};
use crate::batch::{Array, Items};
use crate::queue::{DeviceError, DevicePtr, Queue};

kernel! {
    /// See `kernels/linalg/cholesky.cuh`.
    CholeskyBlock = c"kls_cholesky_block", 64 threads {
        a: Array,
        items: Items,
        column_stride: u64,
        size: u32,
        failed: u32,
    }
}

kernel! {
    /// See `kernels/linalg/cholesky.cuh`.
    SolveBlock = c"kls_solve_block", 64 threads {
        x: Array,
        l: Array,
        items: Items,
        x_column_stride: u64,
        l_column_stride: u64,
        mirror: u64,
        rows: u32,
        size: u32,
    }
}

/// Columns of a block.
const BLOCK: usize = 64;

/// A matrix with contiguous columns of `d` elements, from an element of one on.
const fn columns(array: Array, d: usize, row: usize, column: usize) -> Matrix {
    Matrix::row_major(array.offset::<f32>(column * d + row), d).t()
}

/// `A = L L^T` with `diag L > 0`: the lower triangle of the `d x d` matrix `a`, whose columns are contiguous, becomes `L`. The strict upper triangle
/// is not read, and zero afterwards.
///
/// A pivot that is not a positive finite number sets the bit `failed` of its item, whose matrix is then half done and left alone from there on.
/// Items that have the bit already are left alone altogether. `precision` is that of the products which update what is to the right of a block.
///
/// # Errors
/// The driver's; "invalid value" of items without flags or a matrix that is too large.
pub fn cholesky<Q: Queue>(q: &mut Q, items: Items, d: usize, a: Array, failed: u32, precision: Precision) -> Result<(), DeviceError> {
    if items.flags == DevicePtr::NULL {
        return Err(INVALID);
    }
    let (items, stride) = (items.without(failed), u64::from(dimension(d)?));
    for start in (0..d).step_by(BLOCK) {
        let size = BLOCK.min(d - start);
        let (end, rest) = (start + size, d - start - size);
        let block = columns(a, d, start, start).array;
        q.launch([items.count, 1, 1], CholeskyBlock { a: block, items, column_stride: stride, size: size as u32, failed })?;
        if rest == 0 {
            break;
        }
        let below = columns(a, d, end, start);
        let mirror = (size * (d - 1)) as u64;
        solve_block(q, items, (below.array, stride, rest), (block, stride), size, mirror)?;
        let trailing = columns(a, d, end, end);
        let update = Product::of(trailing, below, below.t(), [rest, size, rest]);
        Product { alpha: -1.0, accumulate: true, lower: true, precision, ..update }.launch(q, items)?;
    }
    Ok(())
}

/// `X <- X L^-T`. `x` is `rows x d`, `l` is `d x d` and lower triangular (its strict upper triangle is not read); columns are contiguous. NaN and
/// infinity propagate. `precision` is that of the products which update what is to the right of a block.
///
/// # Errors
/// The driver's; "invalid value" of matrices that are too large.
pub fn solve_lower<Q: Queue>(
    q: &mut Q,
    items: Items,
    rows: usize,
    d: usize,
    x: Array,
    l: Array,
    precision: Precision,
) -> Result<(), DeviceError> {
    let (x_stride, l_stride) = (u64::from(dimension(rows)?), u64::from(dimension(d)?));
    for start in (0..d).step_by(BLOCK) {
        let size = BLOCK.min(d - start);
        let (end, rest) = (start + size, d - start - size);
        let solved = columns(x, rows, 0, start);
        solve_block(q, items, (solved.array, x_stride, rows), (columns(l, d, start, start).array, l_stride), size, 0)?;
        if rest > 0 {
            let update = Product::of(columns(x, rows, 0, end), solved, columns(l, d, end, start).t(), [rows, size, rest]);
            Product { alpha: -1.0, accumulate: true, precision, ..update }.launch(q, items)?;
        }
    }
    Ok(())
}

fn solve_block<Q: Queue>(
    q: &mut Q,
    items: Items,
    (x, x_column_stride, rows): (Array, u64, usize),
    (l, l_column_stride): (Array, u64),
    size: usize,
    mirror: u64,
) -> Result<(), DeviceError> {
    let rows = dimension(rows)?;
    let kernel = SolveBlock { x, l, items, x_column_stride, l_column_stride, mirror, rows, size: size as u32 };
    q.launch([rows.div_ceil(BLOCK as u32), over(items), 1], kernel)
}
