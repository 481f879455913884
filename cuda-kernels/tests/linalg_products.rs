//! Products in batches, against the core's.

mod common;
#[path = "common/numbers.rs"]
mod numbers;

use common::{EmulatorQueue, array, device};
use klshampoo::linalg::{LinAlg, MatMut, MatRef, Portable};
use klshampoo_cuda::batch::{Array, Items};
use klshampoo_cuda::linalg::{Matrix, Product, Strides, View, descending_order, mode_product, unfolded_product};
use klshampoo_cuda::queue::DevicePtr;
use numbers::Random;

/// Around one tile, around one step of depth, single elements, modes in the middle.
const VIEWS: [(usize, usize, usize); 14] = [
    (1, 1, 1),
    (1, 1, 5),
    (3, 1, 4),
    (2, 5, 1),
    (70, 3, 1),
    (1, 3, 70),
    (1, 65, 130),
    (3, 17, 5),
    (2, 64, 64),
    (4, 33, 2),
    (1, 130, 1),
    (65, 15, 1),
    (9, 16, 9),
    (1, 63, 17),
];
const ITEMS: usize = 3;
/// The item in the middle takes no part.
const FLAGS: [u32; ITEMS] = [5, 4, 7];

fn items(flags: &mut [u32]) -> Items {
    Items { flags: device(flags), count: ITEMS as u32, mask: 1, wanted: 1, unused: 0 }
}

fn close(got: &[f32], expected: &[f32], tolerance: f32, what: &str) {
    for (i, (x, y)) in got.iter().zip(expected).enumerate() {
        assert!((x - y).abs() <= tolerance, "{what}: element {i} is {x}, not {y}");
    }
}

#[test]
fn mode_products_are_the_cores() {
    for (left, d, right) in VIEWS {
        let (view, n, mut random) = (View { left, d, right }, left * d * right, Random::new((left * 31 + d * 7 + right) as u64));
        for transposed in [false, true] {
            let (mut x, mut a) = (random.floats(n * ITEMS), random.floats(d * d * ITEMS));
            let mut out = random.floats(n * ITEMS);
            let before = out.clone();
            let mut flags = Vec::from(FLAGS);
            let (x_array, a_array, out_array) = (array(&mut x, n), array(&mut a, d * d), array(&mut out, n));
            mode_product(&mut EmulatorQueue::default(), items(&mut flags), view, a_array, transposed, x_array, out_array).unwrap();
            for item in 0..ITEMS {
                let part = item * n..(item + 1) * n;
                if item == 1 {
                    assert_eq!(out[part.clone()], before[part]);
                    continue;
                }
                let matrix = MatRef::row_major(&a[item * d * d..][..d * d], d, d);
                let matrix = if transposed { matrix.t() } else { matrix };
                let mut expected = vec![0.0; n];
                for (x, out) in x[part.clone()].chunks_exact(d * right).zip(expected.chunks_exact_mut(d * right)) {
                    Portable.matmul(MatMut::row_major(out, d, right), false, matrix, MatRef::row_major(x, d, right)).unwrap();
                }
                close(&out[part], &expected, 1e-6 * (d as f32 + 1.0), &format!("{view:?} {transposed}"));
            }
        }
    }
}

#[test]
fn unfolded_products_are_the_cores() {
    for (left, d, right) in VIEWS {
        let (view, n, mut random) = (View { left, d, right }, left * d * right, Random::new((left * 37 + d * 5 + right) as u64));
        let (mut x, mut y) = (random.floats(n * ITEMS), random.floats(n * ITEMS));
        let mut delta = random.floats(d * d * ITEMS);
        let before = delta.clone();
        let mut flags = Vec::from(FLAGS);
        let (x_array, y_array, delta_array) = (array(&mut x, n), array(&mut y, n), array(&mut delta, d * d));
        unfolded_product(&mut EmulatorQueue::default(), items(&mut flags), view, x_array, y_array, delta_array).unwrap();
        for item in 0..ITEMS {
            let square = item * d * d..(item + 1) * d * d;
            // What is not to be written is expected as it was.
            let mut expected = before[square.clone()].to_vec();
            if item != 1 {
                let parts = x[item * n..][..n].chunks_exact(d * right).zip(y[item * n..][..n].chunks_exact(d * right));
                for (l, (x, y)) in parts.enumerate() {
                    let (x, y) = (MatRef::row_major(x, d, right), MatRef::row_major(y, d, right).t());
                    Portable.matmul_lower(MatMut::row_major(&mut expected, d, d), l > 0, 1.0, x, y).unwrap();
                }
            }
            let got = &delta[square];
            for i in 0..d {
                for j in i + 1..d {
                    assert_eq!(got[i * d + j], expected[i * d + j], "{view:?}: ({i}, {j}) is above the diagonal");
                }
            }
            close(got, &expected, if item == 1 { 0.0 } else { 1e-6 * ((left * right) as f32 + 1.0) }, &format!("{view:?}"));
        }
    }
}

