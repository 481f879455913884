//! The QR decomposition by reflections, for what Cholesky factors cannot do.

use super::kernel::{INVALID, LARGEST_ALONE, dimension, elements, kernel, kernels, over};
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

/// What the kernels of `kernels/linalg/householder_panels.cuh` are given.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
#[allow(dead_code, reason = "the kernels read the fields")]
pub(crate) struct Panels {
    a: Array,
    q: Array,
    signs: Array,
    triangles: Array,
    items: Items,
    d: u32,
    failed: u32,
    start: u32,
    to_q: u32,
}

const _: () = assert!(size_of::<Panels>() == 4 * size_of::<Array>() + size_of::<Items>() + 4 * size_of::<u32>(), "padding");

kernels! { Panels:
    QrScale = c"kls_qr_scale", 64 threads;
    QrPanel = c"kls_qr_panel", 512 threads;
    QrIdentity = c"kls_qr_identity", 256 threads;
    QrReflect = c"kls_qr_reflect", 256 threads;
}

/// Columns of a panel, and of a block that is reflected.
const PANEL: u32 = 32;

/// Elements of `work` for each item in [`qr_in_panels`].
#[must_use]
pub const fn qr_panels_work_len(d: usize) -> usize {
    let panel = PANEL as usize;
    d + d.next_multiple_of(panel) * panel
}

/// Elements of `work` for each item in [`qr`].
pub(super) const fn qr_work_len(d: usize) -> usize {
    if d > LARGEST_ALONE { qr_panels_work_len(d) } else { 3 * d }
}

/// The orthogonal factor of `A = Q R` with `diag R >= 0`. `a` is `d x d` and is destroyed, `out` is `d x d`; rows are contiguous. `work` has
/// [`work_len`](super::work_len) elements for each item.
///
/// Rank-deficient input is fine: `Q` is orthogonal all the same, columns beyond the range are arbitrary. Items whose matrix is not finite get the
/// bit `failed`, and no result. Items that have the bit already are left alone.
///
/// # Errors
/// The driver's; "invalid value" of items without flags or a matrix that is too large.
pub fn qr<Q: Queue>(q: &mut Q, items: Items, d: usize, a: Array, out: Array, work: Array, failed: u32) -> Result<(), DeviceError> {
    if d > LARGEST_ALONE {
        return qr_in_panels(q, items, d, a, out, work, failed);
    }
    if items.flags == DevicePtr::NULL {
        return Err(INVALID);
    }
    let items = items.without(failed);
    q.launch([items.count, 1, 1], Householder { a, q: out, work, items, d: dimension(d)?, failed })
}

/// As [`qr`], with many blocks of threads to a matrix: the reflections of a panel of columns are applied together. `work` has
/// [`qr_panels_work_len`] elements for each item.
///
/// # Errors
/// As [`qr`].
pub fn qr_in_panels<Q: Queue>(
    q: &mut Q,
    items: Items,
    d: usize,
    a: Array,
    out: Array,
    work: Array,
    failed: u32,
) -> Result<(), DeviceError> {
    if items.flags == DevicePtr::NULL {
        return Err(INVALID);
    }
    let (items, triangles, d) = (items.without(failed), work.offset::<f32>(d), dimension(d)?);
    let of = |start: u32, to_q: u32| Panels { a, q: out, signs: work, triangles, items, d, failed, start, to_q };
    q.launch([d.div_ceil(64), over(items), 1], QrScale(of(0, 0)))?;
    for start in (0..d).step_by(PANEL as usize) {
        q.launch([items.count, 1, 1], QrPanel(of(start, 0)))?;
        let rest = d.saturating_sub(start + PANEL);
        q.launch([rest.div_ceil(PANEL), over(items), 1], QrReflect(of(start, 0)))?;
    }
    q.launch(elements(items, d), QrIdentity(of(0, 1)))?;
    for start in (0..d).step_by(PANEL as usize).rev() {
        q.launch([(d - start).div_ceil(PANEL), over(items), 1], QrReflect(of(start, 1)))?;
    }
    Ok(())
}
