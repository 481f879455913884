//! The symmetric eigendecomposition by faer: tridiagonal form, then QR iteration or, for large matrices, divide and conquer.

use ::faer::dyn_stack::{MemStack, StackReq};
use ::faer::linalg::evd::{ComputeEigenvectors, self_adjoint_evd, self_adjoint_evd_scratch};
use ::faer::reborrow::IntoConst;
use ::faer::traits::RealField;
use ::faer::{Auto, Par, Spec};
use klshampoo::Scalar;
use klshampoo::linalg::{LinAlg, LinAlgError, MatMut, Portable};

use super::columns::{Columns, largest, scale};

/// Scratch of [`eigh`].
pub(super) fn scratch<T: RealField>(d: usize) -> StackReq {
    if d == 0 {
        return StackReq::empty();
    }
    self_adjoint_evd_scratch::<T>(d, ComputeEigenvectors::Yes, Par::Seq, parameters())
}

fn parameters<T: RealField>() -> Spec<::faer::linalg::evd::SelfAdjointEvdParams, T> {
    Spec::new(<_ as Auto<T>>::auto())
}

/// See [`LinAlg::eigh`](klshampoo::linalg::LinAlg::eigh).
pub(super) fn eigh<T: Scalar + RealField>(
    mut a: MatMut<'_, T>,
    mut q: MatMut<'_, T>,
    values: &mut [T],
    work: &mut [T],
    stack: &mut MemStack,
) -> Result<(), LinAlgError> {
    if is_diagonal(&a) {
        // Exactly a permutation, where faer may mix equal eigenvalues.
        return Portable.eigh(a, q, values, work);
    }
    let (mut columns, is_transposed) = Columns::of(&mut a);
    let factor = balance(&mut columns, is_transposed)?;
    let view = columns.view_mut();
    let view = if is_transposed { view.transpose_mut() } else { view };

    let (mut vectors, is_transposed) = Columns::of(&mut q);
    let diagonal = ::faer::diag::DiagMut::from_slice_mut(values);
    self_adjoint_evd(view.into_const(), diagonal, Some(vectors.view_mut()), Par::Seq, stack, parameters())
        .map_err(|_| LinAlgError::NoConvergence)?;
    if is_transposed {
        vectors.transpose();
    }
    for value in values.iter_mut() {
        *value /= factor;
    }
    largest(values).map(|_| ()).ok_or(LinAlgError::NotFinite)
}

/// Whether the lower triangle has nothing but the diagonal.
fn is_diagonal<T: Scalar>(a: &MatMut<'_, T>) -> bool {
    let a = a.as_ref();
    let element = |i: usize, j: usize| a.data()[i * a.row_stride() + j * a.col_stride()];
    (0..a.rows()).all(|i| (0..i).all(|j| element(i, j) == T::ZERO))
}

/// Scales the lower triangle by a negative power of two, so that its largest magnitude is near 1; the result is that power.
///
/// Negative, because faer sorts the eigenvalues upwards: those of `-A` are then those of `A` downwards.
fn balance<T: Scalar>(columns: &mut Columns<'_, T>, is_transposed: bool) -> Result<T, LinAlgError> {
    let d = columns.d();
    let lower = |j: usize| if is_transposed { 0..j + 1 } else { j..d };
    let mut all = T::ZERO;
    for (j, column) in columns.iter_mut().enumerate() {
        all = all.max(largest(&column[lower(j)]).ok_or(LinAlgError::NotFinite)?);
    }
    let factor = if all > T::ZERO { -T::exp2i(-all.exponent()) } else { -T::ONE };
    for (j, column) in columns.iter_mut().enumerate() {
        scale(&mut column[lower(j)], factor);
    }
    Ok(factor)
}
