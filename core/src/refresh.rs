//! The refresh: the eigenbasis is turned towards the factor, and everything that lives in it moves along (ALGORITHMS section 2).

use crate::cholesky_qr::cholesky_qr;
use crate::config::built;
use crate::config::{Eigenvalues, Refresh, StepOrder};
use crate::direction::Correction;
use crate::layout::Scratch;
use crate::linalg::{LinAlg, LinAlgError, MatMut, MatRef};
use crate::magnitude::{basis_is_in_range, factor_is_in_range, turned_is_in_range};
use crate::resident::{Basis, round_basis};
use crate::shape::Shape;
use crate::staleness::Staleness;
use crate::step::SliceStep;
use crate::unfold::{Precision, mode_product};
use crate::{Format, Scalar, eigenvalues, eigenvectors, packed};

/// Every so many refreshes the basis takes one Newton-Schulz step back to orthogonality. In `f32` the product `Q Qhat` drifts by about
/// 1e-6 over hundreds of refreshes; a polish costs about as much as the refresh itself, so 1/32 of it is not felt.
pub const POLISH_PERIOD: u64 = 32;

/// Whether the next refresh of a slice that has made so many, one per mode, polishes the basis.
pub(crate) fn polishes(refreshes: u32, shape: &Shape) -> bool {
    (u64::from(refreshes) / shape.full_modes() as u64 + 1).is_multiple_of(POLISH_PERIOD)
}

/// What became of a mode's refresh.
enum Outcome {
    Turned,
    Failed,
    NotStale,
}

impl<T: Scalar, L: LinAlg<T>> SliceStep<'_, '_, T, L> {
    /// One refresh of every full mode, in scratch; the moments there move along.
    #[inline(never)]
    pub(crate) fn refresh(&mut self) {
        self.refreshed.tried = true;
        for k in (0..self.layout.shape().order()).filter(|&k| self.layout.shape().is_full(k)) {
            let outcome = self.refresh_mode(k);
            self.refreshed.modes[k] = matches!(outcome, Outcome::Turned);
            let count = match outcome {
                Outcome::Turned => &mut self.header.refreshes,
                Outcome::Failed => &mut self.header.refresh_failures,
                Outcome::NotStale => &mut self.header.refreshes_skipped,
            };
            *count = count.saturating_add(1);
        }
    }

    /// Refreshes mode `k`: the new `S~_k` in `scratch.delta[k]` (lower triangle), the new `Q_k` in `scratch.basis[k]`. On entry
    /// `scratch.delta[k]` holds `Delta~_k`. If the mode is not turned, the averaged factor is in `scratch.delta[k]` and everything
    /// else as it was.
    fn refresh_mode(&mut self, k: usize) -> Outcome {
        let (shape, config, scratch) = (self.layout.shape(), self.config, &mut self.scratch);
        let d = shape.dim(k);
        self.state.factor(k).average_into_square(self.linalg, scratch.delta[k], config.beta2);
        if config.staleness > T::ZERO && Staleness::of(scratch.delta[k], d).mean <= config.staleness {
            self.eigenvalues_of_factor(k);
            return Outcome::NotStale;
        }
        // The last product overwrites the lower triangle; the upper one and this copy of the diagonal bring the factor back if it
        // fails. The weights are not in use between the estimate and the direction.
        let old_diagonal = &mut *scratch.weight[k];
        for (saved, &x) in old_diagonal.iter_mut().zip(scratch.delta[k].iter().step_by(d + 1)) {
            *saved = x;
        }
        let sorts = built::SORTS && config.sort || config.refresh.built() == Refresh::Eigendecomposition;
        let estimate_first = config.step_order.built() == StepOrder::EstimateFirst;
        // What is applied before the refresh needs no gradient in the new basis.
        let (momentum, gradient): (&[T], &[T]) = (scratch.momentum, if estimate_first { scratch.gradient } else { &[] });
        let buffers = Buffers {
            factor: scratch.delta[k],
            basis: scratch.basis[k],
            moving: [(momentum, scratch.product), (gradient, scratch.update)],
            rotation: &mut scratch.rotation[..d * d],
            square: &mut scratch.square[..d * d],
            values: &mut scratch.values[..d],
            work: scratch.work,
        };
        let turn = Turn { rule: config.refresh, diagonal: old_diagonal, sorts, polish: polishes(self.header.refreshes, shape) };
        let made = turn.make(self.linalg, shape, k, self.state.basis(k), buffers);
        let linalg = &*self.linalg;
        let in_range = || basis_is_in_range(linalg, scratch.basis[k]) && factor_is_in_range(linalg, scratch.delta[k], d);
        // A backend that errs may say that all is well.
        if made.is_err() || !(linalg.is_trusted() || in_range()) {
            turn.restore(scratch.delta[k], d);
            self.state.basis(k).dense(scratch.basis[k]);
            return Outcome::Failed;
        }
        self.take_moved(k, sorts);
        Outcome::Turned
    }

