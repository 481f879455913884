//! One training process: started, listened to, and killed if the runner ends first.

use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::Sender;
use std::thread::{self, JoinHandle};

/// What the trainer says first.
#[derive(Clone, Copy, Debug, Default)]
pub struct Start {
    /// Parameters of the model.
    pub parameters: u64,
    /// Steps to come.
    pub steps: u64,
    /// Optimizer state in bytes.
    pub state_bytes: u64,
    /// Bytes of text to train on.
    pub training_bytes: u64,
    /// Bytes of text in the fixed validation subset.
    pub eval_bytes: u64,
}

/// Means over the steps so far, evaluations not counted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Timing {
    /// Training time in seconds.
    pub seconds: f64,
    /// Forward and backward pass, milliseconds per step.
    pub model_ms: f64,
    /// Optimizer, milliseconds per step.
    pub optimizer_ms: f64,
    /// Bytes of text per second.
    pub tokens_per_second: f64,
}

impl Timing {
    /// The optimizer's part of a step's time; `None` before the first step.
    #[must_use]
    pub fn optimizer_share(&self) -> Option<f64> {
        let step = self.model_ms + self.optimizer_ms;
        (step > 0.0).then(|| self.optimizer_ms / step)
    }
}

/// A point of the curves.
#[derive(Clone, Copy, Debug)]
pub struct Evaluation {
    /// Steps done.
    pub step: u64,
    /// Mean training loss since the evaluation before, nats per byte.
    pub train_loss: Option<f64>,
    /// Validation loss, nats per byte.
    pub val_loss: f64,
    /// Timing up to here.
    pub timing: Timing,
}

/// One line of the trainer's output.
#[derive(Clone, Copy, Debug)]
pub enum Event {
    /// The model and the optimizer stand.
    Start(Start),
    /// A sign of life: step, training loss, timing.
    Step(u64, f64, Timing),
    /// An evaluation.
    Eval(Evaluation),
    /// The process has ended; what it left behind is in [`Trainer::finish`].
    Closed,
}

fn parse(line: &str) -> Option<Event> {
    let value: Value = serde_json::from_str(line).ok()?;
    let number = |key: &str| value.get(key).and_then(Value::as_f64);
    let whole = |key: &str| value.get(key).and_then(Value::as_u64);
    let timing = || {
        Some(Timing {
            seconds: number("seconds")?,
            model_ms: number("model_ms")?,
            optimizer_ms: number("optimizer_ms")?,
            tokens_per_second: number("tokens_per_second")?,
        })
    };
    match value.get("event")?.as_str()? {
        "start" => Some(Event::Start(Start {
            parameters: whole("parameters")?,
            steps: whole("steps")?,
            state_bytes: whole("state_bytes")?,
            training_bytes: whole("training_bytes")?,
            eval_bytes: whole("eval_bytes")?,
        })),
        "step" => Some(Event::Step(whole("step")?, number("train_loss")?, timing()?)),
        "eval" => Some(Event::Eval(Evaluation {
            step: whole("step")?,
            train_loss: number("train_loss"),
            val_loss: number("val_loss")?,
            timing: timing()?,
        })),
        _ => None,
    }
}

/// How a training ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Outcome {
    /// Not ended yet, or not begun.
    #[default]
    Pending,
    /// All steps done.
    Finished,
    /// The loss left the finite numbers; the trainer's words.
    Diverged(String),
    /// The library would not create or step the optimizer, or the process was lost; the trainer's words.
    Refused(String),
}

impl Outcome {
    /// In a word.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Finished => "finished",
            Self::Diverged(_) => "diverged",
            Self::Refused(_) => "refused",
        }
    }

    /// The trainer's words, if it did not finish.
    #[must_use]
    pub fn message(&self) -> Option<&str> {
        match self {
            Self::Pending | Self::Finished => None,
            Self::Diverged(message) | Self::Refused(message) => Some(message),
        }
    }
}

/// Exit status of `gpt-train` when it does not understand its arguments: every other training would say the same.
const USAGE: i32 = 2;

/// Exit status of `gpt-train` when the loss is no longer finite.
const DIVERGED: i32 = 3;

/// A running trainer.
pub struct Trainer {
    child: Child,
    errors: Option<JoinHandle<String>>,
}

impl Trainer {
    /// Starts the program; its events arrive at `events` with `index` before them.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(program: &Path, arguments: &[String], index: usize, events: Sender<(usize, Event)>) -> Result<Self> {
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let stdout = child.stdout.take().context("the trainer has no standard output")?;
        let mut stderr = child.stderr.take().context("the trainer has no standard error")?;
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if let Some(event) = parse(&line)
                    && events.send((index, event)).is_err()
                {
                    return;
                }
            }
            // A receiver that is gone has no use for the news.
            let _ = events.send((index, Event::Closed));
        });
        let errors = thread::spawn(move || {
            let mut text = Vec::new();
            // What could not be read is missing from a message that is already about a failure.
            let _ = stderr.read_to_end(&mut text);
            String::from_utf8_lossy(&text).into_owned()
        });
        Ok(Self { child, errors: Some(errors) })
    }

    /// Waits for the end.
    ///
    /// # Errors
    /// The trainer's own message if it refused its arguments.
    pub fn finish(&mut self) -> Result<Outcome> {
        let status = self.child.wait().context("lost the trainer")?;
        let errors = self.errors.take().and_then(|thread| thread.join().ok()).unwrap_or_default();
        let message = errors.lines().last().unwrap_or_default().trim_start_matches("gpt-train: ").to_owned();
        match status.code() {
            Some(0) => Ok(Outcome::Finished),
            Some(DIVERGED) => Ok(Outcome::Diverged(message)),
            Some(USAGE) => bail!("{message}"),
            _ if message.is_empty() => Ok(Outcome::Refused(format!("the trainer ended with {status}; try a smaller job"))),
            _ => Ok(Outcome::Refused(message)),
        }
    }
}

impl Drop for Trainer {
    fn drop(&mut self) {
        // Both fail only if the process has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_events() {
        let line = r#"{"event":"eval","step":25,"val_loss":3.5,"train_loss":3.6,"seconds":1.5,"model_ms":50,"optimizer_ms":2,"tokens_per_second":9000}"#;
        match parse(line) {
            Some(Event::Eval(evaluation)) => {
                assert_eq!((evaluation.step, evaluation.val_loss, evaluation.train_loss), (25, 3.5, Some(3.6)));
                assert_eq!(evaluation.timing.optimizer_ms, 2.0);
            }
            other => panic!("not an evaluation: {other:?}"),
        }
        assert!(parse("warning: something else").is_none());
    }
}
