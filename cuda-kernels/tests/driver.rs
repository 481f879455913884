//! The driver's side against the mock driver: the kernels run in the emulator, on the host's memory.

use core::ffi::c_void;
use cust::sys;
use klshampoo_cuda::batch::{Array, Items};
use klshampoo_cuda::driver::{
    ALIGNMENT, Allocator, Blas, Context, Device, Error, Factor, Fault, Gemm, Image, Input, Kernels, Launcher, Memory, Precision, Readback,
    Stream, Unfit, device_count, driver_version,
};
use klshampoo_cuda::io;
use klshampoo_cuda::queue::{DeviceError, DevicePtr, Kernel, Queue};
use klshampoo_cuda_mock as mock;

/// Runs a call of the driver as a program beside this crate would.
fn ok(result: sys::CUresult) {
    assert_eq!(result, sys::cudaError_enum::CUDA_SUCCESS);
}

fn current() -> sys::CUcontext {
    let mut context = core::ptr::null_mut();
    // SAFETY: it is told where to write.
    ok(unsafe { sys::cuCtxGetCurrent(&mut context) });
    context
}

fn kernels(device: usize) -> Kernels {
    mock::install();
    Kernels::load(&Context::new(Device::get(device).unwrap()).unwrap()).unwrap()
}

/// A stream of the caller's.
struct Owned(sys::CUstream);

impl Owned {
    fn new(context: &Context) -> Self {
        let _entered = context.enter().unwrap();
        let mut stream = core::ptr::null_mut();
        // SAFETY: it is told where to write; 1: not tied to the default stream.
        ok(unsafe { sys::cuStreamCreate(&mut stream, 1) });
        Self(stream)
    }

    fn stream(&self) -> Stream {
        // SAFETY: it lives as long as this.
        unsafe { Stream::from_raw(self.0.cast()) }
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        // SAFETY: destroyed once.
        ok(unsafe { sys::cuStreamDestroy_v2(self.0) });
    }
}

fn array(base: DevicePtr) -> Array {
    Array { base, stride: 0 }
}

fn fill(queue: &mut Launcher<'_>, at: DevicePtr, count: usize, value: u32) -> Result<(), DeviceError> {
    io::fill(queue, Items::all(1), array(at), count, value)
}

fn copy(queue: &mut Launcher<'_>, from: DevicePtr, to: DevicePtr, count: usize) -> Result<(), DeviceError> {
    io::copy(queue, Items::all(1), array(from), array(to), count)
}

fn read(memory: &Memory, stream: Stream) -> Vec<u32> {
    let mut bytes = vec![0; memory.bytes()];
    memory.read(stream, 0, &mut bytes).unwrap();
    bytes.chunks_exact(4).map(|word| u32::from_ne_bytes(word.try_into().unwrap())).collect()
}

fn bytes_of<T: Copy>(values: &[T]) -> &[u8] {
    // SAFETY: numbers are bytes.
    unsafe { core::slice::from_raw_parts(values.as_ptr().cast(), size_of_val(values)) }
}

fn floats(memory: &Memory) -> Vec<f32> {
    read(memory, Stream::LEGACY).into_iter().map(f32::from_bits).collect()
}

#[test]
fn devices() {
    mock::install();
    assert_eq!(driver_version().unwrap().to_string(), "13.0");
    assert_eq!(device_count(), Ok(2));
    let device = Device::get(1).unwrap();
    assert_eq!(device.ordinal(), 1);
    assert_eq!(device.name().unwrap(), "Mock 1");
    assert_eq!(device.compute_capability(), Ok((9, 0)));
    assert_eq!(device.total_memory(), Ok(1 << 34));
    assert!(Device::current().unwrap().is_none());
    let context = Context::new(device).unwrap();
    assert!(Device::current().unwrap().is_none());
    let _entered = context.enter().unwrap();
    assert_eq!(Device::current().unwrap().unwrap().ordinal(), 1);
}

#[test]
fn kernels_run() {
    let kernels = kernels(0);
    let stream = Owned::new(kernels.context());
    for stream in [Stream::LEGACY, Stream::PER_THREAD, stream.stream()] {
        let (a, b) = (Memory::allocate(kernels.context(), 4 * 1000).unwrap(), Memory::allocate(kernels.context(), 4 * 1000).unwrap());
        assert_eq!(a.at().address() % ALIGNMENT as u64, 0);
        let mut queue = kernels.on(stream).unwrap();
        fill(&mut queue, a.at(), 1000, 7).unwrap();
        fill(&mut queue, a.at().offset::<u32>(10), 5, 9).unwrap();
        fill(&mut queue, a.at(), 0, 1).unwrap();
        copy(&mut queue, a.at(), b.at(), 1000).unwrap();
        let expected: Vec<u32> = (0..1000).map(|i| if (10..15).contains(&i) { 9 } else { 7 }).collect();
        assert_eq!(read(&b, stream), expected);
        mock::check_memory();
    }
}

