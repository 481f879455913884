//! Products of strided matrices.
//!
//! `B` is packed into panels of `NR` columns, `A` is read in place where its rows are contiguous and packed where they are not, and
//! the register tile of [`super::tile`] does the arithmetic. Each element of `C` is one accumulator: it starts at zero (or at the
//! old element, when accumulating) and takes `a_ik (alpha b_kj)` for `k` ascending, one rounded product and one rounded sum each.
//! Storing it between two blocks of `k` is exact, so its bits depend neither on the blocking nor on the strides.

use super::tile::{multiply_packed, multiply_rows};
use super::{VECTORS, unpacked};
use crate::Scalar;
use crate::linalg::{MatMut, MatRef};

/// Rows of a register tile.
const MR: usize = 4;

/// Bytes in one row of a register tile, such that four rows of accumulators fill the vector registers but not more.
const TILE_ROW_BYTES: usize = if cfg!(any(target_feature = "avx", target_arch = "aarch64")) {
    64
} else if cfg!(target_pointer_width = "64") || cfg!(target_feature = "simd128") {
    32
} else {
    16
};

/// Run of `k` in the packing buffers (they are on the stack) of a small product, and of a large one. Machines of less than 64
/// bits have small stacks and small products.
const SMALL_RUN: usize = if cfg!(target_pointer_width = "64") { 32 } else { 16 };
const LARGE_RUN: usize = 128;

/// Panels of `B` that are packed together in a large product, so that a packed block of `A` is used that often.
const LARGE_PANELS: usize = 4;

/// Multiplications from which the large buffers pay for being cleared.
const LARGE_WORK: usize = 48 * 48 * 48;

/// Which elements of `C` are computed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    All,
    Lower,
}

/// What a product does besides multiplying.
#[derive(Clone, Copy)]
pub(super) struct Mode<T> {
    pub part: Part,
    pub accumulate: bool,
    pub alpha: T,
}

/// `C <- [C +] A B`.
#[inline(always)]
pub(crate) fn matmul<T: Scalar>(c: MatMut<'_, T>, accumulate: bool, a: MatRef<'_, T>, b: MatRef<'_, T>) {
    let mode = Mode { part: Part::All, accumulate, alpha: T::ONE };
    // The transposed problem has the same bits; it is taken where it makes the rows of C contiguous, for vectors to be stored in.
    let transposed = VECTORS && c.col_stride() != 1 && c.row_stride() == 1;
    let (c, a, b) = if transposed { (c.t(), b.t(), a.t()) } else { (c, a, b) };
    dispatch(c, mode, a, b);
}

/// The lower triangle of `C <- [C +] alpha A B`.
#[inline(always)]
pub(super) fn matmul_lower<T: Scalar>(c: MatMut<'_, T>, accumulate: bool, alpha: T, a: MatRef<'_, T>, b: MatRef<'_, T>) {
    dispatch(c, Mode { part: Part::Lower, accumulate, alpha }, a, b);
}

/// Chooses the kernel for the processor.
#[inline(always)]
fn dispatch<T: Scalar>(c: MatMut<'_, T>, mode: Mode<T>, a: MatRef<'_, T>, b: MatRef<'_, T>) {
    assert!(a.rows() == c.rows() && b.cols() == c.cols() && a.cols() == b.rows(), "matrix shapes do not match");
    if VECTORS { packed(c, mode, a, b) } else { unpacked::product(c, mode, a, b) }
}

/// Chooses the tile width by the size of an element.
pub(super) fn packed<T: Scalar>(c: MatMut<'_, T>, mode: Mode<T>, a: MatRef<'_, T>, b: MatRef<'_, T>) {
    if size_of::<T>() == 4 {
        sized::<T, { TILE_ROW_BYTES / 4 }>(c, mode, a, b);
    } else {
        sized::<T, { TILE_ROW_BYTES / 8 }>(c, mode, a, b);
    }
}

fn sized<T: Scalar, const NR: usize>(c: MatMut<'_, T>, mode: Mode<T>, a: MatRef<'_, T>, b: MatRef<'_, T>) {
    if cfg!(target_pointer_width = "64") && c.rows() * c.cols() * a.cols() >= LARGE_WORK {
        blocked::<T, NR, LARGE_RUN, LARGE_PANELS>(c, mode, a, b);
    } else {
        blocked::<T, NR, SMALL_RUN, 1>(c, mode, a, b);
    }
}

#[inline(never)]
fn blocked<T: Scalar, const NR: usize, const RUN: usize, const PANELS: usize>(
    mut c: MatMut<'_, T>,
    mode: Mode<T>,
    a: MatRef<'_, T>,
    b: MatRef<'_, T>,
) {
    let (m, n, depth) = (c.rows(), c.cols(), a.cols());
    let mut packed_b = [[[T::ZERO; NR]; RUN]; PANELS];
    let mut packed_a = [[T::ZERO; MR]; RUN];
    for j in (0..n).step_by(NR * PANELS) {
        let width = (n - j).min(NR * PANELS);
        let first_row = if mode.part == Part::Lower { j.min(m) } else { 0 };
        let mut k = 0;
        loop {
            let run = (depth - k).min(RUN);
            let load = mode.accumulate || k > 0;
            for (p, panel) in packed_b.iter_mut().take(width.div_ceil(NR)).enumerate() {
                pack_b(&mut panel[..run], b, k, j + p * NR, mode.alpha);
            }
            let panels = &packed_b[..width.div_ceil(NR)];
            let mut i = first_row;
            while i + MR <= m {
                rows::<T, MR, NR, RUN>(&mut c, &Block { mode, load, i, j, k, run }, a, panels, &mut packed_a);
                i += MR;
            }
            while i < m {
                let mut packed_row = [[T::ZERO]; RUN];
                rows::<T, 1, NR, RUN>(&mut c, &Block { mode, load, i, j, k, run }, a, panels, &mut packed_row);
                i += 1;
            }
            k += run;
            if k >= depth {
                break;
            }
        }
    }
}

