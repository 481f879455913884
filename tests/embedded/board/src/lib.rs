//! What the programs need of a Cortex-M under QEMU, and nothing that belongs to training.
//!
//! | module | what |
//! |---|---|
//! | [`instructions`] | executed instructions, counted on the device |
//! | [`stack`] | the deepest that the stack has been |
//! | [`exit`], [`println`] | the program's verdict and words, by semihosting |
#![no_std]

pub mod instructions;
mod panic;
pub mod stack;

pub use cortex_m_semihosting::{hprint as print, hprintln as println};

/// Says how much stack the program has used, and ends it, which becomes QEMU's exit code: 0 for success, else 1.
pub fn exit(success: bool) -> ! {
    use cortex_m_semihosting::debug::{EXIT_FAILURE, EXIT_SUCCESS, exit};
    let stack = stack::used();
    println!("stack: {} bytes at most, of {}", stack.most, stack.of);
    if !stack.is_enough() {
        println!("FAILED: the stack is too short");
    }
    let success = success && stack.is_enough();
    loop {
        exit(if success { EXIT_SUCCESS } else { EXIT_FAILURE });
    }
}
