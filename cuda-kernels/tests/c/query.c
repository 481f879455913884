#include "fixture.h"
#include <sys/resource.h>

/* What can be known without a driver. */
const char *test_query(void) {
    static fixture f;
    kls_cuda_memory memory, before;
    kls_cuda_options options;
    size_t state = 0;
    uint64_t small = 0;
    TRY(fixture_describe(&f, KLS_METHOD_KL_SHAMPOO));
    memset(&memory, 0x5a, sizeof memory);
    before = memory;
    SAYS(KLS_ERROR_NULL, kls_cuda_query(&f.group, 1, f.tensors, TENSORS, NULL, NULL, sizeof memory), NULL, "kls_cuda_query: memory: A pointer is NULL.");
    SAYS(KLS_ERROR_NULL, kls_cuda_query(NULL, 1, f.tensors, TENSORS, NULL, &memory, sizeof memory), NULL, "kls_cuda_query: groups: A pointer is NULL.");
    SAYS(KLS_ERROR_NULL, kls_cuda_query(&f.group, 1, NULL, TENSORS, NULL, &memory, sizeof memory), NULL, "kls_cuda_query: tensors: A pointer is NULL.");
    EXPECT(KLS_ERROR_MISALIGNED, kls_cuda_query(&f.group, 1, f.tensors, TENSORS, NULL, (kls_cuda_memory *)(void *)((char *)&memory + 1), sizeof memory));
    EXPECT(KLS_ERROR_STRUCT_SIZE, kls_cuda_query(&f.group, 1, f.tensors, TENSORS, NULL, &memory, sizeof memory - 1));
    EXPECT(KLS_ERROR_STRUCT_SIZE, kls_cuda_query(&f.group, 1, f.tensors, TENSORS, NULL, &memory, 0));
    f.tensors[1].group = 7;
    SAYS(KLS_ERROR_GROUP, kls_cuda_query(&f.group, 1, f.tensors, TENSORS, NULL, &memory, sizeof memory), NULL,
         "kls_cuda_query: tensor 1 \"b\", group: There is no such group.");
    f.tensors[1].group = 0;
    f.group.beta2 = 1;
    SAYS(KLS_ERROR_BETA, kls_cuda_query(&f.group, 1, f.tensors, TENSORS, NULL, &memory, sizeof memory), NULL,
         "kls_cuda_query: group 0: beta1 and beta2 must lie in [0, 1).");
    f.group.beta2 = 0.95f;
    f.group.struct_size--;
    EXPECT(KLS_ERROR_STRUCT_SIZE, kls_cuda_query(&f.group, 1, f.tensors, TENSORS, NULL, &memory, sizeof memory));
    f.group.struct_size++;
    /* What the GPU does not do is refused, not computed wrongly. */
    f.group.factor_format = KLS_FORMAT_BF16;
    EXPECT(KLS_ERROR_CUDA_UNSUPPORTED, kls_cuda_query(&f.group, 1, f.tensors, TENSORS, NULL, &memory, sizeof memory));
    CHECK(strlen(kls_cuda_last_error(NULL)) > strlen("kls_cuda_query: "));
    f.group.factor_format = KLS_FORMAT_F32;
    f.group.refresh_portion = 100000;
    EXPECT(KLS_ERROR_CUDA_UNSUPPORTED, kls_cuda_query(&f.group, 1, f.tensors, TENSORS, NULL, &memory, sizeof memory));
    f.group.refresh_portion = 0;
    CHECK(memcmp(&memory, &before, sizeof memory) == 0);

    EXPECT(KLS_OK, kls_cuda_query(&f.group, 1, f.tensors, TENSORS, NULL, &memory, sizeof memory));
    CHECK(memory.struct_size == sizeof memory && memory.alignment == 256);
    /* State and headers are what the CPU's optimizer has. */
    TRY(fixture_cpu(&f));
    EXPECT(KLS_OK, kls_optimizer_state_bytes(f.cpu, &state));
    CHECK(memory.state_bytes + memory.header_bytes >= state && memory.header_bytes >= 64 * (LAYERS + 1));
    CHECK(memory.state_bytes + memory.header_bytes < state + 16 * 256);
    CHECK(memory.total_bytes >= memory.state_bytes + memory.header_bytes + memory.table_bytes + memory.workspace_bytes);
    CHECK(memory.workspace_bytes > 0 && memory.table_bytes > 0);
    small = memory.total_bytes;
    f.tensors[0].slices = 50;
    EXPECT(KLS_OK, kls_cuda_query(&f.group, 1, f.tensors, TENSORS, NULL, &memory, sizeof memory));
    CHECK(memory.total_bytes > small && memory.header_bytes >= 64 * 51);
    /* Less workspace, more batches. */
    EXPECT(KLS_OK, kls_cuda_options_init(&options, sizeof options));
    CHECK(options.workspace_limit == (uint64_t)4 << 30);
    options.workspace_limit = 1 << 16;
    small = memory.workspace_bytes;
    EXPECT(KLS_OK, kls_cuda_query(&f.group, 1, f.tensors, TENSORS, &options, &memory, sizeof memory));
    CHECK(memory.workspace_bytes < small);
    options.struct_size = 4;
    EXPECT(KLS_ERROR_STRUCT_SIZE, kls_cuda_query(&f.group, 1, f.tensors, TENSORS, &options, &memory, sizeof memory));
    /* What cuBLAS works in is a part of it where there are products for it, or where it has to be there. */
    EXPECT(KLS_OK, kls_cuda_options_init(&options, sizeof options));
    CHECK(options.blas == KLS_CUDA_BLAS_AUTO && options.blas_from == 1 << 24);
    EXPECT(KLS_OK, kls_cuda_query(&f.group, 1, f.tensors, TENSORS, &options, &memory, sizeof memory));
    small = memory.total_bytes;
    options.blas = KLS_CUDA_BLAS_REQUIRED;
    EXPECT(KLS_OK, kls_cuda_query(&f.group, 1, f.tensors, TENSORS, &options, &memory, sizeof memory));
    CHECK(memory.total_bytes == small + (32 << 20));
    options.blas = 3;
    SAYS(KLS_ERROR_UNKNOWN_VALUE, kls_cuda_query(&f.group, 1, f.tensors, TENSORS, &options, &memory, sizeof memory), NULL,
         "kls_cuda_query: blas: An option's integer is none of its constants.");
    /* More slices than the host could keep a table of are refused, and memory that it has not is an error. */
    f.tensors[1].slices = (uint64_t)1 << 40;
    SAYS(KLS_ERROR_CUDA_UNSUPPORTED, kls_cuda_query(&f.group, 1, f.tensors, TENSORS, NULL, &memory, sizeof memory), NULL,
         "kls_cuda_query: tensor 1 \"b\": The GPU's optimizer has at most 2^24 slices and pieces of slices.");
    f.tensors[1].slices = (1 << 24) - 50;
    {
        struct rlimit before_limit, limit;
        CHECK(getrlimit(RLIMIT_AS, &before_limit) == 0);
        limit = before_limit;
        limit.rlim_cur = 256 << 20;
        CHECK(setrlimit(RLIMIT_AS, &limit) == 0);
        SAYS(KLS_ERROR_OUT_OF_MEMORY, kls_cuda_query(&f.group, 1, f.tensors, TENSORS, NULL, &memory, sizeof memory), NULL,
             "kls_cuda_query: The memory for the optimizer could not be had.");
        CHECK(setrlimit(RLIMIT_AS, &before_limit) == 0);
    }
    f.tensors[1].slices++;
    EXPECT(KLS_ERROR_CUDA_UNSUPPORTED, kls_cuda_query(&f.group, 1, f.tensors, TENSORS, NULL, &memory, sizeof memory));
    f.tensors[1].slices = 1;
    /* An empty table. */
    EXPECT(KLS_OK, kls_cuda_query(&f.group, 1, NULL, 0, NULL, &memory, sizeof memory));
    CHECK(memory.state_bytes == 0 && memory.header_bytes == 0);
    return fixture_end(&f);
}

