//! The golden cases that klshampoo must pass, for any [`Driver`] and either precision.
//!
//! In f32 a run passes the rule of `golden/README.md`; in f64 it stays within [`F64_TOLERANCE`], state included.

use crate::golden::{self, Case, Collection, Start, rel_error};
use crate::harness::{Driver, Number, converted, widened};
use klshampoo::{Config, Convention, Direction, Eigenvalues, Estimator, FactorInit, Graft, LambdaInit, Mode, Refresh, StatePart};

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

/// How many cases of an algorithm a collection has, and how many of them the first gradient determines the bases of.
struct Group {
    collection: Collection,
    algorithm: &'static str,
    cases: usize,
    unseeded: usize,
}

const fn group(collection: Collection, algorithm: &'static str, cases: usize, unseeded: usize) -> Group {
    Group { collection, algorithm, cases, unseeded }
}

/// Both manifests by the beginnings of their algorithms' names. These tell all of them apart; a test asserts that none is missing.
const GROUPS: [Group; 14] = [
    group(Collection::Published, "klshampoo", 50, 45),
    group(Collection::Published, "klsoap", 50, 45),
    group(Collection::Published, "soap", 11, 10),
    group(Collection::Published, "shampoo", 16, 16),
    group(Collection::Published, "adamw", 12, 12),
    group(Collection::Family, "klshampoo", 18, 18),
    group(Collection::Family, "klsoap", 12, 12),
    group(Collection::Family, "shampoo", 56, 56),
    group(Collection::Family, "vnshampoo", 12, 12),
    group(Collection::Family, "fshampoo", 12, 12),
    group(Collection::Family, "idealized", 30, 30),
    group(Collection::Family, "instantaneous", 12, 12),
    group(Collection::Family, "onesided", 12, 12),
    group(Collection::Family, "adafactor", 3, 3),
];

/// Every golden case of a collection whose algorithm begins so, seeded with the published bases and,
/// where the first gradient determines these, unseeded.
///
/// # Panics
/// If a run is outside its tolerance, or the manifest does not have the expected number of cases.
pub fn golden<T: Number, D: Driver<T>>(collection: Collection, algorithm: &str) {
    let known = |group: &&Group| group.collection == collection && group.algorithm == algorithm;
    let group = GROUPS.iter().find(known).expect("a group of the manifests");
    for (kind, worst) in errors_of_group::<T, D>(group, true) {
        worst.report(&format!("{collection:?} {algorithm}, {kind}"));
    }
}

/// The largest errors of all the runs that [`golden()`] makes of a collection's algorithm, or of all of them, whether they are tolerated or not: for
/// implementations that round more than f32 does.
///
/// # Panics
/// If the manifest does not have the expected number of cases.
pub fn errors<T: Number, D: Driver<T>>(wanted: Option<(Collection, &str)>) -> Worst {
    let wanted =
        |group: &&Group| wanted.is_none_or(|(collection, algorithm)| group.collection == collection && group.algorithm == algorithm);
    let runs = GROUPS.iter().filter(wanted).flat_map(|group| errors_of_group::<T, D>(group, false));
    runs.fold(Worst::default(), |all, (_, worst)| Worst {
        runs: all.runs + worst.runs,
        parameter: all.parameter.max(worst.parameter),
        share: all.share.max(worst.share),
        state: all.state.max(worst.state),
    })
}

/// One test per group of golden cases, for an element type and a [`Driver`]; together they are both manifests.
#[macro_export]
macro_rules! golden_tests {
    ($t:ty, $driver:ty) => {
        $crate::golden_tests! { @ $t, $driver;
            published_klshampoo: Published, "klshampoo";
            published_klsoap: Published, "klsoap";
            published_soap: Published, "soap";
            published_shampoo: Published, "shampoo";
            published_adamw: Published, "adamw";
            family_klshampoo: Family, "klshampoo";
            family_klsoap: Family, "klsoap";
            family_shampoo: Family, "shampoo";
            family_vnshampoo: Family, "vnshampoo";
            family_fshampoo: Family, "fshampoo";
            family_idealized: Family, "idealized";
            family_instantaneous: Family, "instantaneous";
            family_onesided: Family, "onesided";
            family_adafactor: Family, "adafactor";
        }
    };
    (@ $t:ty, $driver:ty; $($test:ident: $collection:ident, $algorithm:literal;)*) => {$(
        #[test]
        fn $test() {
            $crate::acceptance::golden::<$t, $driver>($crate::golden::Collection::$collection, $algorithm);
        }
    )*};
}

