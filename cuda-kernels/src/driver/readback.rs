//! Small copies to the host that nobody waits for.

use super::context::Context;
use super::error::Error;
use super::kernels::Launcher;
use super::memory::Relaxed;
use super::shim::{self, succeeded};
use crate::queue::DevicePtr;
use core::ptr::null_mut;
use cust::event::EventFlags;
use cust::sys;

/// A copy from the device to the host's memory: begun after a step, looked at in a later one.
pub struct Readback {
    context: Context,
    /// Page-locked, so that the copy does not stop the host.
    host: *mut u8,
    bytes: usize,
    event: sys::CUevent,
    pending: Option<usize>,
}

// SAFETY: the host's memory and the event belong to it alone, and have no thread.
unsafe impl Send for Readback {}

impl Readback {
    /// Room for copies of at most so many bytes.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`], or the driver's.
    pub fn new(context: &Context, bytes: usize) -> Result<Self, Error> {
        let _entered = context.enter()?;
        let mut readback = Self { context: context.clone(), host: null_mut(), bytes, event: null_mut(), pending: None };
        let mut host = null_mut();
        // SAFETY: it is told where to write.
        if !succeeded(unsafe { sys::cuMemAllocHost_v2(&mut host, bytes.max(1)) }) {
            return Err(Error::last_of_allocation("cuMemAllocHost", bytes));
        }
        readback.host = host.cast();
        // SAFETY: allocated with this length.
        unsafe { readback.host.write_bytes(0, bytes) };
        // SAFETY: it is told where to write.
        if !succeeded(unsafe { sys::cuEventCreate(&mut readback.event, EventFlags::DISABLE_TIMING.bits()) }) {
            return Err(Error::last("cuEventCreate"));
        }
        Ok(readback)
    }

    /// Whether a copy was begun whose bytes have not been taken.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        self.pending.is_some()
    }

    /// Begins a copy of `bytes` bytes (as many as there is room for, at most), after what was launched before. `false`: not now, since one is
    /// pending or the stream is being captured.
    ///
    /// # Safety
    /// So many bytes of the device's memory lie at `from`, and they are not freed before the copy is done.
    ///
    /// # Errors
    /// The driver's.
    pub unsafe fn begin(&mut self, queue: &Launcher<'_>, from: DevicePtr, bytes: usize) -> Result<bool, Error> {
        if self.pending.is_some() || queue.is_capturing()? {
            return Ok(false);
        }
        let (bytes, stream) = (bytes.min(self.bytes), queue.stream().as_raw().cast());
        // SAFETY: the caller's word for the device's memory; the host's lives until the copy is done.
        if !succeeded(unsafe { sys::cuMemcpyDtoHAsync_v2(self.host.cast(), from.0, bytes, stream) }) {
            return Err(Error::last("cuMemcpyDtoHAsync"));
        }
        // SAFETY: an event of this context.
        if !succeeded(unsafe { sys::cuEventRecord(self.event, stream) }) {
            let error = Error::last("cuEventRecord");
            // Nothing would say when the copy is done, so it is waited for, this once.
            queue.stream().synchronize(queue.entered())?;
            return Err(error);
        }
        self.pending = Some(bytes);
        Ok(true)
    }

    /// The bytes, once, when the copy is done; `None` as long as it is not, and while the stream is being captured.
    ///
    /// # Errors
    /// The driver's: also of work that was given to the device before.
    pub fn take(&mut self, queue: &Launcher<'_>) -> Result<Option<&[u8]>, Error> {
        let Some(bytes) = self.pending else { return Ok(None) };
        if queue.is_capturing()? {
            return Ok(None);
        }
        let done = {
            let _relaxed = Relaxed::begin(queue.entered())?;
            // SAFETY: an event that was recorded.
            match succeeded(unsafe { sys::cuEventQuery(self.event) }) {
                true => Ok(true),
                false if shim::last_code() == shim::NOT_READY => Ok(false),
                false => Err(Error::last("cuEventQuery")),
            }
        };
        if !done? {
            return Ok(None);
        }
        self.pending = None;
        // SAFETY: initialised, and written by nobody until the next copy is begun.
        Ok(Some(unsafe { core::slice::from_raw_parts(self.host, bytes) }))
    }
}

impl core::fmt::Debug for Readback {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Readback").field("bytes", &self.bytes).field("pending", &self.pending).finish_non_exhaustive()
    }
}

impl Drop for Readback {
    fn drop(&mut self) {
        let Ok(_entered) = self.context.enter() else { return };
        if !self.event.is_null() {
            if self.pending.is_some() {
                // The copy may still be writing.
                // SAFETY: an event of this context.
                unsafe { sys::cuEventSynchronize(self.event) };
            }
            // SAFETY: destroyed once.
            unsafe { sys::cuEventDestroy_v2(self.event) };
        }
        if !self.host.is_null() {
            // SAFETY: allocated by it, and given back once.
            unsafe { sys::cuMemFreeHost(self.host.cast()) };
        }
    }
}
