//! The caller's own pool, which is not trusted with the step: what it leaves out is done here, what it repeats is not done, and both are
//! noticed.

use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Condvar, Mutex, MutexGuard};

use super::Task;

/// A part of a step's work, to be called with the `context` that came with it and an index.
#[allow(non_camel_case_types)]
pub type kls_task = unsafe extern "C" fn(context: *mut c_void, index: usize);

/// Calls `task(context, i)` for every i below `count`, each once, on any threads, in any order, at once or one after another, and returns
/// when all have returned. No task waits for another. It must not throw or jump out, and must not call into the optimizer that it works for.
#[allow(non_camel_case_types)]
pub type kls_parallel_for = Option<unsafe extern "C" fn(user: *mut c_void, count: usize, task: kls_task, context: *mut c_void)>;

/// Most tasks of a run.
pub(crate) const MAX_TASKS: usize = 1024;

/// A [`kls_parallel_for`] that is there.
type Function = unsafe extern "C" fn(*mut c_void, usize, kls_task, *mut c_void);

#[derive(Default)]
struct State {
    /// While a run is under way.
    task: Option<Task>,
    /// A bit per task of the run that has been started.
    started: [u64; MAX_TASKS / 64],
    /// How many are under way.
    running: usize,
    panicked: bool,
    misused: bool,
}

/// See the module. Tasks are given its address.
pub(crate) struct ParallelFor {
    function: Function,
    user: *mut c_void,
    count: usize,
    state: Mutex<State>,
    done: Condvar,
}

// SAFETY: `user` is only handed through to the function, which by its contract works wherever the optimizer does.
unsafe impl Send for ParallelFor {}
// SAFETY: as above; one run at a time calls it.
unsafe impl Sync for ParallelFor {}

impl ParallelFor {
    /// For runs of `count` tasks, at most [`MAX_TASKS`].
    pub(super) fn new(count: usize, function: Function, user: *mut c_void) -> Self {
        assert!(count <= MAX_TASKS, "more tasks than bits");
        Self { function, user, count, state: Mutex::default(), done: Condvar::new() }
    }

    /// No code that can panic runs under this lock.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics under the lock")
    }

    /// See [`super::Pool::run`].
    pub(super) fn run(&self, task: &(dyn Fn(usize) + Sync)) {
        // SAFETY: only the lifetime changes. The reference is taken out again below, after the last task has finished with it, and
        // nothing between here and there unwinds.
        let task: Task = unsafe { std::mem::transmute::<&(dyn Fn(usize) + Sync), Task>(task) };
        {
            let mut state = self.lock();
            let misused = state.misused;
            *state = State { task: Some(task), misused, ..State::default() };
        }
        // SAFETY: by the word of the caller of kls_optimizer_create, with its own `user`.
        unsafe { (self.function)(self.user, self.count, call, (&raw const *self).cast_mut().cast()) };
        let early = self.lock().running > 0;
        let left_out = (0..self.count).filter(|&index| self.perform(index)).count() > 0;
        let mut state = self.lock();
        while state.running > 0 {
            state = self.done.wait(state).expect("nothing panics under the lock");
        }
        state.task = None;
        state.misused |= early || left_out;
        let panicked = state.panicked;
        drop(state);
        assert!(!panicked, "a job of the step panicked");
    }

    /// Runs a task of the run under way; false, and nothing done, where there is none or it has been started before.
    fn perform(&self, index: usize) -> bool {
        let task = {
            let mut state = self.lock();
            let (word, bit) = (index / 64, 1 << (index % 64));
            let Some(task) = state.task.filter(|_| index < self.count && state.started[word] & bit == 0) else { return false };
            state.started[word] |= bit;
            state.running += 1;
            task
        };
        let result = catch_unwind(AssertUnwindSafe(|| task(index)));
        let mut state = self.lock();
        state.panicked |= result.is_err();
        state.running -= 1;
        if state.running == 0 {
            self.done.notify_one();
        }
        true
    }

    /// See [`super::Pool::take_misuse`].
    pub(super) fn take_misuse(&self) -> bool {
        std::mem::take(&mut self.lock().misused)
    }
}

/// What the caller's pool calls: the `context` is a [`ParallelFor`].
unsafe extern "C" fn call(context: *mut c_void, index: usize) {
    // SAFETY: the pool of an optimizer, which lives longer than all of its steps.
    let pool = unsafe { &*context.cast::<ParallelFor>() };
    if !pool.perform(index) {
        pool.lock().misused = true;
    }
}
