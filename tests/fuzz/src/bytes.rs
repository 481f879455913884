//! Memory that is lent to the library.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ptr::NonNull;

/// So many bytes on the heap and not one more, so that AddressSanitizer sees an access beyond them. They are freed when this is dropped.
#[derive(Debug)]
pub struct Bytes {
    start: NonNull<u8>,
    layout: Layout,
}

impl Bytes {
    /// Zeros.
    pub fn zeroed(len: usize, alignment: usize) -> Self {
        let layout = Layout::from_size_align(len, alignment).expect("few bytes and a power of two");
        let start = match len {
            0 => NonNull::new(std::ptr::without_provenance_mut(alignment)).expect("an alignment is not zero"),
            // SAFETY: the size is not zero.
            _ => NonNull::new(unsafe { alloc_zeroed(layout) }).expect("memory"),
        };
        Self { start, layout }
    }

    /// A copy, for types of an alignment of at most 8.
    pub fn copy(bytes: &[u8]) -> Self {
        let mut copy = Self::zeroed(bytes.len(), 8);
        copy.bytes_mut().copy_from_slice(bytes);
        copy
    }

    /// Numbers or pointers, one after another.
    pub fn of<T: Copy>(values: &[T]) -> Self {
        let copy = Self::zeroed(size_of_val(values), align_of::<T>());
        // SAFETY: as many aligned bytes as the values have.
        unsafe { copy.pointer::<T>().copy_from_nonoverlapping(values.as_ptr(), values.len()) };
        copy
    }

    /// Where they start.
    pub fn pointer<T>(&self) -> *mut T {
        self.start.as_ptr().cast()
    }

    /// How many they are.
    pub fn len(&self) -> usize {
        self.layout.size()
    }

    /// To read.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: allocated and initialised, and the library writes it during calls only.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len()) }
    }

    /// To write.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len()) }
    }
}

impl Drop for Bytes {
    fn drop(&mut self) {
        if self.len() > 0 {
            // SAFETY: allocated with this layout.
            unsafe { dealloc(self.start.as_ptr(), self.layout) };
        }
    }
}

/// The first `size` bytes of a struct that starts with its own size, with that size.
pub fn version_of<T: Copy>(value: &T, size: usize) -> Vec<u8> {
    let whole = Bytes::of(std::slice::from_ref(value));
    let mut bytes = whole.bytes()[..size].to_vec();
    bytes[..4].copy_from_slice(&(size as u32).to_ne_bytes());
    bytes
}
