// The header as C++17 sees it.
#include "check.h"

const char *test_cpp_reads_the_header(void) {
    kls_config config{};
    EXPECT(KLS_OK, kls_config_init(&config, sizeof config, KLS_METHOD_ADAMW, KLS_CONVENTION_FIGURE13));
    CHECK(config.bias_correction != 0 && config.estimator == KLS_ESTIMATOR_NONE);
    return nullptr;
}
