//! The KL-Shampoo family of optimizers: no `std`, no heap, fixed capacity, memory lent by the caller.
//!
//! A parameter tensor of order K with gradient `G` keeps, per preconditioned mode k, a Kronecker factor `S_k`, its eigenbasis `Q_k` and
//! eigenvalues `lambda_k`, and one momentum `M`. Factor and momentum live in the eigenbasis (`S~ = Q^T S Q`, `M~ = M x_k Q_k^T`), which
//! is the published algorithm in other coordinates and cheaper. One step:
//!
//! ```text
//! project    G~ = G x_k Q_k^T
//! momentum   M~ <- beta1 M~ + (1 - beta1) G~
//! estimate   Delta~_k = c_k mat_k(X_k) mat_k(X_k)^T,   X_k = G~ . prod_{j != k} w(lambda_j)
//!            S~_k <- beta2 S~_k + (1 - beta2) Delta~_k,   lambda_k <- beta2 lambda_k + (1 - beta2) diag(Delta~_k)
//! refresh    every T steps: S~_k = Qhat R;  Q_k <- Q_k Qhat;  S~_k <- Qhat^T S~_k Qhat;  M~ <- M~ x_k Qhat^T
//! apply      theta <- theta - lr (wd theta + (M~ . prod_k lambda_k^{-1/2}) x_k Q_k)
//! ```
//!
//! That is KL-Shampoo. Every other method of the family, from SOAP to SGD, is the same step with other choices on the axes of [`Config`];
//! there is no second one.
//!
//! | read | for |
//! |---|---|
//! | [`Config`] | a method: one choice per axis; presets |
//! | [`TensorSpec`], [`Tensor`], [`Totals`] | the table of tensors and what it needs |
//! | [`Plan`], [`Cost`] | what became of a tensor: merged dims, pieces; what a step costs |
//! | [`Optimizer`], [`Job`] | the step, over lent memory; [`FixedOptimizer`] owns it all, in a `static` too |
//! | [`Layout`] | the only place where sizes exist |
//! | [`Optimizer::objective`], [`ModeReport`], [`window_similarity`] | diagnostics, computed when asked for |
//! | [`checkpoint`], [`Optimizer::save`], [`Optimizer::load`] | the state as bytes |
//! | [`linalg`] | the trait behind which products and factorisations stand, and the portable backend |
//!
//! Sources: paper A, "Understanding and Improving Shampoo and SOAP via Kullback-Leibler Minimization"; paper B, "A New Perspective on
//! Shampoo's Preconditioner".
#![no_std]
#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod checkpoint;
pub mod linalg;

mod apply;
mod budget;
mod cholesky_qr;
mod config;
mod cost;
mod diagnostics;
mod direction;
mod eigenvalues;
mod eigenvectors;
mod elements;
mod elementwise;
mod estimate;
mod fixed;
mod format;
mod graft;
mod header;
mod inspect;
mod job;
mod layout;
mod magnitude;
mod measure;
mod optimizer;
mod packed;
mod passes;
mod plan;
mod portions;
mod refresh;
mod report;
mod resident;
mod rows;
mod scalar;
mod shape;
mod spec;
mod staleness;
mod start;
mod step;
mod storage;
mod stream;
mod tensor;
mod triangular;
mod unfold;
mod window;

pub use budget::Refreshes;
pub use config::{
    BadGradient, BiasCorrection, Config, ConfigError, Convention, Damping, Direction, Eigenvalues, EstimateOrder, Estimator, FactorInit,
    FirstBasis, FirstStep, Graft, LambdaInit, Momentum, Parts, Refresh, StepOrder, WeightDecay,
};
pub use cost::Cost;
pub use diagnostics::ModeReport;
pub use elements::{Bf16Mut, Elements, ElementsMut, Halves};
pub use fixed::{FixedOptimizer, StaticTable};
pub use format::{Format, Rounder, Rounding};
pub use header::SliceHeader;
pub use inspect::StatePart;
pub use job::{Job, Jobs, SliceBuffers, Target};
pub use layout::Layout;
pub use magnitude::GradientFault;
pub use optimizer::Optimizer;
pub use plan::{MAX_ROW_PARTS, Plan};
pub use refresh::POLISH_PERIOD;
pub use report::{StepError, StepErrorKind, StepReport};
pub use scalar::Scalar;
pub use shape::{MAX_ORDER, Mode, Shape, ShapeError};
pub use spec::TensorSpec;
pub use step::SliceError;
pub use storage::Storage;
pub use tensor::{TableError, Tensor, Totals};
pub use window::{Similarity, WindowError, window_scratch_len, window_similarity};
