//! One step of one slice: ALGORITHMS section 2, one call per line.
//!
//! Everything is computed into scratch; `commit` writes the state and the parameter and cannot fail. So an error leaves both as they
//! were (section 5).

use crate::config::built;
use crate::config::{Divisor, Estimator, FirstStep, LambdaInit, StepOrder};
use crate::direction::Decay;
use crate::elements::{Elements, ElementsMut};
use crate::format::Rounder;
use crate::layout::{Scratch, State};
use crate::linalg::{LinAlg, LinAlgError};
use crate::magnitude::{GradientFault, Magnitude, Scan, Visit, factor_is_in_range, turned_is_in_range};
use crate::measure::Measure;
use crate::rows::Tables;
use crate::shape::{MAX_ORDER, Shape};
use crate::stream::{GradStream, ParamStream};
use crate::unfold::{Precision, Rotate, Start, rotate};
use crate::{Config, Layout, Scalar, SliceHeader, eigenvalues, graft, passes, portions};

/// Why a slice was not stepped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SliceError {
    /// The gradient is not usable.
    Gradient(GradientFault),
    /// The estimate of a factor left the range of the arithmetic.
    EstimateNotFinite,
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
    pub layout: &'a Layout,
    pub config: &'a Config<T>,
    pub header: &'a mut SliceHeader,
    pub state: &'a mut [T],
    /// Steps that its refreshes come ahead of the period's end.
    pub phase: u64,
    pub refresh: RefreshTurn,
    /// Out: operations of the step's portion of a refresh.
    pub portion_flops: u64,
    /// How its factors are rounded.
    pub rounder: Rounder,
}

/// Whether a slice may refresh in this step.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum RefreshTurn {
    /// In the steps that its period says.
    OnTime,
    /// It may, on time or late: refreshes are on a budget.
    Granted,
    /// It has to wait.
    Postponed,
}

/// For how many steps a refresh that is due in the next one, or `under_way`, has been waiting; `None` if there is none. A slice without a
/// basis has none.
pub(crate) fn overdue<T: Scalar>(config: &Config<T>, header: &SliceHeader, phase: u64, under_way: bool) -> Option<u64> {
    let due = under_way || header.postponed > 0 || config.refresh_due(header.step + 1, header.last_refresh, phase);
    (due && header.started != 0).then_some(u64::from(header.postponed))
}

/// Whether a refresh was due in this step, and which modes were turned.
#[derive(Default)]
pub(crate) struct Refreshed {
    pub modes: [bool; MAX_ORDER],
    pub tried: bool,
}

/// Checks one piece's gradient, which `visit` shows run by run, against its state, reading only (section 5, first pass).
#[inline(never)]
pub(crate) fn check<T: Scalar>(
    layout: &Layout,
    config: &Config<T>,
    header: &SliceHeader,
    state: &[T],
    visit: Visit<'_, T>,
) -> Result<(), GradientFault> {
    let mut magnitude = Ok(Magnitude::NONE);
    visit(&mut |run| magnitude = magnitude.and_then(|all| Ok(all.and(Magnitude::of(run)?))));
    let magnitude = magnitude?;
    let shape = layout.shape();
    // log2 of the largest gain of the estimates on squares of this gradient: all modes' but one (the one with the least to add).
    let (mut sum, mut least) = (0, i32::MAX);
    let mut meet = |gain: i32| {
        sum += gain;
        least = least.min(gain);
    };
    let lowest = eigenvalues::floor::<T>(config.estimator, shape.preconditioned_modes());
    if header.started != 0 {
        let regions = layout.regions();
        for k in (0..shape.order()).filter(|&k| layout.has_lambda(k)) {
            let exponents = || state[regions.lambda[k].clone()].iter().map(|x| x.exponent());
            meet(match (config.estimator.built(), config.estimator.divisor()) {
                (Estimator::KullbackLeibler, _) => -exponents().fold(i32::MAX, i32::min),
                (_, Divisor::None) => 0,
                // Over its norm: that of its largest element, or the floor.
                (Estimator::FrobeniusFactor, _) if shape.is_full(k) => {
                    -layout.factor(state, k).elements().fold(lowest.exponent(), |largest, x| largest.max(x.exponent()))
                }
                (_, Divisor::Sum | Divisor::SumOfSquares) => -exponents().fold(lowest.exponent(), i32::max),
            });
        }
    } else if let LambdaInit::Constant(lambda) = config.lambda_init {
        // A scale-free first eigenvalue brings the gradient nearer to 1 and needs no check.
        let lambda = lambda.max(lowest);
        let power = match (config.estimator.divisor(), config.first_step.built()) {
            (Divisor::None, _) if config.estimator.is_unweighted() => 0,
            (Divisor::SumOfSquares, FirstStep::FactorsOnly) => 2,
            _ => 1,
        };
        (0..shape.preconditioned_modes()).for_each(|_| meet(power * lambda.exponent().abs()));
    }
    magnitude.check(shape.elements(), visit, if least == i32::MAX { 0 } else { sum - least })
}

