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
//! KL-Shampoo has w(x) = x^{-1/2}, c_k = d_k / N and p = 1/2. The other methods differ in one of the bracketed pieces, which are
//! the match arms of `estimate`, `set_factors_and_eigenvalues`, `refresh` and `direction` below. Speed is no aim here.

/// What every stored eigenvalue and every denominator is at least: 2^-63.
pub const FLOOR: f64 = 1.0 / (1u64 << 63) as f64;

/// Which published order of operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Convention {
    /// The paper's Figure 13: momentum, estimate, refresh, apply; weight decay before the step; no step is skipped.
    Figure13,
    /// The authors' code: apply with what the previous call left, estimate, refresh; weight decay after the step; the first call
    /// only initialises. Order 3 updates its modes one after the other, as that code does.
    ReferenceKl,
}

/// How the factors see the gradient: w and c_k above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Estimator {
    /// KL-Shampoo, KL-SOAP (Claims 2 to 4): w = x^{-1/2}, c_k = d_k / N.
    KullbackLeibler,
    /// One-sided (Claim 1): w = 1, c_k = d_k / N; the other modes should be [`ModeKind::Identity`].
    OneSided,
    /// Shampoo and VN-Shampoo variant 1 (Eq. 1, Fig. 6): w = 1, c_k = 1.
    Plain,
    /// VN-Shampoo variant 2 (Fig. 6): w = 1, c_k = 1 / prod_others sum lambda_j.
    VonNeumann,
    /// F-Shampoo variant 1 (Fig. 8): S_j itself in place of its eigenvalues, c_k = 1 / prod_others Tr S_j^2.
    FrobeniusFactors,
    /// F-Shampoo variant 2 (Fig. 8): w = x^{1/2}, c_k = 1 / prod_others sum lambda_j^2.
    Frobenius,
}

/// Where the eigenvalues come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Eigenvalues {
    /// A moving average of their own, every step.
    Average,
    /// Eigendecomposition of S at the first step and every T steps sets basis and eigenvalues ("idealized").
    Decomposition,
    /// diag(Q^T S Q) every step, in the basis from before the refresh.
    Instantaneous,
    /// diag(Q^T S Q) every step, in the basis from after the refresh.
    InstantaneousAfterRefresh,
}

/// What the rotated momentum is divided by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Direction {
    /// prod_k lambda_k^p.
    Power(f64),
    /// (tau prod_k lambda_k)^{1/2}: VN-Shampoo variant 1 (Fig. 6).
    VonNeumann,
    /// The root of a second moment kept in the eigenbasis: KL-SOAP (Claim 5).
    Soap,
}

/// How the direction's length is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Graft {
    /// As it comes.
    Off,
    /// The Frobenius norm of Adam's direction (same momentum, no bias correction).
    Adam,
}

/// The first eigenvalue, the same in all modes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum FirstEigenvalue {
    /// A number; the paper takes 0.1.
    Constant(f64),
    /// (||G||_F^2 / N)^{1/K'} of the first gradient that is not zero, K' counting the modes that are not Identity.
    ScaleFree,
}

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

/// Hyper-parameters. Betas are Adam's: what is kept.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    /// Order of operations.
    pub convention: Convention,
    /// How the factors see the gradient.
    pub estimator: Estimator,
    /// Where the eigenvalues come from.
    pub eigenvalues: Eigenvalues,
    /// What the momentum is divided by.
    pub direction: Direction,
    /// How long the direction is.
    pub graft: Graft,
    /// First eigenvalue.
    pub lambda_0: FirstEigenvalue,
    /// If given, lambda^{-1/2} is at most max(10, min(d_k, this)), and the clamped value is what is kept.
    pub clamp: Option<f64>,
    /// Decay of the momentum.
    pub beta1: f64,
    /// Decay of factors, eigenvalues and second moments.
    pub beta2: f64,
    /// Damping.
    pub eps: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Refresh period T.
    pub period: u64,
}

impl Options {
    /// KL-Shampoo of Figure 13 with the paper's first eigenvalue.
    pub fn figure13() -> Self {
        Options {
            convention: Convention::Figure13,
            estimator: Estimator::KullbackLeibler,
            eigenvalues: Eigenvalues::Average,
            direction: Direction::Power(0.5),
            graft: Graft::Off,
            lambda_0: FirstEigenvalue::Constant(0.1),
            clamp: None,
            beta1: 0.95,
            beta2: 0.95,
            eps: 1e-8,
            weight_decay: 0.0,
            period: 10,
        }
    }

