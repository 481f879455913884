//! Status values: pinned numbers, one text each.

use core::ffi::{CStr, c_char};

use klshampoo::checkpoint::CheckpointError;
use klshampoo::{ConfigError, GradientFault, ShapeError, SliceError, StepErrorKind, TableError, WindowError};

/// Result of every call: `KLS_OK` or the number of an error. Numbers never change their meaning.
#[allow(non_camel_case_types)]
pub type kls_status = i32;

/// Success.
pub const KLS_OK: kls_status = 0;
/// A pointer is NULL.
pub const KLS_ERROR_NULL: kls_status = 1;
/// struct_size is not the size of a known version of the struct: call its init function with sizeof.
pub const KLS_ERROR_STRUCT_SIZE: kls_status = 2;
/// Not an initialised optimizer: its init failed, or it was destroyed.
pub const KLS_ERROR_HANDLE: kls_status = 3;
/// An earlier call on this optimizer met an internal error; its state cannot be trusted.
pub const KLS_ERROR_POISONED: kls_status = 4;
/// An option's integer is none of its constants.
pub const KLS_ERROR_UNKNOWN_VALUE: kls_status = 5;
/// A pointer is not aligned for its type; memory for an optimizer needs the alignment that the query gives.
pub const KLS_ERROR_MISALIGNED: kls_status = 6;
/// The lent memory is shorter than the query says.
pub const KLS_ERROR_MEMORY_TOO_SHORT: kls_status = 7;
/// The memory for the optimizer could not be had.
pub const KLS_ERROR_OUT_OF_MEMORY: kls_status = 8;
/// Internal error: a panic was caught. Please report it.
pub const KLS_ERROR_INTERNAL: kls_status = 10;
/// num_threads must be between 1 and 1024, and the threads must be startable.
pub const KLS_ERROR_THREADS: kls_status = 11;
/// A reserved field is not 0.
pub const KLS_ERROR_RESERVED: kls_status = 12;
/// This processor, or the chosen backend, cannot do what an option asks for.
pub const KLS_ERROR_UNSUPPORTED: kls_status = 13;
/// The caller's parallel_for did not run every task once and to its end; the step was made in full all the same.
pub const KLS_ERROR_PARALLEL_FOR: kls_status = 14;
/// This build of the library leaves out a method, or what an option or a tensor needs.
pub const KLS_ERROR_NOT_BUILT: kls_status = 15;
/// A table is divided among at least one rank.
pub const KLS_ERROR_RANKS: kls_status = 16;
/// beta1 and beta2 must lie in [0, 1).
pub const KLS_ERROR_BETA: kls_status = 20;
/// eps must be finite and at least 0.
pub const KLS_ERROR_EPS: kls_status = 21;
/// weight_decay must be finite and at least 0; at most 1 if independent of the learning rate.
pub const KLS_ERROR_WEIGHT_DECAY: kls_status = 22;
/// refresh_period must be at least 1, refresh_offset 0 or 1, and refresh_growth at most 2^20.
pub const KLS_ERROR_REFRESH_PERIOD: kls_status = 23;
/// A constant lambda_0 must be finite and at least 2^-63.
pub const KLS_ERROR_LAMBDA_INIT: kls_status = 24;
/// clamp_limit must be 0 (no clamp), or finite and at least 1; SOAP has no eigenvalues to clamp.
pub const KLS_ERROR_CLAMP_LIMIT: kls_status = 25;
/// lr_scale must be finite and at least 0.
pub const KLS_ERROR_LR_SCALE: kls_status = 26;
/// power must lie in (0, 1].
pub const KLS_ERROR_POWER: kls_status = 27;
/// This estimator and this direction do not go together.
pub const KLS_ERROR_COMBINATION: kls_status = 28;
/// A clamp and gauge rebalancing exclude each other.
pub const KLS_ERROR_CLAMP_WITH_GAUGE: kls_status = 29;
/// staleness must be finite and at least 0.
pub const KLS_ERROR_STALENESS: kls_status = 30;
/// rms_cap must be 0 (no cap), or finite and at least 2^-63.
pub const KLS_ERROR_RMS_CAP: kls_status = 31;
/// The von Neumann direction divides by traces that only Shampoo's estimator gives it.
pub const KLS_ERROR_TRACE_SCALED: kls_status = 32;
/// A graft needs a method with Kronecker factors.
pub const KLS_ERROR_GRAFT: kls_status = 33;
/// Damping of each factor needs a Kronecker direction.
pub const KLS_ERROR_DAMPING: kls_status = 34;
/// F-Shampoo variant 1 cannot start from factors of zero.
pub const KLS_ERROR_ZERO_FACTORS: kls_status = 35;
/// The step-size form of bias correction needs a direction by second moments.
pub const KLS_ERROR_BIAS_CORRECTION: kls_status = 36;
/// An identity basis at the start needs a full first step and a Kronecker direction.
pub const KLS_ERROR_FIRST_BASIS: kls_status = 37;
/// The scale of these factors is not free to be rebalanced.
pub const KLS_ERROR_GAUGE: kls_status = 38;
/// The reference order of estimates belongs to the estimator of KL-Shampoo.
pub const KLS_ERROR_ESTIMATE_ORDER: kls_status = 39;
/// Formats that do not go together: a parameter is f32 or bf16, and only a bf16 one is rounded or has master weights.
pub const KLS_ERROR_FORMAT: kls_status = 49;
/// The strides let indices of a tensor share an element, or interleave dims.
pub const KLS_ERROR_STRIDES: kls_status = 50;
/// Refreshes in portions are QR refreshes of methods that read a factor for nothing else.
pub const KLS_ERROR_REFRESH_PORTION: kls_status = 51;
/// A tensor has 1 to KLS_MAX_ORDER dims.
pub const KLS_ERROR_ORDER: kls_status = 40;
/// A dim is zero.
pub const KLS_ERROR_ZERO_DIM: kls_status = 41;
/// The tensor or its state does not fit the address space.
pub const KLS_ERROR_OVERFLOW: kls_status = 42;
/// There is no such group.
pub const KLS_ERROR_GROUP: kls_status = 43;
/// A tensor needs at least one slice.
pub const KLS_ERROR_SLICES: kls_status = 44;
/// Slices overlap or interleave: slice_stride is smaller than a slice from its first to its last element.
pub const KLS_ERROR_SLICE_STRIDE: kls_status = 45;
/// One-sided preconditioning is of one dim.
pub const KLS_ERROR_ONE_SIDED: kls_status = 46;
/// The parts of the rows must be at most KLS_MAX_ROW_PARTS, none empty, and add up to the first dim.
pub const KLS_ERROR_ROW_PARTS: kls_status = 47;
/// A slice would be cut into more than 65536 pieces: block_size is too small.
pub const KLS_ERROR_PIECES: kls_status = 48;
/// The learning rate must be finite and at least 0.
pub const KLS_ERROR_LEARNING_RATE: kls_status = 60;
/// tensor_count is not the number of tensors that the optimizer was made for.
pub const KLS_ERROR_TENSOR_COUNT: kls_status = 61;
/// There is no such tensor, slice or mode.
pub const KLS_ERROR_INDEX: kls_status = 62;
/// A buffer does not have the right number of elements.
pub const KLS_ERROR_BUFFER_LENGTH: kls_status = 63;
/// A gradient has a NaN or an infinity.
pub const KLS_ERROR_GRADIENT_NOT_FINITE: kls_status = 64;
/// A gradient is too large: its squared norm, weighted, must stay below 2^120.
pub const KLS_ERROR_GRADIENT_TOO_LARGE: kls_status = 65;
/// An update came out not finite.
pub const KLS_ERROR_UPDATE_NOT_FINITE: kls_status = 66;
/// A matrix product failed.
pub const KLS_ERROR_LINALG: kls_status = 67;
/// The slice has no eigenbasis yet: it has not seen a non-zero gradient.
pub const KLS_ERROR_NOT_STARTED: kls_status = 68;
/// This tensor or mode does not have that part of the state.
pub const KLS_ERROR_NO_SUCH_STATE: kls_status = 69;
/// The basis is not orthogonal.
pub const KLS_ERROR_NOT_ORTHOGONAL: kls_status = 70;
/// Buffers overlap: a parameter, a gradient or an update with another of the same tensor (in a flat buffer, of any).
pub const KLS_ERROR_OVERLAP: kls_status = 71;
/// The estimate of a factor left the range of the arithmetic: the gradients are too large for this method.
pub const KLS_ERROR_ESTIMATE_NOT_FINITE: kls_status = 72;