/// Makes one step: `run` is what is done in it.
///
/// # Errors
/// [`SliceError`]; parameter, state and header are as before.
pub(crate) fn step<'s, T: Scalar, L: LinAlg<T>>(
    slice: &'s mut Slice<'_, T>,
    scratch: &'s mut [T],
    linalg: &'s mut L,
    run: impl FnOnce(&mut SliceStep<'_, '_, T, L>) -> Result<(), SliceError>,
) -> Result<(), SliceError> {
    let Slice { layout, config, header, state, phase, refresh, portion_flops, rounder } = slice;
    let (layout, config, phase, refresh) = (*layout, *config, *phase, *refresh);
    let starting = header.started == 0 && layout.shape().preconditioned_modes() > 0;
    let waits = if starting { None } else { overdue(config, header, phase, portions::is_under_way(layout, state)) };
    let due = match refresh {
        // The basis has just been set: one that is ahead of its time waits for the next.
        _ if starting => config.refresh_due(header.step + 1, header.last_refresh, 0),
        // What becomes due is queued, and its portions wait for their turn.
        _ if layout.is_portioned() => config.refresh_due(header.step + 1, header.last_refresh, phase),
        RefreshTurn::OnTime => config.refresh_due(header.step + 1, header.last_refresh, phase),
        RefreshTurn::Granted => waits.is_some(),
        RefreshTurn::Postponed => false,
    };
    let postponed = match (refresh, waits) {
        (RefreshTurn::Postponed, Some(_)) => header.postponed.saturating_add(1),
        (RefreshTurn::Granted, _) => 0,
        _ if due => 0,
        _ => header.postponed,
    };
    let (mut parts, mut scratch) = (layout.split_state(state), layout.split_scratch(scratch));
    let mut step = SliceStep {
        layout,
        config,
        header: SliceHeader { step: header.step + 1, postponed, ..**header },
        state: &mut parts,
        scratch: &mut scratch,
        linalg,
        rounder: *rounder,
        starting,
        due,
        has_turn: refresh != RefreshTurn::Postponed,
        refreshed: Refreshed::default(),
        portion_flops: 0,
    };
    let result = run(&mut step);
    match result {
        Ok(()) => (**header, *portion_flops) = (step.header, step.portion_flops),
        // The start had been written already; a slice that has not started has no basis, and all its averages are zero. The master
        // weights may have moved by weight decay; no refresh in portions, which is kept behind them, has begun.
        Err(_) if starting => state[..layout.master().start].fill(T::ZERO),
        Err(_) => {}
    }
    result
}

/// One step of one slice, under way: everything that its parts work on.
pub(crate) struct SliceStep<'s, 'a, T, L> {
    pub layout: &'s Layout,
    pub config: &'s Config<T>,
    /// The header of after this step.
    pub header: SliceHeader,
    pub state: &'s mut State<'a, T>,
    pub scratch: &'s mut Scratch<'a, T>,
    pub linalg: &'s mut L,
    /// How factors are rounded.
    pub rounder: Rounder,
    /// Whether this is the step that sets the basis.
    pub starting: bool,
    /// Whether a refresh is due in this step.
    pub due: bool,
    /// Whether a refresh that is made in portions gets on in this step.
    pub has_turn: bool,
    pub refreshed: Refreshed,
    /// Operations of the portion.
    pub portion_flops: u64,
}

