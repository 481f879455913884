/* Groups whose rates change, beside the CPU's. */
#include "check.h"
#include "device.h"
#include <math.h>

enum { ROWS = 5, COLUMNS = 4, ELEMENTS = ROWS * COLUMNS, TENSORS = 2, ROOM = 16 * 1024 };

static float params[TENSORS][ELEMENTS], grads[TENSORS][ELEMENTS], found[ELEMENTS];

static void fill(float *values, uint32_t seed) {
    for (int i = 0; i < ELEMENTS; i++) {
        seed = seed * 1664525u + 1013904223u;
        values[i] = (float)(seed >> 8) / 16777216.0f - 0.5f;
    }
}

const char *test_groups(void) {
    static unsigned char by_gpu[ROOM], by_cpu[ROOM];
    const uint64_t dims[2] = {ROWS, COLUMNS};
    void *stream = device_stream(), *graph;
    float *to[TENSORS] = {params[0], params[1]};
    const float *from[TENSORS] = {grads[0], grads[1]};
    void *device_params[TENSORS], *device_grads[TENSORS];
    kls_config groups[2];
    kls_tensor tensors[TENSORS];
    kls_options portable;
    kls_cuda_request request;
    kls_optimizer *cpu = NULL;
    kls_cuda *gpu = NULL;
    uint64_t size = 0;
    EXPECT(KLS_OK, kls_options_init(&portable, sizeof portable));
    portable.backend = KLS_BACKEND_PORTABLE;
    EXPECT(KLS_OK, kls_cuda_request_init(&request, sizeof request));
    for (uint32_t i = 0; i < TENSORS; i++) {
        /* Equal but for their number. */
        EXPECT(KLS_OK, kls_config_init(&groups[i], sizeof groups[i], KLS_METHOD_ADAMW, KLS_CONVENTION_FIGURE13));
        EXPECT(KLS_OK, kls_tensor_init(&tensors[i], sizeof tensors[i], 2, dims));
        tensors[i].group = i;
        fill(params[i], 3 + i);
        device_params[i] = device_copy_of(params[i], sizeof params[i]);
        device_grads[i] = device_alloc(sizeof grads[i]);
    }
    CHECK(kls_optimizer_create(&cpu, groups, 2, tensors, TENSORS, &portable) == KLS_OK);
    EXPECT(KLS_OK, kls_cuda_create(&gpu, groups, 2, tensors, TENSORS, NULL));
    request.lr = 0.01f;
    request.tensor_count = TENSORS;
    request.params = device_params;
    request.grads = (const void *const *)device_grads;
    request.stream = stream;
    for (uint32_t step = 0; step < 8; step++) {
        if (step == 3) {
            CHECK(kls_optimizer_set_group(cpu, 1, 0.25f, 0.5f) == KLS_OK);
            EXPECT_OF(gpu, KLS_OK, kls_cuda_set_group(gpu, 1, 0.25f, 0.5f));
        }
        if (step == 5) {
            CHECK(kls_optimizer_set_group(cpu, 0, 2.0f, 0.0f) == KLS_OK);
            EXPECT_OF(gpu, KLS_OK, kls_cuda_set_group(gpu, 0, 2.0f, 0.0f));
        }
        for (uint32_t i = 0; i < TENSORS; i++) {
            fill(grads[i], 50 + 2 * step + i);
            to_device(device_grads[i], grads[i], sizeof grads[i]);
        }
        CHECK(kls_optimizer_step(cpu, to, from, TENSORS, 0.01f) == KLS_OK);
        EXPECT_OF(gpu, KLS_OK, kls_cuda_step(gpu, &request));
        for (int i = 0; i < TENSORS; i++) {
            to_host(found, device_params[i], sizeof found);
            for (int e = 0; e < ELEMENTS; e++) CHECK(fabs((double)found[e] - (double)params[i][e]) < 1e-6);
        }
    }
    EXPECT_OF(gpu, KLS_OK, kls_cuda_save_size(gpu, &size));
    EXPECT_OF(gpu, KLS_OK, kls_cuda_save(gpu, by_gpu, sizeof by_gpu, stream));
    CHECK(kls_optimizer_save(cpu, by_cpu, sizeof by_cpu) == KLS_OK && memcmp(by_gpu, by_cpu, (size_t)size) == 0);

    /* A graph has the rates that it was captured with. */
    begin_capture(stream);
    EXPECT_OF(gpu, KLS_OK, kls_cuda_step(gpu, &request));
    graph = end_capture(stream);
    EXPECT_OF(gpu, KLS_OK, kls_cuda_set_group(gpu, 0, 0.0f, 0.0f));
    EXPECT_OF(gpu, KLS_OK, kls_cuda_set_group(gpu, 1, 0.0f, 0.0f));
    for (int i = 0; i < TENSORS; i++) to_host(params[i], device_params[i], sizeof params[i]);
    EXPECT_OF(gpu, KLS_OK, kls_cuda_step(gpu, &request));
    for (int i = 0; i < TENSORS; i++) {
        to_host(found, device_params[i], sizeof found);
        CHECK(memcmp(found, params[i], sizeof found) == 0);
    }
    graph_launch(graph, stream);
    for (int i = 0; i < TENSORS; i++) {
        to_host(found, device_params[i], sizeof found);
        CHECK(memcmp(found, params[i], sizeof found) != 0);
    }
    graph_destroy(graph);

    SAYS(KLS_ERROR_GROUP, kls_cuda_set_group(gpu, 2, 1.0f, 0.0f), gpu, "kls_cuda_set_group: group 2: There is no such group.");
    EXPECT_OF(gpu, KLS_ERROR_LR_SCALE, kls_cuda_set_group(gpu, 0, -1.0f, 0.0f));
    EXPECT_OF(gpu, KLS_ERROR_WEIGHT_DECAY, kls_cuda_set_group(gpu, 0, 1.0f, NAN));
    EXPECT(KLS_ERROR_NULL, kls_cuda_set_group(NULL, 0, 1.0f, 0.0f));
    for (int i = 0; i < TENSORS; i++) to_host(params[i], device_params[i], sizeof params[i]);
    EXPECT_OF(gpu, KLS_OK, kls_cuda_step(gpu, &request));
    to_host(found, device_params[0], sizeof found);
    CHECK(memcmp(found, params[0], sizeof found) == 0);

    EXPECT(KLS_OK, kls_cuda_destroy(&gpu));
    CHECK(kls_optimizer_destroy(&cpu) == KLS_OK);
    for (int i = 0; i < TENSORS; i++) {
        device_free(device_params[i]);
        device_free(device_grads[i]);
    }
    device_stream_destroy(stream);
    return NULL;
}
