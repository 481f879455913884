//! The blocked product around the kernel: loops over columns, depth and rows, with packing at each level.

use std::cell::RefCell;

use ::faer::{MatMut, MatRef};

use super::Region;
use super::kernel::{self, Bounds, MR_MAX, NR, Tile};
use super::pack::{pack, packed_words};

/// Says that this processor has the instructions that bfloat16 products need; to be had from [`Bf16::detect`] alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bf16(());

/// Block sizes: `kc` of the depth, `mc` rows of `A` (for the second cache), `nc` columns of `B`; `mr` rows of a register tile at most.
#[derive(Clone, Copy, Debug)]
struct Blocking {
    kc: usize,
    mc: usize,
    nc: usize,
    mr: usize,
}

const BLOCKING: Blocking = Blocking { kc: 768, mc: 256, nc: 768, mr: MR_MAX };

/// Words of 32 bits that a block of `A` (rows are rounded up to whole register tiles), one of `B`, and their alignment take at most.
const PACKED: usize = (BLOCKING.mc + MR_MAX + BLOCKING.nc) * BLOCKING.kc / 2 + LINE;

/// Words in a line of the cache.
const LINE: usize = 16;

std::thread_local! {
    /// Packed blocks: 1.5 MiB for each thread from its first such product on.
    static BLOCKS: RefCell<Vec<u32>> = const { RefCell::new(Vec::new()) };
}

impl Bf16 {
    /// The instructions, if this processor has them.
    pub fn detect() -> Option<Self> {
        let there = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512bf16");
        there.then_some(Self(()))
    }

    /// `C <- [C +] alpha A B` in `region`. Rows or columns of `C` are contiguous.
    pub(super) fn gemm(self, c: MatMut<'_, f32>, accumulate: bool, alpha: f32, a: MatRef<'_, f32>, b: MatRef<'_, f32>, region: Region) {
        self.blocked(c, accumulate, alpha, a, b, region, BLOCKING);
    }

    #[expect(clippy::too_many_arguments, reason = "a product, and how it is cut")]
    fn blocked(
        self,
        c: MatMut<'_, f32>,
        accumulate: bool,
        alpha: f32,
        a: MatRef<'_, f32>,
        b: MatRef<'_, f32>,
        region: Region,
        blocking: Blocking,
    ) {
        assert!(a.nrows() == c.nrows() && b.ncols() == c.ncols() && a.ncols() == b.nrows(), "shapes do not match");
        if c.col_stride() != 1 {
            assert_eq!(c.row_stride(), 1, "rows or columns are contiguous");
            // The kernel writes rows, and those of the transpose are contiguous.
            let region = match region {
                Region::Full => Region::Full,
                Region::Lower => Region::Upper,
                Region::Upper => Region::Lower,
            };
            return self.blocked(c.transpose_mut(), accumulate, alpha, b.transpose(), a.transpose(), region, blocking);
        }
        BLOCKS.with_borrow_mut(|words| {
            if words.is_empty() {
                words.resize(PACKED, 0);
            }
            // No vector of a packed B may cross a line of the cache.
            let start = words.as_ptr().align_offset(LINE * size_of::<u32>());
            // SAFETY: this processor has the instructions.
            unsafe { blocks(c, accumulate, alpha, a, b, region, blocking, &mut words[start..]) }
        });
    }
}

