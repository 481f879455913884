//! Products: every one is described by [`Product`], and made by a kernel for its precision or by a library that the queue has.

use super::kernel::{INVALID, kernel};
use super::{Precision, tensor_product};
use crate::batch::{Array, Items};
use crate::gemm::{Factor, Gemm, Input};
use crate::queue::{DeviceError, Queue};

kernel! {
    /// See `kernels/linalg/product.cuh`.
    ProductKernel = c"kls_product", 256 threads {
        a: Array,
        b: Array,
        c: Array,
        scale: Array,
        items: Items,
        a_row: u64,
        a_outer: u64,
        a_inner: u64,
        b_outer: u64,
        b_inner: u64,
        b_column_outer: u64,
        b_column_inner: u64,
        c_row: u64,
        c_column_outer: u64,
        c_column_inner: u64,
        rows: u32,
        columns: u32,
        depth: u32,
        inner_columns: u32,
        inner_depth: u32,
        options: u32,
        alpha: f32,
        unused: u32,
    }
}

/// A matrix of each item; element `(i, j)` is `i * row + j * column` elements after the first.
#[derive(Clone, Copy, Debug)]
pub struct Matrix {
    /// Where the items' first elements are.
    pub array: Array,
    /// Elements between neighbours in a column.
    pub row: u64,
    /// Elements between neighbours in a row.
    pub column: u64,
}

impl Matrix {
    /// With contiguous rows of so many elements.
    #[must_use]
    pub const fn row_major(array: Array, columns: usize) -> Self {
        Self { array, row: columns as u64, column: 1 }
    }

    /// The transpose: the same elements.
    #[must_use]
    pub const fn t(self) -> Self {
        Self { row: self.column, column: self.row, ..self }
    }

    /// As a library takes it, if its rows or its columns are contiguous.
    fn factor(self, rows: usize, columns: usize) -> Option<Factor> {
        let [row, column] = [self.row, self.column].map(|stride| usize::try_from(stride).ok());
        let (row, column, stride) = (row?, column?, usize::try_from(self.array.stride).ok()?);
        let fits = |leading: usize, line: usize| leading >= line && i32::try_from(leading).is_ok();
        if column == 1 && fits(row, columns) {
            Some(Factor { at: self.array.base, leading: row, stride, transposed: false })
        } else if row == 1 && fits(column, rows) {
            Some(Factor { at: self.array.base, leading: column, stride, transposed: true })
        } else {
            None
        }
    }
}

/// How many elements lie between two neighbours of an index of two levels: `count` elements of the inner one make a step of the outer one.
#[derive(Clone, Copy, Debug)]
pub struct Strides {
    /// Between neighbours of the outer level.
    pub outer: u64,
    /// Between neighbours of the inner level.
    pub inner: u64,
}

impl Strides {
    /// Of an index of one level.
    #[must_use]
    pub const fn plain(stride: u64) -> Self {
        Self { outer: 0, inner: stride }
    }
}

/// `C = alpha A B` or `C += alpha A B` for each item, where `A` is rows x depth, `B` depth x columns and `C` rows x columns.
///
/// The columns of `B` and `C`, and what is summed over, may be indices of two levels: those of the unfoldings of a tensor around a mode in its
/// middle. [`Product::is_plain`] tells the products that any matrix library could make.
#[derive(Clone, Copy, Debug)]
pub struct Product {
    /// The first element of each `A`.
    pub a: Array,
    /// Between the rows of `A`.
    pub a_row: u64,
    /// Between the columns of `A`.
    pub a_depth: Strides,
    /// The first element of each `B`.
    pub b: Array,
    /// Between the rows of `B`.
    pub b_depth: Strides,
    /// Between the columns of `B`.
    pub b_column: Strides,
    /// The first element of each `C`, which overlaps neither.
    pub c: Array,
    /// Between the rows of `C`.
    pub c_row: u64,
    /// Between the columns of `C`.
    pub c_column: Strides,
    /// Number of rows.
    pub rows: usize,
    /// Number of columns.
    pub columns: usize,
    /// What is summed over.
    pub depth: usize,
    /// How many columns make one step of their outer level.
    pub inner_columns: usize,
    /// The same of what is summed over.
    pub inner_depth: usize,
    /// The factor.
    pub alpha: f32,
    /// One more factor, of each item's, or [`Array::NULL`].
    pub scale: Array,
    /// Whether only the lower triangle of `C`, which is square, is wanted. What is above its diagonal is not written.
    pub lower: bool,
    /// Whether the product is added to `C`.
    pub accumulate: bool,
    /// Whether `A` is square and zero below its diagonal, which is then left out as far as possible.
    pub upper_a: bool,
    /// How exactly it is made.
    pub precision: Precision,
    /// Whether `C` of items that take no part, and with `lower` what is above its diagonal, may be overwritten with anything: then a library that
    /// the queue has may make the product.
    pub scratch: bool,
}