    /// KL-Shampoo of the authors' code.
    pub fn reference_kl() -> Self {
        Options { convention: Convention::ReferenceKl, clamp: Some(4000.0), ..Options::figure13() }
    }
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

/// One tensor's optimizer.
#[derive(Clone, Debug)]
pub struct KlShampoo {
    options: Options,
    dims: Vec<usize>,
    /// Calls so far.
    pub t: u64,
    /// lambda_0, once it is known.
    pub lambda_0: Option<f64>,
    /// The modes, in the order of the dimensions.
    pub modes: Vec<Mode>,
    /// M, in the original coordinates.
    pub momentum: Vec<f64>,
    /// D of KL-SOAP, in the eigenbasis.
    pub second_moment: Vec<f64>,
    /// The second moment of the grafted Adam, in the original coordinates.
    pub graft_second_moment: Vec<f64>,
}

/// Delta = c/2 (X Y^T + Y X^T). Only F-Shampoo variant 1 has Y != X.
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
    /// A tensor with `dims` (row-major), the state before the first step.
    ///
    /// # Panics
    /// If `kinds` does not have one entry per dimension, or if the combination of options is not defined: `ReferenceKl` knows
    /// KL-Shampoo and KL-SOAP with averaged eigenvalues only.
    pub fn new(dims: &[usize], kinds: &[ModeKind], options: Options) -> Self {
        assert_eq!(dims.len(), kinds.len());
        if options.convention == Convention::ReferenceKl {
            assert_eq!((options.estimator, options.eigenvalues), (Estimator::KullbackLeibler, Eigenvalues::Average));
            assert!(matches!(options.direction, Direction::Power(0.5) | Direction::Soap) && options.graft == Graft::Off);
        }
        let n = dims.iter().product();
        let mode = |(&d, &kind): (&usize, &ModeKind)| Mode {
            kind,
            factor: Matrix::zeros(d, d),
            basis: Matrix::identity(d),
            eigenvalues: vec![1.0; d],
        };
        KlShampoo {
            options,
            dims: dims.to_vec(),
            t: 0,
            lambda_0: None,
            modes: dims.iter().zip(kinds).map(mode).collect(),
            momentum: vec![0.0; n],
            second_moment: vec![0.0; n],
            graft_second_moment: vec![0.0; n],
        }
    }

    /// One step with gradient `grad` on the parameter `theta`.
    ///
    /// # Panics
    /// If a length is wrong.
    pub fn step(&mut self, theta: &mut [f64], grad: &[f64], lr: f64) {
        assert_eq!((theta.len(), grad.len()), (self.momentum.len(), self.momentum.len()));
        self.t += 1;
        self.set_first_eigenvalue(grad);
        match self.options.convention {
            Convention::Figure13 => self.step_figure13(theta, grad, lr),
            Convention::ReferenceKl => self.step_reference_kl(theta, grad, lr),
        }
    }

    /// Replaces the eigenbasis of `mode` by `basis` (d x d, row-major). Nothing else is in the basis' coordinates, except the
    /// second moment of KL-SOAP, which is left as it is: do this at the end of step 1.
    ///
    /// # Panics
    /// If the length is wrong.
    pub fn seed_basis(&mut self, mode: usize, basis: &[f64]) {
        let d = self.dims[mode];
        assert_eq!(basis.len(), d * d);
        self.modes[mode].basis = Matrix::from_fn(d, d, |i, j| basis[i * d + j]);
    }

    fn step_figure13(&mut self, theta: &mut [f64], grad: &[f64], lr: f64) {
        let Options { beta1, beta2, weight_decay, period, .. } = self.options;
        average(&mut self.momentum, beta1, grad.iter().copied());
        if self.lambda_0.is_some() {
            let lambdas = self.eigenvalues();
            let estimates: Vec<_> = (0..self.dims.len()).map(|k| self.estimate(k, grad, &lambdas)).collect();
            for (k, estimate) in estimates.iter().enumerate() {
                let Some(estimate) = estimate else { continue };
                if self.t == 1 && self.modes[k].kind == ModeKind::Full {
                    // The eigenvalues are uniform, so Delta does not depend on the basis that it now gives.
                    self.modes[k].basis = estimate.delta().eigen().1;
                }
                self.set_factors_and_eigenvalues(k, estimate);
            }
            self.refresh(self.t.is_multiple_of(period), self.t == 1);
            let rotated = self.rotate(grad);
            average(&mut self.second_moment, beta2, rotated.iter().map(|g| g * g));
        }
        let mut u = self.direction();
        self.graft(&mut u, grad);
        // At the first step the basis of KL-SOAP diagonalises the very gradient that it divides: rounding noise over rounding noise.
        if self.options.direction == Direction::Soap && self.t == 1 {
            return;
        }
        for (theta, u) in theta.iter_mut().zip(&u) {
            *theta = *theta * (1.0 - lr * weight_decay) - lr * u;
        }
    }

