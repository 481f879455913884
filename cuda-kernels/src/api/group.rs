//! Groups that change.

use klshampoo_ffi::guard::with_handle;
use klshampoo_ffi::status::kls_status;

use super::handle::kls_cuda;

/// Sets a group's learning-rate scale and weight decay from the next step on, as kls_optimizer_set_group does. Nothing is queued. Graphs that were
/// captured before keep the numbers that they were captured with.
///
/// Errors: KLS_ERROR_GROUP, KLS_ERROR_LR_SCALE, KLS_ERROR_WEIGHT_DECAY and the handle's; the group is then unchanged.
///
/// # Safety
/// `optimizer` is a handle that no other thread uses.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kls_cuda_set_group(optimizer: *mut kls_cuda, group: usize, lr_scale: f32, weight_decay: f32) -> kls_status {
    // SAFETY: the caller vouches for the handle.
    unsafe {
        with_handle(optimizer, "kls_cuda_set_group", |optimizer| {
            optimizer.table.set_rates(group, lr_scale, weight_decay)?;
            optimizer.optimizer.set_rates(group, lr_scale, weight_decay);
            Ok(())
        })
    }
}
