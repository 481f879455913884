//! How well a slice's state describes its gradients, computed from the state when asked for; a step pays nothing for it.

use crate::config::{Direction, FirstStep};
use crate::direction::{Correction, trace_scales};
use crate::job::show;
use crate::linalg::{LinAlg, LinAlgError};
use crate::optimizer::Optimizer;
use crate::plan::Piece;
use crate::report::{StepError, StepErrorKind};
use crate::rows::{Row, Tables, Walk, weighted_square_sum};
use crate::shape::MAX_ORDER;
use crate::staleness::Staleness;
use crate::step::{SliceError, check, tables};
use crate::unfold::{Precision, Rotate, Start, rotate};
use crate::{Config, GradientFault, Layout, Mode, Scalar, Shape, SliceHeader, Tensor, eigenvalues, eigenvectors, portions};

/// What there is to say about one mode of a slice.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ModeReport<T> {
    /// Smallest eigenvalue.
    pub lambda_min: T,
    /// Largest eigenvalue.
    pub lambda_max: T,
    /// The exponential of the entropy of `lambda / sum lambda`, from 1 to d (Roy and Vetterli, "The effective rank: a measure of
    /// effective dimensionality", 2007); 0 if all eigenvalues are 0.
    pub effective_rank: T,
    /// Mean over `i != j` of `S~_ij^2 / (S~_ii S~_jj)`, what [`Config::staleness`] is compared with.
    pub staleness_mean: T,
    /// The largest of these.
    pub staleness_max: T,
    /// The largest element of `|Q^T Q - I|`.
    pub orthogonality_error: T,
}

