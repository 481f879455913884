/*
 * A program for two builds of the library: one with METHOD alone, and one with everything. Both print the same bits of a training run. With
 * KL-Shampoo alone (KL_SHAMPOO_ALONE is defined) everything else is tried, and answers KLS_ERROR_NOT_BUILT. PORTIONS is for builds that have them and
 * factors in 16 bits.
 */
#include <stdio.h>
#include <string.h>

#include "klshampoo.h"

enum { ROWS = 6, COLUMNS = 10 };

static int failures;

static void expect_at(int line, kls_status found, kls_status wanted) {
    if (found != wanted) {
        fprintf(stderr, "line %d: status %d instead of %d\n", line, (int)found, (int)wanted);
        failures++;
    }
}

#define EXPECT(call, status) expect_at(__LINE__, call, status)

static union {
    max_align_t alignment;
    unsigned char bytes[64 * 1024];
} memory;

static kls_config base(void) {
    kls_config config;
    EXPECT(kls_config_init(&config, sizeof config, METHOD, KLS_CONVENTION_FIGURE13), KLS_OK);
#ifdef PORTIONS
    config.refresh_portion = 400;
    config.factor_format = KLS_FORMAT_BF16;
#endif
    return config;
}

static kls_tensor of(uint32_t order, const uint64_t *dims) {
    kls_tensor tensor;
    EXPECT(kls_tensor_init(&tensor, sizeof tensor, order, dims), KLS_OK);
    return tensor;
}

static const uint64_t shape[2] = {ROWS, COLUMNS};

#ifdef KL_SHAMPOO_ALONE
static kls_status query(const kls_config *config, const kls_tensor *tensor) {
    size_t size, alignment;
    return kls_optimizer_query(config, 1, tensor, 1, &size, &alignment);
}

static void refuse(void) {
    kls_config config;
    for (int method = KLS_METHOD_KL_SHAMPOO + 1; method <= KLS_METHOD_SGD; method++)
        EXPECT(kls_config_init(&config, sizeof config, method, KLS_CONVENTION_FIGURE13), KLS_ERROR_NOT_BUILT);
    for (int convention = KLS_CONVENTION_FIGURE13 + 1; convention <= KLS_CONVENTION_REFERENCE_META; convention++)
        EXPECT(kls_config_init(&config, sizeof config, KLS_METHOD_KL_SHAMPOO, convention), KLS_ERROR_NOT_BUILT);
    EXPECT(kls_config_init(&config, sizeof config, KLS_METHOD_SGD + 1, KLS_CONVENTION_FIGURE13), KLS_ERROR_UNKNOWN_VALUE);
    EXPECT(kls_config_init(&config, sizeof config, KLS_METHOD_KL_SHAMPOO, KLS_CONVENTION_REFERENCE_META + 1), KLS_ERROR_UNKNOWN_VALUE);

    const kls_tensor matrix = of(2, shape);
#define REFUSED(field, value)                            \
    do {                                                 \
        config = base();                                 \
        config.field = value;                            \
        EXPECT(query(&config, &matrix), KLS_ERROR_NOT_BUILT); \
    } while (0)
    REFUSED(estimator, KLS_ESTIMATOR_VON_NEUMANN);
    REFUSED(direction, KLS_DIRECTION_SECOND_MOMENT);
    REFUSED(power, 0.3f);
    REFUSED(refresh, KLS_REFRESH_EIGENDECOMPOSITION);
    REFUSED(eigenvalues, KLS_EIGENVALUES_INSTANTANEOUS);
    REFUSED(sort, 1);
    REFUSED(graft, KLS_GRAFT_ADAM);
    REFUSED(rms_cap, 1.0f);
    REFUSED(bias_correction, KLS_BIAS_CORRECTION_MOMENTS);
    REFUSED(step_order, KLS_ORDER_APPLY_FIRST);
    REFUSED(first_step, KLS_FIRST_STEP_FACTORS_ONLY);
    REFUSED(factor_init, KLS_FACTOR_LAMBDA);
    REFUSED(weight_decay_kind, KLS_WEIGHT_DECAY_L2);
    REFUSED(measure, 1);
    REFUSED(max_dim, COLUMNS - 1);
    REFUSED(block_size, 4);
    REFUSED(first_basis, KLS_FIRST_BASIS_IDENTITY);
    REFUSED(estimate_order, KLS_ESTIMATE_REFERENCE_KL);
    REFUSED(refresh_portion, 1000);
    REFUSED(factor_format, KLS_FORMAT_BF16);
    config = base();
    config.damping = KLS_DAMPING_FACTOR, config.gauge = 0;
    EXPECT(query(&config, &matrix), KLS_ERROR_NOT_BUILT);
    config = base();
    config.clamp_limit = 100, config.gauge = 0;
    EXPECT(query(&config, &matrix), KLS_ERROR_NOT_BUILT);
    /* What no library can do has its own status as ever. */
    config = base();
    config.beta2 = 1;
    EXPECT(query(&config, &matrix), KLS_ERROR_BETA);

    config = base();
    const uint64_t cube[3] = {4, 5, 6}, vector[1] = {7};
    kls_tensor tensor = of(3, cube);
    EXPECT(query(&config, &tensor), KLS_ERROR_NOT_BUILT);
    tensor = of(1, vector);
    EXPECT(query(&config, &tensor), KLS_ERROR_NOT_BUILT);
#define TENSOR_REFUSED(field, value)                     \
    do {                                                 \
        tensor = matrix;                                 \
        tensor.field = value;                            \
        EXPECT(query(&config, &tensor), KLS_ERROR_NOT_BUILT); \
    } while (0)
    TENSOR_REFUSED(grad_format, KLS_FORMAT_BF16);
    TENSOR_REFUSED(param_format, KLS_FORMAT_BF16);
    TENSOR_REFUSED(grad_scaling, 1);
    TENSOR_REFUSED(modes[0], KLS_MODE_DIAGONAL);
    TENSOR_REFUSED(modes[1], KLS_MODE_IDENTITY);
    TENSOR_REFUSED(row_part_count, 1);
    tensor = matrix;
    tensor.strides[0] = 2 * COLUMNS, tensor.strides[1] = 1;
    EXPECT(query(&config, &tensor), KLS_ERROR_NOT_BUILT);
}

