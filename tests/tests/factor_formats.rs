//! Factors and bases kept in 16 bits (`Config::factor_format`): what it saves, and how far it is from `f32`.

use klshampoo::linalg::Portable;
use klshampoo::{
    Config, Direction, Eigenvalues, Estimator, FixedOptimizer, Format, Graft, Mode, SliceHeader, StatePart, StepErrorKind, TensorSpec,
};
use klshampoo_ffi::host::Faer;
use klshampoo_tests::acceptance::{config, modes};
use klshampoo_tests::cases::{Gradients, HIGHER_ORDERS, MATRICES, Xorshift};
use klshampoo_tests::golden::{Case, Collection, norm, rel_error};
use klshampoo_tests::harness::{Core, Driver, Number, converted, methods, widened};
use std::collections::BTreeMap;

type F32 = Core<f32, Portable>;

const HALVES: [Format; 2] = [Format::Bf16, Format::F16];

/// How far rounding to the nearest moves a number at most, relative to it.
fn unit(format: Format) -> f64 {
    2f64.powi(if format == Format::Bf16 { -8 } else { -11 })
}

fn spec(dims: &[usize]) -> TensorSpec {
    TensorSpec::new(dims).unwrap()
}

fn bits(numbers: &[f32]) -> Vec<u32> {
    numbers.iter().map(|x| x.to_bits()).collect()
}

/// Gradients of a constant or slowly turning covariance `A (x) B` whose eigenvalues fall geometrically over `spread`, in a random basis.
#[derive(Clone)]
struct Graded {
    random: Xorshift,
    dims: [usize; 2],
    spread: f64,
    /// Planes of rotation and their angles, for each mode.
    planes: [Vec<(usize, usize, f64)>; 2],
    turning: f64,
}

impl Graded {
    fn new(dims: [usize; 2], spread: f64, turning: f64) -> Self {
        let mut random = Xorshift::for_shape(&dims);
        let planes = dims.map(|d| {
            let pairs = (0..4).flat_map(|_| (0..d).flat_map(move |i| (0..i).map(move |j| (i, j))));
            pairs.map(|(i, j)| (i, j, 0.7 * random.normal())).collect()
        });
        Self { random, dims, spread, planes, turning }
    }

    fn next(&mut self) -> Vec<f32> {
        let [m, n] = self.dims;
        let grade = |i: usize, d: usize| self.spread.powf(-0.5 * i as f64 / (d - 1).max(1) as f64);
        let mut g: Vec<f64> = (0..m * n).map(|_| self.random.normal()).collect();
        for i in 0..m {
            for j in 0..n {
                g[i * n + j] *= grade(i, m) * grade(j, n);
            }
        }
        for (mode, planes) in self.planes.iter_mut().enumerate() {
            for (at, (i, j, angle)) in planes.iter_mut().enumerate() {
                if at % 7 == 0 {
                    *angle += self.turning;
                }
                let (sin, cos) = angle.sin_cos();
                for k in 0..[n, m][mode] {
                    let place = |i: usize| if mode == 0 { i * n + k } else { k * n + i };
                    let (x, y) = (g[place(*i)], g[place(*j)]);
                    (g[place(*i)], g[place(*j)]) = (cos * x - sin * y, sin * x + cos * y);
                }
            }
        }
        g.iter().map(|&x| x as f32).collect()
    }
}

/// Cosine, and ratio of lengths.
fn compare(a: &[f32], b: &[f32]) -> (f64, f64) {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
    (dot(a, b) / (dot(a, a) * dot(b, b)).sqrt(), (dot(a, a) / dot(b, b)).sqrt())
}

/// The updates of one tensor at rate 1, and the optimizer.
#[derive(Clone)]
struct Updates {
    core: F32,
    updates: Vec<Vec<f32>>,
}

/// Steps of a 2-D tensor with [`Graded`] gradients. The parameter is brought back to zero, so that no digit of an update is lost.
fn updates(config: Config<f32>, graded: &Graded, steps: usize) -> Updates {
    let one_sided = config.estimator == Estimator::OneSided;
    let modes = if one_sided { [Some(Mode::Full), Some(Mode::Identity)] } else { [None, None] };
    let mut core = F32::new(&config, &graded.dims, &modes);
    let mut gradients = graded.clone();
    let updates = (0..steps).map(|_| {
        let mut p = vec![0.0; graded.dims[0] * graded.dims[1]];
        core.step(&mut p, &gradients.next(), 1.0);
        p
    });
    let updates = updates.collect();
    Updates { core, updates }
}

