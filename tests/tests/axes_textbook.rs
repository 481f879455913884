//! Each axis of the textbook that no golden trajectory covers, against a few lines that compute the same in another way.

use klshampoo_tests::cases::{Gradients, Problem};
use klshampoo_tests::golden::norm;
use klshampoo_tests::textbook::*;

const LR: f64 = 0.01;
const DIMS: &[usize] = &[5, 4];

fn problem(steps: usize) -> Problem {
    Gradients::LowRankDrift.make(DIMS, steps)
}

/// The optimizer and the parameter after each step.
fn run_kinds(options: Options, kinds: &[ModeKind], problem: &Problem) -> (KlShampoo, Vec<Vec<f64>>) {
    let mut optimizer = KlShampoo::new(DIMS, kinds, options);
    let mut p = problem.p0.clone();
    let path = problem.grads.iter().map(|grad| {
        optimizer.step(&mut p, grad, LR);
        p.clone()
    });
    let path = path.collect();
    (optimizer, path)
}

fn run(options: Options, problem: &Problem) -> Vec<Vec<f64>> {
    run_kinds(options, &[ModeKind::Full; 2], problem).1
}

fn close(a: &[f64], b: &[f64], tolerance: f64) {
    let (error, scale) = (norm(a.iter().zip(b).map(|(a, b)| a - b)), norm(b.iter().copied()));
    assert!(error <= tolerance * scale, "{error:e} of {scale:e}");
}

fn paths_close(a: &[Vec<f64>], b: &[Vec<f64>]) {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).for_each(|(a, b)| close(a, b, 1e-13));
}

/// What each step has subtracted from the parameter, over the learning rate.
fn updates(problem: &Problem, path: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let before = std::iter::once(&problem.p0).chain(path);
    before.zip(path).map(|(old, new)| old.iter().zip(new).map(|(old, new)| (old - new) / LR).collect()).collect()
}

/// The path whose update at step t is `f(t, G_t)`, element by element with the element's own state.
fn elementwise(problem: &Problem, f: impl Fn(&mut [f64; 2], i32, f64) -> f64) -> Vec<Vec<f64>> {
    let (mut p, mut state) = (problem.p0.clone(), vec![[0.0; 2]; problem.p0.len()]);
    let mut path = Vec::new();
    for (t, grad) in (1..).zip(&problem.grads) {
        for ((p, state), &g) in p.iter_mut().zip(&mut state).zip(grad) {
            *p -= LR * f(state, t, g);
        }
        path.push(p.clone());
    }
    path
}

#[test]
fn elementwise_methods() {
    let (problem, adamw) = (problem(20), Options::adamw());
    let rmsprop = Options { momentum: Momentum::None, bias_correction: BiasCorrection::None, ..adamw };
    let expected = elementwise(&problem, |[v, _], _, g| {
        *v = 0.999 * *v + 0.001 * g * g;
        g / (v.sqrt() + 1e-8)
    });
    paths_close(&run(rmsprop, &problem), &expected);

    let sgd = Options { direction: Direction::Momentum, bias_correction: BiasCorrection::None, ..adamw };
    let expected = elementwise(&problem, |[m, _], _, g| {
        *m = 0.9 * *m + 0.1 * g;
        *m
    });
    paths_close(&run(sgd, &problem), &expected);

    // NAdam as it is usually written: the next momentum's correction, and this gradient's own.
    let nadam = Options { momentum: Momentum::Nesterov, ..adamw };
    let expected = elementwise(&problem, |[m, v], t, g| {
        *m = 0.9 * *m + 0.1 * g;
        *v = 0.999 * *v + 0.001 * g * g;
        let numerator = (0.9 * *m + 0.1 * g) / (1.0 - 0.9f64.powi(t + 1));
        numerator / ((*v / (1.0 - 0.999f64.powi(t))).sqrt() + 1e-8)
    });
    paths_close(&run(nadam, &problem), &expected);

    let step_size = Options { bias_correction: BiasCorrection::StepSize, ..adamw };
    let expected = elementwise(&problem, |[m, v], t, g| {
        *m = 0.9 * *m + 0.1 * g;
        *v = 0.999 * *v + 0.001 * g * g;
        *m / (v.sqrt() + 1e-8) * (1.0 - 0.999f64.powi(t)).sqrt() / (1.0 - 0.9f64.powi(t))
    });
    paths_close(&run(step_size, &problem), &expected);
}

/// A constant gradient makes every corrected numerator that gradient, from the first step on.
#[test]
fn corrected_numerators_have_the_size_of_a_constant_gradient() {
    let mut problem = problem(8);
    problem.grads = vec![problem.grads[0].clone(); 8];
    let sgd = Options { direction: Direction::Momentum, ..Options::adamw() };
    for momentum in [Momentum::Average, Momentum::Nesterov, Momentum::None] {
        let path = run(Options { momentum, ..sgd }, &problem);
        updates(&problem, &path).iter().for_each(|u| close(u, &problem.grads[0], 1e-11));
    }
}