/// grad_scale must be finite and positive; in lent memory it must be 1 for tensors without grad_scaling.
pub const KLS_ERROR_GRAD_SCALE: kls_status = 74;
/// A parameter or gradient of this tensor is not f32: kls_optimizer_step_with takes it, kls_optimizer_step and _step_tensor do not.
pub const KLS_ERROR_NOT_F32: kls_status = 75;
/// A tensor with master weights has no update alone: the master weights would not follow.
pub const KLS_ERROR_MASTER_WEIGHTS: kls_status = 76;
/// All gradients of the window are zero.
pub const KLS_ERROR_ZERO_WINDOW: kls_status = 73;
/// This is no checkpoint of an optimizer.
pub const KLS_ERROR_CHECKPOINT_FORMAT: kls_status = 80;
/// A later version of the library wrote the checkpoint.
pub const KLS_ERROR_CHECKPOINT_VERSION: kls_status = 81;
/// The checkpoint is not as long as it says: it was cut off.
pub const KLS_ERROR_CHECKPOINT_TRUNCATED: kls_status = 82;
/// The checkpoint's bytes are not those that were saved.
pub const KLS_ERROR_CHECKPOINT_CHECKSUM: kls_status = 83;
/// The checkpoint's numbers, or its factors and bases (factor_format), are of another type.
pub const KLS_ERROR_CHECKPOINT_ELEMENT: kls_status = 84;
/// The checkpoint is of other tensors: their number, dims, slices or pieces.
pub const KLS_ERROR_CHECKPOINT_SHAPES: kls_status = 85;
/// The checkpoint is of another method, whose state means something else.
pub const KLS_ERROR_CHECKPOINT_METHOD: kls_status = 86;
/// The checkpoint contradicts itself, or its state is not finite: something else than this library wrote it.
pub const KLS_ERROR_CHECKPOINT_MALFORMED: kls_status = 87;
/// The read or write callback failed; the optimizer is unchanged.
pub const KLS_ERROR_CHECKPOINT_CALLBACK: kls_status = 88;
/// The checkpoint changed or could not be read any more while it was loaded; the optimizer's state is that of a new one.
pub const KLS_ERROR_CHECKPOINT_CHANGED: kls_status = 89;
/// There is no such file or folder.
pub const KLS_ERROR_FILE_NOT_FOUND: kls_status = 90;
/// Reading or writing the file failed.
pub const KLS_ERROR_IO: kls_status = 91;
/// This is no safetensors file with an optimizer's checkpoint.
pub const KLS_ERROR_SAFETENSORS: kls_status = 92;
/// There is no CUDA driver on this machine.
pub const KLS_ERROR_CUDA_NO_DRIVER: kls_status = 100;
/// The CUDA driver is too old for this library.
pub const KLS_ERROR_CUDA_DRIVER_TOO_OLD: kls_status = 101;
/// There is no such CUDA device.
pub const KLS_ERROR_CUDA_NO_DEVICE: kls_status = 102;
/// The device's memory for the optimizer could not be had.
pub const KLS_ERROR_CUDA_OUT_OF_MEMORY: kls_status = 103;
/// A call of the CUDA driver failed; kls_cuda_last_error has its number and text.
pub const KLS_ERROR_CUDA: kls_status = 104;
/// The GPU's optimizer does not do this; the one of the CPU does.
pub const KLS_ERROR_CUDA_UNSUPPORTED: kls_status = 105;

