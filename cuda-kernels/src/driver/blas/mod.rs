//! cuBLAS, where there is one: opened at run time, on the caller's stream.

mod library;

pub use library::BlasFault;

use super::context::Context;
use super::error::Error;
use super::kernels::Launcher;
use super::memory::Memory;
use super::stream::Stream;
use crate::gemm::{Factor, Gemm, Input};
use crate::linalg::Precision;
use crate::queue::ALIGNMENT;
use core::ffi::{c_int, c_void};
use core::ptr::null_mut;
use library::{CREATE, Functions, GET_VERSION, MULTIPLY, SET_STREAM, SET_WORKSPACE, Status, check};

/// cuBLAS in a context. It works in memory that is allocated when it is opened; the results depend on no other stream.
pub struct Blas {
    context: Context,
    functions: Functions,
    handle: *mut c_void,
    workspace: Memory,
    stream: Option<Stream>,
    from: u64,
}

// SAFETY: a handle may be used by one thread at a time, whichever.
unsafe impl Send for Blas {}

impl Blas {
    /// Bytes of workspace that serve every device well, as NVIDIA advises for its Hopper ones.
    pub const WORKSPACE: usize = 32 << 20;

    /// Opens cuBLAS; `None` if there is none (`libcublas.so.13` or `.12`, or what `KLS_CUDA_BLAS` names). The workspace is memory of the same
    /// context, of a length of the caller's choice.
    ///
    /// # Errors
    /// cuBLAS's or the driver's.
    pub fn open(context: &Context, workspace: Memory) -> Result<Option<Self>, Error> {
        const { assert!(ALIGNMENT >= 256, "as cublasSetWorkspace asks") }
        let Some(functions) = Functions::open() else { return Ok(None) };
        let _entered = context.enter()?;
        let mut handle = null_mut();
        // SAFETY: it is told where to write; the device's primary context is current, which is what the CUDA runtime below it takes.
        check(CREATE, unsafe { (functions.create)(&mut handle) })?;
        Ok(Some(Self { context: context.clone(), functions, handle, workspace, stream: None, from: 0 }))
    }

    /// Whether there is a cuBLAS on this machine.
    #[must_use]
    pub fn is_there() -> bool {
        Functions::open().is_some()
    }

    /// From now on a queue leaves it only products of at least so many multiplications for each item; at first it is all.
    pub fn take_from(&mut self, multiplications: u64) {
        self.from = multiplications;
    }

    /// The version: 130000 is 13.0.0.
    ///
    /// # Errors
    /// cuBLAS's.
    pub fn version(&self) -> Result<u32, Error> {
        let mut version = 0;
        // SAFETY: a handle, and where to write.
        check(GET_VERSION, unsafe { (self.functions.get_version)(self.handle, &mut version) })?;
        Ok(version.unsigned_abs())
    }

    /// Whether a queue leaves such products to it: see [`crate::queue::Queue::multiplies`].
    pub(super) fn multiplies(&self, multiplications: u64, precision: Precision) -> bool {
        // It has no three products of TF32.
        multiplications >= self.from && precision != Precision::Tf32x3
    }

    /// Multiplies, on the queue's stream. Nothing to do where a size of C or `count` is 0.
    ///
    /// [`Precision::Fp32`] is `CUBLAS_COMPUTE_32F` in the handle's default mode, which takes no tensor cores for it. It is not the "pedantic" variant of
    /// that, which is for real numbers the same arithmetic with fewer kernels to choose from.
    ///
    /// # Safety
    /// The factors and C lie in memory of the queue's context as the [`Gemm`] says, and no C is a factor or another C.
    ///
    /// # Errors
    /// cuBLAS's: sizes and strides must be below 2^31, leading dimensions at least a row, `k` at least 1.
    pub unsafe fn gemm_strided_batched(&mut self, queue: &Launcher<'_>, gemm: &Gemm) -> Result<(), Error> {
        // SAFETY: the caller's word.
        Ok(unsafe { self.multiply(queue.stream(), gemm) }?)
    }

