#include "check.h"
#include "fixture.h"
#include <math.h>
#include <string.h>

const char *test_inspection_errors(void) {
    static fixture f;
    float basis[ROWS * ROWS] = {0}, out[ROWS * ROWS], mean[VECTOR];
    kls_counters counters;
    size_t bytes = 0, len = 0;
    const char *failure = fixture_describe(&f);
    if (failure) return failure;
    failure = fixture_make(&f);
    if (failure) return failure;
    for (int i = 0; i < ROWS; i++) basis[i * ROWS + i] = i % 2 ? -1.0f : 1.0f;

    EXPECT(KLS_ERROR_NOT_STARTED, kls_optimizer_set_basis(f.optimizer, 0, 0, 0, basis, ROWS * ROWS));
    EXPECT(KLS_OK, kls_optimizer_step(f.optimizer, f.params, f.grads, 2, 0.01f));
    fixture_remember(&f);
    EXPECT(KLS_ERROR_BUFFER_LENGTH, kls_optimizer_set_basis(f.optimizer, 0, 0, 0, basis, ROWS * ROWS - 1));
    EXPECT(KLS_ERROR_INDEX, kls_optimizer_set_basis(f.optimizer, 2, 0, 0, basis, ROWS * ROWS));
    EXPECT(KLS_ERROR_INDEX, kls_optimizer_set_basis(f.optimizer, 0, 1, 0, basis, ROWS * ROWS));
    EXPECT(KLS_ERROR_NO_SUCH_STATE, kls_optimizer_set_basis(f.optimizer, 0, 0, 2, basis, ROWS * ROWS));
    EXPECT(KLS_ERROR_NO_SUCH_STATE, kls_optimizer_set_basis(f.optimizer, 1, 0, 0, basis, ROWS * ROWS));
    EXPECT(KLS_ERROR_NULL, kls_optimizer_set_basis(f.optimizer, 0, 0, 0, NULL, ROWS * ROWS));
    CHECK(fixture_unchanged(&f));
    EXPECT(KLS_OK, kls_optimizer_set_basis(f.optimizer, 0, 0, 0, basis, ROWS * ROWS));
    EXPECT(KLS_OK, kls_optimizer_read_state(f.optimizer, 0, 0, KLS_STATE_BASIS, 0, out, ROWS * ROWS));
    CHECK(memcmp(out, basis, sizeof basis) == 0);
    basis[0] = 1.01f;
    EXPECT(KLS_ERROR_NOT_ORTHOGONAL, kls_optimizer_set_basis(f.optimizer, 0, 0, 0, basis, ROWS * ROWS));
    basis[0] = NAN;
    EXPECT(KLS_ERROR_NOT_ORTHOGONAL, kls_optimizer_set_basis(f.optimizer, 0, 0, 0, basis, ROWS * ROWS));
    EXPECT(KLS_OK, kls_optimizer_read_state(f.optimizer, 0, 0, KLS_STATE_BASIS, 0, out, ROWS * ROWS));
    CHECK(out[0] == 1.0f);

    EXPECT(KLS_ERROR_UNKNOWN_VALUE, kls_optimizer_state_len(f.optimizer, 0, 0, 42, 0, &len));
    EXPECT(KLS_ERROR_NO_SUCH_STATE, kls_optimizer_state_len(f.optimizer, 0, 0, KLS_STATE_FACTOR, 2, &len));
    EXPECT(KLS_ERROR_NO_SUCH_STATE, kls_optimizer_state_len(f.optimizer, 0, 0, KLS_STATE_SECOND_MOMENT, 0, &len));
    EXPECT(KLS_ERROR_INDEX, kls_optimizer_state_len(f.optimizer, 2, 0, KLS_STATE_FACTOR, 0, &len));
    EXPECT(KLS_ERROR_INDEX, kls_optimizer_state_len(f.optimizer, 0, 1, KLS_STATE_FACTOR, 0, &len));
    EXPECT(KLS_ERROR_NULL, kls_optimizer_state_len(f.optimizer, 0, 0, KLS_STATE_FACTOR, 0, NULL));
    EXPECT(KLS_ERROR_NULL, kls_optimizer_state_len(NULL, 0, 0, KLS_STATE_FACTOR, 0, &len));
    CHECK(len == 0);
    EXPECT(KLS_OK, kls_optimizer_state_len(f.optimizer, 0, 0, KLS_STATE_FACTOR, 1, &len));
    CHECK(len == COLUMNS * COLUMNS);
    EXPECT(KLS_OK, kls_optimizer_state_len(f.optimizer, 0, 0, KLS_STATE_EIGENVALUES, 0, &len));
    CHECK(len == ROWS);
    EXPECT(KLS_OK, kls_optimizer_state_len(f.optimizer, 0, 0, KLS_STATE_MOMENTUM, 99, &len));
    CHECK(len == ELEMENTS);

    EXPECT(KLS_ERROR_UNKNOWN_VALUE, kls_optimizer_read_state(f.optimizer, 0, 0, 42, 0, out, ROWS * ROWS));
    EXPECT(KLS_ERROR_BUFFER_LENGTH, kls_optimizer_read_state(f.optimizer, 0, 0, KLS_STATE_FACTOR, 0, out, 3));
    EXPECT(KLS_ERROR_NO_SUCH_STATE, kls_optimizer_read_state(f.optimizer, 0, 0, KLS_STATE_SECOND_MOMENT, 0, out, ELEMENTS));
    EXPECT(KLS_ERROR_INDEX, kls_optimizer_read_state(f.optimizer, 0, 7, KLS_STATE_MOMENTUM, 0, out, ELEMENTS));
    EXPECT(KLS_ERROR_NULL, kls_optimizer_read_state(f.optimizer, 0, 0, KLS_STATE_MOMENTUM, 0, NULL, ELEMENTS));
    EXPECT(KLS_OK, kls_optimizer_read_state(f.optimizer, 0, 0, KLS_STATE_EIGENVALUES, 1, out, COLUMNS));
    CHECK(out[0] > 0 && out[1] > 0 && out[2] > 0);
    /* A 1-D tensor is stepped by AdamW: it has a second moment and no factors. */
    EXPECT(KLS_OK, kls_optimizer_read_state(f.optimizer, 1, 0, KLS_STATE_SECOND_MOMENT, 0, mean, VECTOR));
    CHECK(fabsf(mean[0] - (1 - f.group.beta2) * 0.25f) < 1e-6f);

    EXPECT(KLS_ERROR_STRUCT_SIZE, kls_optimizer_counters(f.optimizer, 0, 0, &counters, 1));
    EXPECT(KLS_ERROR_NULL, kls_optimizer_counters(f.optimizer, 0, 0, NULL, sizeof counters));
    EXPECT(KLS_ERROR_INDEX, kls_optimizer_counters(f.optimizer, 0, 1, &counters, sizeof counters));
    EXPECT(KLS_OK, kls_optimizer_step(f.optimizer, f.params, f.grads, 2, 0.01f));
    EXPECT(KLS_OK, kls_optimizer_counters(f.optimizer, 0, 0, &counters, sizeof counters));
    CHECK(counters.steps == 2 && counters.refreshes == 2 && counters.refresh_failures == 0);

    EXPECT(KLS_ERROR_NULL, kls_optimizer_state_bytes(f.optimizer, NULL));
    EXPECT(KLS_OK, kls_optimizer_state_bytes(f.optimizer, &bytes));
    CHECK(bytes == 2 * 64 + 4 * (16 + 9 + 10 + 6 + 4 + 3 + 12) + 4 * (5 + 5));
    CHECK(strcmp(kls_status_string(KLS_OK), kls_status_string(KLS_ERROR_NULL)) != 0);
    CHECK(kls_status_string(123456) != NULL);
    return NULL;
}
