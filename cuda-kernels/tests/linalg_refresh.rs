//! The refresh of one mode in batches, by what defines it and against the core's reflections.

mod common;
#[path = "common/numbers.rs"]
mod numbers;

use common::{EmulatorQueue, array, device};
use klshampoo::Refresh as Rule;
use klshampoo::linalg::{LinAlg, MatMut, Portable};
use klshampoo_cuda::batch::Items;
use klshampoo_cuda::linalg::{FAILED, Precision, REFLECTED, Refresh, RefreshBuffers, SECOND_PASS, refresh_mode, work_len};
use numbers::{Random, Square};

const TAKES_PART: u32 = 1;
const TURNED: u32 = 1 << 3;
/// Left over from other work, and from a refresh before: one that is cleared and one that is none of its business.
const LEFT_OVER: u32 = TURNED | FAILED | 1 << 5;

/// What a refresh is given and leaves, of all items.
struct Mode {
    d: usize,
    flags: Vec<u32>,
    factor: Vec<f32>,
    old_basis: Vec<f32>,
    basis: Vec<f32>,
    rotation: Vec<f32>,
    values: Vec<f32>,
    before: Vec<f32>,
}

impl Mode {
    /// Refreshes items with these factors and random bases; the first one takes no part.
    fn refreshed(factors: &[Square], refresh: Refresh, random: &mut Random) -> Self {
        let (d, count) = (factors[0].d, factors.len());
        let factor: Vec<f32> = factors.iter().flat_map(Square::floats).collect();
        let mut mode = Self {
            d,
            flags: (0..count).map(|item| LEFT_OVER | if item == 0 { 0 } else { TAKES_PART }).collect(),
            old_basis: (0..count).flat_map(|_| Square::orthogonal(d, random).floats()).collect(),
            basis: vec![7.0; count * d * d],
            rotation: vec![7.0; count * d * d],
            values: vec![7.0; count * d],
            before: factor.clone(),
            factor,
        };
        let mut diagonal: Vec<f32> = mode.factor.chunks_exact(d * d).flat_map(|s| s.iter().step_by(d + 1).copied()).collect();
        // What is overwritten may hold anything before.
        let (mut square, mut work) = (vec![f32::NAN; count * d * d], vec![f32::NAN; count * work_len(d)]);
        let old = mode.old_basis.clone();
        let buffers = RefreshBuffers {
            factor: array(&mut mode.factor, d * d),
            diagonal: array(&mut diagonal, d),
            old_basis: array(&mut mode.old_basis, d * d),
            basis: array(&mut mode.basis, d * d),
            rotation: array(&mut mode.rotation, d * d),
            square: array(&mut square, d * d),
            values: array(&mut mode.values, d),
            work: array(&mut work, work_len(d)),
        };
        let flags = device(&mut mode.flags);
        let items = Items { flags, count: count as u32, mask: TAKES_PART, wanted: TAKES_PART, unused: 0 };
        refresh_mode(&mut EmulatorQueue::default(), items, d, &refresh, &buffers, TURNED).unwrap();
        assert_eq!(mode.old_basis, old, "the old basis is not written");
        // The item that takes no part.
        assert_eq!(mode.flags[0], LEFT_OVER);
        assert!(square[..d * d].iter().chain(&work[..work_len(d)]).all(|x| x.is_nan()));
        assert_eq!(mode.factor[..d * d], mode.before[..d * d]);
        let untouched = mode.basis[..d * d].iter().chain(&mode.rotation[..d * d]).chain(&mode.values[..d]);
        assert!(untouched.copied().all(|x| x == 7.0));
        mode
    }

    fn square(&self, all: &[f32], item: usize) -> Square {
        Square::of(self.d, &all[item * self.d * self.d..])
    }

