//! Eigenvectors: the decomposition, its refinement to the accuracy that the numbers allow, and orthogonality regained. See the module of this
//! name in the core.

use super::Precision;
use super::kernel::{INVALID, LARGEST_ALONE, dimension, elements, kernel, kernels, over};
use super::product::{Matrix, Product};
use super::refresh::descending_order;
use super::squares::{Order, gather, infinitesimal_rotation, newton_schulz};
use crate::batch::{Array, Items};
use crate::queue::{DeviceError, DevicePtr, Queue};

kernel! {
    /// See `kernels/linalg/eigh.cuh`.
    Eigh = c"kls_eigh", 512 threads {
        a: Array,
        vectors: Array,
        values: Array,
        work: Array,
        items: Items,
        d: u32,
        failed: u32,
    }
}

/// What the kernels of `kernels/linalg/eigh_panels.cuh` are given.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
#[allow(dead_code, reason = "the kernels read the fields")]
pub(crate) struct Panels {
    a: Array,
    vectors: Array,
    values: Array,
    rotations: Array,
    diagonal: Array,
    order: Array,
    words: Array,
    items: Items,
    d: u32,
    log_panel: u32,
    panels: u32,
    failed: u32,
    sweep: u32,
    round: u32,
}

const _: () = assert!(size_of::<Panels>() == 7 * size_of::<Array>() + size_of::<Items>() + 6 * size_of::<u32>(), "padding");

kernels! { Panels:
    EighBegin = c"kls_eigh_begin", 256 threads;
    EighMeasure = c"kls_eigh_measure", 256 threads;
    EighPrepare = c"kls_eigh_prepare", 256 threads;
    EighSolve = c"kls_eigh_solve", 256 threads;
    EighApply = c"kls_eigh_apply", 256 threads;
    EighDiagonal = c"kls_eigh_diagonal", 256 threads;
    EighEnd = c"kls_eigh_end", 256 threads;
}

/// Most columns of a panel: `KLS_EIGH_PANEL`.
const LARGEST_PANEL: usize = 32;

/// Rows of a tile of the vectors: `KLS_EIGH_PAIR`.
const TILE: u32 = 64;

/// How [`eigh_in_panels`] goes about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JacobiPanels {
    /// Columns of a panel: 4, 8, 16 or 32; others are refused.
    pub columns: usize,
    /// Sweeps that are launched. Those after the last one that is needed return at once.
    pub sweeps: u32,
}

impl JacobiPanels {
    /// What [`eigh`] uses. Six to nine sweeps are usual, fifteen where half of the eigenvalues are nothing but rounding, as those of a first gradient may be.
    pub const USUAL: Self = Self { columns: LARGEST_PANEL, sweeps: 40 };

    /// How many panels meet in a tournament.
    const fn panels(self, d: usize) -> usize {
        if self.columns == 0 { 0 } else { d.div_ceil(self.columns).next_multiple_of(2) }
    }

    /// Elements of `work` for each item.
    #[must_use]
    pub const fn work_len(self, d: usize) -> usize {
        let pairs = self.panels(d) / 2;
        pairs * 4 * self.columns * self.columns + 2 * d + 2 + pairs
    }

    /// How many kernels are launched.
    #[must_use]
    pub const fn launches(self, d: usize) -> usize {
        if d == 0 { 0 } else { 8 + 2 * self.sweeps as usize * self.panels(d).saturating_sub(1) }
    }
}

/// Elements of `work` for each item in [`eigh`].
#[must_use]
pub(super) const fn eigh_work_len(d: usize) -> usize {
    if d > LARGEST_ALONE { JacobiPanels::USUAL.work_len(d) } else { 2 * d + 2 }
}

/// Eigenvectors (columns of `vectors`) and eigenvalues (descending) of the symmetric matrix whose lower triangle is in `a`, which is destroyed;
/// both are `d x d` with contiguous rows. `work` has [`work_len`](super::work_len) elements for each item.
///
/// Sets the bit `failed` of items where the matrix or an eigenvalue is not finite, or the iteration does not converge; their outputs then hold
/// unspecified values. Items that have the bit already are left alone.
///
/// # Errors
/// The driver's; "invalid value" of items without flags or a matrix that is too large.
#[allow(clippy::too_many_arguments)]
pub fn eigh<Q: Queue>(
    q: &mut Q,
    items: Items,
    d: usize,
    a: Array,
    vectors: Array,
    values: Array,
    work: Array,
    failed: u32,
) -> Result<(), DeviceError> {
    if d > LARGEST_ALONE {
        return eigh_in_panels(q, items, d, JacobiPanels::USUAL, a, vectors, values, work, failed);
    }
    if items.flags == DevicePtr::NULL {
        return Err(INVALID);
    }
    let (d, items) = (dimension(d)?, items.without(failed));
    let blocks = if d == 0 { 0 } else { items.count };
    q.launch([blocks, 1, 1], Eigh { a, vectors, values, work, items, d, failed })
}

