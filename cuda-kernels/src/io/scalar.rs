//! Numbers that a step is given.

use crate::queue::DevicePtr;

/// An `f32` on the device if there is a pointer, else a value; times a factor.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C)]
pub struct Scalar {
    /// Read when the kernel runs, or [`DevicePtr::NULL`].
    pub pointer: DevicePtr,
    /// The number, without a pointer.
    pub value: f32,
    /// On either of them.
    pub factor: f32,
}

impl Scalar {
    /// 1
    pub const ONE: Self = Self::of(1.0);

    /// A number that is known now.
    #[must_use]
    pub const fn of(value: f32) -> Self {
        Self { pointer: DevicePtr::NULL, value, factor: 1.0 }
    }

    /// A number on the device.
    #[must_use]
    pub const fn at(pointer: DevicePtr) -> Self {
        Self { pointer, value: 0.0, factor: 1.0 }
    }

    /// The same number with another factor, in place of the one that it had.
    #[must_use]
    pub const fn with_factor(self, factor: f32) -> Self {
        Self { factor, ..self }
    }
}
