//! What must hold of every method of the family: symmetries, scales, and gradients at the edge of the numbers.

use klshampoo::linalg::Portable;
use klshampoo::{
    BadGradient, Config, Estimator, FirstBasis, FirstStep, GradientFault, Graft, LambdaInit, Mode, Scalar, SliceError, SliceHeader,
    StatePart, StepErrorKind,
};
use klshampoo_tests::cases::{Gradients, Problem, Xorshift};
use klshampoo_tests::golden::norm;
use klshampoo_tests::harness::{Core, Driver, Number, converted, methods};
use klshampoo_tests::textbook::Matrix;
use proptest::prelude::*;

const LR: f64 = 0.01;

/// Shapes whose factors have full rank from the first gradient on: every refresh is determined.
const SHAPES: &[&[usize]] = &[&[5, 5], &[2, 3, 4], &[3, 2, 3]];

/// The methods with factors whose bases come from gradients, in every convention.
fn rotated_methods() -> Vec<(String, Config<f64>)> {
    let rotated = |config: &Config<f64>| config.estimator != Estimator::None && config.max_dim > 0;
    methods::<f64>().into_iter().filter(|(_, c)| rotated(c) && c.first_basis == FirstBasis::Gradient).collect()
}

fn a_rotated_method() -> impl Strategy<Value = (String, Config<f64>)> {
    prop::sample::select(rotated_methods())
}

fn a_shape() -> impl Strategy<Value = &'static [usize]> {
    prop::sample::select(SHAPES.to_vec())
}

/// One-sided methods have one preconditioned mode, here the first.
fn modes(config: &Config<f64>, dims: &[usize]) -> Vec<Option<Mode>> {
    let full = |k: usize| config.estimator != Estimator::OneSided || k == 0;
    (0..dims.len()).map(|k| Some(if full(k) { Mode::Full } else { Mode::Identity })).collect()
}

fn difference(a: &[f64], b: &[f64]) -> f64 {
    norm(a.iter().zip(b).map(|(a, b)| a - b))
}

fn orthogonal(d: usize, seed: u64) -> Matrix {
    let mut random = Xorshift::for_shape(&[seed as usize, d]);
    let values: Vec<f64> = (0..d * d).map(|_| random.normal()).collect();
    Matrix { rows: d, cols: d, data: values }.qr().0
}

/// `x` times a matrix along every mode.
fn turned(x: &[f64], dims: &[usize], matrices: &[Matrix]) -> Vec<f64> {
    let mut x = x.to_vec();
    for (k, a) in matrices.iter().enumerate() {
        let inner: usize = dims[k + 1..].iter().product();
        let element = |at: usize| {
            let (i, base) = (at / inner % dims[k], at - at / inner % dims[k] * inner);
            (0..dims[k]).map(|j| a[(i, j)] * x[base + j * inner]).sum()
        };
        x = (0..x.len()).map(element).collect();
    }
    x
}

