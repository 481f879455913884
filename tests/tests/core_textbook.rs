//! The core in float64 is the textbook, on every edge shape, gradient sequence, convention and combination of modes.
//!
//! Both run side by side from the same bases: after the first step the core takes the textbook's by `set_basis`. From then on each
//! is on its own, except where a refresh leaves a choice. QR of a (nearly) singular matrix has many results: columns after a
//! vanishing pivot are arbitrary, and the trajectory depends on them. There the test asserts that the core's basis *is* a result,
//! `Q^T (S Q_old)` upper triangular with a diagonal that is not negative, by the textbook's own `S` and `Q_old`; then the textbook
//! adopts it, this step's direction included. So nothing is left out of the comparison, and no freedom is given where there is none.

use klshampoo::linalg::Portable;
use klshampoo::{Config, LambdaInit, Mode, StatePart};
use klshampoo_tests::cases::{Gradients, HIGHER_ORDERS, MATRICES, Problem, Shape};
use klshampoo_tests::golden::{norm, rel_error};
use klshampoo_tests::harness::{Core, Driver};
use klshampoo_tests::textbook::{AdamW, FirstEigenvalue, KlShampoo, Matrix, ModeKind, Options, StepOrder};

type F64Core = Core<f64, Portable>;

const LR: f64 = 0.01;
const STEPS: usize = 40;
/// Of the parameter relative to its movement, of the state relative to its norm.
const TOLERANCE: f64 = 1e-10;
/// A refresh whose pivots `diag R` spread more than this leaves a choice: rounding of 1e-16 reaches the basis at 1e-10.
const CHOICE: f64 = 1e-5;
/// How far `Q^T (S Q_old)` may be from triangular, relative to its norm.
const TRIANGULAR: f64 = 1e-13;

/// A configuration in both languages.
#[derive(Clone, Copy, Debug)]
struct Method {
    name: &'static str,
    textbook: Options,
    /// Multiplies the gradients; a power of two.
    grad_scale: f64,
    /// Whether the core may move powers of two between modes.
    gauge: bool,
}

impl Method {
    fn core(&self) -> Config<f64> {
        let o = &self.textbook;
        let preset = match o.step_order {
            StepOrder::EstimateFirst => Config::<f64>::kl_shampoo(),
            StepOrder::ApplyFirst => Config::<f64>::kl_shampoo_reference(),
        };
        Config {
            refresh_period: o.period as u32,
            lambda_init: match o.lambda_0 {
                FirstEigenvalue::Constant(value) => LambdaInit::Constant(value),
                FirstEigenvalue::ScaleFree => LambdaInit::ScaleFree,
            },
            beta1: o.beta1,
            beta2: o.beta2,
            eps: o.eps,
            weight_decay: o.weight_decay,
            clamp_limit: o.clamp,
            gauge: self.gauge,
            lr_scale: 0.5,
            ..preset
        }
    }
}

fn figure13() -> Vec<Method> {
    let base = Options::figure13();
    let scale_free = Options { lambda_0: FirstEigenvalue::ScaleFree, ..base };
    let method = |name, textbook| Method { name, textbook, grad_scale: 1.0, gauge: false };
    let small = |name, textbook| Method { name, textbook, grad_scale: 1.0 / 32.0, gauge: false };
    vec![
        method("figure13 T=10", base),
        method("figure13 T=1", Options { period: 1, weight_decay: 0.1, ..base }),
        method("figure13 T=5, betas, decay", Options { period: 5, beta1: 0.9, beta2: 0.98, weight_decay: 0.1, ..base }),
        method("figure13 T=10, scale-free, decay", Options { weight_decay: 0.1, ..scale_free }),
        method("figure13 T=1, scale-free, betas", Options { period: 1, beta1: 0.9, beta2: 0.8, ..scale_free }),
        method("figure13 T=5, scale-free, damped, no momentum", Options { period: 5, beta1: 0.0, eps: 0.1, ..scale_free }),
        small("figure13 T=5, clamped", Options { period: 5, beta2: 0.8, clamp: Some(4000.0), ..base }),
    ]
}

