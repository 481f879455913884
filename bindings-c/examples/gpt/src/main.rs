//! `cargo run --release -p gpt`: see [`gpt_runner`].

use anyhow::{Context, Result, ensure};
use clap::Parser;
use clap::error::ErrorKind;
use gpt_runner::cli::Cli;
use gpt_runner::grid::Grid;
use gpt_runner::plot;
use gpt_runner::report::{self, Run};
use gpt_runner::schedule;
use gpt_runner::toolchain::{Compiler, build_library};
use gpt_runner::trainer::Outcome;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    let result = match Cli::try_parse() {
        Ok(cli) => run(&cli),
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => error.exit(),
        Err(error) => {
            // clap explains at length; its first paragraph is the error itself.
            let text = error.to_string();
            let lines: Vec<_> = text.lines().map(str::trim).take_while(|line| !line.is_empty()).collect();
            Err(anyhow::anyhow!("{}; see --help", lines.join(" ").trim_start_matches("error: ")))
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The outermost context says what to do, the cause why: one line for both.
            eprintln!("gpt: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(cli: &Cli) -> Result<()> {
    let work = work_folder()?;
    if cli.gradcheck {
        return gradcheck(&Compiler::new(&work)?);
    }
    cli.check()?;
    let program = build(cli, &work)?;
    let tasks = cli.tasks();
    let curves = cli.out.join("curves.csv");
    let save = |runs: &[Run]| match &cli.grid {
        Some(rates) => Grid::new(rates, runs).write(&cli.out),
        None => report::write_curves(&curves, runs),
    };
    let runs = schedule::train(&program, &tasks, cli.jobs as usize, cli.job().steps.into(), save)?;
    if let Some(rates) = &cli.grid {
        println!("{}", Grid::new(rates, &runs).markdown());
        return Ok(());
    }

    let picture = cli.out.join("curves.svg");
    let arguments: Vec<_> = tasks.into_iter().map(|task| task.arguments).collect();
    report::write_summary(&cli.out.join("summary.json"), &runs, &arguments)?;
    plot::draw(&picture, &runs)?;
    println!("{}\ncurves: {}\npicture: {}", report::table(&runs), curves.display(), picture.display());
    ensure!(runs.iter().all(|run| run.outcome == Outcome::Finished), "not every training finished; the lines below the table say why");
    Ok(())
}

/// Compiled C goes beside this program, where `cargo clean` finds it.
fn work_folder() -> Result<PathBuf> {
    let program = std::env::current_exe().context("cannot find this program's own path")?;
    Ok(program.parent().unwrap_or(Path::new(".")).join("gpt-trainer"))
}

fn build(cli: &Cli, work: &Path) -> Result<PathBuf> {
    if let Some(program) = &cli.program {
        return Ok(program.clone());
    }
    let library = match &cli.library {
        Some(library) => library.clone(),
        None => {
            eprintln!("building the library");
            build_library(true)?
        }
    };
    eprintln!("compiling the trainer");
    Compiler::new(work)?.trainer(&library)
}

fn gradcheck(compiler: &Compiler) -> Result<()> {
    for (double, title) in [(false, "float, directional derivatives:"), (true, "double, single elements:")] {
        let program = compiler.gradcheck(double)?;
        println!("{title}");
        let status = Command::new(&program).status().with_context(|| format!("cannot start {}", program.display()))?;
        ensure!(status.success(), "the gradient is wrong; look at the lines marked WRONG");
    }
    Ok(())
}
