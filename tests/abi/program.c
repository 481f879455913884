/* A program that knows only the first header (klshampoo_v0_1.h) and uses all of it. It must go on working with every later library. */
#include "klshampoo_v0_1.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_(line) #line
#define TEXT(line) TEXT_(line)
#define CHECK(condition) \
    do { \
        if (!(condition)) return "tests/abi/program.c:" TEXT(__LINE__) ": " #condition; \
    } while (0)
#define OK(call) CHECK((call) == KLS_OK)

enum { ROWS = 6, COLUMNS = 4, LAYERS = 2, MATRIX = LAYERS * ROWS * COLUMNS, VECTOR = 5, STEPS = 25 };

const char *test_abi_v0_1(void);

static double loss(const float *matrix, const float *vector, float *matrix_grad, float *vector_grad) {
    double sum = 0;
    for (int i = 0; i < MATRIX; i++) {
        const float distance = matrix[i] - (float)(i % 7) * 0.1f;
        sum += 0.5 * distance * distance;
        matrix_grad[i] = distance;
    }
    for (int i = 0; i < VECTOR; i++) {
        const float distance = vector[i] + 0.2f * (float)i;
        sum += 0.5 * distance * distance;
        vector_grad[i] = distance;
    }
    return sum;
}

static const char *describe(kls_config groups[2], kls_tensor tensors[2], int32_t convention) {
    const uint64_t matrix[2] = {ROWS, COLUMNS}, vector[1] = {VECTOR};
    OK(kls_config_init(&groups[0], sizeof groups[0], KLS_METHOD_KL_SHAMPOO, convention));
    OK(kls_config_init(&groups[1], sizeof groups[1], KLS_METHOD_ADAMW, KLS_CONVENTION_FIGURE13));
    CHECK(kls_config_init(&groups[1], sizeof groups[1], 2, KLS_CONVENTION_FIGURE13) == KLS_ERROR_UNKNOWN_VALUE);
    CHECK(groups[0].struct_size == sizeof groups[0]);
    CHECK(groups[0].estimator == KLS_ESTIMATOR_KL && groups[0].direction == KLS_DIRECTION_KRONECKER_ROOT);
    CHECK(groups[0].step_order == (convention == KLS_CONVENTION_FIGURE13 ? KLS_ORDER_ESTIMATE_FIRST : KLS_ORDER_APPLY_FIRST));
    CHECK(groups[0].max_dim == 8192 && groups[0].refresh_period == 10 && groups[0].bad_gradient == KLS_BAD_GRADIENT_ERROR);
    CHECK(groups[1].estimator == KLS_ESTIMATOR_NONE && groups[1].direction == KLS_DIRECTION_SECOND_MOMENT);
    CHECK(groups[1].bias_correction != 0 && groups[1].weight_decay_kind == KLS_WEIGHT_DECAY_BEFORE && groups[1].reserved == 0);
    groups[0].refresh_period = 3;
    groups[0].weight_decay = 0.01f;
    OK(kls_tensor_init(&tensors[0], sizeof tensors[0], 2, matrix));
    OK(kls_tensor_init(&tensors[1], sizeof tensors[1], 1, vector));
    CHECK(tensors[0].struct_size == sizeof tensors[0] && tensors[0].modes[0] == KLS_MODE_AUTO && tensors[0].slice_stride == 0);
    tensors[0].slices = LAYERS;
    tensors[1].group = 1;
    return NULL;
}

