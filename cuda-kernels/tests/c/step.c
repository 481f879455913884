#include "fixture.h"
#include <math.h>

/* Methods of the family beside the CPU's optimizer. */
const char *test_step(void) {
    static fixture f;
    static const struct {
        int32_t method;
        double within;
    } methods[] = {{KLS_METHOD_KL_SHAMPOO, 1e-5}, {KLS_METHOD_KL_SOAP, 1e-5}, {KLS_METHOD_SOAP, 1e-5},     {KLS_METHOD_SHAMPOO, 1e-5},
                   {KLS_METHOD_IDEALIZED_KL, 1e-5}, {KLS_METHOD_ADAMW, 1e-6}, {KLS_METHOD_ADAFACTOR, 1e-6}, {KLS_METHOD_SGD, 1e-6}};
    for (size_t m = 0; m < sizeof methods / sizeof methods[0]; m++) {
        TRY(fixture_describe(&f, methods[m].method));
        TRY(fixture_cpu(&f));
        TRY(fixture_gpu(&f, device_stream()));
        for (int step = 0; step < 14; step++) {
            TRY(fixture_step_cpu(&f, step));
            TRY(fixture_step_gpu(&f, step));
            if (step == 0) TRY(fixture_meet(&f));
        }
        {
            const double difference = fixture_difference(&f);
            if (!(difference < methods[m].within)) fprintf(stderr, "method %d: %g\n", (int)methods[m].method, difference);
            CHECK(difference < methods[m].within);
        }
        device_stream_destroy(f.request.stream);
        TRY(fixture_end(&f));
    }

    /* Rate and scale on the device are what they are by value; a NULL gradient freezes. */
    {
        static fixture g;
        float *scalars, halves[VECTOR];
        const float numbers[2] = {0.01f, 0.5f};
        float before[MATRICES], after[MATRICES], a[VECTOR], b[VECTOR];
        TRY(fixture_describe(&f, KLS_METHOD_KL_SHAMPOO));
        TRY(fixture_describe(&g, KLS_METHOD_KL_SHAMPOO));
        TRY(fixture_gpu(&f, NULL));
        TRY(fixture_gpu(&g, NULL));
        scalars = device_copy_of(numbers, sizeof numbers);
        g.request.lr = NAN;
        g.request.grad_scale = NAN;
        g.request.device_lr = scalars;
        g.request.device_grad_scale = scalars + 1;
        f.request.grad_scale = 0.5f;
        for (int step = 0; step < 5; step++) {
            TRY(fixture_step_gpu(&f, step));
            TRY(fixture_step_gpu(&g, step));
        }
        to_host(a, f.device_params[1], sizeof a);
        to_host(b, g.device_params[1], sizeof b);
        CHECK(memcmp(a, b, sizeof a) == 0);
        to_host(before, f.device_params[0], sizeof before);
        to_host(after, g.device_params[0], sizeof after);
        CHECK(memcmp(before, after, sizeof after) == 0);
        /* What the device reads is not what the request says. */
        for (int i = 0; i < VECTOR; i++) halves[i] = a[i];
        to_device(scalars, (const float[2]){0.0f, 0.5f}, 2 * sizeof(float));
        g.group.weight_decay = 0;
        TRY(fixture_step_gpu(&g, 5));
        to_host(b, g.device_params[1], sizeof b);
        CHECK(memcmp(halves, b, sizeof b) == 0);
        {
            const void *grads[TENSORS] = {NULL, f.device_grads[1]};
            f.request.grads = grads;
            TRY(fixture_step_gpu(&f, 5));
            to_host(after, f.device_params[0], sizeof after);
            CHECK(memcmp(before, after, sizeof after) == 0);
            to_host(b, f.device_params[1], sizeof b);
            CHECK(memcmp(a, b, sizeof b) != 0);
        }
        device_free(scalars);
        TRY(fixture_end(&f));
        TRY(fixture_end(&g));
    }

    /* A bound on the norm is a factor on all gradients; one that is not reached is none. */
    for (int bounded = 0; bounded < 2; bounded++) {
        static fixture g;
        double square = 0;
        TRY(fixture_describe(&g, KLS_METHOD_SGD));
        TRY(fixture_cpu(&g));
        TRY(fixture_gpu(&g, NULL));
        for (int step = 0; step < 3; step++) {
            kls_step request;
            fixture_gradients(&g, step);
            square = 0;
            for (int i = 0; i < MATRICES; i++) square += (double)g.matrix_grad[i] * (double)g.matrix_grad[i];
            for (int i = 0; i < VECTOR; i++) square += (double)g.vector_grad[i] * (double)g.vector_grad[i];
            CHECK(kls_step_init(&request, sizeof request) == KLS_OK);
            request.lr = 0.01f;
            request.tensor_count = TENSORS;
            request.params = (void *const *)(void *)g.params;
            request.grads = (const void *const *)(const void *)g.grads;
            request.grad_scale = bounded ? (float)(0.1 / sqrt(square)) : 1.0f;
            g.request.max_norm = bounded ? 0.1f : (float)sqrt(square) * 2;
            CHECK(kls_optimizer_step_with(g.cpu, &request) == KLS_OK);
            TRY(fixture_step_gpu(&g, step));
        }
        CHECK(sqrt(square) > 0.2);
        {
            float norm = 0;
            EXPECT_OF(g.gpu, KLS_OK, kls_cuda_copy_norm(g.gpu, &norm, NULL));
            CHECK(fabs((double)norm - sqrt(square)) < 1e-6 * sqrt(square));
            EXPECT(KLS_ERROR_NULL, kls_cuda_copy_norm(g.gpu, NULL, NULL));
        }
        CHECK(fixture_difference(&g) < 1e-6);
        TRY(fixture_end(&g));
    }
    return NULL;
}

