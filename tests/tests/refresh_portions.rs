//! Refreshes in portions: what they come to is an uncut factorisation of the factor as it stood, applied to the state of the last step; no
//! step takes more than is predicted; nothing of them is lost or done twice.

use std::collections::VecDeque;
use std::ops::Range;

use klshampoo::linalg::{LinAlg, LinAlgError, MatMut, MatRef, Portable, work_len};
use klshampoo::{
    Config, ConfigError, Convention, Direction, Eigenvalues, Estimator, FactorInit, FirstBasis, Layout, Mode, Momentum, Optimizer, Refresh,
    Scalar, SliceHeader, StatePart, StepOrder, TableError, Tensor, TensorSpec, WeightDecay,
};
use klshampoo_tests::cases::{Gradients, HIGHER_ORDERS, MATRICES, Xorshift};
use klshampoo_tests::flops::CountingBackend;
use klshampoo_tests::forward;
use klshampoo_tests::harness::{Core, Driver, Make, Number, converted};

const LR: f64 = 0.01;

fn spec(dims: &[usize]) -> TensorSpec {
    TensorSpec::new(dims).unwrap()
}

fn preset<T: Number>(name: &str) -> Config<T> {
    T::presets().into_iter().find(|&(preset, _)| preset == name).unwrap().1
}

fn in_portions<T: Number>(config: Config<T>, portion: u32, period: u32) -> Config<T> {
    Config { refresh_portion: portion, refresh_period: period, stagger: false, ..config }
}

fn one<T: Number, L: LinAlg<T> + Make>(config: &Config<T>, dims: &[usize]) -> Core<T, L> {
    Core::new(config, dims, &vec![None; dims.len()])
}

fn layout<T: Number, L>(core: &Core<T, L>) -> Layout {
    *core.tensors[0].layout()
}

fn full_modes(layout: &Layout) -> Vec<usize> {
    (0..layout.shape().order()).filter(|&k| layout.shape().is_full(k)).collect()
}

fn bits<T: Number>(numbers: &[T]) -> Vec<u64> {
    numbers.iter().map(|x| x.to_f64().to_bits()).collect()
}

/// Where the parts of a state lie, as [`Layout`] documents it.
struct Places {
    basis: Vec<Range<usize>>,
    factor: Vec<Range<usize>>,
    lambda: Vec<Range<usize>>,
    second_moment: Range<usize>,
    /// All but what a refresh in portions keeps.
    kept: Range<usize>,
}

impl Places {
    fn of(layout: &Layout) -> Self {
        let (shape, mut at) = (layout.shape(), 0);
        let mut take = |len| {
            at += len;
            at - len..at
        };
        let square = |k| if shape.is_full(k) { shape.dim(k) * shape.dim(k) } else { 0 };
        let modes = 0..shape.order();
        let basis = modes.clone().map(|k| take(square(k))).collect();
        let factor = modes.clone().map(|k| take((square(k) + if shape.is_full(k) { shape.dim(k) } else { 0 }) / 2)).collect();
        let lambda = modes.map(|k| take(if layout.has_lambda(k) { shape.dim(k) } else { 0 })).collect();
        take(if layout.parts().momentum { shape.elements() } else { 0 });
        let second_moment = take(if layout.parts().second_moment { shape.elements() } else { 0 });
        Self { basis, factor, lambda, kept: 0..second_moment.end, second_moment }
    }
}

/// A backend whose QR gives what it is told.
#[derive(Clone, Debug)]
struct Told<T>(VecDeque<Vec<T>>);

impl<T> Make for Told<T> {
    fn make() -> Self {
        Self(VecDeque::new())
    }
}

impl<T: Scalar> LinAlg<T> for Told<T> {
    forward!(T, self => Portable; matmul matmul_lower cholesky solve_lower eigh);

    fn qr(&mut self, _: MatMut<'_, T>, mut q: MatMut<'_, T>, _: &mut [T]) -> Result<(), LinAlgError> {
        let told = self.0.pop_front().expect("a refresh that was not foreseen");
        q.data().copy_from_slice(&told);
        Ok(())
    }
}

/// The place of each number in descending order; equal ones keep theirs.
fn ranks<T: Number>(values: &[T]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&i, &j| values[j].to_f64().total_cmp(&values[i].to_f64()));
    let mut ranks = vec![0; values.len()];
    order.into_iter().enumerate().for_each(|(place, i)| ranks[i] = place);
    ranks
}

/// `Qhat` of the factor in a packed triangle, by the portable QR, and the order that its columns were taken in.
fn factorise<T: Number>(packed: &[T], d: usize, sort: bool) -> (Vec<T>, Vec<usize>) {
    let at = |i: usize, j: usize| packed[i.max(j) * (i.max(j) + 1) / 2 + i.min(j)];
    let diagonal: Vec<T> = (0..d).map(|i| at(i, i)).collect();
    let ranks = if sort { ranks(&diagonal) } else { (0..d).collect() };
    let (mut a, mut q, mut work) = (vec![T::ZERO; d * d], vec![T::ZERO; d * d], vec![T::ZERO; work_len(d)]);
    for (i, j) in (0..d).flat_map(|i| (0..d).map(move |j| (i, j))) {
        a[i * d + ranks[j]] = at(i, j);
    }
    Portable.qr(MatMut::row_major(&mut a, d, d), MatMut::row_major(&mut q, d, d), &mut work).unwrap();
    (q, ranks)
}

fn product<T: Number>(d: usize, a: &[T], b: &[T]) -> Vec<T> {
    let mut c = vec![T::ZERO; d * d];
    Portable.matmul(MatMut::row_major(&mut c, d, d), false, MatRef::row_major(a, d, d), MatRef::row_major(b, d, d)).unwrap();
    c
}

fn permuted<T: Number>(x: &[T], ranks: &[usize], (left, right): (usize, usize)) -> Vec<T> {
    let (d, mut out) = (ranks.len(), x.to_vec());
    for (l, j, r) in (0..left).flat_map(|l| (0..d).flat_map(move |j| (0..right).map(move |r| (l, j, r)))) {
        out[(l * d + ranks[j]) * right + r] = x[(l * d + j) * right + r];
    }
    out
}

/// The same run without portions, which makes the refresh of one mode in step `t` with a given rotation.
struct Uncut<T> {
    core: Core<T, Told<T>>,
    p: Vec<T>,
}