impl<T: Scalar, L: LinAlg<T>> SliceStep<'_, '_, T, L> {
    /// The step with `grad` at learning rate `lr` on `param`, or, unless it `moves` that, of the direction into its place.
    pub(crate) fn run(&mut self, param: &mut [T], grad: &[T], lr: T, moves: bool) -> Result<(), SliceError> {
        if self.starting && !self.first(param, grad, lr, moves)? {
            return Ok(());
        }
        self.advance(param, grad, lr, moves)
    }

    /// The same of a piece that no mode of is preconditioned, wherever its parameter and gradient lie.
    pub(crate) fn stream<P: ElementsMut<T> + ?Sized, G: Elements<T> + ?Sized>(
        &mut self,
        param: &mut ParamStream<'_, P>,
        grad: &GradStream<'_, T, G>,
        lr: T,
        moves: bool,
    ) -> Result<(), SliceError> {
        if !self.elementwise_stays_finite(grad, lr) {
            return Err(SliceError::UpdateNotFinite);
        }
        self.commit_elementwise(param, grad, &Decay::new(self.config, lr, moves));
        if self.due {
            self.header.last_refresh = self.header.step;
        }
        Ok(())
    }

    /// What a slice does first that has not seen a non-zero gradient yet; whether it is then stepped. Like everything that is rare or runs before the step proper it stays a
    /// function of its own: what it keeps on the stack is then no part of what every step needs.
    #[inline(never)]
    fn first(&mut self, param: &mut [T], grad: &[T], lr: T, moves: bool) -> Result<bool, SliceError> {
        let (magnitude, decay) = (Magnitude::of(grad)?, Decay::new(self.config, lr, moves));
        let factors_only = self.config.first_step.built() == FirstStep::FactorsOnly;
        if magnitude.is_zero() {
            // Nothing to estimate a basis from, and a zero momentum: only weight decay acts, where the convention has one in step 1.
            let rests = factors_only && self.header.step == 1;
            let theta = self.theta(param);
            if rests {
                decay.rest(theta)
            } else {
                decay.decay(theta)
            }
            return Ok(false);
        }
        self.start(grad, magnitude)?;
        self.header.started = 1;
        if factors_only {
            decay.rest(self.theta(param));
        }
        Ok(!factors_only)
    }

    /// What a step moves: the master weights where there are some, else what the caller gave.
    fn theta<'t>(&'t mut self, param: &'t mut [T]) -> &'t mut [T] {
        if self.state.master.is_empty() { param } else { self.state.master }
    }

    /// The step proper, of a slice that has a basis.
    #[inline(never)]
    fn advance(&mut self, param: &mut [T], grad: &[T], lr: T, moves: bool) -> Result<(), SliceError> {
        let (turned, order) = (self.layout.shape().is_turned(), self.config.step_order.built());
        let rests = turned && self.starting && self.config.rests_in_first_step();
        if turned {
            self.project(grad)?;
        }
        self.estimate(grad)?;
        if !self.estimate_is_finite() {
            return Err(SliceError::EstimateNotFinite);
        }
        if turned {
            self.average_momentum();
            passes::copy(self.linalg, self.scratch.second_moment, self.state.second_moment);
        }
        if order == StepOrder::ApplyFirst {
            self.direct(grad, lr, rests)?;
        }
        if turned && self.layout.is_portioned() {
            self.turn();
        } else if turned && self.due {
            self.refresh();
        }
        if order == StepOrder::EstimateFirst {
            self.direct(grad, lr, rests)?;
        }
        self.commit(param, grad, &Decay::new(self.config, lr, moves), rests);
        if self.due {
            self.header.last_refresh = self.header.step;
        }
        Ok(())
    }

    /// The direction, with the second moment and the bases in force. Without a basis it is formed in the commit, block by block.
    #[inline(never)]
    fn direct(&mut self, grad: &[T], lr: T, rests: bool) -> Result<(), SliceError> {
        let turned = self.layout.shape().is_turned();
        if turned {
            self.average_second_moment();
        }
        let finite = match (turned, rests) {
            (true, true) => true,
            (true, false) => {
                self.apply(grad)?;
                self.linalg.vectorise(Scan(self.scratch.update)).is_ok_and(|update| update.stays_finite(lr))
            }
            (false, _) => self.elementwise_stays_finite(&GradStream::of(grad), lr),
        };
        if finite { Ok(()) } else { Err(SliceError::UpdateNotFinite) }
    }

