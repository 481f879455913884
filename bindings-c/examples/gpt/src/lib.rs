//! Runner of the example GPT: builds the library and the C trainer, trains with one or two optimizers side by side, and compares them.
//!
//! - [`cli`]: the command line and what it stands for
//! - [`toolchain`]: from sources to the trainer's executable
//! - [`trainer`]: one training process and what it says
//! - [`progress`]: the processes' progress while they run
//! - [`report`], [`plot`]: the table, the files and the picture at the end

pub mod cli;
pub mod plot;
pub mod progress;
pub mod report;
pub mod toolchain;
pub mod trainer;
