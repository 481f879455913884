#include "fixture.h"

/* Calls of the driver that fail: its words come through, and nothing is left behind. */
typedef void (*fail_function)(const char *call, unsigned n, int code);
typedef uint64_t (*used_function)(int device);

const char *test_failures(void) {
    static fixture f;
    static unsigned char saved[64 * 1024];
    fail_function fail;
    used_function used;
    uint64_t before;
    int made = 0;
    float a[VECTOR], b[VECTOR];
    *(void **)&fail = driver_function("kls_mock_fail");
    *(void **)&used = driver_function("kls_mock_device_memory_used");
    TRY(fixture_describe(&f, KLS_METHOD_KL_SHAMPOO));
    before = used(0);
    /* Every call of kls_cuda_create that can fail, one after the other. */
    for (unsigned n = 1; n < 1000 && !made; n++) {
        kls_status status;
        fail("", n, 999);
        status = kls_cuda_create(&f.gpu, &f.group, 1, f.tensors, TENSORS, NULL);
        fail("", 0, 0);
        made = status == KLS_OK;
        if (made) break;
        if (status != KLS_ERROR_CUDA) fprintf(stderr, "%u: %d: %s\n", n, (int)status, kls_cuda_last_error(NULL));
        CHECK(status == KLS_ERROR_CUDA && f.gpu == NULL && strstr(kls_cuda_last_error(NULL), "CUDA error 999: ") != NULL);
        CHECK(used(0) == before);
    }
    CHECK(made);
    EXPECT(KLS_OK, kls_cuda_destroy(&f.gpu));
    CHECK(used(0) == before);
    fail("cuMemAlloc_v2", 1, 2);
    SAYS(KLS_ERROR_CUDA_OUT_OF_MEMORY, kls_cuda_create(&f.gpu, &f.group, 1, f.tensors, TENSORS, NULL), NULL,
         "kls_cuda_create: The device's memory for the optimizer could not be had.");
    fail("cuModuleLoadDataEx", 1, 222);
    EXPECT(KLS_ERROR_CUDA_DRIVER_TOO_OLD, kls_cuda_create(&f.gpu, &f.group, 1, f.tensors, TENSORS, NULL));

    /* What the driver's compiler says is passed on, on one line and as far as there is room. */
    {
        void (*refuse)(const char *log);
        *(void **)&refuse = driver_function("kls_mock_refuse_modules");
        refuse("ptxas application ptx input, line 9; fatal   : Unsupported .version 9.9\nptxas fatal   : Ptx assembly aborted due to errors\n");
        SAYS(KLS_ERROR_CUDA, kls_cuda_create(&f.gpu, &f.group, 1, f.tensors, TENSORS, NULL), NULL,
             "kls_cuda_create: cuModuleLoadDataEx: CUDA error 218: a PTX JIT compilation failed. ptxas application ptx input, line 9; fatal : "
             "Unsupported .version 9.9 ptxas fatal : Ptx assembly aborted due to errors");
        refuse("");
        CHECK(f.gpu == NULL && used(0) == before);
    }

    /* A capture is noticed before anything is recorded. */
    {
        void (*get)(mock_counters *);
        void (*reset)(void);
        void *const stream = device_stream();
        kls_cuda_options options;
        mock_counters seen;
        *(void **)&get = driver_function("kls_mock_counters_get");
        *(void **)&reset = driver_function("kls_mock_counters_reset");
        EXPECT(KLS_OK, kls_cuda_options_init(&options, sizeof options));
        options.stream = stream;
        begin_capture(stream);
        reset();
        SAYS(KLS_ERROR_CUDA, kls_cuda_create(&f.gpu, &f.group, 1, f.tensors, TENSORS, &options), NULL,
             "kls_cuda_create: This cannot be done while the stream is being captured.");
        get(&seen);
        CHECK(seen.recorded == 0 && seen.launches == 0 && f.gpu == NULL && used(0) == before);
        graph_destroy(end_capture(stream));
        device_stream_destroy(stream);
    }

    TRY(fixture_gpu(&f, NULL));
    for (int step = 0; step < 2; step++) TRY(fixture_step_gpu(&f, step));
    fail("cuLaunchKernel", 1, 700);
    EXPECT(KLS_ERROR_CUDA, kls_cuda_step(f.gpu, &f.request));
    CHECK(strstr(kls_cuda_last_error(f.gpu), "kls_cuda_step: cuLaunchKernel: CUDA error 700: ") == kls_cuda_last_error(f.gpu));
    fail("cuMemcpyDtoHAsync_v2", 1, 719);
    to_host(a, f.device_params[1], sizeof a);
    memset(saved, 0x5a, sizeof saved);
    EXPECT(KLS_ERROR_CUDA, kls_cuda_save(f.gpu, saved, sizeof saved, NULL));
    CHECK(strstr(kls_cuda_last_error(f.gpu), "kls_cuda_save: cuMemcpyDtoHAsync: CUDA error 719: ") == kls_cuda_last_error(f.gpu));
    for (size_t i = 0; i < sizeof saved; i++) CHECK(saved[i] == 0x5a);
    /* It goes on when the driver does. */
    EXPECT_OF(f.gpu, KLS_OK, kls_cuda_save(f.gpu, saved, sizeof saved, NULL));
    EXPECT_OF(f.gpu, KLS_OK, kls_cuda_step(f.gpu, &f.request));
    to_host(b, f.device_params[1], sizeof b);
    CHECK(memcmp(a, b, sizeof a) != 0);
    return fixture_end(&f);
}

