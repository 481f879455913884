//! What must hold of the core whatever the numbers are.

use klshampoo::linalg::Portable;
use klshampoo::{
    BiasCorrection, Config, ConfigError, Damping, Direction, Eigenvalues, Estimator, FactorInit, FirstBasis, FirstStep, FixedOptimizer,
    Graft, LambdaInit, Mode, Momentum, Refresh, Scalar, SliceBuffers, StatePart, StepOrder, StepReport, TensorSpec, WeightDecay,
};
use klshampoo_tests::cases::{Gradients, HIGHER_ORDERS, MATRICES, Xorshift};
use klshampoo_tests::golden::{norm, rel_error};
use klshampoo_tests::harness::{Core, Driver, Number, converted, widened};
use klshampoo_tests::textbook::Matrix;
use proptest::prelude::*;

const LR: f64 = 0.01;

fn automatic(dims: &[usize]) -> Vec<Option<Mode>> {
    vec![None; dims.len()]
}

fn all(mode: Mode, dims: &[usize]) -> Vec<Option<Mode>> {
    vec![Some(mode); dims.len()]
}

/// A random orthogonal matrix, row-major.
fn orthogonal(d: usize, seed: u64) -> Vec<f64> {
    let mut random = Xorshift::for_shape(&[seed as usize, d]);
    let values: Vec<f64> = (0..d * d).map(|_| random.normal()).collect();
    Matrix { rows: d, cols: d, data: values }.qr().0.data
}

/// The largest element of `Q^T Q - I` over all bases.
fn orthogonality_error<T: Number>(core: &mut Core<T, Portable>) -> f64 {
    let shape = *core.tensors[0].layout().shape();
    let full = (0..shape.order()).filter(|&k| shape.is_full(k));
    let error = |k: usize| {
        let q = Matrix { rows: shape.dim(k), cols: shape.dim(k), data: widened(&core.read(StatePart::Basis(k))) };
        let gram = q.transposed().times(&q);
        gram.data.iter().zip(Matrix::identity(q.rows).data).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
    };
    full.map(error).fold(0.0, f64::max)
}

fn finite<T: Number>(core: &Core<T, Portable>, p: &[T]) -> bool {
    core.state.iter().chain(p).all(|x| x.is_finite_bits())
}

/// A tensor of the table of shapes.
fn dims() -> impl Strategy<Value = &'static [usize]> {
    let shapes: Vec<_> = MATRICES.iter().chain(HIGHER_ORDERS).map(|shape| shape.dims).collect();
    prop::sample::select(shapes)
}