#[test]
fn copies_to_and_from_the_host() {
    let kernels = kernels(0);
    let memory = Memory::allocate(kernels.context(), 100).unwrap();
    memory.write(Stream::LEGACY, 0, &[1; 100]).unwrap();
    memory.write(Stream::LEGACY, 90, &[2; 10]).unwrap();
    let mut bytes = [0; 20];
    memory.read(Stream::LEGACY, 80, &mut bytes).unwrap();
    assert_eq!(bytes, core::array::from_fn(|i| if i < 10 { 1 } else { 2 }));
    for (offset, length) in [(100, 1), (0, 101), (usize::MAX, 2)] {
        let beyond = Err(Error::UnfitMemory(Unfit::OutOfRange));
        assert_eq!(memory.write(Stream::LEGACY, offset, &vec![0; length]), beyond);
        assert_eq!(memory.read(Stream::LEGACY, offset, &mut vec![0; length]), beyond);
    }
    memory.read(Stream::LEGACY, 100, &mut []).unwrap();
}

/// The caller's context stays current, whichever it is, and also where calls fail.
#[test]
fn the_current_context_stays() {
    let here = kernels(0);
    let there = Context::new(Device::get(1).unwrap()).unwrap();
    for outer in [None, Some(&there), Some(here.context())] {
        let entered = outer.map(|context| context.enter().unwrap());
        let before = current();
        assert_eq!(before.cast(), outer.map_or(core::ptr::null_mut(), Context::as_raw));
        let unchanged = |what| assert_eq!(current(), before, "{what}");
        let context = Context::new(Device::get(0).unwrap()).unwrap();
        unchanged("a context");
        let kernels = Kernels::load(&context).unwrap();
        unchanged("kernels");
        let memory = Memory::allocate(&context, 64).unwrap();
        unchanged("memory");
        let mut queue = kernels.on(Stream::LEGACY).unwrap();
        assert_eq!(current().cast(), context.as_raw());
        fill(&mut queue, memory.at(), 16, 3).unwrap();
        drop(queue);
        unchanged("a queue");
        assert_eq!(read(&memory, Stream::LEGACY), [3; 16]);
        unchanged("a copy");
        let readback = Readback::new(&context, 64).unwrap();
        unchanged("a readback");
        let blas = Blas::open(&context, Memory::allocate(&context, 1024).unwrap()).unwrap().unwrap();
        unchanged("cuBLAS");
        drop((readback, blas, memory, kernels, context));
        unchanged("dropping all");
        drop(entered);
    }
    assert!(current().is_null());
}

/// All that there is, in one go.
fn everything(device: usize) -> Result<f32, Error> {
    let context = Context::new(Device::get(device)?)?;
    let kernels = Kernels::load(&context)?;
    let memory = Memory::allocate(&context, 1024)?;
    memory.write(Stream::PER_THREAD, 0, bytes_of(&[1.5_f32; 256]))?;
    let mut readback = Readback::new(&context, 4)?;
    let mut blas = Blas::open(&context, Memory::allocate(&context, 512)?)?.unwrap();
    let mut queue = kernels.on(Stream::PER_THREAD)?;
    copy(&mut queue, memory.at(), memory.at().offset::<u32>(128), 64)?;
    // SAFETY: within the block.
    unsafe { blas.gemm_strided_batched(&queue, &square(memory.at(), memory.at().offset::<u32>(128)))? };
    // SAFETY: within the block.
    assert!(unsafe { readback.begin(&queue, memory.at().offset::<u32>(128), 4)? });
    let bytes = readback.take(&queue)?.unwrap();
    Ok(f32::from_ne_bytes(bytes.try_into().unwrap()))
}

/// The square of a 4 x 4 matrix.
fn square(from: DevicePtr, to: DevicePtr) -> Gemm {
    let factor = Factor { at: from, leading: 4, stride: 0, transposed: false };
    Gemm {
        m: 4,
        n: 4,
        k: 4,
        count: 1,
        alpha: 1.0,
        a: factor,
        b: factor,
        input: Input::F32,
        beta: 0.0,
        c: to,
        c_leading: 4,
        c_stride: 0,
        precision: Precision::Fp32,
    }
}