/// The sentence that explains a status.
pub const fn text(status: kls_status) -> &'static CStr {
    match status {
        KLS_OK => c"Success.",
        KLS_ERROR_NULL => c"A pointer is NULL.",
        KLS_ERROR_STRUCT_SIZE => c"struct_size is not the size of a known version of the struct: call its init function with sizeof.",
        KLS_ERROR_HANDLE => c"Not an initialised optimizer: its init failed, or it was destroyed.",
        KLS_ERROR_POISONED => c"An earlier call on this optimizer met an internal error; its state cannot be trusted.",
        KLS_ERROR_UNKNOWN_VALUE => c"An option's integer is none of its constants.",
        KLS_ERROR_MISALIGNED => c"A pointer is not aligned for its type; memory for an optimizer needs the alignment that the query gives.",
        KLS_ERROR_MEMORY_TOO_SHORT => c"The lent memory is shorter than the query says.",
        KLS_ERROR_OUT_OF_MEMORY => c"The memory for the optimizer could not be had.",
        KLS_ERROR_INTERNAL => c"Internal error: a panic was caught. Please report it.",
        KLS_ERROR_THREADS => c"num_threads must be between 1 and 1024, and the threads must be startable.",
        KLS_ERROR_RESERVED => c"A reserved field is not 0.",
        KLS_ERROR_UNSUPPORTED => c"This processor, or the chosen backend, cannot do what an option asks for.",
        KLS_ERROR_PARALLEL_FOR => {
            c"The caller's parallel_for did not run every task once and to its end; the step was made in full all the same."
        }
        KLS_ERROR_NOT_BUILT => c"This build of the library leaves out a method, or what an option or a tensor needs.",
        KLS_ERROR_RANKS => c"A table is divided among at least one rank.",
        KLS_ERROR_BETA => c"beta1 and beta2 must lie in [0, 1).",
        KLS_ERROR_EPS => c"eps must be finite and at least 0.",
        KLS_ERROR_WEIGHT_DECAY => c"weight_decay must be finite and at least 0; at most 1 if independent of the learning rate.",
        KLS_ERROR_REFRESH_PERIOD => c"refresh_period must be at least 1, refresh_offset 0 or 1, and refresh_growth at most 2^20.",
        KLS_ERROR_LAMBDA_INIT => c"A constant lambda_0 must be finite and at least 2^-63.",
        KLS_ERROR_CLAMP_LIMIT => c"clamp_limit must be 0 (no clamp), or finite and at least 1; SOAP has no eigenvalues to clamp.",
        KLS_ERROR_LR_SCALE => c"lr_scale must be finite and at least 0.",
        KLS_ERROR_POWER => c"power must lie in (0, 1].",
        KLS_ERROR_COMBINATION => c"This estimator and this direction do not go together.",
        KLS_ERROR_CLAMP_WITH_GAUGE => c"A clamp and gauge rebalancing exclude each other.",
        KLS_ERROR_STALENESS => c"staleness must be finite and at least 0.",
        KLS_ERROR_RMS_CAP => c"rms_cap must be 0 (no cap), or finite and at least 2^-63.",
        KLS_ERROR_TRACE_SCALED => c"The von Neumann direction divides by traces that only Shampoo's estimator gives it.",
        KLS_ERROR_GRAFT => c"A graft needs a method with Kronecker factors.",
        KLS_ERROR_DAMPING => c"Damping of each factor needs a Kronecker direction.",
        KLS_ERROR_ZERO_FACTORS => c"F-Shampoo variant 1 cannot start from factors of zero.",
        KLS_ERROR_BIAS_CORRECTION => c"The step-size form of bias correction needs a direction by second moments.",
        KLS_ERROR_FIRST_BASIS => c"An identity basis at the start needs a full first step and a Kronecker direction.",
        KLS_ERROR_GAUGE => c"The scale of these factors is not free to be rebalanced.",
        KLS_ERROR_ESTIMATE_ORDER => c"The reference order of estimates belongs to the estimator of KL-Shampoo.",
        KLS_ERROR_FORMAT => {
            c"Formats that do not go together: a parameter is f32 or bf16, and only a bf16 one is rounded or has master weights."
        }
        KLS_ERROR_REFRESH_PORTION => c"Refreshes in portions are QR refreshes of methods that read a factor for nothing else.",
        KLS_ERROR_STRIDES => c"The strides let indices of a tensor share an element, or interleave dims.",
        KLS_ERROR_GRAD_SCALE => c"grad_scale must be finite and positive; in lent memory it must be 1 for tensors without grad_scaling.",
        KLS_ERROR_NOT_F32 => c"A parameter or gradient of this tensor is not f32: step it by kls_optimizer_step_with.",
        KLS_ERROR_MASTER_WEIGHTS => c"A tensor with master weights has no update alone: the master weights would not follow.",
        KLS_ERROR_ORDER => c"A tensor has 1 to KLS_MAX_ORDER dims.",
        KLS_ERROR_ZERO_DIM => c"A dim is zero.",
        KLS_ERROR_OVERFLOW => c"The tensor or its state does not fit the address space.",
        KLS_ERROR_GROUP => c"There is no such group.",
        KLS_ERROR_SLICES => c"A tensor needs at least one slice.",
        KLS_ERROR_SLICE_STRIDE => c"Slices overlap or interleave: slice_stride is smaller than a slice from its first to its last element.",
        KLS_ERROR_ONE_SIDED => c"One-sided preconditioning is of one dim.",
        KLS_ERROR_ROW_PARTS => c"The parts of the rows must be at most KLS_MAX_ROW_PARTS, none empty, and add up to the first dim.",
        KLS_ERROR_PIECES => c"A slice would be cut into more than 65536 pieces: block_size is too small.",
        KLS_ERROR_LEARNING_RATE => c"The learning rate must be finite and at least 0.",
        KLS_ERROR_TENSOR_COUNT => c"tensor_count is not the number of tensors that the optimizer was made for.",
        KLS_ERROR_INDEX => c"There is no such tensor, slice or mode.",
        KLS_ERROR_BUFFER_LENGTH => c"A buffer does not have the right number of elements.",
        KLS_ERROR_GRADIENT_NOT_FINITE => c"A gradient has a NaN or an infinity.",
        KLS_ERROR_GRADIENT_TOO_LARGE => c"A gradient is too large: its squared norm, weighted, must stay below 2^120.",
        KLS_ERROR_UPDATE_NOT_FINITE => c"An update came out not finite.",
        KLS_ERROR_LINALG => c"A matrix product failed.",
        KLS_ERROR_NOT_STARTED => c"The slice has no eigenbasis yet: it has not seen a non-zero gradient.",
        KLS_ERROR_NO_SUCH_STATE => c"This tensor or mode does not have that part of the state.",
        KLS_ERROR_NOT_ORTHOGONAL => c"The basis is not orthogonal.",
        KLS_ERROR_ESTIMATE_NOT_FINITE => {
            c"The estimate of a factor left the range of the arithmetic: the gradients are too large for this method."
        }
        KLS_ERROR_OVERLAP => c"Buffers overlap: a parameter, a gradient or an update with another.",
        KLS_ERROR_ZERO_WINDOW => c"All gradients of the window are zero.",
        KLS_ERROR_CHECKPOINT_FORMAT => c"This is no checkpoint of an optimizer.",
        KLS_ERROR_CHECKPOINT_VERSION => c"A later version of the library wrote the checkpoint.",
        KLS_ERROR_CHECKPOINT_TRUNCATED => c"The checkpoint is not as long as it says: it was cut off.",
        KLS_ERROR_CHECKPOINT_CHECKSUM => c"The checkpoint's bytes are not those that were saved.",
        KLS_ERROR_CHECKPOINT_ELEMENT => c"The checkpoint's numbers, or its factors and bases (factor_format), are of another type.",
        KLS_ERROR_CHECKPOINT_SHAPES => c"The checkpoint is of other tensors: their number, dims, slices or pieces.",
        KLS_ERROR_CHECKPOINT_METHOD => c"The checkpoint is of another method, whose state means something else.",
        KLS_ERROR_CHECKPOINT_MALFORMED => {
            c"The checkpoint contradicts itself, or its state is not finite: something else than this library wrote it."
        }
        KLS_ERROR_CHECKPOINT_CALLBACK => c"The read or write callback failed; the optimizer is unchanged.",
        KLS_ERROR_CHECKPOINT_CHANGED => {
            c"The checkpoint changed or could not be read any more while it was loaded; the optimizer's state is that of a new one."
        }
        KLS_ERROR_FILE_NOT_FOUND => c"There is no such file or folder.",
        KLS_ERROR_IO => c"Reading or writing the file failed.",
        KLS_ERROR_SAFETENSORS => c"This is no safetensors file with an optimizer's checkpoint.",
        KLS_ERROR_CUDA_NO_DRIVER => c"There is no CUDA driver on this machine.",
        KLS_ERROR_CUDA_DRIVER_TOO_OLD => c"The CUDA driver is too old for this library.",
        KLS_ERROR_CUDA_NO_DEVICE => c"There is no such CUDA device.",
        KLS_ERROR_CUDA_OUT_OF_MEMORY => c"The device's memory for the optimizer could not be had.",
        KLS_ERROR_CUDA => c"A call of the CUDA driver failed.",
        KLS_ERROR_CUDA_UNSUPPORTED => c"The GPU's optimizer does not do this; the one of the CPU does.",
        _ => c"Unknown status.",
    }
}

