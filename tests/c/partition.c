/* kls_table_partition: a table that is divided among ranks, and optimizers of the parts beside the one of the whole. */
#include "check.h"
#include <stdlib.h>
#include <string.h>

enum { TENSORS = 4, MOST_RANKS = 24, SLICES = 5 + 3 + 1 + 2, STEPS = 8, ELEMENTS = 5 * 30 + 3 * 9 + 12 * 7 + 2 * 16 };

static const uint64_t rows[TENSORS] = {6, 9, 12, 4}, columns[TENSORS] = {4, 1, 7, 4}, slices[TENSORS] = {5, 3, 1, 2};
static const uint64_t strides[TENSORS] = {30, 0, 0, 0};

static const char *describe(kls_config groups[2], kls_tensor tensors[TENSORS]) {
    EXPECT(KLS_OK, kls_config_init(&groups[0], sizeof groups[0], KLS_METHOD_KL_SHAMPOO, KLS_CONVENTION_FIGURE13));
    EXPECT(KLS_OK, kls_config_init(&groups[1], sizeof groups[1], KLS_METHOD_ADAMW, KLS_CONVENTION_FIGURE13));
    groups[0].refresh_period = 3;
    groups[0].stagger = 0;
    for (int t = 0; t < TENSORS; t++) {
        const uint64_t dims[2] = {rows[t], columns[t]};
        EXPECT(KLS_OK, kls_tensor_init(&tensors[t], sizeof tensors[t], t == 1 ? 1 : 2, dims));
        tensors[t].slices = slices[t];
        tensors[t].slice_stride = strides[t];
        tensors[t].group = t == 3;
    }
    return NULL;
}

/* The cost of one rank that has all is that of kls_optimizer_plan. */
static const char *costs_are_the_plans(void) {
    kls_config groups[2];
    kls_tensor tensors[TENSORS];
    kls_optimizer *optimizer = NULL;
    uint64_t firsts[2 * TENSORS], cost = 0, wanted = 0;
    const char *failure = describe(groups, tensors);
    if (failure) return failure;
    tensors[3].param_format = tensors[3].grad_format = KLS_FORMAT_BF16;
    tensors[3].master_weights = 1;
    EXPECT(KLS_OK, kls_optimizer_create(&optimizer, groups, 2, tensors, TENSORS, NULL));
    for (size_t t = 0; t < TENSORS; t++) {
        kls_plan plan;
        const uint64_t bytes = t == 3 ? 2 : 4;
        EXPECT(KLS_OK, kls_optimizer_plan(optimizer, t, &plan, sizeof plan));
        wanted += plan.step_flops + plan.refresh_flops / slices[t] / 3 * slices[t];
        wanted += 16 * (3 * bytes * rows[t] * columns[t] * slices[t] + 2 * plan.state_bytes);
    }
    EXPECT(KLS_OK, kls_optimizer_destroy(&optimizer));
    EXPECT(KLS_OK, kls_table_partition(groups, 2, tensors, TENSORS, 1, firsts, 2 * TENSORS, &cost));
    for (size_t t = 0; t < TENSORS; t++) CHECK(firsts[2 * t] == 0 && firsts[2 * t + 1] == slices[t]);
    CHECK(cost == wanted);
    return NULL;
}

