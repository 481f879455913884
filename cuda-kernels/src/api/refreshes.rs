//! Refreshes on a stream of their own, between one step and the next.

use klshampoo_ffi::error::{Locate, Outcome};
use klshampoo_ffi::guard::with_handle;
use klshampoo_ffi::kls_status;
use std::ffi::c_void;

use super::failure::{from_device, from_launch};
use super::handle::kls_cuda;
use crate::driver::{Context, Error, Event, Kernels, Launcher, Stream};
use crate::step::DeviceOptimizer;

/// The caller's stream for refreshes.
#[derive(Debug)]
pub(super) struct Refreshes {
    stream: Stream,
    /// Behind the step whose refreshes are made.
    begin: Event,
    /// Behind them, and behind those of a step that is being captured: an event of a graph says nothing outside of it.
    end: Event,
    captured_end: Event,
    /// Whether `end` is anywhere. Waiting for it costs nothing when it has passed.
    ran: bool,
    /// Whether some have been begun that no stream was made to wait for: what is captured then would miss them.
    pending: bool,
}

impl Refreshes {
    pub(super) fn new(context: &Context, stream: Stream) -> Result<Self, Error> {
        let event = || Event::untimed(context);
        Ok(Self { stream, begin: event()?, end: event()?, captured_end: event()?, ran: false, pending: false })
    }

    /// Lets a queue wait for those that are under way. Which streams have waited before does not matter.
    fn delay(&self, queue: &Launcher<'_>) -> Result<(), Error> {
        if !self.ran {
            return Ok(());
        }
        if !queue.is_capturing()? {
            return self.end.delay(queue);
        }
        // What is recorded waits for nothing that is not.
        if self.pending { Err(Error::Capturing) } else { Ok(()) }
    }

    /// Lets a queue, on which the next step is made, wait for those that are under way.
    pub(super) fn join(&mut self, queue: &Launcher<'_>) -> Result<(), Error> {
        self.delay(queue)?;
        self.pending = false;
        Ok(())
    }

    /// The host has waited for a stream that waited for them: none are under way.
    pub(super) fn are_over(&mut self) {
        (self.ran, self.pending) = (false, false);
    }

    /// Begins those that a step on `queue` has left.
    pub(super) fn begin(&mut self, queue: &Launcher<'_>, kernels: &Kernels, optimizer: &mut DeviceOptimizer) -> Outcome {
        if !optimizer.has_refreshes() {
            return Ok(());
        }
        let capturing = queue.is_capturing().map_err(from_device)?;
        self.begin.record(queue).map_err(from_device)?;
        let end = if capturing { &mut self.captured_end } else { &mut self.end };
        {
            let mut own = kernels.on(self.stream).map_err(from_device)?;
            self.begin.delay(&own).map_err(from_device)?;
            let made = optimizer.refresh(&mut own).map_err(from_launch);
            // Also behind what was begun and failed.
            let recorded = end.record(&own).map_err(from_device);
            if !capturing && recorded.is_ok() {
                (self.ran, self.pending) = (true, true);
            }
            made?;
            recorded?;
        }
        // A capture ends with the stream on which it began.
        if capturing { end.delay(queue).map_err(from_device) } else { Ok(()) }
    }
}

impl Drop for Refreshes {
    fn drop(&mut self) {
        // The caller's memory goes back without a wait of the driver's. There is nobody to tell of an error of the device.
        if self.ran {
            let _ = self.end.wait();
        }
    }
}

impl kls_cuda {
    /// Lets what is given to a stream from now on see the refreshes that are under way.
    pub(super) fn join(&self, stream: Stream) -> Outcome {
        match &self.refreshes {
            Some(refreshes) if refreshes.ran => refreshes.delay(&self.kernels.on(stream).map_err(from_device)?).map_err(from_device),
            _ => Ok(()),
        }
    }
}

/// Lets `stream` wait for the refreshes that are under way on `kls_cuda_options.refresh_stream`; the call itself waits for nothing. What is queued on it
/// later sees them. kls_cuda_step, the saves, the loads, kls_cuda_read_state and kls_cuda_copy_headers do so themselves. It is needed after steps without
/// a capture: before one is captured, and, on the stream of the replay, before captured ones are replayed. Without a refresh_stream, or where
/// nothing is under way, it does nothing.
///
/// Errors: KLS_ERROR_CUDA (also while `stream` is being captured and refreshes are under way), KLS_ERROR_CUDA_OUT_OF_MEMORY and the handle's.
///
/// # Safety
/// `optimizer` is a handle that no other thread uses; `stream` is a stream of the optimizer's device, and what is done with the optimizer next is queued on
/// it or after it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kls_cuda_join(optimizer: *mut kls_cuda, stream: *mut c_void) -> kls_status {
    // SAFETY: the caller vouches for the handle and the stream.
    unsafe {
        with_handle(optimizer, "kls_cuda_join", |optimizer| {
            let queue = optimizer.kernels.on(Stream::from_raw(stream)).map_err(from_device)?;
            optimizer.refreshes.as_mut().map_or(Ok(()), |refreshes| refreshes.join(&queue)).map_err(from_device).of_field("stream")
        })
    }
}
