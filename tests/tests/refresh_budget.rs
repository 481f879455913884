//! Refreshes on a budget: no step spends more, none waits for ever, and a budget that is never short changes nothing.

use klshampoo::linalg::Portable;
use klshampoo::{Config, Optimizer, SliceHeader, Tensor, TensorSpec, Totals};
use klshampoo_tests::cases::Xorshift;

const DIMS: [(&[usize], usize); 5] = [(&[6, 9], 3), (&[12, 5], 1), (&[7], 1), (&[3, 4, 5], 2), (&[10, 10], 2)];
const STEPS: usize = 60;

struct Run {
    headers: Vec<SliceHeader>,
    params: Vec<Vec<u32>>,
    /// Predicted operations of the refreshes made in each step.
    spent: Vec<u64>,
    /// The longest time that a slice with factors went without a refresh.
    longest_wait: u64,
}

/// What becomes of a tensor's gradient in a step.
#[derive(Clone, Copy, PartialEq)]
enum Fate {
    Normal,
    /// The tensor is frozen.
    None,
    Zero,
}

fn run(config: Config<f32>, budget: Option<u64>) -> Run {
    run_with(config, budget, |_, _| Fate::Normal)
}

fn run_with(config: Config<f32>, budget: Option<u64>, fate: impl Fn(usize, usize) -> Fate) -> Run {
    let (mut totals, groups) = (Totals::default(), [config]);
    let spec = |&(dims, slices): &(&[usize], usize)| TensorSpec::new(dims).unwrap().slices(slices);
    let tensors: Vec<Tensor> = DIMS.iter().map(|entry| Tensor::resolve(&spec(entry), &groups, &mut totals).unwrap()).collect();
    let mut headers = vec![SliceHeader::NEW; totals.slices];
    let (mut state, mut scratch) = (vec![0.0; totals.state_len], vec![0.0; totals.scratch_len]);
    let mut params: Vec<Vec<f32>> = tensors.iter().map(|tensor| vec![0.1; tensor.span()]).collect();
    let mut random = Xorshift::for_shape(&[9]);
    let (mut spent, mut longest_wait) = (Vec::new(), 0);
    for step in 0..STEPS {
        let mut grads: Vec<Vec<f32>> =
            params.iter().map(|param| (0..param.len()).map(|_| random.normal() as f32).collect::<Vec<f32>>()).collect();
        (0..grads.len()).filter(|&i| fate(step, i) == Fate::Zero).for_each(|i| grads[i].fill(0.0));
        let before = headers.clone();
        let mut optimizer = Optimizer::new(&groups, &tensors, &mut headers, &mut state).unwrap();
        if let Some(flops) = budget {
            optimizer = optimizer.with_refresh_budget(flops);
        }
        let grads: Vec<Option<&[f32]>> =
            grads.iter().enumerate().map(|(i, grad)| (fate(step, i) != Fate::None).then_some(grad.as_slice())).collect();
        let mut slices: Vec<&mut [f32]> = params.iter_mut().map(Vec::as_mut_slice).collect();
        optimizer.step(&mut slices, &grads, 0.01, &mut scratch, &mut Portable).unwrap();
        let mut sum = 0;
        for tensor in &tensors {
            for slice in 0..tensor.slices() {
                let place = tensor.header_range(slice).start;
                if headers[place].refreshes > before[place].refreshes {
                    sum += tensor.slice_cost().refresh;
                }
                if tensor.slice_cost().refresh > 0 && headers[place].refreshes > 0 {
                    longest_wait = longest_wait.max(headers[place].step - headers[place].last_refresh);
                }
            }
        }
        spent.push(sum);
    }
    let params = params.iter().map(|param| param.iter().map(|x| x.to_bits()).collect()).collect();
    Run { headers, params, spent, longest_wait }
}

fn configs() -> [Config<f32>; 3] {
    let period = Config { refresh_period: 5, ..Config::<f32>::kl_shampoo() };
    [period, Config { stagger: false, ..period }, Config { refresh_growth: 20, ..period }]
}

#[test]
fn a_budget_that_is_never_short_changes_nothing() {
    for config in configs() {
        // Slices that start late, rest and are frozen for a while.
        let fate = |step: usize, tensor: usize| match (tensor, step) {
            (1, 0..7) | (0, 20..33) => Fate::Zero,
            (3, 11..24) => Fate::None,
            _ => Fate::Normal,
        };
        for fate in [&fate as &dyn Fn(usize, usize) -> Fate, &|_, _| Fate::Normal] {
            let (free, bound) = (run_with(config, None, fate), run_with(config, Some(u64::MAX - 1), fate));
            assert!(free.params == bound.params && free.headers == bound.headers && free.spent == bound.spent);
        }
    }
}

#[test]
fn no_step_spends_more_and_none_waits_for_ever() {
    // Staggered refreshes are level already.
    for config in &configs()[1..] {
        let (config, free) = (*config, run(*config, None));
        let (worst, total) = (*free.spent.iter().max().unwrap(), free.spent.iter().sum::<u64>());
        // Half as much again as the mean demand: the refreshes of bursts are put off, and all are made.
        let budget = total / STEPS as u64 * 3 / 2;
        assert!(budget < worst, "the budget is short in some steps");
        let bound = run(config, Some(budget));
        assert!(bound.params != free.params);
        // The step that sets the bases is no refresh, and not bounded, even where one is due in it.
        assert!(bound.spent[1..].iter().all(|&spent| spent <= budget), "{:?} of {budget}", bound.spent);
        assert!(bound.spent.iter().sum::<u64>() * 10 >= total * 8, "few are lost: {:?} of {:?}", bound.spent, free.spent);
        assert!(bound.longest_wait <= 2 * 5 + 1, "{}", bound.longest_wait);
    }
}

#[test]
fn next_to_nothing_still_makes_one_refresh_a_step_in_turn() {
    let config = Config { refresh_period: 5, stagger: false, ..Config::<f32>::kl_shampoo() };
    let run = run(config, Some(1));
    assert!(run.spent[5..].iter().all(|&spent| spent > 0), "{:?}", run.spent);
    let refreshed = run.headers.iter().filter(|header| header.refreshes > 0).count();
    // Eight slices have factors.
    assert_eq!(refreshed, 8);
    assert!(run.longest_wait <= 5 + 8 + 1, "{}", run.longest_wait);
}

#[test]
fn slices_that_never_start_or_are_frozen_take_no_turns() {
    let config = Config { refresh_period: 5, stagger: false, ..Config::<f32>::kl_shampoo() };
    // Three slices of the first tensor never see a gradient; the last tensor is frozen when its refresh is due.
    let fate = |step: usize, tensor: usize| match (tensor, step) {
        (0, _) => Fate::Zero,
        (4, 4..) => Fate::None,
        _ => Fate::Normal,
    };
    let run = run_with(config, Some(1), fate);
    // Three slices are left, which refresh one after another from the step on that all of them are due in.
    let turns = |period: &[u64]| period.iter().map(|&spent| spent > 0).collect::<Vec<_>>() == [true, true, true, false, false];
    assert!(run.spent[4..59].chunks_exact(5).all(turns), "{:?}", run.spent);
    let refreshed = run.headers.iter().filter(|header| header.refreshes > 0).count();
    // The second and the fourth tensor, of one and two slices.
    assert_eq!(refreshed, 3);
    assert!(run.longest_wait <= 5 + 3 + 1, "{}", run.longest_wait);
}
