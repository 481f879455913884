//! The optimizer: a view over a table of tensors and the memory lent for their state.

use core::ops::Range;

use crate::budget::{Due, Refreshes};
use crate::config::built;
use crate::job::{Jobs, SliceBuffers, longest_overdue, show};
use crate::linalg::LinAlg;
use crate::magnitude::Visit;
use crate::report::{StepError, StepErrorKind, StepReport};
use crate::step::check;
use crate::{BadGradient, Config, ConfigError, Elements, Format, Layout, Scalar, SliceHeader, TableError, Tensor};

/// An optimizer over borrowed memory: groups, resolved tensors, one header per slice and one state buffer.
///
/// The same table and buffers must be given each time; a new optimizer starts from zeroed headers ([`SliceHeader::NEW`]) and a zeroed
/// state. [`crate::FixedOptimizer`] owns all of them.
#[derive(Debug)]
pub struct Optimizer<'a, T> {
    groups: &'a [Config<T>],
    tensors: &'a [Tensor],
    pub(crate) headers: &'a mut [SliceHeader],
    pub(crate) state: &'a mut [T],
    /// Floating-point operations of a step's refreshes.
    refresh_budget: u64,
}

/// The caller's parameters and gradients, by tensor.
trait Buffers<T> {
    /// The gradient of a tensor; `None` freezes it in this step.
    fn gradient(&self, tensor: usize) -> Option<&[T]>;
    /// The parameter and the gradient of a tensor.
    fn pair(&mut self, tensor: usize) -> Option<(&mut [T], &[T])>;
}

/// Parameters and gradients of the whole table, in its order.
#[derive(Debug)]
struct TableBuffers<'a, 'p, 'g, T> {
    params: &'a mut [&'p mut [T]],
    grads: &'a [Option<&'g [T]>],
}

impl<T> Buffers<T> for TableBuffers<'_, '_, '_, T> {
    fn gradient(&self, tensor: usize) -> Option<&[T]> {
        self.grads[tensor]
    }

    fn pair(&mut self, tensor: usize) -> Option<(&mut [T], &[T])> {
        Some((&mut *self.params[tensor], self.grads[tensor]?))
    }
}

/// Parameter and gradient of the one tensor that is stepped.
struct OneTensor<'a, T> {
    param: &'a mut [T],
    grad: &'a [T],
}

impl<T> Buffers<T> for OneTensor<'_, T> {
    fn gradient(&self, _: usize) -> Option<&[T]> {
        Some(self.grad)
    }

    fn pair(&mut self, _: usize) -> Option<(&mut [T], &[T])> {
        Some((self.param, self.grad))
    }
}

impl<'a, T: Scalar> Optimizer<'a, T> {
    /// A view over a resolved table and its memory.
    ///
    /// # Errors
    /// [`TableError::BufferTooShort`] when `headers` or `state` are shorter than the table's [`crate::Totals`];
    /// [`TableError::Order`] when the tensors are not in the order in which they were resolved;
    /// [`TableError::Group`] or [`TableError::Config`] when `groups` are not those that the table was resolved against.
    pub fn new(
        groups: &'a [Config<T>],
        tensors: &'a [Tensor],
        headers: &'a mut [SliceHeader],
        state: &'a mut [T],
    ) -> Result<Self, TableError> {
        if let Some(last) = tensors.last() {
            let slice = last.slices() - 1;
            if headers.len() < last.header_range(slice).end || state.len() < last.state_range(slice).end {
                return Err(TableError::BufferTooShort);
            }
        }
        let (mut slices, mut state_len) = (0, 0);
        for tensor in tensors {
            if (tensor.header_range(0).start, tensor.state_range(0).start) != (slices, state_len) {
                return Err(TableError::Order);
            }
            slices += tensor.slices() * tensor.pieces();
            state_len = tensor.state_range(tensor.slices() - 1).end;
            groups.get(tensor.group()).ok_or(TableError::Group)?.validate()?;
            if tensor.config(groups).parts().with_master(tensor.storage().master_weights) != *tensor.layout().parts() {
                return Err(TableError::Config(ConfigError::Combination));
            }
        }
        Ok(Self::over(groups, tensors, headers, state))
    }

