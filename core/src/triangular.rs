//! Products with a triangular factor, as products of blocks: the zeros are left out, and what is left is large.

use crate::Scalar;
use crate::linalg::{LinAlg, LinAlgError, MatMut, MatRef};

/// Rows of a block of [`LinAlg::upper_times`], for which its cost is predicted: fewer blocks make larger products, more leave out more zeros.
#[must_use]
pub const fn triangle_block(d: usize) -> usize {
    if d >= 512 { 128 } else { 32 }
}

/// See [`LinAlg::upper_times`].
pub(crate) fn upper_times<T: Scalar, L: LinAlg<T>>(
    linalg: &mut L,
    c: MatMut<'_, T>,
    u: MatRef<'_, T>,
    b: MatRef<'_, T>,
) -> Result<(), LinAlgError> {
    let d = u.rows();
    if d <= triangle_block(d) {
        return linalg.matmul_lower(c, false, T::ONE, u, b);
    }
    by_blocks(linalg, c, u, b)
}

#[inline(never)]
fn by_blocks<T: Scalar, L: LinAlg<T>>(linalg: &mut L, mut c: MatMut<'_, T>, u: MatRef<'_, T>, b: MatRef<'_, T>) -> Result<(), LinAlgError> {
    let d = u.rows();
    for start in (0..d).step_by(triangle_block(d)) {
        let rows = triangle_block(d).min(d - start);
        let left = u.part(start..start + rows, start..d);
        if start > 0 {
            linalg.matmul(c.part(start..start + rows, 0..start), false, left, b.part(start..d, 0..start))?;
        }
        let columns = start..start + rows;
        linalg.matmul_lower(c.part(columns.clone(), columns.clone()), false, T::ONE, left, b.part(start..d, columns))?;
    }
    Ok(())
}

/// Floating-point operations of [`upper_times`], about `d^3 / 3`.
pub(crate) const fn upper_times_flops(d: u64) -> u64 {
    let size = triangle_block(d as usize) as u64;
    let (mut start, mut sum) = (0, 0u64);
    while start < d {
        let rows = if size < d - start { size } else { d - start };
        // 2 rows start depth in the rectangle, rows (rows + 1) depth in the triangle.
        let each = (2 * start).saturating_add(rows + 1);
        sum = sum.saturating_add(rows.saturating_mul(d - start).saturating_mul(each));
        start += size;
    }
    sum
}