/// Smallest and mean cosine of two runs' updates from step `from` on.
fn cosines(a: &Updates, b: &Updates, from: usize) -> (f64, f64) {
    let all: Vec<f64> = a.updates.iter().zip(&b.updates).skip(from).map(|(a, b)| compare(a, b).0).collect();
    (all.iter().fold(1.0, |smallest, &x| x.min(smallest)), all.iter().sum::<f64>() / all.len() as f64)
}

/// The largest element of `|Q^T Q - I|` over all modes.
fn orthogonality_error(core: &mut F32) -> f64 {
    let order = core.tensors[0].layout().shape().order();
    let (optimizer, scratch, linalg) = core.view();
    let error = |k| optimizer.mode_report(0, 0, k, scratch, linalg).unwrap().orthogonality_error;
    f64::from((0..order).map(error).fold(0.0, f32::max))
}

#[test]
fn the_state_is_halved_where_it_is_large() {
    let config = Config::<f32>::kl_shampoo();
    let len = |config: &Config<f32>, dims: &[usize]| spec(dims).layout(config).unwrap().state_len();
    let bytes = |factor_format| {
        let needs = spec(&[16, 32]).needs(&Config { factor_format, ..config }).unwrap();
        (needs.state_bytes::<f32>() - size_of::<SliceHeader>(), needs.scratch_len)
    };
    assert_eq!(size_of::<SliceHeader>(), 64);
    assert_eq!(bytes(Format::Native).0, 10_016);
    for format in HALVES {
        // No scratch more.
        assert_eq!(bytes(format), (6_128, bytes(Format::Native).1));
    }
    for (name, config) in f32::presets() {
        let factors = config.estimator != Estimator::None && config.max_dim > 0;
        for format in HALVES {
            let own = Config { factor_format: format, ..config };
            for dims in [&[1usize, 1][..], &[1, 2], &[5, 3], &[7, 8], &[16, 32], &[33, 31], &[3, 4, 5], &[9]] {
                if config.estimator == Estimator::OneSided && dims.len() > 2 {
                    continue;
                }
                let layout = spec(dims).layout(&config).unwrap();
                let full = |k: &usize| factors && layout.shape().is_full(*k);
                let saved = |n: usize| n - n.div_ceil(2);
                let less: usize = (0..layout.shape().order())
                    .filter(full)
                    .map(|k| layout.shape().dim(k))
                    .map(|d| saved(d * d) + saved(d * (d + 1) / 2))
                    .sum();
                assert_eq!(len(&own, dims) + less, len(&config, dims), "{name}, {dims:?}");
            }
        }
    }
}

/// The same steps in `f64`, as `f32`.
fn wide_updates(config: Config<f64>, graded: &Graded, steps: usize) -> Vec<Vec<f32>> {
    let mut core = Core::<f64, Portable>::new(&config, &graded.dims, &[None, None]);
    let mut gradients = graded.clone();
    let step = |_| {
        let mut p = vec![0.0; graded.dims[0] * graded.dims[1]];
        core.step(&mut p, &widened(&gradients.next()), 1.0);
        converted(&p)
    };
    (0..steps).map(step).collect()
}

/// Every method in every convention, on gradients whose covariance has eigenvalues over four decades on either side and turns. The cosine
/// of an update with that of `f32` once the averages have forgotten their start, and its length from the first step on.
#[test]
fn every_method_stays_near_f32() {
    let graded = Graded::new([16, 32], 1e4, 1e-3);
    let (steps, from) = (100, 60);
    let (mut worst, mut left_out) = (BTreeMap::new(), vec![]);
    for ((name, config), (_, wide)) in methods::<f32>().into_iter().zip(methods::<f64>()) {
        if config.estimator == Estimator::None || config.max_dim == 0 {
            continue;
        }
        let config = Config { refresh_period: 5, ..config };
        let reference = updates(config, &graded, steps);
        if config.eigenvalues != Eigenvalues::Average {
            // Weights by eigenvalues that are read off factors, which start from a singular one: not even `f32` is near `f64` then.
            let wide = Updates { updates: wide_updates(Config { refresh_period: 5, ..wide }, &graded, steps), ..reference.clone() };
            if cosines(&reference, &wide, from).0 < 0.9 {
                left_out.push(name);
                continue;
            }
        }
        for format in HALVES {
            let own = updates(Config { factor_format: format, ..config }, &graded, steps);
            assert_eq!(own.core.headers[0].refreshes, reference.core.headers[0].refreshes, "{name}");
            let (smallest, _) = cosines(&own, &reference, from);
            let longest = own.updates.iter().zip(&reference.updates).map(|(a, b)| compare(a, b).1).fold(0.0, f64::max);
            assert!(smallest > if format == Format::Bf16 { 0.995 } else { 0.997 }, "{name}, {format:?}: {smallest}");
            // Rounding is not amplified: with an identity for the first basis the worst case is what the first refresh reads off.
            assert!(longest < 2.5, "{name}, {format:?}: {longest} times as long as in f32");
            let all = worst.entry(format!("{format:?}")).or_insert((1f64, 0f64));
            *all = (all.0.min(smallest), all.1.max(longest));
        }
    }
    println!("smallest cosine, largest ratio of lengths: {worst:?}");
    assert_eq!(left_out, ["idealized_kl, ReferenceSoap", "instantaneous_kl, ReferenceSoap"]);
}

