/*
 * A least-squares fit by KL-Shampoo: W from samples of Y = T X. Prints the loss falling; 0 if it fell.
 *   cc -Iinclude bindings-c/examples/least_squares.c libklshampoo_ffi.a -lm -lpthread -ldl
 */
#include "klshampoo.h"
#include <stdio.h>

enum { OUT = 8, IN = 16, SAMPLES = 64, STEPS = 300 };

static float x[SAMPLES][IN], y[SAMPLES][OUT], w[OUT * IN], gradient[OUT * IN];

static float uniform(void) { /* in [-1, 1) */
    static uint32_t seed = 1;
    seed = seed * 1664525u + 1013904223u;
    return (float)(seed >> 8) / 8388608.0f - 1.0f;
}

static float loss_and_gradient(void) { /* of |W X - Y|^2 / (2 SAMPLES) */
    float loss = 0;
    for (int i = 0; i < OUT * IN; i++) gradient[i] = 0;
    for (int s = 0; s < SAMPLES; s++) {
        for (int i = 0; i < OUT; i++) {
            float error = -y[s][i];
            for (int j = 0; j < IN; j++) error += w[i * IN + j] * x[s][j];
            loss += error * error / (2 * SAMPLES);
            for (int j = 0; j < IN; j++) gradient[i * IN + j] += error * x[s][j] / SAMPLES;
        }
    }
    return loss;
}

int main(void) {
    const uint64_t dims[2] = {OUT, IN};
    float *params[1] = {w}, first = 0, last = 0;
    const float *grads[1] = {gradient};
    kls_config config;
    kls_tensor tensor;
    kls_optimizer *optimizer = NULL;

    for (int s = 0; s < SAMPLES; s++) { /* inputs of very different scales, and a matrix T of which y is made */
        for (int j = 0; j < IN; j++) x[s][j] = uniform() / (float)(1 + j);
        for (int i = 0; i < OUT; i++)
            for (int j = 0; j < IN; j++) y[s][i] += x[s][j] * (float)((3 * i + 5 * j) % 7 - 3);
    }
    kls_status status = kls_config_init(&config, sizeof config, KLS_METHOD_KL_SHAMPOO, KLS_CONVENTION_FIGURE13);
    if (!status) status = kls_tensor_init(&tensor, sizeof tensor, 2, dims);
    if (!status) status = kls_optimizer_create(&optimizer, &config, 1, &tensor, 1, NULL);
    for (int step = 0; !status && step <= STEPS; step++) {
        last = loss_and_gradient();
        if (step == 0) first = last;
        if (step % 50 == 0) printf("step %3d: loss %g\n", step, (double)last);
        status = kls_optimizer_step(optimizer, params, grads, 1, 0.1f * (1 - (float)step / STEPS));
    }
    if (status) fprintf(stderr, "%s\n", kls_status_string(status));
    (void)kls_optimizer_destroy(&optimizer);
    return status ? status : last < 1e-3f * first ? 0 : 1;
}
