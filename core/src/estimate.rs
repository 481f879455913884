//! The estimate: what each mode's factor and eigenvalues see of the gradient (ALGORITHMS sections 2 and 3).

use crate::config::built;
use crate::config::{Divisor, Eigenvalues, EstimateOrder};
use crate::direction::Correction;
use crate::layout::Scratch;
use crate::linalg::{LinAlg, LinAlgError};
use crate::rows::{SumsOfSquares, scale, sums_of_products};
use crate::shape::MAX_ORDER;
use crate::step::{SliceStep, tables};
use crate::unfold::{Precision, Rotate, Start, rotate, unfolded_product};
use crate::{Estimator, Mode, Scalar, eigenvalues, passes};

/// The weights of one mode. F-Shampoo's are of unit norm, which `c_k` makes up for.
fn weigh<T: Scalar>(linalg: &impl LinAlg<T>, estimator: Estimator, lambda: &[T], weight: &mut [T]) {
    if lambda.is_empty() {
        // A method without eigenvalues weighs nothing.
        return;
    }
    let scale = if estimator.divisor() == Divisor::SumOfSquares && !lambda.is_empty() { eigenvalues::norm(lambda) } else { T::ONE };
    passes::map(linalg, weight, lambda, move |linalg, _, l| estimator.weight(linalg, l / scale));
}

impl<T: Scalar, L: LinAlg<T>> SliceStep<'_, '_, T, L> {
    /// `Delta~_k` of all full modes and the new eigenvalues of all preconditioned ones, from the state of before this step (Jacobi).
    #[inline(never)]
    pub(crate) fn estimate(&mut self, grad: &[T]) -> Result<(), LinAlgError> {
        let (shape, config) = (self.layout.shape(), self.config);
        self.weigh_all();
        if config.estimator.built() == Estimator::FrobeniusFactor {
            // The bases' place is not in use until the direction or the refresh.
            for k in (0..shape.order()).filter(|&k| shape.is_full(k)) {
                self.state.factor(k).unpack_normalised(self.scratch.basis[k]);
            }
        }
        let mixed = built::HIGH_ORDER && config.estimate_order.built() == EstimateOrder::ReferenceKl && shape.order() == 3;
        for k in (0..shape.order()).rev().filter(|&k| shape.is_preconditioned(k)) {
            let alpha = self.alpha(k);
            self.form(k, alpha, grad)?;
            if mixed && k == 1 {
                // The middle mode's eigenvalues see the last mode's new ones, its factor has seen the old ones; the first mode is to
                // see the new ones of the middle mode and the old ones of the last.
                self.weigh_new(2);
                self.diagonal(k, alpha, grad);
                self.set_eigenvalues(k);
                self.weigh_all();
                self.weigh_new(1);
            } else {
                self.set_eigenvalues(k);
            }
        }
        if config.estimator == Estimator::FrobeniusFactor {
            self.widen_bases();
        }
        Ok(())
    }

    /// The weights of all modes from the eigenvalues of before this step.
    fn weigh_all(&mut self) {
        (0..self.layout.shape().order())
            .for_each(|k| weigh(&*self.linalg, self.config.estimator, self.state.lambda[k], self.scratch.weight[k]));
    }

    /// The weights of one mode from its new eigenvalues.
    fn weigh_new(&mut self, k: usize) {
        let Scratch { weight, lambda, .. } = &mut self.scratch;
        weigh(&*self.linalg, self.config.estimator, lambda[k], weight[k]);
    }

    /// `c_k`, from the eigenvalues and factors of before this step, but for the share that F-Shampoo's normalised weights have in it.
    fn alpha(&self, k: usize) -> T {
        let (shape, config) = (self.layout.shape(), self.config);
        let mut alpha = config.estimator.scale(shape.dim(k), shape.elements());
        if config.estimator.divisor() == Divisor::None {
            return alpha;
        }
        let lowest = eigenvalues::floor::<T>(config.estimator, shape.preconditioned_modes());
        for j in (0..shape.order()).filter(|&j| j != k) {
            let divisor = match (shape.mode(j), config.estimator.divisor()) {
                // Its weight is 1, not normalised.
                (Mode::Identity, _) => T::from_usize(shape.dim(j)),
                (Mode::Full, _) if config.estimator.built() == Estimator::FrobeniusFactor => self.state.factor(j).norm(),
                (_, Divisor::Sum) => eigenvalues::sum(self.state.lambda[j], |l| l),
                (_, _) => eigenvalues::norm(self.state.lambda[j]),
            };
            alpha /= divisor.max(lowest);
        }
        alpha
    }

