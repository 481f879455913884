//! What an optimizer takes of the device, before there is one.

use klshampoo_ffi::checked::check_pointer;
use klshampoo_ffi::error::Locate;
use klshampoo_ffi::guard::{Call, guard};
use klshampoo_ffi::host::table::Table;
use klshampoo_ffi::versioned::{Versioned, check_struct_size, write_struct};
use klshampoo_ffi::{kls_config, kls_status, kls_tensor, table};

use super::create::{plan, read_options};
use super::options::kls_cuda_options;

/// Bytes of device memory that an optimizer holds, all in one block, from its making to its end.
#[allow(non_camel_case_types)]
#[derive(Clone, Copy)]
#[repr(C)]
pub struct kls_cuda_memory {
    /// sizeof(kls_cuda_memory).
    pub struct_size: u32,
    /// What the block's address is a multiple of.
    pub alignment: u32,
    /// Factors, bases, eigenvalues, moments and master weights; each batch begins at a multiple of the alignment.
    pub state_bytes: u64,
    /// A 64-byte header per slice or piece of one, likewise.
    pub header_bytes: u64,
    /// What the kernels know of the tensors.
    pub table_bytes: u64,
    /// Gradients, products and updates on their way through a step, what refreshes with a stream of their own work in, and what cuBLAS does.
    pub workspace_bytes: u64,
    /// The block: all of these, and the gaps between them.
    pub total_bytes: u64,
}

impl Versioned for kls_cuda_memory {
    const SIZES: &'static [usize] = &[size_of::<Self>()];
}

/// Says how much device memory kls_cuda_create takes for these groups and tensors with these options, which may be NULL for the defaults. Needs neither
/// a device nor a driver. `struct_size` is sizeof(kls_cuda_memory).
///
/// Errors: those of kls_optimizer_query, KLS_ERROR_UNKNOWN_VALUE for an option's, KLS_ERROR_CUDA_UNSUPPORTED for what the GPU's optimizer does not do (kls_cuda_last_error says what), also
/// for tables with more than 2^24 slices and pieces of slices,
/// KLS_ERROR_OUT_OF_MEMORY of the host, KLS_ERROR_NULL, KLS_ERROR_MISALIGNED, KLS_ERROR_STRUCT_SIZE; `memory` is then untouched.
///
/// # Safety
/// `groups` and `tensors` point to `group_count` and `tensor_count` structs; `options` is NULL or readable; `memory` has `struct_size` writable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kls_cuda_query(
    groups: *const kls_config,
    group_count: usize,
    tensors: *const kls_tensor,
    tensor_count: usize,
    options: *const kls_cuda_options,
    memory: *mut kls_cuda_memory,
    struct_size: usize,
) -> kls_status {
    // SAFETY: the caller vouches for the tensors.
    let call = unsafe { Call::on_tensors("kls_cuda_query", tensors, tensor_count) };
    guard(call, || {
        check_pointer(memory).of_field("memory")?;
        check_struct_size::<kls_cuda_memory>(struct_size).of_field("memory")?;
        // SAFETY: the caller vouches for both arrays.
        let (groups, tensors) = unsafe { table(groups, group_count, tensors, tensor_count)? };
        // SAFETY: by the caller's word NULL or readable.
        let options = unsafe { read_options(options)? };
        let bytes = plan(&Table::new(groups, tensors)?, &options)?.bytes();
        let value = kls_cuda_memory {
            struct_size: size_of::<kls_cuda_memory>() as u32,
            alignment: crate::driver::ALIGNMENT as u32,
            state_bytes: bytes.state as u64,
            header_bytes: bytes.headers as u64,
            table_bytes: bytes.tables as u64,
            workspace_bytes: bytes.workspace as u64,
            total_bytes: bytes.total as u64,
        };
        // SAFETY: checked above; the caller vouches for the memory.
        unsafe { write_struct(memory, struct_size, value) }
    })
}
