//! A product with a triangular factor, which leaves out the zeros.

use ::faer::linalg::matmul::matmul;
use ::faer::linalg::matmul::triangular::{self, BlockStructure};
use ::faer::traits::RealField;
use ::faer::{Accum, Par};
use klshampoo::Scalar;
use klshampoo::linalg::{LinAlg, LinAlgError, MatMut, MatRef, Portable, triangle_block};

use super::product::{view, view_mut};
use super::tiles::{self, Shared, Team};

/// See [`LinAlg::upper_times`]. What it reads is contiguous along the summed index where the step has it, so nothing is copied.
pub(super) fn upper_times<T: Scalar + RealField>(
    mut c: MatMut<'_, T>,
    u: MatRef<'_, T>,
    b: MatRef<'_, T>,
    team: Team<'_>,
) -> Result<(), LinAlgError> {
    let d = u.rows();
    let (Some(to), Some(left), Some(right)) = (view_mut(&mut c), view(u), view(b)) else {
        return Portable.upper_times(c, u, b);
    };
    let (to, tiles) = (Shared::new(to), tiles::lower_pieces(d));
    team.run(tiles, |tile| {
        // Those with the longest sums come first, and what threads wait for at the end is short.
        let (rows, cols) = tiles::lower_piece(d, tiles - 1 - tile);
        let on_diagonal = rows == cols;
        for start in rows.clone().step_by(triangle_block(d)) {
            let end = rows.end.min(start + triangle_block(d));
            let (left, right) = (left.get(start..end, start..), right.subrows(start, d - start));
            let cols = if on_diagonal { cols.start..start } else { cols.clone() };
            if !cols.is_empty() {
                // SAFETY: tiles are disjoint, and so are their parts; each is computed once.
                let to = unsafe { to.part(start..end, cols.clone()) };
                matmul(to, Accum::Replace, left, right.subcols(cols.start, cols.len()), T::ONE, Par::Seq);
            }
            if on_diagonal {
                let (lower, full) = (BlockStructure::TriangularLower, BlockStructure::Rectangular);
                // SAFETY: as above.
                let to = unsafe { to.part(start..end, start..end) };
                let right = right.subcols(start, end - start);
                triangular::matmul(to, lower, Accum::Replace, left, full, right, full, T::ONE, Par::Seq);
            }
        }
    });
    Ok(())
}
