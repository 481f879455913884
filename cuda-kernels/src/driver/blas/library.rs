//! The functions of cuBLAS that are called, with the numbers of its header.

use crate::driver::shim::Library;
use core::ffi::{CStr, c_char, c_int, c_void};
use core::fmt;
use core::mem::transmute;
use core::ptr::NonNull;
use std::sync::OnceLock;

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

/// The functions, as faults name them.
pub const CREATE: &str = "cublasCreate";
pub const GET_VERSION: &str = "cublasGetVersion";
pub const SET_STREAM: &str = "cublasSetStream";
pub const SET_WORKSPACE: &str = "cublasSetWorkspace";
pub const MULTIPLY: &str = "cublasGemmStridedBatchedEx";
const CALLS: [&str; 5] = [CREATE, GET_VERSION, SET_STREAM, SET_WORKSPACE, MULTIPLY];

/// Beyond all codes of the driver.
const FAULTS: u32 = 1 << 24;

/// Of the library that was opened first.
static TEXTS: OnceLock<StatusString> = OnceLock::new();

impl BlasFault {
    /// Whether it is that memory could not be had.
    #[must_use]
    pub const fn is_out_of_memory(&self) -> bool {
        self.status == 3
    }

    /// As one number, which is none of the driver's.
    pub(in crate::driver) fn code(&self) -> u32 {
        let call = CALLS.iter().position(|call| *call == self.call).unwrap_or(0) as u32;
        FAULTS | call << 16 | (self.status as u32).min(0xffff)
    }

    /// From such a number.
    pub(in crate::driver) fn of_code(code: u32) -> Option<Self> {
        let call = code.checked_sub(FAULTS)? >> 16;
        Some(Self::new(CALLS.get(call as usize)?, Status((code & 0xffff) as c_int)))
    }

    fn new(call: &'static str, status: Status) -> Self {
        // SAFETY: any number is answered.
        let text = TEXTS.get().map(|text| unsafe { text(status) }).filter(|text| !text.is_null());
        // SAFETY: a string of the library, which stays open.
        let text = text.map_or("unknown", |text| unsafe { CStr::from_ptr(text) }.to_str().unwrap_or("unreadable"));
        Self { call, status: status.0, text }
    }
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

type Address = NonNull<c_void>;
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

type Create = unsafe extern "C" fn(handle: *mut Handle) -> Status;
type Destroy = unsafe extern "C" fn(handle: Handle) -> Status;
type GetVersion = unsafe extern "C" fn(handle: Handle, version: *mut c_int) -> Status;
type SetStream = unsafe extern "C" fn(handle: Handle, stream: *mut c_void) -> Status;
type SetWorkspace = unsafe extern "C" fn(handle: Handle, at: u64, bytes: usize) -> Status;
type StatusString = unsafe extern "C" fn(status: Status) -> *const c_char;

/// Device pointers are `u64`, which goes as a pointer does on the 64-bit systems that CUDA has.
#[derive(Clone, Copy)]
pub struct Functions {
    pub create: Create,
    pub destroy: Destroy,
    pub get_version: GetVersion,
    pub set_stream: SetStream,
    pub set_workspace: SetWorkspace,
    pub gemm_strided_batched: GemmStridedBatched,
}

const _: () = assert!(size_of::<*const c_void>() == size_of::<u64>());

impl Functions {
    pub fn open() -> Option<Self> {
        let library = match std::env::var("KLS_CUDA_BLAS") {
            Ok(name) if !name.is_empty() => Library::open(&name),
            _ => ["libcublas.so.13", "libcublas.so.12"].into_iter().find_map(Library::open),
        }?;
        let address = |name| library.symbol(name);
        // SAFETY: cuBLAS's function of this name has this type since version 12.
        let texts = unsafe { transmute::<Address, StatusString>(address(c"cublasGetStatusString")?) };
        TEXTS.get_or_init(|| texts);
        // SAFETY: the same.
        unsafe {
            Some(Self {
                create: transmute::<Address, Create>(address(c"cublasCreate_v2")?),
                destroy: transmute::<Address, Destroy>(address(c"cublasDestroy_v2")?),
                get_version: transmute::<Address, GetVersion>(address(c"cublasGetVersion_v2")?),
                set_stream: transmute::<Address, SetStream>(address(c"cublasSetStream_v2")?),
                set_workspace: transmute::<Address, SetWorkspace>(address(c"cublasSetWorkspace_v2")?),
                gemm_strided_batched: transmute::<Address, GemmStridedBatched>(address(c"cublasGemmStridedBatchedEx")?),
            })
        }
    }
}

/// Whether a call succeeded.
pub fn check(call: &'static str, status: Status) -> Result<(), BlasFault> {
    if status.0 == Status::SUCCESS { Ok(()) } else { Err(BlasFault::new(call, status)) }
}