/// Tensors of other orders, with diagonal modes, blocks, parts of rows and slices: the parameter's distance from that of `f32`, relative to its movement.
#[test]
fn every_kind_of_tensor_stays_near_f32() {
    let presets = [Config::<f32>::kl_shampoo(), Config::<f32>::soap(), Config::<f32>::f_shampoo_1(), Config::<f32>::shampoo_half()];
    let specs = [
        spec(&[4, 6, 5]),
        spec(&[2, 3, 2, 3]),
        spec(&[9, 6]).group(1),
        spec(&[9, 4]).split_rows(&[4, 3, 2]).unwrap(),
        spec(&[5, 8]).mode(1, Mode::Diagonal),
        spec(&[5, 3]).mode(0, Mode::Identity),
        spec(&[4, 3]).slices(3).slice_stride(13),
        spec(&[7]).mode(0, Mode::Full),
    ];
    let mut errors: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for preset in presets {
        let run = |factor_format| {
            let group = Config { factor_format, refresh_period: 3, ..preset };
            let mut core = F32::table(&[group, Config { block_size: 4, ..group }], &specs);
            let mut random = Xorshift::for_shape(&[3, 3]);
            let mut params: Vec<Vec<f32>> = core.tensors.iter().map(|tensor| vec![0.0; tensor.span()]).collect();
            for _ in 0..60 {
                let grads: Vec<_> = params.iter().map(|p| Some(p.iter().map(|_| random.normal() as f32).collect())).collect();
                core.try_step(&mut params, &grads, 0.01).unwrap();
            }
            params
        };
        let reference = run(Format::Native);
        for format in HALVES {
            for (i, (own, reference)) in run(format).iter().zip(&reference).enumerate() {
                let error = rel_error(&widened(own), &widened(reference));
                // Eigenvalues that are nearly the same may change places a refresh earlier or later.
                assert!(error < 0.15, "{:?}, tensor {i}, {format:?}: {error:.1e}", preset.estimator);
                errors.entry(format!("{format:?}")).or_default().push(error);
            }
        }
    }
    for (format, most) in [("Bf16", 8e-3), ("F16", 4e-3)] {
        let errors = errors.get_mut(format).unwrap();
        errors.sort_by(f64::total_cmp);
        println!("{format}: {:.1e} in the median, {:.1e} at most", errors[errors.len() / 2], errors[errors.len() - 1]);
        assert!(errors[errors.len() / 2] < most);
    }
}

/// The error of a golden case's parameter at its last snapshot, relative to its movement.
fn golden_error(case: &Case, factor_format: Format) -> f64 {
    let config = Config { factor_format, ..config::<f32>(case) };
    let mut core = F32::new(&config, &case.shape, &modes(case));
    let mut p: Vec<f32> = converted(&case.p0_f64());
    let mut error = f64::NAN;
    for (t, grad) in (1..).zip(&case.grads) {
        core.step(&mut p, &converted::<f32>(grad), f32::from_f64(case.hyper.lr));
        for k in (0..case.shape.len()).filter(|_| t == 1) {
            if let Some(basis) = case.first_basis(k) {
                core.set_basis(k, &converted::<f32>(basis));
            }
        }
        if t == 1 && case.takes_first_parameter() {
            p = converted(case.parameter(1));
        }
        if case.snapshots.contains(&t) {
            error = case.rel_update(t, &widened(&p));
        }
    }
    error
}