/// Any method with factors, every axis drawn for itself; what does not go together is mended afterwards.
fn config() -> impl Strategy<Value = Config<f32>> {
    let estimator = prop::sample::select(vec![
        Estimator::KullbackLeibler,
        Estimator::OneSided,
        Estimator::Shampoo,
        Estimator::VonNeumann,
        Estimator::Frobenius,
        Estimator::FrobeniusFactor,
    ]);
    let eigenvalues = prop::sample::select(vec![
        Eigenvalues::Average,
        Eigenvalues::Instantaneous,
        Eigenvalues::InstantaneousAfterRefresh,
        Eigenvalues::AtRefresh,
    ]);
    let refresh = (
        prop::sample::select(vec![Refresh::Qr, Refresh::HouseholderQr, Refresh::Eigendecomposition]),
        any::<bool>(),
        1u32..8,
        0u32..2,
        0u32..20,
    );
    let staleness = prop_oneof![Just(0f32), 1e-4f32..0.5];
    let direction = prop_oneof![
        (0.05f32..=1.0).prop_map(Direction::KroneckerPower),
        Just(Direction::ShampooRoot),
        Just(Direction::TraceScaled),
        Just(Direction::SecondMoment),
    ];
    let graft = prop::sample::select(vec![Graft::None, Graft::None, Graft::Adam, Graft::Sgd, Graft::RmsProp, Graft::AdaGrad]);
    let order = prop::sample::select(vec![StepOrder::EstimateFirst, StepOrder::ApplyFirst]);
    let first_step = prop::sample::select(vec![FirstStep::Full, FirstStep::FactorsOnly]);
    let first_basis = prop::sample::select(vec![FirstBasis::Gradient, FirstBasis::Identity]);
    let factor_init = prop::sample::select(vec![FactorInit::Zero, FactorInit::Lambda]);
    let lambda = prop_oneof![Just(LambdaInit::ScaleFree), (1e-12f32..1e3).prop_map(LambdaInit::Constant)];
    let momentum = prop::sample::select(vec![Momentum::Average, Momentum::Nesterov, Momentum::None]);
    let correction = prop::sample::select(vec![BiasCorrection::None, BiasCorrection::StepSize, BiasCorrection::Moments]);
    let damping = prop::sample::select(vec![Damping::Denominator, Damping::Factor]);
    let decay = prop::sample::select(vec![WeightDecay::Before, WeightDecay::After, WeightDecay::L2, WeightDecay::Independent]);
    // A clamp, gauge rebalancing, or neither.
    let scale = prop_oneof![Just((None, true)), Just((None, false)), (1f32..5000.0).prop_map(|limit| (Some(limit), false))];
    let numbers = (0f32..0.999, 0f32..0.999, prop::sample::select(vec![0f32, 1e-8, 1e-3]), 0f32..0.5);
    let cap = prop::option::of(1e-6f32..10.0);
    (
        (estimator, eigenvalues, refresh, staleness, direction, graft),
        (order, first_step, first_basis, factor_init, lambda, momentum),
        (correction, damping, decay, scale, numbers, cap),
    )
        .prop_map(|(method, start, rest)| {
            let (estimator, eigenvalues, (refresh, sort, period, offset, growth), staleness, direction, graft) = method;
            let (step_order, first_step, first_basis, factor_init, lambda_init, momentum) = start;
            let (bias_correction, damping, weight_decay_kind, (clamp_limit, gauge), numbers, rms_cap) = rest;
            mended(Config {
                estimator,
                eigenvalues,
                refresh,
                sort,
                refresh_period: period,
                refresh_offset: offset,
                refresh_growth: growth,
                staleness,
                direction,
                graft,
                rms_cap,
                step_order,
                first_step,
                first_basis,
                factor_init,
                lambda_init,
                momentum,
                beta1: numbers.0,
                beta2: numbers.1,
                bias_correction,
                eps: numbers.2,
                damping,
                weight_decay: numbers.3,
                weight_decay_kind,
                clamp_limit,
                gauge,
                ..Config::<f32>::kl_shampoo()
            })
        })
}

