//! From an optimizer to a checkpoint.

use core::convert::Infallible;

use super::parts::parts;
use super::records::MAGIC;
use super::{CheckpointError, Fields, GroupRecord, PieceRecord, Prelude, Record, SEAL_LEN, Sink, TensorRecord, VERSION, Writer};
use crate::{Optimizer, Scalar};

/// What becomes of the contents of a checkpoint: they are written, or counted.
trait Emit: Fields + Sized {
    fn numbers<T: Scalar>(&mut self, numbers: &[T]) -> Result<(), Self::Error>;
    fn seal(&mut self) -> Result<(), Self::Error>;
}

impl<S: Sink> Emit for Writer<'_, S> {
    fn numbers<T: Scalar>(&mut self, numbers: &[T]) -> Result<(), CheckpointError> {
        Writer::numbers(self, numbers)
    }

    fn seal(&mut self) -> Result<(), CheckpointError> {
        Writer::seal(self)
    }
}

/// Counts bytes.
struct Length(u64);

impl Fields for Length {
    type Error = Infallible;

    fn u32(&mut self, _: &'static str, _: &mut u32) -> Result<(), Infallible> {
        self.0 += 4;
        Ok(())
    }

    fn u64(&mut self, _: &'static str, _: &mut u64) -> Result<(), Infallible> {
        self.0 += 8;
        Ok(())
    }

    fn f32(&mut self, _: &'static str, _: &mut f32) -> Result<(), Infallible> {
        self.0 += 4;
        Ok(())
    }

    fn f64(&mut self, _: &'static str, _: &mut f64) -> Result<(), Infallible> {
        self.0 += 8;
        Ok(())
    }
}

impl Emit for Length {
    fn numbers<T: Scalar>(&mut self, numbers: &[T]) -> Result<(), Infallible> {
        self.0 += size_of_val(numbers) as u64;
        Ok(())
    }

    fn seal(&mut self) -> Result<(), Infallible> {
        self.0 += SEAL_LEN;
        Ok(())
    }
}

/// The contents of a checkpoint, in their order.
fn emit<T: Scalar, E: Emit>(optimizer: &Optimizer<'_, T>, length: u64, out: &mut E) -> Result<(), E::Error> {
    let (groups, tensors) = (optimizer.groups(), optimizer.tensors());
    let (pieces, elements) = optimizer.used();
    let mut prelude = Prelude {
        magic: MAGIC,
        version: VERSION,
        element: T::ELEMENT,
        length,
        groups: groups.len() as u64,
        tensors: tensors.len() as u64,
        pieces: pieces as u64,
        elements: elements as u64,
    };
    prelude.visit(out)?;
    out.seal()?;
    groups.iter().try_for_each(|group| GroupRecord::of(group).visit(out))?;
    tensors.iter().try_for_each(|tensor| TensorRecord::of(tensor, groups).visit(out))?;
    for tensor in tensors {
        for slice in 0..tensor.slices() {
            let mut state = &optimizer.state[tensor.state_range(slice)];
            for (index, header) in optimizer.headers[tensor.header_range(slice)].iter().enumerate() {
                let piece = tensor.piece(index);
                let (own, rest) = state.split_at(piece.layout.state_len());
                state = rest;
                PieceRecord::of(&piece, *header).visit(out)?;
                parts(&piece.layout).try_for_each(|mut part| part.visit(out))?;
                out.numbers(own)?;
            }
        }
    }
    out.seal()
}

impl<T: Scalar> Optimizer<'_, T> {
    /// Headers and state elements that the table uses: the buffers may be longer.
    pub(super) fn used(&self) -> (usize, usize) {
        self.tensors().last().map_or((0, 0), |last| {
            let slice = last.slices() - 1;
            (last.header_range(slice).end, last.state_range(slice).end)
        })
    }

    /// Bytes of a checkpoint of this table. They depend on the table alone.
    pub fn save_len(&self) -> u64 {
        let mut length = Length(0);
        let Ok(()) = emit(self, 0, &mut length);
        length.0
    }

    /// Writes state and counters of every slice, and the table that they belong to ([`crate::checkpoint`]). Parameters, learning rate
    /// and refresh budget are not in it.
    ///
    /// # Errors
    /// Those of the sink.
    pub fn save<S: Sink>(&self, sink: &mut S) -> Result<(), CheckpointError> {
        emit(self, self.save_len(), &mut Writer::new(sink))
    }
}
