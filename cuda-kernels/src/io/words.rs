//! Memory of the device, written by kernels alone.

use std::ffi::CStr;

use super::{Place, THREADS, chunks, grid};
use crate::batch::{Array, Items};
use crate::queue::{DeviceError, DevicePtr, Kernel, Queue, Traffic};

/// Words that a launch carries: `KLS_CARRIED` in `kernels/io/words.cuh`.
const CARRIED: usize = 480;

/// `kls_io_write`
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Write {
    to: DevicePtr,
    count: u32,
    unused: u32,
    words: [u64; CARRIED],
}

// SAFETY: `kls_io_write_params`, field by field.
unsafe impl Kernel for Write {
    const NAME: &'static CStr = c"kls_io_write";
    const THREADS: u32 = 256;
}

/// `kls_io_fill`
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Fill {
    items: Items,
    to: Array,
    len: u64,
    value: u32,
    unused: u32,
}

// SAFETY: `kls_io_fill_params`, field by field.
unsafe impl Kernel for Fill {
    const NAME: &'static CStr = c"kls_io_fill";
    const THREADS: u32 = THREADS;

    fn traffic(&self, _: [u32; 3]) -> Traffic {
        Traffic::of(u64::from(self.items.count), self.len, 4, [0, 1])
    }
}

/// `kls_io_copy`
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Copy {
    items: Items,
    from: Array,
    to: Array,
    len: u64,
}

// SAFETY: `kls_io_copy_params`, field by field.
unsafe impl Kernel for Copy {
    const NAME: &'static CStr = c"kls_io_copy";
    const THREADS: u32 = THREADS;

    fn traffic(&self, _: [u32; 3]) -> Traffic {
        Traffic::of(u64::from(self.items.count), self.len, 4, [1, 1])
    }
}

/// Writes words that are known now. They travel in the launches' parameters, 480 in each.
///
/// # Errors
/// The queue's.
pub fn write<Q: Queue>(queue: &mut Q, to: DevicePtr, words: impl IntoIterator<Item = u64>) -> Result<(), DeviceError> {
    let mut words = words.into_iter().peekable();
    let mut kernel = Write { to, count: 0, unused: 0, words: [0; CARRIED] };
    while words.peek().is_some() {
        kernel.count = 0;
        for (carried, word) in kernel.words.iter_mut().zip(&mut words) {
            *carried = word;
            kernel.count += 1;
        }
        queue.launch([1, 1, 1], kernel)?;
        kernel.to = kernel.to.offset::<u64>(kernel.count as usize);
    }
    Ok(())
}

/// Writes tensors' buffers to entries of a table on the device, from `first` on.
///
/// # Errors
/// The queue's.
pub fn set_pointers<Q: Queue>(queue: &mut Q, table: DevicePtr, first: usize, pointers: &[DevicePtr]) -> Result<(), DeviceError> {
    write(queue, table.offset::<DevicePtr>(first), pointers.iter().map(|pointer| pointer.0))
}

/// Writes items' places to entries of a table on the device, from `first` on.
///
/// # Errors
/// The queue's.
pub fn set_places<Q: Queue>(queue: &mut Q, table: DevicePtr, first: usize, places: &[Place]) -> Result<(), DeviceError> {
    let words = places.iter().flat_map(|place| [u64::from(place.tensor) | u64::from(place.slice) << 32, place.offset]);
    write(queue, table.offset::<Place>(first), words)
}

/// Most blocks in a row of a grid that only moves words: enough for any device, and each comes back.
const BLOCKS: usize = 1 << 14;

/// Sets `len` words of 32 bits of each item to `value`.
///
/// # Errors
/// The queue's.
pub fn fill<Q: Queue>(queue: &mut Q, items: Items, to: Array, len: usize, value: u32) -> Result<(), DeviceError> {
    queue.launch(grid(chunks(len).min(BLOCKS), items.count), Fill { items, to, len: len as u64, value, unused: 0 })
}

/// Copies `len` words of 32 bits of each item, between memory that does not overlap.
///
/// # Errors
/// The queue's.
pub fn copy<Q: Queue>(queue: &mut Q, items: Items, from: Array, to: Array, len: usize) -> Result<(), DeviceError> {
    queue.launch(grid(chunks(len).min(BLOCKS), items.count), Copy { items, from, to, len: len as u64 })
}
