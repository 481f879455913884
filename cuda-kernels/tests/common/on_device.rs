//! The tests on a device instead of the emulator: `KLS_TEST_DEVICE=1` with the driver, or with what `KLS_CUDA_DRIVER` names.
//!
//! What the tests allocate then lies in managed memory, which has one address on the device and the host: a test fills and reads its vectors as it
//! always does. Arrays on the stack are the host's alone, and [`check`] refuses them.
//!
//! Without a driver the whole program says so and ends, as a failure where `REQUIRE_GPU=1`. It ends as not run where the device has no managed memory
//! that the host may touch while kernels run.

use std::alloc::{GlobalAlloc, Layout, System};
use std::ffi::c_void;
use std::ptr::{null_mut, with_exposed_provenance_mut};
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use cust::sys;
use klshampoo_cuda::driver::{Context, Device, Error, Kernels, Stream};
use klshampoo_cuda::queue::{DeviceError, Kernel, Queue};

use super::choice::{self, end, end_not_run};

/// Address space, of which only what is used becomes memory.
const ARENA: usize = 8 << 30;
/// Of the driver's own blocks.
const ALIGNMENT: usize = 256;

const UNKNOWN: u8 = 0;
const STARTING: u8 = 1;
const EMULATOR: u8 = 2;
const DEVICE: u8 = 3;

static STATE: AtomicU8 = AtomicU8::new(UNKNOWN);
static BEGIN: AtomicUsize = AtomicUsize::new(0);
static CONTEXT: OnceLock<Context> = OnceLock::new();

/// Whether the tests run on a device. Decided when the program first allocates, before any test.
pub fn is_on() -> bool {
    STATE.load(Ordering::Acquire) == DEVICE
}

/// What the arena is made of. What is allocated here is the system's.
fn start() -> u8 {
    if !choice::wants_device() {
        return EMULATOR;
    }
    let device = match Device::get(0) {
        Ok(device) => device,
        Err(Error::NoDriver) => end("no CUDA driver"),
        Err(error) => end(&error.to_string()),
    };
    let mut concurrent = 0;
    let attribute = sys::CUdevice_attribute_enum::CU_DEVICE_ATTRIBUTE_CONCURRENT_MANAGED_ACCESS;
    // SAFETY: it is told where to write; a CUdevice is its number.
    let result = unsafe { sys::cuDeviceGetAttribute(&mut concurrent, attribute, 0) };
    choice::say(&format!("concurrent managed access: {concurrent}"));
    if result != sys::cudaError_enum::CUDA_SUCCESS || concurrent == 0 {
        end_not_run("the host cannot use this device's managed memory while kernels run (concurrent managed access: 0)");
    }
    let started = || {
        let context = Context::new(device)?;
        let entered = context.enter()?;
        let mut at = 0;
        const GLOBAL: u32 = 1;
        // SAFETY: it is told where to write.
        let result = unsafe { sys::cuMemAllocManaged(&mut at, ARENA, GLOBAL) };
        drop(entered);
        if result != sys::cudaError_enum::CUDA_SUCCESS {
            end_not_run(&format!("no {} MiB of managed memory: {result:?}", ARENA >> 20));
        }
        Ok::<_, Error>((context, at))
    };
    match started() {
        Ok((context, at)) => {
            let _ = CONTEXT.set(context);
            BEGIN.store(at as usize, Ordering::Release);
            DEVICE
        }
        Err(error) => end(&error.to_string()),
    }
}

/// Free blocks by size, each of which holds the address of the next; and where the rest begins.
struct Arena {
    free: [usize; 64],
    used: usize,
}

static FREE: Mutex<Arena> = Mutex::new(Arena { free: [0; 64], used: 0 });

/// The allocator of the tests.
pub struct Allocator;

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

/// Size of the block for a layout, and its binary logarithm.
fn size(layout: Layout) -> (usize, usize) {
    let size = layout.size().max(layout.align()).max(ALIGNMENT).next_power_of_two();
    (size, size.trailing_zeros() as usize)
}

fn in_arena(at: usize) -> bool {
    let begin = BEGIN.load(Ordering::Acquire);
    begin != 0 && at >= begin && at - begin < ARENA
}

fn take(layout: Layout) -> *mut u8 {
    let (size, class) = size(layout);
    let mut arena = FREE.lock().unwrap_or_else(PoisonError::into_inner);
    let first = arena.free[class];
    if first != 0 {
        // SAFETY: a free block of the arena, in which the next one's address was left.
        arena.free[class] = unsafe { *with_exposed_provenance_mut::<usize>(first) };
        return with_exposed_provenance_mut(first);
    }
    let (begin, at) = (BEGIN.load(Ordering::Acquire), arena.used.next_multiple_of(layout.align().max(ALIGNMENT)));
    match at.checked_add(size).filter(|&end| end <= ARENA) {
        Some(end) => {
            arena.used = end;
            with_exposed_provenance_mut(begin + at)
        }
        None => null_mut(),
    }
}

