//! What the core refuses, and that a refusal writes nothing: parameters, state and headers are compared bit for bit.

use klshampoo::linalg::{LinAlgError, Portable, work_len};
use klshampoo::{
    BadGradient, BiasCorrection, Config, ConfigError, Convention, Damping, Direction, EstimateOrder, Estimator, FirstBasis, FirstStep,
    FixedOptimizer, Format, GradientFault, Graft, LambdaInit, Mode, Optimizer, Refresh, Scalar, ShapeError, SliceError, SliceHeader,
    StatePart, StepError, StepErrorKind, StepOrder, StepReport, TableError, Tensor, TensorSpec, Totals, WeightDecay,
};
use klshampoo_tests::cases::Gradients;
use klshampoo_tests::failing::Failing;
use klshampoo_tests::harness::{Core, Driver, converted};
use klshampoo_tests::table::{Snapshot, bits, random, some};

type F32Core = Core<f32, Portable>;

const NAN: f32 = f32::NAN;
const INF: f32 = f32::INFINITY;
const LR: f32 = 0.01;

fn spec(dims: &[usize]) -> TensorSpec {
    TensorSpec::new(dims).unwrap()
}

/// A matrix, stacked matrices with gaps, a vector, a tensor of order 3, and a matrix of a group that skips what it cannot use.
fn mixed() -> F32Core {
    let skipping = Config { bad_gradient: BadGradient::Skip, ..Config::<f32>::kl_shampoo() };
    let period = Config { refresh_period: 2, ..Config::<f32>::kl_shampoo() };
    let specs = [spec(&[4, 3]), spec(&[2, 3]).slices(3).slice_stride(8), spec(&[5]), spec(&[2, 3, 2]), spec(&[3, 3]).group(1)];
    F32Core::table(&[period, skipping], &specs)
}

/// A table before its first step and one that has gone through a few.
fn fresh_and_stepped() -> [(F32Core, Vec<Vec<f32>>); 2] {
    let fresh = mixed();
    let params = random(&fresh.tensors, 1);
    let (mut stepped, mut moved) = (fresh.clone(), params.clone());
    for seed in 2..5 {
        let grads = some(&random(&stepped.tensors, seed));
        stepped.try_step(&mut moved, &grads, LR).unwrap();
    }
    [(fresh, params), (stepped, moved)]
}

fn refused(core: &mut F32Core, params: &mut [Vec<f32>], grads: &[Option<Vec<f32>>], lr: f32) -> StepError {
    let before = Snapshot::of(core, params);
    let error = core.try_step(params, grads, lr).unwrap_err();
    assert_eq!(Snapshot::of(core, params), before, "{error:?}");
    error
}

fn gradient_fault(fault: GradientFault) -> StepErrorKind {
    StepErrorKind::Slice(SliceError::Gradient(fault))
}

#[test]
fn one_bad_element_refuses_the_whole_call() {
    for (mut core, mut params) in fresh_and_stepped() {
        let good = random(&core.tensors, 9);
        for tensor in 0..4 {
            for slice in 0..core.tensors[tensor].slices() {
                let range = core.tensors[tensor].slice_range(slice);
                for at in [range.start, range.end - 1] {
                    let bad = |value| {
                        let mut grads = good.clone();
                        grads[tensor][at] = value;
                        some(&grads)
                    };
                    for value in [NAN, -NAN, INF, -INF, 1e30, -1e30, f32::MAX] {
                        let fault = if value.is_finite() { GradientFault::TooLarge } else { GradientFault::NotFinite };
                        let error = refused(&mut core, &mut params, &bad(value), LR);
                        assert_eq!(error, StepError { tensor, slice, kind: gradient_fault(fault) }, "{value}");
                    }
                }
            }
        }
        // A signalling NaN and denormals: the bits decide.
        let mut grads = good.clone();
        grads[0][1] = f32::from_bits(0x7f80_0001);
        assert_eq!(refused(&mut core, &mut params, &some(&grads), LR).kind, gradient_fault(GradientFault::NotFinite));
        grads[0].fill(1e-42);
        core.try_step(&mut params, &some(&grads), LR).unwrap();
        assert!(core.state.iter().chain(params.iter().flatten()).all(|x| x.is_finite()));
    }
}

#[test]
fn a_refused_call_leaves_no_trace_in_later_ones() {
    let [_, (mut core, mut params)] = fresh_and_stepped();
    let (mut twin, mut twin_params) = (core.clone(), params.clone());
    for seed in 20..26 {
        let mut grads = random(&core.tensors, seed);
        twin.try_step(&mut twin_params, &some(&grads), LR).unwrap();
        let good = grads.clone();
        grads[3][2] = NAN;
        refused(&mut core, &mut params, &some(&grads), LR);
        core.try_step(&mut params, &some(&good), LR).unwrap();
        assert_eq!(Snapshot::of(&core, &params), Snapshot::of(&twin, &twin_params));
    }
}

#[test]
fn a_skipping_group_loses_one_slice_and_counts_it() {
    for (mut core, mut params) in fresh_and_stepped() {
        for value in [NAN, INF, 1e30] {
            let good = random(&core.tensors, 9);
            let mut grads = good.clone();
            grads[4][3] = value;
            let before = Snapshot::of(&core, &params);
            let (mut twin, mut twin_params) = (core.clone(), params.clone());
            let mut without = some(&good);
            without[4] = None;
            twin.try_step(&mut twin_params, &without, LR).unwrap();

            let report = core.try_step(&mut params, &some(&grads), LR).unwrap();
            assert_eq!(report, StepReport { stepped: 6, frozen: 0, skipped: 1, ..StepReport::default() });
            let skipped = core.headers[6];
            assert_eq!(skipped, SliceHeader { skipped: before.headers[6].skipped + 1, ..before.headers[6] });
            core.headers[6].skipped -= 1;
            assert_eq!(Snapshot::of(&core, &params), Snapshot::of(&twin, &twin_params));
        }
    }
}

#[test]
fn learning_rates_out_of_range_are_refused() {
    for (mut core, mut params) in fresh_and_stepped() {
        let grads = some(&random(&core.tensors, 9));
        for lr in [NAN, -NAN, INF, -INF, -1.0, -f32::MIN_POSITIVE] {
            let error = refused(&mut core, &mut params, &grads, lr);
            assert_eq!(error, StepError { tensor: 0, slice: 0, kind: StepErrorKind::LearningRate }, "{lr}");
        }
        // Finite by itself, infinite with the group's scale.
        core.groups[1].lr_scale = 1e30;
        assert_eq!(refused(&mut core, &mut params, &grads, 1e30).kind, StepErrorKind::LearningRate);
        core.groups[1].lr_scale = 1.0;
        for lr in [0.0, -0.0] {
            let before = params.clone();
            core.try_step(&mut params, &grads, lr).unwrap();
            assert_eq!(params, before);
        }
    }
}

