//! 100 steps of every method on fixed pseudo-random gradients with the portable kernels, and a checksum over all that they leave: every bit
//! of the state, as a checkpoint has it, and of the parameters. It is the same on every target.
//!
//! The gradients are made to find differences: of very different sizes, with zeros, and so small that moments are denormal.
#![no_std]

mod cases;
mod gradients;
mod hash;
mod tensors;
#[cfg(target_arch = "wasm32")]
mod wasm;

pub use cases::CASES;

use klshampoo::linalg::Portable;
use klshampoo::{Config, StatePart};

use crate::gradients::Gradients;
use crate::hash::Hash;
use crate::tensors::{ELEMENTS, LEN, Owner, SPECS, split};

const STEPS: u32 = 100;

/// What a method leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Over all bits of the state and the parameters.
    pub checksum: u64,
    /// Denormal numbers among moments and parameters.
    pub denormals: u32,
}

/// What a run works in.
#[derive(Debug)]
pub struct Memory {
    optimizer: Owner,
    params: [f32; ELEMENTS],
    grads: [f32; ELEMENTS],
}

impl Memory {
    /// Nothing but zeros.
    #[allow(clippy::new_without_default, reason = "a default would be made on the stack")]
    pub const fn new() -> Self {
        Self { optimizer: Owner::new(Portable), params: [0.0; ELEMENTS], grads: [0.0; ELEMENTS] }
    }
}

/// 100 steps of a method.
pub fn run(config: &Config<f32>, memory: &mut Memory) -> Outcome {
    *memory = const { Memory::new() };
    let Memory { optimizer, params, grads } = memory;
    optimizer.add_group(*config).expect("a good configuration");
    for spec in &SPECS {
        optimizer.add_tensor(spec).expect("memory of the right size");
    }
    let mut gradients = Gradients::new();
    gradients.start(params);
    for step in 0..STEPS {
        gradients.fill(step, grads);
        let mut rest = &mut params[..];
        let mut params = LEN.map(|len| rest.split_off_mut(..len).expect("of the same lengths"));
        optimizer.step(&mut params, &split(grads).map(Some), 0.01).expect("a step");
    }
    let mut hash = Hash::new();
    optimizer.save(&mut hash).expect("a hash takes everything");
    params.iter().for_each(|param| hash.word(param.to_bits()));

    let denormal = |numbers: &[f32]| numbers.iter().filter(|x| x.is_subnormal()).count() as u32;
    let mut denormals = denormal(params);
    for part in [StatePart::Momentum, StatePart::SecondMoment, StatePart::GraftMoment] {
        for (tensor, len) in LEN.into_iter().enumerate() {
            if optimizer.read(tensor, 0, part, &mut grads[..len]).is_ok() {
                denormals += denormal(&grads[..len]);
            }
        }
    }
    Outcome { checksum: hash.finish(), denormals }
}
