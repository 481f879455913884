//! The estimators come to rest where the paper's claims say, by the textbook and by the core in both precisions.

use klshampoo::linalg::Portable;
use klshampoo::{Config, Direction, Estimator, LambdaInit, Mode, StatePart};
use klshampoo_tests::fixed_points::{EVERY_RULE, FixedPoints, Rest, RestingMode, Run, Stack};
use klshampoo_tests::harness::{Core, Driver, Number, converted, widened};
use klshampoo_tests::textbook::{KlShampoo, Matrix, ModeKind};
use klshampoo_tests::translate::options;
use std::ops::Range;

const STEPS: usize = 600;

fn textbook(config: &Config<f64>, stack: &Stack) -> Rest {
    let mut kinds = vec![ModeKind::Full; stack.dims.len()];
    kinds[0] = ModeKind::Identity;
    let mut optimizer = KlShampoo::new(&stack.dims, &kinds, options(config));
    let mut p = vec![0.0; stack.grads.len()];
    (0..STEPS).for_each(|_| optimizer.step(&mut p, &stack.grads, 0.0));
    let resting = |mode: &klshampoo_tests::textbook::Mode| RestingMode {
        factor: mode.factor.clone(),
        basis: mode.basis.clone(),
        eigenvalues: mode.eigenvalues.clone(),
    };
    Rest { modes: optimizer.modes[1..].iter().map(resting).collect(), second_moment: optimizer.second_moment }
}

/// The same on the core, in either precision. One-sided preconditioning is of one mode there: each mode has a run of its own.
fn core<T: Number, D: Driver<T>>(config: &Config<f64>, stack: &Stack) -> Rest {
    let order = stack.dims.len();
    if config.estimator == Estimator::OneSided {
        let modes = (1..order).flat_map(|k| core_modes::<T, D>(config, stack, k..k + 1).modes);
        return Rest { modes: modes.collect(), second_moment: vec![] };
    }
    core_modes::<T, D>(config, stack, 1..order)
}

fn core_modes<T: Number, D: Driver<T>>(config: &Config<f64>, stack: &Stack, full: Range<usize>) -> Rest {
    let mode = |k| Some(if full.contains(&k) { Mode::Full } else { Mode::Identity });
    let modes: Vec<_> = (0..stack.dims.len()).map(mode).collect();
    let mut driver = D::new(&in_precision::<T>(config), &stack.dims, &modes);
    let (mut p, grads) = (vec![T::ZERO; stack.grads.len()], converted::<T>(&stack.grads));
    (0..STEPS).for_each(|_| driver.step(&mut p, &grads, T::ZERO));
    let mut read = |part| widened(&driver.read(part));
    let square = |d: usize, data| Matrix { rows: d, cols: d, data };
    let (second_moment, eigenvalues) = (config.parts().second_moment, config.parts().eigenvalues);
    let modes = full.map(|k| RestingMode {
        factor: square(stack.dims[k], read(StatePart::Factor(k))),
        basis: square(stack.dims[k], read(StatePart::Basis(k))),
        eigenvalues: if eigenvalues { read(StatePart::Eigenvalues(k)) } else { vec![] },
    });
    Rest { modes: modes.collect(), second_moment: if second_moment { read(StatePart::SecondMoment) } else { vec![] } }
}

/// What the checks vary of a configuration, in another precision.
fn in_precision<T: Number>(config: &Config<f64>) -> Config<T> {
    Config {
        estimator: config.estimator,
        eigenvalues: config.eigenvalues,
        refresh: config.refresh,
        refresh_period: config.refresh_period,
        factor_init: config.factor_init,
        direction: match config.direction {
            Direction::SecondMoment => Direction::SecondMoment,
            _ => T::kl_shampoo().direction,
        },
        lambda_init: match config.lambda_init {
            LambdaInit::Constant(value) => LambdaInit::Constant(T::from_f64(value)),
            LambdaInit::ScaleFree => LambdaInit::ScaleFree,
        },
        beta1: T::from_f64(config.beta1),
        beta2: T::from_f64(config.beta2),
        gauge: config.gauge,
        ..T::kl_shampoo()
    }
}

const TEXTBOOK: FixedPoints = FixedPoints { run: &textbook, rules: EVERY_RULE, tolerance: 1e-8 };

/// Both precisions of the core.
fn cores() -> [FixedPoints<'static>; 2] {
    let runs: [(Run, f64); 2] = [(&core::<f32, Core<f32, Portable>>, 1e-4), (&core::<f64, Core<f64, Portable>>, 1e-8)];
    runs.map(|(run, tolerance)| FixedPoints { run, rules: EVERY_RULE, tolerance })
}

macro_rules! claims {
    ($($textbook:ident, $core:ident: $claim:ident;)*) => {$(
        #[test]
        fn $textbook() {
            TEXTBOOK.$claim();
        }

        #[test]
        fn $core() {
            cores().iter().for_each(FixedPoints::$claim);
        }
    )*};
}

claims! {
    textbook_claim_1_one_sided, core_claim_1_one_sided: claim_1;
    textbook_claim_2_kl_shampoo, core_claim_2_kl_shampoo: claim_2;
    textbook_claim_4_eigenvalues, core_claim_4_eigenvalues: claim_4;
    textbook_claim_5_second_moments, core_claim_5_second_moments: claim_5;
    textbook_claim_6_von_neumann, core_claim_6_von_neumann: claim_6;
    textbook_claim_7_frobenius, core_claim_7_frobenius: claim_7;
}
