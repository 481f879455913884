/*
 * KL-Shampoo in lent memory: no heap, no threads. Fits W in y = W x by gradient descent on random x.
 *   cc -Iinclude bindings-c/examples/lent.c libklshampoo_ffi.a -lm
 */
#include "klshampoo.h"

enum { ROWS = 8, COLUMNS = 16, STEPS = 300 };

static float w[ROWS * COLUMNS], grad[ROWS * COLUMNS], target[ROWS * COLUMNS];
static union {
    max_align_t alignment;
    unsigned char bytes[32 * 1024];
} memory;

static float uniform(void) { /* xorshift32, in [-1, 1) */
    static uint32_t x = 2463534242u;
    x ^= x << 13, x ^= x >> 17, x ^= x << 5;
    return (float)(x >> 8) / 8388608.0f - 1.0f;
}

static float loss_and_gradient(void) { /* mean of |(W - target) x|^2 over 4 random x of very different scales */
    float loss = 0, x[COLUMNS];
    for (int i = 0; i < ROWS * COLUMNS; i++) grad[i] = 0;
    for (int sample = 0; sample < 4; sample++) {
        for (int j = 0; j < COLUMNS; j++) x[j] = uniform() / (float)(1 + j);
        for (int i = 0; i < ROWS; i++) {
            float error = 0;
            for (int j = 0; j < COLUMNS; j++) error += (w[i * COLUMNS + j] - target[i * COLUMNS + j]) * x[j];
            loss += error * error / 4;
            for (int j = 0; j < COLUMNS; j++) grad[i * COLUMNS + j] += error * x[j] / 2;
        }
    }
    return loss;
}

int main(void) {
    const uint64_t dims[2] = {ROWS, COLUMNS};
    float *params[1] = {w}, first = 0, last = 0;
    const float *grads[1] = {grad};
    size_t size, alignment;
    kls_config config;
    kls_tensor tensor;
    kls_optimizer *optimizer;

    for (int i = 0; i < ROWS * COLUMNS; i++) target[i] = uniform();
    kls_status status = kls_config_init(&config, sizeof config, KLS_METHOD_KL_SHAMPOO, KLS_CONVENTION_FIGURE13);
    if (!status) status = kls_tensor_init(&tensor, sizeof tensor, 2, dims);
    if (!status) status = kls_optimizer_query(&config, 1, &tensor, 1, &size, &alignment);
    if (status) return status;
    const size_t skip = (alignment - (uintptr_t)memory.bytes % alignment) % alignment;
    status = kls_optimizer_init(&optimizer, memory.bytes + skip, sizeof memory.bytes - skip, &config, 1, &tensor, 1);
    for (int step = 0; !status && step < STEPS; step++) {
        last = loss_and_gradient();
        if (step == 0) first = last;
        status = kls_optimizer_step(optimizer, params, grads, 1, 0.03f * (1 - (float)step / STEPS));
    }
    return status ? status : last < 1e-3f * first ? 0 : 1;
}