fn reference_kl() -> Vec<Method> {
    let base = Options { weight_decay: 0.1, ..Options::reference_kl() };
    let scale_free = Options { lambda_0: FirstEigenvalue::ScaleFree, ..base };
    let method = |name, textbook| Method { name, textbook, grad_scale: 1.0, gauge: false };
    let small = |name, textbook| Method { name, textbook, grad_scale: 1.0 / 32.0, gauge: false };
    vec![
        method("reference_kl T=10", base),
        method("reference_kl T=1, no clamp", Options { period: 1, clamp: None, ..base }),
        small("reference_kl T=5, betas", Options { period: 5, beta1: 0.9, beta2: 0.8, ..base }),
        method("reference_kl T=1, betas", Options { period: 1, beta1: 0.9, beta2: 0.8, ..base }),
        method("reference_kl T=10, scale-free, no clamp", Options { clamp: None, weight_decay: 0.0, ..scale_free }),
        small("reference_kl T=5, scale-free, small clamp", Options { period: 5, beta2: 0.8, clamp: Some(12.0), ..scale_free }),
    ]
}

/// Largest errors of a group, and how many refreshes were compared and adopted.
#[derive(Clone, Copy, Debug, Default)]
struct Worst {
    runs: usize,
    parameter: f64,
    state: f64,
    basis: f64,
    triangular: f64,
    refreshes: usize,
    adopted: usize,
    clamped: u32,
    floored: u32,
    rebalanced: u32,
}

impl Worst {
    fn report(&self, group: &str) {
        let Worst { runs, parameter, state, basis, triangular, refreshes, adopted, clamped, floored, rebalanced } = self;
        println!(
            "{group}: {runs} runs, parameter {parameter:.1e}, state {state:.1e}; {refreshes} refreshes compared, basis {basis:.1e}; \
             {adopted} adopted, triangular {triangular:.1e}; {clamped} clamped, {floored} floored, {rebalanced} rebalanced"
        );
    }
}

/// Core and textbook on one tensor.
struct Lockstep<'a> {
    what: String,
    options: Options,
    gauge: bool,
    p0: &'a [f64],
    core: F64Core,
    core_p: Vec<f64>,
    textbook: KlShampoo,
    textbook_p: Vec<f64>,
    worst: &'a mut Worst,
}

/// The largest element in size.
fn largest(values: impl IntoIterator<Item = f64>) -> f64 {
    values.into_iter().fold(0.0, |largest, x| x.abs().max(largest))
}

fn strictly_below(m: &Matrix) -> impl Iterator<Item = f64> {
    (0..m.rows).flat_map(move |i| (0..i).map(move |j| m[(i, j)]))
}

fn diagonal(m: &Matrix) -> impl Iterator<Item = f64> {
    (0..m.rows).map(move |i| m[(i, i)])
}

impl<'a> Lockstep<'a> {
    fn new(what: String, method: Method, dims: &[usize], kinds: &[ModeKind], p0: &'a [f64], worst: &'a mut Worst) -> Self {
        let mode = |kind: &ModeKind| match kind {
            ModeKind::Full => Some(Mode::Full),
            ModeKind::Diagonal => Some(Mode::Diagonal),
            ModeKind::Identity => Some(Mode::Identity),
        };
        Lockstep {
            what,
            options: method.textbook,
            gauge: method.gauge,
            p0,
            core: F64Core::new(&method.core(), dims, &kinds.iter().map(mode).collect::<Vec<_>>()),
            core_p: p0.to_vec(),
            textbook: KlShampoo::new(dims, kinds, method.textbook),
            textbook_p: p0.to_vec(),
            worst,
        }
    }

    /// Another one at every step.
    fn lr(&self) -> f64 {
        LR * (1.0 + 0.5 * (self.core.headers[0].step % 3) as f64)
    }

    /// One step of the core, whose group halves the learning rate.
    fn step_core(&mut self, grad: &[f64]) {
        let lr = 2.0 * self.lr();
        self.core.step(&mut self.core_p, grad, lr);
    }

    /// A zero gradient before any other: neither has a basis; the parameter decays, in `reference_kl` from the second step on.
    fn idle(&mut self, zeros: &[f64]) {
        let steps = self.core.headers[0].step;
        if !(self.options.step_order == StepOrder::ApplyFirst && steps == 0) {
            let kept = 1.0 - self.lr() * self.options.weight_decay;
            self.textbook_p.iter_mut().for_each(|p| *p *= kept);
        }
        self.step_core(zeros);
        let header = self.core.headers[0];
        assert_eq!((header.step, header.started), (steps + 1, 0), "{}", self.what);
        assert!(self.core.state.iter().all(|&x| x == 0.0), "{}", self.what);
        self.compare_parameter();
    }

    fn full_modes(&self) -> Vec<usize> {
        (0..self.textbook.modes.len()).filter(|&k| self.textbook.modes[k].kind == ModeKind::Full).collect()
    }

