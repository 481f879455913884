//! How this module's kernels are spelled in Rust.

use crate::batch::{Items, PER_ITEM};
use crate::queue::DeviceError;

/// The driver's "invalid value": what it would say itself if it saw it.
pub(crate) const INVALID: DeviceError = DeviceError(1);

/// Largest matrix that one block of threads decomposes by itself.
pub(crate) const LARGEST_ALONE: usize = 128;

/// A kernel's parameters, as in `kernels/linalg`.
macro_rules! kernel {
    ($(#[$doc:meta])* $name:ident = $kernel:literal, $threads:literal threads { $($field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        #[repr(C)]
        #[allow(dead_code, reason = "the kernel reads the fields")]
        pub(crate) struct $name {
            $(pub(crate) $field: $type,)*
        }

        const _: () = assert!(size_of::<$name>() == 0 $(+ size_of::<$type>())*, "padding that is no field");

        // SAFETY: without padding, which is asserted above, and with the fields of the struct of the same kernel; its size is tested.
        unsafe impl crate::queue::Kernel for $name {
            const NAME: &'static core::ffi::CStr = $kernel;
            const THREADS: u32 = $threads;
        }
    };
}
pub(crate) use kernel;

/// Kernels that are given the same struct, which is another kernel's or has no padding.
macro_rules! kernels {
    ($params:ty: $($(#[$doc:meta])* $name:ident = $kernel:literal, $threads:literal threads;)*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Copy, Debug)]
            #[repr(transparent)]
            #[allow(dead_code, reason = "the kernel reads it")]
            pub(crate) struct $name(pub(crate) $params);

            // SAFETY: the struct of the kernel of this name is that of which the parameters are the other half; its size is tested.
            unsafe impl crate::queue::Kernel for $name {
                const NAME: &'static core::ffi::CStr = $kernel;
                const THREADS: u32 = $threads;
            }
        )*
    };
}
pub(crate) use kernels;

/// A dimension as kernels take it.
pub(crate) fn dimension(d: usize) -> Result<u32, DeviceError> {
    // Blocks beyond this would not fit a grid, and tile numbers not 32 bits.
    u32::try_from(d).ok().filter(|&d| d <= 1 << 30).ok_or(INVALID)
}

/// Blocks in the second dimension of a grid that goes over items; kernels loop over what is beyond.
pub(crate) fn over(items: Items) -> u32 {
    items.count.min(65_535)
}

/// The grid of an elementwise pass over squares.
pub(crate) fn elements(items: Items, d: u32) -> [u32; 3] {
    let blocks = (u64::from(d) * u64::from(d)).div_ceil(256);
    [blocks.min(PER_ITEM as u64) as u32, over(items), 1]
}
