//! An optimizer's state in host memory: what the core's checkpoints are made of and what its parts are read from.

use klshampoo::{Optimizer, SliceHeader};
use klshampoo_ffi::error::Failure;
use klshampoo_ffi::host::block::Block;
use klshampoo_ffi::host::table::Table;
use klshampoo_ffi::status::{KLS_ERROR_OVERFLOW, from_table};

use crate::step::{Transfer, Transferred};

/// Headers and state of a table. What is never written is zero and takes no memory, where the system gives pages when they are touched.
pub(super) struct HostCopy<'a> {
    table: &'a Table,
    headers: Block,
    state: Block,
}

impl<'a> HostCopy<'a> {
    /// A new optimizer's: zeros.
    ///
    /// # Errors
    /// KLS_ERROR_OUT_OF_MEMORY.
    pub(super) fn new(table: &'a Table) -> Result<Self, Failure> {
        let totals = table.totals();
        let bytes = |count: usize, each: usize| count.checked_mul(each).ok_or(KLS_ERROR_OVERFLOW);
        let headers = Block::new(bytes(totals.slices, size_of::<SliceHeader>())?)?;
        let state = Block::new(bytes(totals.state_len, size_of::<f32>())?)?;
        Ok(Self { table, headers, state })
    }

    /// Its headers, in the table's order.
    pub(super) fn headers(&mut self) -> &mut [SliceHeader] {
        // SAFETY: as many as the block was made for; any bits are a header. The result borrows the copy.
        unsafe { std::slice::from_raw_parts_mut(self.headers.as_ptr().cast(), self.table.totals().slices) }
    }

    /// What a transfer moves.
    pub(super) fn bytes(&mut self, transfer: &Transfer) -> &mut [u8] {
        let totals = self.table.totals();
        let (memory, len, each) = match transfer.what {
            Transferred::State => (&self.state, totals.state_len, size_of::<f32>()),
            Transferred::Headers => (&self.headers, totals.slices, size_of::<SliceHeader>()),
        };
        // SAFETY: as many elements as the block was made for, all of whose bytes are initialised and may be any. The result borrows the copy.
        let all = unsafe { std::slice::from_raw_parts_mut(memory.as_ptr(), len * each) };
        &mut all[transfer.first * each..][..transfer.bytes]
    }

    /// The core's optimizer over it.
    pub(super) fn view(&mut self) -> Result<Optimizer<'_, f32>, Failure> {
        let table = self.table;
        // SAFETY: two blocks of their own, as above; the result borrows the copy.
        let (headers, state) = unsafe {
            (
                std::slice::from_raw_parts_mut(self.headers.as_ptr().cast(), table.totals().slices),
                std::slice::from_raw_parts_mut(self.state.as_ptr().cast(), table.totals().state_len),
            )
        };
        Ok(Optimizer::new(table.groups(), table.tensors(), headers, state).map_err(from_table)?)
    }
}
