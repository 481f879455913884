#include "check.h"
#include "fixture.h"
#include <math.h>
#include <string.h>

/* Whether a group is refused with `status`, and nothing is written. */
static int refused(const kls_config *group, kls_status status) {
    const uint64_t dims[2] = {2, 3};
    kls_tensor tensor;
    size_t size = 77, alignment = 77;
    if (kls_tensor_init(&tensor, sizeof tensor, 2, dims) != KLS_OK) return 0;
    return kls_optimizer_query(group, 1, &tensor, 1, &size, &alignment) == status && size == 77 && alignment == 77;
}

static int accepted(const kls_config *group) {
    const uint64_t dims[2] = {2, 3};
    kls_tensor tensor;
    size_t size = 0, alignment = 0;
    if (kls_tensor_init(&tensor, sizeof tensor, 2, dims) != KLS_OK) return 0;
    return kls_optimizer_query(group, 1, &tensor, 1, &size, &alignment) == KLS_OK && size > 0;
}

/* In every convention. */
static const char *every_method_is_accepted(void) {
    for (int32_t method = KLS_METHOD_KL_SHAMPOO; method <= KLS_METHOD_SGD; method++) {
        for (int32_t convention = KLS_CONVENTION_FIGURE13; convention <= KLS_CONVENTION_REFERENCE_META; convention++) {
            kls_config config;
            EXPECT(KLS_OK, kls_config_init(&config, sizeof config, method, convention));
            CHECK(accepted(&config));
        }
    }
    return NULL;
}

