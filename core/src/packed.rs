//! Packed lower triangles: how a symmetric factor is kept.
//!
//! Row `i` holds the elements `(i, 0..=i)` contiguously. Products never read the packed form: a factor is only touched elementwise
//! (the EMA) or, every T steps, expanded into a square for the refresh, so the plain packed order costs no more than rectangular full
//! packed would and keeps both loops contiguous.

use crate::Scalar;
use crate::linalg::{LinAlg, Pass};
use crate::magnitude::Magnitude;
use crate::passes::{self, Divisible};

/// Elements of the packed triangle of a `d x d` matrix, or `None` on overflow.
pub const fn triangle_len(d: usize) -> Option<usize> {
    match d.checked_add(1) {
        Some(d1) => match d.checked_mul(d1) {
            Some(twice) => Some(twice / 2),
            None => None,
        },
        None => None,
    }
}

/// `S <- beta S + (1 - beta) Delta` on some rows of the lower triangle, of which `delta` has the `d` numbers each of a square; those above
/// the diagonal are not read.
struct Average<'a, T> {
    packed: &'a mut [T],
    delta: &'a [T],
    d: usize,
    /// Number of the first row.
    row: usize,
    beta: T,
}

impl<T: Scalar, L> Pass<L> for Average<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self, _: &L) {
        let (beta, fresh) = (self.beta, T::ONE - self.beta);
        let (mut rest, mut len) = (self.packed, self.row);
        for row in self.delta.chunks_exact(self.d) {
            len += 1;
            let (head, tail) = rest.split_at_mut(len);
            for (s, &x) in head.iter_mut().zip(row) {
                *s = beta * *s + fresh * x;
            }
            rest = tail;
        }
    }
}

impl<T: Scalar> Divisible for Average<'_, T> {
    fn len(&self) -> usize {
        self.packed.len()
    }

    fn divide(self, elements: usize) -> (Self, Self) {
        let Self { packed, delta, d, row, beta } = self;
        let (mut rows, mut at) = (0, 0);
        while at < elements && at < packed.len() {
            rows += 1;
            at += row + rows;
        }
        let ((packed, packed_rest), (delta, delta_rest)) = (packed.split_at_mut(at), delta.split_at(rows * d));
        (Self { packed, delta, d, row, beta }, Self { packed: packed_rest, delta: delta_rest, d, row: row + rows, beta })
    }
}

/// `S <- beta S + (1 - beta) Delta` on the lower triangle; `delta` is a `d x d` square whose upper part is not read.
#[inline(always)]
pub(crate) fn average<T: Scalar, L: LinAlg<T>>(linalg: &L, packed: &mut [T], delta: &[T], d: usize, beta: T) {
    passes::run(linalg, Average { packed, delta, d, row: 0, beta });
}

/// Turns the lower triangle of the `Delta` in a square into that of the averaged factor.
struct AverageIntoSquare<'a, T> {
    packed: &'a [T],
    square: &'a mut [T],
    d: usize,
    beta: T,
}

impl<T: Scalar, L> Pass<L> for AverageIntoSquare<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self, _: &L) {
        let (beta, fresh) = (self.beta, T::ONE - self.beta);
        let mut rest = self.packed;
        for (i, row) in self.square.chunks_exact_mut(self.d).enumerate() {
            let (head, tail) = rest.split_at(i + 1);
            for (x, &s) in row.iter_mut().zip(head) {
                *x = beta * s + fresh * *x;
            }
            rest = tail;
        }
    }
}

/// Turns the `Delta` in a square into the averaged factor, both triangles filled.
#[inline(always)]
pub(crate) fn average_into_square<T: Scalar, L: LinAlg<T>>(linalg: &L, packed: &[T], square: &mut [T], d: usize, beta: T) {
    linalg.vectorise(AverageIntoSquare { packed, square: &mut *square, d, beta });
    mirror_up(square, d);
}

/// Expands a triangle into a symmetric square.
#[inline(always)]
pub(crate) fn unpack<T: Scalar>(packed: &[T], square: &mut [T], d: usize) {
    let mut rest = packed;
    for (i, row) in square.chunks_exact_mut(d).enumerate() {
        let (head, tail) = rest.split_at(i + 1);
        row[..=i].copy_from_slice(head);
        rest = tail;
    }
    mirror_up(square, d);
}

/// Stores the lower triangle of a square.
#[inline(always)]
pub(crate) fn pack<T: Scalar>(packed: &mut [T], square: &[T], d: usize) {
    let mut rest = packed;
    for (i, row) in square.chunks_exact(d).enumerate() {
        let (head, tail) = rest.split_at_mut(i + 1);
        head.copy_from_slice(&row[..=i]);
        rest = tail;
    }
}

