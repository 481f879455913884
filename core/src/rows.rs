//! Elementwise passes over a tensor with one table of numbers per mode, row by row along the last mode.

use core::ops::Range;

use crate::Scalar;
use crate::linalg::{LinAlg, Pass};
use crate::passes::{self, Divisible};
use crate::shape::{MAX_ORDER, Shape};

/// One optional table of `d_k` numbers per mode; a mode without a table counts as all ones.
pub(crate) type Tables<'a, T> = [Option<&'a [T]>; MAX_ORDER];

/// The rows along the last mode, one after another. An iterator and no function that takes a closure, so that it becomes a part of the pass
/// that goes through them ([`Pass`]).
///
/// Tables are multiplied mode by mode, never as one product of eigenvalues, which would leave the floating-point range (ALGORITHMS: floors).
pub(crate) struct Walk<'a, T> {
    shape: &'a Shape,
    tables: &'a Tables<'a, T>,
    index: [usize; MAX_ORDER],
    next: usize,
    end: usize,
}

/// One row.
pub(crate) struct Row<T> {
    /// Its elements.
    pub range: Range<usize>,
    /// The index of the first of them.
    pub index: [usize; MAX_ORDER],
    /// The product of the tables of all earlier modes there. The last mode's table is for a loop that vectorises.
    pub prefix: T,
}

impl<'a, T: Scalar> Walk<'a, T> {
    /// Through all rows.
    #[inline(always)]
    pub(crate) fn all(shape: &'a Shape, tables: &'a Tables<'a, T>) -> Self {
        Self::part(shape, tables, 0..shape.elements())
    }

    /// Through the rows of some elements.
    #[inline(always)]
    fn part(shape: &'a Shape, tables: &'a Tables<'a, T>, elements: Range<usize>) -> Self {
        let mut index = [0; MAX_ORDER];
        // Known to be 0 where nothing is shared, and then no division is left.
        if elements.start > 0 {
            let mut rows = elements.start / shape.dim(shape.order() - 1);
            for k in (0..shape.order() - 1).rev() {
                index[k] = rows % shape.dim(k);
                rows /= shape.dim(k);
            }
        }
        Self { shape, tables, index, next: elements.start, end: elements.end }
    }
}

impl<T: Scalar> Iterator for Walk<'_, T> {
    type Item = Row<T>;

    #[inline(always)]
    fn next(&mut self) -> Option<Row<T>> {
        if self.next >= self.end {
            return None;
        }
        let last = self.shape.order() - 1;
        let (index, start) = (self.index, self.next);
        self.next += self.shape.dim(last);
        let mut prefix = T::ONE;
        for k in 0..last {
            if let Some(table) = self.tables[k] {
                prefix *= table[index[k]];
            }
        }
        for k in (0..last).rev() {
            self.index[k] += 1;
            if self.index[k] < self.shape.dim(k) {
                break;
            }
            self.index[k] = 0;
        }
        Some(Row { range: start..self.next, index, prefix })
    }
}

/// `out = f(x, prefix, w)` with the product of the tables of all modes but the last, and that one's number (1 if it has none).
struct MapRows<'a, T, F> {
    shape: &'a Shape,
    tables: &'a Tables<'a, T>,
    /// Of the first element.
    start: usize,
    x: &'a [T],
    out: &'a mut [T],
    f: F,
}

impl<T: Scalar, L, F: Fn(T, T, T) -> T> Pass<L> for MapRows<'_, T, F> {
    type Output = ();

    #[inline(always)]
    fn run(self, _: &L) {
        let Self { shape, tables, start, x, out, f } = self;
        for Row { range, prefix, .. } in Walk::part(shape, tables, start..start + out.len()) {
            let range = range.start - start..range.end - start;
            map_row(&x[range.clone()], (prefix, tables[shape.order() - 1]), &mut out[range], &f);
        }
    }
}

