//! The core in float64 beside the textbook: one tensor, the same gradients, everything compared after every step.
//!
//! Each is on its own, except where a basis leaves a choice. Eigenvectors have no signs, and those of (nearly) equal eigenvalues are
//! any basis of their space; QR of a (nearly) singular matrix has many results: columns after a vanishing pivot are arbitrary, and the
//! trajectory depends on them. There the test asserts that the core's basis *is* a result, by the textbook's own matrix, and the
//! textbook goes on with it, this step's direction included. So nothing is left out of the comparison, and no freedom is given where
//! there is none.

use crate::cases::{Gradients, Problem};
use crate::golden::{norm, rel_error};
use crate::harness::{Core, Driver};
use crate::textbook::{KlShampoo, Matrix, Refresh, Turn};
use crate::translate::{kind, options};
use klshampoo::linalg::Portable;
use klshampoo::{Config, LambdaInit, Mode, SliceHeader, StatePart};

/// The core under test.
pub type F64Core = Core<f64, Portable>;

/// The learning rate of the first step.
pub const LR: f64 = 0.01;
/// Length of a run.
pub const STEPS: usize = 40;
/// Of the parameter relative to its movement, of the state relative to its norm.
const TOLERANCE: f64 = 1e-10;
/// A QR whose pivots `diag R` spread more than this leaves a choice: rounding of 1e-16 reaches the basis at 1e-10.
const CHOICE: f64 = 1e-5;
/// How far what should be triangular or diagonal may be from it, relative to its norm.
const TRIANGULAR: f64 = 1e-13;

/// A configuration and what its gradients are multiplied by.
#[derive(Clone, Debug)]
pub struct Method {
    /// For messages.
    pub name: String,
    /// The configuration; the driver sets `lr_scale`.
    pub config: Config<f64>,
    /// A power of two.
    pub grad_scale: f64,
}

impl Method {
    /// With gradients as they are.
    pub fn new(name: impl Into<String>, config: Config<f64>) -> Self {
        Method { name: name.into(), config, grad_scale: 1.0 }
    }
}

/// Largest errors of a group of runs, and what happened in them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Worst {
    /// How many runs.
    pub runs: usize,
    /// Of the parameter relative to its movement.
    pub parameter: f64,
    /// Of a part of the state relative to its norm.
    pub state: f64,
    /// Of a refreshed basis.
    pub basis: f64,
    /// How far an adopted basis was from being a result.
    pub triangular: f64,
    /// Bases compared.
    pub compared: usize,
    /// Bases adopted.
    pub adopted: usize,
    /// Sums of the headers' counters.
    pub counters: SliceHeader,
}

impl Worst {
    /// Prints one line.
    pub fn report(&self, group: &str) {
        let Worst { runs, parameter, state, basis, triangular, compared, adopted, counters } = self;
        let SliceHeader { refreshes_skipped, floored, clamped, rebalanced, capped, .. } = counters;
        println!(
            "{group}: {runs} runs, parameter {parameter:.1e}, state {state:.1e}; {compared} bases compared, {basis:.1e}; {adopted} adopted, \
             {triangular:.1e}; {floored} floored, {clamped} clamped, {rebalanced} rebalanced, {capped} capped, {refreshes_skipped} skipped"
        );
    }

    /// Both groups together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let sum = |a: u32, b: u32| a.saturating_add(b);
        let (a, b) = (self.counters, other.counters);
        Worst {
            runs: self.runs + other.runs,
            parameter: self.parameter.max(other.parameter),
            state: self.state.max(other.state),
            basis: self.basis.max(other.basis),
            triangular: self.triangular.max(other.triangular),
            compared: self.compared + other.compared,
            adopted: self.adopted + other.adopted,
            counters: SliceHeader {
                refreshes: sum(a.refreshes, b.refreshes),
                refreshes_skipped: sum(a.refreshes_skipped, b.refreshes_skipped),
                floored: sum(a.floored, b.floored),
                clamped: sum(a.clamped, b.clamped),
                rebalanced: sum(a.rebalanced, b.rebalanced),
                capped: sum(a.capped, b.capped),
                ..SliceHeader::NEW
            },
        }
    }
}

/// A parameter and gradients for a whole run.
pub fn make(gradients: Gradients, dims: &[usize]) -> Problem {
    let mut problem = gradients.make(dims, STEPS);
    if gradients == Gradients::Tiny {
        // Steps of 1e-14 would be lost beside a parameter of the usual size.
        problem.p0.fill(0.0);
    }
    problem
}

