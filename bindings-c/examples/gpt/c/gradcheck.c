/* Checks the hand-written backward pass against central finite differences of the forward pass, tensor by tensor, on a small model whose
 * sizes leave every matrix tile ragged.
 *
 * In double every tested element must agree. In float the loss has too few digits for single elements: there the derivative along random
 * directions is compared, which still sees every element. */
#include "fastmath.h"
#include "model.h"
#include "ops.h"
#include "rng.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { BATCH = 3, CONTEXT = 11, ELEMENTS = 24, DIRECTIONS = 4 };

static uint8_t tokens[BATCH * CONTEXT], targets[BATCH * CONTEXT];

/* What the gradient belongs to, and whether every row still has the experts that `chosen` holds, layer after layer: where the routing
 * changes, the loss jumps, and a difference across the jump is no derivative. */
static double loss(gpt_model *model, const int *chosen, bool *same) {
    const size_t count = (size_t)(BATCH * CONTEXT * model->config.experts_per_token);
    gpt_forward(model, tokens, BATCH, true);
    for (int l = 0; model->config.experts && l < model->config.layers; l++)
        *same &= memcmp(model->layers[l].routing.chosen, chosen + (size_t)l * count, count * sizeof *chosen) == 0;
    return cross_entropy(BATCH * CONTEXT, GPT_VOCABULARY, model->logits, targets) / (BATCH * CONTEXT) + model->balance_loss;
}

/* So many steps may be drawn again because they change the routing. */
enum { REDRAWS = 100 };

#ifdef GPT_DOUBLE
static const double tolerance = 1e-6;

/* The largest error of elements spread over the tensor, relative to the tensor's largest gradient. */
static double check_tensor(gpt_model *model, const gpt_tensor *t, const real *gradient, const int *chosen, rng *random) {
    double worst = 0, largest = 0;
    int redraws = 0;
    const double h = 1e-5;
    for (size_t i = 0; i < t->count; i++) largest = fmax(largest, fabs((double)gradient[t->offset + i]));
    for (int e = 0; e < ELEMENTS; e++) {
        const size_t i = t->offset + (size_t)(rng_uniform(random) * (double)t->count);
        const real saved = model->params[i];
        model->params[i] = (real)(saved + h);
        bool same = true;
        const double above = loss(model, chosen, &same);
        model->params[i] = (real)(saved - h);
        const double below = loss(model, chosen, &same);
        model->params[i] = saved;
        if (!same) {
            if (++redraws > REDRAWS) return HUGE_VAL;
            e--;
            continue;
        }
        worst = fmax(worst, fabs((above - below) / (2 * h) - (double)gradient[i]));
    }
    return worst / largest;
}
#else
static const double tolerance = 1e-2;

/* The largest error of derivatives along random signs, relative to the gradient's norm, which is their root mean square. */
static double check_tensor(gpt_model *model, const gpt_tensor *t, const real *gradient, const int *chosen, rng *random) {
    int redraws = 0;
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
        bool same = true;
        double expected = 0;
        for (size_t i = 0; i < t->count; i++) {
            sign[i] = rng_next(random) & 1 ? 1 : -1;
            expected += (double)sign[i] * (double)gradient[t->offset + i];
        }
        double side[2];
        for (int s = 0; s < 2; s++) {
            for (size_t i = 0; i < t->count; i++) at[i] = (real)((double)saved[i] + (s ? -h : h) * (double)sign[i]);
            side[s] = loss(model, chosen, &same);
        }
        if (!same) {
            if (++redraws > REDRAWS) break;
            d--;
            continue;
        }
        worst = fmax(worst, fabs((side[0] - side[1]) / (2 * h) - expected));
    }
    for (size_t i = 0; i < t->count; i++) at[i] = saved[i];
    free(saved);
    return redraws > REDRAWS ? HUGE_VAL : worst / norm;
}
#endif

/* The number of tensors whose gradient is wrong. */
static int check_model(const char *title, gpt_config config) {
    rng random = rng_stream(1, 2);
    const size_t slots = (size_t)(BATCH * CONTEXT * config.experts_per_token);
    gpt_model *model = gpt_create(config, BATCH);
    real *gradient = model ? malloc(model->parameter_count * sizeof *gradient) : NULL;
    int *chosen = calloc((size_t)config.layers * slots + 1, sizeof *chosen);
    if (!gradient || !chosen) {
        fprintf(stderr, "gpt-gradcheck: out of memory\n");
        exit(EXIT_FAILURE);
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
    for (int l = 0; config.experts && l < config.layers; l++)
        memcpy(chosen + (size_t)l * slots, model->layers[l].routing.chosen, slots * sizeof *chosen);

    int failures = 0;
    puts(title);
    for (int i = 0; i < model->tensor_count; i++) {
        const double error = check_tensor(model, &model->tensors[i], gradient, chosen, &random);
        const int good = error < tolerance;
        failures += !good;
        printf("  %-9s relative error %.1e %s\n", model->tensors[i].name, error, good ? "ok" : "WRONG");
    }
    free(chosen);
    free(gradient);
    gpt_destroy(model);
    return failures;
}

static int check_exp(void) {
    double worst = 0;
    for (double x = -80; x <= 80; x += 1e-3) worst = fmax(worst, fabs((double)fast_exp((real)x) / exp((double)(real)x) - 1));
    const int good = worst < 3e-7;
    printf("fast_exp relative error %.1e %s\n", worst, good ? "ok" : "WRONG");
    return !good;
}

int main(void) {
    gpt_config config = {.layers = 2, .channels = 20, .heads = 2, .context = CONTEXT};
    int failures = check_exp() + check_model("dense", config);
    config.experts = 5;
    config.expert_width = 7;
    config.balance = 1; /* so that its gradient is seen beside that of the loss */
    for (config.experts_per_token = 1; config.experts_per_token <= 3; config.experts_per_token++) {
        char title[64];
        snprintf(title, sizeof title, "%d of %d experts per token", config.experts_per_token, config.experts);
        failures += check_model(title, config);
    }
    return failures != 0;
}
