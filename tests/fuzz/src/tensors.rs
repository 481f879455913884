//! Entries of a table of tensors, and the buffers that belong to them.

use std::mem::{MaybeUninit, offset_of};

use klshampoo_ffi::*;

use crate::bytes::{Bytes, version_of};
use crate::choices::{Choices, Numbers};
use crate::groups;
use crate::status::check_without;

/// The sizes that `kls_tensor` has had, the present one last.
pub const SIZES: [usize; 3] = [offset_of!(kls_tensor, row_parts), offset_of!(kls_tensor, name), size_of::<kls_tensor>()];

/// What no tensor of a test that is stepped is larger than, in elements.
const LARGEST: u64 = 1 << 17;

/// A dense tensor in group 0.
pub fn plain(dims: &[u64]) -> kls_tensor {
    let (mut tensor, dims) = (MaybeUninit::<kls_tensor>::uninit(), Bytes::of(dims));
    let order = (dims.len() / 8) as u32;
    // SAFETY: room for the struct, whose size is given; it is filled on success.
    unsafe {
        let status = check_without(kls_tensor_init(tensor.as_mut_ptr(), size_of::<kls_tensor>(), order, dims.pointer()));
        assert_eq!(status, KLS_OK);
        tensor.assume_init()
    }
}

/// A small tensor of any order.
pub fn small(choices: &mut Choices<'_>) -> kls_tensor {
    let order = choices.pick(&[2, 2, 2, 1, 3, 4, 5, 6, 2]);
    let most = [0, 9, 8, 5, 4, 3, 2][order];
    let dims: Vec<u64> = (0..order).map(|_| 1 + choices.below(most) as u64).collect();
    plain(&dims)
}

/// Parameter and gradient in 16 bits, as they go together.
pub fn change_formats(choices: &mut Choices<'_>, tensor: &mut kls_tensor) {
    tensor.grad_format = choices.option(3);
    tensor.grad_scaling = choices.option(2);
    tensor.param_format = choices.option(2);
    if tensor.param_format == KLS_FORMAT_BF16 || choices.rarely(16) {
        tensor.rounding = choices.option(2);
        tensor.rounding_seed = choices.any();
        tensor.master_weights = choices.option(2);
    }
}

/// Everything else that a tensor may be.
pub fn change(choices: &mut Choices<'_>, tensor: &mut kls_tensor) {
    let order = (tensor.order as usize).clamp(1, KLS_MAX_ORDER);
    match choices.below(8) {
        0 => {
            tensor.slices = choices.length(&[1, 2, 3]);
            let extent = extent(tensor).unwrap_or(0);
            tensor.slice_stride = choices.length(&[0, extent, extent.saturating_add(1), extent.saturating_add(7)]);
        }
        1 => change_formats(choices, tensor),
        2 => {
            let k = choices.below(order);
            tensor.modes[k] = choices.option(4);
        }
        3 => lay_out(choices, tensor, order),
        4 => {
            let first = tensor.dims[0].max(2);
            let cut = 1 + choices.below(first.min(9) as usize - 1) as u64;
            tensor.row_parts[..2].copy_from_slice(&[cut, choices.length(&[first - cut])]);
            tensor.row_part_count = if choices.rarely(16) { choices.any() } else { 2 };
        }
        5 => {
            let k = choices.below(order);
            tensor.dims[k] = choices.length(&[1, 2, 3, 17]);
        }
        6 => tensor.group = choices.mostly_below(2) as u32,
        _ => (tensor.order, tensor.reserved) = (choices.option(7) as u32, choices.option(2) as u32),
    }
}

/// Strides of rows with a gap, or of a transposed tensor with one.
fn lay_out(choices: &mut Choices<'_>, tensor: &mut kls_tensor, order: usize) {
    let (turned, mut stride) = (choices.rarely(2), 1 + choices.below(2) as u64);
    for i in 0..order {
        let k = if turned { i } else { order - 1 - i };
        tensor.strides[k] = choices.length(&[stride]);
        stride = stride.saturating_mul(tensor.dims[k]).saturating_add(choices.below(2) as u64);
    }
}

