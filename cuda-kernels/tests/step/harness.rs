//! A table of tensors stepped twice: by the core's optimizer, and by the device's on the emulator.

use klshampoo::linalg::Portable;
use klshampoo::{
    Bf16Mut, Config, Format, Halves, Optimizer, Scalar as _, SliceBuffers, SliceHeader, StatePart, StepErrorKind, StepReport, Storage,
    Target, Tensor, TensorSpec, Totals,
};
use klshampoo_cuda::io::Scalar;
use klshampoo_cuda::queue::{DevicePtr, Queue};
use klshampoo_cuda::step::{DeviceOptimizer, Options, Program};

use crate::common::EmulatorQueue;
use crate::common::block::Block;

/// Numbers without a pattern.
#[derive(Clone)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x1234_5678_9abc_def1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// In (-1, 1), as a sum of three: more of them near 0.
    pub fn number(&mut self) -> f32 {
        (0..3).map(|_| (self.next() >> 40) as f32 / (1u64 << 24) as f32 * 2.0 - 1.0).sum::<f32>() / 3.0
    }
}

/// The buffer of a tensor, in its format.
#[derive(Clone, Debug, PartialEq)]
pub enum Buffer {
    Native(Vec<f32>),
    Halves(Format, Vec<u16>),
}

impl Buffer {
    fn new(format: Format, numbers: &[f32]) -> Self {
        match format {
            Format::Native => Self::Native(numbers.to_vec()),
            Format::Bf16 => Self::Halves(format, numbers.iter().map(|x| (x.to_bits() >> 16) as u16).collect()),
            // Normal numbers of its range, truncated.
            Format::F16 => Self::Halves(
                format,
                numbers
                    .iter()
                    .map(|x| {
                        let bits = x.to_bits();
                        let exponent = ((bits >> 23 & 0xff) as i32 - 112).clamp(0, 30) as u32;
                        (bits >> 16 & 0x8000 | if exponent == 0 { 0 } else { exponent << 10 | bits >> 13 & 0x3ff }) as u16
                    })
                    .collect(),
            ),
        }
    }

    fn pointer(&mut self) -> DevicePtr {
        match self {
            Self::Native(numbers) => crate::common::device(numbers),
            Self::Halves(_, bits) => crate::common::device(bits),
        }
    }

    /// Its numbers.
    pub fn numbers(&self) -> Vec<f32> {
        match self {
            Self::Native(numbers) => numbers.clone(),
            Self::Halves(Format::Bf16, bits) => bits.iter().map(|&bits| f32::from_bits(u32::from(bits) << 16)).collect(),
            Self::Halves(..) => unreachable!("no parameters in this format"),
        }
    }
}

/// One tensor's gradient in one step.
pub type Grad = Option<Buffer>;

/// Both optimizers.
pub struct Both {
    groups: Vec<Config<f32>>,
    pub table: Vec<Tensor>,
    headers: Vec<SliceHeader>,
    state: Vec<f32>,
    scratch: Vec<f32>,
    pub params: Vec<Buffer>,
    first: Vec<Buffer>,
    pub device: DeviceOptimizer,
    block: Block,
    pub device_params: Vec<Buffer>,
    pub queue: EmulatorQueue,
    /// Launches before the first step.
    pub prepared: usize,
    random: Random,
    pub lr: f32,
    pub grad_scale: f32,
    step: usize,
}

pub fn resolve(groups: &[Config<f32>], specs: &[TensorSpec]) -> (Vec<Tensor>, Totals) {
    let mut totals = Totals::default();
    let table = specs.iter().map(|spec| Tensor::resolve(spec, groups, &mut totals).unwrap()).collect();
    (table, totals)
}

impl Both {
    pub fn new(groups: &[Config<f32>], specs: &[TensorSpec]) -> Self {
        Self::with_options(groups, specs, &Options::default())
    }

    pub fn with_options(groups: &[Config<f32>], specs: &[TensorSpec], options: &Options) -> Self {
        let (table, totals) = resolve(groups, specs);
        let mut random = Random::new(7);
        let params: Vec<Buffer> = table
            .iter()
            .map(|tensor| Buffer::new(tensor.storage().param, &(0..tensor.span()).map(|_| random.number()).collect::<Vec<_>>()))
            .collect();
        let program = Program::new(groups, &table, options).unwrap();
        let mut block = Block::new(&program);
        let mut device = DeviceOptimizer::new(program, block.base());
        let mut queue = EmulatorQueue::default();
        device.prepare(&mut queue).unwrap();
        Self {
            groups: groups.to_vec(),
            headers: vec![SliceHeader::NEW; totals.slices],
            state: vec![0.0; totals.state_len],
            scratch: vec![0.0; totals.scratch_len],
            first: params.clone(),
            device_params: params.clone(),
            params,
            table,
            device,
            block,
            prepared: queue.launches,
            queue,
            random,
            lr: 0.01,
            grad_scale: 1.0,
            step: 0,
        }
    }

