//! The refresh of one mode: its basis is turned towards its factor. See core/src/refresh.rs and core/src/cholesky_qr.rs, whose steps these are;
//! what they decide is decided on the device here, by bits of the items' flags.

use klshampoo::Refresh as Rule;

use super::cholesky::{cholesky, solve_lower};
use super::eigenvectors::{eigh, eigh_work_len, refine};
use super::householder::{self, qr_work_len};
use super::kernel::{INVALID, dimension, kernel, over};
use super::product::{Matrix, Product};
use super::squares::{Order, check, gather, place_rotation, restore_lower, transpose_lower};
use super::{FAILED, Precision, REFLECTED, SECOND_PASS};
use crate::batch::{Array, Items};
use crate::queue::{DeviceError, DevicePtr, Queue};

kernel! {
    /// See `kernels/linalg/refresh.cuh`, as for the others here.
    RefreshBegin = c"kls_refresh_begin", 256 threads {
        diagonal: Array,
        scales: Array,
        items: Items,
        d: u32,
        cleared: u32,
        failed: u32,
        singular: u32,
    }
}

kernel! {
    DescendingOrder = c"kls_descending_order", 256 threads {
        key: Array,
        order: Array,
        items: Items,
        d: u32,
        unused: u32,
    }
}

kernel! {
    ProbeAlong = c"kls_probe_along", 256 threads {
        q: Array,
        along: Array,
        image: Array,
        items: Items,
        d: u32,
        unused: u32,
    }
}

kernel! {
    ProbeImage = c"kls_probe_image", 256 threads {
        q: Array,
        along: Array,
        image: Array,
        items: Items,
        d: u32,
        unused: u32,
    }
}

kernel! {
    ProbeJudge = c"kls_probe_judge", 256 threads {
        image: Array,
        items: Items,
        d: u32,
        found: u32,
        tolerance: f32,
        unused: u32,
    }
}

kernel! {
    RefreshEnd = c"kls_refresh_end", 256 threads {
        items: Items,
        failed: u32,
        turned: u32,
    }
}

/// How a basis is turned.
#[derive(Clone, Copy, Debug)]
pub struct Refresh {
    /// By which decomposition.
    pub rule: Rule,
    /// Whether the columns are taken in descending order of the factor's diagonal. An eigendecomposition sorts anyway.
    pub sorts: bool,
    /// Of the products that turn the factor. Those on which the basis' orthogonality rests have it too, but never less than
    /// [`Precision::Tf32x3`]: see [`Self::orthogonal`].
    pub precision: Precision,
}

impl Refresh {
    /// Of the products on which orthogonality rests: Gram matrices, what is solved with their factors, the product of the old basis and the
    /// rotation, a Newton-Schulz step. Made of rounded inputs a rotation would fail its check and be made anew by reflections, and a basis would
    /// lose its orthogonality from refresh to refresh.
    #[must_use]
    pub const fn orthogonal(&self) -> Precision {
        match self.precision {
            Precision::Fp32 => Precision::Fp32,
            Precision::Tf32x3 | Precision::Tf32 | Precision::Bf16 => Precision::Tf32x3,
        }
    }
}

/// The arrays of a refresh. None overlaps another; squares are `d x d` with contiguous rows. Of items that take no part, those that are overwritten
/// and the basis are scratch.
#[derive(Clone, Copy, Debug)]
pub struct RefreshBuffers {
    /// In: the factor `S~`, both triangles. Out: the lower triangle of `Qhat^T S~ Qhat`, or of `S~` where the refresh has failed.
    pub factor: Array,
    /// The diagonal of `S~`, d elements.
    pub diagonal: Array,
    /// `Q`.
    pub old_basis: Array,
    /// Out: `Q Qhat`, or `Q` where the refresh has failed.
    pub basis: Array,
    /// Out: `Qhat`, where the refresh has not failed.
    pub rotation: Array,
    /// Overwritten.
    pub square: Array,
    /// Out, of an eigendecomposition: d eigenvalues, descending.
    pub values: Array,
    /// Overwritten; [`work_len`] elements.
    pub work: Array,
}

/// Elements of `work` for each item.
#[must_use]
pub const fn work_len(d: usize) -> usize {
    let (probes, eigenvectors, reflections) = (4 * d, eigh_work_len(d), qr_work_len(d));
    let most = if eigenvectors > reflections { eigenvectors } else { reflections };
    d + 4 + if most > probes { most } else { probes }
}

/// The parts of `work`.
struct Work {
    /// The columns in descending order of the diagonal, as `u32`.
    order: Array,
    /// A power of two that brings the diagonal's largest element near 1.
    scale: Array,
    /// Its inverse.
    unscale: Array,
    /// Four vectors, or what a decomposition works in.
    vectors: Array,
}