#[test]
fn momentum_none_is_a_beta1_of_zero() {
    for base in [Options::figure13(), Options::reference_kl(), Options::reference_soap(), Options::reference_meta(0.25)] {
        let base = Options { period: 3, ..base };
        let (none, zero) = (Options { momentum: Momentum::None, ..base }, Options { beta1: 0.0, ..base });
        paths_close(&run(none, &problem(12)), &run(zero, &problem(12)));
        // With the whole weight on the new gradient, so is Nesterov's numerator.
        paths_close(&run(Options { momentum: Momentum::Nesterov, ..zero }, &problem(12)), &run(zero, &problem(12)));
    }
}

#[test]
fn kinds_of_weight_decay() {
    let (problem, wd) = (problem(12), 0.3);
    let plain = Options { period: 3, ..Options::figure13() };
    let decay = |weight_decay, weight_decay_kind| run(Options { weight_decay, weight_decay_kind, ..plain }, &problem);
    let free = updates(&problem, &run(plain, &problem));
    let recurrence = |f: &dyn Fn(f64, f64) -> f64| {
        let mut p = problem.p0.clone();
        let step = |u: &Vec<f64>| {
            p.iter_mut().zip(u).for_each(|(p, u)| *p = f(*p, *u));
            p.clone()
        };
        free.iter().map(step).collect::<Vec<_>>()
    };
    // The gradients do not depend on the parameter, so the decoupled kinds have the updates of no decay at all.
    paths_close(&decay(wd, WeightDecay::Before), &recurrence(&|p, u| p - LR * (wd * p + u)));
    paths_close(&decay(wd, WeightDecay::After), &recurrence(&|p, u| (p - LR * u) * (1.0 - LR * wd)));
    paths_close(&decay(wd, WeightDecay::Independent), &recurrence(&|p, u| p * (1.0 - wd) - LR * u));

    let mut optimizer = KlShampoo::new(DIMS, &[ModeKind::Full; 2], plain);
    let mut p = problem.p0.clone();
    let coupled = problem.grads.iter().map(|grad| {
        let grad: Vec<f64> = grad.iter().zip(&p).map(|(g, p)| g + wd * p).collect();
        optimizer.step(&mut p, &grad, LR);
        p.clone()
    });
    let coupled: Vec<_> = coupled.collect();
    paths_close(&decay(wd, WeightDecay::L2), &coupled);
}

#[test]
fn grafts_take_the_length_of_their_methods() {
    let problem = problem(15);
    let base = Options { period: 3, beta1: 0.9, beta2: 0.8, ..Options::figure13() };
    let element =
        |bias: BiasCorrection, momentum: Momentum| Options { momentum, bias_correction: bias, beta1: 0.9, beta2: 0.8, ..Options::adamw() };
    let sum_of_squares = |[v, _]: &mut [f64; 2], _: i32, g: f64| {
        *v += g * g;
        g / (v.sqrt() + 1e-8)
    };
    for bias_correction in [BiasCorrection::None, BiasCorrection::Moments] {
        for momentum in [Momentum::Average, Momentum::Nesterov, Momentum::None] {
            let rmsprop = element(BiasCorrection::None, Momentum::None);
            for (graft, lengths) in [
                (Graft::Adam, run(element(bias_correction, momentum), &problem)),
                (Graft::Sgd, elementwise(&problem, |_, _, g| g)),
                (Graft::RmsProp, run(rmsprop, &problem)),
                (Graft::AdaGrad, elementwise(&problem, sum_of_squares)),
            ] {
                let free = Options { bias_correction, momentum, ..base };
                let grafted = updates(&problem, &run(Options { graft, ..free }, &problem));
                let directions = updates(&problem, &run(free, &problem));
                for ((u, direction), length) in grafted.iter().zip(&directions).zip(updates(&problem, &lengths)) {
                    let ratio = norm(length.iter().copied()) / norm(direction.iter().copied());
                    close(u, &direction.iter().map(|x| x * ratio).collect::<Vec<_>>(), 1e-11);
                }
            }
        }
    }
}