    /// `Delta~_k` of a full mode; its diagonal, or that of a diagonal mode, in the eigenvalues' place.
    fn form(&mut self, k: usize, alpha: T, grad: &[T]) -> Result<(), LinAlgError> {
        let shape = self.layout.shape();
        let full = !built::PARTIAL || shape.is_full(k);
        if !full && !self.layout.has_lambda(k) {
            return Ok(());
        }
        let by_factors =
            self.config.estimator.built() == Estimator::FrobeniusFactor && (0..shape.order()).any(|j| j != k && shape.is_full(j));
        if by_factors {
            self.form_by_factors(k, alpha)?;
        } else if full {
            let Scratch { gradient, product, delta, weight, .. } = &mut self.scratch;
            let x = if self.config.estimator.is_unweighted() {
                &**gradient
            } else {
                let mut weights = tables(shape, weight);
                weights[k] = None;
                scale(self.linalg, shape, &weights, gradient, product);
                &**product
            };
            unfolded_product(self.linalg, Precision::Rounding, shape, k, alpha, (x, x), delta[k])?;
        } else {
            self.diagonal(k, alpha, grad);
        }
        if full {
            let Scratch { lambda, delta, .. } = &mut self.scratch;
            for (out, &diagonal) in lambda[k].iter_mut().zip(delta[k].iter().step_by(shape.dim(k) + 1)) {
                *out = diagonal;
            }
        }
        Ok(())
    }

    /// `diag(Delta~_k)` alone, as a sum of squares.
    fn diagonal(&mut self, k: usize, alpha: T, grad: &[T]) {
        let shape = self.layout.shape();
        let Scratch { gradient, lambda, weight, .. } = &mut self.scratch;
        let mut weights = if self.config.estimator.is_unweighted() { [None; MAX_ORDER] } else { tables(shape, weight) };
        weights[k] = None;
        let projected = if shape.is_turned() { &**gradient } else { grad };
        self.linalg.vectorise(SumsOfSquares { shape, tables: &weights, k, x: projected, sums: lambda[k] });
        lambda[k].iter_mut().for_each(|sum| *sum *= alpha);
    }

    /// F-Shampoo variant 1: `Delta~_k = c_k mat_k(Y x_j S~_j) mat_k(Y)^T` over the other full modes, where the root weights of the
    /// other diagonal modes stand in `Y`, half on either side. All are normalised: `S_j / Tr(S_j^2)` would leave the range on the way.
    fn form_by_factors(&mut self, k: usize, alpha: T) -> Result<(), LinAlgError> {
        let shape = self.layout.shape();
        let Scratch { gradient, product, update, aside, delta, basis, lambda, weight, .. } = &mut self.scratch;
        let mut weights = tables(shape, weight);
        (0..MAX_ORDER).filter(|&j| j == k || shape.is_full(j)).for_each(|j| weights[j] = None);
        let y = if weights.iter().any(Option::is_some) {
            scale(self.linalg, shape, &weights, gradient, product);
            &**product
        } else {
            &**gradient
        };
        let factors = core::array::from_fn(|j| if j == k { &[] } else { &*basis[j] });
        rotate(self.linalg, Precision::Rounding, shape, factors, Rotate::OutOf, Start::External(y), [aside, update])?;
        if !shape.is_full(k) {
            sums_of_products(shape, k, aside, y, lambda[k]);
            lambda[k].iter_mut().for_each(|sum| *sum *= alpha);
            return Ok(());
        }
        unfolded_product(self.linalg, Precision::Rounding, shape, k, alpha, (&**aside, y), delta[k])
    }

    /// The eigenvalues of after this step, before any refresh; `diag(Delta~_k)` comes in in their place.
    fn set_eigenvalues(&mut self, k: usize) {
        if !self.layout.has_lambda(k) {
            return;
        }
        let (shape, config) = (self.layout.shape(), self.config);
        let (kept, fresh) = (config.beta2, T::ONE - config.beta2);
        let (old, new, header) = (&*self.state.lambda[k], &mut *self.scratch.lambda[k], &mut self.header);
        let full = shape.is_full(k);
        match config.eigenvalues.built() {
            Eigenvalues::AtRefresh if full && !self.starting => new.copy_from_slice(old),
            Eigenvalues::AtRefresh | Eigenvalues::Instantaneous | Eigenvalues::InstantaneousAfterRefresh if full => {
                let correction = Correction::new(config, header).factor;
                let mut diagonal = self.state.factor(k).diagonal();
                let deltas = self.scratch.delta[k].iter().step_by(shape.dim(k) + 1);
                for (new, (&delta, s)) in new.iter_mut().zip(deltas.zip(&mut diagonal)) {
                    *new = (kept * s + fresh * delta) * correction;
                }
                eigenvalues::settle(config, shape, k, new, header);
            }
            _ => eigenvalues::set(config, shape, k, new, header, |i, diagonal| kept * old[i] + fresh * diagonal),
        }
    }
}
