/* Cut and merged tensors: what the plan says, and that a piece is stepped as a tensor of its own. */
#include "check.h"
#include <math.h>
#include <string.h>

enum { M = 6, N = 5, COUNT = M * N, STEPS = 12 };

static float noise(unsigned *seed) {
    *seed = *seed * 1664525u + 1013904223u;
    return (float)(*seed >> 8) / 8388608.0f - 1.0f;
}

/* Steps `tensors` tensors whose parameters lie at `params`, with the same gradients for the same elements of `base`. */
static const char *run(const kls_config *config, const kls_tensor *tensors, size_t count, float *const *params, const float *base) {
    kls_optimizer *optimizer = NULL;
    kls_options options;
    float gradient[COUNT];
    const float *grads[4];
    unsigned seed = 7;
    EXPECT(KLS_OK, kls_options_init(&options, sizeof options));
    options.backend = KLS_BACKEND_PORTABLE;
    EXPECT(KLS_OK, kls_optimizer_create(&optimizer, config, 1, tensors, count, &options));
    for (size_t i = 0; i < count; i++) grads[i] = gradient + (params[i] - base);
    for (int step = 0; step < STEPS; step++) {
        for (int i = 0; i < COUNT; i++) gradient[i] = noise(&seed);
        EXPECT(KLS_OK, kls_optimizer_step(optimizer, params, grads, count, 0.01f));
    }
    EXPECT(KLS_OK, kls_optimizer_destroy(&optimizer));
    return NULL;
}

static const char *rows_are_split(void) {
    const uint64_t whole[2] = {M, N}, first[2] = {4, N}, second[2] = {2, N};
    kls_config config;
    kls_tensor fused, apart[2];
    float a[COUNT] = {0}, b[COUNT] = {0}, *params[1] = {a}, *parts[2] = {b, b + 4 * N};
    EXPECT(KLS_OK, kls_config_init(&config, sizeof config, KLS_METHOD_KL_SHAMPOO, KLS_CONVENTION_FIGURE13));
    config.refresh_period = 3;
    /* Two tensors would be refreshed at different steps. */
    config.stagger = 0;
    EXPECT(KLS_OK, kls_tensor_init(&fused, sizeof fused, 2, whole));
    fused.row_part_count = 2;
    fused.row_parts[0] = 4;
    fused.row_parts[1] = 2;
    EXPECT(KLS_OK, kls_tensor_init(&apart[0], sizeof apart[0], 2, first));
    EXPECT(KLS_OK, kls_tensor_init(&apart[1], sizeof apart[1], 2, second));
    const char *failure = run(&config, &fused, 1, params, a);
    if (failure) return failure;
    failure = run(&config, apart, 2, parts, b);
    if (failure) return failure;
    CHECK(memcmp(a, b, sizeof a) == 0 && a[0] != 0 && a[COUNT - 1] != 0);
    return NULL;
}

