//! The step of the whole method family on the emulator, against the core's optimizer.

mod common;
#[path = "step/harness.rs"]
mod harness;
#[path = "step/single_pass.rs"]
mod single_pass;
#[path = "step/traffic.rs"]
mod traffic;

use common::{EmulatorQueue, RecordingQueue};
use harness::{Both, Buffer, Grad, resolve, stored};
use klshampoo::{
    BadGradient, BiasCorrection, Config, Convention, Damping, Direction, Eigenvalues, FirstBasis, Format, Graft, LambdaInit, Mode,
    Momentum, Refresh, Rounding, SliceHeader, StatePart, StepOrder, Storage, TensorSpec, WeightDecay,
};
use klshampoo_cuda::io::Scalar;
use klshampoo_cuda::queue::DevicePtr;
use klshampoo_cuda::step::{Options, Program, Reason, StepError};

const PERIOD: u32 = 4;

/// How far parameters may be apart, over how far they have come. Single precision leaves 1e-7 to 1e-6.
const TOLERANCE: f64 = 2e-5;

fn short(config: Config<f32>) -> Config<f32> {
    Config { refresh_period: PERIOD, ..config }
}

#[test]
fn kl_shampoo_of_a_matrix() {
    for (rows, columns) in [(6, 6), (5, 7)] {
        let mut both = Both::new(&[short(Config::<f32>::kl_shampoo())], &[TensorSpec::matrix(rows, columns)]);
        for step in 1..=12 {
            both.steps(1);
            println!("{step}: {:e}", both.distance());
            both.check(&format!("step {step}"), TOLERANCE);
            if step == 1 {
                both.meet();
            }
        }
    }
}

/// Every preset, by name.
fn presets() -> Vec<(&'static str, Config<f32>)> {
    vec![
        ("kl_shampoo", Config::<f32>::kl_shampoo()),
        ("kl_soap", Config::<f32>::kl_soap()),
        ("soap", Config::<f32>::soap()),
        ("shampoo", Config::<f32>::shampoo()),
        ("shampoo_half", Config::<f32>::shampoo_half()),
        ("shampoo_quarter", Config::<f32>::shampoo_quarter()),
        ("vn_shampoo_1", Config::<f32>::vn_shampoo_1()),
        ("vn_shampoo_2", Config::<f32>::vn_shampoo_2()),
        ("f_shampoo_1", Config::<f32>::f_shampoo_1()),
        ("f_shampoo_2", Config::<f32>::f_shampoo_2()),
        ("idealized_kl", Config::<f32>::idealized_kl()),
        ("idealized_vn_1", Config::<f32>::idealized_vn_1()),
        ("idealized_vn_2", Config::<f32>::idealized_vn_2()),
        ("idealized_f_1", Config::<f32>::idealized_f_1()),
        ("idealized_f_2", Config::<f32>::idealized_f_2()),
        ("instantaneous_kl", Config::<f32>::instantaneous_kl()),
        ("one_sided", Config::<f32>::one_sided()),
        ("adafactor", Config::<f32>::adafactor()),
        ("adamw", Config::<f32>::adamw()),
        ("rmsprop", Config::<f32>::rmsprop()),
        ("sgd", Config::<f32>::sgd()),
    ]
}

const CONVENTIONS: [Convention; 4] = [Convention::Figure13, Convention::ReferenceKl, Convention::ReferenceSoap, Convention::ReferenceMeta];

/// Steps the tensors with a configuration and compares.
fn compare(what: &str, config: Config<f32>, specs: &[TensorSpec], steps: usize, tolerance: f64) {
    let mut both = Both::new(&[config], specs);
    both.steps(1);
    both.check(&format!("{what}, first step"), tolerance);
    both.meet();
    both.steps(steps - 1);
    println!("{what}: {:e}", both.distance());
    both.check(what, tolerance);
}

#[test]
fn every_preset_in_every_convention() {
    for (name, preset) in presets() {
        for convention in CONVENTIONS {
            let config = short(preset.in_convention(convention));
            let config = Config { weight_decay: 0.1, ..config };
            let (matrix, order_3) = (TensorSpec::matrix(4, 6), TensorSpec::new(&[3, 2, 4]).unwrap());
            let mixed = order_3.mode(1, Mode::Diagonal);
            let specs = [matrix, order_3, mixed];
            let specs = if name == "one_sided" { &specs[..2] } else { &specs };
            compare(&format!("{name} {convention:?}"), config, specs, 10, TOLERANCE);
        }
    }
}