#[test]
fn wrong_counts_and_lengths_are_refused() {
    for (mut core, mut params) in fresh_and_stepped() {
        let grads = random(&core.tensors, 9);
        let before = Snapshot::of(&core, &params);
        let count = StepError { tensor: 0, slice: 0, kind: StepErrorKind::TensorCount };
        assert_eq!(core.try_step(&mut params[..4], &some(&grads), LR), Err(count));
        assert_eq!(core.try_step(&mut params, &some(&grads[..4]), LR), Err(count));
        for tensor in 0..5 {
            let length = StepError { tensor, slice: 0, kind: StepErrorKind::BufferLength };
            let mut longer = grads.clone();
            longer[tensor].push(0.0);
            assert_eq!(core.try_step(&mut params, &some(&longer), LR), Err(length));
            assert_eq!(core.try_step(&mut longer, &some(&grads), LR), Err(length));
            let mut shorter = grads.clone();
            shorter[tensor].pop();
            assert_eq!(core.try_step(&mut params, &some(&shorter), LR), Err(length));
            assert_eq!(core.try_step(&mut shorter, &some(&grads), LR), Err(length));
            let (mut optimizer, scratch, linalg) = core.view();
            for (param, grad) in [(&mut params[tensor], &shorter[tensor]), (&mut shorter[tensor].clone(), &grads[tensor])] {
                assert_eq!(optimizer.step_tensor(tensor, param, grad, LR, scratch, linalg), Err(length));
            }
        }
        let (mut optimizer, scratch, linalg) = core.view();
        let unknown = StepError { tensor: 5, slice: 0, kind: StepErrorKind::NoSuchIndex };
        assert_eq!(optimizer.step_tensor(5, &mut params[0], &grads[0], LR, scratch, linalg), Err(unknown));
        assert_eq!(optimizer.check(0..6, |_, _| None::<&[f32]>, LR, 1.0), Err(unknown));
        for beyond in [5..6, 7..9] {
            let refreshes = optimizer.refreshes(beyond.clone(), |_| true);
            assert_eq!(optimizer.jobs(beyond, LR, refreshes).count(), 0);
        }
        assert_eq!(Snapshot::of(&core, &params), before);
    }
}

#[test]
fn a_short_scratch_is_refused_before_anything_is_written() {
    for (mut core, mut params) in fresh_and_stepped() {
        let grads = some(&random(&core.tensors, 9));
        let needed = core.scratch.len();
        for short in [0, 1, needed - 1] {
            core.scratch.truncate(short);
            let error = refused(&mut core, &mut params, &grads, LR);
            assert_eq!(error.kind, StepErrorKind::ScratchTooShort);
            core.scratch.resize(needed, 0.0);
        }
        core.scratch.resize(needed + 7, 0.0);
        core.try_step(&mut params, &grads, LR).unwrap();
    }
}

#[test]
fn short_state_or_headers_are_refused() {
    let Core { groups, tensors, mut headers, mut state, .. } = mixed();
    let (state_len, count) = (state.len(), headers.len());
    assert!(Optimizer::new(&groups, &tensors, &mut headers, &mut state).is_ok());
    for (headers_len, state_len) in [(count - 1, state_len), (count, state_len - 1), (0, 0)] {
        let error = Optimizer::new(&groups, &tensors, &mut headers[..headers_len], &mut state[..state_len]).unwrap_err();
        assert_eq!(error, TableError::BufferTooShort);
    }
    assert_eq!(Optimizer::new(&groups[..1], &tensors, &mut headers, &mut state).unwrap_err(), TableError::Group);
    assert!(Optimizer::new(&groups, &[], &mut [], &mut []).is_ok());
}

/// A table is only as good as the groups it was resolved against.
#[test]
fn other_groups_than_those_of_the_table_are_refused() {
    let Core { groups, tensors, mut headers, mut state, .. } = mixed();
    let invalid = [Config { beta2: 1.5, ..groups[0] }, groups[1]];
    assert_eq!(Optimizer::new(&invalid, &tensors, &mut headers, &mut state).unwrap_err(), TableError::Config(ConfigError::Beta));
    let elementwise = [Config::<f32>::adamw(), groups[1]];
    let error = Optimizer::new(&elementwise, &tensors, &mut headers, &mut state).unwrap_err();
    assert_eq!(error, TableError::Config(ConfigError::Combination));
}

type Change = fn(&mut Config<f32>);

