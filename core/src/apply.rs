//! The direction of a tensor that a basis turns: divided in the eigenbasis, rotated back, given its length.

use crate::config::built;
use crate::config::{Damping, Direction, FirstBasis, Graft, Momentum, StepOrder};
use crate::direction::{Correction, precondition, trace_scales};
use crate::layout::{Scratch, State};
use crate::linalg::{LinAlg, LinAlgError, Pass};
use crate::magnitude::Norm;
use crate::rows::map_rows;
use crate::shape::MAX_ORDER;
use crate::step::{Refreshed, SliceStep, tables};
use crate::unfold::{Precision, Rotate, Start, chain_starts_in_second, rotate};
use crate::{Config, Mode, Scalar, eigenvalues, graft, passes};

impl<T: Scalar, L: LinAlg<T>> SliceStep<'_, '_, T, L> {
    /// `M~' = beta1 M~ + (1 - beta1) G~`, in the place of the projected gradient where nothing else needs that.
    pub(crate) fn average_momentum(&mut self) {
        let parts = self.layout.parts();
        if !parts.momentum {
            return;
        }
        let Scratch { gradient, momentum, .. } = &mut self.scratch;
        if parts.keeps_gradient {
            momentum.copy_from_slice(gradient);
        } else {
            core::mem::swap(gradient, momentum);
        }
        let (kept, fresh) = (self.config.beta1, T::ONE - self.config.beta1);
        passes::map(self.linalg, momentum, self.state.momentum, move |_, g, m| kept * m + fresh * g);
    }

    /// `D' = beta2 D + (1 - beta2) G~^2`, both in the basis in force.
    pub(crate) fn average_second_moment(&mut self) {
        let Scratch { gradient, second_moment, .. } = &mut self.scratch;
        let (kept, fresh) = (self.config.beta2, T::ONE - self.config.beta2);
        passes::map(self.linalg, second_moment, gradient, move |_, d, g| kept * d + fresh * (g * g));
    }

    /// `U = (M~ . prod_k lambda_k^{-p}) x_k Q_k`, or with another denominator, with the eigenvalues and bases that the convention's order
    /// gives it.
    #[inline(never)]
    pub(crate) fn apply(&mut self, grad: &[T]) -> Result<(), LinAlgError> {
        let correction = Correction::new(self.config, &self.header);
        self.look_ahead();
        let grafted = self.graft_direction(&correction, grad)?;
        if self.preconditions() {
            self.divide(&correction);
            let Self { layout, state, scratch, refreshed, linalg, .. } = self;
            let Scratch { update, product, basis, .. } = scratch;
            let bases = bases_in_force(refreshed, basis, state);
            rotate(*linalg, Precision::Rounding, layout.shape(), bases, Rotate::OutOf, Start::InPlace, [update, product])?;
            self.set_length(grafted);
        } else if grafted.is_some() {
            core::mem::swap(&mut self.scratch.update, &mut self.scratch.product);
            self.set_length(None);
        } else {
            self.rotate_numerator()?;
            self.scratch.update.iter_mut().for_each(|u| *u *= correction.numerator);
            self.set_length(None);
        }
        Ok(())
    }

    /// Whether there is something to precondition with: the identity basis at the start waits for the first refresh that is due.
    pub(crate) fn preconditions(&self) -> bool {
        let due_before = self.due && self.config.step_order.built() == StepOrder::EstimateFirst;
        let refreshed = match self.layout.is_portioned() {
            false => self.header.last_refresh > 0 || due_before,
            // It is made some steps after it is due.
            true => self.header.refreshes > 0 || self.header.refresh_failures > 0 || self.header.refreshes_skipped > 0,
        };
        self.config.first_basis.built() == FirstBasis::Gradient || refreshed
    }

    /// Nesterov's numerator, in the place of the projected gradient.
    fn look_ahead(&mut self) {
        if self.config.momentum == Momentum::Nesterov {
            let (kept, fresh) = (self.config.beta1, T::ONE - self.config.beta1);
            let Scratch { gradient, momentum, .. } = &mut self.scratch;
            passes::map(self.linalg, gradient, momentum, move |_, g, m| kept * m + fresh * g);
        }
    }

    /// The numerator in the parameter's coordinates, into the update.
    fn rotate_numerator(&mut self) -> Result<(), LinAlgError> {
        let Self { layout, config, state, scratch, refreshed, linalg, .. } = self;
        let Scratch { gradient, momentum, update, product, basis, .. } = scratch;
        let bases = bases_in_force(refreshed, basis, state);
        let numerator = if config.momentum == Momentum::Average { &**momentum } else { &**gradient };
        rotate(*linalg, Precision::Rounding, layout.shape(), bases, Rotate::OutOf, Start::External(numerator), [update, product])
    }

    /// The grafted method's direction, into `product`, and its norm.
    fn graft_direction(&mut self, correction: &Correction<T>, grad: &[T]) -> Result<Option<Norm<T>>, LinAlgError> {
        if self.config.graft.built() == Graft::None {
            return Ok(None);
        }
        if self.config.graft.built() == Graft::Adam {
            // Adam divides per element of the parameter, so its numerator leaves the eigenbasis.
            self.rotate_numerator()?;
        }
        let Scratch { update, product, .. } = &mut self.scratch;
        let old = &*self.state.graft_moment;
        self.linalg.vectorise(GraftDirection { config: self.config, correction, numerator: update, grad, old, out: product });
        Ok(Some(Norm::of(product)))
    }

