//! How exactly products are made.

/// In what numbers a product's factors are multiplied. Sums are `f32` at every precision.
///
/// With `S = sum |a_ik| |b_kj|` over the depth `k` of an element of the product, the rounding of its inputs puts it off by at most the second column
/// times `S`; adding up puts it off by at most `depth 2^-22 S` more (tensor cores cut off where the other units round), and usually by far less.
///
/// | precision | inputs | significant bits of an input | instructions |
/// |---|---|---|---|
/// | [`Fp32`](Self::Fp32) | 0 | 24 | fused multiply-adds |
/// | [`Tf32x3`](Self::Tf32x3) | `2^-21` | 23 | three of the tensor cores |
/// | [`Tf32`](Self::Tf32) | `2^-10` | 11 | one |
/// | [`Bf16`](Self::Bf16) | `2^-7` | 8 | one, of twice the depth |
///
/// The range is that of `f32` at each. Inputs that are not finite make each element that they are a part of not finite; so do those that are rounded
/// beyond the largest finite number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Precision {
    /// `f32`, without tensor cores.
    Fp32,
    /// Inputs rounded to TF32, halves away from zero.
    Tf32,
    /// Each input as the sum of two numbers in TF32: three of the four products of these are made, the least one is left out. About as exact as
    /// [`Fp32`](Self::Fp32).
    Tf32x3,
    /// Inputs rounded to bf16, halves to even.
    Bf16,
}

impl Precision {
    /// All of them, from the most exact one on.
    pub const ALL: [Self; 4] = [Self::Fp32, Self::Tf32x3, Self::Tf32, Self::Bf16];
}
