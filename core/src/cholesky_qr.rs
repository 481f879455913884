//! `Qhat` of `S = Qhat R` from Cholesky factors instead of reflections.
//!
//! `S = C C^T` is symmetric and positive definite, so with the QR decomposition `C = Qhat R` of its factor, `S = Qhat (R C^T)` is its own:
//! the second bracket is a product of two upper triangles. And `R` is the Cholesky factor of `C^T C = R^T R`. So two factorisations, a
//! product of triangles and a solve give `Qhat = C R^-1`, and `Qhat^T S Qhat = R R^T` is one more product of triangles: `7/3 d^3` operations
//! in all, nearly all of them in products, against `17/3 d^3` of reflections and two products with `Qhat`. (One step of the LR iteration
//! of Rutishauser, and of CholeskyQR2 by Yamamoto et al., 2015.)
//!
//! Taking the Gram matrix of `C` and not that of `S`, as CholeskyQR2 would, squares a condition number that is only the root of that of
//! `S`. No columns need scaling for it: a Cholesky factor turns with the scale of its rows and columns exactly. `Qhat` loses orthogonality
//! by about `eps cond(C D)^2`, where `D` makes the columns of `C` unit vectors; near an eigenbasis that is a small number. What was lost is
//! looked at afterwards; if it is too much the same is done once more to `Qhat`, and if that does not help or a pivot is not positive,
//! reflections do it.

use crate::Scalar;
use crate::linalg::{LinAlg, LinAlgError, MatMut, MatRef, Pass};
use crate::rows::dot;

/// `Qhat` into `square`, which comes in with both triangles of `S`, and the lower triangle of `Qhat^T S Qhat` into `turned`, row-major,
/// of which the rest is left. `square` and the two others, which are overwritten, are column-major; all are `d x d`, `probe` has `2 d`
/// elements.
///
/// # Errors
/// [`LinAlgError::NotPositive`] or [`LinAlgError::NotFinite`] where `S` is too near to a singular matrix; the backend's own. The outputs are then unspecified.
pub(crate) fn cholesky_qr<T: Scalar, L: LinAlg<T>>(
    linalg: &mut L,
    d: usize,
    square: &mut [T],
    [factor, second]: [&mut [T]; 2],
    turned: &mut [T],
    probe: &mut [T],
) -> Result<(), LinAlgError> {
    // Near 1, so that neither products nor pivots leave the range.
    let largest = square.iter().step_by(d + 1).fold(T::ZERO, |largest, &x| largest.max(x));
    if !largest.is_finite_bits() || largest <= T::ZERO {
        return Err(LinAlgError::NotPositive);
    }
    let (scale, unscale) = (T::exp2i(-largest.exponent()), T::exp2i(largest.exponent()));
    square.iter_mut().for_each(|x| *x *= scale);
    linalg.cholesky(columns_mut(square, d))?;
    linalg.upper_times(columns_mut(factor, d), columns(square, d).t(), columns(square, d))?;
    orthogonalise(linalg, d, square, factor)?;
    if !is_orthogonal(linalg, d, square, probe) {
        linalg.matmul_lower(columns_mut(second, d), false, T::ONE, columns(square, d).t(), columns(square, d))?;
        orthogonalise(linalg, d, square, second)?;
        if !is_orthogonal(linalg, d, square, probe) {
            return Err(LinAlgError::NotPositive);
        }
        // R <- R2 R, whose transpose is the product of two lower triangles.
        linalg.matmul_lower(MatMut::row_major(turned, d, d), false, T::ONE, columns(factor, d), columns(second, d))?;
        for (j, column) in factor.chunks_exact_mut(d).enumerate() {
            column[j..].iter_mut().zip(turned[j * d + j..].iter().step_by(d)).for_each(|(to, &x)| *to = x);
        }
    }
    linalg.upper_times(MatMut::row_major(turned, d, d), columns(factor, d).t(), columns(factor, d))?;
    for (i, row) in turned.chunks_exact_mut(d).enumerate() {
        row[..=i].iter_mut().for_each(|x| *x *= unscale);
    }
    Ok(())
}

fn columns<T: Scalar>(square: &[T], d: usize) -> MatRef<'_, T> {
    MatRef::row_major(square, d, d).t()
}

fn columns_mut<T: Scalar>(square: &mut [T], d: usize) -> MatMut<'_, T> {
    MatMut::row_major(square, d, d).t()
}

/// `X <- X R^-1` where `X^T X = R^T R`: the lower triangle of this product comes in in `gram` and becomes `R^T`.
fn orthogonalise<T: Scalar, L: LinAlg<T>>(linalg: &mut L, d: usize, x: &mut [T], gram: &mut [T]) -> Result<(), LinAlgError> {
    linalg.cholesky(columns_mut(gram, d))?;
    linalg.solve_lower(columns_mut(x, d), columns(gram, d))
}

/// Whether `Q Q^T x = x` to the accuracy of reflections. An error in `Q Q^T`, whose columns are mostly one near-dependence, is missed only
/// by an `x` that happens to be orthogonal to it: hence two vectors, of numbers without a pattern. `probe` has room for two vectors.
fn is_orthogonal<T: Scalar, L: LinAlg<T>>(linalg: &L, d: usize, q: &[T], probe: &mut [T]) -> bool {
    let (x, image) = probe[..2 * d].split_at_mut(d);
    // Reflections leave 0.3 to 0.6 eps d, and so does the first pass near an eigenbasis.
    let tolerance = T::EPSILON * T::from_usize(2 * d);
    [0x9e37_79b9_u32, 0x85eb_ca6b].iter().all(|&seed| {
        for (i, (x, image)) in x.iter_mut().zip(&mut *image).enumerate() {
            let bits = (i as u32 + 1).wrapping_mul(seed);
            let mixed = (bits ^ (bits >> 15)).wrapping_mul(0x2c1b_3c6d);
            // In [-2, 2), with a mean square of 4/3.
            *x = (T::from_usize((mixed >> 8) as usize) * T::exp2i(-23) - T::ONE) * T::exp2i(1);
            *image = -*x;
        }
        linalg.vectorise(ThereAndBack { d, q, x, image });
        image.iter().all(|x| x.is_finite_bits()) && dot(image, image).sqrt() <= tolerance
    })
}

