//! How deep the stack has been: cortex-m-rt paints it at the start, and what a program has used is no longer painted.

use cortex_m_rt::STACK_PAINT_VALUE;

unsafe extern "C" {
    // Where the stack ends and starts; it grows downwards. Set by cortex-m-rt's linker script.
    static _stack_end: u32;
    static _stack_start: u32;
}

/// How much of the stack a program has used at most so far.
#[derive(Clone, Copy, Debug)]
pub struct Used {
    /// Bytes.
    pub most: usize,
    /// Bytes that there are. The statics are below them: a program that has used all has written over those.
    pub of: usize,
}

impl Used {
    /// Whether the stack stayed what it is: at least a few words were never touched.
    pub const fn is_enough(&self) -> bool {
        self.of - self.most >= 64
    }
}

/// See [`Used`].
pub fn used() -> Used {
    let (end, start) = (&raw const _stack_end, &raw const _stack_start);
    let mut at = end;
    // SAFETY: the words from the stack's end to its start are RAM, and this function only looks at them.
    while at < start && unsafe { at.read_volatile() } == STACK_PAINT_VALUE {
        at = at.wrapping_add(1);
    }
    Used { most: start.addr() - at.addr(), of: start.addr() - end.addr() }
}