/// All golden trajectories. With `--nocapture` it prints the table of the guide: the median and the largest error of each group.
#[test]
fn golden_cases_are_met_within_rounding_to_16_bits() {
    type Errors = [f64; 3];
    let mut groups: BTreeMap<String, Vec<Errors>> = BTreeMap::new();
    let mut amplified = vec![];
    for entry in [Collection::Published, Collection::Family].iter().flat_map(|collection| collection.entries().unwrap()) {
        let case = entry.load().unwrap();
        let errors = [Format::Native, Format::Bf16, Format::F16].map(|format| golden_error(&case, format));
        let name = format!("{:?} {}", case.collection, case.algorithm.split('-').next().unwrap());
        if errors[0] > 1e-4 {
            // A case that amplifies the rounding of `f32` a thousandfold.
            amplified.push(case.name);
            continue;
        }
        groups.entry(name).or_default().push(errors);
        assert!(errors[1] < 0.15 && errors[2] < 0.06, "{}: {errors:?}", entry.case);
        if entry.algorithm.starts_with("klshampoo") {
            assert!(errors[1] < 0.02 && errors[2] < 0.005, "{}: {errors:?}", entry.case);
        }
    }
    println!("{:24} cases {:>20} {:>20} {:>20}", "median, largest", "f32", "bf16", "f16");
    for (name, errors) in groups {
        let column = |i: usize| {
            let mut column: Vec<f64> = errors.iter().map(|errors| errors[i]).collect();
            column.sort_by(f64::total_cmp);
            format!("{:.1e} {:.1e}", column[column.len() / 2], column[column.len() - 1])
        };
        println!("{name:24} {:5} {:>20} {:>20} {:>20}", errors.len(), column(0), column(1), column(2));
    }
    assert_eq!(amplified, ["klsoap-scalefree_16x16_T1"]);
}

/// Where a refresh turns a basis by less than its last bit and a step takes less than half of the last bit of a factor into it.
#[test]
fn small_turns_and_small_shares_add_up() {
    for (beta2, turning, steps) in [(0.95f32, 0.0, 1000), (0.999, 0.0, 4000), (0.999, 3e-4, 4000)] {
        let graded = Graded::new([8, 12], 1e4, turning);
        let config = Config { beta2, ..Config::<f32>::kl_shampoo() };
        let mut reference = updates(config, &graded, steps);
        for (format, most) in [(Format::Bf16, 2e-3), (Format::F16, 5e-4)] {
            let mut own = updates(Config { factor_format: format, ..config }, &graded, steps);
            let (smallest, mean) = cosines(&own, &reference, steps / 2);
            let what = format!("beta2 {beta2}, turning {turning}, {format:?}");
            println!("{what}: 1 - cosine {:.1e} at most, {:.1e} in the mean", 1.0 - smallest, 1.0 - mean);
            assert!(1.0 - smallest < most, "{what}: {smallest}");
            for k in 0..2 {
                let (a, b) = (own.core.read(StatePart::Factor(k)), reference.core.read(StatePart::Factor(k)));
                let (cosine, ratio) = compare(&a, &b);
                println!("  factor {k}: cosine {cosine:.5}, ratio of lengths {ratio:.3}");
                assert!(cosine > 0.999 && (ratio - 1.0).abs() < 0.06, "{what}: {cosine} {ratio}");
            }
        }
    }
}

/// Of a covariance that spans twelve decades on either side, eigenvalues come out as in `f32` as far down as said.
#[test]
fn small_eigenvalues_are_told_from_rounding() {
    let graded = Graded::new([16, 32], 1e12, 0.0);
    let eigenvalues = |factor_format| {
        let mut core = updates(Config { factor_format, ..Config::<f32>::kl_shampoo() }, &graded, 1200).core;
        [0, 1].map(|k| {
            let mut lambda = core.read(StatePart::Eigenvalues(k));
            lambda.sort_by(|a, b| b.total_cmp(a));
            let largest = lambda[0];
            lambda.iter().map(|l| l / largest).collect::<Vec<f32>>()
        })
    };
    let reference = eigenvalues(Format::Native);
    for (format, smallest) in [(Format::Bf16, 3e-6), (Format::F16, 3e-8)] {
        for (own, reference) in eigenvalues(format).iter().flatten().zip(reference.iter().flatten()) {
            let ratio = own / reference;
            assert!(*reference < smallest || (0.6..1.7).contains(&ratio), "{format:?}: {own:e} {reference:e}");
        }
    }
}

#[test]
fn bases_stay_orthogonal_over_ten_thousand_refreshes() {
    let graded = Graded::new([6, 8], 1e3, 1e-3);
    let config = Config { refresh_period: 1, ..Config::<f32>::kl_shampoo() };
    let reference = updates(config, &graded, 10_000);
    for (format, most) in [(Format::Bf16, 0.01), (Format::F16, 0.002)] {
        let mut own = updates(Config { factor_format: format, ..config }, &graded, 10_000);
        assert_eq!((own.core.headers[0].refreshes, own.core.headers[0].refresh_failures), (20_000, 0));
        let error = orthogonality_error(&mut own.core);
        let (smallest, mean) = cosines(&own, &reference, 20);
        println!("{format:?}: |Q^T Q - I| {error:.1e}, 1 - cosine {:.1e} at most, {:.1e} in the mean", 1.0 - smallest, 1.0 - mean);
        // What rounding each element once leaves, and no more.
        assert!(error < 2.0 * unit(format) && 1.0 - smallest < most, "{format:?}: {error} {smallest}");
    }
}

