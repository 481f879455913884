//! The first gradient that is not zero: it sets the eigenbasis and the first eigenvalues. See core/src/start.rs.

use klshampoo::{FirstBasis, FirstStep};

use super::params::{ForgetTurn, Normalised, Params, Start, StartBasis, StartFactor, StartValues, flag};
use super::pass::Pass;
use crate::linalg::{self, Precision};
use crate::queue::{DeviceError, Queue};

impl<Q: Queue> Pass<'_, Q> {
    /// Only items that start take part. A decomposition that fails leaves the identity as that mode's basis and is counted.
    pub(super) fn start(&mut self) -> Result<(), DeviceError> {
        let starting = self.all().with(flag::STARTING);
        for k in self.batch.preconditioned_modes() {
            let d = self.dim(k);
            let len = if self.batch.layout.shape().is_full(k) { d * d } else { d };
            self.each_element::<Start>(starting, len, k, 0)?;
        }
        if !self.batch.is_turned() || self.batch.config.first_basis == FirstBasis::Identity {
            return Ok(());
        }
        // Products of the gradient with itself are formed near 1, so that tiny gradients set a basis too.
        self.each_element::<Normalised>(starting, self.n(), 0, 0)?;
        for k in self.batch.full_modes() {
            self.start_mode(k)?;
        }
        Ok(())
    }

    fn start_mode(&mut self, k: usize) -> Result<(), DeviceError> {
        let starting = self.all().with(flag::STARTING);
        let (d, view) = (self.dim(k), self.view(k));
        let Params { product, gradient, delta, new_basis, values, .. } = self.p;
        let (delta, basis) = (delta[k], new_basis[k]);
        // The bit of the mode before.
        self.each_thread::<ForgetTurn>(starting, 0)?;
        linalg::unfolded_product(self.queue, starting.items, view, product, product, delta)?;
        linalg::eigh(self.queue, starting.items, d, delta, basis, values, self.rooms.work, flag::TURNED)?;
        let decomposed = starting.without(flag::TURNED);
        linalg::mode_product(self.queue, decomposed.items, view, basis, true, product, gradient)?;
        linalg::unfolded_product(self.queue, decomposed.items, view, gradient, gradient, delta)?;
        self.each_element::<StartValues>(decomposed, d, k, 0)?;
        linalg::refine(self.queue, decomposed.items, d, basis, delta, self.rooms.square, Precision::Fp32)?;
        self.each_element::<StartBasis>(starting, d * d, k, 0)?;
        if self.batch.config.first_step == FirstStep::FactorsOnly {
            linalg::unfolded_product(self.queue, starting.with(flag::TURNED).items, view, product, product, delta)?;
            self.each_item::<StartFactor>(starting, k, 0)?;
        }
        Ok(())
    }
}
