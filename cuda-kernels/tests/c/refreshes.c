#include "fixture.h"

/* Refreshes on a stream of their own. */

enum { STEPS = 16, PERIOD = 3, BLOB = 64 * 1024 };

/* Of every step on the device, so that nothing waits in between. */
static void *grads[STEPS][TENSORS];

static void upload_gradients(void) {
    static fixture f;
    const size_t bytes[TENSORS] = {sizeof f.matrix_grad, sizeof f.vector_grad};
    f.grads[0] = f.matrix_grad;
    f.grads[1] = f.vector_grad;
    for (int step = 0; step < STEPS; step++) {
        fixture_gradients(&f, step);
        for (int t = 0; t < TENSORS; t++) grads[step][t] = device_copy_of(f.grads[t], bytes[t]);
    }
}

static const char *make(fixture *f, int32_t order, int32_t stagger, void *stream, void *refresh_stream) {
    TRY(fixture_describe(f, KLS_METHOD_KL_SHAMPOO));
    f->group.stagger = stagger;
    f->group.step_order = order;
    f->refresh_stream = refresh_stream;
    return fixture_gpu(f, stream);
}

static const char *make_steps(fixture *f, int from, int to) {
    for (int step = from; step < to; step++) {
        f->request.grads = (const void *const *)grads[step];
        EXPECT_OF(f->gpu, KLS_OK, kls_cuda_step(f->gpu, &f->request));
    }
    return NULL;
}

static const char *same_parameters(fixture *f, fixture *g, int wanted) {
    static float a[MATRICES], b[MATRICES];
    to_host(a, f->device_params[0], sizeof a);
    to_host(b, g->device_params[0], sizeof b);
    CHECK((memcmp(a, b, sizeof a) == 0) == wanted);
    to_host(a, f->device_params[1], sizeof f->vector);
    to_host(b, g->device_params[1], sizeof g->vector);
    CHECK(memcmp(a, b, sizeof f->vector) == 0);
    return NULL;
}

static const char *same_save(fixture *f, fixture *g) {
    static unsigned char one[BLOB], two[BLOB];
    uint64_t size = 0;
    EXPECT_OF(f->gpu, KLS_OK, kls_cuda_save_size(f->gpu, &size));
    CHECK(size <= BLOB);
    EXPECT_OF(f->gpu, KLS_OK, kls_cuda_save(f->gpu, one, sizeof one, f->request.stream));
    EXPECT_OF(g->gpu, KLS_OK, kls_cuda_save(g->gpu, two, sizeof two, g->request.stream));
    CHECK(memcmp(one, two, (size_t)size) == 0);
    /* And on from there. */
    EXPECT_OF(f->gpu, KLS_OK, kls_cuda_load(f->gpu, two, (size_t)size, f->request.stream));
    return NULL;
}

static const char *same_basis(fixture *f, fixture *g) {
    static float a[ROWS * ROWS], b[ROWS * ROWS];
    EXPECT_OF(f->gpu, KLS_OK, kls_cuda_read_state(f->gpu, 0, 1, KLS_STATE_BASIS, 0, a, ROWS * ROWS, f->request.stream));
    EXPECT_OF(g->gpu, KLS_OK, kls_cuda_read_state(g->gpu, 0, 1, KLS_STATE_BASIS, 0, b, ROWS * ROWS, g->request.stream));
    CHECK(memcmp(a, b, sizeof a) == 0);
    return NULL;
}

static uint32_t refreshes_of(fixture *f) {
    static unsigned char headers[4096];
    kls_counters counters;
    void *const stream = f->request.stream;
    if (kls_cuda_copy_headers(f->gpu, headers, sizeof headers, stream) != KLS_OK) return 0;
    if (kls_cuda_counters(f->gpu, headers, sizeof headers, 0, 0, &counters, sizeof counters) != KLS_OK) return 0;
    return counters.refreshes;
}