/// The status of a configuration that is refused.
pub const fn from_config(error: ConfigError) -> kls_status {
    match error {
        ConfigError::Beta => KLS_ERROR_BETA,
        ConfigError::Eps => KLS_ERROR_EPS,
        ConfigError::WeightDecay => KLS_ERROR_WEIGHT_DECAY,
        ConfigError::RefreshPeriod => KLS_ERROR_REFRESH_PERIOD,
        ConfigError::LambdaInit => KLS_ERROR_LAMBDA_INIT,
        ConfigError::ClampLimit => KLS_ERROR_CLAMP_LIMIT,
        ConfigError::LrScale => KLS_ERROR_LR_SCALE,
        ConfigError::Power => KLS_ERROR_POWER,
        ConfigError::Combination => KLS_ERROR_COMBINATION,
        ConfigError::ClampWithGauge => KLS_ERROR_CLAMP_WITH_GAUGE,
        ConfigError::Staleness => KLS_ERROR_STALENESS,
        ConfigError::RefreshPortion => KLS_ERROR_REFRESH_PORTION,
        ConfigError::RmsCap => KLS_ERROR_RMS_CAP,
        ConfigError::TraceScaledEstimator => KLS_ERROR_TRACE_SCALED,
        ConfigError::GraftWithoutFactors => KLS_ERROR_GRAFT,
        ConfigError::FactorDamping => KLS_ERROR_DAMPING,
        ConfigError::ZeroFactors => KLS_ERROR_ZERO_FACTORS,
        ConfigError::StepSizeCorrection => KLS_ERROR_BIAS_CORRECTION,
        ConfigError::FirstBasis => KLS_ERROR_FIRST_BASIS,
        ConfigError::Gauge => KLS_ERROR_GAUGE,
        ConfigError::EstimateOrder => KLS_ERROR_ESTIMATE_ORDER,
        ConfigError::NotBuilt => KLS_ERROR_NOT_BUILT,
        // C's arithmetic is in f32.
        ConfigError::FactorFormat => KLS_ERROR_FORMAT,
    }
}

