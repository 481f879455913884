//! Refreshes between two steps, on a queue of their own: they work on the state itself, which nobody looks at meanwhile, and in memory of their own.

use super::batch::Batch;
use super::memory::{Carver, Slot};
use super::params::{MODES, Params, flag};
use super::pass::{Pass, Rooms};
use crate::batch::Array;
use crate::linalg::work_len;
use crate::queue::{DeviceError, DevicePtr, Queue};

/// What the refreshes of a batch compute in, one mode after another.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Room {
    factor: Slot,
    basis: Slot,
    rotation: Slot,
    square: Slot,
    product: Slot,
    diagonal: Slot,
    values: Slot,
    work: Slot,
}

impl Room {
    /// Of so many items of a batch, from `carver` on.
    pub fn new(batch: &Batch, count: usize, carver: &mut Carver) -> Self {
        if !batch.is_turned() {
            return Self::default();
        }
        let (n, full) = (batch.layout.shape().elements(), batch.layout.largest_full_dim());
        Self {
            factor: carver.floats(count, full * full),
            basis: carver.floats(count, full * full),
            rotation: carver.floats(count, full * full),
            square: carver.floats(count, full * full),
            product: carver.floats(count, n),
            diagonal: carver.floats(count, full),
            values: carver.floats(count, full),
            work: carver.floats(count, work_len(full)),
        }
    }
}

impl<Q: Queue> Pass<'_, Q> {
    /// The refreshes that the step has left, of the items in which it came to its end: header, moments and eigenvalues of after it are the state's.
    pub(super) fn refresh_later(&mut self, room: &Room, base: DevicePtr) -> Result<(), DeviceError> {
        let Room { factor, basis, rotation, square, product, diagonal, values, work } = *room;
        let arrays = |own: [Array; MODES], slot: Slot| own.map(|own| if own == Array::NULL { own } else { slot.array(base) });
        self.p = Params {
            next: self.p.headers,
            new_momentum: self.p.momentum,
            new_second_moment: self.p.second_moment,
            new_lambda: self.p.lambda,
            delta: arrays(self.p.factor, factor),
            new_basis: arrays(self.p.basis, basis),
            weight: arrays(self.p.factor, diagonal),
            product: product.array(base),
            values: values.array(base),
            ..self.p
        };
        self.rooms = Rooms { rotation: rotation.array(base), square: square.array(base), work: work.array(base), ..self.rooms };
        let runs = self.runs;
        for run in runs.iter().filter(|run| run.refreshes()) {
            let due = self.part(self.running().with(flag::DUE), run);
            for k in self.batch.full_modes() {
                self.refresh_mode(due, k)?;
                self.commit_factor(due, k, flag::DUE)?;
                self.commit_basis(due, k)?;
            }
        }
        Ok(())
    }
}
