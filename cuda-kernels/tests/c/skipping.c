#include "fixture.h"
#include <math.h>

/* A gradient that is not finite leaves its slice alone, and only that; it is counted, and what is counted comes back without waiting. */
const char *test_skipping(void) {
    static fixture f;
    static unsigned char headers[4096], before_headers[4096];
    static float before[MATRICES], after[MATRICES];
    float vector[VECTOR], stepped[VECTOR];
    kls_counters counters;
    size_t bytes = 0;
    uint64_t skipped = 9;
    const float nan = NAN;
    TRY(fixture_describe(&f, KLS_METHOD_KL_SHAMPOO));
    TRY(fixture_gpu(&f, NULL));
    for (int step = 0; step < 3; step++) TRY(fixture_step_gpu(&f, step));
    to_host(before, f.device_params[0], sizeof before);
    to_host(vector, f.device_params[1], sizeof vector);
    /* In the second layer. */
    to_device((float *)f.device_grads[0] + ROWS * COLUMNS + 3, &nan, sizeof nan);
    EXPECT_OF(f.gpu, KLS_OK, kls_cuda_step(f.gpu, &f.request));
    to_host(after, f.device_params[0], sizeof after);
    to_host(stepped, f.device_params[1], sizeof stepped);
    CHECK(memcmp(before, after, ROWS * COLUMNS * sizeof(float)) != 0);
    CHECK(memcmp(before + ROWS * COLUMNS, after + ROWS * COLUMNS, ROWS * COLUMNS * sizeof(float)) == 0);
    CHECK(memcmp(vector, stepped, sizeof vector) != 0);

    EXPECT(KLS_OK, kls_cuda_headers_size(f.gpu, &bytes));
    CHECK(bytes >= 64 * (LAYERS + 1) && bytes < sizeof headers);
    SAYS(KLS_ERROR_NULL, kls_cuda_headers_size(f.gpu, NULL), f.gpu, "kls_cuda_headers_size: bytes: A pointer is NULL.");
    memset(headers, 0x5a, sizeof headers);
    memcpy(before_headers, headers, sizeof headers);
    SAYS(KLS_ERROR_NULL, kls_cuda_copy_headers(f.gpu, NULL, bytes, NULL), f.gpu, "kls_cuda_copy_headers: headers: A pointer is NULL.");
    EXPECT(KLS_ERROR_MEMORY_TOO_SHORT, kls_cuda_copy_headers(f.gpu, headers, bytes - 1, NULL));
    CHECK(memcmp(headers, before_headers, sizeof headers) == 0);
    EXPECT_OF(f.gpu, KLS_OK, kls_cuda_copy_headers(f.gpu, headers, bytes, NULL));
    to_host(after, f.device_params[0], sizeof after);
    CHECK(memcmp(headers + bytes, before_headers + bytes, sizeof headers - bytes) == 0);
    EXPECT(KLS_OK, kls_cuda_skipped(f.gpu, headers, bytes, &skipped));
    CHECK(skipped == 1);
    EXPECT(KLS_ERROR_NULL, kls_cuda_skipped(f.gpu, NULL, bytes, &skipped));
    EXPECT(KLS_ERROR_NULL, kls_cuda_skipped(f.gpu, headers, bytes, NULL));
    EXPECT(KLS_ERROR_MEMORY_TOO_SHORT, kls_cuda_skipped(f.gpu, headers, bytes - 1, &skipped));
    for (size_t slice = 0; slice < LAYERS; slice++) {
        EXPECT(KLS_OK, kls_cuda_counters(f.gpu, headers, bytes, 0, slice, &counters, sizeof counters));
        CHECK(counters.skipped == (slice == 1) && counters.steps == (slice == 1 ? 3u : 4u));
        /* The refresh of the fourth step is made where the step is. */
        CHECK(counters.refreshes == (slice == 1 ? 0 : 2) && counters.refresh_failures == 0);
    }
    EXPECT(KLS_OK, kls_cuda_counters(f.gpu, headers, bytes, 1, 0, &counters, sizeof counters));
    CHECK(counters.steps == 4 && counters.skipped == 0);
    EXPECT(KLS_ERROR_INDEX, kls_cuda_counters(f.gpu, headers, bytes, 0, LAYERS, &counters, sizeof counters));
    EXPECT(KLS_ERROR_INDEX, kls_cuda_counters(f.gpu, headers, bytes, TENSORS, 0, &counters, sizeof counters));
    EXPECT(KLS_ERROR_NULL, kls_cuda_counters(f.gpu, headers, bytes, 0, 0, NULL, sizeof counters));
    EXPECT(KLS_ERROR_STRUCT_SIZE, kls_cuda_counters(f.gpu, headers, bytes, 0, 0, &counters, 5));
    EXPECT(KLS_ERROR_MEMORY_TOO_SHORT, kls_cuda_counters(f.gpu, headers, 10, 0, 0, &counters, sizeof counters));
    return fixture_end(&f);
}
