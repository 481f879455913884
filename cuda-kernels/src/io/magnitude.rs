//! The size of dense arrays.

use std::ffi::CStr;

use super::{THREADS, grid};
use crate::batch::{Array, Items};
use crate::queue::{DeviceError, DevicePtr, Kernel, Queue, Traffic};

/// Elements that a block measures: `KLS_CHUNK` in `kernels/io/chunks.cuh`.
const CHUNK: usize = 4096;

/// Into how many chunks an array of `len` elements is cut, whatever the grid: what is measured has a fixed order.
#[must_use]
pub const fn chunks(len: usize) -> usize {
    len.div_ceil(CHUNK)
}

/// The size of an array.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[repr(C)]
pub struct Measure {
    /// Of the squares.
    pub sum: f64,
    /// The bits of the largest `|x|`. Those of infinity are above all that are finite, those of NaN above these.
    pub largest: u32,
    /// Makes the padding explicit; 0.
    pub unused: u32,
}

/// `kls_io_magnitude`
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Chunks {
    items: Items,
    x: Array,
    len: u64,
    chunks: DevicePtr,
}

// SAFETY: `kls_io_magnitude_params`, field by field.
unsafe impl Kernel for Chunks {
    const NAME: &'static CStr = c"kls_io_magnitude";
    const THREADS: u32 = THREADS;

    fn traffic(&self, _: [u32; 3]) -> Traffic {
        Traffic::of(u64::from(self.items.count), self.len, 4, [1, 0])
    }
}

/// `kls_io_magnitude_sum`
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Sum {
    items: Items,
    chunks: DevicePtr,
    count: u64,
    out: DevicePtr,
}

// SAFETY: `kls_io_magnitude_sum_params`, field by field.
unsafe impl Kernel for Sum {
    const NAME: &'static CStr = c"kls_io_magnitude_sum";
    const THREADS: u32 = THREADS;
}

/// Where the first stage writes: where the second one would, if there is nothing to add.
pub(super) const fn first_stage(len: usize, work: DevicePtr, out: DevicePtr) -> DevicePtr {
    if chunks(len) == 1 { out } else { work }
}

/// The second stage: adds the chunks of each item in order.
pub(crate) fn second_stage<Q: Queue>(q: &mut Q, items: Items, len: usize, work: DevicePtr, out: DevicePtr) -> Result<(), DeviceError> {
    if chunks(len) == 1 {
        return Ok(());
    }
    q.launch([items.count.min(0x7fff_ffff), 1, 1], Sum { items, chunks: work, count: chunks(len) as u64, out })
}

/// Measures `len` elements of each item: a [`Measure`] per item at `out`. `work` has room for [`chunks`] of them per item, and is not looked at
/// where there is one chunk.
///
/// # Errors
/// The queue's.
pub fn magnitude<Q: Queue>(q: &mut Q, items: Items, x: Array, len: usize, work: DevicePtr, out: DevicePtr) -> Result<(), DeviceError> {
    q.launch(grid(chunks(len), items.count), Chunks { items, x, len: len as u64, chunks: first_stage(len, work, out) })?;
    second_stage(q, items, len, work, out)
}
