#include "check.h"
#include "fixture.h"
#include <string.h>

const char *test_memory_errors(void) {
    static fixture f;
    kls_optimizer *optimizer = NULL, *copy;
    const char *failure = fixture_describe(&f);
    if (failure) return failure;
    failure = fixture_make(&f);
    if (failure) return failure;
    EXPECT(KLS_OK, kls_optimizer_destroy(&f.optimizer));
    CHECK(f.optimizer == NULL);

    memset(f.raw, 0xa5, sizeof f.raw);
    fixture_remember(&f);
    EXPECT(KLS_ERROR_MEMORY_TOO_SHORT, kls_optimizer_init(&optimizer, f.memory, f.size - 1, &f.group, 1, f.tensors, 2));
    EXPECT(KLS_ERROR_MISALIGNED, kls_optimizer_init(&optimizer, f.memory + 4, f.size, &f.group, 1, f.tensors, 2));
    EXPECT(KLS_ERROR_NULL, kls_optimizer_init(&optimizer, NULL, f.size, &f.group, 1, f.tensors, 2));
    EXPECT(KLS_ERROR_NULL, kls_optimizer_init(NULL, f.memory, f.size, &f.group, 1, f.tensors, 2));
    EXPECT(KLS_ERROR_GROUP, kls_optimizer_init(&optimizer, f.memory, f.size, &f.group, 0, f.tensors, 2));
    CHECK(optimizer == NULL && fixture_unchanged(&f));

    /* A handle whose init failed: the memory holds no optimizer. */
    optimizer = (kls_optimizer *)(void *)f.memory;
    copy = optimizer;
    EXPECT(KLS_ERROR_HANDLE, kls_optimizer_step(optimizer, f.params, f.grads, 2, 0.1f));
    EXPECT(KLS_ERROR_HANDLE, kls_optimizer_destroy(&optimizer));
    CHECK(optimizer == copy && fixture_unchanged(&f));

    /* Used after its end, and ended twice. */
    failure = fixture_make(&f);
    if (failure) return failure;
    copy = f.optimizer;
    EXPECT(KLS_OK, kls_optimizer_destroy(&f.optimizer));
    EXPECT(KLS_OK, kls_optimizer_destroy(&f.optimizer));
    EXPECT(KLS_ERROR_HANDLE, kls_optimizer_step(copy, f.params, f.grads, 2, 0.1f));
    EXPECT(KLS_ERROR_HANDLE, kls_optimizer_destroy(&copy));
    EXPECT(KLS_ERROR_NULL, kls_optimizer_destroy(NULL));
    return NULL;
}
