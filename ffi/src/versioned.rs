//! Structs whose first field is their size, which grow at their end: what a program was compiled with may be shorter than what this
//! library knows.

use core::marker::PhantomData;

use crate::checked::check_pointer;
use crate::error::{Failure, Outcome};
use crate::status::*;

/// A struct of C that has grown, or may.
pub trait Versioned: Copy {
    /// The sizes that a header has given it, oldest first. Each version is the start of the next, unless the type says otherwise.
    const SIZES: &'static [usize];

    /// Whether it starts with `struct_size: u32`.
    const SELF_SIZED: bool = true;

    /// Writes the first `size` bytes of a struct, `struct_size` among them.
    ///
    /// # Safety
    /// `to` is aligned and has `size` writable bytes, and `size` is one of [`Self::SIZES`].
    unsafe fn write(self, to: *mut u8, size: usize) {
        // SAFETY: by the caller's word.
        unsafe { write_start(&self, to, size) };
    }
}

/// Writes the first `size` bytes of a struct, `struct_size` among them.
///
/// # Safety
/// As [`Versioned::write`]; the version of that size is the start of the struct.
pub unsafe fn write_start<T: Versioned>(value: &T, to: *mut u8, size: usize) {
    // SAFETY: `size` is at most that of the struct, and where that is said its first field is a u32.
    unsafe {
        core::ptr::copy_nonoverlapping((&raw const *value).cast(), to, size);
        if T::SELF_SIZED {
            to.cast::<u32>().write(size as u32);
        }
    }
}

/// Such a struct that comes in from C.
pub trait FromC: Versioned {
    /// Reads a struct of one of the sizes; fields beyond it have their defaults.
    ///
    /// # Errors
    /// What the struct itself refuses.
    ///
    /// # Safety
    /// `from` is aligned and has `size` readable bytes, and `size` is one of [`Versioned::SIZES`].
    unsafe fn read(from: *const u8, size: usize) -> Result<Self, kls_status>;
}

/// A struct of which a caller knows only the first `size` bytes.
///
/// # Safety
/// `from` has `size` readable bytes, which are the start of a `T`; `size` is at most the size of `T`.
pub unsafe fn extend<T: Copy>(known: T, from: *const u8, size: usize) -> T {
    let mut value = known;
    // SAFETY: any start of a `T` in place of its own start leaves a `T`: the structs are plain numbers and pointers.
    unsafe { core::ptr::copy_nonoverlapping(from, (&raw mut value).cast(), size) };
    value
}

/// A struct's declared size against the versions of it that this library knows.
///
/// # Errors
/// KLS_ERROR_STRUCT_SIZE.
pub fn check_struct_size<T: Versioned>(size: usize) -> Outcome {
    if T::SIZES.contains(&size) { Ok(()) } else { Err(KLS_ERROR_STRUCT_SIZE.into()) }
}

/// The size that a struct from C says it has.
///
/// # Safety
/// `pointer` is NULL or points to a struct whose first four bytes are readable.
unsafe fn struct_size<T: FromC>(pointer: *const T) -> Result<usize, Failure> {
    check_pointer(pointer)?;
    // SAFETY: not NULL, aligned for the struct and so for its first field.
    let size = unsafe { pointer.cast::<u32>().read() } as usize;
    check_struct_size::<T>(size)?;
    Ok(size)
}

/// Reads a struct from C.
///
/// # Errors
/// KLS_ERROR_NULL, KLS_ERROR_MISALIGNED, KLS_ERROR_STRUCT_SIZE, and what the struct itself refuses.
///
/// # Safety
/// `pointer` is NULL or points to a struct of the size that its first field says.
pub unsafe fn read_struct<T: FromC>(pointer: *const T) -> Result<T, Failure> {
    // SAFETY: the caller vouches for it.
    unsafe {
        let size = struct_size(pointer)?;
        Ok(T::read(pointer.cast(), size)?)
    }
}

/// Writes a struct for a caller that gives its size.
///
/// # Errors
/// KLS_ERROR_NULL, KLS_ERROR_MISALIGNED, KLS_ERROR_STRUCT_SIZE; nothing is then written.
///
/// # Safety
/// `out` is NULL or points to `struct_size` writable bytes.
pub unsafe fn write_struct<T: Versioned>(out: *mut T, struct_size: usize, value: T) -> Outcome {
    check_pointer(out)?;
    check_struct_size::<T>(struct_size)?;
    // SAFETY: not NULL, aligned, and by the caller's word writable for its size.
    unsafe { value.write(out.cast(), struct_size) };
    Ok(())
}

/// An array of structs from C, all of the size that the first one says.
#[derive(Debug)]
pub struct Structs<'a, T> {
    first: *const u8,
    size: usize,
    count: usize,
    borrow: PhantomData<&'a T>,
}

impl<T> Clone for Structs<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Structs<'_, T> {}

impl<'a, T: FromC> Structs<'a, T> {
    /// The array at a pointer.
    ///
    /// # Errors
    /// KLS_ERROR_NULL, KLS_ERROR_MISALIGNED, KLS_ERROR_STRUCT_SIZE, KLS_ERROR_OVERFLOW.
    ///
    /// # Safety
    /// `pointer` points to `count` structs, one after another, that nobody writes during `'a`. An empty array may come with any pointer.
    pub unsafe fn new(pointer: *const T, count: usize) -> Result<Self, Failure> {
        if count == 0 {
            return Ok(Self { first: core::ptr::null(), size: 0, count, borrow: PhantomData });
        }
        // SAFETY: by the caller's word the first one is there.
        let size = unsafe { struct_size(pointer)? };
        if count > isize::MAX as usize / size {
            return Err(KLS_ERROR_OVERFLOW.into());
        }
        Ok(Self { first: pointer.cast(), size, count, borrow: PhantomData })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The struct of an index.
    ///
    /// # Errors
    /// KLS_ERROR_STRUCT_SIZE when its size is not that of the first one.
    pub fn get(&self, index: usize) -> Option<Result<T, kls_status>> {
        (index < self.count).then(|| {
            // SAFETY: inside the array that the caller of `new` vouched for; its first field is a u32, and versions keep that alignment.
            unsafe {
                let from = self.first.add(index * self.size);
                if from.cast::<u32>().read() as usize != self.size {
                    return Err(KLS_ERROR_STRUCT_SIZE);
                }
                T::read(from, self.size)
            }
        })
    }

    /// All of them.
    pub fn iter(self) -> impl Iterator<Item = Result<T, kls_status>> + use<'a, T> {
        (0..self.count).filter_map(move |index| self.get(index))
    }
}
