//! `cargo run --release -p study`: see [`study`].

use anyhow::{Context, Result, ensure};
use clap::Parser;
use std::path::PathBuf;
use std::{fs, time::Instant};
use study::synthetic::{Plan, compare_eigenvalues, compare_methods};
use study::{plot, report, training};

/// Measures what the estimators estimate and writes tables and pictures.
#[derive(Debug, Parser)]
struct Options {
    /// Folder of the results.
    #[arg(long, default_value = "runs/study")]
    out: PathBuf,
    /// Independent runs of each method on synthetic gradients.
    #[arg(long, default_value_t = 8)]
    seeds: usize,
    /// Steps of each; the first 200 are not measured.
    #[arg(long, default_value_t = 600)]
    steps: usize,
    /// Decay of all averages on synthetic gradients.
    #[arg(long, default_value_t = 0.95)]
    beta2: f64,
    /// Optimizer of the training.
    #[arg(long, default_value = "kl-shampoo")]
    method: String,
    /// Steps of the training.
    #[arg(long, default_value_t = 600)]
    training_steps: usize,
    /// Steps between its measurements.
    #[arg(long, default_value_t = 50)]
    every: usize,
    /// Gradients of a measurement, at most as many as steps between them.
    #[arg(long, default_value_t = 50)]
    window: usize,
    /// A trainer that has been built already.
    #[arg(long)]
    program: Option<PathBuf>,
}

fn main() -> Result<()> {
    let Options { out, seeds, steps, beta2, method, training_steps, every, window, program } = Options::parse();
    ensure!(steps > 200 && seeds > 0, "give more than 200 --steps and at least one of --seeds");
    fs::create_dir_all(&out).with_context(|| format!("cannot create '{}'; give another --out", out.display()))?;
    let start = Instant::now();

    // 13 and 50 have no common divisor: a basis is met at every age.
    let plan = Plan { seeds, steps, burn_in: 201, every: 13, beta2 };
    let methods = compare_methods(&plan);
    report::write_rows(&out.join("divergence.csv"), &methods)?;
    plot::divergences(&out.join("divergence.svg"), &methods)?;
    let rules = compare_eigenvalues(&plan);
    report::write_rows(&out.join("eigenvalues.csv"), &rules)?;
    plot::eigenvalues(&out.join("eigenvalues.svg"), &rules)?;
    eprintln!("synthetic gradients: {:.0} s", start.elapsed().as_secs_f64());

    let job = training::Job { program, method, steps: training_steps, every, window };
    let found = training::train(&job)?;
    report::write_measurements(&out.join("similarity.csv"), &found)?;
    plot::similarities(&out.join("similarity.svg"), &found)?;
    eprintln!("with the training: {:.0} s", start.elapsed().as_secs_f64());

    let text = format!(
        "# Divergence from the second moment of synthetic gradients\n\n{}\n# Eigenvalues of KL-Shampoo while the second moment turns\n\n{}\
         # Kronecker similarity of a GPT's gradients\n\n{}",
        report::methods_table(&methods),
        report::eigenvalues_table(&rules),
        report::similarity_table(&found)
    );
    fs::write(out.join("tables.md"), &text).context("cannot write the tables")?;
    println!("{text}");
    Ok(())
}