/// The same with a device that works as late as it may.
#[test]
fn nothing_is_taken_for_done() {
    mock::install();
    mock::set_deferred(true);
    mock::set_queries_until_done(3);
    let kernels = kernels(0);
    let (memory, copied) = (Memory::allocate(kernels.context(), 64).unwrap(), Memory::allocate(kernels.context(), 64).unwrap());
    let mut readback = Readback::new(kernels.context(), 64).unwrap();
    for i in 0..4 {
        let mut queue = kernels.on(Stream::PER_THREAD).unwrap();
        fill(&mut queue, memory.at(), 16, i).unwrap();
        copy(&mut queue, memory.at(), copied.at(), 16).unwrap();
        // SAFETY: within the block.
        assert_eq!(unsafe { readback.begin(&queue, copied.at(), 64) }, Ok(true));
        let mut asked = 1;
        let bytes = loop {
            if let Some(bytes) = readback.take(&queue).unwrap() {
                break bytes.to_vec();
            }
            asked += 1;
        };
        assert_eq!((asked, bytes.as_slice()), (4, bytes_of(&[i; 16])));
        fill(&mut queue, memory.at(), 16, i + 100).unwrap();
        assert_eq!(read(&memory, Stream::PER_THREAD), [i + 100; 16]);
        let mut host = vec![0x5a; 64];
        memory.write(Stream::PER_THREAD, 0, &host).unwrap();
        host.fill(0);
        drop(host);
        assert_eq!(read(&memory, Stream::PER_THREAD), [0x5a5a_5a5a; 16]);
        // SAFETY: within the block.
        assert_eq!(unsafe { readback.begin(&queue, copied.at(), 64) }, Ok(true));
        drop(core::mem::replace(&mut readback, Readback::new(kernels.context(), 64).unwrap()));
    }
    mock::set_deferred(false);
}

/// Every call of the driver fails once: there is an error with that call's code, and the context is left as it was.
#[test]
fn any_call_may_fail() {
    mock::install();
    let mut failed = 0;
    for n in 1.. {
        // A code that CUDA 11.4 did not have.
        mock::fail("", n, 913);
        let result = everything(0);
        mock::fail("", 0, 0);
        assert!(current().is_null(), "call {n}");
        match result {
            // Things were dropped when it failed, or nothing failed any more.
            Ok(value) => {
                assert_eq!(value.to_bits(), 9.0_f32.to_bits());
                if n > 200 {
                    break;
                }
            }
            Err(Error::Driver(fault)) => {
                assert_eq!((fault.code, fault.name()), (913, "CUDA_ERROR_GRAPH_RECAPTURE_FAILURE"), "{fault}");
                failed += 1;
            }
            Err(Error::Blas(fault)) => {
                assert_eq!(fault.status, 913, "{fault}");
                failed += 1;
            }
            Err(Error::ModuleRefused { fault, .. }) => {
                assert_eq!(fault, Fault { call: "cuModuleLoadDataEx", code: 913 });
                failed += 1;
            }
            Err(other) => panic!("call {n}: {other:?}"),
        }
    }
    println!("{failed} failures told");
    assert!(failed > 30);
}

#[test]
fn a_failed_launch() {
    let kernels = kernels(0);
    let mut queue = kernels.on(Stream::LEGACY).unwrap();
    mock::fail("cuLaunchKernel", 2, 719);
    let memory = Memory::allocate(kernels.context(), 64).unwrap();
    fill(&mut queue, memory.at(), 16, 3).unwrap();
    let error = fill(&mut queue, memory.at(), 16, 4).unwrap_err();
    assert_eq!(error, DeviceError(719));
    assert_eq!(Error::from(error).to_string(), "cuLaunchKernel: CUDA_ERROR_LAUNCH_FAILED (719): unspecified launch failure");
    fill(&mut queue, memory.at(), 16, 5).unwrap();
    assert_eq!(read(&memory, Stream::LEGACY), [5; 16]);
}

/// cust gets a code that it has, and what the driver really said can be read.
#[test]
fn codes_that_cust_does_not_know() {
    mock::install();
    mock::fail("cuDeviceGetCount", 1, 913);
    let error = cust::device::Device::num_devices().unwrap_err();
    assert_eq!(error, cust::error::CudaError::UnknownError);
    assert_eq!(error.to_string(), "\"graph recapture failed\"");
    mock::fail("cuDeviceGetCount", 1, 46);
    let error = device_count().unwrap_err();
    assert_eq!(error, Error::Driver(Fault { call: "cuDeviceGetCount", code: 46 }));
    assert!(error.to_string().contains("CUDA_ERROR_DEVICE_UNAVAILABLE (46)"), "{error}");
    // A code that nobody knows.
    mock::fail("cuDeviceGetCount", 1, 5555);
    assert_eq!(device_count().unwrap_err().to_string(), "cuDeviceGetCount: CUDA_ERROR_UNKNOWN (5555): unknown error");
}

