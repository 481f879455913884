#include "fixture.h"

/* However many steps are said to have been replayed, the call is done at once. */
static const char *replays_are_bounded(void) {
    static fixture f;
    TRY(fixture_describe(&f, KLS_METHOD_KL_SHAMPOO));
    f.group.refresh_period = 40;
    f.group.refresh_growth = 1 << 20;
    TRY(fixture_gpu(&f, NULL));
    EXPECT(KLS_ERROR_OVERFLOW, kls_cuda_replayed(f.gpu, UINT64_MAX));
    TRY(fixture_step_gpu(&f, 0));
    EXPECT(KLS_ERROR_OVERFLOW, kls_cuda_replayed(f.gpu, (1 << 20) + 1));
    for (int i = 0; i < 3; i++) EXPECT_OF(f.gpu, KLS_OK, kls_cuda_replayed(f.gpu, 1 << 20));
    EXPECT_OF(f.gpu, KLS_OK, kls_cuda_replayed(f.gpu, (uint64_t)1 << 39));
    EXPECT(KLS_ERROR_OVERFLOW, kls_cuda_replayed(f.gpu, (uint64_t)1 << 39));
    EXPECT_OF(f.gpu, KLS_OK, kls_cuda_replayed(f.gpu, 0));
    return fixture_end(&f);
}

/* The steps of a refresh period, captured and replayed: the bits of the steps themselves, also of those that follow without a graph. */
const char *test_graphs(void) {
    enum { PERIOD = 3, WARM = 4, ROUNDS = 4, AFTER = 3 };
    static fixture f, g;
    static float a[MATRICES], b[MATRICES];
    void *graphs[PERIOD];
    float *rates;
    int step = 0;
    TRY(fixture_describe(&f, KLS_METHOD_KL_SHAMPOO));
    TRY(fixture_gpu(&f, device_stream()));
    TRY(fixture_describe(&g, KLS_METHOD_KL_SHAMPOO));
    TRY(fixture_gpu(&g, device_stream()));
    rates = device_alloc(sizeof *rates);
    f.request.device_lr = g.request.device_lr = rates;
#define RATE(i) to_device(rates, (const float[1]){0.01f / (float)(1 + (i))}, sizeof *rates)
    for (; step < WARM; step++) {
        RATE(step);
        TRY(fixture_step_gpu(&f, step));
        TRY(fixture_step_gpu(&g, step));
    }
    for (int i = 0; i < PERIOD; i++) {
        begin_capture(g.request.stream);
        EXPECT_OF(g.gpu, KLS_OK, kls_cuda_step(g.gpu, &g.request));
        graphs[i] = end_capture(g.request.stream);
    }
    /* Recorded is not run. */
    to_host(a, f.device_params[0], sizeof a);
    to_host(b, g.device_params[0], sizeof b);
    CHECK(memcmp(a, b, sizeof a) == 0);
    for (int i = 0; i < PERIOD * ROUNDS; i++, step++) {
        RATE(step);
        TRY(fixture_step_gpu(&f, step));
        to_device(g.device_grads[0], f.matrix_grad, sizeof f.matrix_grad);
        to_device(g.device_grads[1], f.vector_grad, sizeof f.vector_grad);
        graph_launch(graphs[i % PERIOD], g.request.stream);
        to_host(a, f.device_params[0], sizeof a);
        to_host(b, g.device_params[0], sizeof b);
        CHECK(memcmp(a, b, sizeof a) == 0);
    }
    EXPECT_OF(g.gpu, KLS_OK, kls_cuda_replayed(g.gpu, PERIOD * (ROUNDS - 1)));
    /* More steps than can be are not counted. */
    SAYS(KLS_ERROR_OVERFLOW, kls_cuda_replayed(g.gpu, UINT64_MAX), g.gpu,
         "kls_cuda_replayed: More than 2^40 steps in all, or more than 2^20 at once while the refresh period grows.");
    EXPECT(KLS_ERROR_OVERFLOW, kls_cuda_replayed(g.gpu, (uint64_t)1 << 40));
    for (int i = 0; i < AFTER; i++, step++) {
        RATE(step);
        TRY(fixture_step_gpu(&f, step));
        TRY(fixture_step_gpu(&g, step));
    }
    to_host(a, f.device_params[0], sizeof a);
    to_host(b, g.device_params[0], sizeof b);
    CHECK(memcmp(a, b, sizeof a) == 0);
    {
        static unsigned char one[64 * 1024], two[64 * 1024];
        uint64_t size = 0;
        EXPECT(KLS_OK, kls_cuda_save_size(f.gpu, &size));
        EXPECT_OF(f.gpu, KLS_OK, kls_cuda_save(f.gpu, one, sizeof one, f.request.stream));
        EXPECT_OF(g.gpu, KLS_OK, kls_cuda_save(g.gpu, two, sizeof two, g.request.stream));
        CHECK(memcmp(one, two, (size_t)size) == 0);
        /* What would wait cannot be captured. */
        begin_capture(g.request.stream);
        EXPECT(KLS_ERROR_CUDA, kls_cuda_save(g.gpu, two, sizeof two, g.request.stream));
        graph_destroy(end_capture(g.request.stream));
    }
    for (int i = 0; i < PERIOD; i++) graph_destroy(graphs[i]);
    device_stream_destroy(f.request.stream);
    device_stream_destroy(g.request.stream);
    device_free(rates);
    TRY(fixture_end(&f));
    TRY(fixture_end(&g));
    return replays_are_bounded();
}
