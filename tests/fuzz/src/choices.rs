//! Choices made of an input's bytes: mostly what a sane caller would choose, so that calls get far, and now and then anything.

use arbitrary::{Arbitrary, Unstructured};

/// Hands out an input. When its bytes are used up, every choice is the first or the tame one.
#[derive(Debug)]
pub struct Choices<'a>(Unstructured<'a>);

impl<'a> Choices<'a> {
    /// From the start of an input.
    pub fn new(input: &'a [u8]) -> Self {
        Self(Unstructured::new(input))
    }

    /// Whether the bytes are used up.
    pub fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    /// The bytes that are left.
    pub fn rest(self) -> &'a [u8] {
        self.0.take_rest()
    }

    /// A number below `count`.
    pub fn below(&mut self, count: usize) -> usize {
        self.0.int_in_range(0..=count - 1).unwrap_or(0)
    }

    /// One of them.
    pub fn pick<T: Copy>(&mut self, values: &[T]) -> T {
        values[self.below(values.len())]
    }

    /// Once in so many times.
    pub fn rarely(&mut self, times: u32) -> bool {
        !self.0.ratio(times - 1, times).unwrap_or(true)
    }

    /// Any number of a type.
    pub fn any<T: Arbitrary<'a> + Default>(&mut self) -> T {
        T::arbitrary(&mut self.0).unwrap_or_default()
    }

    /// A number below `count`, rarely any.
    pub fn mostly_below(&mut self, count: usize) -> usize {
        if self.rarely(32) { self.any() } else { self.below(count) }
    }

    /// A constant below `count`, rarely any number.
    pub fn option(&mut self, count: usize) -> i32 {
        if self.rarely(32) { self.any() } else { self.below(count) as i32 }
    }

    /// One of the values, rarely any bits.
    pub fn float(&mut self, values: &[f32]) -> f32 {
        if self.rarely(24) { f32::from_bits(self.any()) } else { self.pick(values) }
    }

    /// A length, rarely one that fits no machine, or only as a number.
    pub fn length(&mut self, tame: &[u64]) -> u64 {
        const HUGE: [u64; 14] = [
            0,
            1 << 16,
            (1 << 31) - 1,
            1 << 31,
            1 << 32,
            (1 << 32) + 1,
            3037000500,
            1 << 40,
            1 << 58,
            1 << 61,
            (1 << 62) + 1,
            i64::MAX as u64,
            1 << 63,
            u64::MAX,
        ];
        match self.rarely(48) {
            true if self.rarely(4) => self.any(),
            true => self.pick(&HUGE),
            false => self.pick(tame),
        }
    }

    /// A pointer as it is, rarely NULL or a misaligned one.
    pub fn pointer<T>(&mut self, pointer: *mut T) -> *mut T {
        match self.rarely(40) {
            true if self.rarely(2) && align_of::<T>() > 1 => pointer.wrapping_byte_add(1),
            true => std::ptr::null_mut(),
            false => pointer,
        }
    }

    /// Calm numbers without end, from a seed.
    pub fn numbers(&mut self) -> Numbers {
        Numbers(u64::from(self.any::<u8>()).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }
}

/// An endless row of numbers between -1 and 1.
#[derive(Debug)]
pub struct Numbers(u64);

impl Iterator for Numbers {
    type Item = f32;

    fn next(&mut self) -> Option<f32> {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        Some((self.0 >> 40) as f32 / (1 << 23) as f32 - 1.0)
    }
}
