//! Gradients that a step can read where they lie.

use klshampoo::Format;

use super::batch::Batch;
use super::pass::Given;
use crate::batch::Array;
use crate::io::Geometry;
use crate::queue::DevicePtr;

/// Bytes that are read in one access.
const ACCESS: u64 = 16;

/// The gradients of a batch's items, where they lie.
#[derive(Clone, Copy, Debug)]
pub(super) struct InPlace {
    pub array: Array,
    /// Whether every item has one. What others' elements of the array are is unknown, and they may not be there.
    pub of_all: bool,
}

/// The gradients of a batch as an array: dense, `f32`, used as they are, one access's multiple from each other. `None` where they are not. Of
/// tensors without a gradient nothing is read, so they may lie anywhere. A step in one pass reads gradients where they lie in any case.
pub(super) fn in_place(batch: &Batch, given: &Given, grads: &[DevicePtr]) -> Option<InPlace> {
    let scaled = given.clip != DevicePtr::NULL
        || given.grad_scale.pointer != DevicePtr::NULL
        || given.grad_scale.value * given.grad_scale.factor != 1.0;
    let dense = batch.geometry == Geometry::dense(batch.geometry.elements());
    if batch.is_single_pass() || scaled || !dense || batch.grad != Format::Native || batch.is_penalised() {
        return None;
    }
    let of = |tensor: usize, offset: u64| {
        Some(grads[tensor].address() + offset * size_of::<f32>() as u64).filter(|_| grads[tensor] != DevicePtr::NULL)
    };
    let of_all = !batch.any(|item| grads[item.tensor] == DevicePtr::NULL);
    let mut at = batch.items.iter().enumerate().filter_map(|(i, item)| Some((i as u64, of(item.tensor, item.place.offset)?)));
    let (first, start) = at.next()?;
    let mut stride = None;
    for (i, address) in at {
        let distance = address.checked_sub(start)?;
        let own = *stride.get_or_insert(distance / (i - first));
        if own == 0 || own.checked_mul(i - first)? != distance {
            return None;
        }
    }
    let stride = stride.unwrap_or(0);
    let base = start.checked_sub(stride.checked_mul(first)?)?;
    let array = Array { base: DevicePtr(base), stride: stride / size_of::<f32>() as u64 };
    (base != 0 && base % ACCESS == 0 && stride % ACCESS == 0).then_some(InPlace { array, of_all })
}
