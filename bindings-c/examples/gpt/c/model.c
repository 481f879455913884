#include "model.h"
#include "ops.h"
#include "rng.h"
#include <math.h>
#include <stdlib.h>

static void describe_tensors(gpt_model *model) {
    const gpt_config *config = &model->config;
    const int l = config->layers, c = config->channels;
    const int mlps = config->experts ? config->experts : 1, h = config->experts ? config->expert_width : 4 * c;
    const gpt_tensor_kind mlp = config->experts ? GPT_EXPERT_MATRICES : GPT_HIDDEN_MATRIX;
    const gpt_tensor table[GPT_MAX_TENSORS] = {
        [GPT_WTE] = {"wte", GPT_EMBEDDING, 1, 1, GPT_VOCABULARY, c, 0, 0},
        [GPT_WPE] = {"wpe", GPT_EMBEDDING, 1, 1, config->context, c, 0, 0},
        [GPT_LN1W] = {"ln1w", GPT_VECTOR, l, 1, 1, c, 0, 0},
        [GPT_LN1B] = {"ln1b", GPT_VECTOR, l, 1, 1, c, 0, 0},
        [GPT_QKVW] = {"qkvw", GPT_HIDDEN_MATRIX, l, 1, 3 * c, c, 0, 0},
        [GPT_QKVB] = {"qkvb", GPT_VECTOR, l, 1, 1, 3 * c, 0, 0},
        [GPT_ATTPROJW] = {"attprojw", GPT_HIDDEN_MATRIX, l, 1, c, c, 0, 0},
        [GPT_ATTPROJB] = {"attprojb", GPT_VECTOR, l, 1, 1, c, 0, 0},
        [GPT_LN2W] = {"ln2w", GPT_VECTOR, l, 1, 1, c, 0, 0},
        [GPT_LN2B] = {"ln2b", GPT_VECTOR, l, 1, 1, c, 0, 0},
        [GPT_FCW] = {"fcw", mlp, l, mlps, h, c, 0, 0},
        [GPT_FCB] = {"fcb", GPT_VECTOR, l, mlps, 1, h, 0, 0},
        [GPT_FCPROJW] = {"fcprojw", mlp, l, mlps, c, h, 0, 0},
        [GPT_FCPROJB] = {"fcprojb", GPT_VECTOR, l, mlps, 1, c, 0, 0},
        [GPT_LNFW] = {"lnfw", GPT_VECTOR, 1, 1, 1, c, 0, 0},
        [GPT_LNFB] = {"lnfb", GPT_VECTOR, 1, 1, 1, c, 0, 0},
        [GPT_ROUTERW] = {"routerw", GPT_HIDDEN_MATRIX, l, 1, config->experts, c, 0, 0},
    };
    model->tensor_count = config->experts ? GPT_MAX_TENSORS : GPT_ROUTERW;
    for (int i = 0; i < model->tensor_count; i++) {
        gpt_tensor *t = &model->tensors[i];
        *t = table[i];
        t->offset = model->parameter_count;
        t->count = (size_t)t->slices * (size_t)t->matrices * (size_t)t->rows * (size_t)t->columns;
        model->parameter_count += t->count;
    }
}

/* Hands out pieces of the arena; with a NULL arena it only adds them up. */
typedef struct {
    char *base;
    size_t used; /* bytes */
} carver;

enum { CACHE_LINE = 64 };

static void *carve_bytes(carver *from, size_t bytes) {
    void *piece = from->base ? from->base + from->used : NULL;
    from->used += (bytes + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE; /* every piece starts on a cache line */
    return piece;
}

static real *carve(carver *from, size_t count) { return carve_bytes(from, count * sizeof(real)); }

static int *carve_ints(carver *from, size_t count) { return carve_bytes(from, count * sizeof(int)); }

/* Rows of the MLPs' activations, and their columns. */
static size_t mlp_rows(const gpt_model *model) {
    const size_t rows = (size_t)model->max_batch * (size_t)model->config.context;
    return model->config.experts ? rows * (size_t)model->config.experts_per_token : rows;
}

static size_t mlp_width(const gpt_model *model) { return (size_t)model->tensors[GPT_FCW].rows; }

static void carve_routing(carver *from, gpt_routing *routing, const gpt_model *model) {
    const size_t slots = mlp_rows(model), experts = (size_t)model->config.experts, channels = (size_t)model->config.channels;
    routing->prob = carve(from, (size_t)model->max_batch * (size_t)model->config.context * experts);
    routing->chosen = carve_ints(from, slots);
    routing->weight = carve(from, slots);
    routing->slot = carve_ints(from, slots);
    routing->first = carve_ints(from, experts + 1);
    routing->in = carve(from, slots * channels);
    routing->out = carve(from, slots * channels);
}

static void carve_layer(carver *from, gpt_layer *layer, const gpt_model *model) {
    const size_t t = (size_t)model->config.context, channels = (size_t)model->config.channels, rows = (size_t)model->max_batch * t;
    layer->ln1 = carve(from, rows * channels);
    layer->ln1_mean = carve(from, rows);
    layer->ln1_rstd = carve(from, rows);
    layer->qkv = carve(from, rows * 3 * channels);
    layer->attention = carve(from, rows * t * (size_t)model->config.heads);
    layer->heads = carve(from, rows * channels);
    layer->after_attention = carve(from, rows * channels);
    layer->ln2 = carve(from, rows * channels);
    layer->ln2_mean = carve(from, rows);
    layer->ln2_rstd = carve(from, rows);
    layer->fc = carve(from, mlp_rows(model) * mlp_width(model));
    layer->gelu = carve(from, mlp_rows(model) * mlp_width(model));
    if (model->config.experts) carve_routing(from, &layer->routing, model);
    layer->out = carve(from, rows * channels);
}

static size_t carve_all(gpt_model *model, void *arena) {
    carver from = {arena, 0};
    const size_t t = (size_t)model->config.context, c = (size_t)model->config.channels;
    const size_t rows = (size_t)model->max_batch * t;
    model->params = carve(&from, model->parameter_count);
    model->grads = carve(&from, model->parameter_count);
    model->embedded = carve(&from, rows * c);
    for (int l = 0; l < model->config.layers; l++) carve_layer(&from, &model->layers[l], model);
    model->lnf = carve(&from, rows * c);
    model->lnf_mean = carve(&from, rows);
    model->lnf_rstd = carve(&from, rows);
    model->logits = carve(&from, rows * GPT_VOCABULARY);
    model->d_residual = carve(&from, rows * c);
    model->d_channels = carve(&from, rows * c);
    model->d_heads = carve(&from, rows * c);
    model->d_qkv = carve(&from, rows * 3 * c);
    model->d_fc = carve(&from, mlp_rows(model) * mlp_width(model));
    model->d_attention = carve(&from, t * t);
    if (model->config.experts) {
        model->d_slots = carve(&from, mlp_rows(model) * c);
        model->d_router = carve(&from, rows * (size_t)model->config.experts);
    }
    return from.used;
}

gpt_model *gpt_create(gpt_config config, int max_batch) {
    gpt_model *model = calloc(1, sizeof *model);
    if (!model) return NULL;
    model->config = config;
    model->max_batch = max_batch;
    describe_tensors(model);
    model->layers = calloc((size_t)config.layers, sizeof *model->layers);
    if (model->layers) model->arena = aligned_alloc(CACHE_LINE, carve_all(model, NULL));
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
    for (int i = 0; i < model->tensor_count; i++) {
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