/// A whole sequence, compared after every step.
///
/// # Panics
/// If core and textbook differ.
pub fn run(method: &Method, dims: &[usize], modes: &[Mode], problem: &Problem, what: &str) -> Worst {
    let what = format!("{what}, {}", method.name);
    // The group halves the learning rate that it is given.
    let config = Config { lr_scale: 0.5, ..method.config };
    let chosen: Vec<Option<Mode>> = modes.iter().copied().map(Some).collect();
    let kinds: Vec<_> = modes.iter().copied().map(kind).collect();
    let mut lockstep = Lockstep {
        config,
        p0: &problem.p0,
        core: F64Core::new(&config, dims, &chosen),
        core_p: problem.p0.clone(),
        textbook: KlShampoo::new(dims, &kinds, options(&config)),
        textbook_p: problem.p0.clone(),
        judge: Judge { what, step: 0, worst: Worst::default() },
    };
    for grad in &problem.grads {
        lockstep.step(&scaled(grad, method.grad_scale));
    }
    lockstep.finish()
}

/// Holds numbers against each other and remembers the worst.
struct Judge {
    what: String,
    step: u64,
    worst: Worst,
}

/// Core and textbook on one tensor.
struct Lockstep<'a> {
    config: Config<f64>,
    p0: &'a [f64],
    core: F64Core,
    core_p: Vec<f64>,
    textbook: KlShampoo,
    textbook_p: Vec<f64>,
    judge: Judge,
}

/// The largest element in size.
fn largest(values: impl IntoIterator<Item = f64>) -> f64 {
    values.into_iter().fold(0.0, |largest, x| x.abs().max(largest))
}

fn strictly_below(m: &Matrix) -> impl Iterator<Item = f64> {
    (0..m.rows).flat_map(move |i| (0..i).map(move |j| m[(i, j)]))
}

fn scaled(values: &[f64], factor: f64) -> Vec<f64> {
    values.iter().map(|x| factor * x).collect()
}

impl Judge {
    /// The basis that the textbook goes on with: its own where that is determined and the core's agrees with it, else the core's.
    ///
    /// A first basis is `superseded` where the same step has refreshed it: if the core's is not a result then, it is another one's.
    fn basis(&mut self, turn: Turn<'_>, core: Matrix, superseded: bool) -> Matrix {
        let at = format!("{}: step {}: mode {}", self.what, self.step, turn.mode);
        if turn.rule == Refresh::Qr {
            let (_, r) = turn.matrix.qr();
            let (scale, pivot) = (largest(r.diagonal_values()), r.diagonal_values().fold(f64::INFINITY, |least, x| x.abs().min(least)));
            if pivot > CHOICE * scale {
                let error = largest(core.data.iter().zip(&turn.basis.data).map(|(a, b)| a - b));
                assert!(error <= TOLERANCE * scale / pivot, "{at}: basis {error:e}");
                self.worst.basis = self.worst.basis.max(error);
                self.worst.compared += 1;
                return turn.basis;
            }
        }
        let product = core.transposed().times(turn.matrix);
        // What the basis makes of the matrix, and which of its elements should vanish or not be negative.
        let (result, diagonal_drop) = match turn.rule {
            Refresh::Qr => {
                let least = product.diagonal_values().fold(0.0, f64::min);
                (product, -least)
            }
            Refresh::Eigendecomposition => {
                let rotated = product.times(&core);
                let values: Vec<f64> = rotated.diagonal_values().collect();
                (rotated, values.windows(2).map(|pair| pair[1] - pair[0]).fold(0.0, f64::max))
            }
        };
        let scale = norm(result.data.iter().copied());
        let error = largest(strictly_below(&result)).max(diagonal_drop);
        if superseded && error > TRIANGULAR * scale {
            return turn.basis;
        }
        assert!(error <= TRIANGULAR * scale, "{at}: {:?}: {error:e} of {scale:e}", turn.rule);
        let gram = core.transposed().times(&core);
        let skew = largest(gram.data.iter().zip(Matrix::identity(gram.rows).data).map(|(a, b)| a - b));
        assert!(skew <= 1e-13, "{at}: orthogonality {skew:e}");
        self.worst.triangular = self.worst.triangular.max(if scale > 0.0 { error / scale } else { 0.0 });
        self.worst.adopted += 1;
        core
    }

