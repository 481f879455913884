//! One entry of the tensor table: what the caller says of a tensor, and what follows from it.

use core::ops::Range;

use crate::config::Estimator;
use crate::shape::{MAX_ORDER, Shape, ShapeError};
use crate::{Config, ConfigError, Layout, Mode, Scalar, SliceHeader};

/// A tensor as its owner describes it: dims, group, equal slices, and modes where the automatic choice is not wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    order: usize,
    dims: [usize; MAX_ORDER],
    modes: [Option<Mode>; MAX_ORDER],
    group: usize,
    slices: usize,
    slice_stride: Option<usize>,
}

impl TensorSpec {
    /// A dense tensor of the given dims (row-major) in group 0.
    ///
    /// # Errors
    /// [`ShapeError::Order`] for no dims or too many.
    pub const fn new(dims: &[usize]) -> Result<Self, ShapeError> {
        if dims.is_empty() || dims.len() > MAX_ORDER {
            return Err(ShapeError::Order);
        }
        let mut spec = Self { order: dims.len(), dims: [1; MAX_ORDER], modes: [None; MAX_ORDER], group: 0, slices: 1, slice_stride: None };
        let mut k = 0;
        while k < dims.len() {
            spec.dims[k] = dims[k];
            k += 1;
        }
        Ok(spec)
    }

    /// Puts the tensor in another group.
    #[must_use]
    pub const fn group(mut self, group: usize) -> Self {
        self.group = group;
        self
    }

    /// `count` equal slices, each a tensor of the given dims with a state of its own: layers stacked in one buffer.
    #[must_use]
    pub const fn slices(mut self, count: usize) -> Self {
        self.slices = count;
        self
    }

    /// Elements from the start of one slice to the start of the next; without it slices are dense.
    #[must_use]
    pub const fn slice_stride(mut self, elements: usize) -> Self {
        self.slice_stride = Some(elements);
        self
    }

    /// Treats dim `k` as `mode` instead of the group's automatic choice; dims beyond the order are ignored.
    #[must_use]
    pub const fn mode(mut self, k: usize, mode: Mode) -> Self {
        if k < self.order {
            self.modes[k] = Some(mode);
        }
        self
    }

    /// Whether a group's method does not apply to this tensor because it is 1-D: AdamW steps it, unless its mode was chosen by hand.
    const fn is_plain_vector<T: Scalar>(&self, group: &Config<T>) -> bool {
        self.order == 1 && self.modes[0].is_none() && !matches!(group.estimator, Estimator::None)
    }

    /// The mode that one-sided preconditioning takes of its own accord: the shortest, the first of equals; none of them if a mode has
    /// been chosen by hand.
    const fn one_side(&self) -> usize {
        let (mut k, mut shortest) = (0, 0);
        while k < self.order {
            if matches!(self.modes[k], Some(Mode::Full | Mode::Diagonal)) {
                return MAX_ORDER;
            }
            // A mode that was ruled out by hand is not the one.
            if self.modes[k].is_none() && (self.modes[shortest].is_some() || self.dims[k] < self.dims[shortest]) {
                shortest = k;
            }
            k += 1;
        }
        shortest
    }

    /// Sizes of one slice in a group of this configuration, also in constants: `state_len` elements per slice, `scratch_len` once.
    ///
    /// # Errors
    /// [`ShapeError`].
    pub const fn layout<T: Scalar>(&self, group: &Config<T>) -> Result<Layout, ShapeError> {
        let config = if self.is_plain_vector(group) { group.for_vectors() } else { *group };
        let one_sided = matches!(config.estimator, Estimator::OneSided);
        let chosen = self.one_side();
        let mut modes = [Mode::Identity; MAX_ORDER];
        let mut k = 0;
        while k < self.order {
            modes[k] = match (self.modes[k], config.estimator) {
                // Without an estimator there is nothing to put in a factor.
                (_, Estimator::None) => Mode::Identity,
                (Some(mode), _) => mode,
                (None, _) if one_sided && k != chosen => Mode::Identity,
                (None, _) => config.auto_mode(self.dims[k]),
            };
            k += 1;
        }
        match Shape::new(self.dims.split_at(self.order).0, modes.split_at(self.order).0) {
            Ok(shape) => Layout::new(shape, config.parts()),
            Err(error) => Err(error),
        }
    }
}

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
    /// Slice headers.
    pub slices: usize,
    /// State elements of all slices.
    pub state_len: usize,
    /// Scratch elements: the maximum over the tensors. One scratch serves the table, or each thread has its own.
    pub scratch_len: usize,
    /// Largest dim with a full factor.
    pub largest_full_dim: usize,
}

