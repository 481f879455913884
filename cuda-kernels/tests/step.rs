//! The step of the whole method family on the emulator, against the core's optimizer.

mod common;
#[path = "step/harness.rs"]
mod harness;

use harness::Both;
use klshampoo::{Config, Convention, Mode, TensorSpec};

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

/// Every preset, by name.
fn presets() -> Vec<(&'static str, Config<f32>)> {
    vec![
        ("kl_shampoo", Config::<f32>::kl_shampoo()),
        ("kl_soap", Config::<f32>::kl_soap()),
        ("soap", Config::<f32>::soap()),
        ("shampoo", Config::<f32>::shampoo()),
        ("shampoo_half", Config::<f32>::shampoo_half()),
        ("shampoo_quarter", Config::<f32>::shampoo_quarter()),
        ("vn_shampoo_1", Config::<f32>::vn_shampoo_1()),
        ("vn_shampoo_2", Config::<f32>::vn_shampoo_2()),
        ("f_shampoo_1", Config::<f32>::f_shampoo_1()),
        ("f_shampoo_2", Config::<f32>::f_shampoo_2()),
        ("idealized_kl", Config::<f32>::idealized_kl()),
        ("idealized_vn_1", Config::<f32>::idealized_vn_1()),
        ("idealized_vn_2", Config::<f32>::idealized_vn_2()),
        ("idealized_f_1", Config::<f32>::idealized_f_1()),
        ("idealized_f_2", Config::<f32>::idealized_f_2()),
        ("instantaneous_kl", Config::<f32>::instantaneous_kl()),
        ("one_sided", Config::<f32>::one_sided()),
        ("adafactor", Config::<f32>::adafactor()),
        ("adamw", Config::<f32>::adamw()),
        ("rmsprop", Config::<f32>::rmsprop()),
        ("sgd", Config::<f32>::sgd()),
    ]
}

const CONVENTIONS: [Convention; 4] = [Convention::Figure13, Convention::ReferenceKl, Convention::ReferenceSoap, Convention::ReferenceMeta];

/// Steps the tensors with a configuration and compares.
fn compare(what: &str, config: Config<f32>, specs: &[TensorSpec], steps: usize, tolerance: f64) {
    let mut both = Both::new(&[config], specs);
    both.steps(steps);
    let distance = both.distance();
    println!("{what}: {distance:e}");
    both.check(what, tolerance);
}

#[test]
fn every_preset_in_every_convention() {
    for (name, preset) in presets() {
        for convention in CONVENTIONS {
            let config = short(preset.in_convention(convention));
            let config = Config { weight_decay: 0.1, ..config };
            compare(&format!("{name} {convention:?}"), config, &[TensorSpec::matrix(4, 6)], 11, 2e-3);
        }
    }
}

#[test]
fn every_shape() {
    let specs = [
        TensorSpec::matrix(1, 1),
        TensorSpec::matrix(1, 5),
        TensorSpec::matrix(6, 1),
        TensorSpec::matrix(9, 4),
        TensorSpec::vector(11),
        TensorSpec::vector(1),
        TensorSpec::new(&[3, 4, 5]).unwrap(),
        TensorSpec::new(&[2, 3, 2, 3]).unwrap(),
        TensorSpec::matrix(5, 6).mode(0, Mode::Diagonal),
        TensorSpec::matrix(5, 6).mode(1, Mode::Diagonal),
        TensorSpec::matrix(5, 6).mode(0, Mode::Identity),
        TensorSpec::matrix(5, 6).mode(0, Mode::Diagonal).mode(1, Mode::Diagonal),
        TensorSpec::matrix(5, 6).mode(0, Mode::Diagonal).mode(1, Mode::Identity),
        TensorSpec::new(&[3, 4, 5]).unwrap().mode(1, Mode::Diagonal),
        TensorSpec::new(&[3, 4, 5]).unwrap().mode(0, Mode::Identity).mode(2, Mode::Diagonal),
        TensorSpec::vector(7).mode(0, Mode::Full),
    ];
    for (name, preset) in presets().into_iter().filter(|(name, _)| *name != "one_sided") {
        compare(name, short(preset), &specs, 6, 2e-3);
    }
}
