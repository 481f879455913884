//! The processes' progress: bars on a terminal, a line per evaluation elsewhere.

use crate::trainer::{Event, Method};
use anyhow::Result;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{IsTerminal, stderr};

/// Shows one training per method, on standard error.
pub struct Progress {
    methods: Vec<Method>,
    bars: Option<Vec<ProgressBar>>,
    validation: Vec<Option<f64>>,
}

impl Progress {
    /// Starts with no step done of `steps`.
    ///
    /// # Errors
    /// If the bars' layout is wrong, which is a defect of this file.
    pub fn new(methods: &[Method], steps: u64) -> Result<Self> {
        let bars = if stderr().is_terminal() {
            let style = ProgressStyle::with_template("{prefix:10} [{bar:24}] {pos:>5}/{len} {msg} {eta} left")?.progress_chars("=> ");
            let all = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
            let bar = |method: &Method| all.add(ProgressBar::new(steps)).with_style(style.clone()).with_prefix(method.name());
            Some(methods.iter().map(bar).collect())
        } else {
            None
        };
        Ok(Self { methods: methods.to_vec(), bars, validation: vec![None; methods.len()] })
    }

    /// Takes in an event of training `index`.
    pub fn update(&mut self, index: usize, event: &Event) {
        let (step, train_loss, timing) = match *event {
            Event::Start(_) => return,
            Event::Step(step, loss, timing) => (step, Some(loss), timing),
            Event::Eval(evaluation) => {
                self.validation[index] = Some(evaluation.val_loss);
                (evaluation.step, evaluation.train_loss, evaluation.timing)
            }
            Event::Closed => {
                if let Some(bars) = &self.bars {
                    bars[index].abandon();
                }
                return;
            }
        };
        let loss = |value: Option<f64>| value.map_or_else(|| "  -  ".to_owned(), |value| format!("{value:.3}"));
        let message = format!("train {} val {} {:6.0} tokens/s", loss(train_loss), loss(self.validation[index]), timing.tokens_per_second);
        match &self.bars {
            Some(bars) => {
                bars[index].set_position(step);
                bars[index].set_message(message);
            }
            None if matches!(event, Event::Eval(_)) => eprintln!("{:10} step {step:5} {message}", self.methods[index].name()),
            None => {}
        }
    }
}
