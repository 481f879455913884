/* Stands in for the header of the CUDA runtime: as much of it as the examples use, by the tests' own functions of the driver (tests/c/device.h),
 * which end the program where a call fails. */
#ifndef KLS_CUDA_TESTS_CUDA_RUNTIME_H
#define KLS_CUDA_TESTS_CUDA_RUNTIME_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif
#include "../c/device.h"
#ifdef __cplusplus
}
#endif

typedef enum cudaError { cudaSuccess = 0 } cudaError_t;
typedef struct CUstream_st *cudaStream_t;
enum cudaMemcpyKind { cudaMemcpyHostToDevice = 1, cudaMemcpyDeviceToHost = 2 };

static inline const char *cudaGetErrorString(cudaError_t error) {
    (void)error;
    return "no error";
}

static inline cudaError_t cudaStreamCreate(cudaStream_t *stream) {
    *stream = (cudaStream_t)device_stream();
    return cudaSuccess;
}

static inline cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    device_stream_destroy(stream);
    return cudaSuccess;
}

/* All that is here waits for the whole device. */
static inline cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    (void)stream;
    return cudaSuccess;
}

static inline cudaError_t cudaMalloc(void **memory, size_t bytes) {
    *memory = device_alloc(bytes);
    return cudaSuccess;
}

static inline cudaError_t cudaFree(void *memory) {
    if (memory) device_free(memory);
    return cudaSuccess;
}

static inline cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind, cudaStream_t stream) {
    (void)stream;
    if (kind == cudaMemcpyHostToDevice)
        to_device(to, from, bytes);
    else
        to_host(to, from, bytes);
    return cudaSuccess;
}

#endif
