/* How well Kronecker products approximate the second moment of recent gradients, measured while training (kls_window_similarity). */
#ifndef GPT_SIMILARITY_H
#define GPT_SIMILARITY_H

#include "klshampoo.h"
#include "model.h"
#include "options.h"

typedef struct similarity similarity;

/* NULL if memory runs out. Watches all hidden matrices of one layer. */
similarity *similarity_create(const gpt_model *model, const options *o);
void similarity_destroy(similarity *s);

/* To be called once per step, after the backward pass: remembers the gradients of the last steps before a measurement, and prints one JSON
 * object `similarity` per matrix where one is due. `done` counts this step. A matrix without a gradient in the whole window has no line. */
kls_status similarity_watch(similarity *s, const gpt_model *model, long done);

#endif
