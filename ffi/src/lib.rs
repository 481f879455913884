//! The C ABI of klshampoo. The header `include/klshampoo.h` is generated from this crate; its first comment is the contract.
//!
//! What the ABI's other libraries (the GPU's) share with it is public: the border ([`guard`], [`error`], [`message`]), pointers and structs from C
//! ([`checked`], [`pointers`], [`versioned`]), and on hosts tables, memory and files ([`host::table`], [`host::block`], [`host::file`]).
#![cfg_attr(not(feature = "host"), no_std)]

pub mod checked;
mod checkpoint;
mod config;
mod config_v0_1;
mod diagnostics;
pub mod error;
pub mod guard;
mod handle;
#[cfg(feature = "host")]
pub mod host;
mod inspect;
mod log;
mod memory;
pub mod message;
mod met;
mod methods;
mod optimizer;
#[cfg(not(feature = "host"))]
mod panic;
mod place;
mod plan;
pub mod pointers;
mod raw;
mod sizes;
pub mod status;
mod step;
mod tensor;
mod version;
pub mod versioned;
mod window;

pub use checkpoint::*;
pub use config::*;
pub use diagnostics::*;
pub use handle::kls_optimizer;
#[cfg(feature = "host")]
pub use host::create::{
    KLS_BACKEND_AUTO, KLS_BACKEND_FAER, KLS_BACKEND_PORTABLE, KLS_PRODUCTS_BF16, KLS_PRODUCTS_F32, kls_optimizer_create, kls_options,
    kls_options_init,
};
#[cfg(feature = "host")]
pub use host::file::{kls_optimizer_load_file, kls_optimizer_save_file};
#[cfg(feature = "host")]
pub use host::grow::kls_optimizer_add_tensors;
#[cfg(feature = "host")]
pub use host::partition::kls_table_partition;
#[cfg(feature = "host")]
pub use host::pool::parallel_for::{kls_parallel_for, kls_task};
#[cfg(feature = "host")]
pub use host::sgemm::kls_sgemm;
pub use inspect::*;
pub use log::{KLS_LOG_ERROR, KLS_LOG_WARNING, kls_log, kls_optimizer_set_log};
pub use memory::*;
pub use message::kls_last_error;
pub use methods::*;
pub use optimizer::*;
pub use plan::*;
pub use sizes::*;
pub use status::*;
pub use step::{kls_optimizer_step, kls_optimizer_step_tensor, kls_optimizer_step_with, kls_step, kls_step_init};
pub use tensor::*;
pub use version::*;
pub use window::*;