/// `||S||_F` from one triangle, whatever the size of the numbers.
pub(crate) fn norm<T: Scalar>(packed: &[T], d: usize) -> T {
    let Ok(magnitude) = Magnitude::of(packed) else { return T::ZERO };
    let scale = magnitude.normaliser::<T>();
    let (mut rest, mut sum) = (packed, T::ZERO);
    for i in 0..d {
        let (row, tail) = rest.split_at(i + 1);
        // Row by row: one running sum over d^2 numbers would lose digits.
        let off_diagonal = row[..i].iter().fold(T::ZERO, |sum, &x| sum + x * scale * (x * scale));
        let diagonal = row[i] * scale;
        sum += off_diagonal + off_diagonal + diagonal * diagonal;
        rest = tail;
    }
    sum.sqrt() / scale
}

/// `S <- S / ||S||_F`; `I / sqrt(d)` of a factor of zero.
pub(crate) fn normalise<T: Scalar>(square: &mut [T], d: usize) {
    let magnitude = Magnitude::of(square).ok().filter(|magnitude| !magnitude.is_zero());
    let Some(magnitude) = magnitude else {
        square.fill(T::ZERO);
        square.iter_mut().step_by(d + 1).for_each(|x| *x = T::ONE / T::from_usize(d).sqrt());
        return;
    };
    // Brought near 1 first: the inverse of a tiny norm would leave the range.
    let scale = magnitude.normaliser::<T>();
    square.iter_mut().for_each(|x| *x *= scale);
    let norm = square.chunks_exact(d).fold(T::ZERO, |sum, row| sum + row.iter().fold(T::ZERO, |sum, &x| sum + x * x)).sqrt();
    square.iter_mut().for_each(|x| *x /= norm);
}

/// Calls `f(row, column)` for every element below the diagonal of a `d x d` square, tile by tile, so that the lines of the mirrored
/// elements stay in the cache.
#[inline(always)]
fn below_diagonal(d: usize, mut f: impl FnMut(usize, usize)) {
    const TILE: usize = 16;
    for top in (0..d).step_by(TILE) {
        for left in (0..=top).step_by(TILE) {
            for i in top..d.min(top + TILE) {
                for j in left..i.min(left + TILE) {
                    f(i, j);
                }
            }
        }
    }
}

/// Copies the lower triangle to the upper one.
pub(crate) fn mirror_up<T: Scalar>(square: &mut [T], d: usize) {
    below_diagonal(d, |i, j| square[j * d + i] = square[i * d + j]);
}

/// Copies the upper triangle to the lower one.
pub(crate) fn mirror_down<T: Scalar>(square: &mut [T], d: usize) {
    below_diagonal(d, |i, j| square[i * d + j] = square[j * d + i]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linalg::Portable;
    use crate::passes::tests::in_parts;

    #[test]
    fn pack_and_unpack_are_inverse_and_average_agrees_with_both() {
        for d in 1..6 {
            let mut square = [0.0f64; 25];
            for i in 0..d {
                for j in 0..=i {
                    square[i * d + j] = (10 * i + j) as f64;
                    square[j * d + i] = (10 * i + j) as f64;
                }
            }
            let len = triangle_len(d).unwrap();
            let (mut packed, mut back) = ([0.0; 15], [0.0; 25]);
            pack(&mut packed[..len], &square[..d * d], d);
            assert_eq!(packed[len - 1], square[d * d - 1]);
            unpack(&packed[..len], &mut back[..d * d], d);
            assert_eq!(back[..d * d], square[..d * d]);

            let mut averaged = back;
            average_into_square(&Portable, &packed[..len], &mut averaged[..d * d], d, 0.25);
            assert_eq!(averaged[..d * d], square[..d * d], "the average of equals");
            let doubled = back.map(|x| 2.0 * x);
            average(&Portable, &mut packed[..len], &doubled[..d * d], d, 0.5);
            assert_eq!(packed[len - 1], 1.5 * square[d * d - 1]);
        }
        assert_eq!(triangle_len(usize::MAX), None);
        assert_eq!(triangle_len(usize::MAX - 1), None);
    }

    #[test]
    fn parts_of_a_triangle_are_averaged_as_the_whole() {
        const D: usize = 9;
        let delta: [f32; D * D] = core::array::from_fn(|i| (i * 7 % 31) as f32);
        let old: [f32; D * (D + 1) / 2] = core::array::from_fn(|i| (i * 5 % 17) as f32);
        let mut whole = old;
        average(&Portable, &mut whole, &delta, D, 0.25);
        assert_eq!(whole[1], 0.25 * old[1] + 0.75 * delta[D]);
        for each in 1..=old.len() {
            let mut packed = old;
            in_parts(Average { packed: &mut packed, delta: &delta, d: D, row: 0, beta: 0.25 }, each);
            assert_eq!(packed, whole, "{each}");
        }
    }
}