    /// The same on a stream of the context, which is current.
    ///
    /// # Safety
    /// As above.
    pub(super) unsafe fn multiply(&mut self, stream: Stream, gemm: &Gemm) -> Result<(), BlasFault> {
        if gemm.m == 0 || gemm.n == 0 || gemm.count == 0 {
            return Ok(());
        }
        let invalid = || check(MULTIPLY, Status::INVALID_VALUE).expect_err("a fault");
        let int = |x: usize| c_int::try_from(x).map_err(|_| invalid());
        let long = |x: usize| i64::try_from(x).map_err(|_| invalid());
        let (m, n, k, count) = (int(gemm.m)?, int(gemm.n)?, int(gemm.k)?, int(gemm.count)?);
        let (format, compute) = match (gemm.input, gemm.precision) {
            (Input::F32, Precision::Fp32) => (library::R_32F, library::COMPUTE_32F),
            (Input::F32, Precision::Tf32) => (library::R_32F, library::COMPUTE_32F_FAST_TF32),
            (Input::F32, Precision::Bf16) => (library::R_32F, library::COMPUTE_32F_FAST_16BF),
            (Input::Bf16, Precision::Fp32) => (library::R_16BF, library::COMPUTE_32F),
            (Input::F16, Precision::Fp32) => (library::R_16F, library::COMPUTE_32F),
            _ => return Err(invalid()),
        };
        let operation = |factor: &Factor| if factor.transposed { library::OP_T } else { library::OP_N };
        let (a_leading, b_leading, c_leading) = (int(gemm.a.leading)?, int(gemm.b.leading)?, int(gemm.c_leading)?);
        let (a_stride, b_stride, c_stride) = (long(gemm.a.stride)?, long(gemm.b.stride)?, long(gemm.c_stride)?);
        self.set_stream(stream)?;
        // cuBLAS is column-major, where these matrices are their transposes: C^T = B^T A^T.
        // SAFETY: the caller's word for what lies in memory; the scales are the host's, as the handle's default is.
        let status = unsafe {
            (self.functions.gemm_strided_batched)(
                self.handle,
                operation(&gemm.b),
                operation(&gemm.a),
                n,
                m,
                k,
                (&raw const gemm.alpha).cast(),
                gemm.b.at.0,
                format,
                b_leading,
                b_stride,
                gemm.a.at.0,
                format,
                a_leading,
                a_stride,
                (&raw const gemm.beta).cast(),
                gemm.c.0,
                library::R_32F,
                c_leading,
                c_stride,
                count,
                compute,
                library::GEMM_DEFAULT,
            )
        };
        check(MULTIPLY, status)
    }

    /// Takes the stream away from it. One that is still set has to live as long as the handle.
    ///
    /// # Errors
    /// cuBLAS's.
    pub fn leave_stream(&mut self) -> Result<(), Error> {
        if self.stream.take().is_some() {
            // SAFETY: a handle; NULL is the default stream.
            check(SET_STREAM, unsafe { (self.functions.set_stream)(self.handle, null_mut()) })?;
        }
        Ok(())
    }

    fn set_stream(&mut self, stream: Stream) -> Result<(), BlasFault> {
        if self.stream == Some(stream) {
            return Ok(());
        }
        self.stream = None;
        // SAFETY: a handle and a stream of its context.
        check(SET_STREAM, unsafe { (self.functions.set_stream)(self.handle, stream.as_raw()) })?;
        // A new stream takes the workspace away.
        let (at, bytes) = (self.workspace.at().0, self.workspace.bytes());
        // SAFETY: memory of its context that lives as long as the handle.
        check(SET_WORKSPACE, unsafe { (self.functions.set_workspace)(self.handle, at, bytes) })?;
        self.stream = Some(stream);
        Ok(())
    }
}

impl core::fmt::Debug for Blas {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Blas").field("context", &self.context).field("stream", &self.stream).finish_non_exhaustive()
    }
}

impl Drop for Blas {
    fn drop(&mut self) {
        if let Ok(_entered) = self.context.enter() {
            // SAFETY: destroyed once.
            unsafe { (self.functions.destroy)(self.handle) };
        }
    }
}
