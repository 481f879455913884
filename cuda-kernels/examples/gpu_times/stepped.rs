//! An optimizer on the device with what it steps.

use crate::device::{Failure, Gpu, driver_copy};
use crate::sets;
use klshampoo::{Config, SliceHeader, Tensor, TensorSpec, Totals};
use klshampoo_bench::{LEARNING_RATE, POOL, Set, noise};
use klshampoo_cuda::driver::{Error, Launcher, Memory};
use klshampoo_cuda::io::Scalar;
use klshampoo_cuda::queue::{DevicePtr, Tally, Traffic};
use klshampoo_cuda::step::{self, DeviceOptimizer, Precisions, Program, Transfer, Transferred};

/// Untimed steps: the first ones are others than those that follow.
pub const WARM_UP: u32 = 3;
const GRADIENT_SCALE: f32 = 1e-2;
const PARAMETER_SCALE: f32 = 2e-2;

/// Parameters of a set and some gradients that take turns, made once for all that is timed of it.
pub struct Data {
    /// The set.
    pub set: &'static Set,
    tensors: Vec<&'static [usize]>,
    first: Vec<f32>,
    start: Memory,
    params: Memory,
    gradients: Vec<Memory>,
}

impl Data {
    /// Of the device's memory they take the parameters' two and the gradients' [`POOL`] times.
    pub fn new(gpu: &Gpu, set: &'static Set) -> Result<Self, Failure> {
        let first = noise(0, set.elements(), PARAMETER_SCALE);
        let gradient = |seed: usize| gpu.copy_of(&noise(1 + seed as u64, set.elements(), GRADIENT_SCALE));
        Ok(Self {
            set,
            tensors: sets::tensors(set),
            start: gpu.copy_of(&first)?,
            params: gpu.floats(first.len())?,
            gradients: (0..POOL).map(gradient).collect::<Result<_, _>>()?,
            first,
        })
    }

    /// Floating-point operations that take all tensors into their modes' bases, or back out.
    pub fn projection_flops(&self) -> f64 {
        self.tensors.iter().map(|dims| (2 * dims.iter().product::<usize>() * dims.iter().sum::<usize>()) as f64).sum()
    }

    fn pointers(&self, memory: &Memory) -> Vec<DevicePtr> {
        let mut at = memory.at();
        let mut next = |dims: &&[usize]| {
            let here = at;
            at = at.offset::<f32>(dims.iter().product());
            here
        };
        self.tensors.iter().map(&mut next).collect()
    }
}

/// State and headers after the first steps, which every other run begins with: those steps set the eigenbases, which takes much longer than a step.
pub struct Warm {
    memory: Memory,
    headers: Vec<SliceHeader>,
    transfers: Vec<Transfer>,
}

/// An optimizer on the device with parameters and gradients.
pub struct Run<'a> {
    data: &'a Data,
    optimizer: DeviceOptimizer,
    block: Memory,
    /// What it takes.
    pub bytes: step::Memory,
    params: Vec<DevicePtr>,
    grads: Vec<Vec<DevicePtr>>,
    steps: usize,
}

impl<'a> Run<'a> {
    /// From the first parameters on, and the state of other steps if there is one.
    pub fn new(gpu: &Gpu, data: &'a Data, config: Config<f32>, precision: Precisions, warm: Option<&Warm>) -> Result<Self, Failure> {
        let program = data.program(config, precision)?;
        let bytes = program.bytes();
        let block = Memory::allocate(gpu.context(), bytes.total)?;
        let mut optimizer = DeviceOptimizer::new(program, block.at());
        {
            let mut queue = gpu.queue()?;
            optimizer.prepare(&mut queue).map_err(Error::from)?;
            driver_copy(&queue, data.start.at(), data.params.at(), size_of_val(data.first.as_slice()))?;
            if let Some(warm) = warm {
                if !optimizer.transfers().eq(warm.transfers.iter().copied()) {
                    return Err("the state of one configuration lies otherwise than that of another".into());
                }
                driver_copy(&queue, warm.memory.at(), block.at(), warm.memory.bytes())?;
                optimizer.loaded(&warm.headers);
            }
        }
        let grads = data.gradients.iter().map(|memory| data.pointers(memory)).collect();
        Ok(Self { data, optimizer, block, bytes, params: data.pointers(&data.params), grads, steps: 0 })
    }

    /// A step.
    pub fn step(&mut self, queue: &mut Launcher<'_>) -> Result<(), Failure> {
        let grads = &self.grads[self.steps % POOL];
        self.steps += 1;
        Ok(self.optimizer.step(queue, &self.params, grads, Scalar::of(LEARNING_RATE), Scalar::ONE)?)
    }

