//! Without the standard library a panic stops the program.

/// Executes an instruction that no machine defines: debuggers and fault handlers see where.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {
        // SAFETY: the instruction traps and touches nothing.
        #[cfg(any(target_arch = "x86_64", target_arch = "x86"))]
        unsafe {
            core::arch::asm!("ud2");
        }
        // SAFETY: the instruction traps and touches nothing.
        #[cfg(any(target_arch = "arm", target_arch = "aarch64"))]
        unsafe {
            core::arch::asm!("udf #0");
        }
        core::hint::spin_loop();
    }
}
