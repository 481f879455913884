/* Every method in every convention steps, and the options that only the report shows. */
#include "check.h"
#include <math.h>
#include <string.h>

enum { ROWS_ = 4, COLUMNS_ = 3, SIZE = ROWS_ * COLUMNS_ };

static void fill(float *gradient, int step) {
    for (int i = 0; i < SIZE; i++) gradient[i] = sinf((float)(1 + i * i + 3 * step)) + 0.5f;
}

/* Twelve steps of a matrix; the parameter moves and stays finite. */
static const char *steps(const kls_config *config, float *param, kls_counters *counters) {
    const uint64_t dims[2] = {ROWS_, COLUMNS_};
    kls_tensor tensor;
    kls_optimizer *optimizer = NULL;
    float gradient[SIZE], *params[1] = {param};
    const float *grads[1] = {gradient};
    memset(param, 0, SIZE * sizeof *param);
    EXPECT(KLS_OK, kls_tensor_init(&tensor, sizeof tensor, 2, dims));
    EXPECT(KLS_OK, kls_optimizer_create(&optimizer, config, 1, &tensor, 1, NULL));
    for (int step = 0; step < 12; step++) {
        fill(gradient, step);
        EXPECT(KLS_OK, kls_optimizer_step(optimizer, params, grads, 1, 0.01f));
    }
    for (int i = 0; i < SIZE; i++) CHECK(param[i] != 0 && param[i] - param[i] == 0);
    EXPECT(KLS_OK, kls_optimizer_counters(optimizer, 0, 0, counters, sizeof *counters));
    CHECK(counters->steps == 12 && counters->refresh_failures == 0);
    EXPECT(KLS_OK, kls_optimizer_destroy(&optimizer));
    return NULL;
}

static const char *every_method_is_another(void) {
    static float params[KLS_METHOD_SGD + 1][SIZE];
    for (int32_t convention = KLS_CONVENTION_FIGURE13; convention <= KLS_CONVENTION_REFERENCE_META; convention++) {
        for (int32_t method = KLS_METHOD_KL_SHAMPOO; method <= KLS_METHOD_SGD; method++) {
            kls_config config;
            kls_counters counters;
            EXPECT(KLS_OK, kls_config_init(&config, sizeof config, method, convention));
            config.refresh_period = 4;
            const char *failure = steps(&config, params[method], &counters);
            if (failure) return failure;
            /* Of a matrix, Shampoo's default power is 1/4. */
            if (method == KLS_METHOD_SHAMPOO_QUARTER) CHECK(memcmp(params[method], params[KLS_METHOD_SHAMPOO], sizeof params[0]) == 0);
            for (int32_t other = 0; other < method; other++) {
                if (method == KLS_METHOD_SHAMPOO_QUARTER && other == KLS_METHOD_SHAMPOO) continue;
                CHECK(memcmp(params[method], params[other], sizeof params[0]) != 0);
            }
        }
    }
    return NULL;
}

static const char *grafts_caps_and_measures(void) {
    float plain[SIZE], changed[SIZE];
    kls_config config;
    kls_counters counters;
    EXPECT(KLS_OK, kls_config_init(&config, sizeof config, KLS_METHOD_SHAMPOO, KLS_CONVENTION_FIGURE13));
    const char *failure = steps(&config, plain, &counters);
    if (failure) return failure;
    CHECK(counters.update_rms == 0 && counters.update_cosine == 0 && counters.capped == 0 && counters.refreshes == 2);
    for (int32_t graft = KLS_GRAFT_ADAM; graft <= KLS_GRAFT_ADAGRAD; graft++) {
        config.graft = graft;
        failure = steps(&config, changed, &counters);
        if (failure) return failure;
        CHECK(memcmp(plain, changed, sizeof plain) != 0);
    }
    config.graft = KLS_GRAFT_NONE;
    config.measure = 1;
    failure = steps(&config, changed, &counters);
    if (failure) return failure;
    CHECK(memcmp(plain, changed, sizeof plain) == 0 && counters.update_rms > 0);
    CHECK(counters.update_cosine > 0 && counters.update_cosine <= 1.0f);
    config.rms_cap = counters.update_rms / 2;
    failure = steps(&config, changed, &counters);
    if (failure) return failure;
    CHECK(counters.capped > 0 && fabsf(counters.update_rms - config.rms_cap) <= 1e-5f * config.rms_cap);
    config.rms_cap = 0;
    config.staleness = 1000;
    failure = steps(&config, changed, &counters);
    if (failure) return failure;
    CHECK(counters.refreshes == 0 && counters.refreshes_skipped == 2);
    config.staleness = 0;
    config.refresh_growth = 12;
    failure = steps(&config, changed, &counters);
    if (failure) return failure;
    CHECK(counters.refreshes > 2);
    return NULL;
}

static const char *one_side_is_one(void) {
    const uint64_t dims[2] = {ROWS_, COLUMNS_};
    kls_config config;
    kls_tensor tensor;
    kls_optimizer *optimizer = NULL;
    kls_plan plan;
    size_t size = 0, alignment = 0;
    EXPECT(KLS_OK, kls_config_init(&config, sizeof config, KLS_METHOD_ONE_SIDED, KLS_CONVENTION_FIGURE13));
    EXPECT(KLS_OK, kls_tensor_init(&tensor, sizeof tensor, 2, dims));
    EXPECT(KLS_OK, kls_optimizer_create(&optimizer, &config, 1, &tensor, 1, NULL));
    EXPECT(KLS_OK, kls_optimizer_plan(optimizer, 0, &plan, sizeof plan));
    CHECK(plan.modes[0] == KLS_MODE_IDENTITY && plan.modes[1] == KLS_MODE_FULL);
    EXPECT(KLS_OK, kls_optimizer_destroy(&optimizer));
    tensor.modes[0] = KLS_MODE_FULL;
    EXPECT(KLS_OK, kls_optimizer_create(&optimizer, &config, 1, &tensor, 1, NULL));
    EXPECT(KLS_OK, kls_optimizer_plan(optimizer, 0, &plan, sizeof plan));
    CHECK(plan.modes[0] == KLS_MODE_FULL && plan.modes[1] == KLS_MODE_IDENTITY);
    EXPECT(KLS_OK, kls_optimizer_destroy(&optimizer));
    tensor.modes[1] = KLS_MODE_DIAGONAL;
    EXPECT(KLS_ERROR_ONE_SIDED, kls_optimizer_query(&config, 1, &tensor, 1, &size, &alignment));
    return NULL;
}

const char *test_methods(void) {
    const char *failure = every_method_is_another();
    if (!failure) failure = grafts_caps_and_measures();
    return failure ? failure : one_side_is_one();
}
