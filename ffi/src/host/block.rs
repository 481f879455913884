//! An optimizer's memory on the heap.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ptr::NonNull;

use crate::handle::ALIGNMENT;
use crate::status::*;

/// Zeroed memory, aligned for an optimizer and its arrays; freed when it is dropped.
#[derive(Debug)]
pub struct Block {
    memory: NonNull<u8>,
    layout: Layout,
}

// SAFETY: it owns its memory, as a box does.
unsafe impl Send for Block {}
// SAFETY: a shared block gives nothing out but its address.
unsafe impl Sync for Block {}

impl Block {
    /// `size` bytes.
    ///
    /// # Errors
    /// `KLS_ERROR_OVERFLOW`, `KLS_ERROR_OUT_OF_MEMORY`.
    pub fn new(size: usize) -> Result<Self, kls_status> {
        // An empty table needs no bytes, and an allocation some.
        let layout = Layout::from_size_align(size.max(ALIGNMENT), ALIGNMENT).map_err(|_| KLS_ERROR_OVERFLOW)?;
        // SAFETY: the size is not zero.
        let memory = NonNull::new(unsafe { alloc_zeroed(layout) }).ok_or(KLS_ERROR_OUT_OF_MEMORY)?;
        Ok(Self { memory, layout })
    }

    /// Where it starts.
    pub fn as_ptr(&self) -> *mut u8 {
        self.memory.as_ptr()
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout.
        unsafe { dealloc(self.memory.as_ptr(), self.layout) };
    }
}
