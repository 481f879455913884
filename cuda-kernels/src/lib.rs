//! klshampoo on the GPU.
#![deny(missing_docs)]

pub mod batch;
pub mod driver;
pub mod io;
pub mod queue;
