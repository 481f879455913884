//! Who runs a step: threads of the library's own, or those of the caller.

pub(crate) mod parallel_for;
mod threads;

use self::parallel_for::{ParallelFor, kls_parallel_for};
use self::threads::Threads;
use crate::status::{KLS_ERROR_THREADS, kls_status};
use std::ffi::c_void;

/// The closure of a run, for those who run it and outlive its borrow.
type Task = &'static (dyn Fn(usize) + Sync);

/// A number of tasks that may run at once.
pub(crate) enum Pool {
    /// The calling thread alone.
    One,
    /// One task per thread.
    Own(Threads),
    /// Tasks that the caller's pool runs as it likes, be it one after another.
    Callers(ParallelFor),
}

impl Pool {
    /// A pool of `count` tasks, on the caller's `parallel_for` if there is one.
    pub(crate) fn new(count: usize, parallel_for: kls_parallel_for, user: *mut c_void) -> Result<Self, kls_status> {
        Ok(match (count, parallel_for) {
            (..=1, _) => Self::One,
            (_, Some(function)) => Self::Callers(ParallelFor::new(count, function, user)),
            (_, None) => Self::Own(Threads::new(count).map_err(|_| KLS_ERROR_THREADS)?),
        })
    }

    /// Runs `task(0)`, ..., `task(count - 1)`, each once, at most one in a thread at a time, and returns when all have. A task must not wait for
    /// another one: they may run one after another.
    ///
    /// # Panics
    /// When one of them panicked.
    pub(crate) fn run(&self, task: &(dyn Fn(usize) + Sync)) {
        match self {
            Self::One => task(0),
            Self::Own(threads) => threads.run(task),
            Self::Callers(parallel_for) => parallel_for.run(task),
        }
    }

    /// Whether the caller's `parallel_for` broke its word in a run since this was last asked. All tasks ran all the same.
    pub(crate) fn take_misuse(&self) -> bool {
        match self {
            Self::One | Self::Own(_) => false,
            Self::Callers(parallel_for) => parallel_for.take_misuse(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::ptr::null_mut;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::parallel_for::kls_task;
    use super::*;

    /// The last task first, all on the calling thread.
    unsafe extern "C" fn backwards(_: *mut c_void, count: usize, task: kls_task, context: *mut c_void) {
        // SAFETY: the task's own context.
        (0..count).rev().for_each(|i| unsafe { task(context, i) });
    }

    /// A thread per task, all at once.
    unsafe extern "C" fn at_once(_: *mut c_void, count: usize, task: kls_task, context: *mut c_void) {
        let context = context.expose_provenance();
        std::thread::scope(|scope| {
            for i in 0..count {
                // SAFETY: the task's own context.
                scope.spawn(move || unsafe { task(std::ptr::with_exposed_provenance_mut(context), i) });
            }
        });
    }

    /// The first task not at all, the second one twice, and some that there are not.
    unsafe extern "C" fn badly(_: *mut c_void, count: usize, task: kls_task, context: *mut c_void) {
        // SAFETY: the task's own context.
        (1..count + 100).chain([1]).for_each(|i| unsafe { task(context, i) });
    }

    unsafe extern "C" fn nothing(_: *mut c_void, _: usize, _: kls_task, _: *mut c_void) {}

    fn counts(pool: &Pool, count: usize) -> Vec<usize> {
        let counts: Vec<AtomicUsize> = (0..count).map(|_| AtomicUsize::new(0)).collect();
        pool.run(&|number| {
            counts[number].fetch_add(1, Ordering::Relaxed);
        });
        counts.into_iter().map(AtomicUsize::into_inner).collect()
    }

    #[test]
    fn every_task_runs_once_and_a_panic_is_reported_but_leaves_the_pool_usable() {
        for parallel_for in [None, Some(backwards as _), Some(at_once as _)] {
            for count in 1..5 {
                let pool = Pool::new(count, parallel_for, null_mut()).unwrap();
                for _ in 0..50 {
                    assert_eq!(counts(&pool, count), vec![1; count]);
                }
                let panicking = catch_unwind(AssertUnwindSafe(|| pool.run(&|number| assert_ne!(number, count - 1))));
                assert!(panicking.is_err());
                assert_eq!(counts(&pool, count), vec![1; count]);
                assert!(!pool.take_misuse());
            }
        }
    }

    #[test]
    fn a_pool_that_breaks_its_word_is_found_out_and_every_task_runs_once_all_the_same() {
        for parallel_for in [badly as _, nothing as _] {
            for count in [2, 64, 65, 1024] {
                let pool = Pool::new(count, Some(parallel_for), null_mut()).unwrap();
                assert_eq!(counts(&pool, count), vec![1; count]);
                assert!(pool.take_misuse() && !pool.take_misuse());
            }
        }
    }

    /// Remembers the task and does nothing; the context is that of the test.
    unsafe extern "C" fn keep(user: *mut c_void, _: usize, task: kls_task, context: *mut c_void) {
        // SAFETY: the test's own.
        unsafe { user.cast::<Option<(kls_task, *mut c_void)>>().write(Some((task, context))) };
    }

    #[test]
    fn a_task_that_comes_too_late_does_nothing() {
        let mut kept: Option<(kls_task, *mut c_void)> = None;
        let pool = Pool::new(2, Some(keep), (&raw mut kept).cast()).unwrap();
        assert_eq!(counts(&pool, 2), [1, 1]);
        assert!(pool.take_misuse());
        let (task, context) = kept.unwrap();
        // SAFETY: the pool is alive; no run is under way.
        unsafe { task(context, 0) };
        assert!(pool.take_misuse());
    }

    static STARTED: AtomicUsize = AtomicUsize::new(0);

    /// Starts each task in a thread of its own and does not wait for their ends.
    unsafe extern "C" fn start(_: *mut c_void, count: usize, task: kls_task, context: *mut c_void) {
        let context = context.expose_provenance();
        for i in 0..count {
            // SAFETY: the task's own context; the pool waits for tasks that have started.
            std::thread::spawn(move || unsafe { task(std::ptr::with_exposed_provenance_mut(context), i) });
        }
        while STARTED.load(Ordering::Acquire) < count {
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_pool_that_returns_early_is_found_out_and_waited_for() {
        let pool = Pool::new(3, Some(start), null_mut()).unwrap();
        let ended = AtomicUsize::new(0);
        pool.run(&|_| {
            STARTED.fetch_add(1, Ordering::Release);
            std::thread::sleep(std::time::Duration::from_millis(50));
            ended.fetch_add(1, Ordering::Release);
        });
        assert_eq!(ended.into_inner(), 3);
        assert!(pool.take_misuse());
        // The last thing that a task's thread does with the pool may still be under way.
        std::mem::forget(pool);
    }
}
