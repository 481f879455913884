#include "fixture.h"
#include <math.h>

/* Parts of the state, beside those that the CPU's optimizer reads from the same checkpoint. */
const char *test_state(void) {
    static fixture f;
    static unsigned char saved[64 * 1024];
    static float by_gpu[ROWS * ROWS], by_cpu[ROWS * ROWS];
    static const int32_t parts[] = {KLS_STATE_FACTOR, KLS_STATE_BASIS, KLS_STATE_EIGENVALUES, KLS_STATE_MOMENTUM};
    size_t len = 0, cpu_len = 0;
    TRY(fixture_describe(&f, KLS_METHOD_KL_SHAMPOO));
    TRY(fixture_gpu(&f, NULL));
    TRY(fixture_cpu(&f));
    for (int step = 0; step < 6; step++) TRY(fixture_step_gpu(&f, step));
    EXPECT_OF(f.gpu, KLS_OK, kls_cuda_save(f.gpu, saved, sizeof saved, NULL));
    CHECK(kls_optimizer_load(f.cpu, saved, sizeof saved) == KLS_OK);
    for (size_t p = 0; p < sizeof parts / sizeof parts[0]; p++) {
        for (size_t slice = 0; slice < LAYERS; slice++) {
            for (size_t mode = 0; mode < 2; mode++) {
                EXPECT(KLS_OK, kls_cuda_state_len(f.gpu, 0, slice, parts[p], mode, &len));
                CHECK(kls_optimizer_state_len(f.cpu, 0, slice, parts[p], mode, &cpu_len) == KLS_OK && len == cpu_len && len <= ROWS * ROWS);
                EXPECT_OF(f.gpu, KLS_OK, kls_cuda_read_state(f.gpu, 0, slice, parts[p], mode, by_gpu, len, NULL));
                CHECK(kls_optimizer_read_state(f.cpu, 0, slice, parts[p], mode, by_cpu, len) == KLS_OK);
                for (size_t i = 0; i < len; i++) CHECK(fabsf(by_gpu[i] - by_cpu[i]) <= 1e-6f * (1.0f + fabsf(by_cpu[i])));
            }
        }
    }
    CHECK(by_gpu[0] != 0);
    len = 77;
    SAYS(KLS_ERROR_UNKNOWN_VALUE, kls_cuda_state_len(f.gpu, 0, 0, 99, 0, &len), f.gpu,
         "kls_cuda_state_len: state_part: An option's integer is none of its constants.");
    EXPECT(KLS_ERROR_INDEX, kls_cuda_state_len(f.gpu, 5, 0, KLS_STATE_BASIS, 0, &len));
    EXPECT(KLS_ERROR_INDEX, kls_cuda_state_len(f.gpu, 0, LAYERS, KLS_STATE_BASIS, 0, &len));
    EXPECT(KLS_ERROR_NO_SUCH_STATE, kls_cuda_state_len(f.gpu, 0, 0, KLS_STATE_MASTER, 0, &len));
    CHECK(len == 77);
    EXPECT(KLS_ERROR_NULL, kls_cuda_state_len(f.gpu, 0, 0, KLS_STATE_BASIS, 0, NULL));
    EXPECT(KLS_ERROR_BUFFER_LENGTH, kls_cuda_read_state(f.gpu, 0, 0, KLS_STATE_BASIS, 0, by_gpu, 3, NULL));
    EXPECT(KLS_ERROR_NULL, kls_cuda_read_state(f.gpu, 0, 0, KLS_STATE_BASIS, 0, NULL, ROWS * ROWS, NULL));
    EXPECT(KLS_ERROR_INDEX, kls_cuda_read_state(f.gpu, 0, LAYERS, KLS_STATE_BASIS, 0, by_gpu, ROWS * ROWS, NULL));
    return fixture_end(&f);
}
