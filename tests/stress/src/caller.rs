//! A caller in C that was compiled with `-ffast-math`, and denormal numbers that are flushed to zero.

use klshampoo_ffi::*;

use crate::Plan;
use crate::report::Row;

/// What a run in C came to; see `c/caller.h`.
#[derive(Default)]
#[repr(C)]
struct CallerResult {
    steps: u64,
    refused: u64,
    wrongly: u64,
    largest_parameter: f32,
    largest_update: f32,
    recovery: u64,
}

unsafe extern "C" {
    fn kls_stress_caller(method: i32, rounds: u64, result: *mut CallerResult) -> i32;
    fn kls_stress_flush(flush: i32) -> i32;
}

/// While it lives, this thread flushes denormal numbers to zero, as a program that was linked with `-Ofast` does.
#[derive(Debug)]
pub struct Flushed(());

impl Flushed {
    /// Flushes from now on, or not; nothing if that cannot be had.
    #[must_use]
    pub fn set(flush: bool) -> Option<Self> {
        // SAFETY: two bits of this thread's control register, which decide what becomes of denormal numbers and nothing else.
        let known = unsafe { kls_stress_flush(i32::from(flush)) } != 0;
        (known || !flush).then_some(Self(()))
    }

    /// Whether a denormal number times one is zero here.
    #[must_use]
    pub fn is_so() -> bool {
        std::hint::black_box(1e-40f32) * std::hint::black_box(1.0f32) == 0.0
    }
}

impl Drop for Flushed {
    fn drop(&mut self) {
        // SAFETY: as above.
        unsafe { kls_stress_flush(0) };
    }
}

pub(crate) fn run(plan: &Plan, add: &mut impl FnMut(Row)) {
    let methods = [
        ("kl shampoo", KLS_METHOD_KL_SHAMPOO),
        ("kl soap", KLS_METHOD_KL_SOAP),
        ("soap", KLS_METHOD_SOAP),
        ("shampoo", KLS_METHOD_SHAMPOO),
        ("vn shampoo 1", KLS_METHOD_VN_SHAMPOO_1),
        ("f shampoo 1", KLS_METHOD_F_SHAMPOO_1),
        ("adamw", KLS_METHOD_ADAMW),
    ];
    for flush in [false, true] {
        let Some(_flushed) = Flushed::set(flush) else {
            println!("NOT RUN: a caller with flushed denormals, which this processor is not known to have");
            continue;
        };
        for (name, method) in methods {
            let mut result = CallerResult::default();
            // SAFETY: a live result.
            let finite = unsafe { kls_stress_caller(method, plan.rounds, &mut result) };
            let what = format!("caller in C with -ffast-math{}: {name}", if flush { ", denormals flushed" } else { "" });
            add(Row::new(what, result.steps)
                .at_most("runs with a number not finite", f64::from(u8::from(finite == 0)), 0.0)
                .at_most("calls with a wrong status", result.wrongly as f64, 0.0)
                .at_most("bad gradients let through", (plan.rounds * 12 - result.refused) as f64, 0.0)
                .told("longest update", f64::from(result.largest_update))
                .told("largest parameter", f64::from(result.largest_parameter))
                .told("steps to recover", result.recovery as f64));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn denormals_are_flushed_while_it_lives() {
        assert!(!Flushed::is_so());
        {
            let flushed = Flushed::set(true);
            assert_eq!(Flushed::is_so(), flushed.is_some());
        }
        assert!(!Flushed::is_so());
    }
}
