//! Factors and bases kept in 16 bits (`Config::factor_format`): what it saves, and how far it is from `f32`.

use klshampoo::linalg::Portable;
use klshampoo::{Config, Convention, FixedOptimizer, Format, Mode, SliceHeader, StatePart, StepErrorKind, TensorSpec};
use klshampoo_ffi::host::Faer;
use klshampoo_tests::acceptance::{config, modes};
use klshampoo_tests::cases::{Gradients, HIGHER_ORDERS, MATRICES, Xorshift};
use klshampoo_tests::golden::{Case, Collection};
use klshampoo_tests::harness::{Core, Driver, Number, converted, methods, widened};
use std::collections::BTreeMap;

type F32 = Core<f32, Portable>;

const HALVES: [Format; 2] = [Format::Bf16, Format::F16];

/// Half the distance between neighbours, relative to them.
fn unit(format: Format) -> f64 {
    2f64.powi(if format == Format::Bf16 { -9 } else { -12 })
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

/// The last of several updates of one tensor (of rate 1), and the optimizer.
struct Updates {
    core: F32,
    updates: Vec<Vec<f32>>,
}

/// Steps of a 2-D tensor with [`Graded`] gradients. The parameter is brought back to zero, so that no digit of an update is lost.
fn updates(config: Config<f32>, graded: &Graded, steps: usize) -> Updates {
    let one_sided = config.estimator == klshampoo::Estimator::OneSided;
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
        let factors = config.estimator != klshampoo::Estimator::None && config.max_dim > 0;
        for format in HALVES {
            let own = Config { factor_format: format, ..config };
            for dims in [&[1usize, 1][..], &[1, 2], &[5, 3], &[7, 8], &[16, 32], &[33, 31], &[3, 4, 5], &[9]] {
                if config.estimator == klshampoo::Estimator::OneSided && dims.len() > 2 {
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

#[test]
fn every_method_stays_near_f32() {
    // Its eigenvalues span four decades on either side, and its basis turns.
    let graded = Graded::new([16, 32], 1e4, 1e-3);
    let mut worst: BTreeMap<&str, (f64, f64, String)> = BTreeMap::new();
    for (name, config) in methods::<f32>() {
        let config = Config { refresh_period: 5, ..config };
        let reference = updates(config, &graded, 150);
        for (format, label) in [(Format::Bf16, "bf16"), (Format::F16, "f16")] {
            let own = updates(Config { factor_format: format, ..config }, &graded, 150);
            assert_eq!(own.core.headers[0].refreshes, reference.core.headers[0].refreshes, "{name}");
            let (smallest, mean) = cosines(&own, &reference, 20);
            println!("{name}, {label}: {smallest:.5} {mean:.5}");
            let all = worst.entry(label).or_insert((1.0, 1.0, String::new()));
            if mean < all.1 {
                *all = (smallest, mean, name.clone());
            }
        }
    }
    println!("{worst:?}");
}

#[test]
fn small_turns_and_small_shares_add_up() {
    for (beta2, turning, steps) in [(0.95f32, 0.0, 1500), (0.999, 0.0, 6000), (0.999, 2e-4, 6000)] {
        let graded = Graded::new([16, 32], 1e4, turning);
        let config = Config { beta2, ..Config::<f32>::kl_shampoo() };
        let mut reference = updates(config, &graded, steps);
        for format in HALVES {
            let mut own = updates(Config { factor_format: format, ..config }, &graded, steps);
            let (smallest, mean) = cosines(&own, &reference, steps / 2);
            let error = orthogonality_error(&mut own.core);
            for k in 0..2 {
                let (a, b) = (own.core.read(StatePart::Factor(k)), reference.core.read(StatePart::Factor(k)));
                println!("beta2 {beta2} turning {turning} {format:?}: cos {smallest:.5} {mean:.5} factor {k} {:?} orth {error:.1e}", compare(&a, &b));
            }
        }
    }
}

#[test]
fn bases_stay_orthogonal_over_ten_thousand_refreshes() {
    let graded = Graded::new([8, 12], 1e3, 1e-3);
    let config = Config { refresh_period: 1, ..Config::<f32>::kl_shampoo() };
    let reference = updates(config, &graded, 10_000);
    for format in HALVES {
        let mut own = updates(Config { factor_format: format, ..config }, &graded, 10_000);
        let error = orthogonality_error(&mut own.core);
        let (smallest, mean) = cosines(&own, &reference, 20);
        println!("{format:?}: orth {error:.1e} ({:.2} units) cos {smallest:.5} {mean:.5} {:?}", error / unit(format), own.core.headers[0]);
    }
}

#[test]
#[ignore]
fn f32_against_f64() {
    let graded = Graded::new([16, 32], 1e4, 1e-3);
    for ((name, config), (_, wide)) in methods::<f32>().into_iter().zip(methods::<f64>()) {
        if !(name.contains("idealized") || name.contains("instant")) { continue }
        let config = Config { refresh_period: 5, ..config };
        let wide = Config { refresh_period: 5, ..wide };
        let reference = updates(config, &graded, 150);
        let half = updates(Config { factor_format: Format::F16, ..config }, &graded, 150);
        let mut core = Core::<f64, Portable>::new(&wide, &[16, 32], &[None, None]);
        let mut gradients = graded.clone();
        let wide: Vec<Vec<f32>> = (0..150).map(|_| { let mut p = vec![0f64; 512]; let g: Vec<f64> = gradients.next().iter().map(|&x| f64::from(x)).collect(); core.step(&mut p, &g, 1.0); p.iter().map(|&x| x as f32).collect() }).collect();
        let at = |t: usize| (t, compare(&half.updates[t], &reference.updates[t]));
        println!("{name}: {:?} floored {:?}", [4, 10, 20, 40, 80, 149].map(at), (reference.core.headers[0].floored, half.core.headers[0].floored));
    }
}
