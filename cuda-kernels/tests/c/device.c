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
    int (*begin_capture)(void *, int);
    int (*end_capture)(void *, void **);
    int (*instantiate)(void **, void *, unsigned long long);
    int (*graph_destroy)(void *);
    int (*executable_destroy)(void *);
    int (*launch)(void *, void *);
} driver;

static void *opened;

static void must(int result, const char *what) {
    if (result == 0) return;
    fprintf(stderr, "%s: %d\n", what, result);
    exit(2);
}

static void find(void *library, const char *name, void *function) {
    *(void **)function = dlsym(library, name);
    must(*(void **)function ? 0 : 1, name);
}

static void open_driver(void) {
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
    find(library, "cuStreamBeginCapture_v2", &driver.begin_capture);
    find(library, "cuStreamEndCapture", &driver.end_capture);
    find(library, "cuGraphInstantiateWithFlags", &driver.instantiate);
    find(library, "cuGraphDestroy", &driver.graph_destroy);
    find(library, "cuGraphExecDestroy", &driver.executable_destroy);
    find(library, "cuGraphLaunch", &driver.launch);
    must(driver.init(0), "cuInit");
    must(driver.device_get(&device, 0), "cuDeviceGet");
    must(driver.retain(&context, device), "cuDevicePrimaryCtxRetain");
    must(driver.set_current(context), "cuCtxSetCurrent");
    opened = library;
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

void begin_capture(void *stream) { must(driver.begin_capture(stream, 0), "cuStreamBeginCapture"); }

void *end_capture(void *stream) {
    void *graph = NULL, *executable = NULL;
    must(driver.end_capture(stream, &graph), "cuStreamEndCapture");
    must(driver.instantiate(&executable, graph, 0), "cuGraphInstantiate");
    must(driver.graph_destroy(graph), "cuGraphDestroy");
    return executable;
}

void abandon_capture(void *stream) {
    void *graph = NULL;
    driver.end_capture(stream, &graph);
    if (graph != NULL) must(driver.graph_destroy(graph), "cuGraphDestroy");
}

void graph_launch(void *graph, void *stream) { must(driver.launch(graph, stream), "cuGraphLaunch"); }

void graph_destroy(void *graph) { must(driver.executable_destroy(graph), "cuGraphExecDestroy"); }

void *driver_function(const char *name) {
    void *function;
    open_driver();
    find(opened, name, &function);
    return function;
}
