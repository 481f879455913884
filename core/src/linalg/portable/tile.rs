//! The register tile of the products: `MR x NR` accumulators, one per element of `C`, that live in registers for a whole run of `k`.

use crate::Scalar;

/// `acc[r][c] += sum_k a[r][k] b[k][c]`, `k` ascending, for rows of `A` that are contiguous.
#[inline]
pub(super) fn multiply_rows<T: Scalar, const MR: usize, const NR: usize>(acc: &mut [[T; NR]; MR], a: [&[T]; MR], b: &[[T; NR]]) {
    // Equal lengths, stated once: the bounds checks leave the loop.
    let a = a.map(|row| &row[..b.len()]);
    let mut sums = *acc;
    for (k, bk) in b.iter().enumerate() {
        for r in 0..MR {
            let x = a[r][k];
            for c in 0..NR {
                sums[r][c] += x * bk[c];
            }
        }
    }
    *acc = sums;
}

/// `acc[r][c] += sum_k a[k][r] b[k][c]`, `k` ascending, for a packed block of `A`.
#[inline]
pub(super) fn multiply_packed<T: Scalar, const MR: usize, const NR: usize>(acc: &mut [[T; NR]; MR], a: &[[T; MR]], b: &[[T; NR]]) {
    let mut sums = *acc;
    for (ak, bk) in a.iter().zip(b) {
        for r in 0..MR {
            for c in 0..NR {
                sums[r][c] += ak[r] * bk[c];
            }
        }
    }
    *acc = sums;
}
