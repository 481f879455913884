//! The result.

use board::println;
use digits::images::{LOGISTIC_REGRESSION, TEST, TRAINING};

use crate::run::Outcome;
use crate::{BATCH, SEED, STEPS};

/// Prints a table of all methods.
pub fn print(outcomes: &[&Outcome]) {
    println!("digits: {} training images, {} test images; 64-32-10, {} images a step, seed {}", TRAINING, TEST, BATCH, SEED);
    println!("            learning  correct after    instructions a step   correct after as many     state  scratch  checksum");
    println!("method          rate  {:4} steps           all   optimizer   instructions, steps       bytes    bytes", STEPS);
    for outcome in outcomes {
        let steps = u64::from(STEPS);
        println!(
            "{:10}  {:8.4}     {} %       {:9}   {:9}   {} % after {:5}       {:7}  {:7}  {:08x}",
            outcome.name,
            outcome.rate,
            Percent::of(outcome.correct),
            outcome.instructions / steps,
            outcome.optimizer_instructions / steps,
            Percent::of(outcome.budget_correct),
            outcome.budget_steps,
            outcome.totals.state_bytes::<f32>(),
            outcome.totals.scratch_len * size_of::<f32>(),
            outcome.checksum,
        );
    }
    println!("logistic regression: {} %", Percent::of(LOGISTIC_REGRESSION));
}

/// In hundredths.
struct Percent(u32);

impl Percent {
    /// Of the test images.
    const fn of(correct: u32) -> Self {
        Self((correct * 10_000 + TEST as u32 / 2) / TEST as u32)
    }
}

impl core::fmt::Display for Percent {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}.{:02}", self.0 / 100, self.0 % 100)
    }
}