impl<T, F: Copy> Divisible for MapRows<'_, T, F> {
    fn len(&self) -> usize {
        self.out.len()
    }

    fn divide(self, elements: usize) -> (Self, Self) {
        let Self { shape, tables, start, x, out, f } = self;
        let at = elements.next_multiple_of(shape.dim(shape.order() - 1)).min(out.len());
        let ((x, x_rest), (out, out_rest)) = (x.split_at(at), out.split_at_mut(at));
        (Self { shape, tables, start, x, out, f }, Self { shape, tables, start: start + at, x: x_rest, out: out_rest, f })
    }
}

/// The same of one row, or a part of one and of the last mode's table.
#[inline(always)]
pub(crate) fn map_row<T: Scalar>(x: &[T], (prefix, last): (T, Option<&[T]>), out: &mut [T], f: &impl Fn(T, T, T) -> T) {
    match last {
        Some(table) => {
            for ((out, &x), &w) in out.iter_mut().zip(x).zip(table) {
                *out = f(x, prefix, w);
            }
        }
        None => {
            for (out, &x) in out.iter_mut().zip(x) {
                *out = f(x, prefix, T::ONE);
            }
        }
    }
}

/// `out = f(x, prefix, w)`, broadcast: the product of the tables of all modes is `prefix w`.
#[inline(always)]
pub(crate) fn map_rows<T: Scalar, L: LinAlg<T>>(
    linalg: &L,
    shape: &Shape,
    tables: &Tables<'_, T>,
    x: &[T],
    out: &mut [T],
    f: impl Fn(T, T, T) -> T + Copy + Send,
) {
    passes::run(linalg, MapRows { shape, tables, start: 0, x, out, f });
}

/// `out = x . prod_k table_k`, broadcast.
#[inline(always)]
pub(crate) fn scale<T: Scalar, L: LinAlg<T>>(linalg: &L, shape: &Shape, tables: &Tables<'_, T>, x: &[T], out: &mut [T]) {
    map_rows(linalg, shape, tables, x, out, |x, prefix, w| x * prefix * w);
}

/// `sums[i] = sum over all elements with index i in mode k of (x . prod_{j != k} table_j)^2`; `tables[k]` must be `None`.
pub(crate) struct SumsOfSquares<'a, T> {
    pub shape: &'a Shape,
    pub tables: &'a Tables<'a, T>,
    pub k: usize,
    pub x: &'a [T],
    pub sums: &'a mut [T],
}

impl<T: Scalar, L> Pass<L> for SumsOfSquares<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self, _: &L) {
        let Self { shape, tables, k, x, sums } = self;
        debug_assert!(tables[k].is_none());
        let last = shape.order() - 1;
        sums.fill(T::ZERO);
        for Row { range, index, prefix } in Walk::all(shape, tables) {
            let row = &x[range];
            if k == last {
                for (sum, &x) in sums.iter_mut().zip(row) {
                    let y = x * prefix;
                    *sum += y * y;
                }
            } else {
                sums[index[k]] += weighted_square_sum(row, prefix, tables[last]);
            }
        }
    }
}

/// `sums[i] = sum over all elements with index i in mode k of x y`.
pub(crate) fn sums_of_products<T: Scalar>(shape: &Shape, k: usize, x: &[T], y: &[T], sums: &mut [T]) {
    let last = shape.order() - 1;
    sums.fill(T::ZERO);
    for Row { range, index, .. } in Walk::<T>::all(shape, &[None; MAX_ORDER]) {
        let products = x[range.clone()].iter().zip(&y[range]).map(|(&x, &y)| x * y);
        if k == last {
            sums.iter_mut().zip(products).for_each(|(sum, product)| *sum += product);
        } else {
            sums[index[k]] += products.fold(T::ZERO, |sum, product| sum + product);
        }
    }
}

