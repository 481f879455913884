//! Where an optimizer lies on the GPU, and how its products are made.

use std::ffi::c_void;
use std::ptr;

use klshampoo_ffi::error::{Failure, Locate};
use klshampoo_ffi::guard::guard;
use klshampoo_ffi::kls_status;
use klshampoo_ffi::status::KLS_ERROR_UNKNOWN_VALUE;
use klshampoo_ffi::versioned::{FromC, Versioned, extend, write_struct};

use crate::driver::Blas;
use crate::linalg::Precision;
use crate::step::{DEFAULT_WORKSPACE_LIMIT, Library, Options, Precisions};

/// Products of f32, without tensor cores.
pub const KLS_CUDA_PRECISION_F32: i32 = 0;
/// On tensor cores, each input as the sum of two numbers in TF32: nearly as exact as KLS_CUDA_PRECISION_F32.
pub const KLS_CUDA_PRECISION_TF32X3: i32 = 1;
/// On tensor cores, inputs rounded to TF32: 11 significant bits.
pub const KLS_CUDA_PRECISION_TF32: i32 = 2;
/// On tensor cores, inputs rounded to bf16: 8 significant bits.
pub const KLS_CUDA_PRECISION_BF16: i32 = 3;

/// cuBLAS makes the large products that it can, where there is one.
pub const KLS_CUDA_BLAS_AUTO: i32 = 0;
/// This library makes all products.
pub const KLS_CUDA_BLAS_NEVER: i32 = 1;
/// As KLS_CUDA_BLAS_AUTO; without cuBLAS no optimizer is made.
pub const KLS_CUDA_BLAS_REQUIRED: i32 = 2;

/// Gives `bytes` of device memory at an address that is a multiple of `alignment`, or NULL. It is called once, by kls_cuda_create, while the
/// primary context of the optimizer's device is current. It must not throw or jump out.
#[allow(non_camel_case_types)]
pub type kls_cuda_alloc = Option<unsafe extern "C" fn(user: *mut c_void, bytes: usize, alignment: usize) -> *mut c_void>;

/// Takes back what kls_cuda_alloc gave. It is called once, by kls_cuda_destroy or by a kls_cuda_create that fails, in the same way. It does not know
/// of work that streams have still to do.
#[allow(non_camel_case_types)]
pub type kls_cuda_free = Option<unsafe extern "C" fn(user: *mut c_void, memory: *mut c_void, bytes: usize)>;

/// Where an optimizer lies, and how its products are made. Fill it with kls_cuda_options_init, then change what you want.
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
    /// less memory and more time; a single tensor may need more. Default 2^32: 4 GiB.
    pub workspace_limit: u64,
    /// KLS_CUDA_PRECISION_*: of the products that take a gradient into the eigenbasis and the direction back out of it, and that move momentum along
    /// with a basis that turns. Sums are f32 at every precision; a slice's first step, which sets its bases, is f32 in all. Default
    /// KLS_CUDA_PRECISION_F32. What each precision costs in error is in the README of the GPU's crate.
    pub precision_project: i32,
    /// The same of what the Kronecker factors see of a gradient: symmetric products. Eigenvalues below the rounding of the largest one are lost.
    pub precision_factor: i32,
    /// The same of the products with which a refresh turns the factors. Those on which the orthogonality of a basis rests are made at no less than
    /// KLS_CUDA_PRECISION_TF32X3, whatever is said here.
    pub precision_refresh: i32,
    /// KLS_CUDA_BLAS_*: whether large products are left to cuBLAS (libcublas.so.13 or .12, opened by kls_cuda_create; the environment variable
    /// KLS_CUDA_BLAS names another file). It makes those of plain matrices at every precision but KLS_CUDA_PRECISION_TF32X3. Its
    /// workspace of 32 MiB is a part of the optimizer's block, counted by kls_cuda_query whether it is there or not, if the table has a product
    /// that is large enough; what cublasCreate itself allocates is not. Default KLS_CUDA_BLAS_AUTO.
    pub blas: i32,
    /// How large: the least number of multiplications (rows x columns x depth) in a product of one tensor. Default 2^24: 256 x 256 x 256.
    pub blas_from: u64,
    /// A CUstream or cudaStream_t of the device, on which the refreshes of a step are made after it, beside what its stream is given next: the caller's
    /// next forward and backward pass. It stays until the optimizer's end. With the legacy default stream nothing overlaps that does not come from
    /// cudaStreamNonBlocking; it cannot be the refresh_stream itself. A refresh that is due in a step is then made from the state that this
    /// step leaves, and used from the next step on: every group is stepped as with step_order KLS_ORDER_APPLY_FIRST, whatever it says. The next
    /// step waits for it on the device; see kls_cuda_join. It has a workspace of its own, about as large again, and takes nothing to cuBLAS. NULL (the
    /// default): refreshes are part of the step, on its stream.
    pub refresh_stream: *mut c_void,
}

impl Versioned for kls_cuda_options {
    // The first header ended before the products, the second one before the stream of refreshes.
    const SIZES: &'static [usize] =
        &[core::mem::offset_of!(Self, precision_project), core::mem::offset_of!(Self, refresh_stream), size_of::<Self>()];
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
        workspace_limit: DEFAULT_WORKSPACE_LIMIT,
        precision_project: KLS_CUDA_PRECISION_F32,
        precision_factor: KLS_CUDA_PRECISION_F32,
        precision_refresh: KLS_CUDA_PRECISION_F32,
        blas: KLS_CUDA_BLAS_AUTO,
        blas_from: Library::WORTH_WHILE,
        refresh_stream: ptr::null_mut(),
    };

    /// What they say of the program of a step.
    pub(super) fn of_program(&self) -> Result<Options, Failure> {
        Ok(Options {
            workspace_limit: usize::try_from(self.workspace_limit).unwrap_or(usize::MAX),
            precision: Precisions {
                project: precision(self.precision_project).of_field("precision_project")?,
                factor: precision(self.precision_factor).of_field("precision_factor")?,
                refresh: precision(self.precision_refresh).of_field("precision_refresh")?,
            },
            library: match self.blas {
                KLS_CUDA_BLAS_NEVER => Library::NEVER,
                KLS_CUDA_BLAS_AUTO | KLS_CUDA_BLAS_REQUIRED => {
                    Library { from: self.blas_from, workspace: Blas::WORKSPACE, required: self.blas == KLS_CUDA_BLAS_REQUIRED }
                }
                _ => return Err(KLS_ERROR_UNKNOWN_VALUE).of_field("blas"),
            },
            refreshes_later: !self.refresh_stream.is_null(),
        })
    }
}

fn precision(value: i32) -> Result<Precision, kls_status> {
    match value {
        KLS_CUDA_PRECISION_F32 => Ok(Precision::Fp32),
        KLS_CUDA_PRECISION_TF32X3 => Ok(Precision::Tf32x3),
        KLS_CUDA_PRECISION_TF32 => Ok(Precision::Tf32),
        KLS_CUDA_PRECISION_BF16 => Ok(Precision::Bf16),
        _ => Err(KLS_ERROR_UNKNOWN_VALUE),
    }
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
