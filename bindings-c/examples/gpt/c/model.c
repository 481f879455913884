#include "model.h"
#include "ops.h"
#include "rng.h"
#include <math.h>
#include <stdlib.h>

static void describe_tensors(gpt_model *model) {
    const int l = model->config.layers, c = model->config.channels;
    const gpt_tensor table[GPT_TENSORS] = {
        [GPT_WTE] = {"wte", GPT_EMBEDDING, 1, GPT_VOCABULARY, c, 0, 0},
        [GPT_WPE] = {"wpe", GPT_EMBEDDING, 1, model->config.context, c, 0, 0},
        [GPT_LN1W] = {"ln1w", GPT_VECTOR, l, 1, c, 0, 0},
        [GPT_LN1B] = {"ln1b", GPT_VECTOR, l, 1, c, 0, 0},
        [GPT_QKVW] = {"qkvw", GPT_HIDDEN_MATRIX, l, 3 * c, c, 0, 0},
        [GPT_QKVB] = {"qkvb", GPT_VECTOR, l, 1, 3 * c, 0, 0},
        [GPT_ATTPROJW] = {"attprojw", GPT_HIDDEN_MATRIX, l, c, c, 0, 0},
        [GPT_ATTPROJB] = {"attprojb", GPT_VECTOR, l, 1, c, 0, 0},
        [GPT_LN2W] = {"ln2w", GPT_VECTOR, l, 1, c, 0, 0},
        [GPT_LN2B] = {"ln2b", GPT_VECTOR, l, 1, c, 0, 0},
        [GPT_FCW] = {"fcw", GPT_HIDDEN_MATRIX, l, 4 * c, c, 0, 0},
        [GPT_FCB] = {"fcb", GPT_VECTOR, l, 1, 4 * c, 0, 0},
        [GPT_FCPROJW] = {"fcprojw", GPT_HIDDEN_MATRIX, l, c, 4 * c, 0, 0},
        [GPT_FCPROJB] = {"fcprojb", GPT_VECTOR, l, 1, c, 0, 0},
        [GPT_LNFW] = {"lnfw", GPT_VECTOR, 1, 1, c, 0, 0},
        [GPT_LNFB] = {"lnfb", GPT_VECTOR, 1, 1, c, 0, 0},
    };
    for (int i = 0; i < GPT_TENSORS; i++) {
        gpt_tensor *t = &model->tensors[i];
        *t = table[i];
        t->offset = model->parameter_count;
        t->count = (size_t)t->slices * (size_t)t->rows * (size_t)t->columns;
        model->parameter_count += t->count;
    }
}

/* Hands out pieces of the arena; with a NULL arena it only adds them up. */
typedef struct {
    real *base;
    size_t used;
} carver;

static real *carve(carver *from, size_t count) {
    real *piece = from->base ? from->base + from->used : NULL;
    from->used += (count + 15) / 16 * 16; /* every piece starts on a cache line */
    return piece;
}

static void carve_layer(carver *from, gpt_layer *layer, size_t rows, size_t channels, size_t attention) {
    layer->ln1 = carve(from, rows * channels);
    layer->ln1_mean = carve(from, rows);
    layer->ln1_rstd = carve(from, rows);
    layer->qkv = carve(from, rows * 3 * channels);
    layer->attention = carve(from, attention);
    layer->heads = carve(from, rows * channels);
    layer->after_attention = carve(from, rows * channels);
    layer->ln2 = carve(from, rows * channels);
    layer->ln2_mean = carve(from, rows);
    layer->ln2_rstd = carve(from, rows);
    layer->fc = carve(from, rows * 4 * channels);
    layer->gelu = carve(from, rows * 4 * channels);
    layer->out = carve(from, rows * channels);
}

static size_t carve_all(gpt_model *model, real *arena) {
    carver from = {arena, 0};
    const size_t t = (size_t)model->config.context, c = (size_t)model->config.channels;
    const size_t rows = (size_t)model->max_batch * t;
    const size_t attention = rows * t * (size_t)model->config.heads;
    model->params = carve(&from, model->parameter_count);
    model->grads = carve(&from, model->parameter_count);
    model->embedded = carve(&from, rows * c);
    for (int l = 0; l < model->config.layers; l++) carve_layer(&from, &model->layers[l], rows, c, attention);
    model->lnf = carve(&from, rows * c);
    model->lnf_mean = carve(&from, rows);
    model->lnf_rstd = carve(&from, rows);
    model->logits = carve(&from, rows * GPT_VOCABULARY);
    model->d_residual = carve(&from, rows * c);
    model->d_channels = carve(&from, rows * c);
    model->d_heads = carve(&from, rows * c);
    model->d_qkv = carve(&from, rows * 3 * c);
    model->d_fc = carve(&from, rows * 4 * c);
    model->d_attention = carve(&from, t * t);
    return from.used;
}

gpt_model *gpt_create(gpt_config config, int max_batch) {
    gpt_model *model = calloc(1, sizeof *model);
    if (!model) return NULL;
    model->config = config;
    model->max_batch = max_batch;
    describe_tensors(model);
    model->layers = calloc((size_t)config.layers, sizeof *model->layers);
    if (model->layers) {
        const size_t count = carve_all(model, NULL);
        model->arena = aligned_alloc(64, (count * sizeof(real) + 63) / 64 * 64);
    }
    if (!model->arena) {
        gpt_destroy(model);
        return NULL;
    }
    carve_all(model, model->arena);
    for (size_t i = 0; i < model->parameter_count; i++) model->params[i] = model->grads[i] = 0;
    return model;
}

void gpt_destroy(gpt_model *model) {
    if (!model) return;
    free(model->arena);
    free(model->layers);
    free(model);
}

void gpt_initialize(gpt_model *model, uint64_t seed) {
    rng random = rng_stream(seed, 0);
    const double residual = 0.02 / sqrt(2.0 * model->config.layers);
    for (int i = 0; i < GPT_TENSORS; i++) {
        const gpt_tensor *t = &model->tensors[i];
        real *values = model->params + t->offset;
        if (t->kind == GPT_VECTOR) {
            const bool is_scale = i == GPT_LN1W || i == GPT_LN2W || i == GPT_LNFW;
            for (size_t j = 0; j < t->count; j++) values[j] = is_scale ? 1 : 0;
        } else {
            const double deviation = i == GPT_ATTPROJW || i == GPT_FCPROJW ? residual : 0.02;
            for (size_t j = 0; j < t->count; j++) values[j] = (real)(deviation * rng_normal(&random));
        }
    }
}

double gpt_loss(gpt_model *model, const uint8_t *tokens, const uint8_t *targets, int batch) {
    const int rows = batch * model->config.context;
    gpt_forward(model, tokens, batch, false);
    return cross_entropy(rows, GPT_VOCABULARY, model->logits, targets) / rows;
}

double gpt_loss_and_gradient(gpt_model *model, const uint8_t *tokens, const uint8_t *targets, int batch) {
    const int rows = batch * model->config.context;
    gpt_forward(model, tokens, batch, true);
    const double loss = cross_entropy_backward(rows, GPT_VOCABULARY, 1 / (real)rows, targets, model->logits) / rows;
    for (size_t i = 0; i < model->parameter_count; i++) model->grads[i] = 0;
    gpt_backward(model);
    return loss;
}
