//! The refresh: the eigenbasis is turned towards the factor, and everything that lives in it moves along. See core/src/refresh.rs.

use super::axes::sorts;
use super::params::{Averages, FormFactor, Params, Permute, Refreshed, Stale, flag};
use super::pass::{Part, Pass};
use crate::batch::Array;
use crate::linalg::{self, Refresh, RefreshBuffers};
use crate::queue::{DeviceError, Queue};

impl<Q: Queue> Pass<'_, Q> {
    /// One refresh of every full mode of the items that are due, in scratch; the moments there move along.
    pub(super) fn refresh(&mut self) -> Result<(), DeviceError> {
        let runs = self.runs;
        for run in runs.iter().filter(|run| run.refreshes()) {
            let due = self.part(self.running().with(flag::DUE), run);
            self.each_element::<Averages>(due, self.n(), 0, u32::from(self.applies_first()))?;
            for k in self.batch.full_modes() {
                self.refresh_mode(due, k)?;
            }
        }
        Ok(())
    }

    pub(super) fn refresh_mode(&mut self, due: Part, k: usize) -> Result<(), DeviceError> {
        let d = self.dim(k);
        self.each_element::<FormFactor>(due, d * d, k, u32::from(self.refreshes_later))?;
        self.each_item::<Stale>(due, k, 0)?;
        let Params { delta, weight, basis, new_basis, values, .. } = self.p;
        let turning = due.with(flag::TURN);
        let buffers = RefreshBuffers {
            factor: due.of(delta[k]),
            diagonal: due.of(weight[k]),
            old_basis: due.of(basis[k]),
            basis: due.of(new_basis[k]),
            rotation: due.of(self.rooms.rotation),
            square: due.of(self.rooms.square),
            values: due.of(values),
            work: due.of(self.rooms.work),
        };
        let config = &self.batch.config;
        let rule = Refresh { rule: config.refresh, sorts: sorts(config), precision: self.precision().refresh };
        linalg::refresh_mode(self.queue, turning.items, d, &rule, &buffers, flag::TURNED)?;

        let turned = turning.with(flag::TURNED);
        let parts = self.batch.layout.parts();
        if parts.momentum {
            self.move_along(turned, k, self.p.new_momentum)?;
        }
        // What is applied before the refresh needs no gradient in the new basis.
        if !self.applies_first() && (self.p.axes.numerator != 0 || parts.second_moment) {
            self.move_along(turned, k, self.p.gradient)?;
        }
        if self.batch.permutes() {
            self.each_block::<Permute>(turned, d.min(1024), k, 0)?;
            self.copy(turned, self.p.product, self.p.new_second_moment, self.n())?;
        }
        // The rotation has been used.
        let polished = turned.with(flag::POLISHES);
        linalg::polish(self.queue, polished.items, d, buffers.basis, buffers.square, buffers.rotation, rule.orthogonal())?;
        self.each_item::<Refreshed>(due, k, 0)
    }

    /// `x_k Qhat^T` of what lives in the basis, in its place.
    fn move_along(&mut self, turned: Part, k: usize, tensor: Array) -> Result<(), DeviceError> {
        let (view, rotation, product) = (self.view(k), turned.of(self.rooms.rotation), self.p.product);
        let turning = view.mode_product(rotation, true, turned.of(tensor), turned.of(product)).at(self.precision().project);
        turning.into_scratch().launch(self.queue, turned.items)?;
        self.copy(turned, product, tensor, self.n())
    }
}
