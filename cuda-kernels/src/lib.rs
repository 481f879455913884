//! klshampoo on the GPU.
#![deny(missing_docs)]

pub mod api;
pub mod batch;
pub mod driver;
pub mod gemm;
pub mod io;
pub mod linalg;
pub mod queue;
pub mod step;
