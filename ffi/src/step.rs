//! The step: whole table or one tensor.

use core::ops::Range;

use klshampoo::StepError;

use crate::checked::{check_pointer, slice};
use crate::guard::with_handle;
use crate::handle::{Parts, kls_optimizer};
use crate::pointers::{Pointers, keep_first};
use crate::status::*;

/// Checks all pointers and gradients, then runs the jobs.
///
/// # Safety
/// The pointers belong to the tensors of `range`, and the caller vouches for their memory.
unsafe fn step(parts: Parts<'_>, range: Range<usize>, pointers: Pointers<'_>, lr: f32) -> Outcome {
    let Parts { mut view, scratch, mut portable, .. } = parts;
    let tensors = view.tensors();
    for (i, tensor) in tensors.iter().enumerate().take(range.end).skip(range.start) {
        pointers.check(i, tensor)?;
    }
    // SAFETY: the pointers have just been checked; the caller vouches for their memory.
    let gradient = |i: usize| unsafe { pointers.gradient(i, &tensors[i]) };
    view.check(range.clone(), gradient, lr).map_err(|error| from_step(error.kind))?;

    let mut first_error: Option<StepError> = None;
    #[cfg(feature = "host")]
    if let Some(host) = parts.host {
        // SAFETY: checked pointers.
        unsafe { host.run(&mut view, range, lr, pointers, &mut first_error) };
        return first_error.map_or(Ok(()), |error| Err(from_step(error.kind)));
    }
    let refreshes = view.refreshes(range.clone(), |tensor| pointers.has_gradient(tensor));
    for job in view.jobs(range, lr, refreshes) {
        // SAFETY: checked pointers, fresh jobs.
        if let Some(Err(error)) = unsafe { pointers.run(job, scratch, &mut portable) } {
            keep_first(&mut first_error, error);
        }
    }
    first_error.map_or(Ok(()), |error| Err(from_step(error.kind)))
}

/// One step of the whole table. `params[i]` and `grads[i]` are the row-major f32 elements of tensor i, which is frozen in this step
/// when `grads[i]` is NULL. `lr` is multiplied by each group's lr_scale.
///
/// All gradients are checked before anything is written. Then each slice is a transaction of its own: when one fails
/// (KLS_ERROR_ESTIMATE_NOT_FINITE, KLS_ERROR_UPDATE_NOT_FINITE, KLS_ERROR_LINALG), it is left as it was, the others are stepped, and the first failure is returned.
///
/// Errors: KLS_ERROR_NULL, KLS_ERROR_MISALIGNED, KLS_ERROR_OVERLAP, KLS_ERROR_TENSOR_COUNT, KLS_ERROR_LEARNING_RATE,
/// KLS_ERROR_GRADIENT_NOT_FINITE, KLS_ERROR_GRADIENT_TOO_LARGE (nothing is written), and the three above. With KLS_WEIGHT_DECAY_L2 the
/// parameter is part of the gradient; it is looked at when its slice's turn comes, not before.
///
/// # Safety
/// `optimizer` is a handle that no other thread uses; `params` and `grads` point to `tensor_count` pointers to as many elements as the
/// tensor spans; no parameter overlaps another or a gradient.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kls_optimizer_step(
    optimizer: *mut kls_optimizer,
    params: *const *mut f32,
    grads: *const *const f32,
    tensor_count: usize,
    lr: f32,
) -> kls_status {
    // SAFETY: the caller vouches for the handle and the arrays.
    unsafe {
        with_handle(optimizer, |optimizer| {
            let parts = optimizer.parts()?;
            let count = parts.view.tensors().len();
            if tensor_count != count {
                return Err(KLS_ERROR_TENSOR_COUNT);
            }
            let pointers = Pointers::new(slice(params, count)?, slice(grads, count)?, 0);
            step(parts, 0..count, pointers, lr)
        })
    }
}

/// One step of one tensor, as soon as its gradient is ready. A NULL gradient is KLS_ERROR_NULL here.
///
/// Errors: as for kls_optimizer_step, and KLS_ERROR_INDEX.
///
/// # Safety
/// As for kls_optimizer_step, with one tensor's parameter and gradient.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kls_optimizer_step_tensor(
    optimizer: *mut kls_optimizer,
    tensor: usize,
    param: *mut f32,
    grad: *const f32,
    lr: f32,
) -> kls_status {
    // SAFETY: the caller vouches for the handle and the buffers.
    unsafe {
        with_handle(optimizer, |optimizer| {
            let parts = optimizer.parts()?;
            if tensor >= parts.view.tensors().len() {
                return Err(KLS_ERROR_INDEX);
            }
            check_pointer(grad)?;
            step(parts, tensor..tensor + 1, Pointers::new(&[param], &[grad], tensor), lr)
        })
    }
}
