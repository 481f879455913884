//! One entry of the tensor table, and what a table needs.

use core::ops::Range;

use crate::config::{Estimator, built};
use crate::plan::{Piece, Plan};
use crate::report::StepErrorKind;
use crate::shape::{MAX_ORDER, ShapeError};
use crate::{Config, ConfigError, Cost, Layout, Scalar, SliceHeader, Storage, TensorSpec};

/// Why a table is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableError {
    /// A group's configuration.
    Config(ConfigError),
    /// A tensor's dims.
    Shape(ShapeError),
    /// A tensor names a group that does not exist.
    Group,
    /// One-sided preconditioning of more than one mode.
    OneSided,
    /// A tensor has no slices.
    Slices,
    /// Slices overlap: the stride is smaller than a slice.
    SliceStride,
    /// Formats that do not go together: parameters are native or bf16, and only bf16 ones are rounded or have master weights.
    Format,
    /// The tensors do not stand in the order in which they were resolved.
    Order,
    /// More tensors, groups or slices than the table holds.
    Capacity,
    /// A header, state or scratch buffer is shorter than the table needs.
    BufferTooShort,
}

impl core::fmt::Display for TableError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Config(error) => return error.fmt(f),
            Self::Shape(error) => return error.fmt(f),
            Self::Group => "a tensor names a group that does not exist",
            Self::OneSided => "one-sided preconditioning is of one mode",
            Self::Slices => "a tensor has no slices",
            Self::SliceStride => "slices overlap: the stride is smaller than a slice",
            Self::Format => "the formats of parameter and gradient do not go together",
            Self::Order => "the tensors do not stand in the order in which they were resolved",
            Self::Capacity => "more tensors, groups or slices than the table holds",
            Self::BufferTooShort => "a buffer is shorter than the table needs",
        })
    }
}

impl core::error::Error for TableError {}

impl From<ShapeError> for TableError {
    fn from(error: ShapeError) -> Self {
        Self::Shape(error)
    }
}

impl From<ConfigError> for TableError {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}

/// What a table of tensors needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Slice headers, one per piece of each slice.
    pub slices: usize,
    /// State elements of all slices.
    pub state_len: usize,
    /// Scratch elements: the maximum over the tensors. One scratch serves the table, or each thread has its own.
    pub scratch_len: usize,
    /// Largest dim with a full factor.
    pub largest_full_dim: usize,
    /// Floating-point operations of all slices.
    pub cost: Cost,
}

impl Totals {
    /// Bytes of optimizer state: headers and elements, without scratch.
    pub const fn state_bytes<T>(&self) -> usize {
        self.slices * size_of::<SliceHeader>() + self.state_len * size_of::<T>()
    }

    /// What a table needs, also in constants: for the sizes of a [`crate::FixedOptimizer`].
    ///
    /// # Errors
    /// [`TableError::Group`], [`TableError::Shape`]. What else is wrong with a table is found when it is resolved.
    pub const fn of<T: Scalar>(groups: &[Config<T>], tensors: &[TensorSpec]) -> Result<Self, TableError> {
        let (mut i, mut totals) = (0, Self::NOTHING);
        while i < tensors.len() {
            if tensors[i].group >= groups.len() {
                return Err(TableError::Group);
            }
            totals = match tensors[i].needs(&groups[tensors[i].group]) {
                Ok(needs) => match totals.plus(needs) {
                    Some(totals) => totals,
                    None => return Err(TableError::Shape(ShapeError::Overflow)),
                },
                Err(error) => return Err(TableError::Shape(error)),
            };
            i += 1;
        }
        Ok(totals)
    }

    /// What an empty table needs.
    pub(crate) const NOTHING: Self = Self { slices: 0, state_len: 0, scratch_len: 0, largest_full_dim: 0, cost: Cost::NOTHING };

