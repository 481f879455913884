//! Rows of measurements, each with what it may be at most.

use std::fmt::Write;

/// The larger of two errors; NaN is worse than any.
#[must_use]
pub fn worse(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) }
}

/// A measurement.
#[derive(Clone, Debug)]
pub struct Check {
    /// Of what.
    pub what: &'static str,
    /// The worst that was found.
    pub worst: f64,
    /// What it may be at most; `None`: it is only told.
    pub limit: Option<f64>,
}

impl Check {
    /// Whether the limit holds, which no NaN does.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.limit.is_none_or(|limit| self.worst <= limit)
    }
}

/// What was tried.
#[derive(Clone, Debug)]
pub struct Row {
    /// In words.
    pub what: String,
    /// How many steps.
    pub steps: u64,
    /// What was found.
    pub checks: Vec<Check>,
}

impl Row {
    /// Nothing has been measured yet.
    #[must_use]
    pub fn new(what: impl Into<String>, steps: u64) -> Self {
        Self { what: what.into(), steps, checks: Vec::new() }
    }

    /// Adds a measurement with a limit.
    #[must_use]
    pub fn at_most(mut self, what: &'static str, worst: f64, limit: f64) -> Self {
        self.checks.push(Check { what, worst, limit: Some(limit) });
        self
    }

    /// Adds a measurement that is only told.
    #[must_use]
    pub fn told(mut self, what: &'static str, worst: f64) -> Self {
        self.checks.push(Check { what, worst, limit: None });
        self
    }

    /// Whether all limits hold.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.checks.iter().all(Check::holds)
    }
}

/// The head of the table.
pub const HEAD: &str = "| what was tried | steps | worst error |\n|---|---:|---|";

/// A line of the table.
#[must_use]
pub fn line(row: &Row) -> String {
    let mut text = format!("| {} | {} | ", row.what, row.steps);
    for (i, check) in row.checks.iter().enumerate() {
        let Check { what, worst, limit } = check;
        let _ = write!(text, "{}{what} {}", if i > 0 { "; " } else { "" }, number(*worst));
        if let Some(limit) = limit {
            let _ = write!(text, " ({} {})", if check.holds() { "at most" } else { "MISSED:" }, number(*limit));
        }
    }
    text + " |"
}

fn number(x: f64) -> String {
    if x == x.trunc() && x.abs() < 1e6 { format!("{x}") } else { format!("{x:.1e}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_that_is_missed_is_seen() {
        let row = Row::new("x", 3).at_most("error", 2e-5, 1e-5).told("steps", 7.0);
        assert!(!row.holds());
        assert_eq!(line(&row), "| x | 3 | error 2.0e-5 (MISSED: 1.0e-5); steps 7 |");
        assert!(!Row::new("x", 1).at_most("error", worse(worse(0.0, f64::NAN), 2.0), 1.0).holds());
        let row = Row::new("x", 1).at_most("error", 1e-5, 1e-5);
        assert!(row.holds());
        assert_eq!(line(&row), "| x | 1 | error 1.0e-5 (at most 1.0e-5) |");
    }
}
