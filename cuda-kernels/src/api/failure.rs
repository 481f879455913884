//! What the device and the step refuse, as C sees it.

use klshampoo_ffi::error::{Failure, Locate};
use klshampoo_ffi::status::*;

use crate::driver::{Error, Unfit};
use crate::queue::DeviceError;
use crate::step::{Reason, Refused, StepError, TooManySteps};

/// The driver's codes for kernels that are newer than it knows.
const UNSUPPORTED_KERNELS: [u32; 2] = [222, 209];

/// Of a call of the driver.
pub(super) fn from_device(error: Error) -> Failure {
    match error {
        Error::NoDriver => KLS_ERROR_CUDA_NO_DRIVER.into(),
        Error::DriverTooOld { .. } => KLS_ERROR_CUDA_DRIVER_TOO_OLD.into(),
        Error::NoSuchDevice { .. } => at("device", KLS_ERROR_CUDA_NO_DEVICE),
        Error::DeviceTooOld { .. } => {
            let why = "The device is older than the kernels, which need compute capability 8.0.";
            at("device", Failure::because(KLS_ERROR_CUDA_UNSUPPORTED, why))
        }
        Error::OutOfMemory { .. } => KLS_ERROR_CUDA_OUT_OF_MEMORY.into(),
        Error::UnfitMemory(Unfit::Misaligned) => at("memory", KLS_ERROR_MISALIGNED),
        Error::UnfitMemory(Unfit::TooShort { .. }) => at("memory_size", KLS_ERROR_MEMORY_TOO_SHORT),
        Error::UnfitMemory(Unfit::OfAnotherDevice) => Failure::because(KLS_ERROR_CUDA, "This is not memory of the device."),
        Error::Capturing => Failure::because(KLS_ERROR_CUDA, "This cannot be done while the stream is being captured."),
        Error::ModuleRefused { fault, .. } if UNSUPPORTED_KERNELS.contains(&fault.code) => {
            Failure::of_driver(KLS_ERROR_CUDA_DRIVER_TOO_OLD, fault.call, fault.code, fault.text())
        }
        Error::Driver(fault) | Error::ModuleRefused { fault, .. } => {
            let status = if fault.is_out_of_memory() { KLS_ERROR_CUDA_OUT_OF_MEMORY } else { KLS_ERROR_CUDA };
            Failure::of_driver(status, fault.call, fault.code, fault.text())
        }
        Error::Blas(fault) => {
            let status = if fault.is_out_of_memory() { KLS_ERROR_CUDA_OUT_OF_MEMORY } else { KLS_ERROR_CUDA };
            Failure::of_driver(status, fault.call, fault.status.unsigned_abs(), fault.text)
        }
        _ => KLS_ERROR_CUDA.into(),
    }
}

/// cuBLAS is demanded, and there is none.
pub(super) fn no_blas() -> Failure {
    at("blas", Failure::because(KLS_ERROR_CUDA_UNSUPPORTED, "There is no cuBLAS (libcublas.so.13 or .12), which is required."))
}

/// Of a launch.
pub(super) fn from_launch(error: DeviceError) -> Failure {
    from_device(error.into())
}

/// Of a table.
pub(super) fn from_refused(refused: Refused) -> Failure {
    let unsupported = |because| Failure::because(KLS_ERROR_CUDA_UNSUPPORTED, because);
    let failure = match refused.reason {
        Reason::Group => KLS_ERROR_GROUP.into(),
        Reason::Overflow => KLS_ERROR_OVERFLOW.into(),
        Reason::OutOfMemory => return KLS_ERROR_OUT_OF_MEMORY.into(),
        Reason::TooMany => unsupported("The GPU's optimizer has at most 2^24 slices and pieces of slices."),
        Reason::FactorFormat => unsupported("The GPU's optimizer keeps factors and bases in f32."),
        Reason::Portions => unsupported("The GPU's optimizer makes no refreshes in portions."),
        Reason::TooLarge => {
            unsupported("For the GPU a piece has less than 2^31 elements, and a dim with a full factor is at most 2^15 long.")
        }
        Reason::Geometry(_) => unsupported("The GPU's optimizer cannot address the tensor's elements in their buffer."),
    };
    of_tensor(refused.tensor, failure)
}

/// Of replayed steps.
pub(super) fn from_replayed(_: TooManySteps) -> Failure {
    Failure::because(KLS_ERROR_OVERFLOW, "More than 2^40 steps in all, or more than 2^20 at once while the refresh period grows.")
}

/// Of a step.
pub(super) fn from_step(error: StepError) -> Failure {
    match error {
        StepError::TensorCount => KLS_ERROR_TENSOR_COUNT.into(),
        StepError::ParameterMissing { tensor } => of_tensor(tensor, KLS_ERROR_NULL),
        StepError::LearningRate => at("lr", KLS_ERROR_LEARNING_RATE),
        StepError::GradScale => at("grad_scale", KLS_ERROR_GRAD_SCALE),
        StepError::Device(error) => from_launch(error),
    }
}

fn at(field: &'static str, failure: impl Into<Failure>) -> Failure {
    Err::<(), Failure>(failure.into()).of_field(field).expect_err("a failure")
}

fn of_tensor(tensor: usize, failure: impl Into<Failure>) -> Failure {
    Err::<(), Failure>(failure.into()).of_tensor(tensor).expect_err("a failure")
}
