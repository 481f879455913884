//! The first non-zero gradient: it sets the eigenbasis and the first eigenvalues.

use crate::config::built;
use crate::config::{Divisor, Eigenvalues, FactorInit, FirstBasis, FirstStep, LambdaInit};
use crate::direction::Correction;
use crate::linalg::{LinAlg, LinAlgError, MatMut, MatRef};
use crate::magnitude::{Magnitude, all_finite, basis_is_in_range, factor_is_in_range};
use crate::shape::Shape;
use crate::step::SliceStep;
use crate::unfold::{Precision, mode_product, unfolded_product};
use crate::{Config, Scalar, eigenvalues, eigenvectors};

impl<T: Scalar, L: LinAlg<T>> SliceStep<'_, '_, T, L> {
    /// Sets `Q_k`, `lambda_k` and, by convention, `S~_k` from the gradient (ALGORITHMS section 4, "Q after step 1", "S_0", "lambda_0").
    ///
    /// The eigenvalues are uniform here, so `Delta_k` is a multiple of `mat_k(G) mat_k(G)^T` and has its eigenvectors. A decomposition
    /// that fails leaves the identity as that mode's basis and is counted; the first refresh will turn it.
    ///
    /// # Errors
    /// A failed product; the state then holds unspecified values.
    pub(crate) fn start(&mut self, grad: &[T], magnitude: Magnitude) -> Result<(), LinAlgError> {
        let (shape, config, state, scratch) = (self.layout.shape(), self.config, &mut self.state, &mut self.scratch);
        let modes = shape.preconditioned_modes();
        // The clamp acts on averages only: the authors' code uses lambda_0 as it is given until its first update.
        let lambda = first_lambda(config, modes, grad, magnitude).max(eigenvalues::floor(config.estimator, modes));
        // Products of the gradient with itself are formed near 1 and scaled back, so that tiny gradients set a basis too.
        let normaliser = magnitude.normaliser::<T>();
        for (out, &g) in scratch.product.iter_mut().zip(grad) {
            *out = g * normaliser;
        }
        for k in 0..shape.order() {
            state.lambda[k].fill(lambda);
            if !shape.is_full(k) {
                continue;
            }
            let d = shape.dim(k);
            if config.first_step.built() == FirstStep::Full && config.factor_init.built() == FactorInit::Lambda {
                diagonal_matrix(scratch.delta[k], d, |_| lambda);
                state.keep_factor(k, scratch.delta[k], self.rounder);
            }
            let (basis, values) = (&mut *scratch.basis[k], &mut scratch.values[..d]);
            if config.first_basis.built() == FirstBasis::Identity {
                diagonal_matrix(basis, d, |_| T::ONE);
                state.keep_basis(k, basis);
                continue;
            }
            let x = &*scratch.product;
            unfolded_product(self.linalg, Precision::Full, shape, k, T::ONE, (x, x), scratch.delta[k])?;
            let a = MatMut::row_major(scratch.delta[k], d, d);
            let decomposed = self.linalg.eigh(a, MatMut::row_major(basis, d, d), values, scratch.work).is_ok();
            let decomposed = decomposed && (self.linalg.is_trusted() || basis_is_in_range(self.linalg, basis));
            if decomposed {
                // The gradient seen in the basis tells small eigenvalues from rounding better than its square did.
                mode_product(self.linalg, Precision::Full, shape, k, MatRef::row_major(basis, d, d).t(), x, scratch.gradient)?;
                let y = &*scratch.gradient;
                unfolded_product(self.linalg, Precision::Full, shape, k, T::ONE, (y, y), scratch.delta[k])?;
                for (value, &diagonal) in values.iter_mut().zip(scratch.delta[k].iter().step_by(d + 1)) {
                    *value = diagonal;
                }
                eigenvectors::refine(self.linalg, d, basis, scratch.delta[k], &mut scratch.square[..d * d])?;
            } else {
                self.header.refresh_failures = self.header.refresh_failures.saturating_add(1);
                diagonal_matrix(basis, d, |_| T::ONE);
            }
            if !(self.linalg.is_trusted() || basis_is_in_range(self.linalg, basis)) {
                return Err(LinAlgError::NotFinite);
            }
            state.keep_basis(k, basis);
            if config.first_step.built() == FirstStep::FactorsOnly {
                let weight = (T::ONE - config.beta2) * first_scale(config, shape, k, lambda) / normaliser / normaliser;
                if !(weight * T::from_usize(shape.elements())).is_finite_bits() {
                    return Err(LinAlgError::NotFinite);
                }
                if decomposed {
                    // Rounding may have left the smallest ones below zero.
                    diagonal_matrix(scratch.delta[k], d, |i| (values[i] * weight).max(T::ZERO));
                    if config.eigenvalues.built() != Eigenvalues::Average && self.layout.has_lambda(k) {
                        let correction = Correction::new(config, &self.header).factor;
                        for (lambda, &value) in state.lambda[k].iter_mut().zip(&*values) {
                            *lambda = weight * correction * value;
                        }
                        eigenvalues::settle(config, shape, k, state.lambda[k], &mut self.header);
                    }
                } else {
                    unfolded_product(self.linalg, Precision::Full, shape, k, weight, (x, x), scratch.delta[k])?;
                }
                let linalg = &*self.linalg;
                let in_range = || all_finite(linalg, state.lambda[k]) && factor_is_in_range(linalg, scratch.delta[k], d);
                if !(linalg.is_trusted() || in_range()) {
                    return Err(LinAlgError::NotFinite);
                }
                state.keep_factor(k, scratch.delta[k], self.rounder);
            }
        }
        Ok(())
    }
}

/// `lambda_0`, uniform over all preconditioned modes.
fn first_lambda<T: Scalar>(config: &Config<T>, modes: usize, grad: &[T], magnitude: Magnitude) -> T {
    match config.lambda_init {
        LambdaInit::Constant(lambda) => lambda,
        LambdaInit::ScaleFree => {
            let (mantissa, exponent) = magnitude.squared_norm(grad);
            let mean_square = mantissa / T::from_usize(grad.len());
            // (mean_square 4^exponent)^(1/K'), with the power of two taken out of the root where it divides evenly.
            let (whole, rest) = (2 * exponent / modes as i32, 2 * exponent % modes as i32);
            let scaled = mean_square * T::exp2i(rest);
            let root = match modes {
                1 => scaled,
                2 => scaled.sqrt(),
                _ if built::POWERS => scaled.powf(T::ONE / T::from_usize(modes)),
                _ => scaled,
            };
            root * T::exp2i(whole)
        }
    }
}

/// `c_k` where all eigenvalues are `lambda`.
fn first_scale<T: Scalar>(config: &Config<T>, shape: &Shape, k: usize, lambda: T) -> T {
    let divisor = |j: usize| {
        let d = T::from_usize(shape.dim(j));
        match (config.estimator.divisor(), shape.is_preconditioned(j)) {
            (Divisor::None, _) => T::ONE,
            (_, false) => d,
            (Divisor::Sum, true) => d * lambda,
            (Divisor::SumOfSquares, true) => d * lambda * lambda,
        }
    };
    let scale = config.estimator.scale(shape.dim(k), shape.elements());
    (0..shape.order()).filter(|&j| j != k).fold(scale, |scale, j| scale / divisor(j))
}

/// A matrix of zeros but for its diagonal.
fn diagonal_matrix<T: Scalar>(square: &mut [T], d: usize, value: impl Fn(usize) -> T) {
    square.fill(T::ZERO);
    for row in 0..d {
        square[row * d + row] = value(row);
    }
}
