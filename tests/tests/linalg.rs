//! Every linear-algebra backend against naive f64 arithmetic: one set of checks, one table of shapes, all backends and element types.

use klshampoo::Scalar;
use klshampoo::linalg::{LinAlg, LinAlgError, MatMut, MatRef, Portable, work_len};
use klshampoo_ffi::host::Faer;

/// 1, 2, 3, the register tile's sides less one, exact and plus one, odd sizes, and sizes of several tiles and packed blocks.
const SIZES: [usize; 13] = [1, 2, 3, 4, 5, 7, 8, 9, 17, 33, 64, 97, 150];

/// An element type of the tests: exact to and from `f64` where it matters.
trait Element: Scalar {
    /// The nearest value.
    fn of(x: f64) -> Self;
    /// The value.
    fn wide(self) -> f64;
}

impl Element for f32 {
    fn of(x: f64) -> Self {
        x as f32
    }
    fn wide(self) -> f64 {
        self.into()
    }
}

impl Element for f64 {
    fn of(x: f64) -> Self {
        x
    }
    fn wide(self) -> f64 {
        self
    }
}

/// A reproducible stream of numbers in (-1, 1).
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> f64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }

    fn matrix<T: Element>(&mut self, rows: usize, cols: usize) -> Dense<T> {
        Dense::from_fn(rows, cols, |_, _| self.next())
    }
}

/// How a matrix lies in memory.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Storage {
    Rows,
    Columns,
    /// Neither stride is 1.
    Sparse,
}

const STORAGES: [Storage; 3] = [Storage::Rows, Storage::Columns, Storage::Sparse];

/// A row-major matrix of exact values, and the strided copies that the backends see.
#[derive(Clone)]
struct Dense<T> {
    rows: usize,
    cols: usize,
    data: Vec<T>,
}

/// A strided copy. The gaps between its elements hold a sentinel.
struct Stored<T> {
    data: Vec<T>,
    row_stride: usize,
    col_stride: usize,
}

const SENTINEL: f64 = 12345.0;

impl<T: Element> Dense<T> {
    fn from_fn(rows: usize, cols: usize, mut f: impl FnMut(usize, usize) -> f64) -> Self {
        let data = (0..rows * cols).map(|x| T::of(f(x / cols, x % cols))).collect();
        Self { rows, cols, data }
    }

    fn at(&self, i: usize, j: usize) -> f64 {
        self.data[i * self.cols + j].wide()
    }

    fn stored(&self, storage: Storage) -> Stored<T> {
        let (row_stride, col_stride) = match storage {
            Storage::Rows => (self.cols + 3, 1),
            Storage::Columns => (1, self.rows + 2),
            Storage::Sparse => (2 * self.cols + 1, 2),
        };
        let mut data = vec![T::of(SENTINEL); (self.rows - 1) * row_stride + (self.cols - 1) * col_stride + 1];
        for i in 0..self.rows {
            for j in 0..self.cols {
                data[i * row_stride + j * col_stride] = self.data[i * self.cols + j];
            }
        }
        Stored { data, row_stride, col_stride }
    }

