#include "check.h"
#include "fixture.h"
#include <stdio.h>
#include <string.h>

/* Whether the processor has what KLS_PRODUCTS_BF16 needs, by the compiler's word. */
static int has_bf16(void) {
#if defined(__x86_64__)
    return __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
#else
    return 0;
#endif
}

const char *test_host_errors(void) {
    static fixture f, lent;
    kls_options options, before;
    kls_optimizer *optimizer = NULL;
    const char *failure = fixture_describe(&f);
    if (failure) return failure;

    memset(&options, 0x5a, sizeof options);
    before = options;
    EXPECT(KLS_ERROR_NULL, kls_options_init(NULL, sizeof options));
    EXPECT(KLS_ERROR_STRUCT_SIZE, kls_options_init(&options, sizeof options + 4));
    CHECK(memcmp(&options, &before, sizeof options) == 0);
    EXPECT(KLS_OK, kls_options_init(&options, sizeof options));
    before = options;

#define REFUSED(field, value, status)                                                                       \
    do {                                                                                                    \
        options = before;                                                                                   \
        options.field = (value);                                                                            \
        EXPECT(status, kls_optimizer_create(&optimizer, &f.group, 1, f.tensors, 2, &options));              \
        CHECK(optimizer == NULL);                                                                           \
    } while (0)
    REFUSED(struct_size, 0, KLS_ERROR_STRUCT_SIZE);
    REFUSED(num_threads, 0, KLS_ERROR_THREADS);
    REFUSED(num_threads, 1025, KLS_ERROR_THREADS);
    REFUSED(backend, 9, KLS_ERROR_UNKNOWN_VALUE);
    REFUSED(products, 2, KLS_ERROR_UNKNOWN_VALUE);
    REFUSED(products, -1, KLS_ERROR_UNKNOWN_VALUE);
#undef REFUSED
    EXPECT(KLS_ERROR_NULL, kls_optimizer_create(NULL, &f.group, 1, f.tensors, 2, NULL));
    EXPECT(KLS_ERROR_NULL, kls_optimizer_create(&optimizer, &f.group, 1, NULL, 2, NULL));
    CHECK(optimizer == NULL);

    /* bf16 products: never with the portable backend; otherwise where the processor has them, and nowhere else. */
    options = before;
    options.products = KLS_PRODUCTS_BF16;
    options.backend = KLS_BACKEND_PORTABLE;
    EXPECT(KLS_ERROR_UNSUPPORTED, kls_optimizer_create(&optimizer, &f.group, 1, f.tensors, 2, &options));
    CHECK(optimizer == NULL);
    options.backend = KLS_BACKEND_AUTO;
    if (has_bf16()) {
        EXPECT(KLS_OK, kls_optimizer_create(&optimizer, &f.group, 1, f.tensors, 2, &options));
        EXPECT(KLS_OK, kls_optimizer_destroy(&optimizer));
    } else {
        puts("SKIPPED: the acceptance of KLS_PRODUCTS_BF16, for this processor has no AVX512-BF16; its refusal is tested");
        EXPECT(KLS_ERROR_UNSUPPORTED, kls_optimizer_create(&optimizer, &f.group, 1, f.tensors, 2, &options));
        CHECK(optimizer == NULL);
    }

    /* More memory than there is: an error, not an abort. */
    {
        kls_tensor huge = f.tensors[0];
        huge.dims[0] = (uint64_t)1 << 20;
        huge.modes[0] = KLS_MODE_FULL;
        EXPECT(KLS_ERROR_OUT_OF_MEMORY, kls_optimizer_create(&optimizer, &f.group, 1, &huge, 1, NULL));
        CHECK(optimizer == NULL);
    }

    /* The portable backend on the heap and lent memory are the same bits; two threads as one. */
    lent = f;
    lent.params[0] = lent.matrix;
    lent.params[1] = lent.vector;
    failure = fixture_make(&lent);
    if (failure) return failure;
    options = before;
    options.num_threads = 2;
    options.backend = KLS_BACKEND_PORTABLE;
    EXPECT(KLS_OK, kls_optimizer_create(&optimizer, &f.group, 1, f.tensors, 2, &options));
    for (int step = 0; step < 7; step++) {
        f.matrix_grad[step] += 0.01f;
        EXPECT(KLS_OK, kls_optimizer_step(optimizer, f.params, f.grads, 2, 0.01f));
        EXPECT(KLS_OK, kls_optimizer_step(lent.optimizer, lent.params, f.grads, 2, 0.01f));
    }
    CHECK(memcmp(f.matrix, lent.matrix, sizeof f.matrix) == 0 && memcmp(f.vector, lent.vector, sizeof f.vector) == 0);
    EXPECT(KLS_OK, kls_optimizer_destroy(&optimizer));
    CHECK(optimizer == NULL);
    EXPECT(KLS_OK, kls_optimizer_destroy(&optimizer));

    /* An empty table is a table. */
    EXPECT(KLS_OK, kls_optimizer_create(&optimizer, NULL, 0, NULL, 0, NULL));
    EXPECT(KLS_OK, kls_optimizer_step(optimizer, NULL, NULL, 0, 0.01f));
    EXPECT(KLS_OK, kls_optimizer_destroy(&optimizer));
    return NULL;
}