#[test]
fn every_option_has_its_range() {
    let refused: &[(ConfigError, &[Change])] = &[
        (
            ConfigError::Beta,
            &[|c| c.beta1 = 1.0, |c| c.beta1 = -0.1, |c| c.beta1 = NAN, |c| c.beta2 = 1.0, |c| c.beta2 = -1e-9, |c| c.beta2 = INF],
        ),
        (ConfigError::Eps, &[|c| c.eps = -1e-9, |c| c.eps = NAN, |c| c.eps = INF]),
        (ConfigError::WeightDecay, &[|c| c.weight_decay = -1e-9, |c| c.weight_decay = NAN, |c| c.weight_decay = INF]),
        (
            ConfigError::RefreshPeriod,
            &[|c| c.refresh_period = 0, |c| c.refresh_offset = 2, |c| c.refresh_offset = u32::MAX, |c| c.refresh_growth = (1 << 20) + 1],
        ),
        (
            ConfigError::LambdaInit,
            &[
                |c| c.lambda_init = LambdaInit::Constant(0.0),
                |c| c.lambda_init = LambdaInit::Constant(-0.1),
                |c| c.lambda_init = LambdaInit::Constant(1e-30),
                |c| c.lambda_init = LambdaInit::Constant(NAN),
                |c| c.lambda_init = LambdaInit::Constant(INF),
            ],
        ),
        (
            ConfigError::ClampLimit,
            &[
                |c| (c.clamp_limit, c.gauge) = (Some(0.5), false),
                |c| (c.clamp_limit, c.gauge) = (Some(NAN), false),
                |c| (c.clamp_limit, c.gauge) = (Some(INF), false),
            ],
        ),
        (ConfigError::LrScale, &[|c| c.lr_scale = -1.0, |c| c.lr_scale = NAN, |c| c.lr_scale = INF]),
        (
            ConfigError::WeightDecay,
            &[|c| (c.weight_decay, c.weight_decay_kind) = (1.0 + f32::EPSILON, WeightDecay::Independent), |c| c.weight_decay = -0.0 - 1.0],
        ),
        (ConfigError::RefreshPortion, &[|c| (c.refresh, c.refresh_portion) = (Refresh::Eigendecomposition, 1)]),
        (ConfigError::Staleness, &[|c| c.staleness = -0.1, |c| c.staleness = NAN, |c| c.staleness = INF]),
        (
            ConfigError::Power,
            &[
                |c| c.direction = Direction::KroneckerPower(0.0),
                |c| c.direction = Direction::KroneckerPower(-0.5),
                |c| c.direction = Direction::KroneckerPower(1.0 + f32::EPSILON),
                |c| c.direction = Direction::KroneckerPower(NAN),
            ],
        ),
        (
            ConfigError::RmsCap,
            &[|c| c.rms_cap = Some(0.0), |c| c.rms_cap = Some(-1.0), |c| c.rms_cap = Some(NAN), |c| c.rms_cap = Some(INF)],
        ),
        (ConfigError::Combination, &[|c| c.estimator = Estimator::None, |c| c.direction = Direction::Momentum]),
        (ConfigError::EstimateOrder, &[|c| (c.estimator, c.estimate_order) = (Estimator::Frobenius, EstimateOrder::ReferenceKl)]),
        (ConfigError::TraceScaledEstimator, &[|c| c.direction = Direction::TraceScaled]),
        (
            ConfigError::GraftWithoutFactors,
            &[|c| (c.estimator, c.direction, c.graft, c.gauge) = (Estimator::None, Direction::SecondMoment, Graft::Adam, false)],
        ),
        (
            ConfigError::FactorDamping,
            &[
                |c| (c.direction, c.damping) = (Direction::SecondMoment, Damping::Factor),
                |c| (c.estimator, c.direction, c.damping, c.gauge) = (Estimator::None, Direction::Momentum, Damping::Factor, false),
            ],
        ),
        (ConfigError::ZeroFactors, &[|c| c.estimator = Estimator::FrobeniusFactor]),
        (ConfigError::StepSizeCorrection, &[|c| c.bias_correction = BiasCorrection::StepSize]),
        (
            ConfigError::FirstBasis,
            &[
                |c| (c.first_basis, c.first_step) = (FirstBasis::Identity, FirstStep::FactorsOnly),
                |c| (c.first_basis, c.direction) = (FirstBasis::Identity, Direction::SecondMoment),
            ],
        ),
        (ConfigError::ClampWithGauge, &[|c| c.clamp_limit = Some(4000.0)]),
        (
            ConfigError::Gauge,
            &[|c| c.estimator = Estimator::Shampoo, |c| c.estimator = Estimator::OneSided, |c| c.damping = Damping::Factor],
        ),
    ];
    for &(error, changes) in refused {
        for (i, change) in changes.iter().enumerate() {
            let mut config = Config::<f32>::kl_shampoo();
            change(&mut config);
            assert_eq!(config.validate(), Err(error), "{error:?} {i}");
            let mut totals = Totals::default();
            assert_eq!(Tensor::resolve(&spec(&[2, 2]), &[config], &mut totals), Err(TableError::Config(error)));
            assert_eq!(totals, Totals::default());
            let mut fixed = FixedOptimizer::<f32, Portable, 1, 1, 1, 64, 64>::new(Portable);
            assert_eq!(fixed.add_group(config), Err(TableError::Config(error)));
        }
    }
    let accepted: &[Change] = &[
        |_| (),
        |c| (c.beta1, c.beta2) = (0.0, 0.0),
        |c| (c.eps, c.weight_decay, c.lr_scale) = (0.0, 0.0, 0.0),
        |c| (c.refresh_period, c.refresh_offset) = (u32::MAX, 1),
        |c| c.lambda_init = LambdaInit::Constant(f32::FLOOR),
        |c| (c.clamp_limit, c.gauge) = (Some(1.0), false),
        |c| (c.estimator, c.direction, c.gauge) = (Estimator::None, Direction::SecondMoment, false),
        |c| (c.estimator, c.direction, c.gauge) = (Estimator::None, Direction::Momentum, false),
        |c| c.max_dim = 0,
        |c| c.direction = Direction::KroneckerPower(1.0),
        |c| c.direction = Direction::SecondMoment,
        |c| (c.weight_decay, c.weight_decay_kind) = (1.0, WeightDecay::Independent),
        |c| (c.estimator, c.first_step) = (Estimator::FrobeniusFactor, FirstStep::FactorsOnly),
        |c| (c.refresh_growth, c.staleness, c.rms_cap) = (1 << 20, 0.5, Some(1.0)),
        |c| c.refresh_portion = u32::MAX,
        |c| c.factor_format = Format::Bf16,
        |c| c.factor_format = Format::F16,
        |c| (c.estimator, c.direction, c.gauge, c.factor_format) = (Estimator::None, Direction::Momentum, false, Format::F16),
    ];
    for change in accepted {
        let mut config = Config::<f32>::kl_shampoo();
        change(&mut config);
        assert_eq!(config.validate(), Ok(()));
    }
    for (factor_format, expected) in
        [(Format::Native, Ok(())), (Format::Bf16, Err(ConfigError::FactorFormat)), (Format::F16, Err(ConfigError::FactorFormat))]
    {
        assert_eq!(Config { factor_format, ..Config::<f64>::kl_shampoo() }.validate(), expected);
    }
}

/// Every method in every convention, with and without each graft.
#[test]
fn every_preset_is_valid() {
    type C = Config<f64>;
    let presets = [
        C::kl_shampoo(),
        C::kl_soap(),
        C::soap(),
        C::shampoo(),
        C::shampoo_half(),
        C::shampoo_quarter(),
        C::vn_shampoo_1(),
        C::vn_shampoo_2(),
        C::f_shampoo_1(),
        C::f_shampoo_2(),
        C::idealized_kl(),
        C::idealized_vn_1(),
        C::idealized_vn_2(),
        C::idealized_f_1(),
        C::idealized_f_2(),
        C::instantaneous_kl(),
        C::one_sided(),
        C::adafactor(),
        C::adamw(),
        C::rmsprop(),
        C::sgd(),
    ];
    for preset in [C::kl_shampoo_reference(), C::soap_reference(), C::shampoo_reference()] {
        assert_eq!(preset.validate(), Ok(()), "{preset:?}");
    }
    for preset in presets {
        assert_eq!(preset.for_vectors().validate(), Ok(()), "{preset:?}");
        for convention in [Convention::Figure13, Convention::ReferenceKl, Convention::ReferenceSoap, Convention::ReferenceMeta] {
            let preset = preset.in_convention(convention);
            assert_eq!(preset.validate(), Ok(()), "{convention:?} {preset:?}");
            for graft in [Graft::Adam, Graft::Sgd, Graft::RmsProp, Graft::AdaGrad] {
                let without_factors = preset.estimator == Estimator::None;
                let expected = if without_factors { Err(ConfigError::GraftWithoutFactors) } else { Ok(()) };
                assert_eq!(Config { graft, ..preset }.validate(), expected);
            }
        }
    }
}

