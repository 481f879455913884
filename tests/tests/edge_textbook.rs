//! The textbook on every edge shape and gradient sequence, and what the conventions say of gradients that are zero.

use klshampoo_tests::cases::{Gradients, HIGHER_ORDERS, MATRICES};
use klshampoo_tests::textbook::*;

const LR: f64 = 0.01;

fn every_option() -> Vec<(&'static str, Options)> {
    let base = Options { period: 4, weight_decay: 0.1, ..Options::figure13() };
    let reference = Options { period: 4, ..Options::reference_kl() };
    let scale_free = FirstEigenvalue::ScaleFree;
    let from_lambda = Options { factor_init: FactorInit::Lambda, lambda_0: scale_free, ..base };
    let idealized = Options { eigenvalues: Eigenvalues::AtRefresh, refresh: Refresh::Eigendecomposition, ..from_lambda };
    let shampoo = Options { estimator: Estimator::Shampoo, ..idealized };
    let soap = Options { period: 4, ..Options::reference_soap() };
    let after_refreshes = Options { eigenvalues: Eigenvalues::InstantaneousAfterRefresh, ..base };
    let l2 = WeightDecay::L2;
    let meta = Options { period: 4, ..Options::reference_meta(0.25) };
    vec![
        ("figure13", base),
        ("figure13, scale-free", Options { lambda_0: scale_free, ..base }),
        ("reference_kl", reference),
        ("reference_kl, scale-free", Options { lambda_0: scale_free, clamp: None, ..reference }),
        ("KL-SOAP", Options { direction: Direction::SecondMoment, lambda_0: scale_free, ..base }),
        ("Shampoo, grafted", Options { direction: Direction::KroneckerPower(0.25), graft: Graft::Adam, ..shampoo }),
        ("VN-Shampoo 1", Options { estimator: Estimator::Shampoo, direction: Direction::TraceScaled, ..base }),
        ("VN-Shampoo 2", Options { estimator: Estimator::VonNeumann, lambda_0: scale_free, ..base }),
        ("F-Shampoo 1", Options { estimator: Estimator::FrobeniusFactor, ..from_lambda }),
        ("F-Shampoo 2", Options { estimator: Estimator::Frobenius, lambda_0: scale_free, ..base }),
        ("instantaneous", Options { eigenvalues: Eigenvalues::Instantaneous, ..from_lambda }),
        ("idealized", idealized),
        ("SOAP", soap),
        ("SOAP, Nesterov, eigenvectors", Options { momentum: Momentum::Nesterov, refresh: Refresh::Eigendecomposition, ..soap }),
        (
            "SOAP, corrected, capped, L2",
            Options { bias_correction: BiasCorrection::Moments, rms_cap: Some(0.1), weight_decay_kind: l2, ..soap },
        ),
        ("figure13, sorted, stale, growing", Options { sort: true, staleness: 0.1, refresh_growth: 8, period: 6, ..base }),
        ("figure13, AdaGrad's length, no momentum", Options { graft: Graft::AdaGrad, momentum: Momentum::None, ..base }),
        ("figure13, SGD's length, independent decay", Options { graft: Graft::Sgd, weight_decay_kind: WeightDecay::Independent, ..base }),
        (
            "figure13, RMSProp's length, step size corrected",
            Options { graft: Graft::RmsProp, bias_correction: BiasCorrection::StepSize, ..base },
        ),
        ("after refreshes, corrected", Options { bias_correction: BiasCorrection::Moments, lambda_0: scale_free, ..after_refreshes }),
        ("at refreshes, factors only", Options { eigenvalues: Eigenvalues::AtRefresh, clamp: None, ..reference }),
        ("Distributed Shampoo", meta),
        ("Distributed Shampoo, grafted", Options { graft: Graft::Adam, direction: Direction::ShampooRoot, ..meta }),
    ]
}

fn full(dims: &[usize]) -> Vec<ModeKind> {
    vec![ModeKind::Full; dims.len()]
}

