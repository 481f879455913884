//! Whole steps through the driver, on memory that it allocates and on the caller's streams: with what stands in for a driver, or on a device with
//! `KLS_TEST_DEVICE=1`.

#[path = "common/choice.rs"]
mod choice;
#[path = "common/on_driver.rs"]
mod on_driver;

use std::ptr::null_mut;

use cust::sys;
use klshampoo::{Config, SliceHeader, Tensor, TensorSpec, Totals};
use klshampoo_cuda::batch::{Array, Items};
use klshampoo_cuda::driver::{Blas, Event, Factor, Gemm, Input, Launcher, Memory, Precision};
use klshampoo_cuda::io::{self, Scalar};
use klshampoo_cuda::queue::DevicePtr;
use klshampoo_cuda::step::{DeviceOptimizer, Options, Program, Transferred};
use on_driver::{Owned, bytes_of, copy_of, floats, kernels, noise, ok};

const PERIOD: u32 = 3;

const SHAPES: [[usize; 2]; 3] = [[6, 5], [4, 4], [6, 5]];

/// An optimizer in memory of the driver's, on a stream of its own.
struct Run {
    stream: Owned,
    optimizer: DeviceOptimizer,
    block: Memory,
    params: Vec<Memory>,
    grads: Vec<Memory>,
    rate: Memory,
    headers: usize,
    seed: u32,
    step: u32,
}

impl Run {
    fn new(seed: u32) -> Self {
        let (kernels, stream) = (kernels(), Owned::new());
        let groups = [Config { refresh_period: PERIOD, ..Config::<f32>::kl_shampoo() }];
        let mut totals = Totals::default();
        let table = SHAPES.map(|[m, n]| Tensor::resolve(&TensorSpec::matrix(m, n), &groups, &mut totals).unwrap());
        let program = Program::new(&groups, &table, &Options::default()).unwrap();
        let block = Memory::allocate(kernels.context(), program.bytes().total).unwrap();
        let mut optimizer = DeviceOptimizer::new(program, block.at());
        optimizer.prepare(&mut kernels.on(stream.get()).unwrap()).unwrap();
        let all = |seed: u32| SHAPES.iter().map(|[m, n]| copy_of(stream.get(), &noise(seed, m * n))).collect();
        let (params, grads) = (all(seed), all(seed + 1));
        let rate = copy_of(stream.get(), &[0.01]);
        Self { optimizer, block, params, grads, rate, headers: totals.slices, seed, step: 0, stream }
    }

    fn launch(&mut self, queue: &mut Launcher<'_>) {
        let pointers = |all: &[Memory]| all.iter().map(Memory::at).collect::<Vec<DevicePtr>>();
        let (params, grads) = (pointers(&self.params), pointers(&self.grads));
        self.optimizer.step(queue, &params, &grads, Scalar::at(self.rate.at()), Scalar::ONE).unwrap();
    }

    /// Puts the next step's gradients and rate where the step finds them.
    fn deliver(&mut self) {
        self.step += 1;
        for (i, (grad, [m, n])) in self.grads.iter().zip(SHAPES).enumerate() {
            grad.write(self.stream.get(), 0, bytes_of(&noise(self.seed + 100 * self.step + i as u32, m * n))).unwrap();
        }
        self.rate.write(self.stream.get(), 0, bytes_of(&[0.01 / self.step as f32])).unwrap();
    }

    fn steps(&mut self, count: usize) {
        for _ in 0..count {
            self.deliver();
            let mut queue = kernels().on(self.stream.get()).unwrap();
            self.launch(&mut queue);
        }
    }

    /// The bits of all parameters and of the state, and the headers.
    fn all(&self) -> (Vec<Vec<u8>>, Vec<SliceHeader>) {
        let mut headers = vec![SliceHeader::NEW; self.headers];
        let mut bits: Vec<Vec<u8>> = self.params.iter().map(|param| bytes_of(&floats(self.stream.get(), param)).to_vec()).collect();
        for transfer in self.optimizer.transfers() {
            let mut bytes = vec![0; transfer.bytes];
            self.block.read(self.stream.get(), transfer.device_bytes, &mut bytes).unwrap();
            if transfer.what == Transferred::Headers {
                // SAFETY: a header is `repr(C)`, numbers only, and as long.
                headers[transfer.first] = unsafe { std::ptr::read_unaligned(bytes.as_ptr().cast()) };
            }
            bits.push(bytes);
        }
        (bits, headers)
    }
}