#[test]
fn tables_that_cannot_be_are_refused() {
    let big = 1usize << 32;
    let shape = TableError::Shape;
    assert_eq!(TensorSpec::new(&[]), Err(ShapeError::Order));
    assert_eq!(TensorSpec::new(&[1; 7]), Err(ShapeError::Order));
    let cases: &[(TensorSpec, TableError)] = &[
        (spec(&[0]), shape(ShapeError::ZeroDim)),
        (spec(&[3, 0, 2]), shape(ShapeError::ZeroDim)),
        (spec(&[big, big]), shape(ShapeError::Overflow)),
        (spec(&[big, big >> 1]), shape(ShapeError::Overflow)),
        (spec(&[big - 1, big + 1]), shape(ShapeError::Overflow)),
        (spec(&[usize::MAX]), shape(ShapeError::Overflow)),
        (spec(&[usize::MAX; 6]), shape(ShapeError::Overflow)),
        (spec(&[1 << 60]), shape(ShapeError::Overflow)),
        // The elements fit, the factor of a mode does not.
        (spec(&[big, 1]).mode(0, Mode::Full), shape(ShapeError::Overflow)),
        (spec(&[1 << 30, 1]).mode(0, Mode::Full), shape(ShapeError::Overflow)),
        // A slice fits, all of them do not.
        (spec(&[1 << 30, 1 << 27]).slices(1 << 10), shape(ShapeError::Overflow)),
        (spec(&[2, 2]).slices(usize::MAX), shape(ShapeError::Overflow)),
        (spec(&[2, 2]).slices(2).slice_stride(usize::MAX), shape(ShapeError::Overflow)),
        // Slices of one element whose headers do not fit.
        (spec(&[1]).slices(1 << 58), shape(ShapeError::Overflow)),
        (spec(&[2, 2]).group(1), TableError::Group),
        (spec(&[2, 2]).group(usize::MAX), TableError::Group),
        (spec(&[2, 2]).slices(0), TableError::Slices),
        (spec(&[2, 2]).slices(2).slice_stride(3), TableError::SliceStride),
        (spec(&[2, 2]).slices(2).slice_stride(0), TableError::SliceStride),
    ];
    let groups = [Config::<f32>::kl_shampoo()];
    let mut totals = Totals::default();
    Tensor::resolve(&spec(&[3, 2]), &groups, &mut totals).unwrap();
    for (spec, error) in cases {
        let before = totals;
        assert_eq!(Tensor::resolve(spec, &groups, &mut totals), Err(*error), "{spec:?}");
        assert_eq!(totals, before);
    }
    // A vocabulary's rows are a matter of memory, not of arithmetic.
    let rows = Tensor::resolve(&spec(&[1 << 30, 1 << 20]), &groups, &mut totals).unwrap();
    assert_eq!(rows.layout().state_len(), (1 << 50) + (1 << 30) + (1 << 20));
    Tensor::resolve(&spec(&[2, 2]).slice_stride(1), &groups, &mut totals).expect("a single slice has no stride");
}

#[test]
fn a_fixed_table_knows_its_capacity() {
    let config = Config::<f32>::kl_shampoo();
    let layout = spec(&[3, 2]).layout(&config).unwrap();
    let (state, scratch) = (layout.state_len(), layout.scratch_len());
    assert_eq!((state, scratch), (6 + 9 + 6 + 4 + 3 + 3 + 2, 3 * 6 + 2 * 9 + 2 * 4 + 2 * 5 + 2 * 9 + 3 + work_len(3)));

    let mut fixed = FixedOptimizer::<f32, Portable, 1, 2, 3, 33, 87>::new(Portable);
    assert_eq!(fixed.add_tensor(&spec(&[3, 2])), Err(TableError::Group));
    assert_eq!(fixed.add_group(config), Ok(0));
    assert_eq!(fixed.add_group(config), Err(TableError::Capacity));
    assert_eq!(fixed.add_tensor(&spec(&[3, 2]).slices(2)), Err(TableError::BufferTooShort));
    assert_eq!(fixed.add_tensor(&spec(&[4, 2])), Err(TableError::BufferTooShort));
    assert_eq!(fixed.add_tensor(&spec(&[1]).slices(4)), Err(TableError::Capacity));
    assert_eq!(fixed.totals(), Totals::default());
    assert_eq!(fixed.add_tensor(&spec(&[3, 2])), Ok(0));
    let full = fixed.totals();
    assert_eq!((full.state_len, full.scratch_len, full.slices), (33, 87, 1));
    assert_eq!(fixed.add_tensor(&spec(&[1])), Err(TableError::BufferTooShort));
    assert_eq!(fixed.totals(), full);

    assert_eq!(fixed.set_group_rates(1, 1.0, 0.0), Err(TableError::Group));
    assert_eq!(fixed.set_group_rates(0, NAN, 0.0), Err(TableError::Config(ConfigError::LrScale)));
    assert_eq!(fixed.set_group_rates(0, 1.0, -1.0), Err(TableError::Config(ConfigError::WeightDecay)));
    let (mut p, g) = ([1.0f32; 6], [0.0f32; 6]);
    fixed.step_tensor(0, &mut p, &g, 0.5).unwrap();
    assert_eq!(p, [1.0; 6], "the refused rates are not in use");
    assert_eq!(fixed.set_group_rates(0, 0.5, 0.5), Ok(()));
    fixed.step_tensor(0, &mut p, &g, 0.5).unwrap();
    assert_eq!(p, [0.875; 6]);
}

