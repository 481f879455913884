//! On a machine without a CUDA driver.

use cust::error::CudaError;
use klshampoo_cuda::driver::{Device, Error, device_count, driver_version};
use std::sync::Once;

/// No machine has this one.
fn without_driver() {
    static ONCE: Once = Once::new();
    // SAFETY: tests read no environment beside this.
    ONCE.call_once(|| unsafe { std::env::set_var("KLS_CUDA_DRIVER", "libcuda-of-nobody.so.1") });
}

#[test]
fn says_so() {
    without_driver();
    assert_eq!(driver_version(), Err(Error::NoDriver));
    assert_eq!(device_count(), Err(Error::NoDriver));
    let error = Device::get(0).err().unwrap();
    assert_eq!(error, Error::NoDriver);
    assert_eq!(error.to_string(), "no CUDA driver: libcuda-of-nobody.so.1 cannot be opened");
    assert_eq!(Device::current().err(), Some(Error::NoDriver));
}

#[test]
fn cust_says_so() {
    without_driver();
    let error = cust::init(cust::CudaFlags::empty()).unwrap_err();
    assert_eq!(error, CudaError::SharedObjectInitFailed);
    assert_eq!(error.to_string(), "\"no CUDA driver\"");
}

#[test]
fn every_thread_is_told() {
    without_driver();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert_eq!(device_count(), Err(Error::NoDriver)));
        }
    });
}
