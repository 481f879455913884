//! Linear algebra in batches: products, factorisations and the refresh of a mode's eigenbasis.
//!
//! Each function launches kernels and decides nothing by what is on the device: what may fail sets a bit of its item's flags, and what comes after
//! is predicated on it. The core's `linalg::Portable` and `refresh` are the twins of what is here.

mod cholesky;
mod eigenvectors;
mod householder;
mod kernel;
mod precision;
mod product;
mod refresh;
mod squares;
mod tensor_product;

pub use cholesky::{cholesky, solve_lower};
pub use eigenvectors::{JacobiPanels, eigh, eigh_in_panels, polish, refine};
pub use householder::{qr, qr_in_panels, qr_panels_work_len};
pub use precision::Precision;
pub use product::{Matrix, Product, Strides, View, mode_product, unfolded_product};
pub use refresh::{Refresh, RefreshBuffers, descending_order, refresh_mode, work_len};

/// A flag of an item: its refresh has failed.
pub const FAILED: u32 = 1 << 16;
/// A flag of an item: its refresh was made, or is to be made, by reflections, because Cholesky factors broke down.
pub const REFLECTED: u32 = 1 << 17;
/// A flag of an item: one pass with Cholesky factors left its rotation less orthogonal than reflections would.
pub const SECOND_PASS: u32 = 1 << 18;

#[cfg(test)]
mod tests {
    use super::{cholesky, eigenvectors, householder, product, refresh, squares, tensor_product};
    use crate::queue::Kernel;
    use klshampoo_cuda_emulator as emulator;

    fn check<K: Kernel>() {
        assert_eq!(emulator::params_size(K::NAME), Some(size_of::<K>()), "{:?}: size of the parameters", K::NAME);
        assert_eq!(emulator::threads(K::NAME), Some(K::THREADS), "{:?}: threads", K::NAME);
    }

    #[test]
    fn kernels_are_spelled_alike_in_both_languages() {
        check::<product::ProductKernel>();
        check::<tensor_product::Tf32Large>();
        check::<tensor_product::Tf32Small>();
        check::<tensor_product::Tf32x3Large>();
        check::<tensor_product::Tf32x3Small>();
        check::<tensor_product::Bf16Large>();
        check::<tensor_product::Bf16Small>();
        check::<cholesky::CholeskyBlock>();
        check::<cholesky::SolveBlock>();
        check::<householder::Householder>();
        check::<householder::QrScale>();
        check::<householder::QrPanel>();
        check::<householder::QrIdentity>();
        check::<householder::QrReflect>();
        check::<eigenvectors::Eigh>();
        check::<eigenvectors::EighBegin>();
        check::<eigenvectors::EighMeasure>();
        check::<eigenvectors::EighPrepare>();
        check::<eigenvectors::EighSolve>();
        check::<eigenvectors::EighApply>();
        check::<eigenvectors::EighDiagonal>();
        check::<eigenvectors::EighEnd>();
        check::<squares::GatherSquare>();
        check::<squares::PlaceRotation>();
        check::<squares::TransposeLower>();
        check::<squares::NewtonSchulz>();
        check::<squares::Angles>();
        check::<squares::UnitDiagonal>();
        check::<squares::RestoreLower>();
        check::<squares::CheckSquare>();
        check::<refresh::RefreshBegin>();
        check::<refresh::DescendingOrder>();
        check::<refresh::ProbeAlong>();
        check::<refresh::ProbeImage>();
        check::<refresh::ProbeJudge>();
        check::<refresh::RefreshEnd>();
    }
}
