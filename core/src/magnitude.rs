//! The size of a gradient, computed so that nothing overflows and judged by exponent bits alone.

use crate::Scalar;

/// What is wrong with a gradient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GradientFault {
    /// An element is NaN or infinite.
    NotFinite,
    /// Its squared norm, or the one weighted by the inverse eigenvalues, reaches 2^120 (`f32`; 2^960 for `f64`).
    TooLarge,
}

/// Largest binary exponent in a slice.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Magnitude {
    exponent: Option<i32>,
}

impl Magnitude {
    /// Scans a slice.
    ///
    /// # Errors
    /// [`GradientFault::NotFinite`].
    pub(crate) fn of<T: Scalar>(x: &[T]) -> Result<Self, GradientFault> {
        // The largest |x| decides; comparing magnitudes would ignore a NaN, so finiteness is gathered beside it, without a branch.
        let (mut largest, mut finite) = (T::ZERO, true);
        for &x in x {
            finite &= x.is_finite_bits();
            largest = largest.max(x.abs());
        }
        if !finite {
            return Err(GradientFault::NotFinite);
        }
        Ok(Self { exponent: (largest != T::ZERO).then(|| largest.exponent()) })
    }

    /// Whether every element is zero.
    pub(crate) fn is_zero(self) -> bool {
        self.exponent.is_none()
    }

    /// Whether the slice times `factor` stays in range.
    pub(crate) fn stays_finite<T: Scalar>(self, factor: T) -> bool {
        self.exponent.is_none_or(|e| e + factor.exponent() + 2 <= T::NORM_LIMIT_LOG2)
    }

    /// The power of two that brings the largest element near 1; 1 for an all-zero slice.
    pub(crate) fn normaliser<T: Scalar>(self) -> T {
        T::exp2i(self.exponent.map_or(0, |e| -e))
    }

    /// An upper bound of `log2 ||x||_F^2`.
    fn square_bound_log2(self, len: usize) -> Option<i32> {
        let len_log2 = (usize::BITS - len.leading_zeros()) as i32;
        self.exponent.map(|e| 2 * (e + 1) + len_log2)
    }

    /// `||x||_F^2 = mantissa * 4^exponent`, with a mantissa that neither overflows nor underflows; (0, 0) for an all-zero slice.
    pub(crate) fn squared_norm<T: Scalar>(self, x: &[T]) -> (T, i32) {
        let scale = self.normaliser::<T>();
        // Sums of blocks: one running sum would stop growing at 2^24 elements in `f32`.
        let block = |x: &[T]| x.iter().fold(T::ZERO, |sum, &x| sum + x * scale * (x * scale));
        let sum = x.chunks(4096).fold(T::ZERO, |sum, x| sum + block(x));
        (sum, self.exponent.unwrap_or(0))
    }

    /// Checks `||x||_F^2 * 2^weight_log2` and `||x||_F^2` against the limit of the element type.
    ///
    /// # Errors
    /// [`GradientFault::TooLarge`].
    pub(crate) fn check<T: Scalar>(self, x: &[T], weight_log2: i32) -> Result<(), GradientFault> {
        let weight_log2 = weight_log2.max(0);
        // The bound from the largest element settles nearly every call without a second pass.
        if self.square_bound_log2(x.len()).is_none_or(|bound| bound + weight_log2 < T::NORM_LIMIT_LOG2) {
            return Ok(());
        }
        let (mantissa, exponent) = self.squared_norm(x);
        if mantissa.exponent() + 2 * exponent + weight_log2 < T::NORM_LIMIT_LOG2 { Ok(()) } else { Err(GradientFault::TooLarge) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_found_and_norms_do_not_overflow() {
        assert_eq!(Magnitude::of(&[1.0f32, f32::NAN]).unwrap_err(), GradientFault::NotFinite);
        assert_eq!(Magnitude::of(&[1.0f32, f32::NEG_INFINITY]).unwrap_err(), GradientFault::NotFinite);
        assert!(Magnitude::of(&[0.0f32, -0.0]).unwrap().is_zero());

        let big = [1e30f32; 4];
        let m = Magnitude::of(&big).unwrap();
        assert_eq!(m.check(&big, 0).unwrap_err(), GradientFault::TooLarge);
        let (mantissa, exponent) = m.squared_norm(&big);
        assert!((f64::from(mantissa) * 4f64.powi(exponent) / 4e60 - 1.0).abs() < 1e-6);

        let tiny = [1e-40f32, 0.0];
        let m = Magnitude::of(&tiny).unwrap();
        assert!(!m.is_zero());
        m.check(&tiny, 63).unwrap();

        // 2^59: the squared norm is just below the limit until the weights push it over.
        let edge = [2f32.powi(59)];
        let m = Magnitude::of(&edge).unwrap();
        m.check(&edge, 1).unwrap();
        assert_eq!(m.check(&edge, 2).unwrap_err(), GradientFault::TooLarge);
    }
}