impl Work {
    fn of(work: Array, d: usize) -> Self {
        let scale = work.offset::<f32>(d);
        Self { order: work, scale, unscale: scale.offset::<f32>(1), vectors: scale.offset::<f32>(4) }
    }
}

/// Refreshes one mode: `S~ = Qhat R` with `diag R > 0`, or `S~ = Qhat Lambda Qhat^T`; `S~ <- Qhat^T S~ Qhat`, `Q <- Q Qhat`. With sorting the
/// permutation of the columns is part of `Qhat`.
///
/// Sets the bit `turned` of the items where it succeeded and clears it in those where it did not, as their factors and bases say; a factor that is
/// not finite is such a failure. The bits 16 to 18 are used on the way.
///
/// # Errors
/// The driver's; "invalid value" of items without flags or matrices that are too large.
pub fn refresh_mode<Q: Queue>(
    q: &mut Q,
    items: Items,
    d: usize,
    refresh: &Refresh,
    b: &RefreshBuffers,
    turned: u32,
) -> Result<(), DeviceError> {
    if items.flags == DevicePtr::NULL {
        return Err(INVALID);
    }
    let work = Work::of(b.work, d);
    let cleared = FAILED | REFLECTED | SECOND_PASS | turned;
    let (diagonal, scales) = (b.diagonal, work.scale);
    let begin = RefreshBegin { diagonal, scales, items, d: dimension(d)?, cleared, failed: FAILED, singular: REFLECTED };
    q.launch([items.count, 1, 1], begin)?;
    let going = items.without(FAILED);
    let order = if refresh.sorts && refresh.rule != Rule::Eigendecomposition {
        descending_order(q, going, d, b.diagonal, work.order)?;
        work.order
    } else {
        Array::NULL
    };
    match refresh.rule {
        Rule::Qr => {
            by_cholesky(q, going, d, b, refresh, &work, order)?;
            let reflected = going.with(REFLECTED);
            // The last products write the factor, and they may be what failed.
            restore_lower(q, reflected, d, b.factor, b.diagonal)?;
            by_reflections(q, reflected, d, b, refresh, &work, order)?;
        }
        Rule::HouseholderQr => by_reflections(q, going, d, b, refresh, &work, order)?,
        Rule::Eigendecomposition => by_eigenvectors(q, going, d, b, refresh, &work)?,
    }
    let [basis, old, rotation] = [b.basis, b.old_basis, b.rotation].map(|array| Matrix::row_major(array, d));
    Product::of(basis, old, rotation, [d; 3]).at(refresh.orthogonal()).into_scratch().launch(q, going)?;

    check(q, going, d, b.basis, false, FAILED)?;
    check(q, going, d, b.factor, true, FAILED)?;
    let failed = items.with(FAILED);
    restore_lower(q, failed, d, b.factor, b.diagonal)?;
    gather(q, failed, d, b.old_basis, b.basis, Order::OWN, Array::NULL)?;
    q.launch([items.count.div_ceil(256), 1, 1], RefreshEnd { items, failed: FAILED, turned })
}

/// `order[place]` is the element that is at this place in descending order of the keys, of which each item has d; equal ones keep their order.
///
/// # Errors
/// The driver's; "invalid value" of too many elements.
pub fn descending_order<Q: Queue>(q: &mut Q, items: Items, d: usize, key: Array, order: Array) -> Result<(), DeviceError> {
    let d = dimension(d)?;
    q.launch([d.div_ceil(256), over(items), 1], DescendingOrder { key, order, items, d, unused: 0 })
}

/// `Qhat` and `Qhat^T S~ Qhat` from Cholesky factors. Items where that does not work get the bit [`REFLECTED`], and may have lost the lower triangle of
/// their factor.
fn by_cholesky<Q: Queue>(
    q: &mut Q,
    items: Items,
    d: usize,
    b: &RefreshBuffers,
    refresh: &Refresh,
    work: &Work,
    order: Array,
) -> Result<(), DeviceError> {
    let (items, exact) = (items.without(REFLECTED), refresh.orthogonal());
    gather(q, items, d, b.factor, b.square, Order { places: order, rows: true }, work.scale)?;
    // The first Gram matrix' factor R^T takes the rotation's place, the second one's that of the basis; columns are contiguous.
    let columns = |array: Array| Matrix::row_major(array, d).t();
    let [square, factor, second] = [b.square, b.rotation, b.basis].map(columns);
    let turned = Matrix::row_major(b.factor, d);

    cholesky(q, items, d, b.square, REFLECTED, exact)?;
    upper_times(factor, square.t(), square, d).at(exact).launch(q, items)?;
    orthogonalise(q, items, d, b.square, b.rotation, exact)?;
    probe(q, items, d, b.square, work, SECOND_PASS)?;

    let again = items.with(SECOND_PASS);
    Product { lower: true, ..Product::of(second, square.t(), square, [d; 3]) }.at(exact).launch(q, again)?;
    orthogonalise(q, again, d, b.square, b.basis, exact)?;
    probe(q, again, d, b.square, work, REFLECTED)?;
    // R <- R2 R, whose transpose is the product of two lower triangles.
    Product { lower: true, ..Product::of(turned, factor, second, [d; 3]) }.at(refresh.precision).launch(q, again)?;
    transpose_lower(q, again, d, b.factor, b.rotation)?;

    Product { scale: work.unscale, ..upper_times(turned, factor.t(), factor, d) }.at(refresh.precision).launch(q, items)?;
    place_rotation(q, items, d, b.square, b.rotation, order)
}

