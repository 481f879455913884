//! The caller's buffers in a step: checked, then reached job by job.

use core::ffi::c_void;
use core::ops::Range;

use klshampoo::linalg::LinAlg;
use klshampoo::{Format, Job, SliceBuffers, StepReport, Storage, Target, Tensor};

use crate::error::{Locate, Outcome};
use crate::met::Met;
use crate::raw::Raw;
use crate::status::*;

/// The caller's pointers of a range of tensors.
#[derive(Clone, Copy, Debug)]
pub struct Pointers<'a> {
    /// Empty where only updates are wanted and none of them needs the parameter.
    pub params: &'a [*mut c_void],
    /// NULL: the tensor is frozen.
    pub grads: &'a [*const c_void],
    /// Where updates go instead of being applied; empty: they are applied.
    pub updates: &'a [*mut c_void],
    /// The tensor that element 0 belongs to.
    pub first: usize,
    /// What gradients are multiplied by.
    pub grad_scale: f32,
}

// SAFETY: threads only reach disjoint parts through them: each job's own elements of a parameter or update, and gradients to read.
unsafe impl Sync for Pointers<'_> {}

/// A buffer of a tensor, by address.
struct Buffer(Range<usize>);

impl Buffer {
    /// Checks one pointer against NULL and its format's alignment.
    fn new(pointer: *const c_void, format: Format, tensor: &Tensor) -> Result<Self, kls_status> {
        let element = if format == Format::Native { size_of::<f32>() } else { size_of::<u16>() };
        let start = pointer.addr();
        match start {
            0 => Err(KLS_ERROR_NULL),
            _ if !start.is_multiple_of(element) => Err(KLS_ERROR_MISALIGNED),
            _ => Ok(Self(start..start.saturating_add(tensor.span() * element))),
        }
    }

    fn apart(&self, other: &Self) -> Outcome {
        if self.0.start < other.0.end && other.0.start < self.0.end { Err(KLS_ERROR_OVERLAP.into()) } else { Ok(()) }
    }
}

impl Pointers<'_> {
    /// Checks the pointers of one tensor: a NULL gradient freezes it, and nothing else of it is then looked at. Reads nothing through them.
    ///
    /// # Errors
    /// KLS_ERROR_NULL, KLS_ERROR_MISALIGNED, KLS_ERROR_OVERLAP, and what a direction alone refuses.
    pub fn check(&self, index: usize, tensor: &Tensor) -> Outcome {
        if !self.has_gradient(index) {
            return Ok(());
        }
        let Storage { param: param_format, grad: grad_format, .. } = *tensor.storage();
        let grad = Buffer::new(self.grads[index - self.first], grad_format, tensor).of_field("grads")?;
        let param = self.param(index);
        let param_buffer = || Buffer::new(param, param_format, tensor).of_field("params");
        match self.updates.get(index - self.first) {
            None => param_buffer()?.apart(&grad),
            Some(&update) => {
                tensor.check_direction(!param.is_null()).map_err(from_step)?;
                let update = Buffer::new(update, Format::Native, tensor).of_field("updates")?;
                update.apart(&grad)?;
                if param.is_null() { Ok(()) } else { param_buffer()?.apart(&update) }
            }
        }
    }

    /// Whether a tensor is stepped; it is frozen if not.
    pub fn has_gradient(&self, tensor: usize) -> bool {
        !self.grads[tensor - self.first].is_null()
    }

    fn param(&self, tensor: usize) -> *mut c_void {
        self.params.get(tensor - self.first).copied().unwrap_or(core::ptr::null_mut())
    }

    /// A slice's gradient.
    ///
    /// # Safety
    /// The pointers were checked and the caller of the step vouches for their memory.
    pub(crate) unsafe fn gradient(&self, index: usize, tensor: &Tensor, slice: Range<usize>) -> Option<Raw> {
        let pointer = self.grads[index - self.first].cast_mut().cast::<u8>();
        // SAFETY: aligned, `span` elements by the caller's word, of which these are a part.
        (!pointer.is_null()).then(|| unsafe { Raw::new(pointer, tensor.storage().grad, slice.start, slice.len()) })
    }

    /// Runs one job on its slice of the caller's memory, unless its tensor is frozen.
    ///
    /// # Safety
    /// As for [`Self::gradient`]; each job runs once.
    #[inline(always)]
    pub(crate) unsafe fn run<L: LinAlg<f32>>(&self, job: Job<'_, f32>, scratch: &mut [f32], linalg: &mut L, met: &mut Met) {
        let (index, range) = (job.tensor(), job.range());
        if !self.has_gradient(index) {
            return;
        }
        let Storage { param: param_format, grad: grad_format, .. } = *job.storage();
        // SAFETY: inside the tensor's span; the elements of a tensor's slices, and so of all jobs, are disjoint.
        let slice = |pointer: *mut c_void, format| unsafe { Raw::new(pointer.cast(), format, range.start, range.len()) };
        let grad = slice(self.grads[index - self.first].cast_mut(), grad_format);
        let (pointer, grad_scale) = (self.param(index), self.grad_scale);
        let mut report = StepReport::default();
        let result = match self.updates.get(index - self.first) {
            None => {
                let target = Target::Parameter(&mut slice(pointer, param_format));
                job.run(SliceBuffers { target, grad: &grad, grad_scale }, scratch, linalg, &mut report)
            }
            Some(&update) => {
                let param = (!pointer.is_null()).then(|| slice(pointer, param_format));
                let target = Target::Direction { out: &mut slice(update, Format::Native), param: param.as_ref() };
                job.run(SliceBuffers { target, grad: &grad, grad_scale }, scratch, linalg, &mut report)
            }
        };
        met.add(index, report, result);
    }
}
