//! Saving and loading an optimizer's state, through a buffer or callbacks.

use core::ffi::c_void;

use klshampoo::checkpoint::{CheckpointError, Sink, Source};

use crate::checked::{put, slice, slice_mut};
use crate::error::Locate;
use crate::guard::with_handle;
use crate::handle::kls_optimizer;
use crate::status::*;

/// Takes the next `len` bytes of a checkpoint, at most 512. Returns 0 when it has taken all of them; anything else ends the call with
/// KLS_ERROR_CHECKPOINT_CALLBACK. It must not use the optimizer, nor leave by longjmp or an exception.
#[allow(non_camel_case_types)]
pub type kls_write = Option<unsafe extern "C" fn(user: *mut c_void, bytes: *const c_void, len: usize) -> i32>;

/// Fills `bytes` with the `len` bytes, at most 512, of a checkpoint that start at `offset`. Returns 0 when it has filled all of them;
/// anything else, such as an end that comes too early, ends the call with KLS_ERROR_CHECKPOINT_CALLBACK. A checkpoint is read
/// twice, front to back but for its first bytes, which are asked for twice each time, and never beyond its end. It must not use the optimizer, nor leave by longjmp or an exception.
#[allow(non_camel_case_types)]
pub type kls_read = Option<unsafe extern "C" fn(user: *mut c_void, offset: u64, bytes: *mut c_void, len: usize) -> i32>;

/// The caller's callback and what it is given.
struct Callback<F> {
    function: F,
    user: *mut c_void,
}

impl Sink for Callback<unsafe extern "C" fn(*mut c_void, *const c_void, usize) -> i32> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), CheckpointError> {
        // SAFETY: the caller of the save vouches for the function; the bytes are readable.
        let result = unsafe { (self.function)(self.user, bytes.as_ptr().cast(), bytes.len()) };
        if result == 0 { Ok(()) } else { Err(CheckpointError::Stream) }
    }
}

impl Source for Callback<unsafe extern "C" fn(*mut c_void, u64, *mut c_void, usize) -> i32> {
    fn read(&mut self, offset: u64, bytes: &mut [u8]) -> Result<(), CheckpointError> {
        // SAFETY: the caller of the load vouches for the function; the bytes are writable.
        let result = unsafe { (self.function)(self.user, offset, bytes.as_mut_ptr().cast(), bytes.len()) };
        if result == 0 { Ok(()) } else { Err(CheckpointError::Stream) }
    }
}

/// Bytes of a checkpoint of this optimizer. They depend on its groups and tensors alone, not on the steps that it has made.
///
/// Errors: the handle's, KLS_ERROR_NULL, KLS_ERROR_MISALIGNED.
///
/// # Safety
/// `optimizer` is a handle that no other thread uses; `bytes` is writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kls_optimizer_save_size(optimizer: *mut kls_optimizer, bytes: *mut u64) -> kls_status {
    // SAFETY: the caller vouches for the handle and the output.
    unsafe { with_handle(optimizer, "kls_optimizer_save_size", |optimizer| put(bytes, optimizer.parts()?.view.save_len())) }
}

/// Saves the optimizer's state: factors, bases, eigenvalues, moments, master weights, counters and refresh phases of every slice, and the table that they
/// belong to. Parameters, learning rate and refresh budget are not in it. `len` is at least what kls_optimizer_save_size gives; what
/// `buffer` has beyond that is left alone. A checkpoint is the same bytes on every machine.
///
/// Errors: KLS_ERROR_MEMORY_TOO_SHORT, KLS_ERROR_NULL and the handle's; `buffer` is then untouched.
///
/// # Safety
/// `optimizer` is a handle that no other thread uses; `buffer` has `len` writable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kls_optimizer_save(optimizer: *mut kls_optimizer, buffer: *mut c_void, len: usize) -> kls_status {
    // SAFETY: the caller vouches for the handle and the buffer.
    unsafe {
        with_handle(optimizer, "kls_optimizer_save", |optimizer| {
            let view = optimizer.parts()?.view;
            let mut buffer = slice_mut(buffer.cast::<u8>(), len).of_field("buffer")?;
            if (len as u64) < view.save_len() {
                return Err(KLS_ERROR_MEMORY_TOO_SHORT).of_field("len");
            }
            Ok(view.save(&mut buffer).map_err(from_checkpoint)?)
        })
    }
}

