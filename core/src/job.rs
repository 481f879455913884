//! The step cut into jobs: one slice each, for whoever runs them.

use core::ops::Range;

use crate::budget::Refreshes;
use crate::linalg::LinAlg;
use crate::magnitude::Visit;
use crate::plan::{Piece, Plan};
use crate::report::{StepError, StepErrorKind, StepReport};
use crate::step::{RefreshTurn, Slice, SliceError, check, overdue, step};
use crate::{BadGradient, Config, Scalar, SliceHeader, Tensor};

/// The work on one slice in one step. Jobs of one step touch disjoint memory and may run in any order, on any thread.
pub struct Job<'a, T> {
    index: usize,
    slice: usize,
    tensor: &'a Tensor,
    lr: T,
    config: Config<T>,
    headers: &'a mut [SliceHeader],
    state: &'a mut [T],
    phase: u64,
    refresh: RefreshTurn,
}

impl<T: Scalar> Job<'_, T> {
    /// Index of its tensor.
    pub fn tensor(&self) -> usize {
        self.index
    }

    /// How many pieces it steps, with a header each.
    pub fn pieces(&self) -> usize {
        self.headers.len()
    }

    /// The slice's elements in the tensor's parameter and gradient.
    pub fn range(&self) -> Range<usize> {
        self.tensor.slice_range(self.slice)
    }

    /// Makes the step on the slice's own `param` and `grad` (both [`Self::range`] long), and counts in `report`.
    ///
    /// # Errors
    /// The first [`StepError`] of the slice's pieces: such a piece's parameter and state are as before, the others have been stepped.
    /// A `scratch` below [`crate::Totals::scratch_len`] is an error too.
    pub fn run<L: LinAlg<T>>(
        self,
        param: &mut [T],
        grad: &[T],
        scratch: &mut [T],
        linalg: &mut L,
        report: &mut StepReport,
    ) -> Result<(), StepError> {
        let Self { index: tensor, slice, tensor: entry, lr, config, headers, mut state, phase, refresh } = self;
        let first = slice * entry.pieces();
        let fail = |slice, kind| StepError { tensor, slice, kind };
        let len = entry.slice_range(0).len();
        if param.len() != len || grad.len() != len {
            return Err(fail(first, StepErrorKind::BufferLength));
        }
        if scratch.len() < entry.scratch_len() {
            return Err(fail(first, StepErrorKind::ScratchTooShort));
        }
        let mut first_error = None;
        let mut hands = Hands { param, grad, lr, scratch, linalg };
        for (i, header) in headers.iter_mut().enumerate() {
            let piece = entry.piece(i);
            let (own, rest) = core::mem::take(&mut state).split_at_mut(piece.layout.state_len());
            state = rest;
            let failures = header.refresh_failures;
            let work = Slice { layout: piece.layout, config, header: &mut *header, state: own, phase, refresh };
            let stepped = step_piece(work, entry.plan(), &piece, &mut hands);
            report.refresh_failures += header.refresh_failures.saturating_sub(failures) as usize;
            match stepped {
                Ok(true) => report.stepped += 1,
                Ok(false) => report.skipped += 1,
                Err(error) => first_error = first_error.or(Some(fail(first + i, StepErrorKind::Slice(error)))),
            }
        }
        first_error.map_or(Ok(()), Err)
    }
}

/// The caller's memory and what a step of it is made with.
struct Hands<'a, T, L> {
    param: &'a mut [T],
    grad: &'a [T],
    lr: T,
    scratch: &'a mut [T],
    linalg: &'a mut L,
}

