// All kernels, in one module.
#include "kernel.h"
#include "step/step.cuh"
