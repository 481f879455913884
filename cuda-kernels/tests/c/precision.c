#define _POSIX_C_SOURCE 200809L
#include "fixture.h"
#include <math.h>
#include <stddef.h>

enum { STEPS = 7 };

/* The parameters of the matrices after some steps. */
static const char *run(float *to, const kls_cuda_options *options) {
    static fixture f;
    TRY(fixture_describe(&f, KLS_METHOD_KL_SHAMPOO));
    TRY(fixture_gpu_with(&f, options));
    for (int step = 0; step < STEPS; step++) TRY(fixture_step_gpu(&f, step));
    to_host(to, f.device_params[0], MATRICES * sizeof *to);
    return fixture_end(&f);
}

/* Their distance, over how far they have come. */
static double distance(const float *a, const float *b) {
    static fixture f;
    double difference = 0, moved = 0;
    if (fixture_describe(&f, KLS_METHOD_KL_SHAMPOO)) return HUGE_VAL;
    for (int i = 0; i < MATRICES; i++) {
        difference += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
        moved += ((double)b[i] - (double)f.matrix[i]) * ((double)b[i] - (double)f.matrix[i]);
    }
    return sqrt(difference / moved);
}

/* Each precision is another one, near f32; and so is each class of products. */
const char *test_precisions(void) {
    static float f32[MATRICES], all[3][MATRICES], one[3][MATRICES], again[MATRICES];
    static const int32_t precisions[3] = {KLS_CUDA_PRECISION_TF32X3, KLS_CUDA_PRECISION_TF32, KLS_CUDA_PRECISION_BF16};
    static const double least[3] = {0, 1e-5, 1e-4}, most[3] = {1e-4, 3e-2, 3e-1};
    kls_cuda_options options;
    EXPECT(KLS_OK, kls_cuda_options_init(&options, sizeof options));
    options.precision_project = options.precision_factor = options.precision_refresh = KLS_CUDA_PRECISION_F32;
    TRY(run(f32, &options));
    for (int i = 0; i < 3; i++) {
        double d;
        options.precision_project = options.precision_factor = options.precision_refresh = precisions[i];
        TRY(run(all[i], &options));
        d = distance(all[i], f32);
        fprintf(stderr, "precision %d: %g\n", (int)precisions[i], d);
        CHECK(d > least[i] && d < most[i]);
        TRY(run(again, &options));
        CHECK(memcmp(again, all[i], sizeof again) == 0);
    }
    for (int i = 0; i < 3; i++) {
        EXPECT(KLS_OK, kls_cuda_options_init(&options, sizeof options));
        options.precision_project = options.precision_factor = options.precision_refresh = KLS_CUDA_PRECISION_F32;
        *(i == 0 ? &options.precision_project : i == 1 ? &options.precision_factor : &options.precision_refresh) = KLS_CUDA_PRECISION_BF16;
        TRY(run(one[i], &options));
        CHECK(memcmp(one[i], f32, sizeof f32) != 0 && distance(one[i], f32) < 3e-1);
        for (int j = 0; j < i; j++) CHECK(memcmp(one[i], one[j], sizeof one[i]) != 0);
    }
    /* A program of the header before: what lies behind its options is not read. */
    EXPECT(KLS_OK, kls_cuda_options_init(&options, sizeof options));
    TRY(run(f32, &options));
    options.struct_size = offsetof(kls_cuda_options, precision_project);
    options.precision_project = options.blas = 77;
    TRY(run(again, &options));
    CHECK(memcmp(again, f32, sizeof again) == 0);
    return NULL;
}

/* Options with which cuBLAS makes every product that it can. */
static kls_status everything(kls_cuda_options *options) {
    const kls_status status = kls_cuda_options_init(options, sizeof *options);
    options->blas = KLS_CUDA_BLAS_REQUIRED;
    options->blas_from = 1;
    return status;
}

