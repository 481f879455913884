//! The step cut into jobs: one slice each, for whoever runs them.

use core::ops::Range;

use crate::budget::Refreshes;
use crate::config::built;
use crate::elements::{Elements, ElementsMut};
use crate::format::{Format, Rounder};
use crate::linalg::LinAlg;
use crate::magnitude::Visit;
use crate::plan::{Piece, Plan};
use crate::report::{StepError, StepErrorKind, StepReport};
use crate::step::{RefreshTurn, Slice, SliceError, check, overdue, step};
use crate::stream::{BLOCK, GradStream, ParamStream, read_scaled};
use crate::{BadGradient, Config, Scalar, SliceHeader, Storage, Tensor, portions, resident};

/// The work on one slice in one step. Jobs of one step touch disjoint memory and may run in any order, on any thread.
pub struct Job<'a, T> {
    index: usize,
    slice: usize,
    tensor: &'a Tensor,
    lr: T,
    /// The group's; what the tensor is stepped with follows from it.
    group: &'a Config<T>,
    headers: &'a mut [SliceHeader],
    state: &'a mut [T],
    phase: u64,
    refresh: RefreshTurn,
}

/// What a step writes.
#[derive(Debug)]
pub enum Target<'a, P: ?Sized> {
    /// The parameter, which it moves.
    Parameter(&'a mut P),
    /// The direction `U` alone, for a caller that applies it: `theta <- theta - lr U`, with the decoupled weight decay that it wants.
    /// The parameter stays and is only looked at, and needed, for L2 decay, which is part of the gradient.
    Direction {
        /// As long as the parameter, with its strides, of the arithmetic's own type.
        out: &'a mut P,
        /// The parameter.
        param: Option<&'a P>,
    },
}

/// The caller's memory of one slice in one step.
#[derive(Debug)]
pub struct SliceBuffers<'a, T, P: ?Sized, G: ?Sized> {
    /// What is written.
    pub target: Target<'a, P>,
    /// The gradient.
    pub grad: &'a G,
    /// Multiplies the gradient when it is read, finite and positive. Other than 1 only for tensors whose [`crate::Storage`] allows it.
    pub grad_scale: T,
}

impl<'a, T: Scalar> SliceBuffers<'a, T, [T], [T]> {
    /// A parameter that is moved and a gradient as it is.
    pub fn plain(param: &'a mut [T], grad: &'a [T]) -> Self {
        Self { target: Target::Parameter(param), grad, grad_scale: T::ONE }
    }
}

