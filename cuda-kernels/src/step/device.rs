//! The program at a place in device memory.

use klshampoo::{Scalar as _, SliceHeader};

use super::batch::Item;
use super::gradient;
use super::mirror::{MOST_STEPS, Mirror, Run};
use super::pass::{Given, Pass};
use super::program::{Placed, Program};
use crate::batch::{Array, Items};
use crate::io::{self, Scalar};
use crate::queue::{DeviceError, DevicePtr, Queue};

/// Why a step was not launched, or not all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepError {
    /// Not as many parameters or gradients as tensors.
    TensorCount,
    /// A tensor has a gradient and no parameter.
    ParameterMissing {
        /// Its index.
        tensor: usize,
    },
    /// The learning rate is negative or not finite.
    LearningRate,
    /// The factor on the gradients is not finite and positive.
    GradScale,
    /// The driver's. What was launched before it runs: the state is then unspecified.
    Device(DeviceError),
}

impl core::fmt::Display for StepError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::TensorCount => f.write_str("not as many parameters or gradients as tensors"),
            Self::ParameterMissing { tensor } => write!(f, "tensor {tensor}: a gradient, but no parameter"),
            Self::LearningRate => f.write_str("the learning rate must be finite and at least 0"),
            Self::GradScale => f.write_str("the factor on the gradients must be finite and positive"),
            Self::Device(DeviceError(code)) => write!(f, "the driver's error {code}"),
        }
    }
}

impl core::error::Error for StepError {}

impl From<DeviceError> for StepError {
    fn from(error: DeviceError) -> Self {
        Self::Device(error)
    }
}

/// More steps have been replayed than are counted: more than 2^40 with those before, or more than 2^20 at once while refresh periods grow, whose
/// refreshes have to be found step by step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManySteps;

impl core::fmt::Display for TooManySteps {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("more than 2^40 steps in all, or more than 2^20 at once while refresh periods grow")
    }
}

impl core::error::Error for TooManySteps {}

/// What a [`Transfer`] moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transferred {
    /// Elements of the core's state, `f32`.
    State,
    /// The core's headers, [`SliceHeader`].
    Headers,
}

/// Equal memory on the device and in the core's arrays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// Which of the core's arrays.
    pub what: Transferred,
    /// From the beginning of the device's block.
    pub device_bytes: usize,
    /// Index of the first element (or header) in the core's array.
    pub first: usize,
    /// How many.
    pub count: usize,
    /// How many bytes that are.
    pub bytes: usize,
}

/// So many entries of a table are written at a time.
const PLACES: usize = 1 << 12;

/// An optimizer on a device: a [`Program`] and the block of memory that it has.
///
/// A step is a sequence of launches; nothing in it waits, allocates or asks the device. So it may be captured in a graph. What is captured
/// depends on the number of steps that have been made only by the refreshes that are due, which repeat every T steps where all periods are T and
/// none grows: T captured steps may be replayed one after another for ever. They are the steps that they would have been, bit for bit; the steps
/// of the capture count as made, and [`Self::replayed`] has to be told of all others.
///
/// An item with a bad gradient is left as it is and counted in its header ([`SliceHeader::skipped`]), whatever
/// [`klshampoo::Config::bad_gradient`] says: nothing comes back to the host in time to be an error. So are items whose estimate or update came out
/// not finite, and all items in a step with a learning rate on the device that is negative or not finite. The step does not count for
/// the item. Its refreshes still come when they would have come.
#[derive(Debug)]
pub struct DeviceOptimizer {
    program: Program,
    base: DevicePtr,
    mirrors: Vec<Mirror>,
    /// Which tensors had a gradient in the last step.
    stepped: Vec<bool>,
    /// Bound on the norm of all gradients.
    clip: Option<Scalar>,
    /// What its measures are of, in each step.
    measured: Vec<(Items, DevicePtr)>,
    /// Whether the state has been written since the last step.
    bounds_are_old: bool,
    /// What the last step was given, if it has left refreshes to a queue of their own.
    left: Option<Given>,
}

