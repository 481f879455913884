//! The work of the stages, on what a refresh in portions keeps.

use core::ops::Range;

use super::progress::{Progress, Region, Stage};
use crate::format::Rounder;
use crate::linalg::{LinAlgError, MatMut, MatRef, Reflections, matmul};
use crate::refresh::rank;
use crate::resident::{Basis, Factor, FactorMut, round_basis};
use crate::{Format, Layout, Scalar, eigenvectors, packed};

/// Rows of a triangle that are made at once: those of a register tile.
const GROUP: usize = 4;

/// A mode's region, and the state that it is about.
pub(super) struct Work<'a, T> {
    pub d: usize,
    pub region: Region<'a, T>,
    /// How the two that follow are kept.
    pub format: Format,
    pub basis: &'a mut [T],
    pub factor: &'a mut [T],
    /// d x d. For a snapshot it comes in with both triangles of the factor.
    pub temporary: &'a mut [T],
}

impl<T: Scalar> Work<'_, T> {
    /// Copies the columns of the factor, in descending order of its diagonal if `sorts`.
    pub(super) fn take_snapshot(&mut self, sorts: bool) -> Result<(), LinAlgError> {
        let (d, Region { diagonal, taus, signs, square, .. }) = (self.d, &mut self.region);
        for (diagonal, &x) in diagonal.iter_mut().zip(self.temporary.iter().step_by(d + 1)) {
            *diagonal = if sorts { x } else { T::ZERO };
        }
        // Its rows are its columns.
        for (j, column) in self.temporary.chunks_exact(d).enumerate() {
            let place = if sorts { rank(diagonal, j) } else { j };
            square[place * d..][..d].copy_from_slice(column);
        }
        Reflections::of(square, taus, signs).balance()
    }

    /// Some units of a stage, when the average has `kept` so much of a factor that was taken aside.
    pub(super) fn make(&mut self, stage: Stage, units: Range<usize>, kept: T) {
        let Self { d, region, format, basis, factor, temporary } = self;
        let Region { taus, signs, square, rotation, spare, .. } = region;
        let (d, basis) = (*d, Basis { format: *format, words: basis });
        match stage {
            Stage::Idle | Stage::Snapshot | Stage::Ready => {}
            Stage::Reflect => {
                let mut reflections = Reflections::of(square, taus, signs);
                units.for_each(|unit| reflections.reflect(unit));
            }
            Stage::Form => {
                let reflections = Reflections::of(square, taus, signs);
                units.for_each(|unit| reflections.form(d - 1 - unit, rotation));
            }
            Stage::Basis => multiply(d, units, basis.dense(temporary), MatRef::row_major(rotation, d, d).t(), square),
            Stage::Rotate => multiply_in_place(d, units, square, MatRef::row_major(rotation, d, d).t(), temporary),
            Stage::Add => {
                let (rotation, square) = (MatRef::row_major(rotation, d, d), MatRef::row_major(square, d, d));
                lower_rows(units, rotation, square, temporary, &mut |i, row| match &mut **spare {
                    [] => factor[i * (i + 1) / 2..].iter_mut().zip(row).for_each(|(s, &x)| *s += kept * x),
                    // An element in 16 bits is kept in relation to others: all of them are added at once.
                    spare => spare[i * d..][..=i].copy_from_slice(row),
                });
            }
            Stage::Gram => gram_rows(d, units, basis.words, temporary, square),
            Stage::Polish => multiply(d, units, basis.words, MatRef::row_major(square, d, d), rotation),
            Stage::RoundGram => gram_rows(d, units, square, temporary, spare),
            Stage::Round => {
                multiply_in_place(d, units.clone(), square, MatRef::row_major(spare, d, d), temporary);
                round_basis(*format, &mut square[units.start * d..units.end * d]);
            }
            Stage::Relate => {
                // The transpose of what leads from the old basis to the new one.
                let (new, old) = (MatRef::row_major(square, d, d).t(), MatRef::row_major(basis.dense(temporary), d, d));
                let out = MatMut::row_major(&mut rotation[units.start * d..units.end * d], units.len(), d);
                matmul(out, false, new.part(units, 0..d), old);
            }
            Stage::RelateGram => gram_rows(d, units, rotation, temporary, spare),
            Stage::RelatePolish => multiply_in_place(d, units, rotation, MatRef::row_major(spare, d, d), temporary),
        }
    }

    /// After the last reflection: what the product of all of them starts from.
    pub(super) fn start_forming(&mut self) {
        let Region { taus, signs, square, rotation, .. } = &mut self.region;
        Reflections::of(square, taus, signs).start(rotation);
    }

    /// Whether the new basis is one, and what leads to it.
    pub(super) fn basis_is_finite(&self) -> bool {
        let Region { square, rotation, .. } = &self.region;
        square.iter().chain(&**rotation).all(|x| x.is_finite_bits())
    }

    /// Leaves the factor's place to what is averaged from now on.
    pub(super) fn take_factor_aside(&mut self) {
        Factor { format: self.format, words: &*self.factor, d: self.d }.unpack(self.region.square);
        self.factor.fill(T::ZERO);
    }

    /// Of a factor in 16 bits: adds to it what the average has `kept` of the one that was taken aside, which has been turned.
    pub(super) fn add_factor(&mut self, kept: T, rounder: Rounder) {
        let Self { d, format, factor, temporary, .. } = self;
        Factor { format: *format, words: factor, d: *d }.unpack(temporary);
        temporary.iter_mut().zip(&*self.region.spare).for_each(|(s, &x)| *s += kept * x);
        FactorMut { format: *format, words: factor, d: *d }.keep(temporary, rounder);
    }

    /// After the products of the columns of a basis, or of a rotation, which are then in the spare square if there is one.
    pub(super) fn start_polishing(&mut self) {
        let products = if self.region.spare.is_empty() { &mut *self.region.square } else { &mut *self.region.spare };
        packed::mirror_up(products, self.d);
        eigenvectors::newton_schulz(products, self.d);
    }

    /// A basis that was good before stays if it comes out not finite.
    pub(super) fn take_polished_basis(&mut self) {
        if self.region.rotation.iter().all(|x| x.is_finite_bits()) {
            self.basis.copy_from_slice(self.region.rotation);
        }
    }
}

