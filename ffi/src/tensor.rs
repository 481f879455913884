//! `kls_tensor`: one entry of the tensor table as C sees it.

use core::ffi::c_char;

use klshampoo::{Format, MAX_ORDER, MAX_ROW_PARTS, Mode, Rounding, Storage, TensorSpec};

use crate::checked::slice;
use crate::error::{Failure, Locate};
use crate::guard::guard;
use crate::status::*;
use crate::versioned::{FromC, Versioned, extend, write_struct};

/// Largest number of dims of a tensor.
pub const KLS_MAX_ORDER: usize = 6;

/// Most parts that the rows of a tensor are split into.
pub const KLS_MAX_ROW_PARTS: usize = 8;

/// Most bytes that are kept of a tensor's name.
pub const KLS_MAX_NAME: usize = 63;

const _: () = assert!(
    (KLS_MAX_ORDER == MAX_ORDER || cfg!(not(feature = "high-order")))
        && (KLS_MAX_ROW_PARTS == MAX_ROW_PARTS || cfg!(not(feature = "storage"))),
    "the header's numbers are the core's"
);

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
/// IEEE binary16. No parameters.
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
    /// What messages call it (kls_last_error), besides its index: a text, of which at most KLS_MAX_NAME bytes are copied when an optimizer
    /// is made; NULL (the default): nothing.
    pub name: *const c_char,
    /// Elements from one index of a dim to the next, in parameter, gradient and update: rows with a gap, or a transposed matrix. All 0 (the
    /// default): dense, row-major; strides that say the same are the same. Dims of other tensors with strides are not merged. A transposed matrix may as well be described by its dims in the order in which they lie.
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
    /// Seed of KLS_ROUNDING_STOCHASTIC. A checkpoint loads only where rounding and seed are those that it was saved with.
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
    // The first header ended before the parts of the rows, the second one before the name.
    const SIZES: &'static [usize] = &[core::mem::offset_of!(Self, row_parts), core::mem::offset_of!(Self, name), size_of::<Self>()];
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
        name: core::ptr::null(),
        strides: [0; KLS_MAX_ORDER],
        grad_format: KLS_FORMAT_F32,
        param_format: KLS_FORMAT_F32,
        master_weights: 0,
        rounding: KLS_ROUNDING_NEAREST,
        rounding_seed: 0,
        grad_scaling: 0,
        reserved: 0,
    };

    /// The bytes of its name that are kept, cut between characters where it is too long; none without a name.
    ///
    /// # Safety
    /// The name is NULL, or readable up to its NUL and unchanged during `'a`.
    pub unsafe fn kept_name<'a>(&self) -> &'a [u8] {
        let name = self.name.cast::<u8>();
        if name.is_null() {
            return &[];
        }
        // SAFETY: nothing behind the NUL is read.
        let byte = |i: usize| unsafe { name.add(i).read() };
        let mut len = (0..=KLS_MAX_NAME).take_while(|&i| byte(i) != 0).count();
        if len > KLS_MAX_NAME {
            // In UTF-8 a character's further bytes start with the bits 10.
            len = (0..=KLS_MAX_NAME).rev().find(|&i| byte(i) & 0xc0 != 0x80).unwrap_or(KLS_MAX_NAME);
        }
        // SAFETY: these bytes have been read above.
        unsafe { core::slice::from_raw_parts(name, len) }
    }

    /// The first dim that is zero.
    pub(crate) fn zero_dim(&self) -> Option<usize> {
        self.dims.iter().position(|&dim| dim == 0)
    }

    /// The core's description; sizes and group are checked when the table is built.
    ///
    /// # Errors
    /// The status of the first field that is refused, with its name.
    pub fn to_core(self) -> Result<TensorSpec, Failure> {
        let order = self.order as usize;
        if order == 0 || order > KLS_MAX_ORDER {
            return Err(KLS_ERROR_ORDER).of_field("order");
        }
        if order > MAX_ORDER {
            return Err(KLS_ERROR_NOT_BUILT).of_field("order");
        }
        let mut dims = [1; KLS_MAX_ORDER];
        for (k, (dim, &from_c)) in dims.iter_mut().zip(&self.dims[..order]).enumerate() {
            *dim = length(from_c).of_element("dims", k)?;
        }
        let spec = TensorSpec::new(&dims[..order]).map_err(|_| KLS_ERROR_ORDER)?;
        let mut spec = spec.group(self.group as usize).slices(length(self.slices).of_field("slices")?);
        if self.slice_stride != 0 {
            spec = spec.slice_stride(length(self.slice_stride).of_field("slice_stride")?);
        }
        for (k, &mode) in self.modes[..order].iter().enumerate() {
            spec = match mode {
                KLS_MODE_AUTO => spec,
                KLS_MODE_FULL => spec.mode(k, Mode::Full),
                KLS_MODE_DIAGONAL => spec.mode(k, Mode::Diagonal),
                KLS_MODE_IDENTITY => spec.mode(k, Mode::Identity),
                _ => return Err(KLS_ERROR_UNKNOWN_VALUE).of_element("modes", k),
            };
        }
        if cfg!(not(feature = "storage")) {
            return self.lies_plainly().map(|()| spec);
        }
        let mut parts = [0; KLS_MAX_ROW_PARTS];
        let given = self.row_parts.get(..self.row_part_count as usize).ok_or(KLS_ERROR_ROW_PARTS).of_field("row_part_count")?;
        for (i, (part, &from_c)) in parts.iter_mut().zip(given).enumerate() {
            *part = length(from_c).of_element("row_parts", i)?;
        }
        let spec = spec.split_rows(&parts[..given.len()]).map_err(|_| KLS_ERROR_ROW_PARTS).of_field("row_parts")?;
        Ok(spec.storage(self.storage(order)?))
    }

    /// Refuses what the feature `storage` is for, in a library without it.
    fn lies_plainly(&self) -> Result<(), Failure> {
        if self.reserved != 0 {
            return Err(KLS_ERROR_RESERVED).of_field("reserved");
        }
        let known = |choice: i32, last: i32| (0..=last).contains(&choice);
        let formats = known(self.grad_format, KLS_FORMAT_F16) && known(self.param_format, KLS_FORMAT_F16);
        if !formats || !known(self.rounding, KLS_ROUNDING_STOCHASTIC) {
            return Err(KLS_ERROR_UNKNOWN_VALUE.into());
        }
        let choices = [self.grad_format, self.param_format, self.master_weights, self.rounding, self.grad_scaling];
        let plain = choices == [0; 5] && self.row_part_count == 0 && self.strides == [0; KLS_MAX_ORDER];
        if plain { Ok(()) } else { Err(KLS_ERROR_NOT_BUILT.into()) }
    }

    /// How it lies in the caller's buffers.
    fn storage(&self, order: usize) -> Result<Storage, Failure> {
        if self.reserved != 0 {
            return Err(KLS_ERROR_RESERVED).of_field("reserved");
        }
        let format = |format| match format {
            KLS_FORMAT_F32 => Ok(Format::Native),
            KLS_FORMAT_BF16 => Ok(Format::Bf16),
            KLS_FORMAT_F16 => Ok(Format::F16),
            _ => Err(KLS_ERROR_UNKNOWN_VALUE),
        };
        let mut strides = [0; MAX_ORDER];
        for (k, (stride, &from_c)) in strides.iter_mut().zip(&self.strides[..order]).enumerate() {
            *stride = length(from_c).of_element("strides", k)?;
        }
        Ok(Storage {
            grad: format(self.grad_format).of_field("grad_format")?,
            param: format(self.param_format).of_field("param_format")?,
            master_weights: self.master_weights != 0,
            rounding: match self.rounding {
                KLS_ROUNDING_NEAREST => Rounding::Nearest,
                KLS_ROUNDING_STOCHASTIC => Rounding::Stochastic { seed: self.rounding_seed },
                _ => return Err(KLS_ERROR_UNKNOWN_VALUE).of_field("rounding"),
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
    guard("kls_tensor_init", || {
        if order == 0 || order as usize > KLS_MAX_ORDER {
            return Err(KLS_ERROR_ORDER).of_field("order");
        }
        // SAFETY: the caller vouches for `order` readable numbers.
        let given = unsafe { slice(dims, order as usize) }.of_field("dims")?;
        let mut value = kls_tensor { order, ..kls_tensor::DEFAULT };
        value.dims[..given.len()].copy_from_slice(given);
        // SAFETY: the caller vouches for the memory; the function checks the pointer and the size.
        unsafe { write_struct(tensor, struct_size, value) }.of_field("tensor")
    })
}
