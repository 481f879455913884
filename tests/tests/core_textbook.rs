//! The core in float64 is the textbook: KL-Shampoo on every edge shape, gradient sequence and combination of modes.
//!
//! The rest of the family is in `core_textbook_family.rs`; how the two are compared in `klshampoo_tests::lockstep`.

use klshampoo::{Config, LambdaInit, Mode, StatePart};
use klshampoo_tests::cases::{Gradients, HIGHER_ORDERS, MATRICES, Shape};
use klshampoo_tests::golden::rel_error;
use klshampoo_tests::harness::Driver;
use klshampoo_tests::lockstep::{F64Core, LR, Method, Worst, make, run, with_constant_start};
use klshampoo_tests::textbook::AdamW;

fn figure13() -> Vec<Method> {
    let scale_free = Config { gauge: false, ..Config::<f64>::kl_shampoo() };
    let base = with_constant_start(scale_free);
    let clamped = Config { refresh_period: 5, beta2: 0.8, clamp_limit: Some(4000.0), ..base };
    vec![
        Method::new("figure13 T=10", base),
        Method::new("figure13 T=1", Config { refresh_period: 1, weight_decay: 0.1, ..base }),
        Method::new("figure13 T=5, betas, decay", Config { refresh_period: 5, beta1: 0.9, beta2: 0.98, weight_decay: 0.1, ..base }),
        Method::new("figure13 T=10, scale-free, decay", Config { weight_decay: 0.1, ..scale_free }),
        Method::new("figure13 T=1, scale-free, betas", Config { refresh_period: 1, beta1: 0.9, beta2: 0.8, ..scale_free }),
        Method::new("figure13 T=5, scale-free, damped", Config { refresh_period: 5, beta1: 0.0, eps: 0.1, ..scale_free }),
        Method { grad_scale: 1.0 / 32.0, ..Method::new("figure13 T=5, clamped", clamped) },
    ]
}

fn reference_kl() -> Vec<Method> {
    let base = Config { weight_decay: 0.1, ..Config::<f64>::kl_shampoo_reference() };
    let scale_free = Config { lambda_init: LambdaInit::ScaleFree, ..base };
    let small = |name, config| Method { grad_scale: 1.0 / 32.0, ..Method::new(name, config) };
    vec![
        Method::new("reference_kl T=10", base),
        Method::new("reference_kl T=1, no clamp", Config { refresh_period: 1, clamp_limit: None, ..base }),
        small("reference_kl T=5, betas", Config { refresh_period: 5, beta1: 0.9, beta2: 0.8, ..base }),
        Method::new("reference_kl T=1, betas", Config { refresh_period: 1, beta1: 0.9, beta2: 0.8, ..base }),
        Method::new("reference_kl T=10, scale-free, no clamp", Config { clamp_limit: None, weight_decay: 0.0, ..scale_free }),
        small("reference_kl T=5, scale-free, small clamp", Config { refresh_period: 5, beta2: 0.8, clamp_limit: Some(12.0), ..scale_free }),
    ]
}

fn full(dims: &[usize]) -> Vec<Mode> {
    vec![Mode::Full; dims.len()]
}

/// All ways to choose a kind for each of `order` modes.
fn every_combination(order: usize) -> Vec<Vec<Mode>> {
    (0..order).fold(vec![vec![]], |combinations, _| {
        let modes = [Mode::Full, Mode::Diagonal, Mode::Identity];
        combinations.iter().flat_map(|head| modes.map(|mode| [head.as_slice(), &[mode]].concat())).collect()
    })
}

fn every_shape(shapes: &[Shape], methods: &[Method], gradients: Gradients) -> Worst {
    let mut worst = Worst::default();
    for shape in shapes {
        let problem = make(gradients, shape.dims);
        for method in methods {
            let what = format!("{}, {gradients:?}", shape.name);
            worst = worst.and(run(method, shape.dims, &full(shape.dims), &problem, &what));
        }
    }
    worst
}

