//! Elementwise passes give the same bits at every SIMD level of the machine and in the portable backend.

use klshampoo::Scalar;
use klshampoo::linalg::{LinAlg, LinAlgError, MatMut, MatRef, Pass, Portable};
use klshampoo_ffi::host::Faer;
use klshampoo_tests::cases::Gradients;
use klshampoo_tests::forward;
use klshampoo_tests::harness::{Core, Driver, Make, Number, converted, methods};

/// The portable products and factorisations with the passes of a host's backend.
struct Passes(Faer);

impl Make for Passes {
    fn make() -> Self {
        Self(Faer::make())
    }
}

impl<T: Scalar> LinAlg<T> for Passes
where
    Faer: LinAlg<T>,
{
    forward!(T, self => Portable; matmul matmul_lower qr cholesky solve_lower eigh);

    #[inline(always)]
    fn vectorise<P: Pass<Self>>(&self, pass: P) -> P::Output {
        self.0.vectorise_with(self, pass)
    }

    #[inline(always)]
    fn sqrt(&self, x: T) -> T {
        self.0.sqrt(x)
    }
}

/// The bits of the parameter and the state after a run.
fn run<T: Number, L: LinAlg<T> + Make>(config: &klshampoo::Config<T>, dims: &[usize], linalg: L) -> Vec<u64> {
    let problem = Gradients::LowRankDrift.make(dims, 12);
    let mut core = Core::<T, L>::new(config, dims, &vec![None; dims.len()]);
    core.linalg = linalg;
    let mut param: Vec<T> = converted(&problem.p0);
    for grad in &problem.grads {
        core.step(&mut param, &converted::<T>(grad), T::from_f64(0.01));
    }
    param.iter().chain(&core.state).map(|x| x.to_f64().to_bits()).collect()
}

fn every_level_agrees<T: Number>()
where
    Faer: LinAlg<T>,
{
    let levels = Faer::simd_levels();
    for (name, config) in methods::<T>() {
        for dims in [&[5, 37][..], &[16, 16], &[3, 4, 19], &[70]] {
            let portable = run(&config, dims, Portable);
            for &level in &levels {
                assert!(run(&config, dims, Passes(Faer::make().with_simd(level))) == portable, "{name}, {dims:?}, {level:?}");
            }
        }
    }
}

#[test]
fn every_level_agrees_in_f32() {
    every_level_agrees::<f32>();
}

#[test]
fn every_level_agrees_in_f64() {
    every_level_agrees::<f64>();
}