const fn from_shape(error: ShapeError) -> kls_status {
    match error {
        ShapeError::Order => KLS_ERROR_ORDER,
        ShapeError::ZeroDim => KLS_ERROR_ZERO_DIM,
        ShapeError::Overflow => KLS_ERROR_OVERFLOW,
        ShapeError::RowParts => KLS_ERROR_ROW_PARTS,
        ShapeError::Pieces => KLS_ERROR_PIECES,
        ShapeError::Strides => KLS_ERROR_STRIDES,
    }
}

/// The status of a table that is refused.
pub const fn from_table(error: TableError) -> kls_status {
    match error {
        TableError::Config(error) => from_config(error),
        TableError::Shape(error) => from_shape(error),
        TableError::Group => KLS_ERROR_GROUP,
        TableError::OneSided => KLS_ERROR_ONE_SIDED,
        TableError::Slices => KLS_ERROR_SLICES,
        TableError::Format => KLS_ERROR_FORMAT,
        TableError::SliceStride => KLS_ERROR_SLICE_STRIDE,
        // Only this library orders its tables, and they have no fixed capacity.
        TableError::Order | TableError::Capacity => KLS_ERROR_INTERNAL,
        TableError::BufferTooShort => KLS_ERROR_MEMORY_TOO_SHORT,
    }
}