/* The costs of ranks: in all the same, and none beyond the mean and a slice. */
static const char *is_balanced(void) {
    kls_config groups[2];
    kls_tensor tensors[TENSORS];
    uint64_t firsts[TENSORS * (MOST_RANKS + 1)], again[TENSORS * (MOST_RANKS + 1)], costs[MOST_RANKS], whole, largest = 0;
    const char *failure = describe(groups, tensors);
    if (failure) return failure;
    EXPECT(KLS_OK, kls_table_partition(groups, 2, tensors, TENSORS, 1, firsts, 2 * TENSORS, &whole));
    for (int t = 0; t < TENSORS; t++) {
        kls_tensor one = tensors[t];
        uint64_t own[2], cost;
        one.slices = 1;
        EXPECT(KLS_OK, kls_table_partition(groups, 2, &one, 1, 1, own, 2, &cost));
        if (cost > largest) largest = cost;
    }
    for (uint32_t ranks = 1; ranks <= MOST_RANKS; ranks++) {
        const size_t row = ranks + 1;
        uint64_t sum = 0, most = 0;
        EXPECT(KLS_OK, kls_table_partition(groups, 2, tensors, TENSORS, ranks, firsts, TENSORS * row, costs));
        for (int t = 0; t < TENSORS; t++) {
            CHECK(firsts[(size_t)t * row] == 0 && firsts[(size_t)t * row + ranks] == slices[t]);
            for (size_t r = 0; r < ranks; r++) CHECK(firsts[(size_t)t * row + r] <= firsts[(size_t)t * row + r + 1]);
        }
        for (size_t r = 0; r < ranks; r++) {
            sum += costs[r];
            if (costs[r] > most) most = costs[r];
            if (ranks <= SLICES) CHECK(costs[r] > 0);
        }
        CHECK(sum == whole && most * ranks <= sum + (ranks - 1) * largest);
        EXPECT(KLS_OK, kls_table_partition(groups, 2, tensors, TENSORS, ranks, again, TENSORS * row, NULL));
        CHECK(memcmp(firsts, again, TENSORS * row * sizeof *firsts) == 0);
    }
    return NULL;
}

static size_t places(size_t starts[TENSORS]) {
    size_t end = 0;
    for (int t = 0; t < TENSORS; t++) {
        starts[t] = end;
        end += (size_t)(slices[t] * (strides[t] ? strides[t] : rows[t] * columns[t]));
    }
    return end;
}

static void fill(float *values, uint32_t seed) {
    for (size_t i = 0; i < ELEMENTS; i++) {
        seed = seed * 1664525u + 1013904223u;
        values[i] = (float)(seed >> 8) / 16777216.0f - 0.5f;
    }
}

/* Optimizers of the parts, each of its own rank, write what the optimizer of the whole writes. */
static const char *parts_step_as_the_whole(uint32_t ranks) {
    static float whole[ELEMENTS], divided[ELEMENTS], grads[ELEMENTS];
    kls_config groups[2];
    kls_tensor tensors[TENSORS];
    kls_options options;
    kls_optimizer *optimizer = NULL, *parts[MOST_RANKS] = {NULL};
    uint64_t firsts[TENSORS * (MOST_RANKS + 1)];
    size_t starts[TENSORS], stepped = 0, state = 0, bytes;
    float *params[TENSORS];
    const float *from[TENSORS];
    const char *failure = describe(groups, tensors);
    if (failure) return failure;
    CHECK(places(starts) == ELEMENTS);
    EXPECT(KLS_OK, kls_options_init(&options, sizeof options));
    options.backend = KLS_BACKEND_PORTABLE;
    EXPECT(KLS_OK, kls_optimizer_create(&optimizer, groups, 2, tensors, TENSORS, &options));
    EXPECT(KLS_OK, kls_table_partition(groups, 2, tensors, TENSORS, ranks, firsts, TENSORS * (ranks + 1), NULL));
    fill(whole, 5);
    memcpy(divided, whole, sizeof divided);
    for (uint32_t step = 0; step < STEPS; step++) {
        fill(grads, 100 + step);
        for (int t = 0; t < TENSORS; t++) {
            params[t] = whole + starts[t];
            from[t] = grads + starts[t];
        }
        EXPECT(KLS_OK, kls_optimizer_step(optimizer, params, from, TENSORS, 0.01f));
        for (uint32_t rank = 0; rank < ranks; rank++) {
            kls_tensor own[TENSORS];
            size_t count = 0;
            for (size_t t = 0; t < TENSORS; t++) {
                const uint64_t *row = firsts + t * (ranks + 1) + rank;
                const size_t stride = (size_t)(strides[t] ? strides[t] : rows[t] * columns[t]);
                if (row[0] == row[1]) continue;
                own[count] = tensors[t];
                own[count].slices = row[1] - row[0];
                params[count] = divided + starts[t] + row[0] * stride;
                from[count++] = grads + starts[t] + row[0] * stride;
                if (step == 0) stepped += (size_t)(row[1] - row[0]);
            }
            if (step == 0) EXPECT(KLS_OK, kls_optimizer_create(&parts[rank], groups, 2, own, count, &options));
            EXPECT(KLS_OK, kls_optimizer_step(parts[rank], params, from, count, 0.01f));
        }
        CHECK(memcmp(whole, divided, sizeof whole) == 0);
    }
    CHECK(stepped == SLICES);
    for (uint32_t rank = 0; rank < ranks; rank++) {
        EXPECT(KLS_OK, kls_optimizer_state_bytes(parts[rank], &bytes));
        state += bytes;
        EXPECT(KLS_OK, kls_optimizer_destroy(&parts[rank]));
    }
    EXPECT(KLS_OK, kls_optimizer_state_bytes(optimizer, &bytes));
    CHECK(state == bytes);
    EXPECT(KLS_OK, kls_optimizer_destroy(&optimizer));
    return NULL;
}

