//! The KL-Shampoo family as the paper writes it: parameter space, float64, every product spelled out. The oracle of the tests.
//!
//! Paper: "Understanding and Improving Shampoo and SOAP via Kullback-Leibler Minimization"; figure and claim numbers are its own.
//! A tensor of order K has dims d_1..d_K and N elements, row-major. Each mode k keeps a Kronecker factor S_k, an eigenbasis Q_k
//! (columns) and eigenvalues lambda_k; M is the momentum. All are in the original coordinates:
//!
//! ```text
//! X_k      = G with every mode j != k multiplied by Q_j diag(w(lambda_j)), unfolded along k          (estimate)
//! Delta_k  = c_k X_k X_k^T
//! S_k      <- beta2 S_k + (1 - beta2) Delta_k
//! lambda_k <- beta2 lambda_k + (1 - beta2) diag(Q_k^T Delta_k Q_k)                                   (eigenvalues)
//! Q_k      <- qr(S_k Q_k), every T steps                                                             (refresh)
//! U        = (M in the eigenbasis, times prod_k lambda_k^-p), rotated back                           (direction)
//! ```
//!
//! KL-Shampoo has w(x) = x^{-1/2}, c_k = d_k / N and p = 1/2. The other methods and the published conventions differ in one of the
//! bracketed pieces or in their order: [`Options`] has one field for each difference. Speed is no aim here.

mod adamw;
mod options;

pub use crate::matrix::Matrix;
use crate::matrix::{mode_product, norm, unfold};
pub use adamw::AdamW;
pub use options::*;

/// What every stored eigenvalue and every denominator is at least: 2^-63.
pub const FLOOR: f64 = 1.0 / (1u64 << 63) as f64;

/// How much structure a mode gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModeKind {
    /// S, Q and lambda.
    Full,
    /// Q = I and no S: only lambda.
    Diagonal,
    /// Not preconditioned: Q = I and lambda = 1.
    Identity,
}

/// The state of one mode.
#[derive(Clone, Debug)]
pub struct Mode {
    /// Which of the three below are in use.
    pub kind: ModeKind,
    /// S_k; zero unless the mode is Full.
    pub factor: Matrix,
    /// Q_k; the identity unless the mode is Full.
    pub basis: Matrix,
    /// lambda_k; ones if the mode is Identity.
    pub eigenvalues: Vec<f64>,
}

impl Mode {
    /// Q^T S Q.
    fn rotated_factor(&self) -> Matrix {
        self.basis.transposed().times(&self.factor).times(&self.basis)
    }

    /// How far Q^T S Q is from diagonal: the mean over i != j of its squared correlations; 0 for d = 1.
    pub fn staleness(&self) -> f64 {
        let (s, d) = (self.rotated_factor(), self.factor.rows);
        let correlation = |i, j| {
            let scale = s[(i, i)] * s[(j, j)];
            if i == j || scale <= 0.0 { 0.0 } else { s[(i, j)] * s[(i, j)] / scale }
        };
        let sum: f64 = (0..d).flat_map(|i| (0..d).map(move |j| (i, j))).map(|(i, j)| correlation(i, j)).sum();
        sum / (d * (d - 1)).max(1) as f64
    }
}

/// One tensor's optimizer.
#[derive(Clone, Debug)]
pub struct KlShampoo {
    options: Options,
    dims: Vec<usize>,
    /// Calls so far.
    pub t: u64,
    /// lambda_0, from the first gradient that is not zero on.
    pub lambda_0: Option<f64>,
    /// The modes, in the order of the dimensions.
    pub modes: Vec<Mode>,
    /// M, in the original coordinates.
    pub momentum: Vec<f64>,
    /// D of the SOAP family, in the eigenbasis.
    pub second_moment: Vec<f64>,
    /// The second moment of the graft, in the original coordinates.
    pub graft_second_moment: Vec<f64>,
    /// Refreshes of modes that were made.
    pub refreshed: u64,
    /// Refreshes of modes that were due, but not needed by their staleness.
    pub skipped: u64,
    /// The last step in which a refresh was due.
    last_refresh: u64,
    /// Whether the bases are good for something: with [`FirstBasis::Identity`] only once a refresh was due and done.
    preconditions: bool,
}