static void *never_called(void *user, size_t bytes, size_t alignment) {
    (void)bytes, (void)alignment;
    *(int *)user = 1;
    return NULL;
}

static void never_freed(void *user, void *memory, size_t bytes) {
    (void)memory, (void)bytes;
    *(int *)user = 1;
}

/* What is wrong with the options is found before a driver is looked for. */
const char *test_options(void) {
    static fixture f;
    static unsigned char raw[1024];
    kls_cuda *made = NULL, *const untouched = (kls_cuda *)(void *)raw;
    kls_cuda_options options;
    kls_cuda_request request;
    kls_cuda_memory memory;
    int called = 0;
    TRY(fixture_describe(&f, KLS_METHOD_KL_SHAMPOO));
    EXPECT(KLS_OK, kls_cuda_query(&f.group, 1, f.tensors, TENSORS, NULL, &memory, sizeof memory));
    SAYS(KLS_ERROR_NULL, kls_cuda_options_init(NULL, sizeof options), NULL, "kls_cuda_options_init: options: A pointer is NULL.");
    EXPECT(KLS_ERROR_STRUCT_SIZE, kls_cuda_options_init(&options, sizeof options + 1));
    SAYS(KLS_ERROR_NULL, kls_cuda_request_init(NULL, sizeof request), NULL, "kls_cuda_request_init: request: A pointer is NULL.");
    EXPECT(KLS_ERROR_STRUCT_SIZE, kls_cuda_request_init(&request, sizeof request + 1));
    EXPECT(KLS_OK, kls_cuda_options_init(&options, sizeof options));
    CHECK(options.struct_size == sizeof options && options.device == 0 && !options.stream && !options.alloc && !options.memory);
#define CREATE kls_cuda_create(&made, &f.group, 1, f.tensors, TENSORS, &options)
    made = untouched;
    SAYS(KLS_ERROR_NULL, kls_cuda_create(NULL, &f.group, 1, f.tensors, TENSORS, &options), NULL, "kls_cuda_create: optimizer: A pointer is NULL.");
    EXPECT(KLS_ERROR_NULL, kls_cuda_create(&made, NULL, 1, f.tensors, TENSORS, &options));
    EXPECT(KLS_ERROR_NULL, kls_cuda_create(&made, &f.group, 1, NULL, TENSORS, &options));
    options.struct_size = 3;
    SAYS(KLS_ERROR_STRUCT_SIZE, CREATE, NULL,
         "kls_cuda_create: options: struct_size is not the size of a known version of the struct: call its init function with sizeof.");
    options.struct_size = sizeof options;
    {
        int32_t *const values[4] = {&options.precision_project, &options.precision_factor, &options.precision_refresh, &options.blas};
        static const char *const names[4] = {"precision_project", "precision_factor", "precision_refresh", "blas"};
        for (int i = 0; i < 4; i++) {
            const int32_t value = *values[i];
            *values[i] = i < 3 ? 4 : 3;
            EXPECT(KLS_ERROR_UNKNOWN_VALUE, CREATE);
            CHECK(strstr(kls_cuda_last_error(NULL), names[i]) == kls_cuda_last_error(NULL) + strlen("kls_cuda_create: "));
            *values[i] = -1;
            EXPECT(KLS_ERROR_UNKNOWN_VALUE, CREATE);
            *values[i] = value;
        }
    }
    options.alloc = never_called;
    options.allocator_user = &called;
    SAYS(KLS_ERROR_NULL, CREATE, NULL, "kls_cuda_create: free: A pointer is NULL.");
    options.free = never_freed;
    options.memory = raw;
    SAYS(KLS_ERROR_UNSUPPORTED, CREATE, NULL, "kls_cuda_create: memory: Lent memory and an allocator exclude each other.");
    options.alloc = NULL;
    options.memory = NULL;
    SAYS(KLS_ERROR_NULL, CREATE, NULL, "kls_cuda_create: alloc: A pointer is NULL.");
    options.free = NULL;
    options.memory = (void *)(uintptr_t)(1 << 20 | 128);
    options.memory_size = memory.total_bytes;
    EXPECT(KLS_ERROR_MISALIGNED, CREATE);
    options.memory = (void *)(uintptr_t)(1 << 20);
    options.memory_size = memory.total_bytes - 1;
    SAYS(KLS_ERROR_MEMORY_TOO_SHORT, CREATE, NULL, "kls_cuda_create: memory_size: The lent memory is shorter than the query says.");
    f.tensors[0].dims[1] = 0;
    SAYS(KLS_ERROR_ZERO_DIM, CREATE, NULL, "kls_cuda_create: tensor 0 \"w\", dims[1]: A dim is zero.");
    CHECK(made == untouched && !called);

    /* Handles. */
    EXPECT(KLS_ERROR_NULL, kls_cuda_destroy(NULL));
    made = NULL;
    EXPECT(KLS_OK, kls_cuda_destroy(&made));
    made = untouched;
    EXPECT(KLS_ERROR_HANDLE, kls_cuda_destroy(&made));
    CHECK(made == untouched);
    EXPECT(KLS_OK, kls_cuda_request_init(&request, sizeof request));
    SAYS(KLS_ERROR_NULL, kls_cuda_step(NULL, &request), NULL, "kls_cuda_step: optimizer: A pointer is NULL.");
    SAYS(KLS_ERROR_HANDLE, kls_cuda_step(untouched, &request), untouched,
         "kls_cuda_step: optimizer: Not an initialised optimizer: its init failed, or it was destroyed.");
    EXPECT(KLS_ERROR_NULL, kls_cuda_replayed(NULL, 1));
    EXPECT(KLS_ERROR_NULL, kls_cuda_save(NULL, raw, sizeof raw, NULL));
    EXPECT(KLS_ERROR_NULL, kls_cuda_load(NULL, raw, sizeof raw, NULL));
    EXPECT(KLS_ERROR_NULL, kls_cuda_save_file(NULL, "x", NULL));
    EXPECT(KLS_ERROR_NULL, kls_cuda_load_file(NULL, "x", NULL));
    EXPECT(KLS_ERROR_NULL, kls_cuda_copy_headers(NULL, raw, sizeof raw, NULL));
    return fixture_end(&f);
}
