//! Parameters and gradients as their owners store them: formats, strides, scales, directions alone. Whatever the storage, a step is that of
//! plain numbers of the same values, bit for bit.

use klshampoo::linalg::Portable;
use klshampoo::{
    BadGradient, Bf16Mut, Config, Elements, ElementsMut, Format, Halves, Rounding, ShapeError, SliceBuffers, SliceError, StatePart,
    StepError, StepErrorKind, StepReport, Storage, TableError, Target, Tensor, TensorSpec, Totals, WeightDecay,
};
use klshampoo_tests::cases::{Gradients, Xorshift};
use klshampoo_tests::harness::{Core, converted, methods};

const LR: f32 = 0.02;
const STEPS: usize = 14;
type Plain = Core<f32, Portable>;

/// The bf16 nearest to each number, by the rule of the format and not by the library's code.
fn to_bf16(x: f32) -> u16 {
    half::bf16::from_f32(x).to_bits()
}

fn from_bf16(bits: u16) -> f32 {
    half::bf16::from_bits(bits).to_f32()
}

fn rounded(values: &[f32]) -> Vec<f32> {
    values.iter().map(|&x| from_bf16(to_bf16(x))).collect()
}

/// What a step is made with besides the parameter.
struct Call<'a, G: ?Sized> {
    grad: &'a G,
    grad_scale: f32,
    lr: f32,
}

impl<'a> Call<'a, [f32]> {
    fn plain(grad: &'a [f32]) -> Self {
        Self { grad, grad_scale: 1.0, lr: LR }
    }
}

/// Steps the one slice of tensor 0.
fn step_with<P: ElementsMut<f32> + ?Sized, G: Elements<f32> + ?Sized>(
    core: &mut Plain,
    target: Target<'_, P>,
    call: Call<'_, G>,
) -> Result<StepReport, StepError> {
    let (mut optimizer, scratch, linalg) = core.view();
    optimizer.check(0..1, |_, _| Some(call.grad), call.lr, call.grad_scale)?;
    let refreshes = optimizer.refreshes(0..1, |_| true);
    let mut report = StepReport::default();
    let buffers = SliceBuffers { target, grad: call.grad, grad_scale: call.grad_scale };
    let job = optimizer.jobs(0..1, call.lr, refreshes).next().unwrap();
    job.run(buffers, scratch, linalg, &mut report).map(|()| report)
}

/// Steps a parameter that is stored in a format; `values` are its numbers.
fn step_stored(core: &mut Plain, values: &mut [f32], grad: &[f32]) -> Result<StepReport, StepError> {
    match core.tensors[0].storage().param {
        Format::Native => step_with(core, Target::Parameter(values), Call::plain(grad)),
        _ => {
            let mut bits: Vec<u16> = values.iter().map(|&x| to_bf16(x)).collect();
            let done = step_with(core, Target::Parameter(&mut Bf16Mut(&mut bits)), Call::plain(grad));
            values.iter_mut().zip(&bits).for_each(|(x, &bits)| *x = from_bf16(bits));
            done
        }
    }
}

fn spec(dims: &[usize]) -> TensorSpec {
    TensorSpec::new(dims).unwrap()
}

fn start(n: usize) -> Vec<f32> {
    let mut random = Xorshift::for_shape(&[n]);
    (0..n).map(|_| random.uniform() as f32 * 0.3).collect()
}

fn gradients(dims: &[usize]) -> Vec<Vec<f32>> {
    Gradients::LowRankDrift.make(dims, STEPS).grads.iter().map(|grad| converted(grad)).collect()
}

/// Every method, with the shapes that take different ways through a step.
fn cases() -> Vec<(String, Config<f32>, Vec<usize>)> {
    let shapes: [&[usize]; 4] = [&[6, 4], &[3, 2, 4], &[7], &[1, 5]];
    let with_l2 = |config: Config<f32>| Config { weight_decay: 0.1, weight_decay_kind: WeightDecay::L2, ..config };
    let all = methods::<f32>().into_iter().flat_map(|(name, config)| {
        let decayed = Config { weight_decay: 0.1, ..config };
        [(name.clone(), decayed), (format!("{name}, L2"), with_l2(config))]
    });
    all.flat_map(|(name, config)| shapes.iter().map(move |dims| (format!("{name} {dims:?}"), config, dims.to_vec())))
        .filter(|(_, config, dims)| Tensor::resolve(&spec(dims), &[*config], &mut Totals::default()).is_ok())
        .collect()
}

