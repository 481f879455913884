/* Memory of the device, for callers that have neither the CUDA runtime nor a header of the driver. */
#ifndef KLS_CUDA_TESTS_DEVICE_H
#define KLS_CUDA_TESTS_DEVICE_H

#include <stddef.h>
#include <stdint.h>

/* The primary context of device 0 is current on this thread from the first of these calls on. NULL or the end of the program. */
void *device_alloc(size_t bytes);
void device_free(void *memory);
void to_device(void *device, const void *host, size_t bytes);
/* Waits for everything that the device was given. */
void to_host(void *host, const void *device, size_t bytes);
/* A copy of it. */
void *device_copy_of(const void *host, size_t bytes);
void *device_stream(void);
void device_stream_destroy(void *stream);
/* What is given to a stream in between becomes a graph, ready to be launched. */
void begin_capture(void *stream);
void *end_capture(void *stream);
/* Whatever has become of it. */
void abandon_capture(void *stream);
void graph_launch(void *graph, void *stream);
void graph_destroy(void *graph);
/* A function of the driver, or of what stands in for it. */
void *driver_function(const char *name);
/* What has been called: of what stands in for it, kls_mock_counters_get. */
typedef struct mock_counters {
    uint64_t launches, copies, allocations, frees, synchronisations, queries, recorded, graph_launches, lookups, hidden;
} mock_counters;

#endif
