//! Rounding `f32` to bfloat16 and laying it out for the kernel.
//!
//! Both operands have one format. A panel is `width` lanes wide (rows of `A`, columns of `B`); for each pair `(k, k + 1)` of the depth it
//! holds a word of 32 bits per lane, the element of `k` in its low half and that of `k + 1` in its high half. The missing half of an odd
//! depth is zero, and so are lanes past the edge.

use core::arch::x86_64::*;
use core::mem::transmute;

use ::faer::MatRef;

/// Words that packing `lanes x depth` into panels of a width takes.
pub(super) fn packed_words(lanes: usize, depth: usize, width: usize) -> usize {
    lanes.next_multiple_of(width) * depth.div_ceil(2)
}

/// Depth that all panels take before the next, where lanes are adjacent and a step of the depth is a page: neighbouring panels share
/// lines of the cache and pages, which a long column would evict before the next panel came.
const CHUNK: usize = 16;

/// Strides of the depth, in elements, from which that pays.
const FAR: usize = 1024;

/// The first `n` of 16 lanes.
#[inline(always)]
fn first(n: usize) -> __mmask16 {
    if n >= 16 { u16::MAX } else { (1u16 << n) - 1 }
}

/// Packs `from`, lanes x depth, into panels of a width, which is 32 or at most 16.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub(super) fn pack(from: MatRef<'_, f32>, width: usize, to: &mut [u32]) {
    let (lanes, depth) = (from.nrows(), from.ncols());
    assert!(width == 32 || width <= 16);
    let to = &mut to[..packed_words(lanes, depth, width)];
    let words = width * depth.div_ceil(2);
    if words == 0 {
        return;
    }
    if from.row_stride() == 1 {
        let chunk = if from.col_stride().unsigned_abs() >= FAR { CHUNK } else { depth.next_multiple_of(2) };
        for k in (0..depth).step_by(chunk) {
            for (p, panel) in to.chunks_exact_mut(words).enumerate() {
                let part = from.submatrix(p * width, k, width.min(lanes - p * width), chunk.min(depth - k));
                let panel = &mut panel[k / 2 * width..];
                if width == 32 {
                    lanes_contiguous::<2>(part, width, panel);
                } else {
                    lanes_contiguous::<1>(part, width, panel);
                }
            }
        }
        return;
    }
    for (p, panel) in to.chunks_exact_mut(words).enumerate() {
        let part = from.subrows(p * width, width.min(lanes - p * width));
        if from.col_stride() == 1 {
            for lane in (0..width).step_by(16) {
                let start = lane.min(part.nrows());
                let group = part.subrows(start, (part.nrows() - start).min(16));
                let written = (width - lane).min(16);
                if group.nrows() == 16 {
                    depth_contiguous::<true>(group, width, written, &mut panel[lane..]);
                } else {
                    depth_contiguous::<false>(group, width, written, &mut panel[lane..]);
                }
            }
        } else {
            strided(part, width, panel);
        }
    }
}

/// Lanes adjacent in memory, in `G` vectors: those of `k` and `k + 1` are rounded into one vector and a permutation pairs them.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
fn lanes_contiguous<const G: usize>(from: MatRef<'_, f32>, width: usize, to: &mut [u32]) {
    let (lanes, depth) = (from.nrows(), from.ncols());
    assert!(lanes <= width && width <= 16 * G && to.len() >= packed_words(width, depth, width));
    let order: [i16; 32] = core::array::from_fn(|i| (i / 2 + i % 2 * 16) as i16);
    // SAFETY: 32 elements of 16 bits.
    let order = unsafe { _mm512_loadu_si512(order.as_ptr().cast()) };
    let load: [__mmask16; G] = core::array::from_fn(|g| first(lanes.saturating_sub(16 * g)));
    let store: [__mmask16; G] = core::array::from_fn(|g| first(width.saturating_sub(16 * g)));
    let (ptr, stride) = (from.as_ptr(), from.col_stride());
    for k in (0..depth).step_by(2) {
        let low = ptr.wrapping_offset(k as isize * stride);
        let high = low.wrapping_offset(stride);
        for g in 0..G {
            // SAFETY: masks name lanes of `from` to read, those past an odd depth not at all, and words of `to` to write, of which there are
            // enough. Vectors have no invalid bits.
            unsafe {
                let x = _mm512_maskz_loadu_ps(load[g], low.wrapping_add(16 * g));
                let y = _mm512_maskz_loadu_ps(if k + 1 < depth { load[g] } else { 0 }, high.wrapping_add(16 * g));
                let pairs = _mm512_permutexvar_epi16(order, transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(y, x)));
                _mm512_mask_storeu_epi32(to.as_mut_ptr().wrapping_add(k / 2 * width + 16 * g).cast(), store[g], pairs);
            }
        }
    }
}

