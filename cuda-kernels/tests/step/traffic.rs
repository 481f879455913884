//! What a step moves in its passes over elements, counted from its launches: a number for each class of configurations.

use klshampoo::{Config, Format, Graft, Momentum, Rounding, SliceHeader, TensorSpec, WeightDecay};
use klshampoo_cuda::io::Scalar;
use klshampoo_cuda::queue::{DevicePtr, Tally, Traffic};
use klshampoo_cuda::step::{DeviceOptimizer, Options, Program};

use crate::harness::{resolve, stored};

const ROWS: usize = 64;
const COLUMNS: usize = 96;
const ELEMENTS: u64 = (ROWS * COLUMNS) as u64;
const PERIOD: u32 = 3;

/// How a step is asked for.
#[derive(Clone, Copy, Default)]
struct Asked {
    scale: Option<f32>,
    clip: bool,
    /// Elements from the start of one gradient to the next, and before the first; dense ones at 0 if there is none.
    grads: Option<(u64, u64)>,
}

/// Tallies of a step of so many tensors in which no refresh is due, and of one with a refresh.
fn tally(config: Config<f32>, spec: TensorSpec, count: usize, asked: Asked) -> [Tally; 2] {
    let config = Config { refresh_period: PERIOD, stagger: false, ..config };
    let (table, totals) = resolve(&[config], &vec![spec; count]);
    let program = Program::new(&[config], &table, &Options::default()).unwrap();
    // SAFETY: nothing is launched.
    let at = |address: u64| unsafe { DevicePtr::new(address) };
    let mut device = DeviceOptimizer::new(program, at(1 << 40));
    device.set_clip(asked.clip.then_some(Scalar::of(1.0)));
    let (stride, start) = asked.grads.unwrap_or((ELEMENTS, 0));
    let params: Vec<DevicePtr> = (0..count as u64).map(|i| at((1 << 41) + 4 * i * ELEMENTS)).collect();
    let grads: Vec<DevicePtr> = (0..count as u64).map(|i| at((1 << 42) + 4 * (start + i * stride))).collect();
    let mut step =
        |tally: &mut Tally| device.step(tally, &params, &grads, Scalar::of(0.1), Scalar::of(asked.scale.unwrap_or(1.0))).unwrap();
    step(&mut Tally::default());
    // What only a first step does moves nothing that counts.
    let mut first = Tally::default();
    step(&mut first);
    let mut refresh = Tally::default();
    step(&mut refresh);
    let started = vec![SliceHeader { started: 1, step: 3, last_refresh: 3, ..SliceHeader::NEW }; totals.slices];
    device.observed(&started);
    let mut plain = Tally::default();
    device.step(&mut plain, &params, &grads, Scalar::of(0.1), Scalar::of(asked.scale.unwrap_or(1.0))).unwrap();
    assert_eq!(plain.traffic, first.traffic);
    assert!(plain.launches <= first.launches);
    [plain, refresh]
}

/// Bytes that are read and written, of each element.
fn each(traffic: Traffic, factors: u64, count: usize) -> [u64; 2] {
    let all = ELEMENTS * count as u64;
    // Factors: the triangle and the new square's are read, the triangle is written.
    let (read, written) = (traffic.read - 8 * factors * count as u64, traffic.written - 4 * factors * count as u64);
    assert_eq!((read % all, written % all), (0, 0));
    [read / all, written / all]
}

#[test]
fn methods_without_factors_are_at_their_floor() {
    let adamw = Config::<f32>::adamw();
    let vector = TensorSpec::vector(ROWS * COLUMNS);
    let master = stored(Format::Bf16, Format::Bf16, true);
    let asked = Asked::default();
    // Gradient twice, also with a bound on the norm; moments and parameter once.
    let cases = [
        ("adamw", adamw, vector, asked, [20, 12]),
        ("adamw, scaled", adamw, vector.with_grad_scaling(), Asked { scale: Some(0.5), ..asked }, [20, 12]),
        ("adamw, unaligned", adamw, vector, Asked { grads: Some((ELEMENTS + 1, 1)), ..asked }, [20, 12]),
        ("adamw, clipped", adamw, vector.with_grad_scaling(), Asked { clip: true, ..asked }, [20, 12]),
        (
            "adamw, l2, clipped",
            Config { weight_decay: 0.1, weight_decay_kind: WeightDecay::L2, ..adamw },
            vector.with_grad_scaling(),
            Asked { clip: true, ..asked },
            [28, 12],
        ),
        ("adamw, l2", Config { weight_decay: 0.1, weight_decay_kind: WeightDecay::L2, ..adamw }, vector, asked, [24, 12]),
        ("adamw, a matrix", adamw, TensorSpec::matrix(ROWS, COLUMNS), asked, [20, 12]),
        ("adamw, nesterov", Config { momentum: Momentum::Nesterov, ..adamw }, vector, asked, [20, 12]),
        ("adamw, bf16 gradients", adamw, vector.storage(stored(Format::Native, Format::Bf16, false)), asked, [16, 12]),
        ("adamw, f16 gradients", adamw, vector.storage(stored(Format::Native, Format::F16, false)), asked, [16, 12]),
        ("adamw, bf16", adamw, vector.storage(stored(Format::Bf16, Format::Bf16, false)), asked, [14, 10]),
        ("adamw, bf16, master weights", adamw, vector.storage(master), asked, [16, 14]),
        ("rmsprop", Config::<f32>::rmsprop(), vector, asked, [16, 8]),
        ("sgd", Config::<f32>::sgd(), vector, asked, [16, 8]),
        ("sgd without momentum", Config { momentum: Momentum::None, ..Config::<f32>::sgd() }, vector, asked, [12, 4]),
        // Not one pass: what the direction is multiplied by depends on all of it.
        ("adamw, capped", Config { rms_cap: Some(1.0), ..adamw }, vector, asked, [40, 16]),
    ];
    for (name, config, spec, asked, expected) in cases {
        for count in [1, 3] {
            let tallies = tally(config, spec, count, asked);
            println!("{name}: {:?}", tallies[0].kernels);
            assert!(tallies.iter().all(|tally| each(tally.traffic, 0, count) == expected), "{name}: {:?}", tallies[0].kernels);
        }
    }
}

