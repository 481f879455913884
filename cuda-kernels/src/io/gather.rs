//! Gradients to dense `f32`.

use std::ffi::CStr;

use klshampoo::Format;

use super::magnitude::{first_stage, second_stage};
use super::{Geometry, Pieces, Scalar, THREADS, Theta, format_number, format_size, grid};
use crate::batch::{Array, Items};
use crate::queue::{DeviceError, DevicePtr, Kernel, Queue, Traffic};

/// What is gathered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// The pieces.
    pub pieces: Pieces,
    /// On the device: a pointer to the buffer of each tensor. Items whose tensors have none are left out.
    pub pointers: DevicePtr,
    /// Format of the buffers.
    pub format: Format,
}

/// What becomes of a gradient when it is read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Transform {
    /// A factor on it.
    pub scale: Scalar,
    /// A further one, an `f32` on the device such as that of a [`super::Norm`], or [`DevicePtr::NULL`]. The product of both is rounded, then the
    /// gradient multiplied.
    pub clip: DevicePtr,
    /// What is added then.
    pub penalty: Option<Penalty>,
}

impl Transform {
    /// The numbers as they are.
    pub const NONE: Self = Self::scaled(Scalar::ONE);

    /// The numbers times a factor.
    #[must_use]
    pub const fn scaled(scale: Scalar) -> Self {
        Self { scale, clip: DevicePtr::NULL, penalty: None }
    }

    /// The same with a further factor on the device.
    #[must_use]
    pub const fn clipped(self, clip: DevicePtr) -> Self {
        Self { clip, ..self }
    }

    /// The same with the gradient of a penalty.
    #[must_use]
    pub const fn penalised(self, penalty: Penalty) -> Self {
        Self { penalty: Some(penalty), ..self }
    }
}

/// The gradient of an L2 penalty: `decay` times the parameter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Penalty {
    /// The weight decay.
    pub decay: f32,
    /// The parameter.
    pub theta: Theta,
}

/// `kls_io_gather_params`
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Gather {
    items: Items,
    geometry: Geometry,
    places: DevicePtr,
    pointers: DevicePtr,
    out: Array,
    scale: Scalar,
    clip: DevicePtr,
    theta: Theta,
    chunks: DevicePtr,
    decay: f32,
    format: u32,
}

// SAFETY: `kls_io_gather_params`, field by field.
unsafe impl Kernel for Gather {
    const NAME: &'static CStr = c"kls_io_gather";
    const THREADS: u32 = THREADS;

    fn traffic(&self, _: [u32; 3]) -> Traffic {
        self.all_traffic()
    }
}

/// The same with what it measures.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct GatherMeasured(Gather);

// SAFETY: `kls_io_gather_params`, field by field.
unsafe impl Kernel for GatherMeasured {
    const NAME: &'static CStr = c"kls_io_gather_measured";
    const THREADS: u32 = THREADS;

    fn traffic(&self, _: [u32; 3]) -> Traffic {
        self.0.all_traffic()
    }
}

/// `kls_io_missing`
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Missing {
    items: Items,
    places: DevicePtr,
    pointers: DevicePtr,
    bit: u32,
    unused: u32,
}

// SAFETY: `kls_io_missing_params`, field by field.
unsafe impl Kernel for Missing {
    const NAME: &'static CStr = c"kls_io_missing";
    const THREADS: u32 = 256;
}

impl Gather {
    /// As [`gather`] has it.
    pub(crate) fn new(items: Items, source: &Source, transform: &Transform, out: Array) -> Self {
        let Penalty { decay, theta } = transform.penalty.unwrap_or(Penalty { decay: 0.0, theta: Theta::NONE });
        Self {
            items,
            geometry: source.pieces.geometry,
            places: source.pieces.places,
            pointers: source.pointers,
            out,
            scale: transform.scale,
            clip: transform.clip,
            theta,
            chunks: DevicePtr::NULL,
            decay,
            format: format_number(source.format),
        }
    }

    fn all_traffic(&self) -> Traffic {
        let (items, elements) = (u64::from(self.items.count), self.geometry.elements() as u64);
        let penalty =
            if self.theta == Theta::NONE { Traffic::NONE } else { Traffic::of(items, elements, self.theta.moving_size(), [1, 0]) };
        let out = if self.out == Array::NULL { Traffic::NONE } else { Traffic::of(items, elements, 4, [0, 1]) };
        self.gradient_traffic() + penalty + out
    }

    /// What is read where the gradient lies.
    pub(crate) fn gradient_traffic(&self) -> Traffic {
        Traffic::of(u64::from(self.items.count), self.geometry.elements() as u64, format_size(self.format), [1, 0])
    }

    fn grid(&self) -> [u32; 3] {
        grid(self.geometry.chunks(), self.items.count)
    }
}

/// Writes each item's elements, as `f32` and transformed, one after another to `out`.
///
/// # Errors
/// The queue's.
pub fn gather<Q: Queue>(queue: &mut Q, items: Items, source: &Source, transform: &Transform, out: Array) -> Result<(), DeviceError> {
    let kernel = Gather::new(items, source, transform, out);
    queue.launch(kernel.grid(), kernel)
}

/// The same, and measures what it writes: a [`super::Measure`] per item at `measures`, with the bits that [`super::magnitude`] of `out` gives. With
/// [`Array::NULL`] in the place of `out` it only measures.
/// `work` has room for [`Geometry::chunks`] of them per item, and is not looked at where there is one chunk. Items whose tensors have no
/// buffer must not take part.
///
/// # Errors
/// The queue's.
pub fn gather_measured<Q: Queue>(
    queue: &mut Q,
    items: Items,
    source: &Source,
    transform: &Transform,
    out: Array,
    work: DevicePtr,
    measures: DevicePtr,
) -> Result<(), DeviceError> {
    let len = source.pieces.geometry.elements();
    let kernel = Gather { chunks: first_stage(len, work, measures), ..Gather::new(items, source, transform, out) };
    queue.launch(kernel.grid(), GatherMeasured(kernel))?;
    second_stage(queue, items, len, work, measures)
}

/// Sets `bit` in the flags of the items whose tensors have no buffer, and takes it from the others that take part. There must be flags.
///
/// # Errors
/// The queue's.
pub fn flag_missing<Q: Queue>(queue: &mut Q, items: Items, pieces: &Pieces, pointers: DevicePtr, bit: u32) -> Result<(), DeviceError> {
    let kernel = Missing { items, places: pieces.places, pointers, bit, unused: 0 };
    queue.launch([items.count.div_ceil(Missing::THREADS), 1, 1], kernel)
}
