//! What only hosts have: the heap, threads and the faer backend.

mod backend;
pub(crate) mod create;
mod faer;
mod pool;

use std::sync::Mutex;

use klshampoo::{Jobs, StepError};

pub use self::backend::Backend;
pub use self::faer::{Faer, OutOfMemory};
use self::pool::Pool;
use crate::pointers::{Pointers, keep_first};
use crate::status::{KLS_ERROR_OUT_OF_MEMORY, KLS_ERROR_THREADS, kls_status};

/// What one thread needs for itself.
pub(crate) struct Worker {
    pub scratch: Vec<f32>,
    pub backend: Backend,
}

/// The threads of an optimizer and what each of them needs.
pub(crate) struct Host {
    pool: Pool,
    workers: Box<[Mutex<Worker>]>,
}

impl Host {
    /// One worker per thread; the calling thread is the first.
    fn new(threads: usize, scratch_len: usize, backend: impl Fn() -> Result<Backend, OutOfMemory>) -> Result<Self, kls_status> {
        let worker = || {
            let mut scratch = Vec::new();
            scratch.try_reserve_exact(scratch_len).map_err(|_| KLS_ERROR_OUT_OF_MEMORY)?;
            scratch.resize(scratch_len, 0.0);
            Ok(Mutex::new(Worker { scratch, backend: backend().map_err(|_| KLS_ERROR_OUT_OF_MEMORY)? }))
        };
        let workers = (0..threads).map(|_| worker()).collect::<Result<_, kls_status>>()?;
        Ok(Self { workers, pool: Pool::new(threads).map_err(|_| KLS_ERROR_THREADS)? })
    }

    /// The calling thread's scratch and backend.
    pub(crate) fn first_worker(&mut self) -> &mut Worker {
        self.workers[0].get_mut().expect("a worker's panic poisons the optimizer")
    }

    /// Runs the jobs on all threads: each takes the next one when it is done with its last, so the results do not depend on who runs
    /// what.
    ///
    /// # Safety
    /// As for [`Pointers::run`].
    pub(crate) unsafe fn run(&mut self, jobs: Jobs<'_, f32>, pointers: Pointers<'_>, first_error: &mut Option<StepError>) {
        let (jobs, errors) = (Mutex::new(jobs), Mutex::new(first_error));
        self.pool.run(&|thread| {
            let mut worker = self.workers[thread].lock().expect("a worker's panic poisons the optimizer");
            let Worker { scratch, backend } = &mut *worker;
            loop {
                let Some(job) = jobs.lock().expect("taking a job does not panic").next() else { break };
                // SAFETY: checked pointers and fresh jobs, by the caller's word; the iterator gives each job out once.
                if let Some(Err(error)) = unsafe { pointers.run(job, scratch, backend) } {
                    keep_first(&mut errors.lock().expect("keeping an error does not panic"), error);
                }
            }
        });
    }
}
