//! On what the tests run: on a device if `KLS_TEST_DEVICE=1`, else in the emulator or on what stands in for a driver.
#![allow(dead_code)]

use std::io::Write;

/// Whether an environment variable is set, and not to 0.
fn is_set(name: &str) -> bool {
    std::env::var(name).is_ok_and(|value| !value.is_empty() && value != "0")
}

/// Whether the tests are to run on a device.
pub fn wants_device() -> bool {
    is_set("KLS_TEST_DEVICE")
}

/// A line that is seen whatever becomes of what the tests print.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Ends the program, for want of a device: nothing was tested.
pub fn end(why: &str) -> ! {
    let required = is_set("REQUIRE_GPU");
    say(&format!("{}: {why}", if required { "FAILED" } else { "SKIPPED" }));
    std::process::exit(i32::from(required))
}

/// Ends the program: there is a device, but not of a kind that these tests can run on. The exit status is neither success nor failure.
pub fn end_not_run(why: &str) -> ! {
    say(&format!("NOT RUN: {why}"));
    std::process::exit(77)
}
