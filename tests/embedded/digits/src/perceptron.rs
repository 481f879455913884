//! A network with one hidden layer.

use crate::Random;
use crate::images::{CLASSES, Image, PIXELS};
use crate::loss::{differentiate, largest};

/// Hidden units.
pub const HIDDEN: usize = 32;

/// A network of 64 inputs, 32 rectified units and 10 outputs: its parameters, or the gradient with respect to them.
#[repr(C)]
#[derive(Clone, Debug)]
pub struct Perceptron {
    /// 32 x 64.
    hidden: [f32; HIDDEN * PIXELS],
    hidden_bias: [f32; HIDDEN],
    /// 10 x 32.
    output: [f32; CLASSES * HIDDEN],
    output_bias: [f32; CLASSES],
}

impl Perceptron {
    /// All zero.
    pub const ZERO: Self =
        Self { hidden: [0.0; HIDDEN * PIXELS], hidden_bias: [0.0; HIDDEN], output: [0.0; CLASSES * HIDDEN], output_bias: [0.0; CLASSES] };

    /// Random weights, biases of zero.
    pub fn start(&mut self, random: &mut Random) {
        *self = Self::ZERO;
        random.fill(&mut self.hidden, 0.3);
        random.fill(&mut self.output, 0.4);
    }

    /// Its tensors.
    pub const fn tensors(&self) -> [&[f32]; 4] {
        [&self.hidden, &self.hidden_bias, &self.output, &self.output_bias]
    }

    /// Its tensors, to write.
    pub const fn tensors_mut(&mut self) -> [&mut [f32]; 4] {
        [&mut self.hidden, &mut self.hidden_bias, &mut self.output, &mut self.output_bias]
    }

    /// The digit that it sees.
    pub fn classify(&self, image: &Image) -> usize {
        let (_, _, outputs) = self.forward(image);
        largest(&outputs)
    }

    /// Makes `gradient` that of the mean cross entropy over `batch` images drawn at random.
    pub fn differentiate(&self, gradient: &mut Self, batch: u32, random: &mut Random) {
        *gradient = Self::ZERO;
        for _ in 0..batch {
            self.add_gradient(gradient, &crate::images::draw(random), 1.0 / batch as f32);
        }
    }

    /// Inputs, hidden units and outputs.
    fn forward(&self, image: &Image) -> ([f32; PIXELS], [f32; HIDDEN], [f32; CLASSES]) {
        let inputs = image.pixels.map(|pixel| f32::from(pixel) / 16.0);
        let mut hidden = self.hidden_bias;
        for (unit, weights) in hidden.iter_mut().zip(self.hidden.chunks_exact(PIXELS)) {
            for (&weight, &input) in weights.iter().zip(&inputs) {
                *unit += weight * input;
            }
            if *unit < 0.0 {
                *unit = 0.0;
            }
        }
        let mut outputs = self.output_bias;
        for (output, weights) in outputs.iter_mut().zip(self.output.chunks_exact(HIDDEN)) {
            for (&weight, &unit) in weights.iter().zip(&hidden) {
                *output += weight * unit;
            }
        }
        (inputs, hidden, outputs)
    }

    fn add_gradient(&self, gradient: &mut Self, image: &Image, scale: f32) {
        let (inputs, hidden, mut errors) = self.forward(image);
        differentiate(&mut errors, image.label, scale);
        let mut hidden_errors = [0.0; HIDDEN];
        for (class, &error) in errors.iter().enumerate() {
            gradient.output_bias[class] += error;
            for unit in 0..HIDDEN {
                gradient.output[class * HIDDEN + unit] += error * hidden[unit];
                hidden_errors[unit] += error * self.output[class * HIDDEN + unit];
            }
        }
        for (unit, &error) in hidden_errors.iter().enumerate() {
            if hidden[unit] <= 0.0 {
                continue;
            }
            gradient.hidden_bias[unit] += error;
            for (sum, &input) in gradient.hidden[unit * PIXELS..][..PIXELS].iter_mut().zip(&inputs) {
                *sum += error * input;
            }
        }
    }
}
