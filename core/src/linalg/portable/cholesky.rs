//! The Cholesky factorisation and the triangular solve that goes with it, column by column: columns are contiguous, and each loses
//! multiples of the columns before it.

use super::square::Square;
use crate::Scalar;
use crate::linalg::{LinAlgError, MatMut, MatRef};

/// Columns that are subtracted in one pass.
const GROUP: usize = 4;

/// See [`LinAlg::cholesky`](crate::linalg::LinAlg::cholesky).
pub(super) fn cholesky<T: Scalar>(a: MatMut<'_, T>) -> Result<(), LinAlgError> {
    let mut a = a.t();
    let (mut columns, _) = Square::of(&mut a);
    for j in 0..columns.d() {
        let (done, mut rest) = columns.split(j);
        let (above, column) = rest.row_mut(0).split_at_mut(j);
        above.fill(T::ZERO);
        eliminate(column, j, |k| (done.row(k)[j], &done.row(k)[j..]));
        let (pivot, below) = column.split_at_mut(1);
        if !pivot[0].is_finite_bits() {
            return Err(LinAlgError::NotFinite);
        }
        if pivot[0] <= T::ZERO {
            return Err(LinAlgError::NotPositive);
        }
        pivot[0] = pivot[0].sqrt();
        below.iter_mut().for_each(|x| *x /= pivot[0]);
    }
    Ok(())
}

/// See [`LinAlg::solve_lower`](crate::linalg::LinAlg::solve_lower).
pub(super) fn solve_lower<T: Scalar>(mut x: MatMut<'_, T>, l: MatRef<'_, T>) {
    let (m, d, ld) = (x.rows(), x.cols(), x.col_stride());
    assert!(l.rows() == d && l.cols() == d, "matrix shapes do not match");
    assert!((x.row_stride() == 1 || m < 2) && (d < 2 || ld >= m), "columns must be contiguous");
    if m == 0 || d == 0 {
        return;
    }
    let l = |i: usize, j: usize| l.data()[i * l.row_stride() + j * l.col_stride()];
    let data = &mut x.data()[..(d - 1) * ld + m];
    for j in 0..d {
        let (done, rest) = data.split_at_mut(j * ld);
        let column = &mut rest[..m];
        eliminate(column, j, |k| (l(j, k), &done[k * ld..][..m]));
        let pivot = l(j, j);
        column.iter_mut().for_each(|x| *x /= pivot);
    }
}

/// `y -= sum_k c_k x_k` over the first `count` of the pairs `(c_k, x_k)`, one after another.
#[inline]
fn eliminate<'a, T: Scalar>(y: &mut [T], count: usize, term: impl Fn(usize) -> (T, &'a [T])) {
    let whole = count - count % GROUP;
    for k in (0..whole).step_by(GROUP) {
        subtract::<T, GROUP>(y, core::array::from_fn(|g| term(k + g)));
    }
    for k in whole..count {
        subtract(y, [term(k)]);
    }
}

#[inline]
fn subtract<T: Scalar, const G: usize>(y: &mut [T], terms: [(T, &[T]); G]) {
    // Equal lengths, stated once: the bounds checks leave the loop.
    let terms = terms.map(|(c, x)| (c, &x[..y.len()]));
    for (i, y) in y.iter_mut().enumerate() {
        let mut sum = *y;
        for (c, x) in terms {
            sum -= c * x[i];
        }
        *y = sum;
    }
}