/* With cuBLAS, eager and as graphs. */
const char *test_blas(void) {
    enum { PERIOD = 3, WARM = 4 };
    static fixture f, g;
    static float own[MATRICES], blas[MATRICES], a[MATRICES], b[MATRICES];
    void *graphs[PERIOD];
    kls_cuda_options options;
    kls_cuda_memory memory;
    uint64_t without;
    char *name;
    kls_status status;
    int step = 0;
    TRY(fixture_describe(&f, KLS_METHOD_KL_SHAMPOO));
    EXPECT(KLS_OK, everything(&options));
    status = kls_cuda_create(&f.gpu, &f.group, 1, f.tensors, TENSORS, &options);
    if (status == KLS_ERROR_CUDA_UNSUPPORTED && !getenv("KLS_CUDA_BLAS")) {
        fprintf(stderr, "NOT RUN: there is no cuBLAS\n");
        return NULL;
    }
    EXPECT(KLS_OK, status);
    EXPECT(KLS_OK, kls_cuda_destroy(&f.gpu));
    for (int i = 0; i < 3; i++) {
        static const int32_t precisions[3] = {KLS_CUDA_PRECISION_F32, KLS_CUDA_PRECISION_TF32, KLS_CUDA_PRECISION_BF16};
        static const double bound[3] = {1e-4, 3e-2, 3e-1};
        options.precision_project = options.precision_factor = options.precision_refresh = precisions[i];
        options.blas = KLS_CUDA_BLAS_NEVER;
        TRY(run(own, &options));
        options.blas = KLS_CUDA_BLAS_AUTO;
        TRY(run(blas, &options));
        fprintf(stderr, "precision %d: %g\n", (int)precisions[i], distance(blas, own));
        CHECK(distance(blas, own) < bound[i]);
    }

    /* The query counts its workspace; a table of small products has none. */
    EXPECT(KLS_OK, kls_cuda_query(&f.group, 1, f.tensors, TENSORS, NULL, &memory, sizeof memory));
    without = memory.workspace_bytes;
    EXPECT(KLS_OK, kls_cuda_query(&f.group, 1, f.tensors, TENSORS, &options, &memory, sizeof memory));
    CHECK(memory.workspace_bytes == without + (32 << 20));
    options.blas = KLS_CUDA_BLAS_NEVER;
    EXPECT(KLS_OK, kls_cuda_query(&f.group, 1, f.tensors, TENSORS, &options, &memory, sizeof memory));
    CHECK(memory.workspace_bytes == without);

    /* Steps of a period as graphs are the steps. */
    for (int i = 0; i < 2; i++) {
        fixture *const x = i == 0 ? &f : &g;
        TRY(fixture_describe(x, KLS_METHOD_KL_SHAMPOO));
        EXPECT(KLS_OK, everything(&options));
        options.stream = device_stream();
        TRY(fixture_gpu_with(x, &options));
    }
    for (; step < WARM; step++) {
        TRY(fixture_step_gpu(&f, step));
        TRY(fixture_step_gpu(&g, step));
    }
    for (int i = 0; i < PERIOD; i++) {
        begin_capture(g.request.stream);
        EXPECT_OF(g.gpu, KLS_OK, kls_cuda_step(g.gpu, &g.request));
        graphs[i] = end_capture(g.request.stream);
    }
    for (int i = 0; i < 2 * PERIOD; i++, step++) {
        TRY(fixture_step_gpu(&f, step));
        to_device(g.device_grads[0], f.matrix_grad, sizeof f.matrix_grad);
        to_device(g.device_grads[1], f.vector_grad, sizeof f.vector_grad);
        graph_launch(graphs[i % PERIOD], g.request.stream);
        to_host(a, f.device_params[0], sizeof a);
        to_host(b, g.device_params[0], sizeof b);
        CHECK(memcmp(a, b, sizeof a) == 0);
    }
    for (int i = 0; i < PERIOD; i++) graph_destroy(graphs[i]);
    device_stream_destroy(f.request.stream);
    device_stream_destroy(g.request.stream);
    TRY(fixture_end(&f));
    TRY(fixture_end(&g));

    /* Without one: an error where it is required, and our own kernels where it is not. */
    name = getenv("KLS_CUDA_BLAS");
    name = name ? strdup(name) : NULL;
    CHECK(setenv("KLS_CUDA_BLAS", "/no/such/libcublas.so", 1) == 0);
    TRY(fixture_describe(&f, KLS_METHOD_KL_SHAMPOO));
    EXPECT(KLS_OK, everything(&options));
    SAYS(KLS_ERROR_CUDA_UNSUPPORTED, kls_cuda_create(&f.gpu, &f.group, 1, f.tensors, TENSORS, &options), NULL,
         "kls_cuda_create: blas: There is no cuBLAS (libcublas.so.13 or .12), which is required.");
    CHECK(f.gpu == NULL);
    options.blas = KLS_CUDA_BLAS_AUTO;
    TRY(run(blas, &options));
    options.blas = KLS_CUDA_BLAS_NEVER;
    TRY(run(own, &options));
    CHECK(memcmp(own, blas, sizeof own) == 0);
    if (name) setenv("KLS_CUDA_BLAS", name, 1);
    free(name);
    return fixture_end(&f);
}

