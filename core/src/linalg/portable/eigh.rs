//! The symmetric eigendecomposition: scaling, reduction to tridiagonal form, QL iteration, sorting.

use super::ql::diagonalise;
use super::square::Square;
use super::tridiagonal::{Bands, form_transposed, tridiagonalise};
use super::vector::{all_finite, max_abs, scale, unit_scale};
use crate::Scalar;
use crate::linalg::{LinAlgError, MatMut};

/// See [`LinAlg::eigh`](crate::linalg::LinAlg::eigh).
pub(super) fn eigh<T: Scalar>(mut a: MatMut<'_, T>, mut q: MatMut<'_, T>, values: &mut [T], work: &mut [T]) -> Result<(), LinAlgError> {
    let (mut a, is_transposed) = Square::of(&mut a);
    if is_transposed {
        a.transpose();
    }
    let d = a.d();
    let (mut basis, rows_are_columns) = Square::of(&mut q);
    assert!(basis.d() == d && values.len() == d, "matrix shapes do not match");
    let factor = balance(&mut a)?;

    let (taus, rest) = work[..4 * d].split_at_mut(d);
    let (off_diagonal, scratch) = rest.split_at_mut(d);
    tridiagonalise(&mut a, &mut Bands { diagonal: values, off_diagonal, taus, scratch });
    form_transposed(&mut basis, &a, taus);
    diagonalise(&mut basis, values, off_diagonal)?;

    sort(&mut a, &basis, values, taus);
    for (to, from) in basis.rows_mut(0, d).zip(a.rows_mut(0, d)) {
        to.copy_from_slice(from);
    }
    if !rows_are_columns {
        basis.transpose();
    }
    for value in values.iter_mut() {
        *value /= factor;
    }
    if all_finite(values) { Ok(()) } else { Err(LinAlgError::NotFinite) }
}

/// Scales the lower triangle by a power of two, so that its largest element is near 1; the result is that power.
fn balance<T: Scalar>(a: &mut Square<'_, T>) -> Result<T, LinAlgError> {
    let d = a.d();
    let mut largest = T::ZERO;
    for (i, row) in a.rows_mut(0, d).enumerate() {
        if !all_finite(&row[..=i]) {
            return Err(LinAlgError::NotFinite);
        }
        largest = largest.max(max_abs(&row[..=i]));
    }
    if largest == T::ZERO {
        return Ok(T::ONE);
    }
    let factor = unit_scale(largest);
    for (i, row) in a.rows_mut(0, d).enumerate() {
        scale(&mut row[..=i], factor);
    }
    Ok(factor)
}

/// Copies the rows of `from` to `to` by descending value, equal ones in their order, and sorts the values alike.
fn sort<T: Scalar>(to: &mut Square<'_, T>, from: &Square<'_, T>, values: &mut [T], unsorted: &mut [T]) {
    unsorted.copy_from_slice(values);
    for (i, &value) in unsorted.iter().enumerate() {
        let before = |(j, &other): (usize, &T)| other > value || (other == value && j < i);
        let rank = unsorted.iter().enumerate().filter(|&pair| before(pair)).count();
        values[rank] = value;
        to.row_mut(rank).copy_from_slice(from.row(i));
    }
}
