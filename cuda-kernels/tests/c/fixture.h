/* Two optimizers of the same table, one on the CPU and one on the GPU, with a copy of parameters and gradients in each memory. */
#ifndef KLS_CUDA_TESTS_FIXTURE_H
#define KLS_CUDA_TESTS_FIXTURE_H

#include "check.h"
#include "device.h"

enum { ROWS = 12, COLUMNS = 7, LAYERS = 2, MATRICES = LAYERS * ROWS * COLUMNS, VECTOR = 9, TENSORS = 2 };

typedef struct fixture {
    kls_config group;
    kls_tensor tensors[TENSORS]; /* a stack of two matrices, and a vector */
    float matrix[MATRICES], vector[VECTOR];
    float matrix_grad[MATRICES], vector_grad[VECTOR];
    float *params[TENSORS];
    const float *grads[TENSORS];
    kls_optimizer *cpu;
    kls_cuda *gpu;
    void *device_params[TENSORS], *device_grads[TENSORS];
    kls_cuda_request request;
    void *refresh_stream; /* of the GPU's optimizer; NULL: none */
} fixture;

/* Groups, tensors, parameters; neither optimizer. */
const char *fixture_describe(fixture *f, int32_t method);
/* The optimizer of the CPU. */
const char *fixture_cpu(fixture *f);
/* That of the GPU, on `stream`, with its buffers, which are filled from those of the CPU. */
const char *fixture_gpu(fixture *f, void *stream);
const char *fixture_gpu_with(fixture *f, const kls_cuda_options *options);
/* The gradients of a step, in host memory. */
void fixture_gradients(fixture *f, int step);
/* A step with these, by either of them. */
const char *fixture_step_cpu(fixture *f, int step);
const char *fixture_step_gpu(fixture *f, int step);
/* The GPU goes on from where the CPU is. After a first step: its gradient's rank is less than a dim is long, and what the eigenvectors beyond that
 * are is a matter of rounding, from which the paths part. */
const char *fixture_meet(fixture *f);
/* Largest difference of the two sets of parameters, relative to the largest parameter. */
double fixture_difference(fixture *f);
const char *fixture_end(fixture *f);

#endif
