//! What is checked of every pointer that comes in from C, in one place.

use crate::error::{Failure, Outcome};
use crate::status::*;

/// Whether a pointer is neither NULL nor misaligned for its type.
///
/// # Errors
/// KLS_ERROR_NULL, KLS_ERROR_MISALIGNED.
pub fn check_pointer<T>(pointer: *const T) -> Outcome {
    if pointer.is_null() {
        Err(KLS_ERROR_NULL.into())
    } else if !pointer.is_aligned() {
        Err(KLS_ERROR_MISALIGNED.into())
    } else {
        Ok(())
    }
}

/// A slice from C; an empty one may come with any pointer.
///
/// # Errors
/// KLS_ERROR_NULL, KLS_ERROR_MISALIGNED, KLS_ERROR_OVERFLOW.
///
/// # Safety
/// `pointer` is NULL or points to `len` readable elements that nobody writes for `'a`.
pub unsafe fn slice<'a, T>(pointer: *const T, len: usize) -> Result<&'a [T], Failure> {
    if len == 0 {
        return Ok(&[]);
    }
    check_pointer(pointer)?;
    if len > isize::MAX as usize / size_of::<T>().max(1) {
        return Err(KLS_ERROR_OVERFLOW.into());
    }
    // SAFETY: not NULL, aligned, in range, and by the caller's word readable and not written.
    Ok(unsafe { core::slice::from_raw_parts(pointer, len) })
}

/// A mutable slice from C; an empty one may come with any pointer.
///
/// # Errors
/// As for [`slice()`].
///
/// # Safety
/// `pointer` is NULL or points to `len` elements that nobody else touches for `'a`.
pub unsafe fn slice_mut<'a, T>(pointer: *mut T, len: usize) -> Result<&'a mut [T], Failure> {
    if len == 0 {
        return Ok(&mut []);
    }
    check_pointer(pointer)?;
    if len > isize::MAX as usize / size_of::<T>().max(1) {
        return Err(KLS_ERROR_OVERFLOW.into());
    }
    // SAFETY: not NULL, aligned, in range, and by the caller's word ours alone.
    Ok(unsafe { core::slice::from_raw_parts_mut(pointer, len) })
}

/// Writes a result through a pointer.
///
/// # Errors
/// As for [`check_pointer`].
///
/// # Safety
/// `out` is NULL or writable.
pub unsafe fn put<T>(out: *mut T, value: T) -> Outcome {
    check_pointer(out)?;
    // SAFETY: not NULL, aligned, and by the caller's word writable.
    unsafe { out.write(value) };
    Ok(())
}
