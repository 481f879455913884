//! How deep the stack has been: cortex-m-rt paints it at the start, and what a program has used is no longer painted.

use cortex_m_rt::STACK_PAINT_VALUE;

unsafe extern "C" {
    // Where the stack ends and starts; it grows downwards. Set by cortex-m-rt's linker script.
    static _stack_end: u32;
    static _stack_start: u32;
}

/// Bytes of stack that the program has used at most so far.
pub fn most_used() -> usize {
    let (end, start) = (&raw const _stack_end, &raw const _stack_start);
    let mut at = end;
    // SAFETY: the words from the stack's end to its start are RAM, and this function only looks at them.
    while at < start && unsafe { at.read_volatile() } == STACK_PAINT_VALUE {
        at = at.wrapping_add(1);
    }
    start.addr() - at.addr()
}
