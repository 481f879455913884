//! Memory filled and copied by kernels, as a captured step needs it: see `kernels/words`.

use crate::queue::{DeviceError, DevicePtr, Kernel, Queue};

const THREADS: u32 = 256;
/// Enough blocks for any device; the rest is a loop.
const MOST_BLOCKS: u64 = 4096;

#[derive(Clone, Copy)]
#[repr(C)]
struct FillWords {
    at: DevicePtr,
    count: u64,
    value: u32,
    unused: u32,
}

// SAFETY: the struct of kernels/words/fill.cuh.
unsafe impl Kernel for FillWords {
    const NAME: &'static core::ffi::CStr = c"fill_words";
    const THREADS: u32 = THREADS;
}

#[derive(Clone, Copy)]
#[repr(C)]
struct CopyWords {
    from: DevicePtr,
    to: DevicePtr,
    count: u64,
}

// SAFETY: the struct of kernels/words/copy.cuh.
unsafe impl Kernel for CopyWords {
    const NAME: &'static core::ffi::CStr = c"copy_words";
    const THREADS: u32 = THREADS;
}

fn grid(words: u64) -> [u32; 3] {
    [words.div_ceil(u64::from(THREADS)).min(MOST_BLOCKS) as u32, 1, 1]
}

/// Sets `words` words of 32 bits to one value.
///
/// # Errors
/// The driver's.
pub fn fill(queue: &mut impl Queue, at: DevicePtr, words: u64, value: u32) -> Result<(), DeviceError> {
    queue.launch(grid(words), FillWords { at, count: words, value, unused: 0 })
}

/// Copies `words` words of 32 bits; the two ranges must have nothing in common.
///
/// # Errors
/// The driver's.
pub fn copy(queue: &mut impl Queue, from: DevicePtr, to: DevicePtr, words: u64) -> Result<(), DeviceError> {
    queue.launch(grid(words), CopyWords { from, to, count: words })
}

#[cfg(test)]
mod tests {
    use super::*;
    use klshampoo_cuda_emulator::{params_size, threads};

    #[test]
    fn parameters_are_the_kernels() {
        assert_eq!(params_size(FillWords::NAME), Some(size_of::<FillWords>()));
        assert_eq!(params_size(CopyWords::NAME), Some(size_of::<CopyWords>()));
        assert_eq!(threads(FillWords::NAME), Some(THREADS));
        assert_eq!(threads(CopyWords::NAME), Some(THREADS));
    }

    #[test]
    fn grids() {
        assert_eq!(grid(0), [0, 1, 1]);
        assert_eq!(grid(1), [1, 1, 1]);
        assert_eq!(grid(257), [2, 1, 1]);
        assert_eq!(grid(u64::MAX), [4096, 1, 1]);
    }
}