#[test]
fn set_basis_checks_what_it_is_given() {
    let mut core = F32Core::table(&[Config::<f32>::kl_shampoo()], &[spec(&[3, 2]), spec(&[3, 4]).mode(1, Mode::Diagonal), spec(&[4])]);
    let mut params = random(&core.tensors, 1);
    let identity = [1.0f32, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0];
    let set = |core: &mut F32Core, tensor, slice, k, basis: &[f32]| {
        let (mut optimizer, scratch, linalg) = core.view();
        optimizer.set_basis(tensor, slice, k, basis, scratch, linalg).map_err(|error| {
            assert_eq!((error.tensor, error.slice), (tensor, slice));
            error.kind
        })
    };
    assert_eq!(set(&mut core, 0, 0, 0, &identity), Err(StepErrorKind::NotStarted));
    let grads = some(&random(&core.tensors, 2));
    core.try_step(&mut params, &grads, LR).unwrap();
    let before = Snapshot::of(&core, &params);

    for index in 0..9 {
        for value in [NAN, INF, identity[index] + 1e-2, identity[index] - 1e-3] {
            let mut basis = identity;
            basis[index] = value;
            assert_eq!(set(&mut core, 0, 0, 0, &basis), Err(StepErrorKind::NotOrthogonal), "{index} {value}");
        }
    }
    assert_eq!(set(&mut core, 0, 0, 0, &[0.0; 9]), Err(StepErrorKind::NotOrthogonal));
    assert_eq!(set(&mut core, 0, 0, 0, &[f32::MAX; 9]), Err(StepErrorKind::NotOrthogonal));
    assert_eq!(set(&mut core, 0, 0, 0, &identity[..8]), Err(StepErrorKind::BufferLength));
    assert_eq!(set(&mut core, 0, 0, 1, &identity), Err(StepErrorKind::BufferLength));
    assert_eq!(set(&mut core, 0, 0, 2, &identity), Err(StepErrorKind::NoSuchState));
    assert_eq!(set(&mut core, 0, 0, usize::MAX, &identity), Err(StepErrorKind::NoSuchState));
    assert_eq!(set(&mut core, 1, 0, 1, &identity), Err(StepErrorKind::NoSuchState));
    assert_eq!(set(&mut core, 2, 0, 0, &identity), Err(StepErrorKind::NoSuchState));
    assert_eq!(set(&mut core, 0, 1, 0, &identity), Err(StepErrorKind::NoSuchIndex));
    assert_eq!(set(&mut core, 3, 0, 0, &identity), Err(StepErrorKind::NoSuchIndex));
    let needed = core.scratch.len();
    let short = core.tensors[0].layout().scratch_len() - 1;
    core.scratch.truncate(short);
    assert_eq!(set(&mut core, 0, 0, 0, &identity), Err(StepErrorKind::ScratchTooShort));
    core.scratch.resize(needed, 0.0);
    assert_eq!(Snapshot::of(&core, &params), before);

    // What a single precision QR leaves is orthogonal enough.
    let mut basis = identity;
    basis[1] = 1e-4;
    assert_eq!(set(&mut core, 0, 0, 0, &basis), Ok(()));
    assert_eq!(core.read_slice(0, 0, StatePart::Basis(0)), basis);
}

#[test]
fn read_checks_what_it_is_given() {
    let mut core = mixed();
    let mut scratch = core.scratch.clone();
    let mut out = [0.0f32; 16];
    let mut read = |core: &mut F32Core, tensor, slice, part, len: usize, short: usize| {
        let len_needed = scratch.len() - short;
        let (optimizer, _, linalg) = core.view();
        optimizer.read(tensor, slice, part, &mut out[..len], &mut scratch[..len_needed], linalg).map_err(|error| error.kind)
    };
    assert_eq!(read(&mut core, 0, 0, StatePart::Factor(0), 16, 0), Ok(()));
    assert_eq!(read(&mut core, 0, 0, StatePart::Factor(0), 15, 0), Err(StepErrorKind::BufferLength));
    assert_eq!(read(&mut core, 0, 0, StatePart::Factor(2), 16, 0), Err(StepErrorKind::NoSuchState));
    assert_eq!(read(&mut core, 0, 0, StatePart::Basis(9), 16, 0), Err(StepErrorKind::NoSuchState));
    assert_eq!(read(&mut core, 0, 0, StatePart::SecondMoment, 12, 0), Err(StepErrorKind::NoSuchState));
    assert_eq!(read(&mut core, 2, 0, StatePart::Eigenvalues(0), 5, 0), Err(StepErrorKind::NoSuchState));
    assert_eq!(read(&mut core, 2, 0, StatePart::SecondMoment, 5, 0), Ok(()));
    assert_eq!(read(&mut core, 1, 3, StatePart::Momentum, 6, 0), Err(StepErrorKind::NoSuchIndex));
    let all_but_one = core.scratch.len() - core.tensors[0].layout().scratch_len() + 1;
    assert_eq!(read(&mut core, 0, 0, StatePart::Momentum, 12, all_but_one), Err(StepErrorKind::ScratchTooShort));
    let (optimizer, ..) = core.view();
    assert_eq!(optimizer.header(1, 3).unwrap_err().kind, StepErrorKind::NoSuchIndex);
}

#[test]
fn one_tensor_at_a_time_is_the_table_at_once() {
    let [_, (mut together, mut params)] = fresh_and_stepped();
    let (mut apart, mut apart_params) = (together.clone(), params.clone());
    for seed in 30..34 {
        let grads = random(&together.tensors, seed);
        together.try_step(&mut params, &some(&grads), LR).unwrap();
        for tensor in [3, 1, 4, 0, 2] {
            let (mut optimizer, scratch, linalg) = apart.view();
            let report = optimizer.step_tensor(tensor, &mut apart_params[tensor], &grads[tensor], LR, scratch, linalg).unwrap();
            assert_eq!(report, StepReport { stepped: if tensor == 1 { 3 } else { 1 }, ..StepReport::default() });
        }
        assert_eq!(Snapshot::of(&apart, &apart_params), Snapshot::of(&together, &params));
    }
}

#[test]
fn a_tensor_without_a_gradient_is_frozen() {
    let [_, (mut core, mut params)] = fresh_and_stepped();
    let (before, grads) = (Snapshot::of(&core, &params), random(&core.tensors, 9));
    let mut given = some(&grads);
    (given[0], given[1]) = (None, None);
    let report = core.try_step(&mut params, &given, LR).unwrap();
    assert_eq!(report, StepReport { stepped: 3, frozen: 4, ..StepReport::default() });
    let after = Snapshot::of(&core, &params);
    let state_of_two = core.tensors[2].state_range(0).start;
    assert_eq!(after.params[..2], before.params[..2]);
    assert_eq!(after.headers[..4], before.headers[..4]);
    assert_eq!(after.state[..state_of_two], before.state[..state_of_two]);
    assert!(after.headers[4..].iter().zip(&before.headers[4..]).all(|(after, before)| after.step == before.step + 1));
    // It goes on where it stood.
    let (mut optimizer, scratch, linalg) = core.view();
    optimizer.step_tensor(0, &mut params[0], &grads[0], LR, scratch, linalg).unwrap();
    assert_eq!(core.headers[0].step, before.headers[0].step + 1);
}

