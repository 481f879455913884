//! A shared library with this crate in it, as a training program would load one.

use klshampoo_cuda::driver::{self, Error};

/// How many CUDA devices there are; -1 without a driver, -2 on another error.
///
/// # Safety
/// None; it is called from C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kls_probe_devices() -> i32 {
    match driver::device_count() {
        Ok(count) => i32::try_from(count).unwrap_or(i32::MAX),
        Err(Error::NoDriver) => -1,
        Err(_) => -2,
    }
}