    fn step_reference_kl(&mut self, theta: &mut [f64], grad: &[f64], lr: f64) {
        let Options { beta1, beta2, weight_decay, period, .. } = self.options;
        if self.t == 1 {
            for k in 0..self.dims.len() {
                if self.modes[k].kind == ModeKind::Full {
                    let x = unfold(grad, &self.dims, k);
                    let first = Estimate { c: self.dims[k] as f64 / grad.len() as f64, y: x.clone(), x };
                    self.modes[k].factor = first.delta().scaled(1.0 - beta2);
                    self.modes[k].basis = self.modes[k].factor.eigen().1;
                }
            }
            return;
        }
        average(&mut self.momentum, beta1, grad.iter().copied());
        let rotated = self.rotate(grad);
        average(&mut self.second_moment, beta2, rotated.iter().map(|g| g * g));
        let u = self.direction();
        if self.lambda_0.is_some() {
            self.estimate_reference_kl(grad);
            self.refresh((self.t - 1).is_multiple_of(period), false);
        }
        for (theta, u) in theta.iter_mut().zip(&u) {
            *theta -= lr * u;
            *theta -= lr * weight_decay * *theta;
        }
    }

    /// Until the first gradient that is not zero there may be no lambda_0: then there is nothing to estimate, and no direction.
    fn set_first_eigenvalue(&mut self, grad: &[f64]) {
        if self.lambda_0.is_some() {
            return;
        }
        let lambda_0 = match self.options.lambda_0 {
            FirstEigenvalue::Constant(value) => value,
            FirstEigenvalue::ScaleFree if grad.iter().all(|&g| g == 0.0) => return,
            FirstEigenvalue::ScaleFree => {
                let count = self.modes.iter().filter(|mode| mode.kind != ModeKind::Identity).count();
                let mean_square = grad.iter().map(|g| g * g).sum::<f64>() / grad.len() as f64;
                mean_square.powf(1.0 / count as f64)
            }
        };
        let lambda_0 = lambda_0.max(FLOOR);
        self.lambda_0 = Some(lambda_0);
        // Where lambda is an average of its own, S may start from nothing. F-Shampoo variant 1 would never start.
        let factor_starts = self.options.eigenvalues != Eigenvalues::Average || self.options.estimator == Estimator::FrobeniusFactors;
        for mode in &mut self.modes {
            if mode.kind != ModeKind::Identity {
                mode.eigenvalues.fill(lambda_0);
            }
            if mode.kind == ModeKind::Full && factor_starts {
                mode.factor = Matrix::identity(mode.eigenvalues.len()).scaled(lambda_0);
            }
        }
    }

    fn eigenvalues(&self) -> Vec<Vec<f64>> {
        self.modes.iter().map(|mode| mode.eigenvalues.clone()).collect()
    }

