//! Boxes and lists whose memory may not be there. The standard library's own end the program then.

use crate::status::{KLS_ERROR_OUT_OF_MEMORY, kls_status};

/// A box, if there is memory for it.
///
/// # Errors
/// KLS_ERROR_OUT_OF_MEMORY.
pub fn boxed<T>(value: T) -> Result<Box<T>, kls_status> {
    let one: Box<[T]> = collected(std::iter::once(Ok(value)))?.into_boxed_slice();
    // SAFETY: a slice of one element lies in memory as that element does, and this box was its only owner.
    Ok(unsafe { Box::from_raw(Box::into_raw(one).cast::<T>()) })
}

/// All of the values, or the first error.
///
/// # Errors
/// KLS_ERROR_OUT_OF_MEMORY; the values'.
pub fn collected<T>(values: impl ExactSizeIterator<Item = Result<T, kls_status>>) -> Result<Vec<T>, kls_status> {
    let mut all = Vec::new();
    all.try_reserve_exact(values.len()).map_err(|_| KLS_ERROR_OUT_OF_MEMORY)?;
    for value in values {
        all.push(value?);
    }
    Ok(all)
}
