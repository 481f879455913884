//! One step of one slice: ALGORITHMS section 2, one call per line.
//!
//! Everything is computed into scratch; `commit` writes the state and the parameter and cannot fail. So an error leaves both as they
//! were (section 5).

use crate::config::{Direction, FirstStep, LambdaInit, StepOrder};
use crate::direction::{Correction, Decay, Root, normalise};
use crate::layout::{Scratch, State};
use crate::linalg::{LinAlg, LinAlgError};
use crate::magnitude::{GradientFault, Magnitude};
use crate::rows::{Tables, for_each_row, scale, sums_of_squares};
use crate::shape::{MAX_ORDER, Shape};
use crate::unfold::{Rotate, Start, chain_starts_in_second, rotate, unfolded_gram};
use crate::{Config, Layout, Mode, Scalar, SliceHeader, eigenvalues, packed};

/// Why a slice was not stepped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SliceError {
    /// The gradient is not usable.
    Gradient(GradientFault),
    /// The update came out not finite.
    UpdateNotFinite,
    /// A product failed.
    LinAlg(LinAlgError),
}

impl From<GradientFault> for SliceError {
    fn from(fault: GradientFault) -> Self {
        Self::Gradient(fault)
    }
}

impl From<LinAlgError> for SliceError {
    fn from(error: LinAlgError) -> Self {
        Self::LinAlg(error)
    }
}

/// The slice that a step works on: where it lies and how it is treated.
pub(crate) struct Slice<'a, T> {
    pub layout: Layout,
    pub config: Config<T>,
    pub header: &'a mut SliceHeader,
    pub state: &'a mut [T],
}

/// Whether this step ends a refresh period, and which modes' refresh succeeded.
#[derive(Default)]
struct Refreshed {
    modes: [bool; MAX_ORDER],
    tried: bool,
}

/// Checks one slice's gradient against its state, reading only (section 5, first pass).
pub(crate) fn check<T: Scalar>(
    layout: &Layout,
    config: &Config<T>,
    header: &SliceHeader,
    state: &[T],
    grad: &[T],
) -> Result<(), GradientFault> {
    let magnitude = Magnitude::of(grad)?;
    let shape = layout.shape();
    // log2 of the largest product of squared weights that meets this gradient: all modes but one (the one with the least to add).
    let (mut sum, mut least) = (0, i32::MAX);
    let mut meet = |smallest_eigenvalue: i32| {
        sum -= smallest_eigenvalue;
        least = least.min(-smallest_eigenvalue);
    };
    if header.started != 0 {
        let offsets = layout.regions().lambda;
        for range in offsets.into_iter().take(shape.order()).filter(|range| !range.is_empty()) {
            meet(state[range].iter().fold(i32::MAX, |low, l| low.min(l.exponent())));
        }
    } else if let LambdaInit::Constant(lambda) = config.lambda_init {
        // A scale-free first eigenvalue brings the gradient nearer to 1 and needs no check.
        (0..shape.preconditioned_modes()).for_each(|_| meet(lambda.exponent()));
    }
    magnitude.check(grad, if least == i32::MAX { 0 } else { sum - least })
}

/// Makes one step with `grad` at learning rate `lr` on `param`.
///
/// # Errors
/// [`SliceError`]; parameter, state and header are as before.
pub(crate) fn step<T: Scalar, L: LinAlg<T>>(
    slice: Slice<'_, T>,
    scratch: &mut [T],
    linalg: &mut L,
    param: &mut [T],
    grad: &[T],
    lr: T,
) -> Result<(), SliceError> {
    let Slice { layout, config, header, state } = slice;
    let starting = header.started == 0 && layout.shape().preconditioned_modes() > 0;
    let mut step = SliceStep {
        layout: &layout,
        config: &config,
        header: SliceHeader { step: header.step + 1, ..*header },
        state: layout.split_state(state),
        scratch: layout.split_scratch(scratch),
        linalg,
        refreshed: Refreshed::default(),
    };
    let result = if starting { step.first(param, grad, lr) } else { step.advance(param, grad, lr) };
    let next = step.header;
    match result {
        Ok(()) => *header = next,
        // The start had been written already; a slice that has not started is all zero.
        Err(_) if starting => state.fill(T::ZERO),
        Err(_) => {}
    }
    result
}

/// One step of one slice, under way: everything that its parts work on.
pub(crate) struct SliceStep<'a, T, L> {
    pub layout: &'a Layout,
    pub config: &'a Config<T>,
    /// The header of after this step.
    pub header: SliceHeader,
    pub state: State<'a, T>,
    pub scratch: Scratch<'a, T>,
    pub linalg: &'a mut L,
    refreshed: Refreshed,
}

