//! Batches: the items of a table that one launch can work on.

use klshampoo::{Config, EstimateOrder, Format, Graft, Layout, Rounding, StepOrder, Tensor, WeightDecay};

use super::axes::sorts;
use super::params::Axes;
use super::program::Reason;
use crate::io::{Geometry, Place};

/// A piece of a slice of a tensor.
#[derive(Clone, Copy, Debug)]
pub(super) struct Item {
    pub tensor: usize,
    pub place: Place,
    /// Of its refreshes.
    pub phase: u64,
    /// Its header's index in the table's, and its first element in the table's state.
    pub header: usize,
    pub state: usize,
}

/// Items of equal layout, configuration, formats and geometry, in table order.
#[derive(Clone, Debug)]
pub(super) struct Batch {
    pub layout: Layout,
    /// Of the table: items of other groups are in other batches, for a group may change.
    pub group: usize,
    pub config: Config<f32>,
    pub geometry: Geometry,
    pub grad: Format,
    pub param: Format,
    pub rounding: Rounding,
    pub axes: Axes,
    pub items: Vec<Item>,
}

impl Batch {
    /// Whether it has such an item.
    pub fn any(&self, f: impl Fn(&Item) -> bool) -> bool {
        self.items.iter().any(f)
    }

    /// Whether its items have something to set before their first step.
    pub fn starts(&self) -> bool {
        self.layout.shape().preconditioned_modes() > 0
    }

    /// Whether a basis turns its tensors.
    pub fn is_turned(&self) -> bool {
        self.layout.shape().full_modes() > 0
    }

    /// Whether its step is one pass over the elements: nothing preconditions, and nothing has to be known of all of the direction first.
    pub fn is_single_pass(&self) -> bool {
        let Config { graft, rms_cap, measure, .. } = self.config;
        !self.starts() && graft == Graft::None && rms_cap.is_none() && !measure
    }

    /// Whether the gradient is of loss and penalty.
    pub fn is_penalised(&self) -> bool {
        self.config.weight_decay_kind == WeightDecay::L2
    }

    /// Whether the second moment has to follow the order of the basis.
    pub fn permutes(&self) -> bool {
        self.layout.parts().second_moment && sorts(&self.config)
    }

    /// Whether the modes see each other's eigenvalues in the order of the authors' code.
    pub fn mixes_estimates(&self) -> bool {
        self.config.estimate_order == EstimateOrder::ReferenceKl && self.layout.shape().order() == 3
    }

    /// The modes that have a factor and a basis.
    pub fn full_modes(&self) -> impl Iterator<Item = usize> + use<> {
        let shape = *self.layout.shape();
        (0..shape.order()).filter(move |&k| shape.is_full(k))
    }

    /// The modes that are preconditioned.
    pub fn preconditioned_modes(&self) -> impl DoubleEndedIterator<Item = usize> + use<> {
        let shape = *self.layout.shape();
        (0..shape.order()).filter(move |&k| shape.is_preconditioned(k))
    }

    /// The same but for its items, which are some of them.
    pub fn part(&self, items: Vec<Item>) -> Self {
        Self { items, ..*self }
    }

    fn is_like(&self, other: &Self) -> bool {
        (self.layout, self.group, self.config, self.geometry) == (other.layout, other.group, other.config, other.geometry)
            && (self.grad, self.param, self.rounding) == (other.grad, other.param, other.rounding)
    }
}

/// Room for so many more.
pub(super) fn reserve<T>(list: &mut Vec<T>, count: usize) -> Result<(), Reason> {
    list.try_reserve_exact(count).map_err(|_| Reason::OutOfMemory)
}

/// A list of some of another one.
pub(super) fn copied<T: Copy>(from: &[T]) -> Result<Vec<T>, Reason> {
    let mut list = Vec::new();
    reserve(&mut list, from.len())?;
    list.extend_from_slice(from);
    Ok(list)
}

/// All batches of a table, in the order of their groups or in this one.
pub(super) fn batches(groups: &[Config<f32>], table: &[Tensor], order: Option<StepOrder>) -> Result<Vec<Batch>, (usize, Reason)> {
    let mut batches: Vec<Batch> = Vec::new();
    for (index, tensor) in table.iter().enumerate() {
        let config = tensor.config(groups);
        let config = Config { step_order: order.unwrap_or(config.step_order), ..config };
        let storage = tensor.storage();
        // Pieces repeat from slice to slice.
        let mut homes = Vec::new();
        reserve(&mut homes, tensor.pieces()).map_err(|reason| (index, reason))?;
        for piece in 0..tensor.pieces() {
            let layout = tensor.piece_layout(piece);
            let batch = Batch {
                layout,
                group: tensor.group(),
                config,
                geometry: Geometry::of(tensor, piece).map_err(|error| (index, Reason::Geometry(error)))?,
                grad: storage.grad,
                param: storage.param,
                rounding: storage.rounding,
                axes: Axes::new(&config, &layout),
                items: Vec::new(),
            };
            homes.push(batches.iter().position(|other| other.is_like(&batch)).unwrap_or_else(|| {
                batches.push(batch);
                batches.len() - 1
            }));
        }
        for slice in 0..tensor.slices() {
            let phase = tensor.refresh_phase(slice, table, groups);
            let mut state = tensor.state_range(slice).start;
            for (piece, &home) in homes.iter().enumerate() {
                let place = Place::of(tensor, index, slice, piece).map_err(|error| (index, Reason::Geometry(error)))?;
                let header = tensor.header_range(slice).start + piece;
                batches[home].items.try_reserve(1).map_err(|_| (index, Reason::OutOfMemory))?;
                batches[home].items.push(Item { tensor: index, place, phase, header, state });
                state += batches[home].layout.state_len();
            }
        }
    }
    Ok(batches)
}