const char *test_old_driver(void) {
    static fixture f;
    void (*set_version)(int);
    void (*set_count)(int);
    void (*set_capability)(int);
    *(void **)&set_version = driver_function("kls_mock_set_driver_version");
    *(void **)&set_count = driver_function("kls_mock_set_device_count");
    *(void **)&set_capability = driver_function("kls_mock_set_device_capability");
    TRY(fixture_describe(&f, KLS_METHOD_KL_SHAMPOO));
    set_version(11040);
    SAYS(KLS_ERROR_CUDA_DRIVER_TOO_OLD, kls_cuda_create(&f.gpu, &f.group, 1, f.tensors, TENSORS, NULL), NULL,
         "kls_cuda_create: The CUDA driver is too old for this library.");
    set_version(13000);
    set_capability(75);
    SAYS(KLS_ERROR_CUDA_UNSUPPORTED, kls_cuda_create(&f.gpu, &f.group, 1, f.tensors, TENSORS, NULL), NULL,
         "kls_cuda_create: device: The device is older than the kernels, which need compute capability 8.0.");
    set_capability(90);
    set_count(0);
    SAYS(KLS_ERROR_CUDA_NO_DEVICE, kls_cuda_create(&f.gpu, &f.group, 1, f.tensors, TENSORS, NULL), NULL,
         "kls_cuda_create: device: There is no such CUDA device.");
    set_count(2);
    EXPECT(KLS_OK, kls_cuda_create(&f.gpu, &f.group, 1, f.tensors, TENSORS, NULL));
    return fixture_end(&f);
}

/* A step allocates nothing and waits for nothing. */
const char *test_nothing_hidden(void) {
    static fixture f;
    void (*get)(mock_counters *);
    void (*reset)(void);
    mock_counters seen;
    void *matrix_grad;
    *(void **)&get = driver_function("kls_mock_counters_get");
    *(void **)&reset = driver_function("kls_mock_counters_reset");
    TRY(fixture_describe(&f, KLS_METHOD_KL_SHAMPOO));
    TRY(fixture_gpu(&f, device_stream()));
    for (int step = 0; step < 8; step++) {
        fixture_gradients(&f, step);
        to_device(f.device_grads[0], f.matrix_grad, sizeof f.matrix_grad);
        to_device(f.device_grads[1], f.vector_grad, sizeof f.vector_grad);
        reset();
        EXPECT_OF(f.gpu, KLS_OK, kls_cuda_step(f.gpu, &f.request));
        get(&seen);
        CHECK(seen.launches > 0 && seen.allocations == 0 && seen.frees == 0 && seen.synchronisations == 0 && seen.lookups == 0);
        CHECK(seen.hidden == 0 && seen.copies <= 1);
        /* Once the first steps are known to be over nothing is copied any more. */
        if (step > 3) CHECK(seen.copies == 0 && seen.queries == 0);
    }
    device_stream_destroy(f.request.stream);
    TRY(fixture_end(&f));
    /* A tensor that has been frozen from the start does not keep that up. */
    TRY(fixture_describe(&f, KLS_METHOD_KL_SHAMPOO));
    TRY(fixture_gpu(&f, device_stream()));
    matrix_grad = f.device_grads[0];
    for (int step = 0; step < 16; step++) {
        f.device_grads[0] = step < 8 ? NULL : matrix_grad;
        fixture_gradients(&f, step);
        if (step >= 8) to_device(f.device_grads[0], f.matrix_grad, sizeof f.matrix_grad);
        to_device(f.device_grads[1], f.vector_grad, sizeof f.vector_grad);
        reset();
        EXPECT_OF(f.gpu, KLS_OK, kls_cuda_step(f.gpu, &f.request));
        get(&seen);
        if (step == 8) CHECK(seen.copies == 1);
        if ((step > 3 && step < 8) || step > 11) CHECK(seen.copies == 0 && seen.queries == 0);
    }
    device_stream_destroy(f.request.stream);
    return fixture_end(&f);
}