/* Trains with an optimizer, and looks at all that there is to see. */
static const char *train(kls_optimizer *optimizer, float *matrix, float *vector) {
    float matrix_grad[MATRIX], vector_grad[VECTOR], basis[ROWS * ROWS], numbers[ROWS * COLUMNS];
    float *const params[2] = {matrix, vector};
    const float *const grads[2] = {matrix_grad, vector_grad};
    kls_counters counters;
    const double before = loss(matrix, vector, matrix_grad, vector_grad);
    for (int step = 0; step < STEPS; step++) {
        loss(matrix, vector, matrix_grad, vector_grad);
        if (step % 2 == 0) {
            OK(kls_optimizer_step(optimizer, params, grads, 2, 0.02f));
        } else {
            OK(kls_optimizer_step_tensor(optimizer, 0, matrix, matrix_grad, 0.02f));
            OK(kls_optimizer_step_tensor(optimizer, 1, vector, vector_grad, 0.02f));
        }
    }
    CHECK(loss(matrix, vector, matrix_grad, vector_grad) < 0.5 * before);
    OK(kls_optimizer_counters(optimizer, 0, 1, &counters, sizeof counters));
    CHECK(counters.steps == STEPS && counters.refreshes > 0 && counters.skipped == 0);
    OK(kls_optimizer_read_state(optimizer, 0, 1, KLS_STATE_BASIS, 0, basis, ROWS * ROWS));
    OK(kls_optimizer_set_basis(optimizer, 0, 1, 0, basis, ROWS * ROWS));
    OK(kls_optimizer_read_state(optimizer, 0, 0, KLS_STATE_FACTOR, 1, numbers, COLUMNS * COLUMNS));
    OK(kls_optimizer_read_state(optimizer, 0, 0, KLS_STATE_EIGENVALUES, 0, numbers, ROWS));
    OK(kls_optimizer_read_state(optimizer, 0, 0, KLS_STATE_MOMENTUM, 0, numbers, ROWS * COLUMNS));
    OK(kls_optimizer_read_state(optimizer, 1, 0, KLS_STATE_SECOND_MOMENT, 0, numbers, VECTOR));
    OK(kls_optimizer_set_group(optimizer, 1, 0.5f, 0.0f));
    matrix_grad[3] = NAN;
    CHECK(kls_optimizer_step(optimizer, params, grads, 2, 0.02f) == KLS_ERROR_GRADIENT_NOT_FINITE);
    CHECK(kls_optimizer_step(optimizer, params, grads, 1, 0.02f) == KLS_ERROR_TENSOR_COUNT);
    CHECK(kls_optimizer_set_group(optimizer, 2, 1.0f, 0.0f) == KLS_ERROR_GROUP);
    CHECK(strlen(kls_status_string(KLS_ERROR_GROUP)) > 0);
    return NULL;
}

static const char *one_convention(int32_t convention) {
    kls_config groups[2], wrong;
    kls_tensor tensors[2];
    kls_options options;
    kls_optimizer *lent = NULL, *made = NULL;
    float matrix[2][MATRIX] = {{0}}, vector[2][VECTOR] = {{0}};
    size_t size, alignment, bytes;
    const char *failure = describe(groups, tensors, convention);
    if (failure) return failure;
    OK(kls_optimizer_query(groups, 2, tensors, 2, &size, &alignment));
    unsigned char *memory = malloc(size + alignment);
    CHECK(memory != NULL);
    void *aligned = memory + (alignment - (uintptr_t)memory % alignment) % alignment;
    OK(kls_optimizer_init(&lent, aligned, size, groups, 2, tensors, 2));
    OK(kls_options_init(&options, sizeof options));
    options.backend = KLS_BACKEND_PORTABLE;
    OK(kls_optimizer_create(&made, groups, 2, tensors, 2, &options));
    OK(kls_optimizer_state_bytes(made, &bytes));
    CHECK(bytes > 0 && bytes < size);
    if ((failure = train(lent, matrix[0], vector[0])) || (failure = train(made, matrix[1], vector[1]))) return failure;
    CHECK(memcmp(matrix[0], matrix[1], sizeof matrix[0]) == 0 && memcmp(vector[0], vector[1], sizeof vector[0]) == 0);
    wrong = groups[0];
    wrong.reserved = 1;
    CHECK(kls_optimizer_query(&wrong, 1, tensors, 0, &size, &alignment) == KLS_ERROR_RESERVED);
    OK(kls_optimizer_destroy(&lent));
    OK(kls_optimizer_destroy(&made));
    CHECK(lent == NULL && made == NULL);
    free(memory);
    return NULL;
}

const char *test_abi_v0_1(void) {
    const char *failure = one_convention(KLS_CONVENTION_FIGURE13);
    if (!failure) failure = one_convention(KLS_CONVENTION_REFERENCE_KL);
    CHECK(strncmp(kls_version(), "0.1.", 4) == 0);
    CHECK(KLS_VERSION_MAJOR == 0 && KLS_VERSION_MINOR == 1 && KLS_VERSION_PATCH == 0);
    return failure;
}
