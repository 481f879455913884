//! Parameter and gradient of an elementwise step, block by block, from wherever they lie.

use core::ops::Range;

use crate::Scalar;
use crate::elements::{Elements, ElementsMut};
use crate::format::{Rounder, Rounding};

/// Elements of a block: small enough for a microcontroller's stack, large enough to vectorise.
pub(crate) const BLOCK: usize = if cfg!(target_pointer_width = "64") { 128 } else { 32 };

/// Reads scaled numbers.
#[inline(always)]
pub(crate) fn read_scaled<T: Scalar, E: Elements<T> + ?Sized>(elements: &E, scale: T, offset: usize, stride: usize, out: &mut [T]) {
    elements.read(offset, stride, out);
    if scale != T::ONE {
        out.iter_mut().for_each(|x| *x *= scale);
    }
}

/// A gradient whose elements lie together.
pub(crate) struct GradStream<'a, T, G: ?Sized> {
    pub elements: &'a G,
    /// The first element's place.
    pub start: usize,
    pub scale: T,
}

impl<'a, T: Scalar> GradStream<'a, T, [T]> {
    pub fn of(grad: &'a [T]) -> Self {
        Self { elements: grad, start: 0, scale: T::ONE }
    }
}

impl<T: Scalar, G: Elements<T> + ?Sized> GradStream<'_, T, G> {
    /// A block, where it lies if it can be used as it is, else in `buffer`.
    #[inline(always)]
    pub fn block<'b>(&'b self, range: &Range<usize>, buffer: &'b mut [T; BLOCK]) -> &'b [T] {
        match self.elements.native() {
            Some(all) if self.scale == T::ONE => &all[self.start + range.start..self.start + range.end],
            _ => {
                let out = &mut buffer[..range.len()];
                read_scaled(self.elements, self.scale, self.start + range.start, 1, out);
                out
            }
        }
    }
}

/// A parameter (or a place for an update) whose elements lie together.
pub(crate) struct ParamStream<'a, P: ?Sized> {
    pub elements: &'a mut P,
    pub start: usize,
    pub rounder: Rounder,
}

impl<'a, T: Scalar> ParamStream<'a, [T]> {
    pub fn of(param: &'a mut [T]) -> Self {
        Self { elements: param, start: 0, rounder: Rounder::new(Rounding::Nearest, 0, 0, 0) }
    }
}

impl<P: ?Sized> ParamStream<'_, P> {
    /// Changes a block.
    #[inline(always)]
    pub fn change<T: Scalar>(&mut self, range: Range<usize>, f: impl FnOnce(&mut [T]))
    where
        P: ElementsMut<T>,
    {
        let (start, end) = (self.start + range.start, self.start + range.end);
        if let Some(all) = self.elements.native_mut() {
            return f(&mut all[start..end]);
        }
        let mut buffer = [T::ZERO; BLOCK];
        let block = &mut buffer[..range.len()];
        self.elements.read(start, 1, block);
        f(block);
        self.elements.write(start, 1, block, self.rounder, range.start);
    }

    /// Writes a block of master weights, rounded.
    #[inline(always)]
    pub fn store<T: Scalar>(&mut self, range: &Range<usize>, values: &[T])
    where
        P: ElementsMut<T>,
    {
        self.elements.write(self.start + range.start, 1, values, self.rounder, range.start);
    }
}
