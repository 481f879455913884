//! Edge shapes and gradient sequences: two named tables, all deterministic, for whoever compares two implementations.

/// A parameter tensor's dimensions and why they are in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// `rows x columns ...`, as test output shows it.
    pub name: &'static str,
    /// Dimensions, row-major.
    pub dims: &'static [usize],
}

const fn shape(name: &'static str, dims: &'static [usize]) -> Shape {
    Shape { name, dims }
}

/// Matrices: the smallest, one-sided, odd, around the multiples of 8 and 16 where kernels cut their tiles, far from square.
pub const MATRICES: &[Shape] = &[
    shape("1x1", &[1, 1]),
    shape("1x2", &[1, 2]),
    shape("2x1", &[2, 1]),
    shape("2x2", &[2, 2]),
    shape("1x7", &[1, 7]),
    shape("7x1", &[7, 1]),
    shape("2x3", &[2, 3]),
    shape("4x3", &[4, 3]),
    shape("5x5", &[5, 5]),
    shape("7x8", &[7, 8]),
    shape("8x9", &[8, 9]),
    shape("15x17", &[15, 17]),
    shape("16x16", &[16, 16]),
    shape("33x31", &[33, 31]),
    shape("32x8", &[32, 8]),
    shape("3x40", &[3, 40]),
    shape("1x65", &[1, 65]),
];

/// Higher orders, with dimensions of 1 in every place.
pub const HIGHER_ORDERS: &[Shape] = &[
    shape("2x3x4", &[2, 3, 4]),
    shape("4x6x5", &[4, 6, 5]),
    shape("1x5x3", &[1, 5, 3]),
    shape("5x1x3", &[5, 1, 3]),
    shape("5x3x1", &[5, 3, 1]),
    shape("1x1x1", &[1, 1, 1]),
    shape("2x3x2x3", &[2, 3, 2, 3]),
];

/// A kind of gradient sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gradients {
    /// A low-rank part that drifts, a constant one and noise, in modes of graded scale: the golden files' gradients.
    LowRankDrift,
    /// Zeros throughout.
    Zero,
    /// Zeros for the first three steps, then [`Gradients::LowRankDrift`].
    ZeroFirst,
    /// [`Gradients::LowRankDrift`], every third one replaced by zeros, as when a layer is not used.
    ZeroNowAndThen,
    /// The same product of vectors every time: all factors stay singular.
    RankOneRepeated,
    /// [`Gradients::LowRankDrift`] with one element a million times larger at step 3.
    HugeOutlier,
    /// [`Gradients::LowRankDrift`] times 1e-20: squares leave the range of float32.
    Tiny,
}

impl Gradients {
    /// All of them.
    pub const ALL: &[Gradients] = &[
        Gradients::LowRankDrift,
        Gradients::Zero,
        Gradients::ZeroFirst,
        Gradients::ZeroNowAndThen,
        Gradients::RankOneRepeated,
        Gradients::HugeOutlier,
        Gradients::Tiny,
    ];

    /// A parameter and `steps` gradients of shape `dims`. All values are float32 numbers, so that either precision sees the same.
    pub fn make(self, dims: &[usize], steps: usize) -> Problem {
        let mut problem = low_rank_drift(dims, steps);
        let Problem { p0, grads } = &mut problem;
        let zeros = vec![0.0; p0.len()];
        match self {
            Gradients::LowRankDrift => {}
            Gradients::Zero => grads.fill(zeros),
            Gradients::ZeroFirst => grads.iter_mut().take(3).for_each(|g| g.clone_from(&zeros)),
            Gradients::ZeroNowAndThen => grads.iter_mut().skip(2).step_by(3).for_each(|g| g.clone_from(&zeros)),
            Gradients::RankOneRepeated => grads.fill(rank_one(dims)),
            Gradients::HugeOutlier => {
                if let Some(g) = grads.get_mut(2) {
                    let middle = g.len() / 2;
                    g[middle] = round(1e6 * g[middle]);
                }
            }
            Gradients::Tiny => grads.iter_mut().flatten().for_each(|x| *x = round(1e-20 * *x)),
        }
        problem
    }
}

/// What an optimizer is run on; the gradients do not depend on the parameter.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    /// The parameter before the first step.
    pub p0: Vec<f64>,
    /// One gradient for each step.
    pub grads: Vec<Vec<f64>>,
}

/// The xorshift64* generator of the golden files.
#[derive(Clone, Debug)]
pub struct Xorshift(u64);

