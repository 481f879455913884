//! The parts of a piece's state, as a list: what is added to [`crate::Layout`] is one more line here.

use core::ops::Range;

use super::PartRecord;
use crate::layout::Regions;
use crate::shape::MAX_ORDER;
use crate::{Format, Layout};

/// A part of a piece's state, as it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartKind {
    /// `Q_k`, d x d row-major, columns are eigenvectors.
    Basis,
    /// `S~_k`: the lower triangle of the factor in the eigenbasis, row by row, d (d + 1) / 2 numbers.
    Factor,
    /// `lambda_k`, d numbers.
    Eigenvalues,
    /// `M~`: the momentum in the eigenbasis, one number per element.
    Momentum,
    /// `D`: the second moment in the coordinates that the direction uses, one number per element.
    SecondMoment,
    /// `v`: the grafted method's second moment in parameter coordinates, one number per element.
    GraftMoment,
    /// The native copy of a parameter of 16 bits, one number per element.
    Master,
    /// What a refresh in portions keeps from one step to the next: 2 d^2 + 3 d + 5 numbers of the longest full mode's length d, and d^2 more where
    /// bases are kept in 16 bits.
    Pending,
    /// [`Self::Basis`] in bf16.
    BasisBf16,
    /// [`Self::Factor`] in bf16: the diagonal, then what lies below it, row by row.
    FactorBf16,
    /// [`Self::Basis`] in binary16.
    BasisF16,
    /// [`Self::Factor`] in 16 bits: the diagonal, each number as the upper half of an `f32` that has been shifted by one bit to the left,
    /// then what lies below it, row by row, each number as a binary16 that is to be multiplied by `2^(a_i + a_j)`, where `a + 63` is the
    /// upper seven bits of an element of the diagonal.
    FactorF16,
}

impl PartKind {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Basis,
        Self::Factor,
        Self::Eigenvalues,
        Self::Momentum,
        Self::SecondMoment,
        Self::GraftMoment,
        Self::Master,
        Self::Pending,
        Self::BasisBf16,
        Self::FactorBf16,
        Self::BasisF16,
        Self::FactorF16,
    ];

    /// The number that stands for it; it never changes its meaning.
    pub const fn code(self) -> u32 {
        match self {
            Self::Basis => 1,
            Self::Factor => 2,
            Self::Eigenvalues => 3,
            Self::Momentum => 4,
            Self::SecondMoment => 5,
            Self::GraftMoment => 6,
            Self::Master => 7,
            Self::Pending => 8,
            // In another format: the number above it plus 16 for each.
            Self::BasisBf16 => 17,
            Self::FactorBf16 => 18,
            Self::BasisF16 => 33,
            Self::FactorF16 => 34,
        }
    }

    /// The part that a number stands for.
    pub fn from_code(code: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|part| part.code() == code)
    }

    /// A name for files: the same for all formats of a part.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Basis | Self::BasisBf16 | Self::BasisF16 => "basis",
            Self::Factor | Self::FactorBf16 | Self::FactorF16 => "factor",
            Self::Eigenvalues => "eigenvalues",
            Self::Momentum => "momentum",
            Self::SecondMoment => "second_moment",
            Self::GraftMoment => "graft_moment",
            Self::Master => "master",
            Self::Pending => "pending",
        }
    }

    /// Whether a piece has one per mode.
    pub const fn is_per_mode(self) -> bool {
        self.has_16_bits() || matches!(self, Self::Basis | Self::Factor | Self::Eigenvalues)
    }

    /// Whether its numbers have 16 bits, two to an element, instead of being elements.
    pub const fn has_16_bits(self) -> bool {
        matches!(self, Self::BasisBf16 | Self::FactorBf16 | Self::BasisF16 | Self::FactorF16)
    }

    /// Elements that `len` of its numbers take. Where they have 16 bits and `len` is odd, the rest of the last element is zero.
    pub const fn elements(self, len: u64) -> u64 {
        if self.has_16_bits() { len.div_ceil(2) } else { len }
    }

    /// Whether two parts are the same but for the format of their numbers.
    pub(super) fn is_format_of(self, other: Self) -> bool {
        self.name() == other.name()
    }
}

/// The parts that a piece has, in the order of its state, of which they are all.
pub(super) fn parts(layout: &Layout) -> impl Iterator<Item = PartRecord> {
    let Regions { basis: _, factor: _, lambda, momentum, second_moment, graft_moment, master, pending } = layout.regions();
    let (basis_kind, factor_kind) = match layout.parts().factor_format {
        Format::Native => (PartKind::Basis, PartKind::Factor),
        Format::Bf16 => (PartKind::BasisBf16, PartKind::FactorBf16),
        Format::F16 => (PartKind::BasisF16, PartKind::FactorF16),
    };
    // In numbers, of which two may share an element.
    let (basis, factor) = (core::array::from_fn(|k| 0..layout.square_len(k)), core::array::from_fn(|k| 0..layout.triangle_len(k)));
    let part =
        |kind: PartKind, mode: usize, range: Range<usize>| PartRecord { part: kind.code(), mode: mode as u32, len: range.len() as u64 };
    let per_mode =
        move |kind, ranges: [Range<usize>; MAX_ORDER]| ranges.into_iter().enumerate().map(move |(k, range)| part(kind, k, range));
    per_mode(basis_kind, basis)
        .chain(per_mode(factor_kind, factor))
        .chain(per_mode(PartKind::Eigenvalues, lambda))
        .chain([
            part(PartKind::Momentum, 0, momentum),
            part(PartKind::SecondMoment, 0, second_moment),
            part(PartKind::GraftMoment, 0, graft_moment),
            part(PartKind::Master, 0, master),
            part(PartKind::Pending, 0, pending),
        ])
        .filter(|part| part.len > 0)
}
