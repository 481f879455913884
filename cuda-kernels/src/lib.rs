//! klshampoo on the GPU.
#![deny(missing_docs)]

pub mod driver;
pub mod api;
pub mod batch;
pub mod io;
pub mod linalg;
pub mod io;
pub mod queue;
pub mod words;
pub mod step;