    /// That an item was turned as its definition says, and by which way.
    fn check_turned(&self, item: usize, refresh: Refresh, way: Option<u32>, what: &str) {
        let (d, flags) = (self.d, self.flags[item]);
        assert_eq!(flags & !(REFLECTED | SECOND_PASS), TAKES_PART | TURNED | 1 << 5, "{what}");
        if let Some(way) = way {
            assert_eq!(flags & (REFLECTED | SECOND_PASS), way, "{what}");
        }
        let s = self.square(&self.before, item);
        let q = self.square(&self.rotation, item);
        let basis = self.square(&self.basis, item);
        let norm = s.largest().max(f64::from(f32::MIN_POSITIVE)) * (d as f64).sqrt();
        assert!(q.orthogonality_error() < 2e-6, "{what}: {:e}", q.orthogonality_error());
        let expected = self.square(&self.old_basis, item).times(&q);
        assert!(basis.distance(&expected) < 1e-6, "{what}: {:e}", basis.distance(&expected));
        let turned = Square::symmetric(d, &self.factor[item * d * d..]);
        let expected = q.t().times(&s).times(&q);
        let error = turned.distance(&expected) / norm;
        assert!(error < 2e-6, "{what}: {error:e} of the factor");
        for i in 0..d {
            for j in i + 1..d {
                assert_eq!(self.factor[item * d * d + i * d + j].to_bits(), self.before[item * d * d + i * d + j].to_bits());
            }
        }
        if refresh.rule == Rule::Eigendecomposition {
            let values = &self.values[item * d..][..d];
            assert!(values.is_sorted_by(|x, y| x >= y), "{what}");
            let wanted = Square::from_fn(d, |i, j| if i == j { f64::from(values[i]) } else { 0.0 });
            let error = turned.distance(&wanted) / norm;
            assert!(error < 2e-6, "{what}: {error:e} of the eigenvalues");
            return;
        }
        // Q^T S P is upper triangular with a positive diagonal.
        let order = order(&s, refresh.sorts);
        let r = q.t().times(&Square::from_fn(d, |i, j| s.get(i, order[j])));
        for (j, &column) in order.iter().enumerate() {
            let length = (0..d).map(|i| s.get(i, column).powi(2)).sum::<f64>().sqrt();
            // Cholesky factors are exact for a matrix near S, not for every column near its own.
            let unit = if flags & REFLECTED != 0 || refresh.rule == Rule::HouseholderQr { length } else { length.max(0.1 * norm) };
            assert!(r.get(j, j) >= -4e-6 * unit, "{what}: {:e}", r.get(j, j) / unit);
            for i in j + 1..d {
                assert!(r.get(i, j).abs() <= 4e-6 * unit, "{what} ({i}, {j}): {:e}", r.get(i, j) / unit);
            }
        }
    }

    /// That an item is as it was.
    fn check_failed(&self, item: usize) {
        let part = item * self.d * self.d..(item + 1) * self.d * self.d;
        assert_eq!(self.flags[item] & !(REFLECTED | SECOND_PASS), TAKES_PART | FAILED | 1 << 5, "{item}");
        let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&self.factor[part.clone()]), bits(&self.before[part.clone()]), "{item}");
        assert_eq!(self.basis[part.clone()], self.old_basis[part], "{item}");
    }
}

/// The columns in descending order of the diagonal.
fn order(s: &Square, sorts: bool) -> Vec<usize> {
    let mut order: Vec<usize> = (0..s.d).collect();
    if sorts {
        order.sort_by(|&i, &j| s.get(j, j).total_cmp(&s.get(i, i)));
    }
    order
}

/// Factors of all kinds and the way that their refresh takes, if it is always the same. The first one takes no part.
fn kinds(d: usize, random: &mut Random) -> Vec<(&'static str, Square, Option<u32>)> {
    let near = |random: &mut Random, scale: f64| {
        // Near its eigenbasis.
        let s = Square::factor(d, 6, 20.0, random, |i| 0.98f64.powi((i * 7 % d) as i32));
        Square::from_fn(d, |i, j| s.get(i, j) * scale)
    };
    vec![
        ("masked", near(random, 1.0), Some(0)),
        ("ordinary", near(random, 1.0), Some(0)),
        ("graded", Square::factor(d, 6, 20.0, random, |i| 0.9f64.powi((i * 7 % d) as i32)), None),
        ("far from its eigenbasis", Square::factor(d, d + 3, 0.02 * d as f64, random, |_| 1.0), None),
        ("rank-deficient", Square::factor(d, d.div_ceil(2), 0.0, random, |_| 1.0), None),
        ("rank one", Square::factor(d, 1, 0.0, random, |_| 1.0), None),
        ("zero", Square::from_fn(d, |_, _| 0.0), Some(REFLECTED)),
        ("tiny", near(random, 1e-34), Some(0)),
        ("huge", near(random, 1e33), Some(0)),
        (
            "an outlier",
            {
                let mut s = near(random, 1.0);
                s.at[0] = 1e10;
                s
            },
            Some(0),
        ),
        (
            "one zero row",
            {
                let mut s = near(random, 1.0);
                for i in 0..d {
                    s.at[i] = 0.0;
                    s.at[i * d] = 0.0;
                }
                s
            },
            Some(REFLECTED),
        ),
    ]
}