#[test]
fn every_shape_and_gradient_stays_finite() {
    for shape in MATRICES.iter().chain(HIGHER_ORDERS) {
        for &gradients in Gradients::ALL {
            let problem = gradients.make(shape.dims, 9);
            for (name, options) in every_option() {
                let mut optimizer = KlShampoo::new(shape.dims, &full(shape.dims), options);
                let mut p = problem.p0.clone();
                for grad in &problem.grads {
                    optimizer.step(&mut p, grad, LR);
                }
                let what = format!("{}, {gradients:?}, {name}", shape.name);
                assert!(p.iter().all(|x| x.is_finite()), "{what}");
                for mode in &optimizer.modes {
                    assert!(mode.eigenvalues.iter().all(|&x| x.is_finite() && x >= FLOOR), "{what}");
                    let d = mode.basis.rows;
                    let square = mode.basis.transposed().times(&mode.basis);
                    let error = square.data.iter().zip(Matrix::identity(d).data).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
                    assert!(error < 1e-13, "{what}: basis {error:e}");
                }
            }
        }
    }
}

#[test]
fn zero_gradients_decay_the_parameter_and_nothing_else() {
    let problem = Gradients::Zero.make(&[4, 3], 1500);
    for lambda_0 in [FirstEigenvalue::Constant(0.1), FirstEigenvalue::ScaleFree] {
        let options = Options { lambda_0, weight_decay: 0.5, ..Options::figure13() };
        let mut optimizer = KlShampoo::new(&[4, 3], &full(&[4, 3]), options);
        let mut p = problem.p0.clone();
        for grad in &problem.grads {
            optimizer.step(&mut p, grad, LR);
        }
        let kept = (1.0 - LR * 0.5f64).powi(1500);
        assert!(p.iter().zip(&problem.p0).all(|(p, p0)| (p - kept * p0).abs() <= 1e-12 * p0.abs()));
        assert!(optimizer.modes.iter().all(|mode| mode.basis == Matrix::identity(mode.basis.rows)));
    }
}

#[test]
fn the_first_eigenvalue_comes_from_the_first_gradient_that_is_not_zero() {
    let problem = Gradients::ZeroFirst.make(&[4, 3], 4);
    let mean_square = problem.grads[3].iter().map(|g| g * g).sum::<f64>() / 12.0;
    for preset in [Options::figure13(), Options::reference_kl()] {
        let options = Options { lambda_0: FirstEigenvalue::ScaleFree, ..preset };
        for (kinds, count) in [([ModeKind::Full, ModeKind::Diagonal], 2.0), ([ModeKind::Full, ModeKind::Identity], 1.0)] {
            let mut optimizer = KlShampoo::new(&[4, 3], &kinds, options);
            let mut p = problem.p0.clone();
            for grad in &problem.grads[..3] {
                optimizer.step(&mut p, grad, LR);
            }
            assert_eq!(optimizer.lambda_0, None);
            assert_eq!(p, problem.p0);
            optimizer.step(&mut p, &problem.grads[3], LR);
            let expected = mean_square.powf(1.0 / count);
            assert!((optimizer.lambda_0.unwrap() - expected).abs() <= 1e-15 * expected);
            assert_eq!(p == problem.p0, options.first_step == FirstStep::FactorsOnly);
        }
    }
}

/// Not so in `reference_kl`, whose first factor is not whitened: it grows with the square of the gradient, the later ones linearly.
#[test]
fn scale_free_steps_do_not_depend_on_the_scale_of_gradients() {
    let problem = Gradients::LowRankDrift.make(&[5, 4], 12);
    let options = Options { lambda_0: FirstEigenvalue::ScaleFree, eps: 0.0, ..Options::figure13() };
    let run = |scale: f64| {
        let mut optimizer = KlShampoo::new(&[5, 4], &full(&[5, 4]), options);
        let mut p = problem.p0.clone();
        for grad in &problem.grads {
            let grad: Vec<f64> = grad.iter().map(|g| scale * g).collect();
            optimizer.step(&mut p, &grad, LR);
        }
        p
    };
    let one = run(1.0);
    for scale in [1e-6, 1e6] {
        assert!(run(scale).iter().zip(&one).all(|(a, b)| (a - b).abs() < 1e-12));
    }
}