/* Beside the step and on its stream, with the order of steps that this means and as part of such steps: the same bits, whoever looks at them. */
static const char *bits(void *refresh_stream) {
    static fixture beside, behind, within, usual;
    void *const stream = device_stream();
    TRY(make(&beside, KLS_ORDER_ESTIMATE_FIRST, 1, stream, refresh_stream));
    TRY(make(&behind, KLS_ORDER_ESTIMATE_FIRST, 1, stream, stream));
    TRY(make(&within, KLS_ORDER_APPLY_FIRST, 1, stream, NULL));
    TRY(make(&usual, KLS_ORDER_ESTIMATE_FIRST, 1, stream, NULL));
    for (int step = 0; step < STEPS; step += 2) {
        TRY(make_steps(&beside, step, step + 2));
        TRY(make_steps(&behind, step, step + 2));
        TRY(make_steps(&within, step, step + 2));
        TRY(make_steps(&usual, step, step + 2));
        /* Whoever looks first waits for what is under way. */
        switch (step / 2 % 4) {
        case 0: TRY(same_basis(&beside, &within)); break;
        case 1: TRY(same_save(&beside, &behind)); break;
        case 2: CHECK(refreshes_of(&beside) == refreshes_of(&within)); break;
        default: break; /* The next step. */
        }
        TRY(same_parameters(&beside, &behind, 1));
        TRY(same_parameters(&beside, &within, 1));
    }
    TRY(same_basis(&beside, &within));
    TRY(same_save(&beside, &behind));
    CHECK(refreshes_of(&beside) == refreshes_of(&within) && refreshes_of(&within) > 3);
    TRY(same_parameters(&beside, &usual, 0));
    TRY(fixture_end(&behind));
    device_stream_destroy(stream);
    TRY(fixture_end(&beside));
    TRY(fixture_end(&within));
    return fixture_end(&usual);
}

/* The workspace of these refreshes is in what is asked for beforehand. */
static const char *memory_is_told(void *refresh_stream) {
    static fixture f;
    kls_cuda_options options;
    kls_cuda_memory without, with;
    TRY(fixture_describe(&f, KLS_METHOD_KL_SHAMPOO));
    EXPECT(KLS_OK, kls_cuda_options_init(&options, sizeof options));
    EXPECT(KLS_OK, kls_cuda_query(&f.group, 1, f.tensors, TENSORS, &options, &without, sizeof without));
    options.refresh_stream = refresh_stream;
    EXPECT(KLS_OK, kls_cuda_query(&f.group, 1, f.tensors, TENSORS, &options, &with, sizeof with));
    /* Four squares and a tensor of each matrix at least. */
    CHECK(with.workspace_bytes >= without.workspace_bytes + sizeof(float) * LAYERS * (4 * ROWS * ROWS + ROWS * COLUMNS));
    CHECK(with.state_bytes == without.state_bytes && with.total_bytes > with.state_bytes + with.workspace_bytes);
    options.refresh_stream = (void *)(uintptr_t)1;
    SAYS(KLS_ERROR_UNSUPPORTED, kls_cuda_create(&f.gpu, &f.group, 1, f.tensors, TENSORS, &options), NULL,
         "kls_cuda_create: refresh_stream: The legacy default stream overlaps nothing.");
    options.refresh_stream = refresh_stream;
    /* A struct of before there was one. */
    options.struct_size = offsetof(kls_cuda_options, refresh_stream);
    EXPECT(KLS_OK, kls_cuda_query(&f.group, 1, f.tensors, TENSORS, &options, &with, sizeof with));
    CHECK(with.workspace_bytes == without.workspace_bytes);
    return NULL;
}

/* Captured, with what is under way from before, and replayed. */
static const char *captured(void *refresh_stream) {
    enum { WARM = 2 * PERIOD, REPLAYS = 2 * PERIOD };
    static fixture f, g;
    static unsigned char blob[BLOB];
    static float host[MATRICES];
    const size_t bytes[TENSORS] = {sizeof f.matrix_grad, sizeof f.vector_grad};
    void *graphs[PERIOD], *own[TENSORS];
    void *const stream = device_stream();
    TRY(make(&f, KLS_ORDER_APPLY_FIRST, 0, stream, NULL));
    TRY(make(&g, KLS_ORDER_ESTIMATE_FIRST, 0, stream, refresh_stream));
    TRY(make_steps(&f, 0, WARM));
    TRY(make_steps(&g, 0, WARM));
    for (int t = 0; t < TENSORS; t++) own[t] = device_alloc(bytes[t]);
    g.request.grads = (const void *const *)own;
    /* The last of these steps had refreshes: what is captured cannot wait for them. */
    begin_capture(stream);
    SAYS(KLS_ERROR_CUDA, kls_cuda_step(g.gpu, &g.request), g.gpu, "kls_cuda_step: This cannot be done while the stream is being captured.");
    SAYS(KLS_ERROR_CUDA, kls_cuda_join(g.gpu, stream), g.gpu, "kls_cuda_join: stream: This cannot be done while the stream is being captured.");
    EXPECT(KLS_ERROR_CUDA, kls_cuda_save(g.gpu, blob, sizeof blob, stream));
    graph_destroy(end_capture(stream));
    EXPECT_OF(g.gpu, KLS_OK, kls_cuda_join(g.gpu, stream));
    for (int i = 0; i < PERIOD; i++) {
        begin_capture(stream);
        EXPECT_OF(g.gpu, KLS_OK, kls_cuda_step(g.gpu, &g.request));
        graphs[i] = end_capture(stream);
    }
    for (int i = 0; i < REPLAYS; i++) {
        const int step = WARM + i;
        TRY(make_steps(&f, step, step + 1));
        for (int t = 0; t < TENSORS; t++) {
            to_host(host, grads[step][t], bytes[t]);
            to_device(own[t], host, bytes[t]);
        }
        graph_launch(graphs[i % PERIOD], stream);
        TRY(same_parameters(&f, &g, 1));
        TRY(same_basis(&f, &g));
    }
    EXPECT_OF(g.gpu, KLS_OK, kls_cuda_replayed(g.gpu, REPLAYS - PERIOD));
    /* And on without a graph. */
    TRY(make_steps(&f, WARM + REPLAYS, STEPS));
    TRY(make_steps(&g, WARM + REPLAYS, STEPS));
    TRY(same_parameters(&f, &g, 1));
    TRY(same_basis(&f, &g));
    CHECK(refreshes_of(&f) == refreshes_of(&g) && refreshes_of(&f) >= 2 * STEPS / PERIOD - 2);
    for (int i = 0; i < PERIOD; i++) graph_destroy(graphs[i]);
    for (int t = 0; t < TENSORS; t++) device_free(own[t]);
    device_stream_destroy(stream);
    TRY(fixture_end(&f));
    return fixture_end(&g);
}