/// Elements of a slice from its first to its last.
fn extent(tensor: &kls_tensor) -> Option<u64> {
    let dims = tensor.dims.get(..tensor.order as usize)?;
    if tensor.strides == [0; KLS_MAX_ORDER] {
        return dims.iter().try_fold(1u64, |product, &dim| product.checked_mul(dim));
    }
    let reach = |k: usize| dims[k].checked_sub(1)?.checked_mul(tensor.strides[k]);
    (0..dims.len()).try_fold(1u64, |sum, k| sum.checked_add(reach(k)?))
}

/// Elements of a tensor's buffers, unless they are too many for a test.
pub fn span(tensor: &kls_tensor) -> Option<usize> {
    let extent = extent(tensor)?;
    let stride = if tensor.slice_stride == 0 { extent } else { tensor.slice_stride };
    let span = tensor.slices.checked_sub(1)?.checked_mul(stride)?.checked_add(extent)?;
    (span <= LARGEST).then_some(span as usize)
}

/// Groups and tensors as arrays that a call is given.
pub struct Table {
    /// Of `kls_config`, in one of its versions.
    pub groups: Bytes,
    /// How many.
    pub group_count: usize,
    /// Of `kls_tensor`, in one of its versions.
    pub tensors: Bytes,
    /// The largest decay of a group per unit of learning rate.
    pub decay: f32,
    /// As the library reads them.
    pub described: Vec<kls_tensor>,
    /// What the tensors' names point to.
    _names: Vec<Bytes>,
}

impl Table {
    /// Of the present version, or rarely of an older one.
    pub fn new(choices: &mut Choices<'_>, groups: &[kls_config], mut tensors: Vec<kls_tensor>) -> Self {
        let older = |choices: &mut Choices<'_>, sizes: [usize; 3]| if choices.rarely(16) { choices.pick(&sizes) } else { sizes[2] };
        let (group_size, tensor_size) = (older(choices, groups::SIZES), older(choices, SIZES));
        let group_bytes: Vec<u8> = groups.iter().flat_map(|group| groups::of_version(choices, group, group_size)).collect();
        let mut names = Vec::new();
        for tensor in &mut tensors {
            if choices.rarely(4) {
                name(choices, tensor, &mut names);
            }
        }
        Self::of_bytes(&group_bytes, groups.len(), tensors, tensor_size, names)
    }

    /// Groups of any bytes.
    pub fn of_bytes(groups: &[u8], group_count: usize, tensors: Vec<kls_tensor>, tensor_size: usize, names: Vec<Bytes>) -> Self {
        let bytes: Vec<u8> = tensors.iter().flat_map(|tensor| version_of(tensor, tensor_size)).collect();
        let as_read = |tensor: &kls_tensor| {
            let (start, mut read) = (version_of(tensor, tensor_size), plain(&[1]));
            // SAFETY: a start of the struct in place of its own.
            unsafe { (&raw mut read).cast::<u8>().copy_from_nonoverlapping(start.as_ptr(), tensor_size) };
            read
        };
        let described = tensors.iter().map(as_read).collect();
        let decay = groups.chunks((groups.len() / group_count.max(1)).max(1)).map(groups::decay).fold(0.0, f32::max);
        Self { groups: Bytes::copy(groups), group_count, decay, tensors: Bytes::copy(&bytes), described, _names: names }
    }

    /// Parameters, gradients and updates of the tensors; `None` where they would be too large.
    pub fn buffers(&self) -> Option<Vec<Buffers>> {
        self.described.iter().map(Buffers::new).collect()
    }
}

