//! A layer for very little memory.

use crate::Random;
use crate::images::{CLASSES, Image};
use crate::loss::{differentiate, largest};

/// An image shrunk to 4 x 4.
pub const INPUTS: usize = 16;

/// A softmax layer of 16 inputs, sums of 2 x 2 pixels, and 10 outputs: its weights, or the gradient with respect to them. Biases would add
/// nothing to what it gets right.
#[derive(Clone, Debug)]
pub struct Softmax {
    /// 10 x 16.
    weights: [f32; CLASSES * INPUTS],
}

impl Softmax {
    /// All zero, a good place to start.
    pub const ZERO: Self = Self { weights: [0.0; CLASSES * INPUTS] };

    /// Its tensor.
    pub const fn tensors(&self) -> [&[f32]; 1] {
        [&self.weights]
    }

    /// Its tensor, to write.
    pub const fn tensors_mut(&mut self) -> [&mut [f32]; 1] {
        [&mut self.weights]
    }

    /// The digit that it sees.
    pub fn classify(&self, image: &Image) -> usize {
        let (_, outputs) = self.forward(image);
        largest(&outputs)
    }

    /// Makes `gradient` that of the mean cross entropy over `batch` images drawn at random.
    pub fn differentiate(&self, gradient: &mut Self, batch: u32, random: &mut Random) {
        *gradient = Self::ZERO;
        for _ in 0..batch {
            let image = crate::images::draw(random);
            let (inputs, mut errors) = self.forward(&image);
            differentiate(&mut errors, image.label, 1.0 / batch as f32);
            for (class, &error) in errors.iter().enumerate() {
                for (sum, &input) in gradient.weights[class * INPUTS..][..INPUTS].iter_mut().zip(&inputs) {
                    *sum += error * input;
                }
            }
        }
    }

    /// Inputs and outputs.
    fn forward(&self, image: &Image) -> ([f32; INPUTS], [f32; CLASSES]) {
        let inputs = core::array::from_fn(|i| {
            let corner = i / 4 * 16 + i % 4 * 2;
            let sum: u8 = [0, 1, 8, 9].iter().map(|next| image.pixels[corner + next]).sum();
            f32::from(sum) / 64.0
        });
        let mut outputs = [0.0; CLASSES];
        for (output, weights) in outputs.iter_mut().zip(self.weights.chunks_exact(INPUTS)) {
            for (&weight, &input) in weights.iter().zip(&inputs) {
                *output += weight * input;
            }
        }
        (inputs, outputs)
    }
}
