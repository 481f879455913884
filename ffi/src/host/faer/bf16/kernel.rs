//! The register tile: `MR` rows by 32 columns of `C` in `2 MR` accumulators.

use core::arch::x86_64::*;
use core::mem::transmute;

/// Columns of a tile.
pub(super) const NR: usize = 32;
/// Rows of the highest tile.
pub(super) const MR_MAX: usize = 14;

/// Where a tile goes: contiguous rows of `C`, the factor, and whether `C` is added to.
#[derive(Clone, Copy)]
pub(super) struct Tile {
    pub c: *mut f32,
    pub row_stride: isize,
    pub alpha: f32,
    pub add: bool,
}

/// Which elements of a tile are written: `rows x cols` of it, and of row `r` the columns from `from + r` up to `to + r`.
#[derive(Clone, Copy)]
pub(super) struct Bounds {
    pub rows: usize,
    pub cols: usize,
    /// [`isize::MIN`]: no bound.
    pub from: isize,
    /// [`isize::MAX`]: no bound.
    pub to: isize,
}

/// Depth in pairs, a panel of `A`, one of `B`, and what to do with their product.
///
/// # Safety
/// The processor has AVX-512 F, BW, VL and BF16. The panels are as `pack` writes them, that of `B` on a line of the cache. The elements that
/// the bounds name are writable, all of the tile's without them.
pub(super) type Kernel = unsafe fn(pairs: usize, a: *const u32, b: *const u32, tile: Tile, bounds: Option<Bounds>);

/// The kernel of `mr` rows.
pub(super) fn select(mr: usize) -> Kernel {
    const TABLE: [Kernel; MR_MAX] = [
        tile::<1>, tile::<2>, tile::<3>, tile::<4>, tile::<5>, tile::<6>, tile::<7>, tile::<8>, tile::<9>, tile::<10>, tile::<11>,
        tile::<12>, tile::<13>, tile::<14>,
    ];
    TABLE[mr - 1]
}

/// # Safety
/// That of [`Kernel`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
unsafe fn tile<const MR: usize>(pairs: usize, a: *const u32, b: *const u32, tile: Tile, bounds: Option<Bounds>) {
    if bounds.is_none() {
        for r in 0..MR {
            let row = tile.c.wrapping_offset(r as isize * tile.row_stride);
            // The tile's lines are wanted only after the loop, so their misses hide behind it.
            #[allow(unused_unsafe, reason = "safe to call in later versions of Rust only")]
            // SAFETY: a prefetch may name any address.
            unsafe {
                _mm_prefetch::<_MM_HINT_ET0>(row.cast());
                _mm_prefetch::<_MM_HINT_ET0>(row.wrapping_add(16).cast());
                _mm_prefetch::<_MM_HINT_ET0>(row.wrapping_add(31).cast());
            }
        }
    }
    let mut sums = [[_mm512_setzero_ps(); 2]; MR];
    for pair in 0..pairs {
        // SAFETY: the panels hold `pairs` pairs of NR and of MR words, the former on lines of the cache. Vectors have no invalid bits.
        unsafe {
            let b = b.add(pair * NR);
            let b = [_mm512_load_si512(b.cast()), _mm512_load_si512(b.add(16).cast())].map(|b| transmute::<__m512i, __m512bh>(b));
            for (r, sums) in sums.iter_mut().enumerate() {
                let a = transmute::<__m512i, __m512bh>(_mm512_set1_epi32((*a.add(pair * MR + r)).cast_signed()));
                sums[0] = _mm512_dpbf16_ps(sums[0], a, b[0]);
                sums[1] = _mm512_dpbf16_ps(sums[1], a, b[1]);
            }
        }
    }
    let alpha = _mm512_set1_ps(tile.alpha);
    let Some(bounds) = bounds else {
        for (r, sums) in sums.iter().enumerate() {
            for (v, &sum) in sums.iter().enumerate() {
                // SAFETY: without bounds the tile has MR rows of 32 writable elements.
                unsafe {
                    let at = tile.c.offset(r as isize * tile.row_stride).add(16 * v);
                    let value = if tile.add { _mm512_fmadd_ps(alpha, sum, _mm512_loadu_ps(at)) } else { _mm512_mul_ps(alpha, sum) };
                    _mm512_storeu_ps(at, value);
                }
            }
        }
        return;
    };
    for (r, sums) in sums.iter().enumerate().take(bounds.rows) {
        let row = tile.c.wrapping_offset(r as isize * tile.row_stride);
        let first = bounds.from.saturating_add(r as isize).clamp(0, 32) as u32;
        let end = bounds.to.saturating_add(r as isize + 1).clamp(0, bounds.cols as isize) as u32;
        let columns = ((1u64 << end) - 1) & !((1u64 << first) - 1);
        for (v, &sum) in sums.iter().enumerate() {
            let (mask, at) = ((columns >> (16 * v)) as u16, row.wrapping_add(16 * v));
            // SAFETY: the mask names elements inside of the bounds, and others are not touched.
            unsafe {
                let value = if tile.add { _mm512_fmadd_ps(alpha, sum, _mm512_maskz_loadu_ps(mask, at)) } else { _mm512_mul_ps(alpha, sum) };
                _mm512_mask_storeu_ps(at, mask, value);
            }
        }
    }
}