    fn core_basis(&mut self, k: usize) -> Matrix {
        let d = self.textbook.modes[k].basis.rows;
        Matrix { rows: d, cols: d, data: self.core.read(StatePart::Basis(k)) }
    }

    /// The first step with a gradient that is not zero: it sets the bases, and the core then takes the textbook's.
    ///
    /// To the textbook it is step 1 even if others have gone before it, which count for the core.
    fn start(&mut self, grad: &[f64]) {
        let lr = self.lr();
        self.step_core(grad);
        self.textbook.step(&mut self.textbook_p, grad, lr);
        self.textbook.t = self.core.headers[0].step;
        for k in self.full_modes() {
            let (basis, factor) = (self.core_basis(k), &self.textbook.modes[k].factor);
            let rotated = basis.transposed().times(factor).times(&basis);
            let scale = largest(rotated.data.iter().copied());
            assert!(largest(strictly_below(&rotated)) <= TRIANGULAR * scale, "{}: mode {k}: not diagonal", self.what);
            let values: Vec<f64> = diagonal(&rotated).collect();
            assert!(values.windows(2).all(|pair| pair[0] >= pair[1] - TRIANGULAR * scale), "{}: mode {k}: not descending", self.what);
            let basis = self.textbook.modes[k].basis.data.clone();
            self.core.set_basis(k, &basis);
            assert_eq!(self.core.read(StatePart::Basis(k)), basis);
        }
        self.compare();
    }

    fn step(&mut self, grad: &[f64]) {
        let old: Vec<Matrix> = self.textbook.modes.iter().map(|mode| mode.basis.clone()).collect();
        let (before, lr) = (self.textbook_p.clone(), self.lr());
        self.step_core(grad);
        self.textbook.step(&mut self.textbook_p, grad, lr);
        let offset = u64::from(self.options.step_order == StepOrder::ApplyFirst);
        if (self.textbook.t - offset).is_multiple_of(self.options.period) {
            let mut adopted = false;
            for k in self.full_modes() {
                adopted |= self.compare_refresh(k, &old[k]);
            }
            // `reference_kl` has made its direction before the refresh.
            if adopted && self.options.step_order == StepOrder::EstimateFirst {
                let u = self.textbook_direction();
                let kept = 1.0 - lr * self.options.weight_decay;
                self.textbook_p = before.iter().zip(&u).map(|(p, u)| p * kept - lr * u).collect();
            }
        }
        self.compare();
    }

    /// Compares the new bases of mode `k`, or has the textbook adopt the core's where there is a choice; says whether it did.
    fn compare_refresh(&mut self, k: usize, old: &Matrix) -> bool {
        let product = self.textbook.modes[k].factor.times(old);
        let (_, r) = product.qr();
        let (scale, pivot) = (largest(diagonal(&r)), diagonal(&r).fold(f64::INFINITY, |least, x| x.abs().min(least)));
        let basis = self.core_basis(k);
        if pivot > CHOICE * scale {
            let error = largest(basis.data.iter().zip(&self.textbook.modes[k].basis.data).map(|(a, b)| a - b));
            assert!(error <= TOLERANCE * scale / pivot, "{}: step {}: basis {k}: {error:e}", self.what, self.textbook.t);
            self.worst.basis = self.worst.basis.max(error);
            self.worst.refreshes += 1;
            return false;
        }
        let triangle = basis.transposed().times(&product);
        let scale = norm(product.data.iter().copied());
        let below = largest(strictly_below(&triangle)).max(-diagonal(&triangle).fold(0.0, f64::min));
        assert!(below <= TRIANGULAR * scale, "{}: step {}: mode {k}: {below:e} of {scale:e}", self.what, self.textbook.t);
        let gram = basis.transposed().times(&basis);
        let error = largest(gram.data.iter().zip(Matrix::identity(gram.rows).data).map(|(a, b)| a - b));
        assert!(error <= 1e-13, "{}: step {}: mode {k}: orthogonality {error:e}", self.what, self.textbook.t);
        self.worst.triangular = self.worst.triangular.max(if scale > 0.0 { below / scale } else { 0.0 });
        self.worst.adopted += 1;
        self.textbook.seed_basis(k, &basis.data);
        true
    }

    /// The direction of the textbook's present momentum, eigenvalues and (adopted) bases.
    fn textbook_direction(&self) -> Vec<f64> {
        let mut roots = vec![1.0];
        for mode in &self.textbook.modes {
            roots = roots.iter().flat_map(|root| mode.eigenvalues.iter().map(move |lambda| root * lambda.sqrt())).collect();
        }
        let rotated = self.textbook.rotate(&self.textbook.momentum);
        let u: Vec<f64> = rotated.iter().zip(&roots).map(|(m, root)| m / (root + self.options.eps)).collect();
        self.textbook.rotate_back(&u)
    }