    /// What two tables need together; `None` when it does not fit the address space.
    const fn plus(self, other: Self) -> Option<Self> {
        const fn larger(a: usize, b: usize) -> usize {
            if a < b { b } else { a }
        }
        match (self.slices.checked_add(other.slices), self.state_len.checked_add(other.state_len)) {
            (Some(slices), Some(state_len)) => Some(Self {
                slices,
                state_len,
                scratch_len: larger(self.scratch_len, other.scratch_len),
                largest_full_dim: larger(self.largest_full_dim, other.largest_full_dim),
                cost: self.cost.plus(other.cost),
            }),
            _ => None,
        }
    }
}

/// Whether this build can step such a tensor.
fn is_built<T: Scalar>(config: &Config<T>, spec: &TensorSpec, plan: &Plan) -> bool {
    let as_it_lies = || spec.storage == Storage::DENSE && plan.pieces() == 1;
    config.is_built()
        && (built::STORAGE || as_it_lies())
        && (built::ELEMENTWISE || (0..plan.pieces()).all(|i| plan.piece(i).is_ok_and(|piece| piece.layout.shape().is_built())))
}

/// A table entry: a [`TensorSpec`] resolved against its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tensor {
    plan: Plan,
    /// The first piece: of a slice that is not cut, all of it.
    first: Piece,
    /// Elements of a slice's buffers from its first to its last.
    extent: usize,
    pieces: usize,
    group: usize,
    slices: usize,
    slice_stride: usize,
    /// A 1-D tensor of a group with factors: stepped by AdamW.
    vector: bool,
    first_header: usize,
    state_offset: usize,
    /// State elements of one slice.
    state_len: usize,
    scratch_len: usize,
    largest_full_dim: usize,
    /// Floating-point operations of the slices before this tensor's, and of one of its own.
    cost_before: Cost,
    slice_cost: Cost,
}

impl Tensor {
    /// Resolves modes and sizes, and adds what the tensor needs to `totals`.
    ///
    /// # Errors
    /// [`TableError`]; `totals` is then unchanged.
    pub fn resolve<T: Scalar>(spec: &TensorSpec, groups: &[Config<T>], totals: &mut Totals) -> Result<Self, TableError> {
        let config = groups.get(spec.group).ok_or(TableError::Group)?;
        config.validate()?;
        let plan = spec.plan(config)?;
        let first = plan.piece(0)?;
        if config.estimator == Estimator::OneSided && first.layout.shape().preconditioned_modes() > 1 {
            return Err(TableError::OneSided);
        }
        if spec.slices == 0 {
            return Err(TableError::Slices);
        }
        let limit = isize::MAX as usize / size_of::<T>();
        let bounded = |n: Option<usize>| n.filter(|&n| n <= limit).ok_or(TableError::Shape(ShapeError::Overflow));
        if !spec.storage.is_consistent() {
            return Err(TableError::Format);
        }
        let strided = spec.storage.strides.is_some();
        let overlap = || TableError::Shape(if strided { ShapeError::Strides } else { ShapeError::Overflow });
        let extent = bounded(Some(spec.storage.span(spec.dims()).ok_or_else(overlap)?))?;
        let slice_stride = spec.slice_stride.unwrap_or(extent);
        if slice_stride < extent && spec.slices > 1 {
            return Err(TableError::SliceStride);
        }
        bounded(slice_stride.checked_mul(spec.slices))?;
        if !is_built(&spec.own_config(config), spec, &plan) {
            return Err(TableError::Config(ConfigError::NotBuilt));
        }
        let needs = spec.needs(config)?;
        let sum = totals.plus(needs).ok_or(ShapeError::Overflow)?;
        bounded(Some(sum.state_len))?;
        bounded(sum.slices.checked_mul(size_of::<SliceHeader>()))?;
        let tensor = Self {
            plan,
            first,
            extent,
            pieces: plan.pieces(),
            group: spec.group,
            slices: spec.slices,
            slice_stride,
            vector: spec.is_plain_vector(config),
            first_header: totals.slices,
            state_offset: totals.state_len,
            state_len: needs.state_len / spec.slices,
            scratch_len: needs.scratch_len,
            largest_full_dim: needs.largest_full_dim,
            cost_before: totals.cost,
            slice_cost: needs.cost.of_one(spec.slices as u64),
        };
        *totals = sum;
        Ok(tensor)
    }