#[test]
fn memory_is_filled_and_copied() {
    let (kernels, stream) = (kernels(), Owned::new());
    let from = copy_of(stream.get(), &noise(1, 1000));
    let to = copy_of(stream.get(), &vec![0.0; 1000]);
    let mut queue = kernels.on(stream.get()).unwrap();
    let array = |memory: &Memory, offset| Array { base: memory.at(), stride: 1000 }.offset::<f32>(offset);
    io::copy(&mut queue, Items::all(1), array(&from, 0), array(&to, 0), 700).unwrap();
    io::fill(&mut queue, Items::all(1), array(&to, 700), 200, 1f32.to_bits()).unwrap();
    let found = floats(stream.get(), &to);
    assert_eq!(found[..700], noise(1, 1000)[..700]);
    assert_eq!(found[700..900], [1.0; 200]);
    assert_eq!(found[900..], [0.0; 100]);
}

/// Optimizers on streams of their own, stepped by threads of their own at once, do what each does alone.
#[test]
fn several_streams() {
    const STEPS: usize = 7;
    let alone: Vec<_> = (0..4)
        .map(|seed| {
            let mut run = Run::new(1000 * seed);
            run.steps(STEPS);
            run.all()
        })
        .collect();
    assert_ne!(alone[0], alone[1]);
    assert!(alone.iter().flat_map(|run| &run.1).all(|header| header.step == STEPS as u64 && header.refreshes > 0));
    std::thread::scope(|scope| {
        for (seed, alone) in alone.iter().enumerate() {
            scope.spawn(move || {
                let mut run = Run::new(1000 * seed as u32);
                run.steps(STEPS);
                assert!(run.all() == *alone, "{seed}");
            });
        }
    });
}

/// T captured steps, replayed 3T steps long, are the steps themselves, bit for bit, and so are those that follow.
#[test]
fn captured_steps_are_the_steps() {
    let (mut eager, mut replayed) = (Run::new(5), Run::new(5));
    for run in [&mut eager, &mut replayed] {
        run.steps(4);
        let headers = run.all().1;
        run.optimizer.observed(&headers);
        assert!(!run.optimizer.may_start());
    }
    let before = replayed.all();
    let stream = replayed.stream.get().as_raw().cast();
    let graphs: Vec<sys::CUgraphExec> = (0..PERIOD)
        .map(|_| {
            let mut queue = kernels().on(replayed.stream.get()).unwrap();
            let (mut graph, mut executable) = (null_mut(), null_mut());
            let own = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
            // SAFETY: a stream that lives, whose context the queue keeps current; it is told where to write.
            ok(unsafe { sys::cuStreamBeginCapture_v2(stream, own) });
            replayed.launch(&mut queue);
            // SAFETY: the same; the graph is destroyed once.
            unsafe {
                ok(sys::cuStreamEndCapture(stream, &mut graph));
                ok(sys::cuGraphInstantiate_v2(&mut executable, graph, null_mut(), null_mut(), 0));
                ok(sys::cuGraphDestroy(graph));
            }
            executable
        })
        .collect();
    assert!(replayed.all() == before, "recorded is not run");
    for step in 0..3 * PERIOD as usize {
        eager.steps(1);
        replayed.deliver();
        let _queue = kernels().on(replayed.stream.get()).unwrap();
        // SAFETY: a graph and a stream that live.
        ok(unsafe { sys::cuGraphLaunch(graphs[step % graphs.len()], stream) });
        assert!(eager.all() == replayed.all(), "step {step}");
    }
    // Those of the capture count as made.
    replayed.optimizer.replayed(2 * u64::from(PERIOD)).unwrap();
    for step in 0..4 {
        eager.steps(1);
        replayed.steps(1);
        assert!(eager.all() == replayed.all(), "{step} steps later");
    }
    let _entered = kernels().context().enter().unwrap();
    for graph in graphs {
        // SAFETY: destroyed once.
        ok(unsafe { sys::cuGraphExecDestroy(graph) });
    }
}

