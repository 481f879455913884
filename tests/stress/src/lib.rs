//! What is left of the numbers after a very long time, and after everything that gradients can do: `cargo run --release -p stress`.
//!
//! - [`gradients`]: gradients of a second moment that turns, is scaled and replaced, of any condition number
//! - [`subject`]: an optimizer with its twin in double precision, and what can be measured of it
//! - [`methods`]: the methods that are tried
//! - [`findings`]: what is found on the way
//! - [`long`]: a million steps of each
//! - [`hard`]: ill-conditioned, jumping, vanishing gradients, odd shapes and periods
//! - [`caller`]: a caller in C that was compiled with `-ffast-math`, and denormal numbers
//! - [`report`]: the table, and whether its limits hold

pub mod caller;
pub mod findings;
pub mod gradients;
pub mod hard;
pub mod long;
pub mod methods;
pub mod report;
pub mod subject;

/// How long everything is tried.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Steps after which the numbers are looked at; the last one is the length of the long runs.
    pub long: &'static [u64],
    /// Steps of runs on gradients that are hard in one way or another.
    pub hard: u64,
    /// Steps of gradients that are zero before they come back, each a run.
    pub zeros: &'static [u64],
    /// Steps of the runs with the longest refresh period, 10,000.
    pub period: u64,
    /// Rounds of the caller in C.
    pub rounds: u64,
}

impl Plan {
    /// All of it: some minutes of one core.
    pub const FULL: Self =
        Self { long: &[1_000, 10_000, 100_000, 1_000_000], hard: 50_000, zeros: &[100, 650, 10_000], period: 100_000, rounds: 5 };

    /// What an ordinary test has the time for.
    pub const SHORT: Self = Self { long: &[1_000, 5_000], hard: 2_000, zeros: &[100, 10_000], period: 12_000, rounds: 1 };
}

/// A part of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// See [`long`].
    Long,
    /// See [`hard`].
    Hard,
    /// See [`caller`].
    Caller,
}

impl Part {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Long, Self::Hard, Self::Caller];
}

/// These parts, row by row, as `show` gets to see it.
pub fn run(plan: &Plan, parts: &[Part], mut show: impl FnMut(&report::Row)) -> Vec<report::Row> {
    let mut rows = Vec::new();
    let mut add = |row: report::Row| {
        show(&row);
        rows.push(row);
    };
    for part in parts {
        match part {
            Part::Long => long::run(plan, &mut add),
            Part::Hard => hard::run(plan, &mut add),
            Part::Caller => caller::run(plan, &mut add),
        }
    }
    rows
}
