//! Many trainings, a few at a time: one that fails does not stop the others.

use crate::method::Method;
use crate::progress::Progress;
use crate::report::Run;
use crate::trainer::{Event, Outcome, Start, Trainer};
use anyhow::{Context, Result};
use std::path::Path;
use std::sync::mpsc;

/// A training to be done.
pub struct Task {
    /// Its name in the progress.
    pub label: String,
    /// Its optimizer.
    pub method: Method,
    /// The trainer's arguments.
    pub arguments: Vec<String>,
}

/// Trains all tasks, `jobs` processes at a time, and collects what they say, in the order of the tasks. Whenever one has ended, `save` sees
/// them all, so that a call that is stopped does not lose what it has.
///
/// # Errors
/// If the trainer cannot be started, if it refuses its command line, or what `save` says.
pub fn train(program: &Path, tasks: &[Task], jobs: usize, steps: u64, save: impl Fn(&[Run]) -> Result<()>) -> Result<Vec<Run>> {
    let (sender, events) = mpsc::channel();
    let mut trainers: Vec<Option<Trainer>> = Vec::new();
    let start_next = |trainers: &mut Vec<Option<Trainer>>| -> Result<()> {
        if let Some(task) = tasks.get(trainers.len()) {
            trainers.push(Some(Trainer::start(program, &task.arguments, trainers.len(), sender.clone())?));
        }
        Ok(())
    };
    for _ in 0..jobs.min(tasks.len()) {
        start_next(&mut trainers)?;
    }
    let new_run = |task: &Task| Run { method: task.method, start: Start::default(), evaluations: Vec::new(), outcome: Outcome::Pending };
    let mut runs: Vec<_> = tasks.iter().map(new_run).collect();
    let mut progress = Progress::new(tasks.iter().map(|task| task.label.clone()).collect(), steps)?;
    let mut left = tasks.len();
    while left > 0 {
        let (index, event) = events.recv().context("lost the trainers")?;
        progress.update(index, &event);
        match event {
            Event::Start(start) => runs[index].start = start,
            Event::Step(..) => {}
            Event::Eval(evaluation) => runs[index].evaluations.push(evaluation),
            Event::Closed => {
                let mut trainer = trainers[index].take().context("a training ended twice")?;
                runs[index].outcome = trainer.finish()?;
                left -= 1;
                start_next(&mut trainers)?;
                save(&runs)?;
            }
        }
    }
    Ok(runs)
}