    /// Delta_k, seen through the eigenvalues `lambdas`; F-Shampoo variant 1 has none while a factor that it divides by vanishes.
    fn estimate(&self, k: usize, grad: &[f64], lambdas: &[Vec<f64>]) -> Option<Estimate> {
        let mut x = grad.to_vec();
        let mut c = match self.options.estimator {
            Estimator::KullbackLeibler | Estimator::OneSided => self.dims[k] as f64 / grad.len() as f64,
            Estimator::Plain | Estimator::VonNeumann | Estimator::Frobenius | Estimator::FrobeniusFactors => 1.0,
        };
        for j in (0..self.dims.len()).filter(|&j| j != k) {
            let (mode, lambda) = (&self.modes[j], &lambdas[j]);
            let weighted_basis = |w: fn(f64) -> f64| mode.basis.times(&Matrix::diagonal(lambda.iter().map(|&x| w(x)))).transposed();
            match self.options.estimator {
                Estimator::OneSided | Estimator::Plain => {}
                Estimator::KullbackLeibler => x = mode_product(&x, &self.dims, j, &weighted_basis(|x| 1.0 / x.sqrt())),
                Estimator::VonNeumann => c /= lambda.iter().sum::<f64>().max(FLOOR),
                Estimator::Frobenius => {
                    x = mode_product(&x, &self.dims, j, &weighted_basis(f64::sqrt));
                    c /= lambda.iter().map(|x| x * x).sum::<f64>().max(FLOOR);
                }
                Estimator::FrobeniusFactors => {
                    let factor = if mode.kind == ModeKind::Full { mode.factor.clone() } else { Matrix::diagonal(lambda.iter().copied()) };
                    x = mode_product(&x, &self.dims, j, &factor);
                    let square = factor.data.iter().map(|x| x * x).sum::<f64>();
                    if square <= FLOOR {
                        return None;
                    }
                    c /= square;
                }
            }
        }
        let x = unfold(&x, &self.dims, k);
        let y = if self.options.estimator == Estimator::FrobeniusFactors { unfold(grad, &self.dims, k) } else { x.clone() };
        Some(Estimate { c, x, y })
    }

    fn set_factors_and_eigenvalues(&mut self, k: usize, estimate: &Estimate) {
        let averaged = self.averaged_eigenvalues(k, estimate);
        let beta2 = self.options.beta2;
        let mode = &mut self.modes[k];
        match (mode.kind, self.options.eigenvalues) {
            (ModeKind::Identity, _) => {}
            (ModeKind::Diagonal, _) => mode.eigenvalues = averaged,
            (ModeKind::Full, rule) => {
                average(&mut mode.factor.data, beta2, estimate.delta().data.into_iter());
                match rule {
                    Eigenvalues::Average => mode.eigenvalues = averaged,
                    Eigenvalues::Decomposition => {}
                    Eigenvalues::Instantaneous | Eigenvalues::InstantaneousAfterRefresh => mode.eigenvalues = mode.rotated_diagonal(),
                }
            }
        }
    }

    /// beta2 lambda_k + (1 - beta2) diag(Q_k^T Delta_k Q_k), clamped and floored.
    fn averaged_eigenvalues(&self, k: usize, estimate: &Estimate) -> Vec<f64> {
        let mut lambda = self.modes[k].eigenvalues.clone();
        average(&mut lambda, self.options.beta2, estimate.diagonal_in(&self.modes[k].basis).into_iter());
        let smallest = match self.options.clamp {
            Some(largest_root) => 10f64.max(largest_root.min(self.dims[k] as f64)).powi(-2),
            None => 0.0,
        };
        lambda.iter().map(|x| x.max(smallest).max(FLOOR)).collect()
    }

    /// The authors' code updates the modes of an order-3 tensor from the last to the first, and not alike: mode 2's eigenvalues
    /// already see the new ones of mode 3, mode 1 sees the new ones of mode 2 and the old ones of mode 3.
    fn estimate_reference_kl(&mut self, grad: &[f64]) {
        let old = self.eigenvalues();
        let estimate = |k, lambdas: &[Vec<f64>]| self.estimate(k, grad, lambdas).expect("the KL estimate always exists");
        let mut estimates: Vec<_> = (0..self.dims.len()).map(|k| estimate(k, &old)).collect();
        let mut new: Vec<_> = estimates.iter().enumerate().map(|(k, e)| self.averaged_eigenvalues(k, e)).collect();
        if let [first, second, third] = &old[..] {
            let seen_by_second = estimate(1, &[first.clone(), second.clone(), new[2].clone()]);
            new[1] = self.averaged_eigenvalues(1, &seen_by_second);
            estimates[0] = estimate(0, &[first.clone(), new[1].clone(), third.clone()]);
            new[0] = self.averaged_eigenvalues(0, &estimates[0]);
        }
        for ((mode, estimate), new) in self.modes.iter_mut().zip(&estimates).zip(new) {
            if mode.kind == ModeKind::Full {
                average(&mut mode.factor.data, self.options.beta2, estimate.delta().data.into_iter());
            }
            if mode.kind != ModeKind::Identity {
                mode.eigenvalues = new;
            }
        }
    }

