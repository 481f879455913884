//! Numbers for tests, and matrices of them in double precision.
#![allow(dead_code)]

/// Numbers without a pattern, in [-1, 1).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn next(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }

    pub fn floats(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.next() as f32).collect()
    }
}

/// A square matrix with contiguous rows.
#[derive(Clone, Debug)]
pub struct Square {
    pub d: usize,
    pub at: Vec<f64>,
}

impl Square {
    pub fn from_fn(d: usize, mut f: impl FnMut(usize, usize) -> f64) -> Self {
        Self { d, at: (0..d * d).map(|at| f(at / d, at % d)).collect() }
    }

    pub fn of(d: usize, x: &[f32]) -> Self {
        Self::from_fn(d, |i, j| f64::from(x[i * d + j]))
    }

    pub fn get(&self, i: usize, j: usize) -> f64 {
        self.at[i * self.d + j]
    }

    pub fn t(&self) -> Self {
        Self::from_fn(self.d, |i, j| self.get(j, i))
    }

    pub fn times(&self, other: &Self) -> Self {
        Self::from_fn(self.d, |i, j| (0..self.d).map(|k| self.get(i, k) * other.get(k, j)).sum())
    }

    /// From the lower triangle of a symmetric one.
    pub fn symmetric(d: usize, x: &[f32]) -> Self {
        Self::from_fn(d, |i, j| f64::from(x[i.max(j) * d + i.min(j)]))
    }

    pub fn floats(&self) -> Vec<f32> {
        self.at.iter().map(|&x| x as f32).collect()
    }

    /// The largest magnitude.
    pub fn largest(&self) -> f64 {
        self.at.iter().fold(0.0, |m, x| m.max(x.abs()))
    }

    /// The largest difference.
    pub fn distance(&self, other: &Self) -> f64 {
        self.at.iter().zip(&other.at).fold(0.0, |m, (x, y)| m.max((x - y).abs()))
    }

    /// The largest element of `|Q^T Q - I|`.
    pub fn orthogonality_error(&self) -> f64 {
        self.t().times(self).distance(&Self::from_fn(self.d, |i, j| f64::from(u8::from(i == j))))
    }

    /// An orthogonal one: Gram and Schmidt of random columns, twice.
    pub fn orthogonal(d: usize, random: &mut Random) -> Self {
        let mut columns: Vec<Vec<f64>> = (0..d).map(|_| (0..d).map(|_| random.next()).collect()).collect();
        for j in 0..d {
            for k in (0..j).chain(0..j) {
                let along: f64 = columns[j].iter().zip(&columns[k]).map(|(x, y)| x * y).sum();
                let other = columns[k].clone();
                columns[j].iter_mut().zip(other).for_each(|(x, y)| *x -= along * y);
            }
            let norm = columns[j].iter().map(|x| x * x).sum::<f64>().sqrt();
            columns[j].iter_mut().for_each(|x| *x /= norm);
        }
        Self::from_fn(d, |i, j| columns[j][i])
    }

    /// `V diag(values) V^T` with a random orthogonal `V`, symmetric to the bit.
    pub fn with_eigenvalues(d: usize, random: &mut Random, value: impl Fn(usize) -> f64) -> Self {
        let v = Self::orthogonal(d, random);
        let whole = Self::from_fn(d, |i, j| (0..d).map(|k| v.get(i, k) * value(k) * v.get(j, k)).sum());
        Self::from_fn(d, |i, j| whole.get(i.max(j), i.min(j)))
    }

    /// `diag(scale) (shift I + W W^T) diag(scale)` with `W` of `rank` columns.
    pub fn factor(d: usize, rank: usize, shift: f64, random: &mut Random, scale: impl Fn(usize) -> f64) -> Self {
        let w: Vec<f64> = (0..d * rank).map(|_| random.next()).collect();
        let dot = |i: usize, j: usize| -> f64 { (0..rank).map(|k| w[i * rank + k] * w[j * rank + k]).sum() };
        Self::from_fn(d, |i, j| (dot(i.max(j), i.min(j)) + if i == j { shift } else { 0.0 }) * scale(i) * scale(j))
    }
}
