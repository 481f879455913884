//! The step: whole table or one tensor.

use core::ops::Range;

use crate::checked::{check_pointer, slice};
use crate::error::{Locate, Outcome};
use crate::guard::with_handle;
use crate::handle::{Parts, kls_optimizer};
use crate::pointers::Pointers;
use crate::status::*;

/// Checks all pointers and gradients, then runs the jobs.
///
/// # Safety
/// The pointers belong to the tensors of `range`, and the caller vouches for their memory.
unsafe fn step(parts: Parts<'_>, range: Range<usize>, pointers: Pointers<'_>, lr: f32) -> Outcome {
    let Parts { mut view, scratch, mut portable, met, .. } = parts;
    let tensors = view.tensors();
    for (i, tensor) in tensors.iter().enumerate().take(range.end).skip(range.start) {
        pointers.check(i, tensor).of_tensor(i)?;
    }
    // SAFETY: the pointers have just been checked; the caller vouches for their memory.
    let gradient = |i: usize| unsafe { pointers.gradient(i, &tensors[i]) };
    view.check(range.clone(), gradient, lr)?;

    #[cfg(feature = "host")]
    if let Some(host) = parts.host {
        // SAFETY: checked pointers.
        let ran = unsafe { host.run(&mut view, range, lr, pointers, met) };
        return met.outcome().and(ran);
    }
    let refreshes = view.refreshes(range.clone(), |tensor| pointers.has_gradient(tensor));
    for job in view.jobs(range, lr, refreshes) {
        // SAFETY: checked pointers, fresh jobs.
        unsafe { pointers.run(job, scratch, &mut portable, met) };
    }
    met.outcome()
}

/// One step of the whole table. `params[i]` and `grads[i]` are the row-major f32 elements of tensor i, which is frozen in this step
/// when `grads[i]` is NULL. `lr` is multiplied by each group's lr_scale.
///
/// All gradients are checked before anything is written. Then each slice is a transaction of its own: when one fails
/// (KLS_ERROR_ESTIMATE_NOT_FINITE, KLS_ERROR_UPDATE_NOT_FINITE, KLS_ERROR_LINALG), it is left as it was, the others are stepped, and the first failure is returned.
///
/// Errors: KLS_ERROR_NULL, KLS_ERROR_MISALIGNED, KLS_ERROR_OVERLAP, KLS_ERROR_TENSOR_COUNT, KLS_ERROR_LEARNING_RATE,
/// KLS_ERROR_GRADIENT_NOT_FINITE, KLS_ERROR_GRADIENT_TOO_LARGE (nothing is written), and the three above. With KLS_WEIGHT_DECAY_L2 the
/// parameter is part of the gradient; it is looked at when its slice's turn comes, not before. KLS_ERROR_PARALLEL_FOR, if no slice failed:
/// the caller's parallel_for left tasks out, repeated some or returned early; the step was made in full all the same, for what it left out was
/// done by the calling thread and what it repeated was not.
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
        with_handle(optimizer, "kls_optimizer_step", |optimizer| {
            let parts = optimizer.parts()?;
            let count = parts.view.tensors().len();
            if tensor_count != count {
                return Err(KLS_ERROR_TENSOR_COUNT.into());
            }
            let pointers = Pointers::new(slice(params, count).of_field("params")?, slice(grads, count).of_field("grads")?, 0);
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
        with_handle(optimizer, "kls_optimizer_step_tensor", |optimizer| {
            let parts = optimizer.parts()?;
            if tensor >= parts.view.tensors().len() {
                return Err(KLS_ERROR_INDEX).of_tensor(tensor);
            }
            check_pointer(grad).of_field("grad").of_tensor(tensor)?;
            step(parts, tensor..tensor + 1, Pointers::new(&[param], &[grad], tensor), lr)
        })
    }
}
