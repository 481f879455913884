/* A lent optimizer of two tensors, its parameters and gradients, and a copy of every byte to compare with. */
#ifndef KLS_TESTS_FIXTURE_H
#define KLS_TESTS_FIXTURE_H

#include "klshampoo.h"

enum { ROWS = 4, COLUMNS = 3, ELEMENTS = ROWS * COLUMNS, VECTOR = 5, MEMORY = 64 * 1024, MESSAGE = 256 };

typedef struct fixture {
    kls_config group;
    kls_tensor tensors[2];
    kls_optimizer *optimizer;
    unsigned char *memory; /* inside `raw`, aligned */
    size_t size;
    float matrix[ELEMENTS], vector[VECTOR];
    float matrix_grad[ELEMENTS], vector_grad[VECTOR];
    float *params[2];
    const float *grads[2];
    unsigned char raw[MEMORY], copy[MEMORY];
    float matrix_copy[ELEMENTS], vector_copy[VECTOR];
} fixture;

/* Fills groups, tensors, parameters and gradients; no optimizer yet. */
const char *fixture_describe(fixture *f);
/* Makes the optimizer in the fixture's memory. */
const char *fixture_make(fixture *f);
/* Remembers all bytes, and tells whether they are still the same. */
void fixture_remember(fixture *f);
int fixture_unchanged(const fixture *f);

#endif
