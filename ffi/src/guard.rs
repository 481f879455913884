//! The border: every call enters here, checks its handle, and lets no panic out.

use crate::handle::kls_optimizer;
use crate::status::*;

/// Runs a call's body; a panic becomes `KLS_ERROR_INTERNAL`.
#[cfg(feature = "host")]
pub(crate) fn guard(body: impl FnOnce() -> Outcome) -> kls_status {
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)) {
        Ok(Ok(())) => KLS_OK,
        Ok(Err(status)) => status,
        Err(_) => KLS_ERROR_INTERNAL,
    }
}

/// Runs a call's body; without the standard library a panic aborts.
#[cfg(not(feature = "host"))]
pub(crate) fn guard(body: impl FnOnce() -> Outcome) -> kls_status {
    match body() {
        Ok(()) => KLS_OK,
        Err(status) => status,
    }
}

/// Runs a body on a live optimizer. A panic in it poisons the optimizer: every later call but destroy is refused.
///
/// # Safety
/// `handle` is NULL, or points to memory that may be read as an optimizer and that no other thread uses during the call.
pub(crate) unsafe fn with_handle(handle: *mut kls_optimizer, body: impl FnOnce(&mut kls_optimizer) -> Outcome) -> kls_status {
    let mut entered = None;
    let status = guard(|| {
        // SAFETY: the caller vouches for the memory.
        let optimizer = unsafe { kls_optimizer::from_handle(handle)? };
        if optimizer.is_poisoned() {
            return Err(KLS_ERROR_POISONED);
        }
        entered = Some(handle);
        body(optimizer)
    });
    if status == KLS_ERROR_INTERNAL
        && let Some(optimizer) = entered
    {
        // SAFETY: the live optimizer of the body, whose borrow has ended.
        unsafe { (*optimizer).poison() };
    }
    status
}
