#include "check.h"
#include "fixture.h"
#include <math.h>
#include <string.h>

/* Whether x is what a closed form gives, but for rounding. */
static int near(float x, double wanted) {
    return fabs((double)x - wanted) <= 1e-5 * (1 + fabs(wanted));
}

/* One step of a method on one tensor, in memory of its own. */
static const char *step_alone(kls_optimizer **optimizer, int32_t method, size_t rows, size_t columns, const float *gradient) {
    static double memory[2048];
    static float param[16];
    const uint64_t dims[2] = {rows, columns};
    const float *grads[1] = {gradient};
    float *params[1] = {param};
    size_t size = 0, alignment = 0;
    kls_config group;
    kls_tensor tensor;
    EXPECT(KLS_OK, kls_config_init(&group, sizeof group, method, KLS_CONVENTION_FIGURE13));
    group.beta2 = 0.5f;
    EXPECT(KLS_OK, kls_tensor_init(&tensor, sizeof tensor, 2, dims));
    EXPECT(KLS_OK, kls_optimizer_query(&group, 1, &tensor, 1, &size, &alignment));
    char *aligned = (char *)memory + (alignment - (uintptr_t)memory % alignment) % alignment;
    CHECK(aligned + size <= (char *)memory + sizeof memory);
    EXPECT(KLS_OK, kls_optimizer_init(optimizer, aligned, size, &group, 1, &tensor, 1));
    EXPECT(KLS_OK, kls_optimizer_step(*optimizer, params, grads, 1, 0.01f));
    return NULL;
}

static const char *closed_forms(void) {
    kls_optimizer *optimizer = NULL;
    kls_mode_report report;
    float value = 0;
    const float one = 3, pair[2] = {3, 4};
    /* A 1 x 1 tensor: lambda_0 = |g| = 3, and lambda = (3 + 9 / 3) / 2 stays 3 for both dims, so that S = 9. */
    const char *failure = step_alone(&optimizer, KLS_METHOD_KL_SHAMPOO, 1, 1, &one);
    if (failure) return failure;
    EXPECT(KLS_OK, kls_optimizer_objective(optimizer, 0, 0, &one, 1, &value));
    CHECK(near(value, 0.5 * (log(9) + 9 / 9.0)));
    EXPECT(KLS_OK, kls_optimizer_mode_report(optimizer, 0, 0, 1, &report, sizeof report));
    CHECK(near(report.lambda_min, 3) && near(report.lambda_max, 3) && near(report.effective_rank, 1));
    CHECK(report.staleness_mean == 0 && report.staleness_max == 0 && near(report.orthogonality_error, 0));
    CHECK(report.struct_size == sizeof report);
    /* AdamW's second moment, corrected, is the square of the only gradient. */
    failure = step_alone(&optimizer, KLS_METHOD_ADAMW, 2, 1, pair);
    if (failure) return failure;
    EXPECT(KLS_OK, kls_optimizer_objective(optimizer, 0, 0, pair, 2, &value));
    CHECK(near(value, 0.5 * (log(9) + log(16) + 2)));
    /* Rows (3) and (4) in one column: lambda_0^2 = 25/2 = c^2. In the eigenbasis the projected gradient is (5, 0), so with d/N = 1
     * for the rows their lambda = (c + 25/c, c) / 2 = (1.5 c, 0.5 c), and the column's is (c + 25/(2c)) / 2 = c. */
    failure = step_alone(&optimizer, KLS_METHOD_KL_SHAMPOO, 2, 1, pair);
    if (failure) return failure;
    const double c = sqrt(12.5);
    EXPECT(KLS_OK, kls_optimizer_objective(optimizer, 0, 0, pair, 2, &value));
    CHECK(near(value, 0.5 * (log(1.5 * c) + log(0.5 * c) + 2 * log(c) + 25 / (1.5 * c * c))));
    EXPECT(KLS_OK, kls_optimizer_mode_report(optimizer, 0, 0, 0, &report, sizeof report));
    CHECK(near(report.lambda_min, 0.5 * c) && near(report.lambda_max, 1.5 * c));
    CHECK(near(report.effective_rank, exp(-0.75 * log(0.75) - 0.25 * log(0.25))));
    /* SGD divides by nothing. */
    failure = step_alone(&optimizer, KLS_METHOD_SGD, 2, 1, pair);
    if (failure) return failure;
    value = 7;
    EXPECT(KLS_ERROR_NO_SUCH_STATE, kls_optimizer_objective(optimizer, 0, 0, pair, 2, &value));
    EXPECT(KLS_ERROR_NO_SUCH_STATE, kls_optimizer_mode_report(optimizer, 0, 0, 0, &report, sizeof report));
    CHECK(value == 7);
    return NULL;
}

