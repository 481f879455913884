//! Where the estimators come to rest: the stationarity conditions of the paper's claims, and the minima that they describe.
//!
//! W gradients stacked along a leading Identity mode make one estimate an average over all of them, so that steps with the same
//! stack converge. What a method rests at is then compared with `H = E[g g^T]`, an N x N matrix of which no method knows: by the
//! claim's condition, and with a numerical minimum of the claim's objective. Any implementation can be checked: it is a closure.

use crate::cases::Gradients;
use crate::golden::rel_error;
use crate::matrix::Matrix;
use klshampoo::{Config, Direction, Eigenvalues, Estimator, FactorInit, LambdaInit, Refresh};

/// Gradients whose average is wanted.
#[derive(Clone, Debug)]
pub struct Stack {
    /// W, then the dimensions of one gradient.
    pub dims: Vec<usize>,
    /// All gradients, one after the other.
    pub grads: Vec<f64>,
    second_moment: Matrix,
}

impl Stack {
    /// 16 gradients of shape `dims`.
    pub fn new(dims: &[usize]) -> Self {
        let dims = [&[16], dims].concat();
        let grads = Gradients::LowRankDrift.make(&dims, 1).grads.remove(0);
        let n: usize = dims[1..].iter().product();
        let mean = |i, j| grads.chunks_exact(n).map(|g| g[i] * g[j]).sum::<f64>() / dims[0] as f64;
        Stack { second_moment: Matrix::from_fn(n, n, mean), dims, grads }
    }

    /// A matrix and a tensor of order three.
    pub fn both() -> [Self; 2] {
        [Stack::new(&[3, 4]), Stack::new(&[2, 3, 2])]
    }

    /// The dimensions of one gradient.
    pub fn shape(&self) -> &[usize] {
        &self.dims[1..]
    }

    /// N, of one gradient.
    fn elements(&self) -> f64 {
        self.second_moment.rows as f64
    }

    /// E[mat_k(G) (x_{j != k} X_j) mat_k(G)^T], straight from H.
    fn contracted(&self, k: usize, x: &[Matrix]) -> Matrix {
        let d = self.shape()[k];
        Matrix::from_fn(d, d, |i, j| {
            let unit = Matrix::from_fn(d, d, |r, c| if (r, c) == (i, j) { 1.0 } else { 0.0 });
            let factors: Vec<Matrix> = x.iter().enumerate().map(|(l, x)| if l == k { unit.clone() } else { x.clone() }).collect();
            dot(&self.second_moment, &kronecker(&factors))
        })
    }
}

/// One preconditioned mode of a method that rests; the leading mode of the stack is none.
#[derive(Clone, Debug)]
pub struct RestingMode {
    /// S_k, in the coordinates of the parameter.
    pub factor: Matrix,
    /// Q_k, columns are eigenvectors.
    pub basis: Matrix,
    /// lambda_k.
    pub eigenvalues: Vec<f64>,
}

/// What a method rests at.
#[derive(Clone, Debug)]
pub struct Rest {
    /// The modes, without the leading one.
    pub modes: Vec<RestingMode>,
    /// D, of the whole stack, where the method has one.
    pub second_moment: Vec<f64>,
}

impl Rest {
    fn factors(&self) -> Vec<Matrix> {
        self.modes.iter().map(|mode| mode.factor.clone()).collect()
    }

    /// Q_k diag(f(lambda_k)) Q_k^T.
    fn spectral(&self, f: impl Fn(f64) -> f64) -> Vec<Matrix> {
        self.modes.iter().map(|mode| spectral(&mode.basis, mode.eigenvalues.iter().map(|&x| f(x)))).collect()
    }
}

/// Runs a method on a stack until nothing changes any more.
pub type Run<'a> = &'a dyn Fn(&Config<f64>, &Stack) -> Rest;

/// The checks of one implementation.
#[derive(Clone, Copy)]
pub struct FixedPoints<'a> {
    /// The implementation.
    pub run: Run<'a>,
    /// The rules of eigenvalues and refreshes to try with every estimator.
    pub rules: &'a [(Eigenvalues, Refresh)],
    /// Of every comparison, relative.
    pub tolerance: f64,
}

/// Every rule by which the factors come to rest.
pub const EVERY_RULE: &[(Eigenvalues, Refresh)] = &[
    (Eigenvalues::Average, Refresh::Qr),
    (Eigenvalues::Average, Refresh::Eigendecomposition),
    (Eigenvalues::Instantaneous, Refresh::Qr),
    (Eigenvalues::Instantaneous, Refresh::Eigendecomposition),
    (Eigenvalues::InstantaneousAfterRefresh, Refresh::Qr),
    (Eigenvalues::AtRefresh, Refresh::Qr),
    (Eigenvalues::AtRefresh, Refresh::Eigendecomposition),
];

