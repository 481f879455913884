//! Eigenvectors to the accuracy that the numbers allow, and orthogonality regained.
//!
//! A backend's eigendecomposition is exact for a matrix that differs from the given one by several roundings of its largest eigenvalue.
//! Small eigenvalues, whose inverse roots matter most, have eigenvectors that are several times worse than they need be, and the product
//! of refreshes is less orthogonal each time. One step of first-order correction and one of Newton-Schulz mend both.

use crate::linalg::{LinAlg, LinAlgError, MatMut, MatRef, work_len};
use crate::{Scalar, packed};

/// Turns the columns of `q` towards the eigenvectors of `A`. `t` comes in with the lower triangle of `Q^T A Q`, nearly diagonal with a
/// descending diagonal, and is overwritten, like `temporary`; all are `d x d`.
///
/// # Errors
/// The backend's; `q` then holds unspecified values.
pub(crate) fn refine<T: Scalar, L: LinAlg<T>>(
    linalg: &mut L,
    d: usize,
    q: &mut [T],
    t: &mut [T],
    temporary: &mut [T],
) -> Result<(), LinAlgError> {
    // q_j += sum_i q_i t_ij / (t_jj - t_ii), an infinitesimal rotation. Where eigenvalues are too close for first order the pair stays:
    // orthogonality is lost by the square of what is added, and one Newton-Schulz step squares that once more.
    let small = (T::EPSILON.sqrt().sqrt() * T::exp2i(-1)).min(T::exp2i(-10));
    for i in 1..d {
        for j in 0..i {
            let (gap, x) = (t[j * d + j] - t[i * d + i], t[i * d + j]);
            let angle = if x.abs() <= gap * small && gap > T::ZERO { x / gap } else { T::ZERO };
            t[i * d + j] = angle;
            t[j * d + i] = -angle;
        }
    }
    for i in 0..d {
        t[i * d + i] = T::ONE;
    }
    linalg.matmul(MatMut::row_major(temporary, d, d), false, MatRef::row_major(q, d, d), MatRef::row_major(t, d, d))?;
    polish(linalg, d, temporary, t, q)
}

/// One Newton-Schulz step towards the nearest orthogonal matrix: `out = Q (3 I - Q^T Q) / 2`.
pub(crate) fn polish<T: Scalar, L: LinAlg<T>>(
    linalg: &mut L,
    d: usize,
    q: &[T],
    square: &mut [T],
    out: &mut [T],
) -> Result<(), LinAlgError> {
    newton_schulz_of(linalg, d, q, square)?;
    linalg.matmul(MatMut::row_major(out, d, d), false, MatRef::row_major(q, d, d), MatRef::row_major(square, d, d))
}

/// The same in place, a few rows at a time; `work` is as long as factorisations have it.
pub(crate) fn polish_in_place<T: Scalar, L: LinAlg<T>>(
    linalg: &mut L,
    d: usize,
    q: &mut [T],
    square: &mut [T],
    work: &mut [T],
) -> Result<(), LinAlgError> {
    newton_schulz_of(linalg, d, q, square)?;
    for rows in q.chunks_mut(work_len(d)) {
        let (out, count) = (&mut work[..rows.len()], rows.len() / d);
        linalg.matmul(MatMut::row_major(out, count, d), false, MatRef::row_major(rows, count, d), MatRef::row_major(square, d, d))?;
        rows.copy_from_slice(out);
    }
    Ok(())
}

/// `(3 I - Q^T Q) / 2` into `square`.
fn newton_schulz_of<T: Scalar, L: LinAlg<T>>(linalg: &mut L, d: usize, q: &[T], square: &mut [T]) -> Result<(), LinAlgError> {
    let q = MatRef::row_major(q, d, d);
    linalg.matmul_lower(MatMut::row_major(square, d, d), false, T::ONE, q.t(), q)?;
    packed::mirror_up(square, d);
    newton_schulz(square, d);
    Ok(())
}

/// `(3 I - A) / 2` in the place of `A`.
pub(crate) fn newton_schulz<T: Scalar>(square: &mut [T], d: usize) {
    let half = T::exp2i(-1);
    for (i, row) in square.chunks_exact_mut(d).enumerate() {
        for x in row.iter_mut() {
            *x = -half * *x;
        }
        row[i] += T::ONE + half;
    }
}

/// The largest element of `|Q^T Q - I|`; `None` if one is not finite. `gram` is `d x d`.
pub(crate) fn orthogonality_error<T: Scalar, L: LinAlg<T>>(
    linalg: &mut L,
    d: usize,
    q: &[T],
    gram: &mut [T],
) -> Result<Option<T>, LinAlgError> {
    let q = MatRef::row_major(q, d, d);
    linalg.matmul_lower(MatMut::row_major(gram, d, d), false, T::ONE, q.t(), q)?;
    let (mut largest, mut finite) = (T::ZERO, true);
    for (i, row) in gram.chunks_exact(d).enumerate() {
        for (j, &x) in row[..=i].iter().enumerate() {
            let target = if i == j { T::ONE } else { T::ZERO };
            finite &= x.is_finite_bits();
            largest = largest.max((x - target).abs());
        }
    }
    Ok(finite.then_some(largest))
}
