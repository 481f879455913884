// All kernels, in one module.
#include "kernel.h"

#include "words/copy.cuh"
#include "words/fill.cuh"
