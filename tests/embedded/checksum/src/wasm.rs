//! What `checksum/wasm.js` calls.

use crate::{CASES, Memory, run};

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    core::arch::wasm32::unreachable()
}

/// How many methods there are.
#[unsafe(no_mangle)]
extern "C" fn cases() -> usize {
    CASES.len()
}

/// A byte of a method's name; 0 beyond its end.
#[unsafe(no_mangle)]
extern "C" fn name_byte(case: usize, at: usize) -> u32 {
    u32::from(*CASES[case].0.as_bytes().get(at).unwrap_or(&0))
}

/// See [`crate::Outcome`].
#[unsafe(no_mangle)]
extern "C" fn checksum(case: usize) -> u64 {
    run(&CASES[case].1, &mut Memory::new()).checksum
}

/// See [`crate::Outcome`].
#[unsafe(no_mangle)]
extern "C" fn denormals(case: usize) -> u32 {
    run(&CASES[case].1, &mut Memory::new()).denormals
}
