//! The C and C++ tests of `tests/c` and `tests/cpp`: each a function that returns NULL, or what failed.

use std::ffi::{CStr, c_char};

// The C tests call the library that this links.
use klshampoo_ffi as _;

macro_rules! c_tests {
    ($library:literal: $($name:ident),*) => {
        $(#[test]
        fn $name() {
            #[link(name = $library, kind = "static")]
            unsafe extern "C" {
                fn $name() -> *const c_char;
            }
            // SAFETY: a C function without arguments that returns NULL or a static text.
            let failure = unsafe {
                let failure = $name();
                (!failure.is_null()).then(|| CStr::from_ptr(failure))
            };
            assert_eq!(failure, None);
        })*
    };
}

c_tests!("kls_c99_tests": test_config_errors, test_table_errors, test_tensors_of_the_second_header, test_memory_errors, test_memory_report, test_step_errors, test_inspection_errors,
    test_host_errors, test_partition, test_freezing_and_groups, test_refresh_budget, test_refresh_portions, test_static_sizes, test_factor_formats, test_config_of_the_second_header, test_methods, test_pieces, test_diagnostics, test_window_similarity,
    test_error_texts, test_log, test_parallel_for, test_sgemm, test_add_tensors, test_formats, test_formats_resume, test_step_with,
    test_step_with_errors, test_checkpoint, test_checkpoint_files, test_malformed_checkpoint);
c_tests!("kls_abi_tests": test_abi_v0_1);
c_tests!("kls_c11_tests": test_c11_reads_the_header);
c_tests!("kls_cpp_tests": test_cpp_reads_the_header);
c_tests!("kls_hpp_tests": test_cpp_training, test_cpp_tables, test_cpp_moves, test_cpp_two_optimizers, test_cpp_lent_memory,
    test_cpp_errors, test_cpp_wrong_sizes, test_cpp_wrong_tensors, test_cpp_formats, test_cpp_updates, test_cpp_requests, test_cpp_state,
    test_cpp_plans, test_cpp_partition, test_cpp_diagnostics, test_cpp_values, test_cpp_checkpoints, test_cpp_checkpoint_errors, test_cpp_texts_and_log,
    test_cpp_pool_and_product, test_cpp_tables_that_grow);
c_tests!("kls_hpp_returning_tests": test_cpp_without_exceptions, test_cpp_without_exceptions_wrong);

// What C++ needs of its own library, after what needs it.
#[cfg_attr(target_vendor = "apple", link(name = "c++"))]
#[cfg_attr(all(unix, not(target_vendor = "apple")), link(name = "stdc++"))]
unsafe extern "C" {}