// SAFETY: blocks are taken once from the arena or from the system, and go back to where they came from, which their address tells.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if STATE.load(Ordering::Acquire) == UNKNOWN
            && STATE.compare_exchange(UNKNOWN, STARTING, Ordering::AcqRel, Ordering::Acquire).is_ok()
        {
            STATE.store(start(), Ordering::Release);
        }
        if STATE.load(Ordering::Acquire) == DEVICE {
            return take(layout);
        }
        // SAFETY: the caller's layout.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        if !in_arena(at.addr()) {
            // SAFETY: the system's, with the caller's layout.
            return unsafe { System.dealloc(at, layout) };
        }
        let class = size(layout).1;
        let mut arena = FREE.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: a block of at least 256 bytes that nobody uses any more.
        unsafe { at.cast::<usize>().write(arena.free[class]) };
        arena.free[class] = at.expose_provenance();
    }
}

/// That memory is the device's too.
pub fn check<T>(memory: &[T]) {
    if is_on() && !memory.is_empty() {
        assert!(in_arena(memory.as_ptr().addr()), "not memory of the device: only what is allocated is");
    }
}

fn kernels() -> &'static Kernels {
    static KERNELS: OnceLock<Kernels> = OnceLock::new();
    KERNELS.get_or_init(|| Kernels::load(CONTEXT.get().expect("a device")).expect("the kernels"))
}

fn ok(result: sys::CUresult, what: &str) {
    assert_eq!(result, sys::cudaError_enum::CUDA_SUCCESS, "{what}");
}

/// Runs a kernel, and waits for it.
pub fn launch<K: Kernel>(grid: [u32; 3], kernel: K) -> Result<(), DeviceError> {
    let mut queue = kernels().on(Stream::PER_THREAD).expect("a queue");
    queue.launch(grid, kernel)?;
    // SAFETY: this thread's own default stream.
    ok(unsafe { sys::cuStreamSynchronize(Stream::PER_THREAD.as_raw().cast()) }, std::any::type_name::<K>());
    Ok(())
}

/// A graph in the making.
pub struct Recording(*mut c_void);

impl Recording {
    /// What is launched on it is recorded.
    pub fn begin() -> Self {
        let _queue = kernels().on(Stream::PER_THREAD).expect("a queue");
        let mut stream = null_mut();
        const NON_BLOCKING: u32 = 1;
        // SAFETY: it is told where to write; then a stream that lives.
        unsafe {
            ok(sys::cuStreamCreate(&mut stream, NON_BLOCKING), "cuStreamCreate");
            let own = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
            ok(sys::cuStreamBeginCapture_v2(stream, own), "cuStreamBeginCapture");
        }
        Self(stream.cast())
    }

    /// Records a launch.
    pub fn launch<K: Kernel>(&mut self, grid: [u32; 3], kernel: K) -> Result<(), DeviceError> {
        // SAFETY: a stream that lives.
        kernels().on(unsafe { Stream::from_raw(self.0) }).expect("a queue").launch(grid, kernel)
    }

    /// Ends the recording.
    pub fn end(&self) -> Graph {
        let _queue = kernels().on(Stream::PER_THREAD).expect("a queue");
        let (mut graph, mut executable) = (null_mut(), null_mut());
        // SAFETY: a stream that is captured, and where to write; the graph is destroyed once.
        unsafe {
            ok(sys::cuStreamEndCapture(self.0.cast(), &mut graph), "cuStreamEndCapture");
            ok(sys::cuGraphInstantiate_v2(&mut executable, graph, null_mut(), null_mut(), 0), "cuGraphInstantiate");
            ok(sys::cuGraphDestroy(graph), "cuGraphDestroy");
        }
        Graph(executable)
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        let _queue = kernels().on(Stream::PER_THREAD).expect("a queue");
        // SAFETY: destroyed once.
        unsafe { sys::cuStreamDestroy_v2(self.0.cast()) };
    }
}

/// A recorded graph.
pub struct Graph(sys::CUgraphExec);

impl Graph {
    /// Runs it, and waits for it.
    pub fn run(&self) {
        let queue = kernels().on(Stream::PER_THREAD).expect("a queue");
        // SAFETY: a graph that lives, and this thread's own stream.
        unsafe {
            ok(sys::cuGraphLaunch(self.0, queue.stream().as_raw().cast()), "cuGraphLaunch");
            ok(sys::cuStreamSynchronize(queue.stream().as_raw().cast()), "the graph");
        }
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        let _queue = kernels().on(Stream::PER_THREAD).expect("a queue");
        // SAFETY: destroyed once.
        unsafe { sys::cuGraphExecDestroy(self.0) };
    }
}
