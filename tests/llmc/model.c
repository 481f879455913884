#include "model.h"
#include <string.h>

gpt_model *small_model(void) {
    const gpt_config config = {.layers = LAYERS, .channels = CHANNELS, .heads = HEADS, .context = CONTEXT};
    gpt_model *model = gpt_create(config, BATCH);
    if (model) gpt_initialize(model, 1);
    return model;
}

GPT2 as_gpt2(const gpt_model *model) {
    const GPT2 view = {
        .config = {model->config.context, GPT_VOCABULARY, GPT_VOCABULARY, model->config.layers, model->config.heads, model->config.channels},
        .params_memory = model->params,
        .grads_memory = model->grads,
        .num_parameters = model->parameter_count,
    };
    return view;
}

double small_gradient(gpt_model *model, int step) {
    static const char text[] = "the quick brown fox jumps over the lazy dog, and the lazy dog sleeps on under the brown fox; ";
    enum { LENGTH = sizeof text - 1 };
    uint8_t tokens[BATCH * CONTEXT], targets[BATCH * CONTEXT];
    for (int b = 0; b < BATCH; b++) {
        const int start = (step * 37 + b * 23) % LENGTH;
        for (int t = 0; t < CONTEXT; t++) {
            tokens[b * CONTEXT + t] = (uint8_t)text[(start + t) % LENGTH];
            targets[b * CONTEXT + t] = (uint8_t)text[(start + t + 1) % LENGTH];
        }
    }
    return gpt_loss_and_gradient(model, tokens, targets, BATCH);
}

int parameters_are_finite(const gpt_model *model) {
    for (size_t i = 0; i < model->parameter_count; i++)
        if (!is_finite(model->params[i])) return 0;
    return 1;
}
