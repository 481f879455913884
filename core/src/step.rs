//! One step of one slice: ALGORITHMS section 2, one call per line.
//!
//! Everything is computed into scratch; [`commit`] writes the state and the parameter and cannot fail. So an error leaves both as they
//! were (section 5).

use crate::config::{Direction, FirstStep, LambdaInit, StepOrder, WeightDecay};
use crate::eigenvalues::{self, Raised, rebalance};
use crate::layout::{Scratch, State};
use crate::linalg::{LinAlg, LinAlgError};
use crate::magnitude::{GradientFault, Magnitude};
use crate::refresh::{polish_due, refresh_mode};
use crate::rows::{Tables, for_each_row, scale, sums_of_squares};
use crate::shape::MAX_ORDER;
use crate::start::start;
use crate::unfold::{Rotate, Start, chain_starts_in_second, rotate, unfolded_gram};
use crate::{Config, Layout, Mode, Scalar, SliceHeader, packed};

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

/// Which modes were refreshed in this step, and which failed.
#[derive(Default)]
struct Refreshed {
    modes: [bool; MAX_ORDER],
    done: u32,
    failed: u32,
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
    let shape = *layout.shape();
    let mut next = SliceHeader { step: header.step + 1, ..*header };
    let starting = header.started == 0 && shape.preconditioned_modes() > 0;
    if starting {
        let magnitude = Magnitude::of(grad)?;
        let untouched = config.first_step == FirstStep::FactorsOnly;
        if magnitude.is_zero() {
            // Nothing to estimate a basis from, and a zero momentum: only weight decay acts, where the convention has one in step 1.
            if !(untouched && next.step == 1) {
                let decay = T::ONE - lr * config.weight_decay;
                param.iter_mut().for_each(|p| *p *= decay);
            }
            *header = next;
            return Ok(());
        }
        let (mut split, mut split_scratch) = (layout.split_state(state), layout.split_scratch(scratch));
        let started = start(&layout, &config, &mut next, &mut split, &mut split_scratch, linalg, grad, magnitude);
        if let Err(error) = started {
            state.fill(T::ZERO);
            return Err(error.into());
        }
        next.started = 1;
        if untouched {
            *header = next;
            return Ok(());
        }
    }
    let (mut split, mut split_scratch) = (layout.split_state(state), layout.split_scratch(scratch));
    match advance(&layout, &config, next, &mut split, &mut split_scratch, linalg, param, grad, lr) {
        Ok(done) => {
            *header = done;
            Ok(())
        }
        Err(error) => {
            if starting {
                // The start had been written already; a slice that has not started is all zero.
                state.fill(T::ZERO);
            }
            Err(error)
        }
    }
}

/// The step proper, of a slice that has a basis.
fn advance<T: Scalar, L: LinAlg<T>>(
    layout: &Layout,
    config: &Config<T>,
    mut header: SliceHeader,
    state: &mut State<'_, T>,
    scratch: &mut Scratch<'_, T>,
    linalg: &mut L,
    param: &mut [T],
    grad: &[T],
    lr: T,
) -> Result<SliceHeader, SliceError> {
    let full = layout.shape().full_modes() > 0;
    let mut refreshed = Refreshed::default();
    if full {
        project(layout, state, scratch, linalg, grad)?;
    }
    let raised = estimate(layout, config, state, scratch, linalg, grad)?;
    if full {
        average_momentum(config, state, scratch);
        let apply_first = config.step_order == StepOrder::ApplyFirst;
        if apply_first {
            apply(layout, config, &header, state, scratch, linalg, apply_first, &refreshed)?;
        }
        if config.refresh_due(header.step) {
            refreshed = refresh(layout, config, &header, state, scratch, linalg);
        }
        if !apply_first {
            apply(layout, config, &header, state, scratch, linalg, apply_first, &refreshed)?;
        }
        if Magnitude::of(scratch.update).is_err() {
            return Err(SliceError::UpdateNotFinite);
        }
    }
    header.floored = header.floored.saturating_add(raised.floored);
    header.clamped = header.clamped.saturating_add(raised.clamped);
    header.refreshes = header.refreshes.saturating_add(refreshed.done);
    header.refresh_failures = header.refresh_failures.saturating_add(refreshed.failed);
    commit(layout, config, &mut header, state, scratch, &refreshed, param, grad, lr);
    Ok(header)
}

/// `G~ = G x_k Q_k^T`, once.
fn project<T: Scalar, L: LinAlg<T>>(
    layout: &Layout,
    state: &State<'_, T>,
    scratch: &mut Scratch<'_, T>,
    linalg: &mut L,
    grad: &[T],
) -> Result<(), LinAlgError> {
    let bases = core::array::from_fn(|k| &*state.basis[k]);
    rotate(linalg, layout.shape(), bases, Rotate::Into, Start::External(grad), scratch.gradient, scratch.product)
}