    /// New bases from the new factors. A factor that is zero has none to offer: the old one stays.
    fn refresh(&mut self, due: bool, first: bool) {
        let rule = self.options.eigenvalues;
        for mode in self.modes.iter_mut().filter(|mode| mode.kind == ModeKind::Full) {
            let known = mode.factor.data.iter().any(|&x| x != 0.0);
            match rule {
                Eigenvalues::Decomposition if (due || first) && known => {
                    let (lambda, basis) = mode.factor.eigen();
                    mode.eigenvalues = lambda.iter().map(|x| x.max(FLOOR)).collect();
                    mode.basis = basis;
                }
                Eigenvalues::Decomposition => {}
                _ if due && known => mode.basis = mode.factor.times(&mode.basis).qr().0,
                _ => {}
            }
            if rule == Eigenvalues::InstantaneousAfterRefresh {
                mode.eigenvalues = mode.rotated_diagonal();
            }
        }
    }

    /// U, from the momentum and the state as it stands.
    fn direction(&self) -> Vec<f64> {
        let eps = self.options.eps;
        let mut u = self.rotate(&self.momentum);
        let inverse_powers = match self.options.direction {
            Direction::Soap => {
                for (u, d) in u.iter_mut().zip(&self.second_moment) {
                    *u /= (d.sqrt() + eps).max(FLOOR);
                }
                return self.rotate_back(&u);
            }
            Direction::Power(p) => self.outer_product(|lambda| lambda.powf(-p)),
            Direction::VonNeumann => {
                let scale = self.tau().powf(-0.5);
                self.outer_product(|lambda| 1.0 / lambda.sqrt()).iter().map(|e| scale * e).collect()
            }
        };
        for (u, e) in u.iter_mut().zip(inverse_powers) {
            *u *= e / (1.0 + eps * e);
        }
        self.rotate_back(&u)
    }

    /// prod_k Tr(S_k)^{-(K-1)/K} over the preconditioned modes, divided by the dimensions of the others.
    pub fn tau(&self) -> f64 {
        let count = self.modes.iter().filter(|mode| mode.kind != ModeKind::Identity).count() as f64;
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

    /// prod_k f(lambda_k), one value for every element of the tensor in the eigenbasis.
    fn outer_product(&self, f: impl Fn(f64) -> f64) -> Vec<f64> {
        let mut e = vec![1.0];
        for mode in &self.modes {
            e = e.iter().flat_map(|e| mode.eigenvalues.iter().map(|&lambda| e * f(lambda)).collect::<Vec<_>>()).collect();
        }
        e
    }

    fn graft(&mut self, u: &mut [f64], grad: &[f64]) {
        match self.options.graft {
            Graft::Off => {}
            Graft::Adam => {
                average(&mut self.graft_second_moment, self.options.beta2, grad.iter().map(|g| g * g));
                let denominator = |v: f64| (v.sqrt() + self.options.eps).max(FLOOR);
                let adam = norm(self.momentum.iter().zip(&self.graft_second_moment).map(|(m, &v)| m / denominator(v)));
                let ratio = adam / norm(u.iter().copied()).max(FLOOR);
                u.iter_mut().for_each(|u| *u *= ratio);
            }
        }
    }

    /// Into the eigenbasis: x times Q_k^T along every mode.
    pub fn rotate(&self, x: &[f64]) -> Vec<f64> {
        let full = self.modes.iter().enumerate().filter(|(_, mode)| mode.kind == ModeKind::Full);
        full.fold(x.to_vec(), |x, (k, mode)| mode_product(&x, &self.dims, k, &mode.basis.transposed()))
    }

    /// Out of the eigenbasis: x times Q_k along every mode.
    pub fn rotate_back(&self, x: &[f64]) -> Vec<f64> {
        let full = self.modes.iter().enumerate().filter(|(_, mode)| mode.kind == ModeKind::Full);
        full.fold(x.to_vec(), |x, (k, mode)| mode_product(&x, &self.dims, k, &mode.basis))
    }
}

impl Mode {
    /// diag(Q^T S Q), floored.
    fn rotated_diagonal(&self) -> Vec<f64> {
        let rotated = self.basis.transposed().times(&self.factor).times(&self.basis);
        (0..rotated.rows).map(|i| rotated[(i, i)].max(FLOOR)).collect()
    }
}

/// AdamW: decay, then the bias-corrected Adam step.
#[derive(Clone, Debug)]
pub struct AdamW {
    /// Decay of the momentum.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Damping.
    pub eps: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Steps so far.
    pub t: i32,
    /// Momentum.
    pub momentum: Vec<f64>,
    /// Second moment.
    pub second_moment: Vec<f64>,
}

impl AdamW {
    /// The state before the first step, for a parameter of `len` elements.
    pub fn new(len: usize, betas: [f64; 2], eps: f64, weight_decay: f64) -> Self {
        let zeros = vec![0.0; len];
        AdamW { beta1: betas[0], beta2: betas[1], eps, weight_decay, t: 0, momentum: zeros.clone(), second_moment: zeros }
    }

