//! What goes wrong ends the program, and is said.

use core::panic::PanicInfo;

use cortex_m_rt::{ExceptionFrame, exception};

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    crate::println!("{}", info);
    crate::exit(false)
}

/// Without this a fault would be an endless loop.
#[exception]
unsafe fn HardFault(frame: &ExceptionFrame) -> ! {
    crate::println!("{:?}", frame);
    crate::exit(false)
}