/// Half of everything is new in each step: slower averages take longer to the same rest, none at all lets the modes chase each other.
fn config(estimator: Estimator, (eigenvalues, refresh): (Eigenvalues, Refresh)) -> Config<f64> {
    Config {
        estimator,
        eigenvalues,
        refresh,
        factor_init: if estimator == Estimator::FrobeniusFactor { FactorInit::Lambda } else { FactorInit::Zero },
        lambda_init: LambdaInit::Constant(0.1),
        refresh_period: 1,
        beta1: 0.0,
        beta2: 0.5,
        gauge: false,
        ..Config::<f64>::kl_shampoo()
    }
}

impl FixedPoints<'_> {
    /// Claim 1, its order-k form: S_k = d_k / N E[mat_k(G) mat_k(G)^T], the minimum of KL(H, S_k (x) I).
    pub fn claim_1(&self) {
        self.every_rest(Estimator::OneSided, |stack, rest, what| {
            let identities = identities(stack);
            for (k, mode) in rest.modes.iter().enumerate() {
                let scale = stack.shape()[k] as f64 / stack.elements();
                self.close(&mode.factor, &stack.contracted(k, &identities).scaled(scale), what);
            }
        });
        for stack in Stack::both() {
            let rest = self.first_rest(Estimator::OneSided, &stack);
            for (k, mode) in rest.modes.iter().enumerate() {
                let with_identities = |logs: &[Matrix]| {
                    let zeros = stack.shape().iter().map(|&d| Matrix::zeros(d, d));
                    zeros.enumerate().map(|(j, zero)| if j == k { logs[0].clone() } else { zero }).collect::<Vec<_>>()
                };
                let objective = |logs: &[Matrix]| kullback_leibler(&stack, &with_identities(logs));
                let minimum = minimum_over_factors(&stack.shape()[k..=k], objective);
                self.close(&mode.factor, &exponential(&minimum[0], 1.0), "the one-sided minimum");
            }
        }
    }

    /// Claim 2: S_k = d_k / N E[mat_k(G) (x S_j^-1) mat_k(G)^T], the minimum of KL(H, x S_k).
    pub fn claim_2(&self) {
        self.every_rest(Estimator::KullbackLeibler, |stack, rest, what| {
            let inverses: Vec<Matrix> = rest.factors().iter().map(|s| power(s, -1.0)).collect();
            for (k, mode) in rest.modes.iter().enumerate() {
                let scale = stack.shape()[k] as f64 / stack.elements();
                self.close(&mode.factor, &stack.contracted(k, &inverses).scaled(scale), what);
            }
        });
        self.minimum(Estimator::KullbackLeibler, kullback_leibler);
    }

    /// Claim 4, in a basis that is not the factors': lambda_k = d_k / N diag(Q_k^T E[mat_k(G) (x P_j) mat_k(G)^T] Q_k) with
    /// P_j = Q_j diag(1 / lambda_j) Q_j^T, the minimum over eigenvalues of KL(H, x Q_k diag(lambda_k) Q_k^T).
    pub fn claim_4(&self) {
        for stack in Stack::both() {
            let rule = (Eigenvalues::Average, Refresh::Qr);
            let outdated = Config { refresh_period: u32::MAX, ..config(Estimator::KullbackLeibler, rule) };
            let rest = (self.run)(&outdated, &stack);
            let inverses = rest.spectral(|lambda| 1.0 / lambda);
            for (k, mode) in rest.modes.iter().enumerate() {
                let delta = stack.contracted(k, &inverses).scaled(stack.shape()[k] as f64 / stack.elements());
                let rotated = mode.basis.transposed().times(&delta).times(&mode.basis);
                let diagonal: Vec<f64> = rotated.diagonal_values().collect();
                let error = rel_error(&mode.eigenvalues, &diagonal);
                assert!(error < self.tolerance, "{:?}: claim 4, mode {k}: {error:e}", stack.shape());
                let outside = rel_error(&rotated.data, &Matrix::diagonal(diagonal.into_iter()).data);
                assert!(outside > 1e-3, "the basis of mode {k} happens to be right: {outside:e}");
            }
            let bases: Vec<&Matrix> = rest.modes.iter().map(|mode| &mode.basis).collect();
            let logs = |x: &[f64]| -> Vec<Matrix> {
                let ends = stack.shape().iter().scan(0, |end, &d| {
                    *end += d;
                    Some(*end)
                });
                let pieces = ends.zip(stack.shape()).map(|(end, d)| &x[end - d..end]);
                bases.iter().zip(pieces).map(|(basis, x)| spectral(basis, x.iter().copied())).collect()
            };
            let minimum = minimise(|x| kullback_leibler(&stack, &logs(x)), stack.shape().iter().sum());
            let minimum: Vec<Matrix> = logs(&minimum).iter().map(|log| exponential(log, 1.0)).collect();
            self.close(&kronecker(&rest.spectral(|lambda| lambda)), &kronecker(&minimum), "the minimum over eigenvalues");
        }
    }

    /// Claim 5: the mean over the stack of D is E[(Q^T g)^2] in the method's own basis, the minimum of KL(H, Q diag(d) Q^T).
    pub fn claim_5(&self) {
        for stack in Stack::both() {
            for estimator in [Estimator::KullbackLeibler, Estimator::Shampoo] {
                let config = config(estimator, (Eigenvalues::Average, Refresh::Qr));
                let config = Config { direction: Direction::SecondMoment, refresh_period: u32::MAX, ..config };
                let rest = (self.run)(&config, &stack);
                let bases: Vec<Matrix> = rest.modes.iter().map(|mode| mode.basis.clone()).collect();
                let basis = kronecker(&bases);
                let n = basis.rows;
                let mean = |i: usize| rest.second_moment.iter().skip(i).step_by(n).sum::<f64>() / stack.dims[0] as f64;
                let mean: Vec<f64> = (0..n).map(mean).collect();
                let wanted: Vec<f64> = basis.transposed().times(&stack.second_moment).times(&basis).diagonal_values().collect();
                let error = rel_error(&mean, &wanted);
                assert!(error < self.tolerance, "{:?}: claim 5, {estimator:?}: {error:e}", stack.shape());
                let objective = |logs: &[f64]| {
                    let inverse = spectral(&basis, logs.iter().map(|x| (-x).exp()));
                    logs.iter().sum::<f64>() + dot(&stack.second_moment, &inverse)
                };
                let minimum: Vec<f64> = minimise(objective, n).iter().map(|x| x.exp()).collect();
                let error = rel_error(&mean, &minimum);
                assert!(error < self.tolerance, "{:?}: the minimum over D, {estimator:?}: {error:e}", stack.shape());
            }
        }
    }

    /// Claim 6: S_k = E[mat_k(G) mat_k(G)^T] / prod Tr S_j, the minimum of the von Neumann divergence VN(H, x S_k). Variant 2
    /// itself; variant 1 by tau^(1/K) S_k, with the trace scaling of its direction.
    pub fn claim_6(&self) {
        let residual = |stack: &Stack, factors: &[Matrix], what: &str| {
            for (k, factor) in factors.iter().enumerate() {
                let others: f64 = factors.iter().enumerate().filter(|&(j, _)| j != k).map(|(_, s)| s.trace()).product();
                self.close(factor, &stack.contracted(k, &identities(stack)).scaled(1.0 / others), what);
            }
        };
        self.every_rest(Estimator::VonNeumann, |stack, rest, what| residual(stack, &rest.factors(), what));
        self.every_rest(Estimator::Shampoo, |stack, rest, what| residual(stack, &trace_scaled(stack, rest), what));
        self.minimum(Estimator::VonNeumann, von_neumann);
        for stack in Stack::both() {
            let rest = self.first_rest(Estimator::Shampoo, &stack);
            let minimum = minimum_over_factors(stack.shape(), |logs| von_neumann(&stack, logs));
            let minimum: Vec<Matrix> = minimum.iter().map(|log| exponential(log, 1.0)).collect();
            self.close(&kronecker(&trace_scaled(&stack, &rest)), &kronecker(&minimum), "variant 1 at the von Neumann minimum");
        }
    }

    /// Claim 7: S_k = E[mat_k(G) (x S_j) mat_k(G)^T] / prod Tr S_j^2, the minimum of ||H - x S_k||_F. Both variants of F-Shampoo.
    pub fn claim_7(&self) {
        for estimator in [Estimator::FrobeniusFactor, Estimator::Frobenius] {
            self.every_rest(estimator, |stack, rest, what| {
                let factors = rest.factors();
                for (k, factor) in factors.iter().enumerate() {
                    let others: f64 = factors.iter().enumerate().filter(|&(j, _)| j != k).map(|(_, s)| dot(s, s)).product();
                    self.close(factor, &stack.contracted(k, &factors).scaled(1.0 / others), what);
                }
            });
            self.minimum(estimator, frobenius);
        }
    }

    /// Checks the rest of every rule, and that basis and eigenvalues there are those of the factor.
    fn every_rest(&self, estimator: Estimator, check: impl Fn(&Stack, &Rest, &str)) {
        for stack in Stack::both() {
            for &rule in self.rules {
                let what = format!("{:?}: {estimator:?}, {rule:?}", stack.shape());
                let rest = (self.run)(&config(estimator, rule), &stack);
                for (whole, mode) in rest.spectral(|lambda| lambda).iter().zip(&rest.modes) {
                    self.close(whole, &mode.factor, &format!("{what}: Q diag(lambda) Q^T"));
                }
                check(&stack, &rest, &what);
            }
        }
    }

    fn first_rest(&self, estimator: Estimator, stack: &Stack) -> Rest {
        (self.run)(&config(estimator, self.rules[0]), stack)
    }

    /// Compares the product of the factors, which alone is determined, with that of the numerical minimum.
    fn minimum(&self, estimator: Estimator, objective: impl Fn(&Stack, &[Matrix]) -> f64) {
        for stack in Stack::both() {
            let rest = self.first_rest(estimator, &stack);
            let logs = minimum_over_factors(stack.shape(), |logs| objective(&stack, logs));
            let minimum: Vec<Matrix> = logs.iter().map(|log| exponential(log, 1.0)).collect();
            let what = format!("{:?}: {estimator:?} at its minimum", stack.shape());
            self.close(&kronecker(&rest.factors()), &kronecker(&minimum), &what);
        }
    }

    fn close(&self, a: &Matrix, b: &Matrix, what: &str) {
        assert_eq!((a.rows, a.cols), (b.rows, b.cols));
        let error = rel_error(&a.data, &b.data);
        assert!(error < self.tolerance, "{what}: {error:e}");
    }
}

