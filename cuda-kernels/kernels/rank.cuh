// Descending order.
#pragma once
#include "kernel.h"

// The place of element j when the elements are put in descending order; equal ones keep their order.
__device__ __forceinline__ uint32_t kls_rank(const float *values, uint32_t d, uint32_t j) {
    const float x = values[j];
    uint32_t place = 0;
    for (uint32_t i = 0; i < d; i++) place += values[i] > x || (i < j && values[i] == x);
    return place;
}
