//! A refresh made in portions ([`Config::refresh_portion`](crate::Config::refresh_portion)): the worst step of a loop with a deadline is
//! then a plain one and a portion.
//!
//! What a refresh computes stays out of the step's way until it is ready, mode by mode:
//!
//! ```text
//! snapshot    of S~_k as it is after the step in which the mode's turn comes
//! reflect     its columns, one after another: S~_k = Qhat R          \
//! form        Qhat^T, reflection by reflection                        > portions, in the commits of as many steps as they take
//! basis       Q_k Qhat, row by row                                   /
//! ready       the next step turns: Q_k <- Q_k Qhat, M~ <- M~ x_k Qhat^T, and from the step after it on Delta~_k is of the new basis
//! rotate      S~_k Qhat, row by row                                  \ portions again: the factor that was is taken aside and comes back
//! add         Qhat^T (S~_k Qhat), group of rows by group of rows     / turned, with what the average has left of it by then
//! gram        Q_k^T Q_k                                              \ every 32nd time: back to orthogonality
//! polish      Q_k (3 I - Q_k^T Q_k) / 2                              /
//! ```
//!
//! Where bases are kept in 16 bits, each new one is polished and rounded before it is ready, and what turns moments and factor is not `Qhat`
//! but the rotation that leads from the old rounded one to it, polished too: two more Gram matrices and three more products.
//!
//! The factorisation has the bits of the portable backend's: it is the same code. Everything that moves the parameters, which is basis,
//! moments and eigenvalues, is turned in one step, as a refresh does that is not cut. Only the factor comes later, which nothing reads
//! before the next snapshot; by the linearity of its average that makes no difference but rounding. Turning it in the same step would
//! take 3 d^3 operations, which is several plain steps where a matrix is much longer than it is wide.
//!
//! All of this is written in the commit of a step, so that a step that fails changes nothing of it.

mod progress;
mod schedule;
mod work;

pub(crate) use progress::{has_factor_aside, is_under_way, region_len};
pub(crate) use schedule::{flops, largest_unit, polish_flops, rounding_flops};
pub(crate) use work::{cancel, unpack_factor};

use progress::{Progress, Region, Stage};
use schedule::Budget;
use work::Work;

use crate::Scalar;
use crate::config::{StepOrder, built};
use crate::layout::Scratch;
use crate::linalg::{LinAlg, MatRef};
use crate::refresh::{move_along, polishes};
use crate::staleness::Staleness;
use crate::step::SliceStep;

/// What is added to a mode for the rounding of its turned factor, apart from that of its average: the same number in every build, whatever order of
/// tensors it has.
const TURNED: usize = 6;

impl<T: Scalar, L: LinAlg<T>> SliceStep<'_, '_, T, L> {
    /// In place of [`Self::refresh`] where that is made in portions: turns basis and moments of the mode that is ready, in scratch. The factor is
    /// turned in later portions.
    pub(crate) fn turn(&mut self) {
        let shape = self.layout.shape();
        let progress = Progress::read(self.state.pending, self.layout);
        if progress.stage != Stage::Ready || !self.has_turn {
            return;
        }
        let (k, d) = (progress.mode, shape.dim(progress.mode));
        let region = Region::split(self.layout, self.state.pending, d);
        let scratch = &mut self.scratch;
        let estimate_first = self.config.step_order.built() == StepOrder::EstimateFirst;
        let (momentum, gradient): (&[T], &[T]) = (scratch.momentum, if estimate_first { scratch.gradient } else { &[] });
        let moving = [(momentum, &mut *scratch.product), (gradient, &mut *scratch.update)];
        if move_along(self.linalg, shape, k, MatRef::row_major(region.rotation, d, d), moving).is_err() {
            return;
        }
        scratch.weight[k].copy_from_slice(region.diagonal);
        scratch.basis[k].copy_from_slice(region.square);
        // As the snapshot was: a checkpoint may have been loaded with another `sort` since. Zeros are in order as they are.
        let sorted = built::SORTS && region.diagonal.iter().any(|&x| x != T::ZERO);
        self.take_moved(k, sorted);
        self.refreshed.modes[k] = true;
        self.header.refreshes = self.header.refreshes.saturating_add(1);
    }