    fn view<'a>(&self, stored: &'a Stored<T>) -> MatRef<'a, T> {
        MatRef::strided(&stored.data, self.rows, self.cols, stored.row_stride, stored.col_stride)
    }

    fn view_mut<'a>(&self, stored: &'a mut Stored<T>) -> MatMut<'a, T> {
        MatMut::strided(&mut stored.data, self.rows, self.cols, stored.row_stride, stored.col_stride)
    }

    /// Reads a strided copy back, and checks that nothing was written between its elements.
    fn load(&self, stored: &Stored<T>) -> Self {
        let mut seen = vec![false; stored.data.len()];
        let mut data = Vec::new();
        for i in 0..self.rows {
            for j in 0..self.cols {
                let at = i * stored.row_stride + j * stored.col_stride;
                seen[at] = true;
                data.push(stored.data[at]);
            }
        }
        for (at, seen) in seen.into_iter().enumerate() {
            assert!(seen || stored.data[at] == T::of(SENTINEL), "wrote between the elements");
        }
        Self { rows: self.rows, cols: self.cols, data }
    }

    fn t(&self) -> Self {
        Self::from_fn(self.cols, self.rows, |i, j| self.at(j, i))
    }

    fn largest(&self) -> f64 {
        self.data.iter().fold(0.0, |m, x| m.max(x.wide().abs()))
    }

    /// The product in f64.
    fn times(&self, other: &Self) -> Dense<f64> {
        Dense::from_fn(self.rows, other.cols, |i, j| (0..self.cols).map(|k| self.at(i, k) * other.at(k, j)).sum())
    }

    fn wide(&self) -> Dense<f64> {
        Dense::from_fn(self.rows, self.cols, |i, j| self.at(i, j))
    }
}

fn eps<T: Element>() -> f64 {
    T::EPSILON.wide()
}

/// The shapes of the products: every pair of edge sizes with a few depths, and long thin ones.
fn shapes() -> Vec<(usize, usize, usize)> {
    let mut shapes = Vec::new();
    for m in SIZES {
        for n in SIZES {
            shapes.push((m, 1 + (m * 7 + n * 3) % 40, n));
        }
        shapes.push((m, 300, 5));
    }
    // The last is large enough for every kind of blocking and copying.
    shapes.extend([(1, 1, 300), (300, 2, 1), (2, 300, 2), (40, 257, 70), (40, 530, 260)]);
    shapes
}

fn products<T: Element, L: LinAlg<T>>(linalg: &mut L) {
    let mut noise = Noise(1);
    for (m, k, n) in shapes() {
        let (a, b, old) = (noise.matrix::<T>(m, k), noise.matrix::<T>(k, n), noise.matrix::<T>(m, n));
        let exact = a.times(&b);
        // Every combination of storage on the small shapes, the dense ones on the others.
        let storages = if m * k * n < 20_000 { &STORAGES[..] } else { &STORAGES[..2] };
        for &sa in storages {
            for &sb in storages {
                for &sc in storages {
                    for accumulate in [false, true] {
                        let mut c = old.stored(sc);
                        linalg.matmul(old.view_mut(&mut c), accumulate, a.view(&a.stored(sa)), b.view(&b.stored(sb))).unwrap();
                        let c = old.load(&c);
                        for i in 0..m {
                            for j in 0..n {
                                let expected = exact.at(i, j) + if accumulate { old.at(i, j) } else { 0.0 };
                                let error = (c.at(i, j) - expected).abs();
                                assert!(error <= (k + 2) as f64 * eps::<T>(), "{m}x{k}x{n} {sa:?} {sb:?} {sc:?} ({i}, {j}): {error:e}");
                            }
                        }
                    }
                }
            }
        }
    }
}

fn lower_products<T: Element, L: LinAlg<T>>(linalg: &mut L) {
    let mut noise = Noise(2);
    for m in SIZES.into_iter().chain([520]) {
        for k in [1, 5, 33, 140, 530] {
            if m == 520 && k != 33 && k != 530 || m < 150 && k == 530 {
                continue;
            }
            // Also of a product that is not symmetric.
            let (a, old) = (noise.matrix::<T>(m, k), noise.matrix::<T>(m, m));
            let b = if k == 5 { noise.matrix::<T>(k, m) } else { a.t() };
            let exact = a.times(&b);
            let alpha = 0.375;
            for sa in STORAGES {
                for sc in STORAGES {
                    for accumulate in [false, true] {
                        let mut c = old.stored(sc);
                        let (a_stored, b_stored) = (a.stored(sa), b.stored(sa));
                        linalg.matmul_lower(old.view_mut(&mut c), accumulate, T::of(alpha), a.view(&a_stored), b.view(&b_stored)).unwrap();
                        let c = old.load(&c);
                        for i in 0..m {
                            for j in 0..m {
                                if j > i {
                                    assert_eq!(c.at(i, j), old.at(i, j), "wrote above the diagonal");
                                    continue;
                                }
                                let expected = alpha * exact.at(i, j) + if accumulate { old.at(i, j) } else { 0.0 };
                                let error = (c.at(i, j) - expected).abs();
                                assert!(
                                    error <= (k + 2) as f64 * eps::<T>() * expected.abs().max(1.0),
                                    "{m}x{k} {sa:?} {sc:?} ({i}, {j}): {error:e}"
                                );
                            }
                        }
                    }
                }
            }
        }
    }
}