    /// One step with gradient `grad` on the parameter `theta`.
    ///
    /// # Panics
    /// If a length is wrong.
    pub fn step(&mut self, theta: &mut [f64], grad: &[f64], lr: f64) {
        assert_eq!((theta.len(), grad.len()), (self.momentum.len(), self.momentum.len()));
        self.t += 1;
        average(&mut self.momentum, self.beta1, grad.iter().copied());
        average(&mut self.second_moment, self.beta2, grad.iter().map(|g| g * g));
        let correction1 = 1.0 - self.beta1.powi(self.t);
        let correction2 = 1.0 - self.beta2.powi(self.t);
        for ((theta, m), v) in theta.iter_mut().zip(&self.momentum).zip(&self.second_moment) {
            *theta *= 1.0 - lr * self.weight_decay;
            *theta -= lr * (m / correction1) / ((v / correction2).sqrt() + self.eps).max(FLOOR);
        }
    }
}

/// x <- beta x + (1 - beta) new.
fn average(x: &mut [f64], beta: f64, new: impl Iterator<Item = f64>) {
    for (x, new) in x.iter_mut().zip(new) {
        *x = beta * *x + (1.0 - beta) * new;
    }
}

fn norm(values: impl Iterator<Item = f64>) -> f64 {
    values.map(|x| x * x).sum::<f64>().sqrt()
}

/// mat_k(x): row i holds the elements whose index along mode k is i, the other indices running in row-major order.
fn unfold(x: &[f64], dims: &[usize], k: usize) -> Matrix {
    let inner: usize = dims[k + 1..].iter().product();
    Matrix::from_fn(dims[k], x.len() / dims[k], |i, rest| x[(rest / inner * dims[k] + i) * inner + rest % inner])
}

/// x times `a` along mode k: fold(a mat_k(x)).
fn mode_product(x: &[f64], dims: &[usize], k: usize, a: &Matrix) -> Vec<f64> {
    let inner: usize = dims[k + 1..].iter().product();
    let product = a.times(&unfold(x, dims, k));
    (0..x.len()).map(|at| product[(at / inner % dims[k], at / inner / dims[k] * inner + at % inner)]).collect()
}

/// A dense matrix, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Matrix {
    /// Number of rows.
    pub rows: usize,
    /// Number of columns.
    pub cols: usize,
    /// The elements, row by row.
    pub data: Vec<f64>,
}

impl std::ops::Index<(usize, usize)> for Matrix {
    type Output = f64;
    fn index(&self, (i, j): (usize, usize)) -> &f64 {
        &self.data[i * self.cols + j]
    }
}

impl std::ops::IndexMut<(usize, usize)> for Matrix {
    fn index_mut(&mut self, (i, j): (usize, usize)) -> &mut f64 {
        &mut self.data[i * self.cols + j]
    }
}

impl Matrix {
    /// The matrix whose element (i, j) is `f(i, j)`.
    pub fn from_fn(rows: usize, cols: usize, f: impl Fn(usize, usize) -> f64) -> Self {
        Matrix { rows, cols, data: (0..rows * cols).map(|at| f(at / cols, at % cols)).collect() }
    }

    /// All zeros.
    pub fn zeros(rows: usize, cols: usize) -> Self {
        Matrix::from_fn(rows, cols, |_, _| 0.0)
    }

    /// The identity.
    pub fn identity(n: usize) -> Self {
        Matrix::diagonal((0..n).map(|_| 1.0))
    }

    /// The diagonal matrix of `values`.
    pub fn diagonal(values: impl Iterator<Item = f64>) -> Self {
        let values: Vec<f64> = values.collect();
        Matrix::from_fn(values.len(), values.len(), |i, j| if i == j { values[i] } else { 0.0 })
    }