/// Steps one piece of a slice; `false` if its gradient is unusable and the group's rule is to skip.
fn step_piece<T: Scalar, L: LinAlg<T>>(
    mut work: Slice<'_, T>,
    plan: &Plan,
    piece: &Piece,
    hands: &mut Hands<'_, T, L>,
) -> Result<bool, SliceError> {
    let grad = hands.grad;
    let visit: Visit<'_, T> = &|f| plan.for_each_run(piece, |run, _| f(&grad[run]));
    let skips = work.config.bad_gradient == BadGradient::Skip;
    let usable = if skips { check(&work.layout, &work.config, work.header, work.state, visit) } else { Ok(()) };
    // With L2 decay the gradient of the penalty is seen in the step itself.
    match usable.map_err(SliceError::from).and_then(|()| step_in_place(&mut work, plan, piece, hands)) {
        Err(SliceError::Gradient(_)) if skips => {
            work.header.skipped = work.header.skipped.saturating_add(1);
            Ok(false)
        }
        result => result.map(|()| true),
    }
}

/// Steps one piece where it lies, or as a copy.
fn step_in_place<T: Scalar, L: LinAlg<T>>(
    work: &mut Slice<'_, T>,
    plan: &Plan,
    piece: &Piece,
    hands: &mut Hands<'_, T, L>,
) -> Result<(), SliceError> {
    let Hands { param, grad, lr, scratch, linalg } = hands;
    if let Some(whole) = plan.range(piece) {
        return step(work, scratch, *linalg, &mut param[whole.clone()], &grad[whole], *lr);
    }
    let n = piece.layout.shape().elements();
    let (own_param, scratch) = scratch.split_at_mut(n);
    let (own_grad, scratch) = scratch.split_at_mut(n);
    plan.gather(piece, param, own_param);
    plan.gather(piece, grad, own_grad);
    step(work, scratch, *linalg, own_param, own_grad, *lr)?;
    plan.for_each_run(piece, |run, at| param[run].copy_from_slice(&own_param[at]));
    Ok(())
}

/// The longest that a refresh which is due has been waiting in any piece of a slice; `None` if none is due.
pub(crate) fn longest_overdue<T: Scalar>(config: &Config<T>, pieces: &[SliceHeader], phase: u64) -> Option<u64> {
    pieces.iter().filter_map(|header| overdue(config, header, phase)).max()
}

/// The jobs of one step, in table order; see [`crate::Optimizer::jobs`].
pub struct Jobs<'a, T> {
    pub(crate) groups: &'a [Config<T>],
    pub(crate) tensors: &'a [Tensor],
    pub(crate) headers: &'a mut [SliceHeader],
    pub(crate) state: &'a mut [T],
    pub(crate) tensor: usize,
    pub(crate) slice: usize,
    pub(crate) last: usize,
    pub(crate) lr: T,
    /// Of the whole table.
    pub(crate) refresh_flops: u64,
    pub(crate) refreshes: Refreshes,
}

impl<'a, T: Scalar> Iterator for Jobs<'a, T> {
    type Item = Job<'a, T>;

    fn next(&mut self) -> Option<Job<'a, T>> {
        if self.tensor >= self.last {
            return None;
        }
        let tensor = &self.tensors[self.tensor];
        let (headers, rest) = core::mem::take(&mut self.headers).split_at_mut(tensor.pieces());
        self.headers = rest;
        let (state, rest) = core::mem::take(&mut self.state).split_at_mut(tensor.state_range(0).len());
        self.state = rest;
        let config = tensor.config(self.groups);
        let lr = self.lr * config.lr_scale;
        let phase = tensor.phase(self.slice, &config, self.refresh_flops);
        // What costs nothing is no refresh of a basis.
        let refresh = if self.refreshes.are_on_time() || tensor.slice_cost().refresh == 0 {
            RefreshTurn::OnTime
        } else {
            let place = tensor.header_range(self.slice).start;
            let granted = longest_overdue(&config, headers, phase).is_some_and(|overdue| self.refreshes.include(place, overdue));
            if granted { RefreshTurn::Granted } else { RefreshTurn::Postponed }
        };
        let job = Job { index: self.tensor, slice: self.slice, tensor, lr, config, headers, state, phase, refresh };
        self.slice += 1;
        if self.slice == tensor.slices() {
            (self.tensor, self.slice) = (self.tensor + 1, 0);
        }
        Some(job)
    }
}
