//! The machine's product rate, which all other rates are fractions of.

use std::hint::black_box;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, Par};

/// Side of the products that fractions are counted in.
pub const RATE_SIZE: usize = 768;

/// The best window counts: in the others something else ran too.
const WINDOWS: usize = 5;
const WINDOW: Duration = Duration::from_millis(100);

/// Operations per second of one thread in each window. All threads start their windows together.
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
        2.0 * (n * n * n) as f64 * f64::from(products) / begin.elapsed().as_secs_f64()
    })
}

/// Operations per second of faer's `n x n x n` products in `f32`: the sum over threads that each have matrices of their own.
///
/// # Panics
/// When a thread cannot be started.
pub fn product_rate(n: usize, threads: usize) -> f64 {
    let start = Barrier::new(threads);
    let rates = std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(|| windows(n, &start))).collect();
        running.into_iter().map(|thread| thread.join().expect("a measuring thread panicked")).collect::<Vec<_>>()
    });
    (0..WINDOWS).map(|window| rates.iter().map(|rate| rate[window]).sum()).fold(0.0, f64::max)
}
