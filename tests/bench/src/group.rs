//! A group of benchmarks and its summary: what fraction of the machine's product rate each of them reached.

use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput};

use crate::product_rate::{RATE_SIZE, product_rate};

/// Criterion as all benchmarks start it; the command line may change everything.
pub fn criterion() -> Criterion {
    Criterion::default().sample_size(10).warm_up_time(Duration::from_secs(1)).without_plots().configure_from_args()
}

/// A benchmark that ran.
#[derive(Clone, Debug)]
pub struct Measured {
    /// Its name in the group.
    pub name: String,
    /// Floating-point operations of an iteration.
    pub flops: u64,
    /// The least mean time of an iteration in one sample: in the others something else ran too.
    pub seconds: f64,
}

/// A criterion group whose benchmarks have a number of floating-point operations.
pub struct Group<'c> {
    group: BenchmarkGroup<'c, WallTime>,
    name: String,
    threads: usize,
    /// The largest product rate seen, 0 if none was measured.
    rate: f64,
    measured: Vec<Measured>,
}

impl<'c> Group<'c> {
    /// A group of benchmarks that run on that many threads.
    pub fn new(criterion: &'c mut Criterion, name: String, threads: usize) -> Self {
        Self { group: criterion.benchmark_group(&name), name, threads, rate: 0.0, measured: Vec::new() }
    }

    /// Measures `run`, which is given a number of iterations and returns the time that they took. `work` is that of one iteration; of
    /// [`Throughput::Elements`] the elements are floating-point operations, and Gelem/s GFLOP/s.
    ///
    /// `make` prepares what `run` needs, untimed, and is not called where the benchmark is filtered out. What it made comes back.
    pub fn bench<S>(
        &mut self,
        name: &str,
        work: Throughput,
        mut make: impl FnMut() -> S,
        mut run: impl FnMut(&mut S, u64) -> Duration,
    ) -> Option<S> {
        let (mut state, mut least) = (None, f64::INFINITY);
        self.group.throughput(work.clone()).bench_function(name, |bencher| {
            let state = state.get_or_insert_with(|| {
                if self.rate == 0.0 {
                    self.rate = product_rate(RATE_SIZE, self.threads);
                }
                make()
            });
            bencher.iter_custom(|iterations| {
                let time = run(state, iterations);
                least = least.min(time.as_secs_f64() / iterations as f64);
                time
            });
        });
        if let (true, Throughput::Elements(flops)) = (state.is_some(), work) {
            self.measured.push(Measured { name: name.into(), flops, seconds: least });
        }
        state
    }

    /// Prints the fractions of the product rate and returns it with the benchmarks that ran. `title` says what they were about. The rate
    /// was measured before the first of them and is measured again now; the larger one counts.
    pub fn finish(self, title: &str) -> Option<(f64, Vec<Measured>)> {
        let Self { group, name, threads, rate, measured } = self;
        group.finish();
        if measured.is_empty() {
            return None;
        }
        let rate = rate.max(product_rate(RATE_SIZE, threads));
        let fraction = |one: &Measured| format!("{} {:.2}", one.name, one.flops as f64 / one.seconds / rate);
        let fractions: Vec<String> = measured.iter().map(fraction).collect();
        println!("{name} ({title}): of {:.1} GFLOP/s, the product rate: {}\n", rate * 1e-9, fractions.join(", "));
        Some((rate, measured))
    }
}
