//! The rate of faer's f32 products on this machine, what the floor of `tests/peers` is counted in:
//!
//! ```text
//! cargo run --release -p klshampoo-ffi --example product_rate -- N THREADS
//! ```
//!
//! prints GFLOP/s of `N` x `N` x `N` products, the sum over threads that each have matrices of their own.

use std::hint::black_box;
use std::process::ExitCode;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, Par};

/// The best window counts: in the others something else ran too.
const WINDOWS: usize = 5;
const WINDOW: Duration = Duration::from_millis(100);

/// GFLOP/s of one thread in each window. All threads start their windows together.
fn windows(n: usize, start: &Barrier) -> [f64; WINDOWS] {
    let a = Mat::from_fn(n, n, |i, j| ((i * 7 + j * 3) % 11) as f32 / 11.0);
    let b = Mat::from_fn(n, n, |i, j| ((i * 5 + j * 2) % 13) as f32 / 13.0);
    let mut c = Mat::<f32>::zeros(n, n);
    let mut product = || matmul(black_box(&mut c).as_mut(), Accum::Replace, a.as_ref(), b.as_ref(), 1.0f32, Par::Seq);
    product();
    std::array::from_fn(|_| {
        start.wait();
        let begin = Instant::now();
        let mut products = 0;
        while begin.elapsed() < WINDOW {
            product();
            products += 1;
        }
        2e-9 * (n * n * n) as f64 * f64::from(products) / begin.elapsed().as_secs_f64()
    })
}

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
    let start = Barrier::new(threads);
    let rates = std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(|| windows(n, &start))).collect();
        running.into_iter().map(|thread| thread.join().expect("a measuring thread panicked")).collect::<Vec<_>>()
    });
    let best = (0..WINDOWS).map(|window| rates.iter().map(|rate| rate[window]).sum::<f64>()).fold(0.0, f64::max);
    println!("{best:.2}");
    ExitCode::SUCCESS
}
