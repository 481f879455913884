//! Learning rates: what each method reaches with the rates of a grid, on the host, with the bits that the devices would have.
//!
//!     cargo run --release -p digits --example grid -- perceptron 400 20
//!     cargo run --release -p digits --example grid -- softmax 200 20
//!     cargo run --release -p digits --example grid -- perceptron 400 20 falling   # linearly to zero, instead of one rate throughout

use digits::images::{CLASSES, PIXELS, TEST, correct};
use digits::perceptron::HIDDEN;
use digits::softmax::INPUTS;
use digits::{Perceptron, Random, Softmax};
use klshampoo::linalg::Portable;
use klshampoo::{Config, Format, Optimizer, SliceHeader, Tensor, TensorSpec, Totals};

const BATCH: u32 = 32;
const USAGE: &str = "usage: grid perceptron|softmax STEPS SEEDS [falling]";

/// What the two networks have in common.
trait Network<const TENSORS: usize>: Clone {
    const SPECS: [TensorSpec; TENSORS];
    const ZERO: Self;
    fn start(&mut self, random: &mut Random);
    fn differentiate(&self, gradient: &mut Self, random: &mut Random);
    fn tensors(&self) -> [&[f32]; TENSORS];
    fn tensors_mut(&mut self) -> [&mut [f32]; TENSORS];
    fn correct(&self) -> u32;
}

macro_rules! network {
    ($name:ident, $tensors:literal, $specs:expr, $start:expr) => {
        impl Network<$tensors> for $name {
            const SPECS: [TensorSpec; $tensors] = $specs;
            const ZERO: Self = Self::ZERO;
            fn start(&mut self, random: &mut Random) {
                let start: fn(&mut Self, &mut Random) = $start;
                start(self, random);
            }
            fn differentiate(&self, gradient: &mut Self, random: &mut Random) {
                self.differentiate(gradient, BATCH, random);
            }
            fn tensors(&self) -> [&[f32]; $tensors] {
                self.tensors()
            }
            fn tensors_mut(&mut self) -> [&mut [f32]; $tensors] {
                self.tensors_mut()
            }
            fn correct(&self) -> u32 {
                correct(|image| self.classify(image))
            }
        }
    };
}

network!(
    Perceptron,
    4,
    [TensorSpec::matrix(HIDDEN, PIXELS), TensorSpec::vector(HIDDEN), TensorSpec::matrix(CLASSES, HIDDEN), TensorSpec::vector(CLASSES)],
    |network, random| network.start(random)
);
network!(Softmax, 1, [TensorSpec::matrix(CLASSES, INPUTS)], |_, _| ());

/// Test images that are classified rightly after training.
fn train<N: Network<TENSORS>, const TENSORS: usize>(config: Config<f32>, rate: impl Fn(u32) -> f32, steps: u32, seed: u32) -> u32 {
    let groups = [config];
    let mut totals = Totals::default();
    let tensors = N::SPECS.map(|spec| Tensor::resolve(&spec, &groups, &mut totals).expect("a table"));
    let mut headers = vec![SliceHeader::NEW; totals.slices];
    let mut state = vec![0.0; totals.state_len];
    let mut scratch = vec![0.0; totals.scratch_len];
    let mut random = Random::new(seed);
    let (mut network, mut gradient) = (N::ZERO, N::ZERO);
    network.start(&mut random);
    for step in 0..steps {
        network.differentiate(&mut gradient, &mut random);
        let mut optimizer = Optimizer::new(&groups, &tensors, &mut headers, &mut state).expect("a table");
        optimizer.step(&mut network.tensors_mut(), &gradient.tensors().map(Some), rate(step), &mut scratch, &mut Portable).expect("a step");
    }
    network.correct()
}

fn grid<N: Network<TENSORS>, const TENSORS: usize>(steps: u32, seeds: u32, falling: bool) {
    println!("test accuracy in % after {steps} steps of {BATCH} images: mean (worst to best) of {seeds} seeds");
    type Preset = fn() -> Config<f32>;
    let methods: [(&str, Preset, f32); 6] = [
        ("KL-Shampoo", Config::<f32>::kl_shampoo as Preset, 0.002_5),
        ("in bf16", || Config { factor_format: Format::Bf16, ..Config::<f32>::kl_shampoo() }, 0.002_5),
        ("in f16", || Config { factor_format: Format::F16, ..Config::<f32>::kl_shampoo() }, 0.002_5),
        // About half of a plain step of the first layer.
        ("in portions", || Config { refresh_portion: 500_000, ..Config::<f32>::kl_shampoo() }, 0.002_5),
        ("AdamW", Config::<f32>::adamw as Preset, 0.002_5),
        ("SGD", Config::<f32>::sgd as Preset, 0.08),
    ];
    for (name, preset, lowest) in methods {
        for rate in (0..9).map(|i| lowest * (1 << i) as f32) {
            let rate_in = |step| if falling { rate * (1.0 - step as f32 / steps as f32) } else { rate };
            let score = |seed| f64::from(train::<N, TENSORS>(preset(), rate_in, steps, seed)) * 100.0 / TEST as f64;
            let scores: Vec<_> = (1..=seeds).map(score).collect();
            let mean = scores.iter().sum::<f64>() / scores.len() as f64;
            let (worst, best) = scores.iter().fold((100.0f64, 0.0f64), |(low, high), &s| (low.min(s), high.max(s)));
            println!("{name:11} rate {rate:7.5}: {mean:6.2} ({worst:.2} to {best:.2})");
        }
    }
}

fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let (network, steps, seeds, falling) = match &arguments[..] {
        [network, steps, seeds] => (network, steps, seeds, false),
        [network, steps, seeds, falling] if falling == "falling" => (network, steps, seeds, true),
        _ => panic!("{USAGE}"),
    };
    let (steps, seeds) = (steps.parse().expect(USAGE), seeds.parse().expect(USAGE));
    match network.as_str() {
        "perceptron" => grid::<Perceptron, 4>(steps, seeds, falling),
        "softmax" => grid::<Softmax, 1>(steps, seeds, falling),
        _ => panic!("{USAGE}"),
    }
}