/// Gaps may hold anything in the gradient, and keep what they hold in the parameter.
#[test]
fn slices_are_separate_tensors() {
    let config = Config { refresh_period: 2, weight_decay: 0.1, ..Config::<f32>::kl_shampoo() };
    let (slices, elements, stride) = (3, 12, 17);
    let mut stacked = F32Core::table(&[config], &[spec(&[4, 3]).slices(slices).slice_stride(stride)]);
    let mut single = F32Core::table(&[config], &[spec(&[4, 3]); 3]);
    let mut params = random(&single.tensors, 1);
    let len = (slices - 1) * stride + elements;
    let spread = |parts: &[Vec<f32>], gap: f32| {
        let mut all = vec![gap; len];
        for (i, part) in parts.iter().enumerate() {
            all[i * stride..][..elements].copy_from_slice(part);
        }
        all
    };
    let mut stacked_params = [spread(&params, NAN)];
    for seed in 2..12 {
        let grads = random(&single.tensors, seed);
        single.try_step(&mut params, &some(&grads), LR).unwrap();
        stacked.try_step(&mut stacked_params, &[Some(spread(&grads, NAN))], LR).unwrap();
        assert_eq!(bits(&stacked_params[0]), bits(&spread(&params, NAN)));
        assert_eq!((&stacked.state, &stacked.headers), (&single.state, &single.headers));
    }
}

type FailingCore = Core<f32, Failing>;

fn failing(config: Config<f32>, dims: &[usize], modes: &[Option<Mode>]) -> FailingCore {
    FailingCore::new(&config, dims, modes)
}

/// One step, whose `fail_at`-th call of the backend fails; the number of calls.
fn step_failing(core: &mut FailingCore, p: &mut Vec<f32>, grad: &[f32], fail_at: Option<usize>) -> (Result<StepReport, StepError>, usize) {
    core.linalg = Failing { no_qr: core.linalg.no_qr, overflows: core.linalg.overflows, ..Failing::at(fail_at) };
    let result = core.try_step(std::slice::from_mut(p), &[Some(grad.to_vec())], LR);
    (result, core.linalg.calls)
}

/// Every call of the backend fails once, in the start, in plain steps and in refreshes (polished ones too).
#[test]
fn a_failing_backend_costs_a_step_or_a_refresh_and_nothing_else() {
    let figure13 = Config { refresh_period: 2, weight_decay: 0.1, ..Config::<f32>::kl_shampoo() };
    let reference = Config { refresh_period: 2, weight_decay: 0.1, ..Config::<f32>::kl_shampoo_reference() };
    let every_step = Config { refresh_period: 1, ..figure13 };
    let halves = |factor_format, config| Config { factor_format, ..config };
    let by_factors = Config { refresh_period: 2, ..Config::<f32>::f_shampoo_1() };
    let (mut errors, mut survived) = (0, 0);
    for (config, dims, steps) in [
        (figure13, &[4, 3][..], 5),
        (reference, &[4, 3], 6),
        (figure13, &[2, 3, 4], 5),
        (every_step, &[4, 3], 33),
        (halves(Format::Bf16, figure13), &[4, 3], 5),
        (halves(Format::F16, reference), &[3, 5], 6),
        (halves(Format::F16, by_factors), &[2, 3, 4], 5),
    ] {
        let problem = Gradients::LowRankDrift.make(dims, steps);
        let mut core = failing(config, dims, &vec![None; dims.len()]);
        let mut p: Vec<f32> = converted(&problem.p0);
        for grad in &problem.grads {
            let grad: Vec<f32> = converted(grad);
            let (mut next, mut next_p) = (core.clone(), p.clone());
            let (result, calls) = step_failing(&mut next, &mut next_p, &grad, None);
            result.unwrap();
            let before = Snapshot::of(&core, std::slice::from_ref(&p));
            let after = Snapshot::of(&next, std::slice::from_ref(&next_p));
            for fail_at in 0..calls {
                let (mut tried, mut tried_p) = (core.clone(), p.clone());
                match step_failing(&mut tried, &mut tried_p, &grad, Some(fail_at)).0 {
                    Err(error) => {
                        errors += 1;
                        assert_eq!(error.kind, StepErrorKind::Slice(SliceError::LinAlg(LinAlgError::Backend)));
                        assert_eq!(Snapshot::of(&tried, std::slice::from_ref(&tried_p)), before, "call {fail_at}");
                        // As if it had not been tried.
                        step_failing(&mut tried, &mut tried_p, &grad, None).0.unwrap();
                        assert_eq!(Snapshot::of(&tried, std::slice::from_ref(&tried_p)), after, "call {fail_at}");
                    }
                    Ok(report) => {
                        survived += 1;
                        assert_eq!(report.stepped, 1);
                        let (header, planned) = (tried.headers[0], next.headers[0]);
                        assert_eq!((header.step, header.started), (planned.step, planned.started));
                        let lost = header.refresh_failures - planned.refresh_failures;
                        // Losing the polish of a refresh is no failure of the refresh.
                        assert!(lost == 1 || config.refresh_period == 1 && header.step == 32, "call {fail_at}");
                        assert!(header.step == 1 || header.refreshes + lost == planned.refreshes, "call {fail_at}");
                        let finite = |numbers: &[f32]| numbers.iter().all(|x| x.is_finite());
                        assert!(finite(&tried_p) && (config.factor_format != Format::Native || finite(&tried.state)), "call {fail_at}");
                        step_failing(&mut tried, &mut tried_p, &grad, None).0.unwrap();
                    }
                }
            }
            (core, p) = (next, next_p);
        }
    }
    assert!(errors > 100 && survived > 100, "{errors} {survived}");
}

