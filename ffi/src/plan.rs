//! What became of a tensor: the plan that the optimizer follows.

use klshampoo::Mode;

use crate::checked::put;
use crate::error::Locate;
use crate::guard::with_handle;
use crate::handle::kls_optimizer;
use crate::status::*;
use crate::tensor::{KLS_MAX_ORDER, KLS_MODE_DIAGONAL, KLS_MODE_FULL, KLS_MODE_IDENTITY};
use crate::versioned::{Versioned, write_struct};

/// How a tensor is treated: merged dims, cuts, modes and state.
#[allow(non_camel_case_types)]
#[derive(Clone, Copy)]
#[repr(C)]
pub struct kls_plan {
    /// sizeof(kls_plan).
    pub struct_size: u32,
    /// Number of dims after merging.
    pub order: u32,
    /// Their lengths.
    pub dims: [u64; KLS_MAX_ORDER],
    /// The first of the tensor's own dims that each of them stands for; it stands for all up to the next one's.
    pub first_dim: [u32; KLS_MAX_ORDER],
    /// KLS_MODE_* of each dim of the first piece.
    pub modes: [i32; KLS_MAX_ORDER],
    /// Into how many segments each dim is cut.
    pub segments: [u64; KLS_MAX_ORDER],
    /// Slices of the tensor.
    pub slices: u64,
    /// Pieces of each slice: the product of the segments. Where a function takes a slice, it counts these: slice * pieces + piece.
    pub pieces: u64,
    /// Bytes of state of the whole tensor, without the pieces' 64-byte headers.
    pub state_bytes: u64,
    /// Bytes of scratch that a step of it needs; tensors share it, each thread has one.
    pub scratch_bytes: u64,
    /// Floating-point operations of matrix products in a step of the whole tensor without a refresh.
    pub step_flops: u64,
    /// The same of products and factorisations of a refresh, on top of that.
    pub refresh_flops: u64,
    /// What a refresh adds to one step at most: all of it, unless it is made in portions. No step takes more than step_flops and this.
    pub refresh_step_flops: u64,
    /// Steps from the one in which a refresh becomes due to the one that turns the last basis, if it is made in portions and none of
    /// them waits; else 0.
    pub refresh_steps: u64,
}

impl Versioned for kls_plan {
    const SIZES: &'static [usize] = &[core::mem::offset_of!(Self, refresh_step_flops), size_of::<Self>()];
}

/// Copies how a tensor is treated. `struct_size` is sizeof(kls_plan).
///
/// Errors: KLS_ERROR_INDEX, KLS_ERROR_NULL, KLS_ERROR_MISALIGNED, KLS_ERROR_STRUCT_SIZE and the handle's; `plan` is then untouched.
///
/// # Safety
/// `optimizer` is a handle that no other thread uses; `plan` has `struct_size` writable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kls_optimizer_plan(
    optimizer: *mut kls_optimizer,
    tensor: usize,
    plan: *mut kls_plan,
    struct_size: usize,
) -> kls_status {
    // SAFETY: the caller vouches for the handle and the memory.
    unsafe {
        with_handle(optimizer, "kls_optimizer_plan", |optimizer| {
            let parts = optimizer.parts()?;
            let entry = parts.view.tensors().get(tensor).ok_or(KLS_ERROR_INDEX).of_tensor(tensor)?;
            let (of, order) = (entry.plan(), entry.plan().order());
            let mode = |k: usize| match entry.layout().shape().mode(k) {
                Mode::Full => KLS_MODE_FULL,
                Mode::Diagonal => KLS_MODE_DIAGONAL,
                Mode::Identity => KLS_MODE_IDENTITY,
            };
            let cost = entry.slice_cost().times(entry.slices() as u64);
            let value = kls_plan {
                struct_size: size_of::<kls_plan>() as u32,
                order: order as u32,
                dims: core::array::from_fn(|k| of.dim(k) as u64),
                first_dim: core::array::from_fn(|k| of.merged(k, KLS_MAX_ORDER).start as u32),
                modes: core::array::from_fn(mode),
                segments: core::array::from_fn(|k| if k < order { of.segments(k) as u64 } else { 1 }),
                slices: entry.slices() as u64,
                pieces: entry.pieces() as u64,
                state_bytes: (entry.state_range(entry.slices() - 1).end - entry.state_range(0).start) as u64 * size_of::<f32>() as u64,
                scratch_bytes: entry.scratch_len() as u64 * size_of::<f32>() as u64,
                step_flops: cost.step,
                refresh_flops: cost.refresh,
                refresh_step_flops: cost.refresh_step,
                refresh_steps: entry.refresh_steps(parts.view.groups()),
            };
            write_struct(plan, struct_size, value).of_field("plan")
        })
    }
}

/// Predicted floating-point operations of the table's step number `step` (the first one is 1): products and factorisations, if all
/// tensors have a gradient in every step and no refresh is left out. With refreshes in portions, the most that the step may take.
///
/// Errors: KLS_ERROR_NULL, KLS_ERROR_MISALIGNED and the handle's; `flops` is then untouched.
///
/// # Safety
/// `optimizer` is a handle that no other thread uses; `flops` is writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kls_optimizer_predicted_flops(optimizer: *mut kls_optimizer, step: u64, flops: *mut u64) -> kls_status {
    // SAFETY: the caller vouches for the handle and the memory.
    unsafe {
        with_handle(optimizer, "kls_optimizer_predicted_flops", |optimizer| {
            let predicted = optimizer.parts()?.view.predicted_flops(step);
            put(flops, predicted).of_field("flops")
        })
    }
}
