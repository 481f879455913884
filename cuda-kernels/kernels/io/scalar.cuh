// A number that a launch is given, or that lies on the device so that a captured graph sees what it is when the graph runs.
#pragma once
#include "../kernel.h"

struct kls_scalar {
    const float *pointer;
    float value, factor;
};

__device__ __forceinline__ float kls_value(const kls_scalar &x) { return (x.pointer ? *x.pointer : x.value) * x.factor; }
