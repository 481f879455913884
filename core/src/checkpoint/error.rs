//! Why a checkpoint is not written or not read.

/// Why a checkpoint is not written or not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckpointError {
    /// It does not start as a checkpoint does.
    NotACheckpoint,
    /// A later version of this library wrote it.
    Version,
    /// It ends before the length that it says.
    Truncated,
    /// Its bytes are not those that were written.
    Checksum,
    /// Its numbers are of the other element type, or its factors and bases are kept in another format.
    Element,
    /// It is of other tensors: their number, dims, slices, or how they are cut and preconditioned.
    Shapes,
    /// A tensor was stepped by a method whose state means something else.
    Method,
    /// Its checksum is right but what it says contradicts itself, or its state has numbers that are not finite.
    Malformed,
    /// The caller's sink or source failed.
    Stream,
    /// It changed, or its source failed, between the check and the end of loading: the optimizer is now as a new one.
    Changed,
    /// The buffer is shorter than the checkpoint.
    BufferTooShort,
}

impl core::fmt::Display for CheckpointError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::NotACheckpoint => "this is no checkpoint",
            Self::Version => "a later version of the library wrote the checkpoint",
            Self::Truncated => "the checkpoint ends before the length that it says",
            Self::Checksum => "the checkpoint's bytes are not those that were written",
            Self::Element => "the checkpoint's numbers are of another type",
            Self::Shapes => "the checkpoint is of other tensors",
            Self::Method => "the checkpoint is of another method",
            Self::Malformed => "the checkpoint contradicts itself, or its state is not finite",
            Self::Stream => "the checkpoint could not be written or read",
            Self::Changed => "the checkpoint changed while it was loaded, and the optimizer is as a new one",
            Self::BufferTooShort => "the buffer is shorter than the checkpoint",
        })
    }
}

impl core::error::Error for CheckpointError {}
