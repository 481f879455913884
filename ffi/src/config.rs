//! `kls_config`: a group's method and hyper-parameters as C sees them.

use klshampoo::{
    BadGradient, BiasCorrection, Config, Damping, Direction, Eigenvalues, EstimateOrder, Estimator, FactorInit, FirstBasis, FirstStep,
    Format, Graft, LambdaInit, Momentum, Refresh, StepOrder, WeightDecay,
};

use crate::config_v0_1::ConfigV01;
use crate::error::{Failure, Locate};
use crate::status::*;
use crate::tensor::{KLS_FORMAT_BF16, KLS_FORMAT_F16, KLS_FORMAT_F32};
use crate::versioned::{FromC, Versioned, extend, write_start};

/// No Kronecker factors: an elementwise method.
pub const KLS_ESTIMATOR_NONE: i32 = 0;
/// KL-Shampoo's factors.
pub const KLS_ESTIMATOR_KL: i32 = 1;
/// One-sided: a tensor has one preconditioned dim.
pub const KLS_ESTIMATOR_ONE_SIDED: i32 = 2;
/// Shampoo's factors.
pub const KLS_ESTIMATOR_SHAMPOO: i32 = 3;
/// VN-Shampoo's factors, variant 2 (variant 1 has Shampoo's).
pub const KLS_ESTIMATOR_VON_NEUMANN: i32 = 4;
/// F-Shampoo's factors, variant 2.
pub const KLS_ESTIMATOR_FROBENIUS: i32 = 5;
/// F-Shampoo's factors, variant 1.
pub const KLS_ESTIMATOR_FROBENIUS_FACTOR: i32 = 6;

/// All estimates of a step from the eigenvalues of before it.
pub const KLS_ESTIMATE_JACOBI: i32 = 0;
/// The mixed order of the published code for tensors of three dims. KL estimator only.
pub const KLS_ESTIMATE_REFERENCE_KL: i32 = 1;

/// Eigenvalues are moving averages of their own.
pub const KLS_EIGENVALUES_AVERAGE: i32 = 0;
/// They are the factor's diagonal in the eigenbasis, every step, in the basis of before the refresh.
pub const KLS_EIGENVALUES_INSTANTANEOUS: i32 = 1;
/// The same, taken again in the new basis after a refresh.
pub const KLS_EIGENVALUES_INSTANTANEOUS_AFTER_REFRESH: i32 = 2;
/// They are set in the first step and by each refresh, and fixed in between.
pub const KLS_EIGENVALUES_AT_REFRESH: i32 = 3;

/// A refresh is one QR step, from Cholesky factors, and by Householder reflections where those break down.
pub const KLS_REFRESH_QR: i32 = 0;
/// A refresh is an eigendecomposition.
pub const KLS_REFRESH_EIGENDECOMPOSITION: i32 = 1;
/// A refresh is one QR step by Householder reflections: slower, and as accurate for every factor.
pub const KLS_REFRESH_HOUSEHOLDER_QR: i32 = 2;

/// The numerator over the product of the eigenvalues to the power `power`.
pub const KLS_DIRECTION_KRONECKER_POWER: i32 = 0;
/// The numerator over the root of a second moment per element: in the eigenbasis (SOAP), without factors Adam.
pub const KLS_DIRECTION_SECOND_MOMENT: i32 = 1;
/// The product of the eigenvalues to the power 1/(2K) for K preconditioned dims.
pub const KLS_DIRECTION_SHAMPOO_ROOT: i32 = 2;
/// VN-Shampoo variant 1: the root of the eigenvalues' product, scaled by the factors' traces.
pub const KLS_DIRECTION_TRACE_SCALED: i32 = 3;
/// The numerator itself: SGD.
pub const KLS_DIRECTION_MOMENTUM: i32 = 4;

/// The direction has its own length.
pub const KLS_GRAFT_NONE: i32 = 0;
/// The length of Adam's direction.
pub const KLS_GRAFT_ADAM: i32 = 1;
/// The length of the gradient.
pub const KLS_GRAFT_SGD: i32 = 2;
/// The length of RMSProp's direction.
pub const KLS_GRAFT_RMSPROP: i32 = 3;
/// The length of AdaGrad's direction.
pub const KLS_GRAFT_ADAGRAD: i32 = 4;

