//! The only place where sizes exist: how a slice's state and the shared scratch are split.

use core::ops::Range;

use crate::config::{Parts, built};
use crate::format::{Format, Rounder};
use crate::linalg::work_len;
use crate::packed::triangle_len;
use crate::portions::region_len;
use crate::resident::{Basis, Factor, FactorMut, dense_bases, keep_basis, kept_len};
use crate::shape::{MAX_ORDER, Mode, Shape, ShapeError};
use crate::{Scalar, StatePart};

/// Sizes of the state and of the scratch of one tensor slice, in elements.
///
/// State, in this order: `Q_k` (d x d, row-major, columns are eigenvectors) of the full modes, packed lower triangles of `S~_k` of the
/// full modes, both in the format in which factors are kept and rounded up to whole elements, and where the method has them (see
/// [`Parts`]) `lambda_k` of the preconditioned modes, the momentum `M~` (N), the second moment `D` (N), the grafted method's second moment
/// `v` (N), the native copy of a parameter of 16 bits (N), and, where refreshes are made in portions, what these keep: 2 d^2 + 3 d + 5 of
/// the longest full mode, and d^2 more with factors in 16 bits.
///
/// Tensors without a full mode need no N-sized scratch here: their step is elementwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    shape: Shape,
    parts: Parts,
    largest_full_dim: usize,
    state_len: usize,
    scratch_len: usize,
}

/// Ranges of the parts of a slice's state.
pub(crate) struct Regions {
    pub basis: [Range<usize>; MAX_ORDER],
    pub factor: [Range<usize>; MAX_ORDER],
    pub lambda: [Range<usize>; MAX_ORDER],
    pub momentum: Range<usize>,
    pub second_moment: Range<usize>,
    pub graft_moment: Range<usize>,
    pub master: Range<usize>,
    pub pending: Range<usize>,
}

/// One slice's state, split.
pub(crate) struct State<'a, T> {
    /// What it was split by.
    layout: &'a Layout,
    /// [`Self::basis`] as it is kept.
    pub kept_basis: [&'a mut [T]; MAX_ORDER],
    /// [`Self::factor`] as it is kept.
    pub kept_factor: [&'a mut [T]; MAX_ORDER],
    pub lambda: [&'a mut [T]; MAX_ORDER],
    pub momentum: &'a mut [T],
    pub second_moment: &'a mut [T],
    pub graft_moment: &'a mut [T],
    pub master: &'a mut [T],
    pub pending: &'a mut [T],
}

impl<T: Scalar> State<'_, T> {
    /// `Q_k`; empty of a mode that has none.
    pub fn basis(&self, k: usize) -> Basis<'_, T> {
        Basis { format: self.layout.parts.factor_format, words: self.kept_basis[k] }
    }

    /// `Q_k` of all modes as matrices: where they lie, or widened into the rooms.
    pub fn dense_bases<'a>(&'a self, rooms: &'a mut [&mut [T]; MAX_ORDER]) -> [&'a [T]; MAX_ORDER] {
        dense_bases(core::array::from_fn(|k| self.basis(k)), rooms)
    }

    /// Whether products have to see bases elsewhere than where they are kept.
    pub fn widens(&self) -> bool {
        self.layout.widens()
    }

    /// Keeps `Q_k`.
    pub fn keep_basis(&mut self, k: usize, basis: &[T]) {
        keep_basis(self.layout.parts.factor_format, self.kept_basis[k], basis);
    }

    /// `S~_k`; empty of a mode that has none.
    pub fn factor(&self, k: usize) -> Factor<'_, T> {
        Factor { format: self.layout.parts.factor_format, words: self.kept_factor[k], d: self.layout.shape.full_dim(k) }
    }

    /// The same, to write.
    pub fn factor_mut(&mut self, k: usize) -> FactorMut<'_, T> {
        FactorMut { format: self.layout.parts.factor_format, words: self.kept_factor[k], d: self.layout.shape.full_dim(k) }
    }

    /// Keeps `S~_k`, of which the lower triangle is in a square.
    pub fn keep_factor(&mut self, k: usize, square: &[T], rounder: Rounder) {
        self.factor_mut(k).keep(square, rounder.of_part(k));
    }
}

