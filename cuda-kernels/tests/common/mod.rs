//! What the tests share: a queue that runs every kernel at once, on memory of this process: in the emulator, or on a device (see [`on_device`]).
#![allow(dead_code)]

pub mod block;
pub mod choice;
pub mod on_device;
pub mod on_driver;

use std::cell::OnceCell;
use std::ffi::CStr;

use klshampoo_cuda::batch::Array;
use klshampoo_cuda::queue::{DeviceError, DevicePtr, Kernel, Queue};
use klshampoo_cuda_emulator as emulator;

/// Runs kernels, and waits for them. Device memory is memory of the test: see [`device`].
#[derive(Default)]
pub struct EmulatorQueue {
    /// Kernels launched so far.
    pub launches: usize,
}

impl Queue for EmulatorQueue {
    fn launch<K: Kernel>(&mut self, grid: [u32; 3], kernel: K) -> Result<(), DeviceError> {
        assert!(grid[1] <= 65_535 && grid[2] <= 65_535 && grid[0] <= 0x7fff_ffff, "{:?}: a grid of {grid:?}", K::NAME);
        if grid.contains(&0) {
            return Ok(());
        }
        self.launches += 1;
        if on_device::is_on() {
            return on_device::launch(grid, kernel);
        }
        // SAFETY: no padding (`Kernel`'s contract), so all bytes are initialised.
        let params = unsafe { std::slice::from_raw_parts((&raw const kernel).cast::<u8>(), size_of::<K>()) };
        // SAFETY: the kernel's own parameters, by `Kernel`'s contract; the tests point to memory of theirs.
        unsafe { emulator::launch(K::NAME, grid, K::THREADS, params) };
        Ok(())
    }
}

/// Records launches, to run them later, and again.
#[derive(Default)]
pub struct RecordingQueue {
    launches: Vec<(&'static CStr, [u32; 3], u32, Vec<u8>)>,
    /// On a device: the stream that is captured, and the graph once it has run.
    recording: Option<on_device::Recording>,
    graph: OnceCell<on_device::Graph>,
}

impl Queue for RecordingQueue {
    fn launch<K: Kernel>(&mut self, grid: [u32; 3], kernel: K) -> Result<(), DeviceError> {
        if on_device::is_on() {
            return self.recording.get_or_insert_with(on_device::Recording::begin).launch(grid, kernel);
        }
        if !grid.contains(&0) {
            // SAFETY: no padding (`Kernel`'s contract), so all bytes are initialised.
            let params = unsafe { std::slice::from_raw_parts((&raw const kernel).cast::<u8>(), size_of::<K>()) };
            self.launches.push((K::NAME, grid, K::THREADS, params.to_vec()));
        }
        Ok(())
    }
}

impl RecordingQueue {
    /// Runs what has been launched.
    pub fn run(&self) {
        if let Some(recording) = &self.recording {
            self.graph.get_or_init(|| recording.end()).run();
        }
        for (name, grid, threads, params) in &self.launches {
            // SAFETY: the kernel's own parameters, by `Kernel`'s contract; the tests point to memory of theirs.
            unsafe { emulator::launch(name, *grid, *threads, params) };
        }
    }
}

/// Where a slice lies, for kernels that are launched while it lives and nothing else touches it.
pub fn device<T>(memory: &mut [T]) -> DevicePtr {
    on_device::check(memory);
    // SAFETY: the tests launch what has room there, and wait for it.
    unsafe { DevicePtr::new(memory.as_mut_ptr().expose_provenance() as u64) }
}

/// A slice as one part of `stride` elements for each item.
pub fn array<T>(memory: &mut [T], stride: usize) -> Array {
    Array { base: device(memory), stride: stride as u64 }
}

/// That a kernel exists and takes parameters of this size, in blocks of this many threads.
pub fn check_kernel<K: Kernel>() {
    assert_eq!(emulator::params_size(K::NAME), Some(size_of::<K>()), "{:?}: size of the parameters", K::NAME);
    assert_eq!(emulator::threads(K::NAME), Some(K::THREADS), "{:?}: threads", K::NAME);
}
