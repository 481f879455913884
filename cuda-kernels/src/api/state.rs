//! Reading parts of the state, which come to the host slice by slice.

use std::ffi::c_void;

use klshampoo::StepError;
use klshampoo_ffi::checked::{put, slice_mut};
use klshampoo_ffi::error::{Failure, Locate};
use klshampoo_ffi::guard::with_handle;
use klshampoo_ffi::host::Faer;
use klshampoo_ffi::host::block::Block;
use klshampoo_ffi::status::*;
use klshampoo_ffi::{of_part, state_part};

use super::handle::kls_cuda;
use super::host_copy::HostCopy;
use super::transfer::download;
use crate::driver::Stream;

/// Writes how many elements a slice has of a part of the state (KLS_STATE_*), as kls_optimizer_state_len does.
///
/// Errors: KLS_ERROR_INDEX, KLS_ERROR_UNKNOWN_VALUE, KLS_ERROR_NO_SUCH_STATE, KLS_ERROR_NULL, KLS_ERROR_MISALIGNED, KLS_ERROR_OUT_OF_MEMORY and the
/// handle's; `len` is then untouched.
///
/// # Safety
/// `optimizer` is a handle that no other thread uses; `len` is writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kls_cuda_state_len(
    optimizer: *mut kls_cuda,
    tensor: usize,
    slice: usize,
    state_part: i32,
    mode: usize,
    len: *mut usize,
) -> kls_status {
    // SAFETY: the caller vouches for the handle and the output.
    unsafe {
        with_handle(optimizer, "kls_cuda_state_len", |optimizer| {
            let part = self::state_part(state_part, mode).of_field("state_part")?;
            let found = HostCopy::new(&optimizer.table)?.view()?.part_len(tensor, slice, part);
            put(len, of_part(found, state_part, mode)?).of_field("len")
        })
    }
}

/// Copies a part of a slice's state (KLS_STATE_*) into `out` in host memory, as kls_optimizer_read_state does. What was queued on `stream` before is in
/// it; the call waits for that stream.
///
/// Errors: KLS_ERROR_INDEX, KLS_ERROR_UNKNOWN_VALUE, KLS_ERROR_NO_SUCH_STATE, KLS_ERROR_BUFFER_LENGTH, KLS_ERROR_OUT_OF_MEMORY,
/// KLS_ERROR_CUDA_OUT_OF_MEMORY, KLS_ERROR_CUDA (also while `stream` is being captured) and the handle's: `out` is then untouched. After KLS_ERROR_LINALG it holds unspecified numbers.
///
/// # Safety
/// `optimizer` is a handle that no other thread uses; `out` has `len` writable elements; `stream` as for kls_cuda_save.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kls_cuda_read_state(
    optimizer: *mut kls_cuda,
    tensor: usize,
    slice: usize,
    state_part: i32,
    mode: usize,
    out: *mut f32,
    len: usize,
    stream: *mut c_void,
) -> kls_status {
    // SAFETY: the caller vouches for the handle, the buffer and the stream.
    unsafe {
        with_handle(optimizer, "kls_cuda_read_state", |optimizer| {
            let part = self::state_part(state_part, mode).of_field("state_part")?;
            let out = slice_mut(out, len).of_field("out")?;
            let mut copy = HostCopy::new(&optimizer.table)?;
            let wanted = of_part(copy.view()?.part_len(tensor, slice, part), state_part, mode)?;
            if wanted != out.len() {
                return of_part(Err::<(), _>(KLS_ERROR_BUFFER_LENGTH), state_part, mode).of_field("out").of_tensor(tensor);
            }
            let entry = &optimizer.table.tensors()[tensor];
            let of_slice = slice / entry.pieces();
            let (headers, state) = (entry.header_range(of_slice), entry.state_range(of_slice));
            optimizer.join(Stream::from_raw(stream))?;
            download(optimizer, Stream::from_raw(stream), &mut copy, headers, state)?;
            let scratch = Block::new(entry.scratch_len() * size_of::<f32>())?;
            // SAFETY: zeros of as many floats as the block was made for, used here alone.
            let scratch = std::slice::from_raw_parts_mut(scratch.as_ptr().cast::<f32>(), entry.scratch_len());
            let mut linalg = Faer::new(entry.largest_full_dim()).map_err(|_| Failure::from(KLS_ERROR_OUT_OF_MEMORY))?;
            let read: Result<(), StepError> = copy.view()?.read(tensor, slice, part, out, scratch, &mut linalg);
            of_part(read, state_part, mode)
        })
    }
}
