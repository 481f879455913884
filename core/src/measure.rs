//! How long an update is and how far it points from the gradient, for whoever wants to watch.

use crate::magnitude::{Magnitude, Norm};
use crate::{Scalar, SliceHeader};

/// Gathers an update beside its gradient, piece by piece, in scaled numbers that stay in range.
pub(crate) struct Measure<T> {
    update: Norm<T>,
    gradient: Norm<T>,
    /// Their inner product is `dot 2^exponent`.
    dot: T,
    exponent: i32,
    elements: usize,
}

impl<T: Scalar> Measure<T> {
    pub fn new() -> Self {
        Self { update: Norm::ZERO, gradient: Norm::ZERO, dot: T::ZERO, exponent: i32::MIN / 4, elements: 0 }
    }

    pub fn add(&mut self, update: &[T], gradient: &[T]) {
        self.elements += update.len();
        self.update.add(update);
        self.gradient.add(gradient);
        let (Ok(u), Ok(g)) = (Magnitude::of(update), Magnitude::of(gradient)) else { return };
        if u.is_zero() || g.is_zero() {
            return;
        }
        let (scale_u, scale_g) = (u.normaliser::<T>(), g.normaliser::<T>());
        let sum = update.iter().zip(gradient).fold(T::ZERO, |sum, (&u, &g)| sum + u * scale_u * (g * scale_g));
        // The normalisers are 2^-e.
        let exponent = -scale_u.exponent() - scale_g.exponent();
        let common = self.exponent.max(exponent);
        self.dot = self.dot * T::exp2i(self.exponent - common) + sum * T::exp2i(exponent - common);
        self.exponent = common;
    }

    /// Writes what was gathered of the update times `factor`.
    pub fn write(&self, factor: T, header: &mut SliceHeader) {
        header.update_rms = self.update.rms(self.elements, factor).to_f32();
        let (u, g) = (self.update.mantissa(), self.gradient.mantissa());
        header.update_cosine = if u > T::ZERO && g > T::ZERO {
            (self.dot / u / g * T::exp2i(self.exponent - self.update.exponent() - self.gradient.exponent())).to_f32()
        } else {
            0.0
        };
    }
}
