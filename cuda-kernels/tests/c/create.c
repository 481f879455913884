#include "fixture.h"

/* A pool of one block. */
typedef struct pool {
    void *block;
    size_t bytes;
    int allocated, freed, refuses;
} pool;

static void *pool_alloc(void *user, size_t bytes, size_t alignment) {
    pool *p = user;
    p->allocated++;
    p->bytes = bytes;
    if (p->refuses || alignment != 256) return NULL;
    return p->block = device_alloc(bytes);
}

static void pool_free(void *user, void *memory, size_t bytes) {
    pool *p = user;
    if (memory == p->block && bytes == p->bytes) p->freed++;
    device_free(memory);
}

/* Whose memory it is makes no difference to what is computed. */
static const char *runs(fixture *f, const kls_cuda_options *options, float *vector) {
    TRY(fixture_gpu(f, NULL));
    EXPECT(KLS_OK, kls_cuda_destroy(&f->gpu));
    EXPECT(KLS_OK, kls_cuda_create(&f->gpu, &f->group, 1, f->tensors, TENSORS, options));
    CHECK(f->gpu != NULL && *kls_cuda_last_error(f->gpu) == 0);
    for (int step = 0; step < 4; step++) TRY(fixture_step_gpu(f, step));
    to_host(vector, f->device_params[1], VECTOR * sizeof(float));
    return NULL;
}

const char *test_create(void) {
    static fixture f;
    float own[VECTOR], pooled[VECTOR], lent[VECTOR];
    kls_cuda_options options;
    kls_cuda_memory memory;
    kls_cuda *gone;
    pool p = {NULL, 0, 0, 0, 0};
    TRY(fixture_describe(&f, KLS_METHOD_KL_SHAMPOO));
    EXPECT(KLS_OK, kls_cuda_options_init(&options, sizeof options));
    EXPECT(KLS_OK, kls_cuda_query(&f.group, 1, f.tensors, TENSORS, NULL, &memory, sizeof memory));
    TRY(runs(&f, NULL, own));
    gone = f.gpu;
    TRY(fixture_end(&f));
    (void)gone;

    TRY(fixture_describe(&f, KLS_METHOD_KL_SHAMPOO));
    options.alloc = pool_alloc;
    options.free = pool_free;
    options.allocator_user = &p;
    p.refuses = 1;
    EXPECT(KLS_ERROR_CUDA_OUT_OF_MEMORY, kls_cuda_create(&f.gpu, &f.group, 1, f.tensors, TENSORS, &options));
    CHECK(p.allocated == 1 && p.freed == 0 && p.bytes == memory.total_bytes && f.gpu == NULL);
    p.refuses = 0;
    TRY(runs(&f, &options, pooled));
    CHECK(p.allocated == 2 && p.freed == 0);
    TRY(fixture_end(&f));
    CHECK(p.freed == 1 && memcmp(own, pooled, sizeof own) == 0);

    TRY(fixture_describe(&f, KLS_METHOD_KL_SHAMPOO));
    EXPECT(KLS_OK, kls_cuda_options_init(&options, sizeof options));
    options.memory = device_alloc((size_t)memory.total_bytes);
    options.memory_size = memory.total_bytes;
    {
        /* What was there before does not matter. */
        void *rubbish = malloc((size_t)memory.total_bytes);
        CHECK(rubbish != NULL);
        memset(rubbish, 0xff, (size_t)memory.total_bytes);
        to_device(options.memory, rubbish, (size_t)memory.total_bytes);
        free(rubbish);
    }
    TRY(runs(&f, &options, lent));
    TRY(fixture_end(&f));
    CHECK(memcmp(own, lent, sizeof own) == 0);
    device_free(options.memory);

    /* Memory of the host. */
    TRY(fixture_describe(&f, KLS_METHOD_KL_SHAMPOO));
    options.memory = (void *)(uintptr_t)256;
    CHECK(kls_cuda_create(&f.gpu, &f.group, 1, f.tensors, TENSORS, &options) != KLS_OK && f.gpu == NULL);
    return fixture_end(&f);
}