#[test]
fn every_shape() {
    let specs = [
        TensorSpec::matrix(1, 1),
        TensorSpec::matrix(1, 3),
        TensorSpec::matrix(3, 1),
        TensorSpec::matrix(9, 4),
        TensorSpec::vector(11),
        TensorSpec::vector(1),
        TensorSpec::new(&[3, 4, 5]).unwrap(),
        TensorSpec::new(&[2, 3, 2, 3]).unwrap(),
        TensorSpec::matrix(5, 6).mode(0, Mode::Diagonal),
        TensorSpec::matrix(5, 6).mode(1, Mode::Diagonal),
        TensorSpec::matrix(5, 6).mode(0, Mode::Identity),
        TensorSpec::matrix(5, 6).mode(0, Mode::Diagonal).mode(1, Mode::Diagonal),
        TensorSpec::matrix(5, 6).mode(0, Mode::Diagonal).mode(1, Mode::Identity),
        TensorSpec::new(&[3, 4, 5]).unwrap().mode(1, Mode::Diagonal),
        TensorSpec::new(&[3, 4, 5]).unwrap().mode(0, Mode::Identity).mode(2, Mode::Diagonal),
        TensorSpec::vector(3).mode(0, Mode::Full),
    ];
    for (name, preset) in presets().into_iter().filter(|(name, _)| *name != "one_sided") {
        // Where it has no gradient, Adafactor as it starts from nothing would divide a turned gradient's rounding by the floor.
        let count = specs.len() - usize::from(name == "adafactor");
        compare(name, short(preset), &specs[..count], 6, TOLERANCE);
    }
}

/// More elements than a block, a tile, a chunk, a part of a sum.
#[test]
fn large_shapes() {
    let diagonal = |spec: TensorSpec| spec.mode(0, Mode::Diagonal).mode(1, Mode::Diagonal);
    let kl = Config { refresh_period: 3, ..Config::<f32>::kl_shampoo() };
    compare("large matrix", kl, &[TensorSpec::matrix(70, 100)], 4, 1e-4);
    let long = [diagonal(TensorSpec::matrix(2000, 8)), diagonal(TensorSpec::matrix(3, 20_000)), TensorSpec::vector(70_000)];
    compare("long", kl, &long, 3, TOLERANCE);
    compare("long, with a factor", kl, &[TensorSpec::matrix(6, 9000).mode(1, Mode::Diagonal)], 4, TOLERANCE);
    compare("long, grafted", Config { graft: Graft::Adam, measure: true, ..Config::<f32>::adafactor() }, &long, 3, TOLERANCE);
}

/// More elements than the threads of as many blocks as an item may have take at once.
#[test]
fn threads_that_come_back() {
    let kl = Config { refresh_period: 2, ..Config::<f32>::kl_shampoo() };
    compare("longer, with a factor", kl, &[TensorSpec::matrix(8, 262_500).mode(1, Mode::Diagonal)], 2, TOLERANCE);
}

/// Choices that no preset makes.
#[test]
fn every_other_choice() {
    let kl = Config::<f32>::kl_shampoo();
    let soap = Config::<f32>::soap();
    let cases = [
        ("period 1", Config { refresh_period: 1, ..kl }),
        ("reflections", Config { refresh: Refresh::HouseholderQr, ..kl }),
        ("growing period", Config { refresh_growth: 6, refresh_period: 5, ..kl }),
        ("staleness", Config { staleness: 1e-3, ..kl }),
        ("stale eigenvalues", Config { staleness: 1e-3, ..Config::<f32>::idealized_kl() }),
        ("after refresh", Config { eigenvalues: Eigenvalues::InstantaneousAfterRefresh, ..Config::<f32>::instantaneous_kl() }),
        ("sorted", Config { sort: true, ..kl }),
        ("sorted soap, apply first", Config { step_order: StepOrder::ApplyFirst, refresh_offset: 1, ..soap }),
        ("identity first", Config { first_basis: FirstBasis::Identity, ..kl }),
        ("identity first, grafted", Config { first_basis: FirstBasis::Identity, graft: Graft::RmsProp, ..kl }),
        ("nesterov", Config { momentum: Momentum::Nesterov, bias_correction: BiasCorrection::Moments, ..kl }),
        ("nesterov soap", Config { momentum: Momentum::Nesterov, bias_correction: BiasCorrection::StepSize, ..soap }),
        ("no momentum", Config { momentum: Momentum::None, ..kl }),
        ("no momentum soap", Config { momentum: Momentum::None, ..soap }),
        ("constant lambda", Config { lambda_init: LambdaInit::Constant(0.1), ..kl }),
        ("clamp", Config { clamp_limit: Some(20.0), gauge: false, ..kl }),
        ("factor damping", Config { damping: Damping::Factor, gauge: false, eps: 1e-3, ..kl }),
        ("power", Config { direction: Direction::KroneckerPower(0.4), ..kl }),
        ("cap", Config { rms_cap: Some(0.1), ..kl }),
        ("graft adam", Config { graft: Graft::Adam, bias_correction: BiasCorrection::Moments, ..kl }),
        ("graft sgd", Config { graft: Graft::Sgd, ..kl }),
        ("graft rmsprop, capped", Config { graft: Graft::RmsProp, rms_cap: Some(0.05), ..kl }),
        ("graft adagrad", Config { graft: Graft::AdaGrad, ..kl }),
        ("decay after", Config { weight_decay: 0.1, weight_decay_kind: WeightDecay::After, ..kl }),
        ("decay l2", Config { weight_decay: 0.1, weight_decay_kind: WeightDecay::L2, ..kl }),
        ("decay independent", Config { weight_decay: 0.01, weight_decay_kind: WeightDecay::Independent, ..kl }),
        ("scaled rate", Config { lr_scale: 0.5, ..kl }),
        ("measured", Config { measure: true, ..kl }),
        ("measured, grafted", Config { measure: true, graft: Graft::Adam, ..soap }),
        ("no damping", Config { eps: 0.0, ..kl }),
    ];
    let specs = [
        TensorSpec::matrix(4, 6),
        TensorSpec::new(&[3, 2, 4]).unwrap(),
        TensorSpec::matrix(3, 5).mode(0, Mode::Diagonal),
        TensorSpec::vector(5),
    ];
    for (name, config) in cases {
        let period = if config.refresh_period == 10 { PERIOD } else { config.refresh_period };
        compare(name, Config { refresh_period: period, ..config }, &specs, 11, TOLERANCE);
    }
    let elementwise = Config { graft: Graft::Adam, ..Config::<f32>::adafactor() };
    compare("adafactor, grafted", elementwise, &specs, 7, TOLERANCE);
    compare("adafactor, capped", Config { rms_cap: Some(0.1), ..Config::<f32>::adafactor() }, &specs, 7, TOLERANCE);
}

