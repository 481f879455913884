//! The kernels on a device, and their launches on a stream.

use super::blas::Blas;
use super::context::{Context, Entered};
use super::error::{Error, Fault};
use super::image::Image;
use super::shim::{self, succeeded};
use super::stream::Stream;
use crate::gemm::Gemm;
use crate::linalg::Precision;
use crate::queue::{DeviceError, Kernel, Queue};
use core::ffi::c_void;
use core::mem::ManuallyDrop;
use core::ptr::null_mut;
use cust::function::FunctionAttribute;
use cust::module::Module;
use cust::sys::{self, CUjit_option};
use std::ffi::CStr;

/// The kernels, loaded into a context: every one of them is looked up and made ready here, so that no launch has to.
pub struct Kernels {
    context: Context,
    // Unloaded while the context is current.
    module: ManuallyDrop<Module>,
    /// Ordered by name.
    functions: Vec<Function>,
}

struct Function {
    name: &'static CStr,
    handle: sys::CUfunction,
}

// SAFETY: the driver lets every thread use a context's modules and functions; the handles are names for them.
unsafe impl Send for Kernels {}
// SAFETY: the same; nothing changes after loading.
unsafe impl Sync for Kernels {}

impl Kernels {
    /// Loads the crate's own kernels.
    ///
    /// # Errors
    /// [`Error::ModuleRefused`], or the driver's.
    pub fn load(context: &Context) -> Result<Self, Error> {
        Self::load_image(context, Image::embedded(), Image::embedded_names())
    }

    /// Loads these kernels of an image.
    ///
    /// # Errors
    /// [`Error::ModuleRefused`], or the driver's.
    pub fn load_image(context: &Context, image: Image<'_>, names: &[&'static CStr]) -> Result<Self, Error> {
        let _entered = context.enter()?;
        let module = match image {
            Image::Ptx(text) => Module::from_ptx_cstr(text, &[]),
            Image::Fatbin(bytes) => Module::from_fatbin(bytes, &[]),
        }
        .map_err(|_| refused(Fault::last("cuModuleLoadDataEx"), image))?;
        let mut functions = Vec::with_capacity(names.len());
        for &name in names {
            let text = name.to_str().map_err(|_| Fault { call: "cuModuleGetFunction", code: shim::NOT_FOUND })?;
            let function = module.get_function(text).map_err(|_| Error::last("cuModuleGetFunction"))?;
            // The driver may load code when it is first needed, and allocate then; asked for its attributes, it does so now.
            function.get_attribute(FunctionAttribute::MaxThreadsPerBlock).map_err(|_| Error::last("cuFuncGetAttribute"))?;
            functions.push(Function { name, handle: function.to_raw() });
        }
        functions.sort_unstable_by_key(|function| function.name);
        Ok(Self { context: context.clone(), module: ManuallyDrop::new(module), functions })
    }

    /// The context that they are loaded into.
    #[must_use]
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// A queue of launches on a stream. The context is current on this thread while the queue lives.
    ///
    /// # Errors
    /// The driver's.
    pub fn on(&self, stream: Stream) -> Result<Launcher<'_>, Error> {
        Ok(Launcher { kernels: self, stream, entered: self.context.enter()?, blas: None })
    }

    fn function(&self, name: &CStr) -> Option<sys::CUfunction> {
        let at = self.functions.binary_search_by(|function| function.name.cmp(name)).ok()?;
        Some(self.functions[at].handle)
    }
}

impl core::fmt::Debug for Kernels {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Kernels").field("context", &self.context).field("count", &self.functions.len()).finish_non_exhaustive()
    }
}

impl Drop for Kernels {
    fn drop(&mut self) {
        if let Ok(_entered) = self.context.enter() {
            // Lent memory has been given back without a wait, and kernels may still run. There is nobody to tell of an error of the device.
            // SAFETY: the context is current.
            unsafe { sys::cuCtxSynchronize() };
            // SAFETY: dropped once, here.
            unsafe { ManuallyDrop::drop(&mut self.module) }
        }
    }
}

