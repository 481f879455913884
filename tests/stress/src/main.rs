//! `cargo run --release -p stress`: see [`stress`].

use clap::Parser;
use std::process::ExitCode;
use std::time::Instant;
use stress::{Plan, report, run};

/// Steps optimizers for a very long time, and on everything that gradients can do, and prints what is left of the numbers.
#[derive(Debug, Parser)]
struct Options {
    /// The short form that runs among the tests.
    #[arg(long)]
    short: bool,
}

fn main() -> ExitCode {
    let Options { short } = Options::parse();
    let start = Instant::now();
    println!("{}", report::HEAD);
    let rows = run(if short { &Plan::SHORT } else { &Plan::FULL }, |row| println!("{}", report::line(row)));
    let missed = rows.iter().filter(|row| !row.holds()).count();
    let (steps, seconds) = (rows.iter().map(|row| row.steps).sum::<u64>(), start.elapsed().as_secs_f64());
    println!("\n{} runs, {steps} steps, {seconds:.0} s; limits missed in {missed} of them.", rows.len());
    if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