/// `sum_j (x_j prefix w_j)^2` with eight running sums: a fixed order that vectorises.
#[inline(always)]
pub(crate) fn weighted_square_sum<T: Scalar>(row: &[T], prefix: T, table: Option<&[T]>) -> T {
    const LANES: usize = 8;
    let mut lanes = [T::ZERO; LANES];
    let mut add = |lane: usize, x: T, w: T| {
        let y = x * prefix * w;
        lanes[lane] += y * y;
    };
    match table {
        Some(table) => {
            for (chunk, w) in row.chunks(LANES).zip(table.chunks(LANES)) {
                for (lane, (&x, &w)) in chunk.iter().zip(w).enumerate() {
                    add(lane, x, w);
                }
            }
        }
        None => {
            for chunk in row.chunks(LANES) {
                for (lane, &x) in chunk.iter().enumerate() {
                    add(lane, x, T::ONE);
                }
            }
        }
    }
    lanes.into_iter().fold(T::ZERO, |sum, lane| sum + lane)
}

/// The inner product of two vectors: eight running sums over blocks, a fixed order that vectorises and loses no digits of long ones.
#[inline(always)]
pub(crate) fn dot<T: Scalar>(a: &[T], b: &[T]) -> T {
    let mut sum = T::ZERO;
    for (a, b) in a.chunks(1024).zip(b.chunks(1024)) {
        let [s0, s1, s2, s3, s4, s5, s6, s7] = sums_of_lanes(a, b);
        sum += T::ZERO + s0 + s1 + s2 + s3 + s4 + s5 + s6 + s7;
    }
    sum
}

/// The sums of every eighth product, written out, so that they stay in registers where a compiler that saves space unrolls nothing.
#[inline(always)]
pub(crate) fn sums_of_lanes<T: Scalar>(a: &[T], b: &[T]) -> [T; 8] {
    let (a, rest_a) = a.as_chunks::<8>();
    let (b, rest_b) = b.as_chunks::<8>();
    let [mut s0, mut s1, mut s2, mut s3, mut s4, mut s5, mut s6, mut s7] = [T::ZERO; 8];
    for (a, b) in a.iter().zip(b) {
        s0 += a[0] * b[0];
        s1 += a[1] * b[1];
        s2 += a[2] * b[2];
        s3 += a[3] * b[3];
        s4 += a[4] * b[4];
        s5 += a[5] * b[5];
        s6 += a[6] * b[6];
        s7 += a[7] * b[7];
    }
    let mut sums = [s0, s1, s2, s3, s4, s5, s6, s7];
    sums.iter_mut().zip(rest_a.iter().zip(rest_b)).for_each(|(sum, (&a, &b))| *sum += a * b);
    sums
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Mode;
    use crate::linalg::Portable;
    use crate::passes::tests::in_parts;

    #[test]
    fn parts_of_rows_meet_the_numbers_of_their_tables() {
        let shape = Shape::new(&[3, 4, 5], &[Mode::Full; 3]).unwrap();
        let (first, second, last) = ([2.0f32, 3.0, 5.0], [7.0, 11.0, 13.0, 17.0], [19.0, 23.0, 29.0, 31.0, 37.0]);
        let x: [f32; 60] = core::array::from_fn(|i| i as f32 + 1.0);
        for of_last in [Some(&last[..]), None] {
            let mut tables: Tables<'_, f32> = [None; MAX_ORDER];
            (tables[0], tables[1], tables[2]) = (Some(&first[..]), Some(&second[..]), of_last);
            let expected: [f32; 60] =
                core::array::from_fn(|i| x[i] * (first[i / 20] * second[i / 5 % 4]) * of_last.map_or(1.0, |last| last[i % 5]));
            let mut whole = [0.0; 60];
            scale(&Portable, &shape, &tables, &x, &mut whole);
            assert_eq!(whole, expected);
            for each in 1..=60 {
                let mut out = [0.0; 60];
                let f = |x: f32, prefix: f32, w: f32| x * prefix * w;
                in_parts(MapRows { shape: &shape, tables: &tables, start: 0, x: &x, out: &mut out, f }, each);
                assert_eq!(out, expected, "{each}");
            }
        }
    }
}
