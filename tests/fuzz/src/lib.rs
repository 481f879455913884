//! What the fuzz targets do with an input: they make calls of the C interface from it, as a program in C could make them, hostile ones
//! among them, but none whose contract leaves the behaviour open (a pointer to less memory than it says, a destroyed handle to the heap).
//!
//! AddressSanitizer watches memory, libFuzzer's hook ends the process on any panic, those that the library would catch included, and what the
//! header promises is asserted here: [`status::check`] on every status, that failures change nothing, that numbers stay finite.

mod bytes;
pub mod calls;
pub mod checkpoint;
mod choices;
pub mod config;
mod file;
pub mod gradients;
mod groups;
mod optimizer;
pub mod status;
pub mod table;
mod tally;
mod tensors;

pub use tally::{execute, tally};

/// What makes calls from an input. It returns how many steps succeeded.
pub type Target = fn(&[u8]) -> usize;

/// All of them by name, as cargo-fuzz and the folders of inputs call them.
pub const TARGETS: [(&str, Target); 5] =
    [("calls", calls::run), ("checkpoint", checkpoint::run), ("config", config::run), ("gradients", gradients::run), ("table", table::run)];
