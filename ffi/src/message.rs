//! The sentence that says why a call failed and where, without allocation.

use core::ffi::c_char;

use crate::handle::kls_optimizer;

#[cfg(not(feature = "messages"))]
mod status_only;
#[cfg(feature = "messages")]
mod written;

#[cfg(not(feature = "messages"))]
pub use status_only::Message;
#[cfg(feature = "messages")]
pub use written::Message;

/// The sentence of the calling thread's last failing call without a live handle.
#[cfg(feature = "host")]
mod without_handle {
    use std::cell::UnsafeCell;
    use std::ffi::c_char;

    use super::Message;
    use crate::error::Failure;

    thread_local! {
        // Without a destructor, so it can be had at any time of a thread's life and is never allocated.
        static LAST: UnsafeCell<Message> = const { UnsafeCell::new(Message::EMPTY) };
    }

    pub(crate) fn record(call: &str, failure: &Failure, name: &[u8]) {
        // SAFETY: the thread's own, and nothing in here looks at it again.
        LAST.with(|last| unsafe { (*last.get()).set_failure(call, failure, name) });
    }

    /// Adds what somebody else says of it to the message of the calling thread's last failing call without a live handle: as much of it as a message
    /// has room for, on one line.
    pub fn add(words: &str) {
        // SAFETY: the thread's own, and nothing in here looks at it again.
        LAST.with(|last| unsafe { (*last.get()).add(words) });
    }

    /// The message of the calling thread's last failing call without a live handle, valid until its next such call.
    pub fn last() -> *const c_char {
        // SAFETY: likewise.
        LAST.with(|last| unsafe { (*last.get()).as_ptr() })
    }
}

/// Without threads to keep them apart there is no such sentence.
#[cfg(not(feature = "host"))]
mod without_handle {
    use core::ffi::c_char;

    use crate::error::Failure;

    pub(crate) fn record(_: &str, _: &Failure, _: &[u8]) {}

    /// No message.
    pub fn last() -> *const c_char {
        c"".as_ptr()
    }
}

#[cfg(feature = "host")]
pub use without_handle::add as add_without_handle;
pub use without_handle::last as last_without_handle;
pub(crate) use without_handle::record as record_without_handle;

/// Why the last failing call on an optimizer failed: the call, the tensor with its name, slice and mode as far as they matter, and an
/// explanation, such as `kls_optimizer_step: tensor 3 "h.2.mlp.w", slice 1: A gradient has a NaN or an infinity.` An empty text if none
/// failed. Never NULL; valid until the next call on that optimizer. A call that succeeds leaves it as it is.
///
/// With NULL, or a pointer that is no live optimizer: of the calling thread's last failing call without one (queries, making optimizers,
/// filling structs, and calls that were given no live optimizer), valid until the thread's next such call. Without a host it is empty.
///
/// # Safety
/// `optimizer` is NULL, or points to memory that may be read as an optimizer and that no other thread uses.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kls_last_error(optimizer: *const kls_optimizer) -> *const c_char {
    // SAFETY: the caller vouches for the memory; nothing is written through it.
    match unsafe { kls_optimizer::from_handle(optimizer.cast_mut()) } {
        Ok(optimizer) => optimizer.message.as_ptr(),
        Err(_) => without_handle::last(),
    }
}
