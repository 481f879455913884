//! Factors and bases kept in 16 bits: what it saves and what it costs.

use klshampoo::linalg::Portable;
use klshampoo::{Config, Format, Mode};
use klshampoo_tests::acceptance::{config, modes};
use klshampoo_tests::cases::Xorshift;
use klshampoo_tests::golden::{Case, Collection};
use klshampoo_tests::harness::{Core, Driver, Number, converted, widened};

type F32 = Core<f32, Portable>;

const HALVES: [Format; 2] = [Format::Bf16, Format::F16];

/// The error of a golden case's last parameter, relative to how far it has moved.
fn golden_error(case: &Case, format: Format) -> f64 {
    let config = Config { factor_format: format, ..config::<f32>(case) };
    let mut core = F32::new(&config, &case.shape, &modes(case));
    let mut p: Vec<f32> = converted(&case.p0_f64());
    let mut error = 0.0;
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

#[test]
fn golden_cases() {
    for collection in [Collection::Published, Collection::Family] {
        let mut groups: std::collections::BTreeMap<String, Vec<[f64; 3]>> = Default::default();
        for entry in collection.entries().unwrap() {
            let case = entry.load().unwrap();
            let errors = [Format::Native, Format::Bf16, Format::F16].map(|format| golden_error(&case, format));
            println!("{}: {:.1e} {:.1e} {:.1e}", case.name, errors[0], errors[1], errors[2]);
            groups.entry(case.algorithm.clone()).or_default().push(errors);
        }
        for (name, errors) in groups {
            let stat = |i: usize| {
                let mut e: Vec<f64> = errors.iter().map(|e| e[i]).collect();
                e.sort_by(f64::total_cmp);
                [e[e.len() / 2], e[e.len() - 1]].map(|x| format!("{x:.1e}"))
            };
            println!("## {name} {} {:?} {:?} {:?}", errors.len(), stat(0), stat(1), stat(2));
        }
    }
}

/// Gradients of a constant or slowly turning covariance `A (x) B` whose eigenvalues fall geometrically over `spread`, in a random basis.
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

#[test]
fn methods_measure() {
    for (name, config) in klshampoo_tests::harness::methods::<f32>() {
        if config.estimator == klshampoo::Estimator::None || !name.contains("Figure13") { continue }
        for (spread, turning) in [(1e2, 0.0), (1e4, 0.0), (1e4, 1e-3), (1e6, 0.0)] {
            let run = |format: Format| {
                let config = Config { factor_format: format, ..config };
                let modes = if config.estimator == klshampoo::Estimator::OneSided { [Some(Mode::Full), Some(Mode::Identity)] } else { [None, None] };
                let mut core = F32::new(&config, &[16, 32], &modes);
                let mut gradients = Graded::new([16, 32], spread, turning);
                let mut p = vec![0.0f32; 512];
                let mut updates = vec![];
                for _ in 0..300 {
                    let before = p.clone();
                    core.step(&mut p, &gradients.next(), 1.0);
                    updates.push(p.iter().zip(&before).map(|(a, b)| a - b).collect::<Vec<f32>>());
                    p.fill(0.0);
                }
                (updates, core.headers[0])
            };
            let (reference, h0) = run(Format::Native);
            for format in HALVES {
                let (updates, header) = run(format);
                let all: Vec<_> = updates.iter().zip(&reference).skip(20).map(|(a, b)| compare(a, b)).collect();
                let mean = all.iter().map(|x| x.0).sum::<f64>() / all.len() as f64;
                let min = all.iter().fold(1.0f64, |m, x| m.min(x.0));
                let ratio = all.iter().fold((9f64, 0f64), |m, x| (m.0.min(x.1), m.1.max(x.1)));
                println!("{name} {spread:.0e} {turning:.0e} {format:?}: cos {mean:.5} {min:.5} ratio {:.3} {:.3} floored {} {} fails {}", ratio.0, ratio.1, h0.floored, header.floored, header.refresh_failures);
            }
        }
    }
}
