//! What a step says: how much it did, or why it did not.

use crate::magnitude::GradientFault;
use crate::step::SliceError;

/// Why a step was refused or failed, and where. Nothing of the named slice was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepError {
    /// Index of the tensor; 0 where the error concerns the whole call.
    pub tensor: usize,
    /// Slice of that tensor; where slices are cut, `slice * pieces + piece`.
    pub slice: usize,
    /// What went wrong.
    pub kind: StepErrorKind,
}

/// See [`StepError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepErrorKind {
    /// The learning rate is negative or not finite, or its product with the group's scale or weight decay is not finite.
    LearningRate,
    /// Not as many parameters or gradients as tensors.
    TensorCount,
    /// There is no such tensor, slice or mode.
    NoSuchIndex,
    /// A parameter or gradient buffer does not have the tensor's length.
    BufferLength,
    /// The scratch is shorter than the table needs.
    ScratchTooShort,
    /// A buffer is of another format than the tensor's [`crate::Storage`] says.
    Format,
    /// The factor on the gradient is not finite and positive, or the tensor's [`crate::Storage`] does not provide for one.
    GradScale,
    /// A direction alone was asked for of a tensor that keeps master weights, which would not follow.
    MasterWeights,
    /// A direction alone with L2 decay needs the parameter to look at.
    ParameterMissing,
    /// The slice was not stepped.
    Slice(SliceError),
    /// The slice has no basis yet: it has not seen a non-zero gradient.
    NotStarted,
    /// The mode has no eigenbasis, factor or eigenvalues to read or set.
    NoSuchState,
    /// The given basis is not orthogonal.
    NotOrthogonal,
}

impl core::fmt::Display for StepError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "tensor {}, slice {}: ", self.tensor, self.slice)?;
        f.write_str(match self.kind {
            StepErrorKind::LearningRate => "the learning rate must be finite and at least 0",
            StepErrorKind::TensorCount => "not as many parameters or gradients as tensors",
            StepErrorKind::NoSuchIndex => "no such tensor, slice or mode",
            StepErrorKind::BufferLength => "the buffer does not have the tensor's length",
            StepErrorKind::ScratchTooShort => "the scratch is shorter than the table needs",
            StepErrorKind::Format => "a buffer is not of the format that the tensor was described with",
            StepErrorKind::GradScale => {
                "the factor on the gradient must be finite, positive, and 1 where the tensor does not provide for one"
            }
            StepErrorKind::MasterWeights => "a tensor with master weights cannot be asked for a direction alone",
            StepErrorKind::ParameterMissing => "with L2 decay the direction depends on the parameter",
            StepErrorKind::Slice(SliceError::Gradient(GradientFault::NotFinite)) => "the gradient has a NaN or an infinity",
            StepErrorKind::Slice(SliceError::Gradient(GradientFault::TooLarge)) => "the gradient is too large for the arithmetic",
            StepErrorKind::Slice(SliceError::EstimateNotFinite) => "the estimate of a factor left the range of the arithmetic",
            StepErrorKind::Slice(SliceError::UpdateNotFinite) => "the update came out not finite",
            StepErrorKind::Slice(SliceError::LinAlg(_)) => "a matrix product failed",
            StepErrorKind::NotStarted => "no non-zero gradient has been seen yet",
            StepErrorKind::NoSuchState => "this mode does not have that state",
            StepErrorKind::NotOrthogonal => "the basis is not orthogonal",
        })
    }
}

impl core::error::Error for StepError {}

/// What a step did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StepReport {
    /// Slices stepped; where slices are cut, pieces of them.
    pub stepped: usize,
    /// Slices (pieces) without a gradient in this call.
    pub frozen: usize,
    /// Slices (pieces) left alone because of their gradient ([`crate::BadGradient::Skip`]).
    pub skipped: usize,
    /// Refreshes that failed in the slices (pieces) that were stepped, one per mode; the old eigenbasis stayed.
    pub refresh_failures: usize,
    /// Floating-point operations of the portions of refreshes, as [`crate::Cost`] predicts them.
    pub portion_flops: u64,
}