/// What rarely happens does happen in tests, and is counted as the core counts it.
#[test]
fn rare_events_are_counted() {
    let kl = short(Config::<f32>::kl_shampoo());
    type Count = fn(&SliceHeader) -> u32;
    let cases: [(&str, Config<f32>, Count); 5] = [
        ("refreshes left out", Config { staleness: 0.05, ..kl }, |header| header.refreshes_skipped),
        ("clamped", Config { clamp_limit: Some(20.0), gauge: false, lambda_init: LambdaInit::Constant(1e-4), ..kl }, |header| {
            header.clamped
        }),
        ("floored", short(Config::<f32>::adafactor()), |header| header.floored),
        ("rebalanced", kl, |header| header.rebalanced),
        ("capped", Config { rms_cap: Some(0.1), ..kl }, |header| header.capped),
    ];
    for (name, config, count) in cases {
        let mut both = Both::new(&[config], &[TensorSpec::matrix(4, 4), TensorSpec::matrix(3, 5).mode(1, Mode::Diagonal)]);
        for step in 0..10 {
            if step == 5 && name == "rebalanced" {
                both.unbalance();
            }
            let mut grads = both.gradients();
            // Their squares are below the floor.
            set(&mut grads[0], |_, x| *x *= if name == "floored" { 1e-11 } else { 1.0 });
            both.step(&grads);
        }
        both.check(name, TOLERANCE);
        let counted: Vec<u32> = both.headers().iter().map(count).collect();
        println!("{name}: {counted:?}, {:e}", both.distance());
        assert!(counted.iter().any(|&count| count > 0), "{name}: {counted:?}");
    }
}

#[test]
fn every_storage() {
    let stochastic = Rounding::Stochastic { seed: 5 };
    let strided = Storage { strides: Some([1, 6, 0, 0, 0, 0]), ..Storage::DENSE };
    let specs = [
        TensorSpec::matrix(4, 6).slices(3),
        TensorSpec::matrix(4, 6).slices(2).slice_stride(30),
        TensorSpec::matrix(9, 4).split_rows(&[3, 3, 3]).unwrap(),
        TensorSpec::matrix(9, 4).split_rows(&[2, 7]).unwrap(),
        TensorSpec::matrix(4, 6).storage(strided),
        TensorSpec::matrix(4, 6).storage(stored(Format::Native, Format::Bf16, false)),
        TensorSpec::matrix(4, 6).storage(stored(Format::Native, Format::F16, false)),
        TensorSpec::matrix(4, 6).storage(stored(Format::Bf16, Format::Bf16, true)),
        TensorSpec::matrix(4, 6).storage(Storage { rounding: stochastic, ..stored(Format::Bf16, Format::Native, true) }),
        TensorSpec::vector(40).storage(stored(Format::Bf16, Format::Bf16, true)),
    ];
    let kl = short(Config::<f32>::kl_shampoo());
    compare("storage", kl, &specs, 9, TOLERANCE);
    compare("storage, l2", Config { weight_decay: 0.1, weight_decay_kind: WeightDecay::L2, ..kl }, &specs, 9, TOLERANCE);
    compare("blocks", Config { block_size: 3, ..kl }, &specs[..5], 9, TOLERANCE);
    compare("merged dims", Config { merge_dims: 12, ..kl }, &[TensorSpec::new(&[5, 3, 2, 2]).unwrap()], 9, TOLERANCE);
    compare("no full mode", Config { max_dim: 3, ..kl }, &specs, 9, TOLERANCE);
}

