//! Methods without factors, whose step is one pass over the elements: the core's bits, wherever gradients and parameters lie.

use klshampoo::{BiasCorrection, Config, Format, Momentum, Rounding, SliceHeader, StatePart, Storage, TensorSpec, WeightDecay};
use klshampoo_cuda::io::Scalar;

use crate::common::EmulatorQueue;
use crate::harness::{Both, Buffer, stored};

/// Lengths around those of one access, and of a chunk.
const LENGTHS: [usize; 14] = [1, 2, 3, 4, 5, 7, 8, 9, 31, 255, 1023, 4095, 4097, 9001];

/// Without bias corrections: the device forms the powers in them in double precision, the core does not.
fn adam() -> Config<f32> {
    Config { bias_correction: BiasCorrection::None, weight_decay: 0.0, ..Config::<f32>::adamw() }
}

fn methods() -> [(&'static str, Config<f32>); 5] {
    let adamw = adam();
    [
        ("adamw", adamw),
        ("nesterov", Config { momentum: Momentum::Nesterov, ..adamw }),
        ("rmsprop", Config::<f32>::rmsprop()),
        ("sgd", Config::<f32>::sgd()),
        ("sgd without momentum", Config { momentum: Momentum::None, ..Config::<f32>::sgd() }),
    ]
}

/// Every bit of both optimizers.
fn assert_equal(both: &mut Both, what: &str) {
    let (state, headers) = both.download();
    let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    assert!(both.params == both.device_params, "{what}: parameters");
    assert!(bits(&state) == bits(both.state()), "{what}: state");
    assert_eq!(headers, both.headers(), "{what}");
}

/// Three slices of a length, with a gap of one element: parameters and gradients, and where the length is odd the moments too, begin at every
/// multiple of their sizes.
fn apart(len: usize) -> TensorSpec {
    TensorSpec::vector(len).slices(3).slice_stride(len + 1)
}

#[test]
fn bits_of_the_core_at_every_length_and_place() {
    let specs: Vec<TensorSpec> = LENGTHS.iter().map(|&len| apart(len)).collect();
    for (name, config) in methods() {
        let mut both = Both::new(&[Config { weight_decay: 0.1, ..config }], &specs);
        for step in 1..=3 {
            both.steps(1);
            assert_equal(&mut both, &format!("{name}, step {step}"));
        }
    }
}

/// With bias corrections the moments are the core's, and parameters come out a rounding apart.
#[test]
fn corrected_steps_are_close() {
    let specs: Vec<TensorSpec> = LENGTHS.iter().map(|&len| apart(len)).collect();
    let adamw = Config::<f32>::adamw();
    for config in [adamw, Config { bias_correction: BiasCorrection::StepSize, ..adamw }, Config { momentum: Momentum::Nesterov, ..adamw }] {
        let mut both = Both::new(&[config], &specs);
        both.steps(5);
        println!("{:e}", both.distance());
        both.check("corrected", 2e-6);
        let (state, _) = both.download();
        assert!(state == both.state());
    }
}

#[test]
fn bits_of_the_core_in_every_format() {
    let stochastic = Rounding::Stochastic { seed: 9 };
    let storages = [
        stored(Format::Native, Format::Bf16, false),
        stored(Format::Native, Format::F16, false),
        stored(Format::Bf16, Format::Bf16, false),
        stored(Format::Bf16, Format::F16, true),
        Storage { rounding: stochastic, ..stored(Format::Bf16, Format::Native, true) },
        Storage { rounding: stochastic, ..stored(Format::Bf16, Format::Bf16, false) },
    ];
    let specs: Vec<TensorSpec> = storages.iter().flat_map(|&storage| [1, 6, 7, 4100].map(|len| apart(len).storage(storage))).collect();
    let decays = [WeightDecay::Before, WeightDecay::After, WeightDecay::L2, WeightDecay::Independent];
    for (name, config) in methods() {
        for weight_decay_kind in decays {
            let mut both = Both::new(&[Config { weight_decay: 0.05, weight_decay_kind, lr_scale: 0.5, ..config }], &specs);
            both.steps(3);
            assert_equal(&mut both, &format!("{name}, {weight_decay_kind:?}"));
        }
    }
}

#[test]
fn bits_of_the_core_with_strides_and_factors() {
    let transposed = Storage { strides: Some([1, 6, 0, 0, 0, 0]), ..Storage::DENSE };
    let padded = Storage { strides: Some([1504, 1, 0, 0, 0, 0]), ..Storage::DENSE };
    let specs = [
        TensorSpec::matrix(5, 7).storage(transposed).with_grad_scaling(),
        TensorSpec::matrix(7, 1500).storage(padded).with_grad_scaling(),
        TensorSpec::matrix(9, 4).split_rows(&[2, 7]).unwrap().with_grad_scaling(),
        TensorSpec::new(&[3, 5, 2]).unwrap().with_grad_scaling(),
    ];
    let config = Config { weight_decay: 0.1, ..adam() };
    let mut both = Both::new(&[config], &specs);
    both.grad_scale = 0.3;
    both.steps(3);
    assert_equal(&mut both, "scaled");
    let mut both = Both::new(&[config], &specs);
    let grads = both.gradients();
    // So tight that the factor is no power of two.
    both.device.set_clip(Some(Scalar::of(0.1)));
    let squares: f64 =
        grads.iter().map(|grad| grad.as_ref().map_or(0.0, |grad| grad.numbers().iter().map(|&x| f64::from(x).powi(2)).sum())).sum();
    // The gap of a padded tensor is no part of it.
    assert!(squares.sqrt() > 0.1);
    both.launch(&mut EmulatorQueue::default(), &mut grads.clone(), Scalar::of(0.01));
    let factor = both.norm_factor();
    assert!(factor > 0.0 && factor < 1.0, "{factor}");
    both.step_core_scaled(&grads, factor);
    assert_equal(&mut both, "clipped");
}

/// What a forged state holds, and a rate that proves nothing, are looked at; what is not finite is not made, at any rate.
#[test]
fn updates_that_are_not_finite_are_not_made() {
    let adamw = Config { eps: 0.0, ..adam() };
    let cases = [
        ("momentum", adamw, StatePart::Momentum, f32::MAX),
        ("momentum of sgd", Config::<f32>::sgd(), StatePart::Momentum, f32::INFINITY),
        ("negative second moment", adamw, StatePart::SecondMoment, -1.0),
        ("second moment", Config::<f32>::rmsprop(), StatePart::SecondMoment, f32::NAN),
    ];
    for (name, config, part, forged) in cases {
        for lr in [0.0, 1e-6, 1e-3] {
            for at in [0, 4098] {
                let mut both = Both::new(&[config], &[apart(4099), TensorSpec::vector(3)]);
                both.steps(2);
                let (mut state, headers) = both.download();
                let len = both.table[0].state_range(0).len();
                let place = both.table[0].layout().range(part).start + at;
                // Of the second of three slices; a second moment of nearly nothing makes a quotient of it.
                state[len + place] = forged;
                if forged == f32::MAX {
                    state[len + both.table[0].layout().range(StatePart::SecondMoment).start + at] = 0.0;
                }
                both.upload(&state, &headers);
                let params = both.device_params[0].numbers();
                // A gradient of zero keeps what is nearly nothing so.
                let mut grads = both.gradients();
                let Some(Buffer::Native(numbers)) = &mut grads[0] else { panic!("a native gradient") };
                numbers[4100 + at] = 0.0;
                for skipped in 1..3 {
                    both.launch(&mut EmulatorQueue::default(), &mut grads, Scalar::of(lr));
                    let (after, counted) = both.download();
                    assert!(
                        after[len..2 * len].iter().zip(&state[len..2 * len]).all(|(a, b)| a.to_bits() == b.to_bits()),
                        "{name}, {lr}: the slice's state"
                    );
                    assert_eq!(counted[1], SliceHeader { skipped, ..headers[1] }, "{name}, {lr}");
                    assert_eq!(both.device_params[0].numbers()[4100..8199], params[4100..8199], "{name}, {lr}");
                    for other in [0, 2, 3] {
                        assert_eq!(
                            (counted[other].step, counted[other].skipped),
                            (headers[other].step + u64::from(skipped), 0),
                            "{name}, {lr}"
                        );
                    }
                    assert_ne!(after[..len], state[..len]);
                }
                // The core's state of before goes on as the core does.
                both.meet();
                both.steps(2);
                assert_equal(&mut both, name);
            }
        }
    }
}

/// At a rate at which nothing follows from the gradient's size the update is looked at and made, or not made if it leaves the range.
#[test]
fn absurd_rates_are_looked_at() {
    let config = Config { eps: 0.0, ..adam() };
    let mut both = Both::new(&[config], &[apart(5001)]);
    both.steps(1);
    // 2^70: directions are near 1, but what is known of them is that they are below 2^63.
    both.lr = f32::from_bits((127 + 70) << 23);
    both.steps(2);
    assert_equal(&mut both, "2^70");
    let before = both.download();
    both.lr = f32::from_bits((127 + 125) << 23);
    let mut grads = both.gradients();
    both.launch(&mut EmulatorQueue::default(), &mut grads, Scalar::of(both.lr));
    let after = both.download();
    assert!(after.0 == before.0);
    assert!(after.1.iter().all(|header| header.skipped == 1 && header.step == 3));
    both.lr = 0.01;
    both.meet();
    both.steps(1);
    assert_equal(&mut both, "after it");
}

/// A load changes nothing: what is known of the moments is found anew.
#[test]
fn loaded_states_go_on_bit_for_bit() {
    for (name, config) in methods() {
        let mut both = Both::new(&[config], &[apart(77), TensorSpec::vector(4096)]);
        both.steps(2);
        let (state, headers) = both.download();
        both.upload(&state, &headers);
        both.steps(3);
        assert_equal(&mut both, name);
        both.swap();
        both.steps(1);
        assert_equal(&mut both, name);
    }
}

/// Items with a gradient that is not usable are left as they are; their neighbours are stepped.
#[test]
fn bad_gradients_leave_their_slices_alone() {
    for (bad, at) in [(f32::NAN, 0), (f32::INFINITY, 4100), (2e18, 4100)] {
        for (name, config) in methods() {
            let mut both = Both::new(&[config], &[apart(4101)]);
            both.steps(2);
            let (state, headers) = both.download();
            let params = both.device_params[0].numbers();
            let mut grads = both.gradients();
            let Some(Buffer::Native(numbers)) = &mut grads[0] else { panic!("a native gradient") };
            numbers[4102 + at] = bad;
            both.launch(&mut EmulatorQueue::default(), &mut grads, Scalar::of(0.01));
            let (after, counted) = both.download();
            let len = both.table[0].state_range(0).len();
            assert!(after[len..2 * len] == state[len..2 * len] && (len == 0 || after[..len] != state[..len]), "{name}, {bad}");
            assert_eq!(counted[1], SliceHeader { skipped: 1, ..headers[1] }, "{name}, {bad}");
            let moved = both.device_params[0].numbers();
            assert!(moved[4102..8203] == params[4102..8203] && moved[..4101] != params[..4101] && moved[8204..] != params[8204..]);
        }
    }
}
