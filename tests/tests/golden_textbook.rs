//! The textbook reproduces the golden trajectories, so that it may judge everything else.

use klshampoo_tests::golden::{self, Case, Collection, Entry, norm, rel_error};
use klshampoo_tests::textbook::*;

/// Relative, for the state after the last call: the same as for the parameters.
const STATE_TOLERANCE: f64 = 1e-11;

/// The largest errors of a group of runs, for the record.
#[derive(Default)]
struct Worst {
    runs: usize,
    parameter: f64,
    state: f64,
}

impl Worst {
    fn parameter(&mut self, case: &Case, snapshot: usize, p: &[f64], tolerance: f64) {
        let error = case.rel_update(snapshot, p);
        assert!(error <= tolerance, "{}: snapshot {snapshot}: {error:e}", case.name);
        self.parameter = self.parameter.max(error);
    }

    fn state(&mut self, case: &Case, name: &str, values: &[f64], tolerance: f64) {
        let golden = case.f64(name).unwrap_or_else(|| panic!("{}: no array {name}", case.name));
        let error = rel_error(values, golden);
        assert!(error <= tolerance, "{}: {name}: {error:e}", case.name);
        self.state = self.state.max(error);
    }

    fn report(&self, group: &str) {
        println!("{group}: {} runs, worst parameter error {:.1e}, worst state error {:.1e}", self.runs, self.parameter, self.state);
    }
}

fn kinds(case: &Case) -> Vec<ModeKind> {
    let kind = |name: &String| match name.as_str() {
        "Full" => ModeKind::Full,
        "Diagonal" => ModeKind::Diagonal,
        "Identity" => ModeKind::Identity,
        other => panic!("mode {other}"),
    };
    match &case.hyper.modes {
        Some(modes) => modes.iter().map(kind).collect(),
        None => vec![ModeKind::Full; case.shape.len()],
    }
}

fn options(case: &Case) -> Options {
    let hyper = &case.hyper;
    let preset = match (case.collection, case.algorithm.as_str()) {
        (Collection::Family, _) => family_options(hyper),
        (Collection::Published, "klshampoo") => published_kl_options(hyper),
        (Collection::Published, "klsoap") => Options { direction: Direction::SecondMoment, ..published_kl_options(hyper) },
        (Collection::Published, "soap") => Options::reference_soap(),
        (Collection::Published, "shampoo") => published_shampoo_options(hyper),
        (Collection::Published, "adamw") => Options::adamw(),
        (Collection::Published, other) => panic!("algorithm {other}"),
    };
    Options {
        beta1: hyper.betas[0],
        beta2: hyper.betas[1],
        eps: hyper.eps,
        weight_decay: hyper.weight_decay,
        period: hyper.period.map_or(preset.period, |period| period as u64),
        ..preset
    }
}

fn published_kl_options(hyper: &golden::Hyper) -> Options {
    Options {
        clamp: hyper.clamp.unwrap().then(|| hyper.max_clamp_value.unwrap()),
        lambda_0: FirstEigenvalue::Constant(hyper.init_factor.unwrap()),
        ..Options::reference_kl()
    }
}

fn published_shampoo_options(hyper: &golden::Hyper) -> Options {
    assert_eq!((hyper.use_bias_correction, hyper.start_preconditioning_step), (Some(true), hyper.period));
    let direction = hyper.exponent.map_or(Direction::ShampooRoot, Direction::KroneckerPower);
    Options { direction, graft: graft(hyper), ..Options::reference_meta(0.5) }
}

fn graft(hyper: &golden::Hyper) -> Graft {
    match hyper.graft.as_deref() {
        None => Graft::None,
        Some("adam") => Graft::Adam,
        other => panic!("graft {other:?}"),
    }
}

fn family_options(hyper: &golden::Hyper) -> Options {
    assert_eq!(hyper.convention.as_deref(), Some("figure13"));
    let estimator = match hyper.estimate.as_deref() {
        Some("kl") => Estimator::KullbackLeibler,
        Some("onesided") => Estimator::OneSided,
        Some("one") => Estimator::Shampoo,
        Some("vn2") => Estimator::VonNeumann,
        Some("f1") => Estimator::FrobeniusFactor,
        Some("f2") => Estimator::Frobenius,
        other => panic!("estimate {other:?}"),
    };
    let (eigenvalues, refresh) = match hyper.eigenvalues.as_deref() {
        Some("ema") => (Eigenvalues::Average, Refresh::Qr),
        Some("eigh") => (Eigenvalues::AtRefresh, Refresh::Eigendecomposition),
        Some("inst") => (Eigenvalues::Instantaneous, Refresh::Qr),
        Some("inst_after") => (Eigenvalues::InstantaneousAfterRefresh, Refresh::Qr),
        other => panic!("eigenvalues {other:?}"),
    };
    let from_zero = eigenvalues == Eigenvalues::Average && estimator != Estimator::FrobeniusFactor;
    Options {
        estimator,
        eigenvalues,
        refresh,
        factor_init: if from_zero { FactorInit::Zero } else { FactorInit::Lambda },
        direction: match hyper.apply.as_deref() {
            Some("lambda") => Direction::KroneckerPower(hyper.p.unwrap()),
            Some("vn1") => Direction::TraceScaled,
            Some("soap") => Direction::SecondMoment,
            other => panic!("apply {other:?}"),
        },
        graft: graft(hyper),
        lambda_0: match hyper.lambda_0.as_ref().unwrap() {
            golden::FirstEigenvalue::Value(value) => FirstEigenvalue::Constant(*value),
            golden::FirstEigenvalue::Rule(rule) if rule == "scale-free" => FirstEigenvalue::ScaleFree,
            other => panic!("lambda_0 {other:?}"),
        },
        ..Options::figure13()
    }
}

