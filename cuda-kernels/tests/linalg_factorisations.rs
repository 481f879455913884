//! Factorisations in batches, against the core's and by what defines them.

mod common;
#[path = "common/numbers.rs"]
mod numbers;

use common::{EmulatorQueue, array, device};
use klshampoo::linalg::{LinAlg, MatMut, MatRef, Portable};
use klshampoo_cuda::batch::{Array, Items};
use klshampoo_cuda::linalg::{
    JacobiPanels, Precision, cholesky, eigh, eigh_in_panels, polish, qr, qr_in_panels, qr_panels_work_len, refine, solve_lower, work_len,
};
use numbers::{Random, Square};

const FAILED: u32 = 1 << 20;
const TAKES_PART: u32 = 1;

/// Items with these matrices, of which the first one takes no part.
struct Batch {
    d: usize,
    flags: Vec<u32>,
    a: Vec<f32>,
    before: Vec<f32>,
}

impl Batch {
    fn of(d: usize, matrices: &[Square]) -> Self {
        let a: Vec<f32> = matrices.iter().flat_map(Square::floats).collect();
        let flags = (0..matrices.len()).map(|item| if item == 0 { 2 } else { TAKES_PART | 2 }).collect();
        Self { d, flags, before: a.clone(), a }
    }

    fn items(&mut self) -> Items {
        Items { flags: device(&mut self.flags), count: self.flags.len() as u32, mask: TAKES_PART, wanted: TAKES_PART, unused: 0 }
    }

    fn array(&mut self) -> Array {
        array(&mut self.a, self.d * self.d)
    }

    fn matrix(&self, item: usize) -> &[f32] {
        &self.a[item * self.d * self.d..][..self.d * self.d]
    }

    fn before(&self, item: usize) -> &[f32] {
        &self.before[item * self.d * self.d..][..self.d * self.d]
    }

    /// That the first item is as it was, and the others have failed or not as given.
    fn check(&self, failed: &[bool]) {
        assert_eq!(self.matrix(0), self.before(0));
        assert_eq!(self.flags[0], 2);
        for (item, &failed) in failed.iter().enumerate() {
            assert_eq!(self.flags[item + 1], TAKES_PART | 2 | if failed { FAILED } else { 0 }, "item {}", item + 1);
        }
    }
}

fn positive(d: usize, random: &mut Random, scale: f64) -> Square {
    Square::factor(d, d + 3, 0.1 * d as f64, random, |_| scale.sqrt())
}

#[test]
fn cholesky_factors_are_the_cores() {
    for d in [1, 2, 5, 31, 63, 64, 65, 130, 200] {
        let mut random = Random::new(d as u64);
        let scales = [1.0, 1.0, 1e-30, 1e30];
        let mut batch = Batch::of(d, &scales.map(|scale| positive(d, &mut random, scale)));
        let (items, a) = (batch.items(), batch.array());
        cholesky(&mut EmulatorQueue::default(), items, d, a, FAILED, Precision::Fp32).unwrap();
        batch.check(&[false; 3]);
        for item in 1..4 {
            let mut expected = batch.before(item).to_vec();
            Portable.cholesky(MatMut::row_major(&mut expected, d, d).t()).unwrap();
            let (got, expected) = (Square::of(d, batch.matrix(item)), Square::of(d, &expected));
            let largest = expected.largest();
            assert!(got.distance(&expected) < 1e-5 * largest, "{d}: {:e}", got.distance(&expected) / largest);
            for i in 0..d {
                for j in i + 1..d {
                    assert_eq!(got.get(j, i), 0.0, "{d}: ({i}, {j}) is above the diagonal");
                }
            }
            // Columns are contiguous: in memory it is L^T.
            let again = got.t().times(&got);
            let a = Square::of(d, batch.before(item));
            assert!(again.distance(&a) < 1e-6 * a.largest(), "{d}: {:e}", again.distance(&a) / a.largest());
        }
    }
}