/// `U B`, with a `B` that makes it symmetric and with any other. Nothing is read below the diagonal of `U` but zeros.
fn upper_products<T: Element, L: LinAlg<T>>(linalg: &mut L) {
    let mut noise = Noise(12);
    for d in SIZES.into_iter().chain([255, 520]) {
        let dense = noise.matrix::<T>(d, d);
        let u: Dense<T> = Dense::from_fn(d, d, |i, j| if j >= i { dense.at(i, j) } else { 0.0 });
        for b in [u.t(), noise.matrix::<T>(d, d)] {
            let (exact, old) = (u.times(&b), noise.matrix::<T>(d, d));
            let storages = if d < 300 { &STORAGES[..] } else { &STORAGES[..2] };
            for (&sa, &sc) in storages.iter().flat_map(|sa| storages.iter().map(move |sc| (sa, sc))) {
                let (u_stored, b_stored, mut c) = (u.stored(sa), b.stored(sc), old.stored(sc));
                linalg.upper_times(old.view_mut(&mut c), u.view(&u_stored), b.view(&b_stored)).unwrap();
                let c = old.load(&c);
                for i in 0..d {
                    for j in 0..d {
                        if j > i {
                            assert_eq!(c.at(i, j), old.at(i, j), "wrote above the diagonal");
                            continue;
                        }
                        let error = (c.at(i, j) - exact.at(i, j)).abs();
                        let bound = (d - i + 2) as f64 * eps::<T>() * exact.at(i, j).abs().max(1.0);
                        assert!(error <= bound, "{d} {sa:?} {sc:?} ({i}, {j}): {error:e}");
                    }
                }
            }
        }
    }
}

/// The square matrices that factorisations must bear.
fn square<T: Element>(kind: &str, d: usize, noise: &mut Noise) -> Dense<T> {
    // The widest grading whose square still is a number of the type's range.
    let wide = if size_of::<T>() == 4 { 18 } else { 140 };
    let strong = if size_of::<T>() == 4 { 7.0 } else { 12.0 };
    let base: Dense<f64> = noise.matrix(d, d);
    let power = |x: f64| 10f64.powf(x);
    match kind {
        "random" => base.wide_as(),
        "zero" => Dense::from_fn(d, d, |_, _| 0.0),
        "identity" => Dense::from_fn(d, d, |i, j| f64::from(i == j)),
        "negative" => Dense::from_fn(d, d, |i, j| -f64::from(i == j)),
        "rank 1" => Dense::from_fn(d, d, |i, j| base.at(i, 0) * base.at(j, d - 1)),
        "half rank" => {
            let half = d.div_ceil(2);
            Dense::from_fn(d, d, |i, j| (0..half).map(|k| base.at(i, k) * base.at(k, j)).sum())
        }
        "zero columns" => Dense::from_fn(d, d, |i, j| if j % 3 == 0 { 0.0 } else { base.at(i, j) }),
        "outlier" => Dense::from_fn(d, d, |i, j| if (i, j) == (d / 2, d / 3) { power(f64::from(wide)) } else { base.at(i, j) }),
        "graded columns" => {
            let step = 2.0 * f64::from(wide) / d as f64;
            Dense::from_fn(d, d, |i, j| base.at(i, j) * power(j as f64 * step - f64::from(wide)))
        }
        "graded rows" => Dense::from_fn(d, d, |i, j| base.at(i, j) * power(-(i as f64) * strong / d as f64)),
        "graded both" => Dense::from_fn(d, d, |i, j| base.at(i, j) * power(-((i + j) as f64) * strong / d as f64)),
        "tiny" => Dense::from_fn(d, d, |i, j| base.at(i, j) * power(f64::from(-2 * wide))),
        "huge" => Dense::from_fn(d, d, |i, j| base.at(i, j) * power(f64::from(2 * wide))),
        "triangular, tiny diagonal" => Dense::from_fn(d, d, |i, j| {
            if i == j {
                power(f64::from(-wide))
            } else if i < j {
                base.at(i, j)
            } else {
                0.0
            }
        }),
        "ones" => Dense::from_fn(d, d, |_, _| 1.0),
        other => panic!("no matrix called {other}"),
    }
}

