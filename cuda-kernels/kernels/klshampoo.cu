// All kernels, in one module.
#include "kernel.h"
