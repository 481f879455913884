//! The calls of the backends, faer beside the portable one, on one thread; and what a refresh costs, predicted and measured:
//!
//! ```text
//! cargo bench -p klshampoo-ffi --bench linalg
//! cargo bench -p klshampoo-ffi --bench linalg -- 'cholesky/faer'
//! ```
//!
//! The elements of the throughput are floating-point operations, so that Gelem/s are GFLOP/s.

mod common;

use std::hint::black_box;
use std::time::{Duration, Instant};

use common::{Spec, Stepper};
use criterion::{Criterion, Throughput};
use klshampoo::linalg::{LinAlg, LinAlgError, MatMut, MatRef, Portable, work_len};
use klshampoo_bench::{Group, cells, criterion, noise};
use klshampoo_ffi::host::Faer;
use klshampoo_ffi::{KLS_METHOD_KL_SHAMPOO, KLS_REFRESH_HOUSEHOLDER_QR, KLS_REFRESH_QR};

const SIZES: [usize; 7] = [16, 32, 64, 128, 256, 512, 768];

/// Of faer's products and Cholesky decompositions only.
const LARGEST: usize = 2048;

/// A call of [`LinAlg`] on `d x d` matrices that lie as the step has them.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Call {
    Matmul,
    MatmulLower,
    Qr,
    Cholesky,
    SolveLower,
    Eigh,
}

impl Call {
    const ALL: [Self; 6] = [Self::Matmul, Self::MatmulLower, Self::Qr, Self::Cholesky, Self::SolveLower, Self::Eigh];

    const fn name(self) -> &'static str {
        match self {
            Self::Matmul => "matmul",
            Self::MatmulLower => "matmul_lower",
            Self::Qr => "qr",
            Self::Cholesky => "cholesky",
            Self::SolveLower => "solve_lower",
            Self::Eigh => "eigh",
        }
    }

    /// As [`klshampoo::Cost`] counts them.
    const fn flops(self, d: u64) -> u64 {
        let cube = d * d * d;
        match self {
            Self::Matmul => 2 * cube,
            Self::MatmulLower => cube + d * d,
            Self::Qr => 8 * cube / 3,
            Self::Cholesky => cube / 3,
            Self::SolveLower => cube,
            Self::Eigh => 9 * cube,
        }
    }

    /// Whether its input is gone afterwards.
    const fn destroys(self) -> bool {
        !matches!(self, Self::Matmul | Self::MatmulLower)
    }

    const fn is_timed_at_the_largest(self) -> bool {
        matches!(self, Self::Matmul | Self::MatmulLower | Self::Cholesky)
    }
}

/// Elements of the copies of an input that are timed in one go: much less than a cache of the second level.
const COPIES: usize = 1 << 15;

/// The operands of a call.
struct Operands {
    d: usize,
    input: Vec<f32>,
    copies: Vec<Vec<f32>>,
    second: Vec<f32>,
    output: Vec<f32>,
    values: Vec<f32>,
    work: Vec<f32>,
}

impl Operands {
    fn new(call: Call, d: usize) -> Self {
        // A heavy diagonal makes a positive definite matrix (its lower triangle is looked at), and a triangle that is solved with
        // accurately.
        let heavy = |mut matrix: Vec<f32>| {
            matrix.iter_mut().step_by(d + 1).for_each(|x| *x += (4 * d) as f32);
            matrix
        };
        let input = noise(1, d * d, 1.0);
        let input = if call == Call::Cholesky { heavy(input) } else { input };
        let copies = if call.destroys() { (COPIES / (d * d)).max(1) } else { 1 };
        Self {
            d,
            copies: vec![input.clone(); copies],
            input,
            second: heavy(noise(2, d * d, 1.0)),
            output: vec![0.0; d * d],
            values: vec![0.0; d],
            work: vec![0.0; work_len(d)],
        }
    }

    /// Calls with copy number `at`.
    fn call(&mut self, call: Call, linalg: &mut impl LinAlg<f32>, at: usize) -> Result<(), LinAlgError> {
        let Self { d, copies, second, output, values, work, .. } = self;
        let (d, a) = (*d, &mut *copies[at]);
        match call {
            Call::Matmul => {
                linalg.matmul(MatMut::row_major(output, d, d), false, MatRef::row_major(a, d, d), MatRef::row_major(second, d, d))
            }
            Call::MatmulLower => {
                let a = MatRef::row_major(a, d, d);
                linalg.matmul_lower(MatMut::row_major(output, d, d), false, 1.0, a, a.t())
            }
            Call::Qr => linalg.qr(MatMut::row_major(a, d, d), MatMut::row_major(output, d, d), work),
            Call::Cholesky => linalg.cholesky(MatMut::row_major(a, d, d).t()),
            Call::SolveLower => linalg.solve_lower(MatMut::row_major(a, d, d).t(), MatRef::row_major(second, d, d).t()),
            Call::Eigh => linalg.eigh(MatMut::row_major(a, d, d), MatMut::row_major(output, d, d), values, work),
        }
    }