/// The parameter after each step.
fn path(config: &Config<f64>, dims: &[usize], problem: &Problem) -> Vec<Vec<f64>> {
    let mut core = Core::<f64, Portable>::new(config, dims, &modes(config, dims));
    let mut p = problem.p0.clone();
    let step = |grad: &Vec<f64>| {
        core.step(&mut p, grad, LR);
        p.clone()
    };
    problem.grads.iter().map(step).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    /// Eigenvectors have no sign, whatever the estimator.
    #[test]
    fn signs_of_eigenvectors_do_not_matter((name, config) in a_rotated_method(), dims in a_shape(), at in 1usize..12, seed in any::<u64>()) {
        let config = Config { refresh_period: 3, ..config };
        let problem = Gradients::LowRankDrift.make(dims, 20);
        let mut plain = Core::<f64, Portable>::new(&config, dims, &modes(&config, dims));
        let mut p = problem.p0.clone();
        problem.grads[..at].iter().for_each(|grad| plain.step(&mut p, grad, LR));
        let (mut flipped, mut flipped_p) = (plain.clone(), p.clone());
        for (k, &d) in dims.iter().enumerate().filter(|&(k, _)| modes(&config, dims)[k] == Some(Mode::Full)) {
            let mut basis = plain.read(StatePart::Basis(k));
            for column in (0..d).filter(|column| seed.rotate_left((column + 17 * k) as u32) & 1 == 1) {
                basis.iter_mut().skip(column).step_by(d).for_each(|x| *x = -*x);
            }
            flipped.set_basis(k, &basis);
        }
        for grad in &problem.grads[at..] {
            plain.step(&mut p, grad, LR);
            flipped.step(&mut flipped_p, grad, LR);
            let (error, moved) = (difference(&p, &flipped_p), difference(&p, &problem.p0));
            prop_assert!(error <= 1e-9 * moved, "{name}: {error:e} of {moved:e}");
        }
    }

    /// Orthogonal changes of coordinates of each mode turn the steps and do nothing else: all that is done per element is done in the
    /// eigenbasis, and a graft by the gradient has no other coordinates than its length.
    #[test]
    fn coordinates_do_not_matter((name, config) in a_rotated_method(), dims in a_shape(), graft in any::<bool>(), seed in any::<u64>()) {
        let config = Config { refresh_period: 3, graft: if graft { Graft::Sgd } else { Graft::None }, ..config };
        let problem = Gradients::LowRankDrift.make(dims, 15);
        let matrices: Vec<Matrix> = dims.iter().enumerate().map(|(k, &d)| orthogonal(d, seed ^ k as u64)).collect();
        let turn = |x: &Vec<f64>| turned(x, dims, &matrices);
        let elsewhere = Problem { p0: turn(&problem.p0), grads: problem.grads.iter().map(turn).collect() };
        for (p, other) in path(&config, dims, &problem).iter().zip(path(&config, dims, &elsewhere)) {
            let (error, moved) = (difference(&turn(p), &other), difference(p, &problem.p0));
            prop_assert!(error <= 1e-8 * moved, "{name}: {error:e} of {moved:e}");
        }
    }
}

/// By which power of c the updates grow when all gradients are c times as large, without damping.
///
/// The Kronecker product of KL-, VN-2- and F-Shampoo's factors estimates E[g g^T], whose root it divides by: 0. So does one factor of
/// one-sided preconditioning. Shampoo has a factor like E[g g^T] in every mode: 1 - 2 p K', which is 0 for its root and for p = 1/4
/// on matrices, and -1 for p = 1/2; tau takes the surplus from VN-Shampoo, variant 1. Second moments: 0. SGD: 1.
fn power(name: &str, order: i32) -> i32 {
    match name {
        "sgd" => 1,
        "shampoo_half" => 1 - order,
        _ => 0,
    }
}

#[test]
fn updates_scale_by_a_known_power() {
    for (name, config) in f64::presets().into_iter().filter(|(name, _)| !name.ends_with("_reference")) {
        for &dims in SHAPES {
            if name == "shampoo_quarter" && dims.len() != 2 {
                continue;
            }
            for scale in [1.0 / 7.3, 64.0] {
                let run = |scale: f64| {
                    let mut config = Config { eps: 0.0, refresh_period: 3, ..config };
                    if config.estimator == Estimator::Shampoo && config.parts().eigenvalues && config.max_dim > 0 {
                        // Every mode's eigenvalues scale like the square; a scale-free first one has the scale of their product.
                        config.lambda_init = LambdaInit::Constant(0.1 * scale * scale);
                    }
                    let mut problem = Gradients::LowRankDrift.make(dims, 15);
                    problem.grads.iter_mut().flatten().for_each(|g| *g *= scale);
                    let mut core = Core::<f64, Portable>::new(&config, dims, &modes_of(&config, dims));
                    let mut p = vec![0.0; problem.p0.len()];
                    problem.grads.iter().for_each(|grad| core.step(&mut p, grad, LR));
                    p
                };
                let (once, scaled) = (run(1.0), run(scale));
                let expected: Vec<f64> = once.iter().map(|x| x * scale.powi(power(name, dims.len() as i32))).collect();
                let (error, moved) = (difference(&scaled, &expected), norm(expected.iter().copied()));
                assert!(error <= 1e-9 * moved, "{name}, {dims:?}, times {scale}: {error:e} of {moved:e}");
            }
        }
    }
}

