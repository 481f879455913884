//! The C tests of `tests/llmc`, of bindings-c/flat and bindings-c/llmc: each a function that returns NULL, or what failed.

use std::ffi::{CStr, c_char};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

// The C tests call the library that this links.
use klshampoo_ffi as _;

/// The model's matrix product packs into static buffers: one training at a time.
static MODEL: Mutex<()> = Mutex::new(());

macro_rules! c_tests {
    ($library:literal: $($name:ident),*) => {
        $(#[test]
        fn $name() {
            #[link(name = $library, kind = "static")]
            unsafe extern "C" {
                fn $name() -> *const c_char;
            }
            let _alone = MODEL.lock().unwrap_or_else(PoisonError::into_inner);
            // SAFETY: a C function without arguments that returns NULL or a static text.
            let failure = unsafe {
                let failure = $name();
                (!failure.is_null()).then(|| CStr::from_ptr(failure))
            };
            assert_eq!(failure, None);
        })*
    };
}

c_tests!("kls_llmc_tests": test_flat_rules, test_flat_places, test_flat_steps, test_gpt2_table, test_llmc_errors, test_llmc_choices,
    test_llmc_adamw, test_llmc_training, test_llmc_tiny_gradients, test_llmc_resume);
c_tests!("kls_llmc_cpp_tests": test_llmc_in_cpp);

#[test]
fn an_error_in_the_two_lines_ends_the_program_with_a_message() {
    const CHILD: &str = "KLS_TEST_LLMC_EXIT";
    if std::env::var_os(CHILD).is_some() {
        #[link(name = "kls_llmc_tests", kind = "static")]
        unsafe extern "C" {
            fn llmc_exit();
        }
        // SAFETY: a C function without arguments.
        unsafe { llmc_exit() };
        unreachable!("the C function ends the program");
    }
    let name = "an_error_in_the_two_lines_ends_the_program_with_a_message";
    let child = Command::new(std::env::current_exe().expect("this test"))
        .args([name, "--exact", "--nocapture"])
        .env(CHILD, "1")
        .output()
        .expect("this test again");
    assert_eq!(child.status.code(), Some(1));
    let message = String::from_utf8_lossy(&child.stderr).into_owned();
    let expected = "klshampoo: the optimizer's step failed for tensor fcw: A gradient has a NaN or an infinity.";
    assert!(message.lines().any(|line| line == expected), "{message}");
}