/// `Delta~_k` of all full modes and the averaged eigenvalues of all preconditioned ones, from the eigenvalues that stand (Jacobi).
fn estimate<T: Scalar, L: LinAlg<T>>(
    layout: &Layout,
    config: &Config<T>,
    state: &State<'_, T>,
    scratch: &mut Scratch<'_, T>,
    linalg: &mut L,
    grad: &[T],
) -> Result<Raised, LinAlgError> {
    let shape = layout.shape();
    let mut raised = Raised::default();
    map_lambda(&state.lambda, &mut scratch.weight, |l| config.estimator.weight(l));
    for k in 0..shape.order() {
        let mut weights = tables(layout, &scratch.weight);
        weights[k] = None;
        let alpha = config.estimator.scale(shape.dim(k), shape.elements());
        match shape.mode(k) {
            Mode::Identity => continue,
            Mode::Full => {
                scale(shape, &weights, scratch.gradient, scratch.product);
                unfolded_gram(linalg, shape, k, alpha, scratch.product, scratch.delta[k])?;
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
        eigenvalues::average(config, shape, k, state.lambda[k], scratch.lambda[k], &mut raised);
    }
    Ok(raised)
}

/// `M~' = beta1 M~ + (1 - beta1) G~`, in the place of the projected gradient.
fn average_momentum<T: Scalar>(config: &Config<T>, state: &State<'_, T>, scratch: &mut Scratch<'_, T>) {
    let fresh = T::ONE - config.beta1;
    for (g, &m) in scratch.gradient.iter_mut().zip(&*state.momentum) {
        *g = config.beta1 * m + fresh * *g;
    }
}

/// One QR refresh of every full mode; the momentum in scratch moves along.
fn refresh<T: Scalar, L: LinAlg<T>>(
    layout: &Layout,
    config: &Config<T>,
    header: &SliceHeader,
    state: &State<'_, T>,
    scratch: &mut Scratch<'_, T>,
    linalg: &mut L,
) -> Refreshed {
    let mut refreshed = Refreshed::default();
    let polish = polish_due(header.step / u64::from(config.refresh_period));
    for k in (0..layout.shape().order()).filter(|&k| layout.shape().is_full(k)) {
        refreshed.modes[k] = refresh_mode(layout, config, k, polish, state, scratch, linalg);
        if refreshed.modes[k] {
            refreshed.done += 1;
        } else {
            refreshed.failed += 1;
        }
    }
    refreshed
}

/// `U = (M~ . prod_k lambda_k^{-1/2}) x_k Q_k`, damped, with the old or the new eigenvalues and bases.
fn apply<T: Scalar, L: LinAlg<T>>(
    layout: &Layout,
    config: &Config<T>,
    header: &SliceHeader,
    state: &State<'_, T>,
    scratch: &mut Scratch<'_, T>,
    linalg: &mut L,
    old: bool,
    refreshed: &Refreshed,
) -> Result<(), LinAlgError> {
    let shape = layout.shape();
    map_lambda(if old { &state.lambda } else { &scratch.lambda }, &mut scratch.weight, T::sqrt);
    let start = if chain_starts_in_second(shape) { &mut *scratch.product } else { &mut *scratch.update };
    let roots = tables(layout, &scratch.weight);
    let row_len = shape.dim(shape.order() - 1);
    let correction = Correction::new(config, header);
    for_each_row(shape, &roots, |at, _, prefix| {
        let momentum = &scratch.gradient[at..at + row_len];
        let roots = Roots { prefix, last: roots[shape.order() - 1] };
        for (j, (u, &m)) in start[at..at + row_len].iter_mut().zip(momentum).enumerate() {
            *u = roots.precondition(config, &correction, j, m);
        }
    });
    let bases = core::array::from_fn(|k| if refreshed.modes[k] { &*scratch.basis[k] } else { &*state.basis[k] });
    rotate(linalg, shape, bases, Rotate::OutOf, Start::InPlace, scratch.update, scratch.product)
}

/// Writes everything that the step computed: the only place that does, and it cannot fail.
fn commit<T: Scalar>(
    layout: &Layout,
    config: &Config<T>,
    header: &mut SliceHeader,
    state: &mut State<'_, T>,
    scratch: &mut Scratch<'_, T>,
    refreshed: &Refreshed,
    param: &mut [T],
    grad: &[T],
    lr: T,
) {
    let shape = layout.shape();
    let decay = Decay::new(config, lr);
    if shape.full_modes() > 0 {
        state.momentum.copy_from_slice(scratch.gradient);
        for (p, &u) in param.iter_mut().zip(&*scratch.update) {
            *p = decay.update(*p, u);
        }
    } else {
        commit_elementwise(layout, config, header, state, scratch, &decay, param, grad);
    }
    for k in 0..shape.order() {
        let d = shape.dim(k);
        state.lambda[k].copy_from_slice(scratch.lambda[k]);
        if refreshed.modes[k] {
            packed::pack(state.factor[k], scratch.delta[k], d);
            state.basis[k].copy_from_slice(scratch.basis[k]);
        } else if !shape.is_full(k) {
            continue;
        } else if refreshed.failed > 0 {
            // A failed refresh left the averaged factor in the square.
            packed::pack(state.factor[k], scratch.delta[k], d);
        } else {
            packed::average(state.factor[k], scratch.delta[k], d, config.beta2);
        }
    }
    rebalance(config, shape, state, header);
}

/// Momentum, second moment, direction and parameter in one pass, for tensors that no basis turns.
fn commit_elementwise<T: Scalar>(
    layout: &Layout,
    config: &Config<T>,
    header: &SliceHeader,
    state: &mut State<'_, T>,
    scratch: &mut Scratch<'_, T>,
    decay: &Decay<T>,
    param: &mut [T],
    grad: &[T],
) {
    let shape = layout.shape();
    let correction = Correction::new(config, header);
    let (fresh1, fresh2) = (T::ONE - config.beta1, T::ONE - config.beta2);
    let row_len = shape.dim(shape.order() - 1);
    map_lambda(if config.step_order == StepOrder::ApplyFirst { &state.lambda } else { &scratch.lambda }, &mut scratch.weight, T::sqrt);
    let roots = tables(layout, &scratch.weight);
    for_each_row(shape, &roots, |at, _, prefix| {
        let row = at..at + row_len;
        let roots = Roots { prefix, last: roots[shape.order() - 1] };
        let (param, grad, momentum) = (&mut param[row.clone()], &grad[row.clone()], &mut state.momentum[row.clone()]);
        match config.direction {
            Direction::KroneckerRoot => {
                for (j, ((p, m), &g)) in param.iter_mut().zip(momentum).zip(grad).enumerate() {
                    *m = config.beta1 * *m + fresh1 * g;
                    *p = decay.update(*p, roots.precondition(config, &correction, j, *m));
                }
            }
            Direction::SecondMoment => {
                let second = &mut state.second_moment[row];
                for (((p, m), d), &g) in param.iter_mut().zip(momentum).zip(second).zip(grad) {
                    *m = config.beta1 * *m + fresh1 * g;
                    *d = config.beta2 * *d + fresh2 * (g * g);
                    let root = (*d * correction.second).sqrt().max(T::FLOOR);
                    *p = decay.update(*p, *m * correction.first / (root + config.eps));
                }
            }
        }
    });
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
fn tables<'a, T>(layout: &Layout, weight: &'a [&mut [T]; MAX_ORDER]) -> Tables<'a, T> {
    core::array::from_fn(|k| layout.shape().has_lambda(k).then(|| &*weight[k]))
}

/// Roots of the eigenvalues that meet one row of the tensor.
struct Roots<'a, T> {
    prefix: T,
    last: Option<&'a [T]>,
}

