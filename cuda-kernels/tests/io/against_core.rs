//! Whole steps of the core, and the same ones with its updates given: parameters and master weights have the same bits.

use klshampoo::linalg::Portable;
use klshampoo::{
    Bf16Mut, Config, Elements, ElementsMut, Format, Halves, Job, Momentum, Optimizer, SliceBuffers, SliceHeader, StatePart, StepReport,
    Storage, Target, TensorSpec, WeightDecay,
};
use klshampoo_cuda::batch::{Array, Items};
use klshampoo_cuda::io::{Decay, Penalty, Pieces, Place, Scalar, Source, Theta, Transform, Update, commit_param, gather, write_direction};
use klshampoo_cuda::queue::DevicePtr;

use crate::common::{EmulatorQueue, array, device};
use crate::support::{Batch, Buffer, Core, Random, batches, bits, shapes, stochastic, storage};

/// What a call of the core writes.
#[derive(Clone, Copy)]
struct Call {
    lr: f32,
    grad_scale: f32,
}

fn run<P: ElementsMut<f32> + ?Sized>(job: Job<'_, f32>, target: Target<'_, P>, grad: &Buffer, call: Call, scratch: &mut [f32]) {
    fn with<P: ElementsMut<f32> + ?Sized, G: Elements<f32> + ?Sized>(
        job: Job<'_, f32>,
        buffers: SliceBuffers<'_, f32, P, G>,
        scratch: &mut [f32],
    ) {
        let mut report = StepReport::default();
        job.run(buffers, scratch, &mut Portable, &mut report).unwrap();
        assert!(report.stepped > 0 && report.skipped == 0);
    }
    let (range, grad_scale) = (job.range(), call.grad_scale);
    match grad {
        Buffer::Native(grad) => with(job, SliceBuffers { target, grad: &grad[range], grad_scale }, scratch),
        Buffer::Halves(format, grad) => {
            let grad = Halves::new(*format, &grad[range]);
            with(job, SliceBuffers { target, grad: &grad, grad_scale }, scratch);
        }
    }
}

/// A step of the whole table, of the parameters, or of directions alone.
fn step(core: &mut Core, out: &mut [Buffer], directions: bool, grads: &[Buffer], call: Call) {
    let (mut scratch, tensors) = (core.scratch.clone(), 0..core.table.len());
    let mut optimizer = core.optimizer();
    let refreshes = optimizer.refreshes(tensors.clone(), |_| true);
    for job in optimizer.jobs(tensors, call.lr, refreshes) {
        let (index, range) = (job.tensor(), job.range());
        match &mut out[index] {
            Buffer::Native(out) if directions => {
                run(job, Target::Direction { out: &mut out[range], param: None }, &grads[index], call, &mut scratch);
            }
            Buffer::Native(out) => run(job, Target::Parameter(&mut out[range]), &grads[index], call, &mut scratch),
            Buffer::Halves(_, out) => {
                run(job, Target::Parameter(&mut Bf16Mut(&mut out[range])), &grads[index], call, &mut scratch);
            }
        }
    }
}

/// The same table in memory that kernels work on.
struct Device {
    batches: Vec<Batch>,
    rooms: Vec<Vec<Place>>,
    params: Vec<Buffer>,
    /// By batch: an odd number of elements between the items'.
    masters: Vec<Vec<f32>>,
    headers: Vec<Vec<SliceHeader>>,
}

impl Device {
    fn new(core: &Core, params: &[Buffer]) -> Self {
        let batches = batches(&core.table);
        Self {
            rooms: vec![Vec::new(); batches.len()],
            params: params.to_vec(),
            masters: batches.iter().map(|batch| vec![0.0; batch.places.len() * (batch.elements() + 3)]).collect(),
            headers: batches.iter().map(|batch| vec![SliceHeader::NEW; batch.places.len()]).collect(),
            batches,
        }
    }

    /// Calls `f` with each batch: its number, pieces, parameters and storage.
    fn each(&mut self, core: &Core, mut f: impl FnMut(usize, &Batch, Pieces, Theta, &Storage)) {
        let mut pointers: Vec<DevicePtr> = self.params.iter_mut().map(Buffer::device).collect();
        let pointers = device(&mut pointers);
        for (i, batch) in self.batches.iter().enumerate() {
            let storage = core.table[batch.tensor].storage();
            let theta = match storage.param {
                Format::Native => Theta::native(pointers),
                _ => Theta::bf16(pointers, array(&mut self.headers[i], 1)),
            };
            let theta = if storage.master_weights { theta.with_master(array(&mut self.masters[i], batch.elements() + 3)) } else { theta };
            f(i, batch, batch.pieces(&mut self.rooms[i]), theta, storage);
            self.headers[i].iter_mut().for_each(|header| header.step += 1);
        }
    }

