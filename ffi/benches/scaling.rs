//! How the time of a KL-Shampoo step grows: with the side of a matrix, the number of matrices and the number of threads.
//!
//! ```text
//! cargo bench -p klshampoo-ffi --bench scaling                        # all three tables
//! cargo bench -p klshampoo-ffi --bench scaling -- size --largest 2048
//! ```
//!
//! Through the C interface, backend faer. Every second step refreshes all bases. A plain step is the least of the others; the least that
//! refreshes is longer by a refresh, of which a tenth is added for a step on average, T = 10. GFLOP/s are predicted operations over that.

mod common;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use clap::Parser;
use common::{Spec, Stepper};
use klshampoo_bench::{PERIOD, RATE_SIZE, Table, cells, product_rate};
use klshampoo_ffi::{KLS_FIRST_BASIS_IDENTITY, KLS_METHOD_KL_SHAMPOO};

/// Time of a KL-Shampoo step by size, number of matrices and threads.
#[derive(Debug, Parser)]
struct Options {
    /// Makes only tables with this in their names: scaling/size, scaling/count, scaling/threads
    filter: Option<String>,
    /// Largest side of a matrix
    #[arg(long, default_value_t = 4096)]
    largest: usize,
    /// Numbers of threads
    #[arg(long, value_delimiter = ',', default_values_t = [1, 2])]
    threads: Vec<usize>,
    /// Two timed steps of everything instead of as many as fit into half a second
    #[arg(long, alias = "test")]
    quick: bool,
    /// What cargo gives to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

/// Some square matrices, stepped by some threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Case {
    n: usize,
    count: usize,
    threads: usize,
}

/// Seconds and predicted operations of one step.
#[derive(Clone, Copy, Debug)]
struct Step {
    seconds: f64,
    flops: f64,
}

impl Step {
    /// As a rate, and as a fraction of another one.
    fn rates(self, product_rate: f64) -> [String; 2] {
        let rate = self.flops / self.seconds;
        [format!("{:.1}", rate * 1e-9), format!("{:.2}", rate / product_rate)]
    }
}

/// A step without a refresh and one on average.
#[derive(Clone, Copy, Debug)]
struct Times {
    plain: Step,
    mean: Step,
}

/// What has been measured: tables have cases in common.
struct Measurements {
    enough: Duration,
    times: HashMap<Case, Times>,
    rates: HashMap<usize, f64>,
}

impl Measurements {
    fn of(&mut self, case: Case) -> Times {
        *self.times.entry(case).or_insert_with(|| measure(case, self.enough))
    }

    fn rate(&mut self, threads: usize) -> f64 {
        *self.rates.entry(threads).or_insert_with(|| product_rate(RATE_SIZE, threads))
    }
}

fn measure(case: Case, enough: Duration) -> Times {
    let dims = [case.n, case.n];
    let mut spec = Spec::new(vec![&dims; case.count], case.threads, KLS_METHOD_KL_SHAMPOO, Some(2));
    spec.config.stagger = 0;
    // An eigendecomposition of the first gradient would take longer than everything else.
    spec.config.first_basis = KLS_FIRST_BASIS_IDENTITY;
    let (mut stepper, begin) = (Stepper::new(&spec, 2), Instant::now());
    let mut least = [f64::INFINITY; 2];
    loop {
        least = least.map(|seconds| seconds.min(stepper.time(1).as_secs_f64()));
        if begin.elapsed() >= enough {
            break;
        }
    }
    stepper.finish();
    let [plain, refreshing] = [3, 4].map(|step| spec.flops(step..=step) as f64);
    let mean = |plain: f64, refreshing: f64| plain + (refreshing - plain).max(0.0) / f64::from(PERIOD);
    Times {
        plain: Step { seconds: least[0], flops: plain },
        mean: Step { seconds: mean(least[0], least[1]), flops: mean(plain, refreshing) },
    }
}

fn milliseconds(step: Step) -> String {
    format!("{:.3}", step.seconds * 1e3)
}

/// `n, 2 n, ..., largest`.
fn octaves(n: usize, largest: usize) -> impl Iterator<Item = usize> {
    std::iter::successors(Some(n), |n| Some(2 * n)).take_while(move |&n| n <= largest)
}

