//! `A = P T P^T` with a tridiagonal `T`, by Householder reflections from the last row up, on the lower triangle alone.
//!
//! The reflector of row `i` is then a contiguous piece of it. Each reflection is a rank-2 update of the rows before `i` that is held
//! back until the next reflector is known, so that one pass over the triangle does the update and the next product with it.

use super::VECTORS;
use super::householder::{Reflector, reflect_rows, reflector};
use super::square::Square;
use super::vector::{LANES, add_scaled, dot, fold, scale};
use crate::Scalar;

/// The arrays that a reduction fills or uses, `d` elements each.
pub(super) struct Bands<'a, T> {
    /// The diagonal of `T`.
    pub(super) diagonal: &'a mut [T],
    /// `off_diagonal[i]` couples `i` and `i + 1`; the last element is zero.
    pub(super) off_diagonal: &'a mut [T],
    /// The reflectors' `tau`.
    pub(super) taus: &'a mut [T],
    /// Scratch of `2 d` elements.
    pub(super) scratch: &'a mut [T],
}

/// Reduces the lower triangle of `a`, and leaves the reflector of row `i` in `a[i][..i]`.
pub(super) fn tridiagonalise<T: Scalar>(a: &mut Square<'_, T>, bands: &mut Bands<'_, T>) {
    let d = a.d();
    let (mut pending_w, mut product) = bands.scratch[..2 * d].split_at_mut(d);
    bands.taus.fill(T::ZERO);
    bands.off_diagonal.fill(T::ZERO);
    for i in (0..d).rev() {
        let (mut before, mut after) = a.split(i);
        let (mut here, pending) = after.split(1);
        let row = here.row_mut(0);
        // The update held back by row i + 1: A <- A - v w^T - w v^T.
        let held_back = i + 1 < d && bands.taus[i + 1] != T::ZERO;
        let pending = held_back.then(|| (&pending.row(0)[..=i], &pending_w[..=i]));
        if let Some((v, w)) = pending {
            update(&mut row[..=i], v, w, v[i], w[i]);
        }
        bands.diagonal[i] = row[i];
        let Some((pivot, rest)) = row[..i].split_last_mut() else { break };
        let Reflector { tau, beta } = reflector(*pivot, rest);
        *pivot = T::ONE;
        bands.off_diagonal[i - 1] = beta;
        bands.taus[i] = tau;
        if tau == T::ZERO && pending.is_none() {
            // Already reduced here, as all of a diagonal matrix is.
            continue;
        }
        let v = &row[..i];

        // product <- A v, over the lower triangle of the rows before i, which are updated on the way.
        let product_v = &mut product[..i];
        product_v.fill(T::ZERO);
        for (r, line) in before.rows_mut(0, i).enumerate() {
            let (line, last) = line[..=r].split_at_mut(r);
            let last = &mut last[0];
            let along = match pending {
                Some((pv, pw)) => {
                    *last -= pv[r] * pw[r] + pw[r] * pv[r];
                    if !VECTORS {
                        update(line, &pv[..r], &pw[..r], pv[r], pw[r]);
                        multiply(line, &v[..r], v[r], &mut product_v[..r])
                    } else {
                        update_and_multiply(line, &pv[..r], &pw[..r], pv[r], pw[r], &v[..r], v[r], &mut product_v[..r])
                    }
                }
                None => multiply(line, &v[..r], v[r], &mut product_v[..r]),
            };
            product_v[r] += along + *last * v[r];
        }
        // w = tau A v - (tau^2 / 2) (v^T A v) v
        scale(product_v, tau);
        let half = T::ONE / (T::ONE + T::ONE);
        let along = half * tau * dot(product_v, v);
        add_scaled(product_v, -along, v);
        core::mem::swap(&mut pending_w, &mut product);
    }
}

/// `P^T`, row by row, from the reflectors that a reduction left.
pub(super) fn form_transposed<T: Scalar>(basis: &mut Square<'_, T>, reflectors: &Square<'_, T>, taus: &[T]) {
    let d = reflectors.d();
    basis.set_diagonal((0..d).map(|_| T::ONE));
    for (i, &tau) in taus.iter().enumerate() {
        // Rows and columns from i on are still those of the identity.
        reflect_rows(basis, 0, i, 0, &reflectors.row(i)[..i], tau);
    }
}

/// `row -= vr w + wr v`
#[inline]
fn update<T: Scalar>(row: &mut [T], v: &[T], w: &[T], vr: T, wr: T) {
    for ((x, &v), &w) in row.iter_mut().zip(v).zip(w) {
        *x -= vr * w + wr * v;
    }
}

/// `product += nr row`; the result is `row . next`.
#[inline]
fn multiply<T: Scalar>(row: &[T], next: &[T], nr: T, product: &mut [T]) -> T {
    add_scaled(product, nr, row);
    dot(row, next)
}

/// [`update`] and [`multiply`] in one pass, with the bits of the one after the other.
#[inline]
#[allow(clippy::too_many_arguments)]
fn update_and_multiply<T: Scalar>(row: &mut [T], v: &[T], w: &[T], vr: T, wr: T, next: &[T], nr: T, product: &mut [T]) -> T {
    let mut sums = [T::ZERO; LANES];
    let mut rows = row.chunks_exact_mut(LANES);
    let mut products = product.chunks_exact_mut(LANES);
    let others = v.chunks_exact(LANES).zip(w.chunks_exact(LANES)).zip(next.chunks_exact(LANES));
    for ((row, product), ((v, w), next)) in (&mut rows).zip(&mut products).zip(others) {
        let mut x = [T::ZERO; LANES];
        for l in 0..LANES {
            x[l] = row[l] - (vr * w[l] + wr * v[l]);
            sums[l] += x[l] * next[l];
        }
        row.copy_from_slice(&x);
        for l in 0..LANES {
            product[l] += nr * x[l];
        }
    }
    let whole = v.len() - v.len() % LANES;
    for (l, (x, p)) in rows.into_remainder().iter_mut().zip(products.into_remainder()).enumerate() {
        *x -= vr * w[whole + l] + wr * v[whole + l];
        sums[l] += *x * next[whole + l];
        *p += nr * *x;
    }
    fold(sums)
}
