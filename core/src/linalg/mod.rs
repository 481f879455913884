//! The linear algebra that the step needs, behind one statically dispatched trait.

mod matrix;
mod portable;

pub use matrix::{MatMut, MatRef};
pub use portable::Portable;
pub(crate) use portable::{Reflections, VECTORS, matmul};

use crate::Scalar;
pub use crate::triangular::triangle_block;
use crate::triangular::upper_times;

/// Why a linear-algebra call gave no result. Its outputs then hold unspecified values; its inputs are as documented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinAlgError {
    /// An input was NaN or infinite, or the computation overflowed.
    NotFinite,
    /// A matrix is not positive definite to working precision.
    NotPositive,
    /// An iteration did not converge within its limit.
    NoConvergence,
    /// The backend itself failed (a device, a callback).
    Backend,
}

impl core::fmt::Display for LinAlgError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::NotFinite => "linear algebra: a value is not finite",
            Self::NotPositive => "linear algebra: a matrix is not positive definite",
            Self::NoConvergence => "linear algebra: an iteration did not converge",
            Self::Backend => "linear algebra: the backend failed",
        })
    }
}

impl core::error::Error for LinAlgError {}

/// Elements of `work` that [`LinAlg::qr`] and [`LinAlg::eigh`] are given for a `d x d` matrix. A backend that needs more owns it.
pub const fn work_len(d: usize) -> usize {
    4 * d
}

