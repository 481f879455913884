//! Elementwise passes give the same bits at every SIMD level of the machine and in the portable backend.

use klshampoo::Scalar;
use klshampoo::linalg::{LinAlg, LinAlgError, MatMut, MatRef, Portable};
use klshampoo_ffi::host::Faer;
use klshampoo_tests::cases::Gradients;
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
    fn matmul(&mut self, c: MatMut<'_, T>, accumulate: bool, a: MatRef<'_, T>, b: MatRef<'_, T>) -> Result<(), LinAlgError> {
        Portable.matmul(c, accumulate, a, b)
    }

    fn matmul_lower(
        &mut self,
        c: MatMut<'_, T>,
        accumulate: bool,
        alpha: T,
        a: MatRef<'_, T>,
        b: MatRef<'_, T>,
    ) -> Result<(), LinAlgError> {
        Portable.matmul_lower(c, accumulate, alpha, a, b)
    }

    fn qr(&mut self, a: MatMut<'_, T>, q: MatMut<'_, T>, work: &mut [T]) -> Result<(), LinAlgError> {
        Portable.qr(a, q, work)
    }

    fn cholesky(&mut self, a: MatMut<'_, T>) -> Result<(), LinAlgError> {
        Portable.cholesky(a)
    }

    fn solve_lower(&mut self, x: MatMut<'_, T>, l: MatRef<'_, T>) -> Result<(), LinAlgError> {
        Portable.solve_lower(x, l)
    }

    fn eigh(&mut self, a: MatMut<'_, T>, q: MatMut<'_, T>, values: &mut [T], work: &mut [T]) -> Result<(), LinAlgError> {
        Portable.eigh(a, q, values, work)
    }

    #[inline(always)]
    fn vectorise<R>(&self, pass: impl FnOnce(&Self) -> R) -> R {
        LinAlg::<T>::vectorise(&self.0, |_| pass(self))
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
