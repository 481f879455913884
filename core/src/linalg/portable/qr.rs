//! The orthogonal factor of a square matrix, by Householder reflections without pivoting.
//!
//! It works on the rows of `A^T`: a column of `A` and every reflector is then contiguous, and a reflection is one pass over the rows,
//! each read once for its dot product with `v` and its update. A factorisation can be made a column at a time, by whoever keeps what
//! [`Reflections`] borrows.

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
    let mut reflections = Reflections { columns, taus, signs };
    reflections.balance()?;
    for j in 0..d {
        reflections.reflect(j);
    }

    let (mut q_columns, is_transposed) = Square::of(&mut q);
    assert!(q_columns.d() == d, "matrix shapes do not match");
    q_columns.set_diagonal(reflections.signs.iter().copied());
    for j in (0..d).rev() {
        reflections.apply(j, &mut q_columns);
    }
    if !is_transposed {
        q_columns.transpose();
    }
    Ok(())
}

/// A QR factorisation under way: [`Self::balance`], then [`Self::reflect`] for every column, first to last, then
/// [`Self::start`], then [`Self::form`] for every column, last to first.
pub(crate) struct Reflections<'a, T> {
    /// The columns of `A`, one after another; those that are done hold their reflectors' `v`.
    columns: Square<'a, T>,
    taus: &'a mut [T],
    /// The signs of `diag R`.
    signs: &'a mut [T],
}

impl<'a, T: Scalar> Reflections<'a, T> {
    /// Of the matrix whose columns lie one after another in `columns`, d x d. `taus` and `signs` have d elements.
    pub(crate) fn of(columns: &'a mut [T], taus: &'a mut [T], signs: &'a mut [T]) -> Self {
        Self { columns: Square::dense(columns, taus.len()), taus, signs }
    }

    /// Brings every column's largest element near 1: Q does not depend on it, and norms can then be neither too large nor too small.
    ///
    /// # Errors
    /// [`LinAlgError::NotFinite`] when the matrix has such an element.
    pub(crate) fn balance(&mut self) -> Result<(), LinAlgError> {
        let d = self.columns.d();
        for column in self.columns.rows_mut(0, d) {
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

    /// Reflects column `j` onto the axis and the columns after it alike; leaves the reflector's `v` in its place.
    pub(crate) fn reflect(&mut self, j: usize) {
        let d = self.columns.d();
        let (mut done, mut rest) = self.columns.split(j + 1);
        let v = &mut done.row_mut(j)[j..];
        let Reflector { tau, beta } = reflector(v[0], &mut v[1..]);
        v[0] = T::ONE;
        self.taus[j] = tau;
        self.signs[j] = if beta < T::ZERO { -T::ONE } else { T::ONE };
        reflect_rows(&mut rest, 0, d - j - 1, j, v, tau);
    }

    /// Makes `q_columns`, d x d, the matrix that the reflections are applied to for `Q^T = D H_(d-1) ... H_0`: `D` holds the signs, so that `R`
    /// becomes `D R`, whose diagonal is not negative.
    pub(crate) fn start(&self, q_columns: &mut [T]) {
        Square::dense(q_columns, self.columns.d()).set_diagonal(self.signs.iter().copied());
    }

    /// Applies reflection `j` to it.
    pub(crate) fn form(&self, j: usize, q_columns: &mut [T]) {
        self.apply(j, &mut Square::dense(q_columns, self.columns.d()));
    }

    fn apply(&self, j: usize, q_columns: &mut Square<'_, T>) {
        // Rows before j are still those of D, and columns before j are zero in the others.
        reflect_rows(q_columns, j, self.columns.d(), j, &self.columns.row(j)[j..], self.taus[j]);
    }
}
