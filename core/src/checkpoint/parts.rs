//! The parts of a piece's state, as a list: what is added to [`crate::Layout`] is one more line here.

use core::ops::Range;

use super::PartRecord;
use crate::Layout;
use crate::layout::Regions;
use crate::shape::MAX_ORDER;

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
    /// What a refresh in portions keeps from one step to the next: 2 d^2 + 3 d + 5 numbers of the longest full mode's length d.
    Pending,
}

impl PartKind {
    /// All of them.
    pub const ALL: [Self; 8] =
        [Self::Basis, Self::Factor, Self::Eigenvalues, Self::Momentum, Self::SecondMoment, Self::GraftMoment, Self::Master, Self::Pending];

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
        }
    }

    /// The part that a number stands for.
    pub fn from_code(code: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|part| part.code() == code)
    }

    /// A name for files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Basis => "basis",
            Self::Factor => "factor",
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
        matches!(self, Self::Basis | Self::Factor | Self::Eigenvalues)
    }
}

/// The parts that a piece has, in the order of its state, of which they are all.
pub(super) fn parts(layout: &Layout) -> impl Iterator<Item = PartRecord> {
    let Regions { basis, factor, lambda, momentum, second_moment, graft_moment, master, pending } = layout.regions();
    let part =
        |kind: PartKind, mode: usize, range: Range<usize>| PartRecord { part: kind.code(), mode: mode as u32, len: range.len() as u64 };
    let per_mode =
        move |kind, ranges: [Range<usize>; MAX_ORDER]| ranges.into_iter().enumerate().map(move |(k, range)| part(kind, k, range));
    per_mode(PartKind::Basis, basis)
        .chain(per_mode(PartKind::Factor, factor))
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
