//! Saving and loading: the state comes to the host and is saved as the CPU's optimizer saves it, and the other way round.

use std::ffi::{c_char, c_void};

use klshampoo_ffi::checked::{put, slice, slice_mut};
use klshampoo_ffi::error::{Failure, Locate, Outcome};
use klshampoo_ffi::guard::with_handle;
use klshampoo_ffi::host::file;
use klshampoo_ffi::host::table::Table;
use klshampoo_ffi::status::*;

use super::handle::kls_cuda;
use super::host_copy::HostCopy;
use super::refreshes::Refreshes;
use super::transfer::{download_all, upload_all};
use crate::driver::Stream;

/// Bytes of a checkpoint of this optimizer, as kls_optimizer_save_size counts them.
///
/// Errors: the handle's, KLS_ERROR_NULL, KLS_ERROR_MISALIGNED, KLS_ERROR_OUT_OF_MEMORY.
///
/// # Safety
/// `optimizer` is a handle that no other thread uses; `bytes` is writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kls_cuda_save_size(optimizer: *mut kls_cuda, bytes: *mut u64) -> kls_status {
    // SAFETY: the caller vouches for the handle and the output.
    unsafe {
        with_handle(optimizer, "kls_cuda_save_size", |optimizer| {
            put(bytes, HostCopy::new(&optimizer.table)?.view()?.save_len()).of_field("bytes")
        })
    }
}

/// Saves the optimizer's state as kls_optimizer_save does: the same bytes for the same state, so that an optimizer of the CPU can load it. What was
/// queued on `stream` before is in it; the call waits for that stream. Memory of the host for a copy of the state is needed meanwhile.
///
/// The optimizer that saved and one that loads go on with the same bits. For that the save plans the later refreshes from the steps that the slices
/// have counted, as a load does: after a skipped step they come later than they would have come without the save. So tell kls_cuda_replayed
/// of what was replayed before the save before it, not after, and capture graphs anew when a slice was skipped before it.
///
/// Errors: KLS_ERROR_MEMORY_TOO_SHORT, KLS_ERROR_NULL, KLS_ERROR_OUT_OF_MEMORY, KLS_ERROR_CUDA_OUT_OF_MEMORY, KLS_ERROR_CUDA (also while
/// `stream` is being captured) and the handle's; `buffer` is then untouched.
///
/// # Safety
/// `optimizer` is a handle that no other thread uses; `buffer` has `len` writable bytes; `stream` is a stream of the optimizer's device, and every
/// step has been queued on it or before it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kls_cuda_save(optimizer: *mut kls_cuda, buffer: *mut c_void, len: usize, stream: *mut c_void) -> kls_status {
    // SAFETY: the caller vouches for the handle, the buffer and the stream.
    unsafe {
        with_handle(optimizer, "kls_cuda_save", |optimizer| {
            let mut buffer = slice_mut(buffer.cast::<u8>(), len).of_field("buffer")?;
            save(optimizer, Stream::from_raw(stream), len as u64, |copy, _| Ok(copy.view()?.save(&mut buffer).map_err(from_checkpoint)?))
        })
    }
}

/// Takes the state from a checkpoint in memory, of an optimizer of the GPU or of the CPU, under the conditions of kls_optimizer_load. Steps that are
/// queued on `stream` later see it; the call waits for that stream. Memory of the host for a copy of the state is needed meanwhile. A graph that
/// was captured before belongs to the refresh plan of the state before: capture anew.
///
/// Errors: those of kls_optimizer_load, KLS_ERROR_OVERFLOW for a slice that has counted more than 2^40 steps, KLS_ERROR_OUT_OF_MEMORY, the optimizer is
/// then unchanged; KLS_ERROR_CUDA (also while `stream` is being captured), KLS_ERROR_CUDA_OUT_OF_MEMORY, after which it is to be loaded anew or
/// destroyed.
///
/// # Safety
/// `optimizer` is a handle that no other thread uses; `buffer` has `len` readable bytes that nobody writes meanwhile; `stream` as for
/// kls_cuda_save.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kls_cuda_load(optimizer: *mut kls_cuda, buffer: *const c_void, len: usize, stream: *mut c_void) -> kls_status {
    // SAFETY: the caller vouches for the handle, the buffer and the stream.
    unsafe {
        with_handle(optimizer, "kls_cuda_load", |optimizer| {
            let mut bytes = slice(buffer.cast::<u8>(), len).of_field("buffer")?;
            load(optimizer, Stream::from_raw(stream), |copy| Ok(copy.view()?.load(&mut bytes).map_err(from_checkpoint)?))
        })
    }
}

