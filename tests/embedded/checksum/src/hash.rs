//! FNV-1a of 64 bits.

use klshampoo::checkpoint::{CheckpointError, Sink};

pub(crate) struct Hash(u64);

impl Hash {
    pub(crate) const fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    fn byte(&mut self, byte: u8) {
        self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }

    pub(crate) fn word(&mut self, word: u32) {
        word.to_le_bytes().into_iter().for_each(|byte| self.byte(byte));
    }

    pub(crate) const fn finish(self) -> u64 {
        self.0
    }
}

/// A checkpoint has every bit of the state, and is the same bytes on every machine.
impl Sink for Hash {
    fn write(&mut self, bytes: &[u8]) -> Result<(), CheckpointError> {
        bytes.iter().for_each(|&byte| self.byte(byte));
        Ok(())
    }
}