/// Runs a case and compares parameters and final state; `seeded` overwrites the bases at the end of step 1.
fn run(case: &Case, seeded: bool, worst: &mut Worst) {
    let seeded_parameter = case.takes_first_parameter();
    let tolerance = if seeded_parameter && case.shape.len() == 2 { 1e-10 } else { Case::F64_TOLERANCE };
    let mut optimizer = KlShampoo::new(&case.shape, &kinds(case), options(case));
    let mut p = case.p0_f64();
    for (t, grad) in (1..).zip(&case.grads) {
        optimizer.step(&mut p, grad, case.hyper.lr);
        if t == 1 {
            compare_first_bases(case, &optimizer);
            for mode in (0..case.shape.len()).filter(|_| seeded) {
                if let Some(basis) = case.first_basis(mode) {
                    optimizer.seed_basis(mode, basis);
                }
            }
            if seeded_parameter {
                assert_eq!(p, case.p0_f64(), "{}: step 1 moves the parameter", case.name);
                p.copy_from_slice(case.parameter(1));
            }
        }
        if case.snapshots.contains(&t) {
            worst.parameter(case, t, &p, tolerance);
        }
    }
    compare_state(case, &optimizer, worst);
    worst.runs += 1;
}

/// Where call 1 determines them, the bases are the golden ones up to the signs of their columns.
fn compare_first_bases(case: &Case, optimizer: &KlShampoo) {
    if !case.must_seed_basis {
        for (k, mode) in optimizer.modes.iter().enumerate() {
            if let Some(golden) = case.first_basis(k) {
                let error = distance_up_to_signs(&mode.basis, golden);
                // Eigenvectors of close eigenvalues are the ones least determined: looser than the parameters, which average over them.
                assert!(error <= 1e-9, "{}: Q_init_{k}: {error:e}", case.name);
            }
        }
    }
}

/// The Frobenius norm of |A^T B| - I.
fn distance_up_to_signs(basis: &Matrix, golden: &[f64]) -> f64 {
    let d = basis.rows;
    let product = basis.transposed().times(&Matrix::from_fn(d, d, |i, j| golden[i * d + j]));
    norm((0..d * d).map(|at| product.data[at].abs() - if at / d == at % d { 1.0 } else { 0.0 }))
}

fn compare_state(case: &Case, optimizer: &KlShampoo, worst: &mut Worst) {
    let (options, tolerance) = (options(case), STATE_TOLERANCE);
    for (k, mode) in optimizer.modes.iter().enumerate() {
        if mode.kind == ModeKind::Full {
            worst.state(case, &format!("f64/S_{k}"), &mode.factor.data, tolerance);
            if let Some(golden) = case.f64(&format!("f64/Q_{k}")) {
                let error = distance_up_to_signs(&mode.basis, golden);
                assert!(error <= 1e-9, "{}: Q_{k}: {error:e}", case.name);
            }
        }
        let spectrum = |f: &dyn Fn(f64) -> f64| {
            let diagonal = Matrix::diagonal(mode.eigenvalues.iter().map(|&lambda| f(lambda)));
            mode.basis.times(&diagonal).times(&mode.basis.transposed()).data
        };
        match (case.collection, case.algorithm.as_str(), mode.kind) {
            (_, _, ModeKind::Identity) | (Collection::Published, "soap", _) => {}
            (Collection::Published, "shampoo", _) => {
                let p = case.hyper.exponent.unwrap_or(0.5 / case.shape.len() as f64);
                worst.state(case, &format!("f64/inv_root_{k}"), &spectrum(&|lambda| (lambda + options.eps).powf(-p)), tolerance);
            }
            (Collection::Published, ..) => {
                let inverse_roots: Vec<f64> = mode.eigenvalues.iter().map(|lambda| 1.0 / lambda.sqrt()).collect();
                worst.state(case, &format!("f64/eigen_sqrt_inv_{k}"), &inverse_roots, tolerance);
            }
            (Collection::Family, _, kind) => {
                worst.state(case, &format!("f64/lambda_{k}"), &mode.eigenvalues, tolerance);
                if kind == ModeKind::Full {
                    worst.state(case, &format!("f64/QLQt_{k}"), &spectrum(&|lambda| lambda), tolerance);
                }
            }
        }
    }
    let second_moment = options.direction == Direction::SecondMoment;
    // The published SOAP and KL-SOAP keep their momentum in the eigenbasis, whose signs are arbitrary.
    let rotated = case.collection == Collection::Published && second_moment && options.estimator != Estimator::None;
    worst.state(case, if rotated { "f64/exp_avg_unrotated" } else { "f64/exp_avg" }, &optimizer.momentum, tolerance);
    if second_moment {
        worst.state(case, "f64/exp_avg_sq", &optimizer.second_moment, tolerance);
    }
    if options.graft == Graft::Adam {
        worst.state(case, "f64/graft_exp_avg_sq", &optimizer.graft_second_moment, tolerance);
    }
    if options.direction == Direction::TraceScaled {
        worst.state(case, "f64/tau", &[optimizer.tau()], tolerance);
    }
}