const char *test_config_errors(void) {
    kls_config config, before;
    memset(&config, 0x5a, sizeof config);
    before = config;
    EXPECT(KLS_ERROR_NULL, kls_config_init(NULL, sizeof config, KLS_METHOD_ADAMW, KLS_CONVENTION_FIGURE13));
    EXPECT(KLS_ERROR_STRUCT_SIZE, kls_config_init(&config, sizeof config - 1, KLS_METHOD_ADAMW, KLS_CONVENTION_FIGURE13));
    EXPECT(KLS_ERROR_STRUCT_SIZE, kls_config_init(&config, 0, KLS_METHOD_ADAMW, KLS_CONVENTION_FIGURE13));
    EXPECT(KLS_ERROR_UNKNOWN_VALUE, kls_config_init(&config, sizeof config, 99, KLS_CONVENTION_FIGURE13));
    EXPECT(KLS_ERROR_UNKNOWN_VALUE, kls_config_init(&config, sizeof config, KLS_METHOD_KL_SHAMPOO, -1));
    CHECK(memcmp(&config, &before, sizeof config) == 0);
    {
        union {
            kls_config aligned;
            char bytes[sizeof(kls_config) + 8];
        } memory;
        kls_config *misaligned = (kls_config *)(void *)(memory.bytes + 1);
        EXPECT(KLS_ERROR_MISALIGNED, kls_config_init(misaligned, sizeof config, KLS_METHOD_ADAMW, KLS_CONVENTION_FIGURE13));
    }

    EXPECT(KLS_OK, kls_config_init(&config, sizeof config, KLS_METHOD_KL_SHAMPOO, KLS_CONVENTION_REFERENCE_KL));
    CHECK(config.step_order == KLS_ORDER_APPLY_FIRST && config.clamp_limit > 0);
    EXPECT(KLS_OK, kls_config_init(&config, sizeof config, KLS_METHOD_KL_SHAMPOO, KLS_CONVENTION_FIGURE13));
    CHECK(config.struct_size == sizeof config && config.refresh_period == 10 && config.lambda_init == KLS_LAMBDA_SCALE_FREE);
    before = config;

#define REFUSED(field, value, status)        \
    do {                                     \
        config = before;                     \
        config.field = (value);              \
        CHECK(refused(&config, (status)));   \
    } while (0)
    REFUSED(struct_size, 4, KLS_ERROR_STRUCT_SIZE);
    REFUSED(estimator, 42, KLS_ERROR_UNKNOWN_VALUE);
    REFUSED(direction, 42, KLS_ERROR_UNKNOWN_VALUE);
    REFUSED(step_order, 42, KLS_ERROR_UNKNOWN_VALUE);
    REFUSED(first_step, 42, KLS_ERROR_UNKNOWN_VALUE);
    REFUSED(lambda_init, 42, KLS_ERROR_UNKNOWN_VALUE);
    REFUSED(weight_decay_kind, 42, KLS_ERROR_UNKNOWN_VALUE);
    REFUSED(bad_gradient, 42, KLS_ERROR_UNKNOWN_VALUE);
    REFUSED(beta1, 1.0f, KLS_ERROR_BETA);
    REFUSED(beta1, -0.1f, KLS_ERROR_BETA);
    REFUSED(beta2, NAN, KLS_ERROR_BETA);
    REFUSED(eps, -1e-8f, KLS_ERROR_EPS);
    REFUSED(eps, INFINITY, KLS_ERROR_EPS);
    REFUSED(weight_decay, -0.1f, KLS_ERROR_WEIGHT_DECAY);
    REFUSED(weight_decay, NAN, KLS_ERROR_WEIGHT_DECAY);
    REFUSED(refresh_period, 0, KLS_ERROR_REFRESH_PERIOD);
    REFUSED(refresh_offset, 2, KLS_ERROR_REFRESH_PERIOD);
    REFUSED(lr_scale, -1.0f, KLS_ERROR_LR_SCALE);
    REFUSED(lr_scale, NAN, KLS_ERROR_LR_SCALE);
    REFUSED(estimate_order, 42, KLS_ERROR_UNKNOWN_VALUE);
    REFUSED(eigenvalues, 42, KLS_ERROR_UNKNOWN_VALUE);
    REFUSED(refresh, -1, KLS_ERROR_UNKNOWN_VALUE);
    REFUSED(graft, 42, KLS_ERROR_UNKNOWN_VALUE);
    REFUSED(first_basis, 42, KLS_ERROR_UNKNOWN_VALUE);
    REFUSED(factor_init, 42, KLS_ERROR_UNKNOWN_VALUE);
    REFUSED(momentum, 42, KLS_ERROR_UNKNOWN_VALUE);
    REFUSED(bias_correction, 42, KLS_ERROR_UNKNOWN_VALUE);
    REFUSED(damping, 42, KLS_ERROR_UNKNOWN_VALUE);
    REFUSED(factor_format, 3, KLS_ERROR_UNKNOWN_VALUE);
    REFUSED(factor_format, -1, KLS_ERROR_UNKNOWN_VALUE);
    REFUSED(staleness, -1.0f, KLS_ERROR_STALENESS);
    REFUSED(staleness, NAN, KLS_ERROR_STALENESS);
    before.refresh_portion = 1;
    REFUSED(refresh, KLS_REFRESH_EIGENDECOMPOSITION, KLS_ERROR_REFRESH_PORTION);
    REFUSED(eigenvalues, KLS_EIGENVALUES_AT_REFRESH, KLS_ERROR_REFRESH_PORTION);
    before.refresh_portion = 0;
    REFUSED(power, 0.0f, KLS_ERROR_POWER);
    REFUSED(power, 1.5f, KLS_ERROR_POWER);
    REFUSED(power, NAN, KLS_ERROR_POWER);
    REFUSED(rms_cap, -1.0f, KLS_ERROR_RMS_CAP);
    REFUSED(rms_cap, INFINITY, KLS_ERROR_RMS_CAP);
    REFUSED(direction, KLS_DIRECTION_MOMENTUM, KLS_ERROR_COMBINATION);
    REFUSED(direction, KLS_DIRECTION_TRACE_SCALED, KLS_ERROR_TRACE_SCALED);
    REFUSED(bias_correction, KLS_BIAS_CORRECTION_STEP_SIZE, KLS_ERROR_BIAS_CORRECTION);
    REFUSED(estimator, KLS_ESTIMATOR_FROBENIUS_FACTOR, KLS_ERROR_ZERO_FACTORS);
    REFUSED(estimator, KLS_ESTIMATOR_SHAMPOO, KLS_ERROR_GAUGE);
    REFUSED(damping, KLS_DAMPING_FACTOR, KLS_ERROR_GAUGE);
    REFUSED(estimator, KLS_ESTIMATOR_NONE, KLS_ERROR_COMBINATION);
    REFUSED(clamp_limit, 100.0f, KLS_ERROR_CLAMP_WITH_GAUGE);
    before.gauge = 0;
    REFUSED(clamp_limit, 0.5f, KLS_ERROR_CLAMP_LIMIT);
    REFUSED(clamp_limit, NAN, KLS_ERROR_CLAMP_LIMIT);
    before.lambda_init = KLS_LAMBDA_CONSTANT;
    REFUSED(lambda_0, 0.0f, KLS_ERROR_LAMBDA_INIT);
    REFUSED(lambda_0, -1.0f, KLS_ERROR_LAMBDA_INIT);
    REFUSED(lambda_0, NAN, KLS_ERROR_LAMBDA_INIT);
    EXPECT(KLS_OK, kls_config_init(&before, sizeof before, KLS_METHOD_KL_SOAP, KLS_CONVENTION_FIGURE13));
    REFUSED(first_basis, KLS_FIRST_BASIS_IDENTITY, KLS_ERROR_FIRST_BASIS);
    REFUSED(damping, KLS_DAMPING_FACTOR, KLS_ERROR_DAMPING);
    EXPECT(KLS_OK, kls_config_init(&before, sizeof before, KLS_METHOD_F_SHAMPOO_2, KLS_CONVENTION_FIGURE13));
    REFUSED(estimate_order, KLS_ESTIMATE_REFERENCE_KL, KLS_ERROR_ESTIMATE_ORDER);
    EXPECT(KLS_OK, kls_config_init(&before, sizeof before, KLS_METHOD_ADAMW, KLS_CONVENTION_REFERENCE_META));
    REFUSED(graft, KLS_GRAFT_ADAM, KLS_ERROR_GRAFT);
#undef REFUSED
    return every_method_is_accepted();
}