impl Product {
    /// `C = A B` of plain matrices.
    #[must_use]
    pub const fn of(c: Matrix, a: Matrix, b: Matrix, [rows, depth, columns]: [usize; 3]) -> Self {
        Self {
            a: a.array,
            a_row: a.row,
            a_depth: Strides::plain(a.column),
            b: b.array,
            b_depth: Strides::plain(b.row),
            b_column: Strides::plain(b.column),
            c: c.array,
            c_row: c.row,
            c_column: Strides::plain(c.column),
            rows,
            columns,
            depth,
            inner_columns: columns,
            inner_depth: depth,
            alpha: 1.0,
            scale: Array::NULL,
            lower: false,
            accumulate: false,
            upper_a: false,
            precision: Precision::Fp32,
            scratch: false,
        }
    }

    /// The same with another precision.
    #[must_use]
    pub const fn at(self, precision: Precision) -> Self {
        Self { precision, ..self }
    }

    /// The same where `C` is scratch: see [`Self::scratch`].
    #[must_use]
    pub const fn into_scratch(self) -> Self {
        Self { scratch: true, ..self }
    }

    /// Whether all indices have one level, and all elements are wanted.
    #[must_use]
    pub const fn is_plain(&self) -> bool {
        self.has_one_level() && !self.lower
    }

    const fn has_one_level(&self) -> bool {
        self.inner_columns >= self.columns && self.inner_depth >= self.depth
    }

    /// Launches it.
    ///
    /// # Errors
    /// The driver's, or the library's; "invalid value" of matrices that are too large.
    pub fn launch<Q: Queue>(&self, q: &mut Q, items: Items) -> Result<(), DeviceError> {
        if self.scratch && self.launch_on_library(q, items)? {
            return Ok(());
        }
        tensor_product::launch(self, q, items)
    }

    /// Leaves it to the queue's library, if that is to make such products and can make this one.
    fn launch_on_library<Q: Queue>(&self, q: &mut Q, items: Items) -> Result<bool, DeviceError> {
        let multiplications = [self.rows, self.columns, self.depth].iter().fold(1u64, |product, &n| product.saturating_mul(n as u64));
        if items.count == 0 || !q.multiplies(multiplications, self.precision) {
            return Ok(false);
        }
        let Some(whole) = self.gemm(items.count) else { return Ok(false) };
        if !self.lower {
            q.multiply(&whole)?;
            return Ok(true);
        }
        for start in (0..self.rows).step_by(strip(self.rows)) {
            let end = self.rows.min(start + strip(self.rows));
            let part = Self {
                a: self.a.offset::<f32>(start * self.a_row as usize),
                c: self.c.offset::<f32>(start * self.c_row as usize),
                rows: end - start,
                columns: end,
                lower: false,
                ..*self
            };
            q.multiply(&part.gemm(items.count).ok_or(INVALID)?)?;
        }
        Ok(true)
    }