/// As [`Bf16::gemm`], of a `C` with contiguous rows.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
#[expect(clippy::too_many_arguments, reason = "a product, how it is cut, and where to")]
fn blocks(
    c: MatMut<'_, f32>,
    accumulate: bool,
    alpha: f32,
    a: MatRef<'_, f32>,
    b: MatRef<'_, f32>,
    region: Region,
    blocking: Blocking,
    words: &mut [u32],
) {
    let (m, n, k) = (c.nrows(), c.ncols(), a.ncols());
    if m == 0 || n == 0 {
        return;
    }
    // Equal panels instead of a short last one.
    let mr = m.div_ceil(m.div_ceil(blocking.mr));
    let kc = even(k, blocking.kc, 2).max(2);
    let (mc, nc) = (even(m, blocking.mc, mr), even(n, blocking.nc, NR));
    let (b_words, a_words) = words.split_at_mut(packed_words(nc, kc, NR));
    let (to, row_stride) = (c.as_ptr_mut(), c.row_stride());
    for j in (0..n).step_by(nc) {
        let nb = nc.min(n - j);
        // An empty depth still runs one block: it must write zeros.
        for p in (0..k.max(1)).step_by(kc) {
            let kb = kc.min(k - p);
            pack(b.submatrix(p, j, kb, nb).transpose(), NR, b_words);
            for i in (0..m).step_by(mc) {
                let mb = mc.min(m - i);
                let outside = match region {
                    Region::Full => false,
                    Region::Lower => i + mb <= j,
                    Region::Upper => j + nb <= i,
                };
                if outside {
                    continue;
                }
                pack(a.submatrix(i, p, mb, kb), mr, a_words);
                // SAFETY: (i, j) is inside of C.
                let corner = unsafe { to.offset(i as isize * row_stride).add(j) };
                let tile = Tile { c: corner, row_stride, alpha, add: accumulate || p > 0 };
                // SAFETY: C is borrowed for writing, mb x nb of it are there from its corner on, and both operands are packed.
                unsafe { block(tile, (mb, nb, kb.div_ceil(2)), mr, j as isize - i as isize, region, a_words, b_words) };
            }
        }
    }
}

/// Splits `n` into equal blocks of at most `max`, each a multiple of `unit` but the last.
fn even(n: usize, max: usize, unit: usize) -> usize {
    let blocks = n.div_ceil(max.max(unit));
    n.div_ceil(blocks.max(1)).next_multiple_of(unit)
}