/* Every call of cuBLAS that fails is a status with its words, and a checkpoint goes on from where it was. */
const char *test_blas_failures(void) {
    static fixture f;
    static unsigned char saved[64 * 1024];
    static float before[MATRICES], after[MATRICES], again[MATRICES];
    void (*fail)(const char *call, unsigned n, int code);
    uint64_t (*used)(int device);
    void (*get)(mock_counters *);
    void (*reset)(void);
    kls_cuda_options options;
    mock_counters seen;
    uint64_t free_before;
    int made = 0, failed = 0;
    *(void **)&fail = driver_function("kls_mock_fail");
    *(void **)&used = driver_function("kls_mock_device_memory_used");
    *(void **)&get = driver_function("kls_mock_counters_get");
    *(void **)&reset = driver_function("kls_mock_counters_reset");
    TRY(fixture_describe(&f, KLS_METHOD_KL_SHAMPOO));
    EXPECT(KLS_OK, everything(&options));
    free_before = used(0);
    for (unsigned n = 1; n < 1000 && !made; n++) {
        kls_status status;
        fail("", n, 999);
        status = kls_cuda_create(&f.gpu, &f.group, 1, f.tensors, TENSORS, &options);
        fail("", 0, 0);
        made = status == KLS_OK;
        if (made) break;
        CHECK(status == KLS_ERROR_CUDA && f.gpu == NULL && strstr(kls_cuda_last_error(NULL), " error 999: ") != NULL);
        CHECK(used(0) == free_before);
    }
    CHECK(made);
    EXPECT(KLS_OK, kls_cuda_destroy(&f.gpu));
    fail("cublasCreate_v2", 1, 1);
    SAYS(KLS_ERROR_CUDA, kls_cuda_create(&f.gpu, &f.group, 1, f.tensors, TENSORS, &options), NULL,
         "kls_cuda_create: cublasCreate: cuBLAS error 1: the library was not initialized.");
    fail("cublasCreate_v2", 1, 3);
    EXPECT(KLS_ERROR_CUDA_OUT_OF_MEMORY, kls_cuda_create(&f.gpu, &f.group, 1, f.tensors, TENSORS, &options));
    CHECK(used(0) == free_before);

    options.stream = device_stream();
    TRY(fixture_gpu_with(&f, &options));
    fail("cublasSetStream_v2", 1, 7);
    SAYS(KLS_ERROR_CUDA, kls_cuda_step(f.gpu, &f.request), f.gpu,
         "kls_cuda_step: cublasSetStream: cuBLAS error 7: an unsupported value or parameter was passed to the function.");
    fail("cublasSetWorkspace_v2", 1, 7);
    SAYS(KLS_ERROR_CUDA, kls_cuda_step(f.gpu, &f.request), f.gpu,
         "kls_cuda_step: cublasSetWorkspace: cuBLAS error 7: an unsupported value or parameter was passed to the function.");
    fail("", 0, 0);
    TRY(fixture_end(&f));

    TRY(fixture_describe(&f, KLS_METHOD_KL_SHAMPOO));
    TRY(fixture_gpu_with(&f, &options));
    for (int step = 0; step < 5; step++) TRY(fixture_step_gpu(&f, step));
    to_host(before, f.device_params[0], sizeof before);
    EXPECT_OF(f.gpu, KLS_OK, kls_cuda_save(f.gpu, saved, sizeof saved, options.stream));
    for (unsigned n = 1; n < 1000; n++) {
        kls_status status;
        fixture_gradients(&f, 5);
        to_device(f.device_grads[0], f.matrix_grad, sizeof f.matrix_grad);
        to_device(f.device_grads[1], f.vector_grad, sizeof f.vector_grad);
        fail("cublasGemmStridedBatchedEx", n, 13);
        status = kls_cuda_step(f.gpu, &f.request);
        fail("", 0, 0);
        if (status != KLS_OK) {
            failed++;
            CHECK(status == KLS_ERROR_CUDA);
            CHECK(strcmp(kls_cuda_last_error(f.gpu), "kls_cuda_step: cublasGemmStridedBatchedEx: cuBLAS error 13: the function failed to launch on the GPU.") == 0);
        }
        to_host(n == 1 ? after : again, f.device_params[0], sizeof after);
        EXPECT_OF(f.gpu, KLS_OK, kls_cuda_load(f.gpu, saved, sizeof saved, options.stream));
        to_device(f.device_params[0], before, sizeof before);
        if (status == KLS_OK) break;
        /* The step as it would have been. */
        TRY(fixture_step_gpu(&f, 5));
        to_host(n == 1 ? after : again, f.device_params[0], sizeof after);
        if (n > 1) CHECK(memcmp(after, again, sizeof after) == 0);
        EXPECT_OF(f.gpu, KLS_OK, kls_cuda_load(f.gpu, saved, sizeof saved, options.stream));
        to_device(f.device_params[0], before, sizeof before);
    }
    CHECK(failed > 3 && memcmp(after, again, sizeof after) == 0 && memcmp(after, before, sizeof after) != 0);

    /* It allocates nothing in a step, and waits for nothing. */
    for (int step = 5; step < 12; step++) {
        fixture_gradients(&f, step);
        to_device(f.device_grads[0], f.matrix_grad, sizeof f.matrix_grad);
        to_device(f.device_grads[1], f.vector_grad, sizeof f.vector_grad);
        reset();
        EXPECT_OF(f.gpu, KLS_OK, kls_cuda_step(f.gpu, &f.request));
        get(&seen);
        CHECK(seen.launches > 0 && seen.hidden == 0 && seen.allocations == 0 && seen.frees == 0 && seen.synchronisations == 0);
    }
    device_stream_destroy(options.stream);
    return fixture_end(&f);
}
