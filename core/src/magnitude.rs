//! The size of a gradient, computed so that nothing overflows and judged by exponent bits alone.

use crate::Scalar;
use crate::linalg::VECTORS;

/// What is wrong with a gradient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GradientFault {
    /// An element is NaN or infinite.
    NotFinite,
    /// Its squared norm, or the one weighted by the inverse eigenvalues, reaches 2^120 (`f32`; 2^960 for `f64`).
    TooLarge,
}

/// Calls its argument with the elements of something, run by run.
pub(crate) type Visit<'a, T> = &'a dyn Fn(&mut dyn FnMut(&[T]));

/// Whether every number is below two to this power in absolute value, and finite.
#[inline(always)]
fn is_below_log2<T: Scalar>(x: &[T], log2: i32) -> bool {
    // What is not finite has an exponent of its own, the largest.
    x.iter().fold(i32::MIN, |largest, x| largest.max(x.exponent())) < log2
}

/// Whether every number is finite.
#[inline(always)]
pub(crate) fn all_finite<T: Scalar>(x: &[T]) -> bool {
    is_below_log2(x, T::exp2i(i32::MAX).exponent() + 1)
}

/// Whether every number is one that a gradient within [`Magnitude::check`], or an average of such, may have after it has been turned.
#[inline(always)]
pub(crate) fn turned_is_in_range<T: Scalar>(x: &[T]) -> bool {
    is_below_log2(x, T::NORM_LIMIT_LOG2 / 2 + 1)
}

/// Whether every number is one that an orthogonal matrix may have.
#[inline(always)]
pub(crate) fn basis_is_in_range<T: Scalar>(x: &[T]) -> bool {
    is_below_log2(x, 1)
}

/// Whether every number of the lower triangle of a `d x d` square is one that a factor may have which is estimated from such gradients: its
/// trace is below the limit of their squared norms, and no element of it, in whatever basis, is larger than that.
#[inline(always)]
pub(crate) fn factor_is_in_range<T: Scalar>(square: &[T], d: usize) -> bool {
    square.chunks_exact(d).enumerate().all(|(i, row)| is_below_log2(&row[..=i], T::NORM_LIMIT_LOG2 + 1))
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
    #[inline(always)]
    pub(crate) fn of<T: Scalar>(x: &[T]) -> Result<Self, GradientFault> {
        const LANES: usize = 16;
        if !VECTORS {
            let (largest, finite) =
                x.iter().fold((T::ZERO, T::ZERO), |(largest, finite), &x| (T::max(largest, x.abs()), finite + x * T::ZERO));
            return Self::judge(largest, finite.is_finite_bits());
        }
        // The largest |x| decides; comparing magnitudes would ignore a NaN, so finiteness is gathered beside it, without a branch: zero
        // times anything finite is zero. Lanes, because neither a maximum nor a sum is vectorised across them otherwise.
        let (mut largest, mut finite) = ([T::ZERO; LANES], [T::ZERO; LANES]);
        let mut see = |chunk: &[T]| {
            for ((largest, finite), &x) in largest.iter_mut().zip(&mut finite).zip(chunk) {
                *largest = largest.max(x.abs());
                *finite += x * T::ZERO;
            }
        };
        let mut chunks = x.chunks_exact(LANES);
        // A known length, so that the lanes stay in registers.
        chunks.by_ref().for_each(|chunk| see(&chunk[..LANES]));
        see(chunks.remainder());
        Self::judge(largest.into_iter().fold(T::ZERO, T::max), finite.iter().all(|sum| sum.is_finite_bits()))
    }

    fn judge<T: Scalar>(largest: T, finite: bool) -> Result<Self, GradientFault> {
        if finite { Ok(Self { exponent: (largest != T::ZERO).then(|| largest.exponent()) }) } else { Err(GradientFault::NotFinite) }
    }

    /// The magnitude of nothing.
    pub(crate) const NONE: Self = Self { exponent: None };

    /// The magnitude of two slices together.
    #[must_use]
    pub(crate) fn and(self, other: Self) -> Self {
        Self { exponent: self.exponent.max(other.exponent) }
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
        const LANES: usize = 8;
        let scale = self.normaliser::<T>();
        // Sums of blocks: one running sum would stop growing at 2^24 elements in `f32`.
        let block = |x: &[T]| {
            let mut lanes = [T::ZERO; LANES];
            for chunk in x.chunks(LANES) {
                for (lane, &x) in lanes.iter_mut().zip(chunk) {
                    *lane += x * scale * (x * scale);
                }
            }
            lanes.into_iter().fold(T::ZERO, |sum, lane| sum + lane)
        };
        let sum = x.chunks(4096).fold(T::ZERO, |sum, x| sum + block(x));
        (sum, self.exponent.unwrap_or(0))
    }

    /// Checks `||x||_F^2 * 2^weight_log2` and `||x||_F^2` of `len` elements against the limit of the element type; `visit` calls its
    /// argument with all of them, run by run.
    ///
    /// # Errors
    /// [`GradientFault::TooLarge`].
    pub(crate) fn check<T: Scalar>(self, len: usize, visit: Visit<'_, T>, weight_log2: i32) -> Result<(), GradientFault> {
        let weight_log2 = weight_log2.max(0);
        // The bound from the largest element settles nearly every call without a second pass.
        if self.square_bound_log2(len).is_none_or(|bound| bound + weight_log2 < T::NORM_LIMIT_LOG2) {
            return Ok(());
        }
        let mut sum = T::ZERO;
        visit(&mut |x| sum += self.squared_norm(x).0);
        let exponent = self.exponent.unwrap_or(0);
        if sum.exponent() + 2 * exponent + weight_log2 < T::NORM_LIMIT_LOG2 { Ok(()) } else { Err(GradientFault::TooLarge) }
    }
}

