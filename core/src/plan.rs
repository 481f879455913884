//! How a tensor is treated: which dims are merged, into which pieces it is cut, and the mode of each dim of a piece.

use core::ops::Range;

use crate::config::{Parts, built};
use crate::format::Format;
use crate::shape::{MAX_ORDER, Shape, ShapeError};
use crate::{Elements, Layout, Mode, Scalar, Storage};

/// Most parts that the rows of a fused tensor are split into: 8, and none without the feature `storage`.
pub const MAX_ROW_PARTS: usize = if built::STORAGE { 8 } else { 0 };

/// Most pieces of a slice.
pub const MAX_PIECES: usize = 1 << 16;

/// A mode, chosen by hand or by the length of a piece's dim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ModeChoice {
    Fixed(Mode),
    /// `Full` up to the group's largest dim, `Diagonal` beyond.
    ByLength,
}

/// What becomes of a slice of a tensor: a grid of pieces, each preconditioned on its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    pub(crate) order: usize,
    /// Dims after merging.
    pub(crate) dims: [usize; MAX_ORDER],
    /// The first of the tensor's own dims that each dim stands for.
    pub(crate) origin: [usize; MAX_ORDER],
    pub(crate) modes: [ModeChoice; MAX_ORDER],
    pub(crate) max_dim: usize,
    /// The most that a piece has of each dim.
    pub(crate) block: [usize; MAX_ORDER],
    /// Parts of the first dim, which are cut into blocks one by one; the first `row_part_count` count, none is one.
    pub(crate) row_parts: [usize; MAX_ROW_PARTS],
    pub(crate) row_part_count: usize,
    pub(crate) parts: Parts,
    pub(crate) storage: Storage,
}

/// One piece of a slice: a box of the tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub layout: Layout,
    pub start: [usize; MAX_ORDER],
    dims: [usize; MAX_ORDER],
}

/// Elements of a piece at equal distances: where they lie in the slice, and in the piece.
pub(crate) struct Line {
    /// Of the first one in the slice.
    pub offset: usize,
    pub stride: usize,
    /// In the piece, one after another.
    pub at: Range<usize>,
}

/// See [`Plan::copies`].
#[derive(Clone, Copy)]
pub(crate) struct Copies {
    pub param: bool,
    pub grad: bool,
}

const fn blocks(len: usize, block: usize) -> usize {
    len.div_ceil(block)
}

impl Plan {
    /// Number of dims after merging.
    pub const fn order(&self) -> usize {
        self.order
    }

    /// Length of dim `k` after merging; 1 beyond the order.
    pub const fn dim(&self, k: usize) -> usize {
        self.dims[k]
    }

    /// The dims of the tensor as its owner described it that dim `k` stands for, given their number.
    pub const fn merged(&self, k: usize, spec_order: usize) -> Range<usize> {
        let end = if k + 1 < self.order { self.origin[k + 1] } else { spec_order };
        self.origin[k]..end
    }

    /// Into how many segments dim `k` is cut.
    pub const fn segments(&self, k: usize) -> usize {
        if k > 0 || self.row_part_count == 0 {
            return blocks(self.dims[k], self.block[k]);
        }
        let (mut part, mut count) = (0, 0);
        while part < self.row_part_count {
            count += blocks(self.row_parts[part], self.block[0]);
            part += 1;
        }
        count
    }

    /// Number of pieces of a slice.
    pub const fn pieces(&self) -> usize {
        let (mut k, mut pieces) = (0, 1usize);
        while k < self.order {
            pieces = pieces.saturating_mul(self.segments(k));
            k += 1;
        }
        pieces
    }

    /// Start and length of segment `i` of dim `k`.
    const fn segment(&self, k: usize, i: usize) -> (usize, usize) {
        let (mut start, mut i, mut len) = (0, i, self.dims[k]);
        if k == 0 {
            let mut part = 0;
            while part < self.row_part_count {
                len = self.row_parts[part];
                let count = blocks(len, self.block[0]);
                if i < count {
                    break;
                }
                start += len;
                i -= count;
                part += 1;
            }
        }
        let from = i * self.block[k];
        let rest = len - from;
        (start + from, if rest < self.block[k] { rest } else { self.block[k] })
    }