#[test]
fn gradients_of_16_bits_are_their_numbers() {
    for (name, config, dims) in cases() {
        for format in [Format::Bf16, Format::F16] {
            let n = dims.iter().product();
            let mut plain = Plain::table(&[config], &[spec(&dims)]);
            let mut half = Plain::table(&[config], &[spec(&dims).storage(Storage { grad: format, ..Storage::DENSE })]);
            let (mut a, mut b) = (start(n), start(n));
            for grad in gradients(&dims) {
                let bits: Vec<u16> = match format {
                    Format::F16 => grad.iter().map(|&x| half::f16::from_f32(x).to_bits()).collect(),
                    _ => grad.iter().map(|&x| to_bf16(x)).collect(),
                };
                let values: Vec<f32> = match format {
                    Format::F16 => bits.iter().map(|&x| half::f16::from_bits(x).to_f32()).collect(),
                    _ => bits.iter().map(|&x| from_bf16(x)).collect(),
                };
                plain.try_step(std::slice::from_mut(&mut a), &[Some(values)], LR).unwrap();
                let call = Call { grad: &Halves::new(format, &bits), grad_scale: 1.0, lr: LR };
                step_with(&mut half, Target::Parameter(&mut b[..]), call).unwrap();
            }
            assert_eq!((a, &plain.state, &plain.headers), (b, &half.state, &half.headers), "{name}");
        }
    }
}

#[test]
fn a_scaled_gradient_is_the_product() {
    for (name, config, dims) in cases() {
        let n = dims.iter().product();
        let mut plain = Plain::table(&[config], &[spec(&dims)]);
        let mut scaled = Plain::table(&[config], &[spec(&dims).storage(Storage { grad_scaling: true, ..Storage::DENSE })]);
        let (mut a, mut b) = (start(n), start(n));
        for (t, grad) in gradients(&dims).into_iter().enumerate() {
            let scale = if t % 3 == 0 { 1.0 } else { 0.37 };
            plain.try_step(std::slice::from_mut(&mut a), &[Some(grad.iter().map(|x| x * scale).collect())], LR).unwrap();
            let call = Call { grad_scale: scale, ..Call::plain(&grad) };
            step_with(&mut scaled, Target::Parameter(&mut b[..]), call).unwrap();
        }
        assert_eq!((a, &plain.state), (b, &scaled.state), "{name}");
    }
}

/// A bf16 parameter is the f32 run, rounded after every step; with master weights it is the rounded copy of an f32 run.
#[test]
fn parameters_of_16_bits() {
    for (name, config, dims) in cases() {
        for master_weights in [false, true] {
            let n: usize = dims.iter().product();
            let storage = Storage { param: Format::Bf16, master_weights, ..Storage::DENSE };
            let mut plain = Plain::table(&[config], &[spec(&dims)]);
            let mut half = Plain::table(&[config], &[spec(&dims).storage(storage)]);
            let mut a = rounded(&start(n));
            let mut b = a.clone();
            for grad in gradients(&dims) {
                plain.try_step(std::slice::from_mut(&mut a), &[Some(grad.clone())], LR).unwrap();
                step_stored(&mut half, &mut b, &grad).unwrap();
                assert_eq!(b, rounded(&a), "{name}, master {master_weights}");
                if master_weights {
                    assert_eq!(half.read_slice(0, 0, StatePart::Master), a, "{name}");
                } else {
                    a.clone_from(&b);
                }
            }
            let kept = plain.state.len();
            assert_eq!(half.state[..kept], plain.state, "{name}");
            assert_eq!(half.state.len(), kept + if master_weights { n } else { 0 });
        }
    }
}

