//! Why a configuration is refused.

/// Why a [`crate::Config`] is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigError {
    /// `beta1` or `beta2` outside [0, 1).
    Beta,
    /// `eps` negative or not finite.
    Eps,
    /// `weight_decay` negative or not finite, or above 1 where it is independent of the learning rate.
    WeightDecay,
    /// `refresh_period` is 0, `refresh_offset` above 1, or `refresh_growth` above 2^20.
    RefreshPeriod,
    /// `staleness` negative or not finite.
    Staleness,
    /// Refreshes in portions are QR refreshes of methods that read a factor for nothing else: there are none by eigendecomposition, nor with
    /// eigenvalues that are taken from the factor, nor with F-Shampoo variant 1's estimator or VN-Shampoo variant 1's direction.
    RefreshPortion,
    /// A constant `lambda_init` that is not a normal positive number.
    LambdaInit,
    /// `clamp_limit` not finite or below 1, or of a method with factors but without eigenvalues.
    ClampLimit,
    /// A power of the eigenvalues outside (0, 1].
    Power,
    /// `rms_cap` not a normal positive number.
    RmsCap,
    /// `lr_scale` negative or not finite.
    LrScale,
    /// The estimator and the direction do not go together: factors without a use, or a Kronecker direction without factors.
    Combination,
    /// The authors' order of estimates is theirs for KL-Shampoo's estimator only.
    EstimateOrder,
    /// The direction of VN-Shampoo variant 1 divides by traces, which only the estimator `Shampoo` gives it.
    TraceScaledEstimator,
    /// A graft replaces the length of a preconditioned direction; without factors there is none.
    GraftWithoutFactors,
    /// Damping of each factor needs a Kronecker direction.
    FactorDamping,
    /// F-Shampoo variant 1 multiplies by the factors and never leaves zero: it needs `FactorInit::Lambda` or `FirstStep::FactorsOnly`.
    ZeroFactors,
    /// The step-size form of bias correction belongs to directions by second moments.
    StepSizeCorrection,
    /// An identity basis until the first refresh needs a full first step and a Kronecker direction.
    FirstBasis,
    /// Factors and bases are kept in 16 bits beside arithmetic in `f32` only: `f64` has a range that 16 bits have not.
    FactorFormat,
    /// A clamp and gauge rebalancing exclude each other: the clamp is an absolute scale.
    ClampWithGauge,
    /// The scale of these factors is not free to be rebalanced (estimators `Shampoo` and `OneSided`, damping of each factor).
    Gauge,
    /// This build leaves out what the configuration needs: see the crate's features.
    NotBuilt,
}

impl core::fmt::Display for ConfigError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Beta => "beta1 and beta2 must lie in [0, 1)",
            Self::Eps => "eps must be finite and at least 0",
            Self::WeightDecay => "weight_decay must be finite and at least 0; at most 1 if independent of the learning rate",
            Self::RefreshPeriod => "refresh_period must be at least 1, refresh_offset 0 or 1, and refresh_growth at most 2^20",
            Self::Staleness => "staleness must be finite and at least 0",
            Self::RefreshPortion => "refreshes in portions are QR refreshes of methods that read a factor for nothing else",
            Self::LambdaInit => "a constant lambda_0 must be finite and at least 2^-63",
            Self::ClampLimit => "clamp_limit must be finite and at least 1, and the method must have eigenvalues",
            Self::Power => "the power of the eigenvalues must lie in (0, 1]",
            Self::RmsCap => "rms_cap must be finite and at least 2^-63",
            Self::LrScale => "lr_scale must be finite and at least 0",
            Self::Combination => "this estimator and this direction do not go together",
            Self::EstimateOrder => "the reference order of estimates belongs to the estimator of KL-Shampoo",
            Self::TraceScaledEstimator => "the von Neumann direction needs the estimator of Shampoo",
            Self::GraftWithoutFactors => "a graft needs a method with factors",
            Self::FactorDamping => "damping of each factor needs a Kronecker direction",
            Self::ZeroFactors => "F-Shampoo variant 1 cannot start from factors of zero",
            Self::StepSizeCorrection => "the step-size form of bias correction needs a direction by second moments",
            Self::FirstBasis => "an identity basis at the start needs a full first step and a Kronecker direction",
            Self::FactorFormat => "factors and bases in 16 bits need arithmetic in f32",
            Self::ClampWithGauge => "a clamp and gauge rebalancing exclude each other",
            Self::Gauge => "the scale of these factors is not free to be rebalanced",
            Self::NotBuilt => "this build leaves out what the configuration needs",
        })
    }
}

impl core::error::Error for ConfigError {}
