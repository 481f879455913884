//! The step.

use std::ffi::c_void;
use std::ptr;

use klshampoo::Scalar as _;
use klshampoo_ffi::checked::slice;
use klshampoo_ffi::error::{Failure, Locate, Outcome};
use klshampoo_ffi::guard::{guard, with_handle};
use klshampoo_ffi::pointers::Pointers;
use klshampoo_ffi::status::*;
use klshampoo_ffi::versioned::{FromC, Versioned, extend, read_struct, write_struct};

use super::failure::{from_device, from_replayed, from_step};
use super::handle::kls_cuda;
use crate::driver::Stream;
use crate::io::Scalar;
use crate::queue::DevicePtr;
use crate::step::DeviceOptimizer;

// Arrays of device pointers come as they lie in memory.
const _: () = assert!(size_of::<*const c_void>() == size_of::<DevicePtr>() && align_of::<*const c_void>() == align_of::<DevicePtr>());

/// A step. Fill it with kls_cuda_request_init, then change what you want. Arrays are in host memory, what their pointers point to is on the device.
#[allow(non_camel_case_types)]
#[derive(Clone, Copy)]
#[repr(C)]
pub struct kls_cuda_request {
    /// sizeof(kls_cuda_request), set by kls_cuda_request_init.
    pub struct_size: u32,
    /// The learning rate, multiplied by each group's lr_scale. There is no default: a step without one is KLS_ERROR_LEARNING_RATE.
    pub lr: f32,
    /// Multiplies every gradient when it is read, as a clip or a loss scale wants it; finite and positive. Default 1.
    pub grad_scale: f32,
    /// Bounds the norm of all gradients together, multiplied by grad_scale: if it is larger, all are scaled down to it on the device, before they are looked
    /// at. Slices whose gradients are not finite do not count. It mostly costs one more pass over the gradients. 0 (the default): no bound. A step
    /// with one that is negative or not finite is KLS_ERROR_GRAD_SCALE.
    pub max_norm: f32,
    /// A number on the device that takes the place of `lr`, read when the step runs: a captured step then takes a new rate with each replay. A
    /// step with one that is negative or not finite leaves everything alone and counts as skipped. NULL (the default): `lr`.
    pub device_lr: *const f32,
    /// The same in place of `grad_scale`. With one that is not finite no gradient is; zero or less is not looked at.
    pub device_grad_scale: *const f32,
    /// How many tensors there are. Default 0: must be set.
    pub tensor_count: usize,
    /// The tensors' parameters, in their formats.
    pub params: *const *mut c_void,
    /// The tensors' gradients, in their formats; a tensor whose pointer is NULL is frozen in this step.
    pub grads: *const *const c_void,
    /// The CUstream or cudaStream_t on which the step runs. NULL (the default): the legacy default stream.
    pub stream: *mut c_void,
}

impl kls_cuda_request {
    const DEFAULT: Self = Self {
        struct_size: size_of::<Self>() as u32,
        lr: f32::NAN,
        grad_scale: 1.0,
        max_norm: 0.0,
        device_lr: ptr::null(),
        device_grad_scale: ptr::null(),
        tensor_count: 0,
        params: ptr::null(),
        grads: ptr::null(),
        stream: ptr::null_mut(),
    };

    /// The two factors, by value or from the device.
    fn scalars(&self) -> Result<(Scalar, Scalar), Failure> {
        let scalar = |value: f32, device: *const f32, field: &'static str| {
            if !device.is_aligned() {
                return Err(KLS_ERROR_MISALIGNED).of_field(field);
            }
            Ok(if device.is_null() { Scalar::of(value) } else { Scalar::at(DevicePtr(device.addr() as u64)) })
        };
        let (lr, grad_scale) =
            (scalar(self.lr, self.device_lr, "device_lr")?, scalar(self.grad_scale, self.device_grad_scale, "device_grad_scale")?);
        // Before the pointers are looked at, and the step's own judgement.
        DeviceOptimizer::check_scalars(lr, grad_scale).map_err(from_step)?;
        Ok((lr, grad_scale))
    }
}

impl Versioned for kls_cuda_request {
    const SIZES: &'static [usize] = &[size_of::<Self>()];
}

impl FromC for kls_cuda_request {
    unsafe fn read(from: *const u8, size: usize) -> Result<Self, kls_status> {
        // SAFETY: each version is the start of the next, by the caller's word readable.
        Ok(unsafe { extend(Self::DEFAULT, from, size) })
    }
}

/// Fills `request` with the defaults. `struct_size` is sizeof(kls_cuda_request).
///
/// Errors: KLS_ERROR_NULL, KLS_ERROR_MISALIGNED, KLS_ERROR_STRUCT_SIZE; `request` is then untouched.
///
/// # Safety
/// `request` points to `struct_size` writable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kls_cuda_request_init(request: *mut kls_cuda_request, struct_size: usize) -> kls_status {
    // SAFETY: the caller vouches for the memory; the function checks the pointer and the size.
    guard("kls_cuda_request_init", || unsafe { write_struct(request, struct_size, kls_cuda_request::DEFAULT) }.of_field("request"))
}

