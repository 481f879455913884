//! What an optimizer's memory is spent on.

use crate::guard::with_handle;
use crate::handle::kls_optimizer;
use crate::status::*;
use crate::versioned::{Versioned, write_struct};

/// Bytes that an optimizer holds, before a step has been made and after any number of them. The backend's thread-local buffers for packing
/// are not in it (faer: 4 MiB per thread from the first large product on).
#[allow(non_camel_case_types)]
#[derive(Clone, Copy)]
#[repr(C)]
pub struct kls_memory {
    /// sizeof(kls_memory).
    pub struct_size: u32,
    /// How many threads (tasks of a caller's pool) have a scratch of their own.
    pub threads: u32,
    /// Factors, bases, eigenvalues, moments, master weights and a 64-byte header per slice: what kls_optimizer_state_bytes says.
    pub state_bytes: u64,
    /// Scratch of all threads, the backend's included.
    pub scratch_bytes: u64,
    /// Everything else: the object, groups, tensors and names.
    pub table_bytes: u64,
}

impl Versioned for kls_memory {
    const SIZES: &'static [usize] = &[size_of::<Self>()];
}

/// Reports an optimizer's memory. `struct_size` is sizeof(kls_memory).
///
/// Errors: KLS_ERROR_NULL, KLS_ERROR_MISALIGNED, KLS_ERROR_STRUCT_SIZE and the handle's; `memory` is then untouched.
///
/// # Safety
/// `optimizer` is a handle that no other thread uses; `memory` has `struct_size` writable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kls_optimizer_memory(optimizer: *mut kls_optimizer, memory: *mut kls_memory, struct_size: usize) -> kls_status {
    // SAFETY: the caller vouches for the handle and the struct.
    unsafe {
        with_handle(optimizer, "kls_optimizer_memory", |optimizer| {
            let state_bytes = optimizer.plan().totals.state_bytes::<f32>();
            let lent_scratch = optimizer.plan().scratch_bytes();
            let (threads, scratch_bytes, object) = optimizer.host_memory().unwrap_or((1, lent_scratch, 0));
            let value = kls_memory {
                struct_size: size_of::<kls_memory>() as u32,
                threads: threads as u32,
                state_bytes: state_bytes as u64,
                scratch_bytes: scratch_bytes as u64,
                table_bytes: (optimizer.plan().size + object - state_bytes - lent_scratch) as u64,
            };
            write_struct(memory, struct_size, value)
        })
    }
}
