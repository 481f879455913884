//! What the kernels of a step look at: `kls_step_params` in `kernels/step/params.cuh`, one struct for all of them.

use std::ffi::CStr;

use super::traffic;
use crate::batch::Array;
use crate::io::Scalar;
use crate::queue::{DevicePtr, Kernel, Traffic};

/// Most modes of a tensor: `KLS_MODES`.
pub(super) const MODES: usize = 6;
const _: () = assert!(klshampoo::MAX_ORDER <= MODES);

/// Flags of an item, as the kernels have them.
pub(super) mod flag {
    pub const PRESENT: u32 = 1 << 0;
    pub const ACTIVE: u32 = 1 << 1;
    pub const STARTING: u32 = 1 << 2;
    pub const RUNS: u32 = 1 << 3;
    pub const DUE: u32 = 1 << 4;
    pub const DUE_AT_START: u32 = 1 << 5;
    pub const PRECONDITIONS: u32 = 1 << 6;
    pub const RESTS: u32 = 1 << 7;
    pub const FAILED: u32 = 1 << 8;
    pub const TURN: u32 = 1 << 9;
    pub const TURNED: u32 = 1 << 10;
    pub const POLISHES: u32 = 1 << 11;
    pub const DECAYS: u32 = 1 << 12;
    pub const UNPROVEN: u32 = 1 << 13;
}

/// Numbers of an item that kernels leave to each other: `kls_scalars`.
pub(super) const SCALARS: usize = 5 + 2 * MODES;

/// Choices on the axes of a configuration, as numbers that the kernels know.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[repr(C)]
pub(super) struct Axes {
    pub dims: [u32; MODES],
    pub modes: [u32; MODES],
    pub splits: [u32; MODES],
    pub scale: [f32; MODES],
    pub lowest: [f32; MODES],
    pub order: u32,
    pub elements: u32,
    pub preconditioned_modes: u32,
    pub full_modes: u32,
    pub weighting: u32,
    pub divisor: u32,
    pub by_factors: u32,
    pub has_lambda: u32,
    pub eigenvalues: u32,
    pub direction: u32,
    pub graft: u32,
    pub apply_first: u32,
    pub factors_only: u32,
    pub identity_first: u32,
    pub starts_from_lambda: u32,
    pub scale_free: u32,
    pub numerator: u32,
    pub correction: u32,
    pub factor_damping: u32,
    pub sorts: u32,
    pub capped: u32,
    pub gauge: u32,
    pub clamps: u32,
    pub rests_at_first: u32,
    pub polish_period: u32,
    pub beta1: f32,
    pub beta2: f32,
    pub eps: f32,
    pub power: f32,
    pub floor: f32,
    pub first_lambda: f32,
    pub cap: f32,
    pub staleness: f32,
}

/// What a launch is about.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[repr(C)]
pub(super) struct Launch {
    pub first: u32,
    pub mask: u32,
    pub wanted: u32,
    pub blocks: u32,
    pub mode: u32,
    pub option: u32,
    pub unused: u32,
}

/// `kls_step_params`
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C)]
pub(super) struct Params {
    pub flags: DevicePtr,
    pub headers: DevicePtr,
    pub next: DevicePtr,
    pub scalars: DevicePtr,
    pub lengths: DevicePtr,
    pub gradient_measure: DevicePtr,
    pub update_measure: DevicePtr,
    pub other_measure: DevicePtr,
    pub partials: DevicePtr,
    pub bounds: DevicePtr,
    pub clip: DevicePtr,
    pub places: DevicePtr,
    pub grads: DevicePtr,
    pub lr: Scalar,
    pub basis: [Array; MODES],
    pub factor: [Array; MODES],
    pub lambda: [Array; MODES],
    pub momentum: Array,
    pub second_moment: Array,
    pub graft_moment: Array,
    pub state: Array,
    pub grad: Array,
    pub gradient: Array,
    pub new_momentum: Array,
    pub new_second_moment: Array,
    pub product: Array,
    pub update: Array,
    pub aside: Array,
    pub delta: [Array; MODES],
    pub new_basis: [Array; MODES],
    pub new_lambda: [Array; MODES],
    pub weight: [Array; MODES],
    pub diagonal: [Array; MODES],
    pub values: Array,
    pub averages_len: u64,
    pub axes: Axes,
    pub launch: Launch,
}

