//! The refresh: one QR step of the orthogonal iteration, in the resident basis (ALGORITHMS section 2).

use crate::Scalar;
use crate::linalg::{LinAlg, LinAlgError, MatMut, MatRef};
use crate::packed;
use crate::shape::Shape;
use crate::step::SliceStep;
use crate::unfold::{Rotate, mode_product};

/// Every so many refreshes the basis takes one Newton-Schulz step back to orthogonality. In `f32` the product `Q Qhat` drifts by about
/// 1e-6 over hundreds of refreshes; a polish costs about as much as the refresh itself, so 1/32 of it is not felt.
const POLISH_PERIOD: u64 = 32;

impl<T: Scalar, L: LinAlg<T>> SliceStep<'_, T, L> {
    /// Refreshes mode `k` in scratch: the new `S~_k` in `scratch.delta[k]` (lower triangle), the new `Q_k` in `scratch.basis[k]`, the
    /// momentum in `scratch.gradient` rotated along. On entry `scratch.delta[k]` holds `Delta~_k`.
    ///
    /// Returns `false`, with the averaged factor in `scratch.delta[k]` and everything else as it was, when linear algebra failed.
    pub(crate) fn refresh_mode(&mut self, k: usize) -> bool {
        let (d, scratch) = (self.layout.shape().dim(k), &mut self.scratch);
        packed::average_into_square(self.state.factor[k], scratch.delta[k], d, self.config.beta2);
        // The last product overwrites the lower triangle; the upper one and this copy of the diagonal bring the factor back if it
        // fails. The weights are not in use between the estimate and the direction.
        let saved_diagonal = &mut *scratch.weight[k];
        for (saved, &x) in saved_diagonal.iter_mut().zip(scratch.delta[k].iter().step_by(d + 1)) {
            *saved = x;
        }
        let buffers = Buffers {
            factor: scratch.delta[k],
            basis: scratch.basis[k],
            momentum: scratch.gradient,
            rotated_momentum: scratch.product,
            rotation: &mut scratch.rotation[..d * d],
            square: &mut scratch.square[..d * d],
            work: scratch.work,
        };
        let period = u64::from(self.config.refresh_period);
        let polish = (self.header.step / period).is_multiple_of(POLISH_PERIOD);
        match rotate_by_qr(self.linalg, self.layout.shape(), k, polish, self.state.basis[k], buffers) {
            Ok(()) => {
                core::mem::swap(&mut scratch.gradient, &mut scratch.product);
                true
            }
            Err(_) => {
                packed::mirror_down(scratch.delta[k], d);
                for (i, &x) in saved_diagonal.iter().enumerate() {
                    scratch.delta[k][i * d + i] = x;
                }
                false
            }
        }
    }
}

/// The buffers of one mode's refresh.
struct Buffers<'a, T> {
    /// In: `S~`, both triangles. Out: the lower triangle of `Qhat^T S~ Qhat`.
    factor: &'a mut [T],
    /// Out: `Q Qhat`.
    basis: &'a mut [T],
    /// In: `M~`.
    momentum: &'a [T],
    /// Out: `M~ x_k Qhat^T`.
    rotated_momentum: &'a mut [T],
    rotation: &'a mut [T],
    square: &'a mut [T],
    work: &'a mut [T],
}

/// `S~ = Qhat R; Q <- Q Qhat; M~ <- M~ x_k Qhat^T; S~ <- Qhat^T S~ Qhat`; the factor is overwritten last.
fn rotate_by_qr<T: Scalar, L: LinAlg<T>>(
    linalg: &mut L,
    shape: &Shape,
    k: usize,
    polish: bool,
    old_basis: &[T],
    b: Buffers<'_, T>,
) -> Result<(), LinAlgError> {
    let d = shape.dim(k);
    b.square.copy_from_slice(b.factor);
    linalg.qr(MatMut::row_major(b.square, d, d), MatMut::row_major(b.rotation, d, d), b.work)?;
    let rotation = MatRef::row_major(b.rotation, d, d);

    linalg.matmul(MatMut::row_major(b.basis, d, d), false, MatRef::row_major(old_basis, d, d), rotation)?;
    mode_product(linalg, shape, k, b.rotation, Rotate::Into, b.momentum, b.rotated_momentum)?;
    linalg.matmul(MatMut::row_major(b.square, d, d), false, MatRef::row_major(b.factor, d, d), rotation)?;
    linalg.matmul_lower(MatMut::row_major(b.factor, d, d), false, T::ONE, rotation.t(), MatRef::row_major(b.square, d, d))?;
    if polish {
        // A failed polish leaves a basis that is as good as before it, so it is no failure of the refresh. The rotation is not needed
        // any more and receives the polished basis.
        if polished(linalg, d, b.basis, b.square, b.rotation).is_ok() {
            b.basis.copy_from_slice(b.rotation);
        }
    }
    Ok(())
}

/// One Newton-Schulz step towards the nearest orthogonal matrix: `out = Q (3 I - Q^T Q) / 2`.
fn polished<T: Scalar, L: LinAlg<T>>(linalg: &mut L, d: usize, basis: &[T], square: &mut [T], out: &mut [T]) -> Result<(), LinAlgError> {
    let q = MatRef::row_major(basis, d, d);
    linalg.matmul_lower(MatMut::row_major(square, d, d), false, T::ONE, q.t(), q)?;
    packed::mirror_up(square, d);
    let half = T::exp2i(-1);
    for (i, row) in square.chunks_exact_mut(d).enumerate() {
        for x in row.iter_mut() {
            *x = -half * *x;
        }
        row[i] += T::ONE + half;
    }
    linalg.matmul(MatMut::row_major(out, d, d), false, q, MatRef::row_major(square, d, d))
}
