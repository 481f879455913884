//! Drivers and devices that do not do: what is set of the mock is of the process, so the tests take turns.

use klshampoo_cuda::driver::{Context, Device, Error, Kernels, Memory, NEEDED_DRIVER, Version, device_count, driver_version};
use klshampoo_cuda_mock as mock;
use std::sync::{Mutex, MutexGuard, PoisonError};

struct Turn<'a>(#[expect(dead_code, reason = "held")] MutexGuard<'a, ()>);

fn turn() -> Turn<'static> {
    static TURN: Mutex<()> = Mutex::new(());
    mock::install();
    Turn(TURN.lock().unwrap_or_else(PoisonError::into_inner))
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        mock::set_driver_version(13000);
        mock::set_device_count(2);
        mock::set_device_capability(90);
        mock::set_device_memory(1 << 34);
    }
}

#[test]
fn a_driver_that_is_too_old() {
    let _turn = turn();
    mock::set_driver_version(12080);
    let error = Device::get(0).err().unwrap();
    assert_eq!(error, Error::DriverTooOld { driver: Version(12080), needed: NEEDED_DRIVER });
    assert_eq!(error.to_string(), format!("the CUDA driver is too old: it has CUDA 12.8, needed is {NEEDED_DRIVER}"));
    assert_eq!(driver_version(), Ok(Version(12080)));
    assert_eq!(device_count(), Err(error));
}

#[test]
fn a_newer_driver_does() {
    let _turn = turn();
    mock::set_driver_version(13020);
    assert_eq!(device_count(), Ok(2));
}

#[test]
fn a_device_that_is_not_there() {
    let _turn = turn();
    let error = Device::get(2).err().unwrap();
    assert_eq!(error, Error::NoSuchDevice { wanted: 2, count: 2 });
    assert_eq!(error.to_string(), "no such CUDA device: number 2 of 2");
    assert_eq!(Device::get(usize::MAX).err(), Some(Error::NoSuchDevice { wanted: usize::MAX, count: 2 }));
    // A driver without a device refuses to start.
    mock::set_device_count(0);
    assert_eq!(device_count(), Ok(0));
    assert_eq!(Device::get(0).err(), Some(Error::NoSuchDevice { wanted: 0, count: 0 }));
}

#[test]
fn a_device_that_is_too_old() {
    let _turn = turn();
    mock::set_device_capability(75);
    let error = Device::get(0).err().unwrap();
    assert_eq!(error, Error::DeviceTooOld { capability: (7, 5), needed: (8, 0) });
    assert_eq!(error.to_string(), "the CUDA device is too old: it has compute capability 7.5, needed is 8.0");
}

#[test]
fn too_little_memory() {
    let _turn = turn();
    let context = Context::new(Device::get(1).unwrap()).unwrap();
    let kernels = Kernels::load(&context).unwrap();
    mock::set_device_memory(1 << 20);
    let half = Memory::allocate(&context, 1 << 19).unwrap();
    let error = Memory::allocate(&context, (1 << 19) + 1).err().unwrap();
    assert_eq!(error, Error::OutOfMemory { bytes: (1 << 19) + 1 });
    assert_eq!(error.to_string(), "out of device memory: 524289 bytes could not be allocated");
    drop(half);
    Memory::allocate(&context, 1 << 20).unwrap();
    drop(kernels);
    assert_eq!(mock::device_memory_used(1), 0);
}
