//! The rate of faer's f32 products on this machine, what the floor of `tests/peers` is counted in:
//!
//! ```text
//! cargo run --release -p klshampoo-ffi --example product_rate -- N THREADS
//! ```
//!
//! prints GFLOP/s of `N` x `N` x `N` products, the sum over threads that each have matrices of their own.

use std::process::ExitCode;

use klshampoo_bench::product_rate;

/// `N` and `THREADS`, both at least 1.
fn arguments() -> Option<(usize, usize)> {
    let numbers: Vec<usize> = std::env::args().skip(1).map(|text| text.parse().ok().filter(|&number| number > 0)).collect::<Option<_>>()?;
    let [n, threads] = numbers[..] else { return None };
    Some((n, threads))
}

fn main() -> ExitCode {
    let Some((n, threads)) = arguments() else {
        eprintln!("usage: product_rate N THREADS, two numbers of at least 1");
        return ExitCode::from(2);
    };
    println!("{:.2}", product_rate(n, threads) * 1e-9);
    ExitCode::SUCCESS
}
