#include "check.h"
#include "fixture.h"
#include <math.h>

const char *test_freezing_and_groups(void) {
    static fixture f;
    kls_counters counters;
    float before;
    const char *failure = fixture_describe(&f);
    if (failure) return failure;
    f.group.bad_gradient = KLS_BAD_GRADIENT_SKIP;
    failure = fixture_make(&f);
    if (failure) return failure;

    /* A NULL gradient freezes a tensor; its parameter is not looked at. */
    f.grads[0] = NULL;
    f.params[0] = NULL;
    before = f.vector[0];
    EXPECT(KLS_OK, kls_optimizer_step(f.optimizer, f.params, f.grads, 2, 0.01f));
    CHECK(f.vector[0] != before);
    EXPECT(KLS_OK, kls_optimizer_counters(f.optimizer, 0, 0, &counters, sizeof counters));
    CHECK(counters.steps == 0);

    /* A skipped gradient is counted; the other tensor is stepped. */
    f.grads[0] = f.matrix_grad;
    f.params[0] = f.matrix;
    f.vector_grad[0] = NAN;
    before = f.matrix[0];
    EXPECT(KLS_OK, kls_optimizer_step(f.optimizer, f.params, f.grads, 2, 0.01f));
    CHECK(f.matrix[0] != before);
    EXPECT(KLS_OK, kls_optimizer_counters(f.optimizer, 1, 0, &counters, sizeof counters));
    CHECK(counters.steps == 1 && counters.skipped == 1);

    /* Rates of a group: a scale of 0 leaves the parameters alone. */
    EXPECT(KLS_ERROR_GROUP, kls_optimizer_set_group(f.optimizer, 1, 1.0f, 0.0f));
    EXPECT(KLS_ERROR_LR_SCALE, kls_optimizer_set_group(f.optimizer, 0, -1.0f, 0.0f));
    EXPECT(KLS_ERROR_WEIGHT_DECAY, kls_optimizer_set_group(f.optimizer, 0, 1.0f, NAN));
    EXPECT(KLS_OK, kls_optimizer_set_group(f.optimizer, 0, 0.0f, 0.5f));
    before = f.matrix[0];
    EXPECT(KLS_OK, kls_optimizer_step(f.optimizer, f.params, f.grads, 2, 0.01f));
    CHECK(f.matrix[0] == before);
    return NULL;
}

/* Two equal matrices that are due at once: on a budget for one, they take turns. */
const char *test_refresh_budget(void) {
    static fixture f;
    static float second[ELEMENTS];
    const uint64_t dims[2] = {ROWS, COLUMNS};
    kls_plan plan;
    kls_counters counters[2];
    size_t i, step;
    const char *failure = fixture_describe(&f);
    if (failure) return failure;
    f.group.refresh_period = 4;
    f.group.stagger = 0;
    EXPECT(KLS_OK, kls_tensor_init(&f.tensors[1], sizeof f.tensors[1], 2, dims));
    failure = fixture_make(&f);
    if (failure) return failure;
    f.params[1] = second;
    f.grads[1] = f.matrix_grad;
    EXPECT(KLS_ERROR_NULL, kls_optimizer_set_refresh_budget(NULL, 1));
    EXPECT(KLS_OK, kls_optimizer_plan(f.optimizer, 0, &plan, sizeof plan));
    EXPECT(KLS_OK, kls_optimizer_set_refresh_budget(f.optimizer, plan.refresh_flops));
    for (step = 1; step <= 5; step++) {
        EXPECT(KLS_OK, kls_optimizer_step(f.optimizer, f.params, f.grads, 2, 0.01f));
        for (i = 0; i < 2; i++) EXPECT(KLS_OK, kls_optimizer_counters(f.optimizer, i, 0, &counters[i], sizeof counters[i]));
        CHECK(counters[0].refreshes == (step < 4 ? 0u : 2u) && counters[1].refreshes == (step < 5 ? 0u : 2u));
    }
    /* Without it both are made in the step that they are due in. */
    EXPECT(KLS_OK, kls_optimizer_set_refresh_budget(f.optimizer, 0));
    for (; step <= 8; step++) EXPECT(KLS_OK, kls_optimizer_step(f.optimizer, f.params, f.grads, 2, 0.01f));
    for (i = 0; i < 2; i++) {
        EXPECT(KLS_OK, kls_optimizer_counters(f.optimizer, i, 0, &counters[i], sizeof counters[i]));
        CHECK(counters[i].refreshes == 4);
    }
    return NULL;
}
