//! What only hosts have: the heap, threads, the faer backend and files.

mod backend;
pub mod block;
pub(crate) mod create;
mod faer;
pub mod fallible;
pub mod file;
pub(crate) mod grow;
mod json;
pub(crate) mod partition;
pub(crate) mod pool;
mod replace;
mod safetensors;
pub(crate) mod sgemm;
pub mod table;

use std::ops::Range;
use std::sync::Mutex;

use klshampoo::{Optimizer, Tensor};

pub use self::backend::Backend;
use self::backend::Kind;
use self::block::Block;
use self::create::kls_options;
pub use self::faer::{Bf16, Faer, OutOfMemory};
use self::fallible::collected;
use self::pool::Pool;
pub use self::safetensors::{from_safetensors, to_safetensors};
pub use self::sgemm::WithSgemm;
use crate::error::Outcome;
use crate::met::Met;
use crate::pointers::Pointers;
use crate::status::{KLS_ERROR_OUT_OF_MEMORY, KLS_ERROR_PARALLEL_FOR, kls_status};

/// What one thread needs for itself.
pub(crate) struct Worker {
    pub scratch: Vec<f32>,
    pub backend: Backend,
}

/// Why a worker can always be had.
const POISONED: &str = "a worker's panic poisons the optimizer";

/// The threads of an optimizer, what each of them needs, and the memory of the table and the state.
pub(crate) struct Host {
    pool: Pool,
    /// How many tasks of the pool may run at once.
    tasks: usize,
    kind: Kind,
    workers: Workers,
    /// What the optimizer's own pointer points to.
    block: Block,
    /// The memory of the optimizer object itself; freed with the host, after the object.
    _place: Block,
}

/// One worker for each task of the pool, as a table needs them.
struct Workers {
    each: Vec<Mutex<Worker>>,
    /// Per tensor: whether all threads work on each of its slices together.
    together: Vec<bool>,
}

/// From this many floating-point operations of a step on, threads may share a slice: its products then are milliseconds in all, and waking
/// a thread for each of them takes a hundredth of that.
const LARGE: u64 = 250_000_000;

/// Slices are worked on together that are more than one part in so many of one thread's share of a step: smaller ones, one thread each,
/// leave no thread without work for longer than that part.
const PARTS: u64 = 8;

impl Workers {
    /// The calling thread's is the first.
    fn new(tasks: usize, tensors: &[Tensor], kind: Kind) -> Result<Self, kls_status> {
        let step = tensors.iter().fold(0u64, |sum, tensor| sum.saturating_add(tensor.slice_cost().times(tensor.slices() as u64).step));
        let limit = LARGE.max(step / (PARTS * tasks as u64));
        let shareable = kind.is_shareable() && tasks > 1;
        let together = collected(tensors.iter().map(|tensor| Ok(shareable && tensor.slice_cost().step >= limit)))?;
        let worker = |number: usize| {
            // What all threads work on together is the first one's to hold.
            let own = || tensors.iter().zip(&together).filter(|&(_, &together)| number == 0 || !together).map(|(tensor, _)| tensor);
            let scratch_len = own().map(Tensor::scratch_len).max().unwrap_or(0);
            let mut scratch = Vec::new();
            scratch.try_reserve_exact(scratch_len).map_err(|_| KLS_ERROR_OUT_OF_MEMORY)?;
            scratch.resize(scratch_len, 0.0);
            let backend = kind.make(own().map(Tensor::largest_full_dim).max().unwrap_or(0))?;
            Ok(Mutex::new(Worker { scratch, backend }))
        };
        let each = collected((0..tasks).map(worker))?;
        Ok(Self { each, together })
    }

    /// The calling thread's scratch and backend.
    fn first(&mut self) -> &mut Worker {
        self.each[0].get_mut().expect(POISONED)
    }
}

/// A backend that the threads of a pool help until this is dropped.
struct Helped<'a>(&'a mut Backend);

impl<'a> Helped<'a> {
    /// # Safety
    /// The pool stays until this is dropped, which it is.
    unsafe fn by(pool: &Pool, backend: &'a mut Backend) -> Self {
        // SAFETY: only the lifetime changes, and the drop takes the reference out again.
        backend.set_helpers(Some(unsafe { &*std::ptr::from_ref(pool) }));
        Self(backend)
    }
}

impl Drop for Helped<'_> {
    fn drop(&mut self) {
        self.0.set_helpers(None);
    }
}

impl Host {
    /// The host part of an optimizer at `place` with these tensors, which lie in the block.
    fn new(options: &kls_options, kind: Kind, tensors: &[Tensor], place: Block, block: Block) -> Result<Self, kls_status> {
        let tasks = options.num_threads as usize;
        let workers = Workers::new(tasks, tensors, kind)?;
        let pool = Pool::new(tasks, options.parallel_for, options.parallel_for_user)?;
        Ok(Self { pool, tasks, kind, workers, block, _place: place })
    }

    /// The same threads with workers for another table, which lies in `block`; nothing changes on an error.
    fn move_to(&mut self, block: Block, tensors: &[Tensor]) -> Result<(), kls_status> {
        self.workers = Workers::new(self.tasks, tensors, self.kind)?;
        self.block = block;
        Ok(())
    }

    /// How many tasks of the pool may run at once.
    pub(crate) fn tasks(&self) -> usize {
        self.tasks
    }

    /// Scratch of all tasks.
    pub(crate) fn scratch_bytes(&self) -> usize {
        let bytes = |worker: &Worker| worker.scratch.len() * size_of::<f32>() + worker.backend.scratch_bytes();
        self.workers.each.iter().map(|worker| bytes(&worker.lock().expect(POISONED))).sum()
    }

    /// The calling thread's scratch and backend.
    pub(crate) fn first_worker(&mut self) -> &mut Worker {
        self.workers.first()
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
        met: &mut Met,
    ) -> Outcome {
        let Self { pool, workers, .. } = self;
        let refreshes = view.refreshes(tensors.clone(), |tensor| pointers.has_gradient(tensor));
        if workers.together[tensors.clone()].contains(&true) {
            let Workers { each, together } = &mut *workers;
            let Worker { scratch, backend } = each[0].get_mut().expect(POISONED);
            // SAFETY: dropped before this block ends, and so before the pool can be.
            let helped = unsafe { Helped::by(pool, backend) };
            for job in view.jobs(tensors.clone(), lr, refreshes).filter(|job| together[job.tensor()]) {
                // SAFETY: checked pointers and fresh jobs, by the caller's word; the iterator gives each job out once.
                unsafe { pointers.run(job, scratch, &mut *helped.0, met) };
            }
        }
        let mut alone = view.jobs(tensors.clone(), lr, refreshes).filter(|job| !workers.together[job.tensor()]).peekable();
        if alone.peek().is_some() {
            let (jobs, all) = (Mutex::new(alone), Mutex::new(met));
            pool.run(&|thread| {
                let mut worker = workers.each[thread].lock().expect(POISONED);
                let (Worker { scratch, backend }, mut met) = (&mut *worker, Met::default());
                loop {
                    let Some(job) = jobs.lock().expect("taking a job does not panic").next() else { break };
                    // SAFETY: as above.
                    unsafe { pointers.run(job, scratch, backend, &mut met) };
                }
                all.lock().expect("adding up does not panic").merge(&met);
            });
        }
        if pool.take_misuse() { Err(KLS_ERROR_PARALLEL_FOR.into()) } else { Ok(()) }
    }
}
