//! `cargo run --release -p stress`: see [`stress`].

use clap::{Parser, ValueEnum};
use std::process::ExitCode;
use std::time::Instant;
use stress::{Part, Plan, report, run};

/// Steps optimizers for a very long time, and on everything that gradients can do, and prints what is left of the numbers.
#[derive(Debug, Parser)]
struct Options {
    /// The short form that runs among the tests.
    #[arg(long)]
    short: bool,
    /// Parts of the table, all unless they are said.
    #[arg(long, value_enum)]
    part: Vec<Name>,
}

/// See [`Part`].
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Name {
    /// A million steps on statistics that change.
    Long,
    /// Gradients that are hard, odd shapes and periods.
    Hard,
    /// A caller in C.
    Caller,
}

impl Name {
    fn part(self) -> Part {
        match self {
            Self::Long => Part::Long,
            Self::Hard => Part::Hard,
            Self::Caller => Part::Caller,
        }
    }
}

fn main() -> ExitCode {
    let Options { short, part } = Options::parse();
    let parts: Vec<Part> = if part.is_empty() { Part::ALL.into() } else { part.into_iter().map(Name::part).collect() };
    let start = Instant::now();
    println!("{}", report::HEAD);
    let rows = run(if short { &Plan::SHORT } else { &Plan::FULL }, &parts, |row| println!("{}", report::line(row)));
    let missed = rows.iter().filter(|row| !row.holds()).count();
    let (steps, seconds) = (rows.iter().map(|row| row.steps).sum::<u64>(), start.elapsed().as_secs_f64());
    println!("\n{} runs, {steps} steps, {seconds:.0} s; limits missed in {missed} of them.", rows.len());
    if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