/// A kernel that takes [`Params`].
pub(super) trait StepKernel: Kernel {
    /// With these parameters.
    fn with(params: Params) -> Self;
}

macro_rules! kernels {
    ($($kernel:ident: $name:literal, $threads:literal $(, $traffic:path)?;)*) => {
        $(
            #[derive(Clone, Copy)]
            #[repr(transparent)]
            pub(super) struct $kernel(Params);

            // SAFETY: `kls_step_params`, field by field; every field is a multiple of four bytes long, and there are none between them.
            unsafe impl Kernel for $kernel {
                const NAME: &'static CStr = $name;
                const THREADS: u32 = $threads;

                $(
                    fn traffic(&self, grid: [u32; 3]) -> Traffic {
                        traffic::counted(&self.0, grid, $traffic)
                    }
                )?
            }

            impl StepKernel for $kernel {
                fn with(params: Params) -> Self {
                    Self(params)
                }
            }
        )*

        #[cfg(test)]
        mod tests {
            use klshampoo_cuda_emulator as emulator;

            use super::*;

            #[test]
            fn parameters_are_those_of_the_kernels() {
                $(
                    assert_eq!(emulator::params_size($kernel::NAME), Some(size_of::<$kernel>()), "{:?}", $kernel::NAME);
                    assert_eq!(emulator::threads($kernel::NAME), Some($kernel::THREADS), "{:?}", $kernel::NAME);
                )*
                // No padding: what every kernel takes is read byte by byte.
                let words = size_of::<Axes>() / 4 + size_of::<Launch>() / 4;
                assert!(words.is_multiple_of(2) && size_of::<Params>() <= 4096);
            }
        }
    };
}

kernels! {
    Begin: c"kls_step_begin", 128;
    Admit: c"kls_step_admit", 128;
    ForgetTurn: c"kls_step_forget_turn", 128;
    Start: c"kls_step_start", 256;
    Normalised: c"kls_step_normalised", 256;
    StartValues: c"kls_step_start_values", 256;
    StartBasis: c"kls_step_start_basis", 256;
    StartFactor: c"kls_step_start_factor", 128;
    Unpack: c"kls_step_unpack", 256, traffic::unpack;
    NormaliseFactor: c"kls_step_normalise_factor", 256, traffic::normalise_factor;
    Weigh: c"kls_step_weigh", 128;
    Weighted: c"kls_step_weighted", 256, traffic::weighted;
    SumsOfSquares: c"kls_step_sums_of_squares", 256, traffic::sums_of_squares;
    SumsOfProducts: c"kls_step_sums_of_products", 256, traffic::sums_of_products;
    Eigenvalues: c"kls_step_eigenvalues", 128;
    Averages: c"kls_step_averages", 256, traffic::averages;
    FormFactor: c"kls_step_form_factor", 256, traffic::form_factor;
    Stale: c"kls_step_stale", 128;
    Refreshed: c"kls_step_refreshed", 128;
    Permute: c"kls_step_permute", 256, traffic::permute;
    Roots: c"kls_step_roots", 128;
    Numerator: c"kls_step_numerator", 256, traffic::numerator;
    Graft: c"kls_step_graft", 256, traffic::graft;
    Divide: c"kls_step_divide", 256, traffic::divide;
    Judge: c"kls_step_judge", 128;
    Dot: c"kls_step_dot", 128, traffic::dot;
    Measured: c"kls_step_measured", 128;
    CommitMoments: c"kls_step_commit_moments", 256, traffic::commit_moments;
    CommitFactor: c"kls_step_commit_factor", 256, traffic::commit_factor;
    Undo: c"kls_step_undo", 256;
    Finish: c"kls_step_finish", 128;
}
