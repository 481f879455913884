/* All C tests as one program, for valgrind and the sanitizers: cc -Iinclude tests/c/x.c ... libklshampoo_ffi.a. */
#include "check.h"
#include <stdio.h>

int main(void) {
    static const struct {
        const char *name, *(*run)(void);
    } tests[] = {
        {"config errors", test_config_errors},
        {"table errors", test_table_errors},
        {"tensors of the second header", test_tensors_of_the_second_header},
        {"memory errors", test_memory_errors},
        {"memory report", test_memory_report},
        {"step errors", test_step_errors},
        {"inspection errors", test_inspection_errors},
        {"host errors", test_host_errors},
        {"partition", test_partition},
        {"freezing and groups", test_freezing_and_groups},
        {"refresh budget", test_refresh_budget},
        {"refreshes in portions", test_refresh_portions},
        {"static sizes", test_static_sizes},
        {"diagnostics", test_diagnostics},
        {"window similarity", test_window_similarity},
        {"methods", test_methods},
        {"pieces", test_pieces},
        {"formats", test_formats},
        {"formats, resumed", test_formats_resume},
        {"formats of factors", test_factor_formats},
        {"configurations of the second header", test_config_of_the_second_header},
        {"steps with everything", test_step_with},
        {"errors of steps with everything", test_step_with_errors},
        {"texts of errors", test_error_texts},
        {"log", test_log},
        {"the caller's pool", test_parallel_for},
        {"the caller's sgemm", test_sgemm},
        {"added tensors", test_add_tensors},
        {"checkpoint", test_checkpoint},
        {"checkpoint files", test_checkpoint_files},
        {"malformed checkpoint", test_malformed_checkpoint},
        {"a program of the first header", test_abi_v0_1},
        {"the header in C11", test_c11_reads_the_header},
    };
    int failed = 0;
    for (size_t i = 0; i < sizeof tests / sizeof tests[0]; i++) {
        const char *failure = tests[i].run();
        printf("%s: %s\n", tests[i].name, failure ? failure : "ok");
        failed += failure != NULL;
    }
    printf("%d passed, %d failed\n", (int)(sizeof tests / sizeof tests[0]) - failed, failed);
    return failed != 0;
}
