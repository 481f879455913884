//! Eigenvectors: the decomposition, its refinement to the accuracy that the numbers allow, and orthogonality regained. See the module of this
//! name in the core.

use super::Precision;
use super::kernel::{INVALID, dimension, kernel};
use super::product::{Matrix, Product};
use super::squares::{Order, gather, infinitesimal_rotation, newton_schulz};
use crate::batch::{Array, Items};
use crate::queue::{DeviceError, DevicePtr, Queue};

kernel! {
    /// See `kernels/linalg/eigh.cuh`.
    Eigh = c"kls_eigh", 512 threads {
        a: Array,
        vectors: Array,
        values: Array,
        work: Array,
        items: Items,
        d: u32,
        failed: u32,
    }
}

/// Eigenvectors (columns of `vectors`) and eigenvalues (descending) of the symmetric matrix whose lower triangle is in `a`, which is destroyed;
/// both are `d x d` with contiguous rows. `work` has [`work_len`](super::work_len) elements for each item.
///
/// Sets the bit `failed` of items where the matrix or an eigenvalue is not finite, or the iteration does not converge; their outputs then hold
/// unspecified values.
///
/// # Errors
/// The driver's; "invalid value" of items without flags or a matrix that is too large.
#[allow(clippy::too_many_arguments)]
pub fn eigh<Q: Queue>(
    q: &mut Q,
    items: Items,
    d: usize,
    a: Array,
    vectors: Array,
    values: Array,
    work: Array,
    failed: u32,
) -> Result<(), DeviceError> {
    if items.flags == DevicePtr::NULL {
        return Err(INVALID);
    }
    let d = dimension(d)?;
    let blocks = if d == 0 { 0 } else { items.count };
    q.launch([blocks, 1, 1], Eigh { a, vectors, values, work, items, d, failed })
}

/// Turns the columns of `vectors` towards the eigenvectors of `A`. `t` comes in with the lower triangle of `Q^T A Q`, nearly diagonal with a
/// descending diagonal, and is overwritten, like `temporary`; all are `d x d` with contiguous rows.
///
/// # Errors
/// As [`Product::launch`].
pub fn refine<Q: Queue>(
    q: &mut Q,
    items: Items,
    d: usize,
    vectors: Array,
    t: Array,
    temporary: Array,
    precision: Precision,
) -> Result<(), DeviceError> {
    infinitesimal_rotation(q, items, d, t)?;
    let [matrix, by, out] = [vectors, t, temporary].map(|array| Matrix::row_major(array, d));
    Product::of(out, matrix, by, [d; 3]).at(precision).launch(q, items)?;
    newton_schulz_step(q, items, d, [temporary, t, vectors], precision)
}

/// One Newton-Schulz step of a basis towards the nearest orthogonal matrix: `Q <- Q (3 I - Q^T Q) / 2`. `square` and `spare` are overwritten; all
/// are `d x d` with contiguous rows.
///
/// After a refresh, once all that moves along has moved, the rotation can be the spare one.
///
/// # Errors
/// As [`Product::launch`].
pub fn polish<Q: Queue>(
    q: &mut Q,
    items: Items,
    d: usize,
    basis: Array,
    square: Array,
    spare: Array,
    precision: Precision,
) -> Result<(), DeviceError> {
    newton_schulz_step(q, items, d, [basis, square, spare], precision)?;
    gather(q, items, d, spare, basis, Order::OWN, Array::NULL)
}

/// `out = Q (3 I - Q^T Q) / 2`, of `Q`, a square that is overwritten, and `out`.
fn newton_schulz_step<Q: Queue>(
    q: &mut Q,
    items: Items,
    d: usize,
    [basis, square, out]: [Array; 3],
    precision: Precision,
) -> Result<(), DeviceError> {
    let [basis, gram, out] = [basis, square, out].map(|array| Matrix::row_major(array, d));
    Product { lower: true, ..Product::of(gram, basis.t(), basis, [d; 3]) }.at(precision).launch(q, items)?;
    newton_schulz(q, items, d, square)?;
    Product::of(out, basis, gram, [d; 3]).at(precision).launch(q, items)
}
