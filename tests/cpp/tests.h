// The C++ tests, for every program that runs them.
#ifndef KLS_TESTS_TESTS_H
#define KLS_TESTS_TESTS_H

extern "C" {
const char *test_cpp_training();
const char *test_cpp_tables();
const char *test_cpp_moves();
const char *test_cpp_two_optimizers();
const char *test_cpp_lent_memory();
const char *test_cpp_errors();
const char *test_cpp_wrong_sizes();
const char *test_cpp_wrong_tensors();
const char *test_cpp_formats();
const char *test_cpp_updates();
const char *test_cpp_requests();
const char *test_cpp_state();
const char *test_cpp_plans();
const char *test_cpp_partition();
const char *test_cpp_diagnostics();
const char *test_cpp_values();
const char *test_cpp_checkpoints();
const char *test_cpp_checkpoint_errors();
const char *test_cpp_texts_and_log();
const char *test_cpp_pool_and_product();
const char *test_cpp_tables_that_grow();
const char *test_cpp_without_exceptions();
const char *test_cpp_without_exceptions_wrong();
}

#endif
