//! The Kullback-Leibler divergence between zero-mean Gaussians, formed exactly, and its minima over Kronecker products.

use crate::covariance::{DIMS, kronecker};
use klshampoo_tests::matrix::Matrix;

/// `S = Q diag(values) Q^T`, N x N.
#[derive(Clone, Debug)]
pub struct Preconditioner {
    /// Orthogonal.
    pub basis: Matrix,
    /// Positive.
    pub values: Vec<f64>,
}

/// How far a preconditioner is from a second moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Divergence {
    /// `KL(H, S)` in nats.
    pub exact: f64,
    /// `min_c KL(H, c S)`: a learning rate makes up for the scale.
    pub scaled: f64,
}

impl Preconditioner {
    /// Of a dense positive definite matrix.
    #[must_use]
    pub fn of(s: &Matrix) -> Self {
        let (values, basis) = s.eigen();
        Self { basis, values }
    }

    /// `KL(H, S) = (log det S - log det H + Tr(S^-1 H) - N) / 2`.
    #[must_use]
    pub fn divergence(&self, second_moment: &Matrix, log_det: f64) -> Divergence {
        let n = self.values.len() as f64;
        let product = second_moment.times(&self.basis);
        let seen = |i: usize| (0..self.values.len()).map(|r| self.basis[(r, i)] * product[(r, i)]).sum::<f64>();
        let trace: f64 = self.values.iter().enumerate().map(|(i, s)| seen(i) / s).sum();
        let own: f64 = self.values.iter().map(|s| s.ln()).sum();
        // c = Tr(S^-1 H) / N minimises log det (c S) + Tr((c S)^-1 H).
        Divergence { exact: 0.5 * (own - log_det + trace - n), scaled: 0.5 * (own + n * (trace / n).ln() - log_det) }
    }
}

/// `log det H`.
#[must_use]
pub fn log_det(h: &Matrix) -> f64 {
    h.eigen().0.iter().map(|value| value.ln()).sum()
}

fn inverse(s: &Matrix) -> Matrix {
    let (values, basis) = s.eigen();
    basis.times(&Matrix::diagonal(values.into_iter().map(|value| 1.0 / value))).times(&basis.transposed())
}

/// `E[G X G^T]`, straight from `H`.
fn left_of(h: &Matrix, x: &Matrix) -> Matrix {
    let n = DIMS[1];
    let sum = |i: usize, j: usize| (0..n * n).map(|at| x[(at / n, at % n)] * h[(i * n + at / n, j * n + at % n)]).sum();
    Matrix::from_fn(DIMS[0], DIMS[0], sum)
}

/// `E[G^T X G]`.
fn right_of(h: &Matrix, x: &Matrix) -> Matrix {
    let (m, n) = (DIMS[0], DIMS[1]);
    let sum = |i: usize, j: usize| (0..m * m).map(|at| x[(at / m, at % m)] * h[(at / m * n + i, at % m * n + j)]).sum();
    Matrix::from_fn(n, n, sum)
}

/// The one-sided minimum of the shorter side (paper A, Claim 1): `S_b = E[G^T G] / m` in `S = I (x) S_b`.
#[must_use]
pub fn one_sided(h: &Matrix) -> Matrix {
    right_of(h, &Matrix::identity(DIMS[0])).scaled(1.0 / DIMS[0] as f64)
}

/// The two-sided minimum `S_a (x) S_b` (paper A, Claim 2): `S_a = E[G S_b^-1 G^T] / n`, `S_b = E[G^T S_a^-1 G] / m`, alternating from
/// the one-sided minimum. No half round makes the divergence larger.
#[must_use]
pub fn two_sided(h: &Matrix) -> Matrix {
    let (m, n) = (DIMS[0] as f64, DIMS[1] as f64);
    let (mut a, mut b) = (Matrix::identity(DIMS[0]), one_sided(h));
    for _ in 0..1000 {
        a = left_of(h, &inverse(&b)).scaled(1.0 / n);
        let next = right_of(h, &inverse(&a)).scaled(1.0 / m);
        let change: f64 = next.data.iter().zip(&b.data).map(|(x, y)| (x - y) * (x - y)).sum();
        let size: f64 = next.data.iter().map(|x| x * x).sum();
        b = next;
        if change <= 1e-24 * size {
            break;
        }
    }
    kronecker(&a, &b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::covariance::{Kind, Source};

    fn at(s: &Matrix, h: &Matrix) -> Divergence {
        Preconditioner::of(s).divergence(h, log_det(h))
    }

    /// Every one-sided preconditioner is a two-sided one.
    #[test]
    fn two_sides_describe_at_least_as_well_as_one() {
        for kind in Kind::ALL {
            for seed in 0..5 {
                let h = Source::new(kind, 0.0, seed).second_moment();
                let one = at(&kronecker(&Matrix::identity(DIMS[0]), &one_sided(&h)), &h);
                let two = at(&two_sided(&h), &h);
                assert!(two.exact <= one.exact && two.exact >= -1e-9, "{kind:?} {two:?} {one:?}");
                // At a minimum the scale is right.
                assert!((one.exact - one.scaled).abs() < 1e-9 && (two.exact - two.scaled).abs() < 1e-9, "{two:?} {one:?}");
                assert!(kind != Kind::Kronecker || two.exact < 1e-9, "{two:?}");
            }
        }
    }

    #[test]
    fn a_divergence_is_zero_at_itself_and_knows_scales() {
        let h = Source::new(Kind::Sum, 0.0, 1).second_moment();
        assert!(at(&h, &h).exact.abs() < 1e-9);
        let doubled = at(&h.scaled(2.0), &h);
        assert!(doubled.scaled.abs() < 1e-9);
        assert!((doubled.exact - 0.5 * h.rows as f64 * (2f64.ln() - 0.5)).abs() < 1e-9);
    }

    /// The claims hold only where the minimum is one: nothing near it does better.
    #[test]
    fn the_two_sided_minimum_is_stationary() {
        let h = Source::new(Kind::Sum, 0.0, 2).second_moment();
        let best = two_sided(&h);
        let least = at(&best, &h).exact;
        for (seed, size) in [(7, 1e-3), (8, 1e-2), (9, 0.1)] {
            let near = Source::new(Kind::Kronecker, 0.0, seed).second_moment();
            // Kronecker products of nearby factors.
            let [a, b] = factors(&best);
            let [da, db] = factors(&near);
            let moved = kronecker(&mixed(&a, &da, size), &mixed(&b, &db, size));
            assert!(at(&moved, &h).exact >= least - 1e-12);
        }
    }

    fn factors(s: &Matrix) -> [Matrix; 2] {
        let (m, n) = (DIMS[0], DIMS[1]);
        [Matrix::from_fn(m, m, |i, j| s[(i * n, j * n)]), Matrix::from_fn(n, n, |i, j| s[(i, j)] / s[(0, 0)])]
    }

    fn mixed(a: &Matrix, b: &Matrix, part: f64) -> Matrix {
        Matrix::from_fn(a.rows, a.cols, |i, j| a[(i, j)] + part * a.trace() / b.trace() * b[(i, j)])
    }
}