const WAYS: [Refresh; 5] = [
    Refresh { rule: Rule::Qr, sorts: false, precision: Precision::Fp32 },
    Refresh { rule: Rule::Qr, sorts: true, precision: Precision::Fp32 },
    Refresh { rule: Rule::HouseholderQr, sorts: false, precision: Precision::Fp32 },
    Refresh { rule: Rule::HouseholderQr, sorts: true, precision: Precision::Fp32 },
    Refresh { rule: Rule::Eigendecomposition, sorts: true, precision: Precision::Fp32 },
];

#[test]
fn bases_turn_as_the_rule_says() {
    for d in [1, 2, 7, 31, 64, 65, 90] {
        for refresh in WAYS {
            let mut random = Random::new(d as u64 + 7);
            let kinds = kinds(d, &mut random);
            let factors: Vec<Square> = kinds.iter().map(|(_, s, _)| s.clone()).collect();
            let mode = Mode::refreshed(&factors, refresh, &mut random);
            for (item, (name, _, way)) in kinds.iter().enumerate().skip(1) {
                let way = if refresh.rule == Rule::Qr { *way } else { None };
                mode.check_turned(item, refresh, way, &format!("{name} {d} {refresh:?}"));
            }
        }
    }
}

/// Beyond what one block of threads decomposes by itself.
#[test]
fn larger_bases_turn_too() {
    let d = 130;
    for refresh in [WAYS[1], WAYS[3], WAYS[4]] {
        let mut random = Random::new(4);
        let near = Square::factor(d, 6, 20.0, &mut random, |i| 0.98f64.powi((i * 7 % d) as i32));
        let low = Square::factor(d, 40, 0.0, &mut random, |_| 1.0);
        let mode = Mode::refreshed(&[near.clone(), near, low], refresh, &mut random);
        for item in [1, 2] {
            mode.check_turned(item, refresh, None, &format!("{item} {refresh:?}"));
        }
    }
}

#[test]
fn by_cholesky_factors_it_is_the_cores_rotation() {
    for d in [5, 70, 140] {
        let mut random = Random::new(d as u64);
        let s = Square::factor(d, 6, 20.0, &mut random, |_| 1.0);
        for sorts in [false, true] {
            let refresh = Refresh { rule: Rule::Qr, sorts, precision: Precision::Fp32 };
            let mode = Mode::refreshed(&[s.clone(), s.clone()], refresh, &mut random);
            mode.check_turned(1, refresh, Some(0), "well conditioned");
            let order = order(&Square::of(d, &mode.before), sorts);
            let mut a: Vec<f32> = (0..d * d).map(|at| mode.before[at / d * d + order[at % d]]).collect();
            let mut q = vec![0.0; d * d];
            Portable.qr(MatMut::row_major(&mut a, d, d), MatMut::row_major(&mut q, d, d), &mut vec![0.0; 4 * d]).unwrap();
            let distance = Square::of(d, &q).distance(&mode.square(&mode.rotation, 1));
            assert!(distance < 2e-5, "{d} {sorts}: {distance:e}");
        }
    }
}

