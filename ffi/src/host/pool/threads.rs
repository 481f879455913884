//! Threads of the library's own, which run one closure all at once and allocate nothing doing so.
//!
//! The published pools that were tried allocate in every call (rayon's injector in blocks, paralight one object), and a step must
//! not: so this one keeps its threads parked on a condition variable and hands them a borrowed closure. A step has many short runs, and waking
//! a parked thread takes as long as some of them: so a thread looks for the next run, or for the end of this one, a little while before it parks.

use std::hint::spin_loop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;

use super::Task;

/// How often a thread looks before it parks: some 30 microseconds on Zen 3 cores of a virtual machine, where an empty run of two threads takes 1.1
/// microseconds while they look, and 57 where one has to be woken. Processors differ in how long a look takes, by a few times.
const LOOKS: u32 = 2000;

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
    /// Copies of `run` and `busy` that are looked at without the lock, and say only when to take it.
    run: AtomicUsize,
    busy: AtomicUsize,
}

impl Shared {
    /// No code that can panic runs under this lock.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics under the pool's lock")
    }

    /// Sets how many threads are busy.
    fn set_busy(&self, state: &mut State, busy: usize) {
        state.busy = busy;
        self.busy.store(busy, Ordering::Relaxed);
    }

    /// Has the threads look for something new.
    fn call(&self, state: &mut State) {
        state.run += 1;
        self.run.store(state.run as usize, Ordering::Relaxed);
        self.start.notify_all();
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
            self.shared.set_busy(&mut state, self.threads.len());
            self.shared.call(&mut state);
        }
        let own = catch_unwind(AssertUnwindSafe(|| task(0)));
        look(|| self.shared.busy.load(Ordering::Relaxed) == 0);
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

/// Waits for something, but not for long.
fn look(is_there: impl Fn() -> bool) {
    for _ in 0..LOOKS {
        if is_there() {
            return;
        }
        spin_loop();
    }
}

/// A thread's life.
fn work(shared: &Shared, number: usize) {
    let mut seen = 0;
    loop {
        look(|| shared.run.load(Ordering::Relaxed) != seen as usize);
        let mut state = shared.lock();
        while state.run == seen {
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
        let busy = state.busy - 1;
        shared.set_busy(&mut state, busy);
        if busy == 0 {
            shared.done.notify_one();
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.stop = true;
        self.shared.call(&mut state);
        drop(state);
        for thread in self.threads.drain(..) {
            // A panic in a task was caught and reported by `run`.
            let _ = thread.join();
        }
    }
}