impl DeviceOptimizer {
    /// At `base`: [`super::Memory::total`] bytes of device memory, aligned to 256 bytes. Call [`Self::prepare`] before the first step.
    #[must_use]
    pub fn new(mut program: Program, base: DevicePtr) -> Self {
        let mirrors = core::mem::take(&mut program.mirrors);
        let stepped = vec![false; program.tensors];
        let measured = Vec::with_capacity(program.batches.len());
        Self { program, base, mirrors, stepped, clip: None, measured, bounds_are_old: false, left: None }
    }

    /// The program.
    #[must_use]
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// Zeroes state and headers, writes the tables, and forgets all steps.
    ///
    /// # Errors
    /// The queue's.
    pub fn prepare<Q: Queue>(&mut self, queue: &mut Q) -> Result<(), DeviceError> {
        let memory = self.program.bytes();
        let words = (memory.state + memory.headers) / size_of::<u32>();
        io::fill(queue, Items::all(1), Array { base: self.base, stride: 0 }, words, 0)?;
        for placed in &self.program.batches {
            let table = placed.kept.places.pointer(self.base);
            for (i, items) in placed.batch.items.chunks(PLACES).enumerate() {
                let places: Vec<io::Place> = items.iter().map(|item| item.place).collect();
                io::set_places(queue, table, i * PLACES, &places)?;
            }
        }
        // All moments are zero.
        self.set_bounds(queue, 0.0)?;
        self.mirrors.iter_mut().for_each(Mirror::reset);
        self.stepped.fill(false);
        self.left = None;
        Ok(())
    }

    /// Whether a step may be made with this learning rate and this factor on the gradients, as far as the host knows them.
    ///
    /// # Errors
    /// [`StepError::LearningRate`], [`StepError::GradScale`].
    pub fn check_scalars(lr: Scalar, grad_scale: Scalar) -> Result<(), StepError> {
        let known = |scalar: Scalar| if scalar.pointer == DevicePtr::NULL { scalar.value * scalar.factor } else { scalar.factor };
        // By their bits: also in a program that was compiled as if there were no others.
        if !known(lr).is_finite_bits() || known(lr) < 0.0 {
            return Err(StepError::LearningRate);
        }
        if !known(grad_scale).is_finite_bits() || known(grad_scale) <= 0.0 {
            return Err(StepError::GradScale);
        }
        Ok(())
    }

    /// Sets the bounds on the momentum of all items that have one.
    fn set_bounds<Q: Queue>(&mut self, queue: &mut Q, bound: f32) -> Result<(), DeviceError> {
        for Placed { batch, kept, .. } in self.program.batches.iter().filter(|placed| placed.kept.bounds.exists) {
            let bounds = Array { base: kept.bounds.pointer(self.base), stride: 0 };
            io::fill(queue, Items::all(1), bounds, batch.items.len(), bound.to_bits())?;
        }
        self.bounds_are_old = false;
        Ok(())
    }

