/* What the C tests share: a check that names its line, and the list of tests. Every test returns NULL or what failed. */
#ifndef KLS_TESTS_CHECK_H
#define KLS_TESTS_CHECK_H

#include "condition.h"
#include "klshampoo.h"

#define EXPECT(status, call) CHECK((call) == (status))

#ifdef __cplusplus
extern "C" {
#endif

const char *test_config_errors(void);
const char *test_table_errors(void);
const char *test_tensors_of_the_second_header(void);
const char *test_memory_errors(void);
const char *test_memory_report(void);
const char *test_step_errors(void);
const char *test_inspection_errors(void);
const char *test_host_errors(void);
const char *test_partition(void);
const char *test_freezing_and_groups(void);
const char *test_refresh_budget(void);
const char *test_refresh_portions(void);
const char *test_static_sizes(void);
const char *test_diagnostics(void);
const char *test_window_similarity(void);
const char *test_methods(void);
const char *test_pieces(void);
const char *test_formats(void);
const char *test_formats_resume(void);
const char *test_factor_formats(void);
const char *test_config_of_the_second_header(void);
const char *test_step_with(void);
const char *test_step_with_errors(void);
const char *test_error_texts(void);
const char *test_log(void);
const char *test_parallel_for(void);
const char *test_sgemm(void);
const char *test_add_tensors(void);
const char *test_checkpoint(void);
const char *test_checkpoint_files(void);
const char *test_malformed_checkpoint(void);
const char *test_abi_v0_1(void);
const char *test_c11_reads_the_header(void);
const char *test_cpp_reads_the_header(void);

/* Halves of a run, for two processes. */
const char *resume_first(int32_t method, const char *path);
const char *resume_second(int32_t method, const char *path, int32_t safetensors);

#ifdef __cplusplus
}
#endif
#endif
