/* A mixture of experts in place of the dense MLP, as in Mixtral: the router's softmax over all experts chooses the k likeliest for every
 * row (a token), whose probabilities, scaled to sum 1, weigh their outputs. No expert is ever full: every row gets its k.
 *
 * The balance loss keeps the router from choosing always the same experts (Switch Transformer, arXiv:2101.03961, equations 4 to 6, with
 * k choices per row): coefficient * E * sum over the experts of (share of all slots) * (mean probability), summed over the layers. An even
 * load gives coefficient per layer. Its gradient goes through the probabilities alone. */
#ifndef GPT_MOE_H
#define GPT_MOE_H

#include "model.h"

/* layer->out = the mixture's output for layer->ln2; adds to model->balance_loss. */
void moe_forward(gpt_model *model, int l, const gpt_layer *layer);

/* Takes the derivative by the output, overwrites dx, the derivative by layer->ln2, and adds to the gradients. */
void moe_backward(gpt_model *model, int l, const gpt_layer *layer, const real *dout, real *dx);

#endif
