//! How far a basis is from diagonalising its factor.

use crate::Scalar;

/// `S_ij^2 / (S_ii S_jj)` over the pairs `i != j` of a factor in its eigenbasis: 0 where the basis diagonalises it, at most 1.
///
/// A Frobenius ratio would be blind to small eigenvalues, whose inverse roots matter most.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Staleness<T> {
    pub mean: T,
    pub max: T,
}

impl<T: Scalar> Staleness<T> {
    /// Of the lower triangle of a square. Elements beside a zero on the diagonal count as zero.
    pub(crate) fn of(square: &[T], d: usize) -> Self {
        let (mut sum, mut max) = (T::ZERO, T::ZERO);
        for i in 1..d {
            let diagonal = square[i * d + i];
            let mut row_sum = T::ZERO;
            for j in 0..i {
                let (x, other) = (square[i * d + j], square[j * d + j]);
                if diagonal > T::ZERO && other > T::ZERO {
                    // Divided one by one: the product of two diagonal elements may leave the range.
                    let ratio = (x / diagonal) * (x / other);
                    row_sum += ratio;
                    max = max.max(ratio);
                }
            }
            sum += row_sum;
        }
        let pairs = T::from_usize(d) * T::from_usize(d.saturating_sub(1)) * T::exp2i(-1);
        Self { mean: if d > 1 { sum / pairs } else { T::ZERO }, max }
    }
}
