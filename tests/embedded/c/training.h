/* Training of the network by KL-Shampoo, in static memory. */
#ifndef TRAINING_H
#define TRAINING_H

#include "klshampoo.h"
#include "perceptron.h"

enum { BATCH = 32 };

/* Everything that training needs to go on, besides the optimizer's state. */
typedef struct {
    uint32_t step;
    random_source random;
    perceptron model;
} progress;

extern progress training;          /* Where training stands. */
extern perceptron gradient;        /* Of the step. */
extern kls_optimizer *optimizer;   /* In lent memory. */
extern float *const params[TENSORS];      /* The model's tensors, */
extern const float *const grads[TENSORS]; /* and the gradient's. */

/* A new optimizer for new weights. */
kls_status training_start(void);

/* Draws images and computes their gradient. */
void training_differentiate(void);

/* Makes a step of the optimizer with the gradient. */
kls_status training_step(void);

/* FNV-1a over the bits of the model. */
uint32_t training_checksum(void);

#endif
