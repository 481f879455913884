//! What a step costs, predicted before anything runs.

use crate::config::{Graft, Refresh, StepOrder};
use crate::{Config, Estimator, Layout, Mode, Scalar};

/// Floating-point operations of products and factorisations; elementwise passes, of order N each, are not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Of a step without a refresh. KL-Shampoo: 2.5 P with `P = 2 N sum_k d_k` over the full modes (ALGORITHMS section 2).
    pub step: u64,
    /// Of a refresh of all full modes, on top of that.
    pub refresh: u64,
}

impl Cost {
    /// Of a step on average, with a refresh every `period` steps.
    pub const fn mean(&self, period: u32) -> u64 {
        self.step.saturating_add(self.refresh / if period > 0 { period as u64 } else { 1 })
    }

    /// Of both together.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self { step: self.step.saturating_add(other.step), refresh: self.refresh.saturating_add(other.refresh) }
    }

    /// Of `count` of them.
    #[must_use]
    pub const fn times(self, count: u64) -> Self {
        Self { step: self.step.saturating_mul(count), refresh: self.refresh.saturating_mul(count) }
    }
}

/// A Householder QR with its orthogonal factor formed, of a `d x d` matrix.
const fn qr(d: u64) -> u64 {
    8 * d * d * d / 3
}

/// A symmetric eigendecomposition by tridiagonalisation and QL, with vectors.
const fn eigh(d: u64) -> u64 {
    9 * d * d * d
}

impl Layout {
    /// What a step of a slice (or piece) of this layout costs with a configuration.
    pub const fn cost<T: Scalar>(&self, config: &Config<T>) -> Cost {
        let shape = self.shape();
        let n = shape.elements() as u64;
        let (mut k, mut all, mut estimates, mut refresh) = (0, 0u64, 0u64, 0u64);
        let mut full_lengths = 0;
        while k < shape.order() {
            if shape.is_full(k) {
                full_lengths += shape.dim(k) as u64;
            }
            k += 1;
        }
        // What moves along in a refresh: the momentum, and the gradient where it is still to be used.
        let gradient = matches!(config.step_order, StepOrder::EstimateFirst) && (self.parts().keeps_gradient || !self.parts().momentum);
        let moving = self.parts().momentum as u64 + gradient as u64;
        k = 0;
        while k < shape.order() {
            let d = shape.dim(k) as u64;
            if shape.is_full(k) {
                let (square, triangle) = (2 * d * d * d, d * d * (d + 1));
                all += 2 * n * d;
                estimates += n * (d + 1);
                refresh += 2 * square + triangle + moving * 2 * n * d;
                refresh += match config.refresh {
                    Refresh::Qr => qr(d),
                    Refresh::Eigendecomposition => eigh(d) + 3 * square + 2 * triangle,
                };
            }
            if matches!(config.estimator, Estimator::FrobeniusFactor) && !matches!(shape.mode(k), Mode::Identity) {
                // Products with the other modes' factors.
                estimates += 2 * n * (full_lengths - if shape.is_full(k) { d } else { 0 });
            }
            k += 1;
        }
        let graft = if matches!(config.graft, Graft::Adam) { all } else { 0 };
        Cost { step: 2 * all + estimates + graft, refresh }
    }
}
