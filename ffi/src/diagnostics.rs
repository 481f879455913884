//! How well an optimizer's state describes its gradients, computed when asked for.

use klshampoo::linalg::LinAlg;
use klshampoo::{ModeReport, Optimizer, StepError};

use crate::checked::{check_pointer, put, slice};
use crate::error::Locate;
use crate::guard::with_handle;
use crate::handle::kls_optimizer;
use crate::inspect::{Task, run};
use crate::status::*;
use crate::versioned::{Versioned, check_struct_size, write_struct};

/// What there is to say about one dim of a slice. Where the method keeps no eigenvalues (SOAP), they are the factor's diagonal in the
/// eigenbasis.
#[allow(non_camel_case_types)]
#[derive(Clone, Copy)]
#[repr(C)]
pub struct kls_mode_report {
    /// sizeof(kls_mode_report).
    pub struct_size: u32,
    /// Smallest eigenvalue.
    pub lambda_min: f32,
    /// Largest eigenvalue.
    pub lambda_max: f32,
    /// The exponential of the entropy of the eigenvalues over their sum: 1 to the dim's length.
    pub effective_rank: f32,
    /// How far the eigenbasis is from diagonalising the factor S: mean over i != j of S_ij^2 / (S_ii S_jj), what the group's staleness
    /// is compared with. 0 for a diagonal mode.
    pub staleness_mean: f32,
    /// The largest of these.
    pub staleness_max: f32,
    /// The largest element of |Q^T Q - I|; 0 for a diagonal mode.
    pub orthogonality_error: f32,
}

impl Versioned for kls_mode_report {
    const SIZES: &'static [usize] = &[size_of::<Self>()];
}

struct Objective<'a> {
    tensor: usize,
    slice: usize,
    grad: &'a [f32],
}

impl Task for Objective<'_> {
    type Output = f32;

    fn run<L: LinAlg<f32>>(self, view: &mut Optimizer<'_, f32>, scratch: &mut [f32], linalg: &mut L) -> Result<f32, StepError> {
        view.objective(self.tensor, self.slice, self.grad, scratch, linalg)
    }
}

struct Report {
    tensor: usize,
    slice: usize,
    mode: usize,
}

impl Task for Report {
    type Output = ModeReport<f32>;

    fn run<L: LinAlg<f32>>(self, view: &mut Optimizer<'_, f32>, scratch: &mut [f32], linalg: &mut L) -> Result<ModeReport<f32>, StepError> {
        view.mode_report(self.tensor, self.slice, self.mode, scratch, linalg)
    }
}

/// Writes KL(E[gg^T], S) up to a constant, (log det S + g^T S^-1 g) / 2, of one slice's part of `grad`: the tensor's gradient of `len`
/// elements, as a step takes it. S is the square of what the method divides by after the last step, without damping. Averaged over
/// gradients, the lower, the better S describes them.
///
/// Errors: KLS_ERROR_NO_SUCH_STATE for SGD, which has no S; KLS_ERROR_NOT_STARTED before there is one; KLS_ERROR_INDEX,
/// KLS_ERROR_BUFFER_LENGTH, KLS_ERROR_NULL, KLS_ERROR_MISALIGNED, KLS_ERROR_GRADIENT_NOT_FINITE, KLS_ERROR_GRADIENT_TOO_LARGE (also when
/// the value is no float), KLS_ERROR_LINALG and the handle's; `objective` is then untouched.
///
/// # Safety
/// `optimizer` is a handle that no other thread uses; `grad` has `len` readable elements; `objective` is writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kls_optimizer_objective(
    optimizer: *mut kls_optimizer,
    tensor: usize,
    slice_index: usize,
    grad: *const f32,
    len: usize,
    objective: *mut f32,
) -> kls_status {
    // SAFETY: the caller vouches for the handle, the buffer and the number.
    unsafe {
        with_handle(optimizer, "kls_optimizer_objective", |optimizer| {
            check_pointer(objective).of_field("objective")?;
            let grad = slice(grad, len).of_field("grad")?;
            put(objective, run(optimizer.parts()?, Objective { tensor, slice: slice_index, grad })?)
        })
    }
}

/// Reports on one dim of a slice. `struct_size` is sizeof(kls_mode_report).
///
/// Errors: KLS_ERROR_INDEX, KLS_ERROR_NO_SUCH_STATE for a dim that is not preconditioned, KLS_ERROR_NOT_STARTED before the first non-zero
/// gradient, KLS_ERROR_NULL, KLS_ERROR_MISALIGNED, KLS_ERROR_STRUCT_SIZE, KLS_ERROR_LINALG and the handle's; `report` is then untouched.
///
/// # Safety
/// `optimizer` is a handle that no other thread uses; `report` has `struct_size` writable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kls_optimizer_mode_report(
    optimizer: *mut kls_optimizer,
    tensor: usize,
    slice: usize,
    mode: usize,
    report: *mut kls_mode_report,
    struct_size: usize,
) -> kls_status {
    // SAFETY: the caller vouches for the handle and the struct.
    unsafe {
        with_handle(optimizer, "kls_optimizer_mode_report", |optimizer| {
            check_pointer(report).of_field("report")?;
            check_struct_size::<kls_mode_report>(struct_size).of_field("report")?;
            let found = run(optimizer.parts()?, Report { tensor, slice, mode }).of_mode(mode)?;
            write_struct(
                report,
                struct_size,
                kls_mode_report {
                    struct_size: size_of::<kls_mode_report>() as u32,
                    lambda_min: found.lambda_min,
                    lambda_max: found.lambda_max,
                    effective_rank: found.effective_rank,
                    staleness_mean: found.staleness_mean,
                    staleness_max: found.staleness_max,
                    orthogonality_error: found.orthogonality_error,
                },
            )
        })
    }
}
