//! Each method on gradients of known second moment: how far its preconditioner is from it, averaged over steps and seeds.

use crate::covariance::{DIMS, Kind, Source, kronecker};
use crate::divergence::{Divergence, Preconditioner, log_det, one_sided, two_sided};
use crate::estimators::{Method, Subject, eigenvalue_rules, methods};
use klshampoo::Config;
use klshampoo_tests::matrix::Matrix;

/// What is run, for how long.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Independent runs: covariances, planes and gradients.
    pub seeds: usize,
    /// Steps of each.
    pub steps: usize,
    /// Steps before the first measurement.
    pub burn_in: usize,
    /// Steps between measurements; 1 mod 2, so that every age of a basis is seen.
    pub every: usize,
    /// Of all averages.
    pub beta2: f64,
}

/// How often bases are refreshed, and how fast the second moment turns.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Condition {
    /// Of the gradients.
    pub kind: Kind,
    /// Radians per step.
    pub rate: f64,
    /// T.
    pub period: u32,
}

/// A method under one condition, one divergence per seed.
#[derive(Clone, Debug)]
pub struct Row {
    /// Of the method.
    pub name: &'static str,
    /// Under which it ran.
    pub condition: Condition,
    /// Means over the measured steps.
    pub seeds: Vec<Divergence>,
}

impl Row {
    /// Mean over the seeds.
    #[must_use]
    pub fn mean(&self) -> Divergence {
        let mean = |f: fn(&Divergence) -> f64| self.seeds.iter().map(f).sum::<f64>() / self.seeds.len() as f64;
        Divergence { exact: mean(|d| d.exact), scaled: mean(|d| d.scaled) }
    }
}

/// The rate at which the second moment turns slowly: a fifth of a radian in 50 steps.
pub const SLOW: f64 = 0.004;

/// Rates of the comparison of eigenvalue rules.
pub const RATES: [f64; 6] = [0.0, 0.001, 0.002, 0.004, 0.008, 0.016];

/// Fixed and fresh, turning and fresh, turning and stale, for both kinds.
#[must_use]
pub fn conditions() -> Vec<Condition> {
    let of = |kind| [(0.0, 1), (SLOW, 1), (SLOW, 50)].map(|(rate, period)| Condition { kind, rate, period });
    Kind::ALL.into_iter().flat_map(of).collect()
}

/// What all methods of a condition see: gradients, and second moments with their determinants where they are measured.
struct Scene {
    gradients: Vec<Vec<f64>>,
    truths: Vec<(usize, Matrix)>,
    log_det: f64,
}

impl Scene {
    fn new(plan: &Plan, kind: Kind, rate: f64, seed: usize) -> Self {
        let mut source = Source::new(kind, rate, seed);
        let measured = (plan.burn_in..=plan.steps).step_by(plan.every);
        Self {
            log_det: log_det(&source.second_moment()),
            truths: measured.map(|step| (step, source.second_moment_at(step))).collect(),
            gradients: (1..=plan.steps).map(|step| source.gradient(step)).collect(),
        }
    }

    /// Runs a method and averages its divergence.
    fn measure(&self, config: Config<f64>) -> Divergence {
        let (mut subject, mut truths, mut sum) = (Subject::new(config), self.truths.iter().peekable(), Divergence::default());
        for (step, gradient) in (1..).zip(&self.gradients) {
            subject.step(gradient);
            if let Some((_, truth)) = truths.next_if(|(at, _)| *at == step) {
                let divergence = subject.preconditioner().divergence(truth, self.log_det);
                sum.exact += divergence.exact / self.truths.len() as f64;
                sum.scaled += divergence.scaled / self.truths.len() as f64;
            }
        }
        sum
    }
}

/// The minima over one- and two-sided preconditioners, which know the second moment.
fn optima(plan: &Plan, condition: Condition) -> [Row; 2] {
    let minimum = |name, best: fn(&Matrix) -> Matrix| {
        let of_seed = |seed| {
            let h = Source::new(condition.kind, 0.0, seed).second_moment();
            Preconditioner::of(&best(&h)).divergence(&h, log_det(&h))
        };
        Row { name, condition, seeds: (0..plan.seeds).map(of_seed).collect() }
    };
    [
        minimum("(two-sided minimum, Claim 2)", two_sided),
        minimum("(one-sided minimum, Claim 1)", |h| kronecker(&Matrix::identity(DIMS[0]), &one_sided(h))),
    ]
}

fn run(plan: &Plan, condition: Condition, methods: &[Method]) -> Vec<Row> {
    let row = |method: &Method| Row { name: method.name, condition, seeds: Vec::new() };
    let mut rows: Vec<Row> = methods.iter().map(row).collect();
    for seed in 0..plan.seeds {
        let scene = Scene::new(plan, condition.kind, condition.rate, seed);
        for (row, method) in rows.iter_mut().zip(methods) {
            let config = Config { refresh_period: condition.period, beta2: plan.beta2, ..method.config };
            row.seeds.push(scene.measure(config));
        }
    }
    rows
}

/// Every method under every one of the [`conditions`], and the minima.
#[must_use]
pub fn compare_methods(plan: &Plan) -> Vec<Row> {
    let methods = methods();
    conditions().into_iter().flat_map(|condition| [optima(plan, condition).to_vec(), run(plan, condition, &methods)].concat()).collect()
}

/// KL-Shampoo with every source of eigenvalues, at every rate, for T = 10 and 50 on Kronecker gradients.
#[must_use]
pub fn compare_eigenvalues(plan: &Plan) -> Vec<Row> {
    let rules = eigenvalue_rules();
    let of = |period| RATES.map(|rate| Condition { kind: Kind::Kronecker, rate, period });
    [10, 50].into_iter().flat_map(of).flat_map(|condition| run(plan, condition, &rules)).collect()
}
