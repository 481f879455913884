//! The crate's own linear algebra: plain safe Rust that vectorises, with the same result bits on every target.
//!
//! Every sum has one fixed order and there is no fused multiply-add, so neither tile sizes nor vector widths show in a result.

mod cholesky;
mod eigh;
mod householder;
mod product;
mod ql;
mod qr;
mod square;
mod tile;
mod tridiagonal;
mod unpacked;
mod vector;

pub(crate) use product::matmul;
pub(crate) use qr::Reflections;

use super::{LinAlg, LinAlgError, MatMut, MatRef};
use crate::Scalar;

/// Whether the processor computes with vectors. Where it does not, loops that keep lanes apart for them, or go through several rows at a
/// time, would only be longer: each has a plain form with the same bits.
pub(crate) const VECTORS: bool = cfg!(target_pointer_width = "64") || cfg!(target_feature = "simd128");

/// The backend that needs nothing: no heap, no state, no `std`.
///
/// Its [`qr`](LinAlg::qr) and [`eigh`](LinAlg::eigh) want one of the two strides of each matrix to be 1.
#[derive(Clone, Copy, Debug, Default)]
pub struct Portable;

impl<T: Scalar> LinAlg<T> for Portable {
    const VERIFIED: bool = true;

    fn matmul(&mut self, c: MatMut<'_, T>, accumulate: bool, a: MatRef<'_, T>, b: MatRef<'_, T>) -> Result<(), LinAlgError> {
        product::matmul(c, accumulate, a, b);
        Ok(())
    }

    fn matmul_lower(
        &mut self,
        c: MatMut<'_, T>,
        accumulate: bool,
        alpha: T,
        a: MatRef<'_, T>,
        b: MatRef<'_, T>,
    ) -> Result<(), LinAlgError> {
        product::matmul_lower(c, accumulate, alpha, a, b);
        Ok(())
    }

    fn qr(&mut self, a: MatMut<'_, T>, q: MatMut<'_, T>, work: &mut [T]) -> Result<(), LinAlgError> {
        qr::qr(a, q, work)
    }

    fn cholesky(&mut self, a: MatMut<'_, T>) -> Result<(), LinAlgError> {
        cholesky::cholesky(a)
    }

    fn solve_lower(&mut self, x: MatMut<'_, T>, l: MatRef<'_, T>) -> Result<(), LinAlgError> {
        cholesky::solve_lower(x, l);
        Ok(())
    }

    fn eigh(&mut self, a: MatMut<'_, T>, q: MatMut<'_, T>, values: &mut [T], work: &mut [T]) -> Result<(), LinAlgError> {
        eigh::eigh(a, q, values, work)
    }
}
