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
        subtract_group(y, [term(k), term(k + 1), term(k + 2), term(k + 3)]);
    }
    for k in whole..count {
        let (c, x) = term(k);
        y.iter_mut().zip(x).for_each(|(y, &x)| *y -= c * x);
    }
}

/// Written out, so that it stays in registers where a compiler that saves space unrolls nothing.
fn subtract_group<T: Scalar>(y: &mut [T], [(c0, x0), (c1, x1), (c2, x2), (c3, x3)]: [(T, &[T]); GROUP]) {
    for ((((y, &x0), &x1), &x2), &x3) in y.iter_mut().zip(x0).zip(x1).zip(x2).zip(x3) {
        let mut sum = *y;
        sum -= c0 * x0;
        sum -= c1 * x1;
        sum -= c2 * x2;
        sum -= c3 * x3;
        *y = sum;
    }
}
