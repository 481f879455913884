//! Points in a stream's work, for other streams to wait for, or to measure the time between them.

use super::context::Context;
use super::error::Error;
use super::kernels::Launcher;
use super::shim::succeeded;
use core::ptr::null_mut;
use cust::event::EventFlags;
use cust::sys;

/// A point in a stream's work, with its time on the device.
pub struct Event {
    context: Context,
    event: sys::CUevent,
}

// SAFETY: the driver lets every thread use an event; the handle is a name for it.
unsafe impl Send for Event {}

impl Event {
    /// An event that is nowhere yet.
    ///
    /// # Errors
    /// The driver's.
    pub fn new(context: &Context) -> Result<Self, Error> {
        Self::with_flags(context, EventFlags::DEFAULT)
    }

    /// The same without a time, for other streams to wait for.
    ///
    /// # Errors
    /// The driver's.
    pub fn untimed(context: &Context) -> Result<Self, Error> {
        Self::with_flags(context, EventFlags::DISABLE_TIMING)
    }

    fn with_flags(context: &Context, flags: EventFlags) -> Result<Self, Error> {
        let _entered = context.enter()?;
        let mut event = null_mut();
        // SAFETY: it is told where to write.
        if !succeeded(unsafe { sys::cuEventCreate(&mut event, flags.bits()) }) {
            return Err(Error::last("cuEventCreate"));
        }
        Ok(Self { context: context.clone(), event })
    }

    /// Puts it behind all that was launched before.
    ///
    /// # Errors
    /// The driver's.
    pub fn record(&mut self, queue: &Launcher<'_>) -> Result<(), Error> {
        // SAFETY: an event and a stream of contexts that are held; the queue's is current.
        if succeeded(unsafe { sys::cuEventRecord(self.event, queue.stream().as_raw().cast()) }) {
            Ok(())
        } else {
            Err(Error::last("cuEventRecord"))
        }
    }

    /// Lets what is launched on this queue from now on wait until all before the event is done; the host does not wait.
    ///
    /// # Errors
    /// The driver's.
    pub fn delay(&self, queue: &Launcher<'_>) -> Result<(), Error> {
        // SAFETY: an event and a stream of contexts that are held; the queue's is current.
        if succeeded(unsafe { sys::cuStreamWaitEvent(queue.stream().as_raw().cast(), self.event, 0) }) {
            Ok(())
        } else {
            Err(Error::last("cuStreamWaitEvent"))
        }
    }

    /// Waits for it.
    ///
    /// # Errors
    /// The driver's: also of work before it.
    pub fn wait(&self) -> Result<(), Error> {
        let _entered = self.context.enter()?;
        // SAFETY: an event that lives.
        if succeeded(unsafe { sys::cuEventSynchronize(self.event) }) { Ok(()) } else { Err(Error::last("cuEventSynchronize")) }
    }

    /// Waits for it, and tells the milliseconds since another event.
    ///
    /// # Errors
    /// The driver's: one of the two was not recorded, or not run but captured.
    pub fn milliseconds_since(&self, other: &Self) -> Result<f32, Error> {
        self.wait()?;
        let _entered = self.context.enter()?;
        let mut milliseconds = 0.0;
        // SAFETY: two events that live, and where to write.
        if succeeded(unsafe { sys::cuEventElapsedTime(&mut milliseconds, other.event, self.event) }) {
            Ok(milliseconds)
        } else {
            Err(Error::last("cuEventElapsedTime"))
        }
    }
}

impl core::fmt::Debug for Event {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Event").field("context", &self.context).finish_non_exhaustive()
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        if let Ok(_entered) = self.context.enter() {
            // SAFETY: destroyed once.
            unsafe { sys::cuEventDestroy_v2(self.event) };
        }
    }
}
