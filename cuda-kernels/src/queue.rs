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

    /// What it moves over this grid, if it is a pass over elements: see [`Traffic`].
    fn traffic(&self, _grid: [u32; 3]) -> Traffic {
        Traffic::NONE
    }
}

/// Bytes between kernels and memory, where every array that a pass over elements works on is moved once.
///
/// Counted are arrays as long as the items: gradients, parameters, moments, factors, and what passes leave to each other; not the operands of
/// products and factorisations, nor what there is once per item or per index of a mode. All items count that a launch is meant for, also those
/// of tensors without a gradient; not those of launches in which only a first step, or an item in which something went wrong, takes part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes that are read.
    pub read: u64,
    /// Bytes that are written.
    pub written: u64,
}

impl Traffic {
    /// Nothing that counts.
    pub const NONE: Self = Self { read: 0, written: 0 };

    /// So many arrays of `elements` numbers of `size` bytes each, for each of `items`.
    pub(crate) const fn of(items: u64, elements: u64, size: u64, [read, written]: [u64; 2]) -> Self {
        let each = items * elements * size;
        Self { read: each * read, written: each * written }
    }

    /// Both.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.read + self.written
    }
}

impl core::ops::Add for Traffic {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { read: self.read + other.read, written: self.written + other.written }
    }
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

/// A queue that launches nothing and counts what launches would move.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Launches.
    pub launches: usize,
    /// What they would move.
    pub traffic: Traffic,
    /// The same kernel by kernel, of those that move something, in the order of their first launches.
    pub kernels: Vec<(&'static CStr, Traffic)>,
}

impl Queue for Tally {
    fn launch<K: Kernel>(&mut self, grid: [u32; 3], kernel: K) -> Result<(), DeviceError> {
        self.launches += 1;
        let own = kernel.traffic(grid);
        if own == Traffic::NONE {
            return Ok(());
        }
        self.traffic = self.traffic + own;
        match self.kernels.iter_mut().find(|(name, _)| *name == K::NAME) {
            Some((_, all)) => *all = *all + own,
            None => self.kernels.push((K::NAME, own)),
        }
        Ok(())
    }
}