/// The lower triangle of `C = U B` with an upper triangular `U`.
fn upper_times(c: Matrix, u: Matrix, b: Matrix, d: usize) -> Product {
    Product { lower: true, upper_a: true, ..Product::of(c, u, b, [d; 3]) }
}

/// `X <- X R^-1` where `X^T X = R^T R`: the lower triangle of this product comes in in `gram` and becomes `R^T`.
fn orthogonalise<Q: Queue>(q: &mut Q, items: Items, d: usize, x: Array, gram: Array, precision: Precision) -> Result<(), DeviceError> {
    cholesky(q, items, d, gram, REFLECTED, precision)?;
    solve_lower(q, items, d, d, x, gram, precision)
}

/// Sets the bit `found` of items where `Q Q^T x` is not `x` to the accuracy of reflections, of two vectors without a pattern.
fn probe<Q: Queue>(q: &mut Q, items: Items, d: usize, matrix: Array, work: &Work, found: u32) -> Result<(), DeviceError> {
    let (along, image) = (work.vectors, work.vectors.offset::<f32>(2 * d));
    let tolerance = f32::EPSILON * (2 * d) as f32;
    let d = dimension(d)?;
    q.launch([d.div_ceil(32), over(items), 1], ProbeAlong { q: matrix, along, image, items, d, unused: 0 })?;
    q.launch([d.div_ceil(32), over(items), 1], ProbeImage { q: matrix, along, image, items, d, unused: 0 })?;
    q.launch([items.count, 1, 1], ProbeJudge { image, items, d, found, tolerance, unused: 0 })
}

/// `Qhat` of `S~ P = Qhat R` by reflections, and `Qhat^T S~ Qhat`.
fn by_reflections<Q: Queue>(
    q: &mut Q,
    items: Items,
    d: usize,
    b: &RefreshBuffers,
    refresh: &Refresh,
    work: &Work,
    order: Array,
) -> Result<(), DeviceError> {
    gather(q, items, d, b.factor, b.square, Order { places: order, rows: false }, Array::NULL)?;
    householder::qr(q, items, d, b.square, b.rotation, work.vectors, FAILED)?;
    rotate_factor(q, items, d, b, refresh)
}

/// The eigenvectors of `S~`, and `Qhat^T S~ Qhat`.
fn by_eigenvectors<Q: Queue>(
    q: &mut Q,
    items: Items,
    d: usize,
    b: &RefreshBuffers,
    refresh: &Refresh,
    work: &Work,
) -> Result<(), DeviceError> {
    gather(q, items, d, b.factor, b.square, Order::OWN, Array::NULL)?;
    eigh(q, items, d, b.square, b.rotation, b.values, work.vectors, FAILED)?;
    turn(q, items, d, b, b.basis, (refresh, refresh.orthogonal()))?;
    refine(q, items, d, b.rotation, b.basis, b.square, refresh.orthogonal())?;
    rotate_factor(q, items, d, b, refresh)
}

/// `S~ <- Qhat^T S~ Qhat`, with both triangles of `S~` in the factor's place before.
fn rotate_factor<Q: Queue>(q: &mut Q, items: Items, d: usize, b: &RefreshBuffers, refresh: &Refresh) -> Result<(), DeviceError> {
    turn(q, items, d, b, b.factor, (refresh, refresh.precision))
}

/// The lower triangle of `Qhat^T S~ Qhat`.
fn turn<Q: Queue>(
    q: &mut Q,
    items: Items,
    d: usize,
    b: &RefreshBuffers,
    out: Array,
    (refresh, precision): (&Refresh, Precision),
) -> Result<(), DeviceError> {
    let [s, rotation, square, out] = [b.factor, b.rotation, b.square, out].map(|array| Matrix::row_major(array, d));
    let product = Product::of(square, s, rotation, [d; 3]).at(precision);
    // Where Cholesky factors are the rule, reflections are for a few items or none: a library would make the product of all.
    let product = Product { scratch: refresh.rule != Rule::Qr, ..product };
    product.launch(q, items)?;
    // A factor's upper triangle, and another item's factor, are not scratch.
    Product { lower: true, ..Product::of(out, rotation.t(), square, [d; 3]) }.at(precision).launch(q, items)
}
