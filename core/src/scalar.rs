//! The two element types of the arithmetic, behind a sealed trait.

use core::fmt::Debug;
use core::ops::{Add, AddAssign, Div, DivAssign, Mul, MulAssign, Neg, Sub, SubAssign};

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
}

/// An element type: `f32`, or `f64` (which proves the resident form against a textbook implementation).
pub trait Scalar:
    sealed::Sealed
    + Copy
    + Debug
    + Default
    + PartialEq
    + PartialOrd
    + Send
    + Sync
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
    + SubAssign
    + MulAssign
    + DivAssign
    + 'static
{
    /// 0
    const ZERO: Self;
    /// 1
    const ONE: Self;
    /// Distance from 1 to the next larger number.
    const EPSILON: Self;
    /// Lower bound of every stored eigenvalue and of every denominator: 2^-63 (ALGORITHMS: floors).
    const FLOOR: Self;
    /// Squared norms must stay below 2 to this power: 120 for `f32`, 960 for `f64`.
    const NORM_LIMIT_LOG2: i32;
    /// The type's number in a checkpoint: 1 for `f32`, 2 for `f64`.
    const ELEMENT: u32;

    /// Square root, correctly rounded.
    #[must_use]
    fn sqrt(self) -> Self;
    /// `self` to the power `exponent`.
    #[must_use]
    fn powf(self, exponent: Self) -> Self;
    /// Natural logarithm.
    #[must_use]
    fn ln(self) -> Self;
    /// Exponential function.
    #[must_use]
    fn exp(self) -> Self;
    /// Absolute value.
    #[must_use]
    fn abs(self) -> Self;
    /// `2^exponent`, exact; `exponent` is clamped to the normal range.
    #[must_use]
    fn exp2i(exponent: i32) -> Self;
    /// The unbiased binary exponent, `floor(log2 |self|)` for normal numbers, from the bits alone. Zero and denormals give the
    /// smallest exponent less one, NaN and infinity the largest plus one.
    fn exponent(self) -> i32;
    /// Neither NaN nor infinite, judged by the exponent bits (callers may compile with `-ffast-math`).
    fn is_finite_bits(self) -> bool;
    /// A small whole number, exact below 2^24.
    #[must_use]
    fn from_usize(n: usize) -> Self;
    /// A number of 32 bits, exact.
    #[must_use]
    fn from_f32(x: f32) -> Self;
    /// The nearest `f32`.
    #[must_use]
    fn to_f32(self) -> f32;
    /// The same number, widened.
    #[must_use]
    fn as_f64(self) -> f64;
    /// Its bits, in as many low bytes as it has.
    fn bits(self) -> u64;
    /// The number of these bits; higher bytes are not looked at.
    #[must_use]
    fn from_low_bits(bits: u64) -> Self;
    /// The larger of two numbers that are not NaN.
    #[must_use]
    fn max(self, other: Self) -> Self {
        if self < other { other } else { self }
    }
    /// The smaller of two numbers that are not NaN.
    #[must_use]
    fn min(self, other: Self) -> Self {
        if other < self { other } else { self }
    }
}

macro_rules! scalar {
    ($t:ty, $bits:ty, $mantissa:expr, $bias:expr, $exp_mask:expr, $limit:expr, $element:expr, $widen:path, $sqrt:path, $pow:path, $ln:path, $exp:path) => {
        impl Scalar for $t {
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;
            const EPSILON: Self = <$t>::EPSILON;
            const FLOOR: Self = 1.0 / 9_223_372_036_854_775_808.0;
            const NORM_LIMIT_LOG2: i32 = $limit;
            const ELEMENT: u32 = $element;

            #[inline]
            fn sqrt(self) -> Self {
                $sqrt(self)
            }
            #[inline]
            fn powf(self, exponent: Self) -> Self {
                $pow(self, exponent)
            }
            #[inline]
            fn ln(self) -> Self {
                $ln(self)
            }
            #[inline]
            fn exp(self) -> Self {
                $exp(self)
            }
            #[inline]
            fn abs(self) -> Self {
                <$t>::from_bits(self.to_bits() & !(1 << (<$bits>::BITS - 1)))
            }
            #[inline]
            fn exp2i(exponent: i32) -> Self {
                let e = exponent.clamp(1 - $bias, $bias);
                <$t>::from_bits(((e + $bias) as $bits) << $mantissa)
            }
            #[inline]
            fn exponent(self) -> i32 {
                ((self.to_bits() >> $mantissa) & $exp_mask) as i32 - $bias
            }
            #[inline]
            fn is_finite_bits(self) -> bool {
                (self.to_bits() >> $mantissa) & $exp_mask != $exp_mask
            }
            #[inline]
            fn from_usize(n: usize) -> Self {
                n as $t
            }
            #[inline]
            fn from_f32(x: f32) -> Self {
                x.into()
            }
            #[inline]
            fn to_f32(self) -> f32 {
                self as f32
            }
            #[inline]
            fn as_f64(self) -> f64 {
                $widen(self)
            }
            #[inline]
            fn bits(self) -> u64 {
                u64::from(self.to_bits())
            }
            #[inline]
            fn from_low_bits(bits: u64) -> Self {
                <$t>::from_bits(bits as $bits)
            }
        }
    };
}

scalar!(f32, u32, 23, 127, 0xff, 120, 1, widened, klshampoo_sqrt::sqrtf, libm::powf, libm::logf, libm::expf);
scalar!(f64, u64, 52, 1023, 0x7ff, 960, 2, core::convert::identity, libm::sqrt, libm::pow, libm::log, libm::exp);

/// `f64::from` in integers. Processors without double precision call a routine for it, and a checkpoint's hyper-parameters are all that
/// would bring one into a firmware.
fn widened(x: f32) -> f64 {
    let (bits, fraction) = (x.to_bits(), x.to_bits() & 0x7f_ffff);
    let magnitude = match (bits >> 23 & 0xff, fraction) {
        (0, 0) => 0,
        (0, _) => {
            let shift = fraction.leading_zeros() - 8;
            u64::from(897 - shift) << 52 | u64::from(fraction << shift & 0x7f_ffff) << 29
        }
        (0xff, _) => 0x7ff << 52 | u64::from(fraction) << 29,
        (exponent, _) => u64::from(exponent + 896) << 52 | u64::from(fraction) << 29,
    };
    f64::from_bits(u64::from(bits >> 31) << 63 | magnitude)
}

#[cfg(test)]
mod tests {
    #[test]
    fn widened_is_the_same_number() {
        let spread = (0..1u32 << 16).map(|i| i.wrapping_mul(0x9e37_79b9)).chain((0..24).map(|i| 1u32 << i)).chain([
            0,
            0x8000_0000,
            0x7f80_0000,
            0xff80_0000,
        ]);
        for x in spread.map(f32::from_bits).filter(|x| !x.is_nan()) {
            assert_eq!(super::widened(x).to_bits(), f64::from(x).to_bits(), "{x:e}");
        }
    }
}
