//! From a checkpoint to an optimizer: everything is checked in a first reading, and written in a second.

use core::ops::Range;

use super::parts::parts;
use super::possible::skip_possible;
use super::{CheckpointError, GroupRecord, PartKind, PartRecord, PieceRecord, Prelude, Reader, Source, TensorRecord};
use crate::{Config, Layout, Optimizer, Scalar, SliceHeader, Tensor};

/// Steps that no optimizer makes: beyond them the counters' arithmetic could overflow.
const MAX_STEP: u64 = 1 << 62;

/// Whether a step of a slice with such counters is defined.
fn is_possible(header: &SliceHeader) -> bool {
    header.started <= 1 && u64::from(header.started) <= header.step && header.last_refresh <= header.step && header.step <= MAX_STEP
}

/// Whether a tensor of the checkpoint is that of the table.
fn compare(found: &TensorRecord, own: &TensorRecord) -> Result<(), CheckpointError> {
    if (found.order, found.dims, found.slices) != (own.order, own.dims, own.slices) {
        return Err(CheckpointError::Shapes);
    }
    // Before what follows from it.
    if (found.method, found.rounding, found.rounding_seed) != (own.method, own.rounding, own.rounding_seed) {
        return Err(CheckpointError::Method);
    }
    // The parts of each piece, which are compared too, say more than the state's length does: whether only its format is another.
    if found.pieces == own.pieces { Ok(()) } else { Err(CheckpointError::Shapes) }
}

/// What a part that is not the table's is.
fn mismatch(found: &PartRecord, own: &PartRecord) -> CheckpointError {
    let same_but_for_format = found.part != own.part
        && (found.mode, found.len) == (own.mode, own.len)
        && PartKind::from_code(found.part).zip(PartKind::from_code(own.part)).is_some_and(|(found, own)| found.is_format_of(own));
    if same_but_for_format { CheckpointError::Element } else { CheckpointError::Shapes }
}

/// A piece of a checkpoint, which is the table's.
struct Found {
    layout: Layout,
    /// The index of its header, and what is in it.
    header: usize,
    counters: SliceHeader,
    /// Where its state lies.
    state: Range<usize>,
}

/// Reads everything between the prelude and the last seal and compares it with the table. `piece` is given the reader in front of the
/// state of each piece.
fn walk<T: Scalar, S: Source>(
    reader: &mut Reader<'_, S>,
    prelude: &Prelude,
    groups: &[Config<T>],
    tensors: &[Tensor],
    mut piece: impl FnMut(&mut Reader<'_, S>, Found) -> Result<(), CheckpointError>,
) -> Result<(), CheckpointError> {
    for _ in 0..prelude.groups {
        reader.record::<GroupRecord>()?;
    }
    if prelude.tensors != tensors.len() as u64 {
        return Err(CheckpointError::Shapes);
    }
    for tensor in tensors {
        compare(&reader.record()?, &TensorRecord::of(tensor, groups))?;
    }
    for tensor in tensors {
        for slice in 0..tensor.slices() {
            let mut at = tensor.state_range(slice).start;
            for (index, header) in tensor.header_range(slice).enumerate() {
                let own = tensor.piece(index);
                let mut found: PieceRecord = reader.record()?;
                let counters = core::mem::replace(&mut found.header, SliceHeader::NEW);
                if found != PieceRecord::of(&own, SliceHeader::NEW) {
                    return Err(CheckpointError::Shapes);
                }
                for part in parts(&own.layout) {
                    let found: PartRecord = reader.record()?;
                    if found != part {
                        return Err(mismatch(&found, &part));
                    }
                }
                if !is_possible(&counters) {
                    return Err(CheckpointError::Malformed);
                }
                let state = at..at + own.layout.state_len();
                at = state.end;
                piece(reader, Found { layout: own.layout, header, counters, state })?;
            }
        }
    }
    if reader.rest() == 0 { Ok(()) } else { Err(CheckpointError::Malformed) }
}

/// One reading, from the first byte to the last. Returns the checksum.
fn pass<T: Scalar, S: Source>(
    source: &mut S,
    groups: &[Config<T>],
    tensors: &[Tensor],
    piece: impl FnMut(&mut Reader<'_, S>, Found) -> Result<(), CheckpointError>,
) -> Result<u64, CheckpointError> {
    let mut reader = Reader::new(source);
    let prelude = reader.open(Some(T::ELEMENT))?;
    let verdict = walk(&mut reader, &prelude, groups, tensors, piece);
    match verdict {
        // There is nothing more to be had from the source.
        Err(CheckpointError::Stream | CheckpointError::Truncated) => verdict.map(|()| 0),
        // What does not fit is only another table if the bytes are those that were written.
        _ => reader.close().and_then(|checksum| verdict.map(|()| checksum)),
    }
}

impl<T: Scalar> Optimizer<'_, T> {
    /// Takes state and counters from a checkpoint. The table must be the one that was saved: as many tensors of the same dims, slices and
    /// cuts, each stepped by the same method. Groups may be others, and all hyper-parameters that do not change what the state means
    /// ([`crate::checkpoint::Method`] has those that do). Every step from here on gives the bits that it would have given there, if the
    /// hyper-parameters are the same.
    ///
    /// The source is read twice: first everything is checked, then it is written.
    ///
    /// # Errors
    /// [`CheckpointError`]. The optimizer is unchanged, but for [`CheckpointError::Changed`]: it is then as a new one.
    pub fn load<S: Source>(&mut self, source: &mut S) -> Result<(), CheckpointError> {
        let (pieces, elements) = self.used();
        let (groups, tensors) = (self.groups(), self.tensors());
        let (headers, state) = (&mut self.headers[..pieces], &mut self.state[..elements]);
        let checked = pass(source, groups, tensors, |reader, found| skip_possible::<T, S>(reader, &found.layout))?;
        let written = pass(source, groups, tensors, |reader, found| {
            headers[found.header] = found.counters;
            reader.numbers(&mut state[found.state])
        });
        if written == Ok(checked) {
            return Ok(());
        }
        headers.fill(SliceHeader::NEW);
        state.fill(T::ZERO);
        Err(CheckpointError::Changed)
    }
}