impl<T: Number> Uncut<T> {
    /// The step `t` on from `before`.
    fn from(before: &Core<T, Portable>, p: &[T], grad: &[T], t: u64, k: usize, (rotation, ranks): (&[T], &[usize])) -> Self {
        let config = before.groups[0];
        let own = Config {
            refresh_portion: 0,
            refresh: Refresh::HouseholderQr,
            refresh_period: t as u32 - config.refresh_offset,
            // Its own would look at another factor than the snapshot; the columns of the rotation are in order already.
            sort: false,
            ..config
        };
        let (layout, places) = (layout(before), Places::of(&layout(before)));
        let modes = full_modes(&layout);
        let shape = *layout.shape();
        let dims: Vec<usize> = (0..shape.order()).map(|k| shape.dim(k)).collect();
        let mut core = one::<T, Told<T>>(&own, &dims);
        core.state.copy_from_slice(&before.state[places.kept.clone()]);
        core.headers.clone_from(&before.headers);
        core.linalg.0 = modes
            .iter()
            .map(|&j| {
                let d = shape.dim(j);
                let identity = (0..d * d).map(|i| if i % (d + 1) == 0 { T::ONE } else { T::ZERO }).collect();
                if j == k { rotation.to_vec() } else { identity }
            })
            .collect();
        // SOAP's second moment is permuted with the basis, before it averages the gradient of the same basis if the direction is yet to come.
        let sort_second_moment = |core: &mut Core<T, Told<T>>| {
            let place = places.second_moment.clone();
            if config.sort && !place.is_empty() {
                let sorted = permuted(&core.state[place.clone()], ranks, shape.around(k));
                core.state[place].copy_from_slice(&sorted);
            }
        };
        let mut p = p.to_vec();
        if config.step_order == StepOrder::EstimateFirst {
            sort_second_moment(&mut core);
        }
        core.step(&mut p, grad, T::from_f64(LR));
        core.groups[0].refresh_period = u32::MAX;
        if config.step_order == StepOrder::ApplyFirst {
            sort_second_moment(&mut core);
        }
        let lambda = places.lambda[k].clone();
        if config.sort && !lambda.is_empty() {
            let sorted = permuted(&core.state[lambda.clone()], ranks, (1, 1));
            core.state[lambda].copy_from_slice(&sorted);
        }
        Self { core, p }
    }
}

/// Runs a method in portions beside uncut runs that start where a mode is turned. Returns how many steps lie between each snapshot and the
/// step that turned its mode.
fn is_the_uncut_factorisation<T: Number>(what: &str, config: Config<T>, dims: &[usize], steps: usize) -> Vec<u64> {
    config.validate().unwrap_or_else(|error| panic!("{what}: {error}"));
    let mut core = one::<T, Portable>(&config, dims);
    let (layout, problem) = (layout(&core), Gradients::LowRankDrift.make(dims, steps));
    let (places, modes, shape) = (Places::of(&layout), full_modes(&layout), *layout.shape());
    let mut p: Vec<T> = converted(&problem.p0);
    let (mut history, mut uncut, mut lags) = (Vec::<Vec<T>>::new(), None::<Uncut<T>>, Vec::new());
    for (t, grad) in (1..).zip(&problem.grads) {
        let (grad, before, p_before) = (converted::<T>(grad), core.clone(), p.clone());
        core.step(&mut p, &grad, T::from_f64(LR));
        history.push(core.state.clone());
        let turned = core.headers[0].refreshes - before.headers[0].refreshes;
        assert!(turned <= 1 && core.headers[0].refresh_failures == 0, "{what}, step {t}");
        if turned == 1 {
            let k = modes[lags.len() % modes.len()];
            let d = shape.dim(k);
            let old_basis = &before.state[places.basis[k].clone()];
            let snapshot = (0..history.len() - 1).rev().find_map(|u| {
                let (rotation, ranks) = factorise(&history[u][places.factor[k].clone()], d, config.sort);
                let basis = product(d, old_basis, &rotation);
                (bits(&basis) == bits(&core.state[places.basis[k].clone()])).then_some((u as u64 + 1, rotation, ranks))
            });
            let Some((u, rotation, ranks)) = snapshot else { panic!("{what}, step {t}, mode {k}: the basis is not of any factor") };
            lags.push(t - u);
            let other = Uncut::from(&before, &p_before, &grad, t, k, (&rotation, &ranks));
            for part in places.kept.clone() {
                // The factor comes later.
                if !places.factor[k].contains(&part) {
                    assert_eq!(core.state[part], other.core.state[part], "{what}, step {t}, mode {k}, element {part}");
                }
            }
            if config.refresh_portion == u32::MAX {
                assert_eq!(core.state[places.factor[k].clone()], other.core.state[places.factor[k].clone()], "{what}, step {t}");
            }
            uncut = Some(other);
        } else if let Some(uncut) = &mut uncut {
            uncut.core.step(&mut uncut.p, &grad, T::from_f64(LR));
        }
        let Some(uncut) = &mut uncut else { continue };
        assert_eq!(bits(&p), bits(&uncut.p), "{what}, step {t}");
        for &k in &modes {
            let (ours, theirs) = (core.read(StatePart::Factor(k)), uncut.core.read(StatePart::Factor(k)));
            let largest = theirs.iter().fold(T::ZERO, |largest, x| largest.max(x.abs()));
            let off = ours.iter().zip(&theirs).fold(T::ZERO, |off, (&a, &b)| off.max((a - b).abs()));
            assert!(off <= T::from_f64(16.0) * T::EPSILON * largest, "{what}, step {t}, mode {k}: {off:?} of {largest:?}");
        }
    }
    lags
}

fn methods<T: Number>() -> Vec<(&'static str, Config<T>)> {
    // An exact change of scale at another time; it has a test of its own.
    let plain = |config: Config<T>| Config { gauge: false, ..config };
    let kl = plain(preset("kl_shampoo"));
    vec![
        ("KL-Shampoo", kl),
        ("KL-Shampoo, reference", plain(preset("kl_shampoo_reference"))),
        ("KL-Shampoo, apply first, sorted", Config { step_order: StepOrder::ApplyFirst, sort: true, ..kl }),
        ("KL-Shampoo, Nesterov", Config { momentum: Momentum::Nesterov, ..kl }),
        ("KL-Shampoo, no momentum", Config { momentum: Momentum::None, ..kl }),
        ("KL-SOAP, sorted", Config { sort: true, ..plain(preset("kl_soap")) }),
        ("SOAP", plain(preset("soap"))),
        ("SOAP, reference", plain(preset("soap_reference"))),
        ("F-Shampoo 2", plain(preset("f_shampoo_2"))),
    ]
}

fn every_method_is_the_uncut_factorisation<T: Number>() {
    for (what, config) in methods::<T>() {
        for dims in [&[6usize, 9] as &[usize], &[5, 3, 4], &[1, 7], &[3, 1]] {
            for portion in [u32::MAX, 900, 1] {
                let what = format!("{what}, {dims:?}, portion {portion}");
                let lags = is_the_uncut_factorisation(&what, in_portions(config, portion, 21), dims, 150);
                assert!(lags.len() > dims.len(), "{what}: {lags:?}");
                if portion == u32::MAX {
                    assert!(lags.iter().all(|&lag| lag == 1), "{what}: {lags:?}");
                }
            }
        }
    }
}