/// Small, degenerate, singular, empty, huge and tiny gradients, with a refresh in every step and seldom.
#[test]
fn edges_pass() {
    let presets = [
        Config::<f32>::kl_shampoo(),
        Config::<f32>::kl_shampoo_reference(),
        Config::<f32>::soap(),
        Config::<f32>::f_shampoo_1(),
        Config::<f32>::idealized_kl(),
        Config::<f32>::shampoo_reference(),
    ];
    let shapes = MATRICES.iter().filter(|shape| shape.dims.iter().product::<usize>() < 100).chain(HIGHER_ORDERS);
    for shape in shapes {
        for kind in Gradients::ALL {
            let problem = kind.make(shape.dims, 12);
            for (preset, period) in presets.iter().flat_map(|preset| [(preset, 1), (preset, 4)]) {
                let run = |factor_format| {
                    let config = Config { factor_format, refresh_period: period, ..*preset };
                    let mut core = F32::new(&config, shape.dims, &vec![None; shape.dims.len()]);
                    let mut p = vec![0f32; problem.p0.len()];
                    let mut lengths = vec![];
                    for grad in &problem.grads {
                        let before = p.clone();
                        core.step(&mut p, &converted::<f32>(grad), 0.01);
                        lengths.push(norm(p.iter().zip(&before).map(|(a, b)| f64::from(a - b))));
                    }
                    (p, lengths)
                };
                let (reference, reference_lengths) = run(Format::Native);
                for format in HALVES {
                    let (p, lengths) = run(format);
                    let what =
                        || format!("{} {kind:?} {:?} {:?} period {period} {format:?}", shape.name, preset.estimator, preset.direction);
                    assert!(p.iter().all(|x| x.is_finite()), "{}", what());
                    if *kind == Gradients::Zero {
                        assert!(p.iter().all(|&x| x == 0.0), "{}", what());
                    }
                    // One element each: nothing is rounded that shows.
                    if p.len() == 1 {
                        assert!((p[0] - reference[0]).abs() <= 0.02 * reference[0].abs(), "{} {p:?} {reference:?}", what());
                    }
                    let longest = |lengths: &[f64]| lengths.iter().fold(0.0, |longest: f64, &x| longest.max(x));
                    // SOAP divides what its basis takes for nothing by what it takes for nothing, in any precision. A momentum that comes back
                    // from the eigenbasis has of its largest element what rounding the basis leaves in each other one: Adam's graft sees it.
                    let outlier = if *kind == Gradients::HugeOutlier && preset.graft != Graft::None { 0.1e6 * unit(format) } else { 0.0 };
                    let bounded = longest(&lengths) <= (4.0 + outlier) * longest(&reference_lengths) + 1e-30;
                    assert!(bounded || preset.direction == Direction::SecondMoment, "{} {lengths:?} {reference_lengths:?}", what());
                }
            }
        }
    }
}

/// Nothing but powers of two lies between two scales of a gradient: the same bits, down to gradients whose squares leave binary16 and come near the end of `f32`.
#[test]
fn a_power_of_two_in_the_gradients_changes_no_bit() {
    let graded = Graded::new([5, 8], 1e3, 1e-3);
    for preset in [Config::<f32>::kl_shampoo(), Config::<f32>::soap(), Config::<f32>::idealized_kl()] {
        for format in HALVES {
            let config = Config { factor_format: format, refresh_period: 3, eps: 0.0, ..preset };
            let run = |log2: i32| {
                let mut core = F32::new(&config, &graded.dims, &[None, None]);
                let (mut gradients, mut p) = (graded.clone(), vec![0f32; 40]);
                for _ in 0..20 {
                    let grad: Vec<f32> = gradients.next().iter().map(|g| g * 2f32.powi(log2)).collect();
                    core.step(&mut p, &grad, 0.01);
                }
                (bits(&p), bits(&core.read(StatePart::Basis(1))))
            };
            let reference = run(0);
            for log2 in [-40, -20, 20, 40] {
                assert!(run(log2) == reference, "{:?} {format:?} 2^{log2}", preset.estimator);
            }
        }
    }
}