/// One step of the whole table, queued on `request.stream`. Parameters, gradients and the numbers on the device are read and written when it runs.
/// What of the request is in host memory is not needed any more when the call returns.
///
/// What is checked here is checked before anything is queued. What the gradients are is found on the device: a slice whose gradient is not finite or too
/// large, or whose update is not finite, is left alone and counted, and its refresh schedule goes on as if it had been stepped. The step
/// counters and bias corrections of such a slice stay where they were.
///
/// Errors: KLS_ERROR_STRUCT_SIZE, KLS_ERROR_TENSOR_COUNT, KLS_ERROR_LEARNING_RATE, KLS_ERROR_GRAD_SCALE (of `grad_scale` and `max_norm`),
/// KLS_ERROR_NULL, KLS_ERROR_MISALIGNED, KLS_ERROR_OVERLAP and the handle's: nothing is then queued. KLS_ERROR_CUDA, and
/// KLS_ERROR_CUDA_OUT_OF_MEMORY if that is what the driver or cuBLAS says: of this step, or of work that the device was given before; parameters and
/// state are then not to be trusted, and the device's context is as a rule lost.
///
/// # Safety
/// `optimizer` is a handle that no other thread uses; `request` is readable, and its arrays have `tensor_count` pointers to as many elements
/// of device memory as the tensor spans, which stay until the step has run; no parameter overlaps another or a gradient; `stream` is a stream of the
/// optimizer's device.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kls_cuda_step(optimizer: *mut kls_cuda, request: *const kls_cuda_request) -> kls_status {
    // SAFETY: the caller vouches for the handle, the request and the arrays.
    unsafe {
        with_handle(optimizer, "kls_cuda_step", |optimizer| {
            let request = read_struct(request).of_field("request")?;
            if !request.max_norm.is_finite_bits() || request.max_norm < 0.0 {
                return Err(Failure::because(KLS_ERROR_GRAD_SCALE, "The bound on the norm must be finite and at least 0."))
                    .of_field("max_norm");
            }
            let tensors = optimizer.table.tensors();
            if request.tensor_count != tensors.len() {
                return Err(KLS_ERROR_TENSOR_COUNT).of_field("tensor_count");
            }
            let (lr, grad_scale) = request.scalars()?;
            let params = slice(request.params, tensors.len()).of_field("params")?;
            let grads = slice(request.grads, tensors.len()).of_field("grads")?;
            let pointers = Pointers { params, grads, updates: &[], first: 0, grad_scale: request.grad_scale };
            for (i, tensor) in tensors.iter().enumerate() {
                pointers.check(i, tensor).of_tensor(i)?;
            }
            // As they lie in memory: see above.
            let params = slice(params.as_ptr().cast::<DevicePtr>(), params.len())?;
            let grads = slice(grads.as_ptr().cast::<DevicePtr>(), grads.len())?;
            optimizer.optimizer.set_clip((request.max_norm > 0.0).then(|| Scalar::of(request.max_norm)));
            run(optimizer, params, grads, (lr, grad_scale), Stream::from_raw(request.stream))?;
            optimizer.has_norm |= request.max_norm > 0.0;
            Ok(())
        })
    }
}

fn run(optimizer: &mut kls_cuda, params: &[DevicePtr], grads: &[DevicePtr], (lr, grad_scale): (Scalar, Scalar), stream: Stream) -> Outcome {
    let kls_cuda { optimizer, headers, observer, refreshes, blas, kernels, memory, .. } = optimizer;
    let mut queue = kernels.on(stream).map_err(from_device)?.with_blas(blas.as_mut());
    if let Some(refreshes) = refreshes {
        refreshes.join(&queue).map_err(from_device)?;
    }
    observer.take(&queue, headers, optimizer).map_err(from_device)?;
    let stepped = optimizer.step(&mut queue, params, grads, lr, grad_scale).map_err(from_step);
    let left = queue.leave_blas().map_err(from_device);
    stepped?;
    left?;
    observer.ask(&queue, headers, memory, optimizer).map_err(from_device)?;
    refreshes.as_mut().map_or(Ok(()), |refreshes| refreshes.begin(&queue, kernels, optimizer))
}

/// Captured steps have been replayed: `steps` of them, that is launches of a graph times the steps in it. What the library knows of an optimizer's
/// steps, and the refreshes that it makes in later steps, then are right again. Steps of a capture itself count as made when they are captured: tell it
/// of every replay but the first one of each.
///
/// A step under capture (cudaStreamBeginCapture on its stream, cudaStreamEndCapture after) is recorded and not run. What is recorded are the
/// addresses of the request; numbers only where they are on the device (device_lr, device_grad_scale). Which refreshes it makes depends on the
/// number of steps that were made before, and repeats every refresh_period steps (without refresh_growth): capture so many steps, each in a
/// graph of its own or all in one, and replay them in that order for ever. A first step does more than later ones, and the library learns a step or
/// two later that it is over: run a few steps before you capture, or what is captured is
/// slower. In the conventions whose refreshes come a step later (reference_kl, reference_soap) the first step has to be one of these: a period that
/// begins with it has a refresh less than all others.
///
/// With kls_cuda_options.refresh_stream a captured step's refreshes are a branch of the graph that is over before whatever is captured after the step:
/// they overlap nothing. Call kls_cuda_join before the capture begins, and before a replay that comes after steps without a capture.
///
/// Errors: KLS_ERROR_OVERFLOW for steps that would bring the count beyond 2^40, or more than 2^20 at once while the refresh period still grows
/// (refresh_growth): none of them then counts; and the handle's.
///
/// # Safety
/// `optimizer` is a handle that no other thread uses.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kls_cuda_replayed(optimizer: *mut kls_cuda, steps: u64) -> kls_status {
    // SAFETY: the caller vouches for the handle.
    unsafe { with_handle(optimizer, "kls_cuda_replayed", |optimizer| optimizer.optimizer.replayed(steps).map_err(from_replayed)) }
}