/// Products and factorisations. `&mut self`, so that a backend may own packing buffers.
///
/// Shapes are the caller's duty: a mismatch is a programming error of this crate, not of its user.
/// Matrices never overlap. Every method is deterministic: the same inputs give the same bits.
pub trait LinAlg<T: Scalar> {
    /// `C <- A B`, or `C <- C + A B` when `accumulate`. `A` is m x k, `B` is k x n, `C` is m x n; any strides.
    ///
    /// # Errors
    /// [`LinAlgError::Backend`], and [`LinAlgError::NotFinite`] from a backend that looks at its results; from others NaN and infinity
    /// propagate.
    fn matmul(&mut self, c: MatMut<'_, T>, accumulate: bool, a: MatRef<'_, T>, b: MatRef<'_, T>) -> Result<(), LinAlgError>;

    /// The lower triangle (with the diagonal) of a square product, `C <- [C +] alpha A B`, which mostly is symmetric, but need not be.
    ///
    /// With `B = A^T` this is the symmetric rank-k update. Elements above the diagonal of `C` are left as they were.
    ///
    /// # Errors
    /// As [`Self::matmul`].
    fn matmul_lower(&mut self, c: MatMut<'_, T>, accumulate: bool, alpha: T, a: MatRef<'_, T>, b: MatRef<'_, T>)
    -> Result<(), LinAlgError>;

    /// [`Self::matmul`], a product of which a backend may round the operands: the gradient's way into the eigenbasis, the estimate and the
    /// direction's way back; nothing that is accumulated in place or must stay orthogonal. By default it is exact.
    ///
    /// # Errors
    /// As [`Self::matmul`].
    fn matmul_rounding(&mut self, c: MatMut<'_, T>, accumulate: bool, a: MatRef<'_, T>, b: MatRef<'_, T>) -> Result<(), LinAlgError> {
        self.matmul(c, accumulate, a, b)
    }

    /// [`Self::matmul_lower`], of which a backend may round the operands; see [`Self::matmul_rounding`].
    ///
    /// # Errors
    /// As [`Self::matmul_lower`].
    fn matmul_lower_rounding(
        &mut self,
        c: MatMut<'_, T>,
        accumulate: bool,
        alpha: T,
        a: MatRef<'_, T>,
        b: MatRef<'_, T>,
    ) -> Result<(), LinAlgError> {
        self.matmul_lower(c, accumulate, alpha, a, b)
    }

    /// The lower triangle of `C <- U B`, which is symmetric or of which only that is wanted: `U` is upper triangular, with zeros below its
    /// diagonal, and all are d x d. Elements above the diagonal of `C` are left as they were. By default it is made of products of blocks,
    /// which leave out the zeros.
    ///
    /// # Errors
    /// As [`Self::matmul`].
    fn upper_times(&mut self, c: MatMut<'_, T>, u: MatRef<'_, T>, b: MatRef<'_, T>) -> Result<(), LinAlgError>
    where
        Self: Sized,
    {
        upper_times(self, c, u, b)
    }

    /// The orthogonal factor of `A = Q R` with `diag R >= 0`. `A` is d x d and is destroyed; `Q` is d x d.
    ///
    /// Rank-deficient input is fine: `Q` is orthogonal all the same, columns beyond the range are arbitrary.
    /// The result does not depend on a positive scaling of the columns of `A`, up to rounding.
    ///
    /// # Errors
    /// [`LinAlgError::NotFinite`] when `A` has such an element.
    fn qr(&mut self, a: MatMut<'_, T>, q: MatMut<'_, T>, work: &mut [T]) -> Result<(), LinAlgError>;

    /// `A = L L^T` with `diag L > 0`: the lower triangle of the d x d matrix `A`, whose columns are contiguous, becomes `L`. The strict
    /// upper triangle is not read, and zero afterwards.
    ///
    /// # Errors
    /// [`LinAlgError::NotFinite`] or [`LinAlgError::NotPositive`] when a pivot is not a positive number, either of them; `A` is then half done.
    fn cholesky(&mut self, a: MatMut<'_, T>) -> Result<(), LinAlgError>;

    /// `X <- X L^-T`. `X` is m x d, `L` d x d and lower triangular (its strict upper triangle is not read); columns are contiguous.
    ///
    /// # Errors
    /// [`LinAlgError::Backend`] only; NaN and infinity propagate.
    fn solve_lower(&mut self, x: MatMut<'_, T>, l: MatRef<'_, T>) -> Result<(), LinAlgError>;

    /// Eigenvectors (columns of `Q`) and eigenvalues (descending) of the symmetric matrix whose lower triangle is in `A`.
    ///
    /// `A` is d x d and is destroyed (its strict upper triangle is never read); `Q` is d x d; `values` has d elements.
    ///
    /// # Errors
    /// [`LinAlgError::NotFinite`], [`LinAlgError::NoConvergence`].
    fn eigh(&mut self, a: MatMut<'_, T>, q: MatMut<'_, T>, values: &mut [T], work: &mut [T]) -> Result<(), LinAlgError>;

    /// Whether results need no second look: they are finite wherever the operands are and the arithmetic does not overflow. Not said by default:
    /// a step then looks at every number that it has from a backend before it becomes state, and takes one that is not finite, or far out of range,
    /// for a failure of the call. [`Portable`] says it, whose tests are this crate's.
    #[inline(always)]
    fn is_trusted(&self) -> bool {
        false
    }

    /// Runs an elementwise pass. A backend that knows of wider vector instructions than the target's baseline compiles `pass` for them;
    /// the result's bits do not depend on it.
    #[inline(always)]
    fn vectorise<P: Pass<Self>>(&self, pass: P) -> P::Output
    where
        Self: Sized,
    {
        pass.run(self)
    }

    /// Whether threads share the parts that [`Self::share`] is given: to be asked before something is cut for it.
    #[inline(always)]
    fn shares(&self) -> bool {
        false
    }

    /// Runs passes that touch disjoint memory, each as [`Self::vectorise`] does and once, in any order, on any thread. Leaves nothing behind.
    #[inline(always)]
    fn share<P: Pass<Self, Output = ()> + Send>(&self, parts: &mut [Option<P>])
    where
        Self: Sized,
    {
        parts.iter_mut().filter_map(Option::take).for_each(|part| self.vectorise(part));
    }

    /// The square root, correctly rounded, for passes: a backend may know an instruction that vectorises where [`Scalar::sqrt`] does not.
    #[inline(always)]
    fn sqrt(&self, x: T) -> T {
        x.sqrt()
    }
}

/// An elementwise pass over memory that it borrows, with a backend at hand.
///
/// An object with a method and not a closure: only what is inlined into [`LinAlg::vectorise`] is compiled for the machine's vector instructions,
/// and that takes `#[inline(always)]` on [`Self::run`] and all that it calls but the smallest closures. A compiler leaves a large closure that is
/// called for several instruction sets where it is, compiled for the target's baseline.
pub trait Pass<L> {
    /// What it finds out.
    type Output;

    /// Makes it.
    fn run(self, linalg: &L) -> Self::Output;
}
