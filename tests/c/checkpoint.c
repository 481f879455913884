#include "check.h"
#include "fixture.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROOM = 8 * 1024 };

/* A stream in memory, with a fault at one of its calls. */
typedef struct stream {
    unsigned char bytes[ROOM];
    size_t len;
    int calls, fails_at;
} stream;

static int32_t write_bytes(void *user, const void *bytes, size_t len) {
    stream *s = user;
    if (s->calls++ == s->fails_at || len > sizeof s->bytes - s->len) return 7;
    memcpy(s->bytes + s->len, bytes, len);
    s->len += len;
    return 0;
}

static int32_t read_bytes(void *user, uint64_t offset, void *bytes, size_t len) {
    stream *s = user;
    if (s->calls++ == s->fails_at || offset > s->len || len > s->len - (size_t)offset) return -1;
    memcpy(bytes, s->bytes + offset, len);
    return 0;
}

static kls_status train(fixture *f, int from, int to) {
    for (int step = from; step < to; step++) {
        for (int i = 0; i < ELEMENTS; i++) f->matrix_grad[i] = 0.01f * (float)((7 * i + 3 * step) % 11 - 5);
        for (int i = 0; i < VECTOR; i++) f->vector_grad[i] = 0.5f - 0.2f * (float)((i + step) % 4);
        kls_status status = kls_optimizer_step(f->optimizer, f->params, f->grads, 2, 0.01f);
        if (status) return status;
    }
    return KLS_OK;
}

