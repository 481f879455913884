// How a kernel is declared, for nvcc and for the emulator (KLS_EMULATE), which runs the same source on a CPU.
//
// A kernel takes one struct by value and has a fixed number of threads in a block:
//
//     KLS_KERNEL(name, Params, 256) { ... p.field ... threadIdx.x ... }        it may call __syncthreads()
//     KLS_FLAT_KERNEL(name, Params, 256) { ... }                               it may not
//
// The struct is spelled twice, here and in Rust; KLS_PARAMS lists its fields so that a test can compare sizes and offsets.
#pragma once
#include <stddef.h>
#include <stdint.h>

#ifdef KLS_EMULATE
#include "emulator.h"
#else
#define KLS_KERNEL(name, P, threads) extern "C" __global__ void __launch_bounds__(threads) name(const __grid_constant__ P p)
#define KLS_FLAT_KERNEL(name, P, threads) KLS_KERNEL(name, P, threads)
#endif
