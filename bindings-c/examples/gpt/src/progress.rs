//! The processes' progress: bars on a terminal, a line per evaluation elsewhere.

use crate::trainer::Event;
use anyhow::Result;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{IsTerminal, stderr};

/// Bars of so many trainings stay on the screen when they have ended.
const KEPT: usize = 8;

/// Shows trainings by their labels, on standard error.
pub struct Progress {
    labels: Vec<String>,
    steps: u64,
    width: usize,
    screen: Option<(MultiProgress, ProgressStyle)>,
    bars: Vec<Option<ProgressBar>>,
    validation: Vec<Option<f64>>,
}

impl Progress {
    /// Starts with no step done of `steps`.
    ///
    /// # Errors
    /// If the bars' layout is wrong, which is a defect of this file.
    pub fn new(labels: Vec<String>, steps: u64) -> Result<Self> {
        let width = labels.iter().map(String::len).max().unwrap_or(0);
        let screen = if stderr().is_terminal() {
            let template = format!("{{prefix:{width}}} [{{bar:24}}] {{pos:>5}}/{{len}} {{msg}} {{eta}} left");
            let style = ProgressStyle::with_template(&template)?.progress_chars("=> ");
            Some((MultiProgress::with_draw_target(ProgressDrawTarget::stderr()), style))
        } else {
            None
        };
        let count = labels.len();
        Ok(Self { labels, steps, width, screen, bars: vec![None; count], validation: vec![None; count] })
    }

    /// The bar of a training, which appears with its first event.
    fn bar(&mut self, index: usize) -> Option<&ProgressBar> {
        let (all, style) = self.screen.as_ref()?;
        let new = || all.add(ProgressBar::new(self.steps)).with_style(style.clone()).with_prefix(self.labels[index].clone());
        Some(self.bars[index].get_or_insert_with(new))
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
                let many = self.labels.len() > KEPT;
                match self.bar(index) {
                    Some(bar) if many => bar.finish_and_clear(),
                    Some(bar) => bar.abandon(),
                    None => {}
                }
                return;
            }
        };
        let loss = |value: Option<f64>| value.map_or_else(|| "  -  ".to_owned(), |value| format!("{value:.3}"));
        let message = format!("train {} val {} {:6.0} tokens/s", loss(train_loss), loss(self.validation[index]), timing.tokens_per_second);
        if let Some(bar) = self.bar(index) {
            bar.set_position(step);
            bar.set_message(message);
        } else if matches!(event, Event::Eval(_)) {
            eprintln!("{:width$} step {step:5} {message}", self.labels[index], width = self.width);
        }
    }
}
