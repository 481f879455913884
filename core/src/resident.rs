//! How Kronecker factors and eigenbases are kept: as they are, or in 16 bits, two numbers to a word ([`crate::Config::factor_format`]).
//! Arithmetic never sees the 16 bits: a basis is widened before a product, a factor where it is averaged.
//!
//! In 16 bits a factor's diagonal comes first, then what lies below it, row by row. In bf16 each number is one. binary16 has three bits
//! more, but not the range of a factor, whose eigenvalues may be 1e-12 and a millionth of each other. So there an element off the diagonal is kept
//! in relation to the two of the diagonal that belong to it, as `S_ij / 2^(a_i + a_j)` with `4^a_i <= 2 S_ii < 4^(a_i + 1)`, which is less
//! than 2 in a factor; and the diagonal, which needs no sign, in 8 bits of exponent and 8 of mantissa. The powers of two are read off the
//! kept diagonal, so they need no room and are the same on the way in and out.
//!
//! A factor is rounded stochastically in every step: an average that takes in `1 - beta2` of something new would otherwise stop where that
//! is less than half of the last bit, with `beta2` = 0.999 in bf16 at a third of what it should become.

use crate::format::{Choice, Format, Rounder, Rounding, from_bf16, from_f16, from_positive};
use crate::linalg::LinAlg;
use crate::magnitude::Norm;
use crate::shape::MAX_ORDER;
use crate::{Scalar, packed};

/// Words that `count` numbers of a factor or basis take.
pub(crate) const fn kept_len(format: Format, count: usize) -> usize {
    match format.of_factors() {
        Format::Native => count,
        Format::Bf16 | Format::F16 => count.div_ceil(2),
    }
}

/// The rounding of a slice's (piece's) factors in its step `step`. The choices depend on what the arguments say and on nothing else.
pub(crate) const fn rounder(format: Format, tensor: usize, slice: usize, step: u64) -> Rounder {
    /// Any number; not a likely seed of a parameter.
    const SEED: u64 = 0x5eed_fac7_0125_b175;
    match format.of_factors() {
        Format::Native => Rounder::NEAREST,
        Format::Bf16 | Format::F16 => Rounder::new(Rounding::Stochastic { seed: SEED }, tensor, slice, step),
    }
}

/// Number `i` of 16 bits.
#[inline(always)]
fn half<T: Scalar>(words: &[T], i: usize) -> u16 {
    (words[i / 2].bits() >> (16 * (i % 2))) as u16
}

/// Sets number `i` of 16 bits.
#[inline(always)]
fn set_half<T: Scalar>(words: &mut [T], i: usize, half: u16) {
    let (word, shift) = (&mut words[i / 2], 16 * (i % 2));
    *word = T::from_low_bits(word.bits() & !(0xffff << shift) | u64::from(half) << shift);
}

/// A kept eigenbasis, to read.
#[derive(Clone, Copy)]
pub(crate) struct Basis<'a, T> {
    pub format: Format,
    pub words: &'a [T],
}

impl<'a, T: Scalar> Basis<'a, T> {
    /// The matrix, row by row: where it lies, or widened into `room`, which is as long.
    pub(crate) fn dense<'r>(self, room: &'r mut [T]) -> &'r [T]
    where
        'a: 'r,
    {
        #[inline(always)]
        fn widen<T: Scalar>(words: &[T], out: &mut [T], number: impl Fn(u16) -> f32) {
            let mut pairs = out.chunks_exact_mut(2);
            for (pair, word) in pairs.by_ref().zip(words) {
                pair[0] = T::from_f32(number(word.bits() as u16));
                pair[1] = T::from_f32(number((word.bits() >> 16) as u16));
            }
            // An odd number of them leaves one.
            if let ([last], Some(word)) = (pairs.into_remainder(), words.last()) {
                *last = T::from_f32(number(word.bits() as u16));
            }
        }
        match self.format.of_factors() {
            Format::Native => return self.words,
            Format::Bf16 => widen(self.words, room, from_bf16),
            Format::F16 => widen(self.words, room, from_f16),
        }
        room
    }
}

