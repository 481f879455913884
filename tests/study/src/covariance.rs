//! Gradients whose second moment is known exactly, and turns at a constant rate.

use klshampoo_tests::cases::Xorshift;
use klshampoo_tests::matrix::Matrix;

/// Rows and columns of the synthetic gradients.
pub const DIMS: [usize; 2] = [8, 6];

/// What the second moment looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `A (x) B`.
    Kronecker,
    /// `A_1 (x) B_1 + A_2 (x) B_2`, with unrelated eigenbases: no Kronecker product.
    Sum,
}

impl Kind {
    /// Both, in the order of the tables.
    pub const ALL: [Self; 2] = [Self::Kronecker, Self::Sum];

    /// For tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kronecker => "Kronecker",
            Self::Sum => "sum of two",
        }
    }
}

/// `A (x) B` with their roots.
#[derive(Clone, Debug)]
struct Term {
    dense: Matrix,
    roots: [Matrix; 2],
}

/// A rotation in `d / 2` random planes.
#[derive(Clone, Debug)]
struct Turn {
    frame: Matrix,
}

impl Turn {
    fn by(&self, angle: f64) -> Matrix {
        let d = self.frame.rows;
        let (sin, cos) = angle.sin_cos();
        let planes = Matrix::from_fn(d, d, |i, j| match (i, j) {
            // An odd dimension leaves the last axis alone.
            _ if i == j && i + 1 == d && d % 2 == 1 => 1.0,
            _ if i == j => cos,
            _ if i / 2 == j / 2 => {
                if i < j {
                    -sin
                } else {
                    sin
                }
            }
            _ => 0.0,
        });
        self.frame.times(&planes).times(&self.frame.transposed())
    }
}

/// A source of gradients.
#[derive(Clone, Debug)]
pub struct Source {
    terms: Vec<Term>,
    turns: [Turn; 2],
    /// Radians per step, in every plane.
    rate: f64,
    random: Xorshift,
}

/// The Kronecker product of two matrices.
#[must_use]
pub fn kronecker(a: &Matrix, b: &Matrix) -> Matrix {
    Matrix::from_fn(a.rows * b.rows, a.cols * b.cols, |i, j| a[(i / b.rows, j / b.cols)] * b[(i % b.rows, j % b.cols)])
}

fn normals(random: &mut Xorshift, rows: usize, cols: usize) -> Matrix {
    Matrix { rows, cols, data: (0..rows * cols).map(|_| random.normal()).collect() }
}

/// A covariance with a random eigenbasis and eigenvalues from 1 down to 1/100, and its root.
fn covariance(random: &mut Xorshift, d: usize) -> (Matrix, Matrix) {
    let basis = normals(random, d, d).qr().0;
    let value = |i: usize| 10f64.powf(-2.0 * i as f64 / (d - 1) as f64);
    let with = |power: f64| basis.times(&Matrix::diagonal((0..d).map(|i| value(i).powf(power)))).times(&basis.transposed());
    (with(1.0), with(0.5))
}

impl Source {
    /// A source that turns by `rate` radians per step; `seed` chooses eigenbases, planes and gradients.
    #[must_use]
    pub fn new(kind: Kind, rate: f64, seed: usize) -> Self {
        let mut random = Xorshift::for_shape(&[DIMS[0], DIMS[1], seed + 1]);
        let count = match kind {
            Kind::Kronecker => 1,
            Kind::Sum => 2,
        };
        let terms = (0..count)
            .map(|_| {
                let (a, root_a) = covariance(&mut random, DIMS[0]);
                let (b, root_b) = covariance(&mut random, DIMS[1]);
                Term { dense: kronecker(&a, &b), roots: [root_a, root_b] }
            })
            .collect();
        let turns = DIMS.map(|d| Turn { frame: normals(&mut random, d, d).qr().0 });
        Self { terms, turns, rate, random }
    }

    /// `E[gg^T]` before any turn; a turn changes no divergence at its minimum.
    #[must_use]
    pub fn second_moment(&self) -> Matrix {
        let n = self.terms[0].dense.rows;
        Matrix::from_fn(n, n, |i, j| self.terms.iter().map(|term| term.dense[(i, j)]).sum())
    }

    fn rotations(&self, step: usize) -> [Matrix; 2] {
        [0, 1].map(|k| self.turns[k].by(self.rate * step as f64))
    }

    /// `E[gg^T]` at a step.
    #[must_use]
    pub fn second_moment_at(&self, step: usize) -> Matrix {
        let [a, b] = self.rotations(step);
        let turn = kronecker(&a, &b);
        turn.times(&self.second_moment()).times(&turn.transposed())
    }

    /// A gradient of a step.
    pub fn gradient(&mut self, step: usize) -> Vec<f64> {
        let [a, b] = self.rotations(step);
        let mut sum = Matrix::zeros(DIMS[0], DIMS[1]);
        for term in &self.terms {
            let noise = normals(&mut self.random, DIMS[0], DIMS[1]);
            let part = term.roots[0].times(&noise).times(&term.roots[1]);
            sum.data.iter_mut().zip(part.data).for_each(|(sum, x)| *sum += x);
        }
        a.times(&sum).times(&b.transposed()).data
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_rotations_that_add_up() {
        let source = Source::new(Kind::Sum, 0.1, 0);
        for turn in &source.turns {
            let d = turn.frame.rows;
            let (one, two) = (turn.by(0.3), turn.by(0.6));
            let close = |a: &Matrix, b: &Matrix| a.data.iter().zip(&b.data).all(|(a, b)| (a - b).abs() < 1e-12);
            assert!(close(&one.times(&one), &two));
            assert!(close(&one.times(&turn.by(-0.3)), &Matrix::identity(d)));
            assert!(!close(&one, &Matrix::identity(d)));
        }
    }

    #[test]
    fn gradients_have_the_second_moment() {
        for kind in Kind::ALL {
            let (mut source, n, count) = (Source::new(kind, 0.01, 3), DIMS[0] * DIMS[1], 20_000);
            let mut mean = Matrix::zeros(n, n);
            for _ in 0..count {
                let g = source.gradient(20);
                mean.data.iter_mut().enumerate().for_each(|(at, x)| *x += g[at / n] * g[at % n] / count as f64);
            }
            let wanted = source.second_moment_at(20);
            let square = |m: &Matrix| m.data.iter().map(|x| x * x).sum::<f64>();
            let error = Matrix::from_fn(n, n, |i, j| mean[(i, j)] - wanted[(i, j)]);
            assert!(square(&error) < 0.01 * square(&wanted), "{kind:?}");
        }
    }
}
