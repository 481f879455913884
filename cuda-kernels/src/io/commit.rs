//! The update's way to the parameter.

use std::ffi::CStr;

use klshampoo::{Rounding, WeightDecay};

use super::{Geometry, Pieces, Scalar, THREADS, Theta, grid};
use crate::batch::{Array, Items};
use crate::queue::{DeviceError, DevicePtr, Kernel, Queue, Traffic};

/// What the items are moved by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Update {
    /// Their directions, dense.
    pub direction: Array,
    /// An `f32` per item that multiplies its direction, or [`DevicePtr::NULL`].
    pub factors: DevicePtr,
    /// Flags of items that only decay: their direction is zero and not looked at. With such flags the items must have some.
    pub decays: u32,
    /// Flags of items that rest, where none decays: the parameter stays, and a direction is zero.
    pub rests: u32,
}

impl Update {
    /// Directions as they are, of all items.
    #[must_use]
    pub const fn by(direction: Array) -> Self {
        Self { direction, factors: DevicePtr::NULL, decays: 0, rests: 0 }
    }
}

/// Learning rate and weight decay.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Decay {
    /// The learning rate; its factor is the group's `lr_scale`.
    pub lr: Scalar,
    /// The group's weight decay.
    pub weight_decay: f32,
    /// How it acts. L2 decay does nothing here: it is part of the gradient.
    pub kind: WeightDecay,
}

/// `kls_io_commit`
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Commit {
    items: Items,
    geometry: Geometry,
    places: DevicePtr,
    theta: Theta,
    update: Array,
    factors: DevicePtr,
    lr: Scalar,
    seed: u64,
    weight_decay: f32,
    decay_kind: u32,
    stochastic: u32,
    moves: u32,
    decays: u32,
    rests: u32,
}

// SAFETY: `kls_io_commit_params`, field by field.
unsafe impl Kernel for Commit {
    const NAME: &'static CStr = c"kls_io_commit";
    const THREADS: u32 = THREADS;

    fn traffic(&self, _: [u32; 3]) -> Traffic {
        self.theta_traffic() + Traffic::of(u64::from(self.items.count), self.geometry.elements() as u64, 4, [1, 0])
    }
}

impl Commit {
    fn new(items: Items, pieces: &Pieces, theta: Theta, update: &Update) -> Self {
        Self {
            items,
            geometry: pieces.geometry,
            places: pieces.places,
            theta,
            update: update.direction,
            factors: update.factors,
            lr: Scalar::ONE,
            seed: 0,
            weight_decay: 0.0,
            decay_kind: 0,
            stochastic: 0,
            moves: 0,
            decays: update.decays,
            rests: update.rests,
        }
    }

    /// With what makes the parameters move, as [`commit_param`] has it.
    pub(crate) fn moving(items: Items, pieces: &Pieces, theta: Theta, update: &Update, decay: &Decay, rounding: Rounding) -> Self {
        let decay_kind = match decay.kind {
            WeightDecay::Before => 0,
            WeightDecay::After => 1,
            WeightDecay::L2 => 2,
            WeightDecay::Independent => 3,
        };
        let (stochastic, seed) = match rounding {
            Rounding::Stochastic { seed } if theta.is_rounded() => (1, seed),
            Rounding::Stochastic { .. } | Rounding::Nearest => (0, 0),
        };
        let (lr, weight_decay) = (decay.lr, decay.weight_decay);
        Self { lr, seed, weight_decay, decay_kind, stochastic, moves: 1, ..Self::new(items, pieces, theta, update) }
    }

    /// How many items there are.
    pub(crate) fn items(&self) -> u64 {
        u64::from(self.items.count)
    }

    /// What is read and written where the parameter lies.
    pub(crate) fn theta_traffic(&self) -> Traffic {
        let (items, elements) = (u64::from(self.items.count), self.geometry.elements() as u64);
        // What only takes a direction is not read.
        if self.moves == 0 { Traffic::of(items, elements, 4, [0, 1]) } else { self.theta.traffic(items, elements) }
    }

    fn launch<Q: Queue>(self, queue: &mut Q) -> Result<(), DeviceError> {
        queue.launch(grid(self.geometry.chunks(), self.items.count), self)
    }
}

/// Moves the parameters, `theta - lr (factor direction + decay)`, and rounds those in bf16; master weights, where there are some, are what
/// moves. Only the elements of the items' pieces are written. Items whose tensors have no buffer are left out.
///
/// The headers of a [`Theta`] in bf16 are those of before the step: write them afterwards.
///
/// # Errors
/// The queue's.
pub fn commit_param<Q: Queue>(
    queue: &mut Q,
    items: Items,
    pieces: &Pieces,
    theta: Theta,
    update: &Update,
    decay: &Decay,
    rounding: Rounding,
) -> Result<(), DeviceError> {
    Commit::moving(items, pieces, theta, update, decay, rounding).launch(queue)
}

/// Writes `factor direction` in `f32` where the parameters lie in theirs, for a caller that applies it: `pointers` is a table of such buffers
/// on the device.
///
/// # Errors
/// The queue's.
pub fn write_direction<Q: Queue>(
    queue: &mut Q,
    items: Items,
    pieces: &Pieces,
    pointers: DevicePtr,
    update: &Update,
) -> Result<(), DeviceError> {
    Commit::new(items, pieces, Theta::native(pointers), update).launch(queue)
}
