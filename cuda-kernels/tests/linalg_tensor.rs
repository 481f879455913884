//! Products at every precision, against double precision: with the inputs rounded as the kernels round them, and as they are.

mod common;
#[path = "common/numbers.rs"]
mod numbers;

use common::{EmulatorQueue, array, device};
use klshampoo_cuda::batch::{Array, Items};
use klshampoo_cuda::linalg::{Matrix, Precision, Product, Strides};
use klshampoo_cuda_emulator as emulator;
use numbers::Random;

/// Memory is there for these; the one in the middle takes no part.
const FLAGS: [u32; 3] = [5, 4, 7];
/// Further items that take no part make enough blocks for large tiles.
const MANY: usize = 128;

/// The nearest number of so many significant bits, halves as told.
fn rounded(x: f32, bits: i32, round: fn(f64) -> f64) -> f32 {
    if x == 0.0 || !x.is_finite() {
        return x;
    }
    let exponent = (f64::from(x).to_bits() >> 52 & 0x7ff) as i32 - 1023;
    let unit = 2f64.powi(exponent + 1 - bits);
    (round(f64::from(x) / unit) * unit) as f32
}

fn tf32(x: f32) -> f32 {
    rounded(x, 11, f64::round)
}

fn bf16(x: f32) -> f32 {
    rounded(x, 8, f64::round_ties_even)
}

/// What is multiplied in place of a number: the sum of two, of which products leave out that of the second ones.
fn parts(precision: Precision, x: f32) -> [f64; 2] {
    let (high, low) = match precision {
        Precision::Fp32 => (x, 0.0),
        Precision::Tf32 => (tf32(x), 0.0),
        Precision::Bf16 => (bf16(x), 0.0),
        Precision::Tf32x3 => (tf32(x), tf32(x - tf32(x))),
    };
    [f64::from(high), f64::from(low)]
}

/// What a kernel makes of two numbers, but for the rounding of sums.
fn multiplied([a, a_rest]: [f64; 2], [b, b_rest]: [f64; 2]) -> f64 {
    a_rest * b + a * b_rest + a * b
}

/// As documented: how far the rounding of its inputs puts a product off, relative to itself.
fn of_inputs(precision: Precision) -> f64 {
    match precision {
        Precision::Fp32 => 0.0,
        Precision::Tf32x3 => 2f64.powi(-21),
        Precision::Tf32 => 2f64.powi(-10) + 2f64.powi(-22),
        Precision::Bf16 => 2f64.powi(-7) + 2f64.powi(-16),
    }
}

#[derive(Clone, Copy, Debug)]
struct Shape {
    rows: usize,
    depth: usize,
    columns: usize,
    inner_depth: usize,
    inner_columns: usize,
}

const fn plain(rows: usize, depth: usize, columns: usize) -> Shape {
    Shape { rows, depth, columns, inner_depth: depth, inner_columns: columns }
}

/// How the operands lie: which index is contiguous, how far apart neighbours of it are, and how many elements lie unused after each line.
#[derive(Clone, Copy, Debug)]
struct Storage {
    a_along_depth: bool,
    b_along_depth: bool,
    c_along_rows: bool,
    unit: usize,
    gap: usize,
}

const STORAGES: [Storage; 7] = [
    Storage { a_along_depth: true, b_along_depth: true, c_along_rows: false, unit: 1, gap: 0 },
    Storage { a_along_depth: true, b_along_depth: true, c_along_rows: false, unit: 1, gap: 4 },
    Storage { a_along_depth: true, b_along_depth: true, c_along_rows: true, unit: 1, gap: 3 },
    Storage { a_along_depth: true, b_along_depth: false, c_along_rows: false, unit: 1, gap: 0 },
    Storage { a_along_depth: false, b_along_depth: false, c_along_rows: false, unit: 1, gap: 2 },
    Storage { a_along_depth: false, b_along_depth: true, c_along_rows: true, unit: 1, gap: 0 },
    Storage { a_along_depth: true, b_along_depth: false, c_along_rows: false, unit: 3, gap: 1 },
];

/// Strides of indices with these counts, of which the order is from the outermost to the innermost, and what they span.
fn strides<const N: usize>(counts: [usize; N], order: [usize; N], storage: Storage) -> ([usize; N], usize) {
    let (mut strides, mut stride) = ([0; N], storage.unit);
    for index in order.into_iter().rev() {
        strides[index] = stride;
        stride = stride * counts[index] + storage.gap;
    }
    (strides, stride)
}

