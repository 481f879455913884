//! A softmax layer learns handwritten digits, shrunk to 4 x 4, on a Cortex-M0 without FPU and with 16 KiB of RAM.
//!
//! Three methods, one after another, work in the same lent memory: bare buffers, which lie in `.bss`, and a view over them for each step.
//! The program ends well only if KL-Shampoo gets as many test images right as AdamW and SGD do, and at least 80 %.
#![no_std]
#![no_main]

use board::instructions::Counter;
use board::println;
use cortex_m_rt::entry;
use digits::images::{TEST, correct};
use digits::{Random, Softmax};
use klshampoo::linalg::Portable;
use klshampoo::{Config, Cost, Optimizer, SliceHeader, Tensor, TensorSpec, Totals};
use static_cell::ConstStaticCell;

/// Clock of SysTick.
const HERTZ: u32 = 16_000_000;
const STEPS: u32 = 200;
/// Images of a step.
const BATCH: u32 = 32;
/// Of the batches.
const SEED: u32 = 1;

/// The methods, with the rates that are best for them: of those of `digits/examples/grid.rs`.
const METHODS: [(&str, Config<f32>, f32); 3] =
    [("KL-Shampoo", Config::<f32>::kl_shampoo(), 0.08), ("AdamW", Config::<f32>::adamw(), 0.08), ("SGD", Config::<f32>::sgd(), 2.56)];

const TENSORS: usize = Softmax::DIMS.len();

/// Tensor number `i` of the layer.
const fn tensor(i: usize) -> TensorSpec {
    match TensorSpec::new(Softmax::DIMS[i]) {
        Ok(spec) => spec,
        Err(_) => panic!("a tensor has 1 to 6 dims"),
    }
}

/// State of all tensors, scratch of the one that needs most.
const fn needs(config: &Config<f32>) -> Totals {
    let mut sum = Totals { slices: 0, state_len: 0, scratch_len: 0, largest_full_dim: 0, cost: Cost { step: 0, refresh: 0 } };
    let mut i = 0;
    while i < TENSORS {
        let Ok(needs) = tensor(i).needs(config) else { panic!("the tensor's dims are wrong") };
        sum.slices += needs.slices;
        sum.state_len += needs.state_len;
        if needs.scratch_len > sum.scratch_len {
            sum.scratch_len = needs.scratch_len;
        }
        i += 1;
    }
    sum
}

/// KL-Shampoo needs most.
const NEEDS: Totals = needs(&METHODS[0].1);

/// Everything that is large.
struct Memory {
    layer: Softmax,
    gradient: Softmax,
    headers: [SliceHeader; TENSORS],
    state: [f32; NEEDS.state_len],
    scratch: [f32; NEEDS.scratch_len],
}

static MEMORY: ConstStaticCell<Memory> = ConstStaticCell::new(Memory {
    layer: Softmax::ZERO,
    gradient: Softmax::ZERO,
    headers: [SliceHeader::NEW; TENSORS],
    state: [0.0; NEEDS.state_len],
    scratch: [0.0; NEEDS.scratch_len],
});

/// Trains from zero; returns how many test images are classified rightly.
fn train(memory: &mut Memory, counter: &Counter, name: &str, config: &Config<f32>, rate: f32) -> u32 {
    let Memory { layer, gradient, headers, state, scratch } = memory;
    (*layer, *headers) = (Softmax::ZERO, [SliceHeader::NEW; TENSORS]);
    state.fill(0.0);
    let groups = core::slice::from_ref(config);
    let mut totals = Totals::default();
    let tensors: [Tensor; TENSORS] = core::array::from_fn(|i| Tensor::resolve(&tensor(i), groups, &mut totals).expect("good dims"));

    let mut random = Random::new(SEED);
    let mut instructions = 0;
    for _ in 0..STEPS {
        layer.differentiate(gradient, BATCH, &mut random);
        let start = counter.read();
        Optimizer::new(groups, &tensors, headers, state)
            .expect("memory of the right size")
            .step(&mut layer.tensors_mut(), &gradient.tensors().map(Some), rate, scratch, &mut Portable)
            .expect("a good gradient");
        instructions += counter.read() - start;
    }
    let correct = correct(|image| layer.classify(image));
    println!(
        "{:10}  rate {}/1000  {} of {}   {} instructions a step of the optimizer   {} bytes of state, {} of scratch",
        name,
        (rate * 1000.0) as u32,
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
    let [kl_shampoo, adamw, sgd] = METHODS.map(|(name, config, rate)| train(memory, &counter, name, &config, rate));
    println!("memory lent: {} bytes, stack: {} bytes at most", size_of::<Memory>(), board::stack::most_used());

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
