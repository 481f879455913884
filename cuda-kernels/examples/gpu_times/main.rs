//! Times on a GPU, by the device's own clock: whole steps of sets of tensors, and the kernels that they are made of.
//!
//! ```text
//! cargo run --release -p klshampoo-cuda --example gpu_times -- --csv times.csv
//! ```
//!
//! `gpu/run.sh` runs it beside the peers of `gpu/peers.py`, which writes the same table.

mod device;
mod kernels;
mod rows;
mod sets;
mod steps;

use clap::Parser;
use device::{Failure, Gpu};
use rows::Rows;
use std::path::PathBuf;
use std::process::ExitCode;

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
    /// Name the sets and end.
    #[arg(long)]
    list: bool,
}

fn run(options: &Options) -> Result<(), Failure> {
    // Before anything is timed.
    let sets = options.sets.iter().filter(|name| *name != "none").map(|name| sets::named(name)).collect::<Result<Vec<_>, _>>()?;
    let methods = options.methods.iter().map(|name| steps::method(name)).collect::<Result<Vec<_>, _>>()?;
    if options.sizes.contains(&0) {
        return Err("--sizes: 0 is no size".into());
    }
    let mut gpu = Gpu::open(options.device)?;
    println!("{}", gpu.description()?);
    let mut rows = Rows::new(options.csv.as_deref())?;
    let mut copied = None;
    if !options.steps_only {
        copied = Some(kernels::elementwise(&mut gpu, options, &mut rows)?);
        kernels::products(&mut gpu, options, &mut rows)?;
        kernels::decompositions(&mut gpu, options, &mut rows)?;
    }
    for set in &sets {
        if options.precisions {
            kernels::shapes(&mut gpu, set, options, &mut rows)?;
        }
        for (name, config) in &methods {
            steps::time(&mut gpu, set, (name, *config), copied, options, &mut rows)?;
            if options.precisions {
                steps::time_precisions(&mut gpu, set, name, *config, options, &mut rows)?;
            }
        }
    }
    rows.print();
    Ok(())
}

fn main() -> ExitCode {
    let options = Options::parse();
    if options.list {
        sets::ALL.iter().for_each(|set| println!("{:6} {}", set.name, set.title));
        return ExitCode::SUCCESS;
    }
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("gpu_times: {error}");
            ExitCode::FAILURE
        }
    }
}