impl<T: Scalar> Roots<'_, T> {
    /// `m / (prod_k lambda_k^{1/2} + eps)`; the denominator is at least the floor.
    #[inline(always)]
    fn precondition(&self, config: &Config<T>, correction: &Correction<T>, j: usize, m: T) -> T {
        let root = match self.last {
            Some(last) => self.prefix * last[j],
            None => self.prefix,
        };
        m * correction.first / (root.max(T::FLOOR) + config.eps)
    }
}

/// Bias corrections of this step: factors on the moments.
struct Correction<T> {
    first: T,
    second: T,
}

impl<T: Scalar> Correction<T> {
    fn new(config: &Config<T>, header: &SliceHeader) -> Self {
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
struct Decay<T> {
    lr: T,
    before: T,
    after: T,
}

impl<T: Scalar> Decay<T> {
    fn new(config: &Config<T>, lr: T) -> Self {
        let decay = lr * config.weight_decay;
        match config.weight_decay_kind {
            WeightDecay::Before => Self { lr, before: T::ONE - decay, after: T::ZERO },
            WeightDecay::After => Self { lr, before: T::ONE, after: decay },
        }
    }

    #[inline(always)]
    fn update(&self, theta: T, direction: T) -> T {
        let updated = theta * self.before - self.lr * direction;
        updated - self.after * updated
    }
}
