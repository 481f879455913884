//! 200 steps of training: the device's losses are those of the CPU. With `KLS_TEST_DEVICE=1` on a device, else on what stands in for a driver.

#[path = "common/choice.rs"]
mod choice;
#[path = "common/on_driver.rs"]
mod on_driver;

use klshampoo::linalg::Portable;
use klshampoo::{Config, Optimizer, SliceBuffers, SliceHeader, StepReport, Target, Tensor, TensorSpec, Totals};
use klshampoo_cuda::driver::Memory;
use klshampoo_cuda::io::Scalar;
use klshampoo_cuda::linalg::Precision;
use klshampoo_cuda::step::{DeviceOptimizer, Options, Precisions, Program};
use on_driver::{Owned, bytes_of, copy_of, floats, kernels, noise};

const STEPS: usize = 200;
const EXAMPLES: usize = 64;
/// Of the inputs, the hidden layer and the outputs.
const WIDTH: usize = 16;
const RATE: f32 = 0.02;

type Matrix = Vec<f32>;

/// `A B`, or with `A` transposed, or with `B`; `m` x `k` times `k` x `n` as taken.
fn product(a: &[f32], a_transposed: bool, b: &[f32], b_transposed: bool, [m, k, n]: [usize; 3]) -> Matrix {
    let a = |i: usize, l: usize| if a_transposed { a[l * m + i] } else { a[i * k + l] };
    let b = |l: usize, j: usize| if b_transposed { b[j * k + l] } else { b[l * n + j] };
    (0..m * n).map(|at| (0..k).map(|l| a(at / n, l) * b(l, at % n)).sum()).collect()
}

/// Inputs, and what a network of the same kind answers.
struct Lesson {
    inputs: Matrix,
    answers: Matrix,
}

/// The hidden layer and the answers.
fn forward(inputs: &[f32], weights: &[Matrix; 2]) -> (Matrix, Matrix) {
    let hidden: Matrix = product(inputs, false, &weights[0], false, [EXAMPLES, WIDTH, WIDTH]).into_iter().map(f32::tanh).collect();
    let answers = product(&hidden, false, &weights[1], false, [EXAMPLES, WIDTH, WIDTH]);
    (hidden, answers)
}

impl Lesson {
    fn new(step: usize) -> Self {
        let teacher = [noise(1, WIDTH * WIDTH), noise(2, WIDTH * WIDTH)];
        // Some lessons, again and again.
        let inputs = noise(10 + (step % 5) as u32, EXAMPLES * WIDTH);
        let answers = forward(&inputs, &teacher).1;
        Self { inputs, answers }
    }

    /// The mean square error and its gradients.
    fn loss(&self, weights: &[Matrix; 2]) -> (f32, [Matrix; 2]) {
        let (hidden, answers) = forward(&self.inputs, weights);
        let errors: Matrix = answers.iter().zip(&self.answers).map(|(found, right)| found - right).collect();
        let loss = errors.iter().map(|e| e * e).sum::<f32>() / errors.len() as f32;
        let outer: Matrix = errors.iter().map(|e| 2.0 * e / errors.len() as f32).collect();
        let second = product(&hidden, true, &outer, false, [WIDTH, EXAMPLES, WIDTH]);
        let back = product(&outer, false, &weights[1], true, [EXAMPLES, WIDTH, WIDTH]);
        let inner: Matrix = back.iter().zip(&hidden).map(|(b, h)| b * (1.0 - h * h)).collect();
        (loss, [product(&self.inputs, true, &inner, false, [WIDTH, EXAMPLES, WIDTH]), second])
    }
}

/// A student's first weights.
fn first() -> [Matrix; 2] {
    [3, 4].map(|seed| noise(seed, WIDTH * WIDTH).into_iter().map(|x| 0.3 * x).collect())
}

fn table(groups: &[Config<f32>]) -> ([Tensor; 2], Totals) {
    let mut totals = Totals::default();
    let table = [(); 2].map(|()| Tensor::resolve(&TensorSpec::matrix(WIDTH, WIDTH), groups, &mut totals).unwrap());
    (table, totals)
}

fn on_the_cpu(groups: &[Config<f32>]) -> Vec<f32> {
    let (table, totals) = table(groups);
    let (mut headers, mut state) = (vec![SliceHeader::NEW; totals.slices], vec![0.0; totals.state_len]);
    let (mut scratch, mut weights, mut losses) = (vec![0.0; totals.scratch_len], first(), Vec::new());
    for step in 0..STEPS {
        let (loss, grads) = Lesson::new(step).loss(&weights);
        losses.push(loss);
        let mut optimizer = Optimizer::new(groups, &table, &mut headers, &mut state).unwrap();
        let refreshes = optimizer.refreshes(0..table.len(), |_| true);
        let mut report = StepReport::default();
        for job in optimizer.jobs(0..table.len(), RATE, refreshes) {
            let i = job.tensor();
            let buffers = SliceBuffers { target: Target::Parameter(&mut weights[i][..]), grad: &grads[i][..], grad_scale: 1.0 };
            job.run(buffers, &mut scratch, &mut Portable, &mut report).unwrap();
        }
    }
    losses
}

