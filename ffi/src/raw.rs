//! A slice's elements behind a pointer from C.
//!
//! Where they have gaps, elements of other tensors may lie in these, and other threads may write there: such elements are only touched
//! one by one, never as a Rust slice.

use klshampoo::{Bf16Mut, Elements, ElementsMut, Format, Halves, Rounder};

/// Elements from a slice's first to its last, aligned for their format.
#[derive(Clone, Copy)]
pub(crate) struct Raw {
    first: *mut u8,
    format: Format,
    span: usize,
}

/// 16-bit numbers that are handed on together.
const BLOCK: usize = 128;

impl Raw {
    /// # Safety
    /// `pointer` is aligned for the format and has `span` elements after the first `offset` ones. As long as the value is used, nobody else
    /// writes those that are read, nor reads those that are written. With [`Elements::native`], that goes for all of the span.
    pub(crate) unsafe fn new(pointer: *mut u8, format: Format, offset: usize, span: usize) -> Self {
        let bytes = if format == Format::Native { size_of::<f32>() } else { size_of::<u16>() };
        // SAFETY: inside the caller's buffer.
        Self { first: unsafe { pointer.add(offset * bytes) }, format, span }
    }

    /// The elements at `offset`, `offset + stride`, ... of a type.
    fn each<T>(&self, offset: usize, stride: usize, count: usize) -> impl Iterator<Item = *mut T> {
        debug_assert!(count == 0 || offset + (count - 1) * stride < self.span);
        let first = self.first.cast::<T>();
        // The plan keeps all of them inside the span; `new` vouches for that.
        (0..count).map(move |i| first.wrapping_add(offset + i * stride))
    }

    /// A run of elements without gaps.
    ///
    /// # Safety
    /// The elements are of this type, and nobody writes them while the result lives.
    unsafe fn run<T>(&self, offset: usize, count: usize) -> &[T] {
        debug_assert!(offset + count <= self.span);
        // SAFETY: inside the span.
        unsafe { core::slice::from_raw_parts(self.first.cast::<T>().add(offset), count) }
    }

    /// The same, to write.
    ///
    /// # Safety
    /// The elements are of this type, and nobody else touches them while the result lives.
    unsafe fn run_mut<T>(&mut self, offset: usize, count: usize) -> &mut [T] {
        debug_assert!(offset + count <= self.span);
        // SAFETY: inside the span.
        unsafe { core::slice::from_raw_parts_mut(self.first.cast::<T>().add(offset), count) }
    }
}

impl Elements<f32> for Raw {
    fn span(&self) -> usize {
        self.span
    }

    fn format(&self) -> Format {
        if cfg!(feature = "storage") { self.format } else { Format::Native }
    }

    #[inline(always)]
    fn native(&self) -> Option<&[f32]> {
        // SAFETY: called only where the elements lie together, and then by the word of `new`.
        (Elements::<f32>::format(self) == Format::Native).then(|| unsafe { self.run(0, self.span) })
    }

    #[inline(always)]
    fn read(&self, offset: usize, stride: usize, out: &mut [f32]) {
        match (self.format, stride) {
            // SAFETY: a run of f32, by the word of `new`.
            (Format::Native, 1) => out.copy_from_slice(unsafe { self.run(offset, out.len()) }),
            (Format::Native, _) => {
                let places = self.each::<f32>(offset, stride, out.len());
                // SAFETY: aligned elements of the span.
                out.iter_mut().zip(places).for_each(|(out, place)| *out = unsafe { place.read() });
            }
            // SAFETY: a run of 16-bit numbers.
            (format, 1) => Halves::new(format, unsafe { self.run(offset, out.len()) }).read(0, 1, out),
            (format, _) => {
                let mut bits = [0; BLOCK];
                for (i, out) in out.chunks_mut(BLOCK).enumerate() {
                    let places = self.each::<u16>(offset + i * BLOCK * stride, stride, out.len());
                    // SAFETY: aligned elements of the span.
                    bits.iter_mut().zip(places).for_each(|(bits, place)| *bits = unsafe { place.read() });
                    Halves::new(format, &bits[..out.len()]).read(0, 1, out);
                }
            }
        }
    }
}

impl ElementsMut<f32> for Raw {
    #[inline(always)]
    fn native_mut(&mut self) -> Option<&mut [f32]> {
        // SAFETY: as for `native`.
        (Elements::<f32>::format(self) == Format::Native).then(|| unsafe { self.run_mut(0, self.span) })
    }

    #[inline(always)]
    fn write(&mut self, offset: usize, stride: usize, values: &[f32], rounder: Rounder, first: usize) {
        match (self.format, stride) {
            // SAFETY: a run of f32, by the word of `new`.
            (Format::Native, 1) => unsafe { self.run_mut(offset, values.len()) }.copy_from_slice(values),
            (Format::Native, _) => {
                let places = self.each::<f32>(offset, stride, values.len());
                // SAFETY: aligned elements of the span.
                places.zip(values).for_each(|(place, &value)| unsafe { place.write(value) });
            }
            // SAFETY: a run of 16-bit numbers.
            (_, 1) => Bf16Mut(unsafe { self.run_mut(offset, values.len()) }).write(0, 1, values, rounder, first),
            (..) => {
                let places = self.each::<u16>(offset, stride, values.len());
                // SAFETY: aligned elements of the span.
                places.zip(values).enumerate().for_each(|(i, (place, &value))| unsafe { place.write(rounder.bf16(value, first + i)) });
            }
        }
    }
}
