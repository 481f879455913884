//! Borrowed strided matrices: the shape language between the step and its linear algebra.

use core::ops::Range;

/// A read-only `rows x cols` matrix over a slice; element `(i, j)` is `data[i * row_stride + j * col_stride]`.
///
/// Row-major with leading dimension `ld` is `row_stride = ld, col_stride = 1`.
#[derive(Clone, Copy, Debug)]
pub struct MatRef<'a, T> {
    data: &'a [T],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

/// A writable `rows x cols` matrix; see [`MatRef`] for the layout.
#[derive(Debug)]
pub struct MatMut<'a, T> {
    data: &'a mut [T],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

/// Whether a strided matrix lies inside a slice of `len` elements.
const fn fits(len: usize, rows: usize, cols: usize, row_stride: usize, col_stride: usize) -> bool {
    if rows == 0 || cols == 0 {
        return true;
    }
    (rows - 1) * row_stride + (cols - 1) * col_stride < len
}

/// What the two kinds of view have in common.
macro_rules! view {
    ($view:ident, $data:ty) => {
        impl<'a, T> $view<'a, T> {
            /// A strided view; shorter slices than the shape needs are a programming error in this crate.
            pub fn strided(data: $data, rows: usize, cols: usize, row_stride: usize, col_stride: usize) -> Self {
                assert!(fits(data.len(), rows, cols, row_stride, col_stride), "matrix view outside its slice");
                Self { data, rows, cols, row_stride, col_stride }
            }

            /// A dense row-major view.
            pub fn row_major(data: $data, rows: usize, cols: usize) -> Self {
                Self::strided(data, rows, cols, cols, 1)
            }

            /// The transpose: the same data, strides exchanged.
            #[must_use]
            pub fn t(self) -> Self {
                Self { rows: self.cols, cols: self.rows, row_stride: self.col_stride, col_stride: self.row_stride, ..self }
            }

            /// Number of rows.
            pub fn rows(&self) -> usize {
                self.rows
            }

            /// Number of columns.
            pub fn cols(&self) -> usize {
                self.cols
            }

            /// Distance in elements between vertically adjacent elements.
            pub fn row_stride(&self) -> usize {
                self.row_stride
            }

            /// Distance in elements between horizontally adjacent elements.
            pub fn col_stride(&self) -> usize {
                self.col_stride
            }
        }
    };
}

view!(MatRef, &'a [T]);
view!(MatMut, &'a mut [T]);

impl<'a, T> MatRef<'a, T> {
    /// The underlying elements.
    pub fn data(&self) -> &'a [T] {
        self.data
    }

    /// A block of the matrix: the given rows and columns.
    #[must_use]
    pub fn part(&self, rows: Range<usize>, cols: Range<usize>) -> Self {
        debug_assert!(rows.end <= self.rows && cols.end <= self.cols);
        let start = rows.start * self.row_stride + cols.start * self.col_stride;
        Self::strided(&self.data[start.min(self.data.len())..], rows.len(), cols.len(), self.row_stride, self.col_stride)
    }
}

impl<'a, T> MatMut<'a, T> {
    /// A shorter-lived view of the same matrix.
    pub fn reborrow(&mut self) -> MatMut<'_, T> {
        MatMut { data: self.data, rows: self.rows, cols: self.cols, row_stride: self.row_stride, col_stride: self.col_stride }
    }

    /// A block of the matrix: the given rows and columns.
    pub fn part(&mut self, rows: Range<usize>, cols: Range<usize>) -> MatMut<'_, T> {
        debug_assert!(rows.end <= self.rows && cols.end <= self.cols);
        let start = (rows.start * self.row_stride + cols.start * self.col_stride).min(self.data.len());
        MatMut::strided(&mut self.data[start..], rows.len(), cols.len(), self.row_stride, self.col_stride)
    }

    /// A read-only view of the same matrix.
    pub fn as_ref(&self) -> MatRef<'_, T> {
        MatRef { data: self.data, rows: self.rows, cols: self.cols, row_stride: self.row_stride, col_stride: self.col_stride }
    }

    /// The underlying elements.
    pub fn data(&mut self) -> &mut [T] {
        self.data
    }
}