    fn compare_parameter(&mut self) {
        let step = self.core.headers[0].step;
        let moved = norm(self.textbook_p.iter().zip(self.p0).map(|(a, b)| a - b));
        // Updates that vanish beside the parameter are rounded to its last bits, by either side.
        let rounding = step as f64 * f64::EPSILON * norm(self.textbook_p.iter().copied());
        let error = norm(self.core_p.iter().zip(&self.textbook_p).map(|(a, b)| a - b));
        assert!(error <= TOLERANCE * moved + rounding, "{}: step {step}: parameter {error:e} of {moved:e}", self.what);
        if rounding < TOLERANCE * moved {
            self.worst.parameter = self.worst.parameter.max(error / moved);
        }
    }

    fn compare(&mut self) {
        self.compare_parameter();
        let momentum = self.core.read(StatePart::Momentum);
        self.compare_state("momentum", &momentum, &self.textbook.momentum.clone());
        let mut product = 1.0;
        for k in 0..self.textbook.modes.len() {
            let mode = self.textbook.modes[k].clone();
            if mode.kind == ModeKind::Identity {
                continue;
            }
            let lambda = self.core.read(StatePart::Eigenvalues(k));
            let gauge = if self.gauge { (lambda[0] / mode.eigenvalues[0]).log2().round().exp2() } else { 1.0 };
            product *= gauge;
            self.compare_state("eigenvalues", &lambda, &scaled(&mode.eigenvalues, gauge));
            if mode.kind == ModeKind::Full {
                let factor = self.core.read(StatePart::Factor(k));
                self.compare_state("factor", &factor, &scaled(&mode.factor.data, gauge));
            }
        }
        assert_eq!(product, 1.0, "{}: the product of the modes' scales", self.what);
    }

    fn compare_state(&mut self, part: &str, values: &[f64], expected: &[f64]) {
        let error = rel_error(values, expected);
        assert!(error <= TOLERANCE, "{}: step {}: {part}: {error:e}", self.what, self.textbook.t);
        self.worst.state = self.worst.state.max(error);
    }

    fn finish(self) {
        let header = self.core.headers[0];
        assert_eq!((header.refresh_failures, header.skipped), (0, 0), "{}", self.what);
        self.worst.clamped += header.clamped;
        self.worst.floored += header.floored;
        self.worst.rebalanced += header.rebalanced;
        self.worst.runs += 1;
    }
}

fn scaled(values: &[f64], factor: f64) -> Vec<f64> {
    values.iter().map(|x| factor * x).collect()
}

/// A whole sequence, compared after every step.
fn run(method: Method, dims: &[usize], kinds: &[ModeKind], problem: &Problem, what: String, worst: &mut Worst) {
    let mut lockstep = Lockstep::new(what, method, dims, kinds, &problem.p0, worst);
    let mut grads = problem.grads.iter().map(|grad| scaled(grad, method.grad_scale)).peekable();
    while let Some(zeros) = grads.next_if(|grad| grad.iter().all(|&g| g == 0.0)) {
        lockstep.idle(&zeros);
    }
    if let Some(grad) = grads.next() {
        lockstep.start(&grad);
    }
    grads.for_each(|grad| lockstep.step(&grad));
    lockstep.finish();
}

fn make(gradients: Gradients, dims: &[usize]) -> Problem {
    let mut problem = gradients.make(dims, STEPS);
    if gradients == Gradients::Tiny {
        // Steps of 1e-14 would be lost beside a parameter of the usual size.
        problem.p0.fill(0.0);
    }
    problem
}

fn full(dims: &[usize]) -> Vec<ModeKind> {
    vec![ModeKind::Full; dims.len()]
}

/// All ways to choose a kind for each of `order` modes.
fn every_combination(order: usize) -> Vec<Vec<ModeKind>> {
    (0..order).fold(vec![vec![]], |combinations, _| {
        let kinds = [ModeKind::Full, ModeKind::Diagonal, ModeKind::Identity];
        combinations.iter().flat_map(|head| kinds.map(|kind| [head.as_slice(), &[kind]].concat())).collect()
    })
}

fn every_shape(shapes: &[Shape], methods: &[Method], gradients: Gradients) -> Worst {
    let mut worst = Worst::default();
    for shape in shapes {
        let problem = make(gradients, shape.dims);
        for &method in methods {
            let what = format!("{}, {gradients:?}, {}", shape.name, method.name);
            run(method, shape.dims, &full(shape.dims), &problem, what, &mut worst);
        }
    }
    worst
}

