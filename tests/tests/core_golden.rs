//! The core passes the golden trajectories in both precisions. A further backend is one more line.

use klshampoo::linalg::{LinAlg, LinAlgError, MatMut, MatRef, Portable};
use klshampoo_ffi::host::Faer;
use klshampoo_tests::harness::{Core, Number};

/// faer with scratch for the largest mode of the golden cases.
struct HostFaer(Faer);

impl Default for HostFaer {
    fn default() -> Self {
        Self(Faer::sized_for::<f64>(96).expect("a little memory"))
    }
}

impl<T: Number> LinAlg<T> for HostFaer
where
    Faer: LinAlg<T>,
{
    fn matmul(&mut self, c: MatMut<'_, T>, accumulate: bool, a: MatRef<'_, T>, b: MatRef<'_, T>) -> Result<(), LinAlgError> {
        self.0.matmul(c, accumulate, a, b)
    }

    fn matmul_lower(
        &mut self,
        c: MatMut<'_, T>,
        accumulate: bool,
        alpha: T,
        a: MatRef<'_, T>,
        b: MatRef<'_, T>,
    ) -> Result<(), LinAlgError> {
        self.0.matmul_lower(c, accumulate, alpha, a, b)
    }

    fn qr(&mut self, a: MatMut<'_, T>, q: MatMut<'_, T>, work: &mut [T]) -> Result<(), LinAlgError> {
        self.0.qr(a, q, work)
    }

    fn eigh(&mut self, a: MatMut<'_, T>, q: MatMut<'_, T>, values: &mut [T], work: &mut [T]) -> Result<(), LinAlgError> {
        self.0.eigh(a, q, values, work)
    }
}

macro_rules! golden {
    ($($module:ident: $t:ty, $linalg:ty;)*) => {$(
        mod $module {
            use super::*;

            klshampoo_tests::golden_tests!($t, Core<$t, $linalg>);
        }
    )*};
}

golden! {
    portable_f32: f32, Portable;
    portable_f64: f64, Portable;
    faer_f32: f32, HostFaer;
    faer_f64: f64, HostFaer;
}