/// A product, its operands and what C was.
struct Case {
    product: Product,
    items: Items,
    a: Vec<f32>,
    b: Vec<f32>,
    c: Vec<f32>,
    scale: Vec<f32>,
    flags: Vec<u32>,
}

impl Case {
    fn new(shape: Shape, storage: Storage, many: bool, random: &mut Random) -> Self {
        let Shape { rows, depth, columns, inner_depth, inner_columns } = shape;
        let outer = |count: usize, inner: usize| count.div_ceil(inner.max(1)).max(1);
        let (depths, column_count) = (outer(depth, inner_depth), outer(columns, inner_columns));
        let a_order = if storage.a_along_depth { [0, 1, 2] } else { [1, 2, 0] };
        let (a_strides, a_len) = strides([rows, depths, inner_depth], a_order, storage);
        let b_order = if storage.b_along_depth { [2, 3, 0, 1] } else { [0, 1, 2, 3] };
        let (b_strides, b_len) = strides([depths, inner_depth, column_count, inner_columns], b_order, storage);
        let c_order = if storage.c_along_rows { [1, 2, 0] } else { [0, 1, 2] };
        let (c_strides, c_len) = strides([rows, column_count, inner_columns], c_order, storage);
        let count = FLAGS.len();
        let (mut a, mut b, mut c) = (random.floats(count * a_len), random.floats(count * b_len), random.floats(count * c_len));
        let mut flags = Vec::from(FLAGS);
        if many {
            flags.resize(MANY, 0);
        }
        let at = |outer: usize, inner: usize| Strides { outer: outer as u64, inner: inner as u64 };
        let product = Product {
            a: array(&mut a, a_len),
            a_row: a_strides[0] as u64,
            a_depth: at(a_strides[1], a_strides[2]),
            b: array(&mut b, b_len),
            b_depth: at(b_strides[0], b_strides[1]),
            b_column: at(b_strides[2], b_strides[3]),
            c: array(&mut c, c_len),
            c_row: c_strides[0] as u64,
            c_column: at(c_strides[1], c_strides[2]),
            inner_columns,
            inner_depth,
            ..Product::of(nothing(), nothing(), nothing(), [rows, depth, columns])
        };
        let items = Items { flags: device(&mut flags), count: flags.len() as u32, mask: 1, wanted: 1, unused: 0 };
        Self { product, items, a, b, c, scale: Vec::from([0.5, 3.0, -4.0]), flags }
    }

    fn launch(&self, precision: Precision) {
        self.product.at(precision).launch(&mut EmulatorQueue::default(), self.items).unwrap();
    }

    /// Launches it and looks at all of C.
    fn check(&mut self, precision: Precision, what: &str) {
        let before = self.c.clone();
        self.launch(precision);
        let p = &self.product;
        let place = |i: usize, inner_count: usize, strides: Strides| {
            let inner_count = inner_count.max(1);
            i / inner_count * strides.outer as usize + i % inner_count * strides.inner as usize
        };
        let mut expected_before = before.clone();
        let in_parts = |x: &[f32]| x.iter().map(|&x| parts(precision, x)).collect::<Vec<_>>();
        let (a_parts, b_parts) = (in_parts(&self.a), in_parts(&self.b));
        for item in (0..FLAGS.len()).filter(|&item| self.flags[item] & 1 == 1) {
            let start = |array: Array| item * array.stride as usize;
            let factor = f64::from(p.alpha) * if p.scale == Array::NULL { 1.0 } else { f64::from(self.scale[item]) };
            for i in 0..p.rows {
                for j in 0..if p.lower { i + 1 } else { p.columns } {
                    let (mut exact, mut like, mut sizes) = (0.0, 0.0, 0.0);
                    for k in 0..p.depth {
                        let a_at = start(p.a) + i * p.a_row as usize + place(k, p.inner_depth, p.a_depth);
                        let b_at = start(p.b) + place(k, p.inner_depth, p.b_depth) + place(j, p.inner_columns, p.b_column);
                        let product = f64::from(self.a[a_at]) * f64::from(self.b[b_at]);
                        exact += product;
                        like += multiplied(a_parts[a_at], b_parts[b_at]);
                        sizes += product.abs();
                    }
                    let at = start(p.c) + i * p.c_row as usize + place(j, p.inner_columns, p.c_column);
                    let old = if p.accumulate { f64::from(before[at]) } else { 0.0 };
                    let got = f64::from(self.c[at]) - old;
                    let sums = sizes * factor.abs() * p.depth as f64 * 2f64.powi(-22) + (old.abs() + got.abs()) * 2f64.powi(-22);
                    let (like, exact) = (factor * like, factor * exact);
                    let whole = sums + sizes * factor.abs() * of_inputs(precision);
                    assert!((got - like).abs() <= sums, "{what} {precision:?} {item}: ({i}, {j}) is {got}, not {like}");
                    assert!((got - exact).abs() <= whole, "{what} {precision:?} {item}: ({i}, {j}) is {got}, far from {exact}");
                    expected_before[at] = self.c[at];
                }
            }
        }
        assert!(self.c == expected_before, "{what} {precision:?}: something else was written");
    }
}

