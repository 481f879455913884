//! An owner of everything an optimizer needs, for `static` use: no heap, all sizes constants.

use heapless::Vec;

use crate::checkpoint::{CheckpointError, Sink, Source};
use crate::linalg::LinAlg;
use crate::optimizer::Optimizer;
use crate::report::{StepError, StepReport};
use crate::tensor::Totals;
use crate::{Config, Cost, ModeReport, Scalar, SliceHeader, StatePart, TableError, Tensor, TensorSpec};

/// An optimizer with a fixed-capacity table that owns its state and scratch.
///
/// `GROUPS`, `TENSORS` and `SLICES` bound the table; `STATE` and `SCRATCH` are elements: the sum and the maximum over the
/// tensors of what [`TensorSpec::needs`] gives, which also works in constants.
#[derive(Debug)]
pub struct FixedOptimizer<T, L, const GROUPS: usize, const TENSORS: usize, const SLICES: usize, const STATE: usize, const SCRATCH: usize> {
    groups: Vec<Config<T>, GROUPS>,
    tensors: Vec<Tensor, TENSORS>,
    totals: Totals,
    refresh_budget: u64,
    headers: [SliceHeader; SLICES],
    state: [T; STATE],
    scratch: [T; SCRATCH],
    linalg: L,
}

impl<T: Scalar, L: LinAlg<T>, const GROUPS: usize, const TENSORS: usize, const SLICES: usize, const STATE: usize, const SCRATCH: usize>
    FixedOptimizer<T, L, GROUPS, TENSORS, SLICES, STATE, SCRATCH>
{
    /// An empty table.
    pub const fn new(linalg: L) -> Self {
        Self {
            groups: Vec::new(),
            tensors: Vec::new(),
            totals: Totals { slices: 0, state_len: 0, scratch_len: 0, largest_full_dim: 0, cost: Cost::NOTHING },
            refresh_budget: u64::MAX,
            headers: [SliceHeader::NEW; SLICES],
            state: [T::ZERO; STATE],
            scratch: [T::ZERO; SCRATCH],
            linalg,
        }
    }

    /// Adds a group and returns its index.
    ///
    /// # Errors
    /// [`TableError::Config`], [`TableError::Capacity`].
    pub fn add_group(&mut self, config: Config<T>) -> Result<usize, TableError> {
        config.validate()?;
        self.groups.push(config).map_err(|_| TableError::Capacity)?;
        Ok(self.groups.len() - 1)
    }

    /// Adds a tensor and returns its index. Tensors may be added between steps.
    ///
    /// # Errors
    /// [`TableError`]; the table is then unchanged. [`TableError::BufferTooShort`] when `STATE` or `SCRATCH` are too small.
    pub fn add_tensor(&mut self, spec: &TensorSpec) -> Result<usize, TableError> {
        let mut totals = self.totals;
        let tensor = Tensor::resolve(spec, &self.groups, &mut totals)?;
        if totals.slices > SLICES || self.tensors.is_full() {
            return Err(TableError::Capacity);
        }
        if totals.state_len > STATE || totals.scratch_len > SCRATCH {
            return Err(TableError::BufferTooShort);
        }
        self.tensors.push(tensor).map_err(|_| TableError::Capacity)?;
        self.totals = totals;
        Ok(self.tensors.len() - 1)
    }

    /// Changes a group's configuration values that do not change the state's shape: learning-rate scale and weight decay.
    ///
    /// # Errors
    /// [`TableError::Group`], [`TableError::Config`]; the group is then unchanged.
    pub fn set_group_rates(&mut self, group: usize, lr_scale: T, weight_decay: T) -> Result<(), TableError> {
        let config = self.groups.get_mut(group).ok_or(TableError::Group)?;
        let changed = Config { lr_scale, weight_decay, ..*config };
        changed.validate()?;
        *config = changed;
        Ok(())
    }

    /// See [`Optimizer::with_refresh_budget`]; `u64::MAX` for none.
    pub fn set_refresh_budget(&mut self, flops: u64) {
        self.refresh_budget = flops;
    }

    /// The view, the scratch and the backend: for [`Optimizer::jobs`], which take what [`Self::step`] does not, such as other formats.
    pub fn parts(&mut self) -> (Optimizer<'_, T>, &mut [T], &mut L) {
        let Self { groups, tensors, headers, state, scratch, linalg, refresh_budget, .. } = self;
        (Optimizer::over(groups, tensors, headers, state).with_refresh_budget(*refresh_budget), scratch, linalg)
    }

    /// See [`Optimizer::step`].
    ///
    /// # Errors
    /// [`StepError`].
    pub fn step(&mut self, params: &mut [&mut [T]], grads: &[Option<&[T]>], lr: T) -> Result<StepReport, StepError> {
        let (mut optimizer, scratch, linalg) = self.parts();
        optimizer.step(params, grads, lr, scratch, linalg)
    }

    /// See [`Optimizer::step_tensor`].
    ///
    /// # Errors
    /// [`StepError`].
    pub fn step_tensor(&mut self, tensor: usize, param: &mut [T], grad: &[T], lr: T) -> Result<StepReport, StepError> {
        let (mut optimizer, scratch, linalg) = self.parts();
        optimizer.step_tensor(tensor, param, grad, lr, scratch, linalg)
    }

    /// See [`Optimizer::read`].
    ///
    /// # Errors
    /// [`StepError`].
    pub fn read(&mut self, tensor: usize, slice: usize, part: StatePart, out: &mut [T]) -> Result<(), StepError> {
        let (optimizer, scratch, linalg) = self.parts();
        optimizer.read(tensor, slice, part, out, scratch, linalg)
    }

    /// See [`Optimizer::set_basis`].
    ///
    /// # Errors
    /// [`StepError`].
    pub fn set_basis(&mut self, tensor: usize, slice: usize, k: usize, basis: &[T]) -> Result<(), StepError> {
        let (mut optimizer, scratch, linalg) = self.parts();
        optimizer.set_basis(tensor, slice, k, basis, scratch, linalg)
    }

    /// See [`Optimizer::objective`].
    ///
    /// # Errors
    /// [`StepError`].
    pub fn objective(&mut self, tensor: usize, slice: usize, grad: &[T]) -> Result<T, StepError> {
        let (optimizer, scratch, linalg) = self.parts();
        optimizer.objective(tensor, slice, grad, scratch, linalg)
    }

    /// See [`Optimizer::mode_report`].
    ///
    /// # Errors
    /// [`StepError`].
    pub fn mode_report(&mut self, tensor: usize, slice: usize, k: usize) -> Result<ModeReport<T>, StepError> {
        let (optimizer, scratch, linalg) = self.parts();
        optimizer.mode_report(tensor, slice, k, scratch, linalg)
    }

    /// See [`Optimizer::header`].
    ///
    /// # Errors
    /// [`StepError`].
    pub fn header(&mut self, tensor: usize, slice: usize) -> Result<SliceHeader, StepError> {
        self.parts().0.header(tensor, slice).copied()
    }

    /// See [`Optimizer::save_len`].
    pub fn save_len(&mut self) -> u64 {
        self.parts().0.save_len()
    }

    /// See [`Optimizer::save`].
    ///
    /// # Errors
    /// [`CheckpointError`].
    pub fn save<S: Sink>(&mut self, sink: &mut S) -> Result<(), CheckpointError> {
        self.parts().0.save(sink)
    }

    /// See [`Optimizer::load`]. The table is built first, as it was when it was saved.
    ///
    /// # Errors
    /// [`CheckpointError`].
    pub fn load<S: Source>(&mut self, source: &mut S) -> Result<(), CheckpointError> {
        self.parts().0.load(source)
    }

    /// What the table needs so far.
    pub fn totals(&self) -> Totals {
        self.totals
    }
}