#[test]
fn factors_sums_and_strides_of_any_kind() {
    // C, in columns with a gap, += 2 scale A B, with A as every second element of rows.
    let (rows, depth, columns) = (67, 19, 5);
    let mut random = Random::new(5);
    let mut a = random.floats(ITEMS * rows * 2 * depth);
    let mut b = random.floats(ITEMS * depth * columns);
    let mut c = random.floats(ITEMS * (rows + 3) * columns);
    let mut scale = Vec::from([0.5f32, 3.0, -4.0]);
    let before = c.clone();
    let mut flags = Vec::from(FLAGS);
    let a_matrix = Matrix { array: array(&mut a, rows * 2 * depth), row: 2 * depth as u64, column: 2 };
    let b_matrix = Matrix::row_major(array(&mut b, depth * columns), columns);
    let c_matrix = Matrix { array: array(&mut c, (rows + 3) * columns), row: 1, column: rows as u64 + 3 };
    let product = Product::of(c_matrix, a_matrix, b_matrix, [rows, depth, columns]);
    assert!(product.is_plain());
    let product = Product { alpha: 2.0, scale: array(&mut scale, 1), accumulate: true, ..product };
    product.launch(&mut EmulatorQueue::default(), items(&mut flags)).unwrap();
    for item in 0..ITEMS {
        for j in 0..columns {
            for i in 0..rows + 3 {
                let at = item * (rows + 3) * columns + j * (rows + 3) + i;
                if item == 1 || i >= rows {
                    assert_eq!(c[at], before[at], "not to be written");
                    continue;
                }
                let dot: f32 = (0..depth).map(|k| a[(item * rows + i) * 2 * depth + 2 * k] * b[(item * depth + k) * columns + j]).sum();
                let expected = before[at] + 2.0 * scale[item] * dot;
                assert!((c[at] - expected).abs() < 1e-4, "{i} {j}: {} {expected}", c[at]);
            }
        }
    }
}

#[test]
fn a_triangle_is_left_out_and_an_empty_sum_is_zero() {
    let d = 150;
    let mut random = Random::new(6);
    let mut u = random.floats(d * d);
    let mut b = random.floats(d * d);
    for (i, row) in u.chunks_exact_mut(d).enumerate() {
        row[..i].fill(0.0);
    }
    let (mut c, mut whole) = (vec![0.0; d * d], vec![0.0; d * d]);
    let [u, b, c_matrix] = [&mut u, &mut b, &mut c].map(|x| Matrix::row_major(array(x, 0), d));
    let product = Product::of(c_matrix, u, b, [d; 3]);
    assert!(!Product { lower: true, ..product }.is_plain());
    Product { upper_a: true, ..product }.launch(&mut EmulatorQueue::default(), Items::all(1)).unwrap();
    let whole_matrix = Matrix::row_major(array(&mut whole, 0), d);
    Product::of(whole_matrix, u, b, [d; 3]).launch(&mut EmulatorQueue::default(), Items::all(1)).unwrap();
    close(&c, &whole, 1e-5, "upper triangular");

    Product { depth: 0, inner_depth: 0, ..product }.launch(&mut EmulatorQueue::default(), Items::all(1)).unwrap();
    assert!(c.iter().all(|&x| x == 0.0));
}

#[test]
fn sizes_beyond_the_grid_are_refused() {
    let nothing = Matrix::row_major(Array::NULL, 1);
    let product = Product::of(nothing, nothing, nothing, [1 << 31, 1, 1]);
    assert!(product.launch(&mut EmulatorQueue::default(), Items::all(1)).is_err());
    let product = Product { b_column: Strides::plain(1), ..Product::of(nothing, nothing, nothing, [1 << 24, 1, 1 << 24]) };
    assert!(product.launch(&mut EmulatorQueue::default(), Items::all(1)).is_err());
}

#[test]
fn no_items_are_nothing_to_do_and_many_are_all_done() {
    let mut q = EmulatorQueue::default();
    let view = View { left: 2, d: 3, right: 4 };
    mode_product(&mut q, Items::all(0), view, Array::NULL, false, Array::NULL, Array::NULL).unwrap();
    assert_eq!(q.launches, 0);
    assert_eq!(Items::all(0).flags, DevicePtr::NULL);

    // More than a grid has in its second dimension.
    let count = 65_535 + 1_000;
    let mut keys: Vec<f32> = (0..2 * count).map(|i| if i / 2 % 3 == 0 { -(i as f32) } else { i as f32 }).collect();
    let mut order = vec![7u32; 2 * count];
    descending_order(&mut q, Items::all(count as u32), 2, array(&mut keys, 2), array(&mut order, 2)).unwrap();
    for (i, places) in order.chunks_exact(2).enumerate() {
        assert_eq!(places, if i % 3 == 0 { [0, 1] } else { [1, 0] }, "{i}");
    }
}

#[test]
fn equal_keys_keep_their_order() {
    let mut keys = Vec::from([1.0f32, 3.0, 1.0, 3.0, 0.0, 9.0, 1.0]);
    let mut order = Vec::from([0u32; 7]);
    descending_order(&mut EmulatorQueue::default(), Items::all(1), 7, array(&mut keys, 7), array(&mut order, 7)).unwrap();
    assert_eq!(order, [5, 1, 3, 0, 2, 6, 4]);
}