static const char *all(void *refresh_stream) {
    TRY(memory_is_told(refresh_stream));
    upload_gradients();
    TRY(bits(refresh_stream));
    TRY(captured(refresh_stream));
    for (int step = 0; step < STEPS; step++)
        for (int t = 0; t < TENSORS; t++) device_free(grads[step][t]);
    return NULL;
}

const char *test_refreshes(void) {
    void *const refresh_stream = device_stream();
    TRY(all(refresh_stream));
    device_stream_destroy(refresh_stream);
    return NULL;
}

static uint64_t (*held)(void *), held_at_the_end;

static void *give(void *user, size_t bytes, size_t alignment) {
    (void)user, (void)alignment;
    return device_alloc(bytes);
}

static void take(void *user, void *memory, size_t bytes) {
    (void)bytes;
    held_at_the_end = held(user);
    device_free(memory);
}

/* Loads, joins of several streams and the end come after refreshes that are under way. `refresh_stream` lags. */
static const char *waits(void *stream, void *refresh_stream) {
    static fixture f, g;
    static unsigned char blob[BLOB];
    void *const other = device_stream();
    void (*fail)(const char *, unsigned, int);
    kls_cuda_options options;
    *(void **)&fail = driver_function("kls_mock_fail");
    *(void **)&held = driver_function("kls_mock_held");
    TRY(make(&f, KLS_ORDER_ESTIMATE_FIRST, 0, stream, refresh_stream));
    TRY(make(&g, KLS_ORDER_ESTIMATE_FIRST, 0, stream, refresh_stream));
    TRY(make_steps(&g, 0, PERIOD - 1));
    EXPECT_OF(g.gpu, KLS_OK, kls_cuda_save(g.gpu, blob, sizeof blob, stream));
    TRY(make_steps(&f, 0, PERIOD));
    CHECK(held(refresh_stream) > 0);
    EXPECT_OF(f.gpu, KLS_OK, kls_cuda_load(f.gpu, blob, sizeof blob, stream));
    TRY(same_basis(&f, &g));
    TRY(fixture_end(&g));

    /* Each stream is made to wait, whichever has waited before. */
    TRY(make_steps(&f, PERIOD - 1, PERIOD));
    EXPECT_OF(f.gpu, KLS_OK, kls_cuda_join(f.gpu, other));
    fail("cuStreamWaitEvent", 1, 719);
    EXPECT(KLS_ERROR_CUDA, kls_cuda_join(f.gpu, stream));
    fail("", 0, 0);
    EXPECT_OF(f.gpu, KLS_OK, kls_cuda_join(f.gpu, stream));

    /* What fails while it is captured leaves nothing behind that later calls would wait for. */
    for (unsigned n = 1, done = 0; !done; n += 37) {
        CHECK(n < 100000);
        kls_status status;
        EXPECT_OF(f.gpu, KLS_OK, kls_cuda_load(f.gpu, blob, sizeof blob, stream));
        begin_capture(stream);
        fail("cuLaunchKernel", n, 719);
        f.request.grads = (const void *const *)grads[PERIOD - 1];
        status = kls_cuda_step(f.gpu, &f.request);
        fail("", 0, 0);
        abandon_capture(stream);
        done = status == KLS_OK;
        CHECK(done || status == KLS_ERROR_CUDA);
        EXPECT_OF(f.gpu, KLS_OK, kls_cuda_load(f.gpu, blob, sizeof blob, stream));
        TRY(make_steps(&f, PERIOD - 1, PERIOD));
    }
    TRY(fixture_end(&f));

    TRY(fixture_describe(&f, KLS_METHOD_KL_SHAMPOO));
    EXPECT(KLS_OK, kls_cuda_options_init(&options, sizeof options));
    options.stream = stream;
    options.refresh_stream = refresh_stream;
    options.alloc = give;
    options.free = take;
    options.allocator_user = refresh_stream;
    f.group.stagger = 0;
    TRY(fixture_gpu_with(&f, &options));
    TRY(make_steps(&f, 0, PERIOD));
    CHECK(held(refresh_stream) > 0);
    held_at_the_end = 1;
    /* Before anything else is freed, which would wait too. */
    EXPECT(KLS_OK, kls_cuda_destroy(&f.gpu));
    CHECK(held_at_the_end == 0);
    TRY(fixture_end(&f));
    device_stream_destroy(other);
    return NULL;
}