#[test]
fn the_result_is_an_uncut_factorisation_applied_at_the_end_f32() {
    every_method_is_the_uncut_factorisation::<f32>();
}

#[test]
fn the_result_is_an_uncut_factorisation_applied_at_the_end_f64() {
    every_method_is_the_uncut_factorisation::<f64>();
}

/// The steps in which bases were turned.
fn turns<T: Number>(config: &Config<T>, dims: &[usize], steps: usize) -> Vec<u64> {
    let mut core = one::<T, Portable>(config, dims);
    let problem = Gradients::LowRankDrift.make(dims, steps);
    let mut p: Vec<T> = converted(&problem.p0);
    let mut turns = Vec::new();
    for (t, grad) in (1..).zip(&problem.grads) {
        let before = core.headers[0].refreshes;
        core.step(&mut p, &converted::<T>(grad), T::from_f64(LR));
        (before..core.headers[0].refreshes).for_each(|_| turns.push(t));
    }
    turns
}

#[test]
fn a_huge_portion_is_late_by_a_step_for_each_mode() {
    for (dims, expected) in [(&[6usize, 9] as &[usize], vec![11, 12, 21, 22]), (&[5, 3, 4], vec![11, 12, 13, 21, 22, 23])] {
        let config = in_portions(f32::kl_shampoo(), u32::MAX, 10);
        assert_eq!(turns(&config, dims, 29), expected);
        assert_eq!(spec(dims).layout(&config).unwrap().refresh_steps(&config), dims.len() as u64);
    }
    // A mode that has no factor takes no step, and one step is the least.
    let config = Config { max_dim: 8, ..in_portions(f32::kl_shampoo(), u32::MAX, 1) };
    assert_eq!(turns(&config, &[6, 9], 9), (2..=9).collect::<Vec<_>>());
}

#[test]
fn a_refresh_takes_as_many_steps_as_predicted() {
    for dims in [&[6usize, 9] as &[usize], &[4, 3, 5], &[1, 12], &[16, 8]] {
        for portion in [1, 100, 1000, 5000, 20_000, u32::MAX] {
            for config in [f64::kl_shampoo(), Config::<f64>::soap(), Config::<f64>::kl_shampoo_reference()] {
                let config = in_portions(config, portion, 200);
                let predicted = spec(dims).layout(&config).unwrap().refresh_steps(&config);
                let turns = turns(&config, dims, 400);
                let due = 200 + u64::from(config.refresh_offset);
                let last = turns.iter().copied().filter(|&t| t <= due + predicted).count();
                assert_eq!(last, dims.len(), "{dims:?}, portion {portion}: {turns:?}");
                assert_eq!(turns[dims.len() - 1], due + predicted, "{dims:?}, portion {portion}: {turns:?}");
            }
        }
    }
    let uncut = f64::kl_shampoo();
    assert_eq!(spec(&[6, 9]).layout(&uncut).unwrap().refresh_steps(&uncut), 0);
}

/// A refresh that is due while one is under way comes next; two of them are one.
#[test]
fn a_refresh_that_comes_too_early_waits() {
    let config = in_portions(f32::kl_shampoo(), 400, 3);
    let takes = spec(&[6, 9]).layout(&config).unwrap().refresh_steps(&config);
    assert!(takes > 6);
    let turns = turns(&config, &[6, 9], 300);
    // One after another without a rest: each takes its steps and those in which the last factor is put back.
    let gaps: Vec<u64> = turns.iter().skip(4).zip(turns.iter().skip(2)).step_by(2).map(|(later, earlier)| later - earlier).collect();
    assert!(gaps.iter().all(|gap| (takes..=2 * takes).contains(gap)) && gaps.len() > 3, "{takes}: {gaps:?}");
    assert!(gaps.iter().all(|gap| *gap == gaps[0]), "{gaps:?}");
    // In step with its period if that is long enough.
    let config = Config { refresh_period: 2 * takes as u32, ..config };
    let turns = self::turns(&config, &[6, 9], 300);
    assert!(turns.chunks_exact(2).enumerate().all(|(i, pair)| pair[1] == 2 * takes * (i as u64 + 1) + takes), "{turns:?}");
}

/// Operations of each step: those that the backend was asked for, and those of the portion, in which the moving moments are counted too.
fn counted(config: &Config<f64>, dims: &[usize], steps: usize) -> Vec<(u64, u64)> {
    let mut core = one::<f64, CountingBackend>(config, dims);
    let problem = Gradients::LowRankDrift.make(dims, steps);
    let mut p = problem.p0;
    problem
        .grads
        .iter()
        .map(|grad| {
            let before = core.linalg.flops;
            let (mut optimizer, scratch, linalg) = core.view();
            let report = optimizer.step_tensor(0, &mut p, grad, LR, scratch, linalg).unwrap();
            (core.linalg.flops - before, report.portion_flops)
        })
        .collect()
}

#[test]
fn no_step_takes_more_than_twice_a_plain_one() {
    type C = Config<f64>;
    for config in
        [C::kl_shampoo(), C::kl_shampoo_reference(), C::soap(), C::kl_soap(), C { momentum: Momentum::Nesterov, ..C::kl_shampoo() }]
    {
        for dims in [&[16usize, 32] as &[usize], &[32, 32], &[64, 32], &[8, 8], &[4, 48], &[1, 32], &[4, 6, 5]] {
            let plain = spec(dims).needs(&config).unwrap().cost.step;
            for portion in [plain as u32, plain as u32 / 4, 1] {
                let config = in_portions(config, portion, 10);
                let cost = spec(dims).needs(&config).unwrap().cost;
                assert_eq!(cost.step, plain);
                let flops = counted(&config, dims, 60);
                let moving = |&(asked, portion): &(u64, u64)| asked == plain || (asked > plain && asked - plain <= portion);
                assert!(flops[1..].iter().all(moving), "{dims:?}: {plain}, {flops:?}");
                let worst = plain + flops.iter().map(|&(_, portion)| portion).max().unwrap();
                assert!(worst <= plain + cost.refresh_step, "{dims:?}, portion {portion}: {worst} of {plain} + {}", cost.refresh_step);
                assert!(worst <= 2 * plain, "{dims:?}, portion {portion}: {worst} of {plain}");
            }
        }
    }
}

