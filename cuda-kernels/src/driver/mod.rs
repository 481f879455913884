//! The CUDA driver: devices, contexts, kernels, memory, and cuBLAS where there is one.
//!
//! The driver is opened when it is first called, so a program that holds this crate starts where there is none and gets
//! [`Error::NoDriver`]. Every device is used through its primary context, which the CUDA runtime uses too, and every function leaves the
//! context that was current on the calling thread as it was.
//!
//! | | |
//! |---|---|
//! | [`Device`] | which device, what it is |
//! | [`Context`] | its primary context, held; [`Context::enter`] makes it current for a while |
//! | [`Kernels`] | this crate's kernels, loaded and looked up once; [`Kernels::on`] is a [`crate::queue::Queue`] on a stream |
//! | [`Stream`] | the caller's |
//! | [`Memory`] | a block of device memory: the driver's, of the caller's allocator, or lent |
//! | [`Readback`] | a small copy to the host that nobody waits for |
//! | [`Event`] | a point in a stream's work, with its time, or for other streams to wait for |
//! | [`Blas`] | cuBLAS, opened at run time |
//!
//! Environment: `KLS_CUDA_DRIVER` names another library than `libcuda.so.1`, `KLS_CUDA_BLAS` another than `libcublas.so.13` or `.12`.

mod blas;
mod context;
mod device;
mod error;
mod event;
mod image;
mod kernels;
mod memory;
mod readback;
mod shim;
mod stream;

pub use blas::{Blas, BlasFault};
pub use context::{Context, Entered};
pub use device::{Device, device_count, driver_version};
pub use error::{Error, Fault, Unfit, Version};
pub use event::Event;
pub use image::{Image, NEEDED_CAPABILITY, NEEDED_DRIVER};
pub use kernels::{Kernels, Launcher};
pub use memory::{Allocator, Memory};
pub use readback::Readback;
pub use stream::Stream;

pub use crate::gemm::{Factor, Gemm, Input};
pub use crate::linalg::Precision;
pub use crate::queue::ALIGNMENT;
