//! From numerator to parameter: denominators, bias correction and weight decay, per element.

use crate::config::{BiasCorrection, FactorInit, FirstStep, Momentum, WeightDecay};
use crate::linalg::LinAlg;
use crate::shape::{MAX_ORDER, Shape};
use crate::{Config, Scalar, SliceHeader};

/// `m / (root + eps)` with the product of all modes' roots of eigenvalues; the denominator is at least the floor.
#[inline(always)]
pub(crate) fn precondition<T: Scalar>(m: T, root: T, eps: T) -> T {
    m / (root.max(T::FLOOR) + eps)
}

/// How second moments divide.
#[derive(Clone, Copy)]
pub(crate) struct Normaliser<T> {
    pub eps: T,
    /// Factor on the numerator.
    pub correction: T,
    /// Factor on the second moment.
    pub second: T,
}

impl<T: Scalar> Normaliser<T> {
    /// `correction m / (sqrt(second d) + eps)`; the denominator is at least the floor.
    #[inline(always)]
    pub fn divide(self, linalg: &impl LinAlg<T>, m: T, d: T) -> T {
        m * self.correction / (linalg.sqrt(d * self.second).max(T::FLOOR) + self.eps)
    }

    /// The same of each element.
    #[inline(always)]
    pub fn divide_all(self, linalg: &impl LinAlg<T>, m: &[T], d: &[T], out: &mut [T]) {
        for ((out, &m), &d) in out.iter_mut().zip(m).zip(d) {
            *out = self.divide(linalg, m, d);
        }
    }
}

/// Bias corrections of this step: factors on the averages.
#[derive(Clone, Copy)]
pub(crate) struct Correction<T> {
    /// On the numerator.
    pub numerator: T,
    /// On second moments.
    pub second: T,
    /// On factors that eigenvalues are taken from.
    pub factor: T,
}

impl<T: Scalar> Correction<T> {
    pub fn new(config: &Config<T>, header: &SliceHeader) -> Self {
        // Averages that a first step of factors only has not touched are one step younger.
        let skipped = u64::from(header.started != 0 && config.first_step.built() == FirstStep::FactorsOnly);
        let age = T::from_usize((header.step - skipped) as usize);
        // The weights of an average of `age` numbers from zero add up to this.
        let sum = |beta: T, age: T| T::ONE - beta.powf(age);
        let numerator = || match config.momentum {
            Momentum::Average => T::ONE / sum(config.beta1, age),
            Momentum::Nesterov => T::ONE / sum(config.beta1, age + T::ONE),
            Momentum::None => T::ONE,
        };
        match config.bias_correction.built() {
            BiasCorrection::None => Self { numerator: T::ONE, second: T::ONE, factor: T::ONE },
            BiasCorrection::StepSize => Self { numerator: numerator() * sum(config.beta2, age).sqrt(), second: T::ONE, factor: T::ONE },
            BiasCorrection::Moments => {
                let second = T::ONE / sum(config.beta2, age);
                // The factors have averaged a gradient in a first step of factors only too.
                let factor = match (config.first_step.built(), config.factor_init.built()) {
                    (FirstStep::Full, FactorInit::Lambda) => T::ONE,
                    (FirstStep::Full, FactorInit::Zero) | (FirstStep::FactorsOnly, _) => {
                        T::ONE / sum(config.beta2, T::from_usize(header.step as usize))
                    }
                };
                Self { numerator: numerator(), second, factor }
            }
        }
    }

    /// Division by second moments with these corrections.
    pub fn normaliser(&self, eps: T) -> Normaliser<T> {
        Normaliser { eps, correction: self.numerator, second: self.second }
    }
}

/// VN-Shampoo's scale, mode by mode so that no product leaves the range: factors whose product over the preconditioned modes k is
/// `tau^{1/2}`, `tau = prod_k Tr(S_k)^{-(K'-1)/K'} / prod d_j` over them and the other modes j.
pub(crate) fn trace_scales<T: Scalar>(shape: &Shape, trace: impl Fn(usize) -> T) -> [T; MAX_ORDER] {
    let modes = T::from_usize(shape.preconditioned_modes());
    let exponent = T::exp2i(-1) * (modes - T::ONE) / modes;
    let mut others =
        (0..shape.order()).filter(|&j| !shape.is_preconditioned(j)).fold(T::ONE, |product, j| product / T::from_usize(shape.dim(j)).sqrt());
    let mut scales = [T::ONE; MAX_ORDER];
    for k in (0..shape.order()).filter(|&k| shape.is_preconditioned(k)) {
        scales[k] = others / trace(k).max(T::FLOOR).powf(exponent);
        others = T::ONE;
    }
    scales
}

/// The parameter update with its weight decay.
#[derive(Clone, Copy)]
pub(crate) struct Decay<T> {
    lr: T,
    before: T,
    after: T,
    /// Whether the parameter moves; its place takes the direction otherwise.
    moves: bool,
}

impl<T: Scalar> Decay<T> {
    pub fn new(config: &Config<T>, lr: T, moves: bool) -> Self {
        let (before, after) = match config.weight_decay_kind {
            WeightDecay::Before => (T::ONE - lr * config.weight_decay, T::ZERO),
            WeightDecay::After => (T::ONE, lr * config.weight_decay),
            WeightDecay::L2 => (T::ONE, T::ZERO),
            WeightDecay::Independent => (T::ONE - config.weight_decay, T::ZERO),
        };
        Self { lr, before, after, moves }
    }

    /// `theta - lr (factor direction + decay)`.
    #[inline(always)]
    pub fn update(&self, theta: T, direction: T, factor: T) -> T {
        if self.moves { self.moved(theta, direction, self.lr * factor) } else { factor * direction }
    }

    #[inline(always)]
    fn moved(&self, theta: T, direction: T, rate: T) -> T {
        let updated = theta * self.before - rate * direction;
        updated - self.after * updated
    }

    /// The same of each element.
    #[inline(always)]
    pub fn update_all(&self, theta: &mut [T], direction: &[T], factor: T) {
        // Asked once, where a compiler that saves space would do it for each.
        if !self.moves {
            return theta.iter_mut().zip(direction).for_each(|(out, &direction)| *out = factor * direction);
        }
        let (decay, rate) = (*self, self.lr * factor);
        for (theta, &direction) in theta.iter_mut().zip(direction) {
            *theta = decay.moved(*theta, direction, rate);
        }
    }

    /// The same with a direction of zero.
    pub fn decay(&self, theta: &mut [T]) {
        if !self.moves {
            return theta.fill(T::ZERO);
        }
        for theta in theta {
            let updated = *theta * self.before;
            *theta = updated - self.after * updated;
        }
    }

    /// A step that leaves the parameter alone.
    pub fn rest(&self, theta: &mut [T]) {
        if !self.moves {
            theta.fill(T::ZERO);
        }
    }
}