    /// The transpose.
    pub fn transposed(&self) -> Self {
        Matrix::from_fn(self.cols, self.rows, |i, j| self[(j, i)])
    }

    /// `factor` times self.
    pub fn scaled(&self, factor: f64) -> Self {
        Matrix::from_fn(self.rows, self.cols, |i, j| factor * self[(i, j)])
    }

    /// Sum of the diagonal.
    pub fn trace(&self) -> f64 {
        (0..self.rows).map(|i| self[(i, i)]).sum()
    }

    /// self times `other`.
    ///
    /// # Panics
    /// If the inner dimensions differ.
    pub fn times(&self, other: &Matrix) -> Self {
        assert_eq!(self.cols, other.rows);
        let mut product = Matrix::zeros(self.rows, other.cols);
        for i in 0..self.rows {
            for l in 0..self.cols {
                for j in 0..other.cols {
                    product[(i, j)] += self[(i, l)] * other[(l, j)];
                }
            }
        }
        product
    }

    /// Q and R of a square matrix by Householder reflections, with diag R >= 0 (zero only where the matrix is singular).
    pub fn qr(&self) -> (Matrix, Matrix) {
        let n = self.rows;
        let (mut q, mut r) = (Matrix::identity(n), self.clone());
        for k in 0..n {
            // The reflection I - 2 v v^T / (v^T v) that takes column k to alpha e_k, on rows k..n. Scaling v keeps its square in range.
            let largest = (k..n).map(|i| r[(i, k)].abs()).fold(0.0, f64::max);
            if largest == 0.0 {
                continue;
            }
            let mut v: Vec<f64> = (k..n).map(|i| r[(i, k)] / largest).collect();
            v[0] += norm(v.iter().copied()).copysign(v[0]);
            let square: f64 = v.iter().map(|x| x * x).sum();
            for j in 0..n {
                let dot: f64 = (k..n).map(|i| v[i - k] * r[(i, j)]).sum();
                (k..n).for_each(|i| r[(i, j)] -= 2.0 * dot / square * v[i - k]);
                let dot: f64 = (k..n).map(|i| v[i - k] * q[(j, i)]).sum();
                (k..n).for_each(|i| q[(j, i)] -= 2.0 * dot / square * v[i - k]);
            }
            (k + 1..n).for_each(|i| r[(i, k)] = 0.0);
        }
        for k in (0..n).filter(|&k| r[(k, k)] < 0.0).collect::<Vec<_>>() {
            for i in 0..n {
                r[(k, i)] = -r[(k, i)];
                q[(i, k)] = -q[(i, k)];
            }
        }
        (q, r)
    }

