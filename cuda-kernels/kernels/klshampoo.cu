// All kernels, in one module.
#include "kernel.h"
#include "linalg/cholesky.cuh"
#include "linalg/eigh.cuh"
#include "linalg/householder.cuh"
#include "linalg/product.cuh"
#include "linalg/refresh.cuh"
#include "linalg/squares.cuh"
#include "step/step.cuh"