impl<T: Scalar> Job<'_, T> {
    /// Index of its tensor.
    pub fn tensor(&self) -> usize {
        self.index
    }

    /// How its tensor lies in the caller's buffers.
    pub fn storage(&self) -> &Storage {
        self.tensor.storage()
    }

    /// How many pieces it steps, with a header each.
    pub fn pieces(&self) -> usize {
        self.headers.len()
    }

    /// From the slice's first to its last element in the tensor's parameter and gradient.
    pub fn range(&self) -> Range<usize> {
        self.tensor.slice_range(self.slice)
    }

    /// Makes the step on the slice's own buffers (all [`Self::range`] long), and counts in `report`.
    ///
    /// # Errors
    /// The first [`StepError`] of the slice's pieces: such a piece's parameter and state are as before, the others have been stepped.
    /// A `scratch` below [`crate::Totals::scratch_len`] is an error too.
    pub fn run<L: LinAlg<T>, P: ElementsMut<T> + ?Sized, G: Elements<T> + ?Sized>(
        mut self,
        mut buffers: SliceBuffers<'_, T, P, G>,
        scratch: &mut [T],
        linalg: &mut L,
        report: &mut StepReport,
    ) -> Result<(), StepError> {
        let Self { index: tensor, slice, tensor: entry, lr, group, ref mut headers, ref mut state, phase, refresh } = self;
        // A local copy of those that need one, and no other: it would lie on the stack throughout the step.
        let own;
        let config = if built::ELEMENTWISE && entry.is_vector() {
            own = group.for_vectors();
            &own
        } else {
            group
        };
        let first = slice * entry.pieces();
        let fail = |slice, kind| StepError { tensor, slice, kind };
        check_buffers(entry, &buffers).map_err(|kind| fail(first, kind))?;
        if scratch.len() < entry.scratch_len() {
            return Err(fail(first, StepErrorKind::ScratchTooShort));
        }
        let mut first_error = None;
        for (i, header) in headers.iter_mut().enumerate() {
            let cut;
            let piece = if !built::STORAGE || i == 0 {
                entry.first()
            } else {
                cut = entry.piece(i);
                &cut
            };
            let (own, rest) = core::mem::take(state).split_at_mut(piece.layout.state_len());
            *state = rest;
            let rounder = Rounder::new(entry.storage().rounding, tensor, first + i, header.step + 1);
            let failures = header.refresh_failures;
            let factor_rounder = resident::rounder(piece.layout.parts().factor_format, tensor, first + i, header.step + 1);
            let mut work = Slice {
                layout: &piece.layout,
                config,
                header: &mut *header,
                state: own,
                phase,
                refresh,
                portion_flops: 0,
                rounder: factor_rounder,
            };
            let stepped = step_piece(&mut work, (entry.plan(), piece, rounder), &mut buffers, lr, scratch, linalg);
            report.portion_flops = report.portion_flops.saturating_add(work.portion_flops);
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

/// Whether a tensor can be stepped with these buffers.
fn check_buffers<T: Scalar, P: Elements<T> + ?Sized, G: Elements<T> + ?Sized>(
    entry: &Tensor,
    buffers: &SliceBuffers<'_, T, P, G>,
) -> Result<(), StepErrorKind> {
    fn matches<T: Scalar, E: Elements<T> + ?Sized>(elements: &E, span: usize, format: Format) -> Result<(), StepErrorKind> {
        match (elements.span() == span, elements.format() == format) {
            (true, true) => Ok(()),
            (false, _) => Err(StepErrorKind::BufferLength),
            (true, false) => Err(StepErrorKind::Format),
        }
    }
    let (span, storage) = (entry.slice_range(0).len(), entry.storage());
    matches(buffers.grad, span, storage.grad)?;
    entry.check_grad_scale(buffers.grad_scale)?;
    match &buffers.target {
        Target::Parameter(param) => matches(&**param, span, storage.param),
        Target::Direction { out, param } => {
            matches(&**out, span, Format::Native)?;
            param.map_or(Ok(()), |param| matches(param, span, storage.param))?;
            entry.check_direction(param.is_some())
        }
    }
}

/// How a piece lies in its slice, and how its parameter is rounded.
type Place<'a> = (&'a Plan, &'a Piece, Rounder);

/// Steps one piece of a slice; `false` if its gradient is unusable and the group's rule is to skip.
fn step_piece<T: Scalar, L: LinAlg<T>, P: ElementsMut<T> + ?Sized, G: Elements<T> + ?Sized>(
    work: &mut Slice<'_, T>,
    place: Place<'_>,
    buffers: &mut SliceBuffers<'_, T, P, G>,
    lr: T,
    scratch: &mut [T],
    linalg: &mut L,
) -> Result<bool, SliceError> {
    let (plan, piece, rounder) = place;
    let skips = work.config.bad_gradient == BadGradient::Skip;
    let usable = if skips {
        let visit: Visit<'_, T> = &|f| show(plan, piece, buffers.grad, buffers.grad_scale, f);
        check(work.layout, work.config, work.header, work.state, visit)
    } else {
        Ok(())
    };
    let master = work.layout.master();
    let fresh = built::STORAGE && !master.is_empty() && work.header.step == 0;
    if let (true, Ok(()), Target::Parameter(param)) = (fresh, usable, &buffers.target) {
        plan.gather(piece, &**param, &mut work.state[master.clone()]);
    }
    // With L2 decay the gradient of the penalty is seen in the step itself.
    let result = usable.map_err(SliceError::from).and_then(|()| step_where_it_lies(work, place, buffers, lr, scratch, linalg));
    if fresh && result.is_err() {
        work.state[master].fill(T::ZERO);
    }
    match result {
        Err(SliceError::Gradient(_)) if skips => {
            work.header.skipped = work.header.skipped.saturating_add(1);
            // What is not stepped does not move.
            if let Target::Direction { out, .. } = &mut buffers.target {
                if !built::STORAGE {
                    out.native_mut().unwrap_or_default().fill(T::ZERO);
                    return Ok(false);
                }
                let zeros = [T::ZERO; BLOCK];
                plan.for_each_line(piece, |line| {
                    for start in (0..line.at.len()).step_by(BLOCK) {
                        let count = BLOCK.min(line.at.len() - start);
                        out.write(line.offset + start * line.stride, line.stride, &zeros[..count], rounder, line.at.start + start);
                    }
                });
            }
            Ok(false)
        }
        result => result.map(|()| true),
    }
}

/// Steps one piece: in the caller's memory, or with copies of what cannot be used as it is.
fn step_where_it_lies<T: Scalar, L: LinAlg<T>, P: ElementsMut<T> + ?Sized, G: Elements<T> + ?Sized>(
    work: &mut Slice<'_, T>,
    (plan, piece, rounder): Place<'_>,
    SliceBuffers { target, grad, grad_scale }: &mut SliceBuffers<'_, T, P, G>,
    lr: T,
    scratch: &mut [T],
    linalg: &mut L,
) -> Result<(), SliceError> {
    let (n, together) = (piece.layout.shape().elements(), plan.range(piece));
    let (moves, out, theta): (bool, &mut P, Option<&P>) = match target {
        Target::Parameter(param) => (true, param, None),
        Target::Direction { out, param } => (false, out, *param),
    };
    if !built::STORAGE {
        // Whatever would have to be read block by block, copied or rounded was refused when the table was made.
        let (param, grad) = (out.native_mut().unwrap_or_default(), grad.native().unwrap_or_default());
        return step(work, scratch, linalg, |step| step.run(param, grad, lr, moves));
    }
    if let (Some(range), true) = (&together, plan.is_streamed(piece)) {
        let (start, grad_scale) = (range.start, *grad_scale);
        return step(work, scratch, linalg, |step| {
            let grad = GradStream { elements: *grad, start, scale: grad_scale };
            step.stream(&mut ParamStream { elements: out, start, rounder }, &grad, lr, moves)
        });
    }
    let copies = plan.copies(piece);
    let (own_grad, scratch) = scratch.split_at_mut(if copies.grad { n } else { 0 });
    let (own_param, scratch) = scratch.split_at_mut(if copies.param { n } else { 0 });
    if copies.param && moves {
        plan.gather(piece, &*out, own_param);
    }
    let master = work.layout.master();
    let as_it_is = *grad_scale == T::ONE && !work.layout.parts().penalised;
    let grad = match together.clone().filter(|_| as_it_is).and_then(|range| Some(&grad.native()?[range])) {
        Some(grad) => grad,
        None => {
            plan.for_each_line(piece, |line| read_scaled(*grad, *grad_scale, line.offset, line.stride, &mut own_grad[line.at]));
            if work.layout.parts().penalised {
                let decay = work.config.weight_decay;
                match &work.state[master.clone()] {
                    [] => penalise(plan, piece, decay, theta.unwrap_or(out), own_grad),
                    master => own_grad.iter_mut().zip(master).for_each(|(g, &theta)| *g += decay * theta),
                }
                check(work.layout, work.config, work.header, work.state, &|f| f(own_grad))?;
            }
            &*own_grad
        }
    };
    let param = match together.filter(|_| !copies.param && master.is_empty()).and_then(|range| Some(&mut out.native_mut()?[range])) {
        Some(param) => param,
        None => &mut *own_param,
    };
    step(work, scratch, linalg, |step| step.run(param, grad, lr, moves))?;
    let rounded = if master.is_empty() { &*own_param } else { &work.state[master] };
    if !rounded.is_empty() {
        plan.for_each_line(piece, |line| out.write(line.offset, line.stride, &rounded[line.at.clone()], rounder, line.at.start));
    }
    Ok(())
}

/// `g <- g + wd theta`.
fn penalise<T: Scalar, P: Elements<T> + ?Sized>(plan: &Plan, piece: &Piece, decay: T, theta: &P, grad: &mut [T]) {
    let mut block = [T::ZERO; BLOCK];
    plan.for_each_line(piece, |line| {
        for (i, grad) in grad[line.at].chunks_mut(BLOCK).enumerate() {
            let theta_block = &mut block[..grad.len()];
            theta.read(line.offset + i * BLOCK * line.stride, line.stride, theta_block);
            grad.iter_mut().zip(&*theta_block).for_each(|(g, &theta)| *g += decay * theta);
        }
    });
}

/// Calls `f` with all elements of a piece of a slice's gradient, scaled.
pub(crate) fn show<T: Scalar, E: Elements<T> + ?Sized>(plan: &Plan, piece: &Piece, grad: &E, scale: T, f: &mut dyn FnMut(&[T])) {
    if !built::STORAGE {
        return f(grad.native().unwrap_or_default());
    }
    if plan.storage.strides.is_none()
        && scale == T::ONE
        && let Some(all) = grad.native()
    {
        return plan.for_each_line(piece, |line| f(&all[line.offset..][..line.at.len()]));
    }
    let mut block = [T::ZERO; BLOCK];
    plan.for_each_line(piece, |line| {
        for start in (0..line.at.len()).step_by(BLOCK) {
            let block = &mut block[..BLOCK.min(line.at.len() - start)];
            read_scaled(grad, scale, line.offset + start * line.stride, line.stride, block);
            f(block);
        }
    });
}

/// The longest that a refresh which is due or under way has been waiting in any piece of a slice; `None` if there is none.
pub(crate) fn longest_overdue<T: Scalar>(
    tensor: &Tensor,
    config: &Config<T>,
    (pieces, mut state): (&[SliceHeader], &[T]),
    phase: u64,
) -> Option<u64> {
    let mut longest = None;
    for (i, header) in pieces.iter().enumerate() {
        let layout = tensor.piece(i).layout;
        let (own, rest) = state.split_at(layout.state_len());
        state = rest;
        longest = longest.max(overdue(config, header, phase, portions::is_under_way(&layout, own)));
    }
    longest
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
        // The schedule of a tensor is its group's, also where its method is another.
        let group = &self.groups[tensor.group()];
        let lr = self.lr * group.lr_scale;
        let phase = tensor.phase(self.slice, group, self.refresh_flops);
        // What costs nothing is no refresh of a basis.
        let refresh = if !built::BUDGET || self.refreshes.are_on_time() || tensor.slice_cost().refresh == 0 {
            RefreshTurn::OnTime
        } else {
            let place = tensor.header_range(self.slice).start;
            let granted =
                longest_overdue(tensor, group, (headers, state), phase).is_some_and(|overdue| self.refreshes.include(place, overdue));
            if granted { RefreshTurn::Granted } else { RefreshTurn::Postponed }
        };
        let job = Job { index: self.tensor, slice: self.slice, tensor, lr, group, headers, state, phase, refresh };
        self.slice += 1;
        if self.slice == tensor.slices() {
            (self.tensor, self.slice) = (self.tensor + 1, 0);
        }
        Some(job)
    }
}
