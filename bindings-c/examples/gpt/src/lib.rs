//! Runner of the example GPT: builds the library and the C trainer, trains with one method or many, and compares them.
//!
//! - [`cli`], [`setting`]: the command line and what it stands for
//! - [`method`]: the methods' names
//! - [`toolchain`]: from sources to the trainer's executable
//! - [`trainer`]: one training process and what it says
//! - [`schedule`], [`progress`]: many of them, a few at a time, and their progress while they run
//! - [`report`], [`plot`]: the table, the files and the picture at the end
//! - [`grid`]: the same learning rates for every method

pub mod cli;
pub mod grid;
pub mod method;
pub mod plot;
pub mod progress;
pub mod report;
pub mod schedule;
pub mod setting;
pub mod toolchain;
pub mod trainer;
