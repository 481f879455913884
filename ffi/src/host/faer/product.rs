//! Products by faer's kernels.
//!
//! They read one operand four columns of the result at a time, straight from its place. Where that operand is not contiguous along
//! the summed index, a large product is given a transposed copy of it, block by block.

use ::faer::dyn_stack::{MemStack, StackReq};
use ::faer::linalg::matmul::matmul as faer_matmul;
use ::faer::linalg::matmul::triangular::{self, BlockStructure};
use ::faer::traits::RealField;
use ::faer::{Accum, Par};
use klshampoo::Scalar;
use klshampoo::linalg::{LinAlg, LinAlgError, MatMut, MatRef, Portable};

use super::tiles::{self, Shared, Team};

/// Below this many multiplications one triangle of a product comes from [`Portable`]. Nanoseconds on a Zen 3 core, `f32`,
/// [`Portable`] against faer: 150 / 310 at 8 x 8 x 8, 250 / 370 at 10 x 10 x 10, 440 / 380 at 12 x 12 x 12. Of whole products faer's
/// are as fast at any size.
const SMALL_LOWER: usize = 11 * 11 * 11;

/// Summed elements of a transposed copy.
pub(super) const DEPTH: usize = 512;

/// Added to the leading dimension of a copy, so that its rows do not all fall into the same lines of a cache.
pub(super) const PADDING: usize = 16;

/// The copy takes time in proportion to `m k`, and gains a share of `m n k`: columns of the result from which it pays.
const COPY_COLUMNS: usize = 256;

/// Scratch of the products, for copies of up to `max_dim` rows.
pub(super) fn scratch<T: RealField>(max_dim: usize) -> StackReq {
    StackReq::new::<T>(max_dim * (DEPTH + PADDING))
}

/// See [`LinAlg::matmul`].
pub(super) fn matmul<T: Scalar + RealField>(
    mut c: MatMut<'_, T>,
    accumulate: bool,
    a: MatRef<'_, T>,
    b: MatRef<'_, T>,
    team: Team<'_>,
    stack: &mut MemStack,
) -> Result<(), LinAlgError> {
    if c.col_stride() != 1 && c.row_stride() == 1 {
        return matmul(c.t(), accumulate, b.t(), a.t(), team, stack);
    }
    let (m, n) = (c.rows(), c.cols());
    let (Some(to), Some(left), Some(right)) = (view_mut(&mut c), view(a), view(b)) else {
        return Portable.matmul(c, accumulate, a, b);
    };
    let to = Shared::new(to);
    each_block(a, b.cols(), team, stack, |k, copy| {
        let accumulate = accumulation(accumulate || k > 0);
        let (left, right) = match copy {
            Some(copy) => (copy, right.subrows(k, copy.ncols())),
            None => (left, right),
        };
        let strips = tiles::pieces(n);
        team.run(tiles::pieces(m) * strips, |tile| {
            let (rows, cols) = (tiles::piece(m, tile / strips), tiles::piece(n, tile % strips));
            let (left, right) = (left.get(rows.clone(), ..), right.get(.., cols.clone()));
            // SAFETY: tiles are disjoint, and each is computed once.
            faer_matmul(unsafe { to.part(rows, cols) }, accumulate, left, right, T::ONE, Par::Seq);
        });
    });
    Ok(())
}

/// See [`LinAlg::matmul_lower`].
pub(super) fn matmul_lower<T: Scalar + RealField>(
    mut c: MatMut<'_, T>,
    accumulate: bool,
    alpha: T,
    a: MatRef<'_, T>,
    b: MatRef<'_, T>,
    team: Team<'_>,
    stack: &mut MemStack,
) -> Result<(), LinAlgError> {
    if c.rows() * c.cols() * a.cols() < SMALL_LOWER {
        return Portable.matmul_lower(c, accumulate, alpha, a, b);
    }
    let d = c.rows();
    let (Some(to), Some(left), Some(right)) = (view_mut(&mut c), view(a), view(b)) else {
        return Portable.matmul_lower(c, accumulate, alpha, a, b);
    };
    let to = Shared::new(to);
    let (lower, full) = (BlockStructure::TriangularLower, BlockStructure::Rectangular);
    // Each column of the result is half as much work.
    each_block(a, b.cols() / 2, team, stack, |k, copy| {
        let accumulate = accumulation(accumulate || k > 0);
        let (left, right) = match copy {
            Some(copy) => (copy, right.subrows(k, copy.ncols())),
            None => (left, right),
        };
        team.run(tiles::lower_pieces(d), |tile| {
            let (rows, cols) = tiles::lower_piece(d, tile);
            let (left, right) = (left.get(rows.clone(), ..), right.get(.., cols.clone()));
            let on_diagonal = rows == cols;
            // SAFETY: tiles are disjoint, and each is computed once.
            let to = unsafe { to.part(rows, cols) };
            if on_diagonal {
                triangular::matmul(to, lower, accumulate, left, full, right, full, alpha, Par::Seq);
            } else {
                faer_matmul(to, accumulate, left, right, alpha, Par::Seq);
            }
        });
    });
    Ok(())
}

