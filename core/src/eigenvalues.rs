//! Eigenvalue estimates: their average, their floor and clamp, and the balance of scale between modes.

use crate::config::built;
use crate::config::{Divisor, Estimator};
use crate::layout::State;
use crate::linalg::LinAlg;
use crate::magnitude::Norm;
use crate::resident::Factor;
use crate::shape::{MAX_ORDER, Shape};
use crate::{Config, Format, Scalar, SliceHeader, passes};

/// Lower bound of the eigenvalues of a tensor: 2^-63 for matrices.
///
/// With more preconditioned modes it is higher in `f32` where a product over all modes but one divides by them, so that this stays below
/// 2^63 as it does there. Else a tensor whose gradients have been zero for a while could only take tiny ones ever after.
pub(crate) fn floor<T: Scalar>(estimator: Estimator, modes: usize) -> T {
    if estimator.is_unweighted() && estimator.divisor() == Divisor::None {
        return T::FLOOR;
    }
    let room = T::NORM_LIMIT_LOG2 - 57;
    T::FLOOR.max(T::exp2i(-room / modes.saturating_sub(1).max(1) as i32))
}

/// `lambda_i = value(i, lambda_i)`, at least the floor and the clamp; what these raise is counted.
pub(crate) fn set<T: Scalar>(
    config: &Config<T>,
    shape: &Shape,
    k: usize,
    lambda: &mut [T],
    header: &mut SliceHeader,
    mut value: impl FnMut(usize, T) -> T,
) {
    let lowest = floor::<T>(config.estimator, shape.preconditioned_modes()).max(config.lambda_clamp(shape.dim(k)));
    let mut count = 0;
    for (i, lambda) in lambda.iter_mut().enumerate() {
        let new = value(i, *lambda);
        count += u32::from(new < lowest);
        *lambda = new.max(lowest);
    }
    let counter = if config.clamp_limit.is_some() { &mut header.clamped } else { &mut header.floored };
    *counter = counter.saturating_add(count);
}

/// Bounds eigenvalues that have just been read off a factor: as [`set`], and at least what they cannot be told from, the rounding of the
/// largest of them. A direction in which there has been no gradient has such a one, and its sign is an accident. A factor that is kept in 16
/// bits may have been rounded when it was far from diagonal, which no bound on its largest eigenvalue tells from rounding in an eigenbasis,
/// where it does no harm; but it then has a negative eigenvalue, and none that is smaller than this one without its sign means anything.
pub(crate) fn settle<T: Scalar>(config: &Config<T>, shape: &Shape, k: usize, lambda: &mut [T], header: &mut SliceHeader) {
    let mut noise = T::EPSILON * lambda.iter().fold(T::ZERO, |largest, &l| largest.max(l));
    if config.factor_format.of_factors() != Format::Native {
        noise = lambda.iter().fold(noise, |noise, &l| noise.max(-l));
    }
    set(config, shape, k, lambda, header, |_, value| value.max(noise));
}

/// `lambda^p`.
pub(crate) fn power<T: Scalar>(lambda: T, p: T) -> T {
    if p == T::exp2i(-1) {
        lambda.sqrt()
    } else if p == T::exp2i(-2) {
        lambda.sqrt().sqrt()
    } else if p == T::ONE || !built::POWERS {
        lambda
    } else {
        lambda.powf(p)
    }
}

/// `out = (lambda + added)^p`.
pub(crate) fn powers<T: Scalar>(linalg: &impl LinAlg<T>, lambda: &[T], added: T, p: T, out: &mut [T]) {
    if p == T::exp2i(-1) {
        // Of all steps but a few methods'.
        passes::map(linalg, out, lambda, move |linalg, _, l| linalg.sqrt(l + added));
    } else {
        out.iter_mut().zip(lambda).for_each(|(out, &l)| *out = power(l + added, p));
    }
}

/// The Euclidean norm, whatever the size of the numbers.
pub(crate) fn norm<T: Scalar>(values: &[T]) -> T {
    Norm::of(values).over(Norm::of(&[T::ONE]))
}

/// A sum in blocks: one running sum of many numbers would lose digits.
pub(crate) fn sum<T: Scalar>(values: &[T], f: impl Fn(T) -> T) -> T {
    values.chunks(64).fold(T::ZERO, |sum, block| sum + block.iter().fold(T::ZERO, |sum, &x| sum + f(x)))
}

/// The mean binary exponent of a mode's eigenvalues, but for those at the floor: they say nothing of the scale of the others.
fn mean_log2<T: Scalar>(lambda: &[T], lowest: T) -> Option<i32> {
    let live = || lambda.iter().filter(|&&l| l > lowest).map(|l| i64::from(l.exponent()));
    let count = live().count() as i64;
    (count > 0).then(|| (live().sum::<i64>() / count) as i32)
}

/// The largest binary exponent of a mode's eigenvalues and factor.
fn largest_log2<T: Scalar>(lambda: &[T], factor: Factor<'_, T>) -> i32 {
    lambda.iter().copied().chain(factor.elements()).fold(i32::MIN, |largest, x| largest.max(x.exponent()))
}

/// Moves powers of two between the mode with the largest and the one with the smallest mean eigenvalue when these are more than 2^2
/// apart (ALGORITHMS: gauge). The powers are even, so that the roots of the eigenvalues scale exactly too: every direction stays the same.
pub(crate) fn rebalance<T: Scalar>(config: &Config<T>, shape: &Shape, state: &mut State<'_, T>, header: &mut SliceHeader) {
    if !config.gauge || !config.estimator.gauge_invariant() || shape.preconditioned_modes() < 2 {
        return;
    }
    let lowest = floor::<T>(config.estimator, shape.preconditioned_modes());
    let means: [Option<i32>; MAX_ORDER] = core::array::from_fn(|k| mean_log2(state.lambda[k], lowest));
    let known = || means.iter().enumerate().filter_map(|(k, mean)| mean.map(|m| (k, m)));
    let (Some((low, low_mean)), Some((high, high_mean))) = (known().min_by_key(|&(_, m)| m), known().max_by_key(|&(_, m)| m)) else {
        return;
    };
    if high_mean - low_mean <= 2 {
        return;
    }
    // The mean moves, but the largest must stay in range.
    let room = T::NORM_LIMIT_LOG2 - 1 - largest_log2(state.lambda[low], state.factor(low));
    let shift = (2 * ((high_mean - low_mean + 2) / 4)).min(room & !1);
    if shift <= 0 {
        return;
    }
    header.rebalanced = header.rebalanced.saturating_add(1);
    for (k, log2) in [(low, shift), (high, -shift)] {
        for l in state.lambda[k].iter_mut() {
            *l = (*l * T::exp2i(log2)).max(lowest);
        }
        state.factor_mut(k).scale(log2);
    }
}
