//! What the slices count, copied to the host, without waiting where its memory is page-locked.

use std::ffi::c_void;
use std::mem::offset_of;

use klshampoo::SliceHeader;
use klshampoo_ffi::checked::{check_pointer, put, slice};
use klshampoo_ffi::error::{Failure, Locate};
use klshampoo_ffi::guard::with_handle;
use klshampoo_ffi::kls_counters;
use klshampoo_ffi::status::*;
use klshampoo_ffi::versioned::{check_struct_size, write_struct};

use super::failure::from_device;
use super::handle::kls_cuda;
use crate::driver::Stream;
use crate::io::Norm;

/// Bytes that kls_cuda_copy_headers writes: kls_cuda_memory.header_bytes.
///
/// Errors: KLS_ERROR_NULL, KLS_ERROR_MISALIGNED and the handle's; `bytes` is then untouched.
///
/// # Safety
/// `optimizer` is a handle that no other thread uses; `bytes` is writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kls_cuda_headers_size(optimizer: *mut kls_cuda, bytes: *mut usize) -> kls_status {
    // SAFETY: the caller vouches for the handle and the output.
    unsafe { with_handle(optimizer, "kls_cuda_headers_size", |optimizer| put(bytes, optimizer.headers.range.len()).of_field("bytes")) }
}

/// Queues a copy of what the slices count on `stream`, as it is after what has been queued there before, into `headers` in host memory. With page-locked
/// memory (cudaMallocHost) the call returns at once, and the bytes are there when the stream has come so far (cudaEventQuery,
/// cudaStreamSynchronize), and the copy can be captured (not while refreshes are under way on kls_cuda_options.refresh_stream: see kls_cuda_join); with
/// other memory it returns when they are there. kls_cuda_counters and kls_cuda_skipped read them.
///
/// Errors: KLS_ERROR_MEMORY_TOO_SHORT, KLS_ERROR_NULL and the handle's: nothing is then queued; KLS_ERROR_CUDA, KLS_ERROR_CUDA_OUT_OF_MEMORY.
///
/// # Safety
/// `optimizer` is a handle that no other thread uses; `headers` has `len` writable bytes until the copy is made; `stream` is a stream of the
/// optimizer's device.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kls_cuda_copy_headers(
    optimizer: *mut kls_cuda,
    headers: *mut c_void,
    len: usize,
    stream: *mut c_void,
) -> kls_status {
    // SAFETY: the caller vouches for the handle, the memory and the stream.
    unsafe {
        with_handle(optimizer, "kls_cuda_copy_headers", |optimizer| {
            check_pointer(headers.cast::<u8>()).of_field("headers")?;
            if len < optimizer.headers.range.len() {
                return Err(KLS_ERROR_MEMORY_TOO_SHORT).of_field("len");
            }
            optimizer.join(Stream::from_raw(stream))?;
            let range = &optimizer.headers.range;
            optimizer.memory.begin_read(Stream::from_raw(stream), range.start, headers.cast(), range.len()).map_err(from_device)
        })
    }
}

/// Queues a copy of the norm of all gradients, multiplied by grad_scale, of the last step with a `max_norm` on `stream`, as it is after what has been
/// queued there before, into `norm` in host memory. It returns and is captured as kls_cuda_copy_headers.
///
/// Errors: KLS_ERROR_NO_SUCH_STATE as long as no step had a bound, KLS_ERROR_NULL, KLS_ERROR_MISALIGNED and the handle's: nothing is then queued;
/// KLS_ERROR_CUDA, KLS_ERROR_CUDA_OUT_OF_MEMORY.
///
/// # Safety
/// `optimizer` is a handle that no other thread uses; `norm` is writable until the copy is made; `stream` is a stream of the optimizer's device.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kls_cuda_copy_norm(optimizer: *mut kls_cuda, norm: *mut f32, stream: *mut c_void) -> kls_status {
    // SAFETY: the caller vouches for the handle, the number and the stream.
    unsafe {
        with_handle(optimizer, "kls_cuda_copy_norm", |optimizer| {
            check_pointer(norm).of_field("norm")?;
            if !optimizer.has_norm {
                return Err(Failure::because(KLS_ERROR_NO_SUCH_STATE, "No step has had a bound on the norm."));
            }
            let block = optimizer.optimizer.norm().0 - optimizer.memory.at().0;
            let offset = block as usize + offset_of!(Norm, norm);
            optimizer.memory.begin_read(Stream::from_raw(stream), offset, norm.cast(), size_of::<f32>()).map_err(from_device)
        })
    }
}