    /// Piece `index` of a slice; the last dim's segments follow each other.
    pub(crate) const fn piece(&self, index: usize) -> Result<Piece, ShapeError> {
        let (mut start, mut dims, mut modes) = ([0; MAX_ORDER], [1; MAX_ORDER], [Mode::Identity; MAX_ORDER]);
        let (mut k, mut rest) = (self.order, index);
        while k > 0 {
            k -= 1;
            let count = self.segments(k);
            (start[k], dims[k]) = self.segment(k, rest % count);
            rest /= count;
            modes[k] = match self.modes[k] {
                ModeChoice::Fixed(mode) => mode,
                ModeChoice::ByLength if dims[k] > self.max_dim => Mode::Diagonal,
                ModeChoice::ByLength => Mode::Full,
            };
        }
        match Shape::new(dims.split_at(self.order).0, modes.split_at(self.order).0) {
            Ok(shape) => match Layout::new(shape, self.parts) {
                Ok(layout) => Ok(Piece { layout, start, dims }),
                Err(error) => Err(error),
            },
            Err(error) => Err(error),
        }
    }

    /// The last dim that a piece does not have all of, and how many elements from it on lie together.
    const fn run(&self, piece: &Piece) -> (usize, usize) {
        let (mut k, mut together) = (self.order - 1, 1);
        while k > 0 && piece.dims[k] == self.dims[k] {
            together *= self.dims[k];
            k -= 1;
        }
        (k, together * piece.dims[k])
    }

    /// Whether the piece's elements lie together in the slice.
    pub(crate) const fn is_contiguous(&self, piece: &Piece) -> bool {
        !built::STORAGE || (self.storage.strides.is_none() && self.run(piece).1 == piece.layout.shape().elements())
    }

    /// What is copied for a step of the piece, because the owner's buffer is not what the arithmetic works on.
    pub(crate) const fn copies(&self, piece: &Piece) -> Copies {
        let together = self.is_contiguous(piece);
        let Storage { grad, param, grad_scaling, .. } = self.storage;
        if self.is_streamed(piece) {
            return Copies { param: false, grad: false };
        }
        Copies {
            param: built::STORAGE && !(self.parts.master || together && matches!(param, Format::Native)),
            grad: built::STORAGE && (!(together && matches!(grad, Format::Native)) || grad_scaling || self.parts.penalised),
        }
    }

    /// Whether each element is stepped by itself: such a piece is read and written block by block where it lies, whatever its format.
    pub(crate) const fn is_streamed(&self, piece: &Piece) -> bool {
        built::ELEMENTWISE && piece.layout.shape().preconditioned_modes() == 0 && !self.parts.penalised && self.is_contiguous(piece)
    }

    /// The piece's elements in the slice, if they lie together.
    pub(crate) fn range(&self, piece: &Piece) -> Option<Range<usize>> {
        if !built::STORAGE {
            return Some(0..piece.layout.shape().elements());
        }
        let mut whole = None;
        if self.is_contiguous(piece) {
            self.for_each_line(piece, |line| whole = Some(line.offset..line.offset + line.at.len()));
        }
        whole
    }

    /// Copies the piece's elements of a slice together.
    pub(crate) fn gather<T: Scalar, E: Elements<T> + ?Sized>(&self, piece: &Piece, slice: &E, out: &mut [T]) {
        self.for_each_line(piece, |line| slice.read(line.offset, line.stride, &mut out[line.at]));
    }

    /// Elements of scratch that a step of the piece needs, copies of its parameter and gradient included. Inspections copy a piece that
    /// does not lie together.
    pub(crate) const fn scratch_len(&self, piece: &Piece) -> Option<usize> {
        let Copies { param, grad } = self.copies(piece);
        let copies = param as usize + (grad || !self.is_contiguous(piece)) as usize;
        piece.layout.scratch_len().checked_add(copies * piece.layout.shape().elements())
    }

