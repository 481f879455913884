//! The core in float64 is the textbook: every method of the family in every convention, and every axis by itself.

use klshampoo::{
    BiasCorrection, Config, Damping, Direction, Eigenvalues, Estimator, FactorInit, FirstBasis, FirstStep, Graft, Mode, Momentum, Refresh,
    StepOrder, WeightDecay,
};
use klshampoo_tests::cases::Gradients;
use klshampoo_tests::harness::{Number, methods};
use klshampoo_tests::lockstep::{Method, Worst, make, run, with_constant_start};

/// Around the cutting sizes of kernels, far from square, and of every order; the first four have full-rank factors from the first
/// gradient on.
const SHAPES: &[&[usize]] = &[&[5, 5], &[2, 3, 4], &[4, 6, 5], &[2, 3, 2, 3], &[7, 8], &[1, 7], &[12, 3], &[7], &[2, 2, 3, 1, 2]];

/// Whether the eigenvalues are read off factors that start from one gradient: where that has no full rank, the smallest are rounding.
fn reads_first_factor(config: &Config<f64>) -> bool {
    let from_gradient = config.factor_init == FactorInit::Zero || config.first_step == FirstStep::FactorsOnly;
    config.parts().eigenvalues && config.eigenvalues != Eigenvalues::Average && from_gradient
}

fn has_full_rank(dims: &[usize]) -> bool {
    let n: usize = dims.iter().product();
    dims.iter().all(|d| d * d <= n)
}

/// Whether a run is determined to the last digits.
fn is_determined(config: &Config<f64>, dims: &[usize], gradients: Gradients) -> bool {
    let spread = matches!(gradients, Gradients::HugeOutlier | Gradients::RankOneRepeated);
    let reads_factors = config.parts().eigenvalues && config.eigenvalues != Eigenvalues::Average;
    match gradients {
        // A factor's eigenvalues spread by more than rounding tells apart.
        _ if spread && reads_factors => false,
        _ => !reads_first_factor(config) || has_full_rank(dims),
    }
}

fn modes_for(config: &Config<f64>, dims: &[usize]) -> Vec<Mode> {
    if config.estimator == Estimator::OneSided {
        let shortest = (0..dims.len()).min_by_key(|&k| dims[k]).unwrap();
        return (0..dims.len()).map(|k| if k == shortest { Mode::Full } else { Mode::Identity }).collect();
    }
    dims.iter().map(|&d| config.auto_mode(d)).collect()
}

/// A run, if it is determined.
fn compare(method: &Method, dims: &[usize], modes: &[Mode], gradients: Gradients) -> Worst {
    if !is_determined(&method.config, dims, gradients) {
        return Worst::default();
    }
    run(method, dims, modes, &make(gradients, dims), &format!("{dims:?}, {modes:?}, {gradients:?}"))
}

/// In directions without gradient the second moment of the SOAP family is rounding, as the numerator is: with a damping above it the
/// quotient vanishes, as it should.
fn damped(config: Config<f64>) -> Config<f64> {
    if config.direction == Direction::SecondMoment { Config { eps: 1e-2, ..config } } else { config }
}

fn with_period(name: &str, config: Config<f64>, period: u32) -> Method {
    Method::new(format!("{name}, T={period}"), Config { refresh_period: period, ..damped(config) })
}

#[test]
fn every_method_in_every_convention() {
    for (name, config) in methods::<f64>() {
        let mut worst = Worst::default();
        for (at, &dims) in SHAPES.iter().enumerate() {
            let method = with_period(&name, Config { weight_decay: 0.1, ..config }, [1, 5, 10][at % 3]);
            worst = worst.and(compare(&method, dims, &modes_for(&config, dims), Gradients::LowRankDrift));
        }
        for &gradients in Gradients::ALL {
            for (dims, period) in [(&[5, 5][..], 5), (&[7, 8], 1), (&[3, 2, 4], 5)] {
                let method = with_period(&name, config, period);
                worst = worst.and(compare(&method, dims, &modes_for(&config, dims), gradients));
            }
        }
        worst.report(&name);
    }
}

