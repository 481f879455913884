#include "fixture.h"
#include <math.h>

static const size_t lengths[TENSORS] = {MATRICES, VECTOR};

const char *fixture_describe(fixture *f, int32_t method) {
    const uint64_t matrix[2] = {ROWS, COLUMNS}, vector[1] = {VECTOR};
    memset(f, 0, sizeof *f);
    EXPECT(KLS_OK, kls_config_init(&f->group, sizeof f->group, method, KLS_CONVENTION_FIGURE13));
    EXPECT(KLS_OK, kls_tensor_init(&f->tensors[0], sizeof f->tensors[0], 2, matrix));
    EXPECT(KLS_OK, kls_tensor_init(&f->tensors[1], sizeof f->tensors[1], 1, vector));
    f->tensors[0].slices = LAYERS;
    f->tensors[0].name = "w";
    f->tensors[1].name = "b";
    f->group.refresh_period = 3;
    f->group.weight_decay = 0.1f;
    f->group.bad_gradient = KLS_BAD_GRADIENT_SKIP;
    for (int i = 0; i < MATRICES; i++) f->matrix[i] = 0.1f * (float)(i % 5) - 0.2f;
    for (int i = 0; i < VECTOR; i++) f->vector[i] = 1.0f;
    f->params[0] = f->matrix;
    f->params[1] = f->vector;
    f->grads[0] = f->matrix_grad;
    f->grads[1] = f->vector_grad;
    return NULL;
}

const char *fixture_cpu(fixture *f) {
    kls_options options;
    EXPECT(KLS_OK, kls_options_init(&options, sizeof options));
    options.backend = KLS_BACKEND_PORTABLE;
    EXPECT(KLS_OK, kls_optimizer_create(&f->cpu, &f->group, 1, f->tensors, TENSORS, &options));
    return NULL;
}

const char *fixture_gpu(fixture *f, void *stream) {
    kls_cuda_options options;
    EXPECT(KLS_OK, kls_cuda_options_init(&options, sizeof options));
    options.stream = stream;
    options.refresh_stream = f->refresh_stream;
    return fixture_gpu_with(f, &options);
}

const char *fixture_gpu_with(fixture *f, const kls_cuda_options *options) {
    EXPECT(KLS_OK, kls_cuda_create(&f->gpu, &f->group, 1, f->tensors, TENSORS, options));
    for (int i = 0; i < TENSORS; i++) {
        f->device_params[i] = device_copy_of(f->params[i], lengths[i] * sizeof(float));
        f->device_grads[i] = device_alloc(lengths[i] * sizeof(float));
    }
    EXPECT(KLS_OK, kls_cuda_request_init(&f->request, sizeof f->request));
    f->request.lr = 0.01f;
    f->request.tensor_count = TENSORS;
    f->request.params = f->device_params;
    f->request.grads = (const void *const *)f->device_grads;
    f->request.stream = options->stream;
    return NULL;
}

void fixture_gradients(fixture *f, int step) {
    uint32_t state = 12345u + 977u * (uint32_t)step;
    for (int t = 0; t < TENSORS; t++) {
        float *to = t == 0 ? f->matrix_grad : f->vector_grad;
        for (size_t i = 0; i < lengths[t]; i++) {
            state = state * 1664525u + 1013904223u;
            to[i] = ((float)(state >> 8) / 16777216.0f - 0.5f) * 0.1f;
        }
    }
}

const char *fixture_step_cpu(fixture *f, int step) {
    fixture_gradients(f, step);
    CHECK(kls_optimizer_step(f->cpu, f->params, f->grads, TENSORS, 0.01f) == KLS_OK);
    return NULL;
}

const char *fixture_step_gpu(fixture *f, int step) {
    fixture_gradients(f, step);
    for (int i = 0; i < TENSORS; i++) to_device(f->device_grads[i], f->grads[i], lengths[i] * sizeof(float));
    EXPECT_OF(f->gpu, KLS_OK, kls_cuda_step(f->gpu, &f->request));
    return NULL;
}

const char *fixture_meet(fixture *f) {
    static unsigned char state[64 * 1024];
    CHECK(kls_optimizer_save(f->cpu, state, sizeof state) == KLS_OK);
    EXPECT_OF(f->gpu, KLS_OK, kls_cuda_load(f->gpu, state, sizeof state, f->request.stream));
    for (int i = 0; i < TENSORS; i++) to_device(f->device_params[i], f->params[i], lengths[i] * sizeof(float));
    return NULL;
}

double fixture_difference(fixture *f) {
    static float from[MATRICES];
    double difference = 0, largest = 0;
    for (int t = 0; t < TENSORS; t++) {
        to_host(from, f->device_params[t], lengths[t] * sizeof(float));
        for (size_t i = 0; i < lengths[t]; i++) {
            const double d = fabs((double)from[i] - (double)f->params[t][i]), x = fabs((double)f->params[t][i]);
            if (!(d <= difference)) difference = d;
            if (x > largest) largest = x;
        }
    }
    return difference / largest;
}

const char *fixture_end(fixture *f) {
    for (int i = 0; i < TENSORS; i++) {
        if (!f->device_params[i]) continue;
        device_free(f->device_params[i]);
        device_free(f->device_grads[i]);
    }
    EXPECT(KLS_OK, kls_optimizer_destroy(&f->cpu));
    EXPECT(KLS_OK, kls_cuda_destroy(&f->gpu));
    CHECK(f->cpu == NULL && f->gpu == NULL);
    return NULL;
}