    /// Calls `f` with each line of elements of the piece.
    pub(crate) fn for_each_line(&self, piece: &Piece, mut f: impl FnMut(Line)) {
        let ((outer, len), stride) = match self.storage.strides {
            None => (self.run(piece), 1),
            Some(strides) => ((self.order - 1, piece.dims[self.order - 1]), strides[self.order - 1]),
        };
        let mut index = [0; MAX_ORDER];
        for at in (0..piece.layout.shape().elements()).step_by(len) {
            let place = |k: usize| piece.start[k] + index[k];
            let offset = match self.storage.strides {
                None => (0..self.order).fold(0, |offset, k| offset * self.dims[k] + place(k)),
                Some(strides) => (0..self.order).fold(0, |offset, k| offset + strides[k] * place(k)),
            };
            f(Line { offset, stride, at: at..at + len });
            for k in (0..outer).rev() {
                index[k] += 1;
                if index[k] < piece.dims[k] {
                    break;
                }
                index[k] = 0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(dims: &[usize], block: &[usize], row_parts: &[usize]) -> Plan {
        let padded = |values: &[usize]| core::array::from_fn(|k| values.get(k).copied().unwrap_or(1));
        Plan {
            order: dims.len(),
            dims: padded(dims),
            origin: [0; MAX_ORDER],
            modes: [ModeChoice::ByLength; MAX_ORDER],
            max_dim: 100,
            block: padded(block),
            row_parts: core::array::from_fn(|k| row_parts.get(k).copied().unwrap_or(0)),
            row_part_count: row_parts.len(),
            parts: crate::Config::<f32>::kl_shampoo().parts(),
            storage: Storage::DENSE,
        }
    }

    /// Every element of a slice belongs to one place of one piece, and the order inside a piece is the slice's.
    #[test]
    fn pieces_partition_the_slice() {
        type Lens = &'static [usize];
        let cases: [(Lens, Lens, Lens, usize); 6] = [
            (&[6, 5], &[6, 5], &[], 1),
            (&[7, 5], &[3, 2], &[], 9),
            (&[7, 5], &[7, 2], &[4, 1, 2], 9),
            (&[9, 4], &[2, 4], &[6, 3], 5),
            (&[3, 4, 5], &[2, 4, 3], &[], 4),
            (&[3, 4, 5], &[3, 3, 5], &[], 2),
        ];
        for (dims, block, row_parts, pieces) in cases {
            let plan = plan(dims, block, row_parts);
            let n: usize = dims.iter().product();
            let mut seen = [false; 64];
            assert_eq!(plan.pieces(), pieces, "{dims:?}");
            for index in 0..pieces {
                let piece = plan.piece(index).unwrap();
                let (mut expected, mut last) = (0, None);
                plan.for_each_line(&piece, |line| {
                    let (slice, inside) = (line.offset..line.offset + line.at.len(), line.at);
                    assert_eq!((inside.start, line.stride), (expected, 1));
                    assert!(last.is_none_or(|last| slice.start >= last));
                    (expected, last) = (inside.end, Some(slice.end));
                    for at in slice {
                        assert!(!core::mem::replace(&mut seen[at], true));
                    }
                });
                assert_eq!(expected, piece.layout.shape().elements());
            }
            assert!(seen[..n].iter().all(|&seen| seen), "{dims:?}");
        }
    }

    #[test]
    fn rows_lie_together_and_columns_do_not() {
        let rows = plan(&[9, 4], &[2, 4], &[6, 3]);
        assert!((0..5).all(|i| rows.is_contiguous(&rows.piece(i).unwrap())));
        let columns = plan(&[4, 9], &[4, 2], &[]);
        assert!((0..5).all(|i| !columns.is_contiguous(&columns.piece(i).unwrap())));
        let piece = columns.piece(0).unwrap();
        assert_eq!(columns.scratch_len(&piece), Some(piece.layout.scratch_len() + 16));
    }
}