/// Where slices are cut into pieces ([`crate::Tensor::pieces`]), `slice` counts these: `slice * pieces + piece`.
impl<T: Scalar> Optimizer<'_, T> {
    /// `KL(E[gg^T], S)` up to a constant: `(log det S + g^T S^-1 g) / 2` of the slice's part of `grad`, the tensor's gradient as a step
    /// takes it. Averaged over gradients, the lower, the better `S` describes them (paper A, Secs. 3 to 5).
    ///
    /// `S` is the square of what the direction divides by, without its damping: `prod_k lambda_k^{2p}` for a power `p`, `tau prod_k
    /// lambda_k` for [`Direction::TraceScaled`], `D` for [`Direction::SecondMoment`]; all of after the last step.
    ///
    /// # Errors
    /// [`StepErrorKind::NoSuchState`] for [`Direction::Momentum`], which has no `S`; [`StepErrorKind::NotStarted`] before there is one;
    /// a gradient that no step would take; [`GradientFault::TooLarge`] also when the value leaves the range of the type.
    pub fn objective<L: LinAlg<T>>(
        &self,
        tensor: usize,
        slice: usize,
        grad: &[T],
        scratch: &mut [T],
        linalg: &mut L,
    ) -> Result<T, StepError> {
        let fail = |kind| StepError { tensor, slice, kind };
        let (layout, header, state) = self.slice(tensor, slice)?;
        let entry = &self.tensors()[tensor];
        let config = entry.config(self.groups());
        if config.direction == Direction::Momentum {
            return Err(fail(StepErrorKind::NoSuchState));
        }
        if grad.len() != entry.span() {
            return Err(fail(StepErrorKind::BufferLength));
        }
        if scratch.len() < entry.scratch_len() {
            return Err(fail(StepErrorKind::ScratchTooShort));
        }
        let read = Reading { layout: &layout, config: &config, header, state };
        if !read.has_preconditioner() {
            return Err(fail(StepErrorKind::NotStarted));
        }
        let piece = entry.piece(slice % entry.pieces());
        let grad = &grad[entry.slice_range(slice / entry.pieces())];
        let value = read.objective(entry, &piece, grad, scratch, linalg).map_err(|error| fail(StepErrorKind::Slice(error)))?;
        if value.is_finite_bits() { Ok(value) } else { Err(fail(StepErrorKind::Slice(GradientFault::TooLarge.into()))) }
    }

    /// A report on mode `k` of a slice. Where the method keeps no eigenvalues (SOAP), they are the factor's diagonal in the eigenbasis.
    /// A `Diagonal` mode is never stale and always orthogonal.
    ///
    /// # Errors
    /// [`StepErrorKind::NoSuchState`] for a mode with neither eigenvalues nor a factor, [`StepErrorKind::NotStarted`] before the first
    /// non-zero gradient, and others.
    pub fn mode_report<L: LinAlg<T>>(
        &self,
        tensor: usize,
        slice: usize,
        k: usize,
        scratch: &mut [T],
        linalg: &mut L,
    ) -> Result<ModeReport<T>, StepError> {
        let fail = |kind| StepError { tensor, slice, kind };
        let (layout, header, state) = self.slice(tensor, slice)?;
        let shape = layout.shape();
        if k >= shape.order() {
            return Err(fail(StepErrorKind::NoSuchIndex));
        }
        let full = shape.is_full(k);
        if !full && !layout.has_lambda(k) {
            return Err(fail(StepErrorKind::NoSuchState));
        }
        if scratch.len() < layout.scratch_len() {
            return Err(fail(StepErrorKind::ScratchTooShort));
        }
        if header.started == 0 {
            return Err(fail(StepErrorKind::NotStarted));
        }
        let (d, regions, scratch) = (shape.dim(k), layout.regions(), layout.split_scratch(scratch));
        let (mut staleness, mut orthogonality_error) = (Staleness { mean: T::ZERO, max: T::ZERO }, T::ZERO);
        let lambda = &mut *scratch.weight[k];
        if layout.has_lambda(k) {
            lambda.copy_from_slice(&state[regions.lambda[k].clone()]);
        }
        if full {
            let square = &mut scratch.square[..d * d];
            let kept = (layout.factor(state, k), &state[regions.pending]);
            portions::unpack_factor(&layout, k, kept, square, scratch.rotation, scratch.work);
            staleness = Staleness::of(square, d);
            if !layout.has_lambda(k) {
                // Rounding in a refresh may leave the smallest ones below zero.
                lambda.iter_mut().zip(square.iter().step_by(d + 1)).for_each(|(lambda, &x)| *lambda = x.max(T::ZERO));
            }
            let basis = layout.basis(state, k).dense(scratch.basis[k]);
            orthogonality_error = eigenvectors::orthogonality_error(linalg, d, basis, square)
                .and_then(|error| error.ok_or(LinAlgError::NotFinite))
                .map_err(|error| fail(StepErrorKind::Slice(error.into())))?;
        }
        let lambda_max = lambda.iter().fold(T::ZERO, |largest, &l| largest.max(l));
        Ok(ModeReport {
            lambda_min: lambda.iter().fold(lambda_max, |smallest, &l| smallest.min(l)),
            lambda_max,
            effective_rank: effective_rank(lambda, lambda_max),
            staleness_mean: staleness.mean,
            staleness_max: staleness.max,
            orthogonality_error,
        })
    }
}

/// `exp(-sum p log p)`, `p = lambda / sum lambda`, in numbers near 1.
fn effective_rank<T: Scalar>(lambda: &[T], largest: T) -> T {
    if largest <= T::ZERO {
        return T::ZERO;
    }
    let sum = eigenvalues::sum(lambda, |l| l / largest);
    let entropy = eigenvalues::sum(lambda, |l| {
        let p = l / largest / sum;
        if p > T::ZERO { -(p * p.ln()) } else { T::ZERO }
    });
    entropy.exp()
}

/// A sum that keeps what each addition rounds off (Kahan): the objective is a small difference of long sums.
struct Sum<T> {
    sum: T,
    lost: T,
}

impl<T: Scalar> Sum<T> {
    const ZERO: Self = Self { sum: T::ZERO, lost: T::ZERO };

    fn add(&mut self, x: T) {
        let x = x - self.lost;
        let sum = self.sum + x;
        self.lost = (sum - self.sum) - x;
        self.sum = sum;
    }
}

/// One piece's state, to read.
struct Reading<'a, T> {
    layout: &'a Layout,
    config: &'a Config<T>,
    header: &'a SliceHeader,
    state: &'a [T],
}