/// The scratch of one step, split. A step writes only here until it commits. The N-sized parts are empty for tensors
/// without a full mode.
pub(crate) struct Scratch<'a, T> {
    /// N: the projected gradient. Where nothing needs it beside the momentum, that takes its place and this becomes empty.
    pub gradient: &'a mut [T],
    /// N where the method has momentum: that of after this step. Empty until it is averaged if it takes the gradient's place.
    pub momentum: &'a mut [T],
    /// N where the method has one: the second moment of after this step.
    pub second_moment: &'a mut [T],
    /// N: the other end of every mode product, and the weighted gradients `X_k`.
    pub product: &'a mut [T],
    /// N: the update.
    pub update: &'a mut [T],
    /// N for F-Shampoo variant 1: see its estimate.
    pub aside: &'a mut [T],
    /// d x d per full mode: `Delta~_k` (lower triangle), then, in a refresh, the new `S~_k`.
    pub delta: [&'a mut [T]; MAX_ORDER],
    /// d x d per full mode: the refreshed basis; before that, of bases kept in 16 bits, the one in force.
    pub basis: [&'a mut [T]; MAX_ORDER],
    /// d per preconditioned mode: the eigenvalues of after this step.
    pub lambda: [&'a mut [T]; MAX_ORDER],
    /// d per preconditioned mode: weights or roots of the eigenvalues in use; in a refresh the factor's diagonal.
    pub weight: [&'a mut [T]; MAX_ORDER],
    /// d x d of the largest full mode.
    pub rotation: &'a mut [T],
    /// d x d of the largest full mode.
    pub square: &'a mut [T],
    /// d of the largest full mode.
    pub values: &'a mut [T],
    /// Work space of the factorisations.
    pub work: &'a mut [T],
}

const fn plus(sum: Option<usize>, count: usize, each: usize) -> Option<usize> {
    match (sum, count.checked_mul(each)) {
        (Some(a), Some(b)) => a.checked_add(b),
        _ => None,
    }
}

/// Whether the momentum of after the step has a place of its own in scratch.
const fn separate_momentum(parts: &Parts) -> bool {
    parts.momentum && parts.keeps_gradient
}

impl Layout {
    /// Computes every size of a tensor slice.
    ///
    /// # Errors
    /// [`ShapeError::Overflow`] when a size does not fit the address space.
    pub const fn new(shape: Shape, parts: Parts) -> Result<Self, ShapeError> {
        let n = shape.elements();
        let kept = parts.momentum as usize + parts.second_moment as usize + parts.graft_moment as usize + parts.master as usize;
        let (mut state, mut scratch) = (plus(Some(0), kept, n), Some(0));
        if shape.is_turned() {
            scratch = plus(scratch, 3 + separate_momentum(&parts) as usize + parts.second_moment as usize + parts.aside as usize, n);
        }
        let (mut k, mut largest) = (0, 0);
        while k < shape.order() {
            let d = shape.dim(k);
            if shape.is_full(k) {
                let (Some(square), Some(triangle)) = (d.checked_mul(d), triangle_len(d)) else { return Err(ShapeError::Overflow) };
                state = plus(plus(state, 1, kept_len(parts.factor_format, square)), 1, kept_len(parts.factor_format, triangle));
                scratch = plus(plus(scratch, d, d), d, d);
                if d > largest {
                    largest = d;
                }
            }
            if !matches!(shape.mode(k), Mode::Identity) {
                // The refresh uses the weights' place also where there are no eigenvalues.
                scratch = plus(scratch, 2, d);
                if parts.eigenvalues {
                    state = plus(state, 1, d);
                }
            }
            k += 1;
        }
        state = match region_len(if built::PORTIONS && parts.portions { largest } else { 0 }, parts.factor_format) {
            Some(len) => plus(state, 1, len),
            None => None,
        };
        scratch = plus(plus(plus(plus(scratch, largest, largest), largest, largest), 1, largest), 1, work_len(largest));
        match (state, scratch) {
            (Some(state_len), Some(scratch_len)) if state_len <= isize::MAX as usize / 8 && scratch_len <= isize::MAX as usize / 8 => {
                Ok(Self { shape, parts, largest_full_dim: largest, state_len, scratch_len })
            }
            _ => Err(ShapeError::Overflow),
        }
    }

    /// The shape it was computed for.
    pub const fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Elements of state of one slice.
    pub const fn state_len(&self) -> usize {
        self.state_len
    }

    /// Elements of scratch that a step of this tensor needs; tensors share it, so a table needs the maximum.
    pub const fn scratch_len(&self) -> usize {
        self.scratch_len
    }

    /// The largest dim with a full factor; 0 if there is none.
    pub const fn largest_full_dim(&self) -> usize {
        self.largest_full_dim
    }

    pub(crate) fn square_len(&self, k: usize) -> usize {
        if self.shape.is_full(k) { self.shape.dim(k) * self.shape.dim(k) } else { 0 }
    }

    /// Room for one number per index of a preconditioned mode.
    fn table_len(&self, k: usize) -> usize {
        if self.shape.is_preconditioned(k) { self.shape.dim(k) } else { 0 }
    }

    fn lambda_len(&self, k: usize) -> usize {
        if self.parts.eigenvalues { self.table_len(k) } else { 0 }
    }

    fn elements_if(&self, present: bool) -> usize {
        if present { self.shape.elements() } else { 0 }
    }

    /// Elements of the packed triangle of mode `k`.
    pub(crate) fn triangle_len(&self, k: usize) -> usize {
        if self.shape.is_full(k) { self.shape.dim(k) * (self.shape.dim(k) + 1) / 2 } else { 0 }
    }

    /// What a slice keeps.
    pub const fn parts(&self) -> &Parts {
        &self.parts
    }

    /// Whether bases and factors are kept in 16 bits.
    pub(crate) const fn widens(&self) -> bool {
        !matches!(self.parts.factor_format.of_factors(), Format::Native)
    }

    /// Whether refreshes are made in portions; where no mode has a basis there are none.
    pub(crate) const fn is_portioned(&self) -> bool {
        built::PORTIONS && self.parts.portions && self.largest_full_dim > 0
    }

    /// Whether mode `k` has eigenvalues.
    pub const fn has_lambda(&self, k: usize) -> bool {
        self.parts.eigenvalues && self.shape.is_preconditioned(k)
    }

    /// Where a part lies in a slice's state, as it is kept there (a factor as the packed lower triangle, row by row); empty if there is none.
    ///
    /// For whoever keeps states elsewhere than in an [`crate::Optimizer`], in the same order.
    pub fn range(&self, part: StatePart) -> Range<usize> {
        let regions = self.regions();
        let of = |ranges: &[Range<usize>; MAX_ORDER], k: usize| ranges.get(k).cloned().unwrap_or_default();
        match part {
            StatePart::Factor(k) => of(&regions.factor, k),
            StatePart::Basis(k) => of(&regions.basis, k),
            StatePart::Eigenvalues(k) => of(&regions.lambda, k),
            StatePart::Momentum => regions.momentum,
            StatePart::SecondMoment => regions.second_moment,
            StatePart::GraftMoment => regions.graft_moment,
            StatePart::Master => regions.master,
        }
    }

    /// Where each part of a slice's state lies; ranges of parts that a mode does not have are empty.
    pub(crate) fn regions(&self) -> Regions {
        let mut at = 0;
        let mut next = |len| {
            let start = at;
            at += len;
            start..at
        };
        Regions {
            basis: core::array::from_fn(|k| next(kept_len(self.parts.factor_format, self.square_len(k)))),
            factor: core::array::from_fn(|k| next(kept_len(self.parts.factor_format, self.triangle_len(k)))),
            lambda: core::array::from_fn(|k| next(self.lambda_len(k))),
            momentum: next(self.elements_if(self.parts.momentum)),
            second_moment: next(self.elements_if(self.parts.second_moment)),
            graft_moment: next(self.elements_if(self.parts.graft_moment)),
            master: next(self.elements_if(self.parts.master)),
            pending: at..self.state_len,
        }
    }

    /// Where the master weights lie: before what portions keep, which is the last part.
    pub(crate) fn master(&self) -> Range<usize> {
        let end = self.state_len - self.pending_len();
        end - self.elements_if(self.parts.master)..end
    }

    /// Elements that refreshes in portions keep.
    fn pending_len(&self) -> usize {
        if self.is_portioned() { region_len(self.largest_full_dim, self.parts.factor_format).unwrap_or(0) } else { 0 }
    }

    /// `Q_k` in a slice's state.
    pub(crate) fn basis<'a, T>(&self, state: &'a [T], k: usize) -> Basis<'a, T> {
        Basis { format: self.parts.factor_format, words: &state[self.regions().basis[k].clone()] }
    }

    /// `S~_k` in a slice's state.
    pub(crate) fn factor<'a, T>(&self, state: &'a [T], k: usize) -> Factor<'a, T> {
        Factor { format: self.parts.factor_format, words: &state[self.regions().factor[k].clone()], d: self.shape.full_dim(k) }
    }

    /// `Q_k` of all modes in a slice's state as matrices: where they lie, or widened into the rooms.
    pub(crate) fn dense_bases<'a, T: Scalar>(&self, state: &'a [T], rooms: &'a mut [&mut [T]; MAX_ORDER]) -> [&'a [T]; MAX_ORDER] {
        dense_bases(core::array::from_fn(|k| self.basis(state, k)), rooms)
    }

    /// Splits one slice's state, in the order of [`Self::regions`], of exactly [`Self::state_len`] elements.
    pub(crate) fn split_state<'a, T>(&'a self, state: &'a mut [T]) -> State<'a, T> {
        let mut rest = Carver(state);
        State {
            layout: self,
            kept_basis: core::array::from_fn(|k| rest.take(kept_len(self.parts.factor_format, self.square_len(k)))),
            kept_factor: core::array::from_fn(|k| rest.take(kept_len(self.parts.factor_format, self.triangle_len(k)))),
            lambda: core::array::from_fn(|k| rest.take(self.lambda_len(k))),
            momentum: rest.take(self.elements_if(self.parts.momentum)),
            second_moment: rest.take(self.elements_if(self.parts.second_moment)),
            graft_moment: rest.take(self.elements_if(self.parts.graft_moment)),
            master: rest.take(self.elements_if(self.parts.master)),
            pending: rest.0,
        }
    }

    /// Splits a scratch of at least [`Self::scratch_len`] elements.
    pub(crate) fn split_scratch<'a, T>(&self, scratch: &'a mut [T]) -> Scratch<'a, T> {
        let turned = self.shape.is_turned();
        let n = self.elements_if(turned);
        let d = self.largest_full_dim;
        let mut rest = Carver(scratch);
        Scratch {
            gradient: rest.take(n),
            momentum: rest.take(self.elements_if(turned && separate_momentum(&self.parts))),
            second_moment: rest.take(self.elements_if(turned && self.parts.second_moment)),
            product: rest.take(n),
            update: rest.take(n),
            aside: rest.take(self.elements_if(turned && self.parts.aside)),
            delta: core::array::from_fn(|k| rest.take(self.square_len(k))),
            basis: core::array::from_fn(|k| rest.take(self.square_len(k))),
            lambda: core::array::from_fn(|k| rest.take(self.table_len(k))),
            weight: core::array::from_fn(|k| rest.take(self.table_len(k))),
            rotation: rest.take(d * d),
            square: rest.take(d * d),
            values: rest.take(d),
            work: rest.take(work_len(d)),
        }
    }
}

/// Takes consecutive pieces off a slice.
struct Carver<'a, T>(&'a mut [T]);

impl<'a, T> Carver<'a, T> {
    fn take(&mut self, len: usize) -> &'a mut [T] {
        let (head, tail) = core::mem::take(&mut self.0).split_at_mut(len);
        self.0 = tail;
        head
    }
}
