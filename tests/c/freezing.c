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
