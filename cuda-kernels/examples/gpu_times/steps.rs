//! Whole steps of a set.

use crate::Options;
use crate::device::{Failure, Gpu, median};
use crate::kernels;
use crate::rows::Rows;
use klshampoo::{Config, Estimator, SliceHeader, Tensor, TensorSpec, Totals};
use klshampoo_bench::{LEARNING_RATE, POOL, Set, WEIGHT_DECAY, noise};
use klshampoo_cuda::driver::{Launcher, Memory};
use klshampoo_cuda::io::Scalar;
use klshampoo_cuda::linalg::Precision;
use klshampoo_cuda::queue::{DevicePtr, Tally, Traffic};
use klshampoo_cuda::step::{self, DeviceOptimizer, Precisions, Program, Transferred};

/// Beyond what is stepped.
const NEVER: u32 = 1 << 30;
/// Untimed steps: the first ones are others than those that follow.
const WARM_UP: u32 = 3;
const GRADIENT_SCALE: f32 = 1e-2;
const PARAMETER_SCALE: f32 = 2e-2;

/// A method by its name.
pub fn method(name: &str) -> Result<(String, Config<f32>), String> {
    let config = match name {
        "kl_shampoo" => Config::<f32>::kl_shampoo(),
        "kl_soap" => Config::<f32>::kl_soap(),
        "soap" => Config::<f32>::soap(),
        "shampoo" => Config::<f32>::shampoo(),
        "adamw" => Config::<f32>::adamw(),
        _ => return Err(format!("there is no method {name:?}; there are kl_shampoo, kl_soap, soap, shampoo, adamw")),
    };
    let config = Config { beta1: 0.95, beta2: 0.95, eps: 1e-8, weight_decay: WEIGHT_DECAY, max_dim: 8192, ..config };
    Ok((name.into(), config))
}

/// An optimizer on the device with parameters, and some gradients that take turns.
struct Run {
    optimizer: DeviceOptimizer,
    block: Memory,
    bytes: step::Memory,
    /// What the passes over elements of a step without refreshes move, if none are due.
    traffic: Traffic,
    numbers: Memory,
    first: Vec<f32>,
    params: Vec<DevicePtr>,
    grads: Vec<Vec<DevicePtr>>,
    // What the pointers point to.
    _gradients: Vec<Memory>,
    steps: usize,
}

impl Run {
    fn new(gpu: &Gpu, set: &Set, config: Config<f32>, precision: Precisions) -> Result<Self, Failure> {
        let tensors = set.tensors();
        let mut totals = Totals::default();
        let resolve = |dims: &&[usize]| {
            let spec = TensorSpec::new(dims).map_err(|error| format!("{dims:?}: {error:?}"))?;
            Tensor::resolve(&spec, &[config], &mut totals).map_err(|error| format!("{dims:?}: {error:?}"))
        };
        let table = tensors.iter().map(resolve).collect::<Result<Vec<_>, _>>()?;
        let program = Program::new(&[config], &table, &step::Options { precision, ..step::Options::default() })?;
        let (bytes, planned) = (program.bytes(), program.clone());
        let block = Memory::allocate(gpu.context(), bytes.total)?;
        let mut optimizer = DeviceOptimizer::new(program, block.at());
        optimizer.prepare(&mut gpu.queue()?).map_err(klshampoo_cuda::driver::Error::from)?;
        let pointers = |memory: &Memory| {
            let mut at = memory.at();
            let mut next = |dims: &&[usize]| {
                let here = at;
                at = at.offset::<f32>(dims.iter().product());
                here
            };
            tensors.iter().map(&mut next).collect::<Vec<_>>()
        };
        let first = noise(0, set.elements(), PARAMETER_SCALE);
        let numbers = gpu.copy_of(&first)?;
        let gradient = |seed: usize| gpu.copy_of(&noise(1 + seed as u64, set.elements(), GRADIENT_SCALE));
        let gradients = (0..POOL).map(gradient).collect::<Result<Vec<_>, _>>()?;
        let grads: Vec<_> = gradients.iter().map(pointers).collect();
        let params = pointers(&numbers);
        // The same steps once more, counted instead of launched; of the last one is told.
        let mut counted = DeviceOptimizer::new(planned, block.at());
        let mut traffic = Traffic::NONE;
        for _ in 0..=WARM_UP {
            let mut tally = Tally::default();
            counted.step(&mut tally, &params, &grads[0], Scalar::of(LEARNING_RATE), Scalar::ONE)?;
            traffic = tally.traffic;
        }
        Ok(Self { optimizer, block, bytes, traffic, params, numbers, first, grads, _gradients: gradients, steps: 0 })
    }