#[test]
fn the_cap_bounds_the_root_mean_square() {
    let problem = problem(12);
    let base = Options { period: 3, graft: Graft::Adam, ..Options::figure13() };
    let rms = |u: &[f64]| norm(u.iter().copied()) / (u.len() as f64).sqrt();
    let free = updates(&problem, &run(base, &problem));
    let mut all: Vec<f64> = free.iter().map(|u| rms(u)).collect();
    all.sort_by(f64::total_cmp);
    let cap = all[6];
    let capped = updates(&problem, &run(Options { rms_cap: Some(cap), ..base }, &problem));
    for (u, free) in capped.iter().zip(&free) {
        let ratio = (cap / rms(free)).min(1.0);
        close(u, &free.iter().map(|x| x * ratio).collect::<Vec<_>>(), 1e-11);
    }
    let active = free.iter().filter(|u| rms(u) > cap).count();
    assert!(active > 0 && active < free.len());
}

#[test]
fn shampoos_root_counts_the_preconditioned_modes() {
    let problem = problem(8);
    let base = Options { estimator: Estimator::Shampoo, direction: Direction::ShampooRoot, period: 3, ..Options::figure13() };
    for (kinds, p) in [
        ([ModeKind::Full, ModeKind::Full], 0.25),
        ([ModeKind::Full, ModeKind::Diagonal], 0.25),
        ([ModeKind::Identity, ModeKind::Full], 0.5),
    ] {
        let explicit = Options { direction: Direction::KroneckerPower(p), ..base };
        assert_eq!(run_kinds(base, &kinds, &problem).1, run_kinds(explicit, &kinds, &problem).1);
    }
}

#[test]
fn damping_of_factors() {
    // Until it is refreshed, Shampoo with a first basis from the gradient has uniform eigenvalues: both dampings are plain numbers.
    let mut problem = problem(1);
    problem.grads[0].iter_mut().for_each(|g| *g *= 1e-9);
    let base = Options { estimator: Estimator::Shampoo, beta1: 0.0, eps: 0.5, step_order: StepOrder::ApplyFirst, ..Options::figure13() };
    for (damping, denominator) in [(Damping::Denominator, 0.1 + 0.5), (Damping::Factor, 0.6)] {
        let u = updates(&problem, &run(Options { damping, ..base }, &problem));
        let expected: Vec<f64> = problem.grads[0].iter().map(|g| g / denominator).collect();
        close(&u[0], &expected, 1e-6);
    }
    let base = Options { direction: Direction::KroneckerPower(0.25), ..base };
    for (damping, denominator) in [(Damping::Denominator, 0.01f64.powf(0.25) + 0.5), (Damping::Factor, 0.36f64.powf(0.25))] {
        let u = updates(&problem, &run(Options { damping, ..base }, &problem));
        let expected: Vec<f64> = problem.grads[0].iter().map(|g| g / denominator).collect();
        close(&u[0], &expected, 1e-6);
    }
}

#[test]
fn refresh_schedules() {
    let due = |period, refresh_offset, refresh_growth| {
        let options = Options { period, refresh_offset, refresh_growth, ..Options::figure13() };
        let due = |last: &mut u64, t| {
            let due = options.refresh_due(t, *last);
            *last = if due { t } else { *last };
            Some(due.then_some(t))
        };
        (1..=40).scan(0, due).flatten().collect::<Vec<_>>()
    };
    assert_eq!(due(10, 0, 0), [10, 20, 30, 40]);
    assert_eq!(due(10, 1, 0), [11, 21, 31]);
    assert_eq!(due(1, 1, 0), (2..=40).collect::<Vec<_>>());
    // P(t) = 1 + floor(9 min(t, 18) / 18) grows by one every other step: 1, 2, 4, 8 and then 10.
    assert_eq!(due(10, 0, 18), [1, 3, 7, 15, 25, 35]);
    assert_eq!(due(10, 1, 18), [2, 4, 8, 16, 26, 36]);
    assert_eq!(due(1, 0, 18), (1..=40).collect::<Vec<_>>());
}

#[test]
fn growing_periods_refresh_when_due() {
    let options = Options { period: 10, refresh_growth: 18, ..Options::figure13() };
    let (optimizer, _) = run_kinds(options, &[ModeKind::Full; 2], &problem(40));
    assert_eq!(optimizer.refreshed, 2 * 6);
}

#[test]
fn modes_that_are_not_stale_are_skipped() {
    let problem = problem(40);
    let base = Options { period: 4, ..Options::figure13() };
    let counts = |staleness| {
        let (optimizer, path) = run_kinds(Options { staleness, ..base }, &[ModeKind::Full; 2], &problem);
        (optimizer.refreshed, optimizer.skipped, path)
    };
    let (refreshed, skipped, always) = counts(0.0);
    assert_eq!((refreshed, skipped), (20, 0));
    let (refreshed, skipped, path) = counts(1e-12);
    assert_eq!((refreshed, skipped), (20, 0));
    assert_eq!(path, always);
    let (refreshed, skipped, path) = counts(1.0);
    assert_eq!((refreshed, skipped), (0, 20), "a squared correlation is at most 1");
    assert_eq!(path, counts(2.0).2);
    let (refreshed, skipped, _) = counts(0.05);
    assert!(refreshed > 0 && skipped > 0 && refreshed + skipped == 20);
}