    /// The time of some calls, without that of making their inputs.
    fn time(&mut self, call: Call, linalg: &mut impl LinAlg<f32>, calls: u64) -> Duration {
        let (mut left, mut time) = (calls, Duration::ZERO);
        while left > 0 {
            let count = left.min(if call.destroys() { self.copies.len() as u64 } else { left });
            if call.destroys() {
                self.copies.iter_mut().for_each(|copy| copy.copy_from_slice(&self.input));
            }
            let begin = Instant::now();
            for i in 0..count {
                let at = i as usize % self.copies.len();
                black_box(&mut *self).call(call, linalg, at).expect("the call succeeds");
            }
            time += begin.elapsed();
            left -= count;
        }
        time
    }
}

fn calls(criterion: &mut Criterion, call: Call) {
    let mut group = Group::new(criterion, call.name().into(), 1);
    let work = |d: usize| Throughput::Elements(call.flops(d as u64));
    // Each time on a thread of its own, so that neither side finds the vector registers as the other one left them.
    let on_a_thread = |(linalg, operands): &mut (Faer, Operands), calls| {
        let run = || {
            // The thread's first product allocates.
            operands.time(call, linalg, 1);
            operands.time(call, linalg, calls)
        };
        std::thread::scope(|scope| scope.spawn(run).join()).expect("the calls succeed")
    };
    for d in SIZES.into_iter().chain(call.is_timed_at_the_largest().then_some(LARGEST)) {
        let make = || (Faer::new(d).expect("there is memory for the scratch"), Operands::new(call, d));
        group.bench(&format!("faer/{d}"), work(d), make, on_a_thread);
        if d != LARGEST {
            let run = |operands: &mut Operands, calls| operands.time(call, &mut Portable, calls);
            group.bench(&format!("portable/{d}"), work(d), || Operands::new(call, d), run);
        }
    }
    group.finish("one thread");
}

/// The refreshes of KL-Shampoo, one QR step.
const REFRESHES: [(&str, i32); 2] = [("Cholesky", KLS_REFRESH_QR), ("Householder", KLS_REFRESH_HOUSEHOLDER_QR)];

/// Steps of one matrix of which every second one refreshes both bases, beside steps without: the difference is the refresh.
fn refreshes(criterion: &mut Criterion) {
    let mut group = Group::new(criterion, "step with refresh".into(), 1);
    let name = |refresh: &str, d: usize| format!("{refresh}/{d}");
    for d in SIZES {
        let dims = [d, d];
        let spec = |period| Spec::new(vec![&dims], 1, KLS_METHOD_KL_SHAMPOO, period);
        let plain = spec(None);
        let run = |stepper: &mut Stepper, iterations| stepper.time(iterations);
        let stepper = group.bench(&name("none", d), Throughput::Elements(plain.flops(3..=3)), || Stepper::new(&plain, 2), run);
        let refreshing = REFRESHES.map(|(refresh, number)| {
            let mut spec = spec(Some(2));
            spec.config.refresh = number;
            let run = |stepper: &mut Stepper, iterations| {
                let one = |_| {
                    stepper.time(1);
                    stepper.time(1)
                };
                (0..iterations).map(one).sum()
            };
            group.bench(&name(refresh, d), Throughput::Elements(spec.flops(4..=4)), || Stepper::new(&spec, 2), run)
        });
        [stepper].into_iter().chain(refreshing).flatten().for_each(Stepper::finish);
    }
    let Some((rate, measured)) = group.finish("one matrix, one thread") else { return };
    let find = |refresh: &str, d| measured.iter().find(|one| one.name == name(refresh, d));
    let mut rows = Vec::new();
    for (d, (refresh, _)) in SIZES.into_iter().flat_map(|d| REFRESHES.map(|refresh| (d, refresh))) {
        let (Some(plain), Some(with)) = (find("none", d), find(refresh, d)) else { continue };
        let (flops, seconds) = ((with.flops - plain.flops) as f64, with.seconds - plain.seconds);
        rows.push([
            format!("{d}x{d}"),
            refresh.into(),
            format!("{:.3}", flops * 1e-6),
            format!("{:.3}", seconds * 1e3),
            format!("{:.1}", flops / seconds * 1e-9),
            format!("{:.2}", flops / seconds / rate),
            format!("{:.2}", flops / plain.flops as f64),
            format!("{:.2}", seconds / plain.seconds),
        ]);
    }
    let titles =
        ["matrix", "refresh", "predicted Mflop", "measured ms", "GFLOP/s", "of product rate", "predicted / plain", "measured / plain"];
    println!("A refresh of both bases, as the difference of two steps, and over a step without one:\n{}\n", cells(titles, rows));
}

fn main() {
    let mut criterion = criterion();
    for call in Call::ALL {
        calls(&mut criterion, call);
    }
    // Last: its threads leave nothing behind for the others.
    refreshes(&mut criterion);
    criterion.final_summary();
}