#[test]
fn a_bad_pivot_sets_the_bit_and_stops_its_item() {
    let d = 150;
    let mut random = Random::new(1);
    let good = positive(d, &mut random, 1.0);
    let changed = |i: usize, j: usize, x: f64| {
        let mut s = good.clone();
        s.at[i * d + j] = x;
        s.at[j * d + i] = x;
        s
    };
    // The last items fail in the third block, the first block's work is done.
    let zero = Square::from_fn(d, |_, _| 0.0);
    let matrices = [
        good.clone(),
        zero,
        changed(3, 3, f64::NAN),
        changed(3, 3, f64::INFINITY),
        changed(149, 149, -1.0),
        changed(140, 2, f64::NAN),
        changed(140, 2, f64::INFINITY),
        good.clone(),
    ];
    let mut batch = Batch::of(d, &matrices);
    let (items, a) = (batch.items(), batch.array());
    cholesky(&mut EmulatorQueue::default(), items, d, a, FAILED, Precision::Fp32).unwrap();
    batch.check(&[true, true, true, true, true, true, false]);
    // What fails at once is not touched: the strict upper triangle of the first blocks is not cleared.
    assert_eq!(batch.matrix(1), batch.before(1));
    assert_eq!(batch.matrix(3)[4..], batch.before(3)[4..]);
    assert!(
        cholesky(&mut EmulatorQueue::default(), Items::all(1), d, a, FAILED, Precision::Fp32).is_err(),
        "there is no place for the bit"
    );

    // Items that have failed before take no part.
    let mut batch = Batch::of(d, &[good.clone(), good]);
    batch.flags[1] |= FAILED;
    let (items, a) = (batch.items(), batch.array());
    cholesky(&mut EmulatorQueue::default(), items, d, a, FAILED, Precision::Fp32).unwrap();
    assert_eq!(batch.a, batch.before);
}

#[test]
fn triangular_systems_are_solved() {
    for (rows, d) in [(1, 1), (3, 2), (64, 64), (65, 63), (10, 130), (131, 70), (70, 200)] {
        let mut random = Random::new((rows * 1000 + d) as u64);
        let l = Square::from_fn(d, |i, j| if i == j { 2.0 + random.next() } else { random.next() / (d as f64).sqrt() });
        let mut batch = Batch::of(d, &[l.clone(), l.t(), l]);
        let mut x = random.floats(3 * rows * d);
        let before = x.clone();
        let (items, l) = (batch.items(), batch.array());
        solve_lower(&mut EmulatorQueue::default(), items, rows, d, array(&mut x, rows * d), l, Precision::Fp32).unwrap();
        batch.check(&[false; 2]);
        assert_eq!(batch.a, batch.before, "L is not written");
        assert_eq!(x[..rows * d], before[..rows * d]);
        for item in 1..3 {
            let mut expected = before[item * rows * d..][..rows * d].to_vec();
            let l = MatRef::row_major(batch.matrix(item), d, d).t();
            Portable.solve_lower(MatMut::row_major(&mut expected, d, rows).t(), l).unwrap();
            let largest = expected.iter().fold(0.0f32, |m, x| m.max(x.abs()));
            for (got, expected) in x[item * rows * d..].iter().zip(&expected) {
                assert!((got - expected).abs() < 2e-5 * largest, "{rows} {d}: {got} {expected}");
            }
        }
    }
}

fn with(mut s: Square, first: f64) -> Square {
    s.at[0] = first;
    s
}

