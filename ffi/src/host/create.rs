//! create and its options: an optimizer on the heap.

use std::alloc::{Layout, alloc_zeroed, dealloc};

use klshampoo::linalg::Portable;

use super::{Backend, Bf16, Faer, Host, OutOfMemory};
use crate::checked::{check_pointer, put};
use crate::config::kls_config;
use crate::guard::guard;
use crate::handle::{ALIGNMENT, Plan, kls_optimizer};
use crate::status::*;
use crate::tensor::kls_tensor;
use crate::versioned::{FromC, Structs, Versioned, extend, read_struct, write_struct};

/// The fastest backend for this machine: faer.
pub const KLS_BACKEND_AUTO: i32 = 0;
/// The portable kernels: the same bits on every machine.
pub const KLS_BACKEND_PORTABLE: i32 = 1;
/// faer's kernels: SIMD by run-time detection; the same bits for the same CPU features and any number of threads.
pub const KLS_BACKEND_FAER: i32 = 2;

/// Products of f32.
pub const KLS_PRODUCTS_F32: i32 = 0;
/// Operands of the step's large products (the gradient's way into the eigenbasis, the estimates of the factors, the direction's way back) are
/// rounded to bf16, sums are f32; refreshes, diagnostics and the state stay f32. Needs a processor with AVX512-BF16, and not
/// KLS_BACKEND_PORTABLE. A rounded gradient is off by up to 2^-9 of each element, so eigenvalues below about 2^-18 of the largest one are
/// those of the rounding. Each thread keeps 1.5 MiB for packing from its first such product on.
pub const KLS_PRODUCTS_BF16: i32 = 1;

/// How an optimizer on a host works. Fill it with kls_options_init, then change what you want.
#[allow(non_camel_case_types)]
#[derive(Clone, Copy)]
#[repr(C)]
pub struct kls_options {
    /// sizeof(kls_options), set by kls_options_init.
    pub struct_size: u32,
    /// Threads of a step, the calling one included, 1 to 1024. Default 1. Results do not depend on it. Slices that are a large part of a
    /// step are worked on by all threads together, the others by one each. Each thread has a scratch of its own, as long as the largest
    /// slice needs that it works on alone; the calling one's is as long as the largest of all needs.
    pub num_threads: u32,
    /// KLS_BACKEND_*.
    pub backend: i32,
    /// KLS_PRODUCTS_*. Default KLS_PRODUCTS_F32.
    pub products: i32,
}

impl Versioned for kls_options {
    const SIZES: &'static [usize] = &[size_of::<Self>()];
}

impl FromC for kls_options {
    unsafe fn read(from: *const u8, size: usize) -> Result<Self, kls_status> {
        // SAFETY: each version is the start of the next, by the caller's word readable.
        Ok(unsafe { extend(Self::DEFAULT, from, size) })
    }
}

impl kls_options {
    const DEFAULT: Self =
        Self { struct_size: size_of::<Self>() as u32, num_threads: 1, backend: KLS_BACKEND_AUTO, products: KLS_PRODUCTS_F32 };
}

/// Fills `options` with the defaults. `struct_size` is sizeof(kls_options).
///
/// Errors: KLS_ERROR_NULL, KLS_ERROR_MISALIGNED, KLS_ERROR_STRUCT_SIZE; `options` is then untouched.
///
/// # Safety
/// `options` points to `struct_size` writable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kls_options_init(options: *mut kls_options, struct_size: usize) -> kls_status {
    // SAFETY: the caller vouches for the memory; the function checks the pointer and the size.
    guard(|| unsafe { write_struct(options, struct_size, kls_options::DEFAULT) })
}

/// The layout of a block; `size` came out of a plan, which bounds it.
fn block(size: usize) -> Result<Layout, kls_status> {
    Layout::from_size_align(size, ALIGNMENT).map_err(|_| KLS_ERROR_OVERFLOW)
}