static const char *blocks_have_states_of_their_own(void) {
    const uint64_t whole[2] = {M, N}, corner[2] = {3, 2};
    kls_config config;
    kls_tensor cut, alone;
    kls_optimizer *optimizer = NULL, *reference = NULL;
    kls_plan plan;
    size_t len = 0;
    uint64_t flops = 0;
    float a[COUNT] = {0}, gradient[COUNT], b[6] = {0}, corner_gradient[6], factor[9], expected[9];
    float *params[1] = {a}, *corner_params[1] = {b};
    const float *grads[1] = {gradient}, *corner_grads[1] = {corner_gradient};
    unsigned seed = 3;
    EXPECT(KLS_OK, kls_config_init(&config, sizeof config, KLS_METHOD_SOAP, KLS_CONVENTION_REFERENCE_SOAP));
    config.refresh_period = 2;
    EXPECT(KLS_OK, kls_tensor_init(&alone, sizeof alone, 2, corner));
    EXPECT(KLS_OK, kls_optimizer_create(&reference, &config, 1, &alone, 1, NULL));
    config.block_size = 3;
    EXPECT(KLS_OK, kls_tensor_init(&cut, sizeof cut, 2, whole));
    EXPECT(KLS_OK, kls_optimizer_create(&optimizer, &config, 1, &cut, 1, NULL));

    EXPECT(KLS_ERROR_INDEX, kls_optimizer_plan(optimizer, 1, &plan, sizeof plan));
    EXPECT(KLS_ERROR_STRUCT_SIZE, kls_optimizer_plan(optimizer, 0, &plan, sizeof plan - 1));
    EXPECT(KLS_ERROR_NULL, kls_optimizer_plan(optimizer, 0, NULL, sizeof plan));
    EXPECT(KLS_OK, kls_optimizer_plan(optimizer, 0, &plan, sizeof plan));
    CHECK(plan.order == 2 && plan.dims[0] == M && plan.dims[1] == N && plan.slices == 1 && plan.pieces == 4);
    /* P = 2 m n (m + n) per block: project, one triangle per side with its diagonal, apply. */
    CHECK(plan.step_flops == 5 * 2 * (9 * 6 + 6 * 5) + 2 * COUNT && plan.refresh_flops > plan.step_flops);
    CHECK(plan.state_bytes == 4 * (2 * COUNT + 2 * (18 + 13) + 2 * (12 + 9)) && plan.scratch_bytes > 0);
    EXPECT(KLS_ERROR_NULL, kls_optimizer_predicted_flops(optimizer, 1, NULL));
    EXPECT(KLS_OK, kls_optimizer_predicted_flops(optimizer, 2, &flops));
    CHECK(flops == plan.step_flops);
    EXPECT(KLS_OK, kls_optimizer_predicted_flops(optimizer, 3, &flops));
    CHECK(flops == plan.step_flops + plan.refresh_flops);
    CHECK(plan.segments[0] == 2 && plan.segments[1] == 2 && plan.modes[0] == KLS_MODE_FULL && plan.first_dim[1] == 1);

    /* Piece 3 is rows 3 to 5 of columns 3 and 4. */
    for (int step = 0; step < STEPS; step++) {
        for (int i = 0; i < COUNT; i++) gradient[i] = noise(&seed);
        for (int i = 0; i < 6; i++) corner_gradient[i] = gradient[(3 + i / 2) * N + 3 + i % 2];
        EXPECT(KLS_OK, kls_optimizer_step(optimizer, params, grads, 1, 0.01f));
        EXPECT(KLS_OK, kls_optimizer_step(reference, corner_params, corner_grads, 1, 0.01f));
    }
    for (int i = 0; i < 6; i++) CHECK(a[(3 + i / 2) * N + 3 + i % 2] == b[i] && b[i] != 0);
    EXPECT(KLS_OK, kls_optimizer_read_state(optimizer, 0, 3, KLS_STATE_FACTOR, 0, factor, 9));
    EXPECT(KLS_OK, kls_optimizer_read_state(reference, 0, 0, KLS_STATE_FACTOR, 0, expected, 9));
    CHECK(memcmp(factor, expected, sizeof factor) == 0);
    EXPECT(KLS_OK, kls_optimizer_state_len(optimizer, 0, 3, KLS_STATE_FACTOR, 1, &len));
    CHECK(len == 4);
    EXPECT(KLS_OK, kls_optimizer_state_len(optimizer, 0, 3, KLS_STATE_MOMENTUM, 0, &len));
    CHECK(len == 6);
    EXPECT(KLS_ERROR_INDEX, kls_optimizer_read_state(optimizer, 0, 4, KLS_STATE_FACTOR, 0, factor, 9));
    /* An unusable gradient in one piece stops the whole call, and nothing is written. */
    gradient[COUNT - 1] = NAN;
    memcpy(expected, a, sizeof expected);
    EXPECT(KLS_ERROR_GRADIENT_NOT_FINITE, kls_optimizer_step(optimizer, params, grads, 1, 0.01f));
    CHECK(memcmp(expected, a, sizeof expected) == 0);
    EXPECT(KLS_OK, kls_optimizer_destroy(&optimizer));
    EXPECT(KLS_OK, kls_optimizer_destroy(&reference));
    return NULL;
}

static const char *merged_dims_are_named(void) {
    const uint64_t dims[4] = {8, 2, 3, 3};
    kls_config config;
    kls_tensor tensor;
    kls_optimizer *optimizer = NULL;
    kls_plan plan;
    size_t size = 0, alignment = 0;
    EXPECT(KLS_OK, kls_config_init(&config, sizeof config, KLS_METHOD_KL_SHAMPOO, KLS_CONVENTION_FIGURE13));
    config.merge_dims = 12;
    EXPECT(KLS_OK, kls_tensor_init(&tensor, sizeof tensor, 4, dims));
    EXPECT(KLS_OK, kls_optimizer_create(&optimizer, &config, 1, &tensor, 1, NULL));
    EXPECT(KLS_OK, kls_optimizer_plan(optimizer, 0, &plan, sizeof plan));
    CHECK(plan.order == 3 && plan.dims[0] == 8 && plan.dims[1] == 6 && plan.dims[2] == 3);
    CHECK(plan.first_dim[0] == 0 && plan.first_dim[1] == 1 && plan.first_dim[2] == 3);
    EXPECT(KLS_OK, kls_optimizer_destroy(&optimizer));

    config.block_size = 1;
    tensor.dims[0] = 100000;
    EXPECT(KLS_ERROR_PIECES, kls_optimizer_query(&config, 1, &tensor, 1, &size, &alignment));
    return NULL;
}

const char *test_pieces(void) {
    const char *failure = rows_are_split();
    if (!failure) failure = blocks_have_states_of_their_own();
    return failure ? failure : merged_dims_are_named();
}
