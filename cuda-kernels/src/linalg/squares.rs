//! Elementwise passes over squares.

use super::kernel::{dimension, elements, kernel, over};
use crate::batch::{Array, Items};
use crate::queue::{DeviceError, Queue};

kernel! {
    /// See `kernels/linalg/squares.cuh`, as for the others here.
    GatherSquare = c"kls_gather_square", 256 threads {
        from: Array,
        to: Array,
        order: Array,
        scale: Array,
        items: Items,
        d: u32,
        permutes_rows: u32,
    }
}

kernel! {
    PlaceRotation = c"kls_place_rotation", 256 threads {
        columns: Array,
        rotation: Array,
        order: Array,
        items: Items,
        d: u32,
        unused: u32,
    }
}

kernel! {
    TransposeLower = c"kls_transpose_lower", 256 threads {
        from: Array,
        to: Array,
        items: Items,
        d: u32,
        unused: u32,
    }
}

kernel! {
    NewtonSchulz = c"kls_newton_schulz", 256 threads {
        square: Array,
        items: Items,
        d: u32,
        unused: u32,
    }
}

kernel! {
    Angles = c"kls_angles", 256 threads {
        t: Array,
        items: Items,
        d: u32,
        unused: u32,
    }
}

kernel! {
    UnitDiagonal = c"kls_unit_diagonal", 256 threads {
        square: Array,
        items: Items,
        d: u32,
        unused: u32,
    }
}

kernel! {
    RestoreLower = c"kls_restore_lower", 256 threads {
        square: Array,
        diagonal: Array,
        items: Items,
        d: u32,
        unused: u32,
    }
}

kernel! {
    CheckSquare = c"kls_check_square", 256 threads {
        square: Array,
        items: Items,
        d: u32,
        lower: u32,
        failed: u32,
        unused: u32,
    }
}

/// The order in which rows and columns of a square are taken.
#[derive(Clone, Copy)]
pub(super) struct Order {
    /// Their places, or [`Array::NULL`] for their own.
    pub(super) places: Array,
    /// Whether rows are taken in it too.
    pub(super) rows: bool,
}

impl Order {
    /// As they are.
    pub(super) const OWN: Self = Self { places: Array::NULL, rows: false };
}

/// A copy in another order, times a factor of each item's (or [`Array::NULL`]).
pub(super) fn gather<Q: Queue>(
    q: &mut Q,
    items: Items,
    d: usize,
    from: Array,
    to: Array,
    order: Order,
    scale: Array,
) -> Result<(), DeviceError> {
    let d = dimension(d)?;
    let kernel = GatherSquare { from, to, order: order.places, scale, items, d, permutes_rows: order.rows.into() };
    q.launch(elements(items, d)?, kernel)
}

/// The matrix whose columns are contiguous, by rows, each at its place.
pub(super) fn place_rotation<Q: Queue>(
    q: &mut Q,
    items: Items,
    d: usize,
    columns: Array,
    rotation: Array,
    order: Array,
) -> Result<(), DeviceError> {
    let d = dimension(d)?;
    let tiles = d.div_ceil(32) * d.div_ceil(32);
    q.launch([tiles, over(items), 1], PlaceRotation { columns, rotation, order, items, d, unused: 0 })
}

/// The lower triangle, rows contiguous, to where its columns are.
pub(super) fn transpose_lower<Q: Queue>(q: &mut Q, items: Items, d: usize, from: Array, to: Array) -> Result<(), DeviceError> {
    let d = dimension(d)?;
    q.launch(elements(items, d)?, TransposeLower { from, to, items, d, unused: 0 })
}

/// `(3 I - A) / 2` in the place of `A`, which comes in as its lower triangle.
pub(super) fn newton_schulz<Q: Queue>(q: &mut Q, items: Items, d: usize, square: Array) -> Result<(), DeviceError> {
    let d = dimension(d)?;
    q.launch(elements(items, d)?, NewtonSchulz { square, items, d, unused: 0 })
}

/// `I` plus the angles by which a nearly diagonal matrix, given as its lower triangle, is to be turned.
pub(super) fn infinitesimal_rotation<Q: Queue>(q: &mut Q, items: Items, d: usize, t: Array) -> Result<(), DeviceError> {
    let d = dimension(d)?;
    q.launch(elements(items, d)?, Angles { t, items, d, unused: 0 })?;
    q.launch([d.div_ceil(256), over(items), 1], UnitDiagonal { square: t, items, d, unused: 0 })
}

/// The lower triangle of a symmetric matrix again, from its upper one and its diagonal.
pub(super) fn restore_lower<Q: Queue>(q: &mut Q, items: Items, d: usize, square: Array, diagonal: Array) -> Result<(), DeviceError> {
    let d = dimension(d)?;
    q.launch(elements(items, d)?, RestoreLower { square, diagonal, items, d, unused: 0 })
}

/// Sets the bit `failed` where an element of a square, or of its lower triangle, is not finite.
pub(super) fn check<Q: Queue>(q: &mut Q, items: Items, d: usize, square: Array, lower: bool, failed: u32) -> Result<(), DeviceError> {
    let d = dimension(d)?;
    q.launch(elements(items, d)?, CheckSquare { square, items, d, lower: lower.into(), failed, unused: 0 })
}