#[test]
fn a_function_that_the_driver_lacks() {
    let kernels = kernels(0);
    let _entered = kernels.context().enter().unwrap();
    let error = cust::context::CurrentContext::get_cache_config().unwrap_err();
    assert_eq!(error, cust::error::CudaError::SharedObjectSymbolNotFound);
    assert_eq!(error.to_string(), "\"the CUDA driver has no such function\"");
}

#[test]
fn an_image_that_is_refused() {
    let kernels = kernels(0);
    let error = Kernels::load_image(kernels.context(), Image::Ptx(c"nonsense"), &[]).err().unwrap();
    let Error::ModuleRefused { fault, log } = &error else { panic!("{error:?}") };
    assert_eq!(*fault, Fault { call: "cuModuleLoadDataEx", code: 218 });
    assert!(log.contains("Missing .version directive at start of file 'nonsense'"), "{log}");
    assert!(
        error.to_string().starts_with("the CUDA driver refused the kernels: cuModuleLoadDataEx: CUDA_ERROR_INVALID_PTX (218): "),
        "{error}"
    );
    let missing = Kernels::load_image(kernels.context(), Image::embedded(), &[c"no_such_kernel"]).err().unwrap();
    assert_eq!(missing, Error::Driver(Fault { call: "cuModuleGetFunction", code: 500 }));
}

#[derive(Clone, Copy)]
#[repr(C)]
struct Nobody(u32);

// SAFETY: no kernel has this name.
unsafe impl Kernel for Nobody {
    const NAME: &'static core::ffi::CStr = c"nobody";
    const THREADS: u32 = 32;
}

#[test]
fn a_kernel_that_is_not_there() {
    let kernels = kernels(0);
    assert_eq!(kernels.on(Stream::LEGACY).unwrap().launch([1, 1, 1], Nobody(1)), Err(DeviceError(500)));
}

/// The image holds what the sources do: else it was not made anew.
#[test]
fn every_kernel_is_in_the_image() {
    let names = Image::embedded_names();
    assert!(names.contains(&c"kls_io_fill"));
    for name in names {
        assert!(klshampoo_cuda_emulator::params_size(name).is_some(), "{name:?} is in the image alone: run ptx.py");
    }
    for name in klshampoo_cuda_emulator::names() {
        assert!(names.contains(&name), "{name:?} is not in the image: run ptx.py");
    }
}

#[test]
fn two_devices() {
    let (zero, one) = (kernels(0), kernels(1));
    let (a, b) = (Memory::allocate(zero.context(), 64).unwrap(), Memory::allocate(one.context(), 64).unwrap());
    let stream = Owned::new(one.context());
    {
        let mut outer = zero.on(Stream::LEGACY).unwrap();
        fill(&mut outer, a.at(), 16, 10).unwrap();
        let mut inner = one.on(stream.stream()).unwrap();
        fill(&mut inner, b.at(), 16, 11).unwrap();
        drop(inner);
        fill(&mut outer, a.at(), 8, 12).unwrap();
    }
    assert_eq!(read(&a, Stream::LEGACY), [12, 12, 12, 12, 12, 12, 12, 12, 10, 10, 10, 10, 10, 10, 10, 10]);
    assert_eq!(read(&b, stream.stream()), [11; 16]);
    // A stream of the other context.
    let error = fill(&mut zero.on(stream.stream()).unwrap(), a.at(), 16, 0).unwrap_err();
    assert_eq!(error, DeviceError(400));
    // Memory of the other device.
    // SAFETY: it is refused.
    let refused = unsafe { Memory::lend(zero.context(), b.at(), 64, 64) };
    assert_eq!(refused.err(), Some(Error::UnfitMemory(Unfit::OfAnotherDevice)));
}

#[test]
fn many_threads() {
    let kernels = kernels(0);
    std::thread::scope(|scope| {
        for i in 0..8 {
            let kernels = &kernels;
            scope.spawn(move || {
                let memory = Memory::allocate(kernels.context(), 4096).unwrap();
                for stream in [Stream::PER_THREAD, Stream::LEGACY] {
                    fill(&mut kernels.on(stream).unwrap(), memory.at(), 1024, i).unwrap();
                    assert_eq!(read(&memory, stream), [i; 1024]);
                }
                // Memory goes from thread to thread.
                let memory = std::thread::spawn(move || memory).join().unwrap();
                assert_eq!(read(&memory, Stream::LEGACY), [i; 1024]);
                assert!(current().is_null());
            });
        }
    });
}