fn by_size(measurements: &mut Measurements, largest: usize) -> Table {
    let rate = measurements.rate(1);
    let times: Vec<(usize, Times)> = octaves(32, largest).map(|n| (n, measurements.of(Case { n, count: 1, threads: 1 }))).collect();
    // The slope of a line through three points an octave apart is that through the outer two.
    let slope = |at: usize, step: fn(&Times) -> Step| match at.checked_sub(2) {
        Some(before) => format!("{:.2}", (step(&times[at].1).seconds / step(&times[before].1).seconds).log2() / 2.0),
        None => String::new(),
    };
    let rows = times.iter().enumerate().map(|(at, (n, Times { plain, mean }))| {
        let [[plain_rate, plain_fraction], [mean_rate, mean_fraction]] = [plain, mean].map(|step| step.rates(rate));
        let [plain_slope, mean_slope] = [slope(at, |times| times.plain), slope(at, |times| times.mean)];
        [
            n.to_string(),
            milliseconds(*plain),
            plain_slope,
            plain_rate,
            plain_fraction,
            milliseconds(*mean),
            mean_slope,
            mean_rate,
            mean_fraction,
        ]
    });
    cells(["n", "plain ms", "exponent", "GFLOP/s", "of rate", "T=10 ms", "exponent", "GFLOP/s", "of rate"], rows)
}

fn by_count(measurements: &mut Measurements) -> Table {
    let rate = measurements.rate(1);
    let rows = [1, 4, 16, 64, 256].map(|count| {
        let Times { plain, mean } = measurements.of(Case { n: 64, count, threads: 1 });
        let [[plain_rate, plain_fraction], [mean_rate, mean_fraction]] = [plain, mean].map(|step| step.rates(rate));
        let each = |step: Step| format!("{:.1}", step.seconds * 1e6 / count as f64);
        [
            count.to_string(),
            milliseconds(plain),
            each(plain),
            plain_rate,
            plain_fraction,
            milliseconds(mean),
            each(mean),
            mean_rate,
            mean_fraction,
        ]
    });
    cells(["64x64", "plain ms", "us each", "GFLOP/s", "of rate", "T=10 ms", "us each", "GFLOP/s", "of rate"], rows)
}

fn by_threads(measurements: &mut Measurements, threads: &[usize], largest: usize) -> Table {
    let cases = [(64, 64), (64, 256), (256, 1), (512, 1), (1024, 1), (2048, 1)].into_iter().filter(|&(n, _)| n <= largest);
    let mut rows = Vec::new();
    for (n, count) in cases {
        let mut first = None;
        for &threads in threads {
            let rate = measurements.rate(threads);
            let Times { plain, mean } = measurements.of(Case { n, count, threads });
            let first = *first.get_or_insert(Times { plain, mean });
            let [[plain_rate, plain_fraction], [mean_rate, mean_fraction]] = [plain, mean].map(|step| step.rates(rate));
            let gain = |first: Step, step: Step| format!("{:.2}", first.seconds / step.seconds);
            rows.push([
                format!("{count} of {n}x{n}"),
                threads.to_string(),
                milliseconds(plain),
                gain(first.plain, plain),
                plain_rate,
                plain_fraction,
                milliseconds(mean),
                gain(first.mean, mean),
                mean_rate,
                mean_fraction,
            ]);
        }
    }
    cells(["matrices", "threads", "plain ms", "gain", "GFLOP/s", "of rate", "T=10 ms", "gain", "GFLOP/s", "of rate"], rows)
}

fn main() {
    let options = Options::parse();
    let enough = if options.quick { Duration::ZERO } else { Duration::from_millis(500) };
    let mut measurements = Measurements { enough, times: HashMap::new(), rates: HashMap::new() };
    let wanted = |name: &str| options.filter.as_ref().is_none_or(|filter| name.contains(filter));
    if wanted("scaling/size") {
        let table = by_size(&mut measurements, options.largest);
        println!("One n x n matrix, one thread; exponent: of the time, over the last two octaves\n{table}\n");
    }
    if wanted("scaling/count") {
        println!("64x64 matrices, one thread\n{}\n", by_count(&mut measurements));
    }
    if wanted("scaling/threads") {
        let table = by_threads(&mut measurements, &options.threads, options.largest);
        println!("By threads; gain: over the first number of threads\n{table}\n");
    }
    let mut rates: Vec<(&usize, &f64)> = measurements.rates.iter().collect();
    rates.sort_unstable_by_key(|&(threads, _)| threads);
    for (threads, rate) in rates {
        println!("product rate, {threads} thread(s): {:.1} GFLOP/s (faer, f32, {RATE_SIZE}x{RATE_SIZE}x{RATE_SIZE})", rate * 1e-9);
    }
}
