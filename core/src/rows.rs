//! Elementwise passes over a tensor with one table of numbers per mode, row by row along the last mode.

use core::ops::Range;

use crate::Scalar;
use crate::shape::{MAX_ORDER, Shape};

/// One optional table of `d_k` numbers per mode; a mode without a table counts as all ones.
pub(crate) type Tables<'a, T> = [Option<&'a [T]>; MAX_ORDER];

/// Calls `f(row, index, prefix)` for every row along the last mode: its elements, the index of the first of them, and the product of
/// the tables of all earlier modes there. The last mode's table is the caller's to apply, in a loop that vectorises.
///
/// Tables are multiplied mode by mode, never as one product of eigenvalues, which would leave the floating-point range (ALGORITHMS: floors).
#[inline(always)]
pub(crate) fn for_each_row<T: Scalar>(shape: &Shape, tables: &Tables<'_, T>, mut f: impl FnMut(Range<usize>, &[usize; MAX_ORDER], T)) {
    let last = shape.order() - 1;
    let row_len = shape.dim(last);
    let mut index = [0; MAX_ORDER];
    let mut start = 0;
    while start < shape.elements() {
        let mut prefix = T::ONE;
        for k in 0..last {
            if let Some(table) = tables[k] {
                prefix *= table[index[k]];
            }
        }
        f(start..start + row_len, &index, prefix);
        start += row_len;
        for k in (0..last).rev() {
            index[k] += 1;
            if index[k] < shape.dim(k) {
                break;
            }
            index[k] = 0;
        }
    }
}

/// `out = x . prod_k table_k`, broadcast.
#[inline(always)]
pub(crate) fn scale<T: Scalar>(shape: &Shape, tables: &Tables<'_, T>, x: &[T], out: &mut [T]) {
    let last = shape.order() - 1;
    for_each_row(shape, tables, |row, _, prefix| {
        let (x, out) = (&x[row.clone()], &mut out[row]);
        match tables[last] {
            Some(table) => {
                for ((out, &x), &w) in out.iter_mut().zip(x).zip(table) {
                    *out = x * prefix * w;
                }
            }
            None => {
                for (out, &x) in out.iter_mut().zip(x) {
                    *out = x * prefix;
                }
            }
        }
    });
}

/// `sums[i] = sum over all elements with index i in mode k of (x . prod_{j != k} table_j)^2`; `tables[k]` must be `None`.
#[inline(always)]
pub(crate) fn sums_of_squares<T: Scalar>(shape: &Shape, tables: &Tables<'_, T>, k: usize, x: &[T], sums: &mut [T]) {
    debug_assert!(tables[k].is_none());
    let last = shape.order() - 1;
    sums.fill(T::ZERO);
    for_each_row(shape, tables, |row, index, prefix| {
        let row = &x[row];
        if k == last {
            for (sum, &x) in sums.iter_mut().zip(row) {
                let y = x * prefix;
                *sum += y * y;
            }
        } else {
            sums[index[k]] += weighted_square_sum(row, prefix, tables[last]);
        }
    });
}

/// `sums[i] = sum over all elements with index i in mode k of x y`.
pub(crate) fn sums_of_products<T: Scalar>(shape: &Shape, k: usize, x: &[T], y: &[T], sums: &mut [T]) {
    let last = shape.order() - 1;
    sums.fill(T::ZERO);
    for_each_row(shape, &[None; MAX_ORDER], |row, index, _: T| {
        let products = x[row.clone()].iter().zip(&y[row]).map(|(&x, &y)| x * y);
        if k == last {
            sums.iter_mut().zip(products).for_each(|(sum, product)| *sum += product);
        } else {
            sums[index[k]] += products.fold(T::ZERO, |sum, product| sum + product);
        }
    });
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
    let block = |(a, b): (&[T], &[T])| {
        let [s0, s1, s2, s3, s4, s5, s6, s7] = sums_of_lanes(a, b);
        T::ZERO + s0 + s1 + s2 + s3 + s4 + s5 + s6 + s7
    };
    a.chunks(1024).zip(b.chunks(1024)).map(block).fold(T::ZERO, |sum, x| sum + x)
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
