//! The diagnostics against dense float64 computations with explicit Kronecker products, which know nothing of the library's tricks.

use klshampoo::linalg::Portable;
use klshampoo::{
    Config, Convention, FixedOptimizer, GradientFault, Mode, SliceError, StatePart, StepErrorKind, TensorSpec, WindowError,
    window_scratch_len, window_similarity,
};
use klshampoo_tests::cases::{Gradients, Xorshift};
use klshampoo_tests::harness::{Core, Driver};
use klshampoo_tests::matrix::Matrix;

type Subject = Core<f64, Portable>;

fn kronecker(a: &Matrix, b: &Matrix) -> Matrix {
    Matrix::from_fn(a.rows * b.rows, a.cols * b.cols, |i, j| a[(i / b.rows, j / b.cols)] * b[(i % b.rows, j % b.cols)])
}

fn dot(a: &Matrix, b: &Matrix) -> f64 {
    a.data.iter().zip(&b.data).map(|(a, b)| a * b).sum()
}

fn cosine(a: &Matrix, b: &Matrix) -> f64 {
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// `f` of a symmetric matrix, by its eigenvalues.
fn map(a: &Matrix, f: impl Fn(f64) -> f64) -> Matrix {
    let (values, vectors) = a.eigen();
    vectors.times(&Matrix::diagonal(values.into_iter().map(f))).times(&vectors.transposed())
}

fn square(d: usize, data: Vec<f64>) -> Matrix {
    Matrix { rows: d, cols: d, data }
}

fn assert_near(found: f64, wanted: f64, what: &str) {
    assert!((found - wanted).abs() <= 1e-9 * (1.0 + wanted.abs()), "{what}: {found} instead of {wanted}");
}

/// `S` as an N x N matrix, from the parts of the state and what the method's name says of them.
fn dense(subject: &mut Subject, dims: &[usize], modes: &[Option<Mode>], form: Form) -> Matrix {
    let n: usize = dims.iter().product();
    let has_factor = |k: usize| modes[k].is_none() && !matches!(form, Form::Elementwise { .. });
    let basis = (0..dims.len()).fold(Matrix::identity(1), |product, k| {
        let own = if has_factor(k) { square(dims[k], subject.read(StatePart::Basis(k))) } else { Matrix::identity(dims[k]) };
        kronecker(&product, &own)
    });
    let values: Vec<f64> = match form {
        Form::SecondMoment | Form::Elementwise { .. } => {
            let correction = if let Form::Elementwise { correction } = form { correction } else { 1.0 };
            subject.read(StatePart::SecondMoment).into_iter().map(|d| d * correction).collect()
        }
        Form::Power(_) | Form::VonNeumann => {
            let power = if let Form::Power(p) = form { 2.0 * p } else { 1.0 };
            let mut tau = 1.0;
            let preconditioned = modes.iter().filter(|mode| **mode != Some(Mode::Identity)).count() as f64;
            let values = (0..dims.len()).fold(vec![1.0], |product, k| {
                if modes[k] == Some(Mode::Identity) {
                    tau /= dims[k] as f64;
                    return product.iter().flat_map(|&p| vec![p; dims[k]]).collect();
                }
                let lambda = subject.read(StatePart::Eigenvalues(k));
                let trace: f64 =
                    if has_factor(k) { square(dims[k], subject.read(StatePart::Factor(k))).trace() } else { lambda.iter().sum() };
                tau *= trace.powf(-(preconditioned - 1.0) / preconditioned);
                product.iter().flat_map(|p| lambda.iter().map(move |l| p * l.powf(power))).collect()
            });
            let tau = if matches!(form, Form::VonNeumann) { tau } else { 1.0 };
            values.into_iter().map(|value| value * tau).collect()
        }
    };
    assert_eq!(values.len(), n);
    basis.times(&Matrix::diagonal(values.into_iter())).times(&basis.transposed())
}

#[derive(Clone, Copy)]
enum Form {
    Power(f64),
    VonNeumann,
    SecondMoment,
    Elementwise { correction: f64 },
}

/// `(log det S + g^T S^-1 g) / 2`
fn objective(s: &Matrix, g: &[f64]) -> f64 {
    let log_det: f64 = s.eigen().0.iter().map(|x| x.ln()).sum();
    let inverse = map(s, |x| 1.0 / x);
    let g = Matrix { rows: g.len(), cols: 1, data: g.to_vec() };
    0.5 * (log_det + g.transposed().times(&inverse).times(&g).data[0])
}

#[test]
fn the_objective_is_that_of_the_dense_preconditioner() {
    type Preset = Config<f64>;
    let root = |modes: f64| Form::Power(0.5 / modes);
    let cases = [
        (Preset::kl_shampoo(), Form::Power(0.5)),
        (Preset::kl_shampoo_reference(), Form::Power(0.5)),
        (Preset::idealized_kl(), Form::Power(0.5)),
        (Preset::vn_shampoo_2(), Form::Power(0.5)),
        (Preset::f_shampoo_1(), Form::Power(0.5)),
        (Preset::shampoo_quarter(), Form::Power(0.25)),
        (Preset::shampoo_half().in_convention(Convention::ReferenceMeta), Form::Power(0.5)),
        (Preset::vn_shampoo_1(), Form::VonNeumann),
        (Preset::kl_soap(), Form::SecondMoment),
        (Preset::soap_reference(), Form::SecondMoment),
        (Preset::adamw(), Form::Elementwise { correction: 1.0 / (1.0 - 0.999f64.powi(7)) }),
        (Preset::rmsprop(), Form::Elementwise { correction: 1.0 }),
    ];
    let shapes: [(&[usize], &[Option<Mode>]); 4] = [
        (&[3, 4], &[None, None]),
        (&[2, 3, 2], &[None, None, None]),
        (&[3, 4], &[None, Some(Mode::Diagonal)]),
        (&[2, 3, 2], &[None, Some(Mode::Identity), Some(Mode::Diagonal)]),
    ];
    for (dims, modes) in shapes {
        let problem = Gradients::LowRankDrift.make(dims, 8);
        let check = |config: &Config<f64>, form: Form| {
            let mut subject = Subject::new(&Config { refresh_period: 3, ..*config }, dims, modes);
            let mut param = problem.p0.clone();
            problem.grads[..7].iter().for_each(|g| subject.step(&mut param, g, 0.01));
            let wanted = objective(&dense(&mut subject, dims, modes, form), &problem.grads[7]);
            let (optimizer, scratch, linalg) = subject.view();
            let found = optimizer.objective(0, 0, &problem.grads[7], scratch, linalg).unwrap();
            assert_near(found, wanted, &format!("{dims:?} {modes:?} {:?} {:?}", config.estimator, config.direction));
        };
        cases.iter().for_each(|(config, form)| check(config, *form));
        let preconditioned = modes.iter().filter(|mode| **mode != Some(Mode::Identity)).count();
        check(&Preset::shampoo(), root(preconditioned as f64));
    }
}

/// A piece of a slice is a tensor of its own.
#[test]
fn pieces_that_do_not_lie_together_have_their_own_objective() {
    let config = Config { block_size: 2, refresh_period: 2, ..Config::<f64>::kl_shampoo() };
    let problem = Gradients::LowRankDrift.make(&[3, 4], 4);
    let mut whole = Subject::table(&[config], &[TensorSpec::new(&[3, 4]).unwrap()]);
    let mut block = Subject::new(&Config { block_size: 0, ..config }, &[2, 2], &[None, None]);
    let part = |g: &[f64]| [2, 3, 6, 7].map(|i| g[i]);
    let (mut param, mut own_param) = (problem.p0.clone(), part(&problem.p0));
    for g in &problem.grads {
        whole.step(&mut param, g, 0.01);
        block.step(&mut own_param, &part(g), 0.01);
    }
    let (optimizer, scratch, linalg) = whole.view();
    let found = optimizer.objective(0, 1, &problem.grads[3], scratch, linalg).unwrap();
    let report = optimizer.mode_report(0, 1, 1, scratch, linalg).unwrap();
    let (optimizer, scratch, linalg) = block.view();
    assert_eq!(found, optimizer.objective(0, 0, &part(&problem.grads[3]), scratch, linalg).unwrap());
    assert_eq!(report, optimizer.mode_report(0, 0, 1, scratch, linalg).unwrap());
}

#[test]
fn a_mode_report_is_that_of_the_state() {
    for config in [Config::<f64>::kl_shampoo(), Config::<f64>::soap()] {
        let dims = [5, 6];
        let problem = Gradients::LowRankDrift.make(&dims, 9);
        let mut subject = Subject::new(&config, &dims, &[None, None]);
        let mut param = problem.p0.clone();
        problem.grads.iter().for_each(|g| subject.step(&mut param, g, 0.01));
        for (k, d) in dims.into_iter().enumerate() {
            let basis = square(d, subject.read(StatePart::Basis(k)));
            let factor = square(d, subject.read(StatePart::Factor(k)));
            let turned = basis.transposed().times(&factor).times(&basis);
            let keeps = StatePart::Eigenvalues(k).len(subject.tensors[0].layout()).is_some();
            let lambda = if keeps { subject.read(StatePart::Eigenvalues(k)) } else { turned.diagonal_values().collect() };
            let (sum, mut ratios) = (lambda.iter().sum::<f64>(), Vec::new());
            for i in 0..d {
                (0..d).filter(|&j| j != i).for_each(|j| ratios.push(turned[(i, j)].powi(2) / (turned[(i, i)] * turned[(j, j)])));
            }
            let (optimizer, scratch, linalg) = subject.view();
            let report = optimizer.mode_report(0, 0, k, scratch, linalg).unwrap();
            assert_near(report.lambda_min, lambda.iter().copied().fold(f64::INFINITY, f64::min), "lambda_min");
            assert_near(report.lambda_max, lambda.iter().copied().fold(0.0, f64::max), "lambda_max");
            let entropy: f64 = lambda.iter().map(|l| -(l / sum) * (l / sum).ln()).sum();
            assert_near(report.effective_rank, entropy.exp(), "effective rank");
            assert_near(report.staleness_mean, ratios.iter().sum::<f64>() / ratios.len() as f64, "mean staleness");
            assert_near(report.staleness_max, ratios.iter().copied().fold(0.0, f64::max), "largest staleness");
            assert!(report.orthogonality_error < 1e-13 && report.staleness_max > 1e-6, "{report:?}");
        }
    }
}

#[test]
fn equal_eigenvalues_have_full_effective_rank() {
    let mut subject = Subject::new(&Config { beta2: 0.0, ..Config::<f64>::kl_shampoo() }, &[4, 4], &[None, None]);
    let mut identity = vec![0.0; 16];
    identity.iter_mut().step_by(5).for_each(|x| *x = 3.0);
    subject.step(&mut [0.0; 16], &identity, 0.1);
    let (optimizer, scratch, linalg) = subject.view();
    assert_near(optimizer.mode_report(0, 0, 0, scratch, linalg).unwrap().effective_rank, 4.0, "effective rank");
}

#[test]
fn diagnostics_say_what_is_missing() {
    let mut subject = Subject::new(&Config::<f64>::soap_reference(), &[2, 3], &[None, Some(Mode::Diagonal)]);
    let grad = [1.0, 2.0, 3.0, 4.0, 5.0, 7.0];
    let kind = |subject: &mut Subject, grad: &[f64]| {
        let (optimizer, scratch, linalg) = subject.view();
        optimizer.objective(0, 0, grad, scratch, linalg).map_err(|error| error.kind)
    };
    assert_eq!(kind(&mut subject, &grad), Err(StepErrorKind::NotStarted));
    subject.step(&mut [0.0; 6], &grad, 0.1);
    // SOAP's first step sets factors and bases; there is no second moment yet.
    assert_eq!(kind(&mut subject, &grad), Err(StepErrorKind::NotStarted));
    subject.step(&mut [0.0; 6], &grad, 0.1);
    assert!(kind(&mut subject, &grad).is_ok());
    assert_eq!(kind(&mut subject, &grad[1..]), Err(StepErrorKind::BufferLength));
    let bad = [1.0, 2.0, 3.0, f64::NAN, 5.0, 7.0];
    assert_eq!(kind(&mut subject, &bad), Err(StepErrorKind::Slice(SliceError::Gradient(GradientFault::NotFinite))));
    let (optimizer, scratch, linalg) = subject.view();
    let report = |k| optimizer.mode_report(0, 0, k, &mut scratch.to_vec(), linalg).map_err(|error| error.kind);
    assert!([0, 1, 2].map(report).map(|result| result.err()) == [None, Some(StepErrorKind::NoSuchState), Some(StepErrorKind::NoSuchIndex)]);
    let short = &mut scratch[1..];
    assert_eq!(optimizer.objective(0, 0, &grad, short, linalg).unwrap_err().kind, StepErrorKind::ScratchTooShort);

    let mut sgd = Subject::new(&Config::<f64>::sgd(), &[2, 3], &[None, None]);
    sgd.step(&mut [0.0; 6], &grad, 0.1);
    assert_eq!(kind(&mut sgd, &grad), Err(StepErrorKind::NoSuchState));
}

#[test]
fn the_owner_has_the_same_diagnostics() {
    const SPEC: TensorSpec = match TensorSpec::new(&[2, 3]) {
        Ok(spec) => spec,
        Err(_) => panic!(),
    };
    let config = Config::<f64>::kl_shampoo();
    let mut owner = FixedOptimizer::<f64, Portable, 1, 1, 1, 64, 256>::new(Portable);
    owner.add_group(config).unwrap();
    owner.add_tensor(&SPEC).unwrap();
    let mut subject = Subject::new(&config, &[2, 3], &[None, None]);
    let grad = [1.0, 2.0, 3.0, 4.0, 5.0, 7.0];
    subject.step(&mut [0.0; 6], &grad, 0.1);
    owner.step_tensor(0, &mut [0.0; 6], &grad, 0.1).unwrap();
    let (optimizer, scratch, linalg) = subject.view();
    assert_eq!(owner.objective(0, 0, &grad), optimizer.objective(0, 0, &grad, scratch, linalg));
    assert_eq!(owner.mode_report(0, 0, 1), optimizer.mode_report(0, 0, 1, scratch, linalg));
}

fn similarity(grads: &[f64], rows: usize, cols: usize) -> klshampoo::Similarity<f64> {
    let count = grads.len() / rows / cols;
    let mut scratch = vec![f64::NAN; window_scratch_len(rows, cols, count).unwrap()];
    window_similarity(grads, rows, cols, count, &mut scratch, &mut Portable).unwrap()
}

fn normals(random: &mut Xorshift, rows: usize, cols: usize) -> Matrix {
    let data = (0..rows * cols).map(|_| random.normal()).collect();
    Matrix { rows, cols, data }
}

#[test]
fn cosines_are_those_of_dense_matrices() {
    let (m, n, count) = (3, 4, 8);
    let mut random = Xorshift::for_shape(&[m, n, count]);
    for scale in [1.0, 1e-40, 1e40] {
        let grads: Vec<f64> =
            (0..count).flat_map(|i| normals(&mut random, m, n).data.into_iter().map(move |x| x * scale * (1.0 + i as f64))).collect();
        let found = similarity(&grads, m, n);
        // Dense numbers near 1: the cosines do not depend on the scale.
        let gradients: Vec<Matrix> =
            grads.chunks(m * n).map(|g| Matrix { rows: m, cols: n, data: g.iter().map(|x| x / scale).collect() }).collect();
        let mean = |f: &dyn Fn(&Matrix) -> Matrix| {
            let terms: Vec<Matrix> = gradients.iter().map(f).collect();
            Matrix::from_fn(terms[0].rows, terms[0].cols, |i, j| terms.iter().map(|t| t[(i, j)]).sum::<f64>() / count as f64)
        };
        let h = mean(&|g| Matrix::from_fn(m * n, m * n, |i, j| g.data[i] * g.data[j]));
        let (l, r) = (mean(&|g| g.times(&g.transposed())), mean(&|g| g.transposed().times(g)));
        assert_near(found.shampoo_squared, cosine(&h, &kronecker(&l, &r)), "Shampoo squared");
        assert_near(found.shampoo, cosine(&h, &kronecker(&map(&l, f64::sqrt), &map(&r, f64::sqrt))), "Shampoo");

        let (mut kl_l, mut kl_r) = (l.clone(), Matrix::identity(n));
        for _ in 0..2000 {
            let inverse = map(&kl_l, |x| 1.0 / x);
            kl_r = mean(&|g| g.transposed().times(&inverse).times(g)).scaled(1.0 / m as f64);
            let inverse = map(&kl_r, |x| 1.0 / x);
            kl_l = mean(&|g| g.times(&inverse).times(&g.transposed())).scaled(1.0 / n as f64);
        }
        assert_near(found.kullback_leibler, cosine(&h, &kronecker(&kl_l, &kl_r)), "Kullback-Leibler");
        assert_eq!(found.raised, 0);

        // The best Kronecker product is the first singular pair of H rearranged, row by row, to m^2 x n^2.
        let rearranged = Matrix::from_fn(m * m, n * n, |a, b| h[(a / m * n + b / n, a % m * n + b % n)]);
        let (values, vectors) = rearranged.times(&rearranged.transposed()).eigen();
        assert_near(found.optimal, (values[0] / values.iter().sum::<f64>()).sqrt(), "optimal");
        let best_l = Matrix::from_fn(m, m, |i, j| vectors[(i * m + j, 0)]);
        assert!((found.left - cosine(&l, &best_l).abs()).abs() < 1e-6, "{} {}", found.left, cosine(&l, &best_l));
        let best_r = mean(&|g| g.transposed().times(&best_l).times(g));
        assert!((found.right - cosine(&r, &best_r).abs()).abs() < 1e-6, "{} {}", found.right, cosine(&r, &best_r));
    }
}

#[test]
fn nothing_is_more_similar_than_the_optimum() {
    for (m, n, count) in [(1, 1, 1), (1, 5, 3), (5, 1, 2), (3, 4, 1), (4, 7, 2), (6, 5, 40), (16, 3, 4)] {
        let mut random = Xorshift::for_shape(&[m, n, count]);
        let grads: Vec<f64> = (0..count).flat_map(|_| normals(&mut random, m, n).data).collect();
        let found = similarity(&grads, m, n);
        for other in [found.shampoo_squared, found.shampoo, found.kullback_leibler] {
            assert!(found.optimal >= other - 1e-12 && other > 0.0, "{m} x {n}, {count}: {found:?}");
        }
        assert!(found.optimal <= 1.0 + 1e-12 && found.left <= 1.0 + 1e-12 && found.right <= 1.0 + 1e-12, "{found:?}");
        // Fewer gradients of full rank than m/n + n/m have no likeliest Kronecker product (square ones aside).
        let (m, n) = (m as f64, n as f64);
        assert_eq!(found.raised > 0, m != n && (count as f64) < m / n + n / m, "{m} x {n}, {count}: {found:?}");
    }
}

/// All sign patterns of `A diag(e) B^T` make `E[G G^T] = A A^T`, and all patterns of a full coefficient matrix make `H = A A^T (x) B B^T`.
#[test]
fn shampoo_squared_is_exact_where_the_second_moment_is_a_kronecker_product() {
    let (m, n) = (2, 3);
    let mut random = Xorshift::for_shape(&[m, n]);
    let (a, b) = (normals(&mut random, m, m), normals(&mut random, n, n));
    let grads: Vec<f64> = (0..1 << (m * n))
        .flat_map(|signs| {
            let e = Matrix::from_fn(m, n, |i, j| if signs >> (i * n + j) & 1 == 0 { 1.0 } else { -1.0 });
            a.times(&e).times(&b.transposed()).data
        })
        .collect();
    let found = similarity(&grads, m, n);
    assert_near(found.shampoo_squared, 1.0, "Shampoo squared");
    assert_near(found.kullback_leibler, 1.0, "Kullback-Leibler");
    assert_near(found.optimal, 1.0, "optimal");
    assert!(found.shampoo < 0.999, "{found:?}");
}

#[test]
fn single_precision_agrees() {
    let (m, n, count) = (12, 20, 16);
    let mut random = Xorshift::for_shape(&[m, n, count]);
    let grads: Vec<f64> = (0..count).flat_map(|_| normals(&mut random, m, n).data).map(|x| 1e-12 * x).collect();
    let wanted = similarity(&grads, m, n);
    let single: Vec<f32> = grads.iter().map(|&x| x as f32).collect();
    let mut scratch = vec![0.0; window_scratch_len(m, n, count).unwrap()];
    let found = window_similarity(&single, m, n, count, &mut scratch, &mut Portable).unwrap();
    for (found, wanted) in [
        (found.shampoo_squared, wanted.shampoo_squared),
        (found.shampoo, wanted.shampoo),
        (found.kullback_leibler, wanted.kullback_leibler),
        (found.optimal, wanted.optimal),
        (found.left, wanted.left),
        (found.right, wanted.right),
    ] {
        assert!((f64::from(found) - wanted).abs() < 1e-4, "{found} {wanted}");
    }
}

#[test]
fn windows_are_checked() {
    let mut scratch = vec![0.0; 256];
    let mut error =
        |grads: &[f64], m, n, count, room: usize| window_similarity(grads, m, n, count, &mut scratch[..room], &mut Portable).unwrap_err();
    assert_eq!(error(&[], 0, 2, 1, 256), WindowError::ZeroDim);
    assert_eq!(error(&[1.0; 4], 2, 2, 0, 256), WindowError::ZeroDim);
    assert_eq!(error(&[1.0; 7], 2, 2, 2, 256), WindowError::Length);
    assert_eq!(error(&[1.0; 8], usize::MAX, 2, 2, 256), WindowError::Overflow);
    assert_eq!(error(&[1.0; 8], 2, 2, 2, window_scratch_len(2, 2, 2).unwrap() - 1), WindowError::ScratchTooShort);
    assert_eq!(error(&[0.0; 8], 2, 2, 2, 256), WindowError::Zero);
    assert_eq!(error(&[f64::INFINITY; 8], 2, 2, 2, 256), WindowError::NotFinite);
    assert_eq!(window_scratch_len(usize::MAX, 1, 1), None);
}
