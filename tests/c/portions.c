/* Refreshes in portions: what the plan says of them, and that they come as late as it says. */
#include "check.h"
#include <math.h>
#include <string.h>

enum { M = 6, N = 9, LEN = M * N, PERIOD = 30 };

static const char *make(kls_optimizer **optimizer, const kls_config *config, kls_plan *plan) {
    const uint64_t dims[2] = {M, N};
    kls_tensor tensor;
    EXPECT(KLS_OK, kls_tensor_init(&tensor, sizeof tensor, 2, dims));
    EXPECT(KLS_OK, kls_optimizer_create(optimizer, config, 1, &tensor, 1, NULL));
    EXPECT(KLS_OK, kls_optimizer_plan(*optimizer, 0, plan, sizeof *plan));
    return NULL;
}

/* Steps until the last basis has been turned, and which step that was. */
static const char *train(kls_optimizer *optimizer, uint64_t *turned) {
    float param[LEN] = {0}, gradient[LEN], *params[1] = {param};
    const float *grads[1] = {gradient};
    kls_counters counters;
    *turned = 0;
    for (int step = 1; step < 3 * PERIOD; step++) {
        for (int i = 0; i < LEN; i++) gradient[i] = sinf((float)(1 + i * i + 3 * step)) + 0.5f;
        EXPECT(KLS_OK, kls_optimizer_step(optimizer, params, grads, 1, 0.01f));
        EXPECT(KLS_OK, kls_optimizer_counters(optimizer, 0, 0, &counters, sizeof counters));
        if (*turned == 0 && counters.refreshes == 2) *turned = (uint64_t)step;
    }
    CHECK(counters.refreshes >= 4 && counters.refresh_failures == 0);
    for (int i = 0; i < LEN; i++) CHECK(param[i] - param[i] == 0);
    return NULL;
}

const char *test_refresh_portions(void) {
    kls_config config, second;
    kls_optimizer *optimizer = NULL;
    kls_plan whole, plan;
    uint64_t turned, flops;
    const char *failure;
    EXPECT(KLS_OK, kls_config_init(&config, sizeof config, KLS_METHOD_KL_SHAMPOO, KLS_CONVENTION_FIGURE13));
    CHECK(config.refresh_portion == 0);
    config.refresh_period = PERIOD;
    if ((failure = make(&optimizer, &config, &whole)) || (failure = train(optimizer, &turned))) return failure;
    CHECK(turned == PERIOD);
    CHECK(whole.refresh_step_flops == whole.refresh_flops && whole.refresh_steps == 0);
    EXPECT(KLS_OK, kls_optimizer_destroy(&optimizer));

    config.refresh_portion = 1500;
    if ((failure = make(&optimizer, &config, &plan)) || (failure = train(optimizer, &turned))) return failure;
    CHECK(plan.refresh_steps > 2 && turned == PERIOD + plan.refresh_steps);
    CHECK(plan.step_flops == whole.step_flops && plan.refresh_flops > plan.refresh_step_flops && plan.refresh_step_flops >= 1500);
    CHECK(plan.state_bytes == whole.state_bytes + 4 * (2 * N * N + 3 * N + 5));
    EXPECT(KLS_OK, kls_optimizer_predicted_flops(optimizer, PERIOD, &flops));
    CHECK(flops == plan.step_flops + plan.refresh_step_flops);
    /* A program whose plan ends before these fields. */
    memset(&plan, 0x5a, sizeof plan);
    EXPECT(KLS_OK, kls_optimizer_plan(optimizer, 0, &plan, offsetof(kls_plan, refresh_step_flops)));
    CHECK(plan.refresh_steps == 0x5a5a5a5a5a5a5a5a && plan.step_flops == whole.step_flops);
    EXPECT(KLS_OK, kls_optimizer_destroy(&optimizer));

    /* One whose configuration does. */
    memset(&second, 0x5a, sizeof second);
    EXPECT(KLS_OK, kls_config_init(&second, offsetof(kls_config, refresh_portion), KLS_METHOD_KL_SHAMPOO, KLS_CONVENTION_FIGURE13));
    CHECK(second.refresh_portion == 0x5a5a5a5a && second.struct_size == offsetof(kls_config, refresh_portion) && second.lr_scale == 1);
    if ((failure = make(&optimizer, &second, &plan))) return failure;
    CHECK(plan.refresh_steps == 0 && plan.state_bytes == whole.state_bytes);
    EXPECT(KLS_OK, kls_optimizer_destroy(&optimizer));
    return NULL;
}
