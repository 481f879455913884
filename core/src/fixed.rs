//! An owner of everything an optimizer needs, for `static` use: no heap, all sizes constants.

use core::num::NonZeroU64;

use heapless::Vec;

use crate::checkpoint::{CheckpointError, Sink, Source};
use crate::linalg::LinAlg;
use crate::optimizer::Optimizer;
use crate::report::{StepError, StepReport};
use crate::tensor::Totals;
use crate::{Config, ModeReport, Scalar, SliceHeader, StatePart, TableError, Tensor, TensorSpec};

/// A table of tensors that is known when the program is compiled; see [`FixedOptimizer::fill`].
pub trait StaticTable<T: Scalar> {
    /// The groups.
    const GROUPS: &'static [Config<T>];
    /// The tensors.
    const TENSORS: &'static [TensorSpec];
    /// What they need. A table that cannot be (a dim of 0, a group that does not exist) does not compile.
    const TOTALS: Totals = match Totals::of(Self::GROUPS, Self::TENSORS) {
        Ok(totals) => totals,
        Err(TableError::Group) => panic!("a tensor of this table names a group that does not exist"),
        Err(_) => panic!("a tensor of this table has a dim of 0 or is too large"),
    };
}

/// An optimizer with a fixed-capacity table that owns its state and scratch.
///
/// `GROUPS`, `TENSORS` and `SLICES` bound the table; `STATE` and `SCRATCH` are elements. [`Totals::of`] computes all three of the last
/// in constants. A new one is all zero bytes: as a `static` it lies in `.bss` and takes nothing of the flash.
///
/// ```
/// use klshampoo::linalg::Portable;
/// use klshampoo::{Config, FixedOptimizer, StaticTable, TableError, TensorSpec};
///
/// struct Net;
/// impl StaticTable<f32> for Net {
///     const GROUPS: &'static [Config<f32>] = &[Config::<f32>::kl_shampoo(), Config::<f32>::adamw()];
///     const TENSORS: &'static [TensorSpec] = &[TensorSpec::matrix(16, 32), TensorSpec::vector(16).group(1)];
/// }
/// const STATE: usize = Net::TOTALS.state_len;
/// const SCRATCH: usize = Net::TOTALS.scratch_len;
/// type NetOptimizer = FixedOptimizer<f32, Portable, 2, 2, 2, STATE, SCRATCH>;
///
/// static OPTIMIZER: std::sync::Mutex<NetOptimizer> = std::sync::Mutex::new(NetOptimizer::new(Portable));
/// OPTIMIZER.lock().unwrap().fill::<Net>()?;
/// # Ok::<(), TableError>(())
/// ```
#[derive(Debug)]
pub struct FixedOptimizer<T, L, const GROUPS: usize, const TENSORS: usize, const SLICES: usize, const STATE: usize, const SCRATCH: usize> {
    groups: Vec<Config<T>, GROUPS>,
    tensors: Vec<Tensor, TENSORS>,
    totals: Totals,
    /// Floating-point operations of a step's refreshes; `None` for no budget. All zero bytes in a new table, which so lies in `.bss`.
    refresh_budget: Option<NonZeroU64>,
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
            totals: Totals::NOTHING,
            refresh_budget: None,
            headers: [SliceHeader::NEW; SLICES],
            state: [T::ZERO; STATE],
            scratch: [T::ZERO; SCRATCH],
            linalg,
        }
    }

    /// Adds all groups and tensors of a table. Lengths that are too small for it do not compile:
    ///
    /// ```compile_fail,E0080
    /// # use klshampoo::linalg::Portable;
    /// # use klshampoo::{Config, FixedOptimizer, StaticTable, TensorSpec};
    /// # struct Net;
    /// # impl StaticTable<f32> for Net {
    /// #     const GROUPS: &'static [Config<f32>] = &[Config::<f32>::kl_shampoo()];
    /// #     const TENSORS: &'static [TensorSpec] = &[TensorSpec::matrix(16, 32)];
    /// # }
    /// let mut optimizer = FixedOptimizer::<f32, Portable, 1, 1, 1, 100, 10_000>::new(Portable);
    /// // error: STATE is too small for this table: it needs StaticTable::TOTALS.state_len elements
    /// optimizer.fill::<Net>();
    /// ```
    ///
    /// # Errors
    /// [`TableError`]: what only the values of the configuration show, and [`TableError::Capacity`] or [`TableError::BufferTooShort`]
    /// if there is something in the table already. What fitted before the first that does not is then in it.
    pub fn fill<B: StaticTable<T>>(&mut self) -> Result<(), TableError> {
        const {
            assert!(GROUPS >= B::GROUPS.len(), "GROUPS is too small for this table");
            assert!(TENSORS >= B::TENSORS.len(), "TENSORS is too small for this table");
            assert!(SLICES >= B::TOTALS.slices, "SLICES is too small for this table: it needs StaticTable::TOTALS.slices");
            assert!(STATE >= B::TOTALS.state_len, "STATE is too small for this table: it needs StaticTable::TOTALS.state_len elements");
            assert!(
                SCRATCH >= B::TOTALS.scratch_len,
                "SCRATCH is too small for this table: it needs StaticTable::TOTALS.scratch_len elements"
            );
        }
        for &group in B::GROUPS {
            self.add_group(group)?;
        }
        for tensor in B::TENSORS {
            self.add_tensor(tensor)?;
        }
        Ok(())
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

    /// See [`Optimizer::with_refresh_budget`]; `None` for no budget.
    #[cfg(feature = "refresh-budget")]
    pub fn set_refresh_budget(&mut self, flops: Option<NonZeroU64>) {
        self.refresh_budget = flops;
    }

    /// The view, the scratch and the backend: for [`Optimizer::jobs`], which take what [`Self::step`] does not, such as other formats.
    pub fn parts(&mut self) -> (Optimizer<'_, T>, &mut [T], &mut L) {
        let Self { groups, tensors, headers, state, scratch, linalg, refresh_budget, .. } = self;
        (Optimizer::over(groups, tensors, headers, state).bounded(refresh_budget.map_or(u64::MAX, NonZeroU64::get)), scratch, linalg)
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
