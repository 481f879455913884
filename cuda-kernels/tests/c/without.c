#include "fixture.h"

/* A machine without a driver: the program has started, so the library loads; everything that needs no device works. */
const char *test_no_driver(void) {
    static fixture f;
    kls_cuda *made = NULL;
    TRY(fixture_describe(&f, KLS_METHOD_KL_SHAMPOO));
    SAYS(KLS_ERROR_CUDA_NO_DRIVER, kls_cuda_create(&made, &f.group, 1, f.tensors, TENSORS, NULL), NULL,
         "kls_cuda_create: There is no CUDA driver on this machine.");
    /* Asked again it says the same. */
    EXPECT(KLS_ERROR_CUDA_NO_DRIVER, kls_cuda_create(&made, &f.group, 1, f.tensors, TENSORS, NULL));
    CHECK(made == NULL);
    CHECK(strcmp(kls_status_string(KLS_ERROR_CUDA_NO_DRIVER), "There is no CUDA driver on this machine.") == 0);
    /* The CPU's optimizer is in the same library. */
    TRY(fixture_cpu(&f));
    for (int step = 0; step < 5; step++) TRY(fixture_step_cpu(&f, step));
    CHECK(kls_optimizer_destroy(&f.cpu) == KLS_OK);
    return NULL;
}

/* A device that is not there, beside one that is. */
const char *test_no_device(void) {
    static fixture f;
    kls_cuda *made = NULL;
    kls_cuda_options options;
    TRY(fixture_describe(&f, KLS_METHOD_KL_SHAMPOO));
    EXPECT(KLS_OK, kls_cuda_options_init(&options, sizeof options));
    for (int i = 0; i < 2; i++) {
        options.device = i == 0 ? 1000 : -1;
        SAYS(KLS_ERROR_CUDA_NO_DEVICE, kls_cuda_create(&made, &f.group, 1, f.tensors, TENSORS, &options), NULL,
             "kls_cuda_create: device: There is no such CUDA device.");
    }
    CHECK(made == NULL);
    return NULL;
}