    /// All of `C`, as a library takes it, where it can.
    fn gemm(&self, count: u32) -> Option<Gemm> {
        let fits = |n: usize| n > 0 && i32::try_from(n).is_ok();
        let simple = self.has_one_level() && !self.upper_a && self.scale == Array::NULL;
        if !simple || ![self.rows, self.columns, self.depth].into_iter().all(fits) {
            return None;
        }
        let a = Matrix { array: self.a, row: self.a_row, column: self.a_depth.inner };
        let b = Matrix { array: self.b, row: self.b_depth.inner, column: self.b_column.inner };
        let c = Matrix { array: self.c, row: self.c_row, column: self.c_column.inner };
        // With contiguous columns, C^T = B^T A^T has contiguous rows.
        let (m, n, a, b, c) = match c.factor(self.rows, self.columns)? {
            c @ Factor { transposed: false, .. } => (self.rows, self.columns, a, b, c),
            c => (self.columns, self.rows, b.t(), a.t(), c),
        };
        Some(Gemm {
            m,
            n,
            k: self.depth,
            count: count as usize,
            alpha: self.alpha,
            a: a.factor(m, self.depth)?,
            b: b.factor(self.depth, n)?,
            input: Input::F32,
            beta: if self.accumulate { 1.0 } else { 0.0 },
            c: c.at,
            c_leading: c.leading,
            c_stride: c.stride,
            precision: self.precision,
        })
    }
}

/// Rows of a strip of a lower triangle, of which a library makes all elements up to the diagonal's last one: in eight strips 9/16 of the square are
/// made where 1/2 is wanted, but a strip of few rows does not fill a device.
fn strip(rows: usize) -> usize {
    rows.div_ceil(8).next_multiple_of(64).max(256)
}

/// A tensor seen from one of its modes: `(left, d, right)`, row-major.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// Product of the dimensions before the mode's.
    pub left: usize,
    /// The mode's dimension.
    pub d: usize,
    /// Product of the dimensions after it.
    pub right: usize,
}

impl View {
    /// `out = x x_k A`, or `A^T`, with `A` d x d.
    #[must_use]
    pub const fn mode_product(self, a: Array, transposed: bool, x: Array, out: Array) -> Product {
        let Self { left, d, right } = self;
        let a = Matrix::row_major(a, d);
        let a = if transposed { a.t() } else { a };
        if right == 1 {
            // The fibres are rows: the transpose of the general case.
            return Product::of(Matrix::row_major(out, d), Matrix::row_major(x, d), a.t(), [left, d, d]);
        }
        let columns = Strides { outer: (d * right) as u64, inner: 1 };
        Product {
            b_column: columns,
            c_column: columns,
            inner_columns: right,
            ..Product::of(Matrix::row_major(out, right), a, Matrix::row_major(x, right), [d, d, left * right])
        }
    }

    /// The lower triangle of `mat_k(X) mat_k(Y)^T`, d x d.
    #[must_use]
    pub const fn unfolded_product(self, x: Array, y: Array, delta: Array) -> Product {
        let Self { left, d, right } = self;
        let delta = Matrix::row_major(delta, d);
        if right == 1 {
            let x = Matrix::row_major(x, d);
            return Product { lower: true, ..Product::of(delta, x.t(), Matrix::row_major(y, d), [d, left, d]) };
        }
        let depth = Strides { outer: (d * right) as u64, inner: 1 };
        Product {
            a_depth: depth,
            b_depth: depth,
            inner_depth: right,
            lower: true,
            ..Product::of(delta, Matrix::row_major(x, right), Matrix::row_major(y, right).t(), [d, left * right, d])
        }
    }
}

/// `out = x x_k A`, or `A^T`: a tensor's fibres of a mode multiplied by a d x d matrix with contiguous rows.
///
/// # Errors
/// As [`Product::launch`].
pub fn mode_product<Q: Queue>(
    q: &mut Q,
    items: Items,
    view: View,
    a: Array,
    transposed: bool,
    x: Array,
    out: Array,
) -> Result<(), DeviceError> {
    view.mode_product(a, transposed, x, out).launch(q, items)
}

/// The lower triangle of `mat_k(X) mat_k(Y)^T` into `delta`, d x d with contiguous rows; it is known to be symmetric. What is above the diagonal
/// is not written.
///
/// # Errors
/// As [`Product::launch`].
pub fn unfolded_product<Q: Queue>(q: &mut Q, items: Items, view: View, x: Array, y: Array, delta: Array) -> Result<(), DeviceError> {
    view.unfolded_product(x, y, delta).launch(q, items)
}