/// The direction sees this step's estimate and refresh.
pub const KLS_ORDER_ESTIMATE_FIRST: i32 = 0;
/// The direction sees what the previous step left.
pub const KLS_ORDER_APPLY_FIRST: i32 = 1;

/// The first non-zero gradient sets the bases and is then stepped with.
pub const KLS_FIRST_STEP_FULL: i32 = 0;
/// The first non-zero gradient sets bases and factors and leaves the parameters alone.
pub const KLS_FIRST_STEP_FACTORS_ONLY: i32 = 1;

/// The first bases are eigenvectors of the first non-zero gradient's factors.
pub const KLS_FIRST_BASIS_GRADIENT: i32 = 0;
/// The first bases are the identity, and nothing is preconditioned before the first refresh.
pub const KLS_FIRST_BASIS_IDENTITY: i32 = 1;

/// Factors start at zero.
pub const KLS_FACTOR_ZERO: i32 = 0;
/// Factors start at the first eigenvalue times the identity.
pub const KLS_FACTOR_LAMBDA: i32 = 1;

/// The first eigenvalue is `lambda_0`.
pub const KLS_LAMBDA_CONSTANT: i32 = 0;
/// The first eigenvalue is taken from the first non-zero gradient's mean square.
pub const KLS_LAMBDA_SCALE_FREE: i32 = 1;

/// The numerator is the average M of the gradients.
pub const KLS_MOMENTUM_AVERAGE: i32 = 0;
/// The numerator is beta1 M + (1 - beta1) G (Nesterov).
pub const KLS_MOMENTUM_NESTEROV: i32 = 1;
/// The numerator is the gradient; no average is kept.
pub const KLS_MOMENTUM_NONE: i32 = 2;

/// Averages are used as they are.
pub const KLS_BIAS_CORRECTION_NONE: i32 = 0;
/// The direction is multiplied by sqrt(1 - beta2^t) / (1 - beta1^t). Directions by second moments only.
pub const KLS_BIAS_CORRECTION_STEP_SIZE: i32 = 1;
/// Averages that start at zero are divided by 1 - beta^t when they are used.
pub const KLS_BIAS_CORRECTION_MOMENTS: i32 = 2;

/// `eps` is added to the whole denominator.
pub const KLS_DAMPING_DENOMINATOR: i32 = 0;
/// `eps` is added to each eigenvalue. Kronecker directions only.
pub const KLS_DAMPING_FACTOR: i32 = 1;

/// theta <- theta (1 - lr wd), then the update.
pub const KLS_WEIGHT_DECAY_BEFORE: i32 = 0;
/// The update, then theta <- theta (1 - lr wd).
pub const KLS_WEIGHT_DECAY_AFTER: i32 = 1;
/// G + wd theta is the gradient of everything.
pub const KLS_WEIGHT_DECAY_L2: i32 = 2;
/// theta <- theta (1 - wd), then the update.
pub const KLS_WEIGHT_DECAY_INDEPENDENT: i32 = 3;

/// A gradient that is not finite or too large fails the whole call; nothing is written.
pub const KLS_BAD_GRADIENT_ERROR: i32 = 0;
/// A slice with such a gradient is left alone and counted; the others are stepped.
pub const KLS_BAD_GRADIENT_SKIP: i32 = 1;

