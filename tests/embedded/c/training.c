#include "training.h"

#include <stdio.h>
#include <string.h>

#include "klshampoo_static.h"

static const float LEARNING_RATE = 0.01f;
static const uint32_t SEED = 5;

/* One group of four tensors. kls_optimizer_init compares with what is really needed. */
#define STATE                                                                                                                    \
    (KLS_KL_SHAMPOO_STATE(HIDDEN, PIXELS) + KLS_ADAMW_STATE(HIDDEN) + KLS_KL_SHAMPOO_STATE(CLASSES, HIDDEN) + KLS_ADAMW_STATE(CLASSES))
KLS_STATIC_MEMORY(memory, KLS_MEMORY_BYTES(1, TENSORS, TENSORS, STATE, KLS_KL_SHAMPOO_SCRATCH(HIDDEN, PIXELS)));

progress training;
perceptron gradient;
kls_optimizer *optimizer;
float *const params[TENSORS] = {training.model.hidden, training.model.hidden_bias, training.model.output, training.model.output_bias};
const float *const grads[TENSORS] = {gradient.hidden, gradient.hidden_bias, gradient.output, gradient.output_bias};

kls_status training_start(void) {
    static const struct {
        uint32_t order;
        uint64_t dims[2];
    } shapes[TENSORS] = {{2, {HIDDEN, PIXELS}}, {1, {HIDDEN}}, {2, {CLASSES, HIDDEN}}, {1, {CLASSES}}};
    kls_config config;
    kls_tensor tensors[TENSORS];
    size_t size, alignment;

    kls_status status = kls_config_init(&config, sizeof config, KLS_METHOD_KL_SHAMPOO, KLS_CONVENTION_FIGURE13);
    for (int i = 0; !status && i < TENSORS; i++) status = kls_tensor_init(&tensors[i], sizeof tensors[i], shapes[i].order, shapes[i].dims);
    if (!status) status = kls_optimizer_query(&config, 1, tensors, TENSORS, &size, &alignment);
    if (!status) printf("optimizer: %u bytes of %u lent\n", (unsigned)size, (unsigned)sizeof memory);
    if (!status) status = kls_optimizer_init(&optimizer, memory, sizeof memory, &config, 1, tensors, TENSORS);
    training.step = 0;
    training.random = SEED;
    perceptron_start(&training.model, &training.random);
    return status;
}

void training_differentiate(void) { perceptron_differentiate(&training.model, &gradient, BATCH, &training.random); }

kls_status training_step(void) {
    const kls_status status = kls_optimizer_step(optimizer, params, grads, TENSORS, LEARNING_RATE);
    if (!status) training.step++;
    return status;
}

uint32_t training_checksum(void) {
    uint32_t hash = 0x811c9dc5u;
    const uint8_t *bytes = (const uint8_t *)&training.model;
    for (size_t i = 0; i < sizeof training.model; i += sizeof(uint32_t)) {
        uint32_t word;
        memcpy(&word, bytes + i, sizeof word);
        hash = (hash ^ word) * 0x01000193u;
    }
    return hash;
}