fn identities(stack: &Stack) -> Vec<Matrix> {
    stack.shape().iter().map(|&d| Matrix::identity(d)).collect()
}

/// tau^(1/K) S_k, where tau also divides by the length of the stack, along which variant 1 adds up.
fn trace_scaled(stack: &Stack, rest: &Rest) -> Vec<Matrix> {
    let order = rest.modes.len() as f64;
    let traces: f64 = rest.modes.iter().map(|mode| mode.factor.trace()).product();
    let tau = traces.powf(-(order - 1.0) / order) / stack.dims[0] as f64;
    rest.modes.iter().map(|mode| mode.factor.scaled(tau.powf(1.0 / order))).collect()
}

/// log det S + Tr(H S^-1), from the logarithms of the factors.
fn kullback_leibler(stack: &Stack, logs: &[Matrix]) -> f64 {
    let inverses: Vec<Matrix> = logs.iter().map(|log| exponential(log, -1.0)).collect();
    kronecker_sum(logs).trace() + dot(&stack.second_moment, &kronecker(&inverses))
}

/// Tr S - Tr(H log S).
fn von_neumann(stack: &Stack, logs: &[Matrix]) -> f64 {
    let factors: Vec<Matrix> = logs.iter().map(|log| exponential(log, 1.0)).collect();
    kronecker(&factors).trace() - dot(&stack.second_moment, &kronecker_sum(logs))
}

