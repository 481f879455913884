/* A network of 64 inputs, 32 rectified units and 10 outputs, as digits/src/perceptron.rs: the same operations in the same order. */
#ifndef PERCEPTRON_H
#define PERCEPTRON_H

#include "images.h"
#include "random.h"

#define HIDDEN 32
enum { TENSORS = 4 };

/* Its parameters, or the gradient with respect to them. */
typedef struct {
    float hidden[HIDDEN * PIXELS]; /* 32 x 64. */
    float hidden_bias[HIDDEN];
    float output[CLASSES * HIDDEN]; /* 10 x 32. */
    float output_bias[CLASSES];
} perceptron;

/* Random weights, biases of zero. */
void perceptron_start(perceptron *model, random_source *random);

/* Makes `gradient` that of the mean cross entropy over `batch` training images drawn at random. */
void perceptron_differentiate(const perceptron *model, perceptron *gradient, uint32_t batch, random_source *random);

/* How many test images are classified rightly. */
uint32_t perceptron_correct(const perceptron *model);

#endif
