//! The orthogonal factor of a square matrix, by Householder reflections without pivoting.
//!
//! It works on the rows of `A^T`: a column of `A` and every reflector is then contiguous, and a reflection is one pass over the rows,
//! each read once for its dot product with `v` and its update.

use super::householder::{Reflector, reflect_rows, reflector};
use super::square::Square;
use super::vector::{all_finite, max_abs, scale, unit_scale};
use crate::Scalar;
use crate::linalg::{LinAlgError, MatMut};

/// See [`LinAlg::qr`](crate::linalg::LinAlg::qr).
pub(super) fn qr<T: Scalar>(mut a: MatMut<'_, T>, mut q: MatMut<'_, T>, work: &mut [T]) -> Result<(), LinAlgError> {
    let (mut columns, is_transposed) = Square::of(&mut a);
    if !is_transposed {
        columns.transpose();
    }
    let d = columns.d();
    let (taus, signs) = work[..2 * d].split_at_mut(d);
    balance(&mut columns)?;
    factorise(&mut columns, taus, signs);

    let (mut q_columns, is_transposed) = Square::of(&mut q);
    assert!(q_columns.d() == d, "matrix shapes do not match");
    form(&mut q_columns, &columns, taus, signs);
    if !is_transposed {
        q_columns.transpose();
    }
    Ok(())
}

/// Brings every column's largest element near 1: Q does not depend on it, and norms can then be neither too large nor too small.
fn balance<T: Scalar>(columns: &mut Square<'_, T>) -> Result<(), LinAlgError> {
    let d = columns.d();
    for column in columns.rows_mut(0, d) {
        if !all_finite(column) {
            return Err(LinAlgError::NotFinite);
        }
        let largest = max_abs(column);
        if largest > T::ZERO {
            scale(column, unit_scale(largest));
        }
    }
    Ok(())
}

/// Leaves the reflectors' `v` in `columns`, their `tau` and the signs of `diag R`.
fn factorise<T: Scalar>(columns: &mut Square<'_, T>, taus: &mut [T], signs: &mut [T]) {
    let d = columns.d();
    for j in 0..d {
        let (mut done, mut rest) = columns.split(j + 1);
        let v = &mut done.row_mut(j)[j..];
        let Reflector { tau, beta } = reflector(v[0], &mut v[1..]);
        v[0] = T::ONE;
        taus[j] = tau;
        signs[j] = if beta < T::ZERO { -T::ONE } else { T::ONE };
        reflect_rows(&mut rest, 0, d - j - 1, j, v, tau);
    }
}

/// `Q^T = D H_(d-1) ... H_0`, where `D` holds the signs: `R` becomes `D R`, whose diagonal is not negative.
fn form<T: Scalar>(q_columns: &mut Square<'_, T>, reflectors: &Square<'_, T>, taus: &[T], signs: &[T]) {
    let d = reflectors.d();
    q_columns.set_diagonal(signs.iter().copied());
    for j in (0..d).rev() {
        // Rows before j are still those of D, and columns before j are zero in the others.
        reflect_rows(q_columns, j, d, j, &reflectors.row(j)[j..], taus[j]);
    }
}
