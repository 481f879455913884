//! A method is a value of [`Config`]: one choice per axis of the family, with a preset per named method.

use crate::{Mode, Scalar};

/// What the Kronecker factors estimate: the weights `w_j` and constants `c_k` of ALGORITHMS section 3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Estimator {
    /// No factors: every mode is `Identity` (the elementwise methods).
    None,
    /// KL-Shampoo (paper A, Claims 2 to 4): `w_j = lambda_j^{-1/2}`, `c_k = d_k / N`.
    KullbackLeibler,
}

impl Estimator {
    /// `w(lambda)`: the weight that another mode's eigenvalue puts on the projected gradient.
    #[inline]
    pub(crate) fn weight<T: Scalar>(self, lambda: T) -> T {
        match self {
            Self::None => T::ONE,
            Self::KullbackLeibler => T::ONE / lambda.sqrt(),
        }
    }

    /// `c_k` for a mode of length `dim` in a tensor of `elements` elements.
    pub(crate) fn scale<T: Scalar>(self, dim: usize, elements: usize) -> T {
        match self {
            Self::None => T::ONE,
            Self::KullbackLeibler => T::from_usize(dim) / T::from_usize(elements),
        }
    }

    /// Whether `S_a -> c S_a, S_b -> S_b / c` leaves the method unchanged (ALGORITHMS: gauge).
    pub(crate) const fn gauge_invariant(self) -> bool {
        matches!(self, Self::KullbackLeibler)
    }
}

/// How the momentum becomes a direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// `M~ / (prod_k lambda_k^{1/2} + eps)` in the eigenbasis (paper A, Fig. 13).
    KroneckerRoot,
    /// `M~ / (sqrt(D) + eps)` with a second moment `D` per element (Adam in the tensor's basis).
    SecondMoment,
}

/// Which eigenbasis and eigenvalues the direction sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepOrder {
    /// Estimate, refresh, apply: the new ones (paper A, Fig. 13).
    EstimateFirst,
    /// Apply, estimate, refresh: the ones from before this step (the authors' code).
    ApplyFirst,
}

/// What the first non-zero gradient does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstStep {
    /// It sets the eigenbasis, then a whole step is made in it; the factors start at zero.
    Full,
    /// It sets the eigenbasis and the factors `(1 - beta2) c_k mat_k(G) mat_k(G)^T`; parameters and momentum are left alone.
    FactorsOnly,
}

/// The uniform eigenvalue before the first estimate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum LambdaInit<T> {
    /// An absolute value (paper A uses 0.1). It acts as a warm-up when gradients are small.
    Constant(T),
    /// `(||G||_F^2 / N)^{1/K'}` of the first non-zero gradient, `K'` the number of preconditioned modes.
    ScaleFree,
}

/// When decoupled weight decay acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeightDecay {
    /// `theta <- theta (1 - lr wd)`, then the update (AdamW; paper A, Fig. 13).
    Before,
    /// The update, then `theta <- theta - lr wd theta` on the updated parameter (the authors' code).
    After,
}

/// What to do with a gradient that is not finite or too large.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadGradient {
    /// The whole call fails before anything is written.
    Error,
    /// The slice is left alone and counted in its header; the others are stepped.
    Skip,
}