/// Calls `f` with each block of columns of `a`, copied to contiguous rows, and the first column in it; or once with no copy, where
/// none is needed or there is no room for it.
fn each_block<T: Scalar + RealField>(
    a: MatRef<'_, T>,
    columns: usize,
    team: Team<'_>,
    stack: &mut MemStack,
    mut f: impl FnMut(usize, Option<::faer::MatRef<'_, T>>),
) {
    let (m, depth) = (a.rows(), a.cols());
    let contiguous = a.col_stride() == 1;
    if contiguous || columns < COPY_COLUMNS || depth < PADDING || !stack.can_hold(scratch::<T>(m)) {
        return f(0, None);
    }
    let Some(a) = view(a) else { return f(0, None) };
    let ld = DEPTH.min(depth) + PADDING;
    let (mut buffer, _) = stack.make_with(m * ld, |_| T::ZERO);
    for k in (0..depth).step_by(DEPTH) {
        let width = DEPTH.min(depth - k);
        copy_rows(&mut buffer, ld, a.subcols(k, width), team);
        f(k, Some(::faer::MatRef::from_row_major_slice_with_stride(&buffer, m, width, ld)));
    }
}

/// The rows of a matrix whose columns are contiguous, each to its `ld` elements of `to`.
pub(super) fn copy_rows<T: Scalar>(to: &mut [T], ld: usize, from: ::faer::MatRef<'_, T>, team: Team<'_>) {
    let m = from.nrows();
    let to = Shared::new(::faer::MatMut::from_column_major_slice_mut(&mut to[..m * ld], ld, m));
    team.run(m.div_ceil(COPIED), |strip| {
        let rows = strip * COPIED..m.min((strip + 1) * COPIED);
        // SAFETY: strips are disjoint, and each is copied once. A column of `to` is a row of the copy.
        let to = unsafe { to.part(0..ld, rows.clone()) };
        // SAFETY: such columns follow one another.
        let to = unsafe { std::slice::from_raw_parts_mut(to.as_ptr_mut(), ld * rows.len()) };
        transpose(to, ld, from.subrows(rows.start, rows.len()));
    });
}

/// Rows that are copied by one thread.
const COPIED: usize = 64;

/// Side of the tiles of a transposition: of `f32`, a line of the cache.
const TILE: usize = 16;

/// Row `i` of `from`, whose columns are contiguous, to `to[i * ld..]`, tile by tile: lines of the cache are read, and written, whole.
fn transpose<T: Scalar>(to: &mut [T], ld: usize, from: ::faer::MatRef<'_, T>) {
    let (m, width) = (from.nrows(), from.ncols());
    for i in (0..m).step_by(TILE) {
        for k in (0..width).step_by(TILE) {
            let (rows, run) = (TILE.min(m - i), TILE.min(width - k));
            let (to, from) = (&mut to[i * ld + k..], from.submatrix(i, k, rows, run));
            if rows == TILE && run == TILE {
                // With the sides known the tile stays in registers.
                transpose_tile(to, ld, from, TILE, TILE);
            } else {
                transpose_tile(to, ld, from, rows, run);
            }
        }
    }
}

#[inline(always)]
fn transpose_tile<T: Scalar>(to: &mut [T], ld: usize, from: ::faer::MatRef<'_, T>, rows: usize, run: usize) {
    let mut tile = [[T::ZERO; TILE]; TILE];
    for (k, column) in from.col_iter().enumerate().take(run) {
        let Some(column) = column.try_as_col_major() else { return };
        for (line, &x) in tile.iter_mut().zip(&column.as_slice()[..rows]) {
            line[k] = x;
        }
    }
    for (i, line) in tile[..rows].iter().enumerate() {
        to[i * ld..][..run].copy_from_slice(&line[..run]);
    }
}

fn accumulation(accumulate: bool) -> Accum {
    if accumulate { Accum::Add } else { Accum::Replace }
}

/// The same matrix for faer, if its rows or its columns are contiguous and do not overlap.
pub(in crate::host) fn view<'a, T: Scalar>(m: MatRef<'a, T>) -> Option<::faer::MatRef<'a, T>> {
    let (rows, cols, row_stride, col_stride) = (m.rows(), m.cols(), m.row_stride(), m.col_stride());
    if col_stride == 1 && row_stride >= cols {
        Some(::faer::MatRef::from_row_major_slice_with_stride(m.data(), rows, cols, row_stride))
    } else if row_stride == 1 && col_stride >= rows {
        Some(::faer::MatRef::from_column_major_slice_with_stride(m.data(), rows, cols, col_stride))
    } else {
        None
    }
}

/// As [`view`], to write to. Rows go by way of the transpose: faer's own constructor for them (0.24.4) takes them for columns.
pub(in crate::host) fn view_mut<'a, T: Scalar>(m: &'a mut MatMut<'_, T>) -> Option<::faer::MatMut<'a, T>> {
    let (rows, cols, row_stride, col_stride) = (m.rows(), m.cols(), m.row_stride(), m.col_stride());
    if col_stride == 1 && row_stride >= cols {
        Some(::faer::MatMut::from_column_major_slice_with_stride_mut(m.data(), cols, rows, row_stride).transpose_mut())
    } else if row_stride == 1 && col_stride >= rows {
        Some(::faer::MatMut::from_column_major_slice_with_stride_mut(m.data(), rows, cols, col_stride))
    } else {
        None
    }
}