/// A basis that is to be chosen: the first one, or that of a refresh.
///
/// Eigenvectors have no signs, those of equal eigenvalues and the QR factor of a singular matrix are not even determined up to them.
/// An implementation that is compared with this one may have chosen otherwise ([`KlShampoo::step_choosing`]).
#[derive(Debug)]
pub struct Turn<'a> {
    /// Which mode.
    pub mode: usize,
    /// How the basis follows from [`Turn::matrix`].
    pub rule: Refresh,
    /// S Q for QR (Q sorted if it is), S for its eigenvectors.
    pub matrix: &'a Matrix,
    /// The textbook's own choice.
    pub basis: Matrix,
}

/// Delta = c/2 (X Y^T + Y X^T). Only F-Shampoo variant 1 has Y != X.
#[derive(Clone)]
struct Estimate {
    c: f64,
    x: Matrix,
    y: Matrix,
}

impl Estimate {
    fn delta(&self) -> Matrix {
        let xy = self.x.times(&self.y.transposed());
        Matrix::from_fn(xy.rows, xy.rows, |i, j| self.c * 0.5 * (xy[(i, j)] + xy[(j, i)]))
    }

    /// diag(Q^T Delta Q): for KL-Shampoo a sum of squares.
    fn diagonal_in(&self, basis: &Matrix) -> Vec<f64> {
        let (x, y) = (basis.transposed().times(&self.x), basis.transposed().times(&self.y));
        (0..x.rows).map(|i| self.c * (0..x.cols).map(|j| x[(i, j)] * y[(i, j)]).sum::<f64>()).collect()
    }
}

impl KlShampoo {
    /// A tensor with `dims` (row-major), the state before the first step. Without an estimator every mode is Identity.
    ///
    /// # Panics
    /// If `kinds` does not have one entry per dimension, or if the combination of options is not defined.
    pub fn new(dims: &[usize], kinds: &[ModeKind], options: Options) -> Self {
        assert_eq!(dims.len(), kinds.len());
        let elementwise = matches!(options.direction, Direction::SecondMoment | Direction::Momentum);
        match options.estimator {
            Estimator::None => assert!(elementwise, "a Kronecker direction needs factors"),
            _ => assert!(options.direction != Direction::Momentum, "factors without a use"),
        }
        assert!(options.direction != Direction::TraceScaled || options.estimator == Estimator::Shampoo, "tau is for plain factors");
        let n = dims.iter().product();
        let mode = |(&d, &kind): (&usize, &ModeKind)| Mode {
            kind: if options.estimator == Estimator::None { ModeKind::Identity } else { kind },
            factor: Matrix::zeros(d, d),
            basis: Matrix::identity(d),
            eigenvalues: vec![1.0; d],
        };
        let modes: Vec<Mode> = dims.iter().zip(kinds).map(mode).collect();
        let waits = options.first_basis == FirstBasis::Identity && options.estimator != Estimator::None;
        KlShampoo {
            options,
            dims: dims.to_vec(),
            t: 0,
            lambda_0: None,
            modes,
            momentum: vec![0.0; n],
            second_moment: vec![0.0; n],
            graft_second_moment: vec![0.0; n],
            refreshed: 0,
            skipped: 0,
            last_refresh: 0,
            preconditions: !waits,
        }
    }

    /// One step with gradient `grad` on the parameter `theta`.
    ///
    /// # Panics
    /// If a length is wrong.
    pub fn step(&mut self, theta: &mut [f64], grad: &[f64], lr: f64) {
        self.step_choosing(theta, grad, lr, &mut |turn| turn.basis);
    }

