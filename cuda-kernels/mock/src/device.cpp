// The driver, devices, contexts.
#include "mock.h"

#include <stdio.h>
#include <string.h>

extern int driver_version, device_capability;

static constexpr int MOST_DEVICES = 8;
static context primary[MOST_DEVICES];
static bool initialised;
static thread_local std::vector<context *> stack;

context *current() { return stack.empty() ? nullptr : stack.back(); }

API int cuDriverGetVersion(int *version) {
    BEGIN(cuDriverGetVersion)
    *version = driver_version;
    return SUCCESS;
}

API int cuInit(unsigned flags) {
    BEGIN(cuInit)
    if (flags != 0) return INVALID_VALUE;
    if (device_count == 0) return NO_DEVICE;
    initialised = true;
    return SUCCESS;
}

API int cuDeviceGetCount(int *count) {
    BEGIN(cuDeviceGetCount)
    if (!initialised) return NOT_INITIALIZED;
    *count = device_count;
    return SUCCESS;
}

API int cuDeviceGet(int *device, int ordinal) {
    BEGIN(cuDeviceGet)
    if (!initialised) return NOT_INITIALIZED;
    if (ordinal < 0 || ordinal >= device_count || ordinal >= MOST_DEVICES) return INVALID_DEVICE;
    *device = ordinal;
    return SUCCESS;
}

API int cuDeviceGetName(char *name, int length, int device) {
    BEGIN(cuDeviceGetName)
    if (device < 0 || device >= device_count) return INVALID_DEVICE;
    snprintf(name, size_t(length), "Mock %d", device);
    return SUCCESS;
}

API int cuDeviceTotalMem_v2(size_t *bytes, int device) {
    BEGIN(cuDeviceTotalMem_v2)
    if (device < 0 || device >= device_count) return INVALID_DEVICE;
    *bytes = device_memory;
    return SUCCESS;
}

API int cuDeviceGetAttribute(int *value, int attribute, int device) {
    BEGIN(cuDeviceGetAttribute)
    if (device < 0 || device >= device_count) return INVALID_DEVICE;
    switch (attribute) {
    case 75: *value = device_capability / 10; return SUCCESS;
    case 76: *value = device_capability % 10; return SUCCESS;
    case 16: *value = 132; return SUCCESS; // multiprocessors
    case 89: *value = managed != managed_memory::exclusive; return SUCCESS; // managed memory is the host's while kernels run
    default: return INVALID_VALUE;
    }
}

API int cuDevicePrimaryCtxRetain(context **to, int device) {
    BEGIN(cuDevicePrimaryCtxRetain)
    if (!initialised) return NOT_INITIALIZED;
    if (device < 0 || device >= device_count) return INVALID_DEVICE;
    primary[device].device = device;
    primary[device].retained++;
    *to = &primary[device];
    return SUCCESS;
}

API int cuDevicePrimaryCtxRelease_v2(int device) {
    BEGIN(cuDevicePrimaryCtxRelease_v2)
    if (device < 0 || device >= MOST_DEVICES) return INVALID_DEVICE;
    if (primary[device].retained == 0) return INVALID_CONTEXT;
    primary[device].retained--;
    return SUCCESS;
}

API int cuDevicePrimaryCtxGetState(int device, unsigned *flags, int *active) {
    BEGIN(cuDevicePrimaryCtxGetState)
    if (device < 0 || device >= MOST_DEVICES) return INVALID_DEVICE;
    *flags = 0;
    *active = primary[device].retained > 0;
    return SUCCESS;
}

static bool is_alive(const context *c) { return c >= primary && c < primary + MOST_DEVICES && c->retained > 0; }

API int cuCtxGetCurrent(context **to) {
    BEGIN(cuCtxGetCurrent)
    if (!initialised) return NOT_INITIALIZED;
    *to = current();
    return SUCCESS;
}

API int cuCtxSetCurrent(context *to) {
    BEGIN(cuCtxSetCurrent)
    if (!to) {
        if (!stack.empty()) stack.pop_back();
        return SUCCESS;
    }
    if (!is_alive(to)) return INVALID_CONTEXT;
    if (stack.empty()) stack.push_back(to);
    stack.back() = to;
    return SUCCESS;
}

API int cuCtxPushCurrent_v2(context *to) {
    BEGIN(cuCtxPushCurrent_v2)
    if (!is_alive(to)) return INVALID_CONTEXT;
    stack.push_back(to);
    return SUCCESS;
}

API int cuCtxPopCurrent_v2(context **from) {
    BEGIN(cuCtxPopCurrent_v2)
    if (stack.empty()) return INVALID_CONTEXT;
    if (from) *from = stack.back();
    stack.pop_back();
    return SUCCESS;
}

API int cuCtxGetDevice(int *device) {
    BEGIN(cuCtxGetDevice)
    if (!current()) return INVALID_CONTEXT;
    *device = current()->device;
    return SUCCESS;
}

API int cuCtxSynchronize() {
    BEGIN(cuCtxSynchronize)
    if (!current()) return INVALID_CONTEXT;
    counters.synchronisations++;
    finish();
    return outside_captures();
}

// 46 and 913 are codes that CUDA 11.4 did not have.
API int cuGetErrorName(int code, const char **name) {
    switch (code) {
    case SUCCESS: *name = "CUDA_SUCCESS"; return SUCCESS;
    case INVALID_VALUE: *name = "CUDA_ERROR_INVALID_VALUE"; return SUCCESS;
    case OUT_OF_MEMORY: *name = "CUDA_ERROR_OUT_OF_MEMORY"; return SUCCESS;
    case 46: *name = "CUDA_ERROR_DEVICE_UNAVAILABLE"; return SUCCESS;
    case INVALID_PTX: *name = "CUDA_ERROR_INVALID_PTX"; return SUCCESS;
    case 719: *name = "CUDA_ERROR_LAUNCH_FAILED"; return SUCCESS;
    case 913: *name = "CUDA_ERROR_GRAPH_RECAPTURE_FAILURE"; return SUCCESS;
    default: *name = nullptr; return INVALID_VALUE;
    }
}

API int cuGetErrorString(int code, const char **text) {
    switch (code) {
    case SUCCESS: *text = "no error"; return SUCCESS;
    case INVALID_VALUE: *text = "invalid argument"; return SUCCESS;
    case OUT_OF_MEMORY: *text = "out of memory"; return SUCCESS;
    case 46: *text = "CUDA-capable device(s) is/are busy or unavailable"; return SUCCESS;
    case INVALID_PTX: *text = "a PTX JIT compilation failed"; return SUCCESS;
    case 719: *text = "unspecified launch failure"; return SUCCESS;
    case 913: *text = "graph recapture failed"; return SUCCESS;
    default: *text = nullptr; return INVALID_VALUE;
    }
}
