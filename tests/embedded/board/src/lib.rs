//! What the programs need of a Cortex-M under QEMU, and nothing that belongs to training.
//!
//! | module | what |
//! |---|---|
//! | [`instructions`] | executed instructions, counted on the device |
//! | [`stack`] | the deepest that the stack has been |
//! | [`exit`], [`print!`](println) | the program's verdict and words, by semihosting |
#![no_std]

pub mod instructions;
mod panic;
pub mod stack;

pub use cortex_m_semihosting::{hprint as print, hprintln as println};

/// Ends the program, which becomes QEMU's exit code: 0 for success, else 1.
pub fn exit(success: bool) -> ! {
    use cortex_m_semihosting::debug::{EXIT_FAILURE, EXIT_SUCCESS, exit};
    loop {
        exit(if success { EXIT_SUCCESS } else { EXIT_FAILURE });
    }
}
