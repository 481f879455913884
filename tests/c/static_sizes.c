/* The sizes that the macros of klshampoo_static.h give are those that the library asks for. */
#include "check.h"
#include "klshampoo_static.h"

/* As constants. */
KLS_STATIC_MEMORY(fixed, KLS_MEMORY_BYTES(1, 1, 1, KLS_KL_SHAMPOO_STATE(3, 5), KLS_KL_SHAMPOO_SCRATCH(3, 5)));

typedef struct {
    int method;
    size_t state, scratch;
} sizes;

/* What the library asks for; 0 if anything fails. */
static size_t query(int method, size_t m, size_t n, uint64_t slices, uint32_t portion, int32_t format) {
    const uint64_t dims[2] = {m, n};
    size_t size = 0, alignment = 0;
    kls_config config;
    kls_tensor tensor;
    if (kls_config_init(&config, sizeof config, method, KLS_CONVENTION_FIGURE13) != KLS_OK) return 0;
    if (kls_tensor_init(&tensor, sizeof tensor, 2, dims) != KLS_OK) return 0;
    tensor.slices = slices;
    config.refresh_portion = portion;
    config.factor_format = format;
    if (kls_optimizer_query(&config, 1, &tensor, 1, &size, &alignment) != KLS_OK) return 0;
    return alignment == KLS_MEMORY_ALIGNMENT ? size : 0;
}

const char *test_static_sizes(void) {
    static const size_t lengths[] = {1, 2, 3, 8, 16, 31, 32, 64, 100};
    const size_t count = sizeof lengths / sizeof *lengths;
    for (size_t i = 0; i < count; i++)
        for (size_t j = 0; j < count; j++) {
            const size_t m = lengths[i], n = lengths[j];
            const sizes all[] = {
                {KLS_METHOD_KL_SHAMPOO, KLS_KL_SHAMPOO_STATE(m, n), KLS_KL_SHAMPOO_SCRATCH(m, n)},
                {KLS_METHOD_KL_SOAP, KLS_KL_SOAP_STATE(m, n), KLS_KL_SOAP_SCRATCH(m, n)},
                {KLS_METHOD_SOAP, KLS_SOAP_STATE(m, n), KLS_SOAP_SCRATCH(m, n)},
                {KLS_METHOD_SHAMPOO, KLS_SHAMPOO_STATE(m, n), KLS_SHAMPOO_SCRATCH(m, n)},
                {KLS_METHOD_VN_SHAMPOO_2, KLS_SHAMPOO_STATE(m, n), KLS_SHAMPOO_SCRATCH(m, n)},
                {KLS_METHOD_F_SHAMPOO_2, KLS_SHAMPOO_STATE(m, n), KLS_SHAMPOO_SCRATCH(m, n)},
                {KLS_METHOD_ADAMW, KLS_ADAMW_STATE(m * n), 0},
                {KLS_METHOD_RMSPROP, KLS_RMSPROP_STATE(m * n), 0},
                {KLS_METHOD_SGD, KLS_SGD_STATE(m * n), 0},
            };
            for (size_t k = 0; k < sizeof all / sizeof *all; k++)
                for (uint64_t slices = 1; slices <= 3; slices += 2)
                    CHECK(query(all[k].method, m, n, slices, 0, KLS_FORMAT_F32) == KLS_MEMORY_BYTES(1, 1, slices, slices * all[k].state, all[k].scratch));
            const size_t in_portions = KLS_KL_SHAMPOO_STATE(m, n) + KLS_PORTIONS_STATE(m, n);
            CHECK(query(KLS_METHOD_KL_SHAMPOO, m, n, 1, 1, KLS_FORMAT_F32) == KLS_MEMORY_BYTES(1, 1, 1, in_portions, KLS_KL_SHAMPOO_SCRATCH(m, n)));
            const size_t in_portions_16 = KLS_KL_SHAMPOO_STATE_16(m, n) + KLS_PORTIONS_STATE_16(m, n);
            CHECK(query(KLS_METHOD_KL_SHAMPOO, m, n, 1, 1, KLS_FORMAT_BF16) ==
                  KLS_MEMORY_BYTES(1, 1, 1, in_portions_16, KLS_KL_SHAMPOO_SCRATCH(m, n)));
            CHECK(query(KLS_METHOD_SOAP, m, n, 1, 0, KLS_FORMAT_F16) ==
                  KLS_MEMORY_BYTES(1, 1, 1, KLS_SOAP_STATE_16(m, n), KLS_SOAP_SCRATCH(m, n)));
            CHECK(query(KLS_METHOD_KL_SOAP, m, n, 1, 0, KLS_FORMAT_F16) ==
                  KLS_MEMORY_BYTES(1, 1, 1, KLS_KL_SOAP_STATE_16(m, n), KLS_KL_SOAP_SCRATCH(m, n)));
            CHECK(query(KLS_METHOD_KL_SHAMPOO, m, n, 1, 0, KLS_FORMAT_BF16) ==
                  KLS_MEMORY_BYTES(1, 1, 1, KLS_KL_SHAMPOO_STATE_16(m, n), KLS_KL_SHAMPOO_SCRATCH(m, n)));
        }

    /* It is enough, and a byte less is not. */
    const uint64_t dims[2] = {3, 5};
    kls_config config;
    kls_tensor tensor;
    kls_optimizer *optimizer = NULL;
    CHECK(kls_config_init(&config, sizeof config, KLS_METHOD_KL_SHAMPOO, KLS_CONVENTION_FIGURE13) == KLS_OK);
    CHECK(kls_tensor_init(&tensor, sizeof tensor, 2, dims) == KLS_OK);
    CHECK(kls_optimizer_init(&optimizer, fixed, sizeof fixed - 1, &config, 1, &tensor, 1) == KLS_ERROR_MEMORY_TOO_SHORT);
    CHECK(kls_optimizer_init(&optimizer, fixed, sizeof fixed, &config, 1, &tensor, 1) == KLS_OK);
    float w[15] = {1}, g[15] = {1, 2, 3};
    float *params[1] = {w};
    const float *grads[1] = {g};
    CHECK(kls_optimizer_step(optimizer, params, grads, 1, 0.1f) == KLS_OK);
    CHECK(w[0] != 1);
    return NULL;
}
