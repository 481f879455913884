//! Where kernels go: a stream of a device, or in tests the emulator.

use std::ffi::CStr;

use crate::gemm::Gemm;
use crate::linalg::Precision;

/// What the address of an optimizer's block of device memory is a multiple of, in bytes; so are the parts of the block.
pub const ALIGNMENT: usize = 256;

/// A place in device memory, as a kernel takes it. Launching is safe because making one of these is not: see [`Self::new`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct DevicePtr(pub(crate) u64);

impl DevicePtr {
    /// No memory.
    pub const NULL: Self = Self(0);

    /// The place at an address.
    ///
    /// # Safety
    /// What is launched with it, or with [`Self::offset`]s of it, finds as much memory there as it is described to work on, on the device of its
    /// queue and until it has run, and nothing else writes that memory meanwhile or reads what it writes.
    #[must_use]
    pub const unsafe fn new(address: u64) -> Self {
        Self(address)
    }

    /// Its address.
    #[must_use]
    pub const fn address(self) -> u64 {
        self.0
    }

    /// So many elements of `T` further on.
    #[must_use]
    pub const fn offset<T>(self, elements: usize) -> Self {
        Self(self.0 + (elements * size_of::<T>()) as u64)
    }
}

/// A kernel's parameters, which name it too.
///
/// # Safety
/// The type is `repr(C)` without padding bytes that are not fields, and lies in memory as the struct of the kernel of this name in `kernels/` does.
pub unsafe trait Kernel: Copy {
    /// Its name.
    const NAME: &'static CStr;
    /// Threads in a block of it.
    const THREADS: u32;
}

/// A failed call of the driver, by its code, or of a library of products: see [`crate::driver::Error`], which tells them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceError(pub u32);

impl DeviceError {
    /// What a queue that has no library says when it is asked to multiply: the driver's "not supported".
    pub const NO_LIBRARY: Self = Self(801);
}

/// A queue of launches, worked off in order.
///
/// A queue may have a library that makes products of plain matrices faster than this crate's kernels do. It knows nothing of flags: it makes the
/// products of all items, so it is asked only where a result that nobody wants does no harm.
pub trait Queue {
    /// Launches a kernel over a grid of blocks. An empty grid is nothing to do.
    ///
    /// # Errors
    /// The driver's.
    fn launch<K: Kernel>(&mut self, grid: [u32; 3], kernel: K) -> Result<(), DeviceError>;

    /// Whether products of so many multiplications each, at such a precision, are to be left to the queue's library: [`Self::multiply`].
    fn multiplies(&self, multiplications: u64, precision: Precision) -> bool {
        let _ = (multiplications, precision);
        false
    }

    /// Makes a product by the queue's library, in its place among the launches.
    ///
    /// # Errors
    /// The library's; [`DeviceError::NO_LIBRARY`].
    fn multiply(&mut self, gemm: &Gemm) -> Result<(), DeviceError> {
        let _ = gemm;
        Err(DeviceError::NO_LIBRARY)
    }
}
