//! What lies between the caller's buffers and the dense arrays of a step, on the emulator and against the core.

#[path = "../common/mod.rs"]
mod common;

mod against_core;
mod commit;
mod gather;
mod magnitude;
mod norm;
mod pieces;
mod support;
mod words;
