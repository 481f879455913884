//! Batches: items of equal shapes, of which some take part; `kernels/batch.h` has the same structs.

use crate::queue::DevicePtr;

/// Most blocks of an elementwise pass that share an item: eight for each of 256 multiprocessors, so that one item alone fills a device. More would
/// only cost their launch, also where no item takes part.
pub(crate) const PER_ITEM: usize = 2048;

/// One thing of each item of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Array {
    /// The first item's.
    pub base: DevicePtr,
    /// Elements between those of neighbours.
    pub stride: u64,
}

impl Array {
    /// Nothing, for all items.
    pub const NULL: Self = Self { base: DevicePtr::NULL, stride: 0 };

    /// The array of `T` that begins so many elements further on in every item.
    #[must_use]
    pub const fn offset<T>(self, elements: usize) -> Self {
        Self { base: self.base.offset::<T>(elements), stride: self.stride }
    }
}

/// The items of a batch that take part: `(flags[item] & mask) == wanted`. Without flags all do.
///
/// The flags are on the device, so what they say is not known here: a predicate decides nothing about what is launched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Items {
    /// One `u32` per item, or [`DevicePtr::NULL`].
    pub flags: DevicePtr,
    /// Number of items.
    pub count: u32,
    /// The bits that are looked at.
    pub mask: u32,
    /// What they must be.
    pub wanted: u32,
    /// Makes the padding explicit; 0.
    pub unused: u32,
}

impl Items {
    /// All of so many items.
    #[must_use]
    pub const fn all(count: u32) -> Self {
        Self { flags: DevicePtr::NULL, count, mask: 0, wanted: 0, unused: 0 }
    }

    /// Those of these items that also have `bit`; there must be flags.
    #[must_use]
    pub const fn with(self, bit: u32) -> Self {
        Self { mask: self.mask | bit, wanted: self.wanted | bit, ..self }
    }

    /// Those of these items that do not have `bit`; there must be flags.
    #[must_use]
    pub const fn without(self, bit: u32) -> Self {
        Self { mask: self.mask | bit, wanted: self.wanted & !bit, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_add_up() {
        let takes_part = |items: Items, flags: u32| flags & items.mask == items.wanted;
        let items = Items { flags: DevicePtr(8), count: 3, mask: 1, wanted: 1, unused: 0 };
        assert_eq!(items.with(4).without(2), Items { mask: 7, wanted: 5, ..items });
        for flags in 0..16 {
            let wanted = flags & 1 != 0 && flags & 4 != 0 && flags & 2 == 0;
            assert_eq!(takes_part(items.with(4).without(2), flags), wanted);
        }
    }

    #[test]
    fn offsets_count_elements() {
        let array = Array { base: DevicePtr(64), stride: 10 };
        assert_eq!(array.offset::<f32>(3), Array { base: DevicePtr(76), stride: 10 });
        assert_eq!(array.offset::<f64>(1).base, DevicePtr(72));
    }
}
