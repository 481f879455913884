// All C++ tests as one program, for valgrind and the sanitizers.
#include "tests.h"

#include <cstdio>

int main() {
    static const struct {
        const char *name, *(*run)();
    } tests[] = {
        {"training", test_cpp_training},
        {"tables", test_cpp_tables},
        {"moves", test_cpp_moves},
        {"two optimizers", test_cpp_two_optimizers},
        {"lent memory", test_cpp_lent_memory},
        {"errors", test_cpp_errors},
        {"wrong sizes", test_cpp_wrong_sizes},
        {"wrong tensors", test_cpp_wrong_tensors},
        {"formats", test_cpp_formats},
        {"updates", test_cpp_updates},
        {"requests", test_cpp_requests},
        {"state", test_cpp_state},
        {"plans", test_cpp_plans},
        {"partition", test_cpp_partition},
        {"diagnostics", test_cpp_diagnostics},
        {"values", test_cpp_values},
        {"checkpoints", test_cpp_checkpoints},
        {"wrong checkpoints", test_cpp_checkpoint_errors},
        {"texts and log", test_cpp_texts_and_log},
        {"pool and product", test_cpp_pool_and_product},
        {"tables that grow", test_cpp_tables_that_grow},
        {"without exceptions", test_cpp_without_exceptions},
        {"wrong use without exceptions", test_cpp_without_exceptions_wrong},
    };
    int failed = 0;
    for (const auto &test : tests) {
        const char *failure = test.run();
        std::printf("%s: %s\n", test.name, failure != nullptr ? failure : "ok");
        failed += failure != nullptr;
    }
    std::printf("%d failed\n", failed);
    return failed != 0;
}
