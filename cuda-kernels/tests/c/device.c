#define _POSIX_C_SOURCE 200809L
#include "device.h"
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

/* The driver's functions; a CUdeviceptr is a number of 64 bits. */
static struct {
    int (*init)(unsigned);
    int (*device_get)(int *, int);
    int (*retain)(void **, int);
    int (*set_current)(void *);
    int (*alloc)(uint64_t *, size_t);
    int (*free)(uint64_t);
    int (*to_device)(uint64_t, const void *, size_t);
    int (*to_host)(void *, uint64_t, size_t);
    int (*synchronize)(void);
    int (*stream_create)(void **, unsigned);
    int (*stream_destroy)(void *);
} driver;

static void must(int result, const char *what) {
    if (result == 0) return;
    fprintf(stderr, "%s: %d\n", what, result);
    exit(2);
}

static void find(void *library, const char *name, void *function) {
    void *symbol = dlsym(library, name);
    if (!symbol) {
        fprintf(stderr, "%s is missing\n", name);
        exit(2);
    }
    *(void **)function = symbol;
}

static void open_driver(void) {
    static int opened;
    const char *name = getenv("KLS_CUDA_DRIVER");
    void *library, *context;
    int device;
    if (opened) return;
    library = dlopen(name && *name ? name : "libcuda.so.1", RTLD_NOW);
    if (!library) {
        fprintf(stderr, "%s\n", dlerror());
        exit(2);
    }
    find(library, "cuInit", &driver.init);
    find(library, "cuDeviceGet", &driver.device_get);
    find(library, "cuDevicePrimaryCtxRetain", &driver.retain);
    find(library, "cuCtxSetCurrent", &driver.set_current);
    find(library, "cuMemAlloc_v2", &driver.alloc);
    find(library, "cuMemFree_v2", &driver.free);
    find(library, "cuMemcpyHtoD_v2", &driver.to_device);
    find(library, "cuMemcpyDtoH_v2", &driver.to_host);
    find(library, "cuCtxSynchronize", &driver.synchronize);
    find(library, "cuStreamCreate", &driver.stream_create);
    find(library, "cuStreamDestroy_v2", &driver.stream_destroy);
    must(driver.init(0), "cuInit");
    must(driver.device_get(&device, 0), "cuDeviceGet");
    must(driver.retain(&context, device), "cuDevicePrimaryCtxRetain");
    must(driver.set_current(context), "cuCtxSetCurrent");
    opened = 1;
}

void *device_alloc(size_t bytes) {
    uint64_t at = 0;
    open_driver();
    must(driver.alloc(&at, bytes), "cuMemAlloc");
    return (void *)(uintptr_t)at;
}

void device_free(void *memory) { must(driver.free((uint64_t)(uintptr_t)memory), "cuMemFree"); }

void to_device(void *device, const void *host, size_t bytes) {
    must(driver.to_device((uint64_t)(uintptr_t)device, host, bytes), "cuMemcpyHtoD");
}

void to_host(void *host, const void *device, size_t bytes) {
    must(driver.synchronize(), "cuCtxSynchronize");
    must(driver.to_host(host, (uint64_t)(uintptr_t)device, bytes), "cuMemcpyDtoH");
}

void *device_copy_of(const void *host, size_t bytes) {
    void *device = device_alloc(bytes);
    to_device(device, host, bytes);
    return device;
}

void *device_stream(void) {
    void *stream = NULL;
    open_driver();
    must(driver.stream_create(&stream, 0), "cuStreamCreate");
    return stream;
}

void device_stream_destroy(void *stream) { must(driver.stream_destroy(stream), "cuStreamDestroy"); }