/// One packed block of `A` times one of `B`, `m x n` with `pairs` pairs of the depth. `shift` is the block's first column less its
/// first row.
///
/// # Safety
/// `at` describes `m x n` writable elements, and `a` and `b` hold operands that [`pack`] packed in panels of `mr` and [`NR`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
unsafe fn block(at: Tile, (m, n, pairs): (usize, usize, usize), mr: usize, shift: isize, region: Region, a: &[u32], b: &[u32]) {
    let kernel = kernel::select(mr);
    for j in (0..n).step_by(NR) {
        let cols = NR.min(n - j);
        let b = &b[j * pairs..][..NR * pairs];
        for i in (0..m).step_by(mr) {
            let rows = mr.min(m - i);
            // The diagonal passes row r of the tile at column d + r.
            let d = i as isize - j as isize - shift;
            let (mut from, mut to) = (isize::MIN, isize::MAX);
            match region {
                Region::Full => {}
                Region::Lower if d + (rows as isize) <= 0 => continue,
                Region::Lower if d >= cols as isize => {}
                Region::Lower => to = d,
                Region::Upper if d >= cols as isize => break,
                Region::Upper if d + (rows as isize) <= 0 => {}
                Region::Upper => from = d,
            }
            let whole = rows == mr && cols == NR && from == isize::MIN && to == isize::MAX;
            let bounds = (!whole).then_some(Bounds { rows, cols, from, to });
            let a = &a[i * pairs..][..mr * pairs];
            // SAFETY: the tile starts inside of the m x n elements; where it does not lie inside as a whole, the bounds say how far it does.
            // The panels hold `pairs` pairs, and B's lie on lines of the cache, as the buffer does and each panel's length demands.
            unsafe {
                let c = at.c.offset(i as isize * at.row_stride).add(j);
                kernel(pairs, a.as_ptr(), b.as_ptr(), Tile { c, ..at }, bounds);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Enough of a generator for operands in [-1, 1).
    struct Random(u64);

    impl Random {
        fn next(&mut self) -> f32 {
            self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (self.0 >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        }
    }

    /// The nearest bfloat16, ties to even.
    fn rounded(x: f32) -> f64 {
        let bits = x.to_bits();
        f64::from(f32::from_bits((bits + 0x7fff + ((bits >> 16) & 1)) & 0xffff_0000))
    }

    /// Strides of rows and columns, and elements: contiguous rows, contiguous columns, neither; all with gaps.
    fn strides(rows: usize, cols: usize, layout: usize) -> (usize, usize, usize) {
        match layout {
            0 => (cols + 3, 1, rows * (cols + 3)),
            1 => (1, rows + 5, cols * (rows + 5)),
            _ => (2 * cols + 1, 2, rows * (2 * cols + 1)),
        }
    }

    fn view(data: &[f32], rows: usize, cols: usize, (rs, cs, len): (usize, usize, usize)) -> MatRef<'_, f32> {
        assert!(data.len() >= len);
        // SAFETY: `strides` says how many elements such a matrix takes.
        unsafe { MatRef::from_raw_parts(data.as_ptr(), rows, cols, rs as isize, cs as isize) }
    }

    fn check(bf16: Bf16, (m, n, k): (usize, usize, usize), layouts: [usize; 3], region: Region, add: bool, blocking: Blocking) {
        let mut random = Random((m * 31 + n * 17 + k) as u64);
        let mut values = |len: usize| -> Vec<f32> { (0..len).map(|_| random.next()).collect() };
        let (sa, sb, sc) = (strides(m, k, layouts[0]), strides(k, n, layouts[1]), strides(m, n, layouts[2]));
        let (a, b, old) = (values(sa.2), values(sb.2), values(sc.2));
        let mut c = old.clone();
        let alpha = 0.75;
        // SAFETY: as in `view`.
        let to = unsafe { MatMut::from_raw_parts_mut(c.as_mut_ptr(), m, n, sc.0 as isize, sc.1 as isize) };
        bf16.blocked(to, add, alpha, view(&a, m, k, sa), view(&b, k, n, sb), region, blocking);

        let mut expected: Vec<f64> = old.iter().map(|&x| f64::from(x)).collect();
        // Outside of the region, and in the gaps between rows, not one bit may change.
        let mut bound = vec![0.0; expected.len()];
        for i in 0..m {
            for j in 0..n {
                if (region == Region::Lower && j > i) || (region == Region::Upper && i > j) {
                    continue;
                }
                let terms = (0..k).map(|p| rounded(a[i * sa.0 + p * sa.1]) * rounded(b[p * sb.0 + j * sb.1]));
                let (sum, size) = terms.fold((0.0, 0.0), |(sum, size), term| (sum + term, size + term.abs()));
                let at = i * sc.0 + j * sc.1;
                expected[at] = f64::from(alpha) * sum + if add { expected[at] } else { 0.0 };
                bound[at] = (size + expected[at].abs()) * (k as f64 + 4.0) * f64::from(f32::EPSILON);
            }
        }
        for (at, (&got, &expected)) in c.iter().zip(&expected).enumerate() {
            let error = (f64::from(got) - expected).abs();
            assert!(error <= bound[at], "{m} x {n} x {k}, layouts {layouts:?}, {region:?}, at {at}: {got} for {expected}");
        }
    }

    #[test]
    fn products_of_rounded_operands_in_all_layouts_regions_and_blocks() {
        let Some(bf16) = Bf16::detect() else {
            println!("SKIPPED: this processor has no AVX512-BF16, so its products were not tested");
            return;
        };
        let small = Blocking { kc: 34, mc: 40, nc: 64, mr: 14 };
        let shapes = [
            (1, 1, 1),
            (14, 32, 2),
            (15, 33, 3),
            (64, 64, 64),
            (97, 61, 75),
            (61, 130, 101),
            (45, 7, 32),
            (3, 200, 0),
            (70, 70, 31),
            (20, 1100, 43),
            (1100, 20, 43),
            (30, 40, 1601),
        ];
        for blocking in [BLOCKING, small, Blocking { mr: 12, ..small }] {
            for shape in shapes {
                for layouts in (0..18).map(|i| [i % 3, i / 3 % 3, i / 9]) {
                    for region in [Region::Full, Region::Lower, Region::Upper] {
                        check(bf16, shape, layouts, region, (layouts[0] + layouts[1]) % 2 == 1, blocking);
                    }
                }
            }
        }
    }

    #[test]
    fn blocks_fit_their_buffer() {
        for n in 1..4000 {
            let (kc, mr) = (even(n, BLOCKING.kc, 2).max(2), n.div_ceil(n.div_ceil(MR_MAX)));
            let (mc, nc) = (even(n, BLOCKING.mc, mr), even(n, BLOCKING.nc, NR));
            assert!(kc <= BLOCKING.kc && mc < BLOCKING.mc + MR_MAX && nc <= BLOCKING.nc, "{n}: {kc}, {mc}, {nc}");
            assert!(packed_words(mc, kc, mr) + packed_words(nc, kc, NR) + LINE <= PACKED);
        }
    }
}