#[test]
fn memory_lent_by_the_caller() {
    let kernels = kernels(0);
    let owner = Memory::allocate(kernels.context(), 4096).unwrap();
    mock::reset_counters();
    // SAFETY: the owner does nothing with it meanwhile.
    let lend = |offset: usize, bytes, needed| unsafe { Memory::lend(kernels.context(), owner.at().offset::<u8>(offset), bytes, needed) };
    let lent = lend(256, 3840, 2000).unwrap();
    assert_eq!((lent.at(), lent.bytes()), (owner.at().offset::<u8>(256), 3840));
    fill(&mut kernels.on(Stream::LEGACY).unwrap(), lent.at(), 960, 5).unwrap();
    drop(lent);
    assert_eq!(mock::counters().frees, 0);
    assert_eq!(read(&owner, Stream::LEGACY)[64..], [5; 960]);
    assert_eq!(lend(16, 100, 100).err(), Some(Error::UnfitMemory(Unfit::Misaligned)));
    let short = lend(0, 4095, 4096).err().unwrap();
    assert_eq!(short, Error::UnfitMemory(Unfit::TooShort { bytes: 4095, needed: 4096 }));
    assert_eq!(short.to_string(), "device memory is too short: 4095 bytes, needed are 4096");
    // The host's memory, and none.
    let host = Box::new([0_u8; 1024]);
    for address in [host.as_ptr().addr() as u64 / 256 * 256 + 256, 0] {
        // SAFETY: it is refused.
        let refused = unsafe { Memory::lend(kernels.context(), DevicePtr::new(address), 256, 256) };
        assert_eq!(refused.err(), Some(Error::UnfitMemory(Unfit::OfAnotherDevice)));
    }
}

/// A pool of the caller's: one block of the driver's, dealt out in order.
struct Pool {
    block: Memory,
    dealt: usize,
    living: usize,
    skew: usize,
}

unsafe extern "C" fn deal(user: *mut c_void, bytes: usize, alignment: usize) -> *mut c_void {
    // SAFETY: the test's pool, which nobody else uses now.
    let pool = unsafe { &mut *user.cast::<Pool>() };
    assert!(!current().is_null());
    let start = pool.dealt.next_multiple_of(alignment) + pool.skew;
    if start + bytes > pool.block.bytes() {
        return core::ptr::null_mut();
    }
    pool.dealt = start + bytes;
    pool.living += 1;
    core::ptr::with_exposed_provenance_mut((pool.block.at().address() as usize) + start)
}

unsafe extern "C" fn take_back(user: *mut c_void, memory: *mut c_void, _bytes: usize) {
    // SAFETY: the test's pool, which nobody else uses now.
    let pool = unsafe { &mut *user.cast::<Pool>() };
    assert!(!current().is_null() && !memory.is_null());
    pool.living -= 1;
}

#[test]
fn memory_of_the_callers_allocator() {
    let kernels = kernels(0);
    let mut pool = Pool { block: Memory::allocate(kernels.context(), 4096).unwrap(), dealt: 1, living: 0, skew: 0 };
    let user = &raw mut pool;
    let allocator = Allocator { allocate: deal, free: take_back, user: user.cast() };
    // SAFETY: the pool outlives what it deals out.
    let allocate = |bytes| unsafe { Memory::allocate_with(kernels.context(), bytes, allocator) };
    let a = allocate(1000).unwrap();
    let b = allocate(2000).unwrap();
    fill(&mut kernels.on(Stream::LEGACY).unwrap(), b.at(), 500, 6).unwrap();
    assert_eq!(read(&b, Stream::LEGACY), [6; 500]);
    assert_eq!(allocate(2000).err(), Some(Error::OutOfMemory { bytes: 2000 }));
    // SAFETY: the pool is used by nobody else now.
    unsafe { (*user).skew = 64 };
    // What cannot be used is given back.
    assert_eq!(allocate(8).err(), Some(Error::UnfitMemory(Unfit::Misaligned)));
    // SAFETY: the same.
    assert_eq!(unsafe { (*user).living }, 2);
    drop((a, b));
    assert_eq!(pool.living, 0);
    assert!(current().is_null());
}

