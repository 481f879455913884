//! create and its options: an optimizer on the heap.

use std::ffi::c_void;

use super::backend::Kind;
use super::block::Block;
use super::fallible::boxed;
use super::pool::parallel_for::{MAX_TASKS, kls_parallel_for};
use super::sgemm::{Sgemm, kls_sgemm};
use super::{Bf16, Host};
use crate::checked::{check_pointer, put};
use crate::config::kls_config;
use crate::error::{Failure, Locate};
use crate::guard::{Call, guard};
use crate::handle::{Plan, kls_optimizer};
use crate::optimizer::table;
use crate::status::*;
use crate::tensor::kls_tensor;
use crate::versioned::{FromC, Versioned, extend, read_struct, write_struct};

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
    /// Threads of a step, the calling one included, 1 to 1024; with `parallel_for`, tasks that run at once at most. Default 1. Results do
    /// not depend on it. Slices that are a large part of a step are worked on by all threads together, the others by one each. Each thread
    /// has a scratch of its own, as long as the largest slice needs that it works on alone; the calling one's is as long as the largest of all
    /// needs.
    pub num_threads: u32,
    /// KLS_BACKEND_*.
    pub backend: i32,
    /// KLS_PRODUCTS_*. Default KLS_PRODUCTS_F32.
    pub products: i32,
    /// The caller's own pool, which then runs what the library's threads would: no thread is started. It is called several times in a step,
    /// with `count` = num_threads, by the thread that makes the step; with num_threads 1 it is not called. NULL (the default): the library
    /// starts threads of its own.
    pub parallel_for: kls_parallel_for,
    /// Handed through to it.
    pub parallel_for_user: *mut c_void,
    /// The caller's own matrix product, for products of f32 from 64^3 multiplications on with no side below 16; smaller ones and
    /// factorisations stay with faer, and so do the tiles on the diagonal of a symmetric product. Several threads may call it at once where
    /// num_threads is more than 1. A result with a NaN or an infinity fails what it was for: the slice (KLS_ERROR_LINALG) or the refresh. Not
    /// with KLS_BACKEND_PORTABLE or KLS_PRODUCTS_BF16. NULL (the default): all products are the backend's.
    pub sgemm: kls_sgemm,
    /// Handed through to it.
    pub sgemm_user: *mut c_void,
}

impl Versioned for kls_options {
    // The first header ended before the caller's own functions.
    const SIZES: &'static [usize] = &[core::mem::offset_of!(Self, parallel_for), size_of::<Self>()];
}

impl FromC for kls_options {
    unsafe fn read(from: *const u8, size: usize) -> Result<Self, kls_status> {
        // SAFETY: each version is the start of the next, by the caller's word readable.
        Ok(unsafe { extend(Self::DEFAULT, from, size) })
    }
}

impl kls_options {
    const DEFAULT: Self = Self {
        struct_size: size_of::<Self>() as u32,
        num_threads: 1,
        backend: KLS_BACKEND_AUTO,
        products: KLS_PRODUCTS_F32,
        parallel_for: None,
        parallel_for_user: std::ptr::null_mut(),
        sgemm: None,
        sgemm_user: std::ptr::null_mut(),
    };

    /// The backend that they ask for; all of them are checked.
    fn kind(&self) -> Result<Kind, Failure> {
        if !(1..=MAX_TASKS as u32).contains(&self.num_threads) {
            return Err(KLS_ERROR_THREADS).of_field("num_threads");
        }
        let portable = match self.backend {
            KLS_BACKEND_PORTABLE => true,
            KLS_BACKEND_AUTO | KLS_BACKEND_FAER => false,
            _ => return Err(KLS_ERROR_UNKNOWN_VALUE).of_field("backend"),
        };
        let bf16 = match self.products {
            KLS_PRODUCTS_F32 => None,
            KLS_PRODUCTS_BF16 if portable => return unsupported("products", "The portable backend has no bf16 products."),
            KLS_PRODUCTS_BF16 => Some(Bf16::detect().ok_or(KLS_ERROR_UNSUPPORTED).of_field("products")?),
            _ => return Err(KLS_ERROR_UNKNOWN_VALUE).of_field("products"),
        };
        match (Sgemm::new(self.sgemm, self.sgemm_user), portable, bf16) {
            (None, true, _) => Ok(Kind::Portable),
            (None, false, bf16) => Ok(Kind::Faer(bf16)),
            (Some(sgemm), false, None) => Ok(Kind::Sgemm(sgemm)),
            (Some(_), true, _) => unsupported("sgemm", "The portable backend is the same on every machine and takes no sgemm."),
            (Some(_), _, Some(_)) => unsupported("sgemm", "KLS_PRODUCTS_BF16 and an sgemm exclude each other."),
        }
    }
}

fn unsupported<T>(field: &'static str, because: &'static str) -> Result<T, Failure> {
    Err(Failure::because(KLS_ERROR_UNSUPPORTED, because)).of_field(field)
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
    guard("kls_options_init", || unsafe { write_struct(options, struct_size, kls_options::DEFAULT) }.of_field("options"))
}

/// Makes an optimizer on the heap, with threads and the host's backend. `options` may be NULL for the defaults. Groups and tensors
/// are copied. On an error `*optimizer` is untouched. After one warm-up call per thread, steps allocate nothing. kls_optimizer_add_tensors
/// makes it grow.
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
    // SAFETY: the caller vouches for the tensors.
    let call = unsafe { Call::on_tensors("kls_optimizer_create", tensors, tensor_count) };
    guard(call, || {
        check_pointer(optimizer).of_field("optimizer")?;
        // SAFETY: the caller vouches for both arrays.
        let (groups, tensors) = unsafe { table(groups, group_count, tensors, tensor_count)? };
        let options = if options.is_null() {
            kls_options::DEFAULT
        } else {
            // SAFETY: by the caller's word readable.
            unsafe { read_struct(options) }.of_field("options")?
        };
        let plan = Plan::new(groups, tensors, false)?;
        let kind = options.kind()?;
        let (place, block) = (Block::new(size_of::<kls_optimizer>())?, Block::new(plan.size)?);
        let made = place.as_ptr().cast::<kls_optimizer>();
        // SAFETY: two new blocks of zeros, one for the object and one for this plan.
        unsafe { kls_optimizer::build(made, block.as_ptr(), plan, groups, tensors)? };
        // SAFETY: just built, nobody else knows of it. Without a host there is nothing in it to be dropped.
        let object = unsafe { &mut *made };
        let host = Host::new(&options, kind, object.parts()?.view.tensors(), place, block)?;
        object.host = Some(boxed(host)?);
        // SAFETY: checked above.
        unsafe { put(optimizer, made) }
    })
}

/// Frees an optimizer that `create` made.
///
/// # Safety
/// `handle` came from `create` and is not used any more.
pub(crate) unsafe fn release(handle: *mut kls_optimizer) {
    // SAFETY: the object is initialised; it is dropped once, and then its host, which ends the threads and frees all memory, the object's
    // own included.
    unsafe {
        let host = (*handle).host.take();
        handle.drop_in_place();
        drop(host);
    }
}
