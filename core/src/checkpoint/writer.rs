//! Writing in small chunks, with a running checksum.

use core::hash::Hasher;

use twox_hash::XxHash64;

use super::{CHUNK, CheckpointError, Fields, Record, Sink};
use crate::Scalar;

/// Writes a checkpoint into a [`Sink`], front to back.
pub struct Writer<'s, S> {
    sink: &'s mut S,
    hash: XxHash64,
    chunk: [u8; CHUNK],
    filled: usize,
}

impl<'s, S: Sink> Writer<'s, S> {
    /// At the start of a checkpoint.
    pub fn new(sink: &'s mut S) -> Self {
        Self { sink, hash: XxHash64::with_seed(0), chunk: [0; CHUNK], filled: 0 }
    }

    /// Hands over what has been gathered.
    fn flush(&mut self) -> Result<(), CheckpointError> {
        let bytes = &self.chunk[..core::mem::take(&mut self.filled)];
        if !bytes.is_empty() {
            self.hash.write(bytes);
            self.sink.write(bytes)?;
        }
        Ok(())
    }

    /// A field of at most as many bytes as a chunk has.
    fn put(&mut self, bytes: &[u8]) -> Result<(), CheckpointError> {
        if self.filled + bytes.len() > CHUNK {
            self.flush()?;
        }
        self.chunk[self.filled..self.filled + bytes.len()].copy_from_slice(bytes);
        self.filled += bytes.len();
        Ok(())
    }

    /// Writes a record.
    ///
    /// # Errors
    /// Those of the sink; likewise below.
    pub fn record<R: Record>(&mut self, mut record: R) -> Result<(), CheckpointError> {
        record.visit(self)
    }

    /// Writes bytes as they are.
    ///
    /// # Errors
    /// See [`Self::record`].
    pub fn bytes(&mut self, bytes: &[u8]) -> Result<(), CheckpointError> {
        bytes.chunks(CHUNK).try_for_each(|chunk| self.put(chunk))
    }

    /// Writes numbers, little-endian.
    ///
    /// # Errors
    /// See [`Self::record`].
    pub fn numbers<T: Scalar>(&mut self, numbers: &[T]) -> Result<(), CheckpointError> {
        for numbers in numbers.chunks(CHUNK / size_of::<T>()) {
            let len = size_of_val(numbers);
            if self.filled + len > CHUNK {
                self.flush()?;
            }
            let room = &mut self.chunk[self.filled..self.filled + len];
            for (bytes, number) in room.chunks_exact_mut(size_of::<T>()).zip(numbers) {
                bytes.copy_from_slice(&number.bits().to_le_bytes()[..size_of::<T>()]);
            }
            self.filled += len;
        }
        Ok(())
    }

    /// Writes the checksum of everything so far, and hands all of it over.
    ///
    /// # Errors
    /// See [`Self::record`].
    pub fn seal(&mut self) -> Result<(), CheckpointError> {
        self.flush()?;
        self.put(&self.hash.finish().to_le_bytes())?;
        self.flush()
    }
}

impl<S: Sink> Fields for Writer<'_, S> {
    type Error = CheckpointError;

    fn u32(&mut self, _: &'static str, value: &mut u32) -> Result<(), CheckpointError> {
        self.put(&value.to_le_bytes())
    }

    fn u64(&mut self, _: &'static str, value: &mut u64) -> Result<(), CheckpointError> {
        self.put(&value.to_le_bytes())
    }

    fn f32(&mut self, _: &'static str, value: &mut f32) -> Result<(), CheckpointError> {
        self.put(&value.to_le_bytes())
    }

    fn f64(&mut self, _: &'static str, value: &mut f64) -> Result<(), CheckpointError> {
        self.put(&value.to_le_bytes())
    }
}
