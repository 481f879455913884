//! `kls_config` as the first header had it, before the other methods of the family came in. A program that was compiled with that header
//! gets what it had.

use klshampoo::{Config, Convention};

use crate::config::{KLS_BIAS_CORRECTION_MOMENTS, KLS_BIAS_CORRECTION_NONE, KLS_ESTIMATOR_NONE, KLS_FIRST_STEP_FACTORS_ONLY, kls_config};
use crate::status::*;

#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct ConfigV01 {
    struct_size: u32,
    estimator: i32,
    max_dim: u64,
    direction: i32,
    step_order: i32,
    first_step: i32,
    refresh_period: u32,
    refresh_offset: u32,
    lambda_init: i32,
    lambda_0: f32,
    beta1: f32,
    beta2: f32,
    eps: f32,
    weight_decay: f32,
    weight_decay_kind: i32,
    clamp_limit: f32,
    gauge: i32,
    bias_correction: i32,
    bad_gradient: i32,
    lr_scale: f32,
    reserved: u32,
}

impl ConfigV01 {
    /// The method that it names: AdamW or KL-Shampoo in one of two conventions.
    pub(crate) fn to_current(self) -> Result<kls_config, kls_status> {
        if self.reserved != 0 {
            return Err(KLS_ERROR_RESERVED);
        }
        let method = if self.estimator == KLS_ESTIMATOR_NONE { Config::<f32>::adamw() } else { Config::<f32>::kl_shampoo() };
        let reference = self.first_step == KLS_FIRST_STEP_FACTORS_ONLY;
        let base = kls_config::from_core(&method.in_convention(if reference { Convention::ReferenceKl } else { Convention::Figure13 }));
        Ok(kls_config {
            estimator: self.estimator,
            // 0 was refused; now it means that every dim is diagonal.
            max_dim: if self.max_dim == 0 { return Err(KLS_ERROR_UNKNOWN_VALUE) } else { self.max_dim },
            direction: self.direction,
            step_order: self.step_order,
            first_step: self.first_step,
            refresh_period: self.refresh_period,
            refresh_offset: self.refresh_offset,
            // All tensors refreshed in the same step.
            stagger: 0,
            lambda_init: self.lambda_init,
            lambda_0: self.lambda_0,
            beta1: self.beta1,
            beta2: self.beta2,
            eps: self.eps,
            weight_decay: self.weight_decay,
            weight_decay_kind: self.weight_decay_kind,
            clamp_limit: self.clamp_limit,
            gauge: self.gauge,
            bias_correction: if self.bias_correction == 0 { KLS_BIAS_CORRECTION_NONE } else { KLS_BIAS_CORRECTION_MOMENTS },
            bad_gradient: self.bad_gradient,
            lr_scale: self.lr_scale,
            ..base
        })
    }

    pub(crate) fn from_current(config: &kls_config) -> Self {
        Self {
            struct_size: size_of::<Self>() as u32,
            estimator: config.estimator,
            max_dim: config.max_dim,
            direction: config.direction,
            step_order: config.step_order,
            first_step: config.first_step,
            refresh_period: config.refresh_period,
            refresh_offset: config.refresh_offset,
            lambda_init: config.lambda_init,
            lambda_0: config.lambda_0,
            beta1: config.beta1,
            beta2: config.beta2,
            eps: config.eps,
            weight_decay: config.weight_decay,
            weight_decay_kind: config.weight_decay_kind,
            clamp_limit: config.clamp_limit,
            gauge: config.gauge,
            bias_correction: config.bias_correction,
            bad_gradient: config.bad_gradient,
            lr_scale: config.lr_scale,
            reserved: 0,
        }
    }
}