/// A change of one axis or of several that belong together.
type Change = fn(Config<f64>) -> Config<f64>;

/// Every axis away from the presets.
const CHANGES: &[(&str, Change)] = &[
    ("Nesterov", |c| Config { momentum: Momentum::Nesterov, ..c }),
    ("Nesterov, corrected", |c| Config { momentum: Momentum::Nesterov, bias_correction: BiasCorrection::Moments, ..c }),
    ("no momentum", |c| Config { momentum: Momentum::None, ..c }),
    ("no momentum, corrected", |c| Config { momentum: Momentum::None, bias_correction: BiasCorrection::Moments, ..c }),
    ("corrected moments", |c| Config { bias_correction: BiasCorrection::Moments, ..c }),
    ("corrected step size", |c| Config { bias_correction: BiasCorrection::StepSize, ..c }),
    ("factor damping", |c| Config { damping: Damping::Factor, gauge: false, eps: 1e-2, ..c }),
    ("L2", |c| Config { weight_decay_kind: WeightDecay::L2, weight_decay: 0.3, ..c }),
    ("independent decay", |c| Config { weight_decay_kind: WeightDecay::Independent, weight_decay: 0.01, ..c }),
    ("decay after", |c| Config { weight_decay_kind: WeightDecay::After, weight_decay: 0.3, ..c }),
    ("small cap", |c| Config { rms_cap: Some(0.3), ..c }),
    ("growing period", |c| Config { refresh_growth: 20, ..c }),
    ("growing period, offset", |c| Config { refresh_growth: 15, refresh_offset: 1, ..c }),
    ("offset", |c| Config { refresh_offset: 1, ..c }),
    ("sorted", |c| Config { sort: true, ..c }),
    ("apply first", |c| Config { step_order: StepOrder::ApplyFirst, ..c }),
    ("factors only", |c| Config { first_step: FirstStep::FactorsOnly, ..c }),
    ("factors from lambda", |c| Config { factor_init: FactorInit::Lambda, ..c }),
    ("identity at first", |c| Config { first_basis: FirstBasis::Identity, ..c }),
    ("identity at first, Adam", |c| Config { first_basis: FirstBasis::Identity, graft: Graft::Adam, ..c }),
    ("graft Adam", |c| Config { graft: Graft::Adam, ..c }),
    ("graft Adam, corrected", |c| Config { graft: Graft::Adam, bias_correction: BiasCorrection::Moments, ..c }),
    ("graft Adam, Nesterov, apply first", |c| Config {
        graft: Graft::Adam,
        momentum: Momentum::Nesterov,
        bias_correction: BiasCorrection::Moments,
        step_order: StepOrder::ApplyFirst,
        ..c
    }),
    ("graft SGD", |c| Config { graft: Graft::Sgd, ..c }),
    ("graft RMSProp", |c| Config { graft: Graft::RmsProp, rms_cap: Some(0.5), ..c }),
    ("graft AdaGrad", |c| Config { graft: Graft::AdaGrad, momentum: Momentum::None, ..c }),
    ("power 1/4", |c| Config { direction: Direction::KroneckerPower(0.25), ..c }),
    ("power 1/3", |c| Config { direction: Direction::KroneckerPower(1.0 / 3.0), ..c }),
    ("power 1", |c| Config { direction: Direction::KroneckerPower(1.0), ..c }),
    ("Shampoo's root", |c| Config { direction: Direction::ShampooRoot, ..c }),
    ("clamp", |c| Config { clamp_limit: Some(12.0), gauge: false, ..c }),
    ("constant start", with_constant_start),
    ("betas of 0.9 and 0.7", |c| Config { beta1: 0.9, beta2: 0.7, ..c }),
];

/// The methods that the axes are tried on.
fn bases() -> Vec<(&'static str, Config<f64>)> {
    let presets = |names: &[&str]| f64::presets().into_iter().filter(|(name, _)| names.contains(name)).collect();
    presets(&["kl_shampoo", "shampoo", "kl_soap", "soap", "vn_shampoo_1", "f_shampoo_1", "one_sided", "adamw", "rmsprop", "sgd"])
}

