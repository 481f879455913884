//! What is left at the end: a table on standard output, the curves as CSV, the summary as JSON.

use crate::method::Method;
use crate::trainer::{Evaluation, Outcome, Start, Timing};
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

    /// The lowest validation loss.
    #[must_use]
    pub fn best_loss(&self) -> Option<f64> {
        self.evaluations.iter().map(|evaluation| evaluation.val_loss).filter(|loss| loss.is_finite()).min_by(f64::total_cmp)
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
    runs.iter().find(|run| run.method == Method::ADAMW)?.final_loss()
}

fn cell<T>(value: Option<T>, print: impl Fn(T) -> String) -> String {
    value.map_or_else(|| "-".to_owned(), print)
}

/// The table for people: a row per method.
#[must_use]
pub fn table(runs: &[Run]) -> String {
    let target = target(runs);
    let line = |cells: [&str; 10]| {
        let [first, rest @ ..] = cells;
        rest.iter().fold(format!("{first:<16}"), |line, cell| format!("{line}{cell:>14}")).trim_end().to_owned() + "\n"
    };
    let mut text =
        line(["", "final loss", "best loss", "steps to", "seconds to", "seconds,", "model,", "optimizer,", "optimizer's", "state,"]);
    text += &line([
        "",
        "nats/byte",
        "nats/byte",
        "AdamW's final",
        "AdamW's final",
        "all steps",
        "ms per step",
        "ms per step",
        "share",
        "bytes",
    ]);
    for run in runs {
        let (reached, timing) = (target.and_then(|loss| run.reaches(loss)), run.timing());
        text += &line([
            run.method.name(),
            &run.final_loss().map_or_else(|| run.outcome.word().to_owned(), |loss| format!("{loss:.4}")),
            &cell(run.best_loss(), |loss| format!("{loss:.4}")),
            &cell(reached, |evaluation| evaluation.step.to_string()),
            &cell(reached, |evaluation| format!("{:.1}", evaluation.timing.seconds)),
            &format!("{:.1}", timing.seconds),
            &format!("{:.2}", timing.model_ms),
            &format!("{:.2}", timing.optimizer_ms),
            &cell(timing.optimizer_share(), |share| format!("{:.0} %", 100.0 * share)),
            &run.start.state_bytes.to_string(),
        ]);
    }
    for run in runs {
        if let Some(message) = run.outcome.message() {
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
                "best_val_loss": run.best_loss(),
                "outcome": run.outcome.word(),
                "message": run.outcome.message(),
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
pub(crate) mod tests {
    use super::*;

    /// A run with these validation losses.
    pub(crate) fn run(method: Method, losses: &[f64]) -> Run {
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
        let runs = [run(Method::ADAMW, &[5.0, 3.0, 2.0]), run(Method::KL_SHAMPOO, &[5.0, 1.9, 1.5])];
        let text = table(&runs);
        let steps: Vec<_> = text.lines().skip(2).filter_map(|line| line.split_whitespace().nth(3)).collect();
        assert_eq!(steps, ["50", "25"]);
    }

    #[test]
    fn the_optimizer_is_set_in_relation_to_the_step() {
        let mut timed = run(Method::KL_SHAMPOO, &[5.0, 3.0]);
        assert!(table(&[run(Method::ADAMW, &[])]).lines().nth(2).is_some_and(|line| line.split_whitespace().nth_back(1) == Some("-")));
        timed.evaluations[1].timing = Timing { model_ms: 60.0, optimizer_ms: 20.0, ..timed.evaluations[1].timing };
        assert!(table(&[timed]).lines().nth(2).is_some_and(|line| line.contains("25 %")));
    }

    #[test]
    fn a_method_that_diverged_has_no_final_loss() {
        let mut diverged = run(Method::ADAMW, &[5.0, 3.0]);
        diverged.outcome = Outcome::Diverged("the loss is no longer finite".to_owned());
        assert_eq!(diverged.final_loss(), None);
        assert!(table(&[diverged]).contains("diverged"));
    }
}