#[test]
fn figure13_matrices() {
    let mut clamped = 0;
    for &gradients in Gradients::ALL {
        let worst = every_shape(MATRICES, &figure13(), gradients);
        worst.report(&format!("figure13, matrices, {gradients:?}"));
        clamped += worst.counters.clamped;
    }
    assert!(clamped > 0, "the clamp is never active");
}

#[test]
fn reference_kl_matrices() {
    let mut clamped = 0;
    for &gradients in Gradients::ALL {
        let worst = every_shape(MATRICES, &reference_kl(), gradients);
        worst.report(&format!("reference_kl, matrices, {gradients:?}"));
        clamped += worst.counters.clamped;
    }
    assert!(clamped > 0, "the clamp is never active");
}

#[test]
fn figure13_higher_orders() {
    for &gradients in Gradients::ALL {
        every_shape(HIGHER_ORDERS, &figure13(), gradients).report(&format!("figure13, higher orders, {gradients:?}"));
    }
}

/// Order 3 is the authors' own mixed order of modes.
#[test]
fn reference_kl_of_other_orders() {
    for dims in [&[7][..], &[2, 3, 4], &[4, 6, 5], &[2, 3, 2, 3]] {
        let mut worst = Worst::default();
        let problem = make(Gradients::LowRankDrift, dims);
        for method in reference_kl() {
            worst = worst.and(run(&method, dims, &full(dims), &problem, &format!("{dims:?}")));
        }
        worst.report(&format!("reference_kl, {dims:?}"));
    }
}

#[test]
fn every_combination_of_modes() {
    let mut worst = Worst::default();
    for dims in [&[7][..], &[4, 3], &[7, 8], &[32, 8], &[1, 7], &[2, 3, 4], &[2, 3, 2, 3]] {
        for gradients in [Gradients::LowRankDrift, Gradients::ZeroFirst] {
            let problem = make(gradients, dims);
            for modes in every_combination(dims.len()) {
                for method in figure13().into_iter().chain(reference_kl()) {
                    worst = worst.and(run(&method, dims, &modes, &problem, &format!("{dims:?}, {modes:?}, {gradients:?}")));
                }
            }
        }
    }
    worst.report("every combination of modes");
}

/// Scale moves between the modes by powers of two, which cancel; everything else is the textbook's. Floors are an absolute scale,
/// so the sequence whose squares vanish is not among these.
#[test]
fn gauge_changes_no_parameter() {
    let gauged = |m: Method| Method { config: Config { gauge: true, ..m.config }, ..m };
    let methods: Vec<Method> = figure13().into_iter().filter(|m| m.config.clamp_limit.is_none()).map(gauged).collect();
    let mut worst = Worst::default();
    for gradients in [Gradients::LowRankDrift, Gradients::ZeroNowAndThen, Gradients::RankOneRepeated, Gradients::HugeOutlier] {
        for shapes in [MATRICES, HIGHER_ORDERS] {
            let group = every_shape(shapes, &methods, gradients);
            group.report(&format!("gauge, {gradients:?}"));
            worst = worst.and(group);
        }
    }
    assert!(worst.counters.rebalanced > 0, "nothing was ever rebalanced");
}

/// A 1-D tensor of a group with factors is stepped by AdamW, whatever the group's conventions.
#[test]
fn vectors_get_adamw() {
    let problem = make(Gradients::LowRankDrift, &[33]);
    for method in figure13().into_iter().chain(reference_kl()) {
        let config = Config { lr_scale: 0.5, ..method.config };
        let mut adamw = AdamW::new(33, [config.beta1, config.beta2], config.eps, config.weight_decay);
        let mut core = F64Core::new(&config, &[33], &[None]);
        let (mut expected, mut p) = (problem.p0.clone(), problem.p0.clone());
        for grad in &problem.grads {
            adamw.step(&mut expected, grad, LR);
            core.step(&mut p, grad, 2.0 * LR);
            let error = rel_error(&p, &expected);
            assert!(error < 1e-13, "{}: {error:e}", method.name);
        }
        assert!(rel_error(&core.read(StatePart::Momentum), &adamw.momentum) < 1e-15);
        assert!(rel_error(&core.read(StatePart::SecondMoment), &adamw.second_moment) < 1e-15);
    }
}
