//! The CUDA kernels of klshampoo, compiled for the CPU.
//!
//! Every kernel runs as its source says, one thread of a block after another, on memory of the host: see `emulator.h` for what that
//! shows and what it does not.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::sync::Mutex;

unsafe extern "C" {
    fn kls_emulator_params_size(name: *const c_char) -> usize;
    fn kls_emulator_name(number: usize) -> *const c_char;
    fn kls_emulator_threads(name: *const c_char) -> c_uint;
    fn kls_emulator_launch(name: *const c_char, x: c_uint, y: c_uint, z: c_uint, threads: c_uint, params: *const c_void) -> c_int;
}

/// The emulator has one block of shared memory.
static RUNNING: Mutex<()> = Mutex::new(());

/// Size of a kernel's parameters; `None` if there is no such kernel.
pub fn params_size(name: &CStr) -> Option<usize> {
    // SAFETY: a string.
    Some(unsafe { kls_emulator_params_size(name.as_ptr()) }).filter(|&size| size > 0)
}

/// The names of all kernels, in no order.
pub fn names() -> impl Iterator<Item = &'static CStr> {
    // SAFETY: any number is answered.
    let name = |number| unsafe { kls_emulator_name(number) };
    // SAFETY: a literal of the kernel's declaration.
    (0..).map(name).take_while(|name| !name.is_null()).map(|name| unsafe { CStr::from_ptr(name) })
}

/// Threads in a block of a kernel; `None` if there is no such kernel.
pub fn threads(name: &CStr) -> Option<u32> {
    // SAFETY: a string.
    Some(unsafe { kls_emulator_threads(name.as_ptr()) }).filter(|&threads| threads > 0)
}

/// Runs a kernel over a grid.
///
/// # Safety
/// The parameters are the kernel's, and the memory that they point to is what the kernel expects, in this process.
///
/// # Panics
/// If there is no such kernel, the parameters have another size or its blocks another number of threads.
pub unsafe fn launch(name: &CStr, grid: [u32; 3], block: u32, params: &[u8]) {
    assert_eq!(params_size(name), Some(params.len()), "{name:?}");
    let _running = RUNNING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    // SAFETY: the caller's word; one at a time.
    let status = unsafe { kls_emulator_launch(name.as_ptr(), grid[0], grid[1], grid[2], block, params.as_ptr().cast()) };
    assert_eq!(status, 0, "{name:?}: blocks of {block} threads");
}