/// A gradient that is not a number leaves its tensor as it is and is counted; the others go on, and the next step is as if there had been none.
#[test]
fn not_a_number() {
    let mut run = Run::new(9);
    run.steps(2);
    let before: Vec<_> = run.params.iter().map(|param| floats(run.stream.get(), param)).collect();
    run.deliver();
    run.grads[1].write(run.stream.get(), 4 * 7, bytes_of(&[f32::NAN])).unwrap();
    {
        let mut queue = kernels().on(run.stream.get()).unwrap();
        run.launch(&mut queue);
    }
    let after: Vec<_> = run.params.iter().map(|param| floats(run.stream.get(), param)).collect();
    assert_eq!(before[1], after[1]);
    assert!(before[0] != after[0] && before[2] != after[2]);
    let counted = |run: &Run| run.all().1.iter().map(|header| (header.step, header.skipped)).collect::<Vec<_>>();
    assert_eq!(counted(&run), [(3, 0), (2, 1), (3, 0)]);
    run.steps(1);
    assert_eq!(counted(&run), [(4, 0), (3, 1), (4, 0)]);
    assert!(run.params.iter().all(|param| floats(run.stream.get(), param).iter().all(|x| x.is_finite())));
}

#[test]
fn time_goes_by() {
    let (kernels, stream) = (kernels(), Owned::new());
    let (mut from, mut to) = (Event::new(kernels.context()).unwrap(), Event::new(kernels.context()).unwrap());
    let memory = copy_of(stream.get(), &noise(2, 100_000));
    assert!(to.milliseconds_since(&from).is_err(), "nowhere yet");
    let mut queue = kernels.on(stream.get()).unwrap();
    from.record(&queue).unwrap();
    io::fill(&mut queue, Items::all(1), Array { base: memory.at(), stride: 0 }, 100_000, 0).unwrap();
    to.record(&queue).unwrap();
    let milliseconds = to.milliseconds_since(&from).unwrap();
    assert!(milliseconds > 0.0 && milliseconds < 60_000.0, "{milliseconds}");
}

#[test]
fn products_of_cublas() {
    let (kernels, stream) = (kernels(), Owned::new());
    let workspace = Memory::allocate(kernels.context(), Blas::WORKSPACE).unwrap();
    let Some(mut blas) = Blas::open(kernels.context(), workspace).unwrap() else {
        eprintln!("NOT RUN: there is no cuBLAS");
        return;
    };
    let (m, n, k, count) = (17, 9, 33, 3);
    let (a, b) = (noise(3, count * m * k), noise(4, count * k * n));
    let (a_memory, b_memory) = (copy_of(stream.get(), &a), copy_of(stream.get(), &b));
    for (precision, bound) in [(Precision::Fp32, 1e-5), (Precision::Tf32, 2e-2), (Precision::Bf16, 2e-1)] {
        let c = copy_of(stream.get(), &vec![f32::NAN; count * m * n]);
        let gemm = Gemm {
            m,
            n,
            k,
            count,
            alpha: 1.0,
            a: Factor { at: a_memory.at(), leading: k, stride: m * k, transposed: false },
            b: Factor { at: b_memory.at(), leading: n, stride: k * n, transposed: false },
            input: Input::F32,
            beta: 0.0,
            c: c.at(),
            c_leading: n,
            c_stride: m * n,
            precision,
        };
        let queue = kernels.on(stream.get()).unwrap();
        // SAFETY: three blocks of so many matrices.
        unsafe { blas.gemm_strided_batched(&queue, &gemm) }.unwrap();
        for (at, found) in floats(stream.get(), &c).into_iter().enumerate() {
            let (item, i, j) = (at / (m * n), at / n % m, at % n);
            let term = |l: usize| f64::from(a[(item * m + i) * k + l]) * f64::from(b[(item * k + l) * n + j]);
            let exact: f64 = (0..k).map(term).sum();
            assert!((f64::from(found) - exact).abs() < bound, "{precision:?}: {found}, {exact}");
        }
    }
}
