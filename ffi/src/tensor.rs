//! `kls_tensor`: one entry of the tensor table as C sees it.

use klshampoo::{Format, MAX_ORDER, MAX_ROW_PARTS, Mode, Rounding, Storage, TensorSpec};

use crate::checked::slice;
use crate::guard::guard;
use crate::status::*;
use crate::versioned::{FromC, Versioned, extend, write_struct};

/// Largest number of dims of a tensor.
pub const KLS_MAX_ORDER: usize = 6;

/// Most parts that the rows of a tensor are split into.
pub const KLS_MAX_ROW_PARTS: usize = 8;

const _: () = assert!(KLS_MAX_ORDER == MAX_ORDER && KLS_MAX_ROW_PARTS == MAX_ROW_PARTS, "the header's numbers are the core's");

/// Full up to the group's max_dim, diagonal beyond it. The default.
pub const KLS_MODE_AUTO: i32 = 0;
/// A full Kronecker factor with its eigenbasis.
pub const KLS_MODE_FULL: i32 = 1;
/// The diagonal of a factor.
pub const KLS_MODE_DIAGONAL: i32 = 2;
/// Not preconditioned.
pub const KLS_MODE_IDENTITY: i32 = 3;

/// 32-bit IEEE floats.
pub const KLS_FORMAT_F32: i32 = 0;
/// bfloat16, the upper half of an f32.
pub const KLS_FORMAT_BF16: i32 = 1;
/// IEEE binary16. Gradients only.
pub const KLS_FORMAT_F16: i32 = 2;

/// To the nearest, ties to even.
pub const KLS_ROUNDING_NEAREST: i32 = 0;
/// Up or down with the probability that makes the mean right. The choice depends on the seed, the tensor's index, the slice, the element
/// and the slice's step alone: not on threads, and not on other tensors.
pub const KLS_ROUNDING_STOCHASTIC: i32 = 1;

/// One parameter tensor: by default row-major, dense, 32-bit floats. Fill it with kls_tensor_init, then change what you want.
///
/// 1-D tensors of a group with Kronecker factors are stepped by AdamW with the group's betas, eps, weight decay and learning rate,
/// unless `modes[0]` says otherwise.
#[allow(non_camel_case_types)]
#[derive(Clone, Copy)]
#[repr(C)]
pub struct kls_tensor {
    /// sizeof(kls_tensor), set by kls_tensor_init.
    pub struct_size: u32,
    /// Index of its group. Default 0.
    pub group: u32,
    /// Number of dims, 1 to KLS_MAX_ORDER.
    pub order: u32,
    /// Parts of the rows in use; 0 (the default): the rows are not split.
    pub row_part_count: u32,
    /// Lengths of the dims of one slice.
    pub dims: [u64; KLS_MAX_ORDER],
    /// KLS_MODE_* per dim. A group without Kronecker factors (AdamW) has no use for it.
    pub modes: [i32; KLS_MAX_ORDER],
    /// Number of equal slices, each a tensor of these dims with a state of its own (layers stacked in one buffer). Default 1.
    pub slices: u64,
    /// Elements from the start of one slice to the start of the next; 0: slices are dense.
    pub slice_stride: u64,
    /// Lengths of the parts of the first dim that have a state of their own, such as queries, keys and values in one matrix.
    pub row_parts: [u64; KLS_MAX_ROW_PARTS],
    /// Elements from one index of a dim to the next, in parameter, gradient and update: rows with a gap, or a transposed matrix. All 0 (the
    /// default): dense, row-major. A transposed matrix may as well be described by its dims in the order in which they lie.
    pub strides: [u64; KLS_MAX_ORDER],
    /// KLS_FORMAT_* of the gradient. Default KLS_FORMAT_F32.
    pub grad_format: i32,
    /// KLS_FORMAT_* of the parameter: f32 or bf16. Default KLS_FORMAT_F32.
    pub param_format: i32,
    /// Non-zero: the state holds f32 master weights of a bf16 parameter. They are taken from it in the first step; from then on they
    /// are stepped, and the parameter is written from them. Default 0: the bf16 parameter itself is stepped and rounded.
    pub master_weights: i32,
    /// KLS_ROUNDING_* of a bf16 parameter. Default KLS_ROUNDING_NEAREST.
    pub rounding: i32,
    /// Seed of KLS_ROUNDING_STOCHASTIC. Part of the state.
    pub rounding_seed: u64,
    /// Non-zero: in lent memory, steps may scale this tensor's gradient (grad_scale of kls_step), which takes scratch for a copy of a slice
    /// that has Kronecker factors. An optimizer made by kls_optimizer_create always may. Default 0.
    pub grad_scaling: i32,
    /// Must be 0.
    pub reserved: u32,
}

/// A length from C in this machine's size.
fn length(value: u64) -> Result<usize, kls_status> {
    usize::try_from(value).map_err(|_| KLS_ERROR_OVERFLOW)
}

impl Versioned for kls_tensor {
    // The first header ended before the parts of the rows, the second one before the strides.
    const SIZES: &'static [usize] = &[core::mem::offset_of!(Self, row_parts), core::mem::offset_of!(Self, strides), size_of::<Self>()];
}