/// `image <- image + Q Q^T x`.
struct ThereAndBack<'a, T> {
    d: usize,
    q: &'a [T],
    x: &'a [T],
    image: &'a mut [T],
}

impl<T: Scalar, L> Pass<L> for ThereAndBack<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self, _: &L) {
        for column in self.q.chunks_exact(self.d) {
            let along = dot(column, self.x);
            for (image, &q) in self.image.iter_mut().zip(column) {
                *image += q * along;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linalg::Portable;

    const D: usize = 24;
    type Square = [f32; D * D];

    /// `diag(scale) (shift I + W W^T) diag(scale)` with `W` of `rank` columns.
    fn factor(rank: usize, shift: f32, scale: fn(usize) -> f32) -> Square {
        let w = |i: usize, k: usize| ((i * 37 + k * 101 + i * k * 13) % 29) as f32 / 14.0 - 1.0;
        core::array::from_fn(|at| {
            let (i, j) = (at / D, at % D);
            let dot: f32 = (0..rank).map(|k| w(i, k) * w(j, k)).sum();
            (dot + if i == j { shift } else { 0.0 }) * scale(i) * scale(j)
        })
    }

    /// `Qhat` (columns contiguous) and `Qhat^T S Qhat`.
    fn by_cholesky(s: &Square) -> Result<(Square, Square), LinAlgError> {
        let (mut q, mut turned, mut factor, mut second) = (*s, *s, *s, *s);
        cholesky_qr(&mut Portable, D, &mut q, [&mut factor, &mut second], &mut turned, &mut [0.0; 2 * D])?;
        Ok((q, turned))
    }

    fn by_reflections(s: &Square) -> Square {
        let (mut a, mut q) = (*s, [0.0; D * D]);
        Portable.qr(MatMut::row_major(&mut a, D, D), columns_mut(&mut q, D), &mut [0.0; 4 * D]).unwrap();
        q
    }

    fn orthogonality(q: &Square) -> f32 {
        let gram = |i: usize, j: usize| -> f32 { (0..D).map(|x| q[i * D + x] * q[j * D + x]).sum() };
        (0..D * D).map(|at| (gram(at / D, at % D) - f32::from(u8::from(at / D == at % D))).abs()).fold(0.0, f32::max)
    }

    #[test]
    fn it_is_the_factor_of_reflections_and_turns_the_factor() {
        for s in
            [factor(40, 4.0, |_| 1.0), factor(40, 4.0, |i| 0.6f32.powi(i as i32)), factor(40, 4.0, |_| 1e-12), factor(40, 4.0, |_| 1e12)]
        {
            let ((q, turned), expected) = (by_cholesky(&s).unwrap(), by_reflections(&s));
            assert!(orthogonality(&q) < 1e-6);
            assert!(q.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 2e-5));
            for i in 0..D {
                for j in 0..D {
                    if j > i {
                        assert_eq!(turned[i * D + j], s[i * D + j], "the strict upper triangle is not written");
                        continue;
                    }
                    let element = |q: &Square| -> f64 {
                        let sq = |x: usize| -> f64 { (0..D).map(|y| f64::from(s[x * D + y]) * f64::from(q[j * D + y])).sum() };
                        (0..D).map(|x| f64::from(q[i * D + x]) * sq(x)).sum()
                    };
                    let largest = f64::from(s[0]);
                    assert!((element(&q) - f64::from(turned[i * D + j])).abs() < 4e-6 * 24.0 * largest, "{i} {j}");
                }
            }
        }
    }

    #[test]
    fn a_second_pass_mends_what_the_first_one_lost() {
        // Nearly singular, and ascending: the columns of its Cholesky factor are far from orthogonal.
        let s = factor(6, 2e-3, |i| 1.2f32.powi(i as i32 - D as i32));
        let (mut q, mut gram) = (s, [0.0; D * D]);
        Portable.cholesky(columns_mut(&mut q, D)).unwrap();
        Portable.upper_times(columns_mut(&mut gram, D), columns(&q, D).t(), columns(&q, D)).unwrap();
        orthogonalise(&mut Portable, D, &mut q, &mut gram).unwrap();
        let first = orthogonality(&q);
        assert!(!is_orthogonal(&Portable, D, &q, &mut [0.0; 2 * D]), "one pass leaves {first:e}");
        let (q, _) = by_cholesky(&s).unwrap();
        assert!(orthogonality(&q) < 1e-6 && first > 1e-5, "{:e} after {first:e}", orthogonality(&q));
    }

    #[test]
    fn singular_and_other_unusable_factors_are_refused() {
        let mut with_nan = factor(40, 4.0, |_| 1.0);
        with_nan[D + 1] = f32::NAN;
        for s in [factor(6, 0.0, |_| 1.0), [0.0; D * D], with_nan] {
            assert!(matches!(by_cholesky(&s), Err(LinAlgError::NotPositive | LinAlgError::NotFinite)));
        }
    }
}
