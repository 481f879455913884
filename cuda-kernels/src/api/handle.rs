//! The optimizer object.

use std::ffi::c_char;

use klshampoo_ffi::checked::check_pointer;
use klshampoo_ffi::error::Failure;
use klshampoo_ffi::guard::Handle;
use klshampoo_ffi::host::table::Table;
use klshampoo_ffi::message::{Message, last_without_handle};
use klshampoo_ffi::status::KLS_ERROR_HANDLE;

use super::observer::Observer;
use super::refreshes::Refreshes;
use super::transfer::Headers;
use crate::driver::{Blas, Kernels, Memory};
use crate::step::DeviceOptimizer;

/// Marks an object that create made.
const LIVE: u64 = 0x6b6c_7363_7564_615f;

/// An optimizer on a GPU. Opaque.
#[allow(non_camel_case_types)]
pub struct kls_cuda {
    magic: u64,
    poisoned: bool,
    message: Message,
    pub(super) table: Table,
    pub(super) optimizer: DeviceOptimizer,
    pub(super) headers: Headers,
    /// How the host learns that the first steps are over.
    pub(super) observer: Observer,
    /// Refreshes that are not part of the step. They are over before the memory is given back.
    pub(super) refreshes: Option<Refreshes>,
    /// Whether there was a bound on the norm of the gradients, which was measured then.
    pub(super) has_norm: bool,
    // It works in the memory below.
    pub(super) blas: Option<Blas>,
    // The driver's own memory is given back when the device has done its work, and the kernels go after that.
    pub(super) memory: Memory,
    pub(super) kernels: Kernels,
}

impl kls_cuda {
    pub(super) fn new(
        table: Table,
        optimizer: DeviceOptimizer,
        observer: Observer,
        refreshes: Option<Refreshes>,
        blas: Option<Blas>,
        kernels: Kernels,
        memory: Memory,
    ) -> Self {
        let headers = Headers::new(&optimizer, table.totals().slices);
        Self {
            magic: LIVE,
            poisoned: false,
            message: Message::EMPTY,
            table,
            optimizer,
            headers,
            observer,
            refreshes,
            has_norm: false,
            blas,
            memory,
            kernels,
        }
    }

    /// Marks it as no optimizer.
    pub(super) fn retire(&mut self) {
        self.magic = 0;
    }
}

impl Handle for kls_cuda {
    unsafe fn from_handle<'a>(handle: *mut Self) -> Result<&'a mut Self, Failure> {
        check_pointer(handle)?;
        // SAFETY: aligned and readable. Only the number is read: the rest may be anything where create did not succeed.
        if unsafe { (&raw const (*handle).magic).read() } != LIVE {
            return Err(KLS_ERROR_HANDLE.into());
        }
        // SAFETY: create wrote all of it.
        Ok(unsafe { &mut *handle })
    }

    fn is_poisoned(&self) -> bool {
        self.poisoned
    }

    fn poison(&mut self) {
        self.poisoned = true;
    }

    fn message(&mut self) -> &mut Message {
        &mut self.message
    }

    fn tensor_name(&self, index: Option<usize>) -> &[u8] {
        index.map_or(&[], |index| self.table.name(index))
    }
}

/// Why the last failing call on an optimizer failed, as kls_last_error says it; of a call of the driver that failed, its name, the driver's number and
/// text: `kls_cuda_step: cuLaunchKernel: CUDA error 700: an illegal memory access was encountered.` Where the driver refuses the kernels it also has
/// the beginning of what its compiler says of them. An empty text if none failed. Never NULL; valid until the next call on that optimizer. With NULL, or a pointer that is no live optimizer, what kls_last_error(NULL) says.
///
/// # Safety
/// `optimizer` is NULL, or points to memory that may be read as an optimizer and that no other thread uses.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kls_cuda_last_error(optimizer: *const kls_cuda) -> *const c_char {
    // SAFETY: the caller vouches for the memory; nothing is written through it.
    match unsafe { kls_cuda::from_handle(optimizer.cast_mut()) } {
        Ok(optimizer) => optimizer.message.as_ptr(),
        Err(_) => last_without_handle(),
    }
}