/// Headers that were copied.
///
/// # Safety
/// `headers` points to `len` readable bytes that stay during `'a`.
unsafe fn copied<'a>(optimizer: &kls_cuda, headers: *const c_void, len: usize) -> Result<&'a [u8], Failure> {
    // SAFETY: by the caller's word; the function checks the pointer.
    let headers = unsafe { slice(headers.cast::<u8>(), len) }.of_field("headers")?;
    if len < optimizer.headers.range.len() { Err(KLS_ERROR_MEMORY_TOO_SHORT).of_field("len") } else { Ok(headers) }
}

/// The copied header of a slice.
fn find(optimizer: &kls_cuda, headers: &[u8], tensor: usize, slice: usize) -> Result<SliceHeader, Failure> {
    let entry = optimizer.table.tensors().get(tensor).ok_or(KLS_ERROR_INDEX).of_tensor(tensor)?;
    let (of_slice, piece) = (slice / entry.pieces(), slice % entry.pieces());
    if of_slice >= entry.slices() {
        return Err(KLS_ERROR_INDEX).of_tensor(tensor);
    }
    Ok(optimizer.headers.get(headers, entry.header_range(of_slice).start + piece))
}

/// Reads a slice's counters from what kls_cuda_copy_headers has copied; what has been counted there by an optimizer of the same groups and tensors
/// is read just as well. `struct_size` is sizeof(kls_counters).
///
/// Errors: KLS_ERROR_INDEX, KLS_ERROR_MEMORY_TOO_SHORT, KLS_ERROR_NULL, KLS_ERROR_MISALIGNED, KLS_ERROR_STRUCT_SIZE and the handle's; `counters`
/// is then untouched.
///
/// # Safety
/// `optimizer` is a handle that no other thread uses; `headers` has `len` readable bytes; `counters` has `struct_size` writable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kls_cuda_counters(
    optimizer: *mut kls_cuda,
    headers: *const c_void,
    len: usize,
    tensor: usize,
    slice_index: usize,
    counters: *mut kls_counters,
    struct_size: usize,
) -> kls_status {
    // SAFETY: the caller vouches for the handle, the headers and the struct.
    unsafe {
        with_handle(optimizer, "kls_cuda_counters", |optimizer| {
            check_pointer(counters).of_field("counters")?;
            check_struct_size::<kls_counters>(struct_size).of_field("counters")?;
            let headers = copied(optimizer, headers, len)?;
            let found = find(optimizer, headers, tensor, slice_index)?;
            write_struct(counters, struct_size, kls_counters::of(&found))
        })
    }
}

/// Adds up kls_counters.skipped over all slices, from what kls_cuda_copy_headers has copied: how often one was left alone since the optimizer was
/// made.
///
/// Errors: KLS_ERROR_MEMORY_TOO_SHORT, KLS_ERROR_NULL, KLS_ERROR_MISALIGNED and the handle's; `skipped` is then untouched.
///
/// # Safety
/// `optimizer` is a handle that no other thread uses; `headers` has `len` readable bytes; `skipped` is writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kls_cuda_skipped(optimizer: *mut kls_cuda, headers: *const c_void, len: usize, skipped: *mut u64) -> kls_status {
    // SAFETY: the caller vouches for the handle, the headers and the number.
    unsafe {
        with_handle(optimizer, "kls_cuda_skipped", |optimizer| {
            let headers = copied(optimizer, headers, len)?;
            let sum = optimizer.headers.all(headers).map(|header| u64::from(header.skipped)).sum();
            put(skipped, sum).of_field("skipped")
        })
    }
}