/// As [`modes`], and diagonal ones where the method is.
fn modes_of(config: &Config<f64>, dims: &[usize]) -> Vec<Option<Mode>> {
    if config.max_dim == 0 { vec![Some(Mode::Diagonal); dims.len()] } else { modes(config, dims) }
}

type F32Core = Core<f32, Portable>;

const EDGE_SHAPES: &[&[usize]] = &[&[4, 3], &[2, 3, 4], &[1, 7]];

/// Runs every method in float32 and hands over what it has become.
fn every_f32(problem: impl Fn(&[usize]) -> Problem, check: impl Fn(&str, &[usize], &Config<f32>, SliceHeader, &[f32])) {
    for (name, config) in methods::<f32>() {
        for &dims in EDGE_SHAPES {
            let Problem { p0, grads } = problem(dims);
            let mut core = F32Core::new(&config, dims, &vec![None; dims.len()]);
            let mut p: Vec<f32> = converted(&p0);
            for (t, grad) in (1..).zip(&grads) {
                core.step(&mut p, &converted::<f32>(grad), LR as f32);
                let finite = core.state.iter().chain(&p).all(|x| x.is_finite());
                assert!(finite, "{name}, {dims:?}: step {t}");
            }
            let header = core.headers[0];
            assert_eq!((header.step, header.refresh_failures, header.skipped), (grads.len() as u64, 0, 0), "{name}, {dims:?}");
            check(&name, dims, &config, header, &p);
        }
    }
}

#[test]
fn a_hundred_zero_gradients_leave_everything_as_it_is() {
    let zeros = |dims: &[usize]| Gradients::Zero.make(dims, 100);
    every_f32(zeros, |name, dims, config, header, p| {
        assert_eq!((header.started, header.refreshes, header.floored, header.rebalanced), (0, 0, 0, 0), "{name}, {dims:?}");
        assert_eq!(p, converted::<f32>(&zeros(dims).p0), "{name}, {dims:?}, {:?}", config.weight_decay);
    });
}

#[test]
fn denormal_gradients_are_survived() {
    let denormal = |dims: &[usize]| {
        let mut problem = Gradients::LowRankDrift.make(dims, 100);
        problem.grads.iter_mut().flatten().for_each(|g| *g *= 1e-40);
        problem
    };
    every_f32(denormal, |name, dims, config, header, p| {
        let has_factors = config.estimator != Estimator::None;
        assert_eq!(header.started, u32::from(has_factors), "{name}, {dims:?}");
        // Their squares vanish: eigenvalues stay at the floor, or fall to it, and the steps are no longer than their floors allow.
        // F-Shampoo variant 1 leaves its estimates out.
        let reads = config.parts().eigenvalues && config.max_dim > 0 && config.estimator != Estimator::FrobeniusFactor;
        assert!(!reads || config.clamp_limit.is_some() || is_idle(config) || header.floored > 0, "{name}, {dims:?}");
        let moved = norm(p.iter().zip(denormal(dims).p0).map(|(a, b)| f64::from(*a) - b));
        assert!(moved <= 1e-6 * norm(denormal(dims).p0.into_iter()), "{name}, {dims:?}: {moved:e}");
    });
}

/// Whether the first eigenvalues are far above the floor and nothing takes them there in a hundred steps.
fn is_idle(config: &Config<f32>) -> bool {
    matches!(config.lambda_init, LambdaInit::Constant(lambda) if lambda > 1e-6)
}

#[test]
fn one_direction_a_hundred_times_is_survived() {
    let rank_one = |dims: &[usize]| Gradients::RankOneRepeated.make(dims, 100);
    every_f32(rank_one, |name, dims, config, header, p| {
        let has_factors = config.estimator != Estimator::None;
        assert_eq!(header.started, u32::from(has_factors), "{name}, {dims:?}");
        let due = (100 - u64::from(config.refresh_offset)) / u64::from(config.refresh_period);
        let full = match config.estimator {
            _ if !has_factors || config.max_dim == 0 => 0,
            Estimator::OneSided => 1,
            _ => dims.len() as u64,
        };
        assert_eq!(u64::from(header.refreshes), due * full, "{name}, {dims:?}");
        // There is no noise to divide: no element goes further than a few normalised steps of the whole. The factors of F-Shampoo,
        // variant 1, start from the squares of the first eigenvalues and have a longer way to their scale.
        let slack = if config.estimator == Estimator::FrobeniusFactor { 10.0 } else { 1.0 };
        let moved = norm(p.iter().zip(rank_one(dims).p0).map(|(a, b)| f64::from(*a) - b));
        let largest = LR * 100.0 * 40.0 * (p.len() as f64).sqrt();
        assert!(moved > 0.0 && moved <= largest * slack, "{name}, {dims:?}: {moved:e}");
    });
}

