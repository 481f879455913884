//! A backend that counts, for tests of predicted costs.

use klshampoo::linalg::{LinAlg, LinAlgError, MatMut, MatRef, Portable};

use crate::harness::{Make, Number};

/// Counts floating-point operations: products exactly, factorisations by the textbooks' leading terms.
#[derive(Debug)]
pub struct CountingBackend {
    /// So far.
    pub flops: u64,
}

impl Make for CountingBackend {
    fn make() -> Self {
        Self { flops: 0 }
    }
}

impl<T: Number> LinAlg<T> for CountingBackend {
    fn matmul(&mut self, c: MatMut<'_, T>, accumulate: bool, a: MatRef<'_, T>, b: MatRef<'_, T>) -> Result<(), LinAlgError> {
        self.flops += 2 * (a.rows() * a.cols() * b.cols()) as u64;
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
        self.flops += (a.rows() * (a.rows() + 1) * a.cols()) as u64;
        Portable.matmul_lower(c, accumulate, alpha, a, b)
    }

    fn qr(&mut self, a: MatMut<'_, T>, q: MatMut<'_, T>, work: &mut [T]) -> Result<(), LinAlgError> {
        self.flops += 8 * (a.rows() as u64).pow(3) / 3;
        Portable.qr(a, q, work)
    }

    fn cholesky(&mut self, a: MatMut<'_, T>) -> Result<(), LinAlgError> {
        self.flops += (a.rows() as u64).pow(3) / 3;
        Portable.cholesky(a)
    }

    fn solve_lower(&mut self, x: MatMut<'_, T>, l: MatRef<'_, T>) -> Result<(), LinAlgError> {
        self.flops += (x.rows() * l.rows() * l.rows()) as u64;
        Portable.solve_lower(x, l)
    }

    fn eigh(&mut self, a: MatMut<'_, T>, q: MatMut<'_, T>, values: &mut [T], work: &mut [T]) -> Result<(), LinAlgError> {
        self.flops += 9 * (a.rows() as u64).pow(3);
        Portable.eigh(a, q, values, work)
    }
}