    /// What became of its slices: merged dims, cuts.
    pub const fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Sizes of the first piece of a slice: of the slice, if it is not cut.
    pub const fn layout(&self) -> &Layout {
        &self.first.layout
    }

    /// Sizes of the piece that [`Self::pieces`] counts as `piece` (of any slice).
    pub const fn piece_layout(&self, piece: usize) -> Layout {
        self.piece(piece % self.pieces).layout
    }

    /// The index of the first element of such a piece in its slice, by the dims of [`Self::plan`]; its lengths are those of
    /// [`Self::piece_layout`].
    pub const fn piece_start(&self, piece: usize) -> [usize; MAX_ORDER] {
        self.piece(piece % self.pieces).start
    }

    /// The first piece of a slice.
    pub(crate) const fn first(&self) -> &Piece {
        &self.first
    }

    /// A piece of a slice; its sizes have been computed before, so they fit.
    pub(crate) const fn piece(&self, index: usize) -> Piece {
        // Nearly every slice is one piece, and every step asks for it.
        if index == 0 {
            return self.first;
        }
        match self.plan.piece(index) {
            Ok(piece) => piece,
            Err(_) => unreachable!(),
        }
    }

    /// Index of its group.
    pub const fn group(&self) -> usize {
        self.group
    }

    /// The same entry in a table where its group has another index.
    #[must_use]
    pub const fn in_group(mut self, group: usize) -> Self {
        self.group = group;
        self
    }

    /// Number of slices.
    pub const fn slices(&self) -> usize {
        self.slices
    }

    /// Into how many pieces each slice is cut, with a header and a state of their own; 1 if it is not.
    pub const fn pieces(&self) -> usize {
        self.pieces
    }

    /// The largest dim with a full factor in any of its pieces; 0 if there is none.
    pub const fn largest_full_dim(&self) -> usize {
        self.largest_full_dim
    }

    /// Scratch elements that a step of this tensor needs.
    pub const fn scratch_len(&self) -> usize {
        self.scratch_len
    }

    /// Elements from the first to one past the last that a step touches in the parameter and reads in the gradient.
    pub const fn span(&self) -> usize {
        (self.slices - 1) * self.slice_stride + self.extent
    }

    /// How it lies in its owner's buffers.
    pub const fn storage(&self) -> &Storage {
        &self.plan.storage
    }

    /// From the first to the last element of one slice in the parameter and the gradient.
    pub const fn slice_range(&self, slice: usize) -> Range<usize> {
        let start = slice * self.slice_stride;
        start..start + self.extent
    }

    /// Headers of a slice in the table, one per piece.
    pub const fn header_range(&self, slice: usize) -> Range<usize> {
        let start = self.first_header + slice * self.pieces;
        start..start + self.pieces
    }

    /// Elements of a slice's state in the table's state, piece by piece.
    pub const fn state_range(&self, slice: usize) -> Range<usize> {
        let start = self.state_offset + slice * self.state_len;
        start..start + self.state_len
    }

    /// What a step of one slice costs, all its pieces together.
    pub const fn slice_cost(&self) -> Cost {
        self.slice_cost
    }

    /// Floating-point operations of all slices up to this tensor's last.
    pub(crate) const fn cost_up_to_here(&self) -> Cost {
        self.cost_before.plus(self.slice_cost.times(self.slices as u64))
    }

