//! klshampoo on the GPU.
#![deny(missing_docs)]

pub mod queue;
