#include "fixture.h"
#include <math.h>

enum { ROOM = 64 * 1024 };

/* From the GPU to the CPU and back, in the same bytes. */
const char *test_checkpoints(void) {
    static fixture f, g;
    static unsigned char saved[ROOM], again[ROOM], by_cpu[ROOM];
    uint64_t size = 0, cpu_size = 0;
    TRY(fixture_describe(&f, KLS_METHOD_KL_SHAMPOO));
    TRY(fixture_gpu(&f, device_stream()));
    TRY(fixture_cpu(&f));
    for (int step = 0; step < 7; step++) TRY(fixture_step_gpu(&f, step));
    EXPECT(KLS_OK, kls_cuda_save_size(f.gpu, &size));
    CHECK(kls_optimizer_save_size(f.cpu, &cpu_size) == KLS_OK && size == cpu_size && size < ROOM);
    EXPECT(KLS_ERROR_NULL, kls_cuda_save_size(f.gpu, NULL));

    memset(saved, 0x5a, sizeof saved);
    memcpy(again, saved, sizeof saved);
    SAYS(KLS_ERROR_MEMORY_TOO_SHORT, kls_cuda_save(f.gpu, saved, (size_t)size - 1, f.request.stream), f.gpu,
         "kls_cuda_save: len: The lent memory is shorter than the query says.");
    EXPECT(KLS_ERROR_NULL, kls_cuda_save(f.gpu, NULL, (size_t)size, f.request.stream));
    CHECK(memcmp(saved, again, sizeof saved) == 0);
    EXPECT_OF(f.gpu, KLS_OK, kls_cuda_save(f.gpu, saved, sizeof saved, f.request.stream));
    for (size_t i = (size_t)size; i < sizeof saved; i++) CHECK(saved[i] == 0x5a);

    /* The CPU takes it and says the same of itself. */
    CHECK(kls_optimizer_load(f.cpu, saved, (size_t)size) == KLS_OK);
    CHECK(kls_optimizer_save(f.cpu, by_cpu, sizeof by_cpu) == KLS_OK && memcmp(by_cpu, saved, (size_t)size) == 0);
    to_host(f.matrix, f.device_params[0], sizeof f.matrix);
    to_host(f.vector, f.device_params[1], sizeof f.vector);
    for (int step = 7; step < 12; step++) {
        TRY(fixture_step_cpu(&f, step));
        TRY(fixture_step_gpu(&f, step));
    }
    CHECK(fixture_difference(&f) < 1e-4);

    /* What the CPU has come to goes to another GPU's, which goes on with the bits of the one that it would have been. */
    CHECK(kls_optimizer_save(f.cpu, by_cpu, sizeof by_cpu) == KLS_OK);
    TRY(fixture_describe(&g, KLS_METHOD_KL_SHAMPOO));
    TRY(fixture_gpu(&g, NULL));
    TRY(fixture_step_gpu(&g, 90));
    EXPECT_OF(g.gpu, KLS_OK, kls_cuda_load(g.gpu, by_cpu, (size_t)size, NULL));
    EXPECT_OF(g.gpu, KLS_OK, kls_cuda_save(g.gpu, again, sizeof again, NULL));
    CHECK(memcmp(again, by_cpu, (size_t)size) == 0);
    to_device(g.device_params[0], f.matrix, sizeof f.matrix);
    to_device(g.device_params[1], f.vector, sizeof f.vector);
    memcpy(g.matrix, f.matrix, sizeof f.matrix);
    memcpy(g.vector, f.vector, sizeof f.vector);
    TRY(fixture_cpu(&g));
    CHECK(kls_optimizer_load(g.cpu, by_cpu, (size_t)size) == KLS_OK);
    for (int step = 12; step < 19; step++) {
        TRY(fixture_step_cpu(&g, step));
        TRY(fixture_step_gpu(&g, step));
    }
    CHECK(fixture_difference(&g) < 1e-4);

    /* A run that was interrupted has the bits of one that was not. */
    EXPECT_OF(g.gpu, KLS_OK, kls_cuda_load(g.gpu, saved, (size_t)size, NULL));
    EXPECT_OF(f.gpu, KLS_OK, kls_cuda_load(f.gpu, saved, (size_t)size, f.request.stream));
    to_device(f.device_params[0], f.matrix, sizeof f.matrix);
    to_device(f.device_params[1], f.vector, sizeof f.vector);
    to_device(g.device_params[0], f.matrix, sizeof f.matrix);
    to_device(g.device_params[1], f.vector, sizeof f.vector);
    for (int step = 7; step < 10; step++) TRY(fixture_step_gpu(&f, step));
    for (int step = 7; step < 8; step++) TRY(fixture_step_gpu(&g, step));
    EXPECT_OF(g.gpu, KLS_OK, kls_cuda_save(g.gpu, again, sizeof again, NULL));
    EXPECT_OF(g.gpu, KLS_OK, kls_cuda_load(g.gpu, again, (size_t)size, NULL));
    for (int step = 8; step < 10; step++) TRY(fixture_step_gpu(&g, step));
    to_host(f.matrix, f.device_params[0], sizeof f.matrix);
    to_host(g.matrix, g.device_params[0], sizeof g.matrix);
    CHECK(memcmp(f.matrix, g.matrix, sizeof f.matrix) == 0);

    /* Refused loads change nothing. */
    EXPECT_OF(g.gpu, KLS_OK, kls_cuda_save(g.gpu, saved, sizeof saved, NULL));
    EXPECT(KLS_ERROR_CHECKPOINT_TRUNCATED, kls_cuda_load(g.gpu, again, (size_t)size - 1, NULL));
    EXPECT(KLS_ERROR_NULL, kls_cuda_load(g.gpu, NULL, (size_t)size, NULL));
    EXPECT(KLS_ERROR_CHECKPOINT_FORMAT, kls_cuda_load(g.gpu, saved + 1, (size_t)size, NULL));
    again[size / 2] ^= 1;
    EXPECT(KLS_ERROR_CHECKPOINT_CHECKSUM, kls_cuda_load(g.gpu, again, (size_t)size, NULL));
    EXPECT_OF(g.gpu, KLS_OK, kls_cuda_save(g.gpu, again, sizeof again, NULL));
    CHECK(memcmp(saved, again, (size_t)size) == 0);
    TRY(fixture_end(&g));
    TRY(fixture_end(&f));
    return NULL;
}

