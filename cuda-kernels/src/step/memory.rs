//! The one block of device memory, and how it is split.

use klshampoo::{SliceHeader, StatePart};

use super::batch::Batch;
use super::params::{MODES, SCALARS};
use crate::batch::Array;
use crate::io::{Measure, Place};
use crate::linalg::work_len;
use crate::queue::{ALIGNMENT, DevicePtr};

/// Bytes of device memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// The state of all items, as the core has it.
    pub state: usize,
    /// Their headers.
    pub headers: usize,
    /// Places of the items, pointers to the tensors, flags and norms.
    pub tables: usize,
    /// What a step computes in: the most that one of the batches needs; the same of refreshes with a queue of their own; what a library of products works in.
    pub workspace: usize,
    /// All of it.
    pub total: usize,
}

/// A part of the block: bytes from its beginning, and elements between neighbouring items.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Slot {
    pub at: usize,
    pub stride: usize,
    pub exists: bool,
}

impl Slot {
    /// Where it is in the block at `base`.
    pub fn array(self, base: DevicePtr) -> Array {
        if self.exists { Array { base: self.pointer(base), stride: self.stride as u64 } } else { Array::NULL }
    }

    pub fn pointer(self, base: DevicePtr) -> DevicePtr {
        base.offset::<u8>(self.at)
    }
}

/// Takes parts off the block, one after another.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Carver {
    pub at: usize,
    pub overflowed: bool,
}

impl Carver {
    pub fn take(&mut self, count: usize, each: usize) -> Slot {
        let at = self.at;
        let end = count.checked_mul(each).and_then(|bytes| at.checked_add(bytes)).and_then(|end| end.checked_next_multiple_of(ALIGNMENT));
        match end.filter(|&end| end <= isize::MAX as usize) {
            Some(end) => self.at = end,
            None => self.overflowed = true,
        }
        Slot { at, stride: each, exists: true }
    }

    /// `len` numbers for each of `count` items; nothing if there are none.
    pub fn floats(&mut self, count: usize, len: usize) -> Slot {
        // Four numbers are one access.
        let stride = len.next_multiple_of(4);
        if len == 0 { Slot::default() } else { Slot { stride, ..self.take(count, 4 * stride) } }
    }

    pub fn end(&self) -> Option<usize> {
        (!self.overflowed).then_some(self.at)
    }
}

/// What a step of a batch computes in.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Workspace {
    pub next: Slot,
    pub scalars: Slot,
    pub lengths: Slot,
    pub measures: [Slot; 3],
    pub chunks: Slot,
    pub grad: Slot,
    pub gradient: Slot,
    pub new_momentum: Slot,
    pub new_second_moment: Slot,
    pub product: Slot,
    pub update: Slot,
    pub aside: Slot,
    pub delta: [Slot; MODES],
    pub new_basis: [Slot; MODES],
    pub new_lambda: [Slot; MODES],
    pub weight: [Slot; MODES],
    pub diagonal: [Slot; MODES],
    pub rotation: Slot,
    pub square: Slot,
    pub values: Slot,
    pub work: Slot,
}

impl Workspace {
    /// Of so many items of a batch, from `carver` on.
    pub fn new(batch: &Batch, count: usize, carver: &mut Carver) -> Self {
        let (shape, parts) = (batch.layout.shape(), batch.layout.parts());
        let (n, turned, full) = (shape.elements(), batch.is_turned(), batch.layout.largest_full_dim());
        let if_any = |present: bool, len: usize| if present { len } else { 0 };
        let largest = shape.elements().max(full * full);
        let mut own = Self {
            next: carver.take(count, size_of::<SliceHeader>()),
            scalars: carver.take(count, SCALARS * size_of::<f32>()),
            lengths: carver.take(count, size_of::<f32>()),
            measures: [(); 3].map(|()| carver.take(count, size_of::<Measure>())),
            chunks: carver.take(count, crate::io::chunks(largest) * size_of::<Measure>()),
            grad: carver.floats(count, if_any(!batch.is_single_pass(), n)),
            gradient: carver.floats(count, if_any(turned, n)),
            new_momentum: carver.floats(count, if_any(turned && parts.momentum, n)),
            new_second_moment: carver.floats(count, if_any(turned && parts.second_moment, n)),
            product: carver.floats(count, if_any(turned, n)),
            update: carver.floats(count, if_any(!batch.is_single_pass(), n)),
            aside: carver.floats(count, if_any(turned && batch.axes.by_factors != 0, n)),
            rotation: carver.floats(count, full * full),
            square: carver.floats(count, full * full),
            values: carver.floats(count, full),
            work: carver.floats(count, if_any(full > 0, work_len(full))),
            ..Self::default()
        };
        for k in batch.preconditioned_modes() {
            let d = shape.dim(k);
            own.new_lambda[k] = carver.floats(count, if_any(batch.layout.has_lambda(k), d));
            own.weight[k] = carver.floats(count, d);
            if shape.is_full(k) {
                own.delta[k] = carver.floats(count, d * d);
                own.new_basis[k] = carver.floats(count, d * d);
            }
            if !shape.is_full(k) || (k == 1 && batch.mixes_estimates()) {
                own.diagonal[k] = carver.floats(count, d * batch.axes.splits[k] as usize);
            }
        }
        own
    }

    /// Bytes for so many items; `None` if they do not fit the address space.
    pub fn bytes(batch: &Batch, count: usize) -> Option<usize> {
        let mut carver = Carver::default();
        Self::new(batch, count, &mut carver);
        carver.end()
    }
}

/// What stays of a batch from step to step.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kept {
    pub state: Slot,
    pub headers: Slot,
    pub places: Slot,
    /// In each step set anew, but a norm of all gradients is of all batches.
    pub flags: Slot,
    pub measures: Slot,
    /// Of each item's momentum, where the step is one pass.
    pub bounds: Slot,
    /// What a step leaves to refreshes with a queue of their own.
    pub scalars: Slot,
}

impl Kept {
    pub fn new(batch: &Batch, carvers: &mut [Carver; 3], refreshes_later: bool) -> Self {
        let count = batch.items.len();
        Self {
            state: Slot { stride: batch.layout.state_len(), ..carvers[0].take(count, 4 * batch.layout.state_len()) },
            headers: carvers[1].take(count, size_of::<SliceHeader>()),
            places: carvers[2].take(count, size_of::<Place>()),
            flags: carvers[2].take(count, size_of::<u32>()),
            measures: carvers[2].take(count, size_of::<Measure>()),
            bounds: if batch.is_single_pass() { carvers[2].take(count, size_of::<f32>()) } else { Slot::default() },
            scalars: if refreshes_later { carvers[2].take(count, SCALARS * size_of::<f32>()) } else { Slot::default() },
        }
    }

    /// The same with the parts of each kind after those before it.
    pub fn moved(mut self, headers: usize, tables: usize) -> Self {
        self.headers.at += headers;
        [&mut self.places, &mut self.flags, &mut self.measures, &mut self.bounds, &mut self.scalars]
            .into_iter()
            .for_each(|slot| slot.at += tables);
        self
    }

    /// A part of the state.
    pub fn part(&self, batch: &Batch, base: DevicePtr, part: StatePart) -> Array {
        let range = batch.layout.range(part);
        if range.is_empty() { Array::NULL } else { self.state.array(base).offset::<f32>(range.start) }
    }
}