/// Matrices of all kinds, the first one for the item that takes no part.
fn symmetric_ones(d: usize, random: &mut Random) -> Vec<(&'static str, Square)> {
    let some = |random: &mut Random| positive(d, random, 1.0);
    let decay = |k: usize| 0.5f64.powi(k as i32);
    vec![
        ("masked", some(random)),
        ("positive", some(random)),
        ("indefinite", Square::with_eigenvalues(d, random, |k| if k % 2 == 0 { k as f64 + 1.0 } else { -(k as f64) })),
        ("rank one", Square::factor(d, 1, 0.0, random, |_| 1.0)),
        ("half rank", Square::factor(d, d.div_ceil(2), 0.0, random, |_| 1.0)),
        ("zero", Square::from_fn(d, |_, _| 0.0)),
        ("identity", Square::from_fn(d, |i, j| f64::from(u8::from(i == j)))),
        ("ones", Square::from_fn(d, |_, _| 1.0)),
        ("diagonal", Square::from_fn(d, |i, j| if i == j { i as f64 - 2.0 } else { 0.0 })),
        ("decaying", Square::with_eigenvalues(d, random, decay)),
        ("steep", Square::with_eigenvalues(d, random, |k| 1e-12f64.powf(k as f64 / d as f64))),
        ("steep on the diagonal", Square::factor(d, d + 2, 1.0, random, |i| 1e-6f64.powf(((i * 5) % d) as f64 / d as f64))),
        ("repeated", Square::with_eigenvalues(d, random, |k| if k % 3 == 0 { 2.0 } else { 1.0 })),
        ("graded", Square::factor(d, d + 2, 1.0, random, |i| 0.8f64.powi(i as i32))),
        ("clustered", Square::with_eigenvalues(d, random, |k| 1.0 + (k / 4) as f64 + 1e-7 * k as f64)),
        ("huge", positive(d, random, 1e33)),
        ("tiny", positive(d, random, 1e-33)),
        ("an outlier", with(some(random), 1e12)),
    ]
}

/// What decomposes a batch.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// As [`eigh`] chooses.
    Chosen,
    /// In panels, however small the matrix.
    Panels(JacobiPanels),
}

/// So many columns in a panel.
fn panels_of(columns: usize) -> Way {
    Way::Panels(JacobiPanels { columns, sweeps: 24 })
}

/// Vectors and values of all items, which were 7 before.
fn decompose(batch: &mut Batch, way: Way) -> (Vec<f32>, Vec<f32>) {
    let (d, count) = (batch.d, batch.flags.len());
    let (mut vectors, mut values) = (vec![7.0f32; count * d * d], vec![7.0f32; count * d]);
    let len = match way {
        Way::Chosen => work_len(d),
        Way::Panels(panels) => panels.work_len(d),
    };
    // What was in it before does not matter, and nobody writes behind it.
    let mut work = vec![f32::NAN; count * len + 1];
    work[count * len] = 7.0;
    let (items, a) = (batch.items(), batch.array());
    let (v, w, room) = (array(&mut vectors, d * d), array(&mut values, d), array(&mut work, len));
    let mut queue = EmulatorQueue::default();
    match way {
        Way::Chosen => eigh(&mut queue, items, d, a, v, w, room, FAILED).unwrap(),
        Way::Panels(panels) => {
            eigh_in_panels(&mut queue, items, d, panels, a, v, w, room, FAILED).unwrap();
            assert_eq!(queue.launches, panels.launches(d));
        }
    }
    assert_eq!(work[count * len], 7.0);
    (vectors, values)
}

