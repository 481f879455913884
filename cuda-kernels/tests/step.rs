//! The step of the whole method family on the emulator, against the core's optimizer.

mod common;
#[path = "step/harness.rs"]
mod harness;

use harness::Both;
use klshampoo::{Config, TensorSpec};

const PERIOD: u32 = 4;

fn short(config: Config<f32>) -> Config<f32> {
    Config { refresh_period: PERIOD, ..config }
}

#[test]
fn kl_shampoo_of_a_matrix() {
    let mut both = Both::new(&[short(Config::<f32>::kl_shampoo())], &[TensorSpec::matrix(5, 7)]);
    for step in 1..=12 {
        both.steps(1);
        both.check(&format!("step {step}"), 1e-3);
    }
}
