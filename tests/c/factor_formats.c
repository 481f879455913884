/* Factors and bases in 16 bits: what they save, that they train, and that nothing is mixed up. */
#include "check.h"
#include "fixture.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS_16 = 16, COLUMNS_32 = 32, NUMBERS = ROWS_16 * COLUMNS_32 };

/* An optimizer of one 16 x 32 matrix on the heap. */
static const char *make(kls_optimizer **optimizer, int32_t format, uint32_t threads) {
    const uint64_t dims[2] = {ROWS_16, COLUMNS_32};
    kls_config config;
    kls_tensor tensor;
    kls_options options;
    EXPECT(KLS_OK, kls_config_init(&config, sizeof config, KLS_METHOD_KL_SHAMPOO, KLS_CONVENTION_FIGURE13));
    CHECK(config.factor_format == KLS_FORMAT_F32);
    config.factor_format = format;
    EXPECT(KLS_OK, kls_tensor_init(&tensor, sizeof tensor, 2, dims));
    EXPECT(KLS_OK, kls_options_init(&options, sizeof options));
    options.num_threads = threads;
    EXPECT(KLS_OK, kls_optimizer_create(optimizer, &config, 1, &tensor, 1, &options));
    return NULL;
}

static const char *train(kls_optimizer *optimizer, float *param, int from, int to) {
    float grad[NUMBERS], *const params[1] = {param};
    const float *const grads[1] = {grad};
    for (int step = from; step < to; step++) {
        for (int i = 0; i < NUMBERS; i++) grad[i] = (float)((i * 37 + step * 11 + i / 7 * step) % 29 - 14) / (float)(10 * (1 + i % COLUMNS_32));
        EXPECT(KLS_OK, kls_optimizer_step(optimizer, params, grads, 1, 0.01f));
    }
    return NULL;
}

const char *test_factor_formats(void) {
    const int32_t formats[3] = {KLS_FORMAT_F32, KLS_FORMAT_BF16, KLS_FORMAT_F16};
    const uint64_t bytes[3] = {10016 + 64, 6128 + 64, 6128 + 64};
    static float param[3][NUMBERS], again[NUMBERS], basis[ROWS_16 * ROWS_16];
    unsigned char *saved[3] = {NULL, NULL, NULL};
    uint64_t sizes[3] = {0, 0, 0}, scratch = 0;
    kls_optimizer *made[3] = {NULL, NULL, NULL}, *other = NULL;
    const char *failure;
    for (int i = 0; i < 3; i++) {
        kls_memory memory;
        if ((failure = make(&made[i], formats[i], 1))) return failure;
        EXPECT(KLS_OK, kls_optimizer_memory(made[i], &memory, sizeof memory));
        CHECK(memory.state_bytes == bytes[i]);
        /* No scratch more. */
        CHECK(i == 0 || memory.scratch_bytes == scratch);
        scratch = memory.scratch_bytes;
        memset(param[i], 0, sizeof param[i]);
        if ((failure = train(made[i], param[i], 0, 60))) return failure;
        EXPECT(KLS_OK, kls_optimizer_save_size(made[i], &sizes[i]));
        saved[i] = malloc((size_t)sizes[i]);
        CHECK(saved[i] != NULL);
        EXPECT(KLS_OK, kls_optimizer_save(made[i], saved[i], (size_t)sizes[i]));
    }
    CHECK(sizes[1] == sizes[2] && sizes[1] < sizes[0] - 3500);
    /* Near f32, binary16 nearer, and neither the same. */
    for (int i = 1; i < 3; i++) {
        double error = 0, length = 0;
        for (int j = 0; j < NUMBERS; j++) {
            error += pow((double)param[i][j] - (double)param[0][j], 2);
            length += pow((double)param[0][j], 2);
        }
        CHECK(error > 0 && sqrt(error / length) < (i == 1 ? 2e-2 : 4e-3));
    }
    /* A basis that has been read can be set, and is orthogonal but for its rounding. */
    EXPECT(KLS_OK, kls_optimizer_read_state(made[1], 0, 0, KLS_STATE_BASIS, 0, basis, ROWS_16 * ROWS_16));
    for (int i = 0; i < ROWS_16 * ROWS_16; i++) {
        uint32_t word;
        memcpy(&word, &basis[i], sizeof word);
        CHECK((word & 0xffffu) == 0);
    }
    EXPECT(KLS_OK, kls_optimizer_set_basis(made[1], 0, 0, 0, basis, ROWS_16 * ROWS_16));
    basis[0] += 0.1f;
    EXPECT(KLS_ERROR_NOT_ORTHOGONAL, kls_optimizer_set_basis(made[1], 0, 0, 0, basis, ROWS_16 * ROWS_16));
    /* The state goes into an optimizer of its own format alone, and on from there with the same bits, with other threads too. */
    for (int i = 0; i < 3; i++) {
        for (int j = 0; j < 3; j++) {
            if ((failure = make(&other, formats[j], 2))) return failure;
            EXPECT(i == j ? KLS_OK : KLS_ERROR_CHECKPOINT_ELEMENT, kls_optimizer_load(other, saved[i], (size_t)sizes[i]));
            if (i == j && i != 1) {
                memcpy(again, param[i], sizeof again);
                if ((failure = train(other, again, 60, 75)) || (failure = train(made[i], param[i], 60, 75))) return failure;
                CHECK(memcmp(again, param[i], sizeof again) == 0);
            }
            EXPECT(KLS_OK, kls_optimizer_destroy(&other));
        }
    }
    for (int i = 0; i < 3; i++) {
        free(saved[i]);
        EXPECT(KLS_OK, kls_optimizer_destroy(&made[i]));
    }
    return NULL;
}

