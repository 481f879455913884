//! A CUDA driver and a cuBLAS that run on the CPU: a shared library, and what tests see and set of it.
//!
//! Device memory is the host's, and fresh device memory is full of NaNs. Kernels run in the emulator as soon as they are launched, or later
//! ([`set_deferred`]), or are recorded while a stream is captured. What a caller does wrong is told as the driver would tell it; a write beyond a block ends the program when the
//! block is freed. Counters and failures are of the calling thread, so that tests may run beside each other; what is set of the devices is of the
//! process. `KLS_MOCK_MANAGED` in the environment says what there is of managed memory: see `mock.h`.

use std::ffi::{CString, c_char, c_int, c_uint, c_void};
use std::sync::OnceLock;

/// The shared library.
pub const LIBRARY: &str = env!("KLS_CUDA_MOCK");

unsafe extern "C" {
    fn dlopen(name: *const c_char, flags: c_int) -> *mut c_void;
    fn dlsym(library: *mut c_void, name: *const c_char) -> *mut c_void;
}

/// What a thread did since it last asked for a reset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Counters {
    /// Launches of kernels and products, run or recorded.
    pub launches: u64,
    /// Asynchronous copies.
    pub copies: u64,
    /// Allocations of device memory and page-locked memory.
    pub allocations: u64,
    /// Their frees.
    pub frees: u64,
    /// Waits of the host: by name, or in a copy or a free.
    pub synchronisations: u64,
    /// Queries of events.
    pub queries: u64,
    /// Launches and copies recorded into graphs.
    pub recorded: u64,
    /// Launches of graphs.
    pub graph_launches: u64,
    /// Lookups of kernels.
    pub lookups: u64,
    /// Products without a workspace, for which cuBLAS would allocate.
    pub hidden: u64,
}

fn symbol(name: &str) -> *mut c_void {
    static OPENED: OnceLock<usize> = OnceLock::new();
    let library = *OPENED.get_or_init(|| {
        let name = CString::new(LIBRARY).expect("a path");
        const NOW: c_int = 2;
        // SAFETY: a string.
        unsafe { dlopen(name.as_ptr(), NOW) as usize }
    });
    assert_ne!(library, 0, "{LIBRARY} cannot be opened");
    let text = CString::new(name).expect("a name");
    // SAFETY: an open library and a string.
    let found = unsafe { dlsym(library as *mut c_void, text.as_ptr()) };
    assert!(!found.is_null(), "{name}");
    found
}

/// Calls one of the mock's functions, which must have this type.
macro_rules! call {
    ($name:literal($($value:expr => $argument:ty),*) $(-> $result:ty)?) => {{
        let found = symbol($name);
        // SAFETY: the mock's function of this name has this type; pointers are to what it reads or writes, and lives.
        unsafe { std::mem::transmute::<*mut c_void, unsafe extern "C" fn($($argument),*) $(-> $result)?>(found)($($value),*) }
    }};
}

/// Lets this process take the mock for the driver and for cuBLAS. To be called before any function of CUDA.
pub fn install() {
    static INSTALLED: OnceLock<()> = OnceLock::new();
    INSTALLED.get_or_init(|| {
        for name in ["KLS_CUDA_DRIVER", "KLS_CUDA_BLAS"] {
            // SAFETY: tests read no environment beside this.
            unsafe { std::env::set_var(name, LIBRARY) };
        }
    });
}

/// What this thread did.
#[must_use]
pub fn counters() -> Counters {
    let mut counters = Counters::default();
    call!("kls_mock_counters_get"(&mut counters => *mut Counters));
    counters
}

/// Begins to count anew.
pub fn reset_counters() {
    call!("kls_mock_counters_reset"());
}

/// The `n`th next call of this name on this thread (of any name but those that restore a context, if it is empty) fails with a code;
/// `n` = 0: none.
pub fn fail(call: &str, n: u32, code: i32) {
    let call = CString::new(call).expect("a name");
    call!("kls_mock_fail"(call.as_ptr() => *const c_char, n => c_uint, code => c_int));
}

/// The driver's version of CUDA, 13000 at first.
pub fn set_driver_version(version: i32) {
    call!("kls_mock_set_driver_version"(version => c_int));
}

/// How many devices there are, 2 at first, 8 at most.
pub fn set_device_count(count: i32) {
    call!("kls_mock_set_device_count"(count => c_int));
}

/// The devices' compute capability, 90 at first, which is 9.0.
pub fn set_device_capability(capability: i32) {
    call!("kls_mock_set_device_capability"(capability => c_int));
}

/// Bytes of memory of a device, 16 GiB at first.
pub fn set_device_memory(bytes: u64) {
    call!("kls_mock_set_device_memory"(bytes => u64));
}

/// An event that this thread records is done when it was asked for so many times, 0 at first.
pub fn set_queries_until_done(queries: u32) {
    call!("kls_mock_set_queries_until_done"(queries => c_uint));
}

/// What this thread gives to streams is done no sooner than something waits for it; not so at first.
pub fn set_deferred(defer: bool) {
    call!("kls_mock_set_deferred"(c_int::from(defer) => c_int));
}

/// Bytes of a device that are allocated.
#[must_use]
pub fn device_memory_used(device: i32) -> u64 {
    call!("kls_mock_device_memory_used"(device => c_int) -> u64)
}

/// Ends the program if something was written beyond a block of device memory.
pub fn check_memory() {
    call!("kls_mock_check_memory"());
}