/// That all kinds of symmetric matrices are decomposed.
fn check_decompositions(d: usize, way: Way, wanted: impl Fn(&str) -> bool) {
    let mut random = Random::new(d as u64 + 100);
    let mut kinds = symmetric_ones(d, &mut random);
    kinds.retain(|(name, _)| *name == "masked" || wanted(name));
    let count = kinds.len();
    let mut batch = Batch::of(d, &kinds.iter().map(|(_, s)| s.clone()).collect::<Vec<_>>());
    // What is above the diagonal is not read.
    for (at, x) in batch.a.iter_mut().enumerate().skip(d * d) {
        if at % d > at / d % d {
            *x = f32::NAN;
        }
    }
    let (vectors, values) = decompose(&mut batch, way);
    batch.check(&vec![false; count - 1]);
    assert!(vectors[..d * d].iter().chain(&values[..d]).all(|&x| x == 7.0));
    for item in 1..count {
        let (mut expected, mut basis) = (vec![0.0; d], vec![0.0; d * d]);
        let mut a = batch.before(item).to_vec();
        let core = (MatMut::row_major(&mut a, d, d), MatMut::row_major(&mut basis, d, d));
        Portable.eigh(core.0, core.1, &mut expected, &mut vec![0.0; 4 * d]).unwrap();
        let (s, q) = (Square::of(d, batch.before(item)), Square::of(d, &vectors[item * d * d..]));
        let largest = expected.iter().fold(f32::MIN_POSITIVE, |m, x| m.max(x.abs()));
        let what = format!("{} {d} {way:?}", kinds[item].0);
        let values = &values[item * d..][..d];
        for (got, expected) in values.iter().zip(&expected) {
            assert!((got - expected).abs() <= 4e-6 * largest, "{what}: {got:e}, not {expected:e}");
        }
        assert!(values.is_sorted_by(|x, y| x >= y), "{what}: descending");
        assert!(q.orthogonality_error() < 1e-6 * (d as f64).sqrt() + 1e-6, "{what}: {:e}", q.orthogonality_error());
        let error = |q: &Square, values: &[f32]| {
            let wanted = Square::from_fn(d, |i, j| if i == j { f64::from(values[i]) } else { 0.0 });
            q.t().times(&s).times(q).distance(&wanted) / f64::from(largest)
        };
        let (error, cores) = (error(&q, values), error(&Square::of(d, &basis), &expected));
        assert!(error < 2e-6 + 2.0 * cores, "{what}: {error:e}, of the core {cores:e}");
    }
}

#[test]
fn eigenvectors_diagonalise_and_eigenvalues_are_the_cores() {
    for d in [1, 2, 3, 8, 16, 33, 65] {
        check_decompositions(d, Way::Chosen, |_| true);
    }
}

#[test]
fn panels_diagonalise_as_well() {
    // One panel and its empty partner, two, an odd number, the last one full or of one column.
    for (d, columns) in [(1, 4), (3, 4), (4, 4), (8, 4), (9, 4), (16, 4), (21, 4), (33, 8), (65, 16), (65, 32)] {
        check_decompositions(d, panels_of(columns), |_| true);
    }
    check_decompositions(130, Way::Chosen, |name| ["half rank", "steep", "repeated"].contains(&name));
}

#[test]
fn a_matrix_is_decomposed_as_if_it_were_alone() {
    let d = 21;
    let mut random = Random::new(8);
    let kinds = symmetric_ones(d, &mut random);
    let all: Vec<Square> = kinds.iter().map(|(_, s)| s.clone()).collect();
    let (vectors, values) = decompose(&mut Batch::of(d, &all), panels_of(4));
    for item in 1..all.len() {
        let alone = decompose(&mut Batch::of(d, &[all[0].clone(), all[item].clone()]), panels_of(4));
        assert_eq!(alone.0[d * d..], vectors[item * d * d..][..d * d], "{}", kinds[item].0);
        assert_eq!(alone.1[d..], values[item * d..][..d], "{}", kinds[item].0);
    }
}