impl FromC for kls_tensor {
    unsafe fn read(from: *const u8, size: usize) -> Result<Self, kls_status> {
        // SAFETY: each version is the start of the next, by the caller's word readable.
        Ok(unsafe { extend(Self::DEFAULT, from, size) })
    }
}

impl kls_tensor {
    /// One slice, group 0, automatic modes, no dims yet.
    const DEFAULT: Self = Self {
        struct_size: size_of::<Self>() as u32,
        group: 0,
        order: 0,
        row_part_count: 0,
        dims: [0; KLS_MAX_ORDER],
        modes: [KLS_MODE_AUTO; KLS_MAX_ORDER],
        slices: 1,
        slice_stride: 0,
        row_parts: [0; KLS_MAX_ROW_PARTS],
        strides: [0; KLS_MAX_ORDER],
        grad_format: KLS_FORMAT_F32,
        param_format: KLS_FORMAT_F32,
        master_weights: 0,
        rounding: KLS_ROUNDING_NEAREST,
        rounding_seed: 0,
        grad_scaling: 0,
        reserved: 0,
    };

    /// The core's description; sizes and group are checked when the table is built.
    pub(crate) fn to_core(self) -> Result<TensorSpec, kls_status> {
        let order = self.order as usize;
        if order == 0 || order > KLS_MAX_ORDER {
            return Err(KLS_ERROR_ORDER);
        }
        let mut dims = [1; KLS_MAX_ORDER];
        for (dim, &from_c) in dims.iter_mut().zip(&self.dims[..order]) {
            *dim = length(from_c)?;
        }
        let spec = TensorSpec::new(&dims[..order]).map_err(|_| KLS_ERROR_ORDER)?;
        let mut spec = spec.group(self.group as usize).slices(length(self.slices)?);
        if self.slice_stride != 0 {
            spec = spec.slice_stride(length(self.slice_stride)?);
        }
        for (k, &mode) in self.modes[..order].iter().enumerate() {
            spec = match mode {
                KLS_MODE_AUTO => spec,
                KLS_MODE_FULL => spec.mode(k, Mode::Full),
                KLS_MODE_DIAGONAL => spec.mode(k, Mode::Diagonal),
                KLS_MODE_IDENTITY => spec.mode(k, Mode::Identity),
                _ => return Err(KLS_ERROR_UNKNOWN_VALUE),
            };
        }
        let mut parts = [0; KLS_MAX_ROW_PARTS];
        let given = self.row_parts.get(..self.row_part_count as usize).ok_or(KLS_ERROR_ROW_PARTS)?;
        for (part, &from_c) in parts.iter_mut().zip(given) {
            *part = length(from_c)?;
        }
        let spec = spec.split_rows(&parts[..given.len()]).map_err(|_| KLS_ERROR_ROW_PARTS)?;
        Ok(spec.storage(self.storage(order)?))
    }

    /// How it lies in the caller's buffers.
    fn storage(&self, order: usize) -> Result<Storage, kls_status> {
        if self.reserved != 0 {
            return Err(KLS_ERROR_RESERVED);
        }
        let format = |format| match format {
            KLS_FORMAT_F32 => Ok(Format::Native),
            KLS_FORMAT_BF16 => Ok(Format::Bf16),
            KLS_FORMAT_F16 => Ok(Format::F16),
            _ => Err(KLS_ERROR_UNKNOWN_VALUE),
        };
        let mut strides = [0; KLS_MAX_ORDER];
        for (stride, &from_c) in strides.iter_mut().zip(&self.strides[..order]) {
            *stride = length(from_c)?;
        }
        Ok(Storage {
            grad: format(self.grad_format)?,
            param: format(self.param_format)?,
            master_weights: self.master_weights != 0,
            rounding: match self.rounding {
                KLS_ROUNDING_NEAREST => Rounding::Nearest,
                KLS_ROUNDING_STOCHASTIC => Rounding::Stochastic { seed: self.rounding_seed },
                _ => return Err(KLS_ERROR_UNKNOWN_VALUE),
            },
            grad_scaling: self.grad_scaling != 0,
            strides: strides.iter().any(|&stride| stride != 0).then_some(strides),
        })
    }
}

/// Fills `tensor` with `order` dims, one slice, group 0, automatic modes. `struct_size` is sizeof(kls_tensor).
///
/// Errors: KLS_ERROR_NULL, KLS_ERROR_MISALIGNED, KLS_ERROR_STRUCT_SIZE, KLS_ERROR_ORDER; `tensor` is then untouched. The dims'
/// values are checked when an optimizer is made.
///
/// # Safety
/// `tensor` points to `struct_size` writable bytes, `dims` to `order` numbers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kls_tensor_init(tensor: *mut kls_tensor, struct_size: usize, order: u32, dims: *const u64) -> kls_status {
    guard(|| {
        if order == 0 || order as usize > KLS_MAX_ORDER {
            return Err(KLS_ERROR_ORDER);
        }
        // SAFETY: the caller vouches for `order` readable numbers.
        let given = unsafe { slice(dims, order as usize)? };
        let mut value = kls_tensor { order, ..kls_tensor::DEFAULT };
        value.dims[..given.len()].copy_from_slice(given);
        // SAFETY: the caller vouches for the memory; the function checks the pointer and the size.
        unsafe { write_struct(tensor, struct_size, value) }
    })
}