/// The matrices of kept bases, each as [`Basis::dense`].
pub(crate) fn dense_bases<'a, T: Scalar>(bases: [Basis<'a, T>; MAX_ORDER], rooms: &'a mut [&mut [T]; MAX_ORDER]) -> [&'a [T]; MAX_ORDER] {
    let mut rooms = rooms.iter_mut();
    bases.map(|basis| rooms.next().map_or(&[] as &[T], |room| basis.dense(room)))
}

/// Rounds a basis to what can be kept of it, in place. There is nothing to do in the arithmetic's own format.
pub(crate) fn round_basis<T: Scalar>(format: Format, basis: &mut [T]) {
    match format.of_factors() {
        Format::Native => {}
        Format::Bf16 => basis.iter_mut().for_each(|x| *x = T::from_f32(from_bf16(Choice::Nearest.bf16(x.to_f32())))),
        Format::F16 => basis.iter_mut().for_each(|x| *x = T::from_f32(from_f16(Choice::Nearest.f16(x.to_f32())))),
    }
}

/// Keeps a basis, each number as the nearest that there is.
pub(crate) fn keep_basis<T: Scalar>(format: Format, words: &mut [T], basis: &[T]) {
    match format.of_factors() {
        Format::Native => words.copy_from_slice(basis),
        Format::Bf16 => basis.iter().enumerate().for_each(|(i, x)| set_half(words, i, Choice::Nearest.bf16(x.to_f32()))),
        Format::F16 => basis.iter().enumerate().for_each(|(i, x)| set_half(words, i, Choice::Nearest.f16(x.to_f32()))),
    }
}

/// Where element `(i, j)` of a lower triangle is among the numbers of 16 bits.
#[inline(always)]
const fn place(d: usize, i: usize, j: usize) -> usize {
    if i == j { i } else { d + i * (i - 1) / 2 + j }
}

/// `a + 63` of `4^a <= 2 S_ii < 4^(a + 1)`, from the bits of a kept diagonal: at most 126, as the largest number that is kept is below 2^127.
#[inline(always)]
const fn root_exponent(bits: u16) -> u32 {
    (bits >> 9) as u32
}

/// `2^(a_i + a_j)`.
#[inline(always)]
fn scale<T: Scalar>(own: u32, other: u32) -> T {
    T::from_f32(f32::from_bits((own + other + 1) << 23))
}

/// Its inverse.
#[inline(always)]
fn inverse_scale<T: Scalar>(own: u32, other: u32) -> T {
    T::from_f32(f32::from_bits((253 - own - other) << 23))
}

/// A kept Kronecker factor of a mode of length `d`, to read.
#[derive(Clone, Copy)]
pub(crate) struct Factor<'a, T> {
    pub format: Format,
    pub words: &'a [T],
    pub d: usize,
}

impl<'a, T: Scalar> Factor<'a, T> {
    /// An element of the lower triangle.
    #[inline(always)]
    fn at(self, i: usize, j: usize) -> T {
        match self.format.of_factors() {
            Format::Native => self.words[i * (i + 1) / 2 + j],
            Format::Bf16 | Format::F16 => self.half_at(i, j),
        }
    }

    #[inline(never)]
    fn half_at(self, i: usize, j: usize) -> T {
        let number = |i, j| half(self.words, place(self.d, i, j));
        match (self.format, i == j) {
            (Format::F16, true) => T::from_f32(from_positive(number(i, i))),
            (Format::F16, false) => T::from_f32(from_f16(number(i, j))) * scale(root_exponent(number(i, i)), root_exponent(number(j, j))),
            (_, _) => T::from_f32(from_bf16(number(i, j))),
        }
    }

    /// Turns the `Delta` in a square into the averaged factor, both triangles filled.
    #[inline(always)]
    pub(crate) fn average_into_square<L: LinAlg<T>>(self, linalg: &L, square: &mut [T], beta: T) {
        if self.format.of_factors() == Format::Native {
            return packed::average_into_square(linalg, self.words, square, self.d, beta);
        }
        self.average_halves(square, beta);
        packed::mirror_up(square, self.d);
    }