fn nothing() -> Matrix {
    Matrix::row_major(Array::NULL, 1)
}

/// Launches all precisions of a shape, stored in every way, with what `change` makes of it.
fn check(shape: Shape, storages: &[Storage], many: bool, change: impl Fn(&mut Case)) {
    let mut random = Random::new((shape.rows * 64 + shape.depth * 8 + shape.columns) as u64);
    for storage in storages {
        for precision in Precision::ALL {
            let mut case = Case::new(shape, *storage, many, &mut random);
            change(&mut case);
            case.check(precision, &format!("{shape:?} {storage:?}"));
        }
    }
}

#[test]
fn products_of_all_shapes() {
    for (rows, depth, columns) in
        [(1, 1, 1), (1, 7, 1), (3, 17, 5), (16, 8, 8), (17, 16, 9), (64, 32, 64), (65, 33, 63), (5, 68, 130), (130, 3, 2)]
    {
        check(plain(rows, depth, columns), &STORAGES, false, |_| {});
    }
}

#[test]
fn indices_of_two_levels() {
    for (rows, depth, columns, inner_depth, inner_columns) in
        [(70, 40, 36, 8, 12), (33, 21, 50, 7, 5), (9, 36, 20, 4, 20), (4, 10, 30, 4, 7), (20, 48, 6, 1, 1), (6, 96, 66, 48, 2)]
    {
        check(Shape { rows, depth, columns, inner_depth, inner_columns }, &STORAGES, false, |_| {});
    }
}

#[test]
fn triangles() {
    for d in [1, 15, 64, 70, 133] {
        check(plain(d, 19, d), &STORAGES[..5], false, |case| case.product.lower = true);
        check(plain(d, d, 21), &STORAGES[2..5], false, |case| {
            // Zero below the diagonal.
            case.product.upper_a = true;
            let (p, a) = (case.product, &mut case.a);
            for item in 0..FLAGS.len() {
                for i in 0..d {
                    for k in 0..i {
                        a[item * p.a.stride as usize + i * p.a_row as usize + k * p.a_depth.inner as usize] = 0.0;
                    }
                }
            }
        });
    }
}

#[test]
fn factors_and_sums() {
    let scaled = |case: &mut Case| {
        case.product.alpha = -1.5;
        case.product.scale = array(&mut case.scale, 1);
        case.product.accumulate = true;
    };
    check(plain(37, 20, 42), &STORAGES, false, scaled);
    let triangle = |case: &mut Case| {
        scaled(case);
        case.product.lower = true;
    };
    check(plain(66, 24, 66), &STORAGES, false, triangle);
    // An empty sum.
    check(plain(5, 0, 6), &STORAGES[..1], false, |_| {});
    check(plain(5, 0, 6), &STORAGES[..1], false, scaled);
}

#[test]
fn large_tiles() {
    check(plain(250, 37, 128), &STORAGES[1..3], true, |_| {});
    check(Shape { rows: 128, depth: 40, columns: 252, inner_depth: 8, inner_columns: 12 }, &STORAGES[..1], true, |_| {});
    check(plain(250, 36, 250), &STORAGES[3..5], true, |case| {
        case.product.lower = true;
        case.product.accumulate = true;
        case.product.scale = array(&mut case.scale, 1);
    });
    check(plain(256, 256, 66), &STORAGES[..1], true, |case| {
        case.product.upper_a = true;
        for (i, row) in case.a.chunks_exact_mut(256).enumerate() {
            row[..i % 256].fill(0.0);
        }
    });
}