/// As [`eigh`], with many blocks of threads to a matrix: panels of columns are rotated in pairs. `work` has [`JacobiPanels::work_len`] elements for
/// each item.
///
/// # Errors
/// As [`eigh`]; "invalid value" of panels of another size.
#[allow(clippy::too_many_arguments)]
pub fn eigh_in_panels<Q: Queue>(
    q: &mut Q,
    items: Items,
    d: usize,
    panels: JacobiPanels,
    a: Array,
    vectors: Array,
    values: Array,
    work: Array,
    failed: u32,
) -> Result<(), DeviceError> {
    let JacobiPanels { columns, sweeps } = panels;
    if items.flags == DevicePtr::NULL || !columns.is_power_of_two() || !(4..=LARGEST_PANEL).contains(&columns) {
        return Err(INVALID);
    }
    if d == 0 {
        return Ok(());
    }
    let items = items.without(failed);
    let (len, d, panels) = (d, dimension(d)?, dimension(panels.panels(d))?);
    let pairs = panels / 2;
    let diagonal = work.offset::<f32>(pairs as usize * 4 * columns * columns);
    let order = diagonal.offset::<f32>(len);
    let words = order.offset::<u32>(len);
    let log_panel = columns.ilog2();
    let first =
        Panels { a, vectors, values, rotations: work, diagonal, order, words, items, d, log_panel, panels, failed, sweep: 0, round: 0 };
    q.launch([items.count.div_ceil(256), 1, 1], EighBegin(first))?;
    q.launch([d, over(items), 1], EighMeasure(first))?;
    q.launch(elements(items, d), EighPrepare(first))?;
    let between = u64::from(pairs) * u64::from(pairs - 1) / 2;
    let tiles =
        u32::try_from(between + u64::from(pairs) * u64::from(d.div_ceil(TILE))).ok().filter(|&tiles| tiles < 1 << 31).ok_or(INVALID)?;
    for sweep in 1..=sweeps {
        for round in 0..panels - 1 {
            let p = Panels { sweep, round, ..first };
            q.launch([pairs, over(items), 1], EighSolve(p))?;
            q.launch([tiles, over(items), 1], EighApply(p))?;
        }
    }
    let last = Panels { sweep: sweeps, ..first };
    q.launch([d.div_ceil(256), over(items), 1], EighDiagonal(last))?;
    descending_order(q, items, len, diagonal, order)?;
    q.launch([d.div_ceil(256), over(items), 1], EighEnd(last))?;
    gather(q, items, len, vectors, a, Order { places: order, rows: false }, Array::NULL)?;
    gather(q, items, len, a, vectors, Order::OWN, Array::NULL)
}

/// Turns the columns of `vectors` towards the eigenvectors of `A`. `t` comes in with the lower triangle of `Q^T A Q`, nearly diagonal with a
/// descending diagonal, and is overwritten, like `temporary`; all are `d x d` with contiguous rows.
///
/// # Errors
/// As [`Product::launch`].
pub fn refine<Q: Queue>(
    q: &mut Q,
    items: Items,
    d: usize,
    vectors: Array,
    t: Array,
    temporary: Array,
    precision: Precision,
) -> Result<(), DeviceError> {
    infinitesimal_rotation(q, items, d, t)?;
    let [matrix, by, out] = [vectors, t, temporary].map(|array| Matrix::row_major(array, d));
    Product::of(out, matrix, by, [d; 3]).at(precision).launch(q, items)?;
    newton_schulz_step(q, items, d, [temporary, t, vectors], precision)
}

/// One Newton-Schulz step of a basis towards the nearest orthogonal matrix: `Q <- Q (3 I - Q^T Q) / 2`. `square` and `spare` are overwritten; all
/// are `d x d` with contiguous rows.
///
/// After a refresh, once all that moves along has moved, the rotation can be the spare one.
///
/// # Errors
/// As [`Product::launch`].
pub fn polish<Q: Queue>(
    q: &mut Q,
    items: Items,
    d: usize,
    basis: Array,
    square: Array,
    spare: Array,
    precision: Precision,
) -> Result<(), DeviceError> {
    newton_schulz_step(q, items, d, [basis, square, spare], precision)?;
    gather(q, items, d, spare, basis, Order::OWN, Array::NULL)
}

/// `out = Q (3 I - Q^T Q) / 2`, of `Q`, a square that is overwritten, and `out`.
fn newton_schulz_step<Q: Queue>(
    q: &mut Q,
    items: Items,
    d: usize,
    [basis, square, out]: [Array; 3],
    precision: Precision,
) -> Result<(), DeviceError> {
    let [basis, gram, out] = [basis, square, out].map(|array| Matrix::row_major(array, d));
    Product { lower: true, ..Product::of(gram, basis.t(), basis, [d; 3]) }.at(precision).launch(q, items)?;
    newton_schulz(q, items, d, square)?;
    Product::of(out, basis, gram, [d; 3]).at(precision).launch(q, items)
}
