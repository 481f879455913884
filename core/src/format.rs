//! Formats of numbers, and how one is rounded to 16 bits.

use crate::Scalar;
use crate::config::built;

/// How the numbers of a caller's buffer are stored, or the factors and bases of a state ([`crate::Config::factor_format`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// The element type of the arithmetic.
    #[default]
    Native,
    /// bfloat16: the upper half of an `f32`.
    Bf16,
    /// IEEE binary16. No parameters.
    F16,
}

impl Format {
    /// How far rounding to the nearest moves a number at most, relative to it; 0 for [`Self::Native`].
    pub(crate) fn rounding_error<T: Scalar>(self) -> T {
        match self {
            Self::Native => T::ZERO,
            Self::Bf16 => T::exp2i(-8),
            Self::F16 => T::exp2i(-11),
        }
    }
}

/// How a parameter is rounded to bf16.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rounding {
    /// To the nearest, ties to even.
    #[default]
    Nearest,
    /// Up or down with the probability that makes the mean right. The same seed gives the same bits: they depend on the tensor's place in
    /// the table, the slice, the element and the slice's step, not on threads or on what other tensors do.
    Stochastic {
        /// The caller's seed.
        seed: u64,
    },
}

/// The number that a bf16 stands for.
#[inline(always)]
pub(crate) const fn from_bf16(bits: u16) -> f32 {
    f32::from_bits((bits as u32) << 16)
}

/// The number that a binary16 stands for. No operand is a denormal, so that it is right where these are flushed.
#[inline(always)]
pub(crate) const fn from_f16(bits: u16) -> f32 {
    const SMALLEST_NORMAL: u32 = (127 - 14) << 23;
    let (sign, magnitude) = ((bits as u32 & 0x8000) << 16, (bits as u32 & 0x7fff) << 13);
    // A denormal has the smallest exponent, but not the one in front of the point that belongs to it.
    let denormal = f32::from_bits(magnitude + SMALLEST_NORMAL) - f32::from_bits(SMALLEST_NORMAL);
    let rebiased = magnitude + if magnitude >= 0x1f << 23 { (255 - 31) << 23 } else { (127 - 15) << 23 };
    f32::from_bits(sign | if magnitude < 1 << 23 { denormal.to_bits() } else { rebiased })
}

/// The number that 16 bits of an `f32` without its sign stand for: 8 of the exponent, 8 of the mantissa.
#[inline(always)]
pub(crate) const fn from_positive(bits: u16) -> f32 {
    f32::from_bits((bits as u32) << 15)
}

/// The largest finite bf16.
const LARGEST_BF16: u32 = 0x7f7f;

/// The largest finite binary16.
const LARGEST_F16: u32 = 0x7bff;

/// The largest of [`from_positive`] with an exponent two below that of infinity, so that halves of two exponents add up to a finite one's.
const LARGEST_POSITIVE: u32 = 0xfdff;

/// The bits of an `f32` that is infinite; those of NaN are larger.
const INFINITE: u32 = 0x7f80_0000;

const fn at_most(bits: u32, largest: u32) -> u32 {
    if bits > largest { largest } else { bits }
}

/// How one number is rounded.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Choice {
    /// To the nearest, ties to even.
    Nearest,
    /// Up if what is dropped is larger than 2^16 less this number, in 2^-16 of the last bit that stays.
    Random(u16),
}

impl Choice {
    /// `magnitude` without its last `dropped` bits, 1 to 25 of them.
    #[inline(always)]
    const fn drop_bits(self, magnitude: u32, dropped: u32) -> u32 {
        let addend = match self {
            Self::Nearest => (1 << (dropped - 1)) - 1 + (magnitude >> dropped & 1),
            Self::Random(number) => (number as u32) << 9 >> (25 - dropped),
        };
        (magnitude + addend) >> dropped
    }

    /// The bf16. What would become infinite stays finite, and what is not finite stays that.
    #[inline(always)]
    pub(crate) const fn bf16(self, x: f32) -> u16 {
        let (sign, magnitude) = (x.to_bits() >> 16 & 0x8000, x.to_bits() & !(1 << 31));
        if magnitude >= INFINITE {
            // A NaN keeps a bit of its mantissa.
            return (sign | magnitude >> 16 | if magnitude > INFINITE { 0x40 } else { 0 }) as u16;
        }
        (sign | at_most(self.drop_bits(magnitude, 16), LARGEST_BF16)) as u16
    }

