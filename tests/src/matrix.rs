//! Dense float64 matrices for the textbook: products, QR and eigenvectors, each by its plainest algorithm that is accurate.

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
        self.diagonal_values().sum()
    }

    /// The diagonal, of the shorter side's length.
    pub fn diagonal_values(&self) -> impl Iterator<Item = f64> {
        (0..self.rows.min(self.cols)).map(|i| self[(i, i)])
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

/// Euclidean norm.
pub(crate) fn norm(values: impl Iterator<Item = f64>) -> f64 {
    values.map(|x| x * x).sum::<f64>().sqrt()
}

/// mat_k(x): row i holds the elements whose index along mode k is i, the other indices running in row-major order.
pub(crate) fn unfold(x: &[f64], dims: &[usize], k: usize) -> Matrix {
    let inner: usize = dims[k + 1..].iter().product();
    Matrix::from_fn(dims[k], x.len() / dims[k], |i, rest| x[(rest / inner * dims[k] + i) * inner + rest % inner])
}

/// x times `a` along mode k: fold(a mat_k(x)).
pub(crate) fn mode_product(x: &[f64], dims: &[usize], k: usize, a: &Matrix) -> Vec<f64> {
    let inner: usize = dims[k + 1..].iter().product();
    let product = a.times(&unfold(x, dims, k));
    (0..x.len()).map(|at| product[(at / inner % dims[k], at / inner / dims[k] * inner + at % inner)]).collect()
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
