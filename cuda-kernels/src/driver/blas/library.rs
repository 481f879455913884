//! The functions of cuBLAS that are called, with the numbers of its header.

use crate::driver::error::Error;
use crate::driver::shim::Library;
use core::ffi::{CStr, c_char, c_int, c_void};
use core::fmt;
use core::mem::transmute;

/// A call of cuBLAS that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlasFault {
    /// The function.
    pub call: &'static str,
    /// Its `cublasStatus_t`.
    pub status: i32,
    /// What cuBLAS says of it.
    pub text: &'static str,
}

impl fmt::Display for BlasFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} ({})", self.call, self.text, self.status)
    }
}

/// `cublasStatus_t`.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct Status(c_int);

impl Status {
    const SUCCESS: c_int = 0;
    pub const INVALID_VALUE: Self = Self(7);
}

pub const OP_N: c_int = 0;
pub const OP_T: c_int = 1;
pub const R_32F: c_int = 0;
pub const R_16F: c_int = 2;
pub const R_16BF: c_int = 14;
pub const COMPUTE_32F: c_int = 68;
pub const COMPUTE_32F_FAST_16BF: c_int = 75;
pub const COMPUTE_32F_FAST_TF32: c_int = 77;
pub const GEMM_DEFAULT: c_int = -1;

type Handle = *mut c_void;
type GemmStridedBatched = unsafe extern "C" fn(
    handle: Handle,
    a_operation: c_int,
    b_operation: c_int,
    m: c_int,
    n: c_int,
    k: c_int,
    alpha: *const c_void,
    a: u64,
    a_format: c_int,
    a_leading: c_int,
    a_stride: i64,
    b: u64,
    b_format: c_int,
    b_leading: c_int,
    b_stride: i64,
    beta: *const c_void,
    c: u64,
    c_format: c_int,
    c_leading: c_int,
    c_stride: i64,
    count: c_int,
    compute: c_int,
    algorithm: c_int,
) -> Status;

/// Device pointers are `u64`, which goes as a pointer does on the 64-bit systems that CUDA has.
#[derive(Clone, Copy)]
pub struct Functions {
    pub create: unsafe extern "C" fn(handle: *mut Handle) -> Status,
    pub destroy: unsafe extern "C" fn(handle: Handle) -> Status,
    pub get_version: unsafe extern "C" fn(handle: Handle, version: *mut c_int) -> Status,
    pub set_stream: unsafe extern "C" fn(handle: Handle, stream: *mut c_void) -> Status,
    pub set_workspace: unsafe extern "C" fn(handle: Handle, at: u64, bytes: usize) -> Status,
    pub gemm_strided_batched: GemmStridedBatched,
    status_string: unsafe extern "C" fn(status: Status) -> *const c_char,
}

const _: () = assert!(size_of::<*const c_void>() == size_of::<u64>());

impl Functions {
    pub fn open() -> Option<Self> {
        let library = match std::env::var("KLS_CUDA_BLAS") {
            Ok(name) if !name.is_empty() => Library::open(&name),
            _ => ["libcublas.so.13", "libcublas.so.12"].into_iter().find_map(Library::open),
        }?;
        // SAFETY: cuBLAS's functions of these names have these types since version 12.
        unsafe {
            Some(Self {
                create: transmute::<_, unsafe extern "C" fn(*mut Handle) -> Status>(library.symbol(c"cublasCreate_v2")?),
                destroy: transmute::<_, unsafe extern "C" fn(Handle) -> Status>(library.symbol(c"cublasDestroy_v2")?),
                get_version: transmute::<_, unsafe extern "C" fn(Handle, *mut c_int) -> Status>(library.symbol(c"cublasGetVersion_v2")?),
                set_stream: transmute::<_, unsafe extern "C" fn(Handle, *mut c_void) -> Status>(library.symbol(c"cublasSetStream_v2")?),
                set_workspace: transmute::<_, unsafe extern "C" fn(Handle, u64, usize) -> Status>(library.symbol(c"cublasSetWorkspace_v2")?),
                gemm_strided_batched: transmute::<_, GemmStridedBatched>(library.symbol(c"cublasGemmStridedBatchedEx")?),
                status_string: transmute::<_, unsafe extern "C" fn(Status) -> *const c_char>(library.symbol(c"cublasGetStatusString")?),
            })
        }
    }

    pub fn fault(&self, call: &'static str, status: Status) -> BlasFault {
        // SAFETY: any number is answered.
        let text = unsafe { (self.status_string)(status) };
        let text = if text.is_null() {
            "unknown"
        } else {
            // SAFETY: a string of the library, which stays open.
            unsafe { CStr::from_ptr(text) }.to_str().unwrap_or("unreadable")
        };
        BlasFault { call, status: status.0, text }
    }

    pub fn check(&self, call: &'static str, status: Status) -> Result<(), Error> {
        if status.0 == Status::SUCCESS { Ok(()) } else { Err(Error::Blas(self.fault(call, status))) }
    }
}