    fn step(&mut self, queue: &mut Launcher<'_>) -> Result<(), Failure> {
        let grads = &self.grads[self.steps % POOL];
        self.steps += 1;
        Ok(self.optimizer.step(queue, &self.params, grads, Scalar::of(LEARNING_RATE), Scalar::ONE)?)
    }

    /// The first steps; then the host learns that they are over.
    fn warm_up(&mut self, gpu: &Gpu, steps: u32) -> Result<(), Failure> {
        let mut queue = gpu.queue()?;
        for _ in 0..steps {
            self.step(&mut queue)?;
        }
        drop(queue);
        let headers = self.headers(gpu)?;
        self.optimizer.observed(&headers);
        if self.optimizer.may_start() {
            return Err("the first steps set no bases".into());
        }
        Ok(())
    }

    fn headers(&self, gpu: &Gpu) -> Result<Vec<SliceHeader>, Failure> {
        let mut headers = vec![SliceHeader::NEW; self.optimizer.headers()];
        for transfer in self.optimizer.transfers().filter(|transfer| transfer.what == Transferred::Headers) {
            let bytes = gpu.read(&self.block, transfer.device_bytes, transfer.bytes)?;
            for (header, bytes) in headers[transfer.first..][..transfer.count].iter_mut().zip(bytes.chunks_exact(size_of::<SliceHeader>()))
            {
                // SAFETY: a header is `repr(C)`, numbers only, and as long.
                *header = unsafe { std::ptr::read_unaligned(bytes.as_ptr().cast()) };
            }
        }
        Ok(headers)
    }

    /// That what was timed were steps: none was skipped, and all parameters are numbers, most of them others than before.
    fn check(&self, gpu: &Gpu) -> Result<(), Failure> {
        if let Some(header) = self.headers(gpu)?.iter().find(|header| header.skipped != 0) {
            return Err(format!("steps were skipped: {header:?}").into());
        }
        let bytes = gpu.read(&self.numbers, 0, 4 * self.first.len())?;
        let numbers = || bytes.chunks_exact(4).map(|word| f32::from_ne_bytes([word[0], word[1], word[2], word[3]]));
        let moved = numbers().zip(&self.first).filter(|(now, first)| now != *first).count();
        if numbers().all(f32::is_finite) && moved > self.first.len() / 2 {
            return Ok(());
        }
        Err(format!("{moved} of {} parameters have moved, and not all are finite", self.first.len()).into())
    }
}