    /// A view over a table and memory that are known to match.
    pub(crate) fn over(groups: &'a [Config<T>], tensors: &'a [Tensor], headers: &'a mut [SliceHeader], state: &'a mut [T]) -> Self {
        Self { groups, tensors, headers, state, refresh_budget: u64::MAX }
    }

    /// The same view, whose steps spend at most `flops` floating-point operations on refreshes as [`Cost`](crate::Cost) predicts them, or one
    /// refresh: what would go beyond waits for the next step, the longest waiting first. `u64::MAX` is no budget. A slice's first step,
    /// which sets its basis, is not bounded. The budget is that of a call: of a step of the whole table, or of one tensor. A refresh that is
    /// made in portions waits from one to the next, each taken for the most that it may be.
    #[cfg(feature = "refresh-budget")]
    #[must_use]
    pub fn with_refresh_budget(self, flops: u64) -> Self {
        self.bounded(flops)
    }

    pub(crate) fn bounded(mut self, flops: u64) -> Self {
        self.refresh_budget = flops;
        self
    }

    /// The groups.
    pub fn groups(&self) -> &'a [Config<T>] {
        self.groups
    }

    /// The table.
    pub fn tensors(&self) -> &'a [Tensor] {
        self.tensors
    }

    /// Floating-point operations of one refresh of the whole table.
    fn refresh_flops(&self) -> u64 {
        self.tensors.last().map_or(0, |last| last.cost_up_to_here().refresh)
    }

    /// See [`Tensor::predicted_flops`].
    pub fn predicted_flops(&self, t: u64) -> u64 {
        Tensor::predicted_flops(self.tensors, self.groups, t)
    }

    /// One step of the whole table: `params[i]` and `grads[i]` belong to tensor `i`; `None` freezes it. `lr` is multiplied by the
    /// group's `lr_scale`.
    ///
    /// Every gradient is checked before anything is written; then each slice is a transaction of its own: after an error in one of
    /// them the others have been stepped.
    ///
    /// # Errors
    /// The first [`StepError`].
    pub fn step<L: LinAlg<T>>(
        &mut self,
        params: &mut [&mut [T]],
        grads: &[Option<&[T]>],
        lr: T,
        scratch: &mut [T],
        linalg: &mut L,
    ) -> Result<StepReport, StepError> {
        if params.len() != self.tensors.len() || grads.len() != self.tensors.len() {
            return Err(StepError { tensor: 0, slice: 0, kind: StepErrorKind::TensorCount });
        }
        for (i, (param, tensor)) in params.iter().zip(self.tensors).enumerate() {
            if param.len() != tensor.span() {
                return Err(StepError { tensor: i, slice: 0, kind: StepErrorKind::BufferLength });
            }
        }
        self.step_range(0..self.tensors.len(), &mut TableBuffers { params, grads }, lr, scratch, linalg)
    }

    /// One step of one tensor, as soon as its gradient is ready.
    ///
    /// # Errors
    /// [`StepError`].
    pub fn step_tensor<L: LinAlg<T>>(
        &mut self,
        tensor: usize,
        param: &mut [T],
        grad: &[T],
        lr: T,
        scratch: &mut [T],
        linalg: &mut L,
    ) -> Result<StepReport, StepError> {
        let Some(entry) = self.tensors.get(tensor) else {
            return Err(StepError { tensor, slice: 0, kind: StepErrorKind::NoSuchIndex });
        };
        if param.len() != entry.span() {
            return Err(StepError { tensor, slice: 0, kind: StepErrorKind::BufferLength });
        }
        self.step_range(tensor..tensor + 1, &mut OneTensor { param, grad }, lr, scratch, linalg)
    }

    /// The first pass of a step over a range of tensors: the learning rate, the factor on the gradients, and every gradient's length and
    /// numbers. `gradient` gives the elements of a tensor's slice. Reads only.
    ///
    /// # Errors
    /// The first [`StepError`]. Unusable gradients of groups that skip them are none.
    #[inline(never)]
    pub fn check<G: Elements<T>>(
        &self,
        tensors: Range<usize>,
        gradient: impl Fn(usize, Range<usize>) -> Option<G>,
        lr: T,
        grad_scale: T,
    ) -> Result<(), StepError> {
        if !lr.is_finite_bits() || lr < T::ZERO {
            return Err(StepError { tensor: 0, slice: 0, kind: StepErrorKind::LearningRate });
        }
        for i in tensors {
            let fail = |kind| StepError { tensor: i, slice: 0, kind };
            let tensor = self.tensors.get(i).ok_or(fail(StepErrorKind::NoSuchIndex))?;
            let Some(first) = gradient(i, tensor.slice_range(0)) else { continue };
            if first.span() != tensor.slice_range(0).len() {
                return Err(fail(StepErrorKind::BufferLength));
            }
            if first.format() != tensor.storage().grad {
                return Err(fail(StepErrorKind::Format));
            }
            tensor.check_grad_scale(grad_scale).map_err(fail)?;
            let config = tensor.config(self.groups);
            let rate = lr * config.lr_scale;
            if !rate.is_finite_bits() || !(rate * config.weight_decay).is_finite_bits() {
                return Err(fail(StepErrorKind::LearningRate));
            }
            if config.bad_gradient == BadGradient::Skip {
                continue;
            }
            for slice in 0..tensor.slices() {
                let mut state = &self.state[tensor.state_range(slice)];
                let headers = &self.headers[tensor.header_range(slice)];
                let Some(grad) = gradient(i, tensor.slice_range(slice)) else { continue };
                for (at, header) in headers.iter().enumerate() {
                    let piece = tensor.piece(at);
                    let (own, rest) = state.split_at(piece.layout.state_len());
                    state = rest;
                    let visit: Visit<'_, T> = &|f| show(tensor.plan(), &piece, &grad, grad_scale, f);
                    check(&piece.layout, &config, header, own, visit).map_err(|fault| StepError {
                        tensor: i,
                        slice: slice * tensor.pieces() + at,
                        kind: StepErrorKind::Slice(fault.into()),
                    })?;
                }
            }
        }
        Ok(())
    }

    /// Which refreshes the next step of a range of tensors makes, of which those that `has_gradient` says are stepped. Ask before any of its
    /// jobs runs.
    pub fn refreshes(&self, tensors: Range<usize>, has_gradient: impl Fn(usize) -> bool) -> Refreshes {
        if !built::BUDGET || self.refresh_budget == u64::MAX {
            return Refreshes::ON_TIME;
        }
        let (total, last) = (self.refresh_flops(), tensors.end.min(self.tensors.len()));
        let has_gradient = &has_gradient;
        Refreshes::within(self.refresh_budget, || {
            (tensors.start..last).filter(|&tensor| has_gradient(tensor)).flat_map(move |tensor| {
                let tensor = &self.tensors[tensor];
                let (config, cost) = (tensor.config(self.groups), tensor.slice_cost().refresh_step);
                (0..tensor.slices()).filter_map(move |slice| {
                    let pieces = tensor.header_range(slice);
                    let (place, phase) = (pieces.start, tensor.phase(slice, &config, total));
                    let state = &self.state[tensor.state_range(slice)];
                    let overdue = longest_overdue(tensor, &config, (&self.headers[pieces], state), phase)?;
                    (cost > 0).then_some(Due { place, overdue, cost })
                })
            })
        })
    }

    /// The jobs of one step over a range of tensors, for callers that run them on threads of their own.
    /// Call [`Self::check`] first: jobs check nothing but what their group skips.
    pub fn jobs(&mut self, tensors: Range<usize>, lr: T, refreshes: Refreshes) -> Jobs<'_, T> {
        let last = tensors.end.min(self.tensors.len());
        let (header, state) = match self.tensors.get(tensors.start) {
            Some(first) => (first.header_range(0).start, first.state_range(0).start),
            None => (0, 0),
        };
        let refresh_flops = self.refresh_flops();
        Jobs {
            groups: self.groups,
            tensors: self.tensors,
            headers: &mut self.headers[header..],
            state: &mut self.state[state..],
            tensor: tensors.start,
            slice: 0,
            last,
            lr,
            refresh_flops,
            refreshes,
        }
    }

    /// Check, then run the jobs one after another.
    fn step_range<L: LinAlg<T>>(
        &mut self,
        tensors: Range<usize>,
        buffers: &mut impl Buffers<T>,
        lr: T,
        scratch: &mut [T],
        linalg: &mut L,
    ) -> Result<StepReport, StepError> {
        for i in tensors.clone() {
            let fail = |kind| StepError { tensor: i, slice: 0, kind };
            let Some(grad) = buffers.gradient(i) else { continue };
            if grad.len() != self.tensors[i].span() {
                return Err(fail(StepErrorKind::BufferLength));
            }
            if self.tensors[i].storage().param != Format::Native {
                return Err(fail(StepErrorKind::Format));
            }
        }
        self.check(tensors.clone(), |i, slice| Some(&buffers.gradient(i)?[slice]), lr, T::ONE)?;
        if let Some(tensor) = tensors.clone().find(|&i| self.tensors[i].scratch_len() > scratch.len()) {
            return Err(StepError { tensor, slice: 0, kind: StepErrorKind::ScratchTooShort });
        }
        let (mut report, mut first_error) = (StepReport::default(), None);
        let refreshes = self.refreshes(tensors.clone(), |i| buffers.gradient(i).is_some());
        for job in self.jobs(tensors, lr, refreshes) {
            let range = job.range();
            let Some((param, grad)) = buffers.pair(job.tensor()) else {
                report.frozen += job.pieces();
                continue;
            };
            let buffers = SliceBuffers::plain(&mut param[range.clone()], &grad[range]);
            if let Err(error) = job.run(buffers, scratch, linalg, &mut report) {
                first_error = first_error.or(Some(error));
            }
        }
        first_error.map_or(Ok(report), Err)
    }

    /// The layout, the header and the state of one piece, for the inspection.
    pub(crate) fn slice(&self, tensor: usize, slice: usize) -> Result<(Layout, &SliceHeader, &[T]), StepError> {
        let (layout, header, state) = self.locate(tensor, slice)?;
        Ok((layout, &self.headers[header], &self.state[state]))
    }

    /// The same, to write.
    pub(crate) fn slice_mut(&mut self, tensor: usize, slice: usize) -> Result<(Layout, &SliceHeader, &mut [T]), StepError> {
        let (layout, header, state) = self.locate(tensor, slice)?;
        Ok((layout, &self.headers[header], &mut self.state[state]))
    }

    fn locate(&self, tensor: usize, slice: usize) -> Result<(Layout, usize, Range<usize>), StepError> {
        let none = StepError { tensor, slice, kind: StepErrorKind::NoSuchIndex };
        let entry = self.tensors.get(tensor).ok_or(none)?;
        let (slice, piece) = (slice / entry.pieces(), slice % entry.pieces());
        if slice >= entry.slices() {
            return Err(none);
        }
        let before = (0..piece).fold(0, |sum, i| sum + entry.piece(i).layout.state_len());
        let (layout, start) = (entry.piece(piece).layout, entry.state_range(slice).start + before);
        Ok((layout, entry.header_range(slice).start + piece, start..start + layout.state_len()))
    }
}
