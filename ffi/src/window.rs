//! How well Kronecker products approximate the second moment of a window of gradients.

use klshampoo::linalg::Portable;
use klshampoo::{window_scratch_len, window_similarity};

use crate::checked::{check_pointer, put, slice, slice_mut};
use crate::error::Locate;
use crate::guard::guard;
use crate::status::*;
use crate::versioned::{Versioned, check_struct_size, write_struct};

/// Cosine similarities of H = E[gg^T] with Kronecker products L (x) R (paper "A New Perspective on Shampoo's Preconditioner", Figs. 1
/// and 2).
#[allow(non_camel_case_types)]
#[derive(Clone, Copy)]
#[repr(C)]
pub struct kls_similarity {
    /// sizeof(kls_similarity).
    pub struct_size: u32,
    /// Shampoo squared: L = E[G G^T], R = E[G^T G].
    pub shampoo_squared: f32,
    /// Shampoo: the square roots of these.
    pub shampoo: f32,
    /// The minimum of KL(H, L (x) R): L = E[G R^-1 G^T] / n, R = E[G^T L^-1 G] / m. Eigenvalues below d 2^-23 of the largest are raised
    /// to that before they are inverted.
    pub kullback_leibler: f32,
    /// The best there is, by power iteration.
    pub optimal: f32,
    /// Of Shampoo's L with the optimal one.
    pub left: f32,
    /// Of Shampoo's R with the optimal one.
    pub right: f32,
    /// Eigenvalues of the Kullback-Leibler factors that were raised in the last round: if any, the window is too short for a minimum.
    pub raised: u32,
    /// Rounds until the Kullback-Leibler factors came to rest; 100 if they did not.
    pub rounds: u32,
}

impl Versioned for kls_similarity {
    const SIZES: &'static [usize] = &[size_of::<Self>()];
}

/// Writes how many elements of scratch kls_window_similarity needs.
///
/// Errors: KLS_ERROR_NULL, KLS_ERROR_MISALIGNED, KLS_ERROR_ZERO_DIM, KLS_ERROR_OVERFLOW; `len` is then untouched.
///
/// # Safety
/// `len` is writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kls_window_scratch_len(rows: usize, columns: usize, count: usize, len: *mut usize) -> kls_status {
    guard("kls_window_scratch_len", || {
        if rows == 0 || columns == 0 || count == 0 {
            return Err(KLS_ERROR_ZERO_DIM.into());
        }
        let needed = window_scratch_len(rows, columns, count).ok_or(KLS_ERROR_OVERFLOW)?;
        // SAFETY: the caller vouches for the number.
        unsafe { put(len, needed) }.of_field("len")
    })
}

/// Compares the second moment of `count` gradients with its Kronecker approximations. They are rows x columns each, row-major, one after
/// another in `grads`. Needs no optimizer and allocates nothing; the arithmetic is that of the portable backend. `struct_size` is
/// sizeof(kls_similarity).
///
/// Errors: KLS_ERROR_ZERO_DIM, KLS_ERROR_OVERFLOW, KLS_ERROR_NULL, KLS_ERROR_MISALIGNED, KLS_ERROR_STRUCT_SIZE,
/// KLS_ERROR_MEMORY_TOO_SHORT for the scratch, KLS_ERROR_GRADIENT_NOT_FINITE, KLS_ERROR_ZERO_WINDOW, KLS_ERROR_LINALG; `similarity` is
/// then untouched.
///
/// # Safety
/// `grads` has `count * rows * columns` readable elements, `scratch` has `scratch_len` writable ones, `similarity` has `struct_size`
/// writable bytes; none overlap.
#[unsafe(no_mangle)]
#[allow(clippy::too_many_arguments)]
pub unsafe extern "C" fn kls_window_similarity(
    grads: *const f32,
    rows: usize,
    columns: usize,
    count: usize,
    scratch: *mut f32,
    scratch_len: usize,
    similarity: *mut kls_similarity,
    struct_size: usize,
) -> kls_status {
    guard("kls_window_similarity", || {
        check_pointer(similarity).of_field("similarity")?;
        check_struct_size::<kls_similarity>(struct_size).of_field("similarity")?;
        let elements = rows.checked_mul(columns).and_then(|n| n.checked_mul(count)).ok_or(KLS_ERROR_OVERFLOW)?;
        // SAFETY: the caller vouches for both buffers.
        let (grads, scratch) = unsafe { (slice(grads, elements).of_field("grads")?, slice_mut(scratch, scratch_len).of_field("scratch")?) };
        let found = window_similarity(grads, rows, columns, count, scratch, &mut Portable).map_err(from_window)?;
        let value = kls_similarity {
            struct_size: size_of::<kls_similarity>() as u32,
            shampoo_squared: found.shampoo_squared,
            shampoo: found.shampoo,
            kullback_leibler: found.kullback_leibler,
            optimal: found.optimal,
            left: found.left,
            right: found.right,
            raised: found.raised,
            rounds: found.rounds,
        };
        // SAFETY: checked above, and by the caller's word writable.
        unsafe { write_struct(similarity, struct_size, value) }
    })
}