const char *test_diagnostics(void) {
    static fixture f, unwatched;
    float value = 7, bad[ELEMENTS];
    kls_mode_report report, copy;
    const char *failure = closed_forms();
    if (failure) return failure;
    memset(&report, 42, sizeof report);
    copy = report;
    failure = fixture_describe(&f);
    if (failure) return failure;
    failure = fixture_make(&f);
    if (failure) return failure;

    EXPECT(KLS_ERROR_NOT_STARTED, kls_optimizer_objective(f.optimizer, 0, 0, f.matrix_grad, ELEMENTS, &value));
    EXPECT(KLS_ERROR_NOT_STARTED, kls_optimizer_objective(f.optimizer, 1, 0, f.vector_grad, VECTOR, &value));
    EXPECT(KLS_ERROR_NOT_STARTED, kls_optimizer_mode_report(f.optimizer, 0, 0, 0, &report, sizeof report));
    EXPECT(KLS_OK, kls_optimizer_step(f.optimizer, f.params, f.grads, 2, 0.01f));
    EXPECT(KLS_ERROR_NULL, kls_optimizer_objective(f.optimizer, 0, 0, NULL, ELEMENTS, &value));
    EXPECT(KLS_ERROR_NULL, kls_optimizer_objective(f.optimizer, 0, 0, f.matrix_grad, ELEMENTS, NULL));
    EXPECT(KLS_ERROR_NULL, kls_optimizer_objective(NULL, 0, 0, f.matrix_grad, ELEMENTS, &value));
    EXPECT(KLS_ERROR_BUFFER_LENGTH, kls_optimizer_objective(f.optimizer, 0, 0, f.matrix_grad, ELEMENTS - 1, &value));
    EXPECT(KLS_ERROR_INDEX, kls_optimizer_objective(f.optimizer, 2, 0, f.matrix_grad, ELEMENTS, &value));
    EXPECT(KLS_ERROR_INDEX, kls_optimizer_objective(f.optimizer, 0, 1, f.matrix_grad, ELEMENTS, &value));
    memcpy(bad, f.matrix_grad, sizeof bad);
    bad[ELEMENTS - 1] = NAN;
    EXPECT(KLS_ERROR_GRADIENT_NOT_FINITE, kls_optimizer_objective(f.optimizer, 0, 0, bad, ELEMENTS, &value));
    bad[ELEMENTS - 1] = 1e30f;
    EXPECT(KLS_ERROR_GRADIENT_TOO_LARGE, kls_optimizer_objective(f.optimizer, 0, 0, bad, ELEMENTS, &value));
    EXPECT(KLS_ERROR_NULL, kls_optimizer_mode_report(f.optimizer, 0, 0, 0, NULL, sizeof report));
    EXPECT(KLS_ERROR_STRUCT_SIZE, kls_optimizer_mode_report(f.optimizer, 0, 0, 0, &report, sizeof report - 1));
    EXPECT(KLS_ERROR_INDEX, kls_optimizer_mode_report(f.optimizer, 0, 0, 2, &report, sizeof report));
    EXPECT(KLS_ERROR_INDEX, kls_optimizer_mode_report(f.optimizer, 0, 1, 0, &report, sizeof report));
    EXPECT(KLS_ERROR_INDEX, kls_optimizer_mode_report(f.optimizer, 5, 0, 0, &report, sizeof report));
    EXPECT(KLS_ERROR_NO_SUCH_STATE, kls_optimizer_mode_report(f.optimizer, 1, 0, 0, &report, sizeof report));
    CHECK(value == 7 && memcmp(&report, &copy, sizeof report) == 0);

    /* Looking changes nothing of the state: the next step is the same as without. */
    EXPECT(KLS_OK, kls_optimizer_objective(f.optimizer, 0, 0, f.matrix_grad, ELEMENTS, &value));
    EXPECT(KLS_OK, kls_optimizer_mode_report(f.optimizer, 0, 0, 0, &report, sizeof report));
    CHECK(report.struct_size == sizeof report && report.effective_rank >= 1 && report.effective_rank <= ROWS * 1.0001f);
    CHECK(report.lambda_min > 0 && report.lambda_min <= report.lambda_max && report.orthogonality_error < 1e-5f);
    EXPECT(KLS_OK, kls_optimizer_step(f.optimizer, f.params, f.grads, 2, 0.01f));
    failure = fixture_describe(&unwatched);
    if (failure) return failure;
    failure = fixture_make(&unwatched);
    if (failure) return failure;
    EXPECT(KLS_OK, kls_optimizer_step(unwatched.optimizer, unwatched.params, unwatched.grads, 2, 0.01f));
    EXPECT(KLS_OK, kls_optimizer_step(unwatched.optimizer, unwatched.params, unwatched.grads, 2, 0.01f));
    CHECK(memcmp(f.matrix, unwatched.matrix, sizeof f.matrix) == 0 && memcmp(f.vector, unwatched.vector, sizeof f.vector) == 0);
    return NULL;
}