/// One method with its hyper-parameters: the configuration of a group of tensors.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Config<T> {
    /// What the Kronecker factors estimate.
    pub estimator: Estimator,
    /// How the momentum becomes a direction.
    pub direction: Direction,
    /// Whether the direction sees the estimate of this step.
    pub step_order: StepOrder,
    /// What the first non-zero gradient does.
    pub first_step: FirstStep,
    /// T, steps between refreshes of the eigenbasis; at least 1.
    pub refresh_period: u32,
    /// A refresh happens after step `t > refresh_offset` when `(t - refresh_offset) mod T = 0`; 0 or 1.
    pub refresh_offset: u32,
    /// The uniform eigenvalue before the first estimate.
    pub lambda_init: LambdaInit<T>,
    /// Decay of the momentum, in [0, 1).
    pub beta1: T,
    /// Decay of factors, eigenvalues and second moments, in [0, 1).
    pub beta2: T,
    /// Damping added to the root of the eigenvalues or of the second moment, at least 0.
    pub eps: T,
    /// Decoupled weight decay per unit of learning rate, at least 0.
    pub weight_decay: T,
    /// When weight decay acts.
    pub weight_decay_kind: WeightDecay,
    /// Bounds `lambda_k^{-1/2}` by `max(10, min(d_k, limit))`; the bounded eigenvalue is kept. `None`: no bound.
    pub clamp_limit: Option<T>,
    /// Rebalance the scale of the factors by powers of two when they drift apart (exact; not together with a clamp).
    pub gauge: bool,
    /// Divide moments by `1 - beta^t` when they are used.
    pub bias_correction: bool,
    /// What to do with a gradient that is not finite or too large.
    pub bad_gradient: BadGradient,
    /// Multiplies the learning rate given to a step; at least 0.
    pub lr_scale: T,
    /// Modes longer than this are `Diagonal` unless a tensor says otherwise.
    pub max_dim: usize,
}

/// Why a [`Config`] is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigError {
    /// `beta1` or `beta2` outside [0, 1).
    Beta,
    /// `eps` negative or not finite.
    Eps,
    /// `weight_decay` negative or not finite.
    WeightDecay,
    /// `refresh_period` is 0, or `refresh_offset` above 1.
    RefreshPeriod,
    /// A constant `lambda_init` that is not a normal positive number.
    LambdaInit,
    /// `clamp_limit` not finite or below 1.
    ClampLimit,
    /// `lr_scale` negative or not finite.
    LrScale,
    /// `max_dim` is 0.
    MaxDim,
    /// The estimator and the direction do not go together: factors without a use, or a Kronecker direction without factors.
    Combination,
    /// A clamp and gauge rebalancing exclude each other: the clamp is an absolute scale.
    ClampWithGauge,
}

impl core::fmt::Display for ConfigError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Beta => "beta1 and beta2 must lie in [0, 1)",
            Self::Eps => "eps must be finite and at least 0",
            Self::WeightDecay => "weight_decay must be finite and at least 0",
            Self::RefreshPeriod => "refresh_period must be at least 1 and refresh_offset 0 or 1",
            Self::LambdaInit => "a constant lambda_0 must be finite and at least 2^-63",
            Self::ClampLimit => "clamp_limit must be finite and at least 1",
            Self::LrScale => "lr_scale must be finite and at least 0",
            Self::MaxDim => "max_dim must be at least 1",
            Self::Combination => "this estimator and this direction do not go together",
            Self::ClampWithGauge => "a clamp and gauge rebalancing exclude each other",
        })
    }
}

impl core::error::Error for ConfigError {}

