//! Training with one method.

use board::instructions::Counter;
use digits::images::correct;
use digits::{Perceptron, Random};
use klshampoo::Totals;

use crate::methods::{Method, Owner};
use crate::{BATCH, SEED, STEPS};

/// What all methods share: memory for the model and the counter.
pub struct Course<'a> {
    /// The parameters and the gradient.
    pub model: &'a mut [Perceptron; 2],
    pub counter: &'a Counter,
}

/// How it went.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub name: &'static str,
    pub rate: f32,
    /// What the optimizer needs of memory.
    pub totals: Totals,
    /// Test images that are classified rightly after [`STEPS`] steps.
    pub correct: u32,
    /// Instructions of the optimizer's part of these steps.
    pub optimizer_instructions: u64,
    /// Instructions of these steps, gradients included.
    pub instructions: u64,
    /// Of the parameters after [`STEPS`] steps.
    pub checksum: u32,
    /// Steps within the budget of instructions.
    pub budget_steps: u32,
    /// Test images that are classified rightly after these.
    pub budget_correct: u32,
}

impl Course<'_> {
    /// Trains from the first weights on: [`STEPS`] steps, and then until `budget` instructions have been executed.
    pub fn run<M: Method, const STATE: usize, const SCRATCH: usize>(
        &mut self,
        optimizer: &mut Owner<STATE, SCRATCH>,
        budget: u64,
    ) -> Outcome {
        let [model, gradient] = &mut *self.model;
        optimizer.fill::<M>().expect("a good configuration");
        let mut random = Random::new(SEED);
        model.start(&mut random);
        let mut outcome = Outcome {
            name: M::NAME,
            rate: M::RATE,
            totals: optimizer.totals(),
            correct: 0,
            optimizer_instructions: 0,
            instructions: 0,
            checksum: 0,
            budget_steps: 0,
            budget_correct: 0,
        };
        let (mut steps, mut instructions, mut of_optimizer) = (0, 0, 0);
        while steps < STEPS || instructions < budget {
            let start = self.counter.read();
            model.differentiate(gradient, BATCH, &mut random);
            let middle = self.counter.read();
            optimizer.step(&mut model.tensors_mut(), &gradient.tensors().map(Some), M::RATE).expect("a good gradient");
            let end = self.counter.read();
            steps += 1;
            instructions += end - start;
            of_optimizer += end - middle;
            if steps == STEPS {
                outcome.correct = correct(|image| model.classify(image));
                outcome.instructions = instructions;
                outcome.optimizer_instructions = of_optimizer;
                outcome.checksum = checksum(model);
            }
        }
        outcome.budget_steps = steps;
        outcome.budget_correct = correct(|image| model.classify(image));
        outcome
    }
}

/// FNV-1a over the bits of the parameters: `../../c/training.c` prints the same number.
fn checksum(model: &Perceptron) -> u32 {
    let bits = model.tensors().into_iter().flatten().map(|weight| weight.to_bits());
    bits.fold(0x811c_9dc5, |hash, bits| (hash ^ bits).wrapping_mul(0x0100_0193))
}
