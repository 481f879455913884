//! Products of `f32` matrices whose operands are rounded to bfloat16 (to the nearest, ties to even) while they are packed; sums are `f32`.
//!
//! `vdpbf16ps` does it, so a processor needs AVX-512 F, BW, VL and BF16. It counts subnormal operands as zero and flushes subnormal
//! sums to zero; NaN stays NaN, infinity infinity.
//!
//! An element's bits depend on its row of `A`, its column of `B` and the blocks that the depth is cut into, not on how the rest of the
//! result is cut: threads may share it in any way.
//!
//! One thread of a Zen 5 core (AMD EPYC, 2026-11-23), rounding and packing included, faer's `f32` products against these, GFLOP/s:
//! 208 / 204 at 48^3, 225 / 303 at 64^3, 237 / 348 at 96^3, 199 / 369 at 128^3, 221 / 413 at 256^3, 225 / 448 at 768^3; 208 / 326 for
//! 32 x 768 x 768, 203 / 336 for 768 x 32 x 768, 231 / 324 for 768 x 768 x 32 (the last is the depth).

#[cfg(target_arch = "x86_64")]
mod gemm;
#[cfg(target_arch = "x86_64")]
mod kernel;
#[cfg(target_arch = "x86_64")]
mod pack;

use klshampoo::linalg::{MatMut, MatRef};

use super::product::{view, view_mut};
use super::tiles::{self, Shared, Team};

#[cfg(not(target_arch = "x86_64"))]
pub use self::absent::Bf16;
#[cfg(target_arch = "x86_64")]
pub use self::gemm::Bf16;

/// Processors without such instructions.
#[cfg(not(target_arch = "x86_64"))]
mod absent {
    use super::Region;

    /// No processor of this kind has what bfloat16 products need.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Bf16 {}

    impl Bf16 {
        /// `None`.
        pub fn detect() -> Option<Self> {
            None
        }

        pub(super) fn gemm(
            self,
            _: ::faer::MatMut<'_, f32>,
            _: bool,
            _: f32,
            _: ::faer::MatRef<'_, f32>,
            _: ::faer::MatRef<'_, f32>,
            _: Region,
        ) {
            match self {}
        }
    }
}

/// Which part of a result is computed and written; the diagonal belongs to both triangles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Region {
    Full,
    Lower,
    #[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "the transpose of Lower"))]
    Upper,
}

/// From this many multiplications on, rounding and packing cost less than they gain.
const LARGE: usize = 64 * 64 * 64;

/// Every operand is packed, and columns are filled up to whole register tiles: none of the three sides may be shorter.
const SHORT: usize = 32;

impl Bf16 {
    /// Whether a product is large enough to gain.
    pub(super) fn pays(self, c: &MatMut<'_, f32>, a: &MatRef<'_, f32>) -> bool {
        let (m, n, k) = (c.rows(), c.cols(), a.cols());
        m.min(n).min(k) >= SHORT && m * n * k >= LARGE
    }

    /// `C <- [C +] alpha A B`; false, and nothing done, where a matrix has neither contiguous rows nor columns.
    pub(super) fn matmul(self, mut c: MatMut<'_, f32>, accumulate: bool, a: MatRef<'_, f32>, b: MatRef<'_, f32>, team: Team<'_>) -> bool {
        let (m, n) = (c.rows(), c.cols());
        let (Some(to), Some(left), Some(right)) = (view_mut(&mut c), view(a), view(b)) else { return false };
        if let Team::Alone = team {
            self.gemm(to, accumulate, 1.0, left, right, Region::Full);
            return true;
        }
        let to = Shared::new(to);
        let strips = tiles::pieces(n);
        team.run(tiles::pieces(m) * strips, |tile| {
            let (rows, cols) = (tiles::piece(m, tile / strips), tiles::piece(n, tile % strips));
            let (left, right) = (left.get(rows.clone(), ..), right.get(.., cols.clone()));
            // SAFETY: tiles are disjoint, and each is computed once.
            self.gemm(unsafe { to.part(rows, cols) }, accumulate, 1.0, left, right, Region::Full);
        });
        true
    }

    /// The lower triangle of `C <- [C +] alpha A B`; false, and nothing done, as above.
    pub(super) fn matmul_lower(
        self,
        mut c: MatMut<'_, f32>,
        accumulate: bool,
        alpha: f32,
        a: MatRef<'_, f32>,
        b: MatRef<'_, f32>,
        team: Team<'_>,
    ) -> bool {
        let d = c.rows();
        let (Some(to), Some(left), Some(right)) = (view_mut(&mut c), view(a), view(b)) else { return false };
        if let Team::Alone = team {
            self.gemm(to, accumulate, alpha, left, right, Region::Lower);
            return true;
        }
        let to = Shared::new(to);
        team.run(tiles::lower_pieces(d), |tile| {
            let (rows, cols) = tiles::lower_piece(d, tile);
            let (left, right) = (left.get(rows.clone(), ..), right.get(.., cols.clone()));
            let region = if rows == cols { Region::Lower } else { Region::Full };
            // SAFETY: tiles are disjoint, and each is computed once.
            self.gemm(unsafe { to.part(rows, cols) }, accumulate, alpha, left, right, region);
        });
        true
    }
}
