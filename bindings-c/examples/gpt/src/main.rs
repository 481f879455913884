//! `cargo run --release -p gpt`: see [`gpt_runner`].

use anyhow::{Context, Result, ensure};
use clap::Parser;
use clap::error::ErrorKind;
use gpt_runner::cli::Cli;
use gpt_runner::plot;
use gpt_runner::progress::Progress;
use gpt_runner::report::{self, Run};
use gpt_runner::toolchain::{Compiler, build_library};
use gpt_runner::trainer::{Event, Outcome, Start, Trainer};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::mpsc;

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
    let arguments: Vec<_> = cli.methods().iter().map(|&method| cli.arguments(method)).collect();
    let runs = train(cli, &program, &arguments)?;

    let curves = cli.out.join("curves.csv");
    let picture = cli.out.join("curves.svg");
    report::write_curves(&curves, &runs)?;
    report::write_summary(&cli.out.join("summary.json"), &runs, &arguments)?;
    plot::draw(&picture, &runs)?;
    println!("{}\ncurves: {}\npicture: {}", report::table(&runs), curves.display(), picture.display());
    ensure!(
        runs.iter().all(|run| run.outcome == Outcome::Finished),
        "not every training finished; give the smaller rate that the table asks for"
    );
    Ok(())
}

/// Compiled C goes beside this program, where `cargo clean` finds it.
fn work_folder() -> Result<PathBuf> {
    let program = std::env::current_exe().context("cannot find this program's own path")?;
    Ok(program.parent().unwrap_or(Path::new(".")).join("gpt-trainer"))
}

fn build(cli: &Cli, work: &Path) -> Result<PathBuf> {
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

/// Runs all trainings at once, a process each, and collects what they say.
fn train(cli: &Cli, program: &Path, arguments: &[Vec<String>]) -> Result<Vec<Run>> {
    let methods = cli.methods();
    let (sender, events) = mpsc::channel();
    let mut trainers = Vec::new();
    for (index, arguments) in arguments.iter().enumerate() {
        trainers.push(Trainer::start(program, arguments, index, sender.clone())?);
    }
    drop(sender);
    let new_run = |&method| Run { method, start: Start::default(), evaluations: Vec::new(), outcome: Outcome::Finished };
    let mut runs: Vec<_> = methods.iter().map(new_run).collect();
    let mut progress = Progress::new(methods, cli.job().steps.into())?;
    for (index, event) in events {
        progress.update(index, &event);
        match event {
            Event::Start(start) => runs[index].start = start,
            Event::Step(..) => {}
            Event::Eval(evaluation) => runs[index].evaluations.push(evaluation),
            Event::Closed => runs[index].outcome = trainers[index].finish()?,
        }
    }
    Ok(runs)
}
