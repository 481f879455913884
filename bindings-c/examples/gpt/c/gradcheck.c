/* Checks the hand-written backward pass against central finite differences of the forward pass, tensor by tensor, on a small model whose
 * sizes leave every matrix tile ragged.
 *
 * In double every tested element must agree. In float the loss has too few digits for single elements: there the derivative along random
 * directions is compared, which still sees every element. */
#include "fastmath.h"
#include "model.h"
#include "rng.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { BATCH = 3, CONTEXT = 11, ELEMENTS = 24, DIRECTIONS = 4 };

static uint8_t tokens[BATCH * CONTEXT], targets[BATCH * CONTEXT];

static double loss(gpt_model *model) { return gpt_loss(model, tokens, targets, BATCH); }

#ifdef GPT_DOUBLE
static const double tolerance = 1e-6;

/* The largest error of elements spread over the tensor, relative to the tensor's largest gradient. */
static double check_tensor(gpt_model *model, const gpt_tensor *t, const real *gradient, rng *random) {
    double worst = 0, largest = 0;
    const double h = 1e-5;
    for (size_t i = 0; i < t->count; i++) largest = fmax(largest, fabs((double)gradient[t->offset + i]));
    for (int e = 0; e < ELEMENTS; e++) {
        const size_t i = t->offset + (size_t)(rng_uniform(random) * (double)t->count);
        const real saved = model->params[i];
        model->params[i] = (real)(saved + h);
        const double above = loss(model);
        model->params[i] = (real)(saved - h);
        const double below = loss(model);
        model->params[i] = saved;
        worst = fmax(worst, fabs((above - below) / (2 * h) - (double)gradient[i]));
    }
    return worst / largest;
}
#else
static const double tolerance = 1e-2;

/* The largest error of derivatives along random signs, relative to the gradient's norm, which is their root mean square. */
static double check_tensor(gpt_model *model, const gpt_tensor *t, const real *gradient, rng *random) {
    real *saved = malloc(2 * t->count * sizeof *saved), *sign = saved + t->count, *at = model->params + t->offset;
    if (!saved) return HUGE_VAL;
    double worst = 0, norm = 0, h = 0;
    for (size_t i = 0; i < t->count; i++) {
        saved[i] = at[i];
        norm += (double)gradient[t->offset + i] * (double)gradient[t->offset + i];
    }
    norm = sqrt(norm);
    h = 3e-2 / sqrt((double)t->count) / fmax(1, norm);
    for (int d = 0; d < DIRECTIONS; d++) {
        double expected = 0;
        for (size_t i = 0; i < t->count; i++) {
            sign[i] = rng_next(random) & 1 ? 1 : -1;
            expected += (double)sign[i] * (double)gradient[t->offset + i];
        }
        double side[2];
        for (int s = 0; s < 2; s++) {
            for (size_t i = 0; i < t->count; i++) at[i] = (real)((double)saved[i] + (s ? -h : h) * (double)sign[i]);
            side[s] = loss(model);
        }
        worst = fmax(worst, fabs((side[0] - side[1]) / (2 * h) - expected));
    }
    for (size_t i = 0; i < t->count; i++) at[i] = saved[i];
    free(saved);
    return worst / norm;
}
#endif

int main(void) {
    rng random = rng_stream(1, 2);
    gpt_model *model = gpt_create((gpt_config){.layers = 2, .channels = 20, .heads = 2, .context = CONTEXT}, BATCH);
    real *gradient = model ? malloc(model->parameter_count * sizeof *gradient) : NULL;
    if (!gradient) {
        gpt_destroy(model);
        fprintf(stderr, "gpt-gradcheck: out of memory\n");
        return 1;
    }
    gpt_initialize(model, 1);
    /* Away from the initial point, where biases are 0 and attention is nearly uniform, and gradients through them hide. */
    for (size_t i = 0; i < model->parameter_count; i++) model->params[i] += (real)(0.3 * rng_normal(&random));
    for (int i = 0; i < BATCH * CONTEXT; i++) {
        tokens[i] = (uint8_t)rng_next(&random);
        targets[i] = (uint8_t)rng_next(&random);
    }
    gpt_loss_and_gradient(model, tokens, targets, BATCH);
    for (size_t i = 0; i < model->parameter_count; i++) gradient[i] = model->grads[i];

    int failures = 0;
    for (int i = 0; i < GPT_TENSORS; i++) {
        const double error = check_tensor(model, &model->tensors[i], gradient, &random);
        const int good = error < tolerance;
        failures += !good;
        printf("%-9s relative error %.1e %s\n", model->tensors[i].name, error, good ? "ok" : "WRONG");
    }
    double worst = 0;
    for (double x = -80; x <= 80; x += 1e-3) worst = fmax(worst, fabs((double)fast_exp((real)x) / exp((double)(real)x) - 1));
    const int good = worst < 3e-7;
    failures += !good;
    printf("%-9s relative error %.1e %s\n", "fast_exp", worst, good ? "ok" : "WRONG");
    free(gradient);
    gpt_destroy(model);
    return failures != 0;
}
