//! The step: whole table, one tensor, or a request with everything.

use core::ffi::c_void;
use core::ops::Range;

use klshampoo::{Format, Tensor};

use crate::checked::{check_pointer, slice};
use crate::error::{Failure, Locate, Outcome};
use crate::guard::{guard, with_handle};
use crate::handle::{Parts, kls_optimizer};
use crate::pointers::Pointers;
use crate::status::*;
use crate::versioned::{FromC, Versioned, extend, read_struct, write_struct};

/// Checks all pointers and gradients, then runs the jobs.
///
/// # Safety
/// The pointers belong to the tensors of `range`, and the caller vouches for their memory.
#[inline(always)]
unsafe fn step(parts: Parts<'_>, range: Range<usize>, pointers: Pointers<'_>, lr: f32) -> Outcome {
    let Parts { mut view, scratch, mut portable, met, .. } = parts;
    let tensors = view.tensors();
    for (i, tensor) in tensors.iter().enumerate().take(range.end).skip(range.start) {
        pointers.check(i, tensor).of_tensor(i)?;
    }
    // SAFETY: the pointers have just been checked; the caller vouches for their memory.
    let gradient = |i: usize, slice| unsafe { pointers.gradient(i, &tensors[i], slice) };
    view.check(range.clone(), gradient, lr, pointers.grad_scale)?;

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

/// The pointers of tensors that are all f32, for the calls whose pointers are typed.
fn plain<'a>(params: &'a [*mut f32], grads: &'a [*const f32], first: usize) -> Pointers<'a> {
    // SAFETY: pointers of one size and alignment, whatever they point to; the lengths are the slices' own.
    let (params, grads) = unsafe {
        (
            core::slice::from_raw_parts(params.as_ptr().cast::<*mut c_void>(), params.len()),
            core::slice::from_raw_parts(grads.as_ptr().cast::<*const c_void>(), grads.len()),
        )
    };
    Pointers { params, grads, updates: &[], first, grad_scale: 1.0 }
}

/// Whether typed pointers are right for the tensors that are stepped.
fn check_f32(tensors: &[Tensor], pointers: &Pointers<'_>) -> Outcome {
    let other = |tensor: &Tensor| tensor.storage().grad != Format::Native || tensor.storage().param != Format::Native;
    let stepped = |i: usize| pointers.has_gradient(pointers.first + i);
    match (0..pointers.grads.len()).find(|&i| stepped(i) && other(&tensors[pointers.first + i])) {
        Some(i) => Err(KLS_ERROR_NOT_F32).of_tensor(pointers.first + i),
        None => Ok(()),
    }
}

/// One step of the whole table. `params[i]` and `grads[i]` are the f32 elements of tensor i, which is frozen in this step
/// when `grads[i]` is NULL. `lr` is multiplied by each group's lr_scale.
///
/// All gradients are checked before anything is written. Then each slice is a transaction of its own: when one fails
/// (KLS_ERROR_ESTIMATE_NOT_FINITE, KLS_ERROR_UPDATE_NOT_FINITE, KLS_ERROR_LINALG), it is left as it was, the others are stepped, and the first failure is returned.
///
/// A slice's steps are counted when they are made: what was frozen, refused or skipped leaves its counter, refresh schedule and bias
/// correction where they were.
///
/// Errors: KLS_ERROR_NULL, KLS_ERROR_MISALIGNED, KLS_ERROR_OVERLAP, KLS_ERROR_TENSOR_COUNT, KLS_ERROR_NOT_F32, KLS_ERROR_LEARNING_RATE,
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
            let pointers = plain(slice(params, count).of_field("params")?, slice(grads, count).of_field("grads")?, 0);
            check_f32(parts.view.tensors(), &pointers)?;
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
            let (params, grads) = ([param], [grad]);
            let pointers = plain(&params, &grads, tensor);
            check_f32(parts.view.tensors(), &pointers)?;
            step(parts, tensor..tensor + 1, pointers, lr)
        })
    }
}

