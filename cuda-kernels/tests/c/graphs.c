#include "fixture.h"

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
    return fixture_end(&g);
}