    /// The binary16, likewise.
    #[inline(always)]
    pub(crate) const fn f16(self, x: f32) -> u16 {
        let (sign, magnitude) = (x.to_bits() >> 16 & 0x8000, x.to_bits() & !(1 << 31));
        if magnitude >= INFINITE {
            return (sign | 0x7c00 | if magnitude > INFINITE { 0x200 } else { 0 }) as u16;
        }
        // A denormal, a whole number of 2^-24, drops as many bits more as its exponent is below that of the smallest normal number; what is
        // below a quarter of 2^-24 is brought there in its place. No branches: such numbers come without a pattern.
        let below = (127u32 - 14).saturating_sub(magnitude >> 23);
        let normal = magnitude.wrapping_sub((127 - 15) << 23);
        let denormal = (magnitude & 0x007f_ffff | 0x0080_0000) >> at_most(below.saturating_sub(12), 31);
        let rounded = self.drop_bits(if below == 0 { normal } else { denormal }, 13 + at_most(below, 12));
        (sign | at_most(rounded, LARGEST_F16)) as u16
    }

    /// The number of [`from_positive`]; zero for what is negative, and the largest number for what is not finite.
    #[inline(always)]
    pub(crate) const fn positive(self, x: f32) -> u16 {
        if x.to_bits() >> 31 != 0 { 0 } else { at_most(self.drop_bits(x.to_bits(), 15), LARGEST_POSITIVE) as u16 }
    }
}

/// Choices one after another.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Choices {
    stochastic: bool,
    state: u32,
}

impl Choices {
    #[inline(always)]
    pub(crate) const fn next(&mut self) -> Choice {
        // A linear congruential generator (Numerical Recipes), whose upper half is the better one: two instructions.
        self.state = self.state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        if self.stochastic { Choice::Random((self.state >> 16) as u16) } else { Choice::Nearest }
    }
}

/// Rounding of one slice's numbers in one step.
#[derive(Clone, Copy, Debug)]
pub struct Rounder {
    /// What random choices are made of; nothing in a build that never makes any.
    random: [Option<u64>; built::ROUNDS as usize],
}

