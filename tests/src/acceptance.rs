//! The golden cases that klshampoo must pass, for any [`Driver`] and either precision.
//!
//! In f32 a run passes the rule of `golden/README.md`; in f64 it stays within [`F64_TOLERANCE`], state included.

use crate::golden::{self, Case, Collection, Entry, Start, rel_error};
use crate::harness::{Driver, Number, converted, widened};
use klshampoo::{Config, LambdaInit, Mode, StatePart};

/// The largest error of a f64 run, in the parameter relative to its movement and in each part of the state relative to its norm.
pub const F64_TOLERANCE: f64 = Case::F64_TOLERANCE;

/// The largest errors of a group of runs.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Worst {
    /// How many runs.
    pub runs: usize,
    /// Of the parameter, relative to its movement.
    pub parameter: f64,
    /// The same, as a share of what the rule allows.
    pub share: f64,
    /// Of a part of the state, relative to its norm (f64 runs only).
    pub state: f64,
}

impl Worst {
    /// Prints one line.
    pub fn report(&self, group: &str) {
        let Worst { runs, parameter, share, state } = self;
        println!("{group}: {runs} runs, worst parameter error {parameter:.1e} ({share:.2} of the tolerance), state {state:.1e}");
    }
}

/// Every published KL-Shampoo matrix, seeded and, where the first gradient determines the bases, unseeded.
///
/// # Panics
/// If a run is outside its tolerance, or the manifest does not have the expected number of cases.
pub fn published_klshampoo<T: Number, D: Driver<T>>() {
    let cases = cases(Collection::Published, 44, |entry| entry.algorithm == "klshampoo" && entry.shape.len() == 2);
    run_group::<T, D>("published klshampoo, matrices", &cases, 39);
}

/// Every published AdamW case.
///
/// # Panics
/// As [`published_klshampoo`].
pub fn published_adamw<T: Number, D: Driver<T>>() {
    let cases = cases(Collection::Published, 12, |entry| entry.algorithm == "adamw");
    assert_eq!(cases.iter().filter(|case| case.shape.len() == 2).count(), 8);
    let mut worst = Worst::default();
    cases.iter().for_each(|case| run::<T, D>(case, false, &mut worst));
    worst.report("published adamw");
}

/// Every KL-Shampoo case of the family, of all orders.
///
/// # Panics
/// As [`published_klshampoo`].
pub fn family_klshampoo<T: Number, D: Driver<T>>() {
    let cases = cases(Collection::Family, 18, |entry| entry.algorithm.starts_with("klshampoo"));
    run_group::<T, D>("family klshampoo", &cases, 18);
}

/// The manifest's cases for which `wanted` holds; their number is asserted, so that none is skipped in silence.
fn cases(collection: Collection, count: usize, wanted: impl Fn(&Entry) -> bool) -> Vec<Case> {
    let entries = collection.entries().unwrap();
    let cases: Vec<Case> = entries.iter().filter(|entry| wanted(entry)).map(|entry| entry.load().unwrap()).collect();
    assert_eq!(cases.len(), count);
    cases
}

fn run_group<T: Number, D: Driver<T>>(name: &str, cases: &[Case], unseeded_runs: usize) {
    let (mut seeded, mut unseeded) = (Worst::default(), Worst::default());
    for case in cases {
        run::<T, D>(case, true, &mut seeded);
        if !case.must_seed_basis {
            run::<T, D>(case, false, &mut unseeded);
        }
    }
    assert_eq!(unseeded.runs, unseeded_runs);
    seeded.report(&format!("{name}, seeded"));
    unseeded.report(&format!("{name}, unseeded"));
}

/// The case's method in the library's terms.
pub fn config<T: Number>(case: &Case) -> Config<T> {
    let hyper = &case.hyper;
    let preset = match (case.collection, case.algorithm.as_str()) {
        (Collection::Published, "adamw") => T::adamw(),
        (Collection::Published, "klshampoo") => Config {
            lambda_init: LambdaInit::Constant(T::from_f64(hyper.init_factor.unwrap())),
            clamp_limit: hyper.clamp.unwrap().then(|| T::from_f64(hyper.max_clamp_value.unwrap())),
            ..T::reference_kl()
        },
        (Collection::Family, _) => Config { lambda_init: family_lambda_init(hyper), ..T::figure13() },
        (_, other) => panic!("{other} is not in the library"),
    };
    Config {
        beta1: T::from_f64(hyper.betas[0]),
        beta2: T::from_f64(hyper.betas[1]),
        eps: T::from_f64(hyper.eps),
        weight_decay: T::from_f64(hyper.weight_decay),
        refresh_period: hyper.period.unwrap_or(1) as u32,
        ..preset
    }
}