const KINDS: [&str; 15] = [
    "random",
    "zero",
    "identity",
    "negative",
    "rank 1",
    "half rank",
    "zero columns",
    "outlier",
    "graded columns",
    "graded rows",
    "graded both",
    "tiny",
    "huge",
    "triangular, tiny diagonal",
    "ones",
];

impl Dense<f64> {
    fn wide_as<T: Element>(&self) -> Dense<T> {
        Dense::from_fn(self.rows, self.cols, |i, j| self.at(i, j))
    }
}

/// Columns of norm 1, or 0; by way of their largest elements, so that no square leaves the range.
fn unit_columns<T: Element>(a: &Dense<T>) -> Dense<f64> {
    let mut out = a.wide();
    for j in 0..a.cols {
        let largest = (0..a.rows).fold(0.0f64, |m, i| m.max(a.at(i, j).abs()));
        let norm = (0..a.rows).map(|i| (a.at(i, j) / largest).powi(2)).sum::<f64>().sqrt();
        for i in 0..a.rows {
            out.data[i * a.cols + j] = if largest == 0.0 { 0.0 } else { a.at(i, j) / largest / norm };
        }
    }
    out
}

/// `max |Q^T Q - I|`
fn orthogonality<T: Element>(q: &Dense<T>) -> f64 {
    let gram = q.t().times(q);
    let error = |x: usize| (gram.data[x] - f64::from(x / q.rows == x % q.rows)).abs();
    (0..gram.data.len()).map(error).fold(0.0, |m, x| if x.is_nan() { f64::INFINITY } else { m.max(x) })
}

fn factors<T: Element, L: LinAlg<T>>(linalg: &mut L) {
    let mut noise = Noise(3);
    for d in SIZES {
        for kind in KINDS {
            let a: Dense<T> = square(kind, d, &mut noise);
            for storage in [Storage::Rows, Storage::Columns] {
                let (mut a_stored, mut q) = (a.stored(storage), a.stored(storage));
                let mut work = vec![T::ZERO; work_len(d)];
                linalg.qr(a.view_mut(&mut a_stored), a.view_mut(&mut q), &mut work).unwrap();
                let q = a.load(&q);
                a.load(&a_stored);
                let tolerance = 4.0 * (d as f64 + 8.0) * eps::<T>();
                let error = orthogonality(&q);
                assert!(error <= tolerance, "qr {kind} {d}: orthogonal to {error:e}");
                // Column by column, because Q does not depend on their scaling.
                let r = q.t().wide().times(&unit_columns(&a));
                for j in 0..d {
                    for i in j..d {
                        let x = r.at(i, j);
                        let wrong = if i == j { -x } else { x.abs() };
                        assert!(wrong <= tolerance, "qr {kind} {d}: R({i}, {j}) = {x:e} of a column of norm 1");
                    }
                }
            }
        }
    }
}