/// Stochastic rounding moves parameters by steps that rounding to the nearest loses, repeats itself, and depends on the seed.
#[test]
fn stochastic_rounding_keeps_small_steps() {
    let (dims, lr) = ([8, 6], 1e-4);
    let run = |rounding: Rounding| {
        let storage = Storage { param: Format::Bf16, rounding, ..Storage::DENSE };
        let mut core = Plain::table(&[Config::<f32>::sgd()], &[spec(&dims).storage(storage)]);
        let mut param = vec![to_bf16(1.0); 48];
        for _ in 0..200 {
            let call = Call { lr, ..Call::plain(&[1.0; 48]) };
            step_with(&mut core, Target::Parameter(&mut Bf16Mut(&mut param)), call).unwrap();
        }
        param
    };
    let mean = |param: &[u16]| param.iter().map(|&bits| f64::from(from_bf16(bits))).sum::<f64>() / param.len() as f64;
    assert_eq!(mean(&run(Rounding::Nearest)), 1.0);
    let (a, b) = (run(Rounding::Stochastic { seed: 1 }), run(Rounding::Stochastic { seed: 2 }));
    // 200 steps of 1e-4 (the averaged momentum starts 20 steps short of that): 1 - 0.019.
    assert!((mean(&a) - 0.981).abs() < 0.004 && (mean(&b) - 0.981).abs() < 0.004, "{} {}", mean(&a), mean(&b));
    assert_eq!(a, run(Rounding::Stochastic { seed: 1 }));
    assert_ne!(a, b);
}

/// The direction alone: a caller that applies it gets the same parameters, and the state is the same.
#[test]
fn a_direction_alone_is_what_a_step_applies() {
    let mut stepped = 0;
    for (name, config, dims) in cases() {
        let l2 = config.weight_decay_kind == WeightDecay::L2;
        let config = if l2 { config } else { Config { weight_decay: 0.0, ..config } };
        let n = dims.iter().product();
        let (mut plain, mut direct) = (Plain::table(&[config], &[spec(&dims)]), Plain::table(&[config], &[spec(&dims)]));
        let (mut a, mut b) = (start(n), start(n));
        for (t, grad) in gradients(&dims).into_iter().enumerate() {
            // Zeros come first: a step of a slice without a basis.
            let grad = if t < 2 { vec![0.0; n] } else { grad };
            // Some methods refuse gradients that come after zeros.
            let done = plain.try_step(std::slice::from_mut(&mut a), &[Some(grad.clone())], LR);
            let mut update = vec![f32::NAN; n];
            let target = Target::Direction { out: &mut update[..], param: l2.then_some(&b[..]) };
            assert_eq!(done, step_with(&mut direct, target, Call::plain(&grad)), "{name}");
            if done.is_err() {
                assert!(update.iter().all(|u| u.is_nan()), "{name}");
                continue;
            }
            stepped += 1;
            b.iter_mut().zip(&update).for_each(|(b, u)| *b -= LR * u);
        }
        assert_eq!((a, &plain.state, &plain.headers), (b, &direct.state, &direct.headers), "{name}");
    }
    assert!(stepped > 3000, "{stepped}");
}

