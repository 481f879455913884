//! What a step costs, predicted before anything runs.

use crate::config::{Graft, Refresh, StepOrder};
use crate::triangular::upper_times_flops;
use crate::{Config, Estimator, Layout, Mode, Scalar, portions};

/// Floating-point operations of products and factorisations; elementwise passes, of order N each, are not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Of a step without a refresh. KL-Shampoo: 2.5 P with `P = 2 N sum_k d_k` over the full modes (ALGORITHMS section 2).
    pub step: u64,
    /// Of a refresh of all full modes, on top of that.
    pub refresh: u64,
    /// Of a refresh in one step, at most: all of it, unless it is made in portions ([`Config::refresh_portion`]). A step takes no more
    /// than [`Self::step`] and this.
    pub refresh_step: u64,
}

impl Cost {
    pub(crate) const NOTHING: Self = Self { step: 0, refresh: 0, refresh_step: 0 };

    /// Of a step on average, with a refresh every `period` steps.
    pub const fn mean(&self, period: u32) -> u64 {
        self.step.saturating_add(self.refresh / if period > 0 { period as u64 } else { 1 })
    }

    /// Of both together.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            step: self.step.saturating_add(other.step),
            refresh: self.refresh.saturating_add(other.refresh),
            refresh_step: self.refresh_step.saturating_add(other.refresh_step),
        }
    }

    /// Of `count` of them.
    #[must_use]
    pub const fn times(self, count: u64) -> Self {
        Self {
            step: self.step.saturating_mul(count),
            refresh: self.refresh.saturating_mul(count),
            refresh_step: self.refresh_step.saturating_mul(count),
        }
    }

    /// Of one of `count` equal ones.
    pub(crate) const fn of_one(self, count: u64) -> Self {
        Self { step: self.step / count, refresh: self.refresh / count, refresh_step: self.refresh_step / count }
    }
}

/// A product that is at most what the type holds.
const fn times(a: u64, b: u64) -> u64 {
    a.saturating_mul(b)
}

const fn cube(d: u64) -> u64 {
    times(d, times(d, d))
}

/// A Householder QR with its orthogonal factor formed, of a `d x d` matrix.
const fn qr(d: u64) -> u64 {
    times(8, cube(d)) / 3
}

const fn cholesky(d: u64) -> u64 {
    cube(d) / 3
}

/// A symmetric eigendecomposition by tridiagonalisation and QL, with vectors.
const fn eigh(d: u64) -> u64 {
    times(9, cube(d))
}

/// The larger of two numbers.
const fn larger(a: u64, b: u64) -> u64 {
    if a > b { a } else { b }
}

impl Layout {
    /// What moves along when the basis of mode `k` is turned: the momentum, and the gradient where it is still to be used.
    pub(crate) const fn moving_flops<T: Scalar>(&self, config: &Config<T>, k: usize) -> u64 {
        let gradient = matches!(config.step_order, StepOrder::EstimateFirst) && (self.parts().keeps_gradient || !self.parts().momentum);
        let moving = self.parts().momentum as u64 + gradient as u64;
        times(moving, times(2, times(self.shape().elements() as u64, self.shape().dim(k) as u64)))
    }

    /// What a step of a slice (or piece) of this layout costs with a configuration.
    pub const fn cost<T: Scalar>(&self, config: &Config<T>) -> Cost {
        let shape = self.shape();
        let n = shape.elements() as u64;
        let (mut k, mut all, mut estimates, mut refresh) = (0, 0u64, 0u64, 0u64);
        let mut full_lengths = 0u64;
        while k < shape.order() {
            if shape.is_full(k) {
                full_lengths = full_lengths.saturating_add(shape.dim(k) as u64);
            }
            k += 1;
        }
        // What a step takes in any case of a refresh in portions, and all that there is to be portioned.
        let (mut least, mut most) = (0, 0u64);
        k = 0;
        while k < shape.order() {
            let d = shape.dim(k) as u64;
            if shape.is_full(k) {
                let (product, square, triangle) = (times(2, times(n, d)), times(2, cube(d)), cube(d).saturating_add(times(d, d)));
                all = all.saturating_add(product);
                estimates = estimates.saturating_add(times(n, d + 1));
                // Qhat, the factor in its basis, and the new basis.
                let rotate_factor = square.saturating_add(triangle);
                let moves = self.moving_flops(config, k);
                least = larger(least, larger(moves, portions::largest_unit(d)));
                most = most.saturating_add(if self.widens() { 0 } else { portions::polish_flops(d) });
                let turn = match config.refresh.built() {
                    _ if self.is_portioned() => portions::flops(d),
                    Refresh::Qr => {
                        times(2, cholesky(d)).saturating_add(times(2, upper_times_flops(d))).saturating_add(cube(d)).saturating_add(square)
                    }
                    Refresh::HouseholderQr => qr(d).saturating_add(rotate_factor).saturating_add(square),
                    Refresh::Eigendecomposition => {
                        eigh(d).saturating_add(times(4, square)).saturating_add(times(2, triangle)).saturating_add(rotate_factor)
                    }
                };
                let rounding = match (self.widens(), self.is_portioned()) {
                    (false, _) => 0,
                    // Two steps of Newton and Schulz, and the rotation between two rounded bases.
                    (true, true) => portions::rounding_flops(d),
                    // And the factor turned by it, which has been turned by Qhat.
                    (true, false) => times(4, square).saturating_add(times(3, triangle)),
                };
                refresh = refresh.saturating_add(turn).saturating_add(rounding).saturating_add(moves);
            }
            if matches!(config.estimator.built(), Estimator::FrobeniusFactor) && !matches!(shape.mode(k), Mode::Identity) {
                // Products with the other modes' factors.
                let others = full_lengths - if shape.is_full(k) { d } else { 0 };
                estimates = estimates.saturating_add(times(2, times(n, others)));
            }
            k += 1;
        }
        let graft = if matches!(config.graft.built(), Graft::Adam) { all } else { 0 };
        let refresh_step = if self.is_portioned() {
            let (portion, most) = (config.refresh_portion as u64, most.saturating_add(refresh));
            larger(least, if portion < most { portion } else { most })
        } else {
            refresh
        };
        Cost { step: times(2, all).saturating_add(estimates).saturating_add(graft), refresh, refresh_step }
    }
}