/// A group's method and hyper-parameters. Fill it with kls_config_init, then change what you want.
#[allow(non_camel_case_types)]
#[derive(Clone, Copy)]
#[repr(C)]
pub struct kls_config {
    /// sizeof(kls_config), set by kls_config_init.
    pub struct_size: u32,
    /// KLS_ESTIMATOR_*: what the Kronecker factors estimate.
    pub estimator: i32,
    /// Dims longer than this get a diagonal factor instead of a full one; 0: all do. Default 8192.
    pub max_dim: u64,
    /// Longer dims are cut into blocks of at most this length, with factors of their own; 0 (the default): none are.
    pub block_size: u64,
    /// Neighbouring dims are merged while their product is at most this; 0 (the default): none are.
    pub merge_dims: u64,
    /// KLS_ESTIMATE_*: how the dims of a tensor of three see each other's eigenvalues.
    pub estimate_order: i32,
    /// KLS_EIGENVALUES_*: where the eigenvalues come from.
    pub eigenvalues: i32,
    /// KLS_REFRESH_*: how a refresh turns the eigenbases.
    pub refresh: i32,
    /// Non-zero: order the eigenbases by descending diagonal of the factor before each QR. An eigendecomposition always does.
    pub sort: i32,
    /// T, steps between refreshes of the eigenbases, at least 1. Default 10.
    pub refresh_period: u32,
    /// A refresh is due after step t when t > offset and (t - offset) mod T = 0. 0 or 1.
    pub refresh_offset: u32,
    /// Non-zero: spread the refreshes of a table's slices over the T steps by their predicted cost. Not with refresh_growth.
    pub stagger: i32,
    /// The period grows linearly from 1 to T over this many steps, at most 2^20; 0: it is T from the start.
    pub refresh_growth: u32,
    /// Refreshes that are due are skipped for bases whose staleness, the mean of S_ij^2 / (S_ii S_jj) over the factor in the
    /// eigenbasis, is not above this; 0: none is skipped.
    pub staleness: f32,
    /// KLS_DIRECTION_*: what the numerator is divided by.
    pub direction: i32,
    /// The power of the eigenvalues with KLS_DIRECTION_KRONECKER_POWER, in (0, 1].
    pub power: f32,
    /// KLS_GRAFT_*: whose length the direction takes.
    pub graft: i32,
    /// Scales down directions whose root mean square is larger; 0: no cap.
    pub rms_cap: f32,
    /// KLS_ORDER_*: which eigenvalues and bases the direction sees.
    pub step_order: i32,
    /// KLS_FIRST_STEP_*: what the first non-zero gradient does.
    pub first_step: i32,
    /// KLS_FIRST_BASIS_*: the eigenbases after it.
    pub first_basis: i32,
    /// KLS_FACTOR_*: the factors before the first estimate.
    pub factor_init: i32,
    /// KLS_LAMBDA_*: how the first eigenvalue is chosen.
    pub lambda_init: i32,
    /// The first eigenvalue with KLS_LAMBDA_CONSTANT, at least 2^-63 (raised to the floor of tensors with more than two dims).
    pub lambda_0: f32,
    /// KLS_MOMENTUM_*: the numerator of the direction.
    pub momentum: i32,
    /// Decay of the momentum, in [0, 1).
    pub beta1: f32,
    /// Decay of factors, eigenvalues and second moments, in [0, 1).
    pub beta2: f32,
    /// KLS_BIAS_CORRECTION_*: what is done about averages that start at zero.
    pub bias_correction: i32,
    /// Damping, at least 0.
    pub eps: f32,
    /// KLS_DAMPING_*: where eps is added.
    pub damping: i32,
    /// Weight decay, at least 0; per unit of learning rate unless independent of it (then at most 1).
    pub weight_decay: f32,
    /// KLS_WEIGHT_DECAY_*: how weight decay acts.
    pub weight_decay_kind: i32,
    /// Bounds lambda_k^(-1/2) by max(10, min(d_k, clamp_limit)); 0: no bound.
    pub clamp_limit: f32,
    /// Non-zero: rebalance the scale of the factors by exact powers of two when they drift apart. Not with a clamp, nor for factors
    /// whose scale matters (KLS_ESTIMATOR_SHAMPOO, KLS_ESTIMATOR_ONE_SIDED, KLS_DAMPING_FACTOR).
    pub gauge: i32,
    /// KLS_BAD_GRADIENT_*: what to do with a gradient that is not finite or too large.
    pub bad_gradient: i32,
    /// Non-zero: measure each update's root mean square and angle with the gradient, for kls_optimizer_counters. Default 0.
    pub measure: i32,
    /// Multiplies the learning rate given to a step; at least 0. Default 1.
    pub lr_scale: f32,
    /// For loops with a deadline: floating-point operations of a refresh that a step of a slice (or piece of one) spends at most. The
    /// refresh is then made in portions over many steps, by Householder reflections, and takes 2 d^2 + 3 d + 5 elements of state more, d
    /// the longest full dim, and d^2 more with factors in 16 bits. kls_optimizer_plan says what a step then takes at most, and how many
    /// steps a refresh does. 0 (the default): a refresh is made in one step. For QR refreshes with KLS_EIGENVALUES_AVERAGE, but not with
    /// KLS_ESTIMATOR_FROBENIUS_FACTOR or KLS_DIRECTION_TRACE_SCALED.
    pub refresh_portion: u32,
    /// KLS_FORMAT_*: how Kronecker factors and eigenbases are kept between steps. In 16 bits they take half the memory and a step has the
    /// same scratch; arithmetic stays that of f32, as do momentum, eigenvalues and second moments. Default KLS_FORMAT_F32.
    pub factor_format: i32,
}

