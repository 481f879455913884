//! The step of sets of tensors with the portable backend, `f32`, one thread:
//!
//! ```text
//! cargo bench -p klshampoo
//! cargo bench -p klshampoo -- 'portable/c'
//! ```
//!
//! "plain" is a step without a refresh; the others are a tenth of ten steps, T = 10. The elements of the throughput are predicted
//! floating-point operations, so that Gelem/s are GFLOP/s; the product rate beside them is faer's.

use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput};
use klshampoo::linalg::Portable;
use klshampoo::{Config, Optimizer, Refresh, SliceHeader, Tensor, TensorSpec, Totals};
use klshampoo_bench::{
    Data, Group, LEARNING_RATE, MATRICES_16X32, MATRICES_64X64, PERIOD, POOL, Set, TENSORS_8X64X64, WEIGHT_DECAY, criterion,
};

const ONE_256: Set = Set { name: "one", title: "one 256x256", shapes: &[&[256, 256]], count: 1 };

/// A table with its memory, parameters and gradients.
struct Stepper {
    group: [Config<f32>; 1],
    tensors: Vec<Tensor>,
    headers: Vec<SliceHeader>,
    state: Vec<f32>,
    scratch: Vec<f32>,
    data: Data,
    steps: usize,
}

/// The table of a set.
fn resolve(set: &Set, group: &[Config<f32>; 1]) -> (Vec<Tensor>, Totals) {
    let mut totals = Totals::default();
    let tensor = |dims: &[usize]| Tensor::resolve(&TensorSpec::new(dims).expect("few dims"), group, &mut totals).expect("a sane tensor");
    (set.tensors().into_iter().map(tensor).collect(), totals)
}

impl Stepper {
    fn new(set: &Set, group: [Config<f32>; 1], warm_up: u64) -> Self {
        let (tensors, totals) = resolve(set, &group);
        let mut stepper = Self {
            group,
            tensors,
            headers: vec![SliceHeader::NEW; totals.slices],
            state: vec![0.0; totals.state_len],
            scratch: vec![0.0; totals.scratch_len],
            data: Data::new(&set.tensors()),
            steps: 0,
        };
        stepper.time(warm_up);
        stepper
    }

    fn time(&mut self, steps: u64) -> Duration {
        let mut optimizer = Optimizer::new(&self.group, &self.tensors, &mut self.headers, &mut self.state).expect("the table's own memory");
        let mut params: Vec<&mut [f32]> = self.data.params.iter_mut().map(Vec::as_mut_slice).collect();
        let grads = self.data.grads.each_ref().map(|grads| grads.iter().map(|grad| Some(grad.as_slice())).collect::<Vec<_>>());
        let begin = Instant::now();
        for _ in 0..steps {
            let report = optimizer.step(&mut params, &grads[self.steps % POOL], LEARNING_RATE, &mut self.scratch, &mut Portable);
            report.expect("the step succeeds");
            self.steps += 1;
        }
        begin.elapsed()
    }
}

fn set(criterion: &mut Criterion, set: &Set) {
    let mut group = Group::new(criterion, format!("portable/{}", set.name), 1);
    let kl_shampoo = Config { weight_decay: WEIGHT_DECAY, ..Config::<f32>::kl_shampoo() };
    let methods = [
        // Staggered over so long a period a refresh would fall into the run after all.
        ("plain", 1, Config { refresh_period: u32::MAX, stagger: false, ..kl_shampoo }),
        ("Cholesky", PERIOD, Config { refresh_period: PERIOD, ..kl_shampoo }),
        ("Householder", PERIOD, Config { refresh_period: PERIOD, refresh: Refresh::HouseholderQr, ..kl_shampoo }),
    ];
    for (name, steps, config) in methods {
        let config = [config];
        let (tensors, each) = (resolve(set, &config).0, u64::from(steps));
        let warm_up = each.max(2);
        let flops: u64 = (warm_up + 1..=warm_up + each).map(|step| Tensor::predicted_flops(&tensors, &config, step)).sum();
        let run = |stepper: &mut Stepper, iterations| stepper.time(iterations * each) / steps;
        if let Some(stepper) = group.bench(name, Throughput::Elements(flops / each), || Stepper::new(set, config, warm_up), run) {
            stepper.data.check();
        }
    }
    group.finish(set.title);
}

fn main() {
    let mut criterion = criterion();
    for of in [ONE_256, MATRICES_64X64, MATRICES_16X32, TENSORS_8X64X64] {
        set(&mut criterion, &of);
    }
    criterion.final_summary();
}