/// What the portions of a refresh come to is what is predicted of it.
#[test]
fn the_portions_add_up_to_the_refresh() {
    for config in [Config::<f64>::kl_shampoo(), Config::<f64>::soap_reference(), Config::<f64>::kl_soap()] {
        for dims in [&[16usize, 32] as &[usize], &[5, 7, 3], &[1, 9]] {
            for portion in [3000, 50_000, u32::MAX] {
                let config = in_portions(config, portion, 150);
                let cost = spec(dims).needs(&config).unwrap().cost;
                let flops = counted(&config, dims, 290);
                let sum: u64 = flops.iter().map(|&(_, portion)| portion).sum();
                assert_eq!(sum, cost.refresh, "{dims:?}, portion {portion}");
                assert!(cost.refresh_step <= cost.refresh + spec(dims).needs(&config).unwrap().cost.refresh, "{cost:?}");
            }
        }
    }
}

/// What the README says of the longest step: its ratio to a plain one without portions and with, each in hundredths.
#[test]
fn the_table_of_the_longest_step() {
    let rows = [
        ([8, 8], 254, 120, 950, 1120, 628),
        ([16, 32], 310, 126, 25_000, 10_016, 8596),
        ([32, 32], 254, 120, 56_100, 16_768, 8596),
        ([64, 32], 290, 131, 307_000, 39_488, 33_556),
        ([8, 64], 840, 188, 164_000, 27_440, 33_556),
    ];
    for (dims, whole, cut, portion, bytes, more) in rows {
        let plain = Config { refresh_period: 10, ..f32::kl_shampoo() };
        let needs = |config: &Config<f32>| spec(&dims).needs(config).unwrap();
        let ratio = |config| {
            let cost = needs(config).cost;
            (100 * (cost.step + cost.refresh_step) + cost.step / 2) / cost.step
        };
        let config = Config { refresh_portion: portion, ..plain };
        assert_eq!((ratio(&plain), ratio(&config)), (whole, cut), "{dims:?}");
        assert_eq!(spec(&dims).layout(&config).unwrap().refresh_steps(&config), 9, "{dims:?}");
        assert_eq!((4 * needs(&plain).state_len, 4 * (needs(&config).state_len - needs(&plain).state_len)), (bytes, more), "{dims:?}");
    }
}

/// Tensors of a table, staggered: no step takes more than is predicted of it, before anything runs.
#[test]
fn predictions_bound_a_tables_steps() {
    let portioned = in_portions(f64::kl_shampoo(), 4000, 20);
    let groups = [Config { stagger: true, ..portioned }, f64::kl_shampoo(), f64::adamw()];
    let specs = [spec(&[9, 6]).slices(3), spec(&[4, 5, 3]), spec(&[12, 7]), spec(&[6, 6]).group(1), spec(&[5]), spec(&[8, 3]).group(2)];
    let mut core = Core::<f64, CountingBackend>::table(&groups, &specs);
    let mut random = Xorshift::for_shape(&[3, 3]);
    let mut params: Vec<Vec<f64>> = core.tensors.iter().map(|tensor| vec![0.1; tensor.span()]).collect();
    let mut busy = Vec::new();
    for t in 1..=120 {
        let grads: Vec<_> = params.iter().map(|p| Some(p.iter().map(|_| random.normal()).collect())).collect();
        let before = core.linalg.flops;
        let report = core.try_step(&mut params, &grads, LR).unwrap();
        let predicted = core.view().0.predicted_flops(t);
        // The first step, which sets the bases, is not counted.
        let (asked, own) = (core.linalg.flops - before, report.portion_flops);
        assert!(t == 1 || asked.max(own) <= predicted, "step {t}: {asked} and {own} of {predicted}");
        busy.push(own > 0);
    }
    assert!(core.headers.iter().filter(|header| header.refreshes > 0).count() == 6);
    assert!(busy[30..].iter().filter(|&&busy| busy).count() > 60, "spread over the steps");
}

/// What [`Gradients`] has and more, on every edge shape: nothing fails, and bases stay orthogonal.
#[test]
fn edge_shapes_and_gradients() {
    for shape in MATRICES.iter().chain(HIGHER_ORDERS) {
        for kind in Gradients::ALL {
            for (config, portion) in [(f32::kl_shampoo(), 2000), (Config::<f32>::soap(), u32::MAX), (Config::<f32>::one_sided(), 300)] {
                let config = in_portions(config, portion, 1);
                let mut core = one::<f32, Portable>(&config, shape.dims);
                let problem = kind.make(shape.dims, 60);
                let mut p: Vec<f32> = converted(&problem.p0);
                for grad in &problem.grads {
                    core.step(&mut p, &converted::<f32>(grad), 0.01);
                }
                let what = format!("{}, {kind:?}, portion {portion}", shape.name);
                let header = core.headers[0];
                assert_eq!(header.refresh_failures, 0, "{what}");
                assert!(p.iter().chain(&core.state).all(|x| x.is_finite()), "{what}");
                let started = *kind != Gradients::Zero;
                assert_eq!(header.started != 0, started, "{what}");
                let full = full_modes(&layout(&core));
                if portion == u32::MAX {
                    assert_eq!(header.refreshes > 40, started && !full.is_empty(), "{what}: {header:?}");
                }
                for k in full.into_iter().filter(|_| started) {
                    let (optimizer, scratch, linalg) = core.view();
                    let report = optimizer.mode_report(0, 0, k, scratch, linalg).unwrap();
                    assert!(report.orthogonality_error < 2e-5, "{what}, mode {k}: {report:?}");
                    assert!(report.lambda_min >= 0.0 && report.staleness_mean.is_finite(), "{what}, mode {k}: {report:?}");
                }
            }
        }
    }
}

/// Where no mode has a basis there is nothing to make in portions: the bits and the state are those without them.
#[test]
fn a_tensor_without_bases_has_no_portions() {
    let kl = f32::kl_shampoo();
    let penalised = Config { weight_decay_kind: WeightDecay::L2, weight_decay: 0.1, ..kl };
    const DIAGONAL: Option<Mode> = Some(Mode::Diagonal);
    const IDENTITY: Option<Mode> = Some(Mode::Identity);
    type Case = (Config<f32>, &'static [usize], &'static [Option<Mode>]);
    let cases: [Case; 6] = [
        (Config { max_dim: 4, ..kl }, &[8, 8], &[None, None]),
        (kl, &[8, 8], &[DIAGONAL, DIAGONAL]),
        (kl, &[7], &[DIAGONAL]),
        (kl, &[5, 6], &[DIAGONAL, IDENTITY]),
        (penalised, &[7], &[IDENTITY]),
        (Config { first_basis: FirstBasis::Identity, max_dim: 4, ..kl }, &[8, 8], &[None, None]),
    ];
    for (config, dims, modes) in cases {
        let problem = Gradients::LowRankDrift.make(dims, 30);
        let run = |portion| {
            let mut core = Core::<f32, Portable>::new(&Config { refresh_portion: portion, ..config }, dims, modes);
            let mut p: Vec<f32> = converted(&problem.p0);
            problem.grads.iter().for_each(|grad| core.step(&mut p, &converted::<f32>(grad), 0.01));
            assert_ne!(p, converted::<f32>(&problem.p0));
            (bits(&p), bits(&core.state), core.headers[0])
        };
        assert_eq!(run(1000), run(0), "{dims:?}, {modes:?}");
    }
}