/// The nearest configuration that is accepted and does not ask for numbers beyond the type's range.
fn mended(mut config: Config<f32>) -> Config<f32> {
    // The gradient of a penalty grows with the parameter: without a bound on the steps both may run away.
    if config.weight_decay_kind == WeightDecay::L2 {
        config.rms_cap = Some(config.rms_cap.unwrap_or(1.0));
    }
    // F-Shampoo's first factors divide by the squares of the other modes' first eigenvalues.
    if let (Estimator::Frobenius | Estimator::FrobeniusFactor, LambdaInit::Constant(lambda)) = (config.estimator, config.lambda_init) {
        config.lambda_init = LambdaInit::Constant(lambda.max(1e-3));
    }
    while let Err(error) = config.validate() {
        match error {
            ConfigError::TraceScaledEstimator => config.estimator = Estimator::Shampoo,
            ConfigError::FactorDamping => config.damping = Damping::Denominator,
            ConfigError::ZeroFactors => config.factor_init = FactorInit::Lambda,
            ConfigError::StepSizeCorrection => config.bias_correction = BiasCorrection::Moments,
            ConfigError::FirstBasis => config.first_basis = FirstBasis::Gradient,
            ConfigError::ClampLimit => config.clamp_limit = None,
            ConfigError::Gauge => config.gauge = false,
            other => panic!("{other:?}: {config:?}"),
        }
    }
    config
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_configuration_keeps_its_state_sound(
        config in config(),
        dims in dims(),
        gradients in prop::sample::select(Gradients::ALL.to_vec()),
    ) {
        let problem = gradients.make(dims, 40);
        let mut core = Core::<f32, Portable>::new(&config, dims, &automatic(dims));
        let mut p: Vec<f32> = converted(&problem.p0);
        for grad in &problem.grads {
            core.step(&mut p, &converted::<f32>(grad), LR as f32);
            prop_assert!(finite(&core, &p));
        }
        let header = core.headers[0];
        prop_assert_eq!((header.step, header.refresh_failures), (40, 0));
        let penalised = config.weight_decay_kind == WeightDecay::L2 && config.weight_decay > 0.0;
        prop_assert_eq!(header.started, u32::from(gradients != Gradients::Zero || penalised));
        if header.started == 1 {
            prop_assert!(orthogonality_error(&mut core) < 1e-5);
            let layout = *core.tensors[0].layout();
            for (k, &d) in dims.iter().enumerate().filter(|&(k, _)| layout.shape().is_full(k)) {
                if layout.has_lambda(k) {
                    prop_assert!(core.read(StatePart::Eigenvalues(k)).iter().all(|&l| l >= f32::FLOOR));
                }
                let factor = core.read(StatePart::Factor(k));
                prop_assert!((0..d * d).all(|at| factor[at] == factor[at % d * d + at / d]));
                prop_assert!((0..d).all(|i| factor[i * d + i] >= -1e-5 * factor.iter().fold(0.0, |a, &x| x.abs().max(a))));
            }
        }
    }

    /// The same inputs give the same bits, whatever the scratch held before.
    #[test]
    fn scratch_is_no_state(config in config(), dims in dims(), gradients in prop::sample::select(Gradients::ALL.to_vec())) {
        let problem = gradients.make(dims, 12);
        let mut clean = Core::<f32, Portable>::new(&config, dims, &automatic(dims));
        let mut dirty = clean.clone();
        let mut p: [Vec<f32>; 2] = [converted(&problem.p0), converted(&problem.p0)];
        for grad in &problem.grads {
            let grad: Vec<f32> = converted(grad);
            clean.step(&mut p[0], &grad, LR as f32);
            dirty.scratch.fill(f32::NAN);
            dirty.step(&mut p[1], &grad, LR as f32);
        }
        prop_assert_eq!(&p[0], &p[1]);
        prop_assert_eq!((&clean.state, &clean.headers), (&dirty.state, &dirty.headers));
    }

    /// Eigenvectors have no sign: parameters do not depend on it, at whatever step it changes.
    #[test]
    fn signs_of_eigenvectors_do_not_matter(dims in dims(), at in 1usize..20, seed in any::<u64>(), reference in any::<bool>()) {
        let preset = if reference { Config::<f64>::kl_shampoo_reference() } else { Config::<f64>::kl_shampoo() };
        let config = Config { refresh_period: 3, ..preset };
        let problem = Gradients::LowRankDrift.make(dims, 25);
        let mut plain = Core::<f64, Portable>::new(&config, dims, &all(Mode::Full, dims));
        let (mut p, mut flipped_p) = (problem.p0.clone(), problem.p0.clone());
        for grad in &problem.grads[..at] {
            plain.step(&mut p, grad, LR);
        }
        flipped_p.copy_from_slice(&p);
        let mut flipped = plain.clone();
        for (k, &d) in dims.iter().enumerate() {
            let mut basis = plain.read(StatePart::Basis(k));
            for column in 0..d {
                if seed.rotate_left((column + 17 * k) as u32) & 1 == 1 {
                    basis.iter_mut().skip(column).step_by(d).for_each(|x| *x = -*x);
                }
            }
            flipped.set_basis(k, &basis);
        }
        for grad in &problem.grads[at..] {
            // A refresh of a singular factor is free to choose, and the choice follows rounding: compare up to the first one.
            if singular(&mut plain, dims) {
                return Ok(());
            }
            plain.step(&mut p, grad, LR);
            flipped.step(&mut flipped_p, grad, LR);
            let moved = norm(p.iter().zip(&problem.p0).map(|(a, b)| a - b));
            let error = norm(p.iter().zip(&flipped_p).map(|(a, b)| a - b));
            prop_assert!(error <= 1e-10 * moved, "{error:e} of {moved:e}");
        }
    }

    /// A basis from outside changes coordinates, not what they stand for.
    #[test]
    fn a_set_basis_keeps_factor_and_momentum(dims in dims(), steps in 1usize..12, seed in any::<u64>()) {
        let problem = Gradients::LowRankDrift.make(dims, steps);
        let mut core = Core::<f64, Portable>::new(&Config::<f64>::kl_shampoo(), dims, &all(Mode::Full, dims));
        let mut p = problem.p0.clone();
        problem.grads.iter().for_each(|grad| core.step(&mut p, grad, LR));
        let mut before = core.clone();
        for (k, &d) in dims.iter().enumerate() {
            let basis = orthogonal(d, seed ^ k as u64);
            core.set_basis(k, &basis);
            prop_assert_eq!(core.read(StatePart::Basis(k)), basis);
        }
        prop_assert!(rel_error(&core.read(StatePart::Momentum), &before.read(StatePart::Momentum)) < 1e-13);
        for k in 0..dims.len() {
            prop_assert!(rel_error(&core.read(StatePart::Factor(k)), &before.read(StatePart::Factor(k))) < 1e-13);
            prop_assert_eq!(core.read(StatePart::Eigenvalues(k)), before.read(StatePart::Eigenvalues(k)));
        }
    }

    /// Scale-free means: gradients times 16 give the same steps, to the bit where the roots of the scale are powers of two.
    #[test]
    fn scale_free_is_scale_free(shape in prop::sample::select(MATRICES.to_vec()), exponent in -5i32..6, period in 1u32..6) {
        let config = Config { eps: 0.0, refresh_period: period, ..Config::<f32>::kl_shampoo() };
        let problem = Gradients::LowRankDrift.make(shape.dims, 20);
        let run = |scale: f32| {
            let mut core = Core::<f32, Portable>::new(&config, shape.dims, &automatic(shape.dims));
            let mut p: Vec<f32> = converted(&problem.p0);
            for grad in &problem.grads {
                let grad: Vec<f32> = grad.iter().map(|&g| scale * g as f32).collect();
                core.step(&mut p, &grad, LR as f32);
            }
            p
        };
        prop_assert_eq!(run(1.0), run(16f32.powi(exponent)));
    }
}