const char *test_checkpoint(void) {
    static fixture f, other;
    static unsigned char buffer[ROOM + 1], before[ROOM + 1];
    static stream s;
    uint64_t size = 0, untouched = 5;
    kls_optimizer *none = NULL;
    const char *failure = fixture_describe(&f);
    if (!failure) failure = fixture_make(&f);
    if (!failure) failure = fixture_describe(&other);
    if (!failure) failure = fixture_make(&other);
    if (failure) return failure;
    EXPECT(KLS_OK, train(&f, 0, 9));
    EXPECT(KLS_OK, train(&other, 0, 3));

    EXPECT(KLS_OK, kls_optimizer_save_size(f.optimizer, &size));
    CHECK(size > 500 && size < ROOM);
    EXPECT(KLS_ERROR_NULL, kls_optimizer_save_size(f.optimizer, NULL));
    EXPECT(KLS_ERROR_NULL, kls_optimizer_save_size(NULL, &untouched));
    CHECK(untouched == 5);

    /* Refused saves leave the buffer alone. */
    memset(buffer, 0x5a, sizeof buffer);
    memcpy(before, buffer, sizeof buffer);
    EXPECT(KLS_ERROR_MEMORY_TOO_SHORT, kls_optimizer_save(f.optimizer, buffer, (size_t)size - 1));
    EXPECT(KLS_ERROR_MEMORY_TOO_SHORT, kls_optimizer_save(f.optimizer, buffer, 0));
    EXPECT(KLS_ERROR_NULL, kls_optimizer_save(f.optimizer, NULL, (size_t)size));
    EXPECT(KLS_ERROR_NULL, kls_optimizer_save(NULL, buffer, (size_t)size));
    CHECK(memcmp(buffer, before, sizeof buffer) == 0);

    /* A buffer that is longer, and not aligned: what lies around the checkpoint is left alone. */
    fixture_remember(&f);
    EXPECT(KLS_OK, kls_optimizer_save(f.optimizer, buffer + 1, ROOM));
    CHECK(fixture_unchanged(&f));
    CHECK(buffer[0] == 0x5a);
    for (size_t i = (size_t)size + 1; i < sizeof buffer; i++) CHECK(buffer[i] == 0x5a);

    /* Refused loads leave the optimizer alone. */
    fixture_remember(&other);
    EXPECT(KLS_ERROR_CHECKPOINT_TRUNCATED, kls_optimizer_load(other.optimizer, buffer + 1, (size_t)size - 1));
    EXPECT(KLS_ERROR_CHECKPOINT_TRUNCATED, kls_optimizer_load(other.optimizer, NULL, 0));
    EXPECT(KLS_ERROR_NULL, kls_optimizer_load(other.optimizer, NULL, (size_t)size));
    EXPECT(KLS_ERROR_NULL, kls_optimizer_load(NULL, buffer + 1, (size_t)size));
    EXPECT(KLS_ERROR_CHECKPOINT_FORMAT, kls_optimizer_load(other.optimizer, before, sizeof before));
    buffer[1 + 8]++;
    EXPECT(KLS_ERROR_CHECKPOINT_VERSION, kls_optimizer_load(other.optimizer, buffer + 1, (size_t)size));
    buffer[1 + 8]--;
    buffer[1 + 12] = 2;
    EXPECT(KLS_ERROR_CHECKPOINT_ELEMENT, kls_optimizer_load(other.optimizer, buffer + 1, (size_t)size));
    buffer[1 + 12] = 1;
    buffer[(size_t)size / 2] ^= 1;
    EXPECT(KLS_ERROR_CHECKPOINT_CHECKSUM, kls_optimizer_load(other.optimizer, buffer + 1, (size_t)size));
    buffer[(size_t)size / 2] ^= 1;
    CHECK(fixture_unchanged(&other));

    /* Callbacks: the same bytes, and a fault in any call is noticed. */
    s.fails_at = -1;
    EXPECT(KLS_OK, kls_optimizer_save_to(f.optimizer, write_bytes, &s));
    CHECK(s.len == size && memcmp(s.bytes, buffer + 1, s.len) == 0);
    EXPECT(KLS_ERROR_NULL, kls_optimizer_save_to(f.optimizer, NULL, &s));
    EXPECT(KLS_ERROR_NULL, kls_optimizer_save_to(none, write_bytes, &s));
    for (int calls = s.calls, at = 0; at < calls; at++) {
        s.len = 0, s.calls = 0, s.fails_at = at;
        EXPECT(KLS_ERROR_CHECKPOINT_CALLBACK, kls_optimizer_save_to(f.optimizer, write_bytes, &s));
    }
    CHECK(fixture_unchanged(&f));
    memcpy(s.bytes, buffer + 1, (size_t)size);
    s.len = (size_t)size;
    s.calls = 0, s.fails_at = -1;
    EXPECT(KLS_ERROR_NULL, kls_optimizer_load_from(other.optimizer, NULL, &s));
    CHECK(s.calls == 0 && fixture_unchanged(&other));
    EXPECT(KLS_OK, kls_optimizer_load_from(other.optimizer, read_bytes, &s));
    for (int calls = s.calls, at = 0; at < calls; at++) {
        kls_counters counters;
        fixture_remember(&other);
        s.calls = 0, s.fails_at = at;
        EXPECT(at < calls / 2 ? KLS_ERROR_CHECKPOINT_CALLBACK : KLS_ERROR_CHECKPOINT_CHANGED,
               kls_optimizer_load_from(other.optimizer, read_bytes, &s));
        if (at < calls / 2) {
            CHECK(fixture_unchanged(&other));
        } else {
            EXPECT(KLS_OK, kls_optimizer_counters(other.optimizer, 0, 0, &counters, sizeof counters));
            CHECK(counters.steps == 0);
        }
    }

    /* Other tensors and other methods. */
    {
        static fixture wrong;
        failure = fixture_describe(&wrong);
        if (failure) return failure;
        wrong.tensors[0].dims[0]++;
        failure = fixture_make(&wrong);
        if (failure) return failure;
        EXPECT(KLS_ERROR_CHECKPOINT_SHAPES, kls_optimizer_load(wrong.optimizer, buffer + 1, (size_t)size));
        failure = fixture_describe(&wrong);
        if (failure) return failure;
        EXPECT(KLS_OK, kls_config_init(&wrong.group, sizeof wrong.group, KLS_METHOD_SOAP, KLS_CONVENTION_FIGURE13));
        failure = fixture_make(&wrong);
        if (failure) return failure;
        EXPECT(KLS_ERROR_CHECKPOINT_METHOD, kls_optimizer_load(wrong.optimizer, buffer + 1, (size_t)size));
        EXPECT(KLS_OK, kls_optimizer_destroy(&wrong.optimizer));
        EXPECT(KLS_ERROR_HANDLE, kls_optimizer_load((kls_optimizer *)(void *)wrong.memory, buffer + 1, (size_t)size));
    }

    /* From here on both do the same. */
    EXPECT(KLS_OK, kls_optimizer_load(other.optimizer, buffer + 1, (size_t)size));
    memcpy(other.matrix, f.matrix, sizeof f.matrix);
    memcpy(other.vector, f.vector, sizeof f.vector);
    EXPECT(KLS_OK, train(&f, 9, 40));
    EXPECT(KLS_OK, train(&other, 9, 40));
    CHECK(memcmp(f.matrix, other.matrix, sizeof f.matrix) == 0 && memcmp(f.vector, other.vector, sizeof f.vector) == 0);
    return NULL;
}

static uint64_t rotated(uint64_t x, int bits) { return x << bits | x >> (64 - bits); }

static uint64_t read_u64(const unsigned char *from) {
    uint64_t x = 0;
    for (int i = 7; i >= 0; i--) x = x << 8 | from[i];
    return x;
}

static void write_u64(unsigned char *to, uint64_t x) {
    for (int i = 0; i < 8; i++) to[i] = (unsigned char)(x >> 8 * i);
}

