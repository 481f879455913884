//! The direction, with the eigenvalues, bases and moments in force. See core/src/apply.rs.

use klshampoo::Graft as Grafted;

use super::params::{Divide, Dot, Graft, Judge, Measured, Numerator, Params, Roots, flag};
use super::pass::{Chain, Part, Pass};
use crate::batch::Array;
use crate::io;
use crate::queue::{DeviceError, Queue};

impl<Q: Queue> Pass<'_, Q> {
    /// The update, and whether it stays in range.
    pub(super) fn direct(&mut self) -> Result<(), DeviceError> {
        let directed = self.running().without(flag::RESTS);
        let moved = if self.batch.is_turned() && !self.applies_first() { flag::DUE } else { 0 };
        let grafts = self.batch.config.graft != Grafted::None;
        if grafts {
            self.graft(directed, moved)?;
        }
        if self.p.axes.direction < 2 && self.p.axes.has_lambda != 0 {
            self.each_item::<Roots>(directed, 0, moved)?;
        }
        // A graft stands in where there is nothing to precondition with yet.
        let divided = if grafts { directed.with(flag::PRECONDITIONS) } else { directed };
        self.each_element::<Divide>(divided, self.n(), 0, moved)?;
        // From a basis that is set at the start all items precondition.
        let all = !grafts || self.p.axes.identity_first == 0;
        self.rotate_back(divided, moved, all)?;
        let update = self.p.update;
        self.measure(directed, update, self.n(), self.p.update_measure)?;
        self.each_thread::<Judge>(directed, 0)?;
        if !self.batch.config.measure {
            return Ok(());
        }
        let parts = io::chunks(self.n());
        self.each_block::<Dot>(directed, parts, 0, 0)?;
        self.each_item::<Measured>(directed, 0, parts as u32)
    }

    /// The grafted method's direction and its norm; it is the update of items that have nothing to precondition with.
    fn graft(&mut self, directed: Part, moved: u32) -> Result<(), DeviceError> {
        if self.batch.config.graft == Grafted::Adam {
            // Adam divides per element of the parameter, so its numerator leaves the eigenbasis.
            self.each_element::<Numerator>(directed, self.n(), 0, moved)?;
            self.rotate_back(directed, moved, true)?;
        }
        let n = self.n();
        self.each_block::<Graft>(directed, io::chunks(n), 0, 0)?;
        io::second_stage(self.queue, directed.items, n, self.rooms.chunks, self.p.other_measure)
    }

    /// From where the chain of mode products starts to the update, with the bases of after a refresh, where there has been one in this step.
    /// `scratch`: whether items beyond the part have nothing there.
    fn rotate_back(&mut self, part: Part, moved: u32, scratch: bool) -> Result<(), DeviceError> {
        let Params { basis, new_basis, update, product, .. } = self.p;
        if !self.batch.is_turned() {
            return Ok(());
        }
        let (runs, precision) = (self.runs, self.precision().project);
        let ends = [update, product];
        if moved == 0 || !runs.iter().any(|run| run.refreshes()) {
            return self.rotate(part, (basis, false), None, ends, Chain { precision, scratch });
        }
        let moved_bases = core::array::from_fn(|k| if basis[k] == Array::NULL { basis[k] } else { new_basis[k] });
        if !self.may_start {
            // All items of a run that are stepped are due, or none.
            for run in runs {
                let bases = if run.refreshes() { moved_bases } else { basis };
                self.rotate(self.part(part, run), (bases, false), None, ends, Chain { precision, scratch })?;
            }
            return Ok(());
        }
        // Those of a run may differ: while one is turned back, the others' numbers stand in the chain's arrays.
        let chain = Chain { precision, scratch: false };
        self.rotate(part.without(flag::DUE), (basis, false), None, ends, chain)?;
        for run in runs.iter().filter(|run| run.refreshes()) {
            self.rotate(self.part(part.with(flag::DUE), run), (moved_bases, false), None, ends, chain)?;
        }
        Ok(())
    }
}
