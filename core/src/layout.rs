//! The only place where sizes exist: how a slice's state and the shared scratch are split.

use core::ops::Range;

use crate::linalg::work_len;
use crate::packed::triangle_len;
use crate::shape::{MAX_ORDER, Shape, ShapeError};

/// Sizes of the state and of the scratch of one tensor slice, in elements.
///
/// State, in this order: `Q_k` (d x d, row-major, columns are eigenvectors) of the full modes, packed lower triangles of `S~_k` of the
/// full modes, `lambda_k` of the preconditioned modes, the momentum `M~` (N), and the second moment `D` (N) where the direction has one.
///
/// Tensors without a full mode need no N-sized scratch: their step is elementwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    shape: Shape,
    second_moment: bool,
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
}

/// One slice's state, split.
pub(crate) struct State<'a, T> {
    pub basis: [&'a mut [T]; MAX_ORDER],
    pub factor: [&'a mut [T]; MAX_ORDER],
    pub lambda: [&'a mut [T]; MAX_ORDER],
    pub momentum: &'a mut [T],
    pub second_moment: &'a mut [T],
}

/// The scratch of one step, split. A step writes only here until it commits.
pub(crate) struct Scratch<'a, T> {
    /// N: the projected gradient, then the momentum of after this step.
    pub gradient: &'a mut [T],
    /// N: the other end of every mode product, and the weighted gradients `X_k`.
    pub product: &'a mut [T],
    /// N: the update.
    pub update: &'a mut [T],
    /// d x d per full mode: `Delta~_k` (lower triangle), then, in a refresh, the new `S~_k`.
    pub delta: [&'a mut [T]; MAX_ORDER],
    /// d x d per full mode: the refreshed basis.
    pub basis: [&'a mut [T]; MAX_ORDER],
    /// d per preconditioned mode: the eigenvalues of after this step.
    pub lambda: [&'a mut [T]; MAX_ORDER],
    /// d per preconditioned mode: weights or roots of the eigenvalues in use.
    pub weight: [&'a mut [T]; MAX_ORDER],
    /// d x d of the largest full mode.
    pub rotation: &'a mut [T],
    /// d x d of the largest full mode.
    pub square: &'a mut [T],
    /// Work space of the factorisations.
    pub work: &'a mut [T],
}

const fn plus(sum: Option<usize>, count: usize, each: usize) -> Option<usize> {
    match (sum, count.checked_mul(each)) {
        (Some(a), Some(b)) => a.checked_add(b),
        _ => None,
    }
}

impl Layout {
    /// Computes every size of a tensor slice.
    ///
    /// # Errors
    /// [`ShapeError::Overflow`] when a size does not fit the address space.
    pub const fn new(shape: Shape, second_moment: bool) -> Result<Self, ShapeError> {
        let n = shape.elements();
        let mut state = plus(Some(0), if second_moment { 2 } else { 1 }, n);
        let mut scratch = plus(Some(0), if shape.full_modes() > 0 { 3 } else { 0 }, n);
        let (mut k, mut largest) = (0, 0);
        while k < shape.order() {
            let d = shape.dim(k);
            if shape.is_full(k) {
                let Some(triangle) = triangle_len(d) else { return Err(ShapeError::Overflow) };
                state = plus(plus(state, d, d), 1, triangle);
                scratch = plus(plus(scratch, d, d), d, d);
                if d > largest {
                    largest = d;
                }
            }
            if shape.has_lambda(k) {
                state = plus(state, 1, d);
                scratch = plus(scratch, 2, d);
            }
            k += 1;
        }
        scratch = plus(plus(plus(scratch, largest, largest), largest, largest), 1, work_len(largest));
        match (state, scratch) {
            (Some(state_len), Some(scratch_len)) if state_len <= isize::MAX as usize / 8 && scratch_len <= isize::MAX as usize / 8 => {
                Ok(Self { shape, second_moment, largest_full_dim: largest, state_len, scratch_len })
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

    fn square_len(&self, k: usize) -> usize {
        if self.shape.is_full(k) { self.shape.dim(k) * self.shape.dim(k) } else { 0 }
    }

    fn lambda_len(&self, k: usize) -> usize {
        if self.shape.has_lambda(k) { self.shape.dim(k) } else { 0 }
    }

    /// Elements of the packed triangle of mode `k`.
    fn triangle_len(&self, k: usize) -> usize {
        if self.shape.is_full(k) { self.shape.dim(k) * (self.shape.dim(k) + 1) / 2 } else { 0 }
    }

    /// Whether the direction keeps a second moment per element.
    pub const fn has_second_moment(&self) -> bool {
        self.second_moment
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
            basis: core::array::from_fn(|k| next(self.square_len(k))),
            factor: core::array::from_fn(|k| next(self.triangle_len(k))),
            lambda: core::array::from_fn(|k| next(self.lambda_len(k))),
            momentum: next(self.shape.elements()),
            second_moment: next(if self.second_moment { self.shape.elements() } else { 0 }),
        }
    }

    /// Splits one slice's state of exactly [`Self::state_len`] elements.
    pub(crate) fn split_state<'a, T>(&self, state: &'a mut [T]) -> State<'a, T> {
        let regions = self.regions();
        let mut rest = Carver(state);
        State {
            basis: regions.basis.map(|range| rest.take(range.len())),
            factor: regions.factor.map(|range| rest.take(range.len())),
            lambda: regions.lambda.map(|range| rest.take(range.len())),
            momentum: rest.take(regions.momentum.len()),
            second_moment: rest.take(regions.second_moment.len()),
        }
    }

    /// Splits a scratch of at least [`Self::scratch_len`] elements.
    pub(crate) fn split_scratch<'a, T>(&self, scratch: &'a mut [T]) -> Scratch<'a, T> {
        let n = if self.shape.full_modes() > 0 { self.shape.elements() } else { 0 };
        let d = self.largest_full_dim;
        let mut rest = Carver(scratch);
        Scratch {
            gradient: rest.take(n),
            product: rest.take(n),
            update: rest.take(n),
            delta: core::array::from_fn(|k| rest.take(self.square_len(k))),
            basis: core::array::from_fn(|k| rest.take(self.square_len(k))),
            lambda: core::array::from_fn(|k| rest.take(self.lambda_len(k))),
            weight: core::array::from_fn(|k| rest.take(self.lambda_len(k))),
            rotation: rest.take(d * d),
            square: rest.take(d * d),
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
