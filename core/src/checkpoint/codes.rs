//! The numbers that stand for choices. They never change their meaning; the header's `KLS_*` constants are the same.

use crate::config::*;
use crate::format::Rounding;
use crate::shape::Mode;

macro_rules! codes {
    ($($function:ident($choice:ty) { $($value:pat => $code:literal),* })*) => {$(
        pub(super) const fn $function(choice: $choice) -> u32 {
            match choice {
                $($value => $code,)*
            }
        }
    )*};
}

codes! {
    estimator(Estimator) {
        Estimator::None => 0, Estimator::KullbackLeibler => 1, Estimator::OneSided => 2, Estimator::Shampoo => 3,
        Estimator::VonNeumann => 4, Estimator::Frobenius => 5, Estimator::FrobeniusFactor => 6
    }
    estimate_order(EstimateOrder) { EstimateOrder::Jacobi => 0, EstimateOrder::ReferenceKl => 1 }
    eigenvalues(Eigenvalues) {
        Eigenvalues::Average => 0, Eigenvalues::Instantaneous => 1, Eigenvalues::InstantaneousAfterRefresh => 2,
        Eigenvalues::AtRefresh => 3
    }
    refresh(Refresh) { Refresh::Qr => 0, Refresh::Eigendecomposition => 1, Refresh::HouseholderQr => 2 }
    graft(Graft) { Graft::None => 0, Graft::Adam => 1, Graft::Sgd => 2, Graft::RmsProp => 3, Graft::AdaGrad => 4 }
    step_order(StepOrder) { StepOrder::EstimateFirst => 0, StepOrder::ApplyFirst => 1 }
    first_step(FirstStep) { FirstStep::Full => 0, FirstStep::FactorsOnly => 1 }
    first_basis(FirstBasis) { FirstBasis::Gradient => 0, FirstBasis::Identity => 1 }
    factor_init(FactorInit) { FactorInit::Zero => 0, FactorInit::Lambda => 1 }
    momentum(Momentum) { Momentum::Average => 0, Momentum::Nesterov => 1, Momentum::None => 2 }
    bias_correction(BiasCorrection) { BiasCorrection::None => 0, BiasCorrection::StepSize => 1, BiasCorrection::Moments => 2 }
    damping(Damping) { Damping::Denominator => 0, Damping::Factor => 1 }
    weight_decay_kind(WeightDecay) {
        WeightDecay::Before => 0, WeightDecay::After => 1, WeightDecay::L2 => 2, WeightDecay::Independent => 3
    }
    bad_gradient(BadGradient) { BadGradient::Error => 0, BadGradient::Skip => 1 }
    mode(Mode) { Mode::Full => 1, Mode::Diagonal => 2, Mode::Identity => 3 }
}

/// The rounding of a parameter of 16 bits, and the seed of the one that has one.
pub(super) const fn rounding(choice: Rounding) -> (u32, u64) {
    match choice {
        Rounding::Nearest => (0, 0),
        Rounding::Stochastic { seed } => (1, seed),
    }
}

/// The direction, and the power of the one that has one.
pub(super) fn direction<T: crate::Scalar>(choice: Direction<T>) -> (u32, f64) {
    match choice {
        Direction::KroneckerPower(power) => (0, power.as_f64()),
        Direction::SecondMoment => (1, 0.0),
        Direction::ShampooRoot => (2, 0.0),
        Direction::TraceScaled => (3, 0.0),
        Direction::Momentum => (4, 0.0),
    }
}

/// The rule of the first eigenvalue, and the value of the one that has one.
pub(super) fn lambda_init<T: crate::Scalar>(choice: LambdaInit<T>) -> (u32, f64) {
    match choice {
        LambdaInit::Constant(lambda) => (0, lambda.as_f64()),
        LambdaInit::ScaleFree => (1, 0.0),
    }
}
