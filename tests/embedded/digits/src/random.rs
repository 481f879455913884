//! Random numbers.

/// xorshift32: the same numbers on every machine.
#[derive(Clone, Debug)]
pub struct Random(u32);

impl Random {
    /// Starts a sequence; every seed but 0 has its own.
    pub const fn new(seed: u32) -> Self {
        Self(if seed == 0 { 2_463_534_242 } else { seed })
    }

    fn next(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        self.0
    }

    /// In [-1, 1).
    pub fn uniform(&mut self) -> f32 {
        (self.next() >> 8) as f32 / 8_388_608.0 - 1.0
    }

    /// Below `n`.
    pub fn below(&mut self, n: u32) -> u32 {
        ((u64::from(self.next()) * u64::from(n)) >> 32) as u32
    }

    /// Fills with numbers in [-bound, bound).
    pub fn fill(&mut self, numbers: &mut [f32], bound: f32) {
        for number in numbers {
            *number = bound * self.uniform();
        }
    }
}