/// A scaled gradient is the gradient.
#[test]
fn gradients_are_scaled() {
    let spec = TensorSpec::matrix(4, 6).with_grad_scaling();
    let mut both = Both::new(&[short(Config::<f32>::kl_shampoo())], &[spec]);
    both.grad_scale = 0.125;
    both.steps(1);
    both.meet();
    both.steps(8);
    both.check("scaled", TOLERANCE);
}

/// A bound on the norm of all gradients scales them, and nothing else.
#[test]
fn gradients_are_clipped() {
    let config = short(Config { bad_gradient: BadGradient::Skip, ..Config::<f32>::kl_shampoo() });
    let specs = [TensorSpec::matrix(4, 4), TensorSpec::vector(7), TensorSpec::matrix(3, 3).slices(2)].map(TensorSpec::with_grad_scaling);
    let mut both = Both::new(&[config], &specs);
    for step in 0..9 {
        let mut grads = both.gradients();
        // What is not finite is not stepped and counts for nothing.
        set(&mut grads[2], |i, x| *x = if step == 8 && i == 12 { f32::NAN } else { *x });
        let squares = |numbers: &[f32]| numbers.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>();
        let of = |grad: &Grad| match grad {
            Some(Buffer::Native(numbers)) if step == 8 && numbers.len() == 18 => squares(&numbers[..9]),
            Some(Buffer::Native(numbers)) => squares(numbers),
            _ => 0.0,
        };
        let norm = grads.iter().map(of).sum::<f64>().sqrt();
        // Beyond the bound in every other step.
        let limit = if step % 2 == 0 { norm * 0.25 } else { norm * 2.0 } as f32;
        both.device.set_clip(Some(Scalar::of(limit)));
        both.step_clipped(&grads, if step % 2 == 0 { 0.25 } else { 1.0 });
        println!("{step}: {:e}", both.distance());
    }
    both.check("clipped", TOLERANCE);
}

/// The refreshes of many equal tensors are spread over the period, and some tensors are frozen now and then: each has its own count.
#[test]
fn frozen_tensors_and_staggered_refreshes() {
    let config = short(Config::<f32>::kl_shampoo());
    let specs = [[TensorSpec::matrix(4, 6); 5].as_slice(), &[TensorSpec::matrix(3, 3); 4]].concat();
    let mut both = Both::new(&[config], &specs);
    both.steps(1);
    both.meet();
    for step in 1..14 {
        let mut grads = both.gradients();
        for (i, grad) in grads.iter_mut().enumerate() {
            if (i * 3 + step) % 5 == 0 {
                *grad = None;
            }
        }
        both.step(&grads);
    }
    both.check("frozen", TOLERANCE);
    let refreshes: Vec<u32> = both.headers().iter().map(|header| header.refreshes).collect();
    assert!(refreshes.iter().any(|&count| count != refreshes[0]), "{refreshes:?}");
}

/// Equal tensors in more batches than one come out as in one, bit for bit.
#[test]
fn a_small_workspace_changes_nothing() {
    let config = short(Config::<f32>::kl_shampoo());
    let specs = [TensorSpec::matrix(4, 6); 7];
    let run = |options: &Options| {
        let mut both = Both::with_options(&[config], &specs, options);
        both.steps(9);
        (both.device.program().batches(), both.device_params.clone(), both.download())
    };
    let (one, params, state) = run(&Options::default());
    let (many, other_params, other_state) = run(&Options { workspace_limit: 1 << 12, ..Options::default() });
    assert!(one == 1 && many > 1);
    assert!(params == other_params && state == other_state);
}

