//! The compiled kernels, as the build made them: see `build.rs`.

use super::error::Version;
use std::ffi::CStr;

mod built {
    include!(concat!(env!("OUT_DIR"), "/image.rs"));
}

/// The least version of CUDA that a driver needs.
pub const NEEDED_DRIVER: Version = Version(built::NEEDED_DRIVER);
/// The least compute capability that a device needs.
pub const NEEDED_CAPABILITY: (u32, u32) = built::NEEDED_CAPABILITY;

/// The driver reads it in words.
#[repr(C, align(16))]
struct Aligned<T: ?Sized>(T);

static BYTES: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/image.bin")));

/// Compiled kernels.
#[derive(Clone, Copy, Debug)]
pub enum Image<'a> {
    /// PTX, which the driver compiles for its device.
    Ptx(&'a CStr),
    /// Code of several devices in one file, as nvcc makes it.
    Fatbin(&'a [u8]),
}

impl Image<'static> {
    /// The crate's own kernels.
    #[must_use]
    pub fn embedded() -> Self {
        match CStr::from_bytes_with_nul(&BYTES.0) {
            Ok(text) if !built::IS_FATBIN => Self::Ptx(text),
            _ => Self::Fatbin(&BYTES.0),
        }
    }

    /// The names of the kernels in it, in the order of their bytes.
    #[must_use]
    pub fn embedded_names() -> &'static [&'static CStr] {
        built::NAMES
    }
}