    /// The same of the lower triangle alone, of a factor in 16 bits. One copy of it in a program is enough: it does not vectorise.
    #[inline(never)]
    fn average_halves(self, square: &mut [T], beta: T) {
        let fresh = T::ONE - beta;
        let mut first = self.d;
        for (i, row) in square.chunks_exact_mut(self.d).enumerate() {
            let (below, diagonal) = row.split_at_mut(i);
            let below = below.iter_mut().enumerate();
            let own = half(self.words, i);
            let average = |x: &mut T, s: T| *x = beta * s + fresh * *x;
            if self.format.of_factors() == Format::F16 {
                average(&mut diagonal[0], T::from_f32(from_positive(own)));
                let own = root_exponent(own);
                below.for_each(|(j, x)| {
                    let scale = scale(own, root_exponent(half(self.words, j)));
                    average(x, T::from_f32(from_f16(half(self.words, first + j))) * scale);
                });
            } else {
                average(&mut diagonal[0], T::from_f32(from_bf16(own)));
                below.for_each(|(j, x)| average(x, T::from_f32(from_bf16(half(self.words, first + j)))));
            }
            first += i;
        }
    }

    /// Expands it into a symmetric square.
    pub(crate) fn unpack(self, square: &mut [T]) {
        if self.format.of_factors() == Format::Native {
            return packed::unpack(self.words, square, self.d);
        }
        square.fill(T::ZERO);
        self.average_halves(square, T::ONE);
        packed::mirror_up(square, self.d);
    }

    /// `S / ||S||_F` as a square; `I / sqrt(d)` of a factor of zero.
    pub(crate) fn unpack_normalised(self, square: &mut [T]) {
        self.unpack(square);
        packed::normalise(square, self.d);
    }

    /// Its diagonal.
    pub(crate) fn diagonal(self) -> impl Iterator<Item = T> + 'a {
        (0..self.d).map(move |i| self.at(i, i))
    }

    /// Its elements, without those above the diagonal.
    pub(crate) fn elements(self) -> impl Iterator<Item = T> + 'a {
        (0..self.d).flat_map(move |i| (0..=i).map(move |j| self.at(i, j)))
    }

    /// `||S||_F`, whatever the size of the numbers.
    pub(crate) fn norm(self) -> T {
        if self.format.of_factors() == Format::Native {
            return packed::norm(self.words, self.d);
        }
        let mut norm = Norm::ZERO;
        for i in 0..self.d {
            (0..i).for_each(|j| norm.add(&[self.at(i, j); 2]));
            norm.add(&[self.at(i, i)]);
        }
        norm.over(Norm::of(&[T::ONE]))
    }
}

/// A Kronecker factor to write.
pub(crate) struct FactorMut<'a, T> {
    pub format: Format,
    pub words: &'a mut [T],
    pub d: usize,
}