/// By default every shape of GPT-2 124M's layers is a batch.
#[test]
fn the_layers_of_gpt2_are_four_batches() {
    let groups = [Config::<f32>::kl_shampoo()];
    let layers = [[2304, 768], [768, 768], [3072, 768], [768, 3072]].map(|[rows, columns]| TensorSpec::matrix(rows, columns).slices(12));
    let (table, _) = resolve(&groups, &layers);
    let program = |workspace_limit| Program::new(&groups, &table, &Options { workspace_limit, ..Options::default() }).unwrap();
    let default = program(Options::default().workspace_limit);
    assert_eq!(default.batches(), 4);
    assert!(default.bytes().workspace <= Options::default().workspace_limit);
    assert!(program(1 << 30).batches() > 4);
}

/// Refreshes between the steps: those of steps that apply first, to the bit, whatever order the configuration has; and so the core's.
#[test]
fn refreshes_with_a_queue_of_their_own() {
    let later = Options { refreshes_later: true, ..Options::default() };
    let specs = [
        TensorSpec::matrix(4, 6),
        TensorSpec::new(&[3, 2, 4]).unwrap(),
        TensorSpec::new(&[3, 2, 4]).unwrap().mode(1, Mode::Diagonal),
        TensorSpec::matrix(4, 6).slices(3),
        TensorSpec::vector(5),
    ];
    let turned = presets().into_iter().filter(|(name, _)| !matches!(*name, "adafactor" | "adamw" | "rmsprop" | "sgd"));
    for (i, (name, preset)) in turned.enumerate() {
        // Staggered refreshes are spread by what the steps of the configuration cost, in its own order.
        let config = match i % 3 {
            0 => Config { stagger: false, ..preset },
            1 => preset.in_convention(Convention::ReferenceKl),
            _ => Config { sort: true, stagger: false, ..preset },
        };
        let specs = if name == "one_sided" { &specs[..2] } else { &specs };
        let config = Config { weight_decay: 0.1, ..short(config) };
        let applies_first = Config { step_order: StepOrder::ApplyFirst, ..config };
        let mut both = Both::with_options(&[applies_first], specs, &later);
        let (mut within, mut usual) = (Both::new(&[applies_first], specs), Both::with_options(&[config], specs, &later));
        for step in 0..7 {
            let grads = both.gradients();
            both.step(&grads);
            within.step(&grads);
            usual.step(&grads);
            if step == 0 {
                both.meet();
                within.meet();
                let (state, headers) = both.download();
                usual.upload(&state, &headers);
                usual.device_params.clone_from(&both.device_params);
            }
            assert!(both.device_params == within.device_params, "{name}, step {step}");
            assert!(both.device_params == usual.device_params, "{name}, step {step}: whatever the order");
        }
        both.check(name, TOLERANCE);
        assert!(both.download() == within.download(), "{name}");
        assert!(both.download() == usual.download(), "{name}");
        assert!(both.headers().iter().any(|header| header.refreshes > 0), "{name}");
    }
}

/// An item that was left alone in a step has no refresh after it.
#[test]
fn later_refreshes_are_of_the_items_that_were_stepped() {
    let config =
        Config { bad_gradient: BadGradient::Skip, stagger: false, step_order: StepOrder::ApplyFirst, ..Config::<f32>::kl_shampoo() };
    let specs = [TensorSpec::matrix(4, 6); 2];
    let mut both = Both::with_options(&[short(config)], &specs, &Options { refreshes_later: true, ..Options::default() });
    both.steps(PERIOD as usize - 1);
    let mut grads = both.gradients();
    set(&mut grads[1], |i, x| *x = if i == 7 { f32::NAN } else { *x });
    let before = both.download();
    both.step(&grads);
    assert!(both.device.has_refreshes());
    let after = both.download();
    assert!(!both.device.has_refreshes());
    let len = both.table[0].state_range(0).len();
    assert!(before.0[len..] == after.0[len..]);
    assert_eq!(after.1[1], SliceHeader { skipped: 1, ..before.1[1] });
    assert_eq!((after.1[0].refreshes, after.1[0].last_refresh), (2, u64::from(PERIOD)));
}

fn set(grad: &mut Grad, f: impl Fn(usize, &mut f32)) {
    let Some(Buffer::Native(numbers)) = grad else { panic!("a native gradient") };
    numbers.iter_mut().enumerate().for_each(|(i, x)| f(i, x));
}

