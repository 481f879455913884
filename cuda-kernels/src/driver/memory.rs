//! Memory of a device: allocated by the driver or by the caller, or lent by the caller.

use super::context::{Context, Entered};
use super::error::{Error, Unfit};
use super::shim::{self, succeeded};
use super::stream::Stream;
use crate::queue::{ALIGNMENT, DevicePtr};
use core::ffi::c_void;
use cust::sys;

/// The caller's allocator of device memory, as frameworks have pools. Its functions are called while the device's context is current.
#[derive(Clone, Copy, Debug)]
pub struct Allocator {
    /// Gives device memory of `bytes` bytes at a multiple of `alignment`, or NULL.
    pub allocate: unsafe extern "C" fn(user: *mut c_void, bytes: usize, alignment: usize) -> *mut c_void,
    /// Takes it back. Work that was given to streams may still use it.
    pub free: unsafe extern "C" fn(user: *mut c_void, memory: *mut c_void, bytes: usize),
    /// Given to both.
    pub user: *mut c_void,
}

enum Owner {
    Driver,
    Caller(Allocator),
    Lent,
}

/// A block of device memory; given back to its owner when dropped.
pub struct Memory {
    context: Context,
    at: DevicePtr,
    bytes: usize,
    owner: Owner,
}

// SAFETY: device memory has no thread. A caller's allocator is called on the thread that drops the block: its contract says so.
unsafe impl Send for Memory {}
// SAFETY: nothing changes in it; copies from several threads are ordered by their streams.
unsafe impl Sync for Memory {}

impl Memory {
    /// Allocates with the driver.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`], or the driver's.
    pub fn allocate(context: &Context, bytes: usize) -> Result<Self, Error> {
        let _entered = context.enter()?;
        let mut at = 0;
        // The driver allocates no empty blocks.
        // SAFETY: it is told where to write.
        if !succeeded(unsafe { sys::cuMemAlloc_v2(&mut at, bytes.max(1)) }) {
            return Err(Error::last_of_allocation("cuMemAlloc", bytes));
        }
        let memory = Self { context: context.clone(), at: DevicePtr(at), bytes, owner: Owner::Driver };
        memory.fits(bytes)?;
        Ok(memory)
    }

    /// Allocates with the caller's allocator.
    ///
    /// # Safety
    /// The allocator does what [`Allocator`] says, on any thread, until the block is dropped.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] if it gives NULL, [`Error::UnfitMemory`] if what it gives cannot be used, or the driver's.
    pub unsafe fn allocate_with(context: &Context, bytes: usize, allocator: Allocator) -> Result<Self, Error> {
        let _entered = context.enter()?;
        // SAFETY: the caller's word.
        let at = unsafe { (allocator.allocate)(allocator.user, bytes, ALIGNMENT) };
        if at.is_null() {
            return Err(Error::OutOfMemory { bytes });
        }
        let memory = Self { context: context.clone(), at: DevicePtr(at.addr() as u64), bytes, owner: Owner::Caller(allocator) };
        memory.fits(bytes)?;
        Ok(memory)
    }

    /// Takes memory that the caller lends: `bytes` bytes, of which `needed` are.
    ///
    /// # Safety
    /// Nobody else uses the memory, nor frees it, until the block is dropped and what was given to streams is done.
    ///
    /// # Errors
    /// [`Error::UnfitMemory`], or the driver's.
    pub unsafe fn lend(context: &Context, at: DevicePtr, bytes: usize, needed: usize) -> Result<Self, Error> {
        let _entered = context.enter()?;
        let memory = Self { context: context.clone(), at, bytes, owner: Owner::Lent };
        memory.fits(needed)?;
        Ok(memory)
    }

    /// Whether the block can be used; its context is current.
    fn fits(&self, needed: usize) -> Result<(), Error> {
        if !self.at.0.is_multiple_of(ALIGNMENT as u64) {
            return Err(Error::UnfitMemory(Unfit::Misaligned));
        }
        if self.bytes < needed {
            return Err(Error::UnfitMemory(Unfit::TooShort { bytes: self.bytes, needed }));
        }
        // Memory of pools and of mapped ranges has no context, but it has a device.
        let mut ordinal = -1_i32;
        let which = sys::CUpointer_attribute_enum::CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL;
        // SAFETY: it is told where to write an int.
        let known = succeeded(unsafe { sys::cuPointerGetAttribute((&raw mut ordinal).cast(), which, self.at.0) });
        if !known && shim::last_code() != shim::INVALID_VALUE {
            return Err(Error::last("cuPointerGetAttribute"));
        }
        if !known || usize::try_from(ordinal) != Ok(self.context.device().ordinal()) {
            return Err(Error::UnfitMemory(Unfit::OfAnotherDevice));
        }
        Ok(())
    }

    /// Its address.
    #[must_use]
    pub fn at(&self) -> DevicePtr {
        self.at
    }

    /// Its length.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The context that it is memory of.
    #[must_use]
    pub fn context(&self) -> &Context {
        &self.context
    }

    fn range(&self, offset: usize, bytes: usize) -> Result<DevicePtr, Error> {
        match offset.checked_add(bytes) {
            Some(end) if end <= self.bytes => Ok(self.at.offset::<u8>(offset)),
            _ => Err(Error::UnfitMemory(Unfit::OutOfRange)),
        }
    }

