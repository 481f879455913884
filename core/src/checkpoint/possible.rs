//! Which numbers a state cannot hold.

use super::parts::parts;
use super::{CheckpointError, PartKind, PartRecord, Reader, Source};
use crate::{Layout, Scalar};

/// Elements that are looked at together.
const BLOCK: usize = 16;

/// Reads past the state of a piece. Whatever a step has left there is finite, if what it started from was a step's, and averages of squares are
/// not negative; only master weights are what their owner made them.
pub(super) fn skip_possible<T: Scalar, S: Source>(reader: &mut Reader<'_, S>, layout: &Layout) -> Result<(), CheckpointError> {
    for PartRecord { part, mode, len } in parts(layout) {
        let kind = PartKind::from_code(part).ok_or(CheckpointError::Malformed)?;
        if kind == PartKind::Master {
            reader.skip(len * size_of::<T>() as u64)?;
            continue;
        }
        let squares = matches!(kind, PartKind::SecondMoment | PartKind::GraftMoment);
        let (elements, d) = (kind.elements(len) as usize, layout.shape().dim(mode as usize));
        for first in (0..elements).step_by(BLOCK) {
            let block = &mut [T::ZERO; BLOCK][..BLOCK.min(elements - first)];
            reader.numbers(block)?;
            if !block.iter().zip(first..).all(|(&x, at)| is_finite(kind, d, x, at) && (!squares || x >= T::ZERO)) {
                return Err(CheckpointError::Malformed);
            }
        }
    }
    Ok(())
}

/// Whether element `at` of a part is finite, or both of the numbers in it, of a part of a mode of length `d`.
fn is_finite<T: Scalar>(kind: PartKind, d: usize, x: T, at: usize) -> bool {
    if !kind.has_16_bits() {
        return x.is_finite_bits();
    }
    [(x.bits() as u16, 2 * at), ((x.bits() >> 16) as u16, 2 * at + 1)].into_iter().all(|(bits, at)| {
        let exponent = match kind {
            PartKind::BasisBf16 | PartKind::FactorBf16 => 0x7f80,
            PartKind::FactorF16 if at < d => 0xff00,
            _ => 0x7c00,
        };
        bits & exponent != exponent
    })
}