    /// Gradients whose covariance turns slowly, of all tensors.
    pub fn gradients(&mut self) -> Vec<Grad> {
        self.step += 1;
        let (step, random) = (self.step, &mut self.random);
        let one = |tensor: &Tensor| {
            let numbers: Vec<f32> = (0..tensor.span())
                .map(|i| {
                    let slow = ((i % 7) as f32 * 0.9 + (i / 7 % 5) as f32 * 1.7 + step as f32 * 0.05).sin();
                    (random.number() + slow) * 0.1 / (1.0 + (i % 11) as f32)
                })
                .collect();
            Some(Buffer::new(tensor.storage().grad, &numbers))
        };
        self.table.iter().map(one).collect()
    }

    /// One step of the core's optimizer; unusable slices stay as they are, as on the device.
    fn step_core(&mut self, grads: &[Grad]) {
        let mut optimizer = Optimizer::new(&self.groups, &self.table, &mut self.headers, &mut self.state).unwrap();
        let refreshes = optimizer.refreshes(0..self.table.len(), |i| grads[i].is_some());
        let mut report = StepReport::default();
        for job in optimizer.jobs(0..self.table.len(), self.lr, refreshes) {
            let (i, range, grad_scale) = (job.tensor(), job.range(), self.grad_scale);
            let (Some(grad), param) = (&grads[i], &mut self.params[i]) else { continue };
            let (scratch, report) = (&mut self.scratch, &mut report);
            let result = match (param, grad) {
                (Buffer::Native(param), Buffer::Native(grad)) => {
                    let buffers = SliceBuffers { target: Target::Parameter(&mut param[range.clone()]), grad: &grad[range], grad_scale };
                    job.run(buffers, scratch, &mut Portable, report)
                }
                (Buffer::Native(param), Buffer::Halves(format, grad)) => {
                    let grad = Halves::new(*format, &grad[range.clone()]);
                    let buffers = SliceBuffers { target: Target::Parameter(&mut param[range]), grad: &grad, grad_scale };
                    job.run(buffers, scratch, &mut Portable, report)
                }
                (Buffer::Halves(_, param), Buffer::Native(grad)) => {
                    let mut param = Bf16Mut(&mut param[range.clone()]);
                    let buffers = SliceBuffers { target: Target::Parameter(&mut param), grad: &grad[range], grad_scale };
                    job.run(buffers, scratch, &mut Portable, report)
                }
                (Buffer::Halves(_, param), Buffer::Halves(format, grad)) => {
                    let grad = Halves::new(*format, &grad[range.clone()]);
                    let mut param = Bf16Mut(&mut param[range]);
                    let buffers = SliceBuffers { target: Target::Parameter(&mut param), grad: &grad, grad_scale };
                    job.run(buffers, scratch, &mut Portable, report)
                }
            };
            if let Err(error) = result {
                assert!(matches!(error.kind, StepErrorKind::Slice(_)), "{error}");
            }
        }
    }

    fn step_device(&mut self, grads: &[Grad]) {
        let mut queue = core::mem::take(&mut self.queue);
        self.launch(&mut queue, &mut grads.to_vec(), Scalar::of(self.lr));
        self.queue = queue;
    }

    /// One step of the device's optimizer alone.
    pub fn launch<Q: Queue>(&mut self, queue: &mut Q, grads: &mut [Grad], lr: Scalar) {
        let params: Vec<DevicePtr> = self.device_params.iter_mut().map(Buffer::pointer).collect();
        let grads: Vec<DevicePtr> = grads.iter_mut().map(|grad| grad.as_mut().map_or(DevicePtr::NULL, Buffer::pointer)).collect();
        self.device.step(queue, &params, &grads, lr, Scalar::of(self.grad_scale)).unwrap();
    }

    /// One step of both.
    pub fn step(&mut self, grads: &[Grad]) {
        self.step_core(grads);
        self.step_device(grads);
    }

    /// One step of the core with scaled gradients, and one of the device that has to scale them.
    pub fn step_clipped(&mut self, grads: &[Grad], scale: f32) {
        self.grad_scale = scale;
        self.step_core(grads);
        self.grad_scale = 1.0;
        self.step_device(grads);
    }