    fn state(&mut self, part: &str, values: &[f64], expected: &[f64]) {
        let error = rel_error(values, expected);
        assert!(error <= TOLERANCE, "{}: step {}: {part}: {error:e}", self.what, self.step);
        self.worst.state = self.worst.state.max(error);
    }
}

impl Lockstep<'_> {
    fn step(&mut self, grad: &[f64]) {
        self.judge.step += 1;
        // Another rate at every step.
        let lr = LR * (1.0 + 0.5 * (self.judge.step % 3) as f64);
        let Self { core, core_p, textbook, textbook_p, judge, .. } = self;
        let mut sets_first_bases = core.headers[0].started == 0;
        core.step(core_p, grad, 2.0 * lr);
        let refreshes = core.headers[0].refreshes > 0;
        // The textbook's first turns are those of the start, one for each full mode.
        let full = core.tensors[0].layout().shape().full_modes();
        let mut turns = 0;
        textbook.step_choosing(textbook_p, grad, lr, &mut |turn| {
            let d = turn.matrix.rows;
            let basis = Matrix { rows: d, cols: d, data: core.read(StatePart::Basis(turn.mode)) };
            turns += 1;
            sets_first_bases &= turns <= full;
            judge.basis(turn, basis, sets_first_bases && refreshes)
        });
        self.compare();
    }

    fn compare(&mut self) {
        let header = self.core.headers[0];
        let preconditioned = self.core.tensors[0].layout().shape().preconditioned_modes() > 0;
        assert_eq!(header.step, self.judge.step, "{}", self.judge.what);
        assert_eq!(header.started == 1, preconditioned && self.textbook.lambda_0.is_some(), "{}", self.judge.what);
        self.compare_parameter();
        if preconditioned && header.started == 0 {
            assert!(self.core.state.iter().all(|&x| x == 0.0), "{}", self.judge.what);
            return;
        }
        let layout = *self.core.tensors[0].layout();
        for (part, name, expected) in [
            (StatePart::Momentum, "momentum", &self.textbook.momentum),
            (StatePart::SecondMoment, "second moment", &self.textbook.second_moment),
            (StatePart::GraftMoment, "graft's second moment", &self.textbook.graft_second_moment),
        ] {
            if part.len(&layout).is_some() {
                self.judge.state(name, &self.core.read(part), expected);
            }
        }
        let mut product = 1.0;
        for (k, mode) in self.textbook.modes.iter().enumerate() {
            let mut gauge = 1.0;
            if layout.has_lambda(k) {
                let lambda = self.core.read(StatePart::Eigenvalues(k));
                if self.config.gauge {
                    gauge = (lambda[0] / mode.eigenvalues[0]).log2().round().exp2();
                }
                self.judge.state("eigenvalues", &lambda, &scaled(&mode.eigenvalues, gauge));
            }
            product *= gauge;
            if layout.shape().is_full(k) {
                let factor = self.core.read(StatePart::Factor(k));
                self.judge.state("factor", &factor, &scaled(&mode.factor.data, gauge));
            }
        }
        assert_eq!(product, 1.0, "{}: the product of the modes' scales", self.judge.what);
    }

    fn compare_parameter(&mut self) {
        let moved = norm(self.textbook_p.iter().zip(self.p0).map(|(a, b)| a - b));
        // Updates that vanish beside the parameter are rounded to its last bits, by either side.
        let rounding = self.judge.step as f64 * f64::EPSILON * norm(self.textbook_p.iter().copied());
        let error = norm(self.core_p.iter().zip(&self.textbook_p).map(|(a, b)| a - b));
        let Judge { what, step, worst } = &mut self.judge;
        assert!(error <= TOLERANCE * moved + rounding, "{what}: step {step}: parameter {error:e} of {moved:e}");
        if rounding < TOLERANCE * moved {
            worst.parameter = worst.parameter.max(error / moved);
        }
    }

    fn finish(self) -> Worst {
        let header = self.core.headers[0];
        assert_eq!((header.refresh_failures, header.skipped), (0, 0), "{}", self.judge.what);
        assert_eq!(u64::from(header.refreshes_skipped), self.textbook.skipped, "{}", self.judge.what);
        Worst { runs: 1, counters: header, ..self.judge.worst }
    }
}

/// The paper's first eigenvalue instead of a scale-free one.
#[must_use]
pub fn with_constant_start(config: Config<f64>) -> Config<f64> {
    Config { lambda_init: LambdaInit::Constant(0.1), ..config }
}
