//! Making and ending an optimizer: in lent memory, or (feature `host`) on the heap.

use crate::checked::{check_pointer, put};
use crate::config::kls_config;
use crate::error::{Failure, Locate, Outcome};
use crate::guard::{Call, guard, with_handle};
use crate::handle::{ALIGNMENT, Plan, kls_optimizer};
use crate::status::*;
use crate::tensor::kls_tensor;
use crate::versioned::Structs;

/// The groups and tensors of a call.
///
/// # Errors
/// KLS_ERROR_NULL, KLS_ERROR_MISALIGNED, KLS_ERROR_STRUCT_SIZE, KLS_ERROR_OVERFLOW.
///
/// # Safety
/// They point to as many structs, which nobody writes during `'a`.
pub unsafe fn table<'a>(
    groups: *const kls_config,
    group_count: usize,
    tensors: *const kls_tensor,
    tensor_count: usize,
) -> Result<(Structs<'a, kls_config>, Structs<'a, kls_tensor>), Failure> {
    // SAFETY: by the caller's word.
    unsafe { Ok((Structs::new(groups, group_count).of_field("groups")?, Structs::new(tensors, tensor_count).of_field("tensors")?)) }
}

/// Bytes and alignment of the memory that kls_optimizer_init needs for these groups and tensors (scratch included).
///
/// Errors: those of the groups and tensors (KLS_ERROR_NOT_BUILT, KLS_ERROR_BETA ... KLS_ERROR_REFRESH_PORTION, KLS_ERROR_UNKNOWN_VALUE, KLS_ERROR_RESERVED), KLS_ERROR_NULL, KLS_ERROR_MISALIGNED,
/// KLS_ERROR_STRUCT_SIZE; `size` and `alignment` are then untouched.
///
/// # Safety
/// `groups` and `tensors` point to `group_count` and `tensor_count` structs; `size` and `alignment` are writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kls_optimizer_query(
    groups: *const kls_config,
    group_count: usize,
    tensors: *const kls_tensor,
    tensor_count: usize,
    size: *mut usize,
    alignment: *mut usize,
) -> kls_status {
    // SAFETY: the caller vouches for the tensors.
    let call = unsafe { Call::on_tensors("kls_optimizer_query", tensors, tensor_count) };
    guard(call, || {
        check_pointer(size).of_field("size")?;
        check_pointer(alignment).of_field("alignment")?;
        // SAFETY: the caller vouches for both arrays.
        let (groups, tensors) = unsafe { table(groups, group_count, tensors, tensor_count)? };
        let plan = Plan::new(groups, tensors, true)?;
        // SAFETY: the caller vouches for both outputs.
        unsafe {
            put(size, plan.size)?;
            put(alignment, ALIGNMENT)
        }
    })
}

/// Makes an optimizer in the caller's memory. It never allocates, uses one thread and the portable backend, and needs no destroy: the
/// memory may be reused at any time, which ends the optimizer.
///
/// `memory_size` is at least what kls_optimizer_query gives. On success `*optimizer` points into `memory`; groups and tensors are
/// copied. On an error `*optimizer` and `memory` are untouched.
///
/// Errors: those of kls_optimizer_query, KLS_ERROR_MEMORY_TOO_SHORT, KLS_ERROR_MISALIGNED.
///
/// # Safety
/// `memory` has `memory_size` writable bytes that nothing else uses while the optimizer lives; the rest as for kls_optimizer_query.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kls_optimizer_init(
    optimizer: *mut *mut kls_optimizer,
    memory: *mut core::ffi::c_void,
    memory_size: usize,
    groups: *const kls_config,
    group_count: usize,
    tensors: *const kls_tensor,
    tensor_count: usize,
) -> kls_status {
    // SAFETY: the caller vouches for the tensors.
    let call = unsafe { Call::on_tensors("kls_optimizer_init", tensors, tensor_count) };
    guard(call, || {
        check_pointer(optimizer).of_field("optimizer")?;
        // SAFETY: the caller vouches for both arrays.
        let (groups, tensors) = unsafe { table(groups, group_count, tensors, tensor_count)? };
        let plan = Plan::new(groups, tensors, true)?;
        check_pointer(memory.cast::<kls_optimizer>()).of_field("memory")?;
        if memory_size < plan.size {
            return Err(KLS_ERROR_MEMORY_TOO_SHORT).of_field("memory_size");
        }
        let made = memory.cast();
        // SAFETY: aligned (the object's type has the block's alignment), long enough, and by the caller's word ours.
        unsafe {
            memory.cast::<u8>().write_bytes(0, plan.size);
            kls_optimizer::build(made, memory.cast(), plan, groups, tensors)?;
        }
        // SAFETY: checked above.
        unsafe { put(optimizer, made) }
    })
}