/// Saves as kls_cuda_save does, into a safetensors file, as kls_optimizer_save_file writes it: atomically, and to be loaded by either optimizer.
///
/// Errors: those of kls_optimizer_save_file, KLS_ERROR_CUDA (also while `stream` is being captured), KLS_ERROR_CUDA_OUT_OF_MEMORY.
///
/// # Safety
/// `optimizer` is a handle that no other thread uses; `path` is NULL or a text that ends with a zero byte; `stream` as for kls_cuda_save.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kls_cuda_save_file(optimizer: *mut kls_cuda, path: *const c_char, stream: *mut c_void) -> kls_status {
    // SAFETY: the caller vouches for the handle, the text and the stream.
    unsafe {
        with_handle(optimizer, "kls_cuda_save_file", |optimizer| {
            let path = file::path_from_c(path)?;
            save(optimizer, Stream::from_raw(stream), u64::MAX, |copy, table| {
                file::save(&copy.view()?, &file::names(table.tensors().len(), |tensor| table.name(tensor)), path)
            })
        })
    }
}

/// Loads as kls_cuda_load does, from a file that kls_cuda_save_file or kls_optimizer_save_file wrote.
///
/// Errors: those of kls_optimizer_load_file, KLS_ERROR_OVERFLOW as for kls_cuda_load, the optimizer is then unchanged; KLS_ERROR_CUDA (also while
/// `stream` is being captured), KLS_ERROR_CUDA_OUT_OF_MEMORY, after which it is to be loaded anew or destroyed.
///
/// # Safety
/// As for kls_cuda_save_file.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kls_cuda_load_file(optimizer: *mut kls_cuda, path: *const c_char, stream: *mut c_void) -> kls_status {
    // SAFETY: the caller vouches for the handle, the text and the stream.
    unsafe {
        with_handle(optimizer, "kls_cuda_load_file", |optimizer| {
            let path = file::path_from_c(path)?;
            load(optimizer, Stream::from_raw(stream), |copy| file::load(&mut copy.view()?, path))
        })
    }
}

/// Hands a copy on. The optimizer then goes on from the headers in it, as one that loads them: what the host counts and what the device counts
/// part where a slice is skipped.
fn save(optimizer: &mut kls_cuda, stream: Stream, room: u64, write: impl FnOnce(&mut HostCopy<'_>, &Table) -> Outcome) -> Outcome {
    let mut copy = HostCopy::new(&optimizer.table)?;
    // Before anything is copied.
    if copy.view()?.save_len() > room {
        return Err(KLS_ERROR_MEMORY_TOO_SHORT).of_field("len");
    }
    optimizer.join(stream)?;
    download_all(optimizer, stream, &mut copy)?;
    optimizer.refreshes.as_mut().map(Refreshes::are_over);
    write(&mut copy, &optimizer.table)?;
    optimizer.optimizer.counted(copy.headers());
    Ok(())
}

/// Fills a copy, and only then the device.
fn load(optimizer: &mut kls_cuda, stream: Stream, fill: impl FnOnce(&mut HostCopy<'_>) -> Outcome) -> Outcome {
    let mut copy = HostCopy::new(&optimizer.table)?;
    fill(&mut copy)?;
    // That counters do not contradict each other is known by now.
    if !optimizer.optimizer.can_load(copy.headers()) {
        return Err(Failure::because(KLS_ERROR_OVERFLOW, "A slice has counted more steps than the GPU's optimizer counts, 2^40."));
    }
    optimizer.join(stream)?;
    upload_all(optimizer, stream, &mut copy)?;
    optimizer.refreshes.as_mut().map(Refreshes::are_over);
    optimizer.optimizer.loaded(copy.headers());
    optimizer.observer.forget();
    Ok(())
}
