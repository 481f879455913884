//! A method is a value of [`Config`]: one choice per axis of the family, with a preset per named method.

mod axes;
pub(crate) mod built;
mod error;
mod presets;

pub use axes::*;
pub use error::ConfigError;

use crate::linalg::LinAlg;
use crate::{Format, Mode, Scalar, Shape};

impl Estimator {
    /// `w(lambda)`: the weight that another mode's eigenvalue puts on the projected gradient.
    ///
    /// F-Shampoo variant 1 multiplies by whole factors; of a `Diagonal` mode that is this weight on both sides of the product.
    #[inline(always)]
    pub(crate) fn weight<T: Scalar>(self, linalg: &impl LinAlg<T>, lambda: T) -> T {
        match self.built() {
            Self::None | Self::OneSided | Self::Shampoo | Self::VonNeumann => T::ONE,
            Self::KullbackLeibler => T::ONE / linalg.sqrt(lambda),
            Self::Frobenius | Self::FrobeniusFactor => linalg.sqrt(lambda),
        }
    }

    /// Whether [`Self::weight`] is 1 throughout.
    pub(crate) const fn is_unweighted(self) -> bool {
        matches!(self.built(), Self::None | Self::OneSided | Self::Shampoo | Self::VonNeumann)
    }

    /// `c_k` but for what the other modes contribute, for a mode of length `dim` in a tensor of `elements` elements.
    pub(crate) fn scale<T: Scalar>(self, dim: usize, elements: usize) -> T {
        match self.built() {
            Self::KullbackLeibler | Self::OneSided => T::from_usize(dim) / T::from_usize(elements),
            Self::None | Self::Shampoo | Self::VonNeumann | Self::Frobenius | Self::FrobeniusFactor => T::ONE,
        }
    }

    /// What another mode's eigenvalues contribute to `1 / c_k`: nothing, their sum, or their sum of squares.
    pub(crate) const fn divisor(self) -> Divisor {
        match self.built() {
            Self::VonNeumann => Divisor::Sum,
            Self::Frobenius | Self::FrobeniusFactor => Divisor::SumOfSquares,
            Self::None | Self::KullbackLeibler | Self::OneSided | Self::Shampoo => Divisor::None,
        }
    }

    /// Whether `S_a -> c S_a, S_b -> S_b / c` leaves the method unchanged (ALGORITHMS: gauge).
    pub(crate) const fn gauge_invariant(self) -> bool {
        matches!(self.built(), Self::KullbackLeibler | Self::VonNeumann | Self::Frobenius | Self::FrobeniusFactor)
    }
}

impl<T: Scalar> Direction<T> {
    /// The power of the eigenvalues in the denominator; `None` where it has none.
    pub fn power(self, shape: &Shape) -> Option<T> {
        let half = T::exp2i(-1);
        match self.built() {
            Self::SecondMoment | Self::Momentum => None,
            Self::KroneckerPower(p) => Some(p),
            Self::ShampooRoot => Some(half / T::from_usize(shape.preconditioned_modes())),
            Self::TraceScaled => Some(half),
        }
    }
}

/// See [`Estimator::divisor`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Divisor {
    None,
    Sum,
    SumOfSquares,
}

/// Most steps over which a period grows: a prediction goes through them one by one.
const MAX_GROWTH: u32 = 1 << 20;