/* The stream of the refreshes does nothing before somebody waits for it: who does not see them has not waited. */
const char *test_late_refreshes(void) {
    static fixture f;
    void (*set_lagging)(void *, int);
    void (*get)(mock_counters *);
    void (*reset)(void);
    void (*fail)(const char *, unsigned, int);
    uint64_t (*used)(int);
    uint64_t before;
    void *const refresh_stream = device_stream(), *const stream = device_stream();
    static const char *const calls[] = {"cuEventRecord", "cuStreamWaitEvent", "cuStreamIsCapturing", "cuCtxPushCurrent_v2", "cuLaunchKernel"};
    *(void **)&set_lagging = driver_function("kls_mock_set_lagging");
    *(void **)&get = driver_function("kls_mock_counters_get");
    *(void **)&reset = driver_function("kls_mock_counters_reset");
    *(void **)&fail = driver_function("kls_mock_fail");
    *(void **)&used = driver_function("kls_mock_device_memory_used");
    set_lagging(refresh_stream, 1);
    TRY(all(refresh_stream));

    /* Nothing is allocated, and nothing waits. */
    upload_gradients();
    TRY(make(&f, KLS_ORDER_ESTIMATE_FIRST, 0, stream, refresh_stream));
    reset();
    TRY(make_steps(&f, 0, STEPS));
    {
        mock_counters seen;
        get(&seen);
        CHECK(seen.launches > 0 && seen.allocations == 0 && seen.frees == 0 && seen.synchronisations == 0 && seen.lookups == 0);
    }
    TRY(fixture_end(&f));

    TRY(waits(stream, refresh_stream));

    /* A step's own stream that lags: a copy into memory that is not page-locked is there when the call returns. */
    TRY(make(&f, KLS_ORDER_ESTIMATE_FIRST, 0, stream, refresh_stream));
    TRY(make_steps(&f, 0, PERIOD));
    set_lagging(stream, 1);
    TRY(make_steps(&f, PERIOD, STEPS));
    CHECK(refreshes_of(&f) > STEPS / PERIOD);
    set_lagging(stream, 0);
    TRY(fixture_end(&f));

    /* Every call that the refreshes of a step make fails once. The words come through, and nothing stays behind. */
    before = used(0);
    for (size_t c = 0; c < sizeof calls / sizeof calls[0]; c++) {
        int done = 0;
        for (unsigned n = 1; !done; n += strcmp(calls[c], "cuLaunchKernel") == 0 ? 37 : 1) {
            kls_status status = KLS_OK;
            TRY(make(&f, KLS_ORDER_ESTIMATE_FIRST, 0, stream, refresh_stream));
            TRY(make_steps(&f, 0, PERIOD - 1));
            fail(calls[c], n, 719);
            f.request.grads = (const void *const *)grads[PERIOD - 1];
            for (int i = 0; i < 2 && status == KLS_OK; i++) status = kls_cuda_step(f.gpu, &f.request);
            fail("", 0, 0);
            done = status == KLS_OK;
            CHECK(done || (status == KLS_ERROR_CUDA && strstr(kls_cuda_last_error(f.gpu), ": CUDA error 719: ") != NULL));
            CHECK(!done || n > 2);
            TRY(fixture_end(&f));
            CHECK(used(0) == before);
        }
    }
    for (int step = 0; step < STEPS; step++)
        for (int t = 0; t < TENSORS; t++) device_free(grads[step][t]);
    device_stream_destroy(stream);
    device_stream_destroy(refresh_stream);
    return NULL;
}