/// Where a strip of tiles lies: rows from `i`, columns from `j`, `run` steps of the sum from `k`.
struct Block<T> {
    mode: Mode<T>,
    load: bool,
    i: usize,
    j: usize,
    k: usize,
    run: usize,
}

/// One strip of `R` rows of `C`, across all packed panels.
#[inline(always)]
fn rows<T: Scalar, const R: usize, const NR: usize, const RUN: usize>(
    c: &mut MatMut<'_, T>,
    at: &Block<T>,
    a: MatRef<'_, T>,
    panels: &[[[T; NR]; RUN]],
    packed_a: &mut [[T; R]; RUN],
) {
    let in_place = a.col_stride() == 1;
    if !in_place {
        pack_a(&mut packed_a[..at.run], a, at.i, at.k);
    }
    for (p, panel) in panels.iter().enumerate() {
        let j = at.j + p * NR;
        if at.mode.part == Part::Lower && j > at.i + R - 1 {
            break;
        }
        let width = (c.cols() - j).min(NR);
        let panel = &panel[..at.run];
        let mut acc = [[T::ZERO; NR]; R];
        if at.load {
            load_tile(&mut acc, c, at.i, j, width);
        }
        if at.run == 0 {
            // An empty sum.
        } else if in_place {
            let row = |r: usize| &a.data()[(at.i + r) * a.row_stride() + at.k..][..at.run];
            multiply_rows(&mut acc, core::array::from_fn(row), panel);
        } else {
            multiply_packed(&mut acc, &packed_a[..at.run], panel);
        }
        store_tile(&acc, c, at.mode.part, at.i, j, width);
    }
}

/// Packs `alpha B[k.., j..j + NR]`, columns beyond the matrix as zeros.
#[inline]
fn pack_b<T: Scalar, const NR: usize>(panel: &mut [[T; NR]], b: MatRef<'_, T>, k: usize, j: usize, alpha: T) {
    if panel.is_empty() {
        return;
    }
    let width = (b.cols() - j).min(NR);
    if width < NR {
        panel.fill([T::ZERO; NR]);
    }
    let start = k * b.row_stride() + j * b.col_stride();
    if b.col_stride() == 1 {
        for (x, line) in panel.iter_mut().enumerate() {
            let source = &b.data()[start + x * b.row_stride()..][..width];
            if let Ok(full) = <&[T; NR]>::try_from(source) {
                *line = full.map(|element| alpha * element);
            } else {
                for (to, &element) in line.iter_mut().zip(source) {
                    *to = alpha * element;
                }
            }
        }
    } else {
        for column in 0..width {
            let source = &b.data()[start + column * b.col_stride()..];
            for (x, line) in panel.iter_mut().enumerate() {
                line[column] = alpha * source[x * b.row_stride()];
            }
        }
    }
}

/// Packs `A[i..i + R, k..]`, transposed.
#[inline]
fn pack_a<T: Scalar, const R: usize>(block: &mut [[T; R]], a: MatRef<'_, T>, i: usize, k: usize) {
    let start = i * a.row_stride() + k * a.col_stride();
    for (x, line) in block.iter_mut().enumerate() {
        let source = &a.data()[start + x * a.col_stride()..];
        if a.row_stride() == 1 {
            line.copy_from_slice(&source[..R]);
        } else {
            for (r, to) in line.iter_mut().enumerate() {
                *to = source[r * a.row_stride()];
            }
        }
    }
}

#[inline]
fn load_tile<T: Scalar, const R: usize, const NR: usize>(acc: &mut [[T; NR]; R], c: &MatMut<'_, T>, i: usize, j: usize, width: usize) {
    let c = c.as_ref();
    for (r, line) in acc.iter_mut().enumerate() {
        let source = &c.data()[(i + r) * c.row_stride() + j * c.col_stride()..];
        if c.col_stride() == 1 && width == NR {
            line.copy_from_slice(&source[..NR]);
        } else {
            for (x, to) in line.iter_mut().take(width).enumerate() {
                *to = source[x * c.col_stride()];
            }
        }
    }
}

#[inline]
fn store_tile<T: Scalar, const R: usize, const NR: usize>(
    acc: &[[T; NR]; R],
    c: &mut MatMut<'_, T>,
    part: Part,
    i: usize,
    j: usize,
    width: usize,
) {
    let (row_stride, col_stride) = (c.row_stride(), c.col_stride());
    for (r, line) in acc.iter().enumerate() {
        let row = i + r;
        // Row `row` of the lower triangle ends at column `row`.
        let width = if part == Part::Lower { width.min((row + 1).saturating_sub(j)) } else { width };
        if width == 0 {
            continue;
        }
        let target = &mut c.data()[row * row_stride + j * col_stride..];
        if col_stride == 1 && width == NR {
            target[..NR].copy_from_slice(line);
        } else {
            for (x, &from) in line.iter().take(width).enumerate() {
                target[x * col_stride] = from;
            }
        }
    }
}
