//! From momentum to parameter: damping, bias correction and weight decay, per element.

use crate::config::{FirstStep, WeightDecay};
use crate::{Config, Scalar, SliceHeader};

/// Roots of the eigenvalues that meet one row of the tensor: of all modes but the last, multiplied, and of the last.
pub(crate) struct Root<'a, T> {
    pub prefix: T,
    pub last: Option<&'a [T]>,
}

impl<T: Scalar> Root<'_, T> {
    /// `out = correction m / (prod_k lambda_k^{1/2} + eps)`; the denominator is at least the floor.
    pub fn precondition(&self, eps: T, correction: T, m: &[T], out: &mut [T]) {
        match self.last {
            Some(last) => {
                for ((out, &m), &root) in out.iter_mut().zip(m).zip(last) {
                    *out = m * correction / ((self.prefix * root).max(T::FLOOR) + eps);
                }
            }
            None => {
                let denominator = self.prefix.max(T::FLOOR) + eps;
                for (out, &m) in out.iter_mut().zip(m) {
                    *out = m * correction / denominator;
                }
            }
        }
    }
}

/// `out = m / (sqrt(d) + eps)`, both moments corrected; the denominator is at least the floor.
pub(crate) fn normalise<T: Scalar>(eps: T, correction: &Correction<T>, m: &[T], d: &[T], out: &mut [T]) {
    for ((out, &m), &d) in out.iter_mut().zip(m).zip(d) {
        *out = m * correction.first / ((d * correction.second).sqrt().max(T::FLOOR) + eps);
    }
}

/// Bias corrections of this step: factors on the moments.
pub(crate) struct Correction<T> {
    pub first: T,
    pub second: T,
}

impl<T: Scalar> Correction<T> {
    pub fn new(config: &Config<T>, header: &SliceHeader) -> Self {
        if !config.bias_correction {
            return Self { first: T::ONE, second: T::ONE };
        }
        // Averages that a first step of factors only has not touched are one step younger.
        let skipped = u64::from(header.started != 0 && config.first_step == FirstStep::FactorsOnly);
        let age = T::from_usize((header.step - skipped) as usize);
        Self { first: T::ONE / (T::ONE - config.beta1.powf(age)), second: T::ONE / (T::ONE - config.beta2.powf(age)) }
    }
}

/// The parameter update with its weight decay.
pub(crate) struct Decay<T> {
    lr: T,
    before: T,
    after: T,
}

impl<T: Scalar> Decay<T> {
    pub fn new(config: &Config<T>, lr: T) -> Self {
        let decay = lr * config.weight_decay;
        match config.weight_decay_kind {
            WeightDecay::Before => Self { lr, before: T::ONE - decay, after: T::ZERO },
            WeightDecay::After => Self { lr, before: T::ONE, after: decay },
        }
    }

    /// `theta <- theta - lr (direction + decay)`.
    pub fn update(&self, theta: &mut [T], direction: &[T]) {
        for (theta, &direction) in theta.iter_mut().zip(direction) {
            let updated = *theta * self.before - self.lr * direction;
            *theta = updated - self.after * updated;
        }
    }
}