/// 1e30 squared is beyond the type: the call fails before anything is written, or the slice is left alone and counted.
#[test]
fn an_outlier_beyond_the_range_is_refused_or_skipped() {
    for (name, config) in methods::<f32>() {
        for &dims in EDGE_SHAPES {
            for bad_gradient in [BadGradient::Error, BadGradient::Skip] {
                let config = Config { bad_gradient, ..config };
                let mut problem = Gradients::LowRankDrift.make(dims, 12);
                let mut core = F32Core::new(&config, dims, &vec![None; dims.len()]);
                let mut params = [converted::<f32>(&problem.p0)];
                problem.grads[5][1] = 1e30;
                for (t, grad) in problem.grads.iter().enumerate() {
                    let (state, headers, before) = (core.state.clone(), core.headers.clone(), params.clone());
                    let result = core.try_step(&mut params, &[Some(converted(grad))], LR as f32);
                    if t != 5 {
                        assert_eq!(result.unwrap().stepped, 1, "{name}, {dims:?}");
                        continue;
                    }
                    assert_eq!((&core.state, &params), (&state, &before), "{name}, {dims:?}");
                    if bad_gradient == BadGradient::Skip {
                        assert_eq!((result.unwrap().skipped, core.headers[0].skipped), (1, 1), "{name}, {dims:?}");
                        assert_eq!(core.headers[0], SliceHeader { skipped: 1, ..headers[0] });
                    } else {
                        let kind = StepErrorKind::Slice(SliceError::Gradient(GradientFault::TooLarge));
                        assert_eq!(result.unwrap_err().kind, kind, "{name}, {dims:?}");
                        assert_eq!(core.headers, headers);
                    }
                }
                assert!(core.state.iter().chain(&params[0]).all(|x| x.is_finite()), "{name}, {dims:?}");
            }
        }
    }
}

/// Inverse norms of three other modes at their floors are beyond float32 together: F-Shampoo leaves such estimates out, and is not
/// refused a gradient for their sake; of VN-Shampoo, whose first eigenvalue is given, the gradient is refused.
#[test]
fn nothing_overflows_at_order_four() {
    let dims = [2, 3, 2, 3];
    let small = Config { beta1: 0.0, beta2: 0.63, refresh_period: 1, ..Config::<f32>::f_shampoo_1() };
    let constant = LambdaInit::Constant(999.0);
    let vanishing = Config { first_step: FirstStep::FactorsOnly, lambda_init: constant, ..small };
    let tiny_start = Config { lambda_init: LambdaInit::Constant(f32::FLOOR), ..Config::<f32>::vn_shampoo_2() };
    for (config, gradients) in [
        (small, Gradients::Tiny),
        (vanishing, Gradients::HugeOutlier),
        (tiny_start, Gradients::LowRankDrift),
        (tiny_start, Gradients::Tiny),
    ] {
        let problem = gradients.make(&dims, 40);
        let mut core = F32Core::new(&config, &dims, &[None; 4]);
        let mut params = [converted::<f32>(&problem.p0)];
        for grad in &problem.grads {
            let result = core.try_step(&mut params, &[Some(converted(grad))], LR as f32);
            let refused = StepErrorKind::Slice(SliceError::Gradient(GradientFault::TooLarge));
            assert!(
                result.is_ok() || (config == tiny_start && result.unwrap_err().kind == refused),
                "{config:?}, {gradients:?}: {result:?}"
            );
            assert!(core.state.iter().chain(&params[0]).all(|x| x.is_finite()), "{config:?}, {gradients:?}");
        }
    }
}