/// What a kernel makes of single numbers: times one.
fn one_times(precision: Precision, numbers: &[f32]) -> Vec<f32> {
    let (mut a, mut b, mut c) = (numbers.to_vec(), Vec::from([1.0f32]), vec![0.0f32; numbers.len()]);
    let column = |x: &mut Vec<f32>| Matrix::row_major(array(x, 0), 1);
    let product = Product::of(column(&mut c), column(&mut a), column(&mut b), [numbers.len(), 1, 1]);
    product.at(precision).launch(&mut EmulatorQueue::default(), Items::all(1)).unwrap();
    c
}

/// What a warp of the device does, lane by lane, is what the emulator's threads compute without it, and is the product.
#[test]
fn fragments_are_those_of_the_tiles() {
    #[repr(C)]
    struct Steps {
        a: *const u32,
        b: *const u32,
        by_fragments: *mut f32,
        by_words: *mut f32,
    }
    const ROWS: usize = 64;
    const COLUMNS: usize = 32;
    const WORDS: usize = 16;
    let mut random = Random::new(10);
    let kernels = [
        (Precision::Tf32, c"kls_test_fragments_tf32"),
        (Precision::Tf32x3, c"kls_test_fragments_tf32x3"),
        (Precision::Bf16, c"kls_test_fragments_bf16"),
    ];
    for (precision, kernel) in kernels {
        let depth = if precision == Precision::Bf16 { 2 * WORDS } else { WORDS };
        let (a, b) = (random.floats(ROWS * depth), random.floats(COLUMNS * depth));
        let word = |x: &[f32]| match *x {
            [low, high] => bf16(low).to_bits() >> 16 | bf16(high).to_bits(),
            [x] if precision == Precision::Tf32 => tf32(x).to_bits(),
            [x] => x.to_bits(),
            _ => unreachable!("one or two numbers make a word"),
        };
        let words = |x: &[f32]| x.chunks_exact(depth / WORDS).map(word).collect::<Vec<u32>>();
        let (a_words, b_words) = (words(&a), words(&b));
        let (mut by_fragments, mut by_words) = (vec![0.0f32; ROWS * COLUMNS], vec![0.0f32; ROWS * COLUMNS]);
        let steps =
            Steps { a: a_words.as_ptr(), b: b_words.as_ptr(), by_fragments: by_fragments.as_mut_ptr(), by_words: by_words.as_mut_ptr() };
        // SAFETY: four pointers.
        let bytes = unsafe { std::slice::from_raw_parts((&raw const steps).cast::<u8>(), size_of::<Steps>()) };
        // SAFETY: the kernel's parameters, and as much memory as it takes.
        unsafe { emulator::launch(kernel, [1; 3], 32, bytes) };
        for (at, (x, y)) in by_fragments.iter().zip(&by_words).enumerate() {
            let (i, j) = (at / COLUMNS, at % COLUMNS);
            assert_eq!(x.to_bits(), y.to_bits(), "{precision:?}: ({i}, {j})");
            let exact: f64 = (0..depth).map(|k| multiplied(parts(precision, a[i * depth + k]), parts(precision, b[j * depth + k]))).sum();
            assert!((f64::from(*x) - exact).abs() < 1e-5, "{precision:?}: ({i}, {j}) is {x}, not {exact}");
        }
    }
}