fn on_the_device(groups: &[Config<f32>], precision: Precisions) -> Vec<f32> {
    let (kernels, stream, (table, _)) = (kernels(), Owned::new(), table(groups));
    let program = Program::new(groups, &table, &Options { precision, ..Options::default() }).unwrap();
    let block = Memory::allocate(kernels.context(), program.bytes().total).unwrap();
    let mut optimizer = DeviceOptimizer::new(program, block.at());
    optimizer.prepare(&mut kernels.on(stream.get()).unwrap()).unwrap();
    let weights = first().map(|numbers| copy_of(stream.get(), &numbers));
    let grads = first().map(|numbers| copy_of(stream.get(), &numbers));
    let pointers = |all: &[Memory; 2]| all.each_ref().map(Memory::at);
    let mut losses = Vec::new();
    for step in 0..STEPS {
        let (loss, numbers) = Lesson::new(step).loss(&weights.each_ref().map(|memory| floats(stream.get(), memory)));
        losses.push(loss);
        for (memory, numbers) in grads.iter().zip(&numbers) {
            memory.write(stream.get(), 0, bytes_of(numbers)).unwrap();
        }
        let mut queue = kernels.on(stream.get()).unwrap();
        optimizer.step(&mut queue, &pointers(&weights), &pointers(&grads), Scalar::of(RATE), Scalar::ONE).unwrap();
    }
    losses
}

#[test]
fn losses_are_the_cpus() {
    for (name, config) in [("KL-Shampoo", Config::<f32>::kl_shampoo()), ("SOAP", Config::<f32>::soap())] {
        let groups = [Config { refresh_period: 10, ..config }];
        let (cpu, device) = (on_the_cpu(&groups), on_the_device(&groups, Precisions::default()));
        for step in (0..STEPS).step_by(20).chain([STEPS - 1]) {
            println!("{name}, step {step}: {:.6} on the CPU, {:.6} on the device", cpu[step], device[step]);
        }
        assert!(cpu[STEPS - 1] < 0.3 * cpu[0], "{name} has learned something");
        for (step, (cpu, device)) in cpu.iter().zip(&device).enumerate() {
            assert!((cpu - device).abs() <= 0.01 * cpu, "{name}, step {step}: {cpu}, {device}");
        }
    }
}

/// Rounded products train as well: the losses of the last lessons are about those of `f32`.
#[test]
fn every_precision_trains() {
    let groups = [Config { refresh_period: 10, ..Config::<f32>::kl_shampoo() }];
    let last = |losses: &[f32]| losses[STEPS - 20..].iter().sum::<f32>() / 20.0;
    let f32_loss = last(&on_the_device(&groups, Precisions::all(Precision::Fp32)));
    for (precision, tolerance) in [(Precision::Tf32x3, 0.01), (Precision::Tf32, 0.05), (Precision::Bf16, 0.3)] {
        let loss = last(&on_the_device(&groups, Precisions::all(precision)));
        println!("{precision:?}: {loss:e}, f32 {f32_loss:e}");
        assert!((loss - f32_loss).abs() <= tolerance * f32_loss, "{precision:?}: {loss:e}, f32 {f32_loss:e}");
    }
}

/// The table of the README: `cargo test --release -p klshampoo-cuda --test training -- --ignored --nocapture`.
#[test]
#[ignore = "a table for the README"]
fn table_of_precisions() {
    const F32: Precisions = Precisions::all(Precision::Fp32);
    println!("| precision | of | KL-Shampoo | SOAP |\n|---|---|---:|---:|");
    for precision in Precision::ALL {
        let classes = [
            ("all", Precisions::all(precision)),
            ("project", Precisions { project: precision, ..F32 }),
            ("factor", Precisions { factor: precision, ..F32 }),
            ("refresh", Precisions { refresh: precision, ..F32 }),
        ];
        for (class, precisions) in &classes[..if precision == Precision::Fp32 { 1 } else { 4 }] {
            let losses = [Config::<f32>::kl_shampoo(), Config::<f32>::soap()].map(|config| {
                let losses = on_the_device(&[Config { refresh_period: 10, ..config }], *precisions);
                losses[STEPS - 20..].iter().sum::<f32>() / 20.0
            });
            println!("| {precision:?} | {class} | {:.4e} | {:.4e} |", losses[0], losses[1]);
        }
    }
}
