#include "check.h"
#include "fixture.h"
#include <math.h>
#include <string.h>

const char *test_step_errors(void) {
    static fixture f;
    static unsigned char state[2][MEMORY];
    static float pair[2 * ELEMENTS + 1];
    float *params[2];
    const float *grads[2];
    const float bad[] = {NAN, INFINITY, -INFINITY, 1e30f, -1e30f};
    const char *failure = fixture_describe(&f);
    if (failure) return failure;
    failure = fixture_make(&f);
    if (failure) return failure;
    EXPECT(KLS_OK, kls_optimizer_step(f.optimizer, f.params, f.grads, 2, 0.01f));
    fixture_remember(&f);

    EXPECT(KLS_ERROR_NULL, kls_optimizer_step(NULL, f.params, f.grads, 2, 0.01f));
    EXPECT(KLS_ERROR_NULL, kls_optimizer_step(f.optimizer, NULL, f.grads, 2, 0.01f));
    EXPECT(KLS_ERROR_NULL, kls_optimizer_step(f.optimizer, f.params, NULL, 2, 0.01f));
    EXPECT(KLS_ERROR_TENSOR_COUNT, kls_optimizer_step(f.optimizer, f.params, f.grads, 1, 0.01f));
    EXPECT(KLS_ERROR_TENSOR_COUNT, kls_optimizer_step(f.optimizer, f.params, f.grads, 3, 0.01f));
    EXPECT(KLS_ERROR_LEARNING_RATE, kls_optimizer_step(f.optimizer, f.params, f.grads, 2, NAN));
    EXPECT(KLS_ERROR_LEARNING_RATE, kls_optimizer_step(f.optimizer, f.params, f.grads, 2, INFINITY));
    EXPECT(KLS_ERROR_LEARNING_RATE, kls_optimizer_step(f.optimizer, f.params, f.grads, 2, -0.01f));
    CHECK(fixture_unchanged(&f));

    /* The bad gradient is the last one: the tensors before it must not have been stepped either. */
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        const float good = f.vector_grad[VECTOR - 1];
        const kls_status status = isfinite(bad[i]) ? KLS_ERROR_GRADIENT_TOO_LARGE : KLS_ERROR_GRADIENT_NOT_FINITE;
        f.vector_grad[VECTOR - 1] = bad[i];
        EXPECT(status, kls_optimizer_step(f.optimizer, f.params, f.grads, 2, 0.01f));
        EXPECT(status, kls_optimizer_step_tensor(f.optimizer, 1, f.vector, f.vector_grad, 0.01f));
        CHECK(fixture_unchanged(&f));
        f.vector_grad[VECTOR - 1] = good;
    }

    /* A rate that takes the matrix out of range. */
    EXPECT(KLS_OK, kls_optimizer_save(f.optimizer, state[0], MEMORY));
    EXPECT(KLS_ERROR_UPDATE_NOT_FINITE, kls_optimizer_step_tensor(f.optimizer, 0, f.matrix, f.matrix_grad, 3e38f));
    EXPECT(KLS_OK, kls_optimizer_save(f.optimizer, state[1], MEMORY));
    CHECK(memcmp(f.matrix_copy, f.matrix, sizeof f.matrix) == 0 && memcmp(state[0], state[1], MEMORY) == 0);
    fixture_remember(&f); /* the scratch has been written to */

    params[0] = f.matrix;
    params[1] = NULL;
    EXPECT(KLS_ERROR_NULL, kls_optimizer_step(f.optimizer, params, f.grads, 2, 0.01f));
    params[1] = (float *)(void *)((char *)pair + 1);
    EXPECT(KLS_ERROR_MISALIGNED, kls_optimizer_step(f.optimizer, params, f.grads, 2, 0.01f));
    params[0] = pair + ELEMENTS - 1;
    params[1] = f.vector;
    grads[0] = pair;
    grads[1] = f.vector_grad;
    EXPECT(KLS_ERROR_OVERLAP, kls_optimizer_step(f.optimizer, params, grads, 2, 0.01f));
    CHECK(fixture_unchanged(&f));
    params[0] = pair + ELEMENTS;
    EXPECT(KLS_OK, kls_optimizer_step(f.optimizer, params, grads, 2, 0.0f));

    fixture_remember(&f);
    EXPECT(KLS_ERROR_INDEX, kls_optimizer_step_tensor(f.optimizer, 2, f.matrix, f.matrix_grad, 0.01f));
    EXPECT(KLS_ERROR_NULL, kls_optimizer_step_tensor(f.optimizer, 0, NULL, f.matrix_grad, 0.01f));
    EXPECT(KLS_ERROR_NULL, kls_optimizer_step_tensor(f.optimizer, 0, f.matrix, NULL, 0.01f));
    EXPECT(KLS_ERROR_OVERLAP, kls_optimizer_step_tensor(f.optimizer, 0, f.matrix, f.matrix, 0.01f));
    CHECK(fixture_unchanged(&f));

    /* After all that it still works. */
    EXPECT(KLS_OK, kls_optimizer_step(f.optimizer, f.params, f.grads, 2, 0.01f));
    CHECK(!fixture_unchanged(&f));
    for (int i = 0; i < ELEMENTS; i++) CHECK(isfinite(f.matrix[i]));
    return NULL;
}
