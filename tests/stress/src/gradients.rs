//! Gradients of matrices whose second moment is a Kronecker product, and what may become of it.

use klshampoo_tests::cases::Xorshift;
use klshampoo_tests::matrix::Matrix;

/// One side of the second moment: its eigenvectors and the roots of its eigenvalues.
struct Side {
    basis: Matrix,
    roots: Vec<f64>,
}

impl Side {
    /// Random eigenvectors, and eigenvalues from 1 down to `10^-decades`.
    fn new(d: usize, decades: f64, random: &mut Xorshift) -> Self {
        let basis = Matrix { rows: d, cols: d, data: (0..d * d).map(|_| random.normal()).collect() }.qr().0;
        let root = |i: usize| 10f64.powf(-decades / 2.0 * i as f64 / (d.max(2) - 1) as f64);
        Self { basis, roots: (0..d).map(root).collect() }
    }

    /// Turns neighbouring eigenvectors into each other.
    fn turn(&mut self, angle: f64) {
        let (sin, cos) = angle.sin_cos();
        let d = self.basis.cols;
        for row in self.basis.data.chunks_exact_mut(d) {
            for j in 1..d {
                (row[j - 1], row[j]) = (cos * row[j - 1] - sin * row[j], sin * row[j - 1] + cos * row[j]);
            }
        }
    }
}

/// What happens to the second moment from step to step.
#[derive(Clone, Copy, Debug, Default)]
pub struct Change {
    /// Radians per step, in every plane of neighbours.
    pub turn: f64,
    /// Decades up and down by which the gradients' scale swings in 5,000 steps.
    pub swing: f64,
    /// Steps after which another second moment takes its place; 0: never.
    pub replace: u64,
}

/// A sequence of gradients.
pub struct Source {
    random: Xorshift,
    sides: [Side; 2],
    decades: [f64; 2],
    change: Change,
    step: u64,
    noise: Vec<f64>,
    half: Vec<f64>,
}

impl Source {
    /// For an m x n matrix, with eigenvalues over so many decades on each side.
    #[must_use]
    pub fn new([m, n]: [usize; 2], decades: [f64; 2], change: Change) -> Self {
        let mut random = Xorshift::for_shape(&[m, n, 77]);
        let sides = [Side::new(m, decades[0], &mut random), Side::new(n, decades[1], &mut random)];
        Self { random, sides, decades, change, step: 0, noise: vec![0.0; m * n], half: vec![0.0; m * n] }
    }

    /// The next gradient times `scale`.
    pub fn next(&mut self, scale: f64, out: &mut [f32]) {
        let Self { random, sides, decades, change, step, noise, half } = self;
        *step += 1;
        if change.replace > 0 && step.is_multiple_of(change.replace) {
            *sides = core::array::from_fn(|side| Side::new(sides[side].basis.rows, decades[side], random));
        }
        if change.turn != 0.0 {
            sides.iter_mut().for_each(|side| side.turn(change.turn));
        }
        let swing = 10f64.powf(change.swing * (*step as f64 * (std::f64::consts::TAU / 5000.0)).sin());
        let [left, right] = &*sides;
        let (m, n) = (left.roots.len(), right.roots.len());
        for (row, &root) in noise.chunks_exact_mut(n).zip(&left.roots) {
            row.iter_mut().zip(&right.roots).for_each(|(z, &other)| *z = random.normal() * root * other * swing * scale);
        }
        half.fill(0.0);
        for (i, row) in half.chunks_exact_mut(n).enumerate() {
            for (z, &q) in noise.chunks_exact(n).zip(&left.basis.data[i * m..(i + 1) * m]) {
                row.iter_mut().zip(z).for_each(|(x, &z)| *x += q * z);
            }
        }
        for (row, out) in half.chunks_exact(n).zip(out.chunks_exact_mut(n)) {
            for (out, q) in out.iter_mut().zip(right.basis.data.chunks_exact(n)) {
                *out = row.iter().zip(q).map(|(x, q)| x * q).sum::<f64>() as f32;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The mean of `G G^T` has the condition number that was asked for.
    #[test]
    fn gradients_have_their_second_moment() {
        let (m, n) = (5, 40);
        let mut source = Source::new([m, n], [4.0, 0.0], Change::default());
        let (mut grad, mut gram) = (vec![0.0; m * n], Matrix::zeros(m, m));
        for _ in 0..2000 {
            source.next(1.0, &mut grad);
            let g = Matrix { rows: m, cols: n, data: grad.iter().map(|&x| f64::from(x)).collect() };
            gram.data.iter_mut().zip(g.times(&g.transposed()).data).for_each(|(sum, x)| *sum += x);
        }
        let values = gram.eigen().0;
        let ratio = values[0] / values[m - 1];
        assert!((ratio.log10() - 4.0).abs() < 0.05, "{values:?}");
    }
}
