//! Eigenvalues and eigenvectors of a symmetric tridiagonal matrix, by the QL method with implicit Wilkinson shifts
//! (Golub and Van Loan, 8.3; EISPACK's `tql2`).

use super::square::Square;
use super::vector::rotate;
use crate::Scalar;
use crate::linalg::LinAlgError;

/// Sweeps allowed for each eigenvalue; two are usual.
const MAX_SWEEPS: usize = 60;

/// Turns `diagonal` into the eigenvalues, in no order, and applies the rotations to the rows of `basis`.
///
/// The largest element of the matrix is to be near 1. Row `i` of `basis` belongs to `diagonal[i]` afterwards.
pub(super) fn diagonalise<T: Scalar>(basis: &mut Square<'_, T>, diagonal: &mut [T], off_diagonal: &mut [T]) -> Result<(), LinAlgError> {
    let d = diagonal.len();
    for l in 0..d {
        let mut sweeps = 0;
        loop {
            let end = block_end(diagonal, off_diagonal, l);
            if end == l {
                break;
            }
            if sweeps == MAX_SWEEPS {
                return Err(LinAlgError::NoConvergence);
            }
            sweeps += 1;
            sweep(basis, diagonal, off_diagonal, l, end);
        }
    }
    Ok(())
}

/// The last row of the unreduced block that starts at `l`. A coupling is dropped when it is lost in its neighbours' rounding, or so
/// far below the whole matrix that its square would vanish.
fn block_end<T: Scalar>(diagonal: &[T], off_diagonal: &[T], l: usize) -> usize {
    let vanishing = T::exp2i(-T::NORM_LIMIT_LOG2 / 2);
    (l..diagonal.len() - 1)
        .find(|&i| {
            let coupling = off_diagonal[i].abs();
            coupling <= vanishing || coupling <= T::EPSILON * (diagonal[i].abs() + diagonal[i + 1].abs())
        })
        .unwrap_or(diagonal.len() - 1)
}

/// One implicit QL sweep over the unreduced block `l..=end`.
fn sweep<T: Scalar>(basis: &mut Square<'_, T>, diagonal: &mut [T], off_diagonal: &mut [T], l: usize, end: usize) {
    let two = T::ONE + T::ONE;
    // Wilkinson's shift: the eigenvalue of the leading 2 x 2 block that is nearer to its first element.
    let half_gap = (diagonal[l + 1] - diagonal[l]) / (two * off_diagonal[l]);
    let root = Rotation::of(half_gap, T::ONE).length.abs();
    let toward = if half_gap < T::ZERO { half_gap - root } else { half_gap + root };
    let mut g = diagonal[end] - diagonal[l] + off_diagonal[l] / toward;
    let (mut c, mut s, mut shift) = (T::ONE, T::ONE, T::ZERO);
    for i in (l..end).rev() {
        let f = s * off_diagonal[i];
        let b = c * off_diagonal[i];
        let rotation = Rotation::of(g, f);
        off_diagonal[i + 1] = rotation.length;
        (c, s) = (rotation.c, rotation.s);
        g = diagonal[i + 1] - shift;
        let r = (diagonal[i] - g) * s + two * c * b;
        shift = s * r;
        diagonal[i + 1] = g + shift;
        g = c * r - b;
        let (mut before, mut after) = basis.split(i + 1);
        rotate(before.row_mut(i), after.row_mut(0), c, s);
    }
    diagonal[l] -= shift;
    off_diagonal[l] = g;
    off_diagonal[end] = T::ZERO;
}

/// The plane rotation that turns `(x, y)` into `(length, 0)`.
struct Rotation<T> {
    c: T,
    s: T,
    length: T,
}

impl<T: Scalar> Rotation<T> {
    /// By the ratio of the two, so that no square can overflow or vanish; the identity for two zeros.
    fn of(x: T, y: T) -> Self {
        if x.abs() >= y.abs() {
            if x == T::ZERO {
                return Self { c: T::ONE, s: T::ZERO, length: T::ZERO };
            }
            let ratio = y / x;
            let root = (T::ONE + ratio * ratio).sqrt();
            Self { c: T::ONE / root, s: ratio / root, length: x * root }
        } else {
            let ratio = x / y;
            let root = (T::ONE + ratio * ratio).sqrt();
            Self { c: ratio / root, s: T::ONE / root, length: y * root }
        }
    }
}
