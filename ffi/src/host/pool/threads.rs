//! Threads of the library's own, which run one closure all at once and allocate nothing doing so.
//!
//! The published pools that were tried allocate in every call (rayon's injector in blocks, paralight one object), and a step must
//! not: so this one keeps its threads parked on a condition variable and hands them a borrowed closure.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;

use super::Task;

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
pub(crate) struct Threads {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Threads {
    /// `threads` threads, of which the calling one is number 0.
    pub(super) fn new(threads: usize) -> std::io::Result<Self> {
        let mut all = Self { shared: Arc::default(), threads: Vec::new() };
        for number in 1..threads {
            let shared = Arc::clone(&all.shared);
            let builder = std::thread::Builder::new().name(format!("klshampoo-{number}"));
            // On an error the drop ends the threads that did start.
            all.threads.push(builder.spawn(move || work(&shared, number))?);
        }
        Ok(all)
    }

    /// See [`super::Pool::run`].
    pub(super) fn run(&self, task: &(dyn Fn(usize) + Sync)) {
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

impl Drop for Threads {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.start.notify_all();
        for thread in self.threads.drain(..) {
            // A panic in a task was caught and reported by `run`.
            let _ = thread.join();
        }
    }
}
