/* The example trainer's model (bindings-c/examples/gpt), small, with a text to learn, and a view of it as llm.c's GPT2. */
#ifndef KLS_TESTS_LLMC_MODEL_H
#define KLS_TESTS_LLMC_MODEL_H

#include "../../bindings-c/examples/gpt/c/model.h"
#include "tests.h"

enum { LAYERS = 2, CHANNELS = 32, HEADS = 4, CONTEXT = 16, BATCH = 4 };

/* NULL if memory runs out. Same weights every time. */
gpt_model *small_model(void);

/* The same buffers under llm.c's names. */
GPT2 as_gpt2(const gpt_model *model);

/* Fills the gradient for the batch of a step, and returns its loss. */
double small_gradient(gpt_model *model, int step);

/* Whether all parameters are finite, by their bits. */
int parameters_are_finite(const gpt_model *model);

#endif