/// The textbook orthogonal factor by modified Gram-Schmidt in f64, twice for its orthogonality.
fn gram_schmidt(a: &Dense<f64>) -> Dense<f64> {
    let d = a.rows;
    let mut q = a.clone();
    for j in 0..d {
        for _ in 0..2 {
            for k in 0..j {
                let along: f64 = (0..d).map(|i| q.at(i, k) * q.at(i, j)).sum();
                for i in 0..d {
                    q.data[i * d + j] -= along * q.at(i, k);
                }
            }
        }
        let norm = (0..d).map(|i| q.at(i, j).powi(2)).sum::<f64>().sqrt();
        for i in 0..d {
            q.data[i * d + j] /= norm;
        }
    }
    q
}

/// Full rank: the factor is unique.
fn factors_of_full_rank<T: Element, L: LinAlg<T>>(linalg: &mut L) {
    let mut noise = Noise(4);
    for d in SIZES {
        // Diagonally dominant, thus well conditioned.
        let a: Dense<T> = Dense::from_fn(d, d, |i, j| noise.next() + if i == j { 3.0 * (d as f64).sqrt() } else { 0.0 });
        let a: Dense<T> = Dense::from_fn(d, d, |i, j| a.at((i + 1) % d, j));
        let expected = gram_schmidt(&a.wide());
        let (mut a_stored, mut q) = (a.stored(Storage::Rows), a.stored(Storage::Rows));
        let mut work = vec![T::ZERO; work_len(d)];
        linalg.qr(a.view_mut(&mut a_stored), a.view_mut(&mut q), &mut work).unwrap();
        let q = a.load(&q);
        for (x, y) in q.data.iter().zip(&expected.data) {
            assert!((x.wide() - y).abs() <= 10.0 * (d as f64 + 8.0) * eps::<T>(), "d = {d}");
        }
    }
}

/// `A = L L^T` and `X L^T = B`, without a look at the strict upper triangle.
fn cholesky<T: Element, L: LinAlg<T>>(linalg: &mut L) {
    let mut noise = Noise(9);
    for d in SIZES.into_iter().chain([200, 300, 600]) {
        for grade in [0.0, 9.0] {
            let w: Dense<T> = noise.matrix(d, 2 * d);
            let gram = w.times(&w.t());
            let scale = |i: usize| 10f64.powf(-grade * i as f64 / d as f64);
            let a: Dense<T> = Dense::from_fn(d, d, |i, j| gram.at(i, j) * scale(i) * scale(j));
            let mut a_stored = Dense::<T>::from_fn(d, d, |i, j| if i >= j { a.at(i, j) } else { f64::NAN }).stored(Storage::Columns);
            linalg.cholesky(a.view_mut(&mut a_stored)).unwrap();
            let l = a.load(&a_stored);
            assert!((0..d).all(|i| (i + 1..d).all(|j| l.at(i, j) == 0.0)), "not zero above the diagonal");
            let (product, tolerance) = (l.times(&l.t()), (d as f64 + 8.0) * eps::<T>());
            for i in 0..d {
                assert!(l.at(i, i) > 0.0);
                for j in 0..=i {
                    // Backward stable element by element: |A - L L^T| is bounded by the diagonal's geometric mean.
                    let error = (product.at(i, j) - a.at(i, j)).abs() / (a.at(i, i) * a.at(j, j)).sqrt();
                    assert!(error <= tolerance, "cholesky {d} {grade} ({i}, {j}): {error:e}");
                }
            }
            for rows in [1, 3, d, d + 5] {
                let b: Dense<T> = noise.matrix(rows, d);
                let mut x = b.stored(Storage::Columns);
                linalg.solve_lower(b.view_mut(&mut x), a.view(&a_stored)).unwrap();
                let x = b.load(&x);
                let back = x.times(&l.t());
                for i in 0..rows {
                    for j in 0..d {
                        let size: f64 = (0..=j).map(|k| (x.at(i, k) * l.at(j, k)).abs()).sum();
                        let error = (back.at(i, j) - b.at(i, j)).abs();
                        assert!(error <= tolerance * size.max(b.at(i, j).abs()), "solve {rows} {d} {grade} ({i}, {j}): {error:e}");
                    }
                }
            }
        }
        for kind in ["negative", "zero", "rank 1"] {
            let a: Dense<T> = square(kind, d, &mut noise);
            let a: Dense<T> = if kind == "rank 1" { Dense::from_fn(d, d, |i, j| -(a.at(i, 0) * a.at(j, 0))) } else { a };
            let mut stored = a.stored(Storage::Columns);
            assert_eq!(linalg.cholesky(a.view_mut(&mut stored)), Err(LinAlgError::NotPositive), "{kind} {d}");
        }
        let nan: Dense<T> = Dense::from_fn(d, d, |i, j| {
            if i == j {
                1.0
            } else if (i, j) == (d - 1, 0) {
                f64::NAN
            } else {
                0.0
            }
        });
        if d > 1 {
            let mut stored = nan.stored(Storage::Columns);
            assert!(linalg.cholesky(nan.view_mut(&mut stored)).is_err(), "a NaN in {d}");
        }
    }
}