/// Whether one of the factors is too near to singular for its QR to be unique.
fn singular(core: &mut Core<f64, Portable>, dims: &[usize]) -> bool {
    (0..dims.len()).any(|k| {
        let d = dims[k];
        let values = Matrix { rows: d, cols: d, data: core.read(StatePart::Factor(k)) }.eigen().0;
        values[d - 1] <= 1e-5 * values[0]
    })
}

/// Bias correction divides the momentum by `1 - beta1^t`: the same as a larger learning rate.
#[test]
fn bias_correction_is_a_larger_first_learning_rate() {
    let dims = [4, 3];
    let problem = Gradients::LowRankDrift.make(&dims, 20);
    for (preset, skipped) in [(Config::<f64>::kl_shampoo(), 0), (Config::<f64>::kl_shampoo_reference(), 1)] {
        for modes in [Mode::Full, Mode::Diagonal] {
            let plain = Config { eps: 0.0, ..preset };
            let corrected = Config { bias_correction: BiasCorrection::Moments, ..plain };
            let mut cores = [plain, corrected].map(|config| Core::<f64, Portable>::new(&config, &dims, &all(modes, &dims)));
            let mut p = [problem.p0.clone(), problem.p0.clone()];
            for (t, grad) in (1..).zip(&problem.grads) {
                let correction = if t > skipped { 1.0 - preset.beta1.powi(t - skipped) } else { 1.0 };
                cores[0].step(&mut p[0], grad, LR / correction);
                cores[1].step(&mut p[1], grad, LR);
                assert!(rel_error(&p[1], &p[0]) < 1e-13);
            }
        }
    }
}

#[test]
fn bases_stay_orthogonal_in_single_precision() {
    for dims in [&[33, 31][..], &[16, 16], &[1, 65], &[32, 8], &[4, 6, 5]] {
        let config = Config { refresh_period: 1, ..Config::<f32>::kl_shampoo() };
        let problem = Gradients::LowRankDrift.make(dims, 500);
        let mut core = Core::<f32, Portable>::new(&config, dims, &automatic(dims));
        let mut p: Vec<f32> = converted(&problem.p0);
        let mut worst = 0f64;
        for grad in &problem.grads {
            core.step(&mut p, &converted::<f32>(grad), LR as f32);
            worst = worst.max(orthogonality_error(&mut core));
        }
        println!("{dims:?}: orthogonality error {worst:.1e} over 500 refreshes");
        assert!(worst < 1e-5);
        assert_eq!(core.headers[0].refreshes, 500 * dims.len() as u32);
    }
}

