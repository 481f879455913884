//! The host's linear algebra: faer's kernels, on one thread, with all scratch memory owned up front.
//!
//! faer picks its kernels by the processor's features at run time, so a result is the same for the same features only.
//! Small problems, and layouts that faer has no kernel for, go to [`Portable`].

mod columns;
mod eigen;
mod factor;

use ::faer::dyn_stack::{MemBuffer, MemStack, StackReq};
use ::faer::linalg::matmul::matmul;
use ::faer::linalg::matmul::triangular::{self, BlockStructure};
use ::faer::traits::RealField;
use ::faer::{Accum, Par};
use klshampoo::Scalar;
use klshampoo::linalg::{LinAlg, LinAlgError, MatMut, MatRef, Portable};

/// Below this many multiplications a product runs on [`Portable`].
const SMALL_PRODUCT: usize = 0;

/// Below this many multiplications one triangle of a product runs on [`Portable`].
const SMALL_LOWER_PRODUCT: usize = 0;

/// Up to this dimension the orthogonal factor comes from [`Portable`].
const SMALL_QR: usize = 0;

/// Up to this dimension the eigendecomposition comes from [`Portable`].
const SMALL_EIGH: usize = 0;

/// The backend of hosts. One for each thread that steps.
///
/// Nothing is allocated after [`Faer::new`], but for a packing buffer that faer keeps for each thread from its first large product on.
pub struct Faer {
    scratch: MemBuffer,
}

impl core::fmt::Debug for Faer {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Faer").field("scratch_bytes", &self.scratch.len()).finish()
    }
}

impl Faer {
    /// A backend that factorises `f32` matrices of up to `max_dim x max_dim`.
    #[must_use]
    pub fn new(max_dim: usize) -> Self {
        Self::sized_for::<f32>(max_dim)
    }

    /// A backend that factorises matrices of up to `max_dim x max_dim` of the given element type.
    ///
    /// Larger ones are factorised all the same, by [`Portable`].
    #[must_use]
    pub fn sized_for<T: RealField>(max_dim: usize) -> Self {
        let requirements: [fn(usize) -> StackReq; 2] = [factor::scratch::<T>, eigen::scratch::<T>];
        // Requirements need not grow with the dimension: their block sizes do not.
        let of = |d: usize| StackReq::any_of(&requirements.map(|requirement| requirement(d)));
        let scratch = (0..=max_dim).map(of).fold(StackReq::empty(), StackReq::or);
        Self { scratch: MemBuffer::new(scratch) }
    }
}

impl<T: Scalar + RealField> LinAlg<T> for Faer {
    fn matmul(&mut self, mut c: MatMut<'_, T>, accumulate: bool, a: MatRef<'_, T>, b: MatRef<'_, T>) -> Result<(), LinAlgError> {
        if c.rows() * c.cols() * a.cols() >= SMALL_PRODUCT
            && let (Some(c), Some(a), Some(b)) = (view_mut(&mut c), view(a), view(b))
        {
            matmul(c, accumulation(accumulate), a, b, T::ONE, Par::Seq);
            return Ok(());
        }
        Portable.matmul(c, accumulate, a, b)
    }

    fn matmul_lower(
        &mut self,
        mut c: MatMut<'_, T>,
        accumulate: bool,
        alpha: T,
        a: MatRef<'_, T>,
        b: MatRef<'_, T>,
    ) -> Result<(), LinAlgError> {
        if c.rows() * c.cols() * a.cols() >= SMALL_LOWER_PRODUCT
            && let (Some(c), Some(a), Some(b)) = (view_mut(&mut c), view(a), view(b))
        {
            let (lower, full) = (BlockStructure::TriangularLower, BlockStructure::Rectangular);
            triangular::matmul(c, lower, accumulation(accumulate), a, full, b, full, alpha, Par::Seq);
            return Ok(());
        }
        Portable.matmul_lower(c, accumulate, alpha, a, b)
    }

    fn qr(&mut self, a: MatMut<'_, T>, q: MatMut<'_, T>, work: &mut [T]) -> Result<(), LinAlgError> {
        let d = a.rows();
        let stack = MemStack::new(&mut self.scratch);
        if d > SMALL_QR && stack.can_hold(factor::scratch::<T>(d)) && columns::is_dense(&a) && columns::is_dense(&q) {
            factor::qr(a, q, stack)
        } else {
            Portable.qr(a, q, work)
        }
    }

    fn eigh(&mut self, a: MatMut<'_, T>, q: MatMut<'_, T>, values: &mut [T], work: &mut [T]) -> Result<(), LinAlgError> {
        let d = a.rows();
        let stack = MemStack::new(&mut self.scratch);
        if d > SMALL_EIGH && stack.can_hold(eigen::scratch::<T>(d)) && columns::is_dense(&a) && columns::is_dense(&q) {
            eigen::eigh(a, q, values, work, stack)
        } else {
            Portable.eigh(a, q, values, work)
        }
    }
}

fn accumulation(accumulate: bool) -> Accum {
    if accumulate { Accum::Add } else { Accum::Replace }
}

/// The same matrix for faer, if its rows or its columns are contiguous and do not overlap.
fn view<'a, T: Scalar>(m: MatRef<'a, T>) -> Option<::faer::MatRef<'a, T>> {
    let (rows, cols, row_stride, col_stride) = (m.rows(), m.cols(), m.row_stride(), m.col_stride());
    if col_stride == 1 && row_stride >= cols {
        Some(::faer::MatRef::from_row_major_slice_with_stride(m.data(), rows, cols, row_stride))
    } else if row_stride == 1 && col_stride >= rows {
        Some(::faer::MatRef::from_column_major_slice_with_stride(m.data(), rows, cols, col_stride))
    } else {
        None
    }
}

/// As [`view`], to write to. Rows go by way of the transpose: faer's own constructor for them (0.24.4) takes them for columns.
fn view_mut<'a, T: Scalar>(m: &'a mut MatMut<'_, T>) -> Option<::faer::MatMut<'a, T>> {
    let (rows, cols, row_stride, col_stride) = (m.rows(), m.cols(), m.row_stride(), m.col_stride());
    if col_stride == 1 && row_stride >= cols {
        Some(::faer::MatMut::from_column_major_slice_with_stride_mut(m.data(), cols, rows, row_stride).transpose_mut())
    } else if row_stride == 1 && col_stride >= rows {
        Some(::faer::MatMut::from_column_major_slice_with_stride_mut(m.data(), rows, cols, col_stride))
    } else {
        None
    }
}
