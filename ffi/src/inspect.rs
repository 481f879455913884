//! Reading an optimizer's state, and setting an eigenbasis.

use klshampoo::linalg::LinAlg;
use klshampoo::{Optimizer, SliceHeader, StatePart, StepError};

use crate::checked::{put, slice, slice_mut};
use crate::error::{Failure, Locate};
use crate::guard::with_handle;
use crate::handle::{Parts, kls_optimizer};
use crate::status::*;
use crate::versioned::{Versioned, write_struct};

/// S_k in parameter coordinates: d x d, row-major.
pub const KLS_STATE_FACTOR: i32 = 0;
/// Q_k: d x d, row-major, columns are eigenvectors.
pub const KLS_STATE_BASIS: i32 = 1;
/// lambda_k: d numbers.
pub const KLS_STATE_EIGENVALUES: i32 = 2;
/// The momentum in parameter coordinates: one number per element of the slice. `mode` is not looked at.
pub const KLS_STATE_MOMENTUM: i32 = 3;
/// The second moment: one number per element of the slice. `mode` is not looked at.
pub const KLS_STATE_SECOND_MOMENT: i32 = 4;
/// The grafted method's second moment in parameter coordinates: one number per element of the slice. `mode` is not looked at.
pub const KLS_STATE_GRAFT_MOMENT: i32 = 5;

/// The f32 master weights of a bf16 parameter: one number per element of the slice, zero before the first step. `mode` is not looked at.
pub const KLS_STATE_MASTER: i32 = 6;

/// What a slice has counted.
#[allow(non_camel_case_types)]
#[derive(Clone, Copy)]
#[repr(C)]
pub struct kls_counters {
    /// Steps made, the first one included.
    pub steps: u64,
    /// Refreshes of an eigenbasis done (one per mode).
    pub refreshes: u32,
    /// Factorisations that failed; the old eigenbasis stayed.
    pub refresh_failures: u32,
    /// Calls skipped because of their gradient (KLS_BAD_GRADIENT_SKIP).
    pub skipped: u32,
    /// Eigenvalues that were raised to the floor: 2^-63, and 2^(-63/(K-1)) with K > 2 preconditioned dims.
    pub floored: u32,
    /// Eigenvalues that the clamp bounded.
    pub clamped: u32,
    /// Times the scale of the factors was rebalanced.
    pub rebalanced: u32,
    /// Refreshes left out because the eigenbasis was not stale.
    pub refreshes_skipped: u32,
    /// Updates that the cap on their root mean square scaled down.
    pub capped: u32,
    /// Root mean square of the last update's direction, before learning rate and decay; 0 unless the group's `measure` is set.
    pub update_rms: f32,
    /// Cosine of the angle between that direction and the gradient, likewise.
    pub update_cosine: f32,
}

impl kls_counters {
    /// What a header says.
    pub const fn of(header: &SliceHeader) -> Self {
        Self {
            steps: header.step,
            refreshes: header.refreshes,
            refresh_failures: header.refresh_failures,
            skipped: header.skipped,
            floored: header.floored,
            clamped: header.clamped,
            rebalanced: header.rebalanced,
            refreshes_skipped: header.refreshes_skipped,
            capped: header.capped,
            update_rms: header.update_rms,
            update_cosine: header.update_cosine,
        }
    }
}

impl Versioned for kls_counters {
    // The first header ended after `rebalanced`.
    const SIZES: &'static [usize] = &[core::mem::offset_of!(Self, refreshes_skipped), size_of::<Self>()];
    const SELF_SIZED: bool = false;
}

/// The part of the state that KLS_STATE_* and a mode stand for.
///
/// # Errors
/// KLS_ERROR_UNKNOWN_VALUE.
pub fn state_part(part: i32, mode: usize) -> Result<StatePart, kls_status> {
    match part {
        KLS_STATE_FACTOR => Ok(StatePart::Factor(mode)),
        KLS_STATE_BASIS => Ok(StatePart::Basis(mode)),
        KLS_STATE_EIGENVALUES => Ok(StatePart::Eigenvalues(mode)),
        KLS_STATE_MOMENTUM => Ok(StatePart::Momentum),
        KLS_STATE_SECOND_MOMENT => Ok(StatePart::SecondMoment),
        KLS_STATE_GRAFT_MOMENT => Ok(StatePart::GraftMoment),
        KLS_STATE_MASTER => Ok(StatePart::Master),
        _ => Err(KLS_ERROR_UNKNOWN_VALUE),
    }
}

/// Says in which mode something failed, for parts that belong to one.
///
/// # Errors
/// Those of the result.
pub fn of_part<T>(result: Result<T, impl Into<Failure>>, state_part: i32, mode: usize) -> Result<T, Failure> {
    if state_part <= KLS_STATE_EIGENVALUES { result.of_mode(mode) } else { result.map_err(Into::into) }
}

/// What is done with a view, a scratch and a backend, whichever backend that is.
pub(crate) trait Task {
    /// What it finds.
    type Output;
    fn run<L: LinAlg<f32>>(self, view: &mut Optimizer<'_, f32>, scratch: &mut [f32], linalg: &mut L) -> Result<Self::Output, StepError>;
}

/// Runs a task with the optimizer's own backend.
pub(crate) fn run<K: Task>(parts: Parts<'_>, task: K) -> Result<K::Output, Failure> {
    let Parts { mut view, scratch, mut portable, .. } = parts;
    #[cfg(feature = "host")]
    if let Some(host) = parts.host {
        let worker = host.first_worker();
        return task.run(&mut view, &mut worker.scratch, &mut worker.backend).map_err(Failure::from);
    }
    task.run(&mut view, scratch, &mut portable).map_err(Failure::from)
}

struct Read<'a> {
    tensor: usize,
    slice: usize,
    part: StatePart,
    out: &'a mut [f32],
}

