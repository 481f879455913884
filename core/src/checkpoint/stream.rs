//! Where the bytes of a checkpoint go and come from.

use super::CheckpointError;

/// Takes the bytes of a checkpoint, one run after another. A `&mut [u8]` is one: what was written is cut off its front.
pub trait Sink {
    /// Takes the next bytes.
    ///
    /// # Errors
    /// [`CheckpointError::Stream`], [`CheckpointError::BufferTooShort`].
    fn write(&mut self, bytes: &[u8]) -> Result<(), CheckpointError>;
}

/// Gives the bytes of a checkpoint. They are read front to back, twice. A `&[u8]` is one.
pub trait Source {
    /// Fills `bytes` with those from `offset` on.
    ///
    /// # Errors
    /// [`CheckpointError::Stream`]; [`CheckpointError::Truncated`] where the source ends.
    fn read(&mut self, offset: u64, bytes: &mut [u8]) -> Result<(), CheckpointError>;

    /// How many bytes there are, if that is known. There may be more than the checkpoint has.
    fn available(&self) -> Option<u64> {
        None
    }
}

impl Sink for &mut [u8] {
    fn write(&mut self, bytes: &[u8]) -> Result<(), CheckpointError> {
        let (head, rest) = core::mem::take(self).split_at_mut_checked(bytes.len()).ok_or(CheckpointError::BufferTooShort)?;
        head.copy_from_slice(bytes);
        *self = rest;
        Ok(())
    }
}

impl Source for &[u8] {
    fn read(&mut self, offset: u64, bytes: &mut [u8]) -> Result<(), CheckpointError> {
        let from = usize::try_from(offset).ok().and_then(|offset| self.get(offset..)?.get(..bytes.len()));
        bytes.copy_from_slice(from.ok_or(CheckpointError::Truncated)?);
        Ok(())
    }

    fn available(&self) -> Option<u64> {
        Some(self.len() as u64)
    }
}
