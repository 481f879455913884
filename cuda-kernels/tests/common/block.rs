//! The block of memory that an optimizer on the device has, with its state and headers in the core's order on the way in and out.

use klshampoo::SliceHeader;
use klshampoo_cuda::queue::DevicePtr;
use klshampoo_cuda::step::{DeviceOptimizer, Program, Transferred};

/// The memory of a program.
pub struct Block {
    memory: Vec<f64>,
}

impl Block {
    /// Not yet anything in particular.
    pub fn new(program: &Program) -> Self {
        Self { memory: vec![f64::NAN; program.bytes().total / 8 + 32] }
    }

    /// Its start, aligned as it has to be.
    pub fn base(&mut self) -> DevicePtr {
        let start = super::device(&mut self.memory).address();
        // SAFETY: a place in this memory, which has room for the step from an aligned one on.
        unsafe { DevicePtr::new(start.next_multiple_of(256)) }
    }

    /// Bytes before that.
    fn skipped(&mut self) -> usize {
        (self.base().address() - super::device(&mut self.memory).address()) as usize
    }

    /// The device's state and headers.
    pub fn download(&mut self, device: &DeviceOptimizer, state: &mut [f32], headers: &mut [SliceHeader]) {
        let skipped = self.skipped();
        // SAFETY: numbers are bytes.
        let bytes = unsafe { std::slice::from_raw_parts(self.memory.as_ptr().cast::<u8>(), size_of_val(self.memory.as_slice())) };
        for transfer in device.transfers() {
            let from = &bytes[skipped + transfer.device_bytes..][..transfer.bytes];
            match transfer.what {
                Transferred::State => {
                    for (to, from) in state[transfer.first..][..transfer.count].iter_mut().zip(from.chunks_exact(4)) {
                        *to = f32::from_le_bytes(from.try_into().unwrap());
                    }
                }
                Transferred::Headers => headers[transfer.first] = header_of(from),
            }
        }
    }

    /// State and headers onto the device.
    pub fn upload(&mut self, device: &mut DeviceOptimizer, state: &[f32], headers: &[SliceHeader]) {
        let skipped = self.skipped();
        let len = size_of_val(self.memory.as_slice());
        // SAFETY: numbers are bytes, and all bytes are numbers.
        let bytes = unsafe { std::slice::from_raw_parts_mut(self.memory.as_mut_ptr().cast::<u8>(), len) };
        for transfer in device.transfers() {
            let to = &mut bytes[skipped + transfer.device_bytes..][..transfer.bytes];
            match transfer.what {
                Transferred::State => {
                    for (to, from) in to.chunks_exact_mut(4).zip(&state[transfer.first..][..transfer.count]) {
                        to.copy_from_slice(&from.to_le_bytes());
                    }
                }
                Transferred::Headers => to.copy_from_slice(&bytes_of(&headers[transfer.first])),
            }
        }
        device.loaded(headers);
    }
}

fn header_of(bytes: &[u8]) -> SliceHeader {
    assert_eq!(bytes.len(), size_of::<SliceHeader>());
    // SAFETY: a header is `repr(C)`, numbers only, and as long.
    unsafe { std::ptr::read_unaligned(bytes.as_ptr().cast()) }
}

fn bytes_of(header: &SliceHeader) -> [u8; size_of::<SliceHeader>()] {
    // SAFETY: as above; it has no padding.
    unsafe { std::ptr::read((&raw const *header).cast()) }
}
