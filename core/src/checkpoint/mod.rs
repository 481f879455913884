#![doc = include_str!("FORMAT.md")]

mod codes;
mod error;
mod fields;
mod load;
mod parts;
mod possible;
mod reader;
mod records;
mod save;
mod stream;
mod writer;

pub use error::CheckpointError;
pub use fields::{Fields, Record};
pub use parts::PartKind;
pub use reader::Reader;
pub use records::{GroupRecord, Method, PartRecord, PieceRecord, Prelude, TensorRecord, VERSION};
pub use stream::{Sink, Source};
pub use writer::Writer;

/// Bytes that are handed to a [`Sink`] or asked of a [`Source`] at once, at most: they lie on the stack.
const CHUNK: usize = 512;

/// Bytes of the [`Prelude`] with its seal.
const PRELUDE_LEN: u64 = 64;

/// Bytes of a seal.
const SEAL_LEN: u64 = 8;
