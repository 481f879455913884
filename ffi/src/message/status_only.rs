//! The status' own sentence, of a build without messages.

use core::ffi::c_char;

use crate::error::Failure;
use crate::status::{KLS_OK, kls_status, text};

/// The status of the last failure.
#[derive(Clone, Copy, Debug)]
pub struct Message {
    status: kls_status,
}

impl Message {
    /// None.
    pub const EMPTY: Self = Self { status: KLS_OK };

    /// The sentence of its status.
    pub const fn as_ptr(&self) -> *const c_char {
        match self.status {
            KLS_OK => c"".as_ptr(),
            status => text(status).as_ptr(),
        }
    }

    /// Keeps the status.
    pub fn set_failure(&mut self, _: &str, failure: &Failure, _: &[u8]) {
        self.status = failure.status;
    }

    /// There is no room for words.
    #[cfg(feature = "host")]
    pub(crate) fn add(&mut self, _: &str) {}
}