/// A step with everything that one can ask for. Fill it with kls_step_init, then change what you want.
#[allow(non_camel_case_types)]
#[derive(Clone, Copy)]
#[repr(C)]
pub struct kls_step {
    /// sizeof(kls_step), set by kls_step_init.
    pub struct_size: u32,
    /// The learning rate, multiplied by each group's lr_scale. There is no default: a step without one is KLS_ERROR_LEARNING_RATE. Not
    /// looked at where updates are only written.
    pub lr: f32,
    /// Multiplies every gradient when it is read, as a clip or a loss scale wants it; finite and positive. Default 1.
    pub grad_scale: f32,
    /// Must be 0.
    pub reserved: u32,
    /// The first tensor that is stepped. Default 0.
    pub first_tensor: usize,
    /// How many are, from that one on; the arrays have as many pointers. Default 0: must be set.
    pub tensor_count: usize,
    /// The tensors' parameters, in their formats. Where updates are only written, a pointer may be NULL unless the group's weight decay is
    /// KLS_WEIGHT_DECAY_L2, and so may this array.
    pub params: *const *mut c_void,
    /// The tensors' gradients, in their formats; a tensor whose pointer is NULL is frozen in this step.
    pub grads: *const *const c_void,
    /// NULL (the default): updates are applied. Else nothing is: the step goes on as ever, and each tensor's update U is written here, f32, for a
    /// caller that applies theta <- theta - lr U with the weight decay that it wants. U has no learning rate in it, and of weight decay only
    /// KLS_WEIGHT_DECAY_L2. It is zero where a slice is skipped (KLS_BAD_GRADIENT_SKIP); what belongs to a frozen tensor or to a slice that
    /// failed is not written. Not for tensors with master weights.
    pub updates: *const *mut f32,
}

impl kls_step {
    const DEFAULT: Self = Self {
        struct_size: size_of::<Self>() as u32,
        lr: f32::NAN,
        grad_scale: 1.0,
        reserved: 0,
        first_tensor: 0,
        tensor_count: 0,
        params: core::ptr::null(),
        grads: core::ptr::null(),
        updates: core::ptr::null(),
    };
}

impl Versioned for kls_step {
    const SIZES: &'static [usize] = &[size_of::<Self>()];
}

impl FromC for kls_step {
    unsafe fn read(from: *const u8, size: usize) -> Result<Self, kls_status> {
        // SAFETY: each version is the start of the next, by the caller's word readable.
        Ok(unsafe { extend(Self::DEFAULT, from, size) })
    }
}

/// Fills `step` with the defaults. `struct_size` is sizeof(kls_step).
///
/// Errors: KLS_ERROR_NULL, KLS_ERROR_MISALIGNED, KLS_ERROR_STRUCT_SIZE; `step` is then untouched.
///
/// # Safety
/// `step` points to `struct_size` writable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kls_step_init(step: *mut kls_step, struct_size: usize) -> kls_status {
    // SAFETY: the caller vouches for the memory; the function checks the pointer and the size.
    guard("kls_step_init", || unsafe { write_struct(step, struct_size, kls_step::DEFAULT) })
}

/// One step of a range of tensors, with gradients and parameters in their formats, scaled gradients, or updates that are only written.
///
/// Errors: as for kls_optimizer_step without KLS_ERROR_NOT_F32, KLS_ERROR_STRUCT_SIZE, KLS_ERROR_RESERVED, KLS_ERROR_INDEX for a range beyond the
/// table, KLS_ERROR_TENSOR_COUNT for none, KLS_ERROR_GRAD_SCALE, KLS_ERROR_MASTER_WEIGHTS.
///
/// # Safety
/// `optimizer` is a handle that no other thread uses; `request` is readable, and its arrays have `tensor_count` pointers to as many
/// elements as the tensor spans; no parameter or update overlaps another or a gradient.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kls_optimizer_step_with(optimizer: *mut kls_optimizer, request: *const kls_step) -> kls_status {
    // SAFETY: the caller vouches for the handle, the request and the arrays.
    unsafe {
        with_handle(optimizer, "kls_optimizer_step_with", |optimizer| {
            let request = read_struct(request).of_field("request")?;
            if request.reserved != 0 {
                return Err(KLS_ERROR_RESERVED).of_field("reserved");
            }
            let parts = optimizer.parts()?;
            let (first, count) = (request.first_tensor, request.tensor_count);
            if count == 0 && !parts.view.tensors().is_empty() {
                return Err(Failure::because(KLS_ERROR_TENSOR_COUNT, "It is 0, as kls_step_init leaves it: set it."))
                    .of_field("tensor_count");
            }
            let end = first.checked_add(count).filter(|&end| end <= parts.view.tensors().len()).ok_or(KLS_ERROR_INDEX)?;
            let only_updates = !request.updates.is_null();
            let pointers = Pointers {
                params: if only_updates && request.params.is_null() { &[] } else { slice(request.params, count).of_field("params")? },
                grads: slice(request.grads, count).of_field("grads")?,
                updates: if only_updates { slice(request.updates.cast::<*mut c_void>(), count).of_field("updates")? } else { &[] },
                first,
                grad_scale: request.grad_scale,
            };
            step(parts, first..end, pointers, if only_updates { 1.0 } else { request.lr })
        })
    }
}
