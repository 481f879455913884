//! The orthogonal factor by blocked Householder reflections, as LAPACK's geqrf and orgqr compute it.
//!
//! faer's own QR passes over a column that it judges to depend on those before it, and its threshold of `16 d eps` is coarse in `f32`.
//! Here every column gets its reflector, by recursion on faer's block kernels: `Q` is orthogonal and `Q R = A` holds to rounding at
//! any rank.

use ::faer::dyn_stack::{MemStack, StackReq};
use ::faer::linalg::householder::{
    apply_block_householder_on_the_left_in_place_scratch, apply_block_householder_on_the_left_in_place_with_conj,
    apply_block_householder_transpose_on_the_left_in_place_with_conj, make_householder_in_place,
};
use ::faer::linalg::matmul::matmul;
use ::faer::linalg::matmul::triangular::{self, BlockStructure};
use ::faer::linalg::{temp_mat_scratch, temp_mat_zeroed};
use ::faer::mat::AsMatMut;
use ::faer::reborrow::{Reborrow, ReborrowMut};
use ::faer::traits::RealField;
use ::faer::{Accum, Conj, MatMut, MatRef, Par};
use klshampoo::Scalar;
use klshampoo::linalg::LinAlgError;

use super::columns::{Columns, largest, scale};
use super::product::view_mut;

/// Columns whose reflectors are applied together.
fn block_size(d: usize) -> usize {
    if d > 128 { 32 } else { 16 }
}

/// Scratch of [`qr`].
pub(super) fn scratch<T: RealField>(d: usize) -> StackReq {
    let block = block_size(d);
    temp_mat_scratch::<T>(block, d).and(apply_block_householder_on_the_left_in_place_scratch::<T>(d, block, d))
}

/// See [`LinAlg::qr`](klshampoo::linalg::LinAlg::qr).
pub(super) fn qr<T: Scalar + RealField>(
    mut a: klshampoo::linalg::MatMut<'_, T>,
    mut q: klshampoo::linalg::MatMut<'_, T>,
    stack: &mut MemStack,
) -> Result<(), LinAlgError> {
    let (mut columns, is_transposed) = Columns::of(&mut a);
    if is_transposed {
        columns.transpose();
    }
    // Q does not depend on the scale of a column; near 1 none can leave the range of its squares.
    for column in columns.iter_mut() {
        let largest = largest(column).ok_or(LinAlgError::NotFinite)?;
        if largest > T::ZERO {
            scale(column, T::exp2i(-largest.exponent()));
        }
    }
    let d = columns.d();
    let block = block_size(d);
    let (mut factors, stack) = temp_mat_zeroed::<T, _, _>(block, d, stack);
    let mut factors = factors.as_mat_mut();
    let mut a = columns.view_mut();
    for j in (0..d).step_by(block) {
        let width = block.min(d - j);
        let (panel, rest) = a.rb_mut().get_mut(j.., j..).split_at_col_mut(width);
        factorise(panel, rest, factors.rb_mut().submatrix_mut(0, j, width, width), stack);
    }

    let a = a.rb();
    let mut q = view_mut(&mut q).expect("the layout was checked");
    q.fill(T::ZERO);
    for j in 0..d {
        // Signs that make the diagonal of R positive.
        q[(j, j)] = if a[(j, j)] < T::ZERO { -T::ONE } else { T::ONE };
    }
    for j in (0..d).step_by(block).rev() {
        let width = block.min(d - j);
        // The columns of Q before j are zero from row j on.
        apply_block_householder_on_the_left_in_place_with_conj(
            a.submatrix(j, j, d - j, width),
            factors.rb().submatrix(0, j, width, width),
            Conj::No,
            q.rb_mut().get_mut(j.., j..),
            Par::Seq,
            stack,
        );
    }
    Ok(())
}

/// Replaces the columns of `panel` by their reflectors and their part of `R`, applies the reflectors to `rest`, and fills the upper
/// triangle of `factor`, so that together they are `I - V factor^-1 V^T`.
fn factorise<T: Scalar + RealField>(mut panel: MatMut<'_, T>, rest: MatMut<'_, T>, mut factor: MatMut<'_, T>, stack: &mut MemStack) {
    let width = panel.ncols();
    if width == 1 {
        let (head, tail) = panel.rb_mut().col_mut(0).split_at_row_mut(1);
        factor[(0, 0)] = make_householder_in_place(&mut head.as_mat_mut()[(0, 0)], tail).tau;
    } else {
        let half = width.next_power_of_two() / 2;
        let (mut left, mut right) = panel.rb_mut().split_at_col_mut(half);
        let (left_factor, mut cross, _, right_factor) = factor.rb_mut().split_at_mut(half, half);
        factorise(left.rb_mut(), right.rb_mut(), left_factor, stack);
        let mut right = right.get_mut(half.., ..);
        let nothing = MatMut::from_column_major_slice_mut(&mut [], right.nrows(), 0);
        factorise(right.rb_mut(), nothing, right_factor, stack);
        inner_products(cross.rb_mut(), left.rb().get(half.., ..), right.rb());
    }
    if rest.ncols() > 0 {
        apply_block_householder_transpose_on_the_left_in_place_with_conj(panel.rb(), factor.rb(), Conj::No, rest, Par::Seq, stack);
    }
}

/// `cross <- left^T V`, where `V` is the unit lower trapezoid in `right`.
fn inner_products<T: RealField>(mut cross: MatMut<'_, T>, left: MatRef<'_, T>, right: MatRef<'_, T>) {
    let width = right.ncols();
    let (left_top, left_bottom) = left.split_at_row(width);
    let (right_top, right_bottom) = right.split_at_row(width);
    let one = ::faer::traits::math_utils::one::<T>;
    triangular::matmul(
        cross.rb_mut(),
        BlockStructure::Rectangular,
        Accum::Replace,
        left_top.transpose(),
        BlockStructure::Rectangular,
        right_top,
        BlockStructure::UnitTriangularLower,
        one(),
        Par::Seq,
    );
    matmul(cross, Accum::Add, left_bottom.transpose(), right_bottom, one(), Par::Seq);
}
