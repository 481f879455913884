//! Products for processors without vector registers, whose floating-point unit holds a tile of 4 x 4: nothing is packed.
//!
//! Packing is for contiguous vector loads, which such processors have no use for; there it costs about as much as it saves, and stack.
//! The bits are those of [`super::product`]: one accumulator per element, `a_ik (alpha b_kj)` for `k` ascending, one rounded product and
//! one rounded sum each.

use super::product::{Mode, Part};
use crate::Scalar;
use crate::linalg::{MatMut, MatRef};

/// Rows and columns of a tile: 16 accumulators and 8 operands in 32 registers.
const TILE: usize = 4;

/// Vectors side by side that a tile reads, one element of each for every `k`.
#[derive(Clone, Copy)]
enum Strip<'a, T> {
    /// Each is contiguous.
    Lines([&'a [T]; TILE]),
    /// Those of one `k` are neighbours: from `first` on in every `stride` elements.
    Across { data: &'a [T], stride: usize, first: usize },
}

/// For how many `k` the strips of a matrix have whole strides: where only the last one lacks, because the matrix ends, for all but that.
fn whole<T: Scalar>(a: MatRef<'_, T>) -> usize {
    let depth = a.cols();
    if a.col_stride() == 1 || depth * a.col_stride() <= a.data().len() { depth } else { depth - 1 }
}

impl<'a, T: Scalar> Strip<'a, T> {
    /// The rows `i..i + 4` of a matrix and its first `depth` columns; `None` where neither rows nor columns are contiguous.
    fn rows(a: MatRef<'a, T>, i: usize, depth: usize) -> Option<Self> {
        if a.col_stride() == 1 {
            let row = |r: usize| &a.data()[(i + r) * a.row_stride()..][..depth];
            return Some(Self::Lines([row(0), row(1), row(2), row(3)]));
        }
        let stride = a.col_stride();
        (a.row_stride() == 1 && stride >= a.rows()).then(|| Self::Across { data: &a.data()[..depth * stride], stride, first: i })
    }
}

/// `C <- [C +] alpha A B`, of the lower triangle if the mode says so.
#[inline(never)]
pub(super) fn product<T: Scalar>(mut c: MatMut<'_, T>, mode: Mode<T>, a: MatRef<'_, T>, b: MatRef<'_, T>) {
    let (m, n, depth) = (c.rows(), c.cols(), a.cols());
    if depth == 0 {
        return edge(&mut c, &mode, 0..m, 0..n, a, b);
    }
    let (tiled_m, tiled_n) = (m - m % TILE, n - n % TILE);
    let tiled_depth = whole(a).min(whole(b.t()));
    for i in (0..tiled_m).step_by(TILE) {
        let rows = Strip::rows(a, i, tiled_depth);
        for j in (0..tiled_n).step_by(TILE) {
            if mode.part == Part::Lower && j > i {
                break;
            }
            match (&rows, &Strip::rows(b.t(), j, tiled_depth)) {
                (Some(rows), Some(columns)) => {
                    tile(&mut c, &mode, (i, j), rows, columns);
                    if tiled_depth < depth {
                        last_step(&mut c, &mode, (i, j), a, b);
                    }
                }
                _ => edge(&mut c, &mode, i..i + TILE, j..j + TILE, a, b),
            }
        }
        if tiled_n < n {
            edge(&mut c, &mode, i..i + TILE, tiled_n..n, a, b);
        }
    }
    edge(&mut c, &mode, tiled_m..m, 0..n, a, b);
}

/// The last `k` of a tile, where it ends with its matrix.
#[inline(never)]
fn last_step<T: Scalar>(c: &mut MatMut<'_, T>, mode: &Mode<T>, (i, j): (usize, usize), a: MatRef<'_, T>, b: MatRef<'_, T>) {
    let last = a.cols() - 1..a.cols();
    let (a, b) = (a.part(0..a.rows(), last.clone()), b.part(last, 0..b.cols()));
    edge(c, &Mode { accumulate: true, ..*mode }, i..i + TILE, j..j + TILE, a, b);
}

/// The elements of a range, one by one.
#[inline(never)]
fn edge<T: Scalar>(
    c: &mut MatMut<'_, T>,
    mode: &Mode<T>,
    rows: core::ops::Range<usize>,
    columns: core::ops::Range<usize>,
    a: MatRef<'_, T>,
    b: MatRef<'_, T>,
) {
    let (row_stride, col_stride) = (c.row_stride(), c.col_stride());
    for i in rows {
        let end = if mode.part == Part::Lower { columns.end.min(i + 1) } else { columns.end };
        for j in columns.start..end {
            let place = i * row_stride + j * col_stride;
            let mut sum = if mode.accumulate { c.data()[place] } else { T::ZERO };
            if a.cols() > 0 {
                let along_a = a.data()[i * a.row_stride()..].iter().step_by(a.col_stride());
                let along_b = b.data()[j * b.col_stride()..].iter().step_by(b.row_stride());
                for (&x, &y) in along_a.zip(along_b).take(a.cols()) {
                    sum += x * (mode.alpha * y);
                }
            }
            c.data()[place] = sum;
        }
    }
}

/// Row by row.
type Tile<T> = [[T; TILE]; TILE];

/// One tile of `C`, with its first element at `(i, j)`.
#[inline(never)]
fn tile<T: Scalar>(c: &mut MatMut<'_, T>, mode: &Mode<T>, (i, j): (usize, usize), rows: &Strip<'_, T>, columns: &Strip<'_, T>) {
    let mut sums = [[T::ZERO; TILE]; TILE];
    if mode.accumulate {
        load(c, (i, j), &mut sums);
    }
    if mode.alpha == T::ONE {
        multiply_strips(&mut sums, *rows, *columns, |y| y);
    } else {
        let alpha = mode.alpha;
        multiply_strips(&mut sums, *rows, *columns, |y| alpha * y);
    }
    store(c, mode.part, (i, j), &sums);
}

/// [`multiply`] of what there is in the strips.
#[inline(always)]
fn multiply_strips<T: Scalar>(sums: &mut Tile<T>, rows: Strip<'_, T>, columns: Strip<'_, T>, scaled: impl Fn(T) -> T) {
    match (rows, columns) {
        (Strip::Lines(x), Strip::Lines(y)) => multiply(sums, lines(x), lines(y), scaled),
        (Strip::Lines(x), Strip::Across { data, stride, first }) => multiply(sums, lines(x), across(data, stride, first), scaled),
        (Strip::Across { data, stride, first }, Strip::Lines(y)) => multiply(sums, across(data, stride, first), lines(y), scaled),
        (Strip::Across { data, stride, first }, Strip::Across { data: data_y, stride: stride_y, first: first_y }) => {
            multiply(sums, across(data, stride, first), across(data_y, stride_y, first_y), scaled);
        }
    }
}

/// The tile of `C` from `(i, j)` on.
fn load<T: Scalar>(c: &MatMut<'_, T>, (i, j): (usize, usize), sums: &mut Tile<T>) {
    let c = c.as_ref();
    for (r, sums) in sums.iter_mut().enumerate() {
        for (k, sum) in sums.iter_mut().enumerate() {
            *sum = c.data()[(i + r) * c.row_stride() + (j + k) * c.col_stride()];
        }
    }
}

/// Writes it back, of the lower triangle if that is all there is.
fn store<T: Scalar>(c: &mut MatMut<'_, T>, part: Part, (i, j): (usize, usize), sums: &Tile<T>) {
    let (row_stride, col_stride) = (c.row_stride(), c.col_stride());
    let whole = part == Part::All || j < i;
    let tile = &mut c.data()[i * row_stride + j * col_stride..];
    if whole && col_stride == 1 && tile.len() >= 3 * row_stride + TILE {
        let [first, second, third, fourth] = sums;
        tile[..TILE].copy_from_slice(first);
        tile[row_stride..][..TILE].copy_from_slice(second);
        tile[2 * row_stride..][..TILE].copy_from_slice(third);
        tile[3 * row_stride..][..TILE].copy_from_slice(fourth);
        return;
    }
    for (r, sums) in sums.iter().enumerate() {
        let width = if whole { TILE } else { r + 1 };
        tile[r * row_stride..].iter_mut().step_by(col_stride).zip(&sums[..width]).for_each(|(c, &sum)| *c = sum);
    }
}

/// One element of each line for every `k`.
#[inline(always)]
fn lines<T: Scalar>([a, b, c, d]: [&[T]; TILE]) -> impl Iterator<Item = [T; TILE]> {
    a.iter().zip(b).zip(c).zip(d).map(|(((&a, &b), &c), &d)| [a, b, c, d])
}

/// Neighbours, for every `k`.
#[inline(always)]
fn across<T: Scalar>(data: &[T], stride: usize, first: usize) -> impl Iterator<Item = [T; TILE]> {
    data.chunks_exact(stride).map(move |line| [line[first], line[first + 1], line[first + 2], line[first + 3]])
}

/// `sums += x scaled(y)^T` for every `k`. Written out, so that the sums stay in registers where a compiler that saves space unrolls nothing.
#[inline(always)]
fn multiply<T: Scalar>(
    sums: &mut Tile<T>,
    x: impl Iterator<Item = [T; TILE]>,
    y: impl Iterator<Item = [T; TILE]>,
    scaled: impl Fn(T) -> T,
) {
    let [[mut s00, mut s01, mut s02, mut s03], [mut s10, mut s11, mut s12, mut s13], rest @ ..] = *sums;
    let [[mut s20, mut s21, mut s22, mut s23], [mut s30, mut s31, mut s32, mut s33]] = rest;
    for ([x0, x1, x2, x3], [y0, y1, y2, y3]) in x.zip(y) {
        let (y0, y1, y2, y3) = (scaled(y0), scaled(y1), scaled(y2), scaled(y3));
        s00 += x0 * y0;
        s01 += x0 * y1;
        s02 += x0 * y2;
        s03 += x0 * y3;
        s10 += x1 * y0;
        s11 += x1 * y1;
        s12 += x1 * y2;
        s13 += x1 * y3;
        s20 += x2 * y0;
        s21 += x2 * y1;
        s22 += x2 * y2;
        s23 += x2 * y3;
        s30 += x3 * y0;
        s31 += x3 * y1;
        s32 += x3 * y2;
        s33 += x3 * y3;
    }
    *sums = [[s00, s01, s02, s03], [s10, s11, s12, s13], [s20, s21, s22, s23], [s30, s31, s32, s33]];
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linalg::portable::product;

    /// The packed products are the oracle; they have been compared with the order of the sums spelled out.
    #[test]
    fn bits_are_those_of_the_packed_products() {
        let number = |i: usize| ((i * 7919 + 13) % 1000) as f32 / 250.0 - 2.0 + 1.0 / (i + 3) as f32;
        let data: [f32; 400] = core::array::from_fn(number);
        for (m, n, depth) in [(4, 4, 1), (8, 4, 5), (5, 9, 8), (1, 1, 1), (3, 12, 7), (12, 8, 16), (9, 9, 0), (16, 16, 13)] {
            for (a_transposed, b_transposed, c_transposed, offset) in (0..16).map(|x| (x & 1 > 0, x & 2 > 0, x & 4 > 0, x >> 3)) {
                // With an offset the matrices are parts of larger ones, which end with their last element.
                let view = |rows: usize, cols: usize, transposed: bool| {
                    let (lines, len) = if transposed { (cols, rows) } else { (rows, cols) };
                    let stride = len + offset;
                    let end = if lines * len == 0 { 0 } else { (lines - 1) * stride + len };
                    let view = MatRef::strided(&data[offset..offset + end], lines, len, stride, 1);
                    if transposed { view.t() } else { view }
                };
                let (a, b) = (view(m, depth, a_transposed), view(depth, n, b_transposed));
                for (part, accumulate, alpha) in
                    [(Part::All, false, 1.0), (Part::All, true, 1.0), (Part::Lower, false, 0.37), (Part::Lower, true, -1.5)]
                {
                    if part == Part::Lower && m != n {
                        continue;
                    }
                    let mode = Mode { part, accumulate, alpha };
                    let (mut found, mut expected) = ([1.25; 400], [1.25; 400]);
                    let target = |c: &mut [f32; 400], f: &dyn Fn(MatMut<'_, f32>)| {
                        f(if c_transposed { MatMut::row_major(c, n, m).t() } else { MatMut::row_major(c, m, n) });
                    };
                    target(&mut found, &|c| product(c, mode, a, b));
                    target(&mut expected, &|c| product::packed(c, mode, a, b));
                    assert_eq!(found.map(f32::to_bits), expected.map(f32::to_bits), "{m} {n} {depth} {a_transposed} {b_transposed}");
                }
            }
        }
    }
}
