//! An allocator whose memory comes to an end where a test wants it to.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicI64, AtomicU8, AtomicUsize, Ordering};

/// Allocations until one fails.
static COUNTDOWN: AtomicUsize = AtomicUsize::new(0);
static AT_LEAST: AtomicUsize = AtomicUsize::new(0);
static MODE: AtomicU8 = AtomicU8::new(OFF);
static FAILED: AtomicUsize = AtomicUsize::new(0);
static LIVE: AtomicI64 = AtomicI64::new(0);

const OFF: u8 = 0;
const ONE: u8 = 1;
const REST: u8 = 2;

/// The system's allocator, but for the allocations that are to fail. A test binary makes it its `#[global_allocator]`.
#[derive(Debug)]
pub struct Exhaustible;

impl Exhaustible {
    /// From now on allocation number `n` of all threads fails, counted from 0 and among those of at least so many bytes, and with `rest` all
    /// such that come after it.
    pub fn fail_at(n: usize, rest: bool, at_least: usize) {
        FAILED.store(0, Ordering::SeqCst);
        AT_LEAST.store(at_least, Ordering::SeqCst);
        COUNTDOWN.store(n, Ordering::SeqCst);
        MODE.store(if rest { REST } else { ONE }, Ordering::SeqCst);
    }

    /// From now on none fails; how many have.
    pub fn stop() -> usize {
        MODE.store(OFF, Ordering::SeqCst);
        FAILED.load(Ordering::SeqCst)
    }

    /// Blocks that have not been freed.
    pub fn live_blocks() -> i64 {
        LIVE.load(Ordering::SeqCst)
    }
}

/// Whether the allocation that is asked for fails.
fn fails(bytes: usize) -> bool {
    let mode = MODE.load(Ordering::SeqCst);
    if mode == OFF || bytes < AT_LEAST.load(Ordering::SeqCst) {
        return false;
    }
    let left = COUNTDOWN.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| Some(left.saturating_sub(1))).unwrap_or(0);
    if left > 0 {
        return false;
    }
    if mode == ONE {
        MODE.store(OFF, Ordering::SeqCst);
    }
    FAILED.fetch_add(1, Ordering::SeqCst);
    true
}

/// A block that has been had.
fn count(pointer: *mut u8) -> *mut u8 {
    LIVE.fetch_add(i64::from(!pointer.is_null()), Ordering::SeqCst);
    pointer
}

// SAFETY: every call goes to the system's allocator unchanged, or fails as an allocator may; counting touches atomics alone.
unsafe impl GlobalAlloc for Exhaustible {
    unsafe fn alloc(&self, block: Layout) -> *mut u8 {
        // SAFETY: the caller's promise is passed on.
        if fails(block.size()) { std::ptr::null_mut() } else { count(unsafe { System.alloc(block) }) }
    }

    unsafe fn alloc_zeroed(&self, block: Layout) -> *mut u8 {
        // SAFETY: the caller's promise is passed on.
        if fails(block.size()) { std::ptr::null_mut() } else { count(unsafe { System.alloc_zeroed(block) }) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, block: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller's promise is passed on.
        if fails(size) { std::ptr::null_mut() } else { unsafe { System.realloc(pointer, block, size) } }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, block: Layout) {
        LIVE.fetch_sub(1, Ordering::SeqCst);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, block) }
    }
}