/// One method with its hyper-parameters: the configuration of a group of tensors.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Config<T> {
    /// What the Kronecker factors estimate.
    pub estimator: Estimator,
    /// In which order the modes of an order-3 tensor see each other's eigenvalues.
    pub estimate_order: EstimateOrder,
    /// Where the eigenvalues come from.
    pub eigenvalues: Eigenvalues,
    /// How a refresh turns the eigenbasis.
    pub refresh: Refresh,
    /// Orders the eigenbasis by descending `diag S~` before each QR and permutes eigenvalues and second moment alike, as SOAP does.
    /// An eigendecomposition always does.
    pub sort: bool,
    /// T, steps between refreshes of the eigenbasis; at least 1.
    pub refresh_period: u32,
    /// A refresh is due after step `t > refresh_offset` when `(t - refresh_offset) mod T = 0`; 0 or 1.
    pub refresh_offset: u32,
    /// Spreads the refreshes of a table's slices over the T steps, by their predicted cost, instead of making all in one step. Not of a
    /// table of one slice, nor with a period that grows. The order is that of the whole table: a tensor that is added later moves it.
    pub stagger: bool,
    /// The period grows linearly from 1 to T over this many steps, at most 2^20; 0: it is T from the start.
    pub refresh_growth: u32,
    /// A refresh that is due is skipped for modes whose staleness, the mean over `i != j` of `S~_ij^2 / (S~_ii S~_jj)`, is not above
    /// this; 0: none is skipped.
    pub staleness: T,
    /// Floating-point operations of a refresh that a step of a slice (or piece of one) spends at most, for loops with a deadline: a
    /// refresh is then made in the portions of many steps, one mode after another, by Householder reflections whatever [`Self::refresh`]
    /// says, with the portable kernels whatever the backend. 0, the default: a refresh is made in one step. Half of
    /// [`Cost::step`](crate::Cost::step) keeps the longest step near two plain ones in instructions too, of which reflections take more
    /// per operation than products.
    ///
    /// The step that follows the end of a mode's factorisation turns its basis and moments at once
    /// ([`Cost::refresh_step`](crate::Cost::refresh_step) says what a step takes with it), and a portion of little room still makes a
    /// column. The factor that is factorised is that of after the step in which the mode's turn comes:
    /// [`Layout::refresh_steps`](crate::Layout::refresh_steps) says how much later the basis is. A refresh that becomes due meanwhile
    /// begins when the other has ended; those that become due while it waits are one with it. For QR refreshes of methods whose factors
    /// nothing else reads ([`ConfigError::RefreshPortion`]).
    pub refresh_portion: u32,
    /// What the numerator is divided by.
    pub direction: Direction<T>,
    /// Whose length the direction takes.
    pub graft: Graft,
    /// Scales a direction down whose root mean square is larger (after grafting, before learning rate and decay). `None`: no cap.
    pub rms_cap: Option<T>,
    /// Whether the direction sees the estimate of this step.
    pub step_order: StepOrder,
    /// What the first non-zero gradient does.
    pub first_step: FirstStep,
    /// The eigenbasis after it.
    pub first_basis: FirstBasis,
    /// The factors before the first estimate.
    pub factor_init: FactorInit,
    /// The uniform eigenvalue before the first estimate.
    pub lambda_init: LambdaInit<T>,
    /// The numerator of the direction.
    pub momentum: Momentum,
    /// Decay of the momentum, in [0, 1).
    pub beta1: T,
    /// Decay of factors, eigenvalues and second moments, in [0, 1).
    pub beta2: T,
    /// What is done about averages that start at zero.
    pub bias_correction: BiasCorrection,
    /// Damping, at least 0.
    pub eps: T,
    /// Where `eps` is added.
    pub damping: Damping,
    /// Weight decay, at least 0; per unit of learning rate unless independent of it.
    pub weight_decay: T,
    /// How weight decay acts.
    pub weight_decay_kind: WeightDecay,
    /// Bounds `lambda_k^{-1/2}` by `max(10, min(d_k, limit))`; the bounded eigenvalue is kept. `None`: no bound.
    pub clamp_limit: Option<T>,
    /// Rebalance the scale of the factors by powers of two when they drift apart (exact; not together with a clamp).
    pub gauge: bool,
    /// What to do with a gradient that is not finite or too large.
    pub bad_gradient: BadGradient,
    /// Measure each update: its root mean square and its angle with the gradient, into the slice's header.
    pub measure: bool,
    /// Multiplies the learning rate given to a step; at least 0.
    pub lr_scale: T,
    /// Modes (of a piece, where dims are cut into blocks) longer than this are `Diagonal` unless a tensor says otherwise; 0: all are.
    pub max_dim: usize,
    /// Longer dims are cut into blocks of at most this length, with factors of their own; 0: none are.
    pub block_size: usize,
    /// Neighbouring dims are merged while their product is at most this; 0: none are. [`crate::Tensor`] says what was merged.
    pub merge_dims: usize,
    /// How Kronecker factors and eigenbases are kept between steps: as `f32`, or in 16 bits, which halves them. Arithmetic stays that of
    /// `f32`; momentum, eigenvalues and second moments are always kept so. Scratch stays as it is, and a refresh takes 11 d^3 operations more
    /// ([`Cost`](crate::Cost)). Of `f32` only.
    ///
    /// Rounding leaves of each direction of a basis a little in the others, in bf16 about 2^-9 and in binary16 2^-12. So a momentum or an
    /// update has that much of its largest elements in all others; and eigenvalues below 1e-6 (bf16) of the largest are not told from
    /// rounding, while binary16 goes as far as `f32` there, to 1e-8 (measured on 16 x 32). A slice's choices of rounding depend on its place in the
    /// table and its step.
    pub factor_format: Format,
}

