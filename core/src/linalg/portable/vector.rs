//! Loops over contiguous elements, each with one fixed order of its sums.

use super::VECTORS;
use crate::Scalar;
use crate::rows::sums_of_lanes;

/// Partial sums of a dot product. Fixed for every target and element type: it is part of what the result is.
pub(super) const LANES: usize = 8;

/// The next `LANES` elements from `start`, as an array.
#[inline]
fn lanes<T: Scalar>(x: &[T], start: usize) -> [T; LANES] {
    let mut out = [T::ZERO; LANES];
    out.copy_from_slice(&x[start..start + LANES]);
    out
}

/// Adds the partial sums pairwise.
#[inline]
pub(super) fn fold<T: Scalar>(mut sums: [T; LANES]) -> T {
    let mut half = LANES / 2;
    while half > 0 {
        for l in 0..half {
            let high = sums[l + half];
            sums[l] += high;
        }
        half /= 2;
    }
    sums[0]
}

/// The dot products of several vectors with `v`; each has the bits that it would have alone.
#[inline]
pub(super) fn dots<T: Scalar, const R: usize>(rows: [&[T]; R], v: &[T]) -> [T; R] {
    let rows = rows.map(|row| &row[..v.len()]);
    let mut sums = [[T::ZERO; LANES]; R];
    let whole = v.len() - v.len() % LANES;
    for start in (0..whole).step_by(LANES) {
        let vs = lanes(v, start);
        for r in 0..R {
            let xs = lanes(rows[r], start);
            for l in 0..LANES {
                sums[r][l] += xs[l] * vs[l];
            }
        }
    }
    for (l, k) in (whole..v.len()).enumerate() {
        for r in 0..R {
            sums[r][l] += rows[r][k] * v[k];
        }
    }
    sums.map(fold)
}

/// The dot product of two vectors of equal length.
#[inline]
pub(super) fn dot<T: Scalar>(x: &[T], v: &[T]) -> T {
    if VECTORS { dots([x], v)[0] } else { fold(sums_of_lanes(&x[..v.len()], v)) }
}

/// Applies `f` to pairs of elements of two vectors of equal length, which it may change.
///
/// Whole lanes are read before any is written, so that it vectorises without a proof that the two do not overlap.
#[inline(always)]
fn for_pairs<T: Scalar>(x: &mut [T], y: &mut [T], f: impl Fn(T, T) -> (T, T)) {
    if !VECTORS {
        return x.iter_mut().zip(y).for_each(|(x, y)| (*x, *y) = f(*x, *y));
    }
    let mut x_chunks = x.chunks_exact_mut(LANES);
    let mut y_chunks = y.chunks_exact_mut(LANES);
    for (x, y) in (&mut x_chunks).zip(&mut y_chunks) {
        let (old_x, old_y) = (lanes(x, 0), lanes(y, 0));
        let (mut new_x, mut new_y) = (old_x, old_y);
        for l in 0..LANES {
            (new_x[l], new_y[l]) = f(old_x[l], old_y[l]);
        }
        x.copy_from_slice(&new_x);
        y.copy_from_slice(&new_y);
    }
    for (x, y) in x_chunks.into_remainder().iter_mut().zip(y_chunks.into_remainder()) {
        (*x, *y) = f(*x, *y);
    }
}

/// `y += alpha x`
#[inline]
pub(super) fn add_scaled<T: Scalar>(y: &mut [T], alpha: T, x: &[T]) {
    if !VECTORS {
        return y.iter_mut().zip(x).for_each(|(y, &x)| *y += alpha * x);
    }
    let mut y_chunks = y.chunks_exact_mut(LANES);
    let mut x_chunks = x.chunks_exact(LANES);
    for (y, x) in (&mut y_chunks).zip(&mut x_chunks) {
        let (mut sums, x) = (lanes(y, 0), lanes(x, 0));
        for l in 0..LANES {
            sums[l] += alpha * x[l];
        }
        y.copy_from_slice(&sums);
    }
    for (y, &x) in y_chunks.into_remainder().iter_mut().zip(x_chunks.remainder()) {
        *y += alpha * x;
    }
}

/// `x *= factor`
#[inline]
pub(super) fn scale<T: Scalar>(x: &mut [T], factor: T) {
    for x in x {
        *x *= factor;
    }
}

/// `(x, y) <- (c x - s y, s x + c y)`
#[inline]
pub(super) fn rotate<T: Scalar>(x: &mut [T], y: &mut [T], c: T, s: T) {
    for_pairs(x, y, |x, y| (c * x - s * y, s * x + c * y));
}

/// The largest magnitude, zero for no elements.
#[inline]
pub(super) fn max_abs<T: Scalar>(x: &[T]) -> T {
    if !VECTORS {
        return x.iter().fold(T::ZERO, |m, x| m.max(x.abs()));
    }
    let mut largest = [T::ZERO; LANES];
    let mut chunks = x.chunks_exact(LANES);
    for chunk in &mut chunks {
        for l in 0..LANES {
            largest[l] = largest[l].max(chunk[l].abs());
        }
    }
    let rest = chunks.remainder().iter().fold(T::ZERO, |m, x| m.max(x.abs()));
    largest.iter().fold(rest, |m, &x| m.max(x))
}

/// Whether no element is NaN or infinite.
#[inline]
pub(super) fn all_finite<T: Scalar>(x: &[T]) -> bool {
    // No early exit, so that it vectorises.
    x.iter().fold(true, |finite, x| finite & x.is_finite_bits())
}

/// A power of two that brings `largest` (not zero) near 1, so that squares neither overflow nor vanish; multiplying by it is exact.
#[inline]
pub(super) fn unit_scale<T: Scalar>(largest: T) -> T {
    T::exp2i(-largest.exponent())
}
