//! Making and ending an optimizer.

use klshampoo_ffi::checked::{check_pointer, put};
use klshampoo_ffi::error::{Failure, Locate, Outcome};
use klshampoo_ffi::guard::{Call, Handle, guard};
use klshampoo_ffi::host::fallible::boxed;
use klshampoo_ffi::host::table::Table;
use klshampoo_ffi::message::add_without_handle;
use klshampoo_ffi::status::*;
use klshampoo_ffi::versioned::read_struct;
use klshampoo_ffi::{kls_config, kls_tensor, table};

use super::failure::{from_device, from_launch, from_refused, no_blas};
use super::handle::kls_cuda;
use super::observer::Observer;
use super::options::{KLS_CUDA_BLAS_REQUIRED, kls_cuda_options};
use super::refreshes::Refreshes;
use crate::driver::{ALIGNMENT, Allocator, Blas, Context, Device, Error, Kernels, Memory, Stream};
use crate::queue::DevicePtr;
use crate::step::{DeviceOptimizer, Program};

/// Options of a call, which may be NULL.
///
/// # Safety
/// `options` is NULL or points to a struct of the size that its first field says.
pub(super) unsafe fn read_options(options: *const kls_cuda_options) -> Result<kls_cuda_options, Failure> {
    if options.is_null() {
        return Ok(kls_cuda_options::DEFAULT);
    }
    // SAFETY: by the caller's word readable.
    unsafe { read_struct(options) }.of_field("options")
}

/// The program of a table.
pub(super) fn plan(table: &Table, options: &kls_cuda_options) -> Result<Program, Failure> {
    Program::new(table.groups(), table.tensors(), &options.of_program()?).map_err(from_refused)
}

/// Who gives the memory.
enum Source {
    Driver,
    Allocator(Allocator),
    Lent { at: DevicePtr, bytes: usize },
}

impl kls_cuda_options {
    /// Everything about them that can be checked without a device.
    fn source(&self, needed: usize) -> Result<Source, Failure> {
        match (self.alloc, self.free) {
            (None, None) if self.memory.is_null() => Ok(Source::Driver),
            (None, None) => {
                if !self.memory.addr().is_multiple_of(ALIGNMENT) {
                    return Err(KLS_ERROR_MISALIGNED).of_field("memory");
                }
                let bytes = usize::try_from(self.memory_size).unwrap_or(usize::MAX);
                if bytes < needed {
                    return Err(KLS_ERROR_MEMORY_TOO_SHORT).of_field("memory_size");
                }
                Ok(Source::Lent { at: DevicePtr(self.memory.addr() as u64), bytes })
            }
            _ if !self.memory.is_null() => {
                Err(Failure::because(KLS_ERROR_UNSUPPORTED, "Lent memory and an allocator exclude each other.")).of_field("memory")
            }
            (Some(allocate), Some(free)) => Ok(Source::Allocator(Allocator { allocate, free, user: self.allocator_user })),
            (None, Some(_)) => Err(KLS_ERROR_NULL).of_field("alloc"),
            (Some(_), None) => Err(KLS_ERROR_NULL).of_field("free"),
        }
    }
}

/// Makes an optimizer on a device, in its primary context, which the CUDA runtime works in too. `options` may be NULL for the defaults. Groups and tensors
/// are copied. On an error `*optimizer` is untouched. It is the only call that takes memory of the device, and it waits until that is
/// cleared; later on nothing waits but saves, loads, kls_cuda_read_state, kls_cuda_destroy, and copies into memory that is not page-locked. Not while `options.stream` is being
/// captured: that is KLS_ERROR_CUDA, and nothing is recorded.
///
/// Errors: those of kls_cuda_query and of the options (KLS_ERROR_NULL, KLS_ERROR_MISALIGNED, KLS_ERROR_STRUCT_SIZE, KLS_ERROR_UNSUPPORTED,
/// KLS_ERROR_MEMORY_TOO_SHORT, KLS_ERROR_UNKNOWN_VALUE), then KLS_ERROR_CUDA_NO_DRIVER, KLS_ERROR_CUDA_DRIVER_TOO_OLD, KLS_ERROR_CUDA_NO_DEVICE,
/// KLS_ERROR_CUDA_UNSUPPORTED for a device that is too old, and where cuBLAS is required and there is none; KLS_ERROR_CUDA_OUT_OF_MEMORY,
/// KLS_ERROR_CUDA: also for lent memory, or memory from the allocator, that is another device's or none, and for a cuBLAS that is there and fails.
///
/// # Safety
/// As for kls_cuda_query; `optimizer` is writable; `options` is NULL or readable, and what it points to is as it says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kls_cuda_create(
    optimizer: *mut *mut kls_cuda,
    groups: *const kls_config,
    group_count: usize,
    tensors: *const kls_tensor,
    tensor_count: usize,
    options: *const kls_cuda_options,
) -> kls_status {
    // SAFETY: the caller vouches for the tensors.
    let call = unsafe { Call::on_tensors("kls_cuda_create", tensors, tensor_count) };
    let mut log = String::new();
    let status = guard(call, || {
        check_pointer(optimizer).of_field("optimizer")?;
        // SAFETY: the caller vouches for both arrays.
        let (groups, tensors) = unsafe { table(groups, group_count, tensors, tensor_count)? };
        // SAFETY: by the caller's word NULL or readable.
        let options = unsafe { read_options(options)? };
        if options.refresh_stream == Stream::LEGACY_BY_NAME.as_raw() {
            return Err(Failure::because(KLS_ERROR_UNSUPPORTED, "The legacy default stream overlaps nothing.")).of_field("refresh_stream");
        }
        let table = Table::new(groups, tensors)?;
        let program = plan(&table, &options)?;
        let source = options.source(program.bytes().total)?;
        // SAFETY: the caller vouches for what the options point to.
        let made = unsafe { make(table, program, &options, source, &mut log)? };
        // SAFETY: checked above.
        unsafe { put(optimizer, Box::into_raw(boxed(made)?)) }
    });
    add_without_handle(&log);
    status
}