    /// After a mode's basis has been turned: takes the moments from where [`move_along`] has put them, and puts what is not rotated in the order
    /// of the old diagonal, which is in `scratch.weight[k]`, if the basis `sorts`.
    pub(crate) fn take_moved(&mut self, k: usize, sorts: bool) {
        let (shape, scratch) = (self.layout.shape(), &mut self.scratch);
        let estimate_first = self.config.step_order == StepOrder::EstimateFirst;
        if !scratch.momentum.is_empty() {
            core::mem::swap(&mut scratch.momentum, &mut scratch.product);
        }
        if estimate_first && !scratch.gradient.is_empty() {
            core::mem::swap(&mut scratch.gradient, &mut scratch.update);
        }
        if sorts && !scratch.second_moment.is_empty() {
            scratch.product.copy_from_slice(scratch.second_moment);
            permute_mode(shape, k, scratch.weight[k], scratch.product, scratch.second_moment);
        }
        self.eigenvalues_in_new_basis(k, sorts);
    }

    /// The eigenvalues after a refresh: taken from the factor again, or kept, each with its eigenvector.
    fn eigenvalues_in_new_basis(&mut self, k: usize, sorted: bool) {
        self.eigenvalues_of_factor(k);
        let kept = matches!(self.config.eigenvalues.built(), Eigenvalues::Average | Eigenvalues::Instantaneous);
        if kept && sorted && self.layout.has_lambda(k) {
            let Scratch { lambda, values, weight, .. } = &mut self.scratch;
            let old = &mut values[..lambda[k].len()];
            old.copy_from_slice(lambda[k]);
            for (i, &value) in old.iter().enumerate() {
                lambda[k][rank(weight[k], i)] = value;
            }
        }
    }

    /// Takes the eigenvalues from the factor of after this step, where a refresh that is due sets them.
    fn eigenvalues_of_factor(&mut self, k: usize) {
        let sets = matches!(self.config.eigenvalues.built(), Eigenvalues::AtRefresh | Eigenvalues::InstantaneousAfterRefresh);
        if !sets || !self.layout.has_lambda(k) {
            return;
        }
        let (shape, correction) = (self.layout.shape(), Correction::new(self.config, &self.header).factor);
        let Scratch { lambda, delta, .. } = &mut self.scratch;
        for (lambda, &x) in lambda[k].iter_mut().zip(delta[k].iter().step_by(shape.dim(k) + 1)) {
            *lambda = correction * x;
        }
        eigenvalues::settle(self.config, shape, k, lambda[k], &mut self.header);
    }
}

/// `x_k Qhat^T` of what lives in the basis, each pair a tensor (or nothing) and its place.
///
/// # Errors
/// The backend's, and [`LinAlgError::NotFinite`] where one that errs says that all is well.
pub(crate) fn move_along<T: Scalar, L: LinAlg<T>>(
    linalg: &mut L,
    shape: &Shape,
    k: usize,
    rotation: MatRef<'_, T>,
    moving: [(&[T], &mut [T]); 2],
) -> Result<(), LinAlgError> {
    for (tensor, rotated) in moving {
        if !tensor.is_empty() {
            mode_product(linalg, Precision::Full, shape, k, rotation, tensor, rotated)?;
            if !(linalg.is_trusted() || turned_is_in_range(linalg, rotated)) {
                return Err(LinAlgError::NotFinite);
            }
        }
    }
    Ok(())
}

/// The place of element `j` when the elements are put in descending order; equal ones keep their order.
pub(crate) fn rank<T: Scalar>(values: &[T], j: usize) -> usize {
    let x = values[j];
    values.iter().enumerate().filter(|&(i, &y)| y > x || (i < j && y == x)).count()
}

/// `out = x` with mode `k` in descending order of `key`.
fn permute_mode<T: Scalar>(shape: &Shape, k: usize, key: &[T], x: &[T], out: &mut [T]) {
    let (d, (_, right)) = (shape.dim(k), shape.around(k));
    for j in 0..d {
        let to = rank(key, j);
        for (x, out) in x.chunks_exact(d * right).zip(out.chunks_exact_mut(d * right)) {
            out[to * right..(to + 1) * right].copy_from_slice(&x[j * right..(j + 1) * right]);
        }
    }
}