fn symmetric<T: Element>(kind: &str, d: usize, noise: &mut Noise) -> Dense<T> {
    let a: Dense<T> = square(kind, d, noise);
    Dense::from_fn(d, d, |i, j| if i >= j { a.at(i, j) } else { a.at(j, i) })
}

fn eigen<T: Element, L: LinAlg<T>>(linalg: &mut L) {
    let mut noise = Noise(5);
    for d in SIZES {
        for kind in KINDS {
            let a: Dense<T> = symmetric(kind, d, &mut noise);
            for storage in [Storage::Rows, Storage::Columns] {
                // The strict upper triangle is not read.
                let lower = Dense::<T>::from_fn(d, d, |i, j| if i >= j { a.at(i, j) } else { f64::NAN });
                let (mut a_stored, mut q) = (lower.stored(storage), a.stored(storage));
                let (mut values, mut work) = (vec![T::ZERO; d], vec![T::ZERO; work_len(d)]);
                linalg.eigh(a.view_mut(&mut a_stored), a.view_mut(&mut q), &mut values, &mut work).unwrap();
                let q = a.load(&q);
                a.load(&a_stored);
                let tolerance = 8.0 * (d as f64 + 8.0) * eps::<T>();
                let error = orthogonality(&q);
                assert!(error <= tolerance, "eigh {kind} {d}: orthogonal to {error:e}");
                assert!(values.windows(2).all(|pair| pair[0] >= pair[1]), "eigh {kind} {d}: not descending");
                // A Q = Q diag(values), relative to the norm of A; scaled, so that the check itself stays in range.
                let norm = a.largest().max(f64::MIN_POSITIVE);
                let scaled: Dense<f64> = Dense::from_fn(d, d, |i, j| a.at(i, j) / norm);
                let left = scaled.times(&q.wide());
                let frobenius = scaled.data.iter().map(|x| x * x).sum::<f64>().sqrt();
                for i in 0..d {
                    for (j, value) in values.iter().enumerate() {
                        let error = (left.at(i, j) - q.at(i, j) * (value.wide() / norm)).abs();
                        assert!(error <= tolerance * frobenius.max(1.0), "eigh {kind} {d} ({i}, {j}): {error:e}");
                    }
                }
            }
        }
    }
}