/// Ends an optimizer and sets the caller's handle to NULL. One made by kls_optimizer_create gives its memory back; lent memory is
/// only marked. A NULL handle is KLS_OK.
///
/// Errors: KLS_ERROR_NULL when `optimizer` itself is NULL; KLS_ERROR_HANDLE when the lent memory holds no live optimizer. A copy of a
/// handle to the heap must not be used again: nothing can detect that.
///
/// # Safety
/// `*optimizer` is NULL or a handle that no other thread uses.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kls_optimizer_destroy(optimizer: *mut *mut kls_optimizer) -> kls_status {
    guard("kls_optimizer_destroy", || {
        check_pointer(optimizer).of_field("optimizer")?;
        // SAFETY: readable by the caller's word.
        let handle = unsafe { *optimizer };
        if handle.is_null() {
            return Ok(());
        }
        // SAFETY: by the caller's word a handle.
        let object = unsafe { kls_optimizer::from_handle(handle) }.of_field("optimizer")?;
        object.retire();
        #[cfg(feature = "host")]
        if object.host.is_some() {
            // SAFETY: made by `create`, live until the line above, and not used any more.
            unsafe { crate::host::create::release(handle) };
        }
        // SAFETY: writable by the caller's word.
        unsafe { put(optimizer, core::ptr::null_mut()) }
    })
}

/// Bytes of optimizer state: factors, bases, eigenvalues, moments and one header per slice. Scratch and table are not counted.
///
/// Errors: KLS_ERROR_NULL, KLS_ERROR_HANDLE, KLS_ERROR_POISONED.
///
/// # Safety
/// `optimizer` is a handle that no other thread uses; `bytes` is writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kls_optimizer_state_bytes(optimizer: *const kls_optimizer, bytes: *mut usize) -> kls_status {
    // SAFETY: the caller vouches for the handle; nothing but a message is written through it.
    unsafe {
        with_handle(optimizer.cast_mut(), "kls_optimizer_state_bytes", |optimizer| {
            let total = optimizer.plan().totals.state_bytes::<f32>();
            put(bytes, total).of_field("bytes")
        })
    }
}

/// Gives a group other rates.
///
/// # Errors
/// KLS_ERROR_GROUP, KLS_ERROR_LR_SCALE, KLS_ERROR_WEIGHT_DECAY; the group is then unchanged.
pub(crate) fn set_rates(groups: &mut [klshampoo::Config<f32>], group: usize, lr_scale: f32, weight_decay: f32) -> Outcome {
    let config = groups.get_mut(group).ok_or(KLS_ERROR_GROUP).of_group(group)?;
    let changed = klshampoo::Config { lr_scale, weight_decay, ..*config };
    changed.validate().map_err(from_config).of_group(group)?;
    *config = changed;
    Ok(())
}

/// Sets a group's learning-rate scale and weight decay from the next step on.
///
/// Errors: KLS_ERROR_GROUP, KLS_ERROR_LR_SCALE, KLS_ERROR_WEIGHT_DECAY and the handle's; the group is then unchanged.
///
/// # Safety
/// `optimizer` is a handle that no other thread uses.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kls_optimizer_set_group(
    optimizer: *mut kls_optimizer,
    group: usize,
    lr_scale: f32,
    weight_decay: f32,
) -> kls_status {
    // SAFETY: the caller vouches for the handle.
    unsafe {
        with_handle(optimizer, "kls_optimizer_set_group", |optimizer| set_rates(optimizer.groups_mut(), group, lr_scale, weight_decay))
    }
}

/// Bounds the floating-point operations that one call of a step spends on refreshes, as kls_plan counts them (refresh_step_flops), from the
/// next step on: what would go beyond waits for the next step, the longest overdue first. One refresh a step is made in any case. 0: no
/// bound, the default. A slice's first step, which sets its basis, is not bounded. Together with staggered refreshes it bounds the longest step; a budget below the mean demand lengthens the periods.
/// The budget is not part of the state.
///
/// Errors: KLS_ERROR_NOT_BUILT, the handle's.
///
/// # Safety
/// `optimizer` is a handle that no other thread uses.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kls_optimizer_set_refresh_budget(optimizer: *mut kls_optimizer, flops: u64) -> kls_status {
    // SAFETY: the caller vouches for the handle.
    unsafe {
        with_handle(optimizer, "kls_optimizer_set_refresh_budget", |optimizer| {
            if cfg!(not(feature = "refresh-budget")) && flops != 0 {
                return Err(KLS_ERROR_NOT_BUILT.into());
            }
            optimizer.refresh_budget = if flops == 0 { u64::MAX } else { flops };
            Ok(())
        })
    }
}
