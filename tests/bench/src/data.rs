//! Parameters and gradients: random, and another gradient in every step.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// Gradients per tensor, used in turn.
pub const POOL: usize = 4;

/// Of every step.
pub const LEARNING_RATE: f32 = 1e-3;

/// Of every method.
pub const WEIGHT_DECAY: f32 = 0.01;

const GRADIENT_SCALE: f32 = 1e-2;
const PARAMETER_SCALE: f32 = 2e-2;

/// `len` reproducible numbers, uniform in `[-scale, scale]`.
pub fn noise(seed: u64, len: usize, scale: f32) -> Vec<f32> {
    let mut random = SmallRng::seed_from_u64(seed);
    (0..len).map(|_| random.random_range(-scale..=scale)).collect()
}

/// Parameters and gradients of a table of tensors.
#[derive(Debug)]
pub struct Data {
    /// Per tensor.
    pub params: Vec<Vec<f32>>,
    /// Per place in the pool and per tensor.
    pub grads: [Vec<Vec<f32>>; POOL],
    /// The first numbers of the parameters, before any step.
    first: Vec<f32>,
}

impl Data {
    /// For tensors of the given dims.
    pub fn new(tensors: &[&[usize]]) -> Self {
        let all = |part: usize, scale: f32| -> Vec<Vec<f32>> {
            let one = |(i, dims): (usize, &&[usize])| noise((i * (POOL + 1) + part) as u64, dims.iter().product(), scale);
            tensors.iter().enumerate().map(one).collect()
        };
        let params = all(POOL, PARAMETER_SCALE);
        let first = params.iter().map(|param| param[0]).collect();
        Self { params, grads: std::array::from_fn(|part| all(part, GRADIENT_SCALE)), first }
    }

    /// Checks that steps were taken: all parameters are finite, and of every tensor the first one has moved.
    ///
    /// # Panics
    /// When that is not so: what was timed was no step.
    pub fn check(&self) {
        for (tensor, (param, first)) in self.params.iter().zip(&self.first).enumerate() {
            assert!(param.iter().all(|x| x.is_finite()), "tensor {tensor} has a parameter that is not finite");
            assert!(param[0] != *first, "the first parameter of tensor {tensor} has not moved");
        }
    }
}