    /// The numerator divided in the eigenbasis, where the chain of mode products back starts.
    fn divide(&mut self, correction: &Correction<T>) {
        let (shape, config) = (self.layout.shape(), self.config);
        let eps = self.root_eigenvalues();
        let Scratch { gradient, momentum, second_moment, product, update, weight, .. } = &mut self.scratch;
        let numerator = if config.momentum == Momentum::Average { &**momentum } else { &**gradient };
        let start = if chain_starts_in_second(shape) { &mut **product } else { &mut **update };
        let (second, normaliser) = (config.direction.built() == Direction::SecondMoment, correction.normaliser(eps));
        if second {
            passes::map2(self.linalg, start, [numerator, second_moment], move |linalg, _, m, d| normaliser.divide(linalg, m, d));
        } else {
            let correction = correction.numerator;
            map_rows(self.linalg, shape, &tables(shape, weight), numerator, start, move |m, prefix, root| {
                precondition(m * correction, prefix * root, eps)
            });
        }
    }

    /// Grafts and caps the update.
    fn set_length(&mut self, grafted: Option<Norm<T>>) {
        if !built::GRAFTING || (grafted.is_none() && self.config.rms_cap.is_none()) {
            return;
        }
        let update = &mut *self.scratch.update;
        let factor = graft::length_factor(self.config, update.len(), Norm::of(update), grafted, &mut self.header);
        update.iter_mut().for_each(|u| *u *= factor);
    }

    /// The tables whose product over the modes is the denominator, from the eigenvalues that the direction sees: those from before this
    /// step, or the new ones. Returns what is to be added to the product.
    pub(crate) fn root_eigenvalues(&mut self) -> T {
        let (shape, config) = (self.layout.shape(), self.config);
        // Denominators by second moments have no eigenvalues.
        let Some(p) = config.direction.power(shape) else { return config.eps };
        let lambda = match config.step_order.built() {
            StepOrder::ApplyFirst => &self.state.lambda,
            StepOrder::EstimateFirst => &self.scratch.lambda,
        };
        let (added_to_each, added) = match config.damping.built() {
            Damping::Denominator => (T::ZERO, config.eps),
            Damping::Factor => (config.eps, T::ZERO),
        };
        for (root, lambda) in self.scratch.weight.iter_mut().zip(lambda) {
            eigenvalues::powers(&*self.linalg, lambda, added_to_each, p, root);
        }
        if config.direction.built() == Direction::TraceScaled {
            self.scale_by_traces();
        }
        added
    }

    /// Multiplies the roots by `tau^{1/2}`.
    fn scale_by_traces(&mut self) {
        let scales = trace_scales(self.layout.shape(), |k| self.trace(k));
        for (weight, scale) in self.scratch.weight.iter_mut().zip(scales) {
            weight.iter_mut().for_each(|root| *root *= scale);
        }
    }

    /// `Tr S_k` of the factor that belongs to the eigenvalues that the direction sees.
    fn trace(&self, k: usize) -> T {
        let d = self.layout.shape().dim(k);
        let sum = |diagonal: &mut dyn Iterator<Item = T>| diagonal.fold(T::ZERO, |sum, x| sum + x);
        let of_square = || sum(&mut self.scratch.delta[k].iter().step_by(d + 1).copied());
        let old = || sum(&mut self.state.factor(k).diagonal());
        match (self.layout.shape().mode(k), self.config.step_order.built()) {
            (Mode::Full, StepOrder::ApplyFirst) => old(),
            (Mode::Full, StepOrder::EstimateFirst) if self.refreshed.tried => of_square(),
            (Mode::Full, StepOrder::EstimateFirst) => self.config.beta2 * old() + (T::ONE - self.config.beta2) * of_square(),
            (_, StepOrder::ApplyFirst) => eigenvalues::sum(self.state.lambda[k], |l| l),
            (_, StepOrder::EstimateFirst) => eigenvalues::sum(self.scratch.lambda[k], |l| l),
        }
    }
}

/// The grafted method's direction of a tensor that a basis turns, from the second moment of before this step.
struct GraftDirection<'a, T> {
    config: &'a Config<T>,
    correction: &'a Correction<T>,
    numerator: &'a [T],
    grad: &'a [T],
    old: &'a [T],
    out: &'a mut [T],
}

impl<T: Scalar, L: LinAlg<T>> Pass<L> for GraftDirection<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self, linalg: &L) {
        /// Elements of a block of second moments: they are formed again in the commit and need no buffer of the tensor's size.
        const BLOCK: usize = 64;
        let Self { config, correction, numerator, grad, old, out } = self;
        for start in (0..grad.len()).step_by(BLOCK) {
            let block = start..grad.len().min(start + BLOCK);
            let mut v = [T::ZERO; BLOCK];
            if !old.is_empty() {
                for (v, (&old, &g)) in v.iter_mut().zip(old[block.clone()].iter().zip(&grad[block.clone()])) {
                    *v = graft::moment(config, old, g);
                }
            }
            let parts = (&numerator[block.clone()], &grad[block.clone()], &v[..block.len()]);
            graft::direction(linalg, config, correction, parts, &mut out[block]);
        }
    }
}

/// The bases of after a refresh, where there has been one in this step. Bases that are kept in 16 bits are in scratch all the time.
fn bases_in_force<'a, T: Scalar>(refreshed: &Refreshed, new: &'a [&mut [T]; MAX_ORDER], old: &'a State<'_, T>) -> [&'a [T]; MAX_ORDER] {
    core::array::from_fn(|k| if refreshed.modes[k] || old.widens() { &*new[k] } else { old.basis(k).words })
}