/// The length of the last steps of a run, each step checked for numbers that are not finite.
fn last_steps<'a>(config: &Config<f32>, dims: &[usize], modes: Mode, p0: &[f64], grads: impl Iterator<Item = &'a Vec<f64>>) -> f64 {
    let mut core = Core::<f32, Portable>::new(config, dims, &all(modes, dims));
    let mut p: Vec<f32> = converted(p0);
    let mut lengths = vec![];
    for grad in grads {
        let before = p.clone();
        core.step(&mut p, &converted::<f32>(grad), LR as f32);
        assert!(finite(&core, &p), "{dims:?} {modes:?} step {}", lengths.len());
        lengths.push(norm(p.iter().zip(&before).map(|(a, b)| f64::from(a - b))));
    }
    lengths[lengths.len() - 50..].iter().sum::<f64>() / 50.0
}

/// 0.95^1000 takes all eigenvalues to their floor, at any order; the next gradients take them far above what they were, and they fall
/// by 0.95 a step from there. In the end the steps are as long as if nothing had happened.
#[test]
fn a_thousand_zero_gradients_are_survived() {
    for dims in [&[4, 3][..], &[1, 7], &[2, 3, 4], &[2, 3, 2, 3], &[2, 2, 2, 2, 2, 2]] {
        for modes in [Mode::Full, Mode::Diagonal] {
            for lambda_init in [LambdaInit::ScaleFree, LambdaInit::Constant(0.1)] {
                let config = Config { lambda_init, ..Config::<f32>::kl_shampoo() };
                let problem = Gradients::LowRankDrift.make(dims, 2000);
                let zeros = vec![0.0; problem.p0.len()];
                let (first, then) = problem.grads.split_at(20);
                let grads = || first.iter().chain(std::iter::repeat_n(&zeros, 1000)).chain(then);
                let disturbed = last_steps(&config, dims, modes, &problem.p0, grads());
                let undisturbed = last_steps(&config, dims, modes, &problem.p0, problem.grads.iter());
                let ratio = disturbed / undisturbed;
                assert!((0.9..1.1).contains(&ratio), "{dims:?} {modes:?} {lambda_init:?}: {disturbed:e} against {undisturbed:e}");
            }
        }
    }
}

/// One element a million times too large: no step explodes, and the next ones are small rather than wrong.
#[test]
fn a_huge_outlier_passes() {
    for dims in [&[4, 3][..], &[16, 16], &[32, 8], &[2, 3, 4]] {
        let problem = Gradients::HugeOutlier.make(dims, 900);
        let mut core = Core::<f32, Portable>::new(&Config::<f32>::kl_shampoo(), dims, &automatic(dims));
        let mut p: Vec<f32> = converted(&problem.p0);
        let mut steps = vec![];
        for grad in &problem.grads {
            let before = p.clone();
            core.step(&mut p, &converted::<f32>(grad), LR as f32);
            assert!(finite(&core, &p));
            steps.push(norm(p.iter().zip(&before).map(|(a, b)| f64::from(a - b))));
        }
        let largest = steps.iter().copied().fold(0.0, f64::max);
        let (first, last) = (steps[1], steps[850..].iter().sum::<f64>() / 50.0);
        println!("{dims:?}: steps {first:.1e}, at most {largest:.1e}, {last:.1e} at the end");
        assert!(largest < 20.0 * first.max(last) && last > 0.1 * first, "{first:e} {largest:e} {last:e}");
    }
}

/// Jobs may run in any order, each with a scratch of its own.
#[test]
fn jobs_may_run_in_any_order() {
    let specs = [TensorSpec::new(&[4, 3]).unwrap().slices(3).slice_stride(15), TensorSpec::new(&[2, 3, 4]).unwrap()];
    let mut forth = Core::<f32, Portable>::table(&[Config::<f32>::kl_shampoo()], &specs);
    let mut back = forth.clone();
    let mut random = Xorshift::for_shape(&[7]);
    let mut buffers =
        || -> Vec<Vec<f32>> { specs.iter().zip([42, 24]).map(|(_, len)| (0..len).map(|_| random.normal() as f32).collect()).collect() };
    let mut params = buffers();
    let mut back_params = params.clone();
    for _ in 0..15 {
        let grads = buffers();
        forth.try_step(&mut params, &grads.iter().cloned().map(Some).collect::<Vec<_>>(), LR as f32).unwrap();
        let scratch_len = back.scratch.len();
        let (mut optimizer, _, linalg) = back.view();
        optimizer.check(0..2, |i, slice| Some(&grads[i][slice]), LR as f32, 1.0).unwrap();
        let refreshes = optimizer.refreshes(0..2, |_| true);
        let jobs: Vec<_> = optimizer.jobs(0..2, LR as f32, refreshes).collect();
        assert_eq!(jobs.len(), 4);
        for job in jobs.into_iter().rev() {
            let (tensor, range) = (job.tensor(), job.range());
            let mut scratch = vec![f32::NAN; scratch_len];
            let mut report = StepReport::default();
            let buffers = SliceBuffers::plain(&mut back_params[tensor][range.clone()], &grads[tensor][range]);
            job.run(buffers, &mut scratch, linalg, &mut report).unwrap();
            assert_eq!(report, StepReport { stepped: 1, ..StepReport::default() });
        }
        assert_eq!((&params, &forth.state, &forth.headers), (&back_params, &back.state, &back.headers));
    }
}