/// Rows of `out = a b`, row-major.
fn multiply<T: Scalar>(d: usize, rows: Range<usize>, a: &[T], b: MatRef<'_, T>, out: &mut [T]) {
    let (count, at) = (rows.len(), rows.start * d..rows.end * d);
    matmul(MatMut::row_major(&mut out[at.clone()], count, d), false, MatRef::row_major(&a[at], count, d), b);
}

/// Rows of `x <- x b`, row-major.
fn multiply_in_place<T: Scalar>(d: usize, rows: Range<usize>, x: &mut [T], b: MatRef<'_, T>, temporary: &mut [T]) {
    let (count, old, out) = (rows.len(), &mut temporary[..rows.len() * d], &mut x[rows.start * d..rows.end * d]);
    old.copy_from_slice(out);
    matmul(MatMut::row_major(out, count, d), false, MatRef::row_major(old, count, d), b);
}

/// Rows of the lower triangle of `out = x^T x`.
fn gram_rows<T: Scalar>(d: usize, rows: Range<usize>, x: &[T], temporary: &mut [T], out: &mut [T]) {
    let x = MatRef::row_major(x, d, d);
    lower_rows(rows, x.t(), x, temporary, &mut |i, row| out[i * d..][..=i].copy_from_slice(row));
}

/// Calls `f(i, row)` for rows of the lower triangle of a symmetric product `a b`.
fn lower_rows<T: Scalar>(rows: Range<usize>, a: MatRef<'_, T>, b: MatRef<'_, T>, temporary: &mut [T], f: &mut dyn FnMut(usize, &[T])) {
    for first in rows.clone().step_by(GROUP) {
        let end = rows.end.min(first + GROUP);
        let out = &mut temporary[..(end - first) * end];
        matmul(MatMut::row_major(out, end - first, end), false, a.part(first..end, 0..a.cols()), b.part(0..b.rows(), 0..end));
        for (i, row) in (first..end).zip(out.chunks_exact(end)) {
            f(i, &row[..=i]);
        }
    }
}

/// All of the factor of mode `k` in its basis, as a square: what the state has of it, and what portions are still to add. `spare` is d x d,
/// `rows` has room for a few of its rows ([`crate::linalg::work_len`]).
pub(crate) fn unpack_factor<T: Scalar>(
    layout: &Layout,
    k: usize,
    (factor, pending): (Factor<'_, T>, &[T]),
    square: &mut [T],
    spare: &mut [T],
    rows: &mut [T],
) {
    let d = layout.shape().dim(k);
    factor.unpack(square);
    if !layout.is_portioned() {
        return;
    }
    let progress = Progress::read(pending, layout);
    if progress.mode != k || !progress.stage.has_factor_aside() {
        return;
    }
    let (aside, rotation) = Region::squares(pending, d);
    let spare = &mut spare[..d * d];
    spare.copy_from_slice(aside);
    let (to_rotate, added) = if progress.stage == Stage::Rotate { (progress.unit..d, 0) } else { (d..d, progress.unit) };
    for row in to_rotate {
        multiply_in_place(d, row..row + 1, spare, MatRef::row_major(rotation, d, d).t(), rows);
    }
    // In 16 bits all is added at the end.
    let to_add = if layout.widens() { 0..d } else { added..d };
    lower_rows(to_add, MatRef::row_major(rotation, d, d), MatRef::row_major(spare, d, d), rows, &mut |i, row| {
        square[i * d..].iter_mut().zip(row).for_each(|(s, &x)| *s += progress.kept * x);
    });
    packed::mirror_up(square, d);
}

/// Ends what is under way of mode `k`, whose basis has been set.
pub(crate) fn cancel<T: Scalar>(layout: &Layout, pending: &mut [T], k: usize) {
    if !layout.is_portioned() {
        return;
    }
    let mut progress = Progress::<T>::read(pending, layout);
    if progress.mode == k && !matches!(progress.stage, Stage::Idle | Stage::Snapshot) {
        progress.next_mode(layout.shape());
        progress.write(pending);
    }
}
