//! What holds for the status of every call.

use std::ffi::CStr;

use klshampoo_ffi::*;

/// A status that is documented and no bug, and a message that belongs to it. Without a failure the message is that of an earlier call.
///
/// # Panics
/// Otherwise.
#[expect(clippy::not_unsafe_ptr_arg_deref, reason = "the unsafe call whose status this is has vouched for the optimizer")]
pub fn check(optimizer: *const kls_optimizer, status: kls_status) -> kls_status {
    assert_ne!(status, KLS_ERROR_INTERNAL);
    assert_ne!(status, KLS_ERROR_POISONED);
    // SAFETY: static texts.
    let text = |status| unsafe { CStr::from_ptr(kls_status_string(status)) };
    assert_ne!(text(status), text(i32::MAX), "{status} is no status");
    if status != KLS_OK {
        // SAFETY: the optimizer is NULL or may be read, by the word of whoever made the call.
        let message = unsafe { CStr::from_ptr(kls_last_error(optimizer)) };
        assert!(message.to_bytes().starts_with(b"kls_"), "{message:?}");
    }
    status
}

/// The same of a call without an optimizer.
pub fn check_without(status: kls_status) -> kls_status {
    check(std::ptr::null(), status)
}

/// What a step may say whose arguments were right.
pub const STEPS: [kls_status; 7] = [
    KLS_OK,
    KLS_ERROR_GRADIENT_NOT_FINITE,
    KLS_ERROR_GRADIENT_TOO_LARGE,
    KLS_ERROR_ESTIMATE_NOT_FINITE,
    KLS_ERROR_UPDATE_NOT_FINITE,
    KLS_ERROR_LINALG,
    KLS_ERROR_LEARNING_RATE,
];
