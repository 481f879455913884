//! The GPU, its memory and its clock.

use cust::sys;
use klshampoo_cuda::driver::{Blas, Context, Device, Error, Event, Kernels, Launcher, Memory, Stream, driver_version};
use klshampoo_cuda::queue::DevicePtr;
use std::ptr::null_mut;
use std::time::Instant;

/// What went wrong.
pub type Failure = Box<dyn std::error::Error>;

/// Calls of the driver that the library has no need of.
fn called(result: sys::CUresult, call: &str) -> Result<(), Failure> {
    if result == sys::cudaError_enum::CUDA_SUCCESS { Ok(()) } else { Err(format!("{call}: {result:?}").into()) }
}

/// A device with the kernels and a stream of its own.
pub struct Gpu {
    kernels: Kernels,
    stream: sys::CUstream,
    from: Event,
    to: Event,
    blas: Option<Blas>,
    uses_blas: bool,
    seconds: f64,
}

/// The device and the driver in words.
pub fn description(device: &Device) -> Result<String, Failure> {
    let ((major, minor), memory) = (device.compute_capability()?, device.total_memory()?);
    Ok(format!("{}, compute capability {major}.{minor}, {} MiB, driver of CUDA {}", device.name()?, memory >> 20, driver_version()?))
}

/// Whether the host may use managed memory of a device while kernels run, as the driver says it: 0 or 1.
pub fn concurrent_managed_access(device: &Device) -> Result<i32, Failure> {
    let (mut value, number) = (0, i32::try_from(device.ordinal())?);
    let attribute = sys::CUdevice_attribute_enum::CU_DEVICE_ATTRIBUTE_CONCURRENT_MANAGED_ACCESS;
    // SAFETY: it is told where to write; a CUdevice is its number.
    called(unsafe { sys::cuDeviceGetAttribute(&mut value, attribute, number) }, "cuDeviceGetAttribute")?;
    Ok(value)
}

impl Gpu {
    /// The device of this number, without cuBLAS. The samples of one number take about `seconds` seconds at most.
    pub fn open(ordinal: usize, seconds: f64) -> Result<Self, Failure> {
        let context = Context::new(Device::get(ordinal)?)?;
        let kernels = Kernels::load(&context)?;
        let (from, to) = (Event::new(&context)?, Event::new(&context)?);
        let entered = context.enter()?;
        let mut stream = null_mut();
        const NON_BLOCKING: u32 = 1;
        // SAFETY: it is told where to write.
        called(unsafe { sys::cuStreamCreate(&mut stream, NON_BLOCKING) }, "cuStreamCreate")?;
        drop(entered);
        Ok(Self { kernels, stream, from, to, blas: None, uses_blas: false, seconds })
    }

    /// Opens cuBLAS, and tells its version if there is one.
    pub fn open_blas(&mut self) -> Result<Option<u32>, Failure> {
        let context = self.context();
        self.blas = Blas::open(context, Memory::allocate(context, Blas::WORKSPACE)?)?;
        Ok(self.blas.as_ref().map(Blas::version).transpose()?)
    }

    /// Whether there is a cuBLAS.
    pub fn has_blas(&self) -> bool {
        self.blas.is_some()
    }

    /// Whether what is timed or captured from now on may leave its products to cuBLAS, and from which size on.
    pub fn use_blas(&mut self, from: Option<u64>) {
        self.uses_blas = from.is_some();
        if let (Some(blas), Some(from)) = (&mut self.blas, from) {
            blas.take_from(from);
        }
    }

    /// Its context.
    pub fn context(&self) -> &Context {
        self.kernels.context()
    }

    fn stream(&self) -> Stream {
        // SAFETY: it lives as long as this, and is of this context.
        unsafe { Stream::from_raw(self.stream.cast()) }
    }

