//! What is left at the end: a table on standard output, the curves as CSV, the summary as JSON.

use crate::trainer::{Evaluation, Method, Outcome, Start, Timing};
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

/// One training from beginning to end.
#[derive(Clone, Debug)]
pub struct Run {
    /// Its optimizer.
    pub method: Method,
    /// What it began with.
    pub start: Start,
    /// Its curve; the first point is before the first step.
    pub evaluations: Vec<Evaluation>,
    /// How it ended.
    pub outcome: Outcome,
}

impl Run {
    /// The last validation loss, if all steps were done.
    #[must_use]
    pub fn final_loss(&self) -> Option<f64> {
        (self.outcome == Outcome::Finished).then(|| self.evaluations.last().map(|evaluation| evaluation.val_loss)).flatten()
    }

    /// The first evaluation at or below `loss`.
    #[must_use]
    pub fn reaches(&self, loss: f64) -> Option<&Evaluation> {
        self.evaluations.iter().find(|evaluation| evaluation.val_loss <= loss)
    }

    fn timing(&self) -> Timing {
        self.evaluations.last().map(|evaluation| evaluation.timing).unwrap_or_default()
    }
}

/// The loss that all methods are measured against: AdamW's last.
fn target(runs: &[Run]) -> Option<f64> {
    runs.iter().find(|run| run.method == Method::AdamW)?.final_loss()
}

fn cell<T>(value: Option<T>, print: impl Fn(T) -> String) -> String {
    value.map_or_else(|| "-".to_owned(), print)
}

/// The table for people.
#[must_use]
pub fn table(runs: &[Run]) -> String {
    let target = target(runs);
    let reached = |run: &Run| target.and_then(|loss| run.reaches(loss).copied());
    let row = |title: &str, value: &dyn Fn(&Run) -> String| {
        runs.iter().fold(format!("{title:<36}"), |line, run| line + &format!("{:>14}", value(run))) + "\n"
    };
    let mut text = row("", &|run| run.method.name().to_owned());
    text += &row("final validation loss, nats/byte", &|run| match run.outcome {
        Outcome::Finished => cell(run.final_loss(), |loss| format!("{loss:.4}")),
        Outcome::Diverged(_) => "diverged".to_owned(),
    });
    text += &row("steps to AdamW's final loss", &|run| cell(reached(run), |evaluation| evaluation.step.to_string()));
    text += &row("seconds to AdamW's final loss", &|run| cell(reached(run), |evaluation| format!("{:.1}", evaluation.timing.seconds)));
    text += &row("training seconds, all steps", &|run| format!("{:.1}", run.timing().seconds));
    text += &row("model, ms per step", &|run| format!("{:.2}", run.timing().model_ms));
    text += &row("optimizer, ms per step", &|run| format!("{:.2}", run.timing().optimizer_ms));
    text += &row("optimizer state, bytes", &|run| run.start.state_bytes.to_string());
    for run in runs {
        if let Outcome::Diverged(message) = &run.outcome {
            text += &format!("{}: {message}\n", run.method.name());
        }
    }
    text
}

/// Writes `curves.csv`: a row per method and evaluation.
///
/// # Errors
/// If the file cannot be written.
pub fn write_curves(path: &Path, runs: &[Run]) -> Result<()> {
    let hint = || format!("cannot write '{}'; make room or give another --out", path.display());
    let mut writer = csv::Writer::from_path(path).with_context(hint)?;
    writer
        .write_record(["method", "step", "seconds", "train_loss", "val_loss", "model_ms", "optimizer_ms", "tokens_per_second"])
        .with_context(hint)?;
    for run in runs {
        for evaluation in &run.evaluations {
            let timing = evaluation.timing;
            let train_loss = evaluation.train_loss.map(|loss| loss.to_string()).unwrap_or_default();
            let record = [
                run.method.argument().to_owned(),
                evaluation.step.to_string(),
                timing.seconds.to_string(),
                train_loss,
                evaluation.val_loss.to_string(),
                timing.model_ms.to_string(),
                timing.optimizer_ms.to_string(),
                timing.tokens_per_second.to_string(),
            ];
            writer.write_record(record).with_context(hint)?;
        }
    }
    writer.flush().with_context(hint)
}

/// Writes `summary.json`: the table for programs.
///
/// # Errors
/// If the file cannot be written.
pub fn write_summary(path: &Path, runs: &[Run], arguments: &[Vec<String>]) -> Result<()> {
    let target = target(runs);
    let summary: Vec<Value> = runs
        .iter()
        .zip(arguments)
        .map(|(run, arguments)| {
            let reached = target.and_then(|loss| run.reaches(loss));
            let timing = run.timing();
            json!({
                "method": run.method.argument(),
                "arguments": arguments,
                "final_val_loss": run.final_loss(),
                "diverged": run.outcome != Outcome::Finished,
                "steps_to_adamw_loss": reached.map(|evaluation| evaluation.step),
                "seconds_to_adamw_loss": reached.map(|evaluation| evaluation.timing.seconds),
                "seconds": timing.seconds,
                "model_ms": timing.model_ms,
                "optimizer_ms": timing.optimizer_ms,
                "state_bytes": run.start.state_bytes,
                "parameters": run.start.parameters,
            })
        })
        .collect();
    let hint = || format!("cannot write '{}'; make room or give another --out", path.display());
    fs::write(path, serde_json::to_string_pretty(&summary)? + "\n").with_context(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(method: Method, losses: &[f64]) -> Run {
        let evaluation = |(i, &val_loss): (usize, &f64)| Evaluation {
            step: 25 * i as u64,
            train_loss: None,
            val_loss,
            timing: Timing { seconds: i as f64, ..Timing::default() },
        };
        Run {
            method,
            start: Start::default(),
            evaluations: losses.iter().enumerate().map(evaluation).collect(),
            outcome: Outcome::Finished,
        }
    }

    #[test]
    fn steps_are_counted_to_the_last_loss_of_adamw() {
        let runs = [run(Method::AdamW, &[5.0, 3.0, 2.0]), run(Method::KlShampoo, &[5.0, 1.9, 1.5])];
        let text = table(&runs);
        let steps = text.lines().find(|line| line.starts_with("steps to")).map(|line| line.split_whitespace().rev().take(2).collect());
        assert_eq!(steps, Some(vec!["25", "50"]));
    }

    #[test]
    fn a_method_that_diverged_has_no_final_loss() {
        let mut diverged = run(Method::AdamW, &[5.0, 3.0]);
        diverged.outcome = Outcome::Diverged("the loss is no longer finite".to_owned());
        assert_eq!(diverged.final_loss(), None);
        assert!(table(&[diverged]).contains("diverged"));
    }
}