/// ||H - S||_F^2.
fn frobenius(stack: &Stack, logs: &[Matrix]) -> f64 {
    let factors: Vec<Matrix> = logs.iter().map(|log| exponential(log, 1.0)).collect();
    let difference = stack.second_moment.data.iter().zip(kronecker(&factors).data).map(|(h, s)| h - s);
    difference.map(|x| x * x).sum()
}

fn dot(a: &Matrix, b: &Matrix) -> f64 {
    a.data.iter().zip(&b.data).map(|(a, b)| a * b).sum()
}

fn kronecker(factors: &[Matrix]) -> Matrix {
    factors.iter().fold(Matrix::identity(1), |a, b| {
        Matrix::from_fn(a.rows * b.rows, a.cols * b.cols, |i, j| a[(i / b.rows, j / b.cols)] * b[(i % b.rows, j % b.cols)])
    })
}

/// log of the Kronecker product, from the logarithms of the factors: sum_k I (x) log S_k (x) I.
fn kronecker_sum(logs: &[Matrix]) -> Matrix {
    let term = |k: usize| {
        let factor = |(j, log): (usize, &Matrix)| if j == k { log.clone() } else { Matrix::identity(log.rows) };
        kronecker(&logs.iter().enumerate().map(factor).collect::<Vec<_>>())
    };
    (1..logs.len()).fold(term(0), |sum, k| {
        let term = term(k);
        Matrix::from_fn(sum.rows, sum.cols, |i, j| sum[(i, j)] + term[(i, j)])
    })
}

