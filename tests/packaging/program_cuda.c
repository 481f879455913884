/*
 * A user's program of the library for GPUs: where there is no driver kls_cuda_create says so, and the CPU's optimizer in the same library works; 0 if
 * so. With OWN_DRIVER the program has functions of the driver's names itself, which the library leaves alone.
 */
#include <klshampoo_cuda.h>
#include <stdio.h>
#include <string.h>

enum { ROWS = 24, COLUMNS = 40, COUNT = ROWS * COLUMNS, STEPS = 20 };

static float weights[COUNT], gradient[COUNT];

#ifdef OWN_DRIVER
int cuInit(unsigned flags);
extern int own_driver_calls;
#endif

#define EXPECT(value, call)                                                                                   \
    do {                                                                                                      \
        const int got = (call);                                                                               \
        if (got != (value)) return printf("line %d: %s is %d: %s\n", __LINE__, #call, got, kls_last_error(0)); \
    } while (0)

int main(void) {
    const uint64_t dims[2] = {ROWS, COLUMNS};
    float *params[1] = {weights};
    const float *grads[1] = {gradient};
    kls_config config;
    kls_tensor tensor;
    kls_cuda_memory memory;
    kls_cuda *on_gpu = NULL;
    kls_optimizer *on_cpu = NULL;
    const char *said;
    float before, after = 0;

    EXPECT(KLS_OK, kls_config_init(&config, sizeof config, KLS_METHOD_KL_SHAMPOO, KLS_CONVENTION_FIGURE13));
    EXPECT(KLS_OK, kls_tensor_init(&tensor, sizeof tensor, 2, dims));
    EXPECT(KLS_OK, kls_cuda_query(&config, 1, &tensor, 1, NULL, &memory, sizeof memory));
    EXPECT(1, memory.total_bytes > sizeof weights);
    EXPECT(KLS_ERROR_CUDA_NO_DRIVER, kls_cuda_create(&on_gpu, &config, 1, &tensor, 1, NULL));
    said = kls_cuda_last_error(NULL);
    if (strcmp(said, "kls_cuda_create: There is no CUDA driver on this machine.") != 0) return printf("%s\n", said);
    EXPECT(KLS_OK, kls_optimizer_create(&on_cpu, &config, 1, &tensor, 1, NULL));
    for (int i = 0; i < COUNT; i++) weights[i] = (float)((i * 7919) % 1000) / 500.0f - 1.0f;
    before = weights[3] * weights[3];
    for (int step = 0; step < STEPS; step++) {
        memcpy(gradient, weights, sizeof weights);
        EXPECT(KLS_OK, kls_optimizer_step(on_cpu, params, grads, 1, 0.01f));
        after = weights[3] * weights[3];
    }
    EXPECT(1, after < before);
    EXPECT(KLS_OK, kls_optimizer_destroy(&on_cpu));
#ifdef OWN_DRIVER
    EXPECT(0, own_driver_calls);
    EXPECT(0, cuInit(0));
    EXPECT(1, own_driver_calls);
#endif
    printf("klshampoo %s: no driver, %lu bytes of device memory\n", kls_version(), (unsigned long)memory.total_bytes);
    return 0;
}
