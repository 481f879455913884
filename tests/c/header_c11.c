/* The header as C11 sees it, and its sizes: a field that moves breaks programs that were compiled before. */
#include "check.h"

_Static_assert(sizeof(kls_config) == 168, "kls_config");
_Static_assert(offsetof(kls_config, max_dim) == 8 && offsetof(kls_config, lr_scale) == 156, "kls_config");
_Static_assert(offsetof(kls_config, refresh_portion) == 160 && offsetof(kls_config, factor_format) == 164, "kls_config");
_Static_assert(sizeof(kls_tensor) == 256 && offsetof(kls_tensor, name) == 168, "kls_tensor");
_Static_assert(sizeof(kls_step) == 16 + 5 * sizeof(size_t), "kls_step");
_Static_assert(sizeof(kls_plan) == 216 && offsetof(kls_plan, refresh_step_flops) == 200, "kls_plan");
_Static_assert(sizeof(kls_options) == 48 && offsetof(kls_options, products) == 12, "kls_options");
_Static_assert(offsetof(kls_options, parallel_for) == 16 && offsetof(kls_options, sgemm_user) == 40, "kls_options");
_Static_assert(sizeof(kls_counters) == 48, "kls_counters");
_Static_assert(sizeof(kls_mode_report) == 28, "kls_mode_report");
_Static_assert(sizeof(kls_similarity) == 36, "kls_similarity");
_Static_assert(KLS_OK == 0 && KLS_ERROR_NULL == 1 && KLS_ERROR_OVERLAP == 71 && KLS_ERROR_ZERO_WINDOW == 73, "status values are pinned");
_Static_assert(KLS_ERROR_UNSUPPORTED == 13 && KLS_ERROR_PARALLEL_FOR == 14 && KLS_LOG_ERROR == 0 && KLS_LOG_WARNING == 1, "so are these");
_Static_assert( KLS_PRODUCTS_F32 == 0 && KLS_PRODUCTS_BF16 == 1, "so are these");

const char *test_c11_reads_the_header(void) {
    const char *version = kls_version();
    CHECK(version[0] == '0' + KLS_VERSION_MAJOR && version[1] == '.' && version[2] == '0' + KLS_VERSION_MINOR);
    return NULL;
}
