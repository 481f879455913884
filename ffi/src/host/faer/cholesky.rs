//! The Cholesky factorisation and its triangular solve by faer's kernels.

use ::faer::dyn_stack::{MemStack, StackReq};
use ::faer::linalg::cholesky::llt::factor::{LltError, LltParams, cholesky_in_place, cholesky_in_place_scratch};
use ::faer::linalg::triangular_solve::solve_lower_triangular_in_place;
use ::faer::traits::RealField;
use ::faer::{Auto, Par, Spec};
use klshampoo::Scalar;
use klshampoo::linalg::{LinAlg, LinAlgError, MatMut, MatRef, Portable};

use super::product::{view, view_mut};

/// Scratch of [`cholesky`].
pub(super) fn scratch<T: RealField>(d: usize) -> StackReq {
    cholesky_in_place_scratch::<T>(d, Par::Seq, parameters::<T>())
}

fn parameters<T: RealField>() -> Spec<LltParams, T> {
    Spec::new(<_ as Auto<T>>::auto())
}

/// See [`LinAlg::cholesky`].
pub(super) fn cholesky<T: Scalar + RealField>(mut a: MatMut<'_, T>, stack: &mut MemStack) -> Result<(), LinAlgError> {
    let d = a.rows();
    match view_mut(&mut a) {
        Some(mut l) if stack.can_hold(scratch::<T>(d)) => {
            let result = cholesky_in_place(l.as_mut(), Default::default(), Par::Seq, stack, parameters::<T>());
            // It leaves numbers of its own there.
            for j in 1..d {
                l.as_mut().col_mut(j).subrows_mut(0, j).fill(T::ZERO);
            }
            result.map(|_| ()).map_err(|LltError::NonPositivePivot { .. }| LinAlgError::NotPositive)
        }
        _ => Portable.cholesky(a),
    }
}

/// See [`LinAlg::solve_lower`].
pub(super) fn solve_lower<T: Scalar + RealField>(mut x: MatMut<'_, T>, l: MatRef<'_, T>) -> Result<(), LinAlgError> {
    match (view_mut(&mut x), view(l)) {
        (Some(x), Some(l)) => {
            solve_lower_triangular_in_place(l, x.transpose_mut(), Par::Seq);
            Ok(())
        }
        _ => Portable.solve_lower(x, l),
    }
}