    /// Eigenvalues, descending, and eigenvectors (columns) of a symmetric matrix by cyclic Jacobi rotations.
    pub fn eigen(&self) -> (Vec<f64>, Matrix) {
        let n = self.rows;
        let largest = self.data.iter().map(|x| x.abs()).fold(0.0, f64::max);
        if largest == 0.0 {
            return (vec![0.0; n], Matrix::identity(n));
        }
        let (mut a, mut v) = (self.scaled(1.0 / largest), Matrix::identity(n));
        let negligible = f64::EPSILON * 1e-3;
        loop {
            let mut rotated = false;
            for p in 0..n {
                for q in p + 1..n {
                    if a[(p, q)].abs() <= negligible {
                        continue;
                    }
                    rotated = true;
                    // The smaller of the two angles that make a_pq vanish.
                    let theta = (a[(q, q)] - a[(p, p)]) / (2.0 * a[(p, q)]);
                    let t = 1f64.copysign(theta) / (theta.abs() + theta.hypot(1.0));
                    let c = 1.0 / t.hypot(1.0);
                    let s = t * c;
                    for i in 0..n {
                        (a[(i, p)], a[(i, q)]) = (c * a[(i, p)] - s * a[(i, q)], s * a[(i, p)] + c * a[(i, q)]);
                        (v[(i, p)], v[(i, q)]) = (c * v[(i, p)] - s * v[(i, q)], s * v[(i, p)] + c * v[(i, q)]);
                    }
                    for i in 0..n {
                        (a[(p, i)], a[(q, i)]) = (c * a[(p, i)] - s * a[(q, i)], s * a[(p, i)] + c * a[(q, i)]);
                    }
                    (a[(p, q)], a[(q, p)]) = (0.0, 0.0);
                }
            }
            if !rotated {
                break;
            }
        }
        let mut order: Vec<usize> = (0..n).collect();
        order.sort_by(|&i, &j| a[(j, j)].total_cmp(&a[(i, i)]));
        let values = order.iter().map(|&i| a[(i, i)] * largest).collect();
        (values, Matrix::from_fn(n, n, |i, j| v[(i, order[j])]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Any fixed full matrix will do.
    fn sample(rows: usize, cols: usize) -> Matrix {
        Matrix::from_fn(rows, cols, |i, j| ((1 + i * 7 + j * 3 + i * i * j) as f64).sin())
    }

    fn close(a: &Matrix, b: &Matrix, tolerance: f64) {
        assert_eq!((a.rows, a.cols), (b.rows, b.cols));
        let error = norm(a.data.iter().zip(&b.data).map(|(a, b)| a - b));
        assert!(error <= tolerance * norm(b.data.iter().copied()).max(f64::MIN_POSITIVE), "{error:e}");
    }

    #[test]
    fn qr_gives_back_the_matrix() {
        for n in [1, 2, 3, 5, 16, 33] {
            for scale in [1.0, 1e-150, -1e150] {
                let a = sample(n, n).scaled(scale);
                let (q, r) = a.qr();
                close(&q.times(&r), &a, 1e-14);
                close(&q.transposed().times(&q), &Matrix::identity(n), 1e-14);
                assert!((0..n).all(|i| r[(i, i)] > 0.0 && (0..i).all(|j| r[(i, j)] == 0.0)));
            }
        }
    }

    #[test]
    fn qr_of_a_singular_matrix_is_orthogonal() {
        let column = sample(7, 1);
        let a = column.times(&column.transposed());
        let (q, r) = a.qr();
        close(&q.times(&r), &a, 1e-14);
        close(&q.transposed().times(&q), &Matrix::identity(7), 1e-14);
        assert_eq!(Matrix::zeros(3, 3).qr().0, Matrix::identity(3));
    }

    #[test]
    fn jacobi_diagonalises() {
        for n in [1, 2, 3, 5, 16, 33] {
            for scale in [1.0, 1e-150, 1e150] {
                let x = sample(n, n + 2);
                let a = x.times(&x.transposed()).scaled(scale);
                let (values, v) = a.eigen();
                assert!(values.is_sorted_by(|a, b| a >= b));
                close(&v.times(&Matrix::diagonal(values.into_iter())).times(&v.transposed()), &a, 1e-13);
                close(&v.transposed().times(&v), &Matrix::identity(n), 1e-13);
            }
        }
    }

    #[test]
    fn jacobi_knows_multiple_and_zero_eigenvalues() {
        assert_eq!(Matrix::zeros(4, 4).eigen(), (vec![0.0; 4], Matrix::identity(4)));
        let (q, _) = sample(6, 6).qr();
        let wanted = [3.0, 3.0, 3.0, 1.0, 0.0, 0.0];
        let a = q.times(&Matrix::diagonal(wanted.into_iter())).times(&q.transposed());
        let symmetric = Matrix::from_fn(6, 6, |i, j| 0.5 * (a[(i, j)] + a[(j, i)]));
        let (values, _) = symmetric.eigen();
        assert!(values.iter().zip(wanted).all(|(value, wanted)| (value - wanted).abs() < 1e-14));
    }

    #[test]
    fn unfolding_follows_the_definition() {
        let dims = [2, 3, 4];
        let x: Vec<f64> = (0..24).map(f64::from).collect();
        let at = |i: usize, j: usize, l: usize| x[(i * 3 + j) * 4 + l];
        assert_eq!(unfold(&x, &dims, 0), Matrix::from_fn(2, 12, |i, rest| at(i, rest / 4, rest % 4)));
        assert_eq!(unfold(&x, &dims, 1), Matrix::from_fn(3, 8, |j, rest| at(rest / 4, j, rest % 4)));
        assert_eq!(unfold(&x, &dims, 2), Matrix::from_fn(4, 6, |l, rest| at(rest / 3, rest % 3, l)));
        let a = sample(3, 3);
        let product = mode_product(&x, &dims, 1, &a);
        let wanted = |i: usize, j: usize, l: usize| (0..3).map(|s| a[(j, s)] * at(i, s, l)).sum::<f64>();
        assert!((0..24).all(|n| (product[n] - wanted(n / 12, n / 4 % 3, n % 4)).abs() < 1e-12));
    }
}