/// Where elements lie does not matter, and what lies between them is left alone.
#[test]
fn strides_and_gaps() {
    const GAP: f32 = 7.25;
    let layouts: [(&[usize], &[usize]); 7] = [
        (&[6, 4], &[4, 1]),
        (&[6, 4], &[1, 6]),
        (&[6, 4], &[9, 1]),
        (&[6, 4], &[2, 13]),
        (&[3, 2, 4], &[1, 3, 6]),
        (&[3, 2, 4], &[40, 5, 1]),
        (&[7], &[3]),
    ];
    let mut stepped = 0;
    for (name, config, dims) in cases() {
        for (_, strides) in layouts.iter().filter(|layout| layout.0 == dims) {
            for param in [Format::Native, Format::Bf16] {
                let config = Config { block_size: if name.contains("adamw") { 0 } else { 3 }, ..config };
                let strides_of = std::array::from_fn(|k| strides.get(k).copied().unwrap_or(0));
                let extent = 1 + dims.iter().zip(*strides).map(|(d, stride)| (d - 1) * stride).sum::<usize>();
                let dense_spec = spec(&dims).storage(Storage { param, ..Storage::DENSE });
                let strided_spec = spec(&dims).storage(Storage { param, strides: Some(strides_of), ..Storage::DENSE });
                let (mut dense, mut strided) = (Plain::table(&[config], &[dense_spec]), Plain::table(&[config], &[strided_spec]));
                let scatter = |values: &[f32]| {
                    let mut out = vec![GAP; extent];
                    for (i, &x) in values.iter().enumerate() {
                        let (mut rest, mut offset) = (i, 0);
                        for k in (0..dims.len()).rev() {
                            offset += rest % dims[k] * strides[k];
                            rest /= dims[k];
                        }
                        out[offset] = x;
                    }
                    out
                };
                let mut a = rounded(&start(dims.iter().product()));
                let mut b = scatter(&a);
                for grad in gradients(&dims) {
                    // Small pieces of some methods' tensors refuse such gradients; so do both.
                    let done = step_stored(&mut dense, &mut a, &grad);
                    assert_eq!(done, step_stored(&mut strided, &mut b, &scatter(&grad)), "{name} {strides:?} {param:?}");
                    stepped += usize::from(done.is_ok());
                }
                assert_eq!(scatter(&a), b, "{name} {strides:?} {param:?}");
                // Its scratch has room for what an inspection copies.
                let grad = &gradients(&dims)[0];
                let objective = |core: &mut Plain, grad: &[f32]| {
                    let (optimizer, scratch, linalg) = core.view();
                    optimizer.objective(0, 0, grad, scratch, linalg)
                };
                assert_eq!(objective(&mut dense, grad), objective(&mut strided, &scatter(grad)), "{name} {strides:?}");
                assert_eq!(dense.state, strided.state, "{name} {strides:?} {param:?}");
            }
        }
    }
    assert!(stepped > 5000, "{stepped}");
}

/// Bad gradients leave everything as it was, in every format, also where a first step had begun to take master weights.
#[test]
fn a_bad_gradient_changes_nothing() {
    for (name, config, dims) in cases() {
        for (master_weights, skip) in [(false, false), (true, false), (true, true)] {
            let config = Config { bad_gradient: if skip { BadGradient::Skip } else { BadGradient::Error }, ..config };
            let storage = Storage { grad: Format::F16, param: Format::Bf16, master_weights, grad_scaling: true, ..Storage::DENSE };
            let mut core = Plain::table(&[config], &[spec(&dims).storage(storage)]);
            let n: usize = dims.iter().product();
            let good: Vec<u16> = gradients(&dims)[0].iter().map(|&x| half::f16::from_f32(x).to_bits()).collect();
            let mut param: Vec<u16> = start(n).iter().map(|&x| to_bf16(x)).collect();
            for steps in 0..2 {
                for (bits, scale) in [(0x7c00, 1.0), (0x7e00, 1.0), (0xfc00, 1.0), (0x7bff, f32::MAX)] {
                    let mut bad = good.clone();
                    bad[n - 1] = bits;
                    let before = (param.clone(), core.state.clone());
                    let call = Call { grad: &Halves::f16(&bad), grad_scale: scale, lr: LR };
                    let done = step_with(&mut core, Target::Parameter(&mut Bf16Mut(&mut param)), call);
                    match done {
                        Ok(report) => assert!(skip && report.skipped > 0 && report.stepped == 0, "{name}"),
                        Err(error) => assert!(!skip && matches!(error.kind, StepErrorKind::Slice(SliceError::Gradient(_))), "{name}"),
                    }
                    assert_eq!((&param, &core.state), (&before.0, &before.1), "{name}, after {steps} steps");
                    assert_eq!(core.headers[0].step, steps);
                }
                let call = Call { grad: &Halves::f16(&good), grad_scale: 1.0, lr: LR };
                step_with(&mut core, Target::Parameter(&mut Bf16Mut(&mut param)), call).unwrap();
            }
        }
    }
}

