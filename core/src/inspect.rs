//! Reading a slice's state in the caller's coordinates, and setting its eigenbasis from outside.

use crate::format::Rounder;
use crate::linalg::{LinAlg, LinAlgError, MatMut, MatRef};
use crate::magnitude::{factor_is_in_range, turned_is_in_range};
use crate::optimizer::Optimizer;
use crate::report::{StepError, StepErrorKind};
use crate::resident::round_basis;
use crate::step::SliceError;
use crate::unfold::{Precision, Rotate, Start, mode_product, rotate};
use crate::{Layout, Scalar, SliceHeader, eigenvectors, packed, portions};

/// A part of a slice's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatePart {
    /// `S_k` in parameter coordinates, d x d row-major.
    Factor(usize),
    /// `Q_k`, d x d row-major, columns are eigenvectors.
    Basis(usize),
    /// `lambda_k`, d numbers.
    Eigenvalues(usize),
    /// The momentum in parameter coordinates, N numbers.
    Momentum,
    /// The second moment `D` in the coordinates that the direction uses, N numbers.
    SecondMoment,
    /// The grafted method's second moment `v` in parameter coordinates, N numbers.
    GraftMoment,
    /// The native copy of a parameter of 16 bits, N numbers; zeros before the first step.
    Master,
}

impl StatePart {
    /// How many numbers a slice of this layout has of it; `None` if it has none.
    pub fn len(self, layout: &Layout) -> Option<usize> {
        let shape = layout.shape();
        let mode = |k: usize| (k < shape.order()).then_some(k);
        match self {
            Self::Factor(k) | Self::Basis(k) => mode(k).filter(|&k| shape.is_full(k)).map(|k| shape.dim(k) * shape.dim(k)),
            Self::Eigenvalues(k) => mode(k).filter(|&k| layout.has_lambda(k)).map(|k| shape.dim(k)),
            Self::Momentum => layout.parts().momentum.then_some(shape.elements()),
            Self::SecondMoment => layout.parts().second_moment.then_some(shape.elements()),
            Self::Master => layout.parts().master.then_some(shape.elements()),
            Self::GraftMoment => layout.parts().graft_moment.then_some(shape.elements()),
        }
    }
}

