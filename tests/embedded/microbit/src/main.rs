//! A softmax layer learns handwritten digits, shrunk to 4 x 4, on a Cortex-M0 without FPU and with 16 KiB of RAM.
//!
//! Three methods, one after another, work in the same lent memory: bare buffers, which lie in `.bss`, and a view over them for each step.
//! The program ends well only if KL-Shampoo gets as many test images right as AdamW and SGD do, and at least 80 %.
#![no_std]
#![no_main]

use board::instructions::Counter;
use board::println;
use cortex_m_rt::entry;
use digits::images::{CLASSES, TEST, correct};
use digits::softmax::INPUTS;
use digits::{Random, Softmax};
use klshampoo::linalg::Portable;
use klshampoo::{Config, Optimizer, SliceHeader, Tensor, TensorSpec, Totals};
use static_cell::ConstStaticCell;

/// Clock of SysTick.
const HERTZ: u32 = 16_000_000;
const STEPS: u32 = 200;
/// Images of a step.
const BATCH: u32 = 32;
/// Of the batches.
const SEED: u32 = 6;

/// A method and the rate that is best for it: of those of `digits/examples/grid.rs`.
struct Method {
    name: &'static str,
    /// In flash.
    groups: [Config<f32>; 1],
    rate: f32,
}

static METHODS: [Method; 3] = [
    Method { name: "KL-Shampoo", groups: [Config::<f32>::kl_shampoo()], rate: 0.08 },
    Method { name: "AdamW", groups: [Config::<f32>::adamw()], rate: 0.32 },
    Method { name: "SGD", groups: [Config::<f32>::sgd()], rate: 10.24 },
];

/// The layer's weights.
const TENSORS: [TensorSpec; 1] = [TensorSpec::matrix(CLASSES, INPUTS)];

/// What KL-Shampoo needs, which is more than the others do.
const NEEDS: Totals = match Totals::of(&[Config::<f32>::kl_shampoo()], &TENSORS) {
    Ok(needs) => needs,
    Err(_) => panic!("the tensor's dims are wrong"),
};

/// Everything that is large.
struct Memory {
    layer: Softmax,
    gradient: Softmax,
    headers: [SliceHeader; NEEDS.slices],
    state: [f32; NEEDS.state_len],
    scratch: [f32; NEEDS.scratch_len],
}

static MEMORY: ConstStaticCell<Memory> = ConstStaticCell::new(Memory {
    layer: Softmax::ZERO,
    gradient: Softmax::ZERO,
    headers: [SliceHeader::NEW; NEEDS.slices],
    state: [0.0; NEEDS.state_len],
    scratch: [0.0; NEEDS.scratch_len],
});

/// Trains from zero; returns how many test images are classified rightly.
#[inline(never)]
fn train(memory: &mut Memory, counter: &Counter, method: &'static Method) -> u32 {
    let Memory { layer, gradient, headers, state, scratch } = memory;
    *layer = Softmax::ZERO;
    headers.fill(SliceHeader::NEW);
    state.fill(0.0);
    let mut totals = Totals::default();
    let tensors = TENSORS.map(|spec| Tensor::resolve(&spec, &method.groups, &mut totals).expect("good dims"));

    let mut random = Random::new(SEED);
    let mut instructions = 0;
    for _ in 0..STEPS {
        layer.differentiate(gradient, BATCH, &mut random);
        let start = counter.read();
        Optimizer::new(&method.groups, &tensors, headers, state)
            .expect("memory of the right size")
            .step(&mut layer.tensors_mut(), &gradient.tensors().map(Some), method.rate, scratch, &mut Portable)
            .expect("a good gradient");
        instructions += counter.read() - start;
    }
    let correct = correct(|image| layer.classify(image));
    println!(
        "{:10}  {:5}  {:3} of {}  {:7}  {:5}  {:7}",
        method.name,
        (method.rate * 100.0) as u32,
        correct,
        TEST,
        instructions / u64::from(STEPS),
        totals.state_bytes::<f32>(),
        totals.scratch_len * size_of::<f32>(),
    );
    correct
}

#[entry]
fn main() -> ! {
    let core = cortex_m::Peripherals::take().expect("taken once");
    let counter = Counter::start(core.SYST, HERTZ);
    let memory = MEMORY.take();
    println!("digits, 4 x 4: a layer of 10 x 16, {} steps of {} images", STEPS, BATCH);
    println!("method       rate     correct  instructions of the optimizer a step");
    println!("             /100                        bytes of state and scratch");
    let [kl_shampoo, adamw, sgd] = METHODS.each_ref().map(|method| train(memory, &counter, method));
    println!("weights, gradient, state and scratch: {} bytes", size_of::<Memory>());

    let good = kl_shampoo * 100 >= 80 * TEST as u32;
    let not_behind = kl_shampoo >= adamw && kl_shampoo >= sgd;
    if !good {
        println!("FAILED: KL-Shampoo gets fewer than 80 % of the test images right");
    }
    if !not_behind {
        println!("FAILED: KL-Shampoo is behind another method");
    }
    board::exit(good && not_behind)
}