static const char *errors(void) {
    kls_config groups[2];
    kls_tensor tensors[TENSORS];
    uint64_t firsts[3 * TENSORS], costs[2] = {1, 1};
    const char *failure = describe(groups, tensors);
    if (failure) return failure;
    memset(firsts, 0x55, sizeof firsts);
    EXPECT(KLS_ERROR_RANKS, kls_table_partition(groups, 2, tensors, TENSORS, 0, firsts, TENSORS, costs));
    EXPECT(KLS_ERROR_BUFFER_LENGTH, kls_table_partition(groups, 2, tensors, TENSORS, 2, firsts, 3 * TENSORS - 1, costs));
    EXPECT(KLS_ERROR_RANKS, kls_table_partition(groups, 2, tensors, TENSORS, UINT32_MAX, firsts, 3 * TENSORS, costs));
    EXPECT(KLS_ERROR_NULL, kls_table_partition(groups, 2, tensors, TENSORS, 2, NULL, 3 * TENSORS, costs));
    EXPECT(KLS_ERROR_NULL, kls_table_partition(groups, 2, NULL, TENSORS, 2, firsts, 3 * TENSORS, costs));
    EXPECT(KLS_ERROR_MISALIGNED, kls_table_partition(groups, 2, tensors, TENSORS, 2, (uint64_t *)(void *)((char *)firsts + 1), 3 * TENSORS, costs));
    tensors[2].group = 2;
    EXPECT(KLS_ERROR_GROUP, kls_table_partition(groups, 2, tensors, TENSORS, 2, firsts, 3 * TENSORS, costs));
    CHECK(strcmp(kls_last_error(NULL), "kls_table_partition: tensor 2, group: There is no such group.") == 0);
    tensors[2].group = 0;
    tensors[0].slices = 0;
    EXPECT(KLS_ERROR_SLICES, kls_table_partition(groups, 2, tensors, TENSORS, 2, firsts, 3 * TENSORS, costs));
    tensors[0].slices = (1 << 24) + 1;
    EXPECT(KLS_ERROR_SLICES, kls_table_partition(groups, 2, tensors, TENSORS, 2, firsts, 3 * TENSORS, costs));
    CHECK(strcmp(kls_last_error(NULL), "kls_table_partition: Tables of more than 2^24 slices are not divided.") == 0);
    for (int i = 0; i < 3 * TENSORS; i++) CHECK(firsts[i] == 0x5555555555555555u);
    CHECK(costs[0] == 1 && costs[1] == 1);
    EXPECT(KLS_ERROR_RANKS, kls_table_partition(groups, 2, NULL, 0, UINT32_MAX, NULL, 0, NULL));
    CHECK(strcmp(kls_last_error(NULL), "kls_table_partition: Tables are not divided among more than 2^24 ranks.") == 0);
    EXPECT(KLS_OK, kls_table_partition(groups, 2, NULL, 0, 2, NULL, 0, costs));
    CHECK(costs[0] == 0 && costs[1] == 0);
    return NULL;
}

const char *test_partition(void) {
    static const uint32_t ranks[] = {1, 2, 3, SLICES + 2};
    const char *failure = costs_are_the_plans();
    if (!failure) failure = is_balanced();
    for (size_t i = 0; i < sizeof ranks / sizeof ranks[0] && !failure; i++) failure = parts_step_as_the_whole(ranks[i]);
    return failure ? failure : errors();
}
