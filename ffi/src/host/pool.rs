//! A pool of threads that runs one closure on all of them and allocates nothing doing so.
//!
//! The published pools that were tried allocate in every call (rayon's injector in blocks, paralight one object), and a step must
//! not: so this one keeps its threads parked on a condition variable and hands them a borrowed closure.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;

/// The closure of a run, as the threads see it.
type Task = &'static (dyn Fn(usize) + Sync);

#[derive(Default)]
struct State {
    task: Option<Task>,
    /// Counts runs, so that a thread takes part in each once.
    run: u64,
    /// Threads that have not finished the current run.
    busy: usize,
    panicked: bool,
    stop: bool,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    start: Condvar,
    done: Condvar,
}

impl Shared {
    /// No code that can panic runs under this lock.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics under the pool's lock")
    }
}

/// See the module.
pub(crate) struct Pool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Pool {
    /// A pool of `threads` threads, of which the calling one is number 0.
    pub(crate) fn new(threads: usize) -> std::io::Result<Self> {
        let mut pool = Self { shared: Arc::default(), threads: Vec::new() };
        for number in 1..threads {
            let shared = Arc::clone(&pool.shared);
            let builder = std::thread::Builder::new().name(format!("klshampoo-{number}"));
            // On an error the pool's drop ends the threads that did start.
            pool.threads.push(builder.spawn(move || work(&shared, number))?);
        }
        Ok(pool)
    }

    /// Runs `task(0)`, ..., `task(threads - 1)`, one per thread, and returns when all have.
    ///
    /// # Panics
    /// When one of them panicked.
    pub(crate) fn run(&self, task: &(dyn Fn(usize) + Sync)) {
        if self.threads.is_empty() {
            return task(0);
        }
        // SAFETY: only the lifetime changes. The reference is taken out again below, after the last thread has finished with it, and
        // nothing between here and there unwinds.
        let task: Task = unsafe { std::mem::transmute::<&(dyn Fn(usize) + Sync), Task>(task) };
        {
            let mut state = self.shared.lock();
            state.task = Some(task);
            state.run += 1;
            state.busy = self.threads.len();
            self.shared.start.notify_all();
        }
        let own = catch_unwind(AssertUnwindSafe(|| task(0)));
        let mut state = self.shared.lock();
        while state.busy > 0 {
            state = self.shared.done.wait(state).expect("nothing panics under the pool's lock");
        }
        state.task = None;
        let panicked = std::mem::take(&mut state.panicked) || own.is_err();
        drop(state);
        assert!(!panicked, "a job of the step panicked");
    }
}

/// A thread's life.
fn work(shared: &Shared, number: usize) {
    let mut seen = 0;
    loop {
        let mut state = shared.lock();
        while state.run == seen && !state.stop {
            state = shared.start.wait(state).expect("nothing panics under the pool's lock");
        }
        if state.stop {
            return;
        }
        seen = state.run;
        let task = state.task;
        drop(state);
        let result = catch_unwind(AssertUnwindSafe(|| task.map(|task| task(number))));
        let mut state = shared.lock();
        state.panicked |= result.is_err();
        state.busy -= 1;
        if state.busy == 0 {
            shared.done.notify_one();
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.start.notify_all();
        for thread in self.threads.drain(..) {
            // A panic in a task was caught and reported by `run`.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn every_thread_runs_once_and_a_panic_is_reported_but_leaves_the_pool_usable() {
        for threads in 1..5 {
            let pool = Pool::new(threads).unwrap();
            for _ in 0..50 {
                let counts: Vec<AtomicUsize> = (0..threads).map(|_| AtomicUsize::new(0)).collect();
                pool.run(&|number| {
                    counts[number].fetch_add(1, Ordering::Relaxed);
                });
                assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 1));
            }
            let panicking = catch_unwind(AssertUnwindSafe(|| pool.run(&|number| assert_ne!(number, threads - 1))));
            assert!(panicking.is_err());
            pool.run(&|_| {});
        }
    }
}
