//! What this build has. Cargo features name methods; a method needs values of the axes, and code that no method of the build needs is left
//! out: `built` of an axis gives a value back as it is if the build has it, and else one that it has, so that the compiler sees what cannot
//! occur. [`Config::validate`] refuses configurations with any of the latter before they get anywhere.

use super::{
    BiasCorrection, Config, Damping, Direction, Eigenvalues, EstimateOrder, Estimator, FactorInit, FirstBasis, FirstStep, Graft, Refresh,
    StepOrder, WeightDecay,
};
use crate::{Format, Scalar};

const KL: bool = cfg!(any(feature = "kl-shampoo", feature = "kl-soap"));
const ONE_SIDED: bool = cfg!(feature = "one-sided");
const SHAMPOO: bool = cfg!(any(feature = "soap", feature = "shampoo", feature = "vn-shampoo", feature = "adafactor"));
const VON_NEUMANN: bool = cfg!(feature = "vn-shampoo");
const FROBENIUS: bool = cfg!(feature = "f-shampoo");
/// Methods without factors.
const NONE: bool = cfg!(any(feature = "adamw", feature = "rmsprop", feature = "sgd"));

const KRONECKER: bool = cfg!(any(
    feature = "kl-shampoo",
    feature = "shampoo",
    feature = "vn-shampoo",
    feature = "f-shampoo",
    feature = "one-sided",
    feature = "adafactor"
));
const SECOND_MOMENT: bool = cfg!(any(feature = "kl-soap", feature = "soap", feature = "adamw", feature = "rmsprop"));
const TRACE_SCALED: bool = cfg!(any(feature = "vn-shampoo", feature = "adafactor"));
const EIGENDECOMPOSITION: bool = cfg!(any(feature = "shampoo", feature = "idealized"));

/// Methods with factors.
pub(crate) const FACTORS: bool = KL || ONE_SIDED || SHAMPOO || VON_NEUMANN || FROBENIUS;
/// Tensors that no factor turns.
pub(crate) const ELEMENTWISE: bool = NONE || cfg!(feature = "adafactor");
/// Powers of eigenvalues other than 1/2, 1/4 and 1, powers of betas, roots of higher order.
pub(crate) const POWERS: bool =
    HIGH_ORDER || cfg!(any(feature = "shampoo", feature = "soap", feature = "vn-shampoo", feature = "adafactor", feature = "adamw"));
/// Tensors of more than two dims.
pub(crate) const HIGH_ORDER: bool = cfg!(feature = "high-order");
/// Tensors of which a slice is cut into pieces, or copied for a step: blocks, parts of rows, strides, other formats, scaled gradients, L2 decay.
pub(crate) const STORAGE: bool = cfg!(feature = "storage");
/// Tensors with modes that are not full.
pub(crate) const PARTIAL: bool = ELEMENTWISE || ONE_SIDED || cfg!(feature = "diagonal");
/// Grafts and caps.
pub(crate) const GRAFTING: bool = cfg!(feature = "grafting");
/// What the published codes do in another way than Fig. 13: the order of the step, its first one, factors, bases, damping, a clamp.
const CONVENTIONS: bool = cfg!(feature = "conventions");
/// A bound on a step's refreshes.
pub(crate) const BUDGET: bool = cfg!(feature = "refresh-budget");
/// Refreshes in portions.
pub(crate) const PORTIONS: bool = cfg!(feature = "portions");
/// Factors and bases in 16 bits.
pub(crate) const FACTOR_FORMATS: bool = cfg!(feature = "factor-formats");
/// Numbers that are rounded.
pub(crate) const ROUNDS: bool = STORAGE || FACTOR_FORMATS;
/// The measures of an update.
pub(crate) const MEASURE: bool = cfg!(feature = "measure");
/// An order of the eigenvectors.
pub(crate) const SORTS: bool = EIGENDECOMPOSITION || cfg!(feature = "soap");

#[cfg(not(any(
    feature = "kl-shampoo",
    feature = "kl-soap",
    feature = "soap",
    feature = "shampoo",
    feature = "vn-shampoo",
    feature = "f-shampoo",
    feature = "one-sided",
    feature = "adafactor",
    feature = "adamw",
    feature = "rmsprop",
    feature = "sgd"
)))]
compile_error!(
    "no method: choose at least one of the features kl-shampoo, kl-soap, soap, shampoo, vn-shampoo, f-shampoo, one-sided, adafactor, adamw, rmsprop, sgd"
);