/// Calls `f(row, column, place)` for all elements of a `d x d` square, with the column's place in descending order of `key`: a few columns at
/// a time, so that a line of the cache serves several of them.
fn for_each_in_order<T: Scalar>(d: usize, key: &[T], mut f: impl FnMut(usize, usize, usize)) {
    const COLUMNS: usize = 16;
    for first in (0..d).step_by(COLUMNS) {
        let places: [usize; COLUMNS] = core::array::from_fn(|c| if first + c < d { rank(key, first + c) } else { 0 });
        for row in 0..d {
            for (c, &place) in places.iter().enumerate().take(d - first) {
                f(row, first + c, place);
            }
        }
    }
}

/// The buffers of one mode's refresh.
struct Buffers<'a, T> {
    /// In: `S~`, both triangles. Out: the lower triangle of `Qhat^T S~ Qhat`. The strict upper triangle is not written.
    factor: &'a mut [T],
    /// Out: `Q Qhat`.
    basis: &'a mut [T],
    /// Pairs of a tensor (or nothing) and its place after `x_k Qhat^T`.
    moving: [(&'a [T], &'a mut [T]); 2],
    rotation: &'a mut [T],
    square: &'a mut [T],
    values: &'a mut [T],
    work: &'a mut [T],
}

/// What kind of refresh.
struct Turn<'a, T> {
    rule: Refresh,
    /// The diagonal of `S~`.
    diagonal: &'a [T],
    /// Whether the columns are taken in descending order of it.
    sorts: bool,
    polish: bool,
}

