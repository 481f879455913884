//! Grafting: the direction of a method without factors, for its length.

use crate::config::Graft;
use crate::direction::{Correction, Normaliser};
use crate::linalg::LinAlg;
use crate::magnitude::Norm;
use crate::{Config, Scalar, SliceHeader};

/// The second moment of after this step for one element.
#[inline(always)]
pub(crate) fn moment<T: Scalar>(config: &Config<T>, v: T, g: T) -> T {
    match config.graft.built() {
        Graft::None | Graft::Sgd => v,
        Graft::Adam | Graft::RmsProp => config.beta2 * v + (T::ONE - config.beta2) * (g * g),
        // At most the largest square that a gradient may have: a sum has no other end.
        Graft::AdaGrad => (v + g * g).min(T::exp2i(T::NORM_LIMIT_LOG2)),
    }
}

/// The grafted method's direction. `numerator` is the direction's own, in the parameter's coordinates (Adam's is the same); `v` is the
/// second moment of after this step.
#[inline(always)]
pub(crate) fn direction<T: Scalar>(
    linalg: &impl LinAlg<T>,
    config: &Config<T>,
    correction: &Correction<T>,
    (numerator, grad, v): (&[T], &[T], &[T]),
    out: &mut [T],
) {
    match config.graft.built() {
        Graft::None => {}
        Graft::Sgd => out.copy_from_slice(grad),
        Graft::Adam => correction.normaliser(config.eps).divide_all(linalg, numerator, v, out),
        Graft::RmsProp | Graft::AdaGrad => {
            Normaliser { eps: config.eps, correction: T::ONE, second: T::ONE }.divide_all(linalg, grad, v, out);
        }
    }
}

/// What a direction of norm `natural` is multiplied by for the norm of the graft, if there is one, and the cap.
pub(crate) fn length_factor<T: Scalar>(
    config: &Config<T>,
    elements: usize,
    natural: Norm<T>,
    grafted: Option<Norm<T>>,
    header: &mut SliceHeader,
) -> T {
    let factor = grafted.map_or(T::ONE, |grafted| grafted.over(natural));
    let Some(cap) = config.rms_cap.map(|rms| Norm::with_rms(rms, elements)) else { return factor };
    if grafted.unwrap_or(natural).over(cap) <= T::ONE {
        return factor;
    }
    header.capped = header.capped.saturating_add(1);
    cap.over(natural)
}