    /// One step of the table: `params[i]` and `grads[i]` are the device buffers of tensor `i`; a gradient of [`DevicePtr::NULL`] freezes it. The
    /// numbers may lie on the device; a factor that they have is kept. `lr` is multiplied by the group's `lr_scale`.
    ///
    /// # Errors
    /// [`StepError`].
    pub fn step<Q: Queue>(
        &mut self,
        queue: &mut Q,
        params: &[DevicePtr],
        grads: &[DevicePtr],
        lr: Scalar,
        grad_scale: Scalar,
    ) -> Result<(), StepError> {
        if params.len() != self.program.tensors || grads.len() != self.program.tensors {
            return Err(StepError::TensorCount);
        }
        if let Some(tensor) = params.iter().zip(grads).position(|(&param, &grad)| param == DevicePtr::NULL && grad != DevicePtr::NULL) {
            return Err(StepError::ParameterMissing { tensor });
        }
        Self::check_scalars(lr, grad_scale)?;
        self.refresh(queue)?;
        let mut given = Given {
            params: self.program.params.pointer(self.base),
            grads: self.program.grads.pointer(self.base),
            lr,
            grad_scale,
            clip: DevicePtr::NULL,
            precision: self.program.options.precision,
        };
        if self.bounds_are_old {
            self.set_bounds(queue, f32::INFINITY)?;
        }
        io::set_pointers(queue, given.params, 0, params)?;
        io::set_pointers(queue, given.grads, 0, grads)?;
        let has_gradient = |item: &Item| grads[item.tensor] != DevicePtr::NULL;
        for (placed, mirror) in self.program.batches.iter().zip(&mut self.mirrors) {
            mirror.plan(&placed.batch, has_gradient);
        }
        if let Some(limit) = self.clip {
            self.measured.clear();
            for (placed, mirror) in self.program.batches.iter().zip(&self.mirrors).filter(|(placed, _)| placed.batch.any(has_gradient)) {
                let measures = placed.kept.measures.pointer(self.base);
                let mut pass = Pass::new(queue, placed, self.base, given, mirror.may_start(), mirror.runs());
                self.measured.push((pass.measure_gradients(measures)?, measures));
            }
            io::global_norm(queue, &self.measured, limit, self.norm())?;
            given.clip = io::Norm::factor_of(self.norm());
        }
        for (placed, mirror) in self.program.batches.iter().zip(&mut self.mirrors).filter(|(placed, _)| placed.batch.any(has_gradient)) {
            let gradients = gradient::in_place(&placed.batch, &given, grads);
            Pass::new(queue, placed, self.base, given, mirror.may_start(), mirror.runs()).with_gradients(gradients).run()?;
            mirror.advance(&placed.batch, 1, has_gradient);
        }
        if self.program.options.refreshes_later && self.refreshing().next().is_some() {
            self.left = Some(given);
        }
        for (stepped, &grad) in self.stepped.iter_mut().zip(grads) {
            *stepped = grad != DevicePtr::NULL;
        }
        Ok(())
    }

    /// Batches in which a refresh was due in the last step.
    fn refreshing(&self) -> impl Iterator<Item = (&Placed, &Mirror)> {
        let refreshes = |(placed, mirror): &(&Placed, &Mirror)| placed.batch.is_turned() && mirror.runs().iter().any(Run::refreshes);
        self.program.batches.iter().zip(&self.mirrors).filter(refreshes)
    }

    /// Whether the last step has left refreshes, which [`Self::refresh`] makes.
    #[must_use]
    pub fn has_refreshes(&self) -> bool {
        self.left.is_some()
    }

    /// Makes the refreshes that the last step has left ([`Options::refreshes_later`](super::Options::refreshes_later)), if it has: on any queue that works
    /// it off after that step and before whatever looks at the state next, in the same capture as the step. The next step begins with it where it was
    /// left out.
    ///
    /// # Errors
    /// The driver's. What was launched before it runs: the state is then unspecified.
    pub fn refresh<Q: Queue>(&mut self, queue: &mut Q) -> Result<(), DeviceError> {
        let Some(given) = self.left.take() else { return Ok(()) };
        for (placed, mirror) in self.refreshing() {
            Pass::new(queue, placed, self.base, given, mirror.may_start(), mirror.runs()).refresh_later(&placed.later, self.base)?;
        }
        Ok(())
    }

    /// From the next step on the gradients of all tensors together, times their factor, have at most this norm: larger ones are scaled down. Those
    /// of items that are not finite do not count. An L2 penalty is added afterwards. A bound costs one more pass over the gradients, but for methods
    /// without factors.
    pub fn set_clip(&mut self, limit: Option<Scalar>) {
        self.clip = limit;
    }

    /// From the next step on a group's rates are others. What was captured keeps those that it was captured with.
    pub fn set_rates(&mut self, group: usize, lr_scale: f32, weight_decay: f32) {
        for placed in self.program.batches.iter_mut().filter(|placed| placed.batch.group == group) {
            (placed.batch.config.lr_scale, placed.batch.config.weight_decay) = (lr_scale, weight_decay);
        }
    }