/// A basis that has been read can be set, and what it is set to is what is kept; the rest follows.
#[test]
fn a_basis_can_be_set() {
    for format in HALVES {
        let graded = Graded::new([6, 9], 1e3, 0.0);
        let config = Config { factor_format: format, ..Config::<f32>::kl_shampoo() };
        let mut core = updates(config, &graded, 15).core;
        let parts = |core: &mut F32| [StatePart::Factor(1), StatePart::Momentum].map(|part| core.read(part));
        let (state, [factor, momentum]) = (core.state.clone(), parts(&mut core));
        let basis = core.read(StatePart::Basis(1));
        core.set_basis(1, &basis);
        let [again, _] = parts(&mut core);
        assert_eq!(bits(&core.read(StatePart::Basis(1))), bits(&basis));
        assert!(compare(&again, &factor).0 > 1.0 - 5.0 * unit(format).powi(2), "{format:?}");
        core.state = state;

        // Another one: half a right angle in each of four planes.
        let root = 0.5f32.sqrt();
        let mut turned = basis.clone();
        for row in turned.chunks_exact_mut(9) {
            for pair in row[..8].chunks_exact_mut(2) {
                (pair[0], pair[1]) = (root * (pair[0] - pair[1]), root * (pair[0] + pair[1]));
            }
        }
        core.set_basis(1, &turned);
        let kept = core.read(StatePart::Basis(1));
        let nearest = |x: f32| match format {
            Format::Bf16 => half::bf16::from_f32(x).to_f32(),
            _ => half::f16::from_f32(x).to_f32(),
        };
        assert_eq!(bits(&kept), bits(&turned.iter().map(|&x| nearest(x)).collect::<Vec<_>>()));
        let [a, b] = parts(&mut core);
        assert!(rel_error(&widened(&a), &widened(&factor)) < 4.0 * unit(format), "{format:?}");
        assert!(rel_error(&widened(&b), &widened(&momentum)) < 4.0 * unit(format), "{format:?}");

        let mut skewed = kept.clone();
        skewed[0] += 0.05;
        let before = bits(&core.state);
        let (mut optimizer, scratch, linalg) = core.view();
        assert_eq!(optimizer.set_basis(0, 0, 1, &skewed, scratch, linalg).unwrap_err().kind, StepErrorKind::NotOrthogonal);
        assert_eq!(bits(&core.state), before);
    }
}

/// Moving a power of two from one mode to the other is exact in 16 bits too: with and without it the parameter takes the same steps.
#[test]
fn rebalancing_is_exact() {
    let graded = Graded::new([8, 3], 10.0, 1e-3);
    for format in HALVES {
        let run = |gauge| {
            let config = Config { gauge, factor_format: format, eps: 0.0, refresh_period: 3, ..Config::<f32>::kl_shampoo() };
            let mut core = F32::new(&config, &graded.dims, &[None, None]);
            let (mut gradients, mut p) = (graded.clone(), vec![0f32; 24]);
            for step in 0..40 {
                // One row carries everything, and it jumps: most eigenvalues of the rows stay far below those of the columns.
                let scale = if step == 0 { 1.0 } else { 2f32.powi(20) };
                let grad: Vec<f32> = gradients.next().iter().enumerate().map(|(i, g)| if i < 3 { g * scale } else { 0.0 }).collect();
                core.step(&mut p, &grad, 0.01);
            }
            (core.headers[0].rebalanced, bits(&p), bits(&core.read(StatePart::Basis(0))))
        };
        let (own, without) = (run(true), run(false));
        assert!(own.0 > 0 && without.0 == 0, "{}", own.0);
        assert!(own.1 == without.1 && own.2 == without.2, "{format:?}");
    }
}

/// Equal slices are rounded independently; the same table gives the same bits, whoever computes.
#[test]
fn rounding_depends_on_the_place_alone() {
    for format in HALVES {
        let config = Config { factor_format: format, ..Config::<f32>::kl_shampoo() };
        let specs = [spec(&[5, 6]).slices(2), spec(&[5, 6])];
        let run = |one_by_one: bool| {
            let mut core = F32::table(&[config], &specs);
            let mut gradients = Graded::new([5, 6], 1e2, 1e-3);
            let mut params = [vec![0f32; 60], vec![0f32; 30]];
            for _ in 0..30 {
                let g = gradients.next();
                let grads = [Some([&g[..], &g].concat()), Some(g)];
                if one_by_one {
                    let (mut optimizer, scratch, linalg) = core.view();
                    for i in [1, 0] {
                        optimizer.step_tensor(i, &mut params[i], grads[i].as_ref().unwrap(), 0.01, scratch, linalg).unwrap();
                    }
                } else {
                    core.try_step(&mut params, &grads, 0.01).unwrap();
                }
            }
            (bits(&core.state), params)
        };
        let (state, params) = run(false);
        assert_eq!((&state, &params), (&run(true).0, &run(true).1));
        let (first, rest) = state.split_at(state.len() / 3);
        assert!(first != &rest[..first.len()] && first != &rest[first.len()..]);
        let (a, b) = params[0].split_at(30);
        let cosines = [compare(a, b).0, compare(a, &params[1]).0];
        assert!(cosines.iter().all(|&cosine| cosine > 0.99), "{cosines:?}");
    }
}

