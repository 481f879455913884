//! How many executions got as far as a step.

use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::Target;

static EXECUTIONS: AtomicU64 = AtomicU64::new(0);
static STEPPED: AtomicU64 = AtomicU64::new(0);

unsafe extern "C" {
    fn atexit(function: extern "C" fn()) -> i32;
}

extern "C" fn report() {
    let (executions, stepped) = tally();
    eprintln!("executions {executions}, with a successful step {stepped}");
}

/// Executions so far, and those of them with a successful step.
pub fn tally() -> (u64, u64) {
    (EXECUTIONS.load(Ordering::Relaxed), STEPPED.load(Ordering::Relaxed))
}

/// Runs a target and counts it. When the process ends, both numbers are written to its standard error.
pub fn execute(target: Target, input: &[u8]) {
    static REGISTERED: Once = Once::new();
    REGISTERED.call_once(|| {
        // SAFETY: a function that may be called at any time.
        assert_eq!(unsafe { atexit(report) }, 0);
    });
    let steps = target(input);
    EXECUTIONS.fetch_add(1, Ordering::Relaxed);
    STEPPED.fetch_add(u64::from(steps > 0), Ordering::Relaxed);
}
