//! What each mode's factor and eigenvalues see of the gradient. See core/src/estimate.rs.

use super::params::{Eigenvalues, MODES, NormaliseFactor, Params, SumsOfProducts, SumsOfSquares, Unpack, Weigh, Weighted};
use super::pass::{Chain, Pass};
use crate::batch::Array;
use crate::linalg::View;
use crate::queue::{DeviceError, Queue};

/// All modes, as the kernels' options name them.
const ALL_MODES: u32 = (1 << MODES) - 1;
/// A mode whose `diag(Delta~)` is a sum although it has a factor: `KLS_BY_SUMS`.
const BY_SUMS: u32 = 1 << 8;

impl<Q: Queue> Pass<'_, Q> {
    /// `Delta~_k` of all full modes but for `c_k`, and the new eigenvalues of all preconditioned ones, from the state of before this step.
    pub(super) fn estimate(&mut self) -> Result<(), DeviceError> {
        let running = self.running();
        let by_factors = self.p.axes.by_factors != 0;
        if by_factors {
            for k in self.batch.full_modes() {
                let len = self.dim(k) * self.dim(k);
                self.each_element::<Unpack>(running, len, k, 0)?;
                self.measure(running, self.p.new_basis[k], len, self.p.other_measure)?;
                self.each_element::<NormaliseFactor>(running, len, k, 0)?;
            }
        }
        if self.p.axes.weighting != 0 || self.p.axes.divisor != 0 {
            self.weigh(0)?;
        }
        if self.batch.mixes_estimates() {
            return self.estimate_in_mixed_order();
        }
        if let Some(modes) = self.pair() {
            self.form_pair(modes)?;
        } else {
            for k in self.batch.preconditioned_modes() {
                self.form(k)?;
            }
        }
        self.each_item::<Eigenvalues>(running, 0, ALL_MODES)
    }

    /// Two full modes, and no other ones, whose weighted gradients are products of one pass: those of a matrix.
    fn pair(&self) -> Option<[usize; 2]> {
        let mut full = self.batch.full_modes();
        let modes = [full.next()?, full.next()?];
        let weighs = modes.iter().all(|&k| self.weights() & !(1 << k) != 0);
        (weighs && full.next().is_none() && self.batch.preconditioned_modes().count() == 2 && self.p.axes.by_factors == 0).then_some(modes)
    }

    /// `Delta~_k` of both. What will be the update has room for one of the weighted gradients.
    fn form_pair(&mut self, modes: [usize; 2]) -> Result<(), DeviceError> {
        let (running, Params { product, update, .. }) = (self.running(), self.p);
        let [first, second] = modes.map(|k| self.weights() & !(1 << k));
        self.each_element::<Weighted>(running, self.n(), 0, first | second << 8)?;
        for (k, x) in modes.into_iter().zip([product, update]) {
            self.unfolded(k, x, x)?;
        }
        Ok(())
    }

    /// As the authors' code: mode 3, then the eigenvalues of mode 2 from the new ones of mode 3 (its factor has seen the old ones), then mode 1 from
    /// the new ones of mode 2 and the old ones of mode 3.
    fn estimate_in_mixed_order(&mut self) -> Result<(), DeviceError> {
        let running = self.running();
        for k in self.batch.preconditioned_modes().rev() {
            self.form(k)?;
            if k != 1 {
                self.each_item::<Eigenvalues>(running, 0, 1 << k)?;
                continue;
            }
            self.weigh(1 << 2)?;
            self.diagonal(k)?;
            // Eigenvalues that are read off the factor stay what that has seen.
            let by_sums = if self.p.axes.eigenvalues == 0 { BY_SUMS } else { 0 };
            self.each_item::<Eigenvalues>(running, 0, (1 | by_sums) << k)?;
            self.weigh(1 << 1)?;
        }
        Ok(())
    }

    /// The weights of all modes, of those in `new` from the eigenvalues of after this step.
    fn weigh(&mut self, new: u32) -> Result<(), DeviceError> {
        let new = new & self.p.axes.tables();
        self.each_item::<Weigh>(self.running(), 0, new)
    }

    /// `Delta~_k` of a full mode, or `diag(Delta~_k)` of a diagonal one, but for `c_k`.
    fn form(&mut self, k: usize) -> Result<(), DeviceError> {
        let full = self.batch.layout.shape().is_full(k);
        if self.p.axes.by_factors != 0 && self.batch.full_modes().any(|j| j != k) {
            self.form_by_factors(k)
        } else if full {
            let x = self.weighted(self.weights() & !(1 << k))?;
            self.unfolded(k, x, x)
        } else if self.batch.layout.has_lambda(k) {
            self.diagonal(k)
        } else {
            Ok(())
        }
    }

    /// `mat_k(X) mat_k(Y)^T` into `Delta~_k`, of which only the lower triangle is looked at, and that only in items that run.
    fn unfolded(&mut self, k: usize, x: Array, y: Array) -> Result<(), DeviceError> {
        let product = self.view(k).unfolded_product(x, y, self.p.delta[k]).at(self.precision().factor).into_scratch();
        product.launch(self.queue, self.running().items)
    }

    /// `diag(Delta~_k)` alone, as a sum of squares.
    fn diagonal(&mut self, k: usize) -> Result<(), DeviceError> {
        let (modes, blocks) = (self.weights() & !(1 << k), self.sum_blocks(k));
        self.each_block::<SumsOfSquares>(self.running(), blocks, k, modes)
    }

    /// A bit per mode that weighs the gradient.
    fn weights(&self) -> u32 {
        if self.p.axes.weighting == 0 { 0 } else { self.p.axes.tables() }
    }

    /// The gradient, weighted by these modes.
    fn weighted(&mut self, modes: u32) -> Result<Array, DeviceError> {
        if modes == 0 {
            return Ok(self.p.gradient);
        }
        self.each_element::<Weighted>(self.running(), self.n(), 0, modes)?;
        Ok(self.p.product)
    }

    /// Blocks of a sum over all modes but one.
    fn sum_blocks(&self, k: usize) -> usize {
        let View { d, right, .. } = self.view(k);
        let each = if right == 1 { d.div_ceil(32) } else { d };
        each * self.p.axes.splits[k] as usize
    }

    /// F-Shampoo variant 1: `mat_k(Y x_j S~_j) mat_k(Y)^T` over the other full modes, where the root weights of the other diagonal modes stand in
    /// `Y`, half on either side.
    fn form_by_factors(&mut self, k: usize) -> Result<(), DeviceError> {
        let running = self.running();
        let full = self.batch.full_modes().fold(0, |bits, j| bits | 1u32 << j);
        let y = self.weighted(self.weights() & !full & !(1 << k))?;
        let Params { aside, update, new_basis, .. } = self.p;
        let factors = core::array::from_fn(|j| if j == k { Array::NULL } else { new_basis[j] });
        let chain = Chain { precision: self.precision().factor, scratch: true };
        self.rotate(running, (factors, false), Some(y), [aside, update], chain)?;
        if self.batch.layout.shape().is_full(k) {
            return self.unfolded(k, aside, y);
        }
        let blocks = self.sum_blocks(k);
        self.each_block::<SumsOfProducts>(running, blocks, k, u32::from(y == self.p.product))
    }
}
