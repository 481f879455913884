//! `kls_config`: a group's method and hyper-parameters as C sees them.

use klshampoo::{BadGradient, Config, Direction, Estimator, FirstStep, LambdaInit, StepOrder, WeightDecay};

use crate::checked::{check_struct_size, write_struct};
use crate::status::*;

/// KL-Shampoo (paper "Understanding and Improving Shampoo and SOAP via Kullback-Leibler Minimization", Fig. 13 and Claims 2 to 4).
pub const KLS_METHOD_KL_SHAMPOO: i32 = 0;
/// AdamW, with decoupled weight decay and bias correction.
pub const KLS_METHOD_ADAMW: i32 = 1;

/// The paper's order of operations (Fig. 13): estimate, refresh, apply. The default.
pub const KLS_CONVENTION_FIGURE13: i32 = 0;
/// The order of the authors' published code: apply, estimate, refresh; the first call only sets factors and bases.
pub const KLS_CONVENTION_REFERENCE_KL: i32 = 1;

/// No Kronecker factors: an elementwise method.
pub const KLS_ESTIMATOR_NONE: i32 = 0;
/// KL-Shampoo's factors.
pub const KLS_ESTIMATOR_KL: i32 = 1;

/// The momentum over the root of the eigenvalues' product.
pub const KLS_DIRECTION_KRONECKER_ROOT: i32 = 0;
/// The momentum over the root of a second moment per element (Adam).
pub const KLS_DIRECTION_SECOND_MOMENT: i32 = 1;

/// The direction sees this step's estimate and refresh.
pub const KLS_ORDER_ESTIMATE_FIRST: i32 = 0;
/// The direction sees what the previous step left.
pub const KLS_ORDER_APPLY_FIRST: i32 = 1;

/// The first non-zero gradient sets the bases and is then stepped with.
pub const KLS_FIRST_STEP_FULL: i32 = 0;
/// The first non-zero gradient sets bases and factors and leaves the parameters alone.
pub const KLS_FIRST_STEP_FACTORS_ONLY: i32 = 1;

/// The first eigenvalue is `lambda_0`.
pub const KLS_LAMBDA_CONSTANT: i32 = 0;
/// The first eigenvalue is taken from the first non-zero gradient's mean square.
pub const KLS_LAMBDA_SCALE_FREE: i32 = 1;

/// theta <- theta (1 - lr wd), then the update.
pub const KLS_WEIGHT_DECAY_BEFORE: i32 = 0;
/// The update, then theta <- theta (1 - lr wd).
pub const KLS_WEIGHT_DECAY_AFTER: i32 = 1;

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
    /// Dims longer than this get a diagonal factor instead of a full one. Default 8192.
    pub max_dim: u64,
    /// KLS_DIRECTION_*: how the momentum becomes a direction.
    pub direction: i32,
    /// KLS_ORDER_*: which eigenvalues and bases the direction sees.
    pub step_order: i32,
    /// KLS_FIRST_STEP_*: what the first non-zero gradient does.
    pub first_step: i32,
    /// T, steps between refreshes of the eigenbases, at least 1. Default 10.
    pub refresh_period: u32,
    /// A refresh ends step t when t > offset and (t - offset) mod T = 0. 0 or 1.
    pub refresh_offset: u32,
    /// KLS_LAMBDA_*: how the first eigenvalue is chosen.
    pub lambda_init: i32,
    /// The first eigenvalue with KLS_LAMBDA_CONSTANT, at least 2^-63 (raised to the floor of tensors with more than two dims).
    pub lambda_0: f32,
    /// Decay of the momentum, in [0, 1).
    pub beta1: f32,
    /// Decay of factors, eigenvalues and second moments, in [0, 1).
    pub beta2: f32,
    /// Damping, at least 0: added to the root that the momentum is divided by.
    pub eps: f32,
    /// Decoupled weight decay per unit of learning rate, at least 0.
    pub weight_decay: f32,
    /// KLS_WEIGHT_DECAY_*: when weight decay acts.
    pub weight_decay_kind: i32,
    /// Bounds lambda_k^(-1/2) by max(10, min(d_k, clamp_limit)); 0: no bound.
    pub clamp_limit: f32,
    /// Non-zero: rebalance the scale of the factors by exact powers of two when they drift apart. Not with a clamp.
    pub gauge: i32,
    /// Non-zero: divide the moments by 1 - beta^t when they are used.
    pub bias_correction: i32,
    /// KLS_BAD_GRADIENT_*: what to do with a gradient that is not finite or too large.
    pub bad_gradient: i32,
    /// Multiplies the learning rate given to a step; at least 0. Default 1.
    pub lr_scale: f32,
    /// Must be 0.
    pub reserved: u32,
}

macro_rules! pairs {
    ($to_c:ident, $from_c:ident, $t:ty, $($constant:ident = $value:path),*) => {
        const fn $to_c(value: $t) -> i32 {
            match value {
                $($value => $constant,)*
            }
        }

        const fn $from_c(value: i32) -> Result<$t, kls_status> {
            match value {
                $($constant => Ok($value),)*
                _ => Err(KLS_ERROR_UNKNOWN_VALUE),
            }
        }
    };
}