/// Where slices are cut into pieces ([`crate::Tensor::pieces`]), `slice` counts these: `slice * pieces + piece`.
impl<T: Scalar> Optimizer<'_, T> {
    /// A slice's counters.
    ///
    /// # Errors
    /// [`StepErrorKind::NoSuchIndex`].
    pub fn header(&self, tensor: usize, slice: usize) -> Result<&SliceHeader, StepError> {
        self.slice(tensor, slice).map(|(_, header, _)| header)
    }

    /// How many elements a slice has of a part of the state.
    ///
    /// # Errors
    /// [`StepErrorKind::NoSuchIndex`], [`StepErrorKind::NoSuchState`].
    pub fn part_len(&self, tensor: usize, slice: usize, part: StatePart) -> Result<usize, StepError> {
        let (layout, _, _) = self.slice(tensor, slice)?;
        part.len(&layout).ok_or(StepError { tensor, slice, kind: StepErrorKind::NoSuchState })
    }

    /// Copies a part of a slice's state into `out`, which has exactly [`Self::part_len`] elements. Before the first non-zero gradient
    /// everything is zero.
    ///
    /// # Errors
    /// [`StepError`]; `out` then holds unspecified values.
    pub fn read<L: LinAlg<T>>(
        &self,
        tensor: usize,
        slice: usize,
        part: StatePart,
        out: &mut [T],
        scratch: &mut [T],
        linalg: &mut L,
    ) -> Result<(), StepError> {
        let fail = |kind| StepError { tensor, slice, kind };
        let (layout, header, state) = self.slice(tensor, slice)?;
        let layout = &layout;
        let len = part.len(layout).ok_or(fail(StepErrorKind::NoSuchState))?;
        if out.len() != len {
            return Err(fail(StepErrorKind::BufferLength));
        }
        if scratch.len() < layout.scratch_len() {
            return Err(fail(StepErrorKind::ScratchTooShort));
        }
        let regions = layout.regions();
        let mut scratch = layout.split_scratch(scratch);
        let linalg_error = |error: LinAlgError| fail(StepErrorKind::Slice(SliceError::LinAlg(error)));
        let turned = layout.shape().is_turned() && header.started != 0;
        match part {
            StatePart::Basis(k) => out.copy_from_slice(layout.basis(state, k).dense(scratch.basis[k])),
            StatePart::Eigenvalues(k) => out.copy_from_slice(&state[regions.lambda[k].clone()]),
            StatePart::SecondMoment => out.copy_from_slice(&state[regions.second_moment]),
            StatePart::Master => out.copy_from_slice(&state[regions.master]),
            StatePart::GraftMoment => out.copy_from_slice(&state[regions.graft_moment]),
            StatePart::Momentum if turned => {
                let bases = layout.dense_bases(state, &mut scratch.basis);
                let momentum = Start::External(&state[regions.momentum]);
                rotate(linalg, Precision::Full, layout.shape(), bases, Rotate::OutOf, momentum, [out, scratch.product])
                    .map_err(linalg_error)?;
            }
            StatePart::Momentum => out.copy_from_slice(&state[regions.momentum]),
            StatePart::Factor(k) => {
                let d = layout.shape().dim(k);
                let kept = (layout.factor(state, k), &state[regions.pending]);
                portions::unpack_factor(layout, k, kept, out, scratch.square, scratch.work);
                conjugate(linalg, d, layout.basis(state, k).dense(scratch.basis[k]), out, scratch.square).map_err(linalg_error)?;
                packed::mirror_up(out, d);
            }
        }
        Ok(())
    }

    /// Replaces `Q_k` of a slice by `basis` (d x d row-major, columns are eigenvectors) and transforms factor and momentum with it.
    ///
    /// A second moment per element cannot be transformed: it stays, which is right for a basis that differs by signs of its columns
    /// or before it has taken shape, right after the first step. Eigenvalues stay too. What has been made of a refresh in portions of this
    /// mode is given up. Where bases are kept in 16 bits, what is kept is the rounded one, and the rest is transformed with that.
    ///
    /// # Errors
    /// [`StepErrorKind::NotOrthogonal`] when an element of `Q^T Q - I` exceeds the square root of the machine epsilon (in bf16 2^-6 and in
    /// binary16 2^-9, so that a basis which has been read can be set),
    /// [`StepErrorKind::NotStarted`] before the first non-zero gradient, and others; the state is then as before.
    pub fn set_basis<L: LinAlg<T>>(
        &mut self,
        tensor: usize,
        slice: usize,
        k: usize,
        basis: &[T],
        scratch: &mut [T],
        linalg: &mut L,
    ) -> Result<(), StepError> {
        let fail = |kind| StepError { tensor, slice, kind };
        let (layout, header, state) = self.slice_mut(tensor, slice)?;
        let layout = &layout;
        let len = StatePart::Basis(k).len(layout).ok_or(fail(StepErrorKind::NoSuchState))?;
        if basis.len() != len {
            return Err(fail(StepErrorKind::BufferLength));
        }
        if scratch.len() < layout.scratch_len() {
            return Err(fail(StepErrorKind::ScratchTooShort));
        }
        if header.started == 0 {
            return Err(fail(StepErrorKind::NotStarted));
        }
        let linalg_error = |error: LinAlgError| fail(StepErrorKind::Slice(SliceError::LinAlg(error)));
        let d = layout.shape().dim(k);
        let mut state = layout.split_state(state);
        let scratch = layout.split_scratch(scratch);
        let (rotation, factor, square) = (&mut scratch.rotation[..d * d], &mut *scratch.delta[k], &mut scratch.square[..d * d]);
        let format = layout.parts().factor_format;
        let most = T::EPSILON.sqrt().max(format.rounding_error::<T>() * T::exp2i(2));
        if eigenvectors::orthogonality_error(linalg, d, basis, rotation).map_err(linalg_error)?.is_none_or(|error| error > most) {
            return Err(fail(StepErrorKind::NotOrthogonal));
        }
        // B = Q_new^T Q_old takes the old eigenbasis' coordinates to the new one's.
        square.copy_from_slice(basis);
        round_basis(format, square);
        let (new, old) = (MatRef::row_major(square, d, d), MatRef::row_major(state.basis(k).dense(scratch.basis[k]), d, d));
        linalg.matmul(MatMut::row_major(rotation, d, d), false, new.t(), old).map_err(linalg_error)?;
        if state.widens() {
            // Rounding has left neither of them orthogonal, and that is not to scale the factor.
            eigenvectors::polish(linalg, d, rotation, square, scratch.basis[k]).map_err(linalg_error)?;
            rotation.copy_from_slice(scratch.basis[k]);
        }
        portions::unpack_factor(layout, k, (state.factor(k), state.pending), factor, square, scratch.work);
        conjugate(linalg, d, rotation, factor, square).map_err(linalg_error)?;
        if !(linalg.is_trusted() || factor_is_in_range(linalg, factor, d)) {
            return Err(linalg_error(LinAlgError::NotFinite));
        }
        if !state.momentum.is_empty() {
            let rotation = MatRef::row_major(rotation, d, d);
            mode_product(linalg, Precision::Full, layout.shape(), k, rotation, state.momentum, scratch.product).map_err(linalg_error)?;
            if !(linalg.is_trusted() || turned_is_in_range(linalg, scratch.product)) {
                return Err(linalg_error(LinAlgError::NotFinite));
            }
            state.momentum.copy_from_slice(scratch.product);
        }
        state.keep_factor(k, factor, Rounder::NEAREST);
        state.keep_basis(k, basis);
        portions::cancel(layout, state.pending, k);
        Ok(())
    }
}

/// `S <- B S B^T` for a symmetric square; the lower triangle of the result.
fn conjugate<T: Scalar, L: LinAlg<T>>(linalg: &mut L, d: usize, b: &[T], s: &mut [T], temporary: &mut [T]) -> Result<(), LinAlgError> {
    let b = MatRef::row_major(b, d, d);
    let temporary = &mut temporary[..d * d];
    linalg.matmul(MatMut::row_major(temporary, d, d), false, b, MatRef::row_major(s, d, d))?;
    linalg.matmul_lower(MatMut::row_major(s, d, d), false, T::ONE, MatRef::row_major(temporary, d, d), b.t())
}
