//! Prints the checksums: of a Cortex-M by semihosting, of a host on its standard output.
#![cfg_attr(target_arch = "arm", no_std, no_main)]

use checksum::{CASES, run};

/// Prints a line for each method with `$println`.
macro_rules! report {
    ($println:path) => {
        for (name, config) in &CASES {
            let outcome = run(config);
            $println!("{}: {:016x}, denormals: {}", name, outcome.checksum, outcome.denormals);
        }
    };
}

#[cfg(target_arch = "arm")]
#[cortex_m_rt::entry]
fn main() -> ! {
    report!(board::println);
    board::println!("stack: {} bytes at most", board::stack::most_used());
    board::exit(true)
}

#[cfg(not(target_arch = "arm"))]
fn main() {
    report!(std::println);
}