static void log_nothing(void *user, int32_t level, const char *message) { (void)user, (void)level, (void)message; }
#endif

static kls_optimizer *train(float *w) {
    float *params[1] = {w}, grad[ROWS * COLUMNS];
    const float *grads[1] = {grad};
    const kls_config config = base();
    const kls_tensor tensor = of(2, shape);
    size_t size = 0, alignment = 64;
    EXPECT(kls_optimizer_query(&config, 1, &tensor, 1, &size, &alignment), KLS_OK);
    kls_optimizer *optimizer = NULL;
    const size_t skip = (alignment - (uintptr_t)memory.bytes % alignment) % alignment;
    EXPECT(kls_optimizer_init(&optimizer, memory.bytes + skip, sizeof memory.bytes - skip, &config, 1, &tensor, 1), KLS_OK);
    uint32_t x = 1;
    for (int step = 0; step < 60; step++) {
        for (int i = 0; i < ROWS * COLUMNS; i++) {
            x ^= x << 13, x ^= x >> 17, x ^= x << 5;
            grad[i] = w[i] + (float)(x >> 8) / 8388608.0f - 1.0f;
        }
        EXPECT(kls_optimizer_step(optimizer, params, grads, 1, 0.02f), KLS_OK);
    }
    return optimizer;
}

int main(void) {
    static float w[ROWS * COLUMNS];
#ifdef KL_SHAMPOO_ALONE
    refuse();
#endif
    kls_optimizer *optimizer = train(w);
#ifdef KL_SHAMPOO_ALONE
    EXPECT(kls_optimizer_set_log(optimizer, log_nothing, NULL), KLS_ERROR_NOT_BUILT);
    EXPECT(kls_optimizer_set_log(optimizer, NULL, NULL), KLS_OK);
    EXPECT(kls_optimizer_set_refresh_budget(optimizer, 1000), KLS_ERROR_NOT_BUILT);
    EXPECT(kls_optimizer_set_refresh_budget(optimizer, 0), KLS_OK);
    EXPECT(kls_optimizer_step(optimizer, NULL, NULL, 2, 0.1f), KLS_ERROR_TENSOR_COUNT);
    if (strcmp(kls_last_error(optimizer), kls_status_string(KLS_ERROR_TENSOR_COUNT)) != 0) failures++;
#else
    (void)optimizer;
#endif
    for (int i = 0; i < ROWS * COLUMNS; i++) {
        uint32_t bits;
        memcpy(&bits, &w[i], sizeof bits);
        printf("%08lx\n", (unsigned long)bits);
    }
    return failures != 0;
}