    /// The same with every new basis chosen by `choose`, from then on.
    ///
    /// # Panics
    /// If a length is wrong.
    pub fn step_choosing(&mut self, theta: &mut [f64], grad: &[f64], lr: f64, choose: &mut dyn FnMut(Turn<'_>) -> Matrix) {
        assert_eq!((theta.len(), grad.len()), (self.momentum.len(), self.momentum.len()));
        let options = self.options;
        self.t += 1;
        let l2 = if options.weight_decay_kind == WeightDecay::L2 { options.weight_decay } else { 0.0 };
        let grad = &grad.iter().zip(&*theta).map(|(g, theta)| g + l2 * theta).collect::<Vec<f64>>();

        let first = self.lambda_0.is_none() && self.preconditioned_modes() > 0;
        let factors_only = first && options.first_step == FirstStep::FactorsOnly;
        if first && grad.iter().all(|&g| g == 0.0) {
            // Nothing to estimate from: only weight decay acts, where the convention has one in its first call.
            if !(factors_only && self.t == 1) {
                self.apply(theta, &vec![0.0; grad.len()], lr);
            }
            return;
        }
        if first {
            self.start(grad, choose);
        }
        if factors_only {
            return;
        }

        let u = match options.step_order {
            StepOrder::EstimateFirst => {
                self.average_momentum(grad);
                self.estimate(grad, first);
                self.refresh(first, choose);
                self.average_second_moment(grad);
                self.direction(grad)
            }
            StepOrder::ApplyFirst => {
                self.average_momentum(grad);
                self.average_second_moment(grad);
                let u = self.direction(grad);
                self.estimate(grad, first);
                self.refresh(first, choose);
                u
            }
        };
        // The basis that this gradient has set diagonalises it: off the diagonal SOAP divides rounding noise by rounding noise.
        let noise = first && options.direction == Direction::SecondMoment && options.first_basis == FirstBasis::Gradient;
        if !(noise && self.modes.iter().any(|mode| mode.kind == ModeKind::Full)) {
            self.apply(theta, &u, lr);
        }
    }

    /// Replaces the eigenbasis of `mode` by `basis` (d x d, row-major). Nothing else is in the basis' coordinates, except the
    /// second moment of the SOAP family, which is left as it is: do this at the end of step 1.
    ///
    /// # Panics
    /// If the length is wrong.
    pub fn seed_basis(&mut self, mode: usize, basis: &[f64]) {
        let d = self.dims[mode];
        assert_eq!(basis.len(), d * d);
        self.modes[mode].basis = Matrix::from_fn(d, d, |i, j| basis[i * d + j]);
    }

    fn preconditioned_modes(&self) -> usize {
        self.modes.iter().filter(|mode| mode.kind != ModeKind::Identity).count()
    }

    fn full_modes(&self) -> Vec<usize> {
        (0..self.modes.len()).filter(|&k| self.modes[k].kind == ModeKind::Full).collect()
    }

    /// First eigenvalues, factors and bases, from the first gradient that is not zero.
    fn start(&mut self, grad: &[f64], choose: &mut dyn FnMut(Turn<'_>) -> Matrix) {
        let mean_square = grad.iter().map(|g| g * g).sum::<f64>() / grad.len() as f64;
        let lambda_0 = match self.options.lambda_0 {
            FirstEigenvalue::Constant(value) => value,
            FirstEigenvalue::ScaleFree => mean_square.powf(1.0 / self.preconditioned_modes() as f64),
        };
        let lambda_0 = lambda_0.max(FLOOR);
        self.lambda_0 = Some(lambda_0);
        for mode in self.modes.iter_mut().filter(|mode| mode.kind != ModeKind::Identity) {
            mode.eigenvalues.fill(lambda_0);
            if mode.kind == ModeKind::Full && self.options.factor_init == FactorInit::Lambda {
                mode.factor = Matrix::identity(mode.eigenvalues.len()).scaled(lambda_0);
            }
        }
        // The eigenvalues are uniform, so that all weights are: Delta_k is a multiple of mat_k(G) mat_k(G)^T in any basis. The first
        // step of factors only takes no weights, and the constants of S_j = lambda_0 I.
        let lambdas = self.eigenvalues();
        let constants: Vec<_> = (0..self.modes.len()).map(|k| self.first_constant(k, &lambdas)).collect();
        for k in self.full_modes() {
            let x = unfold(grad, &self.dims, k);
            let gram = x.times(&x.transposed());
            if self.options.first_basis == FirstBasis::Gradient {
                let own = gram.eigen().1;
                self.modes[k].basis = choose(Turn { mode: k, rule: Refresh::Eigendecomposition, matrix: &gram, basis: own });
            }
            if self.options.first_step == FirstStep::FactorsOnly {
                self.modes[k].factor = gram.scaled((1.0 - self.options.beta2) * constants[k]);
                if self.options.eigenvalues != Eigenvalues::Average {
                    self.modes[k].eigenvalues = self.factor_eigenvalues(k, &self.modes[k]);
                }
            }
        }
    }

    fn eigenvalues(&self) -> Vec<Vec<f64>> {
        self.modes.iter().map(|mode| mode.eigenvalues.clone()).collect()
    }

    fn average_momentum(&mut self, grad: &[f64]) {
        average(&mut self.momentum, self.options.beta1, grad.iter().copied());
    }

    /// D, in the basis that stands (Claim 5).
    fn average_second_moment(&mut self, grad: &[f64]) {
        let rotated = self.rotate(grad);
        average(&mut self.second_moment, self.options.beta2, rotated.iter().map(|g| g * g));
    }

    /// S_k and lambda_k of all modes, seen through the eigenvalues and bases that stand.
    fn estimate(&mut self, grad: &[f64], first: bool) {
        let old = self.eigenvalues();
        let estimates: Vec<_> = (0..self.dims.len()).map(|k| self.delta(k, grad, &old)).collect();
        let mut new: Vec<Mode> = (0..self.dims.len()).map(|k| self.estimated(k, &estimates[k], &estimates[k], first)).collect();
        if let (EstimateOrder::ReferenceKl, [first_old, second_old, third_old]) = (self.options.estimate_order, &old[..]) {
            let seen_by_second = self.delta(1, grad, &[first_old.clone(), second_old.clone(), new[2].eigenvalues.clone()]);
            new[1] = self.estimated(1, &estimates[1], &seen_by_second, first);
            let seen_by_first = self.delta(0, grad, &[first_old.clone(), new[1].eigenvalues.clone(), third_old.clone()]);
            new[0] = self.estimated(0, &seen_by_first, &seen_by_first, first);
        }
        self.modes = new;
    }

    /// Mode k after this step's estimates, one of S_k and one of its eigenvalues' average, and before a refresh.
    fn estimated(&self, k: usize, of_factor: &Estimate, of_eigenvalues: &Estimate, first: bool) -> Mode {
        let mut mode = self.modes[k].clone();
        if mode.kind == ModeKind::Full {
            average(&mut mode.factor.data, self.options.beta2, of_factor.delta().data.into_iter());
        }
        mode.eigenvalues = match (mode.kind, self.options.eigenvalues) {
            (ModeKind::Identity, _) => mode.eigenvalues,
            (ModeKind::Diagonal, _) | (ModeKind::Full, Eigenvalues::Average) => self.averaged_eigenvalues(k, of_eigenvalues),
            (ModeKind::Full, Eigenvalues::AtRefresh) if !first => mode.eigenvalues,
            (ModeKind::Full, _) => self.factor_eigenvalues(k, &mode),
        };
        mode
    }

    /// c_k but for what F-Shampoo variant 1 divides whole factors by.
    fn constant(&self, k: usize, lambdas: &[Vec<f64>]) -> f64 {
        let over = |denominator: fn(f64) -> f64| {
            let sum = |j: usize| lambdas[j].iter().map(|&x| denominator(x)).sum::<f64>();
            (0..self.dims.len()).filter(|&j| j != k).map(|j| 1.0 / sum(j)).product()
        };
        match self.options.estimator {
            Estimator::None | Estimator::Shampoo => 1.0,
            Estimator::KullbackLeibler | Estimator::OneSided => self.dims[k] as f64 / self.momentum.len() as f64,
            Estimator::VonNeumann => over(|x| x),
            Estimator::Frobenius => over(|x| x * x),
            Estimator::FrobeniusFactor => 1.0,
        }
    }

    /// c_k where every factor is diag(lambda_j).
    fn first_constant(&self, k: usize, lambdas: &[Vec<f64>]) -> f64 {
        let square = |j: usize| lambdas[j].iter().map(|x| x * x).sum::<f64>();
        match self.options.estimator {
            Estimator::FrobeniusFactor => (0..self.dims.len()).filter(|&j| j != k).map(|j| 1.0 / square(j)).product(),
            _ => self.constant(k, lambdas),
        }
    }

    /// Delta_k, seen through the eigenvalues `lambdas`.
    fn delta(&self, k: usize, grad: &[f64], lambdas: &[Vec<f64>]) -> Estimate {
        let mut c = self.constant(k, lambdas);
        let mut x = grad.to_vec();
        for j in (0..self.dims.len()).filter(|&j| j != k) {
            let weighted_basis = |w: fn(f64) -> f64| {
                let weights = Matrix::diagonal(lambdas[j].iter().map(|&x| w(x)));
                self.modes[j].basis.times(&weights).transposed()
            };
            let seen = match self.options.estimator {
                Estimator::None | Estimator::OneSided | Estimator::Shampoo | Estimator::VonNeumann => continue,
                Estimator::KullbackLeibler => weighted_basis(|x| 1.0 / x.sqrt()),
                Estimator::Frobenius => weighted_basis(f64::sqrt),
                Estimator::FrobeniusFactor => {
                    // S_j / Tr(S_j^2), its norm divided out of either; a factor of zero says as much as the identity.
                    let factor = self.factor_of_any_kind(j, lambdas);
                    let norm = norm(factor.data.iter().copied());
                    c /= norm.max(FLOOR);
                    let root = (self.dims[j] as f64).sqrt();
                    if norm > 0.0 { factor.scaled(1.0 / norm) } else { Matrix::identity(self.dims[j]).scaled(1.0 / root) }
                }
            };
            x = mode_product(&x, &self.dims, j, &seen);
        }
        let x = unfold(&x, &self.dims, k);
        let y = if self.options.estimator == Estimator::FrobeniusFactor { unfold(grad, &self.dims, k) } else { x.clone() };
        Estimate { c, x, y }
    }

    /// S_j, or its diagonal where that is all there is.
    fn factor_of_any_kind(&self, j: usize, lambdas: &[Vec<f64>]) -> Matrix {
        match self.modes[j].kind {
            ModeKind::Full => self.modes[j].factor.clone(),
            ModeKind::Diagonal | ModeKind::Identity => Matrix::diagonal(lambdas[j].iter().copied()),
        }
    }

    /// beta2 lambda_k + (1 - beta2) diag(Q_k^T Delta_k Q_k), clamped and floored.
    fn averaged_eigenvalues(&self, k: usize, estimate: &Estimate) -> Vec<f64> {
        let mut lambda = self.modes[k].eigenvalues.clone();
        average(&mut lambda, self.options.beta2, estimate.diagonal_in(&self.modes[k].basis).into_iter());
        lambda.iter().map(|x| x.max(self.smallest(k))).collect()
    }

    /// What the clamp leaves of small eigenvalues, and the floor.
    fn smallest(&self, k: usize) -> f64 {
        match self.options.clamp {
            Some(largest_root) => 10f64.max(largest_root.min(self.dims[k] as f64)).powi(-2).max(FLOOR),
            None => FLOOR,
        }
    }

    /// diag(Q^T S Q), clamped and floored. A factor that started at zero has averaged one gradient in each call.
    fn factor_eigenvalues(&self, k: usize, mode: &Mode) -> Vec<f64> {
        let from_zero = self.options.factor_init == FactorInit::Zero || self.options.first_step == FirstStep::FactorsOnly;
        let correction = if from_zero { self.moment_correction(self.options.beta2, self.t) } else { 1.0 };
        mode.rotated_factor().diagonal_values().map(|x| (x / correction).max(self.smallest(k))).collect()
    }

    /// New bases from the new factors, where one is due. A factor that is zero has none to offer: the old one stays.
    fn refresh(&mut self, first: bool, choose: &mut dyn FnMut(Turn<'_>) -> Matrix) {
        let Options { eigenvalues, staleness, .. } = self.options;
        let due = self.options.refresh_due(self.t, self.last_refresh);
        if due {
            self.last_refresh = self.t;
        }
        for k in self.full_modes() {
            let known = self.modes[k].factor.data.iter().any(|&x| x != 0.0);
            let stale = staleness == 0.0 || self.modes[k].staleness() > staleness;
            self.skipped += u64::from(due && !stale);
            let refreshes = due && stale && known;
            if refreshes {
                self.refreshed += 1;
                self.refresh_mode(k, choose);
            }
            match eigenvalues {
                Eigenvalues::Average | Eigenvalues::Instantaneous => {}
                Eigenvalues::AtRefresh if !(first || due) => {}
                Eigenvalues::AtRefresh | Eigenvalues::InstantaneousAfterRefresh => {
                    self.modes[k].eigenvalues = self.factor_eigenvalues(k, &self.modes[k]);
                }
            }
        }
        // Where there is no basis to wait for, its time has come when the others' would have.
        self.preconditions |= due;
    }

    fn refresh_mode(&mut self, k: usize, choose: &mut dyn FnMut(Turn<'_>) -> Matrix) {
        let rule = self.options.refresh;
        // Eigenvectors come descending: eigenvalues and second moments that are kept have to be with their nearest.
        if self.options.sort || rule == Refresh::Eigendecomposition {
            self.sort(k);
        }
        let mode = &mut self.modes[k];
        let (matrix, own) = match rule {
            Refresh::Qr => {
                let product = mode.factor.times(&mode.basis);
                let own = product.qr().0;
                (product, own)
            }
            Refresh::Eigendecomposition => (mode.factor.clone(), mode.factor.eigen().1),
        };
        mode.basis = choose(Turn { mode: k, rule, matrix: &matrix, basis: own });
    }

    /// Orders the columns of Q_k by descending diag(Q_k^T S_k Q_k), lambda_k and D with them.
    fn sort(&mut self, k: usize) {
        let mode = &mut self.modes[k];
        let d = mode.eigenvalues.len();
        let diagonal: Vec<f64> = mode.rotated_factor().diagonal_values().collect();
        let mut order: Vec<usize> = (0..d).collect();
        order.sort_by(|&i, &j| diagonal[j].total_cmp(&diagonal[i]));
        let permutation = Matrix::from_fn(d, d, |i, j| if i == order[j] { 1.0 } else { 0.0 });
        mode.basis = mode.basis.times(&permutation);
        mode.eigenvalues = order.iter().map(|&i| mode.eigenvalues[i]).collect();
        self.second_moment = mode_product(&self.second_moment, &self.dims, k, &permutation.transposed());
    }

    /// U, from the momentum and the state as it stands.
    fn direction(&mut self, grad: &[f64]) -> Vec<f64> {
        let Options { bias_correction, rms_cap, .. } = self.options;
        let numerator = self.numerator(grad);
        let graft = self.graft(grad, &numerator);
        let mut u = match (&graft, self.preconditions) {
            (_, true) => self.precondition(&numerator),
            (Some(graft), false) => graft.clone(),
            (None, false) => numerator,
        };
        if bias_correction == BiasCorrection::StepSize {
            let age = self.age() as i32;
            let factor = (1.0 - self.options.beta2.powi(age)).sqrt() / (1.0 - self.beta1().powi(age));
            u.iter_mut().for_each(|u| *u *= factor);
        }
        if let Some(graft) = graft {
            let ratio = norm(graft.iter().copied()) / norm(u.iter().copied()).max(FLOOR);
            u.iter_mut().for_each(|u| *u *= ratio);
        }
        let rms = norm(u.iter().copied()) / (u.len() as f64).sqrt();
        match rms_cap {
            Some(cap) if rms > cap => u.iter().map(|u| u * cap / rms).collect(),
            _ => u,
        }
    }

    /// How many gradients the moments have averaged: a first call of factors only is not among them.
    fn age(&self) -> u64 {
        let without = self.options.first_step == FirstStep::FactorsOnly && self.preconditioned_modes() > 0;
        self.t - u64::from(without)
    }

    fn beta1(&self) -> f64 {
        if self.options.momentum == Momentum::None { 0.0 } else { self.options.beta1 }
    }

    /// What an average of `count` values that started at zero is divided by.
    fn moment_correction(&self, beta: f64, count: u64) -> f64 {
        match self.options.bias_correction {
            BiasCorrection::Moments => 1.0 - beta.powi(count as i32),
            BiasCorrection::None | BiasCorrection::StepSize => 1.0,
        }
    }

    /// What is preconditioned, bias-corrected.
    fn numerator(&self, grad: &[f64]) -> Vec<f64> {
        let (m, beta1, age) = (&self.momentum, self.options.beta1, self.age());
        match self.options.momentum {
            Momentum::None => grad.to_vec(),
            Momentum::Average => m.iter().map(|m| m / self.moment_correction(beta1, age)).collect(),
            Momentum::Nesterov => {
                let correction = self.moment_correction(beta1, age + 1);
                m.iter().zip(grad).map(|(m, g)| (beta1 * m + (1.0 - beta1) * g) / correction).collect()
            }
        }
    }

    fn precondition(&self, numerator: &[f64]) -> Vec<f64> {
        let eps = self.options.eps;
        let rotated = self.rotate(numerator);
        let inverse: Vec<f64> = match self.options.direction {
            Direction::Momentum => return numerator.to_vec(),
            Direction::SecondMoment => {
                let correction = self.moment_correction(self.options.beta2, self.age());
                self.second_moment.iter().map(|d| 1.0 / ((d / correction).sqrt() + eps).max(FLOOR)).collect()
            }
            Direction::KroneckerPower(p) => self.inverse_power(p, 1.0),
            Direction::ShampooRoot => self.inverse_power(0.5 / self.preconditioned_modes() as f64, 1.0),
            Direction::TraceScaled => self.inverse_power(0.5, self.tau().powf(-0.5)),
        };
        let u: Vec<f64> = rotated.iter().zip(inverse).map(|(m, e)| m * e).collect();
        self.rotate_back(&u)
    }

    /// scale prod_k lambda_k^-p, damped, one value for every element of the tensor in the eigenbasis.
    fn inverse_power(&self, p: f64, scale: f64) -> Vec<f64> {
        let Options { eps, damping, .. } = self.options;
        let mut e = vec![scale];
        for mode in &self.modes {
            let powers = mode.eigenvalues.iter().map(|&lambda| match (mode.kind, damping) {
                (ModeKind::Identity, _) => 1.0,
                (_, Damping::Denominator) => lambda.powf(-p),
                (_, Damping::Factor) => (lambda + eps).powf(-p),
            });
            let powers: Vec<f64> = powers.collect();
            e = e.iter().flat_map(|e| powers.iter().map(move |power| e * power)).collect();
        }
        match damping {
            Damping::Denominator => e.iter().map(|e| e / (1.0 + eps * e)).collect(),
            Damping::Factor => e,
        }
    }

    /// prod_k Tr(S_k)^{-(K-1)/K} over the preconditioned modes, divided by the dimensions of the others; 1 if nothing is preconditioned.
    pub fn tau(&self) -> f64 {
        let count = self.preconditioned_modes() as f64;
        if count == 0.0 {
            return 1.0;
        }
        let term = |mode: &Mode| {
            let sum = mode.eigenvalues.iter().sum::<f64>();
            let trace = if mode.kind == ModeKind::Full { mode.factor.trace() } else { sum };
            match mode.kind {
                ModeKind::Identity => 1.0 / trace,
                ModeKind::Full | ModeKind::Diagonal => trace.max(FLOOR).powf(-(count - 1.0) / count),
            }
        };
        self.modes.iter().map(term).product()
    }

    /// The direction whose length is taken.
    fn graft(&mut self, grad: &[f64], numerator: &[f64]) -> Option<Vec<f64>> {
        let Options { beta2, eps, .. } = self.options;
        let v = &mut self.graft_second_moment;
        match self.options.graft {
            Graft::None | Graft::Sgd => {}
            Graft::Adam | Graft::RmsProp => average(v, beta2, grad.iter().map(|g| g * g)),
            Graft::AdaGrad => v.iter_mut().zip(grad).for_each(|(v, g)| *v += g * g),
        }
        let over_root = |numerator: &[f64], correction: f64| {
            let v = self.graft_second_moment.iter();
            Some(numerator.iter().zip(v).map(|(x, v)| x / ((v / correction).sqrt() + eps).max(FLOOR)).collect())
        };
        match self.options.graft {
            Graft::None => None,
            Graft::Sgd => Some(grad.to_vec()),
            Graft::Adam => over_root(numerator, self.moment_correction(beta2, self.age())),
            Graft::RmsProp | Graft::AdaGrad => over_root(grad, 1.0),
        }
    }

    fn apply(&self, theta: &mut [f64], u: &[f64], lr: f64) {
        let Options { weight_decay, weight_decay_kind, .. } = self.options;
        for (theta, u) in theta.iter_mut().zip(u) {
            match weight_decay_kind {
                WeightDecay::Before => *theta *= 1.0 - lr * weight_decay,
                WeightDecay::Independent => *theta *= 1.0 - weight_decay,
                WeightDecay::After | WeightDecay::L2 => {}
            }
            *theta -= lr * u;
            if weight_decay_kind == WeightDecay::After {
                *theta -= lr * weight_decay * *theta;
            }
        }
    }

    /// Into the eigenbasis: x times Q_k^T along every mode.
    pub fn rotate(&self, x: &[f64]) -> Vec<f64> {
        self.full_modes().iter().fold(x.to_vec(), |x, &k| mode_product(&x, &self.dims, k, &self.modes[k].basis.transposed()))
    }

    /// Out of the eigenbasis: x times Q_k along every mode.
    pub fn rotate_back(&self, x: &[f64]) -> Vec<f64> {
        self.full_modes().iter().fold(x.to_vec(), |x, &k| mode_product(&x, &self.dims, k, &self.modes[k].basis))
    }
}

/// x <- beta x + (1 - beta) new.
fn average(x: &mut [f64], beta: f64, new: impl Iterator<Item = f64>) {
    for (x, new) in x.iter_mut().zip(new) {
        *x = beta * *x + (1.0 - beta) * new;
    }
}
