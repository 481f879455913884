//! The QR decomposition by reflections, for what Cholesky factors cannot do.

use super::kernel::{INVALID, dimension, kernel};
use crate::batch::{Array, Items};
use crate::queue::{DeviceError, DevicePtr, Queue};

kernel! {
    /// See `kernels/linalg/householder.cuh`.
    Householder = c"kls_householder", 512 threads {
        a: Array,
        q: Array,
        work: Array,
        items: Items,
        d: u32,
        failed: u32,
    }
}

/// The orthogonal factor of `A = Q R` with `diag R >= 0`. `a` is `d x d` and is destroyed, `out` is `d x d`; rows are contiguous. `work` has
/// [`work_len`](super::work_len) elements for each item.
///
/// Rank-deficient input is fine: `Q` is orthogonal all the same, columns beyond the range are arbitrary. Items whose matrix is not finite get the
/// bit `failed`, and no result.
///
/// # Errors
/// The driver's; "invalid value" of items without flags or a matrix that is too large.
pub fn qr<Q: Queue>(q: &mut Q, items: Items, d: usize, a: Array, out: Array, work: Array, failed: u32) -> Result<(), DeviceError> {
    if items.flags == DevicePtr::NULL {
        return Err(INVALID);
    }
    q.launch([items.count, 1, 1], Householder { a, q: out, work, items, d: dimension(d)?, failed })
}