/// What the driver's compiler says of an image that it refused, which cust does not ask for: the image is tried again with room for a log.
fn refused(fault: Fault, image: Image<'_>) -> Error {
    let mut log = vec![0_u8; 16 << 10];
    // The driver takes numbers as pointers.
    let mut options = [CUjit_option::CU_JIT_ERROR_LOG_BUFFER, CUjit_option::CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES];
    let mut values = [log.as_mut_ptr().cast::<c_void>(), log.len() as *mut c_void];
    let bytes = match image {
        Image::Ptx(text) => text.as_ptr().cast(),
        Image::Fatbin(bytes) => bytes.as_ptr().cast::<c_void>(),
    };
    let mut module = null_mut();
    // SAFETY: an image that tells its own length, as many values as options, and a log of the length given.
    let loaded = succeeded(unsafe { sys::cuModuleLoadDataEx(&mut module, bytes, 2, options.as_mut_ptr(), values.as_mut_ptr()) });
    if loaded {
        // SAFETY: loaded above, and used by nobody.
        unsafe { sys::cuModuleUnload(module) };
    }
    let end = log.iter().position(|&byte| byte == 0).unwrap_or(log.len());
    Error::ModuleRefused { fault, log: String::from_utf8_lossy(&log[..end]).trim_end().into() }
}

/// Launches of kernels on a stream: the context is current on this thread while it lives.
#[derive(Debug)]
pub struct Launcher<'a> {
    kernels: &'a Kernels,
    stream: Stream,
    entered: Entered<'a>,
    blas: Option<&'a mut Blas>,
}

impl<'a> Launcher<'a> {
    /// The same queue with a library of products, of the same context; [`Blas::take_from`] says which are left to it. It works in one workspace: two queues
    /// whose streams may run at the same time must not have the same one.
    #[must_use]
    pub fn with_blas(self, blas: Option<&'a mut Blas>) -> Self {
        Self { blas, ..self }
    }

    /// Takes the stream from the library of products, whose handle may outlive it.
    ///
    /// # Errors
    /// cuBLAS's.
    pub fn leave_blas(&mut self) -> Result<(), Error> {
        self.blas.as_mut().map_or(Ok(()), |blas| blas.leave_stream())
    }

    /// The stream.
    #[must_use]
    pub fn stream(&self) -> Stream {
        self.stream
    }

    /// That the context is current.
    #[must_use]
    pub fn entered(&self) -> &Entered<'a> {
        &self.entered
    }

    /// Whether what is launched is recorded into a graph instead of run.
    ///
    /// # Errors
    /// The driver's.
    pub fn is_capturing(&self) -> Result<bool, Error> {
        self.stream.is_capturing(&self.entered)
    }
}

impl Queue for Launcher<'_> {
    fn launch<K: Kernel>(&mut self, grid: [u32; 3], kernel: K) -> Result<(), DeviceError> {
        if grid.contains(&0) {
            return Ok(());
        }
        let function = self.kernels.function(K::NAME).ok_or(DeviceError(shim::NOT_FOUND))?;
        let mut kernel = kernel;
        let mut parameters = [(&raw mut kernel).cast::<c_void>()];
        // SAFETY: the function takes one struct, which is `K` (the implementor's word), and the driver copies it before it returns.
        let result = unsafe {
            sys::cuLaunchKernel(
                function,
                grid[0],
                grid[1],
                grid[2],
                K::THREADS,
                1,
                1,
                0,
                self.stream.as_raw().cast(),
                parameters.as_mut_ptr(),
                null_mut(),
            )
        };
        if succeeded(result) { Ok(()) } else { Err(DeviceError(shim::last_code())) }
    }

    fn multiplies(&self, multiplications: u64, precision: Precision) -> bool {
        self.blas.as_ref().is_some_and(|blas| blas.multiplies(multiplications, precision))
    }

    fn multiply(&mut self, gemm: &Gemm) -> Result<(), DeviceError> {
        let Some(blas) = &mut self.blas else { return Err(DeviceError::NO_LIBRARY) };
        // SAFETY: who made the pointers has vouched for what lies there, as for a launch; the queue's context is current.
        unsafe { blas.multiply(self.stream, gemm) }.map_err(|fault| DeviceError(fault.code()))
    }
}