/// The finalizer of SplitMix64: every bit of the argument reaches every bit of the result.
const fn mix(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

impl Format {
    /// The same, of factors: what this build does not have does not occur.
    #[inline(always)]
    pub(crate) const fn of_factors(self) -> Self {
        if built::FACTOR_FORMATS { self } else { Self::Native }
    }
}

impl Rounder {
    /// To the nearest, ties to even.
    pub(crate) const NEAREST: Self = Self { random: [None; built::ROUNDS as usize] };

    /// The rounding of step `step` (the first one is 1) of a slice (piece) of a tensor.
    pub const fn new(rounding: Rounding, tensor: usize, slice: usize, step: u64) -> Self {
        match rounding {
            Rounding::Stochastic { seed } if built::ROUNDS => {
                let key = mix(mix(mix(mix(seed) ^ tensor as u64) ^ slice as u64) ^ step);
                Self { random: [Some(key); built::ROUNDS as usize] }
            }
            Rounding::Stochastic { .. } | Rounding::Nearest => Self::NEAREST,
        }
    }

    /// The same rounding of another array of numbers, which shares none of its choices.
    pub(crate) const fn of_part(self, part: usize) -> Self {
        match self.key() {
            Some(key) => Self { random: [Some(mix(key ^ part as u64)); built::ROUNDS as usize] },
            None => self,
        }
    }

    #[inline(always)]
    const fn key(self) -> Option<u64> {
        if built::ROUNDS { *self.random.as_slice().first().unwrap() } else { None }
    }

    /// The choice of element `index`.
    #[inline(always)]
    const fn choice(self, index: usize) -> Choice {
        let Some(key) = self.key() else { return Choice::Nearest };
        // 32-bit multiplications, which every SIMD level has; the constants are those of a published search for small bias ("lowbias32").
        let x = (index as u32) ^ (index as u64 >> 32) as u32 ^ key as u32;
        let x = (x ^ (x >> 16)).wrapping_mul(0x7feb_352d).wrapping_add((key >> 32) as u32);
        let x = (x ^ (x >> 15)).wrapping_mul(0x846c_a68b);
        Choice::Random((x ^ (x >> 16)) as u16)
    }

    /// The choices of the elements of row `row`.
    #[inline(always)]
    pub(crate) const fn row(self, row: usize) -> Choices {
        let state = match (self.choice(row), self.key()) {
            (Choice::Random(number), Some(key)) => (number as u32) << 16 ^ (key >> 32) as u32 ^ (row as u32).wrapping_mul(0x9e37_79b9),
            _ => 0,
        };
        Choices { stochastic: self.key().is_some(), state }
    }

    /// Rounds element `index` of the slice (piece). What would become infinite stays finite, and what is not finite stays that.
    #[inline(always)]
    pub const fn bf16(self, x: f32, index: usize) -> u16 {
        self.choice(index).bf16(x)
    }
}

/// Widens 16-bit numbers; `Native` is not one of them and gives zeros.
#[inline(always)]
pub(crate) fn widen<T: Scalar>(format: Format, bits: u16) -> T {
    match format {
        Format::Bf16 => T::from_f32(from_bf16(bits)),
        Format::F16 => T::from_f32(from_f16(bits)),
        Format::Native => T::ZERO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_of_every_kind() {
        let cases: [(u16, f32); 9] = [
            (0x0000, 0.0),
            (0x8000, -0.0),
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x0001, 5.960_464_5e-8),
            (0x83ff, -6.097_555e-5),
            (0x0400, 6.103_515_6e-5),
            (0x7bff, 65504.0),
            (0x7c00, f32::INFINITY),
        ];
        for (bits, value) in cases {
            assert_eq!(from_f16(bits).to_bits(), value.to_bits(), "{bits:#x}");
        }
        assert!(from_f16(0x7e01).is_nan());
        assert_eq!(from_bf16(0x3f80), 1.0);
    }

    #[test]
    fn nearest_is_to_even_and_stays_finite() {
        let nearest = Rounder::new(Rounding::Nearest, 0, 0, 1);
        for (x, bits) in [(1.0f32, 0x3f80), (f32::from_bits(0x3f80_8000), 0x3f80), (f32::from_bits(0x3f81_8000), 0x3f82), (-0.0, 0x8000)] {
            assert_eq!(nearest.bf16(x, 7), bits, "{x}");
        }
        assert_eq!(nearest.bf16(f32::MAX, 0), 0x7f7f);
        assert_eq!(nearest.bf16(f32::MIN, 0), 0xff7f);
        for rounder in [nearest, Rounder::new(Rounding::Stochastic { seed: 1 }, 0, 0, 1)] {
            assert_eq!([f32::INFINITY, f32::NEG_INFINITY].map(|x| rounder.bf16(x, 3)), [0x7f80, 0xff80]);
            assert!([f32::NAN, f32::from_bits(0x7f80_0001)].iter().all(|&x| from_bf16(rounder.bf16(x, 3)).is_nan()));
        }
    }

    /// Against the definition: the nearest of all binary16 numbers, the even one of two.
    #[test]
    fn binary16_is_the_nearest() {
        let nearest = |x: f32| Choice::Nearest.f16(x);
        for bits in 0..LARGEST_F16 as u16 {
            let (low, high) = (from_f16(bits), from_f16(bits + 1));
            let middle = low + (high - low) / 2.0;
            let even = bits + (bits & 1);
            let expected = [(low, bits), (middle.next_down(), bits), (middle, even), (middle.next_up(), bits + 1), (high, bits + 1)];
            for (x, bits) in expected {
                assert_eq!(nearest(x), bits, "{x:e}");
                assert_eq!(nearest(-x), 0x8000 | bits, "-{x:e}");
            }
        }
        assert_eq!([1e6, f32::MAX, 65519.99, f32::from_bits(1)].map(nearest), [0x7bff, 0x7bff, 0x7bff, 0]);
        assert_eq!([f32::INFINITY, f32::NEG_INFINITY].map(nearest), [0x7c00, 0xfc00]);
        assert!(from_f16(nearest(f32::NAN)).is_nan());
    }

    #[test]
    fn positive_numbers_have_nine_bits_and_the_range_of_an_f32() {
        let nearest = |x: f32| Choice::Nearest.positive(x);
        for x in [1.0f32, 1.996, 3.2e-38, 1e-40, 7.7e37, 0.0] {
            let kept = from_positive(nearest(x));
            assert!((kept - x).abs() <= (x / 512.0).max(f32::from_bits(1 << 14)), "{x:e} {kept:e}");
            assert_eq!(from_positive(nearest(kept)), kept);
        }
        assert_eq!([-1.0, -0.0, -1e-40].map(nearest), [0; 3]);
        assert!(from_positive(nearest(f32::MAX)) > 1e38 && from_positive(nearest(f32::MAX)).is_finite());
    }

    /// The mean of many roundings is the number, and numbers that are bf16 already stay.
    #[test]
    fn stochastic_rounding_has_the_right_mean() {
        let seed = Rounding::Stochastic { seed: 3 };
        for x in [1.001_f32, -0.372_2, 3.1e-30] {
            let (mut sum, count) = (0.0, 40_000);
            for i in 0..count {
                sum += f64::from(from_bf16(Rounder::new(seed, 1, 2, i / 1000).bf16(x, (i % 1000) as usize)));
            }
            let (mean, gap) = (sum / count as f64, f64::from(x.abs()) / 128.0);
            // Four standard deviations of the mean of `count` choices between neighbours.
            assert!((mean - f64::from(x)).abs() < 4.0 * gap / 2.0 / (count as f64).sqrt(), "{x}: {mean}");
            let exact = from_bf16((x.to_bits() >> 16) as u16);
            assert!((0..1000).all(|i| from_bf16(Rounder::new(seed, 0, 0, 5).bf16(exact, i)) == exact));
        }
        let bits = |tensor, slice, step| {
            (0..64).map(|i| Rounder::new(seed, tensor, slice, step).bf16(1.001, i)).fold(0u64, |b, x| b << 1 | u64::from(x & 1))
        };
        let all = [bits(0, 0, 1), bits(1, 0, 1), bits(0, 1, 1), bits(0, 0, 2)];
        assert!((0..4).all(|i| (0..i).all(|j| all[i] != all[j])));
    }

    /// The same of numbers that are rounded row by row, in all formats: neither the row, nor the column, nor the step shows in the mean.
    #[test]
    fn rows_have_the_right_mean() {
        let (rows, columns, steps) = (20, 20, 200);
        let seed = Rounding::Stochastic { seed: 3 };
        for x in [1.001_f32, 0.372_2, 3.3e-6] {
            type Kept = fn(Choice, f32) -> f32;
            let kept: [(Kept, f64); 3] = [
                (|choice, x| from_bf16(choice.bf16(x)), f64::from(x) / 128.0),
                // Normal and denormal.
                (|choice, x| -from_f16(choice.f16(-x)), (f64::from(x) / 1024.0).max(2f64.powi(-24))),
                (|choice, x| from_positive(choice.positive(x)), f64::from(x) / 256.0),
            ];
            for (kept, gap) in kept {
                let (mut of_rows, mut of_columns, mut of_steps) = ([0.0; 20], [0.0; 20], [0.0; 200]);
                for (step, of_step) in of_steps.iter_mut().enumerate() {
                    let rounder = Rounder::new(seed, 1, 2, step as u64).of_part(3);
                    for (row, of_row) in of_rows.iter_mut().enumerate() {
                        let mut choices = rounder.row(row);
                        for of_column in &mut of_columns {
                            let error = f64::from(kept(choices.next(), x)) - f64::from(x);
                            assert!(error.abs() <= gap);
                            [&mut *of_row, of_column, of_step].into_iter().for_each(|sum| *sum += error);
                        }
                    }
                }
                let within = |sums: &[f64], count: usize| {
                    // The largest of up to 200 means of choices between neighbours: five standard deviations.
                    let most = 5.0 * gap / 2.0 * (count as f64).sqrt();
                    assert!(sums.iter().all(|sum| sum.abs() < most), "{x}: {sums:?} {most}");
                };
                within(&of_rows, columns * steps);
                within(&of_columns, rows * steps);
                within(&of_steps, rows * columns);
            }
        }
    }
}