/// A gradient that cannot be used leaves its item as it was, to the last bit, and is counted; the others are stepped.
#[test]
fn bad_gradients_are_skipped_and_counted() {
    for (name, preset) in [("kl", Config::<f32>::kl_shampoo()), ("soap", Config::<f32>::soap()), ("adamw", Config::<f32>::adamw())] {
        let config = Config { bad_gradient: BadGradient::Skip, stagger: false, ..short(preset) };
        let specs = [TensorSpec::matrix(5, 5), TensorSpec::matrix(5, 5).slices(2), TensorSpec::matrix(3, 3)];
        let mut both = Both::new(&[config], &specs);
        for (step, bad) in [(1, f32::NAN), (3, f32::INFINITY), (6, 1e30)] {
            while both.steps_made() < step {
                both.steps(1);
            }
            let (mut grads, before, params) = (both.gradients(), both.download(), both.device_params.clone());
            set(&mut grads[0], |i, x| *x = if i == 13 { bad } else { *x });
            set(&mut grads[1], |i, x| *x = if i == 40 { bad } else { *x });
            both.step(&grads);
            let after = both.download();
            let len = both.table[0].state_range(0).len();
            for place in [0, 2] {
                assert!(before.0[place * len..][..len] == after.0[place * len..][..len], "{name}, {bad}");
                let header = SliceHeader { skipped: before.1[place].skipped + 1, ..before.1[place] };
                assert_eq!(after.1[place], header, "{name}, {bad}");
                assert!(before.1[1].step < after.1[1].step);
            }
            assert!(params[0] == both.device_params[0], "{name}, {bad}");
            assert_eq!(params[1].numbers()[25..], both.device_params[1].numbers()[25..]);
            assert_ne!(params[1].numbers()[..25], both.device_params[1].numbers()[..25]);
            // The host has counted the step, which the core has not: their refreshes would come at different times.
            both.device.loaded(&after.1);
        }
        both.check(name, TOLERANCE);
    }
}

/// First gradients of zero, tiny, huge, with zero rows, of rank one.
#[test]
fn gradients_of_every_size() {
    for (name, preset) in [
        ("kl", Config::<f32>::kl_shampoo()),
        ("kl reference", Config::<f32>::kl_shampoo_reference()),
        ("soap reference", Config::<f32>::soap_reference()),
        ("shampoo reference", Config::<f32>::shampoo_reference()),
        ("f 1", Config::<f32>::f_shampoo_1()),
        ("idealized vn 2", Config::<f32>::idealized_vn_2()),
        ("adafactor", Config::<f32>::adafactor()),
    ] {
        let config = Config { bad_gradient: BadGradient::Skip, weight_decay: 0.1, stagger: false, ..short(preset) };
        let mut both = Both::new(&[config], &[TensorSpec::matrix(4, 4); 4]);
        for step in 0..9 {
            let mut grads = both.gradients();
            set(&mut grads[0], |_, x| *x *= if step < 2 { 0.0 } else { 1.0 });
            set(&mut grads[1], |_, x| *x *= 1e-12);
            set(&mut grads[2], |_, x| *x *= 1e6);
            // In a direction without gradients SOAP divides rounding by rounding.
            let zero_row = if name == "soap reference" { 4 } else { 2 };
            set(&mut grads[3], |i, x| *x = if i / 4 == zero_row { 0.0 } else { *x });
            both.step(&grads);
        }
        println!("{name}: {:e}", both.distance());
        both.check(name, TOLERANCE);
    }
}

/// State and headers are the core's: each goes on from where the other one was.
#[test]
fn states_move_between_the_core_and_the_device() {
    for (name, preset) in presets() {
        let specs =
            [TensorSpec::matrix(4, 6), TensorSpec::new(&[2, 3, 4]).unwrap(), TensorSpec::matrix(4, 6).slices(2), TensorSpec::vector(5)];
        let specs = if name == "one_sided" { &specs[..1] } else { &specs };
        let mut both = Both::new(&[short(preset)], specs);
        both.steps(1);
        both.meet();
        both.steps(4);
        both.swap();
        both.steps(5);
        println!("{name}: {:e}", both.distance());
        both.check(name, TOLERANCE);
    }
}

/// A refresh that a budget of the core has put off is no longer waiting once it is made.
#[test]
fn refreshes_that_were_put_off_are_made() {
    let mut both = Both::new(&[short(Config::<f32>::kl_shampoo())], &[TensorSpec::matrix(4, 6), TensorSpec::vector(5)]);
    both.steps(1);
    both.postpone(2);
    both.steps(1);
    both.check("before", TOLERANCE);
    assert!(both.headers().iter().any(|header| header.postponed == 2));
    both.steps(PERIOD as usize);
    both.check("after", TOLERANCE);
    assert!(both.headers()[0].postponed == 0 && both.headers()[0].refreshes > 0);
}

