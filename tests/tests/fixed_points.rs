//! The estimators come to rest where the paper's claims say, by the textbook and by the core.

use klshampoo::linalg::Portable;
use klshampoo::{Config, LambdaInit, Mode, StatePart};
use klshampoo_tests::fixed_points::{EVERY_RULE, FixedPoints, Rest, RestingMode, Run, Stack};
use klshampoo_tests::harness::{Core, Driver, Number, converted, widened};
use klshampoo_tests::textbook::*;

const STEPS: usize = 600;

fn textbook(options: &Options, stack: &Stack) -> Rest {
    let mut kinds = vec![ModeKind::Full; stack.dims.len()];
    kinds[0] = ModeKind::Identity;
    let mut optimizer = KlShampoo::new(&stack.dims, &kinds, *options);
    let mut p = vec![0.0; stack.grads.len()];
    (0..STEPS).for_each(|_| optimizer.step(&mut p, &stack.grads, 0.0));
    let resting = |mode: &klshampoo_tests::textbook::Mode| RestingMode {
        factor: mode.factor.clone(),
        basis: mode.basis.clone(),
        eigenvalues: mode.eigenvalues.clone(),
    };
    Rest { modes: optimizer.modes[1..].iter().map(resting).collect(), second_moment: optimizer.second_moment }
}

/// The same on the core, in either precision.
fn core<T: Number, D: Driver<T>>(options: &Options, stack: &Stack) -> Rest {
    let mut modes = vec![Some(Mode::Full); stack.dims.len()];
    modes[0] = Some(Mode::Identity);
    let mut driver = D::new(&config::<T>(options), &stack.dims, &modes);
    let (mut p, grads) = (vec![T::ZERO; stack.grads.len()], converted::<T>(&stack.grads));
    (0..STEPS).for_each(|_| driver.step(&mut p, &grads, T::ZERO));
    let mut read = |part| widened(&driver.read(part));
    let square = |d: usize, data| Matrix { rows: d, cols: d, data };
    let modes = (1..stack.dims.len()).map(|k| RestingMode {
        factor: square(stack.dims[k], read(StatePart::Factor(k))),
        basis: square(stack.dims[k], read(StatePart::Basis(k))),
        eigenvalues: read(StatePart::Eigenvalues(k)),
    });
    Rest { modes: modes.collect(), second_moment: Vec::new() }
}

fn config<T: Number>(options: &Options) -> Config<T> {
    assert_eq!((options.estimator, options.eigenvalues), (Estimator::KullbackLeibler, Eigenvalues::Average));
    Config {
        refresh_period: options.period as u32,
        lambda_init: LambdaInit::ScaleFree,
        beta1: T::from_f64(options.beta1),
        beta2: T::from_f64(options.beta2),
        ..T::kl_shampoo()
    }
}

const TEXTBOOK: FixedPoints = FixedPoints { run: &textbook, rules: EVERY_RULE, tolerance: 1e-8 };

/// Both precisions of the core.
fn cores() -> [FixedPoints<'static>; 2] {
    let runs: [(Run, f64); 2] = [(&core::<f32, Core<f32, Portable>>, 1e-4), (&core::<f64, Core<f64, Portable>>, 1e-8)];
    runs.map(|(run, tolerance)| FixedPoints { run, rules: &[(Eigenvalues::Average, Refresh::Qr)], tolerance })
}

#[test]
fn textbook_claim_1_one_sided() {
    TEXTBOOK.claim_1();
}

#[test]
fn textbook_claim_2_kl_shampoo() {
    TEXTBOOK.claim_2();
}

#[test]
fn textbook_claim_4_eigenvalues() {
    TEXTBOOK.claim_4();
}

#[test]
fn textbook_claim_5_second_moments() {
    TEXTBOOK.claim_5();
}

#[test]
fn textbook_claim_6_von_neumann() {
    TEXTBOOK.claim_6();
}

#[test]
fn textbook_claim_7_frobenius() {
    TEXTBOOK.claim_7();
}

#[test]
fn core_claim_2_kl_shampoo() {
    cores().iter().for_each(FixedPoints::claim_2);
}

#[test]
fn core_claim_4_eigenvalues() {
    cores().iter().for_each(FixedPoints::claim_4);
}