#[test]
fn staleness_is_the_mean_squared_correlation() {
    let symmetric = Matrix { rows: 3, cols: 3, data: vec![4.0, 1.0, 0.0, 1.0, 1.0, 0.5, 0.0, 0.5, 0.0] };
    let mode = Mode { kind: ModeKind::Full, factor: symmetric, basis: Matrix::identity(3), eigenvalues: vec![1.0; 3] };
    assert_eq!(mode.staleness(), 2.0 * (1.0 / 4.0) / 6.0);
    let scalar = Mode { factor: Matrix::identity(1), basis: Matrix::identity(1), eigenvalues: vec![1.0], ..mode };
    assert_eq!(scalar.staleness(), 0.0);
}

/// Where both bases are exact, it does not matter how they were found, except that one is in order.
#[test]
fn refreshes_by_either_decomposition_agree_once_the_basis_has_converged() {
    let mut problem = problem(400);
    let first = problem.grads[..40].to_vec();
    problem.grads = (0..400).map(|t| first[t % 40].clone()).collect();
    let base = Options { beta2: 0.9999, period: 1, factor_init: FactorInit::Lambda, ..Options::figure13() };
    let kinds = [ModeKind::Full; 2];
    for eigenvalues in [Eigenvalues::Instantaneous, Eigenvalues::InstantaneousAfterRefresh, Eigenvalues::AtRefresh] {
        let (qr, _) = run_kinds(Options { eigenvalues, sort: true, ..base }, &kinds, &problem);
        let (eigen, _) = run_kinds(Options { eigenvalues, refresh: Refresh::Eigendecomposition, ..base }, &kinds, &problem);
        for (qr, eigen) in qr.modes.iter().zip(&eigen.modes) {
            assert!(eigen.eigenvalues.is_sorted_by(|a, b| a >= b));
            assert!(eigen.staleness() < 1e-10);
            close(&qr.factor.data, &eigen.factor.data, 1e-2);
            close(&qr.eigenvalues, &eigen.eigenvalues, 1e-2);
        }
    }
}

/// A kept eigenvalue or second moment moves with its column: in other signs and orders of the columns nothing changes.
#[test]
fn sorting_is_only_a_change_of_names_where_the_decomposition_is_exact() {
    // Diagonal gradients: every basis is a signed permutation, QR keeps it and nothing is ever stale.
    let mut problem = problem(30);
    for (t, grad) in problem.grads.iter_mut().enumerate() {
        let swap = if t < 15 { [1.0, 3.0, 0.5, 2.0] } else { [3.0, 0.1, 4.0, 2.0] };
        grad.iter_mut().enumerate().for_each(|(at, g)| *g = if at / 4 == at % 4 { swap[at % 4] * *g } else { 0.0 });
    }
    let kl = Options { period: 3, ..Options::figure13() };
    for base in [kl, Options { direction: Direction::SecondMoment, ..kl }, Options { period: 3, sort: false, ..Options::reference_soap() }]
    {
        let (unsorted, path) = run_kinds(base, &[ModeKind::Full; 2], &problem);
        let (sorted, sorted_path) = run_kinds(Options { sort: true, ..base }, &[ModeKind::Full; 2], &problem);
        let (eigen, eigen_path) = run_kinds(Options { refresh: Refresh::Eigendecomposition, ..base }, &[ModeKind::Full; 2], &problem);
        path.iter().zip(&sorted_path).for_each(|(a, b)| close(a, b, 1e-12));
        path.iter().zip(&eigen_path).for_each(|(a, b)| close(a, b, 1e-12));
        assert_ne!(sorted.modes[1].basis, unsorted.modes[1].basis, "nothing was sorted");
        for (sorted, eigen) in sorted.modes.iter().zip(&eigen.modes) {
            close(&sorted.eigenvalues, &eigen.eigenvalues, 1e-12);
        }
    }
}

#[test]
fn nothing_is_preconditioned_before_the_first_refresh_of_an_identity_basis() {
    let problem = problem(9);
    let base = Options { period: 5, ..Options::reference_meta(0.25) };
    let sgd = Options { estimator: Estimator::None, direction: Direction::Momentum, ..base };
    let adam = Options { direction: Direction::SecondMoment, ..sgd };
    for (graft, expected) in [(Graft::None, sgd), (Graft::Adam, adam)] {
        let (path, expected) = (run(Options { graft, ..base }, &problem), run(expected, &problem));
        paths_close(&path[..4], &expected[..4]);
        assert_ne!(path[4], expected[4]);
    }
}