/// A Frobenius norm, gathered piece by piece: its square is `sum * 4^exponent`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Norm<T> {
    sum: T,
    exponent: i32,
}

impl<T: Scalar> Norm<T> {
    pub(crate) const ZERO: Self = Self { sum: T::ZERO, exponent: i32::MIN / 4 };

    /// Adds the elements of a slice without NaN or infinity.
    pub(crate) fn add(&mut self, x: &[T]) {
        let Ok(magnitude) = Magnitude::of(x) else { return };
        let Some(exponent) = magnitude.exponent else { return };
        let (sum, _) = magnitude.squared_norm(x);
        let common = self.exponent.max(exponent);
        self.sum = self.sum * T::exp2i(2 * (self.exponent - common)) + sum * T::exp2i(2 * (exponent - common));
        self.exponent = common;
    }

    /// The norm of one slice.
    pub(crate) fn of(x: &[T]) -> Self {
        let mut norm = Self::ZERO;
        norm.add(x);
        norm
    }

    /// This norm over another one, which is at least 2^-63; at most what the type holds.
    pub(crate) fn over(self, other: Self) -> T {
        let floor = Self { sum: T::ONE, exponent: -63 };
        let other = if other.sum == T::ZERO || other.log2() < -63 { floor } else { other };
        if self.sum == T::ZERO { T::ZERO } else { (self.sum / other.sum).sqrt() * T::exp2i(self.exponent - other.exponent) }
    }

    /// A bound on the norm as a norm: `cap sqrt(n)`.
    pub(crate) fn with_rms(rms: T, elements: usize) -> Self {
        let exponent = rms.exponent();
        let mantissa = rms * T::exp2i(-exponent);
        Self { sum: mantissa * mantissa * T::from_usize(elements), exponent }
    }

    /// Root mean square of `elements` numbers with this norm times `factor`.
    pub(crate) fn rms(self, elements: usize, factor: T) -> T {
        (self.sum / T::from_usize(elements)).sqrt() * factor * T::exp2i(self.exponent)
    }

    /// The norm is this times two to the power [`Self::exponent`].
    pub(crate) fn mantissa(self) -> T {
        self.sum.sqrt()
    }

    pub(crate) fn exponent(self) -> i32 {
        self.exponent
    }

    fn log2(self) -> i32 {
        self.exponent + self.sum.exponent() / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn norms_of_any_size_compare() {
        let norm = |x: &[f32]| Norm::of(x);
        assert!(norm(&[3e30, 4e30]).over(norm(&[5e-10])) > 1e38);
        assert_eq!(norm(&[3.0, 4.0]).over(norm(&[0.5])), 10.0);
        assert_eq!(norm(&[0.0]).over(norm(&[1.0])), 0.0);
        assert_eq!(norm(&[1.0]).over(norm(&[0.0])), 2f32.powi(63));
        assert_eq!(Norm::with_rms(2.0f32, 16).over(norm(&[4.0])), 2.0);
        let mut pieces = Norm::ZERO;
        [1e-30f32, 3.0, 4.0, 1e-30].iter().for_each(|&x| pieces.add(&[x]));
        assert_eq!(pieces.over(norm(&[5.0])), 1.0);
    }

    #[test]
    fn faults_are_found_and_norms_do_not_overflow() {
        assert_eq!(Magnitude::of(&[1.0f32, f32::NAN]).unwrap_err(), GradientFault::NotFinite);
        assert_eq!(Magnitude::of(&[1.0f32, f32::NEG_INFINITY]).unwrap_err(), GradientFault::NotFinite);
        assert!(Magnitude::of(&[0.0f32, -0.0]).unwrap().is_zero());

        let big = [1e30f32; 4];
        let m = Magnitude::of(&big).unwrap();
        assert_eq!(m.check(4, &|f| f(&big), 0).unwrap_err(), GradientFault::TooLarge);
        let (mantissa, exponent) = m.squared_norm(&big);
        assert!((f64::from(mantissa) * 4f64.powi(exponent) / 4e60 - 1.0).abs() < 1e-6);

        let tiny = [1e-40f32, 0.0];
        let m = Magnitude::of(&tiny).unwrap();
        assert!(!m.is_zero());
        m.check(2, &|f| f(&tiny), 63).unwrap();

        // 2^59: the squared norm is just below the limit until the weights push it over.
        let edge = [2f32.powi(59)];
        let m = Magnitude::of(&edge).unwrap();
        m.check(1, &|f| f(&edge), 1).unwrap();
        assert_eq!(m.check(1, &|f| f(&edge), 2).unwrap_err(), GradientFault::TooLarge);
    }
}
