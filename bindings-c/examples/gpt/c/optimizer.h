/* The model's tensors as a klshampoo optimizer table. */
#ifndef GPT_OPTIMIZER_H
#define GPT_OPTIMIZER_H

#include "klshampoo.h"
#include "model.h"
#include "options.h"

/* The stacked hidden matrices go to the method, a state per layer (and per expert, unless all experts of a layer are one 3-D tensor);
 * embeddings, biases and layer norms go to AdamW. */
kls_status optimizer_create(kls_optimizer **optimizer, const gpt_model *model, const options *o);

/* One step on model->params with model->grads; `lr` is the method's rate. */
kls_status optimizer_step(kls_optimizer *optimizer, const gpt_model *model, double lr);

#endif
