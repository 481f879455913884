//! The caller's stream.

use super::context::Entered;
use super::error::Error;
use super::shim::{self, succeeded};
use core::ffi::c_void;
use core::ptr::{null_mut, without_provenance_mut};
use cust::sys;

/// A `CUstream`, which is a `cudaStream_t` too: the caller's, who creates and destroys it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct Stream(*mut c_void);

// SAFETY: the driver lets every thread use a stream; the handle is a name for it.
unsafe impl Send for Stream {}
// SAFETY: the same.
unsafe impl Sync for Stream {}

impl Stream {
    /// The legacy default stream, which is what NULL means.
    pub const LEGACY: Self = Self(null_mut());

    /// The handle by which the legacy default stream is named where NULL means something else (`CU_STREAM_LEGACY`).
    pub const LEGACY_BY_NAME: Self = Self(without_provenance_mut(1));

    /// The calling thread's own default stream (`CU_STREAM_PER_THREAD`).
    pub const PER_THREAD: Self = Self(without_provenance_mut(2));

    /// A caller's handle: NULL or a default stream's value among them.
    ///
    /// # Safety
    /// It is a stream of the context that it will be used with, and is not destroyed before that use ends.
    #[must_use]
    pub const unsafe fn from_raw(stream: *mut c_void) -> Self {
        Self(stream)
    }

    /// The driver's handle.
    #[must_use]
    pub const fn as_raw(self) -> *mut c_void {
        self.0
    }

    /// Whether what is given to it is recorded into a graph instead of run.
    ///
    /// # Errors
    /// The driver's.
    pub fn is_capturing(self, _entered: &Entered<'_>) -> Result<bool, Error> {
        let mut status = sys::CUstreamCaptureStatus::CU_STREAM_CAPTURE_STATUS_NONE;
        // SAFETY: the stream is one of this context; the driver writes one of the three values of the enum.
        if succeeded(unsafe { sys::cuStreamIsCapturing(self.0.cast(), &mut status) }) {
            // An invalidated capture has not ended.
            return Ok(status != sys::CUstreamCaptureStatus::CU_STREAM_CAPTURE_STATUS_NONE);
        }
        match shim::last_code() {
            // The default stream would be drawn into the capture of another.
            shim::CAPTURE_IMPLICIT => Ok(true),
            _ => Err(Error::last("cuStreamIsCapturing")),
        }
    }

    /// Waits for all that was given to it.
    pub(super) fn synchronize(self, _entered: &Entered<'_>) -> Result<(), Error> {
        // SAFETY: the stream is one of this context.
        if succeeded(unsafe { sys::cuStreamSynchronize(self.0.cast()) }) { Ok(()) } else { Err(Error::last("cuStreamSynchronize")) }
    }
}
