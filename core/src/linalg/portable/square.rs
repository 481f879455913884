//! A square matrix with contiguous rows: what the factorisations work on.

use crate::Scalar;
use crate::linalg::MatMut;

/// `d x d`, row `i` at `i * ld`.
pub(super) struct Square<'a, T> {
    data: &'a mut [T],
    d: usize,
    ld: usize,
}

/// Side of the blocks that a transposition exchanges, so that both fit a cache.
const BLOCK: usize = 16;

impl<'a, T: Scalar> Square<'a, T> {
    /// The matrix as rows, and whether they are its columns: contiguous columns are taken for the rows of the transpose.
    pub(super) fn of(matrix: &'a mut MatMut<'_, T>) -> (Self, bool) {
        let (d, row_stride, col_stride) = (matrix.rows(), matrix.row_stride(), matrix.col_stride());
        assert!(d == matrix.cols(), "matrix is not square");
        assert!(d < 2 || row_stride == 1 || col_stride == 1, "one of the strides must be 1");
        let transposed = col_stride != 1;
        let ld = if d < 2 {
            1
        } else if transposed {
            col_stride
        } else {
            row_stride
        };
        let len = if d == 0 { 0 } else { (d - 1) * ld + d };
        (Self { data: &mut matrix.data()[..len], d, ld }, transposed)
    }

    /// Of rows that lie one after another.
    pub(super) fn dense(data: &'a mut [T], d: usize) -> Self {
        Self { data: &mut data[..d * d], d, ld: d.max(1) }
    }

    /// Number of rows and of columns.
    pub(super) fn d(&self) -> usize {
        self.d
    }

    /// Row `i`.
    pub(super) fn row(&self, i: usize) -> &[T] {
        &self.data[i * self.ld..][..self.d]
    }

    /// Row `i`.
    pub(super) fn row_mut(&mut self, i: usize) -> &mut [T] {
        &mut self.data[i * self.ld..][..self.d]
    }

    /// Rows `from..to`.
    pub(super) fn rows_mut(&mut self, from: usize, to: usize) -> impl Iterator<Item = &mut [T]> {
        let (d, ld) = (self.d, self.ld);
        self.data[from * ld..].chunks_mut(ld).take(to - from).map(move |row| &mut row[..d])
    }

    /// The rows before row `i`, and row `i` and those after it.
    pub(super) fn split(&mut self, i: usize) -> (Square<'_, T>, Square<'_, T>) {
        let at = (i * self.ld).min(self.data.len());
        let (before, after) = self.data.split_at_mut(at);
        (Square { data: before, d: self.d, ld: self.ld }, Square { data: after, d: self.d, ld: self.ld })
    }

    /// Makes it `diag(values)`.
    pub(super) fn set_diagonal(&mut self, values: impl Iterator<Item = T>) {
        for (i, value) in values.enumerate() {
            let row = self.row_mut(i);
            row.fill(T::ZERO);
            row[i] = value;
        }
    }

    /// Transposes in place.
    pub(super) fn transpose(&mut self) {
        let (d, ld) = (self.d, self.ld);
        for i0 in (0..d).step_by(BLOCK) {
            for j0 in (0..=i0).step_by(BLOCK) {
                for i in i0..(i0 + BLOCK).min(d) {
                    for j in j0..(j0 + BLOCK).min(i) {
                        self.data.swap(i * ld + j, j * ld + i);
                    }
                }
            }
        }
    }
}