impl<T: Scalar, L: LinAlg<T>> SliceStep<'_, T, L> {
    /// A step of a slice that has not seen a non-zero gradient yet.
    fn first(&mut self, param: &mut [T], grad: &[T], lr: T) -> Result<(), SliceError> {
        let magnitude = Magnitude::of(grad)?;
        let factors_only = self.config.first_step == FirstStep::FactorsOnly;
        if magnitude.is_zero() {
            // Nothing to estimate a basis from, and a zero momentum: only weight decay acts, where the convention has one in step 1.
            if !(factors_only && self.header.step == 1) {
                let decay = T::ONE - lr * self.config.weight_decay;
                param.iter_mut().for_each(|p| *p *= decay);
            }
            return Ok(());
        }
        self.start(grad, magnitude)?;
        self.header.started = 1;
        if factors_only { Ok(()) } else { self.advance(param, grad, lr) }
    }

    /// The step proper, of a slice that has a basis.
    fn advance(&mut self, param: &mut [T], grad: &[T], lr: T) -> Result<(), SliceError> {
        let turned = self.layout.shape().full_modes() > 0;
        if turned {
            self.project(grad)?;
        }
        self.estimate(grad)?;
        if turned {
            self.average_momentum();
            if self.config.step_order == StepOrder::ApplyFirst {
                self.apply()?;
            }
            if self.config.refresh_due(self.header.step) {
                self.refresh();
            }
            if self.config.step_order == StepOrder::EstimateFirst {
                self.apply()?;
            }
            if !Magnitude::of(self.scratch.update).is_ok_and(|update| update.stays_finite(lr)) {
                return Err(SliceError::UpdateNotFinite);
            }
        }
        self.commit(param, grad, lr);
        Ok(())
    }

    /// `G~ = G x_k Q_k^T`, once.
    fn project(&mut self, grad: &[T]) -> Result<(), LinAlgError> {
        let bases = core::array::from_fn(|k| &*self.state.basis[k]);
        let Scratch { gradient, product, .. } = &mut self.scratch;
        rotate(self.linalg, self.layout.shape(), bases, Rotate::Into, Start::External(grad), gradient, product)
    }

    /// `Delta~_k` of all full modes and the averaged eigenvalues of all preconditioned ones, from the eigenvalues that stand (Jacobi).
    fn estimate(&mut self, grad: &[T]) -> Result<(), LinAlgError> {
        let (shape, config, scratch) = (self.layout.shape(), self.config, &mut self.scratch);
        map_lambda(&self.state.lambda, &mut scratch.weight, |l| config.estimator.weight(l));
        for k in 0..shape.order() {
            let mut weights = tables(shape, &scratch.weight);
            weights[k] = None;
            let alpha = config.estimator.scale(shape.dim(k), shape.elements());
            match shape.mode(k) {
                Mode::Identity => continue,
                Mode::Full => {
                    scale(shape, &weights, scratch.gradient, scratch.product);
                    unfolded_gram(self.linalg, shape, k, alpha, scratch.product, scratch.delta[k])?;
                    let step = shape.dim(k) + 1;
                    for (out, &diagonal) in scratch.lambda[k].iter_mut().zip(scratch.delta[k].iter().step_by(step)) {
                        *out = diagonal;
                    }
                }
                Mode::Diagonal => {
                    let projected = if shape.full_modes() > 0 { &*scratch.gradient } else { grad };
                    sums_of_squares(shape, &weights, k, projected, scratch.lambda[k]);
                    scratch.lambda[k].iter_mut().for_each(|sum| *sum *= alpha);
                }
            }
            eigenvalues::average(config, shape, k, self.state.lambda[k], scratch.lambda[k], &mut self.header);
        }
        Ok(())
    }

    /// `M~' = beta1 M~ + (1 - beta1) G~`, in the place of the projected gradient.
    fn average_momentum(&mut self) {
        let (kept, fresh) = (self.config.beta1, T::ONE - self.config.beta1);
        for (g, &m) in self.scratch.gradient.iter_mut().zip(&*self.state.momentum) {
            *g = kept * m + fresh * *g;
        }
    }

    /// One QR refresh of every full mode; the momentum in scratch moves along.
    fn refresh(&mut self) {
        self.refreshed.tried = true;
        for k in (0..self.layout.shape().order()).filter(|&k| self.layout.shape().is_full(k)) {
            let done = self.refresh_mode(k);
            self.refreshed.modes[k] = done;
            let count = if done { &mut self.header.refreshes } else { &mut self.header.refresh_failures };
            *count = count.saturating_add(1);
        }
    }

    /// `U = (M~ . prod_k lambda_k^{-1/2}) x_k Q_k`, damped, with the eigenvalues and bases that the convention's order gives it.
    fn apply(&mut self) -> Result<(), LinAlgError> {
        let (shape, config) = (self.layout.shape(), self.config);
        self.root_eigenvalues();
        let Scratch { gradient, product, update, weight, basis, .. } = &mut self.scratch;
        let start = if chain_starts_in_second(shape) { &mut **product } else { &mut **update };
        let roots = tables(shape, weight);
        let correction = Correction::new(config, &self.header);
        for_each_row(shape, &roots, |row, _, prefix| {
            let root = Root { prefix, last: roots[shape.order() - 1] };
            root.precondition(config.eps, correction.first, &gradient[row.clone()], &mut start[row]);
        });
        let bases = core::array::from_fn(|k| if self.refreshed.modes[k] { &*basis[k] } else { &*self.state.basis[k] });
        rotate(self.linalg, shape, bases, Rotate::OutOf, Start::InPlace, update, product)
    }

    /// Roots of the eigenvalues that the direction sees: those from before this step, or the new ones.
    fn root_eigenvalues(&mut self) {
        let lambda = match self.config.step_order {
            StepOrder::ApplyFirst => &self.state.lambda,
            StepOrder::EstimateFirst => &self.scratch.lambda,
        };
        map_lambda(lambda, &mut self.scratch.weight, T::sqrt);
    }

    /// Writes everything that the step computed: the only place that does, and it cannot fail.
    fn commit(&mut self, param: &mut [T], grad: &[T], lr: T) {
        let shape = self.layout.shape();
        let decay = Decay::new(self.config, lr);
        if shape.full_modes() > 0 {
            self.state.momentum.copy_from_slice(self.scratch.gradient);
            decay.update(param, self.scratch.update);
        } else {
            self.commit_elementwise(param, grad, &decay);
        }
        let Self { state, scratch, .. } = self;
        for k in 0..shape.order() {
            state.lambda[k].copy_from_slice(scratch.lambda[k]);
            let d = shape.dim(k);
            if self.refreshed.modes[k] {
                state.basis[k].copy_from_slice(scratch.basis[k]);
            }
            match (shape.is_full(k), self.refreshed.tried) {
                (false, _) => {}
                // A refresh leaves the factor of after this step in the square, also when it fails.
                (true, true) => packed::pack(state.factor[k], scratch.delta[k], d),
                (true, false) => packed::average(state.factor[k], scratch.delta[k], d, self.config.beta2),
            }
        }
        eigenvalues::rebalance(self.config, shape, &mut self.state, &mut self.header);
    }

    /// Momentum, second moment, direction and parameter in one pass, for tensors that no basis turns.
    fn commit_elementwise(&mut self, param: &mut [T], grad: &[T], decay: &Decay<T>) {
        let (shape, config) = (self.layout.shape(), self.config);
        self.root_eigenvalues();
        let roots = tables(shape, &self.scratch.weight);
        let correction = Correction::new(config, &self.header);
        let State { momentum, second_moment, .. } = &mut self.state;
        for_each_row(shape, &roots, |row, _, prefix| {
            // Rows are cut into blocks so that the direction needs no buffer of the tensor's size.
            for start in row.clone().step_by(BLOCK) {
                let block = start..row.end.min(start + BLOCK);
                let momentum = &mut momentum[block.clone()];
                let mut direction = [T::ZERO; BLOCK];
                let direction = &mut direction[..block.len()];
                average(config.beta1, momentum, grad[block.clone()].iter().copied());
                match config.direction {
                    Direction::KroneckerRoot => {
                        let last = roots[shape.order() - 1].map(|roots| &roots[block.start - row.start..block.end - row.start]);
                        Root { prefix, last }.precondition(config.eps, correction.first, momentum, direction);
                    }
                    Direction::SecondMoment => {
                        let second = &mut second_moment[block.clone()];
                        average(config.beta2, second, grad[block.clone()].iter().map(|&g| g * g));
                        normalise(config.eps, &correction, momentum, second, direction);
                    }
                }
                decay.update(&mut param[block], direction);
            }
        });
    }
}

/// Elements of a block of the elementwise step: small enough for a microcontroller's stack, large enough to vectorise.
const BLOCK: usize = 32;

/// `x <- beta x + (1 - beta) y`.
fn average<T: Scalar>(beta: T, x: &mut [T], y: impl Iterator<Item = T>) {
    let fresh = T::ONE - beta;
    for (x, y) in x.iter_mut().zip(y) {
        *x = beta * *x + fresh * y;
    }
}

/// `out_k = f(lambda_k)` for every preconditioned mode.
fn map_lambda<T: Scalar>(lambda: &[&mut [T]; MAX_ORDER], out: &mut [&mut [T]; MAX_ORDER], f: impl Fn(T) -> T) {
    for (out, lambda) in out.iter_mut().zip(lambda) {
        for (out, &l) in out.iter_mut().zip(&**lambda) {
            *out = f(l);
        }
    }
}

/// One table per preconditioned mode.
fn tables<'a, T>(shape: &Shape, weight: &'a [&mut [T]; MAX_ORDER]) -> Tables<'a, T> {
    core::array::from_fn(|k| shape.has_lambda(k).then(|| &*weight[k]))
}