    pub fn steps(&mut self, count: usize) {
        for _ in 0..count {
            let grads = self.gradients();
            self.step(&grads);
        }
    }

    /// The device's state and headers in the core's order.
    pub fn download(&mut self) -> (Vec<f32>, Vec<SliceHeader>) {
        self.device.refresh(&mut self.queue).unwrap();
        let (mut state, mut headers) = (vec![f32::NAN; self.state.len()], vec![SliceHeader::NEW; self.headers.len()]);
        self.block.download(&self.device, &mut state, &mut headers);
        (state, headers)
    }

    /// Puts the core's state and headers on the device.
    pub fn upload(&mut self, state: &[f32], headers: &[SliceHeader]) {
        self.block.upload(&mut self.device, state, headers);
    }

    /// The core goes on from where the device is, and the other way round.
    pub fn swap(&mut self) {
        let (state, headers) = self.download();
        let (old_state, old_headers) = (core::mem::replace(&mut self.state, state), core::mem::replace(&mut self.headers, headers));
        self.upload(&old_state, &old_headers);
        core::mem::swap(&mut self.params, &mut self.device_params);
    }

    /// The device goes on from where the core is. After a first step: a gradient's rank may be less than a mode is long, and then the basis
    /// that it sets is arbitrary in part.
    pub fn meet(&mut self) {
        let (state, headers) = (self.state.clone(), self.headers.clone());
        self.upload(&state, &headers);
        self.device_params.clone_from(&self.params);
    }

    /// A budget has put off the refreshes of all slices so many times.
    pub fn postpone(&mut self, times: u32) {
        self.headers.iter_mut().for_each(|header| header.postponed = times);
        self.meet();
    }

    /// Moves a power of two from one mode of the first tensor, a matrix, to the other, and the device to where the core is.
    pub fn unbalance(&mut self) {
        let layout = *self.table[0].layout();
        for (k, scale) in [(0, 256.0), (1, 1.0 / 256.0)] {
            for part in [StatePart::Factor(k), StatePart::Eigenvalues(k)] {
                self.state[layout.range(part)].iter_mut().for_each(|x| *x *= scale);
            }
        }
        self.meet();
    }

    /// How far apart the parameters are, over how far they have come: the largest of all tensors.
    pub fn distance(&self) -> f64 {
        let norm = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum::<f64>().sqrt();
        let each = self.params.iter().zip(&self.device_params).zip(&self.first).map(|((core, device), first)| {
            let (core, device, first) = (core.numbers(), device.numbers(), first.numbers());
            assert!(core.iter().chain(&device).all(|x| x.is_finite_bits()));
            norm(&core, &device) / norm(&core, &first).max(1e-30)
        });
        each.fold(0.0, f64::max)
    }

    /// That both are where the other one is, to `tolerance`, with the same counters.
    pub fn check(&mut self, what: &str, tolerance: f64) {
        let distance = self.distance();
        assert!(distance <= tolerance, "{what}: {distance:e}");
        let (_, mut headers) = self.download();
        for (device, core) in headers.iter_mut().zip(&self.headers) {
            // Numbers, not counters.
            for (device, core) in [(&mut device.update_rms, core.update_rms), (&mut device.update_cosine, core.update_cosine)] {
                assert!((*device - core).abs() <= 1e-4 * core.abs() + 1e-5, "{what}: {device} {core}");
                *device = core;
            }
        }
        assert_eq!(headers, self.headers, "{what}");
    }

    /// One step of the core with scaled gradients.
    pub fn step_core_scaled(&mut self, grads: &[Grad], scale: f32) {
        let before = core::mem::replace(&mut self.grad_scale, scale);
        self.step_core(grads);
        self.grad_scale = before;
    }

    /// The factor that the device has found for a bound on the norm.
    pub fn norm_factor(&self) -> f32 {
        let at = klshampoo_cuda::io::Norm::factor_of(self.device.norm()).address() as usize;
        // SAFETY: in the device's block, which lives, and written by the last step.
        unsafe { core::ptr::with_exposed_provenance::<f32>(at).read() }
    }

    /// The core's state.
    pub fn state(&self) -> &[f32] {
        &self.state
    }

    /// How many times gradients were made.
    pub fn steps_made(&self) -> usize {
        self.step
    }

    pub fn headers(&self) -> &[SliceHeader] {
        &self.headers
    }
}

/// A dense tensor with other formats.
pub fn stored(param: Format, grad: Format, master_weights: bool) -> Storage {
    Storage { param, grad, master_weights, ..Storage::DENSE }
}