/// Of a tensor in blocks the first piece may have no basis, and a later one a refresh in portions.
#[test]
fn blocks_with_and_without_bases() {
    let config = Config { block_size: 8, max_dim: 7, ..in_portions(f32::kl_shampoo(), 400, 10) };
    let mut core = one::<f32, Portable>(&config, &[10, 10]);
    let problem = Gradients::LowRankDrift.make(&[10, 10], 40);
    let mut p: Vec<f32> = converted(&problem.p0);
    problem.grads.iter().for_each(|grad| core.step(&mut p, &converted::<f32>(grad), 0.01));
    let refreshes: Vec<u32> = core.headers.iter().map(|header| header.refreshes).collect();
    assert!(refreshes.len() == 4 && refreshes[1..].iter().all(|&n| n >= 3), "{refreshes:?}");
    let at = |t| Tensor::predicted_flops(&core.tensors, &[config], t);
    assert!((1..30).all(|t| at(t) == at(30)), "any step may make a portion");
}

#[test]
fn bases_stay_orthogonal_and_are_polished() {
    for portion in [u32::MAX, 60_000] {
        let config = in_portions(f32::kl_shampoo(), portion, 2);
        let mut core = one::<f32, Portable>(&config, &[16, 24]);
        let problem = Gradients::LowRankDrift.make(&[16, 24], 4000);
        let mut p: Vec<f32> = converted(&problem.p0);
        let mut worst = 0f32;
        for (t, grad) in problem.grads.iter().enumerate() {
            core.step(&mut p, &converted::<f32>(grad), 0.001);
            if t % 50 == 0 {
                for k in 0..2 {
                    let (optimizer, scratch, linalg) = core.view();
                    worst = worst.max(optimizer.mode_report(0, 0, k, scratch, linalg).unwrap().orthogonality_error);
                }
            }
        }
        assert!(core.headers[0].refreshes > 500, "{:?}", core.headers[0]);
        // Without the polish it is some 1e-5 by then.
        assert!(worst < 4e-6, "portion {portion}: {worst}");
    }
}

/// A step that fails, and one that is skipped, leave everything as it was, wherever the refresh stands.
#[test]
fn a_failed_step_changes_nothing() {
    let config = in_portions(f32::kl_shampoo(), 700, 12);
    let dims = [6, 9];
    let mut core = one::<f32, Portable>(&config, &dims);
    let problem = Gradients::LowRankDrift.make(&dims, 60);
    let mut p: Vec<f32> = converted(&problem.p0);
    let (mut twin, mut twin_p) = (core.clone(), p.clone());
    let mut stages = std::collections::BTreeSet::new();
    for grad in &problem.grads {
        let good: Vec<f32> = converted(grad);
        twin.step(&mut twin_p, &good, 0.01);
        let before = (core.headers.clone(), bits(&core.state), bits(&p));
        let mut bad = good.clone();
        bad[7] = f32::NAN;
        for (grad, lr) in [(&bad, 0.01), (&good, f32::MAX)] {
            let (mut optimizer, scratch, linalg) = core.view();
            // The learning rate takes the update out of range, after everything has been computed.
            optimizer.step_tensor(0, &mut p, grad, lr, scratch, linalg).unwrap_err();
            assert_eq!((core.headers.clone(), bits(&core.state), bits(&p)), before);
        }
        core.step(&mut p, &good, 0.01);
        assert_eq!((&core.headers, bits(&core.state), bits(&p)), (&twin.headers, bits(&twin.state), bits(&twin_p)));
        stages.insert(stage(&core));
    }
    assert_eq!(stages.into_iter().collect::<Vec<_>>(), [0, 2, 3, 4, 5, 6, 7]);
}

/// Where a refresh stands: the first number of what it keeps.
fn stage<L>(core: &Core<f32, L>) -> u32 {
    core.state[Places::of(core.tensors[0].layout()).kept.end] as u32
}

/// A backend that fails in every product that may not be rounded, if it is told to.
#[derive(Clone)]
struct Failing(bool);

impl Make for Failing {
    fn make() -> Self {
        Self(false)
    }
}

impl LinAlg<f32> for Failing {
    forward!(f32, self => Portable; matmul_lower qr cholesky solve_lower eigh);

    fn matmul(&mut self, c: MatMut<'_, f32>, accumulate: bool, a: MatRef<'_, f32>, b: MatRef<'_, f32>) -> Result<(), LinAlgError> {
        if self.0 { Err(LinAlgError::Backend) } else { Portable.matmul(c, accumulate, a, b) }
    }

    fn matmul_rounding(&mut self, c: MatMut<'_, f32>, accumulate: bool, a: MatRef<'_, f32>, b: MatRef<'_, f32>) -> Result<(), LinAlgError> {
        Portable.matmul(c, accumulate, a, b)
    }
}

/// What cannot be finished is a failure of that mode, as without portions: the old basis stays, and the next mode has its turn.
#[test]
fn a_failure_gives_the_mode_up() {
    let config = in_portions(f32::kl_shampoo(), u32::MAX, 10);
    let run = |fail_at: u64| {
        let mut core = one::<f32, Failing>(&config, &[6, 9]);
        let problem = Gradients::LowRankDrift.make(&[6, 9], 18);
        let mut p: Vec<f32> = converted(&problem.p0);
        let mut bases = Vec::new();
        for (t, grad) in (1..).zip(&problem.grads) {
            core.linalg.0 = t == fail_at;
            core.step(&mut p, &converted::<f32>(grad), 0.01);
            core.linalg.0 = false;
            bases.push([0, 1].map(|k| bits(&core.read(StatePart::Basis(k)))));
        }
        let header = core.headers[0];
        (bases, header.refreshes, header.refresh_failures)
    };
    let (free, refreshes, failures) = run(0);
    assert_eq!((refreshes, failures), (2, 0));
    assert!(free[10][0] != free[9][0] && free[11][1] != free[10][1]);
    // Mode 0 cannot be turned in step 11; mode 1 then has its turn.
    let (bases, refreshes, failures) = run(11);
    assert_eq!((refreshes, failures), (1, 1));
    assert!(bases[17][0] == bases[9][0] && bases[11][1] != bases[10][1]);
    // A factor that is not finite when it is copied, in step 10.
    let mut core = one::<f32, Portable>(&config, &[6, 9]);
    let problem = Gradients::LowRankDrift.make(&[6, 9], 12);
    let mut p: Vec<f32> = converted(&problem.p0);
    for (t, grad) in (1..).zip(&problem.grads) {
        if t == 10 {
            let off_diagonal = Places::of(&layout(&core)).factor[0].start + 1;
            core.state[off_diagonal] = f32::NAN;
        }
        core.step(&mut p, &converted::<f32>(grad), 0.01);
    }
    assert_eq!((core.headers[0].refreshes, core.headers[0].refresh_failures), (1, 1));
    assert!(p.iter().all(|x| x.is_finite()));
}

