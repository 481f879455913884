// All kernels, in one module.
#include "kernel.h"
#include "io/words.cuh"
#include "io/gather.cuh"
#include "io/magnitude.cuh"
#include "io/norm.cuh"
#include "io/commit.cuh"
