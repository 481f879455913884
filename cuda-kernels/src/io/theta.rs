//! What a step moves.

use klshampoo::{Format, SliceHeader};

use super::{format_number, format_size};
use crate::batch::Array;
use crate::queue::{DevicePtr, Traffic};

/// The parameters of a batch: in the caller's buffers, or the master weights that they are rounded from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Theta {
    pointers: DevicePtr,
    master: Array,
    /// Of `u64`.
    steps: Array,
    format: u32,
    unused: u32,
}

// The kernels read the counter where a header begins.
const _: () = assert!(core::mem::offset_of!(SliceHeader, step) == 0 && size_of::<SliceHeader>().is_multiple_of(8));

impl Theta {
    /// None.
    pub const NONE: Self = Self::native(DevicePtr::NULL);

    /// Parameters in `f32`; `pointers` is a table of tensors' buffers on the device. A tensor without one is left out.
    #[must_use]
    pub const fn native(pointers: DevicePtr) -> Self {
        Self { pointers, master: Array::NULL, steps: Array::NULL, format: format_number(Format::Native), unused: 0 }
    }

    /// Parameters in bf16. `headers` are the items' [`SliceHeader`]s of before the step, whose counters rounding depends on.
    #[must_use]
    pub const fn bf16(pointers: DevicePtr, headers: Array) -> Self {
        const WORDS: u64 = (size_of::<SliceHeader>() / 8) as u64;
        let steps = Array { base: headers.base, stride: headers.stride * WORDS };
        Self { pointers, master: Array::NULL, steps, format: format_number(Format::Bf16), unused: 0 }
    }

    /// Bytes of an element of what moves: of the master weights where there are some, else of the parameter.
    pub(super) fn moving_size(&self) -> u64 {
        if self.master == Array::NULL { format_size(self.format) } else { 4 }
    }

    /// What is moved of an element: master weights and parameter are written, one of them is read.
    pub(super) fn traffic(&self, items: u64, elements: u64) -> Traffic {
        let param = Traffic::of(items, elements, format_size(self.format), [0, 1]);
        let all = param + Traffic::of(items, elements, self.moving_size(), [1, 0]);
        if self.master == Array::NULL { all } else { all + Traffic::of(items, elements, 4, [0, 1]) }
    }

    /// Whether it is rounded when it is written.
    pub(super) const fn is_rounded(&self) -> bool {
        self.format != format_number(Format::Native)
    }

    /// The same parameters in bf16 with dense `f32` master weights, which the first step takes from them.
    #[must_use]
    pub const fn with_master(self, master: Array) -> Self {
        Self { master, ..self }
    }
}
