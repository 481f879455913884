//! Reading in small chunks, with a running checksum.

use core::hash::Hasher;

use twox_hash::XxHash64;

use super::records::MAGIC;
use super::{CHUNK, CheckpointError, Fields, PRELUDE_LEN, Prelude, Record, SEAL_LEN, Source, VERSION};
use crate::Scalar;

/// Reads a checkpoint from a [`Source`], front to back.
pub struct Reader<'s, S> {
    source: &'s mut S,
    hash: XxHash64,
    chunk: [u8; CHUNK],
    /// The bytes of the chunk that have been fetched and not been read.
    at: usize,
    filled: usize,
    /// Where the next chunk starts.
    fetched: u64,
    /// Nothing is fetched from here on.
    limit: u64,
}

impl<'s, S: Source> Reader<'s, S> {
    /// At the start of a checkpoint.
    pub fn new(source: &'s mut S) -> Self {
        Self { source, hash: XxHash64::with_seed(0), chunk: [0; CHUNK], at: 0, filled: 0, fetched: 0, limit: SEAL_LEN }
    }

    /// Reads the prelude. `element` is the element type that is wanted, if it matters. What follows can be read up to the last seal.
    ///
    /// # Errors
    /// In this order: [`CheckpointError::NotACheckpoint`], [`CheckpointError::Version`], [`CheckpointError::Element`],
    /// [`CheckpointError::Checksum`], [`CheckpointError::Truncated`]; and those of the source.
    pub fn open(&mut self, element: Option<u32>) -> Result<Prelude, CheckpointError> {
        let mut magic = 0;
        self.u64("magic", &mut magic)?;
        if magic != MAGIC {
            return Err(CheckpointError::NotACheckpoint);
        }
        (self.hash, self.fetched, self.limit) = (XxHash64::with_seed(0), 0, PRELUDE_LEN);
        let prelude: Prelude = self.record()?;
        match prelude.version {
            0 => return Err(CheckpointError::NotACheckpoint),
            VERSION => {}
            _ => return Err(CheckpointError::Version),
        }
        if element.is_some_and(|element| element != prelude.element) {
            return Err(CheckpointError::Element);
        }
        self.check_seal()?;
        if self.source.available().is_some_and(|available| available < prelude.length) {
            return Err(CheckpointError::Truncated);
        }
        self.limit = prelude.length.checked_sub(SEAL_LEN).filter(|&limit| limit >= PRELUDE_LEN).ok_or(CheckpointError::Malformed)?;
        Ok(prelude)
    }

    /// Reads what is left up to the last seal, and the seal. Returns the checksum.
    ///
    /// # Errors
    /// [`CheckpointError::Checksum`] and those of the source.
    pub fn close(mut self) -> Result<u64, CheckpointError> {
        self.skip(self.limit - self.position())?;
        self.limit += SEAL_LEN;
        self.check_seal()
    }

    /// Reads the checksum of everything so far and compares it.
    fn check_seal(&mut self) -> Result<u64, CheckpointError> {
        let (expected, mut found) = (self.hash.finish(), 0);
        self.u64("checksum", &mut found)?;
        if found == expected { Ok(found) } else { Err(CheckpointError::Checksum) }
    }

    /// Offset of what is read next.
    pub fn position(&self) -> u64 {
        self.fetched - (self.filled - self.at) as u64
    }

    /// Bytes up to the last seal.
    pub fn rest(&self) -> u64 {
        self.limit - self.position()
    }

    /// Has at least one byte in the chunk.
    fn fetch(&mut self) -> Result<(), CheckpointError> {
        if self.at < self.filled {
            return Ok(());
        }
        let len = (self.limit - self.fetched).min(CHUNK as u64) as usize;
        if len == 0 {
            return Err(CheckpointError::Malformed);
        }
        self.source.read(self.fetched, &mut self.chunk[..len])?;
        (self.at, self.filled, self.fetched) = (0, len, self.fetched + len as u64);
        Ok(())
    }

    /// The next bytes, at least one and at most `most`.
    fn next(&mut self, most: usize) -> Result<&[u8], CheckpointError> {
        self.fetch()?;
        let end = self.filled.min(self.at.saturating_add(most));
        let bytes = &self.chunk[self.at..end];
        self.hash.write(bytes);
        self.at = end;
        Ok(bytes)
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], CheckpointError> {
        let (mut bytes, mut done) = ([0; N], 0);
        while done < N {
            let next = self.next(N - done)?;
            bytes[done..done + next.len()].copy_from_slice(next);
            done += next.len();
        }
        Ok(bytes)
    }

    /// Reads a record.
    ///
    /// # Errors
    /// [`CheckpointError::Malformed`] where the last seal is reached, and those of the source; likewise below.
    pub fn record<R: Record>(&mut self) -> Result<R, CheckpointError> {
        let mut record = R::default();
        record.visit(self)?;
        Ok(record)
    }

    /// Reads past `len` bytes.
    ///
    /// # Errors
    /// See [`Self::record`].
    pub fn skip(&mut self, mut len: u64) -> Result<(), CheckpointError> {
        while len > 0 {
            len -= self.next(usize::try_from(len).unwrap_or(usize::MAX))?.len() as u64;
        }
        Ok(())
    }

    /// Reads numbers.
    ///
    /// # Errors
    /// See [`Self::record`]; `out` may have been filled in part.
    pub fn numbers<T: Scalar>(&mut self, mut out: &mut [T]) -> Result<(), CheckpointError> {
        while !out.is_empty() {
            self.fetch()?;
            let whole = ((self.filled - self.at) / size_of::<T>()).min(out.len());
            let (head, rest) = core::mem::take(&mut out).split_at_mut(whole.max(1));
            out = rest;
            let number = |bytes: &[u8]| {
                let mut wide = [0; 8];
                wide[..size_of::<T>()].copy_from_slice(bytes);
                T::from_low_bits(u64::from_le_bytes(wide))
            };
            if whole == 0 {
                // Across the end of a chunk.
                let mut bytes = [0; 8];
                for byte in &mut bytes[..size_of::<T>()] {
                    [*byte] = self.take()?;
                }
                head[0] = number(&bytes[..size_of::<T>()]);
            } else {
                let bytes = self.next(size_of_val(head))?;
                for (out, bytes) in head.iter_mut().zip(bytes.chunks_exact(size_of::<T>())) {
                    *out = number(bytes);
                }
            }
        }
        Ok(())
    }
}

impl<S: Source> Fields for Reader<'_, S> {
    type Error = CheckpointError;

    fn u32(&mut self, _: &'static str, value: &mut u32) -> Result<(), CheckpointError> {
        *value = u32::from_le_bytes(self.take()?);
        Ok(())
    }

    fn u64(&mut self, _: &'static str, value: &mut u64) -> Result<(), CheckpointError> {
        *value = u64::from_le_bytes(self.take()?);
        Ok(())
    }

    fn f32(&mut self, _: &'static str, value: &mut f32) -> Result<(), CheckpointError> {
        *value = f32::from_le_bytes(self.take()?);
        Ok(())
    }

    fn f64(&mut self, _: &'static str, value: &mut f64) -> Result<(), CheckpointError> {
        *value = f64::from_le_bytes(self.take()?);
        Ok(())
    }
}