/// What no step can have written where the progress is kept counts as no refresh at all.
#[test]
fn what_contradicts_itself_is_no_refresh() {
    let config = in_portions(f32::kl_shampoo(), 300, 40);
    let in_factorisation: Vec<(usize, f32)> = vec![
        (0, 77.0),
        (0, 10.0),
        (0, 14.0),
        (0, 2.5),
        (0, -1.0),
        (0, f32::NAN),
        (1, 2.0),
        (1, 1e9),
        (2, 9.0),
        (2, f32::INFINITY),
        (3, 2.0),
    ];
    let in_rotation = [1.5, -0.5, f32::NAN, f32::INFINITY].map(|kept| (4, kept));
    for (at, value) in in_factorisation.into_iter().chain(in_rotation) {
        let mut core = one::<f32, Portable>(&config, &[6, 9]);
        let problem = Gradients::LowRankDrift.make(&[6, 9], 170);
        let mut p: Vec<f32> = converted(&problem.p0);
        let mut spoiled = 0;
        for grad in &problem.grads {
            core.step(&mut p, &converted::<f32>(grad), 0.01);
            assert!(spoiled != 1 || stage(&core) == 0, "{at} {value}");
            spoiled += usize::from(spoiled > 0);
            if spoiled == 0 && stage(&core) == if at == 4 { 6 } else { 2 } {
                let start = Places::of(&layout(&core)).kept.end;
                core.state[start + at] = value;
                spoiled = 1;
                assert!(core.read(StatePart::Factor(0)).iter().all(|x| x.is_finite()));
            }
        }
        let header = core.headers[0];
        assert!(
            spoiled > 0 && p.iter().all(|x| x.is_finite()) && header.refreshes >= 4 && header.refresh_failures == 0,
            "{at} {value}: {header:?}"
        );
    }
}

/// A basis that comes out not finite is not taken: that of a refresh is a failure, a polish is only left out.
#[test]
fn a_basis_that_is_none_is_not_taken() {
    for (spoiled_stage, failures) in [(3, 1), (4, 1), (9, 0)] {
        let config = in_portions(f32::kl_shampoo(), 500, 50);
        let mut core = one::<f32, Portable>(&config, &[6, 9]);
        let problem = Gradients::LowRankDrift.make(&[6, 9], 149);
        let mut p: Vec<f32> = converted(&problem.p0);
        core.step(&mut p, &converted::<f32>(&problem.grads[0]), 0.01);
        core.headers[0].refreshes = 2 * 31;
        let mut spoiled = false;
        for grad in &problem.grads[1..] {
            core.step(&mut p, &converted::<f32>(grad), 0.01);
            if !spoiled && stage(&core) == spoiled_stage {
                let places = Places::of(&layout(&core));
                let d = [6, 9][core.state[places.kept.end + 1] as usize];
                let rotation = places.kept.end + 5 + 3 * d + d * d;
                core.state[rotation..rotation + d * d].fill(f32::NAN);
                spoiled = true;
            }
            assert!((0..2).all(|k| core.read(StatePart::Basis(k)).iter().all(|x| x.is_finite())), "stage {spoiled_stage}");
        }
        let header = core.headers[0];
        assert!(spoiled && p.iter().all(|x| x.is_finite()));
        assert_eq!((header.refreshes, header.refresh_failures), (2 * 31 + 4 - failures, failures), "stage {spoiled_stage}");
    }
}

/// Saved and loaded after every step of a refresh, its polish included, a run has the same bits.
#[test]
fn a_checkpoint_at_every_stage() {
    let config = in_portions(f32::kl_shampoo(), 500, 50);
    let problem = Gradients::LowRankDrift.make(&[6, 9], 130);
    let run = |interrupted: bool| {
        let mut core = one::<f32, Portable>(&config, &[6, 9]);
        let mut p: Vec<f32> = converted(&problem.p0);
        let mut stages = std::collections::BTreeSet::new();
        for (t, grad) in problem.grads.iter().enumerate() {
            core.step(&mut p, &converted::<f32>(grad), 0.01);
            if t == 10 {
                // The next one is the 32nd of each mode.
                core.headers[0].refreshes = 2 * 31;
            }
            stages.insert(stage(&core));
            if interrupted {
                let optimizer = core.view().0;
                let mut bytes = vec![0; optimizer.save_len() as usize];
                optimizer.save(&mut bytes.as_mut_slice()).unwrap();
                core = one::<f32, Portable>(&config, &[6, 9]);
                core.view().0.load(&mut bytes.as_slice()).unwrap();
            }
        }
        assert_eq!(stages.into_iter().collect::<Vec<_>>(), [0, 2, 3, 4, 5, 6, 7, 8, 9]);
        (core.headers.clone(), bits(&core.state), bits(&p))
    };
    assert_eq!(run(false), run(true));
}

/// The portion is no part of the state, that there are any is.
#[test]
fn a_checkpoint_fits_another_portion() {
    let config = in_portions(f32::kl_shampoo(), 500, 10);
    let mut core = one::<f32, Portable>(&config, &[6, 9]);
    let problem = Gradients::LowRankDrift.make(&[6, 9], 40);
    let mut p: Vec<f32> = converted(&problem.p0);
    problem.grads[..16].iter().for_each(|grad| core.step(&mut p, &converted::<f32>(grad), 0.01));
    let optimizer = core.view().0;
    let mut bytes = vec![0; optimizer.save_len() as usize];
    optimizer.save(&mut bytes.as_mut_slice()).unwrap();
    let mut larger = one::<f32, Portable>(&Config { refresh_portion: 5000, ..config }, &[6, 9]);
    larger.view().0.load(&mut bytes.as_slice()).unwrap();
    assert_eq!(bits(&larger.state), bits(&core.state));
    problem.grads[16..].iter().for_each(|grad| larger.step(&mut p, &converted::<f32>(grad), 0.01));
    assert!(larger.headers[0].refreshes >= 4 && p.iter().all(|x| x.is_finite()));
    let mut uncut = one::<f32, Portable>(&Config { refresh_portion: 0, ..config }, &[6, 9]);
    uncut.view().0.load(&mut bytes.as_slice()).unwrap_err();
}

