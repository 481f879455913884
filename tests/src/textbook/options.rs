//! The axes along which the methods of the family differ, and the published conventions as points in them.

/// How the factors see the gradient: the weights w_j and constants c_k of the estimate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Estimator {
    /// No factors: every mode is Identity (AdamW, RMSProp, SGD).
    None,
    /// KL-Shampoo, KL-SOAP (Claims 2 to 4): w = x^{-1/2}, c_k = d_k / N.
    KullbackLeibler,
    /// One-sided (Claim 1): w = 1, c_k = d_k / N; the other modes should be [`super::ModeKind::Identity`].
    OneSided,
    /// Shampoo, SOAP and VN-Shampoo variant 1 (Eqs. 1 and 2, Fig. 6): w = 1, c_k = 1.
    Shampoo,
    /// VN-Shampoo variant 2 (Fig. 6): w = 1, c_k = 1 / prod_others sum lambda_j.
    VonNeumann,
    /// F-Shampoo variant 2 (Fig. 8): w = x^{1/2}, c_k = 1 / prod_others sum lambda_j^2.
    Frobenius,
    /// F-Shampoo variant 1 (Fig. 8): S_j itself in place of its eigenvalues, c_k = 1 / prod_others Tr S_j^2.
    FrobeniusFactor,
}

/// Where the eigenvalues of a Full mode come from; a Diagonal mode's are always an average.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Eigenvalues {
    /// A moving average of their own, every step.
    Average,
    /// diag(Q^T S Q) every step, in the basis from before the refresh.
    Instantaneous,
    /// diag(Q^T S Q) every step, in the basis from after the refresh.
    InstantaneousAfterRefresh,
    /// diag(Q^T S Q) in the new basis at the first step and at refreshes, fixed in between.
    AtRefresh,
}

/// How a refresh finds the new basis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refresh {
    /// qr(S Q): one step of orthogonal iteration.
    Qr,
    /// The eigenvectors of S, descending ("idealized").
    Eigendecomposition,
}

/// What the numerator is divided by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Direction {
    /// prod_k lambda_k^p.
    KroneckerPower(f64),
    /// prod_k lambda_k^p with p = 1 / (2 K'), K' counting the modes that are not Identity.
    ShampooRoot,
    /// (tau prod_k lambda_k)^{1/2}: VN-Shampoo variant 1 (Fig. 6).
    TraceScaled,
    /// The root of a second moment kept in the eigenbasis: SOAP, KL-SOAP (Claim 5); without factors Adam's.
    SecondMoment,
    /// Nothing (SGD).
    Momentum,
}

/// Whose length the direction gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Graft {
    /// Its own.
    None,
    /// That of numerator / (sqrt v + eps), v the average of G^2.
    Adam,
    /// That of the gradient.
    Sgd,
    /// That of G / (sqrt v + eps), v the average of G^2, never bias-corrected.
    RmsProp,
    /// That of G / (sqrt v + eps), v the sum of G^2.
    AdaGrad,
}

/// Which eigenbasis and eigenvalues the direction sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepOrder {
    /// Estimate, refresh, apply: the new ones.
    EstimateFirst,
    /// Apply, estimate, refresh: those from before this step.
    ApplyFirst,
}

/// What the first gradient that is not zero does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstStep {
    /// It sets the bases, then a whole step is made in them.
    Full,
    /// It sets the bases and the factors (1 - beta2) c_k mat_k(G) mat_k(G)^T, and nothing else.
    FactorsOnly,
}

/// The bases before the first refresh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstBasis {
    /// The eigenvectors of the first gradient's factors, descending.
    Gradient,
    /// The identity; nothing is preconditioned until a refresh was due and done.
    Identity,
}

/// The factors before the first estimate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FactorInit {
    /// Zero.
    Zero,
    /// lambda_0 times the identity.
    Lambda,
}

/// The first eigenvalue, the same in all modes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum FirstEigenvalue {
    /// A number; the paper takes 0.1.
    Constant(f64),
    /// (||G||_F^2 / N)^{1/K'} of the first gradient that is not zero, K' counting the modes that are not Identity.
    ScaleFree,
}

/// What is preconditioned: the numerator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Momentum {
    /// M.
    Average,
    /// beta1 M + (1 - beta1) G.
    Nesterov,
    /// G; beta1 is not used.
    None,
}

/// How averages that start at zero are brought to size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BiasCorrection {
    /// Not at all.
    None,
    /// The direction times sqrt(1 - beta2^t) / (1 - beta1^t): SOAP's code.
    StepSize,
    /// Each is divided by 1 - beta^t where it is used; the factors where eigenvalues are taken from them.
    Moments,
}

/// Where eps stands in a Kronecker denominator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damping {
    /// prod lambda^p + eps.
    Denominator,
    /// prod (lambda + eps)^p.
    Factor,
}

/// How weight decay acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeightDecay {
    /// theta <- theta (1 - lr wd), then the update.
    Before,
    /// The update, then theta <- theta - lr wd theta.
    After,
    /// G + wd theta is the gradient of everything.
    L2,
    /// theta <- theta (1 - wd), whatever the learning rate, then the update.
    Independent,
}

/// Which eigenvalues of the other modes an estimate sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EstimateOrder {
    /// Those from before the step.
    Jacobi,
    /// The authors' code for order 3: mode 2's eigenvalues already see the new ones of mode 3, mode 1 sees the new ones of mode 2
    /// and the old ones of mode 3. Like Jacobi for any other order.
    ReferenceKl,
}