/// The device's part of [`kls_cuda_create`]. `log` gets what the driver's compiler says of kernels that it refuses.
///
/// # Safety
/// Stream, allocator and memory are what kls_cuda_options says.
unsafe fn make(table: Table, program: Program, options: &kls_cuda_options, source: Source, log: &mut String) -> Result<kls_cuda, Failure> {
    let ordinal = usize::try_from(options.device).map_err(|_| KLS_ERROR_CUDA_NO_DEVICE).of_field("device")?;
    let device = Device::get(ordinal).map_err(from_device)?;
    let context = Context::new(device).map_err(from_device)?;
    // SAFETY: by the caller's word a stream of the device's primary context.
    let stream = unsafe { Stream::from_raw(options.stream) };
    // Before anything is recorded into the caller's graph.
    if context.enter().and_then(|entered| stream.is_capturing(&entered)).map_err(from_device)? {
        return Err(from_device(Error::Capturing));
    }
    // Before anything is allocated.
    if options.blas == KLS_CUDA_BLAS_REQUIRED && !Blas::is_there() {
        return Err(no_blas());
    }
    let kernels = Kernels::load(&context).map_err(|error| {
        if let Error::ModuleRefused { log: said, .. } = &error {
            log.clone_from(said);
        }
        from_device(error)
    })?;
    let bytes = program.bytes().total;
    let memory = match source {
        Source::Driver => Memory::allocate(&context, bytes),
        // SAFETY: by the caller's word.
        Source::Allocator(allocator) => unsafe { Memory::allocate_with(&context, bytes, allocator) },
        // SAFETY: likewise.
        Source::Lent { at, bytes: lent } => unsafe { Memory::lend(&context, at, lent, bytes) },
    };
    let memory = memory.map_err(from_device)?;
    let blas = match program.library_workspace() {
        Some((at, bytes)) => {
            // SAFETY: a part of the optimizer's own block that is nobody else's; the handle ends before the block does.
            let workspace = unsafe { Memory::lend(&context, memory.at().offset::<u8>(at), bytes, bytes) }.map_err(from_device)?;
            let mut blas = Blas::open(&context, workspace).map_err(from_device)?;
            if let Some(blas) = &mut blas {
                blas.take_from(options.blas_from);
            }
            blas
        }
        None => None,
    };
    let mut optimizer = DeviceOptimizer::new(program, memory.at());
    optimizer.prepare(&mut kernels.on(stream).map_err(from_device)?).map_err(from_launch)?;
    memory.wait(stream).map_err(from_device)?;
    let observer = Observer::new(&context, &optimizer)?;
    // SAFETY: by the caller's word a stream of the device's primary context.
    let own = (!options.refresh_stream.is_null()).then(|| unsafe { Stream::from_raw(options.refresh_stream) });
    let refreshes = own.map(|own| Refreshes::new(&context, own)).transpose().map_err(from_device)?;
    Ok(kls_cuda::new(table, optimizer, observer, refreshes, blas, kernels, memory))
}

/// Ends an optimizer, gives its memory back and sets the caller's handle to NULL. A NULL handle is KLS_OK. Memory of the driver is given back when
/// the device has done what it was given, for which the call waits; lent memory and an allocator's may only be used for something else then.
/// Graphs in which its steps were captured must not be replayed any more. Not while a stream of the device is being captured: the driver may
/// then end the capture and not take the memory back, and no status says so.
///
/// Errors: KLS_ERROR_NULL when `optimizer` itself is NULL; KLS_ERROR_HANDLE for no live optimizer. A copy of a handle must not be used again: nothing
/// can detect that.
///
/// # Safety
/// `*optimizer` is NULL or a handle that no other thread uses.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kls_cuda_destroy(optimizer: *mut *mut kls_cuda) -> kls_status {
    guard("kls_cuda_destroy", || -> Outcome {
        check_pointer(optimizer).of_field("optimizer")?;
        // SAFETY: readable by the caller's word.
        let handle = unsafe { *optimizer };
        if handle.is_null() {
            return Ok(());
        }
        // SAFETY: by the caller's word a handle.
        unsafe { kls_cuda::from_handle(handle) }.of_field("optimizer")?.retire();
        // SAFETY: made by create, live until the line above, and not used any more.
        drop(unsafe { Box::from_raw(handle) });
        // SAFETY: writable by the caller's word.
        unsafe { put(optimizer, std::ptr::null_mut()) }
    })
}