/// What a slice keeps, and what a step needs room for, by method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parts {
    /// The momentum `M`, N.
    pub momentum: bool,
    /// The second moment `D`, N.
    pub second_moment: bool,
    /// The grafted method's second moment `v`, N.
    pub graft_moment: bool,
    /// Eigenvalues of preconditioned modes. A direction by second moments whose estimator takes no weights has no use for them.
    pub eigenvalues: bool,
    /// Scratch: the projected gradient is needed beside the momentum.
    pub(crate) keeps_gradient: bool,
    /// Scratch: F-Shampoo variant 1 forms its products in a buffer of their own.
    pub(crate) aside: bool,
    /// The native copy of a parameter of 16 bits, N: the tensor's choice, not the method's.
    pub master: bool,
    /// How factors and bases are kept; native where there are none.
    pub factor_format: Format,
    /// Scratch: the gradient of loss and penalty.
    pub(crate) penalised: bool,
    /// What a refresh in portions keeps from one step to the next: 2 d^2 + 3 d + 5 of the longest full mode, and
    /// d^2 more with factors in 16 bits.
    pub portions: bool,
}

impl Parts {
    /// The same with or without master weights.
    pub(crate) const fn with_master(self, master: bool) -> Self {
        Self { master, ..self }
    }
}

impl<T: Scalar> Config<T> {
    /// Checks every option's range and the combination of the axes.
    ///
    /// # Errors
    /// The first [`ConfigError`] found.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let at_least = |x: T, low: T| x.is_finite_bits() && x >= low;
        let beta = |b: T| at_least(b, T::ZERO) && b < T::ONE;
        let factors = self.estimator != Estimator::None;
        let second_moment = self.direction == Direction::SecondMoment;
        let independent = self.weight_decay_kind == WeightDecay::Independent;
        let checks = [
            (beta(self.beta1) && beta(self.beta2), ConfigError::Beta),
            (at_least(self.eps, T::ZERO), ConfigError::Eps),
            (at_least(self.weight_decay, T::ZERO) && !(independent && self.weight_decay > T::ONE), ConfigError::WeightDecay),
            (self.refresh_period > 0 && self.refresh_offset <= 1 && self.refresh_growth <= MAX_GROWTH, ConfigError::RefreshPeriod),
            (at_least(self.staleness, T::ZERO), ConfigError::Staleness),
            (self.refresh_portion == 0 || !factors || self.leaves_factors_alone(), ConfigError::RefreshPortion),
            (!matches!(self.lambda_init, LambdaInit::Constant(l) if !at_least(l, T::FLOOR)), ConfigError::LambdaInit),
            (self.clamp_limit.is_none_or(|c| at_least(c, T::ONE) && (self.parts().eigenvalues || !factors)), ConfigError::ClampLimit),
            (!matches!(self.direction, Direction::KroneckerPower(p) if !(at_least(p, T::FLOOR) && p <= T::ONE)), ConfigError::Power),
            (self.rms_cap.is_none_or(|c| at_least(c, T::FLOOR)), ConfigError::RmsCap),
            (at_least(self.lr_scale, T::ZERO), ConfigError::LrScale),
            (factors || second_moment || self.direction == Direction::Momentum, ConfigError::Combination),
            (!(factors && self.direction == Direction::Momentum), ConfigError::Combination),
            (self.estimate_order == EstimateOrder::Jacobi || self.estimator == Estimator::KullbackLeibler, ConfigError::EstimateOrder),
            (self.direction != Direction::TraceScaled || self.estimator == Estimator::Shampoo, ConfigError::TraceScaledEstimator),
            (self.graft == Graft::None || factors, ConfigError::GraftWithoutFactors),
            (self.damping == Damping::Denominator || (factors && !second_moment), ConfigError::FactorDamping),
            (
                !(self.estimator == Estimator::FrobeniusFactor
                    && self.factor_init == FactorInit::Zero
                    && self.first_step == FirstStep::Full),
                ConfigError::ZeroFactors,
            ),
            (self.bias_correction != BiasCorrection::StepSize || second_moment, ConfigError::StepSizeCorrection),
            (self.first_basis == FirstBasis::Gradient || (self.first_step == FirstStep::Full && !second_moment), ConfigError::FirstBasis),
            (self.factor_format == Format::Native || T::ELEMENT == f32::ELEMENT, ConfigError::FactorFormat),
            (!(self.gauge && self.clamp_limit.is_some()), ConfigError::ClampWithGauge),
            (!self.gauge || (self.estimator.gauge_invariant() && self.damping == Damping::Denominator), ConfigError::Gauge),
        ];
        match checks.into_iter().find(|(ok, _)| !ok) {
            Some((_, error)) => Err(error),
            None if !self.is_built() => Err(ConfigError::NotBuilt),
            None => Ok(()),
        }
    }

    /// Whether a factor is read for nothing but the next QR refresh.
    fn leaves_factors_alone(&self) -> bool {
        self.refresh != Refresh::Eigendecomposition
            && self.eigenvalues == Eigenvalues::Average
            && self.estimator != Estimator::FrobeniusFactor
            && self.direction != Direction::TraceScaled
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
            estimate_order: EstimateOrder::Jacobi,
            direction: Direction::SecondMoment,
            graft: Graft::None,
            step_order: StepOrder::EstimateFirst,
            first_step: FirstStep::Full,
            first_basis: FirstBasis::Gradient,
            damping: Damping::Denominator,
            weight_decay_kind: match self.weight_decay_kind {
                WeightDecay::After => WeightDecay::Before,
                kind => kind,
            },
            clamp_limit: None,
            gauge: false,
            bias_correction: BiasCorrection::Moments,
            ..*self
        }
    }

    /// What a slice keeps and what a step needs room for.
    pub const fn parts(&self) -> Parts {
        let factors = !matches!(self.estimator.built(), Estimator::None);
        let second_moment = matches!(self.direction.built(), Direction::SecondMoment);
        let nesterov = matches!(self.momentum, Momentum::Nesterov);
        Parts {
            momentum: !matches!(self.momentum, Momentum::None),
            second_moment,
            graft_moment: matches!(self.graft.built(), Graft::Adam | Graft::RmsProp | Graft::AdaGrad),
            eigenvalues: factors && !(second_moment && matches!(self.estimator.built(), Estimator::Shampoo | Estimator::OneSided)),
            keeps_gradient: second_moment || nesterov,
            aside: matches!(self.estimator.built(), Estimator::FrobeniusFactor),
            master: false,
            factor_format: if factors { self.factor_format } else { Format::Native },
            penalised: matches!(self.weight_decay_kind, WeightDecay::L2),
            portions: built::PORTIONS && factors && self.refresh_portion > 0,
        }
    }

    /// Lower bound of the eigenvalues of a tensor with so many preconditioned modes: 2^-63 for matrices.
    pub fn lowest_eigenvalue(&self, modes: usize) -> T {
        crate::eigenvalues::floor(self.estimator, modes)
    }

    /// The bound on `lambda` from below that the clamp on `lambda^{-1/2}` amounts to, for a mode of length `dim`; 0 without a clamp.
    pub fn lambda_clamp(&self, dim: usize) -> T {
        match self.clamp_limit {
            None => T::ZERO,
            Some(limit) => {
                let bound = T::from_usize(10).max(T::from_usize(dim).min(limit));
                T::ONE / (bound * bound)
            }
        }
    }

    /// Whether the step that sets the basis leaves the parameter alone: in the SOAP family it diagonalises the very gradient that
    /// would be divided, so that away from the diagonal rounding noise would be divided by rounding noise.
    pub(crate) const fn rests_in_first_step(&self) -> bool {
        matches!(self.direction.built(), Direction::SecondMoment)
    }

    /// The period in force `t` steps after it began to grow.
    const fn grown_period(&self, t: u64) -> u64 {
        let (period, growth) = (self.refresh_period as u64, self.refresh_growth as u64);
        let passed = if t < growth { t } else { growth };
        1 + (period - 1) * passed / growth
    }

    /// Whether a refresh is due in step `t` when all before it have been made.
    pub(crate) fn refresh_due_in(&self, t: u64, phase: u64) -> bool {
        if self.refresh_growth == 0 {
            return self.refresh_due(t, 0, phase);
        }
        // While the period grows it depends on all before; from the first refresh after that on it repeats.
        let grown = u64::from(self.refresh_offset) + u64::from(self.refresh_growth);
        let mut last = 0;
        for earlier in 1..t {
            if self.refresh_due(earlier, last, 0) {
                last = earlier;
                if last >= grown {
                    return (t - last).is_multiple_of(u64::from(self.refresh_period));
                }
            }
        }
        self.refresh_due(t, last, 0)
    }

    /// Whether step `t` (1-based) ends a refresh period that began after step `last`, of a slice that is `phase` steps ahead.
    pub const fn refresh_due(&self, t: u64, last: u64, phase: u64) -> bool {
        let offset = self.refresh_offset as u64;
        if t <= offset {
            return false;
        }
        if self.refresh_growth == 0 {
            let period = self.refresh_period as u64;
            return ((t - offset) % period + phase).is_multiple_of(period);
        }
        let last = if last < offset { offset } else { last };
        t - last >= self.grown_period(t - offset)
    }
}