macro_rules! pairs {
    ($to_c:ident, $from_c:ident, $t:ty, $($constant:ident = $value:path),*) => {
        const fn $to_c(value: $t) -> i32 {
            match value {
                $($value => $constant,)*
            }
        }

        // The function has the field's name.
        fn $from_c(value: i32) -> Result<$t, Failure> {
            match value {
                $($constant => Ok($value),)*
                _ => Err(KLS_ERROR_UNKNOWN_VALUE).of_field(stringify!($from_c)),
            }
        }
    };
}

pairs!(
    estimator_to_c,
    estimator,
    Estimator,
    KLS_ESTIMATOR_NONE = Estimator::None,
    KLS_ESTIMATOR_KL = Estimator::KullbackLeibler,
    KLS_ESTIMATOR_ONE_SIDED = Estimator::OneSided,
    KLS_ESTIMATOR_SHAMPOO = Estimator::Shampoo,
    KLS_ESTIMATOR_VON_NEUMANN = Estimator::VonNeumann,
    KLS_ESTIMATOR_FROBENIUS = Estimator::Frobenius,
    KLS_ESTIMATOR_FROBENIUS_FACTOR = Estimator::FrobeniusFactor
);
pairs!(
    estimate_order_to_c,
    estimate_order,
    EstimateOrder,
    KLS_ESTIMATE_JACOBI = EstimateOrder::Jacobi,
    KLS_ESTIMATE_REFERENCE_KL = EstimateOrder::ReferenceKl
);
pairs!(
    eigenvalues_to_c,
    eigenvalues,
    Eigenvalues,
    KLS_EIGENVALUES_AVERAGE = Eigenvalues::Average,
    KLS_EIGENVALUES_INSTANTANEOUS = Eigenvalues::Instantaneous,
    KLS_EIGENVALUES_INSTANTANEOUS_AFTER_REFRESH = Eigenvalues::InstantaneousAfterRefresh,
    KLS_EIGENVALUES_AT_REFRESH = Eigenvalues::AtRefresh
);
pairs!(
    refresh_to_c,
    refresh,
    Refresh,
    KLS_REFRESH_QR = Refresh::Qr,
    KLS_REFRESH_EIGENDECOMPOSITION = Refresh::Eigendecomposition,
    KLS_REFRESH_HOUSEHOLDER_QR = Refresh::HouseholderQr
);
pairs!(
    graft_to_c,
    graft,
    Graft,
    KLS_GRAFT_NONE = Graft::None,
    KLS_GRAFT_ADAM = Graft::Adam,
    KLS_GRAFT_SGD = Graft::Sgd,
    KLS_GRAFT_RMSPROP = Graft::RmsProp,
    KLS_GRAFT_ADAGRAD = Graft::AdaGrad
);
pairs!(
    step_order_to_c,
    step_order,
    StepOrder,
    KLS_ORDER_ESTIMATE_FIRST = StepOrder::EstimateFirst,
    KLS_ORDER_APPLY_FIRST = StepOrder::ApplyFirst
);
pairs!(first_step_to_c, first_step, FirstStep, KLS_FIRST_STEP_FULL = FirstStep::Full, KLS_FIRST_STEP_FACTORS_ONLY = FirstStep::FactorsOnly);
pairs!(
    first_basis_to_c,
    first_basis,
    FirstBasis,
    KLS_FIRST_BASIS_GRADIENT = FirstBasis::Gradient,
    KLS_FIRST_BASIS_IDENTITY = FirstBasis::Identity
);
pairs!(factor_init_to_c, factor_init, FactorInit, KLS_FACTOR_ZERO = FactorInit::Zero, KLS_FACTOR_LAMBDA = FactorInit::Lambda);
pairs!(
    momentum_to_c,
    momentum,
    Momentum,
    KLS_MOMENTUM_AVERAGE = Momentum::Average,
    KLS_MOMENTUM_NESTEROV = Momentum::Nesterov,
    KLS_MOMENTUM_NONE = Momentum::None
);
pairs!(
    bias_correction_to_c,
    bias_correction,
    BiasCorrection,
    KLS_BIAS_CORRECTION_NONE = BiasCorrection::None,
    KLS_BIAS_CORRECTION_STEP_SIZE = BiasCorrection::StepSize,
    KLS_BIAS_CORRECTION_MOMENTS = BiasCorrection::Moments
);
pairs!(damping_to_c, damping, Damping, KLS_DAMPING_DENOMINATOR = Damping::Denominator, KLS_DAMPING_FACTOR = Damping::Factor);
pairs!(
    weight_decay_kind_to_c,
    weight_decay_kind,
    WeightDecay,
    KLS_WEIGHT_DECAY_BEFORE = WeightDecay::Before,
    KLS_WEIGHT_DECAY_AFTER = WeightDecay::After,
    KLS_WEIGHT_DECAY_L2 = WeightDecay::L2,
    KLS_WEIGHT_DECAY_INDEPENDENT = WeightDecay::Independent
);
pairs!(
    bad_gradient_to_c,
    bad_gradient,
    BadGradient,
    KLS_BAD_GRADIENT_ERROR = BadGradient::Error,
    KLS_BAD_GRADIENT_SKIP = BadGradient::Skip
);