/* After a skipped step too a run that was interrupted has the bits of one that was not: a save plans the refreshes as a load does. */
const char *test_checkpoints_after_skips(void) {
    static fixture f, g;
    static unsigned char saved[ROOM], one[ROOM], two[ROOM];
    static float a[MATRICES], b[MATRICES];
    const char *folder = getenv("KLS_TEST_FOLDER");
    const float nan = NAN;
    uint64_t size = 0;
    char path[512];
    CHECK(folder != NULL);
    snprintf(path, sizeof path, "%s/state.safetensors", folder);
    for (int to_file = 0; to_file < 2; to_file++) {
        TRY(fixture_describe(&f, KLS_METHOD_KL_SHAMPOO));
        TRY(fixture_gpu(&f, NULL));
        TRY(fixture_describe(&g, KLS_METHOD_KL_SHAMPOO));
        TRY(fixture_gpu(&g, NULL));
        EXPECT(KLS_OK, kls_cuda_save_size(f.gpu, &size));
        for (int step = 0; step < 4; step++) TRY(fixture_step_gpu(&f, step));
        to_device((float *)f.device_grads[0] + ROWS * COLUMNS + 3, &nan, sizeof nan);
        EXPECT_OF(f.gpu, KLS_OK, kls_cuda_step(f.gpu, &f.request));
        if (to_file) {
            EXPECT_OF(f.gpu, KLS_OK, kls_cuda_save_file(f.gpu, path, NULL));
            EXPECT_OF(g.gpu, KLS_OK, kls_cuda_load_file(g.gpu, path, NULL));
            CHECK(remove(path) == 0);
        } else {
            EXPECT_OF(f.gpu, KLS_OK, kls_cuda_save(f.gpu, saved, sizeof saved, NULL));
            EXPECT_OF(g.gpu, KLS_OK, kls_cuda_load(g.gpu, saved, (size_t)size, NULL));
        }
        to_host(a, f.device_params[0], sizeof a);
        to_device(g.device_params[0], a, sizeof a);
        to_host(f.vector, f.device_params[1], sizeof f.vector);
        to_device(g.device_params[1], f.vector, sizeof f.vector);
        for (int step = 5; step < 12; step++) {
            TRY(fixture_step_gpu(&f, step));
            TRY(fixture_step_gpu(&g, step));
            to_host(a, f.device_params[0], sizeof a);
            to_host(b, g.device_params[0], sizeof b);
            CHECK(memcmp(a, b, sizeof a) == 0);
        }
        EXPECT_OF(f.gpu, KLS_OK, kls_cuda_save(f.gpu, one, sizeof one, NULL));
        EXPECT_OF(g.gpu, KLS_OK, kls_cuda_save(g.gpu, two, sizeof two, NULL));
        CHECK(memcmp(one, two, (size_t)size) == 0);
        TRY(fixture_end(&g));
        TRY(fixture_end(&f));
    }
    return NULL;
}