/* XXH64 with seed 0 of a multiple of 8 bytes, at least 32, as its specification has it. */
static uint64_t xxh64(const unsigned char *bytes, size_t len) {
    const uint64_t p1 = 0x9E3779B185EBCA87u, p2 = 0xC2B2AE3D27D4EB4Fu, p3 = 0x165667B19E3779F9u, p4 = 0x85EBCA77C2B2AE63u;
    uint64_t lane[4] = {p1 + p2, p2, 0, 0 - p1};
    size_t at = 0;
    for (; at + 32 <= len; at += 32)
        for (size_t i = 0; i < 4; i++) lane[i] = rotated(lane[i] + read_u64(bytes + at + 8 * i) * p2, 31) * p1;
    uint64_t hash = rotated(lane[0], 1) + rotated(lane[1], 7) + rotated(lane[2], 12) + rotated(lane[3], 18);
    for (size_t i = 0; i < 4; i++) hash = (hash ^ rotated(lane[i] * p2, 31) * p1) * p1 + p4;
    hash += len;
    for (; at < len; at += 8) hash = rotated(hash ^ rotated(read_u64(bytes + at) * p2, 31) * p1, 27) * p1 + p4;
    hash = (hash ^ hash >> 33) * p2;
    hash = (hash ^ hash >> 29) * p3;
    return hash ^ hash >> 32;
}

/* A checkpoint whose seal is right and whose length is not: sealed by somebody else's idea of one. */
const char *test_malformed_checkpoint(void) {
    static fixture f;
    static unsigned char bytes[MEMORY];
    const char *failure = fixture_describe(&f);
    if (failure || (failure = fixture_make(&f))) return failure;
    EXPECT(KLS_OK, kls_optimizer_save(f.optimizer, bytes, sizeof bytes));
    CHECK(read_u64(bytes + 56) == xxh64(bytes, 56));
    fixture_remember(&f);
    write_u64(bytes + 16, 60);
    EXPECT(KLS_ERROR_CHECKPOINT_CHECKSUM, kls_optimizer_load(f.optimizer, bytes, sizeof bytes));
    write_u64(bytes + 56, xxh64(bytes, 56));
    EXPECT(KLS_ERROR_CHECKPOINT_MALFORMED, kls_optimizer_load(f.optimizer, bytes, sizeof bytes));
    CHECK(fixture_unchanged(&f));
    return NULL;
}

const char *test_checkpoint_files(void) {
    static fixture f, other;
    char path[512];
    const char *folder = getenv("TMPDIR"), *failure = fixture_describe(&f);
    if (!failure) failure = fixture_make(&f);
    if (!failure) failure = fixture_describe(&other);
    if (!failure) failure = fixture_make(&other);
    if (failure) return failure;
    if (!folder || strlen(folder) > 256) folder = "/tmp";
    /* The address differs from process to process. */
    snprintf(path, sizeof path, "%s/klshampoo_%p.safetensors", folder, (void *)path);
    EXPECT(KLS_OK, train(&f, 0, 9));
    fixture_remember(&other);
    EXPECT(KLS_ERROR_NULL, kls_optimizer_save_file(f.optimizer, NULL));
    EXPECT(KLS_ERROR_NULL, kls_optimizer_load_file(other.optimizer, NULL));
    EXPECT(KLS_ERROR_NULL, kls_optimizer_save_file(NULL, path));
    EXPECT(KLS_ERROR_FILE_NOT_FOUND, kls_optimizer_save_file(f.optimizer, ""));
    EXPECT(KLS_ERROR_FILE_NOT_FOUND, kls_optimizer_load_file(other.optimizer, ""));
    EXPECT(KLS_ERROR_FILE_NOT_FOUND, kls_optimizer_load_file(other.optimizer, path));
    EXPECT(KLS_ERROR_FILE_NOT_FOUND, kls_optimizer_save_file(f.optimizer, "no_such_folder/state.safetensors"));
    EXPECT(KLS_ERROR_IO, kls_optimizer_save_file(f.optimizer, folder));
    EXPECT(KLS_ERROR_IO, kls_optimizer_load_file(other.optimizer, folder));
    CHECK(fixture_unchanged(&other));

    /* A file of another kind. */
    FILE *file = fopen(path, "wb");
    CHECK(file != NULL && fputs("no such thing as a state", file) >= 0 && fclose(file) == 0);
    EXPECT(KLS_ERROR_SAFETENSORS, kls_optimizer_load_file(other.optimizer, path));
    CHECK(fixture_unchanged(&other));

    EXPECT(KLS_OK, kls_optimizer_save_file(f.optimizer, path));
    EXPECT(KLS_OK, kls_optimizer_load_file(other.optimizer, path));
    CHECK(remove(path) == 0);
    memcpy(other.matrix, f.matrix, sizeof f.matrix);
    memcpy(other.vector, f.vector, sizeof f.vector);
    EXPECT(KLS_OK, train(&f, 9, 20));
    EXPECT(KLS_OK, train(&other, 9, 20));
    CHECK(memcmp(f.matrix, other.matrix, sizeof f.matrix) == 0 && memcmp(f.vector, other.vector, sizeof f.vector) == 0);
    return NULL;
}
