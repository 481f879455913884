//! Pseudo-random gradients.

use crate::tensors::{ELEMENTS, LEN};

/// The sequence of gradients: xorshift32.
pub(crate) struct Gradients(u32);

impl Gradients {
    pub(crate) const fn new() -> Self {
        Self(2_463_534_242)
    }

    fn next(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        self.0
    }

    /// In [-1, 1).
    fn uniform(&mut self) -> f32 {
        (self.next() >> 8) as f32 / 8_388_608.0 - 1.0
    }

    /// The first parameters.
    pub(crate) fn start(&mut self, params: &mut [f32; ELEMENTS]) {
        params.fill_with(|| self.uniform());
    }

    /// A step's gradient. The first tensor's elements are within 2^9 of each other, a tenth of them zero. The second tensor's are so small
    /// that many are denormal, the third's that their squares are. Of the vector each element has a size of its own, from 1 down to 2^-144.
    pub(crate) fn fill(&mut self, step: u32, grads: &mut [f32; ELEMENTS]) {
        let mut at = 0;
        for (tensor, len) in LEN.into_iter().enumerate() {
            for i in 0..len {
                let exponent = match tensor {
                    0 => -((step + i as u32) as i32 % 10),
                    1 => -125,
                    2 => -66,
                    _ => -24 * i as i32,
                };
                let zero = tensor == 0 && self.next().is_multiple_of(10);
                grads[at] = if zero { 0.0 } else { scaled(self.uniform(), exponent) };
                at += 1;
            }
        }
    }
}

/// `x 2^exponent`, for exponents from -200 to 0: in two steps, since 2^-149 is the smallest number.
fn scaled(x: f32, exponent: i32) -> f32 {
    let half = exponent / 2;
    x * power(half) * power(exponent - half)
}

/// `2^exponent` for exponents from -126 to 127.
fn power(exponent: i32) -> f32 {
    f32::from_bits(((exponent + 127) as u32) << 23)
}
