//! Grafting: the direction of a method without factors, for its length.

use crate::config::Graft;
use crate::direction::{Correction, normalise};
use crate::magnitude::Norm;
use crate::{Config, Scalar, SliceHeader};

/// The second moment of after this step for one element.
pub(crate) fn moment<T: Scalar>(config: &Config<T>, v: T, g: T) -> T {
    match config.graft {
        Graft::None | Graft::Sgd => v,
        Graft::Adam | Graft::RmsProp => config.beta2 * v + (T::ONE - config.beta2) * (g * g),
        // At most the largest square that a gradient may have: a sum has no other end.
        Graft::AdaGrad => (v + g * g).min(T::exp2i(T::NORM_LIMIT_LOG2)),
    }
}

/// The grafted method's direction. `numerator` is the direction's own, in the parameter's coordinates (Adam's is the same); `v` is the
/// second moment of after this step.
pub(crate) fn direction<T: Scalar>(config: &Config<T>, correction: &Correction<T>, numerator: &[T], grad: &[T], v: &[T], out: &mut [T]) {
    match config.graft {
        Graft::None => {}
        Graft::Sgd => out.copy_from_slice(grad),
        Graft::Adam => normalise(config.eps, correction.numerator, correction.second, numerator, v, out),
        Graft::RmsProp | Graft::AdaGrad => normalise(config.eps, T::ONE, T::ONE, grad, v, out),
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