/// A method with its hyper-parameters. Betas are Adam's: what is kept.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    /// How the factors see the gradient.
    pub estimator: Estimator,
    /// Which eigenvalues an estimate sees.
    pub estimate_order: EstimateOrder,
    /// Where the eigenvalues come from.
    pub eigenvalues: Eigenvalues,
    /// First eigenvalue.
    pub lambda_0: FirstEigenvalue,
    /// If given, lambda^{-1/2} are at most max(10, min(d_k, this)), and the clamped value is what is kept.
    pub clamp: Option<f64>,
    /// First factor.
    pub factor_init: FactorInit,
    /// First basis.
    pub first_basis: FirstBasis,
    /// What the first gradient does.
    pub first_step: FirstStep,
    /// How a refresh finds the new basis.
    pub refresh: Refresh,
    /// Whether a QR refresh first orders the columns by descending diag(Q^T S Q), and lambda and D with them.
    pub sort: bool,
    /// Refresh period T.
    pub period: u64,
    /// A refresh is due at step t > offset when (t - offset) mod T = 0.
    pub refresh_offset: u64,
    /// If W > 0, the period grows from 1 to T over W steps.
    pub refresh_growth: u64,
    /// If positive, a due refresh leaves out the modes that are at most this stale ([`super::Mode::staleness`]).
    pub staleness: f64,
    /// Whether the direction sees the estimate of this step.
    pub step_order: StepOrder,
    /// What is preconditioned.
    pub momentum: Momentum,
    /// Decay of the momentum.
    pub beta1: f64,
    /// Decay of factors, eigenvalues and second moments.
    pub beta2: f64,
    /// What the numerator is divided by.
    pub direction: Direction,
    /// Damping.
    pub eps: f64,
    /// Where it stands.
    pub damping: Damping,
    /// How averages are brought to size.
    pub bias_correction: BiasCorrection,
    /// Whose length the direction gets.
    pub graft: Graft,
    /// The largest root mean square of the direction's elements.
    pub rms_cap: Option<f64>,
    /// Weight decay.
    pub weight_decay: f64,
    /// How it acts.
    pub weight_decay_kind: WeightDecay,
}

impl Options {
    /// KL-Shampoo of the paper's Figure 13, with its first eigenvalue.
    pub fn figure13() -> Self {
        Options {
            estimator: Estimator::KullbackLeibler,
            estimate_order: EstimateOrder::Jacobi,
            eigenvalues: Eigenvalues::Average,
            lambda_0: FirstEigenvalue::Constant(0.1),
            clamp: None,
            factor_init: FactorInit::Zero,
            first_basis: FirstBasis::Gradient,
            first_step: FirstStep::Full,
            refresh: Refresh::Qr,
            sort: false,
            period: 10,
            refresh_offset: 0,
            refresh_growth: 0,
            staleness: 0.0,
            step_order: StepOrder::EstimateFirst,
            momentum: Momentum::Average,
            beta1: 0.95,
            beta2: 0.95,
            direction: Direction::KroneckerPower(0.5),
            eps: 1e-8,
            damping: Damping::Denominator,
            bias_correction: BiasCorrection::None,
            graft: Graft::None,
            rms_cap: None,
            weight_decay: 0.0,
            weight_decay_kind: WeightDecay::Before,
        }
    }

    /// KL-Shampoo of the authors' code: it applies what the previous call left, and the first call only initialises.
    pub fn reference_kl() -> Self {
        Options {
            estimate_order: EstimateOrder::ReferenceKl,
            clamp: Some(4000.0),
            first_step: FirstStep::FactorsOnly,
            refresh_offset: 1,
            step_order: StepOrder::ApplyFirst,
            weight_decay_kind: WeightDecay::After,
            ..Options::figure13()
        }
    }

    /// SOAP as published.
    pub fn reference_soap() -> Self {
        Options {
            estimator: Estimator::Shampoo,
            estimate_order: EstimateOrder::Jacobi,
            clamp: None,
            sort: true,
            direction: Direction::SecondMoment,
            bias_correction: BiasCorrection::StepSize,
            ..Options::reference_kl()
        }
    }

    /// Distributed Shampoo with exponent `p` of each factor.
    pub fn reference_meta(p: f64) -> Self {
        Options {
            estimator: Estimator::Shampoo,
            eigenvalues: Eigenvalues::AtRefresh,
            first_basis: FirstBasis::Identity,
            refresh: Refresh::Eigendecomposition,
            direction: Direction::KroneckerPower(p),
            damping: Damping::Factor,
            bias_correction: BiasCorrection::Moments,
            ..Options::figure13()
        }
    }

    /// AdamW; RMSProp and SGD vary `momentum`, `bias_correction` and `direction`.
    pub fn adamw() -> Self {
        Options {
            estimator: Estimator::None,
            direction: Direction::SecondMoment,
            bias_correction: BiasCorrection::Moments,
            beta1: 0.9,
            beta2: 0.999,
            ..Options::figure13()
        }
    }

    /// Whether a refresh is due at step `t`, counted from 1, where `last` was the last step in which one was: before the first gradient
    /// that is not zero there is nothing to refresh.
    pub fn refresh_due(&self, t: u64, last: u64) -> bool {
        let Options { period, refresh_offset: offset, refresh_growth: growth, .. } = *self;
        if growth == 0 {
            return t > offset && (t - offset).is_multiple_of(period);
        }
        t > offset && t - last.max(offset) > (period - 1) * (t - offset).min(growth) / growth
    }
}