pairs!(estimator_to_c, estimator, Estimator, KLS_ESTIMATOR_NONE = Estimator::None, KLS_ESTIMATOR_KL = Estimator::KullbackLeibler);
pairs!(
    direction_to_c,
    direction,
    Direction,
    KLS_DIRECTION_KRONECKER_ROOT = Direction::KroneckerRoot,
    KLS_DIRECTION_SECOND_MOMENT = Direction::SecondMoment
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
    weight_decay_to_c,
    weight_decay,
    WeightDecay,
    KLS_WEIGHT_DECAY_BEFORE = WeightDecay::Before,
    KLS_WEIGHT_DECAY_AFTER = WeightDecay::After
);
pairs!(
    bad_gradient_to_c,
    bad_gradient,
    BadGradient,
    KLS_BAD_GRADIENT_ERROR = BadGradient::Error,
    KLS_BAD_GRADIENT_SKIP = BadGradient::Skip
);

impl kls_config {
    fn from_core(config: &Config<f32>) -> Self {
        let (lambda_init, lambda_0) = match config.lambda_init {
            LambdaInit::Constant(lambda) => (KLS_LAMBDA_CONSTANT, lambda),
            // The paper's value, for callers that only switch the rule.
            LambdaInit::ScaleFree => (KLS_LAMBDA_SCALE_FREE, 0.1),
        };
        Self {
            struct_size: size_of::<Self>() as u32,
            estimator: estimator_to_c(config.estimator),
            max_dim: config.max_dim as u64,
            direction: direction_to_c(config.direction),
            step_order: step_order_to_c(config.step_order),
            first_step: first_step_to_c(config.first_step),
            refresh_period: config.refresh_period,
            refresh_offset: config.refresh_offset,
            lambda_init,
            lambda_0,
            beta1: config.beta1,
            beta2: config.beta2,
            eps: config.eps,
            weight_decay: config.weight_decay,
            weight_decay_kind: weight_decay_to_c(config.weight_decay_kind),
            clamp_limit: config.clamp_limit.unwrap_or(0.0),
            gauge: i32::from(config.gauge),
            bias_correction: i32::from(config.bias_correction),
            bad_gradient: bad_gradient_to_c(config.bad_gradient),
            lr_scale: config.lr_scale,
            reserved: 0,
        }
    }

    /// The core's configuration, validated.
    pub(crate) fn to_core(self) -> Result<Config<f32>, kls_status> {
        check_struct_size::<Self>(self.struct_size as usize)?;
        if self.reserved != 0 {
            return Err(KLS_ERROR_RESERVED);
        }
        let config = Config {
            estimator: estimator(self.estimator)?,
            direction: direction(self.direction)?,
            step_order: step_order(self.step_order)?,
            first_step: first_step(self.first_step)?,
            refresh_period: self.refresh_period,
            refresh_offset: self.refresh_offset,
            lambda_init: match self.lambda_init {
                KLS_LAMBDA_CONSTANT => LambdaInit::Constant(self.lambda_0),
                KLS_LAMBDA_SCALE_FREE => LambdaInit::ScaleFree,
                _ => return Err(KLS_ERROR_UNKNOWN_VALUE),
            },
            beta1: self.beta1,
            beta2: self.beta2,
            eps: self.eps,
            weight_decay: self.weight_decay,
            weight_decay_kind: weight_decay(self.weight_decay_kind)?,
            // Any number but a plain zero is a limit, NaN included: the core refuses what is none.
            clamp_limit: if self.clamp_limit.to_bits() << 1 == 0 { None } else { Some(self.clamp_limit) },
            gauge: self.gauge != 0,
            bias_correction: self.bias_correction != 0,
            bad_gradient: bad_gradient(self.bad_gradient)?,
            lr_scale: self.lr_scale,
            max_dim: usize::try_from(self.max_dim).unwrap_or(usize::MAX),
        };
        config.validate().map_err(from_config)?;
        Ok(config)
    }
}

/// Fills `config` with a method's defaults. `struct_size` is sizeof(kls_config). The convention matters to KL-Shampoo only.
///
/// Errors: KLS_ERROR_NULL, KLS_ERROR_MISALIGNED, KLS_ERROR_STRUCT_SIZE, KLS_ERROR_UNKNOWN_VALUE; `config` is then untouched.
///
/// # Safety
/// `config` points to `struct_size` writable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kls_config_init(config: *mut kls_config, struct_size: usize, method: i32, convention: i32) -> kls_status {
    let preset = match (method, convention) {
        (KLS_METHOD_KL_SHAMPOO, KLS_CONVENTION_FIGURE13) => Config::<f32>::kl_shampoo(),
        (KLS_METHOD_KL_SHAMPOO, KLS_CONVENTION_REFERENCE_KL) => Config::<f32>::kl_shampoo_reference(),
        (KLS_METHOD_ADAMW, KLS_CONVENTION_FIGURE13 | KLS_CONVENTION_REFERENCE_KL) => Config::<f32>::adamw(),
        _ => return KLS_ERROR_UNKNOWN_VALUE,
    };
    // SAFETY: the caller vouches for the memory; the function checks the pointer and the size.
    unsafe { write_struct(config, struct_size, kls_config::from_core(&preset)) }
}