/// Times the steps of a set with a method: without refreshes, with all at once, and amortised over a period, launch by launch and as a graph.
///
/// `copied`: the bandwidth that the driver's copy has reached on this device, if it was measured, in bytes per second.
pub fn time(
    gpu: &mut Gpu,
    set: &Set,
    (name, config): (&str, Config<f32>),
    copied: Option<f64>,
    options: &Options,
    rows: &mut Rows,
) -> Result<(), Failure> {
    let who = format!("klshampoo {name}");
    let plain = Config { refresh_period: NEVER, stagger: false, ..config };
    let mut run = Run::new(gpu, set, plain, Precisions::default())?;
    for (what, bytes) in [("memory in all", run.bytes.total), ("state", run.bytes.state), ("workspace", run.bytes.workspace)] {
        rows.add("memory", set.name, &who, what, bytes as f64, "bytes")?;
    }
    run.warm_up(gpu, WARM_UP)?;
    let mut times = Vec::new();
    for _ in 0..options.rounds * options.period {
        times.push(gpu.time(|queue| run.step(queue))?);
    }
    run.check(gpu)?;
    let plain = median(times);
    rows.add("steps", set.name, &who, "plain step", plain * 1e3, "ms")?;
    let graph = gpu.capture(|queue| run.step(queue))?;
    let seconds = gpu.median(options.rounds * options.period, 1, |queue| graph.launch(queue))?;
    rows.add("steps", set.name, &who, "plain step; graph", seconds * 1e3, "ms")?;
    let moved = run.traffic.total() as f64;
    drop((graph, run));
    rows.add("traffic", set.name, &who, "read and written in passes over elements", moved, "bytes")?;
    rows.add("traffic", set.name, &who, "of each element", moved / set.elements() as f64, "bytes per element")?;
    if let Some(copied) = copied {
        rows.add("traffic", set.name, &who, "at the bandwidth of the driver's copy", moved / copied * 1e3, "ms")?;
    }
    if matches!(config.estimator, Estimator::None) {
        // Nothing else takes time.
        let rate = moved / seconds;
        rows.add("elementwise", set.name, &who, "bandwidth", rate * 1e-9, "GB/s")?;
        if let Some(copied) = copied {
            rows.add("traffic", set.name, &who, "bandwidth over that of the driver's copy", rate / copied, "ratio")?;
        }
        return Ok(());
    }

    // To the eigenbasis and back with every mode's basis; of the factors' updates a triangle.
    let products: f64 = set.tensors().iter().map(|dims| (2 * dims.iter().product::<usize>() * dims.iter().sum::<usize>()) as f64).sum();
    rows.add("products", set.name, &who, "rate", 2.5 * products / seconds * 1e-9, "GFLOP/s")?;

    let together = Config { refresh_period: options.period, stagger: false, ..config };
    let mut run = Run::new(gpu, set, together, Precisions::default())?;
    run.warm_up(gpu, options.period)?;
    let before = refreshes(&run.headers(gpu)?);
    let mut times = Vec::new();
    for _ in 0..options.rounds {
        let mut longest: f64 = 0.0;
        for _ in 0..options.period {
            longest = longest.max(gpu.time(|queue| run.step(queue))?);
        }
        times.push(longest);
    }
    run.check(gpu)?;
    let made = refreshes(&run.headers(gpu)?) - before;
    if made == 0 {
        return Err(format!("{name} of set {}: no refresh was made", set.name).into());
    }
    let longest = median(times);
    rows.add("steps", set.name, &who, "step with all refreshes", longest * 1e3, "ms")?;
    rows.add("refresh", set.name, &who, "all refreshes: the difference to a plain step", (longest - plain) * 1e3, "ms")?;
    drop(run);

    let staggered = Config { refresh_period: options.period, ..config };
    let mut run = Run::new(gpu, set, staggered, Precisions::default())?;
    run.warm_up(gpu, options.period.max(WARM_UP))?;
    let period = f64::from(options.period);
    let mut times = Vec::new();
    for _ in 0..options.rounds {
        times.push(gpu.time(|queue| (0..options.period).try_for_each(|_| run.step(queue)))? / period);
    }
    rows.add("steps", set.name, &who, "amortised step", median(times) * 1e3, "ms")?;
    let graph = gpu.capture(|queue| (0..options.period).try_for_each(|_| run.step(queue)))?;
    let seconds = gpu.median(options.rounds, 1, |queue| graph.launch(queue))? / period;
    rows.add("steps", set.name, &who, "amortised step; graph", seconds * 1e3, "ms")?;
    run.check(gpu)
}

/// Plain and amortised steps at every precision, with all products made by the kernels, and with the large ones made by cuBLAS.
pub fn time_precisions(
    gpu: &mut Gpu,
    set: &Set,
    name: &str,
    config: Config<f32>,
    options: &Options,
    rows: &mut Rows,
) -> Result<(), Failure> {
    if matches!(config.estimator, Estimator::None) {
        return Ok(());
    }
    for (precision, library) in kernels::ways(gpu).filter(|way| *way != (Precision::Fp32, false)) {
        let who = format!("klshampoo {name} {}{}", kernels::name(precision), if library { " cuBLAS" } else { "" });
        gpu.use_blas(library.then_some(options.blas_from));
        for (what, period) in [("plain step", NEVER), ("amortised step", options.period)] {
            let own = Config { refresh_period: period, stagger: period != NEVER, ..config };
            let mut run = Run::new(gpu, set, own, Precisions::all(precision))?;
            let steps = if period == NEVER { 1 } else { period };
            run.warm_up(gpu, steps.max(WARM_UP))?;
            let mut times = Vec::new();
            for _ in 0..options.rounds {
                times.push(gpu.time(|queue| (0..steps).try_for_each(|_| run.step(queue)))? / f64::from(steps));
            }
            run.check(gpu)?;
            rows.add("steps", set.name, &who, what, median(times) * 1e3, "ms")?;
        }
        gpu.use_blas(None);
    }
    Ok(())
}

/// How many refreshes there have been in all.
fn refreshes(headers: &[SliceHeader]) -> u64 {
    headers.iter().map(|header| u64::from(header.refreshes)).sum()
}