#[test]
fn every_axis() {
    let mut accepted = vec![];
    for (base, config) in bases() {
        let mut worst = Worst::default();
        for &(name, change) in CHANGES {
            let config = change(config);
            if config.validate().is_err() {
                continue;
            }
            accepted.push(name);
            for (dims, period, gradients) in [
                (&[5, 5][..], 5, Gradients::LowRankDrift),
                (&[7, 8], 1, Gradients::ZeroFirst),
                (&[3, 2, 4], 5, Gradients::ZeroNowAndThen),
                (&[2, 3, 2, 3], 10, Gradients::ZeroFirst),
            ] {
                let method = with_period(&format!("{base}, {name}"), config, period);
                worst = worst.and(compare(&method, dims, &modes_for(&config, dims), gradients));
            }
        }
        worst.report(base);
    }
    CHANGES.iter().for_each(|(name, _)| assert!(accepted.contains(name), "{name} goes with no method"));
}

/// Where eigenvalues come from, how bases are refreshed, and what is not worth a refresh: every combination.
#[test]
fn eigenvalues_and_refreshes() {
    let rules = [Eigenvalues::Average, Eigenvalues::Instantaneous, Eigenvalues::InstantaneousAfterRefresh, Eigenvalues::AtRefresh];
    let mut worst = Worst::default();
    for (base, config) in bases().into_iter().filter(|(_, config)| config.estimator != Estimator::None) {
        for eigenvalues in rules {
            for refresh in [Refresh::Qr, Refresh::HouseholderQr, Refresh::Eigendecomposition] {
                for (sort, staleness) in [(false, 0.0), (true, 0.0), (false, 0.02)] {
                    let config = Config { eigenvalues, refresh, sort, staleness, factor_init: FactorInit::Lambda, ..config };
                    let name = format!("{base}, {eigenvalues:?}, {refresh:?}, sort {sort}, staleness {staleness}");
                    for (dims, period) in [(&[5, 5][..], 5), (&[7, 8], 1), (&[3, 2, 4], 10)] {
                        let method = with_period(&name, config, period);
                        worst = worst.and(compare(&method, dims, &modes_for(&config, dims), Gradients::LowRankDrift));
                    }
                }
            }
        }
    }
    worst.report("eigenvalues and refreshes");
    assert!(worst.counters.refreshes_skipped > 0 && worst.counters.refreshes > 0);
}

/// Full, diagonal and untreated modes together, with every method that takes them.
#[test]
fn mixed_modes() {
    let [full, diagonal, identity] = [Mode::Full, Mode::Diagonal, Mode::Identity];
    let cases: &[(&[usize], &[Mode])] = &[
        (&[7], &[diagonal]),
        (&[7], &[identity]),
        (&[7, 8], &[full, diagonal]),
        (&[7, 8], &[diagonal, full]),
        (&[7, 8], &[diagonal, diagonal]),
        (&[7, 8], &[identity, full]),
        (&[8, 7], &[diagonal, identity]),
        (&[8, 7], &[identity, identity]),
        (&[3, 2, 4], &[full, diagonal, full]),
        (&[3, 2, 4], &[diagonal, identity, full]),
        (&[3, 2, 4], &[diagonal, diagonal, diagonal]),
        (&[2, 3, 2, 3], &[identity, full, diagonal, full]),
    ];
    for (name, config) in methods::<f64>() {
        let mut worst = Worst::default();
        for &(dims, modes) in cases {
            let preconditioned = modes.iter().filter(|&&mode| mode != identity).count();
            // Adafactor's first eigenvalues are nothing: in a basis, what has no gradient would stay nothing but for rounding.
            let diagonals_only = config.max_dim == 0 && modes.contains(&full);
            let one_sided = config.estimator == Estimator::OneSided && preconditioned > 1;
            if config.estimator == Estimator::None || one_sided || diagonals_only {
                continue;
            }
            let method = with_period(&name, config, 5);
            worst = worst.and(compare(&method, dims, modes, Gradients::LowRankDrift));
        }
        worst.report(&name);
    }
}