/// Depth adjacent in memory, of at most 16 lanes: 32 values of each become 16 words, and a transposition puts the lanes side by side.
/// `FULL` says that there are 16 lanes; `written` is how many of each row of words are written.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
fn depth_contiguous<const FULL: bool>(from: MatRef<'_, f32>, width: usize, written: usize, to: &mut [u32]) {
    let (lanes, depth) = (from.nrows(), from.ncols());
    let words = depth.div_ceil(2);
    assert!(if FULL { lanes == 16 } else { lanes <= 16 } && written <= 16 && to.len() >= (words - 1) * width + written);
    let store = first(written);
    let (ptr, stride) = (from.as_ptr(), from.row_stride());
    let mut k = 0;
    while k + 32 <= depth {
        let mut rows = [_mm512_setzero_si512(); 16];
        for (lane, row) in rows.iter_mut().enumerate() {
            if FULL || lane < lanes {
                // SAFETY: 32 elements of a lane that is there. Vectors have no invalid bits.
                unsafe {
                    let at = ptr.offset(lane as isize * stride).add(k);
                    let halves = _mm512_cvtne2ps_pbh(_mm512_loadu_ps(at.add(16)), _mm512_loadu_ps(at));
                    *row = transmute::<__m512bh, __m512i>(halves);
                }
            }
        }
        for (p, row) in transpose(rows).into_iter().enumerate() {
            // SAFETY: `to` has room for row k / 2 + p, as the assertion says.
            unsafe { _mm512_mask_storeu_epi32(to.as_mut_ptr().add((k / 2 + p) * width).cast(), store, row) };
        }
        k += 32;
    }
    if k < depth {
        let rest = depth - k;
        let (low, high) = (first(rest), first(rest.saturating_sub(16)));
        let mut rows = [_mm512_setzero_si512(); 16];
        for (lane, row) in rows.iter_mut().enumerate().take(lanes) {
            // SAFETY: masks name the elements of the lane that are left. Vectors have no invalid bits.
            unsafe {
                let at = ptr.offset(lane as isize * stride).add(k);
                let halves = _mm512_cvtne2ps_pbh(_mm512_maskz_loadu_ps(high, at.wrapping_add(16)), _mm512_maskz_loadu_ps(low, at));
                *row = transmute::<__m512bh, __m512i>(halves);
            }
        }
        for (p, row) in transpose(rows).into_iter().enumerate().take(rest.div_ceil(2)) {
            // SAFETY: as above.
            unsafe { _mm512_mask_storeu_epi32(to.as_mut_ptr().add((k / 2 + p) * width).cast(), store, row) };
        }
    }
}

/// Of 16 x 16 words.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
fn transpose(rows: [__m512i; 16]) -> [__m512i; 16] {
    let mut pairs = rows;
    for i in (0..16).step_by(2) {
        pairs[i] = _mm512_unpacklo_epi32(rows[i], rows[i + 1]);
        pairs[i + 1] = _mm512_unpackhi_epi32(rows[i], rows[i + 1]);
    }
    // Element 4q + c holds, in its 128-bit block b, column 4b + c of the rows 4q to 4q + 3.
    let mut fours = pairs;
    for i in (0..16).step_by(4) {
        fours[i] = _mm512_unpacklo_epi64(pairs[i], pairs[i + 2]);
        fours[i + 1] = _mm512_unpackhi_epi64(pairs[i], pairs[i + 2]);
        fours[i + 2] = _mm512_unpacklo_epi64(pairs[i + 1], pairs[i + 3]);
        fours[i + 3] = _mm512_unpackhi_epi64(pairs[i + 1], pairs[i + 3]);
    }
    let mut columns = rows;
    for c in 0..4 {
        let even_low = _mm512_shuffle_i32x4::<0x88>(fours[c], fours[4 + c]);
        let odd_low = _mm512_shuffle_i32x4::<0xdd>(fours[c], fours[4 + c]);
        let even_high = _mm512_shuffle_i32x4::<0x88>(fours[8 + c], fours[12 + c]);
        let odd_high = _mm512_shuffle_i32x4::<0xdd>(fours[8 + c], fours[12 + c]);
        columns[c] = _mm512_shuffle_i32x4::<0x88>(even_low, even_high);
        columns[8 + c] = _mm512_shuffle_i32x4::<0xdd>(even_low, even_high);
        columns[4 + c] = _mm512_shuffle_i32x4::<0x88>(odd_low, odd_high);
        columns[12 + c] = _mm512_shuffle_i32x4::<0xdd>(odd_low, odd_high);
    }
    columns
}

/// Neither is adjacent: 16 pairs are gathered, then rounded.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
fn strided(from: MatRef<'_, f32>, width: usize, to: &mut [u32]) {
    let (lanes, depth) = (from.nrows(), from.ncols());
    for (p, row) in to.chunks_exact_mut(width).enumerate() {
        for (g, words) in row.chunks_mut(16).enumerate() {
            let mut pairs = [[0f32; 2]; 16];
            for (i, pair) in pairs.iter_mut().enumerate().take(lanes.saturating_sub(16 * g)) {
                for (half, value) in pair.iter_mut().enumerate().take(depth - 2 * p) {
                    *value = from[(16 * g + i, 2 * p + half)];
                }
            }
            let values = pairs.as_flattened().as_ptr();
            // SAFETY: 32 values to read, and words to write as many as the mask names. Vectors have no invalid bits.
            unsafe {
                let halves = _mm512_cvtne2ps_pbh(_mm512_loadu_ps(values.add(16)), _mm512_loadu_ps(values));
                _mm512_mask_storeu_epi32(words.as_mut_ptr().cast(), first(words.len()), transmute::<__m512bh, __m512i>(halves));
            }
        }
    }
}
