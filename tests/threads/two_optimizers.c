/*
 * Two optimizers, each with one thread, stepped by two threads at once: they share nothing. For valgrind --tool=helgrind, which finds
 * what two threads touch without a lock.
 *   cc -Iinclude tests/threads/two_optimizers.c libklshampoo_ffi.a -lm -lpthread -ldl && valgrind --tool=helgrind ./a.out
 */
#include "klshampoo.h"
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

enum { ROWS = 70, COLUMNS = 80, STEPS = 12 };

typedef struct life {
    const char *name;
    kls_status failed;
    float param[ROWS * COLUMNS];
} life;

/* From the first call to the last, errors and texts included. */
static void *live(void *pointer) {
    life *l = pointer;
    const uint64_t dims[2] = {ROWS, COLUMNS};
    float grad[ROWS * COLUMNS];
    float *params[1] = {l->param};
    const float *grads[1] = {grad};
    kls_config config;
    kls_tensor tensor, small;
    kls_optimizer *optimizer = NULL;
    kls_status status = kls_config_init(&config, sizeof config, KLS_METHOD_KL_SHAMPOO, KLS_CONVENTION_FIGURE13);
    memset(l->param, 0, sizeof l->param);
    config.refresh_period = 3;
    if (!status) status = kls_tensor_init(&tensor, sizeof tensor, 2, dims);
    tensor.name = l->name;
    small = tensor;
    small.dims[0] = 3;
    if (!status) status = kls_optimizer_create(&optimizer, &config, 1, &tensor, 1, NULL);
    for (int step = 0; !status && step < STEPS; step++) {
        for (int i = 0; i < ROWS * COLUMNS; i++) grad[i] = sinf((float)(step * 31 + 1) * (float)(i + 1));
        status = kls_optimizer_step(optimizer, params, grads, 1, 0.01f);
    }
    if (!status) status = kls_optimizer_add_tensors(optimizer, &small, 1);
    grad[0] = NAN;
    if (!status && kls_optimizer_step_tensor(optimizer, 1, l->param, grad, 0.01f) != KLS_ERROR_GRADIENT_NOT_FINITE) status = -1;
    if (!status && !strstr(kls_last_error(optimizer), l->name)) status = -1;
    small.dims[1] = 0;
    if (!status && kls_optimizer_create(&optimizer, &config, 1, &small, 1, NULL) != KLS_ERROR_ZERO_DIM) status = -1;
    if (!status && !strstr(kls_last_error(NULL), l->name)) status = -1;
    if (!status) status = kls_optimizer_destroy(&optimizer);
    l->failed = status;
    return NULL;
}

int main(void) {
    static life lives[3] = {{.name = "alone"}, {.name = "left"}, {.name = "right"}};
    pthread_t threads[2];
    /* What is looked up once, such as the processor's features, is kept in atomics, which helgrind takes for plain memory: here it is looked up
     * before there are threads. */
    live(&lives[0]);
    for (int i = 0; i < 2; i++)
        if (pthread_create(&threads[i], NULL, live, &lives[1 + i]) != 0) return 2;
    for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
    for (int i = 0; i < 3; i++) {
        if (lives[i].failed) {
            printf("%s: status %d\n", lives[i].name, (int)lives[i].failed);
            return 1;
        }
        if (memcmp(lives[i].param, lives[0].param, sizeof lives[i].param) != 0) {
            printf("%s: other parameters\n", lives[i].name);
            return 1;
        }
    }
    puts("two optimizers in two threads: ok");
    return 0;
}
