//! Times on a GPU, by the device's own clock: whole steps of sets of tensors, and the kernels that they are made of.
//!
//! ```text
//! cargo run --release -p klshampoo-cuda --example gpu_times -- --csv times.csv
//! ```
//!
//! `gpu/run.sh` runs it beside the peers of `gpu/peers.py`, which writes the same table.

mod device;
mod kernels;
mod probe;
mod products;
mod rows;
mod sets;
mod stepped;
mod steps;

use clap::Parser;
use device::{Failure, Gpu, description};
use klshampoo::Config;
use klshampoo_bench::Set;
use klshampoo_cuda::driver::Device;
use products::Rates;
use rows::Rows;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;
use stepped::Data;
use steps::{Known, Timing};

/// Times steps and kernels on a GPU.
#[derive(Debug, Parser)]
pub struct Options {
    /// Sets of tensors: see --list; "none": kernels alone.
    #[arg(long, value_delimiter = ',', default_value = "c1000,a,c,d,e,f,b,gpt2")]
    sets: Vec<String>,
    /// Methods: kl_shampoo, kl_soap, soap, shampoo, adamw.
    #[arg(long, value_delimiter = ',', default_value = "kl_shampoo,soap,adamw")]
    methods: Vec<String>,
    /// Steps between refreshes.
    #[arg(long, default_value_t = klshampoo_bench::PERIOD, value_parser = clap::value_parser!(u32).range(1..))]
    period: u32,
    /// Periods that are timed; medians are of so many.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Elements of the arrays on which elementwise kernels are timed.
    #[arg(long, default_value_t = 64 << 20, value_parser = clap::value_parser!(u32).range(1..1 << 31))]
    elements: u32,
    /// Sizes of the square products that are timed.
    #[arg(long, value_delimiter = ',', default_value = "64,768,3072")]
    sizes: Vec<usize>,
    /// The device, counted as the driver does.
    #[arg(long, default_value_t = 0)]
    device: usize,
    /// Write all numbers here too.
    #[arg(long)]
    csv: Option<PathBuf>,
    /// Leave the kernels out that are timed alone.
    #[arg(long)]
    steps_only: bool,
    /// The sets at every precision too, by the kernels and by cuBLAS: products of their shapes, and steps.
    #[arg(long)]
    precisions: bool,
    /// How many multiplications (rows x columns x depth) a product has at least that a step leaves to cuBLAS.
    #[arg(long, default_value_t = klshampoo_cuda::step::Library::WORTH_WHILE)]
    blas_from: u64,
    /// Seconds that the samples of one number take at most, or three samples of it.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Seconds after which nothing more is begun; what is left out is named.
    #[arg(long)]
    limit: Option<f64>,
    /// Run one kernel, look at what it did, and end.
    #[arg(long)]
    probe: bool,
    /// Name the sets and end.
    #[arg(long)]
    list: bool,
    #[arg(skip = Instant::now())]
    begun: Instant,
}

impl Options {
    /// Whether it is too late to begin with this, which is then said.
    fn is_out_of_time(&self, what: &str) -> bool {
        let over = self.limit.is_some_and(|limit| self.begun.elapsed().as_secs_f64() >= limit);
        if over {
            println!("OUT OF TIME: not timed: {what}");
        }
        over
    }
}

fn run(options: &Options) -> Result<(), Failure> {
    // Before anything is timed.
    let sets = options.sets.iter().filter(|name| *name != "none").map(|name| sets::named(name)).collect::<Result<Vec<_>, _>>()?;
    let methods = options.methods.iter().map(|name| steps::method(name)).collect::<Result<Vec<_>, _>>()?;
    if options.sizes.contains(&0) {
        return Err("--sizes: 0 is no size".into());
    }
    println!("{}", description(&Device::get(options.device)?)?);
    let mut gpu = Gpu::open(options.device, options.seconds)?;
    match gpu.open_blas()? {
        Some(version) => println!("cuBLAS {version}"),
        None => println!("NO cuBLAS: steps with it are not timed"),
    }
    let mut rows = Rows::new(options.csv.as_deref())?;
    let mut copied = None;
    if !options.steps_only {
        copied = Some(kernels::elementwise(&mut gpu, options, &mut rows)?);
        products::products(&mut gpu, options, &mut rows)?;
        kernels::decompositions(&mut gpu, options, &mut rows)?;
    }
    // What fails of a set leaves the others alone.
    let mut failures = Vec::new();
    for &set in &sets {
        if let Err(error) = time_set(&mut gpu, set, &methods, copied, options, &mut rows, &mut failures) {
            failures.push(format!("set {}: {error}", set.name));
        }
    }
    rows.print();
    if failures.is_empty() { Ok(()) } else { Err(failures.join("\n").into()) }
}

/// What is claimed comes first, what is only of interest last.
fn time_set(
    gpu: &mut Gpu,
    set: &'static Set,
    methods: &[(String, Config<f32>)],
    copied: Option<f64>,
    options: &Options,
    rows: &mut Rows,
    failures: &mut Vec<String>,
) -> Result<(), Failure> {
    if options.is_out_of_time(&format!("set {}", set.name)) {
        return Ok(());
    }
    let known = Known { copied, rates: Rates::measure(gpu, set.name, options, rows)? };
    let data = Data::new(gpu, set)?;
    let mut begun = Vec::new();
    for (name, config) in methods {
        let timing = Timing { data: &data, name, config: *config, options };
        match timing.in_full(gpu, known, rows) {
            Ok(Some(warm)) => begun.push((timing, warm)),
            Ok(None) => {}
            Err(error) => failures.push(error.to_string()),
        }
    }
    if options.precisions {
        for (timing, warm) in begun {
            if let Err(error) = timing.uniformly(gpu, &warm, rows) {
                failures.push(error.to_string());
            }
        }
        drop(data);
        products::shapes(gpu, set, options, rows)?;
    }
    Ok(())
}

fn main() -> ExitCode {
    let options = Options::parse();
    if options.list {
        sets::ALL.iter().for_each(|set| println!("{:6} {}", set.name, set.title));
        return ExitCode::SUCCESS;
    }
    match if options.probe { probe::run(&options) } else { run(&options) } {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("gpu_times: {error}");
            ExitCode::FAILURE
        }
    }
}