/// Gives a tensor a name of any bytes, also a long one.
fn name(choices: &mut Choices<'_>, tensor: &mut kls_tensor, names: &mut Vec<Bytes>) {
    let any = [choices.any(), 0xff, b'"'];
    let (unit, len) = (choices.pick(&[*b"w.0", *b"h\xc3\xa9", *b"\xe2\x82\xac", any]), choices.pick(&[3, 0, 1, 62, 63, 64, 65, 66, 200]));
    let mut text: Vec<u8> = unit.into_iter().cycle().take(len).filter(|&byte| byte != 0).collect();
    text.push(0);
    names.push(Bytes::copy(&text));
    tensor.name = names[names.len() - 1].pointer();
}

/// Bytes of a number of a format.
pub fn element(format: i32) -> usize {
    if format == KLS_FORMAT_F32 { 4 } else { 2 }
}

/// What a tensor's steps are given.
#[derive(Debug)]
pub struct Buffers {
    /// Of the parameter's format.
    pub param: Bytes,
    /// Of the gradient's format.
    pub grad: Bytes,
    /// f32.
    pub update: Bytes,
    param_format: i32,
    grad_format: i32,
}

impl Buffers {
    /// Zeros.
    pub fn new(tensor: &kls_tensor) -> Option<Self> {
        let span = span(tensor)?;
        let zeros = |element: usize| Bytes::zeroed(span * element, element);
        let (param, grad) = (zeros(element(tensor.param_format)), zeros(element(tensor.grad_format)));
        Some(Self { param, grad, update: zeros(4), param_format: tensor.param_format, grad_format: tensor.grad_format })
    }

    /// Whether a plain step takes them.
    pub fn are_f32(&self) -> bool {
        (self.param_format, self.grad_format) == (KLS_FORMAT_F32, KLS_FORMAT_F32)
    }

    /// New calm numbers in the gradient.
    pub fn fill_gradient(&mut self, numbers: &mut Numbers) {
        fill(&mut self.grad, self.grad_format, numbers);
    }

    /// And in the parameter.
    pub fn fill_parameter(&mut self, numbers: &mut Numbers) {
        fill(&mut self.param, self.param_format, numbers);
    }

    /// Whether all numbers of the parameter are finite and no update takes them out of the range of numbers.
    pub fn parameter_is_tame(&self) -> bool {
        const LARGE: u16 = 0x7c00;
        match self.param_format {
            KLS_FORMAT_F32 => self.param.bytes().chunks_exact(4).all(|x| u16::from_ne_bytes([x[2], x[3]]) & 0x7fff < LARGE),
            _ => self.param.bytes().chunks_exact(2).all(|x| u16::from_ne_bytes([x[0], x[1]]) & 0x7fff < LARGE),
        }
    }

    /// Whether all numbers of the parameter are finite.
    pub fn parameter_is_finite(&self) -> bool {
        match self.param_format {
            KLS_FORMAT_F32 => self.param.bytes().chunks_exact(4).all(|x| f32::from_ne_bytes([x[0], x[1], x[2], x[3]]).is_finite()),
            _ => self.param.bytes().chunks_exact(2).all(|x| u16::from_ne_bytes([x[0], x[1]]) & 0x7f80 != 0x7f80),
        }
    }
}

fn fill(buffer: &mut Bytes, format: i32, numbers: &mut Numbers) {
    if format == KLS_FORMAT_F32 {
        buffer.bytes_mut().chunks_exact_mut(4).zip(numbers).for_each(|(out, x)| out.copy_from_slice(&x.to_ne_bytes()));
        return;
    }
    // Either format's number of that sign and mantissa, around 1.
    let one = if format == KLS_FORMAT_F16 { 0x3c00 } else { 0x3f80 };
    let half = |x: f32| (x.to_bits() >> 16) as u16 & 0x807f | one;
    buffer.bytes_mut().chunks_exact_mut(2).zip(numbers).for_each(|(out, x)| out.copy_from_slice(&half(x).to_ne_bytes()));
}