/// The status of a step that failed.
pub const fn from_step(error: StepErrorKind) -> kls_status {
    match error {
        StepErrorKind::LearningRate => KLS_ERROR_LEARNING_RATE,
        StepErrorKind::TensorCount => KLS_ERROR_TENSOR_COUNT,
        StepErrorKind::NoSuchIndex => KLS_ERROR_INDEX,
        StepErrorKind::BufferLength => KLS_ERROR_BUFFER_LENGTH,
        StepErrorKind::ScratchTooShort => KLS_ERROR_MEMORY_TOO_SHORT,
        StepErrorKind::Slice(SliceError::Gradient(GradientFault::NotFinite)) => KLS_ERROR_GRADIENT_NOT_FINITE,
        StepErrorKind::Slice(SliceError::Gradient(GradientFault::TooLarge)) => KLS_ERROR_GRADIENT_TOO_LARGE,
        StepErrorKind::Slice(SliceError::EstimateNotFinite) => KLS_ERROR_ESTIMATE_NOT_FINITE,
        StepErrorKind::Slice(SliceError::UpdateNotFinite) => KLS_ERROR_UPDATE_NOT_FINITE,
        StepErrorKind::Slice(SliceError::LinAlg(_)) => KLS_ERROR_LINALG,
        StepErrorKind::Format => KLS_ERROR_NOT_F32,
        StepErrorKind::GradScale => KLS_ERROR_GRAD_SCALE,
        StepErrorKind::MasterWeights => KLS_ERROR_MASTER_WEIGHTS,
        StepErrorKind::ParameterMissing => KLS_ERROR_NULL,
        StepErrorKind::NotStarted => KLS_ERROR_NOT_STARTED,
        StepErrorKind::NoSuchState => KLS_ERROR_NO_SUCH_STATE,
        StepErrorKind::NotOrthogonal => KLS_ERROR_NOT_ORTHOGONAL,
    }
}