impl Estimator {
    #[inline(always)]
    pub(crate) const fn built(self) -> Self {
        match self {
            Self::KullbackLeibler if KL => self,
            Self::OneSided if ONE_SIDED => self,
            Self::Shampoo if SHAMPOO => self,
            Self::VonNeumann if VON_NEUMANN => self,
            Self::Frobenius | Self::FrobeniusFactor if FROBENIUS => self,
            Self::None if NONE => self,
            _ if KL => Self::KullbackLeibler,
            _ if ONE_SIDED => Self::OneSided,
            _ if SHAMPOO => Self::Shampoo,
            _ if FROBENIUS => Self::Frobenius,
            _ => Self::None,
        }
    }
}

impl<T: Scalar> Direction<T> {
    #[inline(always)]
    pub(crate) const fn built(self) -> Self {
        match self {
            Self::KroneckerPower(_) if KRONECKER => self,
            Self::ShampooRoot if cfg!(feature = "shampoo") => self,
            Self::TraceScaled if TRACE_SCALED => self,
            Self::SecondMoment if SECOND_MOMENT => self,
            Self::Momentum if cfg!(feature = "sgd") => self,
            _ if KRONECKER => Self::KroneckerPower(T::ONE),
            _ if SECOND_MOMENT => Self::SecondMoment,
            _ => Self::Momentum,
        }
    }
}

impl Eigenvalues {
    #[inline(always)]
    pub(crate) const fn built(self) -> Self {
        match self {
            Self::AtRefresh if EIGENDECOMPOSITION => self,
            Self::Instantaneous | Self::InstantaneousAfterRefresh if cfg!(feature = "instantaneous") => self,
            _ => Self::Average,
        }
    }
}

impl Refresh {
    #[inline(always)]
    pub(crate) const fn built(self) -> Self {
        match self {
            Self::Eigendecomposition if EIGENDECOMPOSITION => self,
            Self::HouseholderQr => self,
            _ => Self::Qr,
        }
    }
}

impl Graft {
    #[inline(always)]
    pub(crate) const fn built(self) -> Self {
        if GRAFTING { self } else { Self::None }
    }
}

impl BiasCorrection {
    #[inline(always)]
    pub(crate) const fn built(self) -> Self {
        if POWERS { self } else { Self::None }
    }
}

/// Axes on which the published codes differ from Fig. 13.
macro_rules! convention {
    ($($axis:ty: $own:expr),*) => {$(
        impl $axis {
            #[inline(always)]
            pub(crate) const fn built(self) -> Self {
                if CONVENTIONS { self } else { $own }
            }
        }
    )*};
}

convention!(
    StepOrder: Self::EstimateFirst,
    FirstStep: Self::Full,
    FirstBasis: Self::Gradient,
    Damping: Self::Denominator,
    EstimateOrder: Self::Jacobi
);

impl FactorInit {
    #[inline(always)]
    pub(crate) const fn built(self) -> Self {
        if CONVENTIONS || FROBENIUS || EIGENDECOMPOSITION || cfg!(feature = "instantaneous") { self } else { Self::Zero }
    }
}

impl<T: Scalar> Config<T> {
    /// Whether this build has everything that the configuration asks for.
    pub(crate) fn is_built(&self) -> bool {
        let power = match self.direction {
            Direction::KroneckerPower(p) => POWERS || [T::ONE, T::exp2i(-1), T::exp2i(-2)].contains(&p),
            _ => true,
        };
        power
            && self.estimator == self.estimator.built()
            && self.direction == self.direction.built()
            && self.eigenvalues == self.eigenvalues.built()
            && self.refresh == self.refresh.built()
            && self.graft == self.graft.built()
            && self.bias_correction == self.bias_correction.built()
            && (SORTS || !self.sort)
            && self.step_order == self.step_order.built()
            && self.first_step == self.first_step.built()
            && self.first_basis == self.first_basis.built()
            && self.damping == self.damping.built()
            && self.estimate_order == self.estimate_order.built()
            && self.factor_init == self.factor_init.built()
            && (CONVENTIONS || self.clamp_limit.is_none())
            && (GRAFTING || self.rms_cap.is_none())
            && (MEASURE || !self.measure)
            && (PORTIONS || self.refresh_portion == 0)
            && (FACTOR_FORMATS || self.factor_format == Format::Native)
            && (STORAGE || self.weight_decay_kind != WeightDecay::L2)
    }
}