/// A tensor that is frozen from the start does not keep the others waiting, and sets its basis when it is frozen no more.
#[test]
fn frozen_tensors_save_launches_too() {
    let mut both = Both::new(&[short(Config::<f32>::kl_shampoo())], &[TensorSpec::matrix(4, 4); 2]);
    let frozen = |both: &mut Both| {
        let mut grads = both.gradients();
        grads[1] = None;
        let before = both.queue.launches;
        both.step(&grads);
        both.queue.launches - before
    };
    frozen(&mut both);
    let first = frozen(&mut both);
    assert!(both.device.may_start());
    let (_, headers) = both.download();
    assert!(headers[0].started != 0 && headers[1].started == 0);
    both.device.observed(&headers);
    assert!(!both.device.may_start());
    // Steps of one place in the period.
    for _ in 1..PERIOD {
        frozen(&mut both);
    }
    let then = frozen(&mut both);
    assert!(then < first, "{then} {first}");
    both.check("frozen", TOLERANCE);
    both.steps(1);
    assert!(both.device.may_start() && both.headers()[1].started != 0);
    // What was on its way since before says nothing of it.
    both.device.observed(&headers);
    assert!(both.device.may_start());
    let (_, headers) = both.download();
    both.device.observed(&headers);
    assert!(!both.device.may_start());
    both.meet();
    both.steps(5);
    both.check("thawed", TOLERANCE);
}

/// Once all items are known to have begun, what a first step needs is not launched, and nothing else changes.
#[test]
fn observed_headers_save_launches() {
    let mut both = Both::new(&[short(Config::<f32>::kl_shampoo())], &[TensorSpec::matrix(4, 4); 2]);
    both.steps(2);
    let launches = |both: &mut Both| {
        let before = both.queue.launches;
        both.steps(1);
        both.queue.launches - before
    };
    let first = launches(&mut both);
    let (_, headers) = both.download();
    both.device.observed(&headers);
    both.steps(1);
    let then = launches(&mut both);
    assert!(then < first, "{then} {first}");
    both.steps(4);
    both.check("observed", TOLERANCE);
}

/// The steps of a period, recorded and run again and again with other gradients and rates, are the steps that they would have been, bit for bit.
#[test]
fn replayed_steps_are_the_steps() {
    let config = short(Config::<f32>::kl_shampoo());
    let specs = [[TensorSpec::matrix(4, 6); 5].as_slice(), &[TensorSpec::vector(9), TensorSpec::matrix(3, 3)]].concat();
    let (mut eager, mut replayed) = (Both::new(&[config], &specs), Both::new(&[config], &specs));
    let period = PERIOD as usize;
    let mut rate = Vec::from([0.01f32]);
    let mut grads = eager.gradients();
    let lr = Scalar::at(common::device(&mut rate));
    let mut recorded = Vec::new();
    for step in 0..4 * period {
        let next = eager.gradients();
        for (grad, next) in grads.iter_mut().zip(next) {
            let (Some(Buffer::Native(grad)), Some(Buffer::Native(next))) = (grad, next) else { panic!("native gradients") };
            grad.copy_from_slice(&next);
        }
        rate[0] = 0.01 / (1.0 + step as f32);
        eager.launch(&mut EmulatorQueue::default(), &mut grads, lr);
        match step / period {
            // Not recorded: what comes first differs from what comes again.
            0 => replayed.launch(&mut EmulatorQueue::default(), &mut grads, lr),
            1 => {
                let mut queue = RecordingQueue::default();
                replayed.launch(&mut queue, &mut grads, lr);
                queue.run();
                recorded.push(queue);
            }
            _ => {
                recorded[step % period].run();
                replayed.device.replayed(1).unwrap();
            }
        }
        assert!(eager.device_params == replayed.device_params, "step {step}");
    }
    assert!(eager.download() == replayed.download());
    let refreshes = eager.download().1.iter().map(|header| header.refreshes).max();
    assert!(refreshes >= Some(6), "{refreshes:?}");
    // And the host knows where they are.
    for both in [&mut eager, &mut replayed] {
        both.launch(&mut EmulatorQueue::default(), &mut grads, lr);
    }
    assert!(eager.download() == replayed.download());
}

/// What the device cannot do is refused with a reason, and never computed in another way.
#[test]
fn what_is_not_there_is_refused() {
    let kl = Config::<f32>::kl_shampoo();
    let matrix = TensorSpec::matrix(4, 6);
    let cases = [
        (Config { factor_format: Format::Bf16, ..kl }, matrix, Reason::FactorFormat),
        (Config { refresh_portion: 1000, ..kl }, matrix, Reason::Portions),
        (kl, TensorSpec::vector(1 << 31), Reason::TooLarge),
        (Config { max_dim: 1 << 20, ..kl }, TensorSpec::matrix(1 << 16, 2), Reason::TooLarge),
    ];
    for (config, spec, reason) in cases {
        let (table, _) = harness::resolve(&[config], &[matrix, spec]);
        let refused = Program::new(&[config], &table, &Options::default()).unwrap_err();
        assert_eq!(refused.reason, reason);
        assert!(refused.to_string().starts_with(&format!("tensor {}: ", refused.tensor)), "{refused}");
    }
}