fn family_lambda_init<T: Number>(hyper: &golden::Hyper) -> LambdaInit<T> {
    let axes = [&hyper.convention, &hyper.estimate, &hyper.eigenvalues, &hyper.apply].map(|axis| axis.as_deref().unwrap());
    assert_eq!((axes, hyper.p), (["figure13", "kl", "ema", "lambda"], Some(0.5)));
    match hyper.lambda_0.as_ref().unwrap() {
        golden::FirstEigenvalue::Value(value) => LambdaInit::Constant(T::from_f64(*value)),
        golden::FirstEigenvalue::Rule(rule) if rule == "scale-free" => LambdaInit::ScaleFree,
        other => panic!("lambda_0 {other:?}"),
    }
}

fn modes(case: &Case) -> Vec<Option<Mode>> {
    let mode = |name: &String| match name.as_str() {
        "Full" => Mode::Full,
        "Diagonal" => Mode::Diagonal,
        "Identity" => Mode::Identity,
        other => panic!("mode {other}"),
    };
    match &case.hyper.modes {
        Some(modes) => modes.iter().map(|name| Some(mode(name))).collect(),
        None => vec![None; case.shape.len()],
    }
}

fn is_f64<T: Number>() -> bool {
    T::EPSILON.to_f64() == f64::EPSILON
}

/// Runs a case; `seeded` overwrites the bases at the end of step 1.
fn run<T: Number, D: Driver<T>>(case: &Case, seeded: bool, worst: &mut Worst) {
    let config = config::<T>(case);
    let start = if seeded || case.algorithm == "adamw" { Start::Seeded } else { Start::Unseeded };
    let mut driver = D::new(&config, &case.shape, &modes(case));
    let mut p: Vec<T> = converted(&case.p0_f64());
    for (t, grad) in (1..).zip(&case.grads) {
        driver.step(&mut p, &converted::<T>(grad), T::from_f64(case.hyper.lr));
        for k in (0..case.shape.len()).filter(|_| t == 1 && seeded) {
            if let Some(basis) = case.first_basis(k) {
                driver.set_basis(k, &converted::<T>(basis));
            }
        }
        if case.snapshots.contains(&t) {
            let tolerance = if is_f64::<T>() { F64_TOLERANCE } else { case.f32_tolerance(start, t) };
            let error = case.rel_update(t, &widened(&p));
            assert!(error <= tolerance, "{}, {start:?}: snapshot {t}: {error:e} > {tolerance:e}", case.name);
            worst.parameter = worst.parameter.max(error);
            worst.share = worst.share.max(error / tolerance);
        }
    }
    if is_f64::<T>() {
        compare_state(case, &mut driver, worst);
    }
    worst.runs += 1;
}

/// What the case records of the state after its last step, apart from bases, whose columns' signs are arbitrary.
fn compare_state<T: Number, D: Driver<T>>(case: &Case, driver: &mut D, worst: &mut Worst) {
    let mut compare = |name: &str, values: &[f64]| {
        let error = rel_error(values, case.f64(name).unwrap());
        assert!(error <= F64_TOLERANCE, "{}: {name}: {error:e}", case.name);
        worst.state = worst.state.max(error);
    };
    for k in 0..case.shape.len() {
        let (inverse_roots, lambda) = (format!("f64/eigen_sqrt_inv_{k}"), format!("f64/lambda_{k}"));
        if case.f64(&inverse_roots).is_some() {
            let values = widened(&driver.read(StatePart::Eigenvalues(k)));
            compare(&inverse_roots, &values.iter().map(|x| 1.0 / x.sqrt()).collect::<Vec<_>>());
        } else if case.f64(&lambda).is_some() {
            compare(&lambda, &widened(&driver.read(StatePart::Eigenvalues(k))));
        }
        let factor = format!("f64/S_{k}");
        if case.f64(&factor).is_some() {
            compare(&factor, &widened(&driver.read(StatePart::Factor(k))));
        }
    }
    compare("f64/exp_avg", &widened(&driver.read(StatePart::Momentum)));
    if case.algorithm == "adamw" {
        compare("f64/exp_avg_sq", &widened(&driver.read(StatePart::SecondMoment)));
    }
}