    /// A step of gradient descent: the gradient is the update.
    fn descend(&mut self, core: &Core, grads: &mut [Buffer], call: Call, scalars_on_device: bool) {
        let mut pointers: Vec<DevicePtr> = grads.iter_mut().map(Buffer::device).collect();
        let grads = device(&mut pointers);
        let mut numbers = Vec::from([call.lr, call.grad_scale]);
        let numbers = device(&mut numbers);
        let number = |i: usize, x: f32| if scalars_on_device { Scalar::at(numbers.offset::<f32>(i)) } else { Scalar::of(x) };
        self.each(core, |_, batch, pieces, theta, storage| {
            let config = core.table[batch.tensor].config(&core.groups);
            let (mut queue, n, items) = (EmulatorQueue::default(), batch.elements(), Items::all(batch.count()));
            let mut update = vec![0f32; n * batch.places.len()];
            let update = array(&mut update, n);
            let source = Source { pieces, pointers: grads, format: storage.grad };
            let scaled = Transform::scaled(number(1, call.grad_scale));
            let transform = match config.weight_decay_kind {
                WeightDecay::L2 => scaled.penalised(Penalty { decay: config.weight_decay, theta }),
                _ => scaled,
            };
            gather(&mut queue, items, &source, &transform, update).unwrap();
            let (weight_decay, kind) = (config.weight_decay, config.weight_decay_kind);
            let decay = Decay { lr: number(0, call.lr).with_factor(config.lr_scale), weight_decay, kind };
            commit_param(&mut queue, items, &pieces, theta, &Update::by(update), &decay, storage.rounding).unwrap();
        });
    }

    fn check(&self, core: &mut Core, params: &[Buffer], what: &str) {
        for (i, (own, param)) in self.params.iter().zip(params).enumerate() {
            assert!(own.bits() == param.bits(), "{what}: parameter {i}");
        }
        let mut scratch = core.scratch.clone();
        let masters: Vec<bool> = core.table.iter().map(|tensor| tensor.storage().master_weights).collect();
        for (batch, master) in self.batches.iter().zip(&self.masters).filter(|(batch, _)| masters[batch.tensor]) {
            let n = batch.elements();
            for (place, own) in batch.places.iter().zip(master.chunks(n + 3)) {
                let mut expected = vec![0f32; n];
                let optimizer: Optimizer<'_, f32> = core.optimizer();
                optimizer.read(batch.tensor, place.slice as usize, StatePart::Master, &mut expected, &mut scratch, &mut Portable).unwrap();
                assert!(bits(&own[..n]) == bits(&expected), "{what}: master of {place:?}");
                assert_eq!(own[n..], [0.0; 3]);
            }
        }
    }
}

fn numbers(core: &Core, format: impl Fn(&Storage) -> Format, mut number: impl FnMut() -> f32) -> Vec<Buffer> {
    core.table.iter().map(|tensor| Buffer::new(format(tensor.storage()), tensor.span(), &mut number)).collect()
}

/// All formats, kinds of decay and ways to round, on all shapes.
#[test]
fn gradient_descent_is_the_cores() {
    let base = Config { momentum: Momentum::None, ..Config::<f32>::sgd() };
    let kinds = [WeightDecay::Before, WeightDecay::After, WeightDecay::L2, WeightDecay::Independent];
    let groups: Vec<Config<f32>> = kinds
        .iter()
        .zip([(0.1, 1.0), (0.3, 0.37), (0.2, 2.0), (0.05, 0.5)])
        .map(|(&kind, (weight_decay, lr_scale))| Config { weight_decay_kind: kind, weight_decay, lr_scale, ..base })
        .chain([base])
        .collect();
    let params = [
        Storage::DENSE,
        Storage { param: Format::Bf16, ..Storage::DENSE },
        Storage { param: Format::Bf16, rounding: stochastic(5), ..Storage::DENSE },
        Storage { param: Format::Bf16, master_weights: true, ..Storage::DENSE },
        Storage { param: Format::Bf16, master_weights: true, rounding: stochastic(u64::MAX), ..Storage::DENSE },
    ];
    for grad in [Format::Native, Format::Bf16, Format::F16] {
        let mut specs: Vec<TensorSpec> = Vec::new();
        for group in 0..groups.len() {
            for param in params {
                specs.extend(shapes(Storage { grad, grad_scaling: true, ..param }).into_iter().map(|spec| spec.group(group)));
            }
        }
        let mut core = Core::new(&groups, &specs);
        let mut random = Random(21);
        let mut params = numbers(&core, |storage| storage.param, || random.finite());
        let mut on_device = Device::new(&core, &params);
        let start: Vec<_> = params.iter().map(Buffer::bits).collect();
        for (t, call) in [Call { lr: 0.02, grad_scale: 1.0 }, Call { lr: 0.3, grad_scale: 0.125 }, Call { lr: 1e-3, grad_scale: 3.3 }]
            .into_iter()
            .enumerate()
        {
            let mut grads = numbers(&core, |storage| storage.grad, || random.finite());
            step(&mut core, &mut params, false, &grads, call);
            on_device.descend(&core, &mut grads, call, t % 2 == 1);
            on_device.check(&mut core, &params, &format!("{grad:?}, step {t}"));
        }
        assert!(params.iter().zip(&start).all(|(param, start)| param.bits() != *start));
    }
}

