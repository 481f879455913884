//! One entry of the tensor table: what the caller says of a tensor, and what follows from it.

use core::ops::Range;

use crate::config::Estimator;
use crate::plan::{MAX_PIECES, MAX_ROW_PARTS, ModeChoice, Piece, Plan};
use crate::shape::{MAX_ORDER, ShapeError};
use crate::{Config, ConfigError, Layout, Mode, Scalar, SliceHeader};

/// A tensor as its owner describes it: dims, group, equal slices, parts of its rows, and modes where the automatic choice is not wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    order: usize,
    dims: [usize; MAX_ORDER],
    modes: [Option<Mode>; MAX_ORDER],
    row_parts: [usize; MAX_ROW_PARTS],
    row_part_count: usize,
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
        let mut spec = Self {
            order: dims.len(),
            dims: [1; MAX_ORDER],
            modes: [None; MAX_ORDER],
            row_parts: [0; MAX_ROW_PARTS],
            row_part_count: 0,
            group: 0,
            slices: 1,
            slice_stride: None,
        };
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

    /// Treats dim `k` as `mode` instead of the group's automatic choice; dims beyond the order are ignored. Such a dim is not merged,
    /// and not cut into blocks unless it is `Full`.
    #[must_use]
    pub const fn mode(mut self, k: usize, mode: Mode) -> Self {
        if k < self.order {
            self.modes[k] = Some(mode);
        }
        self
    }

    /// Splits the rows (the first dim) of a fused tensor, such as queries, keys and values in one matrix, into parts with a state of
    /// their own. At most [`MAX_ROW_PARTS`]; their sum is the first dim.
    ///
    /// # Errors
    /// [`ShapeError::RowParts`].
    pub const fn split_rows(mut self, parts: &[usize]) -> Result<Self, ShapeError> {
        if parts.len() > MAX_ROW_PARTS {
            return Err(ShapeError::RowParts);
        }
        let (mut i, mut rest) = (0, self.dims[0]);
        while i < parts.len() {
            if parts[i] == 0 || parts[i] > rest {
                return Err(ShapeError::RowParts);
            }
            self.row_parts[i] = parts[i];
            rest -= parts[i];
            i += 1;
        }
        if !parts.is_empty() && rest != 0 {
            return Err(ShapeError::RowParts);
        }
        self.row_part_count = parts.len();
        Ok(self)
    }

    /// Whether a group's method does not apply to this tensor because it is 1-D: AdamW steps it, unless its mode was chosen by hand.
    const fn is_plain_vector<T: Scalar>(&self, group: &Config<T>) -> bool {
        self.order == 1 && self.modes[0].is_none() && !matches!(group.estimator, Estimator::None)
    }

    /// What becomes of a slice in a group of this configuration, also in constants.
    ///
    /// # Errors
    /// [`ShapeError`].
    pub const fn plan<T: Scalar>(&self, group: &Config<T>) -> Result<Plan, ShapeError> {
        let config = if self.is_plain_vector(group) { group.for_vectors() } else { *group };
        let mut plan = Plan {
            order: 0,
            dims: [1; MAX_ORDER],
            origin: [0; MAX_ORDER],
            modes: [ModeChoice::ByLength; MAX_ORDER],
            max_dim: config.max_dim,
            block: [1; MAX_ORDER],
            row_parts: self.row_parts,
            row_part_count: self.row_part_count,
            parts: config.parts(),
        };
        if let Err(error) = self.merge_into(&mut plan, config.merge_dims) {
            return Err(error);
        }
        let chosen = one_side(&plan);
        let mut k = 0;
        while k < plan.order {
            plan.modes[k] = match (plan.modes[k], config.estimator) {
                // Without an estimator there is nothing to put in a factor.
                (_, Estimator::None) => ModeChoice::Fixed(Mode::Identity),
                (ModeChoice::ByLength, Estimator::OneSided) if k != chosen => ModeChoice::Fixed(Mode::Identity),
                (mode, _) => mode,
            };
            let whole = config.block_size == 0 || matches!(plan.modes[k], ModeChoice::Fixed(Mode::Diagonal | Mode::Identity));
            plan.block[k] = if whole { plan.dims[k] } else { config.block_size };
            k += 1;
        }
        if plan.pieces() > MAX_PIECES {
            return Err(ShapeError::Pieces);
        }
        Ok(plan)
    }

    /// Merges neighbours from the first dim on while their product is at most `limit`, but never all dims into one: a matrix stays one.
    const fn merge_into(&self, plan: &mut Plan, limit: usize) -> Result<(), ShapeError> {
        let mut k = 0;
        while k < self.order {
            if self.dims[k] == 0 {
                return Err(ShapeError::ZeroDim);
            }
            let mode = match self.modes[k] {
                Some(mode) => ModeChoice::Fixed(mode),
                None => ModeChoice::ByLength,
            };
            let last = plan.order.saturating_sub(1);
            let both_free = k > 0 && matches!((plan.modes[last], mode), (ModeChoice::ByLength, ModeChoice::ByLength));
            let would_be_one = plan.order == 1 && k + 1 == self.order;
            let split = last == 0 && self.row_part_count > 0;
            match plan.dims[last].checked_mul(self.dims[k]) {
                Some(product) if both_free && !would_be_one && !split && product <= limit => plan.dims[last] = product,
                _ => {
                    plan.dims[plan.order] = self.dims[k];
                    plan.origin[plan.order] = k;
                    plan.modes[plan.order] = mode;
                    plan.order += 1;
                }
            }
            k += 1;
        }
        Ok(())
    }

    /// What the tensor needs in a group of this configuration, also in constants: state of all its slices, scratch once.
    ///
    /// # Errors
    /// [`ShapeError`].
    pub const fn needs<T: Scalar>(&self, group: &Config<T>) -> Result<Totals, ShapeError> {
        let plan = match self.plan(group) {
            Ok(plan) => plan,
            Err(error) => return Err(error),
        };
        let pieces = plan.pieces();
        let (mut i, mut totals) = (0, Totals { slices: 0, state_len: 0, scratch_len: 0, largest_full_dim: 0 });
        while i < pieces {
            // Pieces of one shape come in a row; a plan of one piece is the rule.
            let piece = match plan.piece(i) {
                Ok(piece) => piece,
                Err(error) => return Err(error),
            };
            let (Some(state_len), Some(scratch_len)) = (totals.state_len.checked_add(piece.layout.state_len()), plan.scratch_len(&piece))
            else {
                return Err(ShapeError::Overflow);
            };
            totals.state_len = state_len;
            if scratch_len > totals.scratch_len {
                totals.scratch_len = scratch_len;
            }
            if piece.layout.largest_full_dim() > totals.largest_full_dim {
                totals.largest_full_dim = piece.layout.largest_full_dim();
            }
            i += 1;
        }
        match (totals.state_len.checked_mul(self.slices), pieces.checked_mul(self.slices)) {
            (Some(state_len), Some(slices)) => Ok(Totals { slices, state_len, ..totals }),
            _ => Err(ShapeError::Overflow),
        }
    }

    /// Sizes of the first piece of a slice: of the slice, if it is not cut. In constants too.
    ///
    /// # Errors
    /// [`ShapeError`].
    pub const fn layout<T: Scalar>(&self, group: &Config<T>) -> Result<Layout, ShapeError> {
        match self.plan(group) {
            Ok(plan) => match plan.piece(0) {
                Ok(piece) => Ok(piece.layout),
                Err(error) => Err(error),
            },
            Err(error) => Err(error),
        }
    }
}