#[test]
fn what_cannot_be_decomposed_sets_the_bit() {
    let d = 9;
    let mut random = Random::new(3);
    let good = positive(d, &mut random, 1.0);
    let changed = |x: f64| {
        let mut s = good.clone();
        s.at[5 * d + 2] = x;
        s
    };
    // The last one's largest eigenvalue overflows.
    let matrices =
        [good.clone(), changed(f64::NAN), changed(f64::NEG_INFINITY), good.clone(), Square::from_fn(d, |_, _| f64::from(f32::MAX))];
    for way in [Way::Chosen, panels_of(4)] {
        let mut batch = Batch::of(d, &matrices);
        decompose(&mut batch, way);
        batch.check(&[true, true, false, true]);

        // Items that have failed before take no part.
        let mut batch = Batch::of(d, &matrices[2..4]);
        batch.flags[1] |= FAILED;
        let (vectors, _) = decompose(&mut batch, way);
        assert_eq!(batch.flags, [2, TAKES_PART | 2 | FAILED]);
        assert!(vectors.iter().all(|&x| x == 7.0));
        assert_eq!(batch.a, batch.before);
    }

    // One sweep is not enough, but for what is diagonal.
    let diagonal = Square::from_fn(d, |i, j| if i == j { i as f64 } else { 0.0 });
    let mut batch = Batch::of(d, &[good.clone(), good.clone(), diagonal]);
    decompose(&mut batch, Way::Panels(JacobiPanels { columns: 4, sweeps: 1 }));
    batch.check(&[true, false]);

    let mut room = vec![0.0f32; 64 * d];
    let x = array(&mut room, 0);
    assert!(eigh(&mut EmulatorQueue::default(), Items::all(1), d, x, x, x, x, FAILED).is_err(), "there is no place for the bit");
    let items = batch.items();
    for columns in [0, 2, 12, 64] {
        let panels = JacobiPanels { columns, sweeps: 1 };
        assert!(eigh_in_panels(&mut EmulatorQueue::default(), items, d, panels, x, x, x, x, FAILED).is_err(), "{columns} in a panel");
    }
}

#[test]
fn refinement_turns_towards_the_eigenvectors() {
    for d in [1, 2, 30, 70] {
        let mut random = Random::new(d as u64 + 9);
        let value = |k: usize| 0.7f64.powi(k as i32);
        // Eigenvectors that are off by a small rotation.
        let exact = Square::orthogonal(d, &mut random);
        let s = Square::from_fn(d, |i, j| (0..d).map(|k| exact.get(i, k) * value(k) * exact.get(j, k)).sum());
        let off = 2e-5 / (d as f64).sqrt();
        let skew: Vec<f64> = (0..d * d).map(|_| off * random.next()).collect();
        let turn = Square::from_fn(d, |i, j| {
            if i == j {
                1.0
            } else {
                // Of the smaller eigenvalue relative to the larger, as decompositions leave it.
                let (low, high) = (i.max(j), i.min(j));
                (if i > j { 1.0 } else { -1.0 }) * skew[low * d + high] * value(low - high)
            }
        });
        let q = exact.times(&turn);
        let off_diagonal = |q: &Square| {
            let t = q.t().times(&s).times(q);
            let relative = |i: usize, j: usize| t.get(i, j).abs() / (t.get(i, i) * t.get(j, j)).abs().sqrt();
            (0..d * d).filter(|at| at / d != at % d).map(|at| relative(at / d, at % d)).fold(0.0, f64::max)
        };
        let t = q.t().times(&s).times(&q);
        let mut vectors = q.floats();
        let (mut t, mut temporary) = (t.floats(), vec![0.0f32; d * d]);
        let before = off_diagonal(&Square::of(d, &vectors));
        let [v, t, temporary] = [&mut vectors, &mut t, &mut temporary].map(|x| array(x, d * d));
        refine(&mut EmulatorQueue::default(), Items::all(1), d, v, t, temporary, Precision::Fp32).unwrap();
        let q = Square::of(d, &vectors);
        assert!(q.orthogonality_error() < 1e-6, "{d}: {:e}", q.orthogonality_error());
        let after: f64 = q.distance(&exact);
        assert!(after < 1e-6, "{d}: {after:e} from the eigenvectors, off the diagonal {before:e}, then {:e}", off_diagonal(&q));
    }
}

#[test]
fn polishing_restores_orthogonality() {
    for d in [1, 5, 66] {
        let mut random = Random::new(d as u64 + 11);
        let exact = Square::orthogonal(d, &mut random);
        let worn = Square::from_fn(d, |i, j| exact.get(i, j) + 3e-5 * random.next());
        let mut batch = Batch::of(d, &[worn.clone(), worn]);
        let (mut square, mut spare) = (vec![0.0f32; 2 * d * d], vec![0.0f32; 2 * d * d]);
        let (items, a) = (batch.items(), batch.array());
        polish(&mut EmulatorQueue::default(), items, d, a, array(&mut square, d * d), array(&mut spare, d * d), Precision::Fp32).unwrap();
        batch.check(&[false]);
        let (before, after) = (Square::of(d, batch.before(1)), Square::of(d, batch.matrix(1)));
        assert!(after.orthogonality_error() < 1e-6 && before.orthogonality_error() > 1e-5);
        assert!(after.distance(&exact) < 1e-3);
    }
}