impl<T: Scalar> FactorMut<'_, T> {
    /// Keeps the lower triangle of a square.
    #[inline(always)]
    pub(crate) fn keep(&mut self, square: &[T], rounder: Rounder) {
        if self.format.of_factors() == Format::Native {
            return packed::pack(self.words, square, self.d);
        }
        self.keep_halves(square, rounder);
    }

    #[inline(never)]
    fn keep_halves(&mut self, square: &[T], rounder: Rounder) {
        let (d, words) = (self.d, &mut *self.words);
        let mut first = d;
        for (i, row) in square.chunks_exact(d).enumerate() {
            let (below, diagonal, mut choices) = (row[..i].iter().enumerate(), row[i].to_f32(), rounder.row(i));
            if self.format.of_factors() == Format::F16 {
                set_half(words, i, choices.next().positive(diagonal));
                let own = root_exponent(half(words, i));
                for (j, &x) in below {
                    // Beside a diagonal that rounding has left at zero it may be anything.
                    let scaled = x * inverse_scale(own, root_exponent(half(words, j)));
                    let scaled = scaled.min(T::exp2i(15)).max(-T::exp2i(15));
                    set_half(words, first + j, choices.next().f16(scaled.to_f32()));
                }
            } else {
                set_half(words, i, choices.next().bf16(diagonal));
                below.for_each(|(j, x)| set_half(words, first + j, choices.next().bf16(x.to_f32())));
            }
            first += i;
        }
    }

    /// `S <- beta S + (1 - beta) Delta`, with the lower triangle of `Delta` in a square, which may be overwritten.
    #[inline(always)]
    pub(crate) fn average<L: LinAlg<T>>(&mut self, linalg: &L, delta: &mut [T], beta: T, rounder: Rounder) {
        if self.format.of_factors() == Format::Native {
            return packed::average(linalg, self.words, delta, self.d, beta);
        }
        Factor { format: self.format, words: &*self.words, d: self.d }.average_halves(delta, beta);
        self.keep_halves(delta, rounder);
    }

    /// Multiplies it by an even power of two, which is exact unless a number leaves the range.
    pub(crate) fn scale(&mut self, log2: i32) {
        let factor = T::exp2i(log2);
        let numbers = match self.format.of_factors() {
            Format::Native => return self.words.iter_mut().for_each(|x| *x *= factor),
            Format::Bf16 => self.d * (self.d + 1) / 2,
            // The rest is in relation to the diagonal.
            Format::F16 => self.d,
        };
        for i in 0..numbers {
            let bits = half(self.words, i);
            let scaled = match self.format.of_factors() {
                Format::F16 => Choice::Nearest.positive(from_positive(bits) * factor.to_f32()),
                _ => Choice::Nearest.bf16(from_bf16(bits) * factor.to_f32()),
            };
            set_half(self.words, i, scaled);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linalg::Portable;

    const D: usize = 5;
    const NUMBERS: usize = D * (D + 1) / 2;
    type Square = [f32; D * D];

    /// A factor near its eigenbasis: a diagonal over `decades` decades from `largest` down, and correlations of about a tenth.
    fn graded(largest: f32, decades: f32) -> Square {
        let grade = |i: usize| 10f32.powf(-decades * i as f32 / (2 * (D - 1)) as f32);
        core::array::from_fn(|at| {
            let (i, j) = ((at / D).max(at % D), (at / D).min(at % D));
            let correlation = if i == j { 1.0 } else { 0.1 * ((7 * (i + j) + 3 * i * j) % 11) as f32 / 5.0 - 0.1 };
            largest * grade(i) * grade(j) * correlation
        })
    }

    fn kept(format: Format, square: &Square, rounder: Rounder) -> [f32; NUMBERS] {
        let mut words = [0.0; NUMBERS];
        FactorMut { format, words: &mut words[..kept_len(format, NUMBERS)], d: D }.keep(square, rounder);
        words
    }

    fn factor(format: Format, words: &[f32]) -> Factor<'_, f32> {
        Factor { format, words: &words[..kept_len(format, NUMBERS)], d: D }
    }

    fn unpacked(format: Format, words: &[f32]) -> Square {
        let mut square = [f32::NAN; D * D];
        factor(format, words).unpack(&mut square);
        square
    }

    /// Each element is as near as its format allows, relative to the two of the diagonal that belong to it, wherever the diagonal lies; what is
    /// kept once is kept the same again.
    #[test]
    fn precision_is_relative_to_the_diagonal() {
        for format in [Format::Native, Format::Bf16, Format::F16] {
            for (largest, decades) in [(1.0, 1.0), (3e4, 8.0), (1e-20, 4.0), (1e30, 12.0), (7e-30, 6.0)] {
                let square = graded(largest, decades);
                let words = kept(format, &square, Rounder::NEAREST);
                let back = unpacked(format, &words);
                for (at, (&x, &y)) in square.iter().zip(&back).enumerate() {
                    let (i, j) = (at / D, at % D);
                    let own = (square[i * (D + 1)].sqrt() * square[j * (D + 1)].sqrt()).abs();
                    let unit = if i == j && format == Format::F16 { 1.0 / 512.0 } else { format.rounding_error::<f32>() };
                    assert!((x - y).abs() <= 1.001 * unit * own, "{format:?} {largest:e} ({i}, {j}): {x:e} {y:e}");
                    assert_eq!(y.to_bits(), back[j * D + i].to_bits());
                }
                assert_eq!(kept(format, &back, Rounder::NEAREST).map(f32::to_bits), words.map(f32::to_bits));
                let f = factor(format, &words);
                assert!(f.diagonal().eq((0..D).map(|i| back[i * (D + 1)])));
                assert!(f.elements().eq((0..D).flat_map(|i| (0..=i).map(move |j| back[i * D + j]))));
                let norm = back.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
                assert!((f64::from(f.norm()) / norm - 1.0).abs() < 1e-5, "{} {norm}", f.norm());
                let mut normalised = [0.0; D * D];
                f.unpack_normalised(&mut normalised);
                assert!((normalised.iter().map(|x| x * x).sum::<f32>() - 1.0).abs() < 1e-5);
            }
        }
    }

    #[test]
    fn averages_are_those_of_both_triangles() {
        let (old, delta) = (graded(2.0, 3.0), graded(5.0, 2.0));
        for format in [Format::Native, Format::Bf16, Format::F16] {
            let mut words = kept(format, &old, Rounder::NEAREST);
            let back = unpacked(format, &words);
            let expected: Square = core::array::from_fn(|at| 0.25 * back[at] + 0.75 * delta[at]);
            let (mut square, mut scratch) = (delta, delta);
            factor(format, &words).average_into_square(&Portable, &mut square, 0.25);
            assert_eq!(square, expected);
            FactorMut { format, words: &mut words[..kept_len(format, NUMBERS)], d: D }.average(
                &Portable,
                &mut scratch,
                0.25,
                Rounder::NEAREST,
            );
            assert_eq!(words.map(f32::to_bits), kept(format, &expected, Rounder::NEAREST).map(f32::to_bits));
        }
    }

    #[test]
    fn even_powers_of_two_are_exact() {
        for format in [Format::Native, Format::Bf16, Format::F16] {
            let mut words = kept(format, &graded(2.0, 3.0), Rounder::NEAREST);
            let before = unpacked(format, &words);
            for log2 in [2, -40, 38, 60, -60] {
                let mut scaled = words;
                FactorMut { format, words: &mut scaled[..kept_len(format, NUMBERS)], d: D }.scale(log2);
                assert_eq!(unpacked(format, &scaled), before.map(|x| x * f32::exp2i(log2)), "{format:?} {log2}");
            }
            // A mode without a factor.
            FactorMut { format, words: &mut words[..0], d: 0 }.scale(2);
        }
    }

    /// A diagonal that rounding has left at zero or below, and numbers at the ends of the range.
    #[test]
    fn what_is_no_factor_stays_finite() {
        for format in [Format::Bf16, Format::F16] {
            for diagonal in [0.0, -1e-9, 1e-45, 1e37] {
                for below in [1.0, -1e30, 1e37, 1e-45] {
                    let mut square = [below; D * D];
                    square.iter_mut().step_by(D + 1).for_each(|x| *x = diagonal);
                    square[0] = 1.0;
                    assert!(unpacked(format, &kept(format, &square, Rounder::NEAREST)).iter().all(|x| x.is_finite()));
                }
            }
            assert_eq!(kept(format, &[0.0; D * D], Rounder::NEAREST).map(f32::to_bits), [0; NUMBERS]);
        }
    }

    #[test]
    fn bases_of_any_length_come_back() {
        for len in 0..6 {
            let numbers: [f32; 6] = core::array::from_fn(|i| 0.3 * i as f32 - 0.7);
            for format in [Format::Native, Format::Bf16, Format::F16] {
                let (mut words, mut rounded, mut room) = ([0.0; 6], numbers, [f32::NAN; 6]);
                let words = &mut words[..kept_len(format, len)];
                keep_basis(format, words, &numbers[..len]);
                round_basis(format, &mut rounded);
                let basis = Basis { format, words }.dense(&mut room[..len]);
                assert_eq!(basis, &rounded[..len]);
                let near = |(x, y): (&f32, &f32)| (x - y).abs() <= format.rounding_error::<f32>() * x.abs();
                assert!(numbers.iter().zip(basis).all(near), "{format:?}");
                if len % 2 == 1 && format != Format::Native {
                    assert_eq!(words[len / 2].to_bits() >> 16, 0, "the rest is zero");
                }
            }
        }
    }
}