/// A refresh that fails, wherever in it, leaves the step that would have been made without one.
#[test]
fn a_failed_refresh_is_no_refresh() {
    let dims = [4, 3];
    let problem = Gradients::LowRankDrift.make(&dims, 8);
    let presets = [
        Config::<f32>::kl_shampoo(),
        Config::<f32>::kl_shampoo_reference(),
        Config { factor_format: Format::Bf16, ..Config::<f32>::kl_shampoo() },
        Config { factor_format: Format::F16, ..Config::<f32>::kl_shampoo_reference() },
        Config { factor_format: Format::F16, ..Config::<f32>::f_shampoo_1() },
    ];
    for preset in presets {
        for modes in [[Some(Mode::Full), Some(Mode::Identity)], [Some(Mode::Diagonal), Some(Mode::Full)]] {
            let mut never = failing(Config { refresh_period: 1000, ..preset }, &dims, &modes);
            let mut often = failing(Config { refresh_period: 3, ..preset }, &dims, &modes);
            let mut p: Vec<f32> = converted(&problem.p0);
            for (t, grad) in (1..).zip(&problem.grads) {
                let grad: Vec<f32> = converted(grad);
                let (mut planned, mut planned_p) = (never.clone(), p.clone());
                step_failing(&mut planned, &mut planned_p, &grad, None).0.unwrap();
                let expected = Snapshot::of(&planned, std::slice::from_ref(&planned_p));
                often.state.copy_from_slice(&never.state);
                let (mut counted, mut counted_p) = (often.clone(), p.clone());
                let calls = step_failing(&mut counted, &mut counted_p, &grad, None).1;
                let mut failures = 0;
                for fail_at in 0..calls {
                    let (mut tried, mut tried_p) = (often.clone(), p.clone());
                    if step_failing(&mut tried, &mut tried_p, &grad, Some(fail_at)).0.is_ok() {
                        failures += tried.headers[0].refresh_failures - often.headers[0].refresh_failures;
                        if t > 1 {
                            assert_eq!(bits(&tried.state), expected.state, "step {t}, call {fail_at}");
                            assert_eq!(bits(&tried_p), expected.params[0], "step {t}, call {fail_at}");
                        }
                    }
                }
                let due = t > preset.refresh_offset && (t - preset.refresh_offset).is_multiple_of(3);
                assert_eq!(failures > 0, due || t == 1, "step {t}");
                (never, p) = (planned, planned_p);
                often.headers[0] = SliceHeader { refresh_failures: 0, ..never.headers[0] };
            }
        }
    }
}

/// A backend without QR: all modes keep their bases, all refreshes are counted.
#[test]
fn without_any_refresh_the_bases_stay() {
    let dims = [2, 3, 4];
    let problem = Gradients::LowRankDrift.make(&dims, 8);
    let preset = Config::<f32>::kl_shampoo();
    let mut never = failing(Config { refresh_period: 1000, ..preset }, &dims, &[None; 3]);
    let mut often = failing(Config { refresh_period: 2, ..preset }, &dims, &[None; 3]);
    often.linalg.no_qr = true;
    let mut params: [Vec<f32>; 2] = [converted(&problem.p0), converted(&problem.p0)];
    for grad in &problem.grads {
        let grad: Vec<f32> = converted(grad);
        step_failing(&mut never, &mut params[0], &grad, None).0.unwrap();
        step_failing(&mut often, &mut params[1], &grad, None).0.unwrap();
    }
    assert_eq!((bits(&params[0]), bits(&never.state)), (bits(&params[1]), bits(&often.state)));
    assert_eq!((often.headers[0].refresh_failures, often.headers[0].refreshes), (12, 0));
}

/// A decomposition that fails leaves the identity as the first basis.
#[test]
fn a_failed_start_is_the_identity() {
    let problem = Gradients::LowRankDrift.make(&[4, 3], 1);
    let grad: Vec<f32> = converted(&problem.grads[0]);
    for preset in [Config::<f32>::kl_shampoo(), Config::<f32>::kl_shampoo_reference()] {
        let mut core = failing(preset, &[4, 3], &[None; 2]);
        let mut p: Vec<f32> = converted(&problem.p0);
        // The first call is the first mode's product, the second its decomposition.
        step_failing(&mut core, &mut p, &grad, Some(1)).0.unwrap();
        assert_eq!(core.headers[0].refresh_failures, 1);
        let basis = core.read(StatePart::Basis(0));
        assert!((0..16).all(|at| basis[at] == if at % 5 == 0 { 1.0 } else { 0.0 }));
        // The factor does not depend on the basis it is kept in.
        let mut whole = failing(preset, &[4, 3], &[None; 2]);
        step_failing(&mut whole, &mut converted(&problem.p0), &grad, None).0.unwrap();
        let (a, b) = (core.read(StatePart::Factor(0)), whole.read(StatePart::Factor(0)));
        assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-5 * b.abs().max(1e-3)), "{a:?} {b:?}");
    }
}

#[test]
fn a_failing_backend_does_not_spoil_a_basis_that_is_set() {
    let problem = Gradients::LowRankDrift.make(&[4, 3], 3);
    for factor_format in [Format::Native, Format::Bf16, Format::F16] {
        let mut core = failing(Config { factor_format, ..Config::<f32>::kl_shampoo() }, &[4, 3], &[None; 2]);
        let mut p: Vec<f32> = converted(&problem.p0);
        for grad in &problem.grads {
            step_failing(&mut core, &mut p, &converted::<f32>(grad), None).0.unwrap();
        }
        let identity: Vec<f32> = (0..16).map(|at| if at % 5 == 0 { 1.0 } else { 0.0 }).collect();
        let before = Snapshot::of(&core, std::slice::from_ref(&p));
        let set = |core: &mut FailingCore, fail_at| {
            core.linalg = Failing::at(fail_at);
            let (mut optimizer, scratch, linalg) = core.view();
            (optimizer.set_basis(0, 0, 0, &identity, scratch, linalg), core.linalg.calls)
        };
        let calls = set(&mut core.clone(), None).1;
        assert!(calls >= if factor_format == Format::Native { 5 } else { 7 });
        for fail_at in 0..calls {
            let error = set(&mut core, Some(fail_at)).0.unwrap_err();
            assert_eq!(error.kind, StepErrorKind::Slice(SliceError::LinAlg(LinAlgError::Backend)));
            assert_eq!(Snapshot::of(&core, std::slice::from_ref(&p)), before);
        }
    }
}

