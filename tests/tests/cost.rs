//! The predicted cost is what a backend that counts is asked for, and KL-Shampoo's step is at its floor of 2.5 P.

use klshampoo::linalg::Portable;
use klshampoo::{Config, Convention, Format, Graft, Mode, Momentum, Refresh, Tensor, TensorSpec, Totals};
use klshampoo_tests::cases::Gradients;
use klshampoo_tests::flops::CountingBackend;
use klshampoo_tests::harness::{Core, Driver, Number, converted};

/// Operations of a plain step, and of a step with a refresh less that.
fn counted<T: Number>(config: &Config<T>, dims: &[usize], modes: &[Option<Mode>]) -> (u64, u64) {
    let config = Config { refresh_period: 4, refresh_offset: 0, ..*config };
    let mut core = Core::<T, CountingBackend>::new(&config, dims, modes);
    let problem = Gradients::LowRankDrift.make(dims, 8);
    let mut p: Vec<T> = converted(&problem.p0);
    let per_step: Vec<u64> = problem
        .grads
        .iter()
        .map(|grad| {
            core.linalg.flops = 0;
            core.step(&mut p, &converted::<T>(grad), T::from_f64(0.01));
            core.linalg.flops
        })
        .collect();
    assert_eq!(per_step[2], per_step[5], "plain steps cost the same");
    (per_step[5], per_step[7] - per_step[5])
}

#[test]
fn the_prediction_is_what_is_asked_for() {
    type C = Config<f64>;
    let presets = [
        C::kl_shampoo(),
        C::kl_shampoo_reference(),
        C { momentum: Momentum::Nesterov, ..C::kl_shampoo() },
        C { momentum: Momentum::None, ..C::kl_shampoo() },
        C::kl_soap(),
        C::soap_reference(),
        C::shampoo(),
        C { refresh: Refresh::HouseholderQr, ..C::kl_shampoo() },
        C { graft: Graft::Adam, ..C::vn_shampoo_2() },
        C::f_shampoo_1(),
        C::idealized_f_1().in_convention(Convention::ReferenceKl),
        C::one_sided(),
        C::adafactor(),
        C::adamw(),
    ];
    let shapes: [(&[usize], &[Option<Mode>]); 5] = [
        (&[12, 7], &[None, None]),
        // Several blocks of a triangular product.
        (&[70, 65], &[None, None]),
        (&[5, 6, 4], &[None, None, None]),
        (&[9, 8], &[Some(Mode::Diagonal), None]),
        (&[4, 3, 5], &[Some(Mode::Identity), None, Some(Mode::Diagonal)]),
    ];
    for config in &presets {
        for (dims, modes) in shapes {
            if config.estimator == klshampoo::Estimator::OneSided && modes.iter().flatten().count() > 0 {
                continue;
            }
            let cost = Core::<f64, CountingBackend>::new(config, dims, modes).tensors[0].layout().cost(config);
            assert_eq!(counted(config, dims, modes), (cost.step, cost.refresh), "{dims:?} {modes:?} {config:?}");
            assert_eq!(cost.refresh_step, cost.refresh, "a refresh is made in one step");
        }
    }
}

/// The same of factors and bases in 16 bits: a step costs what it does otherwise, a refresh more.
#[test]
fn the_prediction_of_numbers_of_16_bits_is_what_is_asked_for() {
    type C = Config<f32>;
    for factor_format in [Format::Bf16, Format::F16] {
        for config in
            [C::kl_shampoo(), C::soap_reference(), C { refresh: Refresh::HouseholderQr, ..C::f_shampoo_1() }, C::shampoo(), C::adamw()]
        {
            for (dims, modes) in [(&[12, 7][..], &[None, None][..]), (&[5, 6, 4], &[None, Some(Mode::Diagonal), None])] {
                let config = Config { factor_format, ..config };
                let cost = Core::<f32, CountingBackend>::new(&config, dims, modes).tensors[0].layout().cost(&config);
                assert_eq!(counted(&config, dims, modes), (cost.step, cost.refresh), "{dims:?} {modes:?} {config:?}");
                let native = Config { factor_format: Format::Native, ..config };
                let usual = Core::<f32, CountingBackend>::new(&native, dims, modes).tensors[0].layout().cost(&native);
                let full = (0..dims.len()).filter(|&k| modes[k].is_none() && config.estimator != klshampoo::Estimator::None);
                let more: u64 = full.map(|k| 11 * (dims[k] as u64).pow(3) + 3 * (dims[k] as u64).pow(2)).sum();
                assert_eq!((cost.step, cost.refresh), (usual.step, usual.refresh + more));
            }
        }
    }
}

/// Several layers of a transformer: no step takes much more than another.
#[test]
fn staggered_refreshes_level_the_steps() {
    let dims = [[2304, 768], [768, 768], [3072, 768], [768, 3072]];
    let config = Config::<f64>::kl_shampoo();
    let mut totals = Totals::default();
    let spec = |dims: &[usize]| TensorSpec::new(dims).unwrap().slices(4);
    let tensors: Vec<Tensor> = dims.iter().map(|dims| Tensor::resolve(&spec(dims), &[config], &mut totals).unwrap()).collect();
    let ratio = |config: Config<f64>| {
        let flops: Vec<u64> = (21..=30).map(|t| Tensor::predicted_flops(&tensors, &[config], t)).collect();
        let (worst, sum) = (*flops.iter().max().unwrap(), flops.iter().sum::<u64>());
        10.0 * worst as f64 / sum as f64
    };
    let (staggered, bursting) = (ratio(config), ratio(Config { stagger: false, ..config }));
    println!("worst over mean: {staggered:.3} staggered, {bursting:.3} not");
    assert!(staggered < 1.3 && bursting > 3.0);
}

#[test]
fn kl_shampoo_is_at_its_floor() {
    for (m, n) in [(64, 48), (33, 70), (1, 9)] {
        let config = Config::<f64>::kl_shampoo();
        let cost = Core::<f64, Portable>::new(&config, &[m, n], &[None, None]).tensors[0].layout().cost(&config);
        let p = 2 * (m * n * (m + n)) as u64;
        // One triangle of a symmetric product has its diagonal too.
        assert_eq!(cost.step, 5 * p / 2 + 2 * (m * n) as u64);
        assert_eq!(cost.mean(10), cost.step + cost.refresh / 10);
    }
}
