//! The caller's buffers: where the elements of a slice lie and how they are stored.

use crate::Scalar;
use crate::format::{Format, Rounder, widen};

/// Numbers to read. Offsets count elements from the slice's first.
pub trait Elements<T> {
    /// How many elements there are from the slice's first to its last.
    fn span(&self) -> usize;

    /// How they are stored.
    fn format(&self) -> Format;

    /// All of them as they are, if they are stored as `T`. Called only where the slice's elements lie together.
    fn native(&self) -> Option<&[T]>;

    /// Reads the elements at `offset`, `offset + stride`, ..., one for each of `out`.
    fn read(&self, offset: usize, stride: usize, out: &mut [T]);
}

/// Numbers to read and write.
pub trait ElementsMut<T>: Elements<T> {
    /// As [`Elements::native`].
    fn native_mut(&mut self) -> Option<&mut [T]>;

    /// Writes the elements at `offset`, `offset + stride`, ...; the rounder is given their numbers in the slice (piece), from `first` on.
    fn write(&mut self, offset: usize, stride: usize, values: &[T], rounder: Rounder, first: usize);
}

impl<T: Scalar> Elements<T> for [T] {
    fn span(&self) -> usize {
        self.len()
    }

    fn format(&self) -> Format {
        Format::Native
    }

    #[inline(always)]
    fn native(&self) -> Option<&[T]> {
        Some(self)
    }

    #[inline(always)]
    fn read(&self, offset: usize, stride: usize, out: &mut [T]) {
        match stride {
            1 => out.copy_from_slice(&self[offset..offset + out.len()]),
            _ => out.iter_mut().zip(self[offset..].iter().step_by(stride)).for_each(|(out, &x)| *out = x),
        }
    }
}

impl<T: Scalar> ElementsMut<T> for [T] {
    #[inline(always)]
    fn native_mut(&mut self) -> Option<&mut [T]> {
        Some(self)
    }

    #[inline(always)]
    fn write(&mut self, offset: usize, stride: usize, values: &[T], _: Rounder, _: usize) {
        match stride {
            1 => self[offset..offset + values.len()].copy_from_slice(values),
            _ => self[offset..].iter_mut().step_by(stride).zip(values).for_each(|(x, &value)| *x = value),
        }
    }
}

impl<T, E: Elements<T> + ?Sized> Elements<T> for &E {
    fn span(&self) -> usize {
        (**self).span()
    }

    fn format(&self) -> Format {
        (**self).format()
    }

    #[inline(always)]
    fn native(&self) -> Option<&[T]> {
        (**self).native()
    }

    #[inline(always)]
    fn read(&self, offset: usize, stride: usize, out: &mut [T]) {
        (**self).read(offset, stride, out);
    }
}

/// Numbers of 16 bits: bf16 or binary16.
#[derive(Clone, Copy, Debug)]
pub struct Halves<'a> {
    format: Format,
    bits: &'a [u16],
}

impl<'a> Halves<'a> {
    /// Of a format, which is bf16 or binary16.
    pub const fn new(format: Format, bits: &'a [u16]) -> Self {
        Self { format, bits }
    }

    /// bf16.
    pub const fn bf16(bits: &'a [u16]) -> Self {
        Self { format: Format::Bf16, bits }
    }

    /// IEEE binary16.
    pub const fn f16(bits: &'a [u16]) -> Self {
        Self { format: Format::F16, bits }
    }
}

impl<T: Scalar> Elements<T> for Halves<'_> {
    fn span(&self) -> usize {
        self.bits.len()
    }

    fn format(&self) -> Format {
        self.format
    }

    fn native(&self) -> Option<&[T]> {
        None
    }

    #[inline(always)]
    fn read(&self, offset: usize, stride: usize, out: &mut [T]) {
        read_halves(self.format, self.bits, offset, stride, out);
    }
}

/// Parameters in bf16.
#[derive(Debug)]
pub struct Bf16Mut<'a>(pub &'a mut [u16]);

impl<T: Scalar> Elements<T> for Bf16Mut<'_> {
    fn span(&self) -> usize {
        self.0.len()
    }

    fn format(&self) -> Format {
        Format::Bf16
    }

    fn native(&self) -> Option<&[T]> {
        None
    }

    #[inline(always)]
    fn read(&self, offset: usize, stride: usize, out: &mut [T]) {
        read_halves(Format::Bf16, self.0, offset, stride, out);
    }
}

impl<T: Scalar> ElementsMut<T> for Bf16Mut<'_> {
    fn native_mut(&mut self) -> Option<&mut [T]> {
        None
    }

    #[inline(always)]
    fn write(&mut self, offset: usize, stride: usize, values: &[T], rounder: Rounder, first: usize) {
        let places = self.0[offset..].iter_mut().step_by(stride);
        for (i, (place, value)) in places.zip(values).enumerate() {
            *place = rounder.bf16(value.to_f32(), first + i);
        }
    }
}

#[inline(always)]
fn read_halves<T: Scalar>(format: Format, bits: &[u16], offset: usize, stride: usize, out: &mut [T]) {
    // Each format and the dense case a loop of its own, so that they vectorise.
    match (format, stride) {
        (Format::Bf16, 1) => out.iter_mut().zip(&bits[offset..]).for_each(|(out, &bits)| *out = widen(Format::Bf16, bits)),
        (Format::F16, 1) => out.iter_mut().zip(&bits[offset..]).for_each(|(out, &bits)| *out = widen(Format::F16, bits)),
        _ => out.iter_mut().zip(bits[offset..].iter().step_by(stride)).for_each(|(out, &bits)| *out = widen(format, bits)),
    }
}