    /// On the device: the [`io::Norm`] of the gradients of the last step that had a bound on it.
    #[must_use]
    pub fn norm(&self) -> DevicePtr {
        self.program.norm.pointer(self.base)
    }

    /// Captured steps have been replayed: so many, of the tensors that had a gradient in the last call of [`Self::step`].
    ///
    /// # Errors
    /// [`TooManySteps`]: none of them then counts.
    pub fn replayed(&mut self, steps: u64) -> Result<(), TooManySteps> {
        let Self { program, mirrors, stepped, .. } = self;
        let had_gradient = |item: &Item| stepped[item.tensor];
        let fits = |(placed, mirror): (&Placed, &Mirror)| mirror.can_advance(&placed.batch, steps, had_gradient);
        if steps > MOST_STEPS || !program.batches.iter().zip(&*mirrors).all(fits) {
            return Err(TooManySteps);
        }
        for (placed, mirror) in program.batches.iter().zip(mirrors) {
            mirror.advance(&placed.batch, steps, had_gradient);
        }
        Ok(())
    }

    /// Whether the steps that these headers have counted, and those that follow, can be counted: [`Self::loaded`] may be told of them.
    #[must_use]
    pub fn can_load(&self, headers: &[SliceHeader]) -> bool {
        headers.iter().all(|header| header.step <= MOST_STEPS && header.last_refresh <= header.step)
    }

    /// State and headers have been written: [`Self::counted`]. The next step of methods without factors looks at the moments that it finds; captured in a
    /// graph it does so in each replay, which costs time and nothing else.
    pub fn loaded(&mut self, headers: &[SliceHeader]) {
        self.bounds_are_old = true;
        self.left = None;
        self.counted(headers);
    }

    /// Headers have been read: `headers` are the table's of now, in the core's order. Refreshes go on from there.
    pub fn counted(&mut self, headers: &[SliceHeader]) {
        for (placed, mirror) in self.program.batches.iter().zip(&mut self.mirrors) {
            mirror.set(&placed.batch, headers);
        }
    }

    /// The table's headers as they were on the device at some time since the last [`Self::prepare`] or [`Self::loaded`], in the core's order. Once
    /// every item of a batch that has had a gradient has set its basis, steps are no longer launched with what a first one needs. An item that has
    /// its first gradient later, having been frozen, brings that back. Gradients of zeros alone set no basis: with them it stays.
    pub fn observed(&mut self, headers: &[SliceHeader]) {
        for (placed, mirror) in self.program.batches.iter().zip(&mut self.mirrors) {
            mirror.observe(&placed.batch, headers);
        }
    }

    /// Whether steps are still launched with what a first one needs, as long as [`Self::observed`] has not shown that all are over.
    #[must_use]
    pub fn may_start(&self) -> bool {
        self.mirrors.iter().any(Mirror::may_start)
    }

    /// How many headers there are.
    #[must_use]
    pub fn headers(&self) -> usize {
        self.program.headers
    }

    /// Where the state and the headers are, on the device and in the core's arrays.
    pub fn transfers(&self) -> impl Iterator<Item = Transfer> {
        self.program.batches.iter().flat_map(|placed| {
            placed.batch.items.iter().enumerate().flat_map(|(i, item)| {
                let (len, header) = (placed.batch.layout.state_len(), size_of::<SliceHeader>());
                [
                    Transfer {
                        what: Transferred::State,
                        device_bytes: placed.kept.state.at + i * len * size_of::<f32>(),
                        first: item.state,
                        count: len,
                        bytes: len * size_of::<f32>(),
                    },
                    Transfer {
                        what: Transferred::Headers,
                        device_bytes: placed.kept.headers.at + i * header,
                        first: item.header,
                        count: 1,
                        bytes: header,
                    },
                ]
            })
        })
    }
}
