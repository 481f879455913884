//! Kronecker similarity of the gradients of a GPT in training, measured by the trainer in C through the library's C interface.

use anyhow::{Context, Result, ensure};
use gpt_runner::toolchain::{Compiler, build_library, package};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A line of the trainer: one matrix at one time.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Measurement {
    /// Steps done.
    pub step: u64,
    /// Name of the stacked tensor.
    pub tensor: String,
    /// Which of its matrices.
    pub layer: u64,
    /// Of the matrix.
    pub rows: usize,
    /// Of the matrix.
    pub columns: usize,
    /// Gradients that were looked at.
    pub window: usize,
    /// Cosine similarity of the best Kronecker product with the second moment.
    pub optimal: f64,
    /// Of `L (x) R`.
    pub shampoo_squared: f64,
    /// Of `L^{1/2} (x) R^{1/2}`.
    pub shampoo: f64,
    /// Of the minimum of the Kullback-Leibler divergence.
    pub kullback_leibler: f64,
    /// Of `L` with the best one.
    pub left: f64,
    /// Of `R` with the best one.
    pub right: f64,
    /// Eigenvalues that had to be raised before they were inverted.
    pub raised: u32,
    /// Rounds of the alternation for the Kullback-Leibler factors.
    pub rounds: u32,
}

/// A short training.
#[derive(Clone, Debug)]
pub struct Job {
    /// A trainer that has been built already.
    pub program: Option<PathBuf>,
    /// The optimizer.
    pub method: String,
    /// Training steps.
    pub steps: usize,
    /// Steps between measurements.
    pub every: usize,
    /// Gradients of a measurement.
    pub window: usize,
}

/// The model: small enough for a minute on one core.
const SIZES: [&str; 5] = ["--layers=2", "--channels=32", "--heads=4", "--context=32", "--batch=8"];

/// The layer whose matrices are measured: the last.
const LAYER: &str = "--similarity-layer=1";

fn build() -> Result<PathBuf> {
    let own = std::env::current_exe().context("cannot find this program's own path")?;
    let work = own.parent().unwrap_or(Path::new(".")).join("gpt-trainer");
    Compiler::new(&work)?.trainer(&build_library(true)?)
}

/// Trains and returns what was measured.
///
/// # Errors
/// If the trainer cannot be built, or fails; its own message then.
pub fn train(job: &Job) -> Result<Vec<Measurement>> {
    let program = job.program.clone().map_or_else(build, Ok)?;
    let mut command = Command::new(&program);
    command.arg("--data").arg(package().join("data")).args(SIZES).args([LAYER, "--eval-bytes=4096", "--eval-every=1000000"]);
    command.args(["--method", &job.method]);
    for (option, value) in [("steps", job.steps), ("similarity-every", job.every), ("similarity-window", job.window)] {
        command.arg(format!("--{option}={value}"));
    }
    let output = command.output().with_context(|| format!("cannot start {}", program.display()))?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim_end());
    let text = String::from_utf8(output.stdout).context("the trainer prints no text")?;
    text.lines()
        .filter(|line| line.contains("\"event\":\"similarity\""))
        .map(|line| serde_json::from_str(line).with_context(|| format!("not a measurement: {line}")))
        .collect()
}