    /// A queue of launches.
    pub fn queue(&self) -> Result<Launcher<'_>, Error> {
        self.kernels.on(self.stream())
    }

    /// Memory of so many floats, as they come.
    pub fn floats(&self, count: usize) -> Result<Memory, Error> {
        Memory::allocate(self.context(), 4 * count)
    }

    /// Memory with these floats.
    pub fn copy_of(&self, numbers: &[f32]) -> Result<Memory, Error> {
        let memory = self.floats(numbers.len())?;
        // SAFETY: numbers are bytes.
        let bytes = unsafe { std::slice::from_raw_parts(numbers.as_ptr().cast::<u8>(), size_of_val(numbers)) };
        memory.write(self.stream(), 0, bytes)?;
        Ok(memory)
    }

    /// Bytes of a block, after all that was launched.
    pub fn read(&self, memory: &Memory, offset: usize, bytes: usize) -> Result<Vec<u8>, Error> {
        let mut to = vec![0; bytes];
        memory.read(self.stream(), offset, &mut to)?;
        Ok(to)
    }

    /// Seconds that the device needs for what is launched.
    pub fn time(&mut self, work: impl FnOnce(&mut Launcher<'_>) -> Result<(), Failure>) -> Result<f64, Failure> {
        let stream = self.stream();
        let mut queue = self.kernels.on(stream)?.with_blas(self.blas.as_mut().filter(|_| self.uses_blas));
        self.from.record(&queue)?;
        work(&mut queue)?;
        self.to.record(&queue)?;
        Ok(f64::from(self.to.milliseconds_since(&self.from)?) * 1e-3)
    }

    /// The median of so many samples, or of fewer where they take too long: of three at least.
    pub fn sampled(&mut self, samples: u32, mut one: impl FnMut(&mut Self) -> Result<f64, Failure>) -> Result<f64, Failure> {
        let (begun, mut times) = (Instant::now(), Vec::new());
        while times.len() < samples as usize && (times.len() < 3 || begun.elapsed().as_secs_f64() < self.seconds) {
            times.push(one(self)?);
        }
        Ok(median(times))
    }

    /// The same of times of several launches each, after some that are not timed; of one launch.
    pub fn median(
        &mut self,
        samples: u32,
        launches: u32,
        mut work: impl FnMut(&mut Launcher<'_>) -> Result<(), Failure>,
    ) -> Result<f64, Failure> {
        let mut all = |queue: &mut Launcher<'_>| (0..launches).try_for_each(|_| work(queue));
        let begun = Instant::now();
        self.time(&mut all)?;
        if begun.elapsed().as_secs_f64() < self.seconds {
            self.time(&mut all)?;
        }
        Ok(self.sampled(samples, |gpu| gpu.time(&mut all))? / f64::from(launches))
    }

    /// What is launched becomes a graph.
    pub fn capture(&mut self, work: impl FnOnce(&mut Launcher<'_>) -> Result<(), Failure>) -> Result<Graph, Failure> {
        let stream = self.stream();
        let mut queue = self.kernels.on(stream)?.with_blas(self.blas.as_mut().filter(|_| self.uses_blas));
        let own = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        let (mut graph, mut executable) = (null_mut(), null_mut());
        // SAFETY: the stream lives, and its context is current.
        called(unsafe { sys::cuStreamBeginCapture_v2(self.stream, own) }, "cuStreamBeginCapture")?;
        let worked = work(&mut queue);
        // SAFETY: the stream is captured; it is told where to write.
        called(unsafe { sys::cuStreamEndCapture(self.stream, &mut graph) }, "cuStreamEndCapture")?;
        if worked.is_err() {
            // SAFETY: destroyed once.
            unsafe { sys::cuGraphDestroy(graph) };
        }
        worked?;
        // SAFETY: a graph that is destroyed once, and where to write.
        unsafe {
            let made = sys::cuGraphInstantiate_v2(&mut executable, graph, null_mut(), null_mut(), 0);
            sys::cuGraphDestroy(graph);
            called(made, "cuGraphInstantiate")?;
        }
        Ok(Graph { context: self.kernels.context().clone(), executable })
    }
}

impl Drop for Gpu {
    fn drop(&mut self) {
        // Its handle knows the stream, which has to outlive it.
        self.blas = None;
        if let Ok(_entered) = self.kernels.context().enter() {
            // SAFETY: destroyed once.
            unsafe { sys::cuStreamDestroy_v2(self.stream) };
        }
    }
}

/// A captured graph.
pub struct Graph {
    context: Context,
    executable: sys::CUgraphExec,
}

impl Graph {
    /// Launches it.
    pub fn launch(&self, queue: &Launcher<'_>) -> Result<(), Failure> {
        // SAFETY: a graph and a stream that live; the queue's context is current.
        called(unsafe { sys::cuGraphLaunch(self.executable, queue.stream().as_raw().cast()) }, "cuGraphLaunch")
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        if let Ok(_entered) = self.context.enter() {
            // SAFETY: destroyed once.
            unsafe { sys::cuGraphExecDestroy(self.executable) };
        }
    }
}

/// A copy between blocks of the device by the driver itself.
pub fn driver_copy(queue: &Launcher<'_>, from: DevicePtr, to: DevicePtr, bytes: usize) -> Result<(), Failure> {
    // SAFETY: blocks of the caller's, of this length, on a stream of the context that is current.
    called(unsafe { sys::cuMemcpyDtoDAsync_v2(to.address(), from.address(), bytes, queue.stream().as_raw().cast()) }, "cuMemcpyDtoDAsync")
}

/// The middle of some numbers, of which there is at least one.
pub fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    let middle = numbers.len() / 2;
    if numbers.len() % 2 == 1 { numbers[middle] } else { (numbers[middle - 1] + numbers[middle]) / 2.0 }
}
