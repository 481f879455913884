//! The same learning rates for every method: a table of final losses, as Markdown and as CSV.

use crate::method::Method;
use crate::report::Run;
use crate::trainer::Outcome;
use anyhow::{Context, Result};
use std::fs;
use std::path::Path;

/// A rate as short as it can be written.
#[must_use]
pub fn rate_name(rate: f64) -> String {
    if rate == 0.0 { "0".to_owned() } else { format!("{rate:e}") }
}

/// Runs, method by method, each with every rate.
pub struct Grid<'a> {
    rates: &'a [f64],
    runs: &'a [Run],
}

impl<'a> Grid<'a> {
    /// `runs` are those of the first method with all `rates`, then those of the next one.
    #[must_use]
    pub const fn new(rates: &'a [f64], runs: &'a [Run]) -> Self {
        Self { rates, runs }
    }

    fn rows(&self) -> impl Iterator<Item = (Method, &'a [Run])> {
        self.runs.chunks(self.rates.len().max(1)).filter_map(|row| Some((row.first()?.method, row)))
    }

    /// The table for people; the best loss of every method is bold.
    #[must_use]
    pub fn markdown(&self) -> String {
        let mut text = "| method |".to_owned();
        for &rate in self.rates {
            text += &format!(" {} |", rate_name(rate));
        }
        text += &format!("\n|---|{}\n", "---|".repeat(self.rates.len()));
        let mut notes = String::new();
        for (method, row) in self.rows() {
            let best = best(row);
            text += &format!("| {} |", method.argument());
            for (index, run) in row.iter().enumerate() {
                text += &match (run.final_loss(), &run.outcome) {
                    (Some(loss), _) if Some(index) == best => format!(" **{loss:.4}** |"),
                    (Some(loss), _) => format!(" {loss:.4} |"),
                    (None, outcome) => format!(" {} |", outcome.word()),
                };
                if let Outcome::Refused(message) = &run.outcome {
                    notes += &format!("- {} at {}: {message}\n", method.argument(), rate_name(self.rates[index]));
                }
            }
            text += "\n";
            if self.rates.len() > 1 && best.is_some_and(|best| best == 0 || best + 1 == self.rates.len()) {
                notes += &format!("- {}: the best rate is the last on its side; the list is too short for it\n", method.argument());
            }
        }
        if notes.is_empty() { text } else { text + "\n" + &notes }
    }

    /// Writes `grid.md` and `grid.csv`, which has a row per method and rate, to a folder.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let hint = || format!("cannot write to '{}'; make room or give another --out", folder.display());
        fs::write(folder.join("grid.md"), self.markdown()).with_context(hint)?;
        let mut writer = csv::Writer::from_path(folder.join("grid.csv")).with_context(hint)?;
        writer.write_record(["method", "lr", "outcome", "final_val_loss", "best"]).with_context(hint)?;
        for (method, row) in self.rows() {
            let best = best(row);
            for (index, run) in row.iter().enumerate() {
                let loss = run.final_loss().map(|loss| loss.to_string()).unwrap_or_default();
                let mark = if Some(index) == best { "best" } else { "" };
                let rate = rate_name(self.rates[index]);
                writer.write_record([method.argument(), &rate, run.outcome.word(), &loss, mark]).with_context(hint)?;
            }
        }
        writer.flush().with_context(hint)
    }
}

fn best(row: &[Run]) -> Option<usize> {
    let losses = row.iter().enumerate().filter_map(|(index, run)| Some((index, run.final_loss()?)));
    losses.min_by(|(_, a), (_, b)| a.total_cmp(b)).map(|(index, _)| index)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::run;

    #[test]
    fn the_best_rate_is_bold_and_a_diverged_one_is_named() {
        let mut diverged = run(Method::ADAMW, &[5.0]);
        diverged.outcome = Outcome::Diverged("too large".to_owned());
        let mut refused = run(Method::KL_SHAMPOO, &[]);
        refused.outcome = Outcome::Refused("no such thing".to_owned());
        let runs = [
            run(Method::ADAMW, &[5.0, 3.0]),
            run(Method::ADAMW, &[5.0, 2.0]),
            diverged,
            refused.clone(),
            refused,
            run(Method::KL_SHAMPOO, &[1.0]),
        ];
        let text = Grid::new(&[1e-3, 4e-3, 16e-3], &runs).markdown();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "| method | 1e-3 | 4e-3 | 1.6e-2 |");
        assert_eq!(lines[2], "| adamw | 3.0000 | **2.0000** | diverged |");
        assert_eq!(lines[3], "| kl-shampoo | refused | refused | **1.0000** |");
        assert!(text.contains("kl-shampoo at 1e-3: no such thing") && text.contains("kl-shampoo: the best rate is the last"), "{text}");
    }
}