/// Takes the state from a checkpoint in memory. The optimizer was made of the same tensors, as many and in the same order, with the same
/// dims, modes, slices, pieces, methods, master weights, rounding and its seed. Groups, strides (of dims that are not merged) and hyper-parameters may be others (learning rates, betas, decay, damping,
/// periods, the power, ...), and so may backend and threads. With the same ones every later step gives the same bits as without the save.
/// `len` may be more than the checkpoint has.
///
/// Errors: KLS_ERROR_CHECKPOINT_FORMAT, KLS_ERROR_CHECKPOINT_VERSION, KLS_ERROR_CHECKPOINT_ELEMENT, KLS_ERROR_CHECKPOINT_TRUNCATED,
/// KLS_ERROR_CHECKPOINT_CHECKSUM, KLS_ERROR_CHECKPOINT_SHAPES, KLS_ERROR_CHECKPOINT_METHOD, KLS_ERROR_CHECKPOINT_MALFORMED,
/// KLS_ERROR_NULL and the handle's; the optimizer is then unchanged.
///
/// # Safety
/// `optimizer` is a handle that no other thread uses; `buffer` has `len` readable bytes that nobody writes meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kls_optimizer_load(optimizer: *mut kls_optimizer, buffer: *const c_void, len: usize) -> kls_status {
    // SAFETY: the caller vouches for the handle and the buffer.
    unsafe {
        with_handle(optimizer, "kls_optimizer_load", |optimizer| {
            let mut bytes = slice(buffer.cast::<u8>(), len).of_field("buffer")?;
            Ok(optimizer.parts()?.view.load(&mut bytes).map_err(from_checkpoint)?)
        })
    }
}

/// Saves as kls_optimizer_save does, but hands the bytes to `write`, front to back, with `user` as its first argument.
///
/// Errors: KLS_ERROR_CHECKPOINT_CALLBACK, KLS_ERROR_NULL and the handle's. The optimizer is never changed.
///
/// # Safety
/// `optimizer` is a handle that no other thread uses; `write` is NULL or a function that may be called with `user`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kls_optimizer_save_to(optimizer: *mut kls_optimizer, write: kls_write, user: *mut c_void) -> kls_status {
    // SAFETY: the caller vouches for the handle and the function.
    unsafe {
        with_handle(optimizer, "kls_optimizer_save_to", |optimizer| {
            let mut sink = Callback { function: write.ok_or(KLS_ERROR_NULL).of_field("write")?, user };
            Ok(optimizer.parts()?.view.save(&mut sink).map_err(from_checkpoint)?)
        })
    }
}

/// Loads as kls_optimizer_load does, but asks `read` for the bytes, with `user` as its first argument. All of them are read and checked
/// before the optimizer is touched, and then read again.
///
/// Errors: those of kls_optimizer_load and KLS_ERROR_CHECKPOINT_CALLBACK; the optimizer is then unchanged. But when the second reading
/// fails or finds other bytes it is KLS_ERROR_CHECKPOINT_CHANGED, and the state is that of a new optimizer.
///
/// # Safety
/// `optimizer` is a handle that no other thread uses; `read` is NULL or a function that may be called with `user`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kls_optimizer_load_from(optimizer: *mut kls_optimizer, read: kls_read, user: *mut c_void) -> kls_status {
    // SAFETY: the caller vouches for the handle and the function.
    unsafe {
        with_handle(optimizer, "kls_optimizer_load_from", |optimizer| {
            let mut source = Callback { function: read.ok_or(KLS_ERROR_NULL).of_field("read")?, user };
            Ok(optimizer.parts()?.view.load(&mut source).map_err(from_checkpoint)?)
        })
    }
}
