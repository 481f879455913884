#include "fixture.h"
#include "check.h"
#include <string.h>

const char *fixture_describe(fixture *f) {
    const uint64_t matrix[2] = {ROWS, COLUMNS}, vector[1] = {VECTOR};
    memset(f, 0, sizeof *f);
    EXPECT(KLS_OK, kls_config_init(&f->group, sizeof f->group, KLS_METHOD_KL_SHAMPOO, KLS_CONVENTION_FIGURE13));
    EXPECT(KLS_OK, kls_tensor_init(&f->tensors[0], sizeof f->tensors[0], 2, matrix));
    EXPECT(KLS_OK, kls_tensor_init(&f->tensors[1], sizeof f->tensors[1], 1, vector));
    f->group.refresh_period = 2;
    f->group.weight_decay = 0.1f;
    for (int i = 0; i < ELEMENTS; i++) {
        f->matrix[i] = 0.1f * (float)(i % 5) - 0.2f;
        f->matrix_grad[i] = 0.01f * (float)((7 * i) % 11 - 5);
    }
    for (int i = 0; i < VECTOR; i++) {
        f->vector[i] = 1.0f;
        f->vector_grad[i] = 0.5f - 0.2f * (float)i;
    }
    f->params[0] = f->matrix;
    f->params[1] = f->vector;
    f->grads[0] = f->matrix_grad;
    f->grads[1] = f->vector_grad;
    return NULL;
}

const char *fixture_make(fixture *f) {
    size_t alignment = 0;
    EXPECT(KLS_OK, kls_optimizer_query(&f->group, 1, f->tensors, 2, &f->size, &alignment));
    CHECK(alignment != 0 && (alignment & (alignment - 1)) == 0);
    CHECK(f->size + alignment <= sizeof f->raw);
    f->memory = f->raw + (alignment - (uintptr_t)f->raw % alignment) % alignment;
    EXPECT(KLS_OK, kls_optimizer_init(&f->optimizer, f->memory, f->size, &f->group, 1, f->tensors, 2));
    CHECK((unsigned char *)f->optimizer == f->memory);
    return NULL;
}

void fixture_remember(fixture *f) {
    memcpy(f->copy, f->raw, sizeof f->raw);
    memcpy(f->matrix_copy, f->matrix, sizeof f->matrix);
    memcpy(f->vector_copy, f->vector, sizeof f->vector);
}

int fixture_unchanged(const fixture *f) {
    /* The message of a failing call is in the optimizer's memory, and may change. */
    const size_t at = (uintptr_t)kls_last_error(f->optimizer) - (uintptr_t)f->raw;
    const size_t before = at < sizeof f->raw ? at : 0, after = at < sizeof f->raw ? at + MESSAGE : 0;
    return memcmp(f->copy, f->raw, before) == 0 && memcmp(f->copy + after, f->raw + after, sizeof f->raw - after) == 0 &&
           memcmp(f->matrix_copy, f->matrix, sizeof f->matrix) == 0 && memcmp(f->vector_copy, f->vector, sizeof f->vector) == 0;
}