#[test]
fn a_second_pass_mends_what_the_first_one_lost() {
    // Nearly singular, and ascending: the columns of its Cholesky factor are far from orthogonal.
    let mut seen = 0;
    for (d, shift) in [(24, 2e-3), (24, 1e-3), (70, 4e-3), (70, 2e-3)] {
        let mut random = Random::new(5);
        let s = Square::factor(d, d / 4, shift, &mut random, |i| 1.2f64.powi((i as i32 - d as i32).max(-40)));
        let refresh = Refresh { rule: Rule::Qr, sorts: false, precision: Precision::Fp32 };
        let mode = Mode::refreshed(&[s.clone(), s], refresh, &mut random);
        mode.check_turned(1, refresh, None, &format!("{d} {shift}"));
        seen += usize::from(mode.flags[1] & (SECOND_PASS | REFLECTED) == SECOND_PASS);
    }
    assert!(seen > 0, "none took a second pass that was enough");
}

#[test]
fn a_factor_that_is_not_finite_leaves_all_as_it_was() {
    for d in [3, 70] {
        for refresh in WAYS {
            let mut random = Random::new(2);
            let good = Square::factor(d, 6, 20.0, &mut random, |_| 1.0);
            let changed = |i: usize, j: usize, x: f64| {
                let mut s = good.clone();
                s.at[i * d + j] = x;
                s.at[j * d + i] = x;
                s
            };
            let factors = [
                good.clone(),
                changed(1, 1, f64::NAN),
                changed(2, 1, f64::NAN),
                good.clone(),
                changed(d - 1, 0, f64::INFINITY),
                changed(0, 0, f64::INFINITY),
                changed(0, 0, f64::NEG_INFINITY),
                good.clone(),
            ];
            let mode = Mode::refreshed(&factors, refresh, &mut random);
            for item in [1, 2, 4, 5, 6] {
                mode.check_failed(item);
            }
            for item in [3, 7] {
                mode.check_turned(item, refresh, None, "beside others that fail");
            }
        }
    }
}

#[test]
fn items_without_flags_are_refused() {
    let mut x = Vec::from([1.0f32; 16]);
    let a = array(&mut x, 1);
    let buffers = RefreshBuffers { factor: a, diagonal: a, old_basis: a, basis: a, rotation: a, square: a, values: a, work: a };
    assert!(refresh_mode(&mut EmulatorQueue::default(), Items::all(1), 1, &WAYS[0], &buffers, TURNED).is_err());
}

/// Whatever is said of its precision, a refresh leaves a rotation that is orthogonal, by Cholesky factors where those of `f32` do; the factor is off by
/// the rounding.
#[test]
fn a_lower_precision_keeps_bases_orthogonal() {
    for d in [17, 130] {
        let mut random = Random::new(d as u64);
        let factor = |random: &mut Random| Square::factor(d, 6, 20.0, random, |i| 0.98f64.powi((i * 7 % d) as i32));
        let factors = [factor(&mut random), factor(&mut random)];
        for rule in [Rule::Qr, Rule::Eigendecomposition] {
            for (precision, tolerance) in [(Precision::Tf32x3, 4e-6), (Precision::Tf32, 4e-3), (Precision::Bf16, 3e-2)] {
                let refresh = Refresh { rule, sorts: true, precision };
                assert_eq!(refresh.orthogonal(), Precision::Tf32x3);
                let mode = Mode::refreshed(&factors, refresh, &mut random);
                let (what, flags) = (format!("{rule:?} of {d} at {precision:?}"), mode.flags[1]);
                assert_eq!(flags & (TURNED | REFLECTED | FAILED), TURNED, "{what}");
                let (q, s) = (mode.square(&mode.rotation, 1), mode.square(&mode.before, 1));
                assert!(q.orthogonality_error() < 2e-6, "{what}: {:e}", q.orthogonality_error());
                let basis = mode.square(&mode.basis, 1);
                assert!(basis.orthogonality_error() < 4e-6, "{what}: {:e}", basis.orthogonality_error());
                let turned = Square::symmetric(d, &mode.factor[d * d..]);
                let error = turned.distance(&q.t().times(&s).times(&q)) / (s.largest() * (d as f64).sqrt());
                assert!(error < tolerance, "{what}: {error:e}");
                assert!(precision == Precision::Tf32x3 || error > 2e-3 * tolerance, "{what}: {error:e}");
            }
        }
    }
}
