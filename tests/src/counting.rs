//! An allocator that counts, for tests that prove that nothing is allocated.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

static ALL: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static OWN: Cell<usize> = const { Cell::new(0) };
}

/// The system's allocator with a counter of allocations. A test binary makes it its `#[global_allocator]`.
#[derive(Debug)]
pub struct Counting;

impl Counting {
    /// Allocations of all threads so far.
    pub fn of_all_threads() -> usize {
        ALL.load(Ordering::SeqCst)
    }

    /// Allocations of this thread so far: the test runner's other threads do not disturb it.
    pub fn of_this_thread() -> usize {
        OWN.with(Cell::get)
    }
}

fn count() {
    ALL.fetch_add(1, Ordering::SeqCst);
    OWN.with(|counter| counter.set(counter.get() + 1));
}

// SAFETY: every call goes to the system's allocator unchanged; counting touches an atomic and a thread-local without a destructor,
// which neither allocates nor panics.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, block: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(block) }
    }

    unsafe fn alloc_zeroed(&self, block: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc_zeroed(block) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, block: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(pointer, block, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, block: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, block) }
    }
}
