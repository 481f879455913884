//! Handwritten digits and two small networks that learn them: float32, no heap, one fixed order of operations, so that training gives the
//! same bits on every machine (and in `../c`, which has the same in C).
//!
//! | module | what |
//! |---|---|
//! | [`images`] | the data set, in flash |
//! | [`Random`] | the source of first weights and of batches |
//! | [`Perceptron`] | 64-32-10, for the Cortex-M4F and up |
//! | [`Softmax`] | 16-10, for 16 KiB of RAM |
#![no_std]
#![forbid(unsafe_code)]

pub mod images;
mod loss;
pub mod perceptron;
mod random;
pub mod softmax;

pub use perceptron::Perceptron;
pub use random::Random;
pub use softmax::Softmax;