#[test]
fn what_does_not_fit_is_an_error() {
    let config = Config::<f32>::kl_shampoo();
    let resolve = |storage: Storage| Tensor::resolve(&spec(&[4, 3]).storage(storage), &[config], &mut Totals::default()).map(|_| ());
    let dense = Storage::DENSE;
    let stochastic = Rounding::Stochastic { seed: 1 };
    assert_eq!(resolve(Storage { param: Format::F16, ..dense }), Err(TableError::Format));
    assert_eq!(resolve(Storage { master_weights: true, ..dense }), Err(TableError::Format));
    assert_eq!(resolve(Storage { rounding: stochastic, ..dense }), Err(TableError::Format));
    let strides = |a, b| Storage { strides: Some([a, b, 0, 0, 0, 0]), ..dense };
    for (a, b) in [(2, 1), (0, 1), (3, 0), (1, 3), (usize::MAX, 1)] {
        assert_eq!(resolve(strides(a, b)), Err(TableError::Shape(ShapeError::Strides)), "{a} {b}");
    }
    assert_eq!(resolve(strides(3, 1)), Ok(()));
    let resolved = |spec: TensorSpec| Tensor::resolve(&spec, &[config], &mut Totals::default()).unwrap();
    assert_eq!(resolved(spec(&[4, 3]).storage(strides(3, 1))), resolved(spec(&[4, 3])), "dense strides are none");
    assert!(resolved(spec(&[4, 3]).storage(strides(4, 1))).storage().strides.is_some());
    let interleaved = spec(&[4, 3]).slices(2).slice_stride(3).storage(strides(6, 1));
    assert_eq!(Tensor::resolve(&interleaved, &[config], &mut Totals::default()), Err(TableError::SliceStride));

    let mut core = Plain::table(&[config], &[spec(&[4, 3])]);
    let (mut param, grad, mut bits) = ([0.0f32; 12], [1.0f32; 12], [0u16; 12]);
    let kind = |done: Result<StepReport, StepError>| done.unwrap_err().kind;
    let call = |grad_scale| Call { grad_scale, ..Call::plain(&grad) };
    for scale in [2.0, 0.0, -1.0, f32::NAN, f32::INFINITY] {
        assert_eq!(kind(step_with(&mut core, Target::Parameter(&mut param[..]), call(scale))), StepErrorKind::GradScale, "{scale}");
    }
    assert_eq!(kind(step_with(&mut core, Target::Parameter(&mut Bf16Mut(&mut bits)), call(1.0))), StepErrorKind::Format);
    assert_eq!(kind(step_with(&mut core, Target::Parameter(&mut param[..11]), call(1.0))), StepErrorKind::BufferLength);
    let halves = Call { grad: &Halves::bf16(&[0; 12]), grad_scale: 1.0, lr: LR };
    assert_eq!(kind(step_with(&mut core, Target::Parameter(&mut param[..]), halves)), StepErrorKind::Format);
    let l2 = Config { weight_decay: 0.1, weight_decay_kind: WeightDecay::L2, ..config };
    let mut core = Plain::table(&[l2], &[spec(&[4, 3])]);
    let target = Target::Direction { out: &mut param[..], param: None };
    assert_eq!(kind(step_with(&mut core, target, call(1.0))), StepErrorKind::ParameterMissing);
    let storage = Storage { param: Format::Bf16, master_weights: true, ..dense };
    let mut core = Plain::table(&[config], &[spec(&[4, 3]).storage(storage)]);
    let target = Target::Direction { out: &mut Bf16Mut(&mut bits), param: None };
    assert_eq!(kind(step_with(&mut core, target, call(1.0))), StepErrorKind::Format);
    assert!(core.headers.iter().all(|header| header.step == 0) && core.state.iter().all(|&x| x == 0.0));
}

/// All 65,536 halves of both kinds, widened, against the crate `half`.
#[test]
fn every_half_has_its_value() {
    let bits: Vec<u16> = (0..=u16::MAX).collect();
    let mut out = vec![0.0f32; bits.len()];
    Halves::bf16(&bits).read(0, 1, &mut out);
    assert!(bits.iter().zip(&out).all(|(&bits, &x)| x.to_bits() == u32::from(bits) << 16));
    Halves::f16(&bits).read(0, 1, &mut out);
    let same = |bits: u16, x: f32| half::f16::from_bits(bits).to_f32().to_bits() == x.to_bits() || x.is_nan();
    assert!(bits.iter().zip(&out).all(|(&bits, &x)| same(bits, x) && x.is_nan() == half::f16::from_bits(bits).is_nan()));
}