/// Exact answers: zero gives the identity, a diagonal matrix a permutation, equal eigenvalues stay in order.
fn exact_eigen<T: Element, L: LinAlg<T>>(linalg: &mut L) {
    for d in SIZES {
        let run = |linalg: &mut L, diagonal: &dyn Fn(usize) -> f64| {
            let a: Dense<T> = Dense::from_fn(d, d, |i, j| if i == j { diagonal(i) } else { 0.0 });
            let (mut a_stored, mut q) = (a.stored(Storage::Rows), a.stored(Storage::Rows));
            let (mut values, mut work) = (vec![T::ZERO; d], vec![T::ZERO; work_len(d)]);
            linalg.eigh(a.view_mut(&mut a_stored), a.view_mut(&mut q), &mut values, &mut work).unwrap();
            (a.load(&q), values)
        };
        for constant in [0.0, 2.5] {
            let (q, values) = run(linalg, &|_| constant);
            assert!(q.data == Dense::<T>::from_fn(d, d, |i, j| f64::from(i == j)).data, "not the identity");
            assert!(values.iter().all(|x| (x.wide() - constant).abs() <= 4.0 * eps::<T>()));
        }
        // Ascending: the order is reversed.
        let (q, values) = run(linalg, &|i| i as f64 - 3.0);
        assert!(q.data == Dense::<T>::from_fn(d, d, |i, j| f64::from(i + j == d - 1)).data, "not the permutation");
        // A backend may scale by other numbers than powers of two.
        assert!((0..d).all(|j| (values[j].wide() - ((d - 1 - j) as f64 - 3.0)).abs() <= 4.0 * d as f64 * eps::<T>()));
    }
}

fn not_finite<T: Element, L: LinAlg<T>>(linalg: &mut L) {
    for d in SIZES {
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            for at in [(0, 0), (d - 1, d - 1), (d - 1, 0), (d / 2, d / 3)] {
                let a: Dense<T> = Dense::from_fn(d, d, |i, j| if (i, j) == at { bad } else { f64::from(i == j) });
                let (mut values, mut work) = (vec![T::ZERO; d], vec![T::ZERO; work_len(d)]);
                let (mut x, mut q) = (a.stored(Storage::Rows), a.stored(Storage::Rows));
                let result = linalg.qr(a.view_mut(&mut x), a.view_mut(&mut q), &mut work);
                assert_eq!(result, Err(LinAlgError::NotFinite));
                let mut x = a.stored(Storage::Rows);
                let result = linalg.eigh(a.view_mut(&mut x), a.view_mut(&mut q), &mut values, &mut work);
                assert_eq!(result, Err(LinAlgError::NotFinite));
            }
        }
    }
}

/// The same call twice gives the same bits, whatever the backend did in between.
fn repeatable<T: Element, L: LinAlg<T>>(linalg: &mut L) {
    let mut noise = Noise(6);
    for d in [5, 33, 64, 150] {
        let a: Dense<T> = noise.matrix(d, d);
        let mut first: Option<(Vec<T>, Vec<T>, Vec<T>)> = None;
        for _ in 0..2 {
            let (mut values, mut work) = (vec![T::ZERO; d], vec![T::ZERO; work_len(d)]);
            let (mut x, mut q) = (a.stored(Storage::Rows), a.stored(Storage::Rows));
            linalg.qr(a.view_mut(&mut x), a.view_mut(&mut q), &mut work).unwrap();
            let (mut x, mut e) = (a.stored(Storage::Rows), a.stored(Storage::Rows));
            linalg.eigh(a.view_mut(&mut x), a.view_mut(&mut e), &mut values, &mut work).unwrap();
            let these = (a.load(&q).data, a.load(&e).data, values);
            assert!(first.get_or_insert_with(|| these.clone()) == &these, "d = {d}");
        }
    }
}

