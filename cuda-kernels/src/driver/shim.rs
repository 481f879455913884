//! The C side of the driver's functions: see `shim/driver.c`.

use cust::sys::{CUresult, cudaError_enum};
use std::ffi::{CStr, CString, c_char, c_void};

/// `CUDA_ERROR_INVALID_VALUE`.
pub const INVALID_VALUE: u32 = 1;
/// `CUDA_ERROR_OUT_OF_MEMORY`.
pub const OUT_OF_MEMORY: u32 = 2;
/// `CUDA_ERROR_NO_DEVICE`.
pub const NO_DEVICE: u32 = 100;
/// `CUDA_ERROR_SHARED_OBJECT_INIT_FAILED`, of a driver that is not there.
pub const NO_DRIVER: u32 = 303;
/// `CUDA_ERROR_NOT_FOUND`.
pub const NOT_FOUND: u32 = 500;
/// `CUDA_ERROR_NOT_READY`.
pub const NOT_READY: u32 = 600;
/// `CUDA_ERROR_STREAM_CAPTURE_IMPLICIT`.
pub const CAPTURE_IMPLICIT: u32 = 906;

unsafe extern "C" {
    fn kls_shim_last_code() -> u32;
    fn kls_shim_error_name(code: u32) -> *const c_char;
    fn kls_shim_error_text(code: u32) -> *const c_char;
    fn kls_shim_open(name: *const c_char) -> *mut c_void;
    fn kls_shim_symbol(library: *mut c_void, name: *const c_char) -> *mut c_void;
}

/// What this thread's last call of the driver gave: also a code that cust does not know.
pub fn last_code() -> u32 {
    // SAFETY: reads a variable of this thread.
    unsafe { kls_shim_last_code() }
}

/// A text of the driver or of the shim.
///
/// # Safety
/// A string that lives as long as the process.
unsafe fn text(from: *const c_char) -> &'static str {
    // SAFETY: the caller's word.
    unsafe { CStr::from_ptr(from) }.to_str().unwrap_or("unreadable")
}

/// The name of a code.
pub fn error_name(code: u32) -> &'static str {
    // SAFETY: never NULL, and the driver's library stays open.
    unsafe { text(kls_shim_error_name(code)) }
}

/// The text of a code.
pub fn error_text(code: u32) -> &'static str {
    // SAFETY: never NULL, and the driver's library stays open.
    unsafe { text(kls_shim_error_text(code)) }
}

/// What is opened as the driver.
pub fn library_name() -> String {
    std::env::var("KLS_CUDA_DRIVER").ok().filter(|name| !name.is_empty()).unwrap_or_else(|| "libcuda.so.1".into())
}

/// Whether a call succeeded.
pub fn succeeded(result: CUresult) -> bool {
    result == cudaError_enum::CUDA_SUCCESS
}

/// A shared library that stays open.
#[derive(Clone, Copy)]
pub struct Library(*mut c_void);

impl Library {
    /// `None` if there is no such library.
    pub fn open(name: &str) -> Option<Self> {
        let name = CString::new(name).ok()?;
        // SAFETY: a string. The library's own initialisers run.
        let library = unsafe { kls_shim_open(name.as_ptr()) };
        (!library.is_null()).then_some(Self(library))
    }

    /// The address of one of its functions.
    pub fn symbol(self, name: &CStr) -> Option<core::ptr::NonNull<c_void>> {
        // SAFETY: an open library and a string.
        core::ptr::NonNull::new(unsafe { kls_shim_symbol(self.0, name.as_ptr()) })
    }
}
