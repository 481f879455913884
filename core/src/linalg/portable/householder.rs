//! Householder reflectors `H = I - tau v v^T`, with one element of `v`, the pivot, equal to 1 (Golub and Van Loan, 5.1).

use super::VECTORS;
use super::square::Square;
use super::vector::{add_scaled, dot, dots, max_abs, scale, unit_scale};
use crate::Scalar;

/// What defines a reflector besides `v`.
pub(super) struct Reflector<T> {
    /// Between 1 and 2, or 0 for the identity.
    pub(super) tau: T,
    /// The pivot element of the reflected vector; the others are zero.
    pub(super) beta: T,
}

/// The reflector of a vector with the pivot element `pivot` and the other elements `rest`, which become those of `v`.
///
/// The sign of `beta` is opposite to the pivot's, so that nothing cancels. No power of two in the vector's scale shows in `v`.
pub(super) fn reflector<T: Scalar>(pivot: T, rest: &mut [T]) -> Reflector<T> {
    let largest = max_abs(rest);
    if largest == T::ZERO {
        return Reflector { tau: T::ZERO, beta: pivot };
    }
    let factor = unit_scale(largest.max(pivot.abs()));
    scale(rest, factor);
    let pivot = pivot * factor;
    let square = dot(rest, rest);
    if square == T::ZERO {
        // So far below the pivot that it vanished: nothing is left to reflect.
        return Reflector { tau: T::ZERO, beta: pivot / factor };
    }
    let norm = (pivot * pivot + square).sqrt();
    let beta = if pivot < T::ZERO { norm } else { -norm };
    scale(rest, T::ONE / (pivot - beta));
    Reflector { tau: (beta - pivot) / beta, beta: beta / factor }
}

/// Applies a reflector from the right to the rows `from..to`: `row[offset..] <- row[offset..] H`.
pub(super) fn reflect_rows<T: Scalar>(matrix: &mut Square<'_, T>, from: usize, to: usize, offset: usize, v: &[T], tau: T) {
    if tau == T::ZERO {
        return;
    }
    let mut rows = matrix.rows_mut(from, to).map(|row| &mut row[offset..offset + v.len()]);
    if !VECTORS {
        return rows.for_each(|row| add_scaled(row, -(tau * dot(row, v)), v));
    }
    // Four rows at a time share the loads of v and keep four sums in flight.
    while let Some(first) = rows.next() {
        match (rows.next(), rows.next(), rows.next()) {
            (Some(second), Some(third), Some(fourth)) => reflect([first, second, third, fourth], v, tau),
            (second, third, _) => {
                for row in [Some(first), second, third].into_iter().flatten() {
                    reflect([row], v, tau);
                }
            }
        }
    }
}

#[inline]
fn reflect<T: Scalar, const R: usize>(rows: [&mut [T]; R], v: &[T], tau: T) {
    let along: [T; R] = dots(core::array::from_fn(|r| &*rows[r]), v);
    for (row, along) in rows.into_iter().zip(along) {
        add_scaled(row, -(tau * along), v);
    }
}
