//! Between the caller's buffers and the dense `f32` arrays that a step works on.
//!
//! | read | for |
//! |---|---|
//! | [`Geometry`], [`Place`], [`Pieces`] | where the pieces of a batch lie in the caller's buffers |
//! | [`set_pointers`], [`set_places`], [`fill`], [`copy`] | memory of the device, written by kernels alone |
//! | [`gather`], [`gather_measured`] | gradients to dense `f32`, scaled, with the gradient of an L2 penalty |
//! | [`magnitude`], [`Measure`] | largest element and sum of squares, in a fixed order |
//! | [`global_norm`], [`Norm`] | the norm of all gradients, and the factor that clips it |
//! | [`commit_param`], [`write_direction`] | the update's way to the parameter: decay, master weights, rounding |
//!
//! Everything gives the bits that the core gives. Nothing here waits, allocates or reads memory of the host when it runs, so that all of it may
//! be captured in a graph; what may change from one replay to the next is a [`Scalar`] on the device.

mod commit;
mod gather;
mod geometry;
mod magnitude;
mod norm;
mod scalar;
mod theta;
mod words;

pub(crate) use commit::Commit;
pub use commit::{Decay, Update, commit_param, write_direction};
pub(crate) use gather::Gather;
pub use gather::{Penalty, Source, Transform, flag_missing, gather, gather_measured};
pub use geometry::{Geometry, GeometryError, Pieces, Place};
pub(crate) use magnitude::second_stage;
pub use magnitude::{Measure, chunks, magnitude};
pub use norm::{Norm, global_norm, reclip};
pub use scalar::Scalar;
pub use theta::Theta;
pub use words::{copy, fill, set_places, set_pointers, write};

use klshampoo::Format;

/// Threads of a block that works on chunks: `KLS_CHUNK_THREADS` in `kernels/io/chunks.cuh`.
const THREADS: u32 = 256;

/// The number of a format: `KLS_F32` and its neighbours in `kernels/io/format.cuh`.
const fn format_number(format: Format) -> u32 {
    match format {
        Format::Native => 0,
        Format::Bf16 => 1,
        Format::F16 => 2,
    }
}

/// Bytes of a number in such a format.
const fn format_size(number: u32) -> u64 {
    if number == format_number(Format::Native) { 4 } else { 2 }
}

/// A grid of blocks for the chunks of all items: a kernel comes back for what goes beyond it.
pub(crate) fn grid(chunks: usize, items: u32) -> [u32; 3] {
    const LONGEST: usize = 0x7fff_ffff;
    [chunks.min(LONGEST) as u32, items.min(65_535), 1]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::Kernel;
    use klshampoo_cuda_emulator as emulator;

    fn check<K: Kernel>() {
        assert_eq!(emulator::params_size(K::NAME), Some(size_of::<K>()), "{:?}", K::NAME);
        assert_eq!(emulator::threads(K::NAME), Some(K::THREADS), "{:?}", K::NAME);
        // What every kernel may take.
        assert!(size_of::<K>() <= 4096, "{:?}", K::NAME);
    }

    #[test]
    fn parameters_are_those_of_the_kernels() {
        check::<words::Write>();
        check::<words::Fill>();
        check::<words::Copy>();
        check::<gather::Gather>();
        check::<gather::GatherMeasured>();
        check::<gather::Missing>();
        check::<magnitude::Chunks>();
        check::<magnitude::Sum>();
        check::<norm::GlobalNorm>();
        check::<commit::Commit>();
    }

    #[test]
    fn grids_stay_within_the_limits() {
        assert_eq!(grid(3, 70_000), [3, 65_535, 1]);
        assert_eq!(grid(usize::MAX, 1), [0x7fff_ffff, 1, 1]);
        assert_eq!(grid(5, 0), [5, 0, 1]);
    }
}