impl Task for Read<'_> {
    type Output = ();

    fn run<L: LinAlg<f32>>(self, view: &mut Optimizer<'_, f32>, scratch: &mut [f32], linalg: &mut L) -> Result<(), StepError> {
        view.read(self.tensor, self.slice, self.part, self.out, scratch, linalg)
    }
}

struct SetBasis<'a> {
    tensor: usize,
    slice: usize,
    mode: usize,
    basis: &'a [f32],
}

impl Task for SetBasis<'_> {
    type Output = ();

    fn run<L: LinAlg<f32>>(self, view: &mut Optimizer<'_, f32>, scratch: &mut [f32], linalg: &mut L) -> Result<(), StepError> {
        view.set_basis(self.tensor, self.slice, self.mode, self.basis, scratch, linalg)
    }
}

/// Writes how many elements a slice has of a part of the state (KLS_STATE_*). `mode` is only looked at for parts that belong to one.
///
/// Errors: KLS_ERROR_INDEX, KLS_ERROR_UNKNOWN_VALUE, KLS_ERROR_NO_SUCH_STATE, KLS_ERROR_NULL, KLS_ERROR_MISALIGNED and the handle's; `len`
/// is then untouched.
///
/// # Safety
/// `optimizer` is a handle that no other thread uses; `len` is writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kls_optimizer_state_len(
    optimizer: *mut kls_optimizer,
    tensor: usize,
    slice: usize,
    state_part: i32,
    mode: usize,
    len: *mut usize,
) -> kls_status {
    // SAFETY: the caller vouches for the handle and the output.
    unsafe {
        with_handle(optimizer, "kls_optimizer_state_len", |optimizer| {
            let part = self::state_part(state_part, mode).of_field("state_part")?;
            let found = optimizer.parts()?.view.part_len(tensor, slice, part);
            put(len, of_part(found, state_part, mode)?).of_field("len")
        })
    }
}

/// Copies a part of a slice's state (KLS_STATE_*) into `out`, which has exactly kls_optimizer_state_len elements. Before the first non-zero
/// gradient everything is zero.
///
/// Errors: KLS_ERROR_INDEX, KLS_ERROR_UNKNOWN_VALUE, KLS_ERROR_NO_SUCH_STATE, KLS_ERROR_BUFFER_LENGTH and the handle's: `out` is then
/// untouched. After KLS_ERROR_LINALG it holds unspecified numbers.
///
/// # Safety
/// `optimizer` is a handle that no other thread uses; `out` has `len` writable elements.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kls_optimizer_read_state(
    optimizer: *mut kls_optimizer,
    tensor: usize,
    slice: usize,
    state_part: i32,
    mode: usize,
    out: *mut f32,
    len: usize,
) -> kls_status {
    // SAFETY: the caller vouches for the handle and the buffer.
    unsafe {
        with_handle(optimizer, "kls_optimizer_read_state", |optimizer| {
            let part = self::state_part(state_part, mode).of_field("state_part")?;
            let out = slice_mut(out, len).of_field("out")?;
            of_part(run(optimizer.parts()?, Read { tensor, slice, part, out }), state_part, mode)
        })
    }
}

/// Replaces the eigenbasis of one mode by `basis` (d x d row-major, columns are eigenvectors, `len` = d * d) and transforms factor
/// and momentum with it.
///
/// Errors: KLS_ERROR_NOT_ORTHOGONAL, KLS_ERROR_NOT_STARTED, KLS_ERROR_INDEX, KLS_ERROR_NO_SUCH_STATE, KLS_ERROR_BUFFER_LENGTH, KLS_ERROR_LINALG and the
/// handle's; the state is then unchanged.
///
/// # Safety
/// `optimizer` is a handle that no other thread uses; `basis` has `len` readable elements.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kls_optimizer_set_basis(
    optimizer: *mut kls_optimizer,
    tensor: usize,
    slice_index: usize,
    mode: usize,
    basis: *const f32,
    len: usize,
) -> kls_status {
    // SAFETY: the caller vouches for the handle and the buffer.
    unsafe {
        with_handle(optimizer, "kls_optimizer_set_basis", |optimizer| {
            let basis = slice(basis, len).of_field("basis")?;
            run(optimizer.parts()?, SetBasis { tensor, slice: slice_index, mode, basis }).of_mode(mode)
        })
    }
}

/// Copies a slice's counters.
///
/// Errors: KLS_ERROR_INDEX, KLS_ERROR_STRUCT_SIZE and the handle's; `counters` is then untouched.
///
/// # Safety
/// `optimizer` is a handle that no other thread uses; `counters` has `struct_size` writable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kls_optimizer_counters(
    optimizer: *mut kls_optimizer,
    tensor: usize,
    slice: usize,
    counters: *mut kls_counters,
    struct_size: usize,
) -> kls_status {
    // SAFETY: the caller vouches for the handle and the struct.
    unsafe {
        with_handle(optimizer, "kls_optimizer_counters", |optimizer| {
            let parts = optimizer.parts()?;
            let header: &SliceHeader = parts.view.header(tensor, slice)?;
            write_struct(counters, struct_size, kls_counters::of(header)).of_field("counters")
        })
    }
}