fn capture(kernels: &Kernels, stream: Stream, record: impl FnOnce(&mut Launcher<'_>)) -> Graph {
    let mut queue = kernels.on(stream).unwrap();
    // Captures that forbid other threads anything would forbid it to the other tests.
    let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
    // SAFETY: a stream of the current context.
    ok(unsafe { sys::cuStreamBeginCapture_v2(stream.as_raw().cast(), mode) });
    record(&mut queue);
    let (mut graph, mut executable) = (core::ptr::null_mut(), core::ptr::null_mut());
    // SAFETY: it is told where to write.
    ok(unsafe { sys::cuStreamEndCapture(stream.as_raw().cast(), &mut graph) });
    // SAFETY: it is told where to write; no log is asked for.
    ok(unsafe { sys::cuGraphInstantiate_v2(&mut executable, graph, core::ptr::null_mut(), core::ptr::null_mut(), 0) });
    // SAFETY: destroyed once.
    ok(unsafe { sys::cuGraphDestroy(graph) });
    Graph(executable)
}

struct Graph(sys::CUgraphExec);

impl Graph {
    fn launch(&self, queue: &Launcher<'_>) {
        // SAFETY: a graph and a stream of the current context.
        ok(unsafe { sys::cuGraphLaunch(self.0, queue.stream().as_raw().cast()) });
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        // SAFETY: destroyed once.
        ok(unsafe { sys::cuGraphExecDestroy(self.0) });
    }
}

#[test]
fn launches_are_recorded_and_replayed() {
    let kernels = kernels(0);
    let owned = Owned::new(kernels.context());
    let stream = owned.stream();
    let memory = Memory::allocate(kernels.context(), 4 * 32).unwrap();
    let mut readback = Readback::new(kernels.context(), 4).unwrap();
    memory.write(stream, 0, &[0; 128]).unwrap();
    mock::reset_counters();
    let graph = capture(&kernels, stream, |queue| {
        assert_eq!(queue.is_capturing(), Ok(true));
        fill(queue, memory.at(), 8, 1).unwrap();
        copy(queue, memory.at(), memory.at().offset::<u32>(8), 8).unwrap();
        // What a graph must not hold is not done.
        // SAFETY: within the block.
        assert_eq!(unsafe { readback.begin(queue, memory.at(), 4) }, Ok(false));
        assert_eq!(memory.write(stream, 0, &[0; 4]), Err(Error::Capturing));
        assert_eq!(memory.read(stream, 0, &mut [0; 4]), Err(Error::Capturing));
    });
    let counted = mock::counters();
    assert_eq!((counted.launches, counted.recorded), (2, 2));
    assert_eq!((counted.allocations, counted.synchronisations, counted.copies, counted.lookups), (0, 0, 0, 0));
    assert_eq!(read(&memory, stream), [0; 32]);
    let queue = kernels.on(stream).unwrap();
    assert_eq!(queue.is_capturing(), Ok(false));
    graph.launch(&queue);
    assert_eq!(read(&memory, stream)[..17], [[1; 16].as_slice(), &[0]].concat());
    memory.write(stream, 0, &[0; 128]).unwrap();
    graph.launch(&queue);
    assert_eq!(read(&memory, stream)[..17], [[1; 16].as_slice(), &[0]].concat());
}

/// That the mock would tell: what no capture can hold spoils it.
#[test]
fn an_allocation_spoils_a_capture() {
    let kernels = kernels(0);
    let owned = Owned::new(kernels.context());
    let memory = Memory::allocate(kernels.context(), 64).unwrap();
    let mut queue = kernels.on(owned.stream()).unwrap();
    // SAFETY: a stream of the current context.
    ok(unsafe { sys::cuStreamBeginCapture_v2(owned.0, sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL) });
    fill(&mut queue, memory.at(), 16, 1).unwrap();
    let refused = Error::Driver(Fault { call: "cuMemAlloc", code: 900 });
    assert_eq!(Memory::allocate(kernels.context(), 64).err(), Some(refused));
    assert_eq!(fill(&mut queue, memory.at(), 16, 1), Err(DeviceError(901)));
    // A capture that is spoilt has not ended.
    assert_eq!(queue.is_capturing(), Ok(true));
    let mut graph = core::ptr::null_mut();
    // SAFETY: it is told where to write.
    let ended = unsafe { sys::cuStreamEndCapture(owned.0, &mut graph) };
    assert_eq!(ended, sys::cudaError_enum::CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
    assert!(graph.is_null());
    assert_eq!(queue.is_capturing(), Ok(false));
}

/// The driver forbids queries of events while a stream is captured, so none is made; of a capture elsewhere, none is spoilt.
#[test]
fn readbacks_and_captures() {
    let kernels = kernels(1);
    let (owned, other) = (Owned::new(kernels.context()), Owned::new(kernels.context()));
    let stream = owned.stream();
    let memory = Memory::allocate(kernels.context(), 64).unwrap();
    let mut readback = Readback::new(kernels.context(), 8).unwrap();
    let mut queue = kernels.on(stream).unwrap();
    fill(&mut queue, memory.at(), 16, 0x0102_0304).unwrap();
    // SAFETY: within the block.
    assert_eq!(unsafe { readback.begin(&queue, memory.at(), 8) }, Ok(true));
    mock::reset_counters();
    let graph = capture(&kernels, stream, |queue| {
        assert_eq!(readback.take(queue), Ok(None));
        fill(queue, memory.at(), 16, 1).unwrap();
    });
    assert_eq!(mock::counters().queries, 0);
    let elsewhere = capture(&kernels, other.stream(), |queue| {
        // This thread captures another stream: the query concerns it not.
        assert_eq!(readback.take(&kernels.on(stream).unwrap()).unwrap().unwrap(), bytes_of(&[0x0102_0304_u32; 2]));
        fill(queue, memory.at(), 16, 2).unwrap();
    });
    assert_eq!(mock::counters().queries, 1);
    graph.launch(&queue);
    elsewhere.launch(&queue);
    assert_eq!(read(&memory, stream), [2; 16]);
}

#[test]
fn readbacks() {
    let kernels = kernels(0);
    let memory = Memory::allocate(kernels.context(), 64).unwrap();
    let mut readback = Readback::new(kernels.context(), 8).unwrap();
    mock::reset_counters();
    let mut queue = kernels.on(Stream::PER_THREAD).unwrap();
    assert!(!readback.is_pending());
    assert_eq!(readback.take(&queue), Ok(None));
    fill(&mut queue, memory.at(), 16, 4).unwrap();
    mock::set_queries_until_done(2);
    // SAFETY: within the block.
    unsafe {
        assert_eq!(readback.begin(&queue, memory.at(), 64), Ok(true)); // as much as there is room for
        assert_eq!(readback.begin(&queue, memory.at(), 4), Ok(false)); // one is pending
    }
    mock::set_queries_until_done(0);
    assert!(readback.is_pending());
    assert_eq!(readback.take(&queue), Ok(None));
    assert_eq!(readback.take(&queue), Ok(None));
    assert_eq!(readback.take(&queue).unwrap().unwrap(), bytes_of(&[4_u32; 2]));
    assert_eq!(readback.take(&queue), Ok(None));
    // SAFETY: within the block.
    unsafe { readback.begin(&queue, memory.at(), 4) }.unwrap();
    assert_eq!(readback.take(&queue).unwrap().unwrap(), bytes_of(&[4_u32]));
    let counted = mock::counters();
    assert_eq!((counted.allocations, counted.synchronisations, counted.copies, counted.queries), (0, 0, 2, 4));
    // An error of the device's work shows here.
    // SAFETY: within the block.
    unsafe { readback.begin(&queue, memory.at(), 4) }.unwrap();
    mock::fail("cuEventQuery", 1, 719);
    assert_eq!(readback.take(&queue).err(), Some(Error::Driver(Fault { call: "cuEventQuery", code: 719 })));
    // Dropped while the copy may be under way: waited for.
    drop(readback);
    assert_eq!(mock::counters().synchronisations, 2);
}

/// f32 with so few bits that any order of sums is exact.
fn numbers(count: usize, seed: u32) -> Vec<f32> {
    (0..count as u32).map(|i| ((i.wrapping_mul(2_654_435_761).wrapping_add(seed) >> 16) % 17) as f32 - 8.0).collect()
}

#[test]
fn products() {
    let kernels = kernels(0);
    let context = kernels.context();
    let mut blas = Blas::open(context, Memory::allocate(context, 4096).unwrap()).unwrap().unwrap();
    assert_eq!(blas.version(), Ok(130_000));
    let owned = Owned::new(context);
    let (m, n, k, count) = (3, 4, 5, 2);
    for (a_transposed, b_transposed) in [(false, false), (true, false), (false, true), (true, true)] {
        let (a_rows, a_columns) = if a_transposed { (k, m) } else { (m, k) };
        let (b_rows, b_columns) = if b_transposed { (n, k) } else { (k, n) };
        // Rows and matrices apart from each other.
        let (a_leading, b_leading, c_leading) = (a_columns + 1, b_columns + 2, n + 3);
        let (a_stride, b_stride, c_stride) = (a_rows * a_leading + 5, b_rows * b_leading + 6, m * c_leading + 7);
        let (a, b, c) = (numbers(count * a_stride, 1), numbers(count * b_stride, 2), numbers(count * c_stride, 3));
        let place = |values: &[f32]| {
            let memory = Memory::allocate(context, 4 * values.len()).unwrap();
            memory.write(Stream::LEGACY, 0, bytes_of(values)).unwrap();
            memory
        };
        let (a_memory, b_memory, c_memory) = (place(&a), place(&b), place(&c));
        let gemm = Gemm {
            m,
            n,
            k,
            count,
            alpha: 2.0,
            a: Factor { at: a_memory.at(), leading: a_leading, stride: a_stride, transposed: a_transposed },
            b: Factor { at: b_memory.at(), leading: b_leading, stride: b_stride, transposed: b_transposed },
            input: Input::F32,
            beta: 0.5,
            c: c_memory.at(),
            c_leading,
            c_stride,
            precision: Precision::Fp32,
        };
        mock::reset_counters();
        for stream in [owned.stream(), Stream::LEGACY] {
            c_memory.write(stream, 0, bytes_of(&c)).unwrap();
            // SAFETY: within the blocks.
            unsafe { blas.gemm_strided_batched(&kernels.on(stream).unwrap(), &gemm) }.unwrap();
            let mut expected = c.clone();
            for i in 0..count {
                for row in 0..m {
                    for column in 0..n {
                        let product = (0..k).map(|l| {
                            let x = if a_transposed { l * a_leading + row } else { row * a_leading + l };
                            let y = if b_transposed { column * b_leading + l } else { l * b_leading + column };
                            a[i * a_stride + x] * b[i * b_stride + y]
                        });
                        let at = i * c_stride + row * c_leading + column;
                        expected[at] = 2.0 * product.sum::<f32>() + 0.5 * c[at];
                    }
                }
            }
            assert_eq!(floats(&c_memory), expected);
        }
        // Every stream has the workspace, so that nothing is allocated.
        assert_eq!((mock::counters().hidden, mock::counters().allocations), (0, 0));
        let refused = |gemm: &Gemm| {
            // SAFETY: it is refused.
            let error = unsafe { blas_of(context).gemm_strided_batched(&kernels.on(Stream::LEGACY).unwrap(), gemm) }.unwrap_err();
            let Error::Blas(fault) = error else { panic!("{error:?}") };
            assert_eq!((fault.call, fault.status), ("cublasGemmStridedBatchedEx", 7));
        };
        refused(&Gemm { m: 1 << 31, ..gemm });
        refused(&Gemm { c_leading: n - 1, ..gemm });
        refused(&Gemm { input: Input::Bf16, precision: Precision::Tf32, ..gemm });
        // SAFETY: nothing is done.
        unsafe { blas.gemm_strided_batched(&kernels.on(Stream::LEGACY).unwrap(), &Gemm { count: 0, ..gemm }) }.unwrap();
    }
}

fn blas_of(context: &Context) -> Blas {
    Blas::open(context, Memory::allocate(context, 4096).unwrap()).unwrap().unwrap()
}

/// One product of two numbers at every precision: what is rounded away shows which was taken.
#[test]
fn precisions_and_formats() {
    let kernels = kernels(0);
    let context = kernels.context();
    let mut blas = blas_of(context);
    let memory = Memory::allocate(context, 512).unwrap();
    let mut product = |x: &[u8], input, precision| {
        memory.write(Stream::LEGACY, 0, x).unwrap();
        let factor = Factor { at: memory.at(), leading: 1, stride: 1, transposed: false };
        let one = Gemm {
            m: 1,
            n: 1,
            k: 1,
            a: factor,
            b: factor,
            c_leading: 1,
            input,
            precision,
            ..square(memory.at(), memory.at().offset::<f32>(64))
        };
        // SAFETY: within the block.
        unsafe { blas.gemm_strided_batched(&kernels.on(Stream::LEGACY).unwrap(), &one) }.unwrap();
        floats(&memory)[64]
    };
    let x = 1.0 + 1.0 / 64.0 + 1.0 / 512.0 + 1.0 / 65536.0_f32;
    let squared = |x: f32| x * x;
    assert_eq!(product(bytes_of(&[x]), Input::F32, Precision::Fp32), squared(x));
    assert_eq!(product(bytes_of(&[x]), Input::F32, Precision::Tf32), squared(1.0 + 1.0 / 64.0 + 1.0 / 512.0));
    assert_eq!(product(bytes_of(&[x]), Input::F32, Precision::Bf16), squared(1.0 + 1.0 / 64.0));
    assert_eq!(product(bytes_of(&[0x3fc0_u16]), Input::Bf16, Precision::Fp32), 2.25);
    assert_eq!(product(bytes_of(&[0x3e00_u16]), Input::F16, Precision::Fp32), 2.25);
}

/// Products are recorded too, and allocate nothing on a stream that they were not used on before.
#[test]
fn products_are_captured() {
    let kernels = kernels(0);
    let context = kernels.context();
    let owned = Owned::new(context);
    let mut blas = blas_of(context);
    let memory = Memory::allocate(context, 512).unwrap();
    memory.write(owned.stream(), 0, bytes_of(&[2.0_f32; 128])).unwrap();
    mock::reset_counters();
    let graph = capture(&kernels, owned.stream(), |queue| {
        // SAFETY: within the block.
        unsafe { blas.gemm_strided_batched(queue, &square(memory.at(), memory.at().offset::<f32>(64))) }.unwrap();
    });
    let counted = mock::counters();
    assert_eq!((counted.recorded, counted.hidden, counted.allocations, counted.synchronisations), (1, 0, 0, 0));
    assert_eq!(floats(&memory)[64], 2.0);
    graph.launch(&kernels.on(owned.stream()).unwrap());
    assert_eq!(floats(&memory)[64], 16.0);
}