/// Steps with refreshes in portions, and what a slice has of a factor after each; `resumed` saves and loads after each.
fn in_portions(factor_format: Format, portion: u32, steps: usize, resumed: bool) -> (Updates, Vec<Vec<f32>>, Vec<u32>) {
    let graded = Graded::new([6, 9], 1e3, 0.0);
    let config = Config { factor_format, refresh_portion: portion, refresh_period: 80, ..Config::<f32>::kl_shampoo() };
    let mut core = F32::new(&config, &graded.dims, &[None, None]);
    let (mut gradients, mut updates, mut factors, mut stages) = (graded.clone(), vec![], vec![], vec![]);
    for _ in 0..steps {
        let mut p = vec![0f32; 54];
        core.step(&mut p, &gradients.next(), 1.0);
        updates.push(p);
        factors.push([0, 1].map(|k| core.read(StatePart::Factor(k))).concat());
        // What portions keep is the last part, and its first number says where they stand.
        let squares = if factor_format == Format::Native { 2 } else { 3 };
        stages.push(core.state[core.state.len() - (squares * 81 + 3 * 9 + 5)] as u32);
        if resumed {
            let view = core.view().0;
            let mut bytes = vec![0; view.save_len() as usize];
            view.save(&mut bytes.as_mut_slice()).unwrap();
            core = F32::new(&config, &graded.dims, &[None, None]);
            core.view().0.load(&mut bytes.as_slice()).unwrap();
        }
    }
    (Updates { core, updates }, factors, stages)
}

/// Both savings at once: a refresh in portions of bases and factors in 16 bits.
#[test]
fn refreshes_in_portions() {
    for portion in [500, 4000, u32::MAX] {
        let (reference, reference_factors, _) = in_portions(Format::Native, portion, 400, false);
        for (format, most) in [(Format::Bf16, 5e-3), (Format::F16, 1e-3)] {
            let (own, factors, stages) = in_portions(format, portion, 400, false);
            let what = format!("{format:?}, portion {portion}");
            let [header, expected] = [&own, &reference].map(|run| run.core.headers[0]);
            assert_eq!((header.refresh_failures, expected.refresh_failures), (0, 0));
            assert!(header.refreshes >= 6 && header.refreshes.abs_diff(expected.refreshes) <= 2, "{what}: {header:?}");
            if portion == 500 {
                let all: std::collections::BTreeSet<u32> = stages.iter().copied().collect();
                assert!(all.into_iter().eq([0, 2, 3, 4, 5, 6, 7, 10, 11, 12, 13, 14]));
            }
            // Bases are turned a few steps later, and eigenvalues are seen in them; but what is read of a factor in the parameter's
            // coordinates is near that of `f32` in every stage, and so are updates before the next refresh.
            let (smallest, _) = cosines(&own, &reference, 390);
            let factor = factors.iter().zip(&reference_factors).map(|(a, b)| compare(a, b).0).skip(1).fold(1.0, f64::min);
            println!("{what}: 1 - cosine {:.1e} of updates, {:.1e} of factors", 1.0 - smallest, 1.0 - factor);
            let (most, most_of_factor) = if portion == u32::MAX { (most, most) } else { (5e-3, 0.02) };
            assert!(1.0 - smallest < most && 1.0 - factor < most_of_factor, "{what}");
            assert!(orthogonality_error(&mut own.core.clone()) < 2.0 * unit(format), "{what}");
            let (resumed, _, _) = in_portions(format, portion, 400, true);
            assert_eq!((bits(&resumed.core.state), &resumed.updates), (bits(&own.core.state), &own.updates), "{what}");
        }
    }
}