impl Xorshift {
    /// The generator that the golden files use for a tensor of shape `dims`.
    pub fn for_shape(dims: &[usize]) -> Self {
        let mut power = 1u64;
        let mut sum = 0u64;
        for &d in dims {
            sum = sum.wrapping_add((d as u64).wrapping_mul(power));
            power = power.wrapping_mul(1_000_003);
        }
        Xorshift(0x9E37_79B9_7F4A_7C15 ^ sum)
    }

    /// Uniform in (-1, 1).
    pub fn uniform(&mut self) -> f64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let r = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D);
        ((r >> 11) as f64 + 0.5) / (1u64 << 52) as f64 - 1.0
    }

    /// Mean 0, variance 1, nearly normal.
    pub fn normal(&mut self) -> f64 {
        (self.uniform() + self.uniform() + self.uniform() + self.uniform()) * (3f64.sqrt() / 2.0)
    }

    fn normals(&mut self, count: usize) -> Vec<f64> {
        (0..count).map(|_| self.normal()).collect()
    }
}

/// To the nearest float32.
fn round(x: f64) -> f64 {
    f64::from(x as f32)
}

/// The gradients of the golden files, for any shape (`golden/README.md`, Gradients).
fn low_rank_drift(dims: &[usize], steps: usize) -> Problem {
    let m = dims[0];
    let n: usize = dims[1..].iter().product();
    let rank = (m.min(n) / 4).max(1);
    let mut random = Xorshift::for_shape(dims);
    let p0 = random.normals(m * n).iter().map(|z| round(0.1 * z)).collect();
    let b = random.normals(rank * n);
    let c = random.normals(m * rank);
    let mean: Vec<f64> = random.normals(m * n).iter().map(|z| 0.5 * z).collect();
    let grades = grades(dims);
    let gradient = |_| {
        let (a, d, noise) = (random.normals(m * rank), random.normals(rank * n), random.normals(m * n));
        let element = |at: usize| {
            let (i, j) = (at / n, at % n);
            let drift: f64 = (0..rank).map(|l| a[i * rank + l] * b[l * n + j] + c[i * rank + l] * d[l * n + j]).sum();
            round((drift / (rank as f64).sqrt() + mean[at] + 0.5 * noise[at]) * grades[at])
        };
        (0..m * n).map(element).collect()
    };
    Problem { p0, grads: (0..steps).map(gradient).collect() }
}

/// Along every mode the scale falls from 1 to 1/4.
fn grades(dims: &[usize]) -> Vec<f64> {
    dims.iter().fold(vec![1.0], |grades, &d| {
        let along = |i: usize| if d > 1 { (-2.0 * i as f64 / (d - 1) as f64).exp2() } else { 1.0 };
        grades.iter().flat_map(|grade| (0..d).map(move |i| grade * along(i))).collect()
    })
}

/// A product of one vector for each mode.
fn rank_one(dims: &[usize]) -> Vec<f64> {
    let mut random = Xorshift::for_shape(dims);
    let product = dims.iter().fold(vec![1.0], |product, &d| {
        let vector = random.normals(d);
        product.iter().flat_map(|x| vector.iter().map(move |v| x * v)).collect()
    });
    product.into_iter().map(round).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden::Collection;

    #[test]
    fn the_generator_is_that_of_the_golden_files() {
        for name in ["adamw_4x3_b0.9-0.98_wd0", "adamw_16x16_b0.9-0.98_wd0", "adamw_4x6x5_b0.9-0.98_wd0"] {
            let case = Collection::Published.load(name).unwrap();
            let problem = Gradients::LowRankDrift.make(&case.shape, case.grads.len());
            assert_eq!(problem.p0, case.p0_f64(), "{name}");
            assert_eq!(problem.grads, case.grads, "{name}");
        }
    }

    #[test]
    fn every_case_is_finite_and_repeatable() {
        for shape in MATRICES.iter().chain(HIGHER_ORDERS) {
            for kind in Gradients::ALL {
                let problem = kind.make(shape.dims, 6);
                assert!(problem.grads.iter().flatten().chain(&problem.p0).all(|x| x.is_finite()));
                assert!(problem.grads.iter().all(|g| g.len() == problem.p0.len()));
                assert_eq!(problem, kind.make(shape.dims, 6), "{} {kind:?}", shape.name);
            }
        }
    }

    #[test]
    fn rank_one_is_singular_in_every_mode() {
        let g = &Gradients::RankOneRepeated.make(&[2, 3], 1).grads[0];
        assert!((g[0] * g[4] - g[1] * g[3]).abs() < 1e-6 * (g[0] * g[4]).abs());
    }
}