/// Of a group's runs from the published bases, and of those from bases of their own. `strict`: an error beyond its tolerance is a panic.
fn errors_of_group<T: Number, D: Driver<T>>(group: &Group, strict: bool) -> [(&'static str, Worst); 2] {
    let cases = group.collection.cases(group.cases, |entry| entry.algorithm.starts_with(group.algorithm));
    let (mut seeded, mut unseeded) = (Worst::default(), Worst::default());
    for case in &cases {
        run::<T, D>(case, true, strict, &mut seeded);
        // The reference's float32 runs from `p_1` are all from the published bases: there is nothing to hold others against.
        if !case.must_seed_basis && (is_f64::<T>() || !case.takes_first_parameter()) {
            run::<T, D>(case, false, strict, &mut unseeded);
        }
    }
    let left_out = if is_f64::<T>() { 0 } else { cases.iter().filter(|case| case.takes_first_parameter()).count() };
    assert_eq!(unseeded.runs, group.unseeded - left_out);
    [("seeded", seeded), ("unseeded", unseeded)]
}

/// The case's method in the library's terms.
pub fn config<T: Number>(case: &Case) -> Config<T> {
    let hyper = &case.hyper;
    let base = T::kl_shampoo();
    let preset = match (case.collection, case.algorithm.as_str()) {
        (Collection::Published, "adamw") => T::adamw(),
        (Collection::Published, name @ ("klshampoo" | "klsoap")) => Config {
            lambda_init: LambdaInit::Constant(T::from_f64(hyper.init_factor.unwrap())),
            clamp_limit: hyper.clamp.unwrap().then(|| T::from_f64(hyper.max_clamp_value.unwrap())),
            direction: if name == "klsoap" { Direction::SecondMoment } else { base.direction },
            ..T::in_convention(base, Convention::ReferenceKl)
        },
        (Collection::Published, "soap") => T::in_convention(
            Config { estimator: Estimator::Shampoo, direction: Direction::SecondMoment, gauge: false, ..base },
            Convention::ReferenceSoap,
        ),
        (Collection::Published, "shampoo") => T::in_convention(
            Config {
                estimator: Estimator::Shampoo,
                eigenvalues: Eigenvalues::AtRefresh,
                refresh: Refresh::Eigendecomposition,
                // No power is the default one.
                direction: hyper.exponent.map_or(Direction::ShampooRoot, |p| Direction::KroneckerPower(T::from_f64(p))),
                graft: graft(hyper),
                gauge: false,
                ..base
            },
            Convention::ReferenceMeta,
        ),
        (Collection::Family, _) => family(hyper, base),
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

fn graft(hyper: &golden::Hyper) -> Graft {
    match hyper.graft.as_deref() {
        None | Some("none") => Graft::None,
        Some("adam") => Graft::Adam,
        Some(other) => panic!("graft {other}"),
    }
}

fn family<T: Number>(hyper: &golden::Hyper, base: Config<T>) -> Config<T> {
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
    let direction = match hyper.apply.as_deref() {
        Some("lambda") => Direction::KroneckerPower(T::from_f64(hyper.p.unwrap())),
        Some("vn1") => Direction::TraceScaled,
        Some("soap") => Direction::SecondMoment,
        other => panic!("apply {other:?}"),
    };
    let lambda_init = match hyper.lambda_0.as_ref().unwrap() {
        // Zero is stored as the floor.
        golden::FirstEigenvalue::Value(value) => LambdaInit::Constant(T::from_f64(*value).max(T::FLOOR)),
        golden::FirstEigenvalue::Rule(rule) if rule == "scale-free" => LambdaInit::ScaleFree,
        other => panic!("lambda_0 {other:?}"),
    };
    let starts_at_zero = eigenvalues == Eigenvalues::Average && estimator != Estimator::FrobeniusFactor;
    Config {
        estimator,
        eigenvalues,
        refresh,
        direction,
        graft: graft(hyper),
        lambda_init,
        factor_init: if starts_at_zero { FactorInit::Zero } else { FactorInit::Lambda },
        gauge: base.gauge && !matches!(estimator, Estimator::Shampoo | Estimator::OneSided),
        ..base
    }
}

/// The case's modes in the library's terms.
pub fn modes(case: &Case) -> Vec<Option<Mode>> {
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
fn run<T: Number, D: Driver<T>>(case: &Case, seeded: bool, strict: bool, worst: &mut Worst) {
    let config = config::<T>(case);
    let first_parameter = case.takes_first_parameter();
    // The reference's own float32 run that this one is held against.
    let start = if first_parameter && case.has_f32_run(Start::FirstParameter) {
        Start::FirstParameter
    } else if seeded || !case.has_f32_run(Start::Unseeded) {
        Start::Seeded
    } else {
        Start::Unseeded
    };
    let f64_tolerance = if first_parameter && case.shape.len() == 2 { 1e-10 } else { F64_TOLERANCE };
    let mut driver = D::new(&config, &case.shape, &modes(case));
    let mut p: Vec<T> = converted(&case.p0_f64());
    for (t, grad) in (1..).zip(&case.grads) {
        driver.step(&mut p, &converted::<T>(grad), T::from_f64(case.hyper.lr));
        for k in (0..case.shape.len()).filter(|_| t == 1 && seeded) {
            if let Some(basis) = case.first_basis(k) {
                driver.set_basis(k, &converted::<T>(basis));
            }
        }
        if t == 1 && first_parameter {
            assert_eq!(p, converted::<T>(&case.p0_f64()), "{}: step 1 moves the parameter", case.name);
            p = converted(case.parameter(1));
        }
        if case.snapshots.contains(&t) {
            let tolerance = if is_f64::<T>() { f64_tolerance } else { case.f32_tolerance(start, t) };
            let error = case.rel_update(t, &widened(&p));
            assert!(!strict || error <= tolerance, "{}, {start:?}: snapshot {t}: {error:e} > {tolerance:e}", case.name);
            worst.parameter = worst.parameter.max(error);
            worst.share = worst.share.max(error / tolerance);
        }
    }
    if is_f64::<T>() {
        compare_state(case, &config, &mut driver, worst);
    }
    worst.runs += 1;
}

/// What the case records of the state after its last step, apart from bases, whose columns' signs are arbitrary.
fn compare_state<T: Number, D: Driver<T>>(case: &Case, config: &Config<T>, driver: &mut D, worst: &mut Worst) {
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
    // Some references keep the momentum in the eigenbasis, whose signs are arbitrary.
    let unrotated = "f64/exp_avg_unrotated";
    compare(if case.f64(unrotated).is_some() { unrotated } else { "f64/exp_avg" }, &widened(&driver.read(StatePart::Momentum)));
    if config.direction == Direction::SecondMoment {
        compare("f64/exp_avg_sq", &widened(&driver.read(StatePart::SecondMoment)));
    }
    if config.graft != Graft::None {
        compare("f64/graft_exp_avg_sq", &widened(&driver.read(StatePart::GraftMoment)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_groups_are_the_manifests() {
        for (collection, count) in [(Collection::Published, 139), (Collection::Family, 167)] {
            assert_eq!(collection.entries().unwrap().len(), count);
            assert_eq!(GROUPS.iter().filter(|group| group.collection == collection).map(|group| group.cases).sum::<usize>(), count);
        }
    }
}
