//! The work of the stages, on what a refresh in portions keeps.

use core::ops::Range;

use super::progress::{Progress, Region, Stage, has_factor_aside};
use crate::linalg::{LinAlgError, MatMut, MatRef, Reflections, matmul};
use crate::refresh::rank;
use crate::resident::Factor;
use crate::{Layout, Scalar, eigenvectors, packed};

/// Rows of a triangle that are made at once: those of a register tile.
const GROUP: usize = 4;

/// A mode's region, and the state that it is about.
pub(super) struct Work<'a, T> {
    pub d: usize,
    pub region: Region<'a, T>,
    pub basis: &'a mut [T],
    /// The packed triangle.
    pub factor: &'a mut [T],
    /// d x d. For a snapshot it comes in with both triangles of the factor.
    pub temporary: &'a mut [T],
}

impl<T: Scalar> Work<'_, T> {
    /// Copies the columns of the factor, in descending order of its diagonal if `sorts`.
    pub(super) fn take_snapshot(&mut self, sorts: bool) -> Result<(), LinAlgError> {
        let (d, Region { diagonal, taus, signs, square, .. }) = (self.d, &mut self.region);
        for (diagonal, &x) in diagonal.iter_mut().zip(self.temporary.iter().step_by(d + 1)) {
            *diagonal = x;
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
        let Self { d, region, basis, factor, temporary } = self;
        let Region { taus, signs, square, rotation, .. } = region;
        let (d, basis) = (*d, &**basis);
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
            Stage::Basis => multiply(d, units, basis, MatRef::row_major(rotation, d, d).t(), square),
            Stage::Rotate => rotate(d, units, rotation, square, temporary),
            Stage::Add => {
                let (rotation, square) = (MatRef::row_major(rotation, d, d), MatRef::row_major(square, d, d));
                lower_rows(units, rotation, square, temporary, &mut |i, row| {
                    factor[i * (i + 1) / 2..].iter_mut().zip(row).for_each(|(s, &x)| *s += kept * x);
                });
            }
            Stage::Gram => {
                let basis = MatRef::row_major(basis, d, d);
                lower_rows(units, basis.t(), basis, temporary, &mut |i, row| square[i * d..][..=i].copy_from_slice(row));
            }
            Stage::Polish => multiply(d, units, basis, MatRef::row_major(square, d, d), rotation),
        }
    }

    /// After the last reflection: what the product of all of them starts from.
    pub(super) fn start_forming(&mut self) {
        let Region { taus, signs, square, rotation, .. } = &mut self.region;
        Reflections::of(square, taus, signs).start(rotation);
    }

    /// Whether the new basis is one.
    pub(super) fn basis_is_finite(&self) -> bool {
        self.region.square.iter().all(|x| x.is_finite_bits())
    }

    /// Leaves the factor's place to what is averaged from now on.
    pub(super) fn take_factor_aside(&mut self) {
        packed::unpack(self.factor, self.region.square, self.d);
        self.factor.fill(T::ZERO);
    }

    /// After the products of the basis' columns.
    pub(super) fn start_polishing(&mut self) {
        packed::mirror_up(self.region.square, self.d);
        eigenvectors::newton_schulz(self.region.square, self.d);
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

/// Rows of `x <- x Qhat`, of which `rotation` is the transpose.
fn rotate<T: Scalar>(d: usize, rows: Range<usize>, rotation: &[T], x: &mut [T], temporary: &mut [T]) {
    let (count, old, out) = (rows.len(), &mut temporary[..rows.len() * d], &mut x[rows.start * d..rows.end * d]);
    old.copy_from_slice(out);
    matmul(MatMut::row_major(out, count, d), false, MatRef::row_major(old, count, d), MatRef::row_major(rotation, d, d).t());
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
    if !has_factor_aside(layout, pending) {
        return;
    }
    let progress = Progress::read(pending, layout.shape());
    if progress.mode != k {
        return;
    }
    let (aside, rotation) = Region::squares(pending, d);
    let spare = &mut spare[..d * d];
    spare.copy_from_slice(aside);
    let (to_rotate, to_add) = if progress.stage == Stage::Rotate { (progress.unit..d, 0..d) } else { (d..d, progress.unit..d) };
    for row in to_rotate {
        rotate(d, row..row + 1, rotation, spare, rows);
    }
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
    let mut progress = Progress::<T>::read(pending, layout.shape());
    if progress.mode == k && !matches!(progress.stage, Stage::Idle | Stage::Snapshot) {
        progress.next_mode(layout.shape());
        progress.write(pending);
    }
}
