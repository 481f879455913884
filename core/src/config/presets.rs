//! The named methods, each with the paper's equation or figure, and the conventions that they can be put in.
//!
//! Paper A: "Understanding and Improving Shampoo and SOAP via Kullback-Leibler Minimization". Every preset is in the convention of its
//! Fig. 13 with a scale-free first eigenvalue, which measured better than the paper's 0.1 on small gradients;
//! [`Config::in_convention`] changes the rest.

use super::*;

macro_rules! presets {
    ($($t:ty),*) => {$(
        impl Config<$t> {
            /// KL-Shampoo (paper A, Fig. 13, Claims 2 to 4).
            pub const fn kl_shampoo() -> Self {
                Self {
                    estimator: Estimator::KullbackLeibler,
                    estimate_order: EstimateOrder::Jacobi,
                    eigenvalues: Eigenvalues::Average,
                    refresh: Refresh::Qr,
                    sort: false,
                    refresh_period: 10,
                    refresh_offset: 0,
                    stagger: true,
                    refresh_growth: 0,
                    staleness: 0.0,
                    refresh_portion: 0,
                    direction: Direction::KroneckerPower(0.5),
                    graft: Graft::None,
                    rms_cap: None,
                    step_order: StepOrder::EstimateFirst,
                    first_step: FirstStep::Full,
                    first_basis: FirstBasis::Gradient,
                    factor_init: FactorInit::Zero,
                    lambda_init: LambdaInit::ScaleFree,
                    momentum: Momentum::Average,
                    beta1: 0.95,
                    beta2: 0.95,
                    bias_correction: BiasCorrection::None,
                    eps: 1e-8,
                    damping: Damping::Denominator,
                    weight_decay: 0.0,
                    weight_decay_kind: WeightDecay::Before,
                    clamp_limit: None,
                    gauge: true,
                    bad_gradient: BadGradient::Error,
                    measure: false,
                    lr_scale: 1.0,
                    max_dim: 8192,
                    block_size: 0,
                    merge_dims: 0,
                    factor_format: Format::Native,
                }
            }

            /// KL-Shampoo as its authors' published code computes it.
            pub const fn kl_shampoo_reference() -> Self {
                Self::kl_shampoo().in_convention(Convention::ReferenceKl)
            }

            /// KL-SOAP (paper A, Sec. 5, Claim 5): KL-Shampoo's eigenbasis, a second moment per element in it.
            pub const fn kl_soap() -> Self {
                Self { direction: Direction::SecondMoment, ..Self::kl_shampoo() }
            }

            /// SOAP (paper A, Eq. 2; Vyas et al.).
            pub const fn soap() -> Self {
                Self { estimator: Estimator::Shampoo, direction: Direction::SecondMoment, sort: true, gauge: false, ..Self::kl_shampoo() }
            }

            /// SOAP as its authors' published code computes it.
            pub const fn soap_reference() -> Self {
                Self::soap().in_convention(Convention::ReferenceSoap)
            }

            /// Shampoo (paper A, Eq. 1) with power `1/(2K)`, eigendecompositions and no graft.
            pub const fn shampoo() -> Self {
                Self { direction: Direction::ShampooRoot, gauge: false, ..Self::idealized(Estimator::Shampoo) }
            }

            /// Shampoo with power p = 1/2 (paper A, Eq. 1; paper B).
            pub const fn shampoo_half() -> Self {
                Self { direction: Direction::KroneckerPower(0.5), ..Self::shampoo() }
            }

            /// Shampoo with power p = 1/4, the first one for matrices (paper A, Eq. 1; Gupta et al.).
            pub const fn shampoo_quarter() -> Self {
                Self { direction: Direction::KroneckerPower(0.25), ..Self::shampoo() }
            }

            /// Shampoo of power 1/(2K) as Distributed Shampoo computes it, with Adam's graft.
            pub const fn shampoo_reference() -> Self {
                Self { graft: Graft::Adam, ..Self::shampoo().in_convention(Convention::ReferenceMeta) }
            }

            /// VN-Shampoo, variant 1 (paper A, Fig. 6, Claim 6).
            pub const fn vn_shampoo_1() -> Self {
                Self { estimator: Estimator::Shampoo, direction: Direction::TraceScaled, gauge: false, ..Self::kl_shampoo() }
            }

            /// VN-Shampoo, variant 2 (paper A, Fig. 6).
            pub const fn vn_shampoo_2() -> Self {
                Self { estimator: Estimator::VonNeumann, ..Self::kl_shampoo() }
            }

            /// F-Shampoo, variant 1 (paper A, Fig. 8, Claim 7).
            pub const fn f_shampoo_1() -> Self {
                Self { estimator: Estimator::FrobeniusFactor, factor_init: FactorInit::Lambda, ..Self::kl_shampoo() }
            }

            /// F-Shampoo, variant 2 (paper A, Fig. 8).
            pub const fn f_shampoo_2() -> Self {
                Self { estimator: Estimator::Frobenius, ..Self::kl_shampoo() }
            }

            /// Basis and eigenvalues from an eigendecomposition every T steps (paper A, Figs. 3, 6 and 8, left), of all tensors in the
            /// same step: eigenvalues that are held for T steps make an update fragile, and layers that move at different times more
            /// so. Idealized VN-Shampoo 1 on the example trainer (tiny, rate 8e-3, seeds 1 to 3) ended at 1.70, 2.36, 1.81 nats per
            /// byte in step and at 3.09, 2.89, 3.22 staggered.
            const fn idealized(estimator: Estimator) -> Self {
                Self {
                    estimator,
                    eigenvalues: Eigenvalues::AtRefresh,
                    refresh: Refresh::Eigendecomposition,
                    factor_init: FactorInit::Lambda,
                    stagger: false,
                    ..Self::kl_shampoo()
                }
            }

            /// Idealized KL-Shampoo (paper A, Fig. 3, left).
            pub const fn idealized_kl() -> Self {
                Self::idealized(Estimator::KullbackLeibler)
            }

            /// Idealized VN-Shampoo, variant 1 (paper A, Fig. 6, left).
            pub const fn idealized_vn_1() -> Self {
                Self { direction: Direction::TraceScaled, gauge: false, ..Self::idealized(Estimator::Shampoo) }
            }

            /// Idealized VN-Shampoo, variant 2 (paper A, Fig. 6, left).
            pub const fn idealized_vn_2() -> Self {
                Self::idealized(Estimator::VonNeumann)
            }

            /// Idealized F-Shampoo, variant 1 (paper A, Fig. 8, left).
            pub const fn idealized_f_1() -> Self {
                Self::idealized(Estimator::FrobeniusFactor)
            }

            /// Idealized F-Shampoo, variant 2 (paper A, Fig. 8, left).
            pub const fn idealized_f_2() -> Self {
                Self::idealized(Estimator::Frobenius)
            }

            /// KL-Shampoo with instantaneous eigenvalues, the ablation of paper A, Fig. 4.
            pub const fn instantaneous_kl() -> Self {
                Self { eigenvalues: Eigenvalues::Instantaneous, factor_init: FactorInit::Lambda, ..Self::kl_shampoo() }
            }

            /// One-sided preconditioning (paper A, Claim 1): of the shortest mode, unless a tensor says otherwise.
            pub const fn one_sided() -> Self {
                Self { estimator: Estimator::OneSided, gauge: false, ..Self::kl_shampoo() }
            }

            /// Adafactor as VN-Shampoo with diagonal factors (paper A, Claim 6, diagonal case): averages that start at nothing, no
            /// relative step sizes, no cap unless `rms_cap` is set.
            pub const fn adafactor() -> Self {
                Self { lambda_init: LambdaInit::Constant(1.0 / 9_223_372_036_854_775_808.0), max_dim: 0, ..Self::vn_shampoo_1() }
            }

            /// AdamW: decoupled weight decay before the update, bias-corrected moments.
            pub const fn adamw() -> Self {
                Self {
                    estimator: Estimator::None,
                    direction: Direction::SecondMoment,
                    beta1: 0.9,
                    beta2: 0.999,
                    gauge: false,
                    bias_correction: BiasCorrection::Moments,
                    ..Self::kl_shampoo()
                }
            }

            /// RMSProp: the gradient over the root of its average square, no momentum, no bias correction.
            pub const fn rmsprop() -> Self {
                Self { momentum: Momentum::None, beta2: 0.99, bias_correction: BiasCorrection::None, ..Self::adamw() }
            }

            /// SGD with (averaged) momentum.
            pub const fn sgd() -> Self {
                Self { direction: Direction::Momentum, bias_correction: BiasCorrection::None, ..Self::adamw() }
            }

            /// The same method with the choices of a published convention: order of the step, first step and basis, first factors and
            /// eigenvalues, refresh steps, damping, clamp, bias correction and kind of weight decay. Meant for the presets above, which
            /// are in the convention of Fig. 13. Methods without factors have only one convention and come back as they are.
            #[must_use]
            pub const fn in_convention(self, convention: Convention) -> Self {
                if matches!(self.estimator, Estimator::None) {
                    return self;
                }
                let kronecker = !matches!(self.direction, Direction::SecondMoment);
                match convention {
                    Convention::Figure13 => self,
                    Convention::ReferenceKl => Self {
                        step_order: StepOrder::ApplyFirst,
                        first_step: FirstStep::FactorsOnly,
                        refresh_offset: 1,
                        stagger: false,
                        lambda_init: LambdaInit::Constant(0.1),
                        weight_decay_kind: WeightDecay::After,
                        clamp_limit: if self.parts().eigenvalues { Some(4000.0) } else { None },
                        estimate_order: match self.estimator {
                            Estimator::KullbackLeibler => EstimateOrder::ReferenceKl,
                            _ => EstimateOrder::Jacobi,
                        },
                        gauge: false,
                        ..self
                    },
                    Convention::ReferenceSoap => Self {
                        step_order: StepOrder::ApplyFirst,
                        first_step: FirstStep::FactorsOnly,
                        refresh_offset: 1,
                        stagger: false,
                        // The first direction divides by it.
                        lambda_init: LambdaInit::ScaleFree,
                        weight_decay_kind: WeightDecay::After,
                        sort: true,
                        bias_correction: if kronecker { BiasCorrection::Moments } else { BiasCorrection::StepSize },
                        ..self
                    },
                    Convention::ReferenceMeta => Self {
                        first_basis: if kronecker { FirstBasis::Identity } else { FirstBasis::Gradient },
                        // What cannot start from nothing starts from lambda_0 here too.
                        factor_init: match self.estimator {
                            Estimator::FrobeniusFactor => FactorInit::Lambda,
                            _ => FactorInit::Zero,
                        },
                        stagger: false,
                        bias_correction: BiasCorrection::Moments,
                        damping: if kronecker { Damping::Factor } else { Damping::Denominator },
                        weight_decay_kind: WeightDecay::Before,
                        gauge: false,
                        ..self
                    },
                }
            }
        }
    )*};
}

presets!(f32, f64);
