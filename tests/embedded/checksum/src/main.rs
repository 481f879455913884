//! Prints the checksums: of a Cortex-M by semihosting, of x86-64 without any library by system calls, of a host on its standard output.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(all(target_os = "none", target_arch = "x86_64"))]
mod bare;

#[cfg(all(target_os = "none", target_arch = "x86_64"))]
use bare::println;
#[cfg(target_arch = "arm")]
use board::println;
use checksum::{CASES, Memory, run};

/// A line for each method.
fn report(memory: &mut Memory) {
    for (name, config) in &CASES {
        let outcome = run(config, memory);
        println!("{}: {:016x}, denormals: {}", name, outcome.checksum, outcome.denormals);
    }
}

#[cfg(target_arch = "arm")]
#[cortex_m_rt::entry]
fn main() -> ! {
    static MEMORY: static_cell::ConstStaticCell<Memory> = static_cell::ConstStaticCell::new(Memory::new());
    report(MEMORY.take());
    board::exit(true)
}

#[cfg(not(target_arch = "arm"))]
fn main() {
    report(&mut Memory::new());
}
