//! Tensors that come later.

use super::block::Block;
use crate::error::{Failure, Locate};
use crate::guard::{Call, with_handle};
use crate::handle::kls_optimizer;
use crate::status::*;
use crate::tensor::kls_tensor;
use crate::versioned::Structs;

/// Adds tensors to the end of the table of an optimizer that kls_optimizer_create made: the next one gets the index that was the number of
/// tensors, and later steps take that many more parameters and gradients. They belong to the groups that the optimizer has, and start as
/// in a new optimizer. The handle stays valid, and the state of the others stays as it is, bit for bit; where refreshes are staggered, the
/// steps in which they are due may change. For the time of the call both the old and the new memory are needed. After it, steps allocate
/// nothing from one warm-up call per thread on.
///
/// Errors: those of kls_optimizer_query for the tensors (messages count them from 0), KLS_ERROR_OUT_OF_MEMORY, KLS_ERROR_UNSUPPORTED in lent
/// memory, which cannot grow, and the handle's; nothing is added then.
///
/// # Safety
/// `optimizer` is a handle that no other thread uses; `tensors` points to `tensor_count` structs.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kls_optimizer_add_tensors(
    optimizer: *mut kls_optimizer,
    tensors: *const kls_tensor,
    tensor_count: usize,
) -> kls_status {
    // SAFETY: the caller vouches for the handle and the tensors.
    unsafe {
        with_handle(optimizer, Call::on_tensors("kls_optimizer_add_tensors", tensors, tensor_count), |optimizer| {
            let tensors = Structs::new(tensors, tensor_count).of_field("tensors")?;
            if optimizer.host.is_none() {
                let because = "An optimizer in lent memory cannot grow: make a new one, or use kls_optimizer_create.";
                return Err(Failure::because(KLS_ERROR_UNSUPPORTED, because));
            }
            let plan = optimizer.plan_with(tensors)?;
            let block = Block::new(plan.size)?;
            let memory = block.as_ptr();
            let table = optimizer.copy_to(memory, &plan, tensors)?;
            if let Some(host) = &mut optimizer.host {
                host.move_to(block, table)?;
                // The old block is gone.
                optimizer.move_to(memory, plan);
            }
            Ok(())
        })
    }
}