    /// The most of [`Layout::refresh_steps`] in any of its pieces.
    pub fn refresh_steps<T: Scalar>(&self, groups: &[Config<T>]) -> u64 {
        let config = self.config(groups);
        (0..self.pieces).map(|piece| self.piece(piece).layout.refresh_steps(&config)).max().unwrap_or(0)
    }

    /// How many steps ahead of its period's end a slice is refreshed, in a table whose refreshes cost `total`: refreshes in table order
    /// fill the steps of a period one after another.
    pub(crate) fn phase<T: Scalar>(&self, slice: usize, config: &Config<T>, total: u64) -> u64 {
        let own = self.slice_cost.refresh;
        if !config.stagger || config.refresh_growth > 0 || total <= own {
            return 0;
        }
        let before = self.cost_before.refresh.saturating_add(own.saturating_mul(slice as u64));
        let (middle, period) = (before.saturating_add(own / 2), u64::from(config.refresh_period));
        (middle / (total / period).max(1)).min(period - 1)
    }

    /// How many steps ahead of its period's end a slice of this tensor of a table is refreshed ([`Config::stagger`]).
    ///
    /// # Panics
    /// If `groups` does not have the tensor's group: they are those that it was resolved against.
    pub fn refresh_phase<T: Scalar>(&self, slice: usize, table: &[Self], groups: &[Config<T>]) -> u64 {
        let total = table.last().map_or(0, |last| last.cost_up_to_here().refresh);
        self.phase(slice, &groups[self.group], total)
    }

    /// Floating-point operations that step `t` of a table takes (the first one is 1), if all tensors have a gradient in every step until
    /// then and no refresh is left out. Products and factorisations are counted, see [`Cost`]. Reads no state: a plan, before anything
    /// runs. Of slices whose refreshes are made in portions it is the most that the step may take.
    pub fn predicted_flops<T: Scalar>(table: &[Self], groups: &[Config<T>], t: u64) -> u64 {
        let total = table.last().map_or(0, |last| last.cost_up_to_here().refresh);
        let slice_flops = |tensor: &Self, slice: usize| {
            let config = tensor.config(groups);
            // Its first piece may have no basis where another one has.
            let refreshes = match tensor.layout().parts().portions {
                true => t > u64::from(config.refresh_offset),
                false => config.refresh_due_in(t, tensor.phase(slice, &config, total)),
            };
            tensor.slice_cost.step.saturating_add(if refreshes { tensor.slice_cost.refresh_step } else { 0 })
        };
        table.iter().flat_map(|tensor| (0..tensor.slices).map(move |slice| slice_flops(tensor, slice))).fold(0, u64::saturating_add)
    }

    /// Whether a step may multiply this tensor's gradient by `scale`.
    pub(crate) fn check_grad_scale<T: Scalar>(&self, scale: T) -> Result<(), StepErrorKind> {
        let positive = scale.is_finite_bits() && scale > T::ZERO;
        if positive && (scale == T::ONE || self.storage().grad_scaling) { Ok(()) } else { Err(StepErrorKind::GradScale) }
    }

    /// Whether a step may write this tensor's direction instead of moving its parameter, given whether it can look at that.
    ///
    /// # Errors
    /// [`StepErrorKind::MasterWeights`], [`StepErrorKind::ParameterMissing`].
    pub const fn check_direction(&self, has_param: bool) -> Result<(), StepErrorKind> {
        match (self.storage().master_weights, self.layout().parts().penalised) {
            (true, _) => Err(StepErrorKind::MasterWeights),
            (false, true) if !has_param => Err(StepErrorKind::ParameterMissing),
            _ => Ok(()),
        }
    }

    /// Whether it is a 1-D tensor that its group's method does not apply to.
    pub(crate) const fn is_vector(&self) -> bool {
        self.vector
    }

    /// The configuration that this tensor is stepped with.
    pub fn config<T: Scalar>(&self, groups: &[Config<T>]) -> Config<T> {
        let config = groups[self.group];
        if self.vector { config.for_vectors() } else { config }
    }
}