    /// The portion of this step, when everything else of it has been written.
    pub(crate) fn make_portion(&mut self) {
        let mut progress = Progress::read(self.state.pending, self.layout);
        if progress.stage.has_factor_aside() {
            progress.kept = self.config.beta2 * progress.kept;
        }
        progress.queued |= self.due;
        if self.has_turn {
            let mut budget = Budget::new(self.config.refresh_portion);
            if progress.stage == Stage::Ready {
                let k = progress.mode;
                if self.refreshed.modes[k] {
                    budget.spend(self.layout.moving_flops(self.config, k));
                    self.work(k).take_factor_aside();
                    progress.advance_to(Stage::Rotate);
                    progress.kept = T::ONE;
                } else {
                    self.give_up(&mut progress);
                }
            }
            while self.proceed(&mut progress, &mut budget) {}
            self.portion_flops = budget.spent();
        }
        progress.write(self.state.pending);
    }

    /// Does what the budget is enough for of one stage; whether there is more to do.
    fn proceed(&mut self, progress: &mut Progress<T>, budget: &mut Budget) -> bool {
        let (shape, k) = (self.layout.shape(), progress.mode);
        match progress.stage {
            Stage::Idle if progress.queued => progress.begin(shape),
            Stage::Idle | Stage::Ready => return false,
            Stage::Snapshot => self.take_snapshot(progress),
            stage => {
                let (d, first) = (shape.dim(k), progress.unit);
                let count = budget.take(stage, d, first);
                self.work(k).make(stage, first..first + count, progress.kept);
                progress.unit += count;
                if progress.unit < stage.units(d) {
                    return false;
                }
                self.conclude(progress);
            }
        }
        true
    }

    /// Starts a mode's refresh, unless its basis is not stale.
    fn take_snapshot(&mut self, progress: &mut Progress<T>) {
        let (config, k) = (self.config, progress.mode);
        let d = self.layout.shape().dim(k);
        let square = &mut self.scratch.square[..d * d];
        self.state.factor(k).unpack(square);
        if config.staleness > T::ZERO && Staleness::of(square, d).mean <= config.staleness {
            self.header.refreshes_skipped = self.header.refreshes_skipped.saturating_add(1);
            return progress.next_mode(self.layout.shape());
        }
        if self.work(k).take_snapshot(config.sort).is_err() {
            return self.give_up(progress);
        }
        progress.advance_to(Stage::Reflect);
    }

    /// A stage is done: what is to be done before the next.
    fn conclude(&mut self, progress: &mut Progress<T>) {
        let (shape, k) = (self.layout.shape(), progress.mode);
        match progress.stage {
            Stage::Reflect => {
                self.work(k).start_forming();
                progress.advance_to(Stage::Form);
            }
            Stage::Form => progress.advance_to(Stage::Basis),
            Stage::Basis if self.layout.widens() => progress.advance_to(Stage::RoundGram),
            Stage::RoundGram => {
                self.work(k).start_polishing();
                progress.advance_to(Stage::Round);
            }
            Stage::Round => progress.advance_to(Stage::Relate),
            Stage::Relate => progress.advance_to(Stage::RelateGram),
            Stage::RelateGram => {
                self.work(k).start_polishing();
                progress.advance_to(Stage::RelatePolish);
            }
            Stage::Basis | Stage::RelatePolish if self.work(k).basis_is_finite() => progress.advance_to(Stage::Ready),
            Stage::Basis | Stage::RelatePolish => self.give_up(progress),
            Stage::Rotate => progress.advance_to(Stage::Add),
            Stage::Add if self.layout.widens() => {
                // Rounded apart from the average of this step.
                let rounder = self.rounder.of_part(TURNED + k);
                self.work(k).add_factor(progress.kept, rounder);
                progress.next_mode(shape);
            }
            Stage::Add if polishes(self.header.refreshes.saturating_sub(1), shape) => progress.advance_to(Stage::Gram),
            Stage::Gram => {
                self.work(k).start_polishing();
                progress.advance_to(Stage::Polish);
            }
            Stage::Polish => {
                self.work(k).take_polished_basis();
                progress.next_mode(shape);
            }
            Stage::Add | Stage::Idle | Stage::Snapshot | Stage::Ready => progress.next_mode(shape),
        }
    }

    /// The mode keeps its basis.
    fn give_up(&mut self, progress: &mut Progress<T>) {
        self.header.refresh_failures = self.header.refresh_failures.saturating_add(1);
        progress.next_mode(self.layout.shape());
    }

    /// What the portions of mode `k` work on.
    fn work(&mut self, k: usize) -> Work<'_, T> {
        let d = self.layout.shape().dim(k);
        let Scratch { square, .. } = &mut self.scratch;
        Work {
            d,
            region: Region::split(self.layout, self.state.pending, d),
            format: self.layout.parts().factor_format,
            basis: self.state.kept_basis[k],
            factor: self.state.kept_factor[k],
            temporary: &mut square[..d * d],
        }
    }
}