    /// So many steps that do not count; then the host learns that the first ones are over. Returns the seconds of the first of them.
    pub fn warm_up(&mut self, gpu: &mut Gpu, steps: u32) -> Result<f64, Failure> {
        let first = gpu.time(|queue| self.step(queue))?;
        gpu.time(|queue| (1..steps).try_for_each(|_| self.step(queue)))?;
        let headers = self.headers(gpu)?;
        self.optimizer.observed(&headers);
        if self.optimizer.may_start() {
            return Err("the first steps set no bases".into());
        }
        Ok(first)
    }

    /// What others may begin with.
    pub fn warm(&self, gpu: &Gpu) -> Result<Warm, Failure> {
        let memory = Memory::allocate(gpu.context(), self.bytes.state + self.bytes.headers)?;
        driver_copy(&gpu.queue()?, self.block.at(), memory.at(), memory.bytes())?;
        Ok(Warm { memory, headers: self.headers(gpu)?, transfers: self.optimizer.transfers().collect() })
    }

    fn headers(&self, gpu: &Gpu) -> Result<Vec<SliceHeader>, Failure> {
        let mut headers = vec![SliceHeader::NEW; self.optimizer.headers()];
        let bytes = gpu.read(&self.block, self.bytes.state, self.bytes.headers)?;
        for transfer in self.optimizer.transfers().filter(|transfer| transfer.what == Transferred::Headers) {
            let bytes = &bytes[transfer.device_bytes - self.bytes.state..][..transfer.bytes];
            for (header, bytes) in headers[transfer.first..][..transfer.count].iter_mut().zip(bytes.chunks_exact(size_of::<SliceHeader>()))
            {
                // SAFETY: a header is `repr(C)`, numbers only, and as long.
                *header = unsafe { std::ptr::read_unaligned(bytes.as_ptr().cast()) };
            }
        }
        Ok(headers)
    }

    /// How many refreshes there have been in all.
    pub fn refreshes(&self, gpu: &Gpu) -> Result<u64, Failure> {
        Ok(self.headers(gpu)?.iter().map(|header| u64::from(header.refreshes)).sum())
    }

    /// That what was timed were steps: none was skipped, and all parameters are numbers, most of them others than before.
    pub fn check(&self, gpu: &Gpu) -> Result<(), Failure> {
        if let Some(header) = self.headers(gpu)?.iter().find(|header| header.skipped != 0) {
            return Err(format!("steps were skipped: {header:?}").into());
        }
        let first = &self.data.first;
        let bytes = gpu.read(&self.data.params, 0, 4 * first.len())?;
        let numbers = || bytes.chunks_exact(4).map(|word| f32::from_ne_bytes([word[0], word[1], word[2], word[3]]));
        let moved = numbers().zip(first).filter(|(now, first)| now != *first).count();
        if numbers().all(f32::is_finite) && moved > first.len() / 2 {
            return Ok(());
        }
        Err(format!("{moved} of {} parameters have moved, and not all are finite", first.len()).into())
    }
}

impl Data {
    fn program(&self, config: Config<f32>, precision: Precisions) -> Result<Program, Failure> {
        let mut totals = Totals::default();
        let resolve = |dims: &&[usize]| {
            let spec = TensorSpec::new(dims).map_err(|error| format!("{dims:?}: {error:?}"))?;
            Tensor::resolve(&spec, &[config], &mut totals).map_err(|error| format!("{dims:?}: {error:?}"))
        };
        let table = self.tensors.iter().map(resolve).collect::<Result<Vec<_>, _>>()?;
        Ok(Program::new(&[config], &table, &step::Options { precision, ..step::Options::default() })?)
    }

    /// What the passes over elements move in a step, counted instead of launched: the one after the first ones. None of its refreshes is due if
    /// none ever is.
    pub fn traffic(&self, config: Config<f32>) -> Result<Traffic, Failure> {
        // Nothing looks at its place: what is counted is not launched.
        let mut counted = DeviceOptimizer::new(self.program(config, Precisions::default())?, self.params.at());
        let (params, grads) = (self.pointers(&self.params), self.pointers(&self.gradients[0]));
        let mut traffic = Traffic::NONE;
        for _ in 0..=WARM_UP {
            let mut tally = Tally::default();
            counted.step(&mut tally, &params, &grads, Scalar::of(LEARNING_RATE), Scalar::ONE)?;
            traffic = tally.traffic;
        }
        Ok(traffic)
    }
}
