//! A program for x86-64 Linux without any library under it, not even C's: two system calls and a place to start.

use core::arch::{asm, global_asm};
use core::fmt::{self, Write};
use core::panic::PanicInfo;

// The stack pointer as the ABI wants it at a call.
global_asm!(".global _start", "_start:", "xor ebp, ebp", "and rsp, -16", "call {start}", "ud2", start = sym start);

extern "C" fn start() -> ! {
    crate::main();
    exit(0)
}

fn system_call(number: usize, arguments: [usize; 3]) -> usize {
    let result;
    // SAFETY: of the calls that are made, one reads the bytes that it is given, the other does not return.
    unsafe {
        asm!("syscall", inlateout("rax") number => result, in("rdi") arguments[0], in("rsi") arguments[1], in("rdx") arguments[2],
            out("rcx") _, out("r11") _, options(nostack));
    }
    result
}

fn exit(code: usize) -> ! {
    loop {
        system_call(60, [code, 0, 0]);
    }
}

/// The standard output.
pub(crate) struct Output;

impl Write for Output {
    fn write_str(&mut self, mut text: &str) -> fmt::Result {
        while !text.is_empty() {
            let written = system_call(1, [1, text.as_ptr().addr(), text.len()]);
            text = text.get(written..).ok_or(fmt::Error)?;
        }
        Ok(())
    }
}

/// As of the standard library.
macro_rules! println {
    ($($arguments:tt)*) => {
        core::fmt::Write::write_fmt(&mut $crate::bare::Output, format_args!("{}\n", format_args!($($arguments)*))).expect("an open output")
    };
}
pub(crate) use println;

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    exit(1)
}