/// The order of the columns is the snapshot's, of which the turned state is; a checkpoint may come to another `sort` before.
#[test]
fn a_checkpoint_keeps_the_order_of_its_snapshot() {
    for sort in [false, true] {
        let config = Config { sort, ..in_portions(Config::<f32>::soap(), 500, 10) };
        let mut core = one::<f32, Portable>(&config, &[6, 9]);
        let problem = Gradients::LowRankDrift.make(&[6, 9], 40);
        let mut p: Vec<f32> = converted(&problem.p0);
        let mut grads = problem.grads.iter().map(|grad| converted::<f32>(grad));
        while !(stage(&core) == 2 && core.headers[0].step > 20) {
            core.step(&mut p, &grads.next().unwrap(), 0.01);
        }
        let optimizer = core.view().0;
        let mut bytes = vec![0; optimizer.save_len() as usize];
        optimizer.save(&mut bytes.as_mut_slice()).unwrap();
        let mut other = one::<f32, Portable>(&Config { sort: !sort, ..config }, &[6, 9]);
        other.view().0.load(&mut bytes.as_slice()).unwrap();
        let (mut q, before) = (p.clone(), core.headers[0].refreshes);
        while core.headers[0].refreshes == before {
            let grad = grads.next().unwrap();
            core.step(&mut p, &grad, 0.01);
            other.step(&mut q, &grad, 0.01);
        }
        assert_eq!((bits(&p), bits(&core.state)), (bits(&q), bits(&other.state)), "sort {sort}");
    }
}

/// A basis that is set ends the refresh of its mode, and only that.
#[test]
fn setting_a_basis_gives_the_mode_up() {
    let config = in_portions(f64::kl_shampoo(), 700, 40);
    let problem = Gradients::LowRankDrift.make(&[6, 9], 79);
    let mut p = problem.p0;
    let mut core = one::<f64, Portable>(&config, &[6, 9]);
    for grad in &problem.grads {
        core.step(&mut p, grad, LR);
        let mode = core.state[Places::of(&layout(&core)).kept.end + 1] as usize;
        let stage = core.state[Places::of(&layout(&core)).kept.end] as u32;
        for k in 0..2 {
            let (mut other, mut other_p, d) = (core.clone(), p.clone(), [6, 9][k]);
            // Columns exchanged, one with its sign.
            let old = other.read(StatePart::Basis(k));
            let basis: Vec<f64> = (0..d * d).map(|i| old[i / d * d + (i % d + 1) % d] * if i % d == 0 { -1.0 } else { 1.0 }).collect();
            other.set_basis(k, &basis);
            for j in 0..2 {
                let (a, b) = (core.read(StatePart::Factor(j)), other.read(StatePart::Factor(j)));
                let largest = a.iter().fold(0f64, |largest, x| largest.max(x.abs()));
                assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() <= 1e-14 * largest), "stage {stage} of mode {mode}, set {k}, read {j}");
            }
            let went_on = other.state[Places::of(&layout(&core)).kept.end] as u32;
            match stage {
                0 => assert_eq!(went_on, 0),
                _ if mode == k => assert!(went_on <= 1, "{went_on}"),
                _ => assert_eq!(went_on, stage),
            }
            let before = other.headers[0].refreshes;
            problem.grads[..60].iter().for_each(|grad| other.step(&mut other_p, grad, LR));
            assert!(other.headers[0].refreshes > before && other_p.iter().all(|x| x.is_finite()));
        }
    }
}

#[test]
fn what_is_not_stale_is_skipped() {
    let config = Config { staleness: 1.0, ..in_portions(f32::kl_shampoo(), 700, 5) };
    let mut core = one::<f32, Portable>(&config, &[6, 9]);
    let problem = Gradients::LowRankDrift.make(&[6, 9], 24);
    let mut p: Vec<f32> = converted(&problem.p0);
    for grad in &problem.grads {
        core.step(&mut p, &converted::<f32>(grad), 0.01);
        assert_eq!(stage(&core), 0);
    }
    assert_eq!((core.headers[0].refreshes, core.headers[0].refreshes_skipped), (0, 8));
}

/// On a budget, refreshes take turns with their portions.
#[test]
fn portions_wait_for_their_turn() {
    let config = in_portions(f32::kl_shampoo(), 3000, 40);
    let mut core = Core::<f32, Portable>::table(&[config], &[spec(&[8, 6]).slices(5), spec(&[4, 5, 3]), spec(&[7, 9])]);
    let budget = 2 * core.tensors[2].slice_cost().refresh_step;
    let mut params: Vec<Vec<f32>> = core.tensors.iter().map(|tensor| vec![0.1; tensor.span()]).collect();
    let mut random = Xorshift::for_shape(&[1, 2]);
    let (mut longest, mut refreshed, mut most) = (0, 0, 0);
    for _ in 0..400 {
        let grads: Vec<Vec<f32>> = params.iter().map(|p| p.iter().map(|_| random.normal() as f32).collect()).collect();
        let grads: Vec<Option<&[f32]>> = grads.iter().map(|grad| Some(grad.as_slice())).collect();
        let mut slices: Vec<&mut [f32]> = params.iter_mut().map(Vec::as_mut_slice).collect();
        let (view, scratch, linalg) = core.view();
        let report = view.with_refresh_budget(budget).step(&mut slices, &grads, 0.01, scratch, linalg).unwrap();
        assert!(report.portion_flops <= budget, "{} of {budget}", report.portion_flops);
        most = most.max(report.portion_flops);
        longest = longest.max(core.headers.iter().map(|header| header.postponed).max().unwrap());
        refreshed = core.headers.iter().map(|header| header.refreshes).min().unwrap();
    }
    assert!(refreshed >= 6, "none is left out: {:?}", core.headers);
    assert!((2..20).contains(&longest), "{longest}");
    assert!(most > budget / 2, "two of the largest at once: {most} of {budget}");
}

/// With the identity as the first basis nothing is preconditioned before a refresh has been made.
#[test]
fn the_first_basis_waits_for_a_refresh() {
    let base = Config { first_basis: FirstBasis::Identity, factor_init: FactorInit::Zero, ..f64::kl_shampoo() };
    for step_order in [StepOrder::EstimateFirst, StepOrder::ApplyFirst] {
        let config = Config { step_order, ..in_portions(base, 900, 5) };
        let mut core = one::<f64, Portable>(&config, &[6, 9]);
        let problem = Gradients::LowRankDrift.make(&[6, 9], 40);
        let mut p = problem.p0.clone();
        let mut plain = (0, 0);
        for grad in &problem.grads {
            let (before, refreshes) = (p.clone(), core.headers[0].refreshes);
            core.step(&mut p, grad, LR);
            let momentum = core.read(StatePart::Momentum);
            let unchanged = p.iter().zip(&before).zip(&momentum).all(|((p, before), m)| (before - LR * m - p).abs() < 1e-12);
            let seen = if step_order == StepOrder::EstimateFirst { core.headers[0].refreshes } else { refreshes };
            assert_eq!(unchanged, seen == 0, "{step_order:?}, step {}", core.headers[0].step);
            if unchanged { plain.0 += 1 } else { plain.1 += 1 }
        }
        assert!(plain.0 > 5 && plain.1 > 5);
    }
}

