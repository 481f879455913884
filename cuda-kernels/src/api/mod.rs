//! The C interface. The header `include/klshampoo_cuda.h` is generated from this module; its first comment is the contract.
//!
//! What it shares with the interface of the CPU (structs, statuses, messages, checkpoints) is the crate klshampoo-ffi's, whose functions this
//! library exports too.

mod checkpoint;
mod counters;
mod create;
mod failure;
mod group;
mod handle;
mod host_copy;
mod memory;
mod observer;
mod options;
mod refreshes;
mod state;
mod step;
mod transfer;

pub use checkpoint::*;
pub use counters::*;
pub use create::*;
pub use group::*;
pub use handle::{kls_cuda, kls_cuda_last_error};
pub use memory::*;
pub use options::*;
pub use refreshes::*;
pub use state::*;
pub use step::*;