#[test]
fn matrix_methods_move_what_they_must() {
    let kl = Config::<f32>::kl_shampoo();
    let matrix = TensorSpec::matrix(ROWS, COLUMNS);
    let master = stored(Format::Bf16, Format::Bf16, true);
    let stochastic = klshampoo::Storage { rounding: Rounding::Stochastic { seed: 1 }, ..master };
    let asked = Asked::default();
    let scaled = (matrix.with_grad_scaling(), Asked { scale: Some(0.5), ..asked });
    let cases = [
        // Looked at 4, weighted 12, divided 12, the update looked at 4, parameter 12, momentum 12.
        ("kl_shampoo", kl, matrix, asked, [36, 20]),
        // A copy of the gradient.
        ("kl_shampoo, scaled", kl, scaled.0, scaled.1, [36, 24]),
        ("kl_shampoo, unaligned", kl, matrix, Asked { grads: Some((ELEMENTS, 1)), ..asked }, [36, 24]),
        ("kl_shampoo, far apart", kl, matrix, Asked { grads: Some((3 * ELEMENTS, 8)), ..asked }, [36, 20]),
        ("kl_shampoo, clipped", kl, scaled.0, Asked { clip: true, ..asked }, [40, 24]),
        ("kl_shampoo, bf16 gradients", kl, matrix.storage(stored(Format::Native, Format::Bf16, false)), asked, [34, 24]),
        ("kl_shampoo, bf16, master weights", kl, matrix.storage(master), asked, [34, 26]),
        ("kl_shampoo, bf16, stochastic", kl, matrix.storage(stochastic), asked, [34, 26]),
        ("kl_shampoo, l2", Config { weight_decay: 0.1, weight_decay_kind: WeightDecay::L2, ..kl }, matrix, asked, [40, 24]),
        ("kl_shampoo, grafted", Config { graft: Graft::Adam, ..kl }, matrix, asked, [64, 28]),
        ("kl_shampoo, measured", Config { measure: true, ..kl }, matrix, asked, [44, 20]),
        ("kl_soap", Config::<f32>::kl_soap(), matrix, asked, [44, 24]),
        ("soap", Config::<f32>::soap(), matrix, asked, [40, 16]),
        ("shampoo", Config::<f32>::shampoo(), matrix, asked, [32, 12]),
    ];
    let factors = [ROWS, COLUMNS].map(|d| (d * (d + 1) / 2) as u64).iter().sum();
    for (name, config, spec, asked, expected) in cases {
        for count in [1, 3] {
            let [plain, refresh] = tally(config, spec, count, asked);
            println!("{name}: {:?}", plain.kernels);
            assert_eq!(each(plain.traffic, factors, count), expected, "{name}: {:?}", plain.kernels);
            assert!(refresh.traffic.total() > plain.traffic.total(), "{name}");
        }
    }
}

/// Gradients that do not lie at equal distances are copied, and so are those of equal ones that are not in order.
#[test]
fn gradients_anywhere_are_copied() {
    let (table, _) = resolve(&[Config::<f32>::kl_shampoo()], &[TensorSpec::matrix(ROWS, COLUMNS); 3]);
    let written = |places: [Option<u64>; 3]| {
        let program = Program::new(&[Config::<f32>::kl_shampoo()], &table, &Options::default()).unwrap();
        // SAFETY: nothing is launched.
        let at = |address: u64| unsafe { DevicePtr::new(address) };
        let mut device = DeviceOptimizer::new(program, at(1 << 40));
        let grads = places.map(|place| place.map_or(DevicePtr::NULL, |place| at((1 << 41) + 4 * place)));
        let mut tally = Tally::default();
        device.step(&mut tally, &[at(1 << 42); 3], &grads, Scalar::of(0.1), Scalar::ONE).unwrap();
        let gathered = tally.kernels.iter().find(|(name, _)| *name == c"kls_io_gather_measured").unwrap();
        gathered.1.written
    };
    let copy = 4 * ELEMENTS * 3;
    let n = ELEMENTS;
    for places in [
        [Some(0), Some(n), Some(2 * n)],
        [Some(4), Some(4 + 2 * n), Some(4 + 4 * n)],
        [Some(n), None, Some(3 * n)],
        [None, Some(5 * n), None],
    ] {
        assert_eq!(written(places), 0, "{places:?}");
    }
    for places in [
        [Some(0), Some(n), Some(3 * n)],
        [Some(2 * n), Some(n), Some(0)],
        [Some(0), Some(0), Some(0)],
        [Some(0), Some(n + 1), Some(2 * n + 2)],
        [Some(2), Some(2 + n), Some(2 + 2 * n)],
        [Some(0), None, Some(2 * n + 4)],
    ] {
        assert_eq!(written(places), copy, "{places:?}");
    }
}
