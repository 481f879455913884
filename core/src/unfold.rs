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

/// One mode product `out = x x_k A`, with the fibres of mode `k` multiplied from the left.
pub(crate) fn mode_product<T: Scalar, L: LinAlg<T>>(
    linalg: &mut L,
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
        return linalg.matmul(MatMut::row_major(out, left, d), false, MatRef::row_major(x, left, d), a.t());
    }
    for (x, out) in x.chunks_exact(d * right).zip(out.chunks_exact_mut(d * right)) {
        linalg.matmul(MatMut::row_major(out, d, right), false, a, MatRef::row_major(x, d, right))?;
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
    shape: &Shape,
    bases: [&[T]; MAX_ORDER],
    direction: Rotate,
    start: Start<'_, T>,
    end: &mut [T],
    other: &mut [T],
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
        mode_product(linalg, shape, k, basis, input, target)?;
        core::mem::swap(&mut source, &mut target);
    }
    Ok(())
}

/// `Delta = alpha mat_k(X) mat_k(Y)^T`, known to be symmetric: lower triangle of a `d x d` square.
pub(crate) fn unfolded_product<T: Scalar, L: LinAlg<T>>(
    linalg: &mut L,
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
        return linalg.matmul_lower(MatMut::row_major(delta, d, d), false, alpha, a.t(), b);
    }
    for (l, (x, y)) in x.chunks_exact(d * right).zip(y.chunks_exact(d * right)).enumerate() {
        let (a, b) = (MatRef::row_major(x, d, right), MatRef::row_major(y, d, right));
        linalg.matmul_lower(MatMut::row_major(delta, d, d), l > 0, alpha, a, b.t())?;
    }
    Ok(())
}
