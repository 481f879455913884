//! Square matrices as contiguous columns, which is what faer's factorisations are fast on.

use klshampoo::Scalar;
use klshampoo::linalg::MatMut;

/// A `d x d` matrix, column `j` at `j * ld`.
pub(super) struct Columns<'a, T> {
    data: &'a mut [T],
    d: usize,
    ld: usize,
}

/// Side of the blocks that a transposition exchanges, so that both fit a cache.
const BLOCK: usize = 16;

/// Whether the rows or the columns are contiguous and do not overlap.
pub(super) fn is_dense<T>(m: &MatMut<'_, T>) -> bool {
    let d = m.rows();
    (m.col_stride() == 1 && m.row_stride() >= d) || (m.row_stride() == 1 && m.col_stride() >= d)
}

impl<'a, T: Scalar> Columns<'a, T> {
    /// The columns of a matrix that [`is_dense`], or those of its transpose; and which.
    pub(super) fn of(m: &'a mut MatMut<'_, T>) -> (Self, bool) {
        let (d, row_stride, col_stride) = (m.rows(), m.row_stride(), m.col_stride());
        assert!(d == m.cols(), "matrix is not square");
        let transposed = row_stride != 1 || col_stride < d;
        (Self { data: m.data(), d, ld: if transposed { row_stride } else { col_stride } }, transposed)
    }

    /// Number of columns.
    pub(super) fn d(&self) -> usize {
        self.d
    }

    /// Column by column.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut [T]> {
        let d = self.d;
        self.data.chunks_mut(self.ld).take(d).map(move |column| &mut column[..d])
    }

    /// The matrix for faer.
    pub(super) fn view_mut(&mut self) -> ::faer::MatMut<'_, T> {
        ::faer::MatMut::from_column_major_slice_with_stride_mut(self.data, self.d, self.d, self.ld)
    }

    /// Transposes in place.
    pub(super) fn transpose(&mut self) {
        let (d, ld) = (self.d, self.ld);
        for j0 in (0..d).step_by(BLOCK) {
            for i0 in (0..=j0).step_by(BLOCK) {
                for j in j0..(j0 + BLOCK).min(d) {
                    for i in i0..(i0 + BLOCK).min(j) {
                        self.data.swap(j * ld + i, i * ld + j);
                    }
                }
            }
        }
    }
}

/// The largest magnitude, or `None` if an element is NaN or infinite.
pub(super) fn largest<T: Scalar>(x: &[T]) -> Option<T> {
    // No early exit, so that it vectorises.
    let finite = x.iter().fold(true, |finite, x| finite & x.is_finite_bits());
    finite.then(|| x.iter().fold(T::ZERO, |m, x| m.max(x.abs())))
}

/// Multiplies every element.
pub(super) fn scale<T: Scalar>(x: &mut [T], factor: T) {
    for x in x {
        *x *= factor;
    }
}
