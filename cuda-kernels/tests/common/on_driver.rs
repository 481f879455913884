//! Memory and streams of the driver's, for tests that go through it. They need no managed memory.
#![allow(dead_code)]

use std::ptr::null_mut;
use std::sync::OnceLock;

use cust::sys;
use klshampoo_cuda::driver::{Context, Device, Error, Kernels, Memory, Stream};
use klshampoo_cuda_mock as mock;

use super::choice;

/// The kernels on the device that `KLS_TEST_DEVICE` asks for, or on what stands in for a driver. Without the driver the whole program says so and ends.
pub fn kernels() -> &'static Kernels {
    static KERNELS: OnceLock<Kernels> = OnceLock::new();
    KERNELS.get_or_init(|| {
        if !choice::wants_device() {
            mock::install();
        }
        let device = match Device::get(0) {
            Ok(device) => device,
            Err(Error::NoDriver) => choice::end("no CUDA driver"),
            Err(error) => choice::end(&error.to_string()),
        };
        println!("{}", device.name().unwrap());
        Kernels::load(&Context::new(device).unwrap()).unwrap()
    })
}

/// Of a call of the driver.
pub fn ok(result: sys::CUresult) {
    assert_eq!(result, sys::cudaError_enum::CUDA_SUCCESS);
}

/// A stream that waits for no other.
pub struct Owned(sys::CUstream);

impl Owned {
    pub fn new() -> Self {
        let _entered = kernels().context().enter().unwrap();
        let mut stream = null_mut();
        // SAFETY: it is told where to write.
        ok(unsafe { sys::cuStreamCreate(&mut stream, 1) });
        Self(stream)
    }

    pub fn get(&self) -> Stream {
        // SAFETY: it lives as long as this.
        unsafe { Stream::from_raw(self.0.cast()) }
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        let _entered = kernels().context().enter().unwrap();
        // SAFETY: destroyed once.
        ok(unsafe { sys::cuStreamDestroy_v2(self.0) });
    }
}

/// Numbers as they lie in memory.
pub fn bytes_of<T: Copy>(values: &[T]) -> &[u8] {
    // SAFETY: numbers are bytes.
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), size_of_val(values)) }
}

/// Memory of the driver's with these numbers.
pub fn copy_of(stream: Stream, numbers: &[f32]) -> Memory {
    let memory = Memory::allocate(kernels().context(), size_of_val(numbers)).unwrap();
    memory.write(stream, 0, bytes_of(numbers)).unwrap();
    memory
}

/// What is in it, after all that the stream was given.
pub fn floats(stream: Stream, memory: &Memory) -> Vec<f32> {
    let mut bytes = vec![0; memory.bytes()];
    memory.read(stream, 0, &mut bytes).unwrap();
    bytes.chunks_exact(4).map(|word| f32::from_ne_bytes(word.try_into().unwrap())).collect()
}

/// Numbers without a pattern.
pub fn noise(seed: u32, len: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(12_345);
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / 8_388_608.0 - 1.0
    };
    (0..len).map(|_| next()).collect()
}
