//! What can go wrong between this crate and the device.

use super::blas::BlasFault;
use super::shim;
use crate::queue::DeviceError;
use core::fmt;

/// A call of the driver that failed, with the driver's own code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The driver's function.
    pub call: &'static str,
    /// Its `CUresult`.
    pub code: u32,
}

impl Fault {
    /// Of a call that just failed on this thread.
    #[must_use]
    pub(super) fn last(call: &'static str) -> Self {
        Self { call, code: shim::last_code() }
    }

    /// The code's name, as `CUDA_ERROR_INVALID_VALUE`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        shim::error_name(self.code)
    }

    /// Whether it is that memory could not be had.
    #[must_use]
    pub fn is_out_of_memory(&self) -> bool {
        self.code == shim::OUT_OF_MEMORY
    }

    /// What the driver says of it.
    #[must_use]
    pub fn text(&self) -> &'static str {
        shim::error_text(self.code)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} ({}): {}", self.call, self.name(), self.code, self.text())
    }
}

/// A version of CUDA, as the driver counts it: 13000 is CUDA 13.0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0 / 1000, self.0 % 1000 / 10)
    }
}

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The CUDA driver's library could not be opened: there is none on this machine.
    NoDriver,
    /// The driver is older than what the kernels were compiled for.
    DriverTooOld {
        /// The driver's version of CUDA.
        driver: Version,
        /// The least that is needed.
        needed: Version,
    },
    /// There is no device of this number.
    NoSuchDevice {
        /// The number asked for.
        wanted: usize,
        /// How many devices there are.
        count: usize,
    },
    /// The device's compute capability is below what the kernels were compiled for.
    DeviceTooOld {
        /// The device's compute capability: major, minor.
        capability: (u32, u32),
        /// The least that is needed.
        needed: (u32, u32),
    },
    /// The device, or the caller's allocator, has not so much memory.
    OutOfMemory {
        /// Bytes asked for.
        bytes: usize,
    },
    /// Memory that the caller lent or allocated cannot be used.
    UnfitMemory(Unfit),
    /// The driver refused the kernels.
    ModuleRefused {
        /// The driver's error.
        fault: Fault,
        /// What its compiler said; empty if nothing.
        log: String,
    },
    /// This cannot be done while the stream is being captured into a graph.
    Capturing,
    /// Another call of the driver failed.
    Driver(Fault),
    /// A call of cuBLAS failed.
    Blas(BlasFault),
}

/// Why memory cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unfit {
    /// Its address is not a multiple of [`super::ALIGNMENT`].
    Misaligned,
    /// It is shorter than what is needed.
    TooShort {
        /// Bytes there.
        bytes: usize,
        /// Bytes needed.
        needed: usize,
    },
    /// It is not memory of this device, or NULL.
    OfAnotherDevice,
    /// A copy goes beyond its end.
    OutOfRange,
}

impl Error {
    /// Of a call that just failed on this thread.
    #[must_use]
    pub(super) fn last(call: &'static str) -> Self {
        match Fault::last(call) {
            Fault { code: shim::NO_DRIVER, .. } => Self::NoDriver,
            fault => Self::Driver(fault),
        }
    }

    /// Of one that was to allocate so many bytes.
    #[must_use]
    pub(super) fn last_of_allocation(call: &'static str, bytes: usize) -> Self {
        match Self::last(call) {
            Self::Driver(fault) if fault.is_out_of_memory() => Self::OutOfMemory { bytes },
            other => other,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoDriver => write!(f, "no CUDA driver: {} cannot be opened", shim::library_name()),
            Self::DriverTooOld { driver, needed } => write!(f, "the CUDA driver is too old: it has CUDA {driver}, needed is {needed}"),
            Self::NoSuchDevice { wanted, count } => write!(f, "no such CUDA device: number {wanted} of {count}"),
            Self::DeviceTooOld { capability, needed } => write!(
                f,
                "the CUDA device is too old: it has compute capability {}.{}, needed is {}.{}",
                capability.0, capability.1, needed.0, needed.1
            ),
            Self::OutOfMemory { bytes } => write!(f, "out of device memory: {bytes} bytes could not be allocated"),
            Self::UnfitMemory(unfit) => unfit.fmt(f),
            Self::ModuleRefused { fault, log } if log.is_empty() => write!(f, "the CUDA driver refused the kernels: {fault}"),
            Self::ModuleRefused { fault, log } => write!(f, "the CUDA driver refused the kernels: {fault}: {log}"),
            Self::Capturing => f.write_str("not possible while the stream is being captured"),
            Self::Driver(fault) => fault.fmt(f),
            Self::Blas(fault) => fault.fmt(f),
        }
    }
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Misaligned => write!(f, "device memory must be aligned to {} bytes", super::ALIGNMENT),
            Self::TooShort { bytes, needed } => write!(f, "device memory is too short: {bytes} bytes, needed are {needed}"),
            Self::OfAnotherDevice => f.write_str("the memory is not memory of this device"),
            Self::OutOfRange => f.write_str("a copy goes beyond the end of the device memory"),
        }
    }
}

impl core::error::Error for Error {}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        Self::Driver(fault)
    }
}

impl From<BlasFault> for Error {
    fn from(fault: BlasFault) -> Self {
        Self::Blas(fault)
    }
}

/// Of a launch, or of a product that was left to cuBLAS.
impl From<DeviceError> for Error {
    fn from(error: DeviceError) -> Self {
        if let Some(fault) = BlasFault::of_code(error.0) {
            return Self::Blas(fault);
        }
        Self::Driver(Fault { call: "cuLaunchKernel", code: error.0 })
    }
}