#[test]
fn figure13_matrices() {
    let mut clamped = 0;
    for &gradients in Gradients::ALL {
        let worst = every_shape(MATRICES, &figure13(), gradients);
        worst.report(&format!("figure13, matrices, {gradients:?}"));
        clamped += worst.clamped;
    }
    assert!(clamped > 0, "the clamp is never active");
}

#[test]
fn reference_kl_matrices() {
    let mut clamped = 0;
    for &gradients in Gradients::ALL {
        let worst = every_shape(MATRICES, &reference_kl(), gradients);
        worst.report(&format!("reference_kl, matrices, {gradients:?}"));
        clamped += worst.clamped;
    }
    assert!(clamped > 0, "the clamp is never active");
}

#[test]
fn figure13_higher_orders() {
    for &gradients in Gradients::ALL {
        every_shape(HIGHER_ORDERS, &figure13(), gradients).report(&format!("figure13, higher orders, {gradients:?}"));
    }
}

/// `reference_kl` of order 3 is the authors' own mixed order of modes, which only the golden test of the textbook follows.
#[test]
fn reference_kl_of_orders_one_and_four() {
    for dims in [&[7][..], &[2, 3, 2, 3]] {
        let mut worst = Worst::default();
        let problem = make(Gradients::LowRankDrift, dims);
        for method in reference_kl() {
            run(method, dims, &full(dims), &problem, format!("{dims:?}, {}", method.name), &mut worst);
        }
        worst.report(&format!("reference_kl, {dims:?}"));
    }
}

#[test]
fn every_combination_of_modes() {
    let mut worst = Worst::default();
    for dims in [&[7][..], &[4, 3], &[7, 8], &[32, 8], &[1, 7], &[2, 3, 4], &[2, 3, 2, 3]] {
        for gradients in [Gradients::LowRankDrift, Gradients::ZeroFirst] {
            let problem = make(gradients, dims);
            for kinds in every_combination(dims.len()) {
                let preconditioned = kinds.iter().any(|&kind| kind != ModeKind::Identity);
                // Without factors there is no first step of factors only: `reference_kl` then moves the parameter at once.
                let reference = if dims.len() == 3 || !preconditioned { vec![] } else { reference_kl() };
                for method in figure13().into_iter().chain(reference) {
                    run(method, dims, &kinds, &problem, format!("{dims:?}, {kinds:?}, {gradients:?}, {}", method.name), &mut worst);
                }
            }
        }
    }
    worst.report("every combination of modes");
}

/// Scale moves between the modes by powers of two, which cancel; everything else is the textbook's. Floors are an absolute scale,
/// so the sequence whose squares vanish is not among these.
#[test]
fn gauge_changes_no_parameter() {
    let methods: Vec<Method> = figure13().into_iter().filter(|m| m.textbook.clamp.is_none()).map(|m| Method { gauge: true, ..m }).collect();
    let mut worst = Worst::default();
    for gradients in [Gradients::LowRankDrift, Gradients::ZeroNowAndThen, Gradients::RankOneRepeated, Gradients::HugeOutlier] {
        for shapes in [MATRICES, HIGHER_ORDERS] {
            let group = every_shape(shapes, &methods, gradients);
            group.report(&format!("gauge, {gradients:?}"));
            worst.rebalanced += group.rebalanced;
        }
    }
    assert!(worst.rebalanced > 0, "nothing was ever rebalanced");
}

/// A 1-D tensor of a group with factors is stepped by AdamW, whatever the group's conventions.
#[test]
fn vectors_get_adamw() {
    let problem = make(Gradients::LowRankDrift, &[33]);
    for method in figure13().into_iter().chain(reference_kl()) {
        let o = method.textbook;
        let mut adamw = AdamW::new(33, [o.beta1, o.beta2], o.eps, o.weight_decay);
        let mut core = F64Core::new(&method.core(), &[33], &[None]);
        let (mut expected, mut p) = (problem.p0.clone(), problem.p0.clone());
        for grad in &problem.grads {
            adamw.step(&mut expected, grad, LR);
            core.step(&mut p, grad, 2.0 * LR);
            let error = rel_error(&p, &expected);
            assert!(error < 1e-13, "{}: {error:e}", method.name);
        }
        assert!(rel_error(&core.read(StatePart::Momentum), &adamw.momentum) < 1e-15);
        assert!(rel_error(&core.read(StatePart::SecondMoment), &adamw.second_moment) < 1e-15);
    }
}