/// Whatever a gradient's scale, before the first step or after it: it is refused and nothing is written, or everything stays finite.
#[test]
fn no_scale_of_gradient_overflows_the_state() {
    let inits = [LambdaInit::ScaleFree, LambdaInit::Constant(0.1), LambdaInit::Constant(f32::FLOOR), LambdaInit::Constant(1e30)];
    let orders = [StepOrder::EstimateFirst, StepOrder::ApplyFirst];
    let (mut refused, mut stepped) = (0, 0);
    for lambda_init in inits {
        for (step_order, first_step) in orders.into_iter().flat_map(|o| [(o, FirstStep::Full), (o, FirstStep::FactorsOnly)]) {
            let config = Config { lambda_init, step_order, first_step, eps: 0.0, refresh_period: 1, ..Config::<f32>::kl_shampoo() };
            for dims in [&[3, 2][..], &[2, 2, 2], &[1, 2, 1, 2, 1, 2]] {
                for modes in [Mode::Full, Mode::Diagonal] {
                    let problem = Gradients::LowRankDrift.make(dims, 3);
                    let fresh = F32Core::new(&config, dims, &vec![Some(modes); dims.len()]);
                    for warm_up in [None, Some(-120), Some(-70), Some(-20), Some(0), Some(40)] {
                        for scale in (-149..128).step_by(7) {
                            let (mut core, mut p) = (fresh.clone(), vec![converted::<f32>(&problem.p0)]);
                            let scaled =
                                |at: usize, e: i32| vec![Some(problem.grads[at].iter().map(|g| (g * 2f64.powi(e)) as f32).collect())];
                            if let Some(e) = warm_up {
                                // Long enough that the eigenvalues are those of this scale.
                                for _ in 0..3 {
                                    let _ = core.try_step(&mut p, &scaled(0, e), LR);
                                }
                            }
                            for at in [1, 2] {
                                let before = Snapshot::of(&core, &p);
                                match core.try_step(&mut p, &scaled(at, scale), LR) {
                                    Ok(_) => stepped += 1,
                                    Err(_) => {
                                        assert_eq!(Snapshot::of(&core, &p), before);
                                        refused += 1;
                                    }
                                }
                                let finite = core.state.iter().chain(&p[0]).all(|x| x.is_finite());
                                assert!(finite, "{config:?} {dims:?} {modes:?}: {warm_up:?}, then 2^{scale}");
                            }
                        }
                    }
                }
            }
        }
    }
    assert!(refused > 1000 && stepped > 1000, "{refused} {stepped}");
}

#[test]
fn rebalancing_keeps_a_dominant_direction_in_range() {
    // One row carries everything, and its gradient jumps by 1e14: the means of the modes' eigenvalues then ask for a shift that the
    // largest eigenvalue does not survive.
    for dims in [[16, 1], [1, 65], [16, 3]] {
        for mode in [Mode::Full, Mode::Diagonal] {
            let config = Config { refresh_period: 2, ..Config::<f32>::kl_shampoo() };
            let spec = TensorSpec::new(&dims).unwrap().mode(0, mode);
            let mut core = Core::<f32, Portable>::table(&[config], &[spec]);
            let mut param = vec![vec![0.5; dims[0] * dims[1]]];
            for step in 0..40 {
                let mut grad = vec![0.0; dims[0] * dims[1]];
                grad[0] = if step == 0 { 1.0 } else { 1e14 };
                core.try_step(&mut param, &[Some(grad)], 1e-3).unwrap();
                assert!(core.state.iter().chain(&param[0]).all(|x| x.is_finite()), "{dims:?} {mode:?} step {step}");
            }
            assert_eq!(core.headers[0].refresh_failures, 0);
        }
    }
}

#[test]
fn a_learning_rate_that_would_overflow_is_refused() {
    let config = Config { weight_decay: 1e10, ..Config::<f32>::adamw() };
    let mut core = Core::<f32, Portable>::table(&[config], &[TensorSpec::new(&[3]).unwrap()]);
    let mut param = vec![vec![1.0; 3]];
    let error = core.try_step(&mut param, &[Some(vec![1.0; 3])], 1e30).unwrap_err();
    assert_eq!(error.kind, StepErrorKind::LearningRate);

    let mut core = Core::<f32, Portable>::table(&[Config::<f32>::kl_shampoo()], &[TensorSpec::new(&[3, 2]).unwrap()]);
    let mut param = vec![vec![1.0; 6]];
    let error = core.try_step(&mut param, &[Some(vec![1.0, -2.0, 3.0, 0.5, 4.0, 1.0])], 3e38).unwrap_err();
    assert_eq!(error.kind, StepErrorKind::Slice(SliceError::UpdateNotFinite));
    assert!(param[0].iter().all(|&p| p == 1.0) && core.state.iter().all(|&x| x == 0.0));
}

#[test]
fn an_estimate_that_leaves_the_range_is_not_kept() {
    let problem = Gradients::LowRankDrift.make(&[4, 3], 3);
    for config in [Config::<f32>::kl_shampoo(), Config::<f32>::soap_reference(), Config::<f32>::idealized_f_1()] {
        let mut core = failing(config, &[4, 3], &[None, None]);
        let mut p: Vec<f32> = converted(&problem.p0);
        core.step(&mut p, &converted::<f32>(&problem.grads[0]), LR);
        core.linalg.overflows = true;
        let (state, headers, before) = (core.state.clone(), core.headers.clone(), p.clone());
        let grad: Vec<f32> = converted(&problem.grads[1]);
        let error = {
            let (mut optimizer, scratch, linalg) = core.view();
            optimizer.step_tensor(0, &mut p, &grad, LR, scratch, linalg).unwrap_err()
        };
        assert_eq!(error.kind, StepErrorKind::Slice(SliceError::EstimateNotFinite));
        assert_eq!((&core.state, &core.headers, &p), (&state, &headers, &before));
        core.linalg.overflows = false;
        core.step(&mut p, &grad, LR);
    }
}

/// Where no basis turns the update, nothing but the rate can take it out of range.
#[test]
fn an_absurd_rate_of_an_elementwise_step_is_refused() {
    for config in [Config::<f32>::sgd(), Config::<f32>::adamw(), Config { max_dim: 0, graft: Graft::AdaGrad, ..Config::<f32>::shampoo() }] {
        let mut core = F32Core::new(&config, &[4, 3], &[None, None]);
        let (mut p, grad) = (vec![1.0f32; 12], vec![1e17f32; 12]);
        let (state, headers) = (core.state.clone(), core.headers.clone());
        let error = {
            let (mut optimizer, scratch, linalg) = core.view();
            optimizer.step_tensor(0, &mut p, &grad, 1e38, scratch, linalg).unwrap_err()
        };
        assert_eq!(error.kind, StepErrorKind::Slice(SliceError::UpdateNotFinite));
        assert_eq!((&core.state, &core.headers, &p), (&state, &headers, &vec![1.0; 12]));
        core.step(&mut p, &grad, LR);
        assert!(p.iter().all(|x| x.is_finite_bits()));
    }
}
