#include "fixture.h"

/* bf16 parameters with master weights, bf16 and f16 gradients, rounded by chance: the same bits as the CPU's where no factor is in play. */
enum { N = 40 };

static uint16_t to_bf16(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

static const char *formats(int32_t rounding, int master) {
    kls_config group;
    kls_tensor tensor;
    kls_optimizer *cpu = NULL;
    kls_cuda *gpu = NULL;
    kls_options options;
    kls_step request;
    kls_cuda_request device_request;
    uint16_t param[N], grad[N], found[N];
    void *params[1] = {param}, *device_params[1];
    const void *grads[1] = {grad}, *device_grads[1];
    const uint64_t dims[1] = {N};
    EXPECT(KLS_OK, kls_config_init(&group, sizeof group, KLS_METHOD_ADAMW, KLS_CONVENTION_FIGURE13));
    EXPECT(KLS_OK, kls_tensor_init(&tensor, sizeof tensor, 1, dims));
    group.weight_decay = 0.1f;
    tensor.param_format = tensor.grad_format = KLS_FORMAT_BF16;
    tensor.master_weights = master;
    tensor.rounding = rounding;
    tensor.rounding_seed = rounding == KLS_ROUNDING_STOCHASTIC ? 77 : 0;
    EXPECT(KLS_OK, kls_options_init(&options, sizeof options));
    options.backend = KLS_BACKEND_PORTABLE;
    EXPECT(KLS_OK, kls_optimizer_create(&cpu, &group, 1, &tensor, 1, &options));
    EXPECT(KLS_OK, kls_cuda_create(&gpu, &group, 1, &tensor, 1, NULL));
    for (int i = 0; i < N; i++) param[i] = to_bf16(0.3f - 0.02f * (float)i);
    device_params[0] = device_copy_of(param, sizeof param);
    device_grads[0] = device_alloc(sizeof grad);
    EXPECT(KLS_OK, kls_step_init(&request, sizeof request));
    EXPECT(KLS_OK, kls_cuda_request_init(&device_request, sizeof device_request));
    request.lr = device_request.lr = 0.003f;
    request.grad_scale = device_request.grad_scale = 0.25f;
    request.tensor_count = device_request.tensor_count = 1;
    request.params = params;
    request.grads = grads;
    device_request.params = device_params;
    device_request.grads = (const void *const *)device_grads;
    for (int step = 0; step < 9; step++) {
        for (int i = 0; i < N; i++) grad[i] = to_bf16(0.01f * (float)((i * 7 + step * 5) % 23 - 11));
        to_device((void *)(uintptr_t)device_grads[0], grad, sizeof grad);
        CHECK(kls_optimizer_step_with(cpu, &request) == KLS_OK);
        EXPECT_OF(gpu, KLS_OK, kls_cuda_step(gpu, &device_request));
        to_host(found, device_params[0], sizeof found);
        CHECK(memcmp(found, param, sizeof found) == 0);
    }
    device_free(device_params[0]);
    device_free((void *)(uintptr_t)device_grads[0]);
    EXPECT(KLS_OK, kls_optimizer_destroy(&cpu));
    EXPECT(KLS_OK, kls_cuda_destroy(&gpu));
    return NULL;
}

const char *test_formats(void) {
    TRY(formats(KLS_ROUNDING_NEAREST, 0));
    TRY(formats(KLS_ROUNDING_NEAREST, 1));
    TRY(formats(KLS_ROUNDING_STOCHASTIC, 0));
    TRY(formats(KLS_ROUNDING_STOCHASTIC, 1));
    return NULL;
}