/// The gauge leaves a factor alone that is not all there, and every direction as it is.
#[test]
fn the_gauge_waits_for_the_factor() {
    let run = |gauge: bool| {
        let config = Config { gauge, ..in_portions(f32::kl_shampoo(), 250, 60) };
        let mut core = one::<f32, Portable>(&config, &[6, 9]);
        let problem = Gradients::LowRankDrift.make(&[6, 9], 180);
        let mut p: Vec<f32> = converted(&problem.p0);
        let places = Places::of(&layout(&core));
        let mut scaled = None;
        for grad in &problem.grads {
            let before = core.headers[0].rebalanced;
            core.step(&mut p, &converted::<f32>(grad), 0.01);
            let aside = matches!(stage(&core), 6 | 7);
            if scaled.is_none() && aside {
                // From now on the scales are far apart.
                for (k, factor) in [(0, 64.0), (1, 1.0 / 64.0)] {
                    places.lambda[k].clone().for_each(|i| core.state[i] *= factor);
                }
                scaled = Some(core.headers[0].rebalanced);
            } else if aside {
                assert_eq!(core.headers[0].rebalanced, before);
            }
        }
        assert_eq!(scaled.is_some_and(|before| core.headers[0].rebalanced > before), gauge);
        bits(&p)
    };
    assert_eq!(run(true), run(false));
}

/// Methods whose factors are read in between have no portions; those without factors none to make.
#[test]
fn what_reads_its_factors_is_refused() {
    type Change = fn(&mut Config<f32>);
    let refused: [Change; 6] = [
        |c| c.refresh = Refresh::Eigendecomposition,
        |c| c.eigenvalues = Eigenvalues::Instantaneous,
        |c| c.eigenvalues = Eigenvalues::InstantaneousAfterRefresh,
        |c| c.eigenvalues = Eigenvalues::AtRefresh,
        |c| (c.estimator, c.factor_init) = (Estimator::FrobeniusFactor, FactorInit::Lambda),
        |c| (c.estimator, c.direction, c.gauge) = (Estimator::Shampoo, Direction::TraceScaled, false),
    ];
    for change in refused {
        let mut config = Config::<f32>::kl_shampoo();
        change(&mut config);
        assert_eq!(config.validate(), Ok(()));
        config.refresh_portion = 1;
        assert_eq!(config.validate(), Err(ConfigError::RefreshPortion));
        let mut totals = klshampoo::Totals::default();
        let error = klshampoo::Tensor::resolve(&spec(&[2, 2]), &[config], &mut totals).unwrap_err();
        assert_eq!(error, TableError::Config(ConfigError::RefreshPortion));
    }
    let accepted = [Config::<f32>::adamw(), Config::<f32>::soap(), Config::<f32>::vn_shampoo_2(), Config::<f32>::f_shampoo_2()];
    for config in accepted {
        assert_eq!(Config { refresh_portion: 1, ..config }.validate(), Ok(()));
        let reference = config.in_convention(Convention::ReferenceKl);
        assert_eq!(Config { refresh_portion: 1, ..reference }.validate(), Ok(()));
    }
    // What is stepped element by element keeps nothing.
    let len = |config: &Config<f32>, dims: &[usize]| spec(dims).needs(config).unwrap().state_len;
    let adamw = Config::<f32>::adamw();
    assert_eq!(len(&Config { refresh_portion: 9, ..adamw }, &[6, 9]), len(&adamw, &[6, 9]));
    let kl = f32::kl_shampoo();
    assert_eq!(len(&Config { refresh_portion: 9, ..kl }, &[7]), len(&kl, &[7]));
    // What is stated of the memory.
    assert_eq!(len(&Config { refresh_portion: 9, ..kl }, &[16, 32]), len(&kl, &[16, 32]) + 2 * 32 * 32 + 3 * 32 + 5);
    // A table resolved without portions is not one with them.
    let tensors = one::<f32, Portable>(&kl, &[3, 2]).tensors;
    let groups = [Config { refresh_portion: 9, ..kl }];
    let (mut headers, mut state) = ([SliceHeader::NEW; 1], vec![0.0; 4096]);
    let error = Optimizer::new(&groups, &tensors, &mut headers, &mut state).unwrap_err();
    assert_eq!(error, TableError::Config(ConfigError::Combination));
}

/// Least squares with inputs and outputs of very different scales: portions learn as well as whole refreshes.
#[test]
fn training_goes_as_well() {
    const M: usize = 12;
    const N: usize = 16;
    let loss = |config: &Config<f32>| {
        let mut random = Xorshift::for_shape(&[M, N]);
        let scale = |i: usize, d: usize| 10f64.powf(-1.5 * i as f64 / (d - 1) as f64);
        let truth: Vec<f64> = (0..M * N).map(|_| random.normal()).collect();
        let (mut p, mut core) = (vec![0f32; M * N], one::<f32, Portable>(config, &[M, N]));
        let mix: Vec<f64> = (0..N * N).map(|_| random.normal() / (N as f64).sqrt()).collect();
        let mut last = Vec::new();
        for t in 0..400 {
            let (mut grad, mut sum) = (vec![0f64; M * N], 0.0);
            for _ in 0..16 {
                let z: Vec<f64> = (0..N).map(|j| random.normal() * scale(j, N)).collect();
                let x: Vec<f64> = (0..N).map(|i| (0..N).map(|j| mix[i * N + j] * z[j]).sum()).collect();
                for i in 0..M {
                    let off: f64 = (0..N).map(|j| (f64::from(p[i * N + j]) - truth[i * N + j]) * x[j]).sum::<f64>() * scale(i, M);
                    sum += 0.5 * off * off / 16.0;
                    (0..N).for_each(|j| grad[i * N + j] += off * scale(i, M) * x[j] / 16.0);
                }
            }
            let grad: Vec<f32> = grad.iter().map(|&g| g as f32).collect();
            core.step(&mut p, &grad, 0.05 * (1.0 - t as f32 / 400.0));
            last.push(sum);
        }
        last[100..].iter().sum::<f64>() / 300.0
    };
    let whole = loss(&f32::kl_shampoo());
    let first = loss(&Config { lr_scale: 0.0, ..f32::kl_shampoo() });
    for portion in [2000, 8000, u32::MAX] {
        let portioned = loss(&Config { refresh_portion: portion, ..f32::kl_shampoo() });
        assert!(portioned < 1.15 * whole && whole < 0.01 * first, "portion {portion}: {portioned} beside {whole}, from {first}");
    }
}
