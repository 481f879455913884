//! The norm of all gradients.

use std::ffi::CStr;

use super::{Scalar, THREADS};
use crate::batch::Items;
use crate::queue::{DeviceError, DevicePtr, Kernel, Queue};

/// A norm on the device.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[repr(C)]
pub struct Norm {
    /// Of all squares.
    pub sum: f64,
    /// Its root.
    pub norm: f32,
    /// The smaller of 1 and `limit / norm`.
    pub factor: f32,
}

impl Norm {
    /// Where the factor of a norm lies: for [`super::Transform::clip`].
    #[must_use]
    pub const fn factor_of(norm: DevicePtr) -> DevicePtr {
        DevicePtr(norm.0 + core::mem::offset_of!(Norm, factor) as u64)
    }
}

/// `kls_io_norm`
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct GlobalNorm {
    items: Items,
    measures: DevicePtr,
    limit: Scalar,
    norm: DevicePtr,
    adds: u32,
    unused: u32,
}

// SAFETY: `kls_io_norm_params`, field by field.
unsafe impl Kernel for GlobalNorm {
    const NAME: &'static CStr = c"kls_io_norm";
    const THREADS: u32 = THREADS;
}

/// Writes a [`Norm`]: of all items of these batches that take part, each with the [`super::Measure`]s of its items, in this order. Items with
/// an element that is not finite do not count: they are not stepped.
///
/// # Errors
/// The queue's.
pub fn global_norm<Q: Queue>(queue: &mut Q, batches: &[(Items, DevicePtr)], limit: Scalar, norm: DevicePtr) -> Result<(), DeviceError> {
    let nothing = [(Items::all(0), DevicePtr::NULL)];
    let batches = if batches.is_empty() { &nothing } else { batches };
    for (i, &(items, measures)) in batches.iter().enumerate() {
        queue.launch([1, 1, 1], GlobalNorm { items, measures, limit, norm, adds: u32::from(i > 0), unused: 0 })?;
    }
    Ok(())
}

/// Computes norm and factor from the sum of squares that has come to lie in a [`Norm`]: after a sum over several devices.
///
/// # Errors
/// The queue's.
pub fn reclip<Q: Queue>(queue: &mut Q, limit: Scalar, norm: DevicePtr) -> Result<(), DeviceError> {
    queue.launch([1, 1, 1], GlobalNorm { items: Items::all(0), measures: DevicePtr::NULL, limit, norm, adds: 1, unused: 0 })
}
