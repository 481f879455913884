/* A training run that can end halfway and go on in another process. Files: <path>.state, <path>.safetensors and <path>.params. */
#include "check.h"
#include <stdio.h>
#include <string.h>

enum { TENSORS = 3, LONGEST = 6 * 40, ALL = 6 * 40 + 24 + 7, HALF = 100 };

static float params[ALL], grads[ALL];

typedef struct pointers {
    float *params[TENSORS];
    const float *grads[TENSORS];
} pointers;

static int32_t write_file(void *file, const void *bytes, size_t len) { return fwrite(bytes, 1, len, file) == len ? 0 : 1; }

static int32_t read_file(void *file, uint64_t offset, void *bytes, size_t len) {
    return fseek(file, (long)offset, SEEK_SET) == 0 && fread(bytes, 1, len, file) == len ? 0 : 1;
}

static void gradient(int step) { /* by the step alone; xorshift32 */
    uint32_t x = 2463534242u + 977u * (uint32_t)step;
    for (int i = 0; i < ALL; i++) {
        x ^= x << 13, x ^= x >> 17, x ^= x << 5;
        grads[i] = (float)(x >> 8) / 8388608.0f - 1.0f;
    }
}

static kls_status train(kls_optimizer *optimizer, const pointers *p, int from, int to) {
    kls_status status = KLS_OK;
    for (int step = from; !status && step < to; step++) {
        gradient(step);
        status = kls_optimizer_step(optimizer, p->params, p->grads, TENSORS, 0.01f);
    }
    return status;
}

static kls_status make(kls_optimizer **optimizer, int32_t method, pointers *p) {
    static const uint64_t dims[TENSORS][3] = {{6, 40}, {2, 3, 4}, {7}};
    static const uint32_t orders[TENSORS] = {2, 3, 1};
    kls_config group;
    kls_tensor tensors[TENSORS];
    kls_status status = kls_config_init(&group, sizeof group, method, KLS_CONVENTION_FIGURE13);
    int at = 0;
    group.block_size = 16;
    for (int i = 0; !status && i < TENSORS; i++) {
        int len = 1;
        status = kls_tensor_init(&tensors[i], sizeof tensors[i], orders[i], dims[i]);
        for (uint32_t k = 0; k < orders[i]; k++) len *= (int)dims[i][k];
        p->params[i] = params + at;
        p->grads[i] = grads + at;
        at += len;
    }
    for (int i = 0; i < ALL; i++) params[i] = 0.01f * (float)(i % 17);
    return status ? status : kls_optimizer_create(optimizer, &group, 1, tensors, TENSORS, NULL);
}

static const char *named(char *name, size_t size, const char *path, const char *end) {
    snprintf(name, size, "%s.%s", path, end);
    return name;
}

/* Trains the first half and saves it. */
const char *resume_first(int32_t method, const char *path) {
    char name[512];
    pointers p;
    kls_optimizer *optimizer = NULL;
    FILE *file;
    EXPECT(KLS_OK, make(&optimizer, method, &p));
    EXPECT(KLS_OK, train(optimizer, &p, 0, HALF));
    CHECK((file = fopen(named(name, sizeof name, path, "state"), "wb")) != NULL);
    EXPECT(KLS_OK, kls_optimizer_save_to(optimizer, write_file, file));
    CHECK(fclose(file) == 0);
    EXPECT(KLS_OK, kls_optimizer_save_file(optimizer, named(name, sizeof name, path, "safetensors")));
    CHECK((file = fopen(named(name, sizeof name, path, "params"), "wb")) != NULL);
    CHECK(fwrite(params, sizeof params, 1, file) == 1 && fclose(file) == 0);
    EXPECT(KLS_OK, kls_optimizer_destroy(&optimizer));
    return NULL;
}

/* Goes on from there, and compares with a run in one go. */
const char *resume_second(int32_t method, const char *path, int32_t safetensors) {
    static float resumed[ALL];
    char name[512];
    pointers p;
    kls_optimizer *optimizer = NULL;
    FILE *file;
    EXPECT(KLS_OK, make(&optimizer, method, &p));
    if (safetensors) {
        EXPECT(KLS_OK, kls_optimizer_load_file(optimizer, named(name, sizeof name, path, "safetensors")));
    } else {
        CHECK((file = fopen(named(name, sizeof name, path, "state"), "rb")) != NULL);
        EXPECT(KLS_OK, kls_optimizer_load_from(optimizer, read_file, file));
        CHECK(fclose(file) == 0);
    }
    CHECK((file = fopen(named(name, sizeof name, path, "params"), "rb")) != NULL);
    CHECK(fread(params, sizeof params, 1, file) == 1 && fclose(file) == 0);
    EXPECT(KLS_OK, train(optimizer, &p, HALF, 2 * HALF));
    memcpy(resumed, params, sizeof params);
    EXPECT(KLS_OK, kls_optimizer_destroy(&optimizer));

    EXPECT(KLS_OK, make(&optimizer, method, &p));
    EXPECT(KLS_OK, train(optimizer, &p, 0, 2 * HALF));
    EXPECT(KLS_OK, kls_optimizer_destroy(&optimizer));
    CHECK(memcmp(resumed, params, sizeof params) == 0);
    return NULL;
}
