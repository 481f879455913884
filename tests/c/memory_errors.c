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

/* What the memory is spent on: all of what is lent, and one scratch per thread on the heap. */
const char *test_memory_report(void) {
    static fixture f;
    kls_memory memory, before;
    kls_optimizer *made = NULL;
    kls_options options;
    kls_plan plan;
    size_t state;
    uint64_t one_thread = 0;
    const char *failure = fixture_describe(&f);
    if (failure || (failure = fixture_make(&f))) return failure;
    memset(&memory, 0x5a, sizeof memory);
    before = memory;
    EXPECT(KLS_ERROR_NULL, kls_optimizer_memory(NULL, &memory, sizeof memory));
    EXPECT(KLS_ERROR_NULL, kls_optimizer_memory(f.optimizer, NULL, sizeof memory));
    EXPECT(KLS_ERROR_STRUCT_SIZE, kls_optimizer_memory(f.optimizer, &memory, sizeof memory - 1));
    CHECK(memcmp(&memory, &before, sizeof memory) == 0);
    EXPECT(KLS_OK, kls_optimizer_memory(f.optimizer, &memory, sizeof memory));
    EXPECT(KLS_OK, kls_optimizer_state_bytes(f.optimizer, &state));
    EXPECT(KLS_OK, kls_optimizer_plan(f.optimizer, 0, &plan, sizeof plan));
    CHECK(memory.threads == 1 && memory.state_bytes == state && memory.scratch_bytes == plan.scratch_bytes);
    CHECK(memory.state_bytes + memory.scratch_bytes + memory.table_bytes == f.size);
    for (uint32_t threads = 1; threads <= 3; threads++) {
        EXPECT(KLS_OK, kls_options_init(&options, sizeof options));
        options.num_threads = threads;
        options.backend = KLS_BACKEND_PORTABLE;
        EXPECT(KLS_OK, kls_optimizer_create(&made, &f.group, 1, f.tensors, 2, &options));
        EXPECT(KLS_OK, kls_optimizer_memory(made, &memory, sizeof memory));
        EXPECT(KLS_OK, kls_optimizer_plan(made, 0, &plan, sizeof plan));
        if (threads == 1) one_thread = memory.scratch_bytes;
        CHECK(one_thread == plan.scratch_bytes && memory.scratch_bytes == threads * one_thread);
        CHECK(memory.threads == threads && memory.state_bytes == state);
        EXPECT(KLS_OK, kls_optimizer_destroy(&made));
    }
    EXPECT(KLS_OK, kls_optimizer_create(&made, &f.group, 1, f.tensors, 2, NULL));
    EXPECT(KLS_OK, kls_optimizer_memory(made, &memory, sizeof memory));
    CHECK(memory.scratch_bytes > one_thread);
    return kls_optimizer_destroy(&made) == KLS_OK ? NULL : "destroy";
}