/* Checkpoints whose counters no run has had, with the right checksums: what contradicts itself or cannot be counted is refused, the rest goes on as on
 * the CPU. */
const char *test_forged_counters(void) {
    static fixture f;
    static unsigned char memory[ROOM + 64], forged[ROOM], before[ROOM], after[ROOM];
    unsigned char *lent = memory + (64 - (uintptr_t)memory % 64) % 64;
    uint64_t counters[2] = {0, 0};
    kls_optimizer *optimizer = NULL;
    unsigned char *header = NULL;
    uint64_t size = 0;
    size_t needed = 0, alignment = 0;
    TRY(fixture_describe(&f, KLS_METHOD_KL_SHAMPOO));
    f.group.stagger = 0;
    TRY(fixture_gpu(&f, NULL));
    TRY(fixture_cpu(&f));
    CHECK(kls_optimizer_query(&f.group, 1, f.tensors, TENSORS, &needed, &alignment) == KLS_OK && needed <= ROOM && alignment == 64);
    CHECK(kls_optimizer_init(&optimizer, lent, needed, &f.group, 1, f.tensors, TENSORS) == KLS_OK);
    for (int step = 0; step < 4; step++) {
        fixture_gradients(&f, step);
        CHECK(kls_optimizer_step(optimizer, f.params, f.grads, TENSORS, 0.01f) == KLS_OK);
    }
    /* Steps, the last one with a refresh, and whether there is a basis: the first slice's header. */
    for (size_t at = 0; at + 24 <= needed && !header; at += 8) {
        const uint64_t wanted[2] = {4, 3};
        uint32_t started;
        memcpy(&started, lent + at + 16, sizeof started);
        if (memcmp(lent + at, wanted, sizeof wanted) == 0 && started == 1) header = lent + at;
    }
    CHECK(header != NULL);
    EXPECT_OF(f.gpu, KLS_OK, kls_cuda_save_size(f.gpu, &size));
    EXPECT_OF(f.gpu, KLS_OK, kls_cuda_save(f.gpu, before, sizeof before, NULL));
#define FORGE(step, last)                                                                      \
    do {                                                                                       \
        counters[0] = (step);                                                                  \
        counters[1] = (last);                                                                  \
        memcpy(header, counters, sizeof counters);                                             \
        CHECK(kls_optimizer_save(optimizer, forged, sizeof forged) == KLS_OK);                 \
    } while (0)
    FORGE(4, 5);
    EXPECT_OF(f.gpu, KLS_ERROR_CHECKPOINT_MALFORMED, kls_cuda_load(f.gpu, forged, (size_t)size, NULL));
    CHECK(kls_optimizer_load(f.cpu, forged, (size_t)size) == KLS_ERROR_CHECKPOINT_MALFORMED);
    FORGE((UINT64_C(1) << 40) + 1, 3);
    SAYS(KLS_ERROR_OVERFLOW, kls_cuda_load(f.gpu, forged, (size_t)size, NULL), f.gpu,
         "kls_cuda_load: A slice has counted more steps than the GPU's optimizer counts, 2^40.");
    EXPECT_OF(f.gpu, KLS_OK, kls_cuda_save(f.gpu, after, sizeof after, NULL));
    CHECK(memcmp(before, after, (size_t)size) == 0);
    FORGE(UINT64_C(1) << 40, 3);
    EXPECT_OF(f.gpu, KLS_OK, kls_cuda_load(f.gpu, forged, (size_t)size, NULL));
    TRY(fixture_step_gpu(&f, 4));
    EXPECT_OF(f.gpu, KLS_ERROR_OVERFLOW, kls_cuda_replayed(f.gpu, 1));
    /* No period has such a refresh; the next ones come when they would have come. */
    FORGE(5, 1);
    EXPECT_OF(f.gpu, KLS_OK, kls_cuda_load(f.gpu, forged, (size_t)size, NULL));
    CHECK(kls_optimizer_load(f.cpu, forged, (size_t)size) == KLS_OK);
    for (int i = 0; i < TENSORS; i++) to_device(f.device_params[i], f.params[i], i == 0 ? sizeof f.matrix : sizeof f.vector);
    for (int step = 5; step < 12; step++) {
        TRY(fixture_step_cpu(&f, step));
        TRY(fixture_step_gpu(&f, step));
    }
    CHECK(fixture_difference(&f) < 1e-4);
#undef FORGE
    return fixture_end(&f);
}

