//! What the estimators of the family estimate, measured: `cargo run --release -p study`.
//!
//! - [`covariance`]: gradients whose second moment is known, and turns slowly
//! - [`divergence`]: the exact Kullback-Leibler divergence, and its minima over Kronecker products
//! - [`estimators`]: the methods, and their preconditioners as dense matrices
//! - [`synthetic`]: each of them on these gradients
//! - [`training`]: Kronecker similarity of real gradients, from the trainer in C
//! - [`report`], [`plot`]: tables, files and pictures

pub mod covariance;
pub mod divergence;
pub mod estimators;
pub mod plot;
pub mod report;
pub mod synthetic;
pub mod training;