/// Two optimizers: one writes its directions, the other one moves parameters; these directions move the device's.
#[test]
fn directions_of_any_method_move_the_same() {
    let whole = Config { weight_decay: 0.1, ..Config::<f32>::kl_shampoo() };
    let groups = vec![
        whole,
        Config { block_size: 3, ..whole },
        Config { merge_dims: 40, weight_decay_kind: WeightDecay::After, ..whole },
        Config { block_size: 4, max_dim: 3, weight_decay_kind: WeightDecay::Independent, lr_scale: 0.3, ..whole },
        Config { weight_decay: 0.1, ..Config::<f32>::adamw() },
    ];
    let kept = [
        storage(Format::Bf16, Format::Native),
        storage(Format::Native, Format::Bf16),
        Storage { rounding: stochastic(99), ..storage(Format::F16, Format::Bf16) },
    ];
    let mut specs: Vec<TensorSpec> = Vec::new();
    for (group, storage) in (0..groups.len()).flat_map(|group| kept.map(|storage| (group, storage))) {
        // Those that take the core long are left out.
        specs.extend(shapes(storage).into_iter().take(13).map(|spec| spec.group(group)));
    }
    let (mut core, mut twin) = (Core::new(&groups, &specs), Core::new(&groups, &specs));
    let mut random = Random(33);
    let mut params = numbers(&core, |storage| storage.param, || random.number());
    let mut on_device = Device::new(&core, &params);
    for t in 0..3 {
        let call = Call { lr: 0.05, grad_scale: 0.5 };
        let grads = numbers(&core, |storage| storage.grad, || random.number() * 1e-3);
        let mut directions = numbers(&core, |_| Format::Native, || -77.0);
        step(&mut core, &mut params, false, &grads, call);
        step(&mut twin, &mut directions, true, &grads, call);
        let mut copies = numbers(&core, |_| Format::Native, || -77.0);
        let tables = [&mut directions, &mut copies].map(|table| table.iter_mut().map(Buffer::device).collect::<Vec<_>>());
        let [from, to] = tables.each_ref().map(|table| {
            // SAFETY: a table that is read while it lives.
            unsafe { DevicePtr::new(table.as_ptr().expose_provenance() as u64) }
        });
        on_device.each(&core, |_, batch, pieces, theta, storage| {
            let config = core.table[batch.tensor].config(&core.groups);
            let (mut queue, n, items) = (EmulatorQueue::default(), batch.elements(), Items::all(batch.count()));
            let mut dense = vec![0f32; n * batch.places.len()];
            let update: Array = array(&mut dense, n);
            let source = Source { pieces, pointers: from, format: Format::Native };
            gather(&mut queue, items, &source, &Transform::NONE, update).unwrap();
            write_direction(&mut queue, items, &pieces, to, &Update::by(update)).unwrap();
            let (weight_decay, kind) = (config.weight_decay, config.weight_decay_kind);
            let decay = Decay { lr: Scalar::of(call.lr).with_factor(config.lr_scale), weight_decay, kind };
            commit_param(&mut queue, items, &pieces, theta, &Update::by(update), &decay, storage.rounding).unwrap();
        });
        on_device.check(&mut core, &params, &format!("step {t}"));
        // Every element of the directions has been written back to its place, and no gap.
        assert!(directions.iter().zip(&copies).all(|(a, b)| a.bits() == b.bits()), "step {t}");
    }
}