/// The owner is the view: the same bits, group rates and bases from outside included.
#[test]
fn the_fixed_optimizer_is_the_view() {
    let (kl, adamw) = (Config { refresh_period: 3, ..Config::<f32>::kl_shampoo() }, Config::<f32>::adamw());
    let specs = [
        TensorSpec::new(&[4, 3]).unwrap(),
        TensorSpec::new(&[2, 3]).unwrap().slices(2),
        TensorSpec::new(&[5]).unwrap(),
        TensorSpec::new(&[3, 2]).unwrap().group(1),
    ];
    let mut view = Core::<f32, Portable>::table(&[kl, adamw], &specs);
    let mut fixed = FixedOptimizer::<f32, Portable, 2, 4, 8, 512, 256>::new(Portable);
    assert_eq!((fixed.add_group(kl), fixed.add_group(adamw)), (Ok(0), Ok(1)));
    specs.iter().for_each(|spec| {
        fixed.add_tensor(spec).unwrap();
    });
    assert_eq!(fixed.totals().state_len, view.state.len());
    let mut random = Xorshift::for_shape(&[11]);
    let mut buffers =
        || -> Vec<Vec<f32>> { [12, 12, 5, 6].iter().map(|&len| (0..len).map(|_| random.normal() as f32).collect()).collect() };
    let mut params = buffers();
    let mut fixed_params = params.clone();
    for step in 0..20 {
        let grads = buffers();
        let given: Vec<Option<Vec<f32>>> = grads.iter().enumerate().map(|(i, g)| ((step + i) % 4 != 3).then(|| g.clone())).collect();
        let report = view.try_step(&mut params, &given, LR as f32);
        let mut slices: Vec<&mut [f32]> = fixed_params.iter_mut().map(Vec::as_mut_slice).collect();
        let refs: Vec<Option<&[f32]>> = given.iter().map(Option::as_deref).collect();
        assert_eq!(fixed.step(&mut slices, &refs, LR as f32), report);
        if step == 10 {
            let basis: Vec<f32> = converted(&orthogonal(4, 5));
            view.set_basis(0, &basis);
            fixed.set_basis(0, 0, 0, &basis).unwrap();
            fixed.set_group_rates(1, 0.5, 0.1).unwrap();
            (view.groups[1].lr_scale, view.groups[1].weight_decay) = (0.5, 0.1);
        }
        let (mut optimizer, scratch, linalg) = view.view();
        optimizer.step_tensor(2, &mut params[2], &grads[2], LR as f32, scratch, linalg).unwrap();
        fixed.step_tensor(2, &mut fixed_params[2], &grads[2], LR as f32).unwrap();
        assert_eq!(params, fixed_params);
    }
    for (tensor, slice, part) in [
        (0, 0, StatePart::Factor(0)),
        (0, 0, StatePart::Basis(1)),
        (1, 1, StatePart::Momentum),
        (1, 0, StatePart::Eigenvalues(1)),
        (2, 0, StatePart::SecondMoment),
        (3, 0, StatePart::Momentum),
    ] {
        let expected = view.read_slice(tensor, slice, part);
        let mut out = vec![0f32; expected.len()];
        fixed.read(tensor, slice, part, &mut out).unwrap();
        assert_eq!(out, expected);
        assert_eq!(fixed.header(tensor, slice).unwrap(), view.headers[view.tensors[tensor].header_range(slice).start]);
    }
}