/// The status of a window that is refused.
pub const fn from_window(error: WindowError) -> kls_status {
    match error {
        WindowError::ZeroDim => KLS_ERROR_ZERO_DIM,
        WindowError::Length => KLS_ERROR_BUFFER_LENGTH,
        WindowError::Overflow => KLS_ERROR_OVERFLOW,
        WindowError::ScratchTooShort => KLS_ERROR_MEMORY_TOO_SHORT,
        WindowError::NotFinite => KLS_ERROR_GRADIENT_NOT_FINITE,
        WindowError::Zero => KLS_ERROR_ZERO_WINDOW,
        WindowError::LinAlg(_) => KLS_ERROR_LINALG,
    }
}

/// The status of a save or load that failed.
pub const fn from_checkpoint(error: CheckpointError) -> kls_status {
    match error {
        CheckpointError::NotACheckpoint => KLS_ERROR_CHECKPOINT_FORMAT,
        CheckpointError::Version => KLS_ERROR_CHECKPOINT_VERSION,
        CheckpointError::Truncated => KLS_ERROR_CHECKPOINT_TRUNCATED,
        CheckpointError::Checksum => KLS_ERROR_CHECKPOINT_CHECKSUM,
        CheckpointError::Element => KLS_ERROR_CHECKPOINT_ELEMENT,
        CheckpointError::Shapes => KLS_ERROR_CHECKPOINT_SHAPES,
        CheckpointError::Method => KLS_ERROR_CHECKPOINT_METHOD,
        CheckpointError::Malformed => KLS_ERROR_CHECKPOINT_MALFORMED,
        CheckpointError::Stream => KLS_ERROR_CHECKPOINT_CALLBACK,
        CheckpointError::Changed => KLS_ERROR_CHECKPOINT_CHANGED,
        CheckpointError::BufferTooShort => KLS_ERROR_MEMORY_TOO_SHORT,
    }
}

/// One English sentence for a status. Never NULL; the text is static.
#[unsafe(no_mangle)]
pub extern "C" fn kls_status_string(status: kls_status) -> *const c_char {
    text(status).as_ptr()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_has_its_own_text() {
        let known: Vec<&CStr> = (0..1000).map(text).filter(|&text| text != c"Unknown status.").collect();
        assert!(known.len() > 35);
        for (i, a) in known.iter().enumerate() {
            assert!(!known[..i].contains(a), "{a:?}");
        }
        assert_eq!(text(-1), c"Unknown status.");
    }
}
