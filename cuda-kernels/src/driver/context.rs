//! The primary context of a device, shared with the CUDA runtime and everyone else in the process.

use super::device::Device;
use super::error::Error;
use super::shim::succeeded;
use core::marker::PhantomData;
use core::ptr::null_mut;
use cust::sys;
use std::sync::Arc;

/// The context that is current on this thread; NULL if there is none.
pub(super) fn current() -> Result<sys::CUcontext, Error> {
    let mut context = null_mut();
    // SAFETY: it is told where to write.
    if succeeded(unsafe { sys::cuCtxGetCurrent(&mut context) }) { Ok(context) } else { Err(Error::last("cuCtxGetCurrent")) }
}

/// The primary context of a device, held until the last clone is gone.
#[derive(Clone)]
pub struct Context(Arc<Held>);

struct Held {
    inner: cust::context::Context,
    device: Device,
}

// SAFETY: the driver lets every thread use a context; the handle is a name for it.
unsafe impl Send for Held {}
// SAFETY: the same.
unsafe impl Sync for Held {}

impl Context {
    /// Holds the primary context of a device. The context that is current on this thread stays so.
    ///
    /// # Errors
    /// The driver's.
    pub fn new(device: Device) -> Result<Self, Error> {
        let before = current()?;
        let inner = cust::context::Context::new(device.inner);
        let fault = inner.as_ref().err().map(|_| Error::last("cuDevicePrimaryCtxRetain"));
        // cust makes it current.
        // SAFETY: the context that was current a moment ago.
        let restored = unsafe { sys::cuCtxSetCurrent(before) };
        match (inner, fault) {
            (Ok(inner), _) if succeeded(restored) => Ok(Self(Arc::new(Held { inner, device }))),
            (_, Some(fault)) => Err(fault),
            _ => Err(Error::last("cuCtxSetCurrent")),
        }
    }

    /// The device.
    #[must_use]
    pub fn device(&self) -> Device {
        self.0.device
    }

    /// The driver's handle.
    #[must_use]
    pub fn as_raw(&self) -> *mut core::ffi::c_void {
        self.0.inner.as_raw().cast()
    }

    /// Makes it current on this thread until the guard is dropped; then what was current before is so again.
    ///
    /// # Errors
    /// The driver's.
    pub fn enter(&self) -> Result<Entered<'_>, Error> {
        // SAFETY: a context that is held.
        if succeeded(unsafe { sys::cuCtxPushCurrent_v2(self.0.inner.as_raw()) }) {
            Ok(Entered { context: self, of_this_thread: PhantomData })
        } else {
            Err(Error::last("cuCtxPushCurrent"))
        }
    }
}

impl core::fmt::Debug for Context {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Context").field("device", &self.0.device.ordinal()).finish_non_exhaustive()
    }
}

/// A context is current on this thread while this lives. Guards end in the reverse order of their beginning.
#[derive(Debug)]
pub struct Entered<'a> {
    context: &'a Context,
    of_this_thread: PhantomData<*const ()>,
}

impl Entered<'_> {
    /// The context that is current.
    #[must_use]
    pub fn context(&self) -> &Context {
        self.context
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        let mut popped = null_mut();
        // SAFETY: it is told where to write. It fails only where the driver is being unloaded, and then nobody has a current context.
        unsafe { sys::cuCtxPopCurrent_v2(&mut popped) };
    }
}