/// Reflections of a batch, as they are chosen or in panels, however small the matrix. The result was 7 before.
fn reflect(batch: &mut Batch, in_panels: bool) -> Vec<f32> {
    let (d, count) = (batch.d, batch.flags.len());
    let len = if in_panels { qr_panels_work_len(d) } else { work_len(d) };
    let (mut out, mut work) = (vec![7.0f32; count * d * d], vec![f32::NAN; count * len + 1]);
    work[count * len] = 7.0;
    let (items, a) = (batch.items(), batch.array());
    let (out_array, room) = (array(&mut out, d * d), array(&mut work, len));
    let by = if in_panels { qr_in_panels } else { qr };
    by(&mut EmulatorQueue::default(), items, d, a, out_array, room, FAILED).unwrap();
    assert_eq!(work[count * len], 7.0, "nobody writes behind it");
    out
}

#[test]
fn reflections_factorise_all_that_is_finite() {
    for (d, in_panels) in [1, 2, 3, 33, 64, 90].into_iter().flat_map(|d| [(d, false), (d, true)]).chain([(130, false)]) {
        let mut random = Random::new(d as u64 + 200);
        let mut kinds = symmetric_ones(d, &mut random);
        // It need not be symmetric.
        kinds.push(("any", Square::from_fn(d, |_, _| random.next())));
        kinds.push(("any triangular", Square::from_fn(d, |i, j| if i <= j { random.next() } else { 0.0 })));
        let count = kinds.len();
        let mut batch = Batch::of(d, &kinds.iter().map(|(_, s)| s.clone()).collect::<Vec<_>>());
        let out = reflect(&mut batch, in_panels);
        batch.check(&vec![false; count - 1]);
        assert!(out[..d * d].iter().all(|&x| x == 7.0));
        for item in 1..count {
            let (a, q) = (Square::of(d, batch.before(item)), Square::of(d, &out[item * d * d..]));
            let what = format!("{} {d} {in_panels}", kinds[item].0);
            assert!(q.orthogonality_error() < 2e-6, "{what}: {:e}", q.orthogonality_error());
            let r = q.t().times(&a);
            for j in 0..d {
                let norm = (0..d).map(|i| a.get(i, j).powi(2)).sum::<f64>().sqrt();
                assert!(r.get(j, j) >= -2e-6 * norm, "{what}: {:e}", r.get(j, j) / norm);
                for i in j + 1..d {
                    assert!(r.get(i, j).abs() <= 2e-6 * norm, "{what} ({i}, {j}): {:e}", r.get(i, j) / norm);
                }
            }
        }
        // Where it is unique it is the core's.
        let item = count - 2;
        let (mut a, mut expected) = (batch.before(item).to_vec(), vec![0.0; d * d]);
        let core = (MatMut::row_major(&mut a, d, d), MatMut::row_major(&mut expected, d, d));
        Portable.qr(core.0, core.1, &mut vec![0.0; 4 * d]).unwrap();
        let distance = Square::of(d, &expected).distance(&Square::of(d, &out[item * d * d..]));
        assert!(distance < 1e-4, "{d}: {distance:e}");
    }
    let d = 4;
    let mut random = Random::new(1);
    let mut matrices = [0; 4].map(|_| Square::from_fn(d, |_, _| random.next()));
    matrices[1].at[15] = f64::NAN;
    matrices[2].at[0] = f64::INFINITY;
    for in_panels in [false, true] {
        let mut batch = Batch::of(d, &matrices);
        reflect(&mut batch, in_panels);
        batch.check(&[true, true, false]);
    }
}
