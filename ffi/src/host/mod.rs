//! What only hosts have: the heap, threads, the faer backend and files.

mod backend;
pub(crate) mod create;
mod faer;
pub(crate) mod file;
mod json;
mod pool;
mod safetensors;

use std::ops::Range;
use std::sync::{Arc, Mutex};

use klshampoo::{Optimizer, StepError, Tensor};

pub use self::backend::Backend;
pub use self::faer::{Bf16, Faer, OutOfMemory};
use self::pool::Pool;
pub use self::safetensors::{from_safetensors, to_safetensors};
use crate::pointers::{Pointers, keep_first};
use crate::status::{KLS_ERROR_OUT_OF_MEMORY, KLS_ERROR_THREADS, kls_status};

/// What one thread needs for itself.
pub(crate) struct Worker {
    pub scratch: Vec<f32>,
    pub backend: Backend,
}

/// Why a worker can always be had.
const POISONED: &str = "a worker's panic poisons the optimizer";

/// The threads of an optimizer and what each of them needs.
pub(crate) struct Host {
    pool: Arc<Pool>,
    workers: Box<[Mutex<Worker>]>,
    /// Per tensor: whether all threads work on each of its slices together.
    together: Box<[bool]>,
}

/// From this many floating-point operations of a step on, threads may share a slice: its products then are milliseconds in all, and waking
/// a thread for each of them takes a hundredth of that.
const LARGE: u64 = 250_000_000;

/// Slices are worked on together that are more than one part in so many of one thread's share of a step: smaller ones, one thread each,
/// leave no thread without work for longer than that part.
const PARTS: u64 = 8;

impl Host {
    /// One worker per thread; the calling thread is the first. `shareable`: whether threads can share such a backend's work on one matrix.
    pub(crate) fn new(
        threads: usize,
        tensors: &[Tensor],
        shareable: bool,
        backend: impl Fn(usize) -> Result<Backend, OutOfMemory>,
    ) -> Result<Self, kls_status> {
        let step = tensors.iter().fold(0u64, |sum, tensor| sum.saturating_add(tensor.slice_cost().times(tensor.slices() as u64).step));
        let limit = LARGE.max(step / (PARTS * threads as u64));
        let shareable = shareable && threads > 1;
        let together: Box<[bool]> = tensors.iter().map(|tensor| shareable && tensor.slice_cost().step >= limit).collect();
        let worker = |number: usize| {
            // What all threads work on together is the first one's to hold.
            let own = || tensors.iter().zip(&together).filter(|&(_, &together)| number == 0 || !together).map(|(tensor, _)| tensor);
            let scratch_len = own().map(Tensor::scratch_len).max().unwrap_or(0);
            let mut scratch = Vec::new();
            scratch.try_reserve_exact(scratch_len).map_err(|_| KLS_ERROR_OUT_OF_MEMORY)?;
            scratch.resize(scratch_len, 0.0);
            let backend = backend(own().map(Tensor::largest_full_dim).max().unwrap_or(0)).map_err(|_| KLS_ERROR_OUT_OF_MEMORY)?;
            Ok(Mutex::new(Worker { scratch, backend }))
        };
        let workers = (0..threads).map(worker).collect::<Result<_, kls_status>>()?;
        Ok(Self { workers, pool: Arc::new(Pool::new(threads).map_err(|_| KLS_ERROR_THREADS)?), together })
    }

    /// The calling thread's scratch and backend.
    pub(crate) fn first_worker(&mut self) -> &mut Worker {
        self.workers[0].get_mut().expect(POISONED)
    }

    /// Runs the jobs of a range of tensors: large slices one after another, all threads on each; then the others, of which each thread
    /// takes the next one when it is done with its last. The results do not depend on who runs what.
    ///
    /// # Safety
    /// As for [`Pointers::run`].
    pub(crate) unsafe fn run(
        &mut self,
        view: &mut Optimizer<'_, f32>,
        tensors: Range<usize>,
        lr: f32,
        pointers: Pointers<'_>,
        first_error: &mut Option<StepError>,
    ) {
        let (together, refreshes) = (&*self.together, view.refreshes(tensors.clone(), |tensor| pointers.has_gradient(tensor)));
        if together[tensors.clone()].contains(&true) {
            let helpers = Arc::clone(&self.pool);
            let Worker { scratch, backend } = self.workers[0].get_mut().expect(POISONED);
            backend.set_helpers(Some(helpers));
            // A panic leaves the helpers set, and poisons the optimizer.
            for job in view.jobs(tensors.clone(), lr, refreshes).filter(|job| together[job.tensor()]) {
                // SAFETY: checked pointers and fresh jobs, by the caller's word; the iterator gives each job out once.
                if let Some(Err(error)) = unsafe { pointers.run(job, scratch, backend) } {
                    keep_first(first_error, error);
                }
            }
            backend.set_helpers(None);
        }
        let mut alone = view.jobs(tensors.clone(), lr, refreshes).filter(|job| !together[job.tensor()]).peekable();
        if alone.peek().is_none() {
            return;
        }
        let (jobs, errors) = (Mutex::new(alone), Mutex::new(first_error));
        self.pool.run(&|thread| {
            let mut worker = self.workers[thread].lock().expect(POISONED);
            let Worker { scratch, backend } = &mut *worker;
            loop {
                let Some(job) = jobs.lock().expect("taking a job does not panic").next() else { break };
                // SAFETY: as above.
                if let Some(Err(error)) = unsafe { pointers.run(job, scratch, backend) } {
                    keep_first(&mut errors.lock().expect("keeping an error does not panic"), error);
                }
            }
        });
    }
}