/// The dim that one-sided preconditioning takes of its own accord: the shortest, the first of equals; none if one has been chosen by
/// hand.
const fn one_side(plan: &Plan) -> usize {
    let (mut k, mut shortest) = (0, MAX_ORDER);
    while k < plan.order {
        match plan.modes[k] {
            ModeChoice::Fixed(Mode::Full | Mode::Diagonal) => return MAX_ORDER,
            ModeChoice::Fixed(Mode::Identity) => {}
            ModeChoice::ByLength => {
                if shortest == MAX_ORDER || plan.dims[k] < plan.dims[shortest] {
                    shortest = k;
                }
            }
        }
        k += 1;
    }
    shortest
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
    /// Slice headers, one per piece of each slice.
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
    plan: Plan,
    /// Of the first piece.
    layout: Layout,
    elements: usize,
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
        let layout = spec.layout(config)?;
        if config.estimator == Estimator::OneSided && layout.shape().preconditioned_modes() > 1 {
            return Err(TableError::OneSided);
        }
        if spec.slices == 0 {
            return Err(TableError::Slices);
        }
        let limit = isize::MAX as usize / size_of::<T>();
        let bounded = |n: Option<usize>| n.filter(|&n| n <= limit).ok_or(TableError::Shape(ShapeError::Overflow));
        let elements = bounded(spec.dims[..spec.order].iter().try_fold(1usize, |n, &d| n.checked_mul(d)))?;
        let slice_stride = spec.slice_stride.unwrap_or(elements);
        if slice_stride < elements && spec.slices > 1 {
            return Err(TableError::SliceStride);
        }
        bounded(slice_stride.checked_mul(spec.slices))?;
        let needs = spec.needs(config)?;
        let state_len = bounded(needs.state_len.checked_add(totals.state_len))?;
        let slices = totals.slices.checked_add(needs.slices);
        bounded(slices.and_then(|n| n.checked_mul(size_of::<SliceHeader>())))?;
        let tensor = Self {
            plan,
            layout,
            elements,
            pieces: plan.pieces(),
            group: spec.group,
            slices: spec.slices,
            slice_stride,
            vector: spec.is_plain_vector(config),
            first_header: totals.slices,
            state_offset: totals.state_len,
            state_len: needs.state_len / spec.slices,
            scratch_len: needs.scratch_len,
        };
        *totals = Totals {
            slices: totals.slices + needs.slices,
            state_len,
            scratch_len: totals.scratch_len.max(needs.scratch_len),
            largest_full_dim: totals.largest_full_dim.max(needs.largest_full_dim),
        };
        Ok(tensor)
    }

    /// What became of its slices: merged dims, cuts.
    pub const fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Sizes of the first piece of a slice: of the slice, if it is not cut.
    pub const fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Sizes of the piece that [`Self::pieces`] counts as `piece` (of any slice).
    pub const fn piece_layout(&self, piece: usize) -> Layout {
        self.piece(piece % self.pieces).layout
    }

    /// A piece of a slice; its sizes have been computed before, so they fit.
    pub(crate) const fn piece(&self, index: usize) -> Piece {
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

    /// Scratch elements that a step of this tensor needs.
    pub const fn scratch_len(&self) -> usize {
        self.scratch_len
    }

    /// Elements from the first to one past the last that a step touches in the parameter and reads in the gradient.
    pub const fn span(&self) -> usize {
        (self.slices - 1) * self.slice_stride + self.elements
    }

    /// Elements of one slice in the parameter and the gradient.
    pub const fn slice_range(&self, slice: usize) -> Range<usize> {
        let start = slice * self.slice_stride;
        start..start + self.elements
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

    /// The configuration that this tensor is stepped with.
    pub fn config<T: Scalar>(&self, groups: &[Config<T>]) -> Config<T> {
        let config = groups[self.group];
        if self.vector { config.for_vectors() } else { config }
    }
}