/// The order of [`Portable`]'s sums, spelled out: its bits depend neither on tiles nor on strides.
fn exact_products<T: Element>() {
    let mut noise = Noise(7);
    for (m, k, n) in shapes() {
        let (a, b, old) = (noise.matrix::<T>(m, k), noise.matrix::<T>(k, n), noise.matrix::<T>(m, n));
        let alpha = T::of(0.3);
        for (sa, sb, sc) in [(0, 0, 0), (1, 0, 1), (0, 1, 2), (1, 1, 0), (2, 2, 1)] {
            let (a_stored, b_stored) = (a.stored(STORAGES[sa]), b.stored(STORAGES[sb]));
            for accumulate in [false, true] {
                let sum = |i: usize, j: usize, alpha: T| {
                    let first = if accumulate { old.data[i * n + j] } else { T::ZERO };
                    (0..k).fold(first, |sum, x| sum + a.data[i * k + x] * (alpha * b.data[x * n + j]))
                };
                let mut c = old.stored(STORAGES[sc]);
                Portable.matmul(old.view_mut(&mut c), accumulate, a.view(&a_stored), b.view(&b_stored)).unwrap();
                let c = old.load(&c);
                assert!((0..m * n).all(|x| c.data[x] == sum(x / n, x % n, T::ONE)), "{m}x{k}x{n}");
                if m == n {
                    let mut c = old.stored(STORAGES[sc]);
                    Portable.matmul_lower(old.view_mut(&mut c), accumulate, alpha, a.view(&a_stored), b.view(&b_stored)).unwrap();
                    let c = old.load(&c);
                    let expected = |x: usize| if x % n > x / n { old.data[x] } else { sum(x / n, x % n, alpha) };
                    assert!((0..m * n).all(|x| c.data[x] == expected(x)), "lower {m}x{k}");
                }
            }
        }
    }
}

#[test]
fn portable_products_are_exactly_ordered() {
    exact_products::<f32>();
    exact_products::<f64>();
}

/// FNV-1a over the bits of factorisations: the same on every target, and changed only knowingly.
#[test]
fn portable_bits_are_pinned() {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut noise = Noise(8);
    for d in SIZES {
        let a: Dense<f32> = noise.matrix(d, d);
        let (mut values, mut work) = (vec![0.0; d], vec![0.0; work_len(d)]);
        let mut outputs = Vec::new();
        for storage in [Storage::Rows, Storage::Columns] {
            let (mut x, mut q) = (a.stored(storage), a.stored(storage));
            Portable.qr(a.view_mut(&mut x), a.view_mut(&mut q), &mut work).unwrap();
            let mut both = a.load(&q).data;
            let mut x = a.stored(storage);
            Portable.eigh(a.view_mut(&mut x), a.view_mut(&mut q), &mut values, &mut work).unwrap();
            both.extend(a.load(&q).data);
            both.extend(&values);
            outputs.push(both);
        }
        assert!(outputs[0] == outputs[1], "the storage shows in the bits");
        for byte in outputs[0].iter().flat_map(|x| x.to_bits().to_le_bytes()) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    assert_eq!(hash, 0x9040_7846_5530_10c6, "{hash:#x}");
}

macro_rules! backend {
    ($name:ident, $t:ty, $linalg:expr) => {
        mod $name {
            use super::*;

            #[test]
            fn products() {
                super::products::<$t, _>(&mut $linalg);
            }
            #[test]
            fn lower_products() {
                super::lower_products::<$t, _>(&mut $linalg);
            }
            #[test]
            fn upper_products() {
                super::upper_products::<$t, _>(&mut $linalg);
            }
            #[test]
            fn factors() {
                super::factors::<$t, _>(&mut $linalg);
            }
            #[test]
            fn factors_of_full_rank() {
                super::factors_of_full_rank::<$t, _>(&mut $linalg);
            }
            #[test]
            fn cholesky() {
                super::cholesky::<$t, _>(&mut $linalg);
            }
            #[test]
            fn eigen() {
                super::eigen::<$t, _>(&mut $linalg);
            }
            #[test]
            fn exact_eigen() {
                super::exact_eigen::<$t, _>(&mut $linalg);
            }
            #[test]
            fn not_finite() {
                super::not_finite::<$t, _>(&mut $linalg);
            }
            #[test]
            fn repeatable() {
                super::repeatable::<$t, _>(&mut $linalg);
            }
        }
    };
}

backend!(portable_f32, f32, Portable);
backend!(portable_f64, f64, Portable);
backend!(faer_f32, f32, Faer::new(600).unwrap());
backend!(faer_f64, f64, Faer::sized_for::<f64>(600).unwrap());
