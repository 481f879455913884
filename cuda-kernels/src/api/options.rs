//! Where an optimizer lies on the GPU.

use std::ffi::c_void;
use std::ptr;

use klshampoo_ffi::error::Locate;
use klshampoo_ffi::guard::guard;
use klshampoo_ffi::kls_status;
use klshampoo_ffi::versioned::{FromC, Versioned, extend, write_struct};

/// Gives `bytes` of device memory at an address that is a multiple of `alignment`, or NULL. It is called once, by kls_cuda_create, while the
/// primary context of the optimizer's device is current. It must not throw or jump out.
#[allow(non_camel_case_types)]
pub type kls_cuda_alloc = Option<unsafe extern "C" fn(user: *mut c_void, bytes: usize, alignment: usize) -> *mut c_void>;

/// Takes back what kls_cuda_alloc gave. It is called once, by kls_cuda_destroy or by a kls_cuda_create that fails, in the same way. It does not know
/// of work that streams have still to do.
#[allow(non_camel_case_types)]
pub type kls_cuda_free = Option<unsafe extern "C" fn(user: *mut c_void, memory: *mut c_void, bytes: usize)>;

/// Where an optimizer lies. Fill it with kls_cuda_options_init, then change what you want.
#[allow(non_camel_case_types)]
#[derive(Clone, Copy)]
#[repr(C)]
pub struct kls_cuda_options {
    /// sizeof(kls_cuda_options), set by kls_cuda_options_init.
    pub struct_size: u32,
    /// The device's ordinal, as cudaGetDevice and cuDeviceGet count. Default 0.
    pub device: i32,
    /// The CUstream or cudaStream_t on which kls_cuda_create clears the memory, for which it waits. NULL (the default): the legacy default stream.
    pub stream: *mut c_void,
    /// The caller's own pool of device memory. NULL (the default): the driver's.
    pub alloc: kls_cuda_alloc,
    /// Where what it gave goes back to; not NULL where `alloc` is not.
    pub free: kls_cuda_free,
    /// Handed through to both.
    pub allocator_user: *mut c_void,
    /// Device memory that the caller lends until the optimizer's end; its address is a multiple of kls_cuda_memory.alignment. NULL (the
    /// default): none. Not together with `alloc`.
    pub memory: *mut c_void,
    /// Bytes of it, at least kls_cuda_memory.total_bytes.
    pub memory_size: u64,
    /// Bytes of workspace that tensors of one shape may take together. Beyond it they are stepped in several batches, one after another, which takes
    /// less memory and more time; a single tensor may need more. Default 2^30.
    pub workspace_limit: u64,
}

impl Versioned for kls_cuda_options {
    const SIZES: &'static [usize] = &[size_of::<Self>()];
}

impl FromC for kls_cuda_options {
    unsafe fn read(from: *const u8, size: usize) -> Result<Self, kls_status> {
        // SAFETY: each version is the start of the next, by the caller's word readable.
        Ok(unsafe { extend(Self::DEFAULT, from, size) })
    }
}

impl kls_cuda_options {
    pub(super) const DEFAULT: Self = Self {
        struct_size: size_of::<Self>() as u32,
        device: 0,
        stream: ptr::null_mut(),
        alloc: None,
        free: None,
        allocator_user: ptr::null_mut(),
        memory: ptr::null_mut(),
        memory_size: 0,
        workspace_limit: 1 << 30,
    };
}

/// Fills `options` with the defaults. `struct_size` is sizeof(kls_cuda_options).
///
/// Errors: KLS_ERROR_NULL, KLS_ERROR_MISALIGNED, KLS_ERROR_STRUCT_SIZE; `options` is then untouched.
///
/// # Safety
/// `options` points to `struct_size` writable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kls_cuda_options_init(options: *mut kls_cuda_options, struct_size: usize) -> kls_status {
    // SAFETY: the caller vouches for the memory; the function checks the pointer and the size.
    guard("kls_cuda_options_init", || unsafe { write_struct(options, struct_size, kls_cuda_options::DEFAULT) }.of_field("options"))
}