fn spectral(basis: &Matrix, values: impl Iterator<Item = f64>) -> Matrix {
    basis.times(&Matrix::diagonal(values)).times(&basis.transposed())
}

/// S^p of a symmetric positive matrix.
fn power(s: &Matrix, p: f64) -> Matrix {
    let (values, basis) = s.eigen();
    spectral(&basis, values.iter().map(|x| x.powf(p)))
}

/// exp(sign A) of a symmetric matrix.
fn exponential(a: &Matrix, sign: f64) -> Matrix {
    let (values, basis) = a.eigen();
    spectral(&basis, values.iter().map(|x| (sign * x).exp()))
}

/// The logarithms of the factors of lengths `dims` at which `objective` is smallest.
fn minimum_over_factors(dims: &[usize], objective: impl Fn(&[Matrix]) -> f64) -> Vec<Matrix> {
    let unpack = |x: &[f64]| -> Vec<Matrix> {
        let mut rest = x;
        let mut take = |d: usize| {
            let (head, tail) = rest.split_at(d * (d + 1) / 2);
            rest = tail;
            Matrix::from_fn(d, d, |i, j| head[i.max(j) * (i.max(j) + 1) / 2 + i.min(j)])
        };
        dims.iter().map(|&d| take(d)).collect()
    };
    unpack(&minimise(|x| objective(&unpack(x)), dims.iter().map(|d| d * (d + 1) / 2).sum()))
}

/// A minimum of `f` in `n` variables, from the origin, by Newton's method on differences of fourth order: nothing but values of `f`
/// is known. Negative curvature counts as positive; there is none at a minimum. Directions in which `f` is flat are left alone.
fn minimise(f: impl Fn(&[f64]) -> f64, n: usize) -> Vec<f64> {
    const H: f64 = 2e-3;
    let mut x = vec![0.0; n];
    let shifted = |x: &[f64], shifts: &[(usize, f64)]| {
        let mut x = x.to_vec();
        shifts.iter().for_each(|&(i, h)| x[i] += h);
        f(&x)
    };
    for _ in 0..60 {
        let slope = |i: usize| {
            let odd = |h: f64| shifted(&x, &[(i, h)]) - shifted(&x, &[(i, -h)]);
            (8.0 * odd(H) - odd(2.0 * H)) / (12.0 * H)
        };
        let gradient: Vec<f64> = (0..n).map(slope).collect();
        let mut hessian = Matrix::zeros(n, n);
        for i in 0..n {
            for j in 0..=i {
                let at = |a: f64, b: f64| shifted(&x, &[(i, a * H), (j, b * H)]);
                let mixed = (at(1.0, 1.0) - at(1.0, -1.0) - at(-1.0, 1.0) + at(-1.0, -1.0)) / (4.0 * H * H);
                (hessian[(i, j)], hessian[(j, i)]) = (mixed, mixed);
            }
        }
        let (curvatures, directions) = hessian.eigen();
        let flat = 1e-6 * curvatures.iter().fold(0.0, |most: f64, c| most.max(c.abs()));
        let along = directions.transposed().times(&Matrix { rows: n, cols: 1, data: gradient });
        let along: Vec<f64> = along.data.iter().zip(&curvatures).map(|(g, c)| if c.abs() > flat { -g / c.abs() } else { 0.0 }).collect();
        let step = directions.times(&Matrix { rows: n, cols: 1, data: along }).data;
        let (value, size) = (f(&x), step.iter().fold(0.0, |most: f64, s| most.max(s.abs())));
        let moved = |scale: f64| x.iter().zip(&step).map(|(x, s)| x + scale * s).collect::<Vec<_>>();
        // The first trial moves no logarithm by more than 1; a step that is rounding alone needs no descent.
        let mut scale = (1.0 / size).min(1.0);
        while size > 1e-6 && f(&moved(scale)) > value && scale > 1e-10 {
            scale *= 0.5;
        }
        x = moved(scale);
        if size < 1e-9 {
            break;
        }
    }
    x
}
