//! The caller's buffers in a step: checked, then reached job by job.

use klshampoo::linalg::LinAlg;
use klshampoo::{Job, StepReport, Tensor};

use crate::checked::check_pointer;
use crate::error::{Locate, Outcome};
use crate::met::Met;
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

impl<'a> Pointers<'a> {
    /// Pointers of the tensors from `first` on.
    pub(crate) fn new(params: &'a [*mut f32], grads: &'a [*const f32], first: usize) -> Self {
        Self { params, grads, first }
    }

    fn grad(&self, tensor: usize) -> *const f32 {
        self.grads[tensor - self.first]
    }

    /// Checks the pointers of one tensor: a NULL gradient freezes it, and its parameter is then not looked at.
    pub(crate) fn check(&self, index: usize, tensor: &Tensor) -> Outcome {
        let (param, grad) = (self.params[index - self.first], self.grad(index));
        if grad.is_null() {
            return Ok(());
        }
        check_pointer(param).of_field("params")?;
        check_pointer(grad).of_field("grads")?;
        let bytes = tensor.span() * size_of::<f32>();
        let (param, grad) = (param.addr(), grad.addr());
        if param < grad.saturating_add(bytes) && grad < param.saturating_add(bytes) {
            return Err(KLS_ERROR_OVERLAP.into());
        }
        Ok(())
    }

    /// Whether a tensor is stepped; it is frozen if not.
    pub(crate) fn has_gradient(&self, tensor: usize) -> bool {
        !self.grad(tensor).is_null()
    }

    /// A tensor's whole gradient.
    ///
    /// # Safety
    /// The pointers were checked and the caller of the step vouches for their memory.
    pub(crate) unsafe fn gradient(&self, index: usize, tensor: &Tensor) -> Option<&[f32]> {
        let grad = self.grad(index);
        // SAFETY: not NULL, aligned, `span` elements by the caller's word.
        (!grad.is_null()).then(|| unsafe { core::slice::from_raw_parts(grad, tensor.span()) })
    }

    /// Runs one job on its slice of the caller's memory, unless its tensor is frozen.
    ///
    /// # Safety
    /// As for [`Self::gradient`]; each job runs once.
    pub(crate) unsafe fn run<L: LinAlg<f32>>(&self, job: Job<'_, f32>, scratch: &mut [f32], linalg: &mut L, met: &mut Met) {
        let (index, range) = (job.tensor(), job.range());
        let grad = self.grad(index);
        if grad.is_null() {
            return;
        }
        // SAFETY: inside the tensor's span; slices of a tensor, and so all jobs, are disjoint.
        let (param, grad) = unsafe {
            (
                core::slice::from_raw_parts_mut(self.params[index - self.first].add(range.start), range.len()),
                core::slice::from_raw_parts(grad.add(range.start), range.len()),
            )
        };
        let mut report = StepReport::default();
        let result = job.run(param, grad, scratch, linalg, &mut report);
        met.add(index, report, result);
    }
}