/// Numbers on the device are not known when a step is launched: one that cannot be used leaves every item as it is.
#[test]
fn bad_numbers_on_the_device_skip_the_step() {
    let mut both = Both::new(&[short(Config::<f32>::kl_shampoo())], &[TensorSpec::matrix(4, 4), TensorSpec::vector(3)]);
    both.steps(3);
    let (state, headers) = both.download();
    let params = both.device_params.clone();
    let mut grads = both.gradients();
    for (skipped, bad) in [(1, -1.0), (2, f32::NAN), (3, f32::INFINITY)] {
        let mut rate = Vec::from([bad]);
        both.launch(&mut EmulatorQueue::default(), &mut grads, Scalar::at(common::device(&mut rate)));
        let expected: Vec<SliceHeader> = headers.iter().map(|header| SliceHeader { skipped, ..*header }).collect();
        assert!(both.download() == (state.clone(), expected) && both.device_params == params, "{bad}");
    }
    let mut rate = Vec::from([0.02f32]);
    both.launch(&mut EmulatorQueue::default(), &mut grads, Scalar::at(common::device(&mut rate)).with_factor(0.5));
    assert!(both.download().1.iter().all(|header| header.step == 4));
}

/// An update that leaves the range leaves its item as it was.
#[test]
fn updates_out_of_range_are_not_made() {
    let config = Config { eps: 0.0, direction: Direction::Momentum, ..Config::<f32>::adamw() };
    let mut both = Both::new(&[config], &[TensorSpec::vector(5), TensorSpec::vector(7)]);
    both.steps(1);
    let (state, headers) = both.download();
    let params = both.device_params.clone();
    let mut grads = both.gradients();
    set(&mut grads[0], |_, x| *x *= 1e15);
    both.launch(&mut EmulatorQueue::default(), &mut grads, Scalar::of(1e24));
    let after = both.download();
    let len = both.table[0].state_range(0).len();
    assert!(after.0[..len] == state[..len] && after.0[len..] != state[len..]);
    assert_eq!(after.1[0], SliceHeader { skipped: 1, ..headers[0] });
    assert_eq!(after.1[1].step, 2);
    assert!(both.device_params[0] == params[0] && both.device_params[1] != params[1]);
}

/// So does one that is not finite, at any rate.
#[test]
fn updates_that_are_not_finite_are_not_made() {
    for lr in [0.0, 1e-4, 1.0] {
        let mut both = Both::new(&[Config { eps: 0.0, ..Config::<f32>::kl_shampoo() }], &[TensorSpec::matrix(4, 6); 2]);
        both.steps(1);
        let (mut state, headers) = both.download();
        // What a forged checkpoint may hold: a momentum that overflows when it is turned.
        let momentum = both.table[0].layout().range(StatePart::Momentum);
        state[momentum].iter_mut().enumerate().for_each(|(i, m)| *m = if i % 2 == 0 { 3e38 } else { -3e38 });
        both.upload(&state, &headers);
        let params = both.device_params.clone();
        let mut grads = both.gradients();
        both.launch(&mut EmulatorQueue::default(), &mut grads, Scalar::of(lr));
        let after = both.download();
        let len = both.table[0].state_range(0).len();
        assert!(after.0[..len] == state[..len] && after.0[len..] != state[len..], "{lr}");
        assert_eq!((after.1[0].skipped, after.1[1].step), (1, 2));
        assert!(both.device_params[0] == params[0]);
    }
}

#[test]
fn wrong_calls_are_errors() {
    let mut both = Both::new(&[Config::<f32>::kl_shampoo()], &[TensorSpec::matrix(4, 6); 2]);
    // SAFETY: nothing is launched with it.
    let (one, none) = ([unsafe { DevicePtr::new(256) }; 2], [DevicePtr::NULL; 2]);
    let mut step = |params: &[DevicePtr], grads: &[DevicePtr], lr: f32, scale: f32| {
        both.device.step(&mut both.queue, params, grads, Scalar::of(lr), Scalar::of(scale)).unwrap_err()
    };
    assert_eq!(step(&one[..1], &one, 0.1, 1.0), StepError::TensorCount);
    assert_eq!(step(&one, &one[..1], 0.1, 1.0), StepError::TensorCount);
    assert_eq!(step(&none, &one, 0.1, 1.0), StepError::ParameterMissing { tensor: 0 });
    assert_eq!(step(&one, &one, -0.1, 1.0), StepError::LearningRate);
    assert_eq!(step(&one, &one, f32::NAN, 1.0), StepError::LearningRate);
    assert_eq!(step(&one, &one, 0.1, 0.0), StepError::GradScale);
    assert_eq!(both.queue.launches, both.prepared);
}