impl<T: Scalar> Reading<'_, T> {
    /// Whether the state has averaged a gradient into what the direction divides by.
    fn has_preconditioner(&self) -> bool {
        let started = self.header.started != 0;
        let waits = self.layout.shape().preconditioned_modes() > 0 && !started;
        // A first step of factors only leaves the second moment at zero.
        let skipped = u64::from(started && self.config.first_step.built() == FirstStep::FactorsOnly);
        let averaged = self.config.direction != Direction::SecondMoment || self.header.step > skipped;
        !waits && averaged
    }

    /// See [`Optimizer::objective`]; not finite where the value leaves the range.
    fn objective<L: LinAlg<T>>(
        &self,
        entry: &Tensor,
        piece: &Piece,
        grad: &[T],
        scratch: &mut [T],
        linalg: &mut L,
    ) -> Result<T, SliceError> {
        let shape = self.layout.shape();
        let plan = entry.plan();
        check(self.layout, self.config, self.header, self.state, &|f| show(plan, piece, grad, T::ONE, f))?;
        let together = plan.range(piece);
        let (copy, scratch) = scratch.split_at_mut(if together.is_some() { 0 } else { shape.elements() });
        let grad = match together {
            Some(range) => &grad[range],
            None => {
                plan.gather(piece, grad, copy);
                &*copy
            }
        };

        let regions = self.layout.regions();
        let mut scratch = self.layout.split_scratch(scratch);
        let projected = if shape.is_turned() {
            let bases = self.layout.dense_bases(self.state, &mut scratch.basis);
            rotate(linalg, Precision::Full, shape, bases, Rotate::Into, Start::External(grad), [scratch.gradient, scratch.product])?;
            &*scratch.gradient
        } else {
            grad
        };
        Ok(match self.config.direction.power(shape) {
            None => self.of_elements(&self.state[regions.second_moment], projected),
            Some(p) => {
                let lambda = core::array::from_fn(|k| &self.state[regions.lambda[k].clone()]);
                self.inverse_roots(p, &lambda, &mut scratch.weight);
                of_modes(shape, &tables(shape, &scratch.weight), projected)
            }
        })
    }

    /// `sum (log D + G~^2 / D) / 2`; `sqrt(D)` has the floor that it has as a denominator.
    fn of_elements(&self, second_moment: &[T], projected: &[T]) -> T {
        let correction = Correction::new(self.config, self.header).second;
        let (mut logs, mut squares) = (Sum::ZERO, Sum::ZERO);
        for (&g, &d) in projected.iter().zip(second_moment) {
            let root = (d * correction).sqrt().max(T::FLOOR);
            let y = g / root;
            logs.add(root.ln());
            squares.add(y * y);
        }
        logs.sum + squares.sum * T::exp2i(-1)
    }

    /// `lambda^-p`, for the von Neumann direction over its scale.
    fn inverse_roots(&self, p: T, lambda: &[&[T]; MAX_ORDER], out: &mut [&mut [T]; MAX_ORDER]) {
        let shape = self.layout.shape();
        let trace = |k: usize| match shape.mode(k) {
            Mode::Full => self.layout.factor(self.state, k).diagonal().fold(T::ZERO, |sum, x| sum + x),
            Mode::Diagonal | Mode::Identity => eigenvalues::sum(lambda[k], |l| l),
        };
        let scales = match self.config.direction {
            Direction::TraceScaled => trace_scales(shape, trace),
            _ => [T::ONE; MAX_ORDER],
        };
        for (k, out) in out.iter_mut().enumerate() {
            for (out, &l) in out.iter_mut().zip(lambda[k]) {
                *out = T::ONE / (eigenvalues::power(l, p) * scales[k]);
            }
        }
    }
}

/// `(log det S + G~^T S^-1 G~) / 2` of `S = prod_k s_k` with tables of `s_k^{-1/2}`.
fn of_modes<T: Scalar>(shape: &Shape, roots: &Tables<'_, T>, projected: &[T]) -> T {
    let (mut logs, mut squares) = (Sum::ZERO, Sum::ZERO);
    for (k, root) in roots.iter().enumerate() {
        // Each number of a table meets N / d elements.
        let times = T::from_usize(shape.elements() / shape.dim(k));
        root.iter().for_each(|root| root.iter().for_each(|&root| logs.add(-(times * root.ln()))));
    }
    let last = roots[shape.order() - 1];
    for Row { range, prefix, .. } in Walk::all(shape, roots) {
        squares.add(weighted_square_sum(&projected[range], prefix, last));
    }
    logs.sum + squares.sum * T::exp2i(-1)
}