    /// Whether nothing left the range in the estimate: what the check of the gradient could not foresee. An overflow shows on the diagonals;
    /// what a backend leaves that errs may lie anywhere, and be too large for the next step.
    fn estimate_is_finite(&self) -> bool {
        let (shape, linalg, Scratch { gradient, lambda, delta, .. }) = (self.layout.shape(), &*self.linalg, &self.scratch);
        let diagonals = (0..shape.order()).all(|k| {
            let values = !self.layout.has_lambda(k) || lambda[k].iter().all(|l| l.is_finite_bits());
            values && delta[k].iter().step_by(shape.dim(k) + 1).all(|x| x.is_finite_bits())
        });
        let full = |k: &usize| shape.is_full(*k);
        let everything = || {
            let mut factors = (0..shape.order()).filter(full);
            turned_is_in_range(linalg, gradient) && factors.all(|k| factor_is_in_range(linalg, delta[k], shape.dim(k)))
        };
        diagonals && (linalg.is_trusted() || everything())
    }

    /// `G~ = G x_k Q_k^T`, once.
    #[inline(never)]
    fn project(&mut self, grad: &[T]) -> Result<(), LinAlgError> {
        let Scratch { gradient, product, basis, .. } = &mut self.scratch;
        let bases = self.state.dense_bases(basis);
        rotate(self.linalg, Precision::Rounding, self.layout.shape(), bases, Rotate::Into, Start::External(grad), [gradient, product])
    }

    /// Brings bases that are kept in 16 bits to their place in scratch again, after something else has been there.
    pub(crate) fn widen_bases(&mut self) {
        self.state.dense_bases(&mut self.scratch.basis);
    }

    /// Writes everything that the step computed: the only place that does, and it cannot fail.
    #[inline(never)]
    fn commit(&mut self, param: &mut [T], grad: &[T], decay: &Decay<T>, rests: bool) {
        let shape = self.layout.shape();
        // Master weights are what moves here; whoever has the parameter writes it from them.
        let master = core::mem::take(&mut self.state.master);
        let theta = if master.is_empty() { param } else { &mut *master };
        if shape.is_turned() {
            passes::copy(self.linalg, self.state.momentum, self.scratch.momentum);
            passes::copy(self.linalg, self.state.second_moment, self.scratch.second_moment);
            for (v, &g) in self.state.graft_moment.iter_mut().zip(grad) {
                *v = graft::moment(self.config, *v, g);
            }
            if rests {
                decay.rest(theta);
            } else {
                if built::MEASURE && self.config.measure {
                    let mut measure = Measure::new();
                    measure.add(self.scratch.update, grad);
                    measure.write(T::ONE, &mut self.header);
                }
                let decay = *decay;
                passes::map(self.linalg, theta, self.scratch.update, move |_, theta, u| decay.update(theta, u, T::ONE));
            }
        } else {
            self.commit_elementwise(&mut ParamStream::of(theta), &GradStream::of(grad), decay);
        }
        self.state.master = master;
        let Self { state, scratch, linalg, .. } = self;
        for k in 0..shape.order() {
            if self.layout.has_lambda(k) {
                state.lambda[k].copy_from_slice(scratch.lambda[k]);
            }
            if self.refreshed.modes[k] {
                state.keep_basis(k, scratch.basis[k]);
            }
            match (shape.is_full(k), self.refreshed.tried) {
                (false, _) => {}
                // A refresh leaves the factor of after this step in the square, also when it fails or is not needed.
                (true, true) => state.keep_factor(k, scratch.delta[k], self.rounder),
                (true, false) => {
                    let rounder = self.rounder.of_part(k);
                    state.factor_mut(k).average(*linalg, scratch.delta[k], self.config.beta2, rounder);
                }
            }
        }
        if self.layout.is_portioned() {
            self.make_portion();
        }
        // A factor that is not all in its place is not scaled: a few steps later is as good.
        if !portions::has_factor_aside(self.layout, self.state.pending) {
            eigenvalues::rebalance(self.config, shape, self.state, &mut self.header);
        }
    }
}

/// One table per preconditioned mode.
pub(crate) fn tables<'a, T>(shape: &Shape, weight: &'a [&mut [T]; MAX_ORDER]) -> Tables<'a, T> {
    core::array::from_fn(|k| shape.is_preconditioned(k).then(|| &*weight[k]))
}