const char *test_step_errors(void) {
    static fixture f;
    kls_cuda_request good;
    void *params[TENSORS];
    const void *grads[TENSORS];
    float before[VECTOR], after[VECTOR];
    TRY(fixture_describe(&f, KLS_METHOD_KL_SHAMPOO));
    TRY(fixture_gpu(&f, NULL));
    TRY(fixture_step_gpu(&f, 0));
    to_host(before, f.device_params[1], sizeof before);
    good = f.request;
    for (int i = 0; i < TENSORS; i++) params[i] = f.device_params[i], grads[i] = f.device_grads[i];
#define STEP(status, text) SAYS(status, kls_cuda_step(f.gpu, &f.request), f.gpu, "kls_cuda_step: " text); f.request = good
    SAYS(KLS_ERROR_NULL, kls_cuda_step(f.gpu, NULL), f.gpu, "kls_cuda_step: request: A pointer is NULL.");
    f.request.struct_size = 8;
    EXPECT(KLS_ERROR_STRUCT_SIZE, kls_cuda_step(f.gpu, &f.request));
    f.request = good;
    SAYS(KLS_ERROR_NO_SUCH_STATE, kls_cuda_copy_norm(f.gpu, before, NULL), f.gpu, "kls_cuda_copy_norm: No step has had a bound on the norm.");
    f.request.max_norm = -1;
    STEP(KLS_ERROR_GRAD_SCALE, "max_norm: The bound on the norm must be finite and at least 0.");
    f.request.max_norm = NAN;
    STEP(KLS_ERROR_GRAD_SCALE, "max_norm: The bound on the norm must be finite and at least 0.");
    f.request.tensor_count = 1;
    STEP(KLS_ERROR_TENSOR_COUNT, "tensor_count: tensor_count is not the number of tensors that the optimizer was made for.");
    f.request.lr = NAN;
    STEP(KLS_ERROR_LEARNING_RATE, "lr: The learning rate must be finite and at least 0.");
    f.request.lr = -1;
    STEP(KLS_ERROR_LEARNING_RATE, "lr: The learning rate must be finite and at least 0.");
    f.request.grad_scale = 0;
    EXPECT(KLS_ERROR_GRAD_SCALE, kls_cuda_step(f.gpu, &f.request));
    f.request.grad_scale = INFINITY;
    EXPECT(KLS_ERROR_GRAD_SCALE, kls_cuda_step(f.gpu, &f.request));
    f.request = good;
    f.request.device_lr = (const float *)(const void *)((const char *)f.device_params[0] + 2);
    STEP(KLS_ERROR_MISALIGNED, "device_lr: A pointer is not aligned for its type; memory for an optimizer needs the alignment that the query gives.");
    f.request.params = NULL;
    STEP(KLS_ERROR_NULL, "params: A pointer is NULL.");
    f.request.grads = NULL;
    STEP(KLS_ERROR_NULL, "grads: A pointer is NULL.");
    params[1] = NULL;
    f.request.params = params;
    STEP(KLS_ERROR_NULL, "tensor 1 \"b\", params: A pointer is NULL.");
    params[1] = (char *)f.device_params[1] + 1;
    f.request.params = params;
    EXPECT(KLS_ERROR_MISALIGNED, kls_cuda_step(f.gpu, &f.request));
    params[1] = f.device_params[1];
    grads[1] = params[1];
    f.request.grads = grads;
    EXPECT(KLS_ERROR_OVERLAP, kls_cuda_step(f.gpu, &f.request));
    f.request = good;
    /* Nothing was queued. */
    to_host(after, f.device_params[1], sizeof after);
    CHECK(memcmp(before, after, sizeof after) == 0);
    EXPECT(KLS_OK, kls_cuda_step(f.gpu, &f.request));
    to_host(after, f.device_params[1], sizeof after);
    CHECK(memcmp(before, after, sizeof after) != 0);
    return fixture_end(&f);
}
