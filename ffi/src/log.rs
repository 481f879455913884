//! The caller's log.

use core::ffi::{c_char, c_void};

use crate::guard::with_handle;
use crate::handle::kls_optimizer;
use crate::status::{KLS_ERROR_NOT_BUILT, kls_status};

/// A call on the optimizer failed; the message is that of kls_last_error.
pub const KLS_LOG_ERROR: i32 = 0;
/// A step left slices alone because of their gradients (KLS_BAD_GRADIENT_SKIP), or refreshes in it failed. The call may succeed all the same.
pub const KLS_LOG_WARNING: i32 = 1;

/// Receives a message: `level` is KLS_LOG_*, `message` one line without a line's end, valid during the call. It must not throw or jump out.
#[allow(non_camel_case_types)]
pub type kls_log = Option<unsafe extern "C" fn(user: *mut c_void, level: i32, message: *const c_char)>;

/// Where an optimizer's messages go. A build without messages has none, and keeps nothing here.
#[derive(Clone, Copy)]
#[cfg_attr(not(feature = "messages"), allow(dead_code))]
pub(crate) struct Log {
    log: kls_log,
    user: *mut c_void,
}

#[cfg_attr(not(feature = "messages"), allow(dead_code))]
impl Log {
    pub(crate) const NONE: Self = Self { log: None, user: core::ptr::null_mut() };

    pub(crate) fn is_set(&self) -> bool {
        self.log.is_some()
    }

    /// Hands a message to the caller, if it wants any.
    ///
    /// # Safety
    /// `message` is a text that ends with a NUL; no reference to the optimizer is alive.
    pub(crate) unsafe fn write(self, level: i32, message: *const c_char) {
        if let Some(log) = self.log {
            // SAFETY: by the word of the caller of kls_optimizer_set_log it may be called from here with its `user`.
            unsafe { log(self.user, level, message) };
        }
    }
}

/// Has an optimizer report failing calls and what steps meet to `log`, with `user` handed through; NULL switches it off, the default.
/// It is called on the thread of the failing call, when the call's work is done, once for each message. It must not call into the same
/// optimizer, but for kls_last_error.
///
/// Errors: KLS_ERROR_NOT_BUILT in a build without messages; the handle's.
///
/// # Safety
/// `optimizer` is a handle that no other thread uses; `log` can be called with `user` until it is replaced or the optimizer ends.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kls_optimizer_set_log(optimizer: *mut kls_optimizer, log: kls_log, user: *mut c_void) -> kls_status {
    // SAFETY: the caller vouches for the handle.
    unsafe {
        with_handle(optimizer, "kls_optimizer_set_log", |optimizer| {
            if cfg!(not(feature = "messages")) && log.is_some() {
                return Err(KLS_ERROR_NOT_BUILT.into());
            }
            optimizer.log = Log { log, user };
            Ok(())
        })
    }
}
