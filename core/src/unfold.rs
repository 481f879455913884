//! Mode products and unfoldings, for a tensor of any order: every product is a matrix product of one mode's square with a view
//! `(left, d, right)` of the tensor.

use crate::Scalar;
use crate::linalg::{LinAlg, LinAlgError, MatMut, MatRef};
use crate::shape::{MAX_ORDER, Shape};

/// Which way a basis is applied.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rotate {
    /// `X x_k Q_k^T`: parameter coordinates to the eigenbasis.
    Into,
    /// `X x_k Q_k`: the eigenbasis back to parameter coordinates.
    OutOf,
}

/// What a backend may do to the operands of a product.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Precision {
    /// Nothing: [`LinAlg::matmul`], [`LinAlg::matmul_lower`].
    Full,
    /// Round them: [`LinAlg::matmul_rounding`], [`LinAlg::matmul_lower_rounding`].
    Rounding,
}

impl Precision {
    fn matmul<T: Scalar, L: LinAlg<T>>(
        self,
        linalg: &mut L,
        c: MatMut<'_, T>,
        a: MatRef<'_, T>,
        b: MatRef<'_, T>,
    ) -> Result<(), LinAlgError> {
        match self {
            Self::Full => linalg.matmul(c, false, a, b),
            Self::Rounding => linalg.matmul_rounding(c, false, a, b),
        }
    }

    fn matmul_lower<T: Scalar, L: LinAlg<T>>(
        self,
        linalg: &mut L,
        (c, accumulate): (MatMut<'_, T>, bool),
        alpha: T,
        a: MatRef<'_, T>,
        b: MatRef<'_, T>,
    ) -> Result<(), LinAlgError> {
        match self {
            Self::Full => linalg.matmul_lower(c, accumulate, alpha, a, b),
            Self::Rounding => linalg.matmul_lower_rounding(c, accumulate, alpha, a, b),
        }
    }
}

/// One mode product `out = x x_k A`, with the fibres of mode `k` multiplied from the left.
#[inline(always)]
pub(crate) fn mode_product<T: Scalar, L: LinAlg<T>>(
    linalg: &mut L,
    precision: Precision,
    shape: &Shape,
    k: usize,
    a: MatRef<'_, T>,
    x: &[T],
    out: &mut [T],
) -> Result<(), LinAlgError> {
    let d = shape.dim(k);
    let (left, right) = shape.around(k);
    if right == 1 {
        // The rows of a (left x d) matrix are the fibres: Y = X A^T, the transpose of the general case, in one product.
        return precision.matmul(linalg, MatMut::row_major(out, left, d), MatRef::row_major(x, left, d), a.t());
    }
    for (x, out) in x.chunks_exact(d * right).zip(out.chunks_exact_mut(d * right)) {
        precision.matmul(linalg, MatMut::row_major(out, d, right), a, MatRef::row_major(x, d, right))?;
    }
    Ok(())
}

/// Where a chain of mode products starts.
pub(crate) enum Start<'a, T> {
    /// An input outside the two buffers.
    External(&'a [T]),
    /// The buffer that [`chain_starts_in_second`] names.
    InPlace,
}

/// Whether a chain over the full modes that ends in its first buffer starts in its second one.
pub(crate) const fn chain_starts_in_second(shape: &Shape) -> bool {
    shape.full_modes() % 2 == 1
}

/// Applies the squares that are not empty, one after another, and leaves the result in `end`; `other` is overwritten. There is at
/// least one.
///
/// The chain goes back and forth between the two buffers, so that no copy is made: an input in place must lie in `other` if the
/// number of squares is odd ([`chain_starts_in_second`] for the bases of all full modes), else in `end`.
pub(crate) fn rotate<T: Scalar, L: LinAlg<T>>(
    linalg: &mut L,
    precision: Precision,
    shape: &Shape,
    bases: [&[T]; MAX_ORDER],
    direction: Rotate,
    start: Start<'_, T>,
    [end, other]: [&mut [T]; 2],
) -> Result<(), LinAlgError> {
    let count = bases.iter().filter(|basis| !basis.is_empty()).count();
    let (mut source, mut target) = if count % 2 == 1 { (other, end) } else { (end, other) };
    let mut external = match start {
        Start::External(x) => Some(x),
        Start::InPlace => None,
    };
    for (k, basis) in bases.into_iter().enumerate().filter(|(_, basis)| !basis.is_empty()) {
        let input = external.take().unwrap_or(source);
        let basis = MatRef::row_major(basis, shape.dim(k), shape.dim(k));
        let basis = if direction == Rotate::Into { basis.t() } else { basis };
        mode_product(linalg, precision, shape, k, basis, input, target)?;
        core::mem::swap(&mut source, &mut target);
    }
    Ok(())
}

/// `Delta = alpha mat_k(X) mat_k(Y)^T`, known to be symmetric: lower triangle of a `d x d` square.
pub(crate) fn unfolded_product<T: Scalar, L: LinAlg<T>>(
    linalg: &mut L,
    precision: Precision,
    shape: &Shape,
    k: usize,
    alpha: T,
    (x, y): (&[T], &[T]),
    delta: &mut [T],
) -> Result<(), LinAlgError> {
    let d = shape.dim(k);
    let (left, right) = shape.around(k);
    if right == 1 {
        let (a, b) = (MatRef::row_major(x, left, d), MatRef::row_major(y, left, d));
        return precision.matmul_lower(linalg, (MatMut::row_major(delta, d, d), false), alpha, a.t(), b);
    }
    for (l, (x, y)) in x.chunks_exact(d * right).zip(y.chunks_exact(d * right)).enumerate() {
        let (a, b) = (MatRef::row_major(x, d, right), MatRef::row_major(y, d, right));
        precision.matmul_lower(linalg, (MatMut::row_major(delta, d, d), l > 0), alpha, a, b.t())?;
    }
    Ok(())
}
