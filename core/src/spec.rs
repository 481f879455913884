//! A tensor as its owner describes it, and the plan that follows from it.

use crate::config::Estimator;
use crate::plan::{MAX_PIECES, MAX_ROW_PARTS, ModeChoice, Plan};
use crate::shape::{MAX_ORDER, ShapeError};
use crate::{Config, Layout, Mode, Scalar, Storage, Totals};

/// A tensor as its owner describes it: dims, group, equal slices, parts of its rows, and modes where the automatic choice is not wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    order: usize,
    dims: [usize; MAX_ORDER],
    modes: [Option<Mode>; MAX_ORDER],
    row_parts: [usize; MAX_ROW_PARTS],
    row_part_count: usize,
    pub(crate) group: usize,
    pub(crate) slices: usize,
    pub(crate) slice_stride: Option<usize>,
    pub(crate) storage: Storage,
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
            storage: Storage::DENSE,
        };
        let mut k = 0;
        while k < dims.len() {
            spec.dims[k] = dims[k];
            k += 1;
        }
        Ok(spec)
    }

    /// A `rows x cols` matrix in group 0, also in constants. A length of 0 is refused when the table is resolved.
    #[must_use]
    pub const fn matrix(rows: usize, cols: usize) -> Self {
        match Self::new(&[rows, cols]) {
            Ok(spec) => spec,
            Err(_) => unreachable!(),
        }
    }

    /// A vector of `len` elements, likewise.
    #[must_use]
    pub const fn vector(len: usize) -> Self {
        match Self::new(&[len]) {
            Ok(spec) => spec,
            Err(_) => unreachable!(),
        }
    }

    /// Its dims.
    pub(crate) fn dims(&self) -> &[usize] {
        &self.dims[..self.order]
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

    /// The same tensor, whose gradient steps may scale.
    #[must_use]
    pub const fn with_grad_scaling(mut self) -> Self {
        self.storage.grad_scaling = true;
        self
    }

    /// How the tensor lies in the owner's buffers, if not dense and native.
    #[must_use]
    pub const fn storage(mut self, storage: Storage) -> Self {
        self.storage = storage.without_needless_strides(self.dims.split_at(self.order).0);
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
    pub(crate) const fn is_plain_vector<T: Scalar>(&self, group: &Config<T>) -> bool {
        self.order == 1 && self.modes[0].is_none() && !matches!(group.estimator, Estimator::None)
    }

    /// What a group's configuration means for this tensor.
    pub(crate) const fn own_config<T: Scalar>(&self, group: &Config<T>) -> Config<T> {
        if self.is_plain_vector(group) { group.for_vectors() } else { *group }
    }

    /// What becomes of a slice in a group of this configuration, also in constants.
    ///
    /// # Errors
    /// [`ShapeError`].
    pub const fn plan<T: Scalar>(&self, group: &Config<T>) -> Result<Plan, ShapeError> {
        let config = self.own_config(group);
        let mut plan = Plan {
            order: 0,
            dims: [1; MAX_ORDER],
            origin: [0; MAX_ORDER],
            modes: [ModeChoice::ByLength; MAX_ORDER],
            max_dim: config.max_dim,
            block: [1; MAX_ORDER],
            row_parts: self.row_parts,
            row_part_count: self.row_part_count,
            parts: config.parts().with_master(self.storage.master_weights),
            storage: self.storage,
        };
        let merge_dims = if self.storage.strides.is_some() { 0 } else { config.merge_dims };
        if let Err(error) = self.merge_into(&mut plan, merge_dims) {
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
        let config = self.own_config(group);
        let pieces = plan.pieces();
        let (mut i, mut totals) = (0, Totals::NOTHING);
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
            totals.cost = totals.cost.plus(piece.layout.cost(&config));
            if piece.layout.largest_full_dim() > totals.largest_full_dim {
                totals.largest_full_dim = piece.layout.largest_full_dim();
            }
            i += 1;
        }
        match (totals.state_len.checked_mul(self.slices), pieces.checked_mul(self.slices)) {
            (Some(state_len), Some(slices)) => {
                let cost = totals.cost.times(self.slices as u64);
                Ok(Totals { slices, state_len, cost, ..totals })
            }
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