#[test]
fn numbers_are_rounded_to_the_bit() {
    let (e, mut random) = (|power: i32| 2f32.powi(power), Random::new(11));
    // Halves, and what is beside them.
    for (precision, bits) in [(Precision::Tf32, 11), (Precision::Bf16, 8)] {
        let half = e(-bits);
        let known = [
            (1.0, 1.0),
            (1.0 + half, if precision == Precision::Tf32 { 1.0 + 2.0 * half } else { 1.0 }),
            (-1.0 - half, if precision == Precision::Tf32 { -1.0 - 2.0 * half } else { -1.0 }),
            (1.0 + half - e(-23), 1.0),
            (1.0 + half + e(-23), 1.0 + 2.0 * half),
            (1.0 + 3.0 * half, 1.0 + 4.0 * half),
            (1.0 + 3.0 * half - e(-23), 1.0 + 2.0 * half),
            (2.0 - half / 2.0, 2.0),
            (f32::MAX, f32::INFINITY),
            (f32::INFINITY, f32::INFINITY),
            (f32::NEG_INFINITY, f32::NEG_INFINITY),
        ];
        let numbers: Vec<f32> = known.iter().map(|(x, _)| *x).collect();
        for ((x, expected), got) in known.iter().zip(one_times(precision, &numbers)) {
            assert_eq!(got.to_bits(), expected.to_bits(), "{precision:?}: {x} became {got}, not {expected}");
        }
        assert!(one_times(precision, &[f32::NAN])[0].is_nan() && one_times(precision, &[-f32::NAN])[0].is_nan());
    }
    let numbers: Vec<f32> = (0..400).map(|i| random.next() as f32 * e(i % 200 - 100)).collect();
    for (precision, round) in [(Precision::Tf32, tf32 as fn(f32) -> f32), (Precision::Bf16, bf16), (Precision::Fp32, |x| x)] {
        for (x, got) in numbers.iter().zip(one_times(precision, &numbers)) {
            assert_eq!(got.to_bits(), round(*x).to_bits(), "{precision:?}: {x} became {got}");
        }
    }
    // Two numbers in TF32 together.
    for (x, got) in numbers.iter().zip(one_times(Precision::Tf32x3, &numbers)) {
        assert!((x - got).abs() <= x.abs() * e(-23), "{x} became {got}");
    }
}

#[test]
fn what_is_not_finite_stays_where_it_belongs() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for precision in Precision::ALL {
            let (rows, depth, columns) = (70, 36, 66);
            let mut case = Case::new(plain(rows, depth, columns), STORAGES[0], false, &mut Random::new(12));
            // In row 9 by A, in column 65 by B, of the first item.
            case.a[9 * depth + 35] = bad;
            case.b[65 * depth + 1] = bad;
            case.launch(precision);
            for (at, x) in case.c[..rows * columns].iter().enumerate() {
                let expected = at / columns == 9 || at % columns == 65;
                assert_eq!(!x.is_finite(), expected, "{precision:?} with {bad}: ({}, {}) is {x}", at / columns, at % columns);
            }
        }
    }
}

/// Numbers of one sign, so that what is cut off by adding in tensor cores would add up.
#[test]
fn long_sums_of_three_products_are_as_exact_as_in_fp32() {
    let shape = plain(3, 4096, 5);
    for precision in [Precision::Fp32, Precision::Tf32x3] {
        let mut case = Case::new(shape, STORAGES[0], false, &mut Random::new(13));
        case.a.iter_mut().chain(&mut case.b).for_each(|x| *x = x.abs());
        case.launch(precision);
        for i in 0..shape.rows {
            for j in 0..shape.columns {
                let line = |x: &[f32], i: usize| x[i * shape.depth..][..shape.depth].iter().map(|&x| f64::from(x)).collect::<Vec<_>>();
                let exact: f64 = line(&case.a, i).iter().zip(line(&case.b, j)).map(|(a, b)| a * b).sum();
                let error = (f64::from(case.c[i * shape.columns + j]) - exact).abs() / exact;
                assert!(error < 2f64.powi(-18), "{precision:?}: ({i}, {j}) is off by {error:e}");
            }
        }
    }
}

#[test]
fn sizes_beyond_the_grid_are_refused() {
    for precision in Precision::ALL {
        let launch = |product: Product| product.at(precision).launch(&mut EmulatorQueue::default(), Items::all(1));
        assert!(launch(Product::of(nothing(), nothing(), nothing(), [1 << 31, 1, 1])).is_err());
        assert!(launch(Product::of(nothing(), nothing(), nothing(), [1 << 24, 1, 1 << 24])).is_err());
        // And of nothing nothing is asked.
        let mut q = EmulatorQueue::default();
        Product::of(nothing(), nothing(), nothing(), [5; 3]).at(precision).launch(&mut q, Items::all(0)).unwrap();
        assert_eq!(q.launches, 0);
    }
}
