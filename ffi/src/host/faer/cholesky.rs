//! The Cholesky factorisation and its triangular solve, by faer's kernels on blocks.

use ::faer::dyn_stack::{MemStack, StackReq};
use ::faer::linalg::cholesky::llt::factor::{LltError, LltParams, cholesky_in_place, cholesky_in_place_scratch};
use ::faer::linalg::matmul::matmul;
use ::faer::linalg::matmul::triangular::{self, BlockStructure};
use ::faer::linalg::triangular_solve::solve_lower_triangular_in_place;
use ::faer::reborrow::IntoConst;
use ::faer::traits::RealField;
use ::faer::{Accum, Auto, MatMut, MatRef, Par, Spec};
use klshampoo::Scalar;
use klshampoo::linalg::{LinAlg, LinAlgError, Portable};

use super::product::{view, view_mut};
use super::tiles::{self, Shared, Team};

/// Columns that are factorised by one thread, while what they take from the columns after them is work for all.
const BLOCK: usize = 256;

/// Scratch of [`cholesky`].
pub(super) fn scratch<T: RealField>(d: usize) -> StackReq {
    cholesky_in_place_scratch::<T>(d.min(BLOCK), Par::Seq, parameters::<T>())
}

fn parameters<T: RealField>() -> Spec<LltParams, T> {
    Spec::new(<_ as Auto<T>>::auto())
}

/// See [`LinAlg::cholesky`].
pub(super) fn cholesky<T: Scalar + RealField>(
    mut a: klshampoo::linalg::MatMut<'_, T>,
    team: Team<'_>,
    stack: &mut MemStack,
) -> Result<(), LinAlgError> {
    let d = a.rows();
    let Some(mut l) = view_mut(&mut a).filter(|_| stack.can_hold(scratch::<T>(d))) else { return Portable.cholesky(a) };
    for start in (0..d).step_by(BLOCK) {
        let end = d.min(start + BLOCK);
        let (done, mut columns) = l.as_mut().get_mut(start.., ..end).split_at_col_mut(start);
        if start > 0 {
            subtract(columns.as_mut(), done.into_const(), team);
        }
        let (mut pivot, below) = columns.split_at_row_mut(end - start);
        cholesky_in_place(pivot.as_mut(), Default::default(), Par::Seq, stack, parameters::<T>())
            .map_err(|LltError::NonPositivePivot { .. }| LinAlgError::NotPositive)?;
        solve(below, pivot.into_const(), team);
    }
    // faer leaves numbers of its own above the diagonal.
    for j in 1..d {
        l.as_mut().col_mut(j).subrows_mut(0, j).fill(T::ZERO);
    }
    Ok(())
}

/// `C <- C - A B^T` on and below the diagonal of `C`, where `B` is the first rows of `A`.
fn subtract<T: Scalar + RealField>(c: MatMut<'_, T>, a: MatRef<'_, T>, team: Team<'_>) {
    let (rows, width) = (c.nrows(), c.ncols());
    let (b, c) = (a.subrows(0, width).transpose(), Shared::new(c));
    team.run(1 + tiles::pieces(rows - width), |strip| {
        if strip == 0 {
            let (lower, full) = (BlockStructure::TriangularLower, BlockStructure::Rectangular);
            // SAFETY: strips are disjoint, and each is computed once.
            let to = unsafe { c.part(0..width, 0..width) };
            triangular::matmul(to, lower, Accum::Add, a.subrows(0, width), full, b, full, -T::ONE, Par::Seq);
        } else {
            let strip = tiles::piece(rows - width, strip - 1);
            let strip = strip.start + width..strip.end + width;
            // SAFETY: as above.
            let to = unsafe { c.part(strip.clone(), 0..width) };
            matmul(to, Accum::Add, a.get(strip, ..), b, -T::ONE, Par::Seq);
        }
    });
}

/// See [`LinAlg::solve_lower`].
pub(super) fn solve_lower<T: Scalar + RealField>(
    mut x: klshampoo::linalg::MatMut<'_, T>,
    l: klshampoo::linalg::MatRef<'_, T>,
    team: Team<'_>,
) -> Result<(), LinAlgError> {
    match (view_mut(&mut x), view(l)) {
        (Some(x), Some(l)) => {
            solve(x, l, team);
            Ok(())
        }
        _ => Portable.solve_lower(x, l),
    }
}

/// `X <- X L^-T`, strip by strip of its rows.
fn solve<T: RealField>(x: MatMut<'_, T>, l: MatRef<'_, T>, team: Team<'_>) {
    let (rows, cols, x) = (x.nrows(), x.ncols(), Shared::new(x));
    team.run(tiles::pieces(rows), |strip| {
        // SAFETY: strips are disjoint, and each is solved once.
        let strip = unsafe { x.part(tiles::piece(rows, strip), 0..cols) };
        solve_lower_triangular_in_place(l, strip.transpose_mut(), Par::Seq);
    });
}