/// Every case seeded, and from its own bases where the first gradient determines them.
fn run_group(name: &str, cases: &[Case]) -> Worst {
    let (mut seeded, mut unseeded) = (Worst::default(), Worst::default());
    for case in cases {
        run(case, true, &mut seeded);
        if !case.must_seed_basis {
            run(case, false, &mut unseeded);
        }
    }
    seeded.report(&format!("{name}, seeded"));
    unseeded.report(&format!("{name}, unseeded"));
    unseeded
}

#[test]
fn published_klshampoo_matrices() {
    let cases = Collection::Published.cases(44, |entry| entry.algorithm == "klshampoo" && entry.shape.len() == 2);
    let unseeded = run_group("klshampoo, matrices", &cases);
    assert_eq!(unseeded.runs, 39);
}

#[test]
fn published_klshampoo_order_three() {
    let cases = Collection::Published.cases(6, |entry| entry.algorithm == "klshampoo" && entry.shape.len() == 3);
    run_group("klshampoo, order 3", &cases);
}

#[test]
fn published_klsoap() {
    let cases = Collection::Published.cases(50, |entry| entry.algorithm == "klsoap");
    let unseeded = run_group("klsoap", &cases);
    assert_eq!(unseeded.runs, 45);
}

#[test]
fn published_soap() {
    let cases = Collection::Published.cases(11, |entry| entry.algorithm == "soap");
    let unseeded = run_group("soap", &cases);
    assert_eq!(unseeded.runs, 10);
}

#[test]
fn published_shampoo() {
    let cases = Collection::Published.cases(16, |entry| entry.algorithm == "shampoo");
    // There are no bases to seed: the first one is the identity.
    assert!(cases.iter().all(|case| !case.must_seed_basis && case.first_basis(0).is_none()));
    run_group("shampoo", &cases);
}

#[test]
fn published_adamw() {
    let cases = Collection::Published.cases(12, |entry| entry.algorithm == "adamw");
    assert_eq!(cases.iter().filter(|case| case.shape.len() == 2).count(), 8);
    // As a method of the family without factors, and on its own.
    run_group("adamw of the family", &cases);
    let mut worst = Worst::default();
    for case in &cases {
        let hyper = &case.hyper;
        let mut optimizer = AdamW::new(case.len(), hyper.betas, hyper.eps, hyper.weight_decay);
        let mut p = case.p0_f64();
        for (t, grad) in (1..).zip(&case.grads) {
            optimizer.step(&mut p, grad, hyper.lr);
            if case.snapshots.contains(&t) {
                worst.parameter(case, t, &p, Case::F64_TOLERANCE);
            }
        }
        worst.state(case, "f64/exp_avg", &optimizer.momentum, STATE_TOLERANCE);
        worst.state(case, "f64/exp_avg_sq", &optimizer.second_moment, STATE_TOLERANCE);
        worst.runs += 1;
    }
    worst.report("adamw");
}

/// The family's cases whose names begin with one of `prefixes`.
fn family(group: &str, count: usize, prefixes: &[&str]) {
    let named = |entry: &Entry| prefixes.iter().any(|prefix| entry.algorithm.starts_with(prefix));
    run_group(group, &Collection::Family.cases(count, named));
}

#[test]
fn family_klshampoo() {
    family("figure13 klshampoo", 18, &["klshampoo"]);
}

#[test]
fn family_onesided() {
    family("figure13 one-sided", 12, &["onesided"]);
}

#[test]
fn family_shampoo() {
    family("figure13 shampoo", 56, &["shampoo"]);
}

#[test]
fn family_von_neumann_and_frobenius() {
    family("figure13 VN- and F-Shampoo, Adafactor", 27, &["vnshampoo", "fshampoo", "adafactor"]);
}

#[test]
fn family_idealized_and_instantaneous() {
    family("figure13 idealized and instantaneous", 42, &["idealized", "instantaneous"]);
}

#[test]
fn family_klsoap() {
    family("figure13 klsoap", 12, &["klsoap"]);
}

#[test]
fn the_groups_are_everything_published() {
    assert_eq!(Collection::Published.entries().unwrap().len(), 44 + 6 + 50 + 11 + 16 + 12);
}

#[test]
fn the_groups_are_the_whole_family() {
    assert_eq!(Collection::Family.entries().unwrap().len(), 18 + 12 + 56 + 27 + 42 + 12);
}