pairs!(
    factor_format_to_c,
    factor_format,
    Format,
    KLS_FORMAT_F32 = Format::Native,
    KLS_FORMAT_BF16 = Format::Bf16,
    KLS_FORMAT_F16 = Format::F16
);

// The first header's struct is another one, which is converted; from the second on, versions are starts of the next, and the second one ended
// before the portions of a refresh. A library without a host is linked into the program that was compiled with its header, and knows no other.
impl Versioned for kls_config {
    const SIZES: &'static [usize] = if cfg!(feature = "host") {
        &[size_of::<ConfigV01>(), core::mem::offset_of!(Self, refresh_portion), size_of::<Self>()]
    } else {
        &[size_of::<Self>()]
    };

    unsafe fn write(self, to: *mut u8, size: usize) {
        // SAFETY: the size tells which struct is there; all are aligned as the caller's pointer is.
        unsafe {
            if cfg!(feature = "host") && size == size_of::<ConfigV01>() {
                to.cast::<ConfigV01>().write(ConfigV01::from_current(&self));
            } else {
                write_start(&self, to, size);
            }
        }
    }
}

impl FromC for kls_config {
    unsafe fn read(from: *const u8, size: usize) -> Result<Self, kls_status> {
        // SAFETY: as above; what comes after the fields of the second header is 0 where it is not there.
        unsafe {
            if cfg!(not(feature = "host")) {
                Ok(from.cast::<Self>().read())
            } else if size == size_of::<ConfigV01>() {
                from.cast::<ConfigV01>().read().to_current()
            } else {
                Ok(extend(Self::from_core(&Config::<f32>::kl_shampoo()), from, size))
            }
        }
    }
}

impl kls_config {
    pub(crate) fn from_core(config: &Config<f32>) -> Self {
        let (lambda_init, lambda_0) = match config.lambda_init {
            LambdaInit::Constant(lambda) => (KLS_LAMBDA_CONSTANT, lambda),
            // The paper's value, for callers that only switch the rule.
            LambdaInit::ScaleFree => (KLS_LAMBDA_SCALE_FREE, 0.1),
        };
        // The power of the methods that have one of their own, likewise.
        let (direction, power) = match config.direction {
            Direction::KroneckerPower(power) => (KLS_DIRECTION_KRONECKER_POWER, power),
            Direction::SecondMoment => (KLS_DIRECTION_SECOND_MOMENT, 0.5),
            Direction::ShampooRoot => (KLS_DIRECTION_SHAMPOO_ROOT, 0.5),
            Direction::TraceScaled => (KLS_DIRECTION_TRACE_SCALED, 0.5),
            Direction::Momentum => (KLS_DIRECTION_MOMENTUM, 0.5),
        };
        Self {
            struct_size: size_of::<Self>() as u32,
            estimator: estimator_to_c(config.estimator),
            max_dim: config.max_dim as u64,
            block_size: config.block_size as u64,
            merge_dims: config.merge_dims as u64,
            estimate_order: estimate_order_to_c(config.estimate_order),
            eigenvalues: eigenvalues_to_c(config.eigenvalues),
            refresh: refresh_to_c(config.refresh),
            sort: i32::from(config.sort),
            refresh_period: config.refresh_period,
            refresh_offset: config.refresh_offset,
            stagger: i32::from(config.stagger),
            refresh_growth: config.refresh_growth,
            staleness: config.staleness,
            direction,
            power,
            graft: graft_to_c(config.graft),
            rms_cap: config.rms_cap.unwrap_or(0.0),
            step_order: step_order_to_c(config.step_order),
            first_step: first_step_to_c(config.first_step),
            first_basis: first_basis_to_c(config.first_basis),
            factor_init: factor_init_to_c(config.factor_init),
            lambda_init,
            lambda_0,
            momentum: momentum_to_c(config.momentum),
            beta1: config.beta1,
            beta2: config.beta2,
            bias_correction: bias_correction_to_c(config.bias_correction),
            eps: config.eps,
            damping: damping_to_c(config.damping),
            weight_decay: config.weight_decay,
            weight_decay_kind: weight_decay_kind_to_c(config.weight_decay_kind),
            clamp_limit: config.clamp_limit.unwrap_or(0.0),
            gauge: i32::from(config.gauge),
            bad_gradient: bad_gradient_to_c(config.bad_gradient),
            measure: i32::from(config.measure),
            lr_scale: config.lr_scale,
            refresh_portion: config.refresh_portion,
            factor_format: factor_format_to_c(config.factor_format),
        }
    }