impl<T: Scalar> Config<T> {
    /// Checks every option's range and the combination of the axes.
    ///
    /// # Errors
    /// The first [`ConfigError`] found.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let at_least = |x: T, low: T| x.is_finite_bits() && x >= low;
        let beta = |b: T| at_least(b, T::ZERO) && b < T::ONE;
        let checks = [
            (beta(self.beta1) && beta(self.beta2), ConfigError::Beta),
            (at_least(self.eps, T::ZERO), ConfigError::Eps),
            (at_least(self.weight_decay, T::ZERO), ConfigError::WeightDecay),
            (self.refresh_period > 0 && self.refresh_offset <= 1, ConfigError::RefreshPeriod),
            (!matches!(self.lambda_init, LambdaInit::Constant(l) if !at_least(l, T::FLOOR)), ConfigError::LambdaInit),
            (self.clamp_limit.is_none_or(|c| at_least(c, T::ONE)), ConfigError::ClampLimit),
            (at_least(self.lr_scale, T::ZERO), ConfigError::LrScale),
            (self.max_dim > 0, ConfigError::MaxDim),
            ((self.estimator == Estimator::None) == (self.direction == Direction::SecondMoment), ConfigError::Combination),
            (!(self.gauge && self.clamp_limit.is_some()), ConfigError::ClampWithGauge),
        ];
        match checks.into_iter().find(|(ok, _)| !ok) {
            Some((_, error)) => Err(error),
            None => Ok(()),
        }
    }

    /// The mode that `Auto` stands for: `Full` up to `max_dim`, `Diagonal` beyond, `Identity` without factors.
    pub const fn auto_mode(&self, dim: usize) -> Mode {
        match self.estimator {
            Estimator::None => Mode::Identity,
            _ if dim > self.max_dim => Mode::Diagonal,
            _ => Mode::Full,
        }
    }

    /// What a 1-D tensor of this group gets: AdamW with the group's own betas, damping, decay and learning rate.
    #[must_use]
    pub const fn for_vectors(&self) -> Self {
        Self {
            estimator: Estimator::None,
            direction: Direction::SecondMoment,
            step_order: StepOrder::EstimateFirst,
            first_step: FirstStep::Full,
            weight_decay_kind: WeightDecay::Before,
            clamp_limit: None,
            gauge: false,
            bias_correction: true,
            ..*self
        }
    }

    /// The bound on `lambda` from below that the clamp on `lambda^{-1/2}` amounts to, for a mode of length `dim`; 0 without a clamp.
    pub(crate) fn lambda_clamp(&self, dim: usize) -> T {
        match self.clamp_limit {
            None => T::ZERO,
            Some(limit) => {
                let bound = T::from_usize(10).max(T::from_usize(dim).min(limit));
                T::ONE / (bound * bound)
            }
        }
    }

    /// Whether step `t` (1-based) ends a refresh period.
    pub(crate) const fn refresh_due(&self, t: u64) -> bool {
        let offset = self.refresh_offset as u64;
        t > offset && (t - offset).is_multiple_of(self.refresh_period as u64)
    }
}

macro_rules! presets {
    ($($t:ty),*) => {$(
        impl Config<$t> {
            /// KL-Shampoo as in paper A, Fig. 13 (convention `figure13`), with a scale-free first eigenvalue:
            /// measured better than the paper's 0.1 on small gradients (ALGORITHMS section 4).
            pub const fn kl_shampoo() -> Self {
                Self {
                    estimator: Estimator::KullbackLeibler,
                    direction: Direction::KroneckerRoot,
                    step_order: StepOrder::EstimateFirst,
                    first_step: FirstStep::Full,
                    refresh_period: 10,
                    refresh_offset: 0,
                    lambda_init: LambdaInit::ScaleFree,
                    beta1: 0.95,
                    beta2: 0.95,
                    eps: 1e-8,
                    weight_decay: 0.0,
                    weight_decay_kind: WeightDecay::Before,
                    clamp_limit: None,
                    gauge: true,
                    bias_correction: false,
                    bad_gradient: BadGradient::Error,
                    lr_scale: 1.0,
                    max_dim: 8192,
                }
            }

            /// KL-Shampoo as its authors' published code computes it (convention `reference_kl`).
            pub const fn kl_shampoo_reference() -> Self {
                Self {
                    step_order: StepOrder::ApplyFirst,
                    first_step: FirstStep::FactorsOnly,
                    refresh_offset: 1,
                    lambda_init: LambdaInit::Constant(0.1),
                    weight_decay_kind: WeightDecay::After,
                    clamp_limit: Some(4000.0),
                    gauge: false,
                    ..Self::kl_shampoo()
                }
            }

            /// AdamW: decoupled weight decay before the update, bias-corrected moments.
            pub const fn adamw() -> Self {
                Self {
                    estimator: Estimator::None,
                    direction: Direction::SecondMoment,
                    beta1: 0.9,
                    beta2: 0.999,
                    gauge: false,
                    bias_correction: true,
                    ..Self::kl_shampoo()
                }
            }
        }
    )*};
}

presets!(f32, f64);