const char *test_checkpoint_files(void) {
    static fixture f, g;
    static unsigned char one[ROOM], two[ROOM];
    const char *folder = getenv("KLS_TEST_FOLDER");
    char path[512];
    uint64_t size = 0;
    CHECK(folder != NULL);
    snprintf(path, sizeof path, "%s/state.safetensors", folder);
    TRY(fixture_describe(&f, KLS_METHOD_KL_SHAMPOO));
    TRY(fixture_gpu(&f, NULL));
    TRY(fixture_describe(&g, KLS_METHOD_KL_SHAMPOO));
    TRY(fixture_cpu(&g));
    TRY(fixture_gpu(&g, NULL));
    for (int step = 0; step < 5; step++) TRY(fixture_step_gpu(&f, step));
    remove(path);
    EXPECT(KLS_ERROR_FILE_NOT_FOUND, kls_cuda_load_file(f.gpu, path, NULL));
    EXPECT(KLS_ERROR_NULL, kls_cuda_load_file(f.gpu, NULL, NULL));
    EXPECT(KLS_ERROR_NULL, kls_cuda_save_file(f.gpu, NULL, NULL));
    EXPECT(KLS_ERROR_FILE_NOT_FOUND, kls_cuda_save_file(f.gpu, "no_such_folder/state.safetensors", NULL));
    EXPECT_OF(f.gpu, KLS_OK, kls_cuda_save_file(f.gpu, path, NULL));
    /* Both take it. */
    EXPECT_OF(g.gpu, KLS_OK, kls_cuda_load_file(g.gpu, path, NULL));
    CHECK(kls_optimizer_load_file(g.cpu, path) == KLS_OK);
    EXPECT(KLS_OK, kls_cuda_save_size(f.gpu, &size));
    EXPECT_OF(g.gpu, KLS_OK, kls_cuda_save(g.gpu, one, sizeof one, NULL));
    CHECK(kls_optimizer_save(g.cpu, two, sizeof two) == KLS_OK && memcmp(one, two, (size_t)size) == 0);
    CHECK(remove(path) == 0);
    TRY(fixture_end(&g));
    return fixture_end(&f);
}
