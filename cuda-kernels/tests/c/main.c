/* All tests as one program; its argument is the name of one. */
#include "check.h"

int main(int argc, char **argv) {
    static const struct {
        const char *name, *(*run)(void);
    } tests[] = {
        {"create", test_create},         {"step", test_step},
        {"groups", test_groups},         {"forged_counters", test_forged_counters},
        {"step_errors", test_step_errors}, {"formats", test_formats},
        {"skipping", test_skipping},     {"checkpoints", test_checkpoints},
        {"checkpoint_files", test_checkpoint_files}, {"state", test_state},
        {"checkpoints_after_skips", test_checkpoints_after_skips},
        {"graphs", test_graphs},         {"failures", test_failures},
        {"old_driver", test_old_driver}, {"nothing_hidden", test_nothing_hidden},
        {"refreshes", test_refreshes},   {"late_refreshes", test_late_refreshes},
        {"llmc", test_llmc},             {"llmc_bf16", test_llmc_bf16},
        {"precisions", test_precisions}, {"blas", test_blas},
        {"blas_failures", test_blas_failures},
        {"llmc_ranks", test_llmc_ranks}, {"llmc_shares", test_llmc_shares},
        {"query", test_query},           {"options", test_options},
        {"no_driver", test_no_driver},   {"no_device", test_no_device},
    };
    for (size_t i = 0; argc == 2 && i < sizeof tests / sizeof tests[0]; i++) {
        const char *failure;
        if (strcmp(argv[1], tests[i].name) != 0) continue;
        failure = tests[i].run();
        printf("%s: %s\n", tests[i].name, failure ? failure : "ok");
        return failure != NULL;
    }
    fprintf(stderr, "there is no such test\n");
    return 3;
}