impl<T: Scalar> Turn<'_, T> {
    /// `S~ P = Qhat R` or `S~ = Qhat diag Qhat^T`; `S~ <- Qhat^T S~ Qhat; Q <- Q Qhat; M~ <- M~ x_k Qhat^T`. A permutation `P` of the columns
    /// is part of `Qhat`, so only what is not rotated has to be permuted by the caller.
    fn make<L: LinAlg<T>>(
        &self,
        linalg: &mut L,
        shape: &Shape,
        k: usize,
        old_basis: Basis<'_, T>,
        mut b: Buffers<'_, T>,
    ) -> Result<(), LinAlgError> {
        let d = shape.dim(k);
        let rule = self.rule.built();
        let by_cholesky = match rule {
            Refresh::Qr => match self.by_cholesky(linalg, d, &mut b) {
                // A backend may tell a pivot that is not a number from one that is not positive, or not. The last products write the
                // factor, and they may be what failed.
                Err(LinAlgError::NotPositive | LinAlgError::NotFinite) => {
                    self.restore(b.factor, d);
                    false
                }
                result => result.map(|()| true)?,
            },
            Refresh::HouseholderQr | Refresh::Eigendecomposition => false,
        };
        match rule {
            Refresh::Qr if by_cholesky => {}
            Refresh::Qr | Refresh::HouseholderQr => self.by_reflections(linalg, d, &mut b)?,
            Refresh::Eigendecomposition => {
                b.square.copy_from_slice(b.factor);
                linalg.eigh(MatMut::row_major(b.square, d, d), MatMut::row_major(b.rotation, d, d), b.values, b.work)?;
                let (s, q) = (MatRef::row_major(b.factor, d, d), MatRef::row_major(b.rotation, d, d));
                linalg.matmul(MatMut::row_major(b.square, d, d), false, s, q)?;
                linalg.matmul_lower(MatMut::row_major(b.basis, d, d), false, T::ONE, q.t(), MatRef::row_major(b.square, d, d))?;
                eigenvectors::refine(linalg, d, b.rotation, b.basis, b.square)?;
                rotate_factor(linalg, d, &mut b)?;
            }
        }
        // The columns of Cholesky's orthogonal factor are contiguous; sorting has put them in order on the way.
        let in_square = by_cholesky && !self.sorts();
        let (mut rotation, free) = match in_square {
            true => (MatRef::row_major(b.square, d, d).t(), &mut *b.rotation),
            false => (MatRef::row_major(b.rotation, d, d), &mut *b.square),
        };
        let old = MatRef::row_major(old_basis.dense(free), d, d);
        linalg.matmul(MatMut::row_major(b.basis, d, d), false, old, rotation)?;
        if old_basis.format.of_factors() != Format::Native {
            self.round_basis(linalg, d, old_basis, &mut b)?;
            rotation = MatRef::row_major(b.rotation, d, d);
        }
        move_along(linalg, shape, k, rotation.t(), b.moving)?;
        if self.polish && old_basis.format.of_factors() == Format::Native {
            // A failed polish leaves a basis that is as good as before it, so it is no failure of the refresh. The rotation is not
            // needed any more and receives the polished basis.
            if eigenvectors::polish(linalg, d, b.basis, b.square, b.rotation).is_ok() {
                b.basis.copy_from_slice(b.rotation);
            }
        }
        Ok(())
    }

    /// Of a basis that is kept in 16 bits: rounds the new one, and turns the factor by what really leads from the kept old one to it, which
    /// comes out in the rotation's place.
    ///
    /// Turned by `Qhat`, the factor would forget each time what rounding has left of a rotation. A basis that is to turn by less than its last
    /// bit in a refresh would then never turn, and with `beta2` = 0.999 that is the rule: the cosine of an update with that of `f32` was 0.996
    /// on slowly turning gradients in bf16, and is 0.9999.
    fn round_basis<L: LinAlg<T>>(
        &self,
        linalg: &mut L,
        d: usize,
        old_basis: Basis<'_, T>,
        b: &mut Buffers<'_, T>,
    ) -> Result<(), LinAlgError> {
        // In every refresh, or rounding errors would add up.
        eigenvectors::polish(linalg, d, b.basis, b.square, b.rotation)?;
        b.basis.copy_from_slice(b.rotation);
        round_basis(old_basis.format, b.basis);
        let old = MatRef::row_major(old_basis.dense(b.square), d, d);
        linalg.matmul(MatMut::row_major(b.rotation, d, d), false, old.t(), MatRef::row_major(b.basis, d, d))?;
        // Rounding has left neither of them orthogonal, and that is not to scale the factor.
        eigenvectors::polish_in_place(linalg, d, b.rotation, b.square, b.work)?;
        self.restore(b.factor, d);
        rotate_factor(linalg, d, b)
    }

    /// `Qhat` and `Qhat^T S~ Qhat` from Cholesky factors of `P^T S~ P`, whose orthogonal factor is `P^T Qhat`.
    fn by_cholesky<L: LinAlg<T>>(&self, linalg: &mut L, d: usize, b: &mut Buffers<'_, T>) -> Result<(), LinAlgError> {
        if self.sorts() {
            // Columns first, into the rotation's place, then rows.
            for_each_in_order(d, self.diagonal, |i, j, place| b.rotation[i * d + place] = b.factor[i * d + j]);
            for (i, row) in b.rotation.chunks_exact(d).enumerate() {
                b.square[rank(self.diagonal, i) * d..][..d].copy_from_slice(row);
            }
        } else {
            b.square.copy_from_slice(b.factor);
        }
        cholesky_qr(linalg, d, b.square, [b.rotation, b.basis], b.factor, b.work)?;
        if self.sorts() {
            // Its rows back to where they came from; its columns are contiguous.
            for_each_in_order(d, self.diagonal, |i, j, place| b.rotation[j * d + i] = b.square[i * d + place]);
        }
        Ok(())
    }

    /// `Qhat` of `S~ P = Qhat R` by reflections, and `Qhat^T S~ Qhat`.
    fn by_reflections<L: LinAlg<T>>(&self, linalg: &mut L, d: usize, b: &mut Buffers<'_, T>) -> Result<(), LinAlgError> {
        if self.sorts() {
            for_each_in_order(d, self.diagonal, |i, j, place| b.square[i * d + place] = b.factor[i * d + j]);
        } else {
            b.square.copy_from_slice(b.factor);
        }
        linalg.qr(MatMut::row_major(b.square, d, d), MatMut::row_major(b.rotation, d, d), b.work)?;
        rotate_factor(linalg, d, b)
    }

    fn sorts(&self) -> bool {
        built::SORTS && self.sorts
    }

    /// Brings the lower triangle of a factor back from its upper one and its old diagonal.
    fn restore(&self, factor: &mut [T], d: usize) {
        packed::mirror_down(factor, d);
        for (i, &x) in self.diagonal.iter().enumerate() {
            factor[i * d + i] = x;
        }
    }
}

/// `S~ <- Qhat^T S~ Qhat`, with both triangles of `S~` in the factor's place before.
fn rotate_factor<T: Scalar, L: LinAlg<T>>(linalg: &mut L, d: usize, b: &mut Buffers<'_, T>) -> Result<(), LinAlgError> {
    let rotation = MatRef::row_major(b.rotation, d, d);
    linalg.matmul(MatMut::row_major(b.square, d, d), false, MatRef::row_major(b.factor, d, d), rotation)?;
    linalg.matmul_lower(MatMut::row_major(b.factor, d, d), false, T::ONE, rotation.t(), MatRef::row_major(b.square, d, d))
}
