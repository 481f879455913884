//! Formats of the caller's numbers, and how a parameter is rounded to one of 16 bits.

use crate::Scalar;
use crate::config::built;

/// How the numbers of a caller's buffer are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// The element type of the arithmetic.
    #[default]
    Native,
    /// bfloat16: the upper half of an `f32`.
    Bf16,
    /// IEEE binary16. Gradients only.
    F16,
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

/// The number that a binary16 stands for. Works on integers, so that it is right where denormals are flushed.
#[inline(always)]
pub(crate) const fn from_f16(bits: u16) -> f32 {
    let (sign, exponent, mantissa) = ((bits as u32 & 0x8000) << 16, (bits as u32 >> 10) & 0x1f, bits as u32 & 0x3ff);
    // A denormal is a whole number of 2^-24.
    let denormal = mantissa as f32 * (1.0 / 16_777_216.0);
    let rebiased = if exponent == 0x1f { 0xff } else { exponent + (127 - 15) };
    f32::from_bits(sign | if exponent == 0 { denormal.to_bits() } else { rebiased << 23 | mantissa << 13 })
}

/// The largest finite bf16.
const LARGEST: u32 = 0x7f7f;

/// Rounds the magnitude of a number whose lower half gets `addend` added; what would become infinite stays finite, and what is not finite
/// stays that.
#[inline(always)]
const fn to_bf16(x: f32, addend: u32) -> u16 {
    let bits = x.to_bits();
    if bits & 0x7f80_0000 == 0x7f80_0000 {
        // A NaN keeps a bit of its mantissa.
        return (bits >> 16) as u16 | if bits & 0x007f_ffff == 0 { 0 } else { 0x40 };
    }
    let (sign, magnitude) = (bits >> 16 & 0x8000, (bits & 0x7fff_ffff) + addend);
    let rounded = magnitude >> 16;
    (sign | if rounded > LARGEST { LARGEST } else { rounded }) as u16
}

/// Rounding of one slice's parameter in one step.
#[derive(Clone, Copy, Debug)]
pub struct Rounder {
    stochastic: bool,
    key: u64,
}

/// The finalizer of SplitMix64: every bit of the argument reaches every bit of the result.
const fn mix(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

impl Rounder {
    /// The rounding of step `step` of a slice (piece) of a tensor.
    pub(crate) const fn new(rounding: Rounding, tensor: usize, slice: usize, step: u64) -> Self {
        match rounding {
            Rounding::Stochastic { seed } if built::STORAGE => {
                Self { stochastic: true, key: mix(mix(mix(mix(seed) ^ tensor as u64) ^ slice as u64) ^ step) }
            }
            Rounding::Stochastic { .. } | Rounding::Nearest => Self { stochastic: false, key: 0 },
        }
    }

    /// Rounds element `index` of the slice (piece).
    #[inline(always)]
    pub const fn bf16(self, x: f32, index: usize) -> u16 {
        if self.stochastic {
            // 32-bit multiplications, which every SIMD level has; the constants are those of a published search for small bias ("lowbias32").
            let x32 = (index as u32) ^ (index as u64 >> 32) as u32 ^ self.key as u32;
            let x32 = (x32 ^ (x32 >> 16)).wrapping_mul(0x7feb_352d).wrapping_add((self.key >> 32) as u32);
            let x32 = (x32 ^ (x32 >> 15)).wrapping_mul(0x846c_a68b);
            to_bf16(x, (x32 ^ (x32 >> 16)) & 0xffff)
        } else {
            to_bf16(x, 0x7fff + (x.to_bits() >> 16 & 1))
        }
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
}