    /// Copies from the host to `offset`, after what was given to the stream before, and waits for it.
    ///
    /// # Errors
    /// [`Error::UnfitMemory`] beyond the end, [`Error::Capturing`], or the driver's.
    pub fn write(&self, stream: Stream, offset: usize, from: &[u8]) -> Result<(), Error> {
        let to = self.range(offset, from.len())?;
        self.copy(stream, "cuMemcpyHtoDAsync", |stream| {
            // SAFETY: within the block, and the host's bytes live until the stream was waited for.
            unsafe { sys::cuMemcpyHtoDAsync_v2(to.0, from.as_ptr().cast(), from.len(), stream) }
        })
    }

    /// Copies from `offset` to the host, after what was given to the stream before, and waits for it.
    ///
    /// # Errors
    /// [`Error::UnfitMemory`] beyond the end, [`Error::Capturing`], or the driver's.
    pub fn read(&self, stream: Stream, offset: usize, to: &mut [u8]) -> Result<(), Error> {
        let from = self.range(offset, to.len())?;
        self.copy(stream, "cuMemcpyDtoHAsync", |stream| {
            // SAFETY: within the block, and the host's bytes live until the stream was waited for.
            unsafe { sys::cuMemcpyDtoHAsync_v2(to.as_mut_ptr().cast(), from.0, to.len(), stream) }
        })
    }

    /// Begins a copy of `bytes` bytes from `offset` to the host, after what was given to the stream before. With page-locked memory nobody waits for
    /// it; other memory has been written on return, unless the copy is captured.
    ///
    /// # Safety
    /// `to` has so many writable bytes, which nobody else touches until the copy is made.
    ///
    /// # Errors
    /// [`Error::UnfitMemory`] beyond the end, or the driver's.
    pub unsafe fn begin_read(&self, stream: Stream, offset: usize, to: *mut u8, bytes: usize) -> Result<(), Error> {
        let from = self.range(offset, bytes)?;
        let entered = self.context.enter()?;
        // The driver does not say whether it has written pageable memory when it returns.
        let waits = !is_page_locked(to)? && !stream.is_capturing(&entered)?;
        // SAFETY: within the block; the host's bytes by the caller's word.
        if !succeeded(unsafe { sys::cuMemcpyDtoHAsync_v2(to.cast(), from.0, bytes, stream.as_raw().cast()) }) {
            return Err(Error::last("cuMemcpyDtoHAsync"));
        }
        if waits { stream.synchronize(&entered) } else { Ok(()) }
    }

    /// Waits for what was given to a stream of the block's device.
    ///
    /// # Errors
    /// [`Error::Capturing`], or the driver's: also of work that was given to the device before.
    pub fn wait(&self, stream: Stream) -> Result<(), Error> {
        stream.synchronize(&self.enter_for(stream)?)
    }

    /// Makes the context current, for work on a stream that is waited for.
    fn enter_for(&self, stream: Stream) -> Result<Entered<'_>, Error> {
        let entered = self.context.enter()?;
        if stream.is_capturing(&entered)? { Err(Error::Capturing) } else { Ok(entered) }
    }

    fn copy(&self, stream: Stream, call: &'static str, copy: impl FnOnce(sys::CUstream) -> sys::CUresult) -> Result<(), Error> {
        let entered = self.enter_for(stream)?;
        if !succeeded(copy(stream.as_raw().cast())) {
            return Err(Error::last(call));
        }
        stream.synchronize(&entered)
    }
}

impl core::fmt::Debug for Memory {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Memory").field("at", &self.at).field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        let Ok(_entered) = self.context.enter() else { return };
        match self.owner {
            // The driver waits for the work that uses it.
            // SAFETY: allocated by it, and given back once.
            Owner::Driver => _ = unsafe { sys::cuMemFree_v2(self.at.0) },
            // SAFETY: allocated by it, and given back once.
            Owner::Caller(allocator) => unsafe {
                (allocator.free)(allocator.user, core::ptr::with_exposed_provenance_mut(self.at.0 as usize), self.bytes);
            },
            Owner::Lent => {}
        }
    }
}

/// Whether memory of the host is the driver's or registered with it. A context is current.
fn is_page_locked(at: *const u8) -> Result<bool, Error> {
    let mut kind = 0_u32;
    let which = sys::CUpointer_attribute_enum::CU_POINTER_ATTRIBUTE_MEMORY_TYPE;
    // SAFETY: it is told where to write an unsigned int.
    let known = succeeded(unsafe { sys::cuPointerGetAttribute((&raw mut kind).cast(), which, at.addr() as u64) });
    match known {
        true => Ok(kind == sys::CUmemorytype_enum::CU_MEMORYTYPE_HOST as u32),
        false if shim::last_code() == shim::INVALID_VALUE => Ok(false),
        false => Err(Error::last("cuPointerGetAttribute")),
    }
}

/// Whether a context's thread-wide rules about captures are set aside.
pub(super) struct Relaxed {
    before: sys::CUstreamCaptureMode,
}

impl Relaxed {
    /// What is done meanwhile concerns no capture, also not one of another thread that forbids all threads what it may not record.
    pub(super) fn begin(_entered: &Entered<'_>) -> Result<Self, Error> {
        let mut before = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED;
        // SAFETY: a mode, which the driver exchanges for this thread's.
        if succeeded(unsafe { sys::cuThreadExchangeStreamCaptureMode(&mut before) }) {
            Ok(Self { before })
        } else {
            Err(Error::last("cuThreadExchangeStreamCaptureMode"))
        }
    }
}

impl Drop for Relaxed {
    fn drop(&mut self) {
        // SAFETY: the mode that it was.
        unsafe { sys::cuThreadExchangeStreamCaptureMode(&mut self.before) };
    }
}
