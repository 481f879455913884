#include "optimizer.h"
#include "methods.h"

enum { GROUP_HIDDEN, GROUP_EMBEDDINGS, GROUP_VECTORS, GROUPS };

_Static_assert(sizeof(real) == sizeof(float), "the library's tensors are float");

static kls_status configure(kls_config groups[GROUPS], const options *o) {
    for (int g = 0; g < GROUPS; g++) {
        kls_config *config = &groups[g];
        const bool hidden = g == GROUP_HIDDEN;
        const kls_status status = kls_config_init(config, sizeof *config, hidden ? methods[o->method].constant : KLS_METHOD_ADAMW,
                                                  conventions[o->convention].constant);
        if (status != KLS_OK) return status;
        config->weight_decay = (float)(g == GROUP_VECTORS ? o->vector_weight_decay : o->weight_decay);
        config->beta1 = (float)(hidden ? o->beta1 : o->adamw_beta1);
        config->beta2 = (float)(hidden ? o->beta2 : o->adamw_beta2);
        if (!hidden) {
            if (o->lr > 0) config->lr_scale = (float)(o->adamw_lr / o->lr);
            continue;
        }
        config->refresh_period = (uint32_t)o->refresh_period;
        if (o->graft >= 0) config->graft = grafts[o->graft].constant;
        if (o->lambda0 >= 0) config->lambda_init = o->lambda0 > 0 ? KLS_LAMBDA_CONSTANT : KLS_LAMBDA_SCALE_FREE;
        if (o->lambda0 > 0) config->lambda_0 = (float)o->lambda0;
    }
    return KLS_OK;
}

/* The kls_tensor that stands for a tensor of the model. */
static kls_status describe(kls_tensor *tensor, const gpt_tensor *t, const options *o) {
    const bool whole = t->kind == GPT_EXPERT_MATRICES && o->expert_tensors == EXPERT_TENSORS_3D;
    const uint64_t dims[3] = {(uint64_t)t->matrices, (uint64_t)t->rows, (uint64_t)t->columns};
    /* A (L, C) stack of vectors has no rows and columns to precondition: it is one long vector. */
    const uint64_t count = t->count;
    const kls_status status = t->kind == GPT_VECTOR ? kls_tensor_init(tensor, sizeof *tensor, 1, &count)
                              : whole               ? kls_tensor_init(tensor, sizeof *tensor, 3, dims)
                                                    : kls_tensor_init(tensor, sizeof *tensor, 2, dims + 1);
    if (status != KLS_OK) return status;
    if (t->kind != GPT_VECTOR) tensor->slices = (uint64_t)t->slices * (whole ? 1 : dims[0]);
    tensor->group = t->kind == GPT_VECTOR ? GROUP_VECTORS : t->kind == GPT_EMBEDDING ? GROUP_EMBEDDINGS : GROUP_HIDDEN;
    return KLS_OK;
}

kls_status optimizer_create(kls_optimizer **optimizer, const gpt_model *model, const options *o) {
    kls_config groups[GROUPS];
    kls_tensor tensors[GPT_MAX_TENSORS];
    kls_options library;
    kls_status status = configure(groups, o);
    for (int i = 0; status == KLS_OK && i < model->tensor_count; i++) status = describe(&tensors[i], &model->tensors[i], o);
    if (status == KLS_OK) status = kls_options_init(&library, sizeof library);
    if (status != KLS_OK) return status;
    library.num_threads = (uint32_t)o->threads;
    return kls_optimizer_create(optimizer, groups, GROUPS, tensors, (size_t)model->tensor_count, &library);
}

kls_status optimizer_step(kls_optimizer *optimizer, const gpt_model *model, double lr) {
    float *params[GPT_MAX_TENSORS];
    const float *grads[GPT_MAX_TENSORS];
    for (int i = 0; i < model->tensor_count; i++) {
        params[i] = model->params + model->tensors[i].offset;
        grads[i] = model->grads + model->tensors[i].offset;
    }
    return kls_optimizer_step(optimizer, params, grads, (size_t)model->tensor_count, (float)lr);
}
