//! A large matrix cut into tiles, which are computed one after another or by all threads at once.
//!
//! The cut depends on the matrix alone, so a result has the same bits whoever computes it, and however many they are.

use ::faer::MatMut;
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::super::pool::Pool;
use super::registers::ClearRegisters;

/// Who computes the tiles.
#[derive(Clone, Copy)]
pub(in crate::host) enum Team<'a> {
    /// The calling thread.
    Alone,
    /// All threads of a pool, of which the calling one is number 0. None of them is busy.
    Pool(&'a Pool),
}

impl Team<'_> {
    /// Calls `f(0)`, ..., `f(count - 1)`, each once.
    pub(in crate::host) fn run(self, count: usize, f: impl Fn(usize) + Sync) {
        match self {
            Team::Pool(pool) if count > 1 => {
                let next = AtomicUsize::new(0);
                pool.run(&|_| {
                    let _clear = ClearRegisters;
                    loop {
                        let tile = next.fetch_add(1, Ordering::Relaxed);
                        if tile >= count {
                            break;
                        }
                        f(tile);
                    }
                });
            }
            _ => (0..count).for_each(f),
        }
    }
}

/// Longest side of a tile of a side of `n`: enough tiles for a few threads, and each so large that a product runs at full speed. Uncut, a
/// 512 x 128 layer's step took 1 to 2 % less; without whole kernel rows of 64 a 768 x 768 one's took 10 % more (Zen 5 core, f32).
const fn longest(n: usize) -> usize {
    if n >= 1536 {
        384
    } else if n > 512 {
        192
    } else {
        256
    }
}

/// How many pieces `0..n` is cut into.
pub(in crate::host) const fn pieces(n: usize) -> usize {
    n.div_ceil(longest(n))
}

/// Piece `i` of `0..n`: as long as the others, but for the last, and whole vectors.
pub(in crate::host) fn piece(n: usize, i: usize) -> Range<usize> {
    let side = n.div_ceil(pieces(n)).next_multiple_of(64);
    n.min(i * side)..n.min((i + 1) * side)
}

/// How many tiles the lower triangle of an `n x n` matrix is cut into.
pub(in crate::host) const fn lower_pieces(n: usize) -> usize {
    pieces(n) * (pieces(n) + 1) / 2
}

/// Rows and columns of tile `i` of the lower triangle; rows of many tiles come first.
pub(in crate::host) fn lower_piece(n: usize, i: usize) -> (Range<usize>, Range<usize>) {
    // Tile (row, column), column <= row, is number row (row + 1) / 2 + column from the end.
    let tile = lower_pieces(n) - 1 - i;
    let row = (0..pieces(n)).rfind(|row| row * (row + 1) / 2 <= tile).unwrap_or(0);
    (piece(n, row), piece(n, tile - row * (row + 1) / 2))
}

/// A matrix of which different threads write different parts.
pub(in crate::host) struct Shared<'a, T> {
    data: *mut T,
    rows: usize,
    cols: usize,
    row_stride: isize,
    col_stride: isize,
    borrow: PhantomData<&'a mut T>,
}

// SAFETY: access goes by `part` alone, whose callers keep the parts apart.
unsafe impl<T: Send> Sync for Shared<'_, T> {}

impl<'a, T> Shared<'a, T> {
    pub(in crate::host) fn new(m: MatMut<'a, T>) -> Self {
        let (rows, cols, row_stride, col_stride) = (m.nrows(), m.ncols(), m.row_stride(), m.col_stride());
        Self { data: m.as_ptr_mut(), rows, cols, row_stride, col_stride, borrow: PhantomData }
    }

    /// The given rows and columns.
    ///
    /// # Safety
    /// No part that is alive overlaps another.
    pub(in crate::host) unsafe fn part(&self, rows: Range<usize>, cols: Range<usize>) -> MatMut<'_, T> {
        assert!(rows.start <= rows.end && rows.end <= self.rows && cols.start <= cols.end && cols.end <= self.cols);
        let offset = rows.start as isize * self.row_stride + cols.start as isize * self.col_stride;
        // SAFETY: inside the matrix, which is borrowed for 'a; apart from all others by the caller's word.
        unsafe { MatMut::from_raw_parts_mut(self.data.offset(offset), rows.len(), cols.len(), self.row_stride, self.col_stride) }
    }
}
