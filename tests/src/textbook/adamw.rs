//! AdamW, which vectors get.

use super::{FLOOR, average};

/// AdamW on its own, as everyone writes it: decay, then the bias-corrected Adam step.
#[derive(Clone, Debug)]
pub struct AdamW {
    /// Decay of the momentum.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Damping.
    pub eps: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Steps so far.
    pub t: i32,
    /// Momentum.
    pub momentum: Vec<f64>,
    /// Second moment.
    pub second_moment: Vec<f64>,
}

impl AdamW {
    /// The state before the first step, for a parameter of `len` elements.
    pub fn new(len: usize, betas: [f64; 2], eps: f64, weight_decay: f64) -> Self {
        let zeros = vec![0.0; len];
        AdamW { beta1: betas[0], beta2: betas[1], eps, weight_decay, t: 0, momentum: zeros.clone(), second_moment: zeros }
    }

    /// One step with gradient `grad` on the parameter `theta`.
    ///
    /// # Panics
    /// If a length is wrong.
    pub fn step(&mut self, theta: &mut [f64], grad: &[f64], lr: f64) {
        assert_eq!((theta.len(), grad.len()), (self.momentum.len(), self.momentum.len()));
        self.t += 1;
        average(&mut self.momentum, self.beta1, grad.iter().copied());
        average(&mut self.second_moment, self.beta2, grad.iter().map(|g| g * g));
        let correction1 = 1.0 - self.beta1.powi(self.t);
        let correction2 = 1.0 - self.beta2.powi(self.t);
        for ((theta, m), v) in theta.iter_mut().zip(&self.momentum).zip(&self.second_moment) {
            *theta *= 1.0 - lr * self.weight_decay;
            *theta -= lr * (m / correction1) / ((v / correction2).sqrt() + self.eps).max(FLOOR);
        }
    }
}