    /// The core's configuration, validated.
    ///
    /// # Errors
    /// The status of the first field that is refused, with its name where that is not clear.
    pub fn to_core(self) -> Result<Config<f32>, Failure> {
        // Any number but a plain zero is a bound, NaN included: the core refuses what is none.
        let bound = |x: f32| if x.to_bits() << 1 == 0 { None } else { Some(x) };
        let length = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        let config = Config {
            estimator: estimator(self.estimator)?,
            estimate_order: estimate_order(self.estimate_order)?,
            eigenvalues: eigenvalues(self.eigenvalues)?,
            refresh: refresh(self.refresh)?,
            sort: self.sort != 0,
            refresh_period: self.refresh_period,
            refresh_offset: self.refresh_offset,
            stagger: self.stagger != 0,
            refresh_growth: self.refresh_growth,
            staleness: self.staleness,
            refresh_portion: self.refresh_portion,
            direction: match self.direction {
                KLS_DIRECTION_KRONECKER_POWER => Direction::KroneckerPower(self.power),
                KLS_DIRECTION_SECOND_MOMENT => Direction::SecondMoment,
                KLS_DIRECTION_SHAMPOO_ROOT => Direction::ShampooRoot,
                KLS_DIRECTION_TRACE_SCALED => Direction::TraceScaled,
                KLS_DIRECTION_MOMENTUM => Direction::Momentum,
                _ => return Err(KLS_ERROR_UNKNOWN_VALUE).of_field("direction"),
            },
            graft: graft(self.graft)?,
            rms_cap: bound(self.rms_cap),
            step_order: step_order(self.step_order)?,
            first_step: first_step(self.first_step)?,
            first_basis: first_basis(self.first_basis)?,
            factor_init: factor_init(self.factor_init)?,
            lambda_init: match self.lambda_init {
                KLS_LAMBDA_CONSTANT => LambdaInit::Constant(self.lambda_0),
                KLS_LAMBDA_SCALE_FREE => LambdaInit::ScaleFree,
                _ => return Err(KLS_ERROR_UNKNOWN_VALUE).of_field("lambda_init"),
            },
            momentum: momentum(self.momentum)?,
            beta1: self.beta1,
            beta2: self.beta2,
            bias_correction: bias_correction(self.bias_correction)?,
            eps: self.eps,
            damping: damping(self.damping)?,
            weight_decay: self.weight_decay,
            weight_decay_kind: weight_decay_kind(self.weight_decay_kind)?,
            clamp_limit: bound(self.clamp_limit),
            gauge: self.gauge != 0,
            bad_gradient: bad_gradient(self.bad_gradient)?,
            measure: self.measure != 0,
            lr_scale: self.lr_scale,
            max_dim: length(self.max_dim),
            block_size: length(self.block_size),
            merge_dims: length(self.merge_dims),
            factor_format: factor_format(self.factor_format)?,
        };
        config.validate().map_err(from_config)?;
        Ok(config)
    }
}