const char *test_window_similarity(void) {
    /* Two gradients, 2 x 2: diag(1, 0) and diag(0, 1). */
    const float grads[8] = {1, 0, 0, 0, 0, 0, 0, 1};
    float bad[8] = {0}, scratch[256];
    kls_similarity found, copy;
    size_t len = 0;
    memset(&found, 42, sizeof found);
    copy = found;
    EXPECT(KLS_ERROR_NULL, kls_window_scratch_len(2, 2, 2, NULL));
    EXPECT(KLS_ERROR_ZERO_DIM, kls_window_scratch_len(2, 0, 2, &len));
    EXPECT(KLS_ERROR_OVERFLOW, kls_window_scratch_len(SIZE_MAX / 2, 2, 2, &len));
    CHECK(len == 0);
    EXPECT(KLS_OK, kls_window_scratch_len(2, 2, 2, &len));
    CHECK(len > 0 && len <= sizeof scratch / sizeof scratch[0]);

    EXPECT(KLS_ERROR_NULL, kls_window_similarity(NULL, 2, 2, 2, scratch, len, &found, sizeof found));
    EXPECT(KLS_ERROR_NULL, kls_window_similarity(grads, 2, 2, 2, NULL, len, &found, sizeof found));
    EXPECT(KLS_ERROR_NULL, kls_window_similarity(grads, 2, 2, 2, scratch, len, NULL, sizeof found));
    EXPECT(KLS_ERROR_STRUCT_SIZE, kls_window_similarity(grads, 2, 2, 2, scratch, len, &found, 4));
    EXPECT(KLS_ERROR_ZERO_DIM, kls_window_similarity(grads, 2, 2, 0, scratch, len, &found, sizeof found));
    EXPECT(KLS_ERROR_OVERFLOW, kls_window_similarity(grads, SIZE_MAX, 2, 2, scratch, len, &found, sizeof found));
    EXPECT(KLS_ERROR_MEMORY_TOO_SHORT, kls_window_similarity(grads, 2, 2, 2, scratch, len - 1, &found, sizeof found));
    EXPECT(KLS_ERROR_ZERO_WINDOW, kls_window_similarity(bad, 2, 2, 2, scratch, len, &found, sizeof found));
    bad[3] = INFINITY;
    EXPECT(KLS_ERROR_GRADIENT_NOT_FINITE, kls_window_similarity(bad, 2, 2, 2, scratch, len, &found, sizeof found));
    CHECK(memcmp(&found, &copy, sizeof found) == 0);

    /* H = diag(1, 0, 0, 1) / 2. Shampoo's L and R are multiples of the identity, so that <H, I> / (||H|| ||I||) = sqrt(1/2), which
     * no Kronecker product exceeds: H's rearrangement has two equal singular values. */
    EXPECT(KLS_OK, kls_window_similarity(grads, 2, 2, 2, scratch, len, &found, sizeof found));
    CHECK(found.struct_size == sizeof found && found.raised == 0 && found.rounds >= 1);
    CHECK(near(found.shampoo_squared, sqrt(0.5)) && near(found.shampoo, sqrt(0.5)));
    CHECK(near(found.kullback_leibler, sqrt(0.5)) && near(found.optimal, sqrt(0.5)));
    CHECK(near(found.left, 1) && near(found.right, 1));
    /* One gradient is a product itself where its rank is one: (1, 2; 2, 4) gives L = R = (1, 2; 2, 4), H = L (x) R. */
    const float single[4] = {1, 2, 2, 4};
    EXPECT(KLS_OK, kls_window_similarity(single, 2, 2, 1, scratch, len, &found, sizeof found));
    CHECK(near(found.shampoo_squared, 1) && near(found.shampoo, 1) && near(found.optimal, 1) && found.raised == 2);
    return NULL;
}