/* A program of the second header knows nothing of it: its structs end before, and its factors stay in f32. */
const char *test_config_of_the_second_header(void) {
    static fixture f;
    enum { SIZE = offsetof(kls_config, factor_format) };
    union {
        uint64_t aligned;
        unsigned char bytes[2 * SIZE];
    } old;
    kls_config config;
    size_t sizes[3], alignment;
    const char *failure = fixture_describe(&f);
    if (failure) return failure;
    memset(&old, 0x5a, sizeof old);
    for (int i = 0; i < 2; i++) {
        kls_config *const start = (kls_config *)(void *)(old.bytes + i * SIZE);
        EXPECT(KLS_OK, kls_config_init(start, SIZE, i ? KLS_METHOD_SOAP : KLS_METHOD_KL_SHAMPOO, KLS_CONVENTION_FIGURE13));
        EXPECT(KLS_OK, kls_config_init(&config, sizeof config, i ? KLS_METHOD_SOAP : KLS_METHOD_KL_SHAMPOO, KLS_CONVENTION_FIGURE13));
        config.struct_size = SIZE;
        CHECK(memcmp(start, &config, SIZE) == 0);
    }
    EXPECT(KLS_OK, kls_optimizer_query((const kls_config *)(const void *)old.bytes, 2, f.tensors, 2, &sizes[0], &alignment));
    EXPECT(KLS_OK, kls_config_init(&config, sizeof config, KLS_METHOD_KL_SHAMPOO, KLS_CONVENTION_FIGURE13));
    EXPECT(KLS_OK, kls_optimizer_query((const kls_config *)(const void *)old.bytes, 1, f.tensors, 2, &sizes[1], &alignment));
    EXPECT(KLS_OK, kls_optimizer_query(&config, 1, f.tensors, 2, &sizes[2], &alignment));
    CHECK(sizes[1] == sizes[2] && sizes[0] > sizes[1]);
    config.factor_format = KLS_FORMAT_BF16;
    EXPECT(KLS_OK, kls_optimizer_query(&config, 1, f.tensors, 2, &sizes[2], &alignment));
    CHECK(sizes[2] < sizes[1]);
    EXPECT(KLS_ERROR_STRUCT_SIZE, kls_config_init(&config, SIZE + 4, KLS_METHOD_KL_SHAMPOO, KLS_CONVENTION_FIGURE13));
    return NULL;
}
