//! The step: whole table or one tensor.

use core::ops::Range;

use klshampoo::{Job, StepError, StepReport, Tensor};

use crate::checked::{check_pointer, slice};
use crate::guard::with_handle;
use crate::handle::{Parts, kls_optimizer};
use crate::status::*;

/// The caller's parameter and gradient pointers of a range of tensors.
#[derive(Clone, Copy)]
pub(crate) struct Pointers<'a> {
    params: &'a [*mut f32],
    grads: &'a [*const f32],
    /// The tensor that element 0 belongs to.
    first: usize,
}

// SAFETY: threads only reach disjoint parts through them: each job's own slice of a parameter, and gradients to read.
unsafe impl Sync for Pointers<'_> {}

impl Pointers<'_> {
    fn grad(&self, tensor: usize) -> *const f32 {
        self.grads[tensor - self.first]
    }

    /// Checks the pointers of one tensor: a NULL gradient freezes it, and its parameter is then not looked at.
    fn check(&self, index: usize, tensor: &Tensor) -> Outcome {
        let (param, grad) = (self.params[index - self.first], self.grad(index));
        if grad.is_null() {
            return Ok(());
        }
        check_pointer(param)?;
        check_pointer(grad)?;
        let bytes = tensor.span() * size_of::<f32>();
        let (param, grad) = (param.addr(), grad.addr());
        if param < grad.saturating_add(bytes) && grad < param.saturating_add(bytes) {
            return Err(KLS_ERROR_OVERLAP);
        }
        Ok(())
    }

    /// A tensor's whole gradient.
    ///
    /// # Safety
    /// The pointers were checked and the caller of the step vouches for their memory.
    unsafe fn gradient(&self, index: usize, tensor: &Tensor) -> Option<&[f32]> {
        let grad = self.grad(index);
        // SAFETY: not NULL, aligned, `span` elements by the caller's word.
        (!grad.is_null()).then(|| unsafe { core::slice::from_raw_parts(grad, tensor.span()) })
    }

    /// Runs one job on its slice of the caller's memory; `None` for a frozen tensor.
    ///
    /// # Safety
    /// As for [`Self::gradient`]; each job runs once.
    pub(crate) unsafe fn run<L: klshampoo::linalg::LinAlg<f32>>(
        &self,
        job: Job<'_, f32>,
        scratch: &mut [f32],
        linalg: &mut L,
    ) -> Option<Result<(), StepError>> {
        let (index, range) = (job.tensor(), job.range());
        let grad = self.grad(index);
        if grad.is_null() {
            return None;
        }
        // SAFETY: inside the tensor's span; slices of a tensor, and so all jobs, are disjoint.
        let (param, grad) = unsafe {
            (
                core::slice::from_raw_parts_mut(self.params[index - self.first].add(range.start), range.len()),
                core::slice::from_raw_parts(grad.add(range.start), range.len()),
            )
        };
        Some(job.run(param, grad, scratch, linalg, &mut StepReport::default()))
    }
}

/// Keeps the error of the first slice in table order, whoever met it first.
pub(crate) fn keep_first(first: &mut Option<StepError>, error: StepError) {
    if first.is_none_or(|old| (error.tensor, error.slice) < (old.tensor, old.slice)) {
        *first = Some(error);
    }
}

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

    let mut jobs = view.jobs(range, lr);
    let mut first_error = None;
    #[cfg(feature = "host")]
    if let Some(host) = parts.host {
        // SAFETY: checked pointers, fresh jobs.
        unsafe { host.run(jobs, pointers, &mut first_error) };
        return first_error.map_or(Ok(()), |error: StepError| Err(from_step(error.kind)));
    }
    for job in &mut jobs {
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
/// (KLS_ERROR_UPDATE_NOT_FINITE, KLS_ERROR_LINALG), it is left as it was, the others are stepped, and the first failure is returned.
///
/// Errors: KLS_ERROR_NULL, KLS_ERROR_MISALIGNED, KLS_ERROR_OVERLAP, KLS_ERROR_TENSOR_COUNT, KLS_ERROR_LEARNING_RATE,
/// KLS_ERROR_GRADIENT_NOT_FINITE, KLS_ERROR_GRADIENT_TOO_LARGE (nothing is written), and the two above.
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
            let pointers = Pointers { params: slice(params, count)?, grads: slice(grads, count)?, first: 0 };
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
            step(parts, tensor..tensor + 1, Pointers { params: &[param], grads: &[grad], first: tensor }, lr)
        })
    }
}
