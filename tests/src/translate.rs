//! From the library's configurations to the textbook's options, axis by axis: every test that compares the two says what it runs once.

use crate::harness::Number;
use crate::textbook::{self, Options};
use klshampoo::{
    BiasCorrection, Config, Damping, Direction, Eigenvalues, EstimateOrder, Estimator, FactorInit, FirstBasis, FirstStep, Graft,
    LambdaInit, Mode, Momentum, Refresh, StepOrder, WeightDecay,
};

/// Variants of the same name on both sides.
macro_rules! same {
    ($axis:ident, $value:expr; $($variant:ident),+) => {
        match $value {
            $($axis::$variant => textbook::$axis::$variant,)+
        }
    };
}

/// The same method in the textbook's terms. What has no counterpart there changes nothing that the textbook computes: the gauge, the
/// treatment of bad gradients and of large tensors, measurements, and the group's factor on the learning rate.
pub fn options<T: Number>(config: &Config<T>) -> Options {
    Options {
        estimator: same!(Estimator, config.estimator;
            None, KullbackLeibler, OneSided, Shampoo, VonNeumann, Frobenius, FrobeniusFactor),
        estimate_order: same!(EstimateOrder, config.estimate_order; Jacobi, ReferenceKl),
        eigenvalues: same!(Eigenvalues, config.eigenvalues; Average, Instantaneous, InstantaneousAfterRefresh, AtRefresh),
        lambda_0: match config.lambda_init {
            LambdaInit::Constant(value) => textbook::FirstEigenvalue::Constant(value.to_f64()),
            LambdaInit::ScaleFree => textbook::FirstEigenvalue::ScaleFree,
        },
        clamp: config.clamp_limit.map(T::to_f64),
        factor_init: same!(FactorInit, config.factor_init; Zero, Lambda),
        first_basis: same!(FirstBasis, config.first_basis; Gradient, Identity),
        first_step: same!(FirstStep, config.first_step; Full, FactorsOnly),
        refresh: match config.refresh {
            Refresh::Qr | Refresh::HouseholderQr => textbook::Refresh::Qr,
            Refresh::Eigendecomposition => textbook::Refresh::Eigendecomposition,
        },
        sort: config.sort,
        period: u64::from(config.refresh_period),
        refresh_offset: u64::from(config.refresh_offset),
        refresh_growth: u64::from(config.refresh_growth),
        staleness: config.staleness.to_f64(),
        step_order: same!(StepOrder, config.step_order; EstimateFirst, ApplyFirst),
        momentum: same!(Momentum, config.momentum; Average, Nesterov, None),
        beta1: config.beta1.to_f64(),
        beta2: config.beta2.to_f64(),
        direction: match config.direction {
            Direction::KroneckerPower(p) => textbook::Direction::KroneckerPower(p.to_f64()),
            Direction::ShampooRoot => textbook::Direction::ShampooRoot,
            Direction::TraceScaled => textbook::Direction::TraceScaled,
            Direction::SecondMoment => textbook::Direction::SecondMoment,
            Direction::Momentum => textbook::Direction::Momentum,
        },
        eps: config.eps.to_f64(),
        damping: same!(Damping, config.damping; Denominator, Factor),
        bias_correction: same!(BiasCorrection, config.bias_correction; None, StepSize, Moments),
        graft: same!(Graft, config.graft; None, Adam, Sgd, RmsProp, AdaGrad),
        rms_cap: config.rms_cap.map(T::to_f64),
        weight_decay: config.weight_decay.to_f64(),
        weight_decay_kind: same!(WeightDecay, config.weight_decay_kind; Before, After, L2, Independent),
    }
}

/// A mode in the textbook's terms.
pub fn kind(mode: Mode) -> textbook::ModeKind {
    match mode {
        Mode::Full => textbook::ModeKind::Full,
        Mode::Diagonal => textbook::ModeKind::Diagonal,
        Mode::Identity => textbook::ModeKind::Identity,
    }
}