/// Makes an optimizer on the heap, with threads and the host's backend. `options` may be NULL for the defaults. Groups and tensors
/// are copied. On an error `*optimizer` is untouched. After one warm-up call per thread, steps allocate nothing.
///
/// Errors: those of kls_optimizer_query, KLS_ERROR_THREADS, KLS_ERROR_UNKNOWN_VALUE, KLS_ERROR_UNSUPPORTED, KLS_ERROR_OUT_OF_MEMORY.
///
/// # Safety
/// As for kls_optimizer_query; `optimizer` is writable, `options` NULL or readable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kls_optimizer_create(
    optimizer: *mut *mut kls_optimizer,
    groups: *const kls_config,
    group_count: usize,
    tensors: *const kls_tensor,
    tensor_count: usize,
    options: *const kls_options,
) -> kls_status {
    guard(|| {
        check_pointer(optimizer)?;
        // SAFETY: the caller vouches for both arrays.
        let (groups, tensors) = unsafe { (Structs::new(groups, group_count)?, Structs::new(tensors, tensor_count)?) };
        let options = if options.is_null() {
            kls_options::DEFAULT
        } else {
            // SAFETY: by the caller's word readable.
            unsafe { read_struct(options)? }
        };
        let plan = Plan::new(groups, tensors, false)?;
        let (backend, layout) = (backend(&options)?, block(plan.size)?);
        // SAFETY: the size is not zero: the block starts with the object.
        let memory = unsafe { alloc_zeroed(layout) };
        if memory.is_null() {
            return Err(KLS_ERROR_OUT_OF_MEMORY);
        }
        // SAFETY: just allocated for this plan, and zero.
        let made = unsafe { kls_optimizer::build(memory, plan, groups, tensors) }.and_then(|made| {
            // SAFETY: just built, nobody else knows of it.
            let object = unsafe { &mut *made };
            let shareable = options.backend != KLS_BACKEND_PORTABLE;
            let host = Host::new(options.num_threads as usize, object.parts()?.view.tensors(), shareable, backend)?;
            object.host = Some(Box::new(host));
            Ok(made)
        });
        let made = made.inspect_err(|_| {
            // SAFETY: allocated above with this layout; what was built in it has nothing to drop before it has a host.
            unsafe { dealloc(memory, layout) };
        })?;
        // SAFETY: checked above.
        unsafe { put(optimizer, made) }
    })
}

/// Checks the options; how a thread's backend is made for tensors of a largest dim.
fn backend(options: &kls_options) -> Result<impl Fn(usize) -> Result<Backend, OutOfMemory> + use<>, kls_status> {
    if !(1..=1024).contains(&options.num_threads) {
        return Err(KLS_ERROR_THREADS);
    }
    let portable = match options.backend {
        KLS_BACKEND_PORTABLE => true,
        KLS_BACKEND_AUTO | KLS_BACKEND_FAER => false,
        _ => return Err(KLS_ERROR_UNKNOWN_VALUE),
    };
    let bf16 = match options.products {
        KLS_PRODUCTS_F32 => None,
        KLS_PRODUCTS_BF16 if portable => return Err(KLS_ERROR_UNSUPPORTED),
        KLS_PRODUCTS_BF16 => Some(Bf16::detect().ok_or(KLS_ERROR_UNSUPPORTED)?),
        _ => return Err(KLS_ERROR_UNKNOWN_VALUE),
    };
    Ok(move |largest| {
        Ok(if portable { Backend::Portable(Portable) } else { Backend::Faer(Box::new(Faer::new(largest)?.with_bf16_products(bf16))) })
    })
}

/// Frees an optimizer that `create` made.
///
/// # Safety
/// `handle` came from `create` and is not used any more.
pub(crate) unsafe fn release(handle: *mut kls_optimizer) {
    // SAFETY: the object is initialised; it is dropped once, which ends its threads.
    unsafe {
        let size = (*handle).plan().size;
        handle.drop_in_place();
        if let Ok(layout) = block(size) {
            dealloc(handle.cast(), layout);
        }
    }
}
