//! A configuration and a layout in the kernels' numbers.

use klshampoo::{
    BiasCorrection, Config, Damping, Direction, Eigenvalues, Estimator, FactorInit, FirstBasis, FirstStep, Graft, LambdaInit, Layout, Mode,
    Momentum, POLISH_PERIOD, StepOrder,
};

use super::params::{Axes, MODES};

/// Parts that a sum over a mode without a factor is made in, so that it fills a device.
fn splits(d: usize, others: usize, contiguous: bool) -> u32 {
    // A block adds at least so many rows, or elements.
    let each = if contiguous { others.div_ceil(512) } else { others.div_ceil(1 << 14) };
    let wanted = (4096 / d.max(1)).max(1);
    each.min(wanted).clamp(1, 64) as u32
}

impl Axes {
    pub(super) fn new(config: &Config<f32>, layout: &Layout) -> Self {
        let shape = layout.shape();
        let (weighting, divisor) = match config.estimator {
            Estimator::None | Estimator::OneSided | Estimator::Shampoo => (0, 0),
            Estimator::KullbackLeibler => (1, 0),
            Estimator::VonNeumann => (0, 1),
            Estimator::Frobenius | Estimator::FrobeniusFactor => (2, 2),
        };
        let averages_of_elements = matches!(config.estimator, Estimator::KullbackLeibler | Estimator::OneSided);
        let modes = shape.preconditioned_modes();
        let floor = config.lowest_eigenvalue(modes);
        let mut axes = Self {
            dims: [1; MODES],
            splits: [1; MODES],
            scale: [1.0; MODES],
            lowest: [floor; MODES],
            order: shape.order() as u32,
            elements: shape.elements() as u32,
            preconditioned_modes: modes as u32,
            full_modes: shape.full_modes() as u32,
            weighting,
            divisor,
            by_factors: u32::from(config.estimator == Estimator::FrobeniusFactor),
            has_lambda: u32::from(layout.parts().eigenvalues),
            eigenvalues: match config.eigenvalues {
                Eigenvalues::Average => 0,
                Eigenvalues::Instantaneous => 1,
                Eigenvalues::InstantaneousAfterRefresh => 2,
                Eigenvalues::AtRefresh => 3,
            },
            direction: match config.direction {
                Direction::KroneckerPower(_) | Direction::ShampooRoot => 0,
                Direction::TraceScaled => 1,
                Direction::SecondMoment => 2,
                Direction::Momentum => 3,
            },
            graft: match config.graft {
                Graft::None => 0,
                Graft::Adam => 1,
                Graft::Sgd => 2,
                Graft::RmsProp => 3,
                Graft::AdaGrad => 4,
            },
            apply_first: u32::from(config.step_order == StepOrder::ApplyFirst),
            factors_only: u32::from(config.first_step == FirstStep::FactorsOnly),
            identity_first: u32::from(config.first_basis == FirstBasis::Identity),
            starts_from_lambda: u32::from(config.factor_init == FactorInit::Lambda),
            scale_free: u32::from(config.lambda_init == LambdaInit::ScaleFree),
            numerator: match config.momentum {
                Momentum::Average => 0,
                Momentum::Nesterov => 1,
                Momentum::None => 2,
            },
            correction: match config.bias_correction {
                BiasCorrection::None => 0,
                BiasCorrection::StepSize => 1,
                BiasCorrection::Moments => 2,
            },
            factor_damping: u32::from(config.damping == Damping::Factor),
            sorts: u32::from(sorts(config)),
            capped: u32::from(config.rms_cap.is_some()),
            gauge: u32::from(config.gauge),
            clamps: u32::from(config.clamp_limit.is_some()),
            rests_at_first: u32::from(config.direction == Direction::SecondMoment),
            polish_period: POLISH_PERIOD as u32,
            beta1: config.beta1,
            beta2: config.beta2,
            eps: config.eps,
            power: config.direction.power(shape).unwrap_or(1.0),
            floor,
            first_lambda: match config.lambda_init {
                LambdaInit::Constant(lambda) => lambda,
                LambdaInit::ScaleFree => 0.0,
            },
            cap: config.rms_cap.unwrap_or(0.0),
            staleness: config.staleness,
            ..Self::default()
        };
        for k in 0..shape.order() {
            let d = shape.dim(k);
            let (left, right) = shape.around(k);
            axes.dims[k] = d as u32;
            axes.modes[k] = match shape.mode(k) {
                Mode::Identity => 0,
                Mode::Diagonal => 1,
                Mode::Full => 2,
            };
            axes.splits[k] = splits(d, left * right, right == 1);
            if averages_of_elements {
                axes.scale[k] = d as f32 / shape.elements() as f32;
            }
            axes.lowest[k] = floor.max(config.lambda_clamp(d));
        }
        axes
    }

    /// A bit per mode with a table of weights or roots.
    pub(super) fn tables(&self) -> u32 {
        if self.has_lambda == 0 { 0 } else { (0..MODES).filter(|&k| self.modes[k] != 0).fold(0, |bits, k| bits | 1 << k) }
    }
}

/// Whether a refresh orders the eigenbasis.
pub(super) fn sorts(config: &Config<f32>) -> bool {
    config.sort || config.refresh == klshampoo::Refresh::Eigendecomposition
}