impl Totals {
    /// Bytes of optimizer state: headers and elements, without scratch.
    pub const fn state_bytes<T>(&self) -> usize {
        self.slices * size_of::<SliceHeader>() + self.state_len * size_of::<T>()
    }
}

/// A table entry: a [`TensorSpec`] resolved against its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tensor {
    layout: Layout,
    group: usize,
    slices: usize,
    slice_stride: usize,
    /// A 1-D tensor of a group with factors: stepped by AdamW.
    vector: bool,
    first_slice: usize,
    state_offset: usize,
}

impl Tensor {
    /// Resolves modes and sizes, and adds what the tensor needs to `totals`.
    ///
    /// # Errors
    /// [`TableError`]; `totals` is then unchanged.
    pub fn resolve<T: Scalar>(spec: &TensorSpec, groups: &[Config<T>], totals: &mut Totals) -> Result<Self, TableError> {
        let config = groups.get(spec.group).ok_or(TableError::Group)?;
        config.validate()?;
        let layout = spec.layout(config)?;
        if config.estimator == Estimator::OneSided && layout.shape().preconditioned_modes() > 1 {
            return Err(TableError::OneSided);
        }
        let elements = layout.shape().elements();
        if spec.slices == 0 {
            return Err(TableError::Slices);
        }
        let slice_stride = spec.slice_stride.unwrap_or(elements);
        if slice_stride < elements && spec.slices > 1 {
            return Err(TableError::SliceStride);
        }
        let limit = isize::MAX as usize / size_of::<T>();
        let bounded = |n: Option<usize>| n.filter(|&n| n <= limit).ok_or(TableError::Shape(ShapeError::Overflow));
        bounded(slice_stride.checked_mul(spec.slices))?;
        let state_len = bounded(layout.state_len().checked_mul(spec.slices).and_then(|n| n.checked_add(totals.state_len)))?;
        let slices = totals.slices.checked_add(spec.slices);
        bounded(slices.and_then(|n| n.checked_mul(size_of::<SliceHeader>())))?;
        let tensor = Self {
            layout,
            group: spec.group,
            slices: spec.slices,
            slice_stride,
            vector: spec.is_plain_vector(config),
            first_slice: totals.slices,
            state_offset: totals.state_len,
        };
        *totals = Totals {
            slices: totals.slices + spec.slices,
            state_len,
            scratch_len: totals.scratch_len.max(layout.scratch_len()),
            largest_full_dim: totals.largest_full_dim.max(layout.largest_full_dim()),
        };
        Ok(tensor)
    }

    /// Sizes of one slice.
    pub const fn layout(&self) -> &Layout {
        &self.layout
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

    /// Elements from the first to one past the last that a step touches in the parameter and reads in the gradient.
    pub const fn span(&self) -> usize {
        (self.slices - 1) * self.slice_stride + self.layout.shape().elements()
    }

    /// Elements of one slice in the parameter and the gradient.
    pub const fn slice_range(&self, slice: usize) -> Range<usize> {
        let start = slice * self.slice_stride;
        start..start + self.layout.shape().elements()
    }

    /// Index of a slice's header in the table.
    pub const fn header_index(&self, slice: usize) -> usize {
        self.first_slice + slice
    }

    /// Elements of a slice's state in the table's state.
    pub const fn state_range(&self, slice: usize) -> Range<usize> {
        let start = self.state_offset + slice * self.layout.state_len();
        start..start + self.layout.state_len()
    }

    /// The configuration that this tensor is stepped with.
    pub fn config<T: Scalar>(&self, groups: &[Config<T>]) -> Config<T> {
        let config = groups[self.group];
        if self.vector { config.for_vectors() } else { config }
    }
}