/// What is predicted of them is what they take, in operations, steps and memory.
#[test]
fn predictions_of_portions() {
    for format in HALVES {
        let config = Config { factor_format: format, refresh_portion: 6000, refresh_period: 200, ..Config::<f32>::kl_shampoo() };
        for dims in [[16, 32], [7, 5]] {
            let graded = Graded::new(dims, 1e2, 1e-3);
            let needs = spec(&dims).needs(&config).unwrap();
            let uncut = spec(&dims).needs(&Config { refresh_portion: 0, ..config }).unwrap();
            let longest = dims[0].max(dims[1]);
            assert_eq!(needs.state_len, uncut.state_len + 3 * longest * longest + 3 * longest + 5);
            assert_eq!((needs.scratch_len, needs.cost.step), (uncut.scratch_len, uncut.cost.step));
            let mut core = F32::table(&[config], &[spec(&dims)]);
            let (mut gradients, mut p, mut sum, mut last) = (graded.clone(), vec![0f32; dims[0] * dims[1]], 0, 0);
            for t in 1..=399 {
                let grad = gradients.next();
                let before = core.headers[0].refreshes;
                let (mut optimizer, scratch, linalg) = core.view();
                let report = optimizer.step_tensor(0, &mut p, &grad, 0.01, scratch, linalg).unwrap();
                assert!(report.portion_flops <= needs.cost.refresh_step);
                sum += report.portion_flops;
                if core.headers[0].refreshes > before {
                    last = t;
                }
            }
            assert_eq!(core.headers[0].refreshes, 2);
            assert_eq!(sum, needs.cost.refresh, "{dims:?}");
            assert_eq!(last, 200 + spec(&dims).layout(&config).unwrap().refresh_steps(&config), "{dims:?}");
        }
    }
}

/// Diagnostics read what is kept.
#[test]
fn diagnostics_see_the_kept_numbers() {
    let graded = Graded::new([6, 9], 1e3, 1e-3);
    for preset in [Config::<f32>::kl_shampoo(), Config::<f32>::soap(), Config::<f32>::vn_shampoo_1()] {
        let report = |factor_format| {
            let mut core = updates(Config { factor_format, ..preset }, &graded, 60).core;
            let grad = graded.clone().next();
            let (optimizer, scratch, linalg) = core.view();
            let objective = optimizer.objective(0, 0, &grad, scratch, linalg).unwrap();
            (objective, [0, 1].map(|k| optimizer.mode_report(0, 0, k, scratch, linalg).unwrap()))
        };
        let (objective, modes) = report(Format::Native);
        for format in HALVES {
            let (own, own_modes) = report(format);
            assert!((own - objective).abs() < 0.02 * objective.abs(), "{format:?}: {own} {objective}");
            for (own, mode) in own_modes.iter().zip(&modes) {
                let near = |a: f32, b: f32| (a - b).abs() < 0.1 * b.abs();
                assert!(near(own.effective_rank, mode.effective_rank) && near(own.lambda_max, mode.lambda_max));
                assert!((own.staleness_mean - mode.staleness_mean).abs() < 0.3 * mode.staleness_mean, "{own:?} {mode:?}");
                let error = f64::from(own.orthogonality_error);
                assert!(error > 0.05 * unit(format) && error < 2.0 * unit(format), "{error}");
            }
        }
    }
}

/// The owner in constant sizes, and a backend of a host: the same tables.
#[test]
fn fixed_sizes_and_other_backends() {
    const CONFIG: Config<f32> = Config { factor_format: Format::Bf16, ..Config::<f32>::kl_shampoo() };
    const SPEC: TensorSpec = match TensorSpec::new(&[16, 32]) {
        Ok(spec) => spec,
        Err(_) => panic!("dims"),
    };
    const NEEDS: klshampoo::Totals = match SPEC.needs(&CONFIG) {
        Ok(needs) => needs,
        Err(_) => panic!("sizes"),
    };
    let graded = Graded::new([16, 32], 1e3, 1e-3);
    let mut fixed = FixedOptimizer::<f32, Portable, 1, 1, 1, { NEEDS.state_len }, { NEEDS.scratch_len }>::new(Portable);
    fixed.add_group(CONFIG).unwrap();
    fixed.add_tensor(&SPEC).unwrap();
    let mut view = F32::table(&[CONFIG], &[SPEC]);
    let mut faer = Core::<f32, Faer>::table(&[CONFIG], &[SPEC]);
    let (mut gradients, mut p) = (graded.clone(), [vec![0f32; 512], vec![0f32; 512], vec![0f32; 512]]);
    for _ in 0..25 {
        let grad = gradients.next();
        fixed.step(&mut [&mut p[0]], &[Some(&grad)], 0.01).unwrap();
        view.step(&mut p[1], &grad, 0.01);
        faer.step(&mut p[2], &grad, 0.01);
    }
    assert_eq!(NEEDS.state_len * 4, 6_128);
    assert_eq!(bits(&p[0]), bits(&p[1]));
    assert!(compare(&p[2], &p[1]).0 > 0.9999);
}
