//! What an optimizer in lent memory consists of besides its numbers, for the constant expressions of `klshampoo_static.h`.

use klshampoo::{Config, SliceHeader, Tensor};

use crate::handle::{ALIGNMENT, kls_optimizer};

/// Alignment of lent memory: what kls_optimizer_query gives.
pub const KLS_MEMORY_ALIGNMENT: usize = 64;
/// Bytes of the object on machines with pointers of 32 bits, and of 64. Of use in the macros of klshampoo_static.h only, like the next ones.
pub const KLS_OPTIMIZER_BYTES_32: usize = 448;
/// The same with pointers of 64 bits.
pub const KLS_OPTIMIZER_BYTES_64: usize = 576;
/// Bytes of a group.
pub const KLS_GROUP_BYTES_32: usize = 104;
/// The same with pointers of 64 bits.
pub const KLS_GROUP_BYTES_64: usize = 120;
/// Bytes of a tensor's entry in the table.
pub const KLS_TENSOR_BYTES_32: usize = 392;
/// The same with pointers of 64 bits.
pub const KLS_TENSOR_BYTES_64: usize = 672;
/// Bytes of a slice's header.
pub const KLS_HEADER_BYTES: usize = 64;

/// Checks a number of the header: exact in a library with everything, enough in others. On machines of 64 bits a host is part of that.
macro_rules! check {
    ($type:ty, $bytes32:expr, $bytes64:expr) => {
        const _: () = {
            let bytes = if cfg!(target_pointer_width = "32") { $bytes32 } else { $bytes64 };
            let everything = cfg!(all(feature = "all", any(feature = "host", target_pointer_width = "32")));
            assert!(size_of::<$type>() == bytes || (!everything && size_of::<$type>() < bytes), "the header has another size");
        };
    };
}

check!(kls_optimizer, KLS_OPTIMIZER_BYTES_32, KLS_OPTIMIZER_BYTES_64);
check!(Config<f32>, KLS_GROUP_BYTES_32, KLS_GROUP_BYTES_64);
check!(Tensor, KLS_TENSOR_BYTES_32, KLS_TENSOR_BYTES_64);
check!(SliceHeader, KLS_HEADER_BYTES, KLS_HEADER_BYTES);
const _: () = assert!(ALIGNMENT == KLS_MEMORY_ALIGNMENT);
