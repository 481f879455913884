// All tests as one program; its argument is the name of one.
#define KLS_NO_EXCEPTIONS
#include "gpu.hpp"

#include <cstdio>
#include <cstring>

int main(int argc, char **argv) {
    static const struct {
        const char *name, *(*run)();
    } tests[] = {
        {"training", test_training},         {"moves", test_moves},   {"places", test_places},     {"requests", test_requests},
        {"formats", test_formats},           {"counters", test_counters}, {"state", test_state},   {"checkpoints", test_checkpoints},
        {"graphs", test_graphs},             {"refreshes", test_refreshes}, {"wrong_steps", test_wrong_steps}, {"failures", test_failures}, {"no_driver", test_no_driver},
        {"returning", test_returning},       {"returning_wrong", test_returning_wrong},
    };
    for (const auto &test : tests) {
        if (argc != 2 || std::strcmp(argv[1], test.name) != 0) continue;
        const char *const failure = test.run();
        std::printf("%s: %s\n", test.name, failure != nullptr ? failure : "ok");
        return failure != nullptr;
    }
    std::fprintf(stderr, "there is no such test\n");
    return 3;
}
