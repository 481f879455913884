#include "check.h"
#include "fixture.h"
#include <string.h>

const char *test_table_errors(void) {
    static fixture f;
    kls_tensor tensor, before;
    uint64_t dims[7] = {2, 3, 1, 1, 1, 1, 1};
    size_t size = 77, alignment = 77;
    const char *failure = fixture_describe(&f);
    if (failure) return failure;

    memset(&tensor, 0x5a, sizeof tensor);
    before = tensor;
    EXPECT(KLS_ERROR_NULL, kls_tensor_init(NULL, sizeof tensor, 2, dims));
    EXPECT(KLS_ERROR_NULL, kls_tensor_init(&tensor, sizeof tensor, 2, NULL));
    EXPECT(KLS_ERROR_STRUCT_SIZE, kls_tensor_init(&tensor, sizeof tensor + 8, 2, dims));
    EXPECT(KLS_ERROR_ORDER, kls_tensor_init(&tensor, sizeof tensor, 0, dims));
    EXPECT(KLS_ERROR_ORDER, kls_tensor_init(&tensor, sizeof tensor, KLS_MAX_ORDER + 1, dims));
    CHECK(memcmp(&tensor, &before, sizeof tensor) == 0);
    EXPECT(KLS_OK, kls_tensor_init(&tensor, sizeof tensor, 2, dims));
    before = tensor;

#define REFUSED(change, status)                                                                           \
    do {                                                                                                  \
        tensor = before;                                                                                  \
        change;                                                                                           \
        EXPECT(status, kls_optimizer_query(&f.group, 1, &tensor, 1, &size, &alignment));                  \
        CHECK(size == 77 && alignment == 77);                                                             \
    } while (0)
    REFUSED(tensor.struct_size = 1, KLS_ERROR_STRUCT_SIZE);
    REFUSED(tensor.row_part_count = 9, KLS_ERROR_ROW_PARTS);
    REFUSED(tensor.row_part_count = 1, KLS_ERROR_ROW_PARTS);
    REFUSED((tensor.row_part_count = 1, tensor.row_parts[0] = 1), KLS_ERROR_ROW_PARTS);
    REFUSED((tensor.row_part_count = 2, tensor.row_parts[0] = 1, tensor.row_parts[1] = UINT64_MAX), KLS_ERROR_ROW_PARTS);
    REFUSED(tensor.order = 0, KLS_ERROR_ORDER);
    REFUSED(tensor.order = 7, KLS_ERROR_ORDER);
    REFUSED(tensor.dims[1] = 0, KLS_ERROR_ZERO_DIM);
    REFUSED(tensor.dims[0] = (uint64_t)1 << 32; tensor.dims[1] = (uint64_t)1 << 32, KLS_ERROR_OVERFLOW);
    REFUSED(tensor.dims[0] = UINT64_MAX, KLS_ERROR_OVERFLOW);
    REFUSED(tensor.dims[0] = (uint64_t)1 << 31; tensor.modes[0] = KLS_MODE_FULL, KLS_ERROR_OVERFLOW);
    REFUSED(tensor.slices = (uint64_t)1 << 60, KLS_ERROR_OVERFLOW);
    REFUSED(tensor.slices = 2; tensor.slice_stride = UINT64_MAX, KLS_ERROR_OVERFLOW);
    REFUSED(tensor.modes[0] = 9, KLS_ERROR_UNKNOWN_VALUE);
    REFUSED(tensor.group = 1, KLS_ERROR_GROUP);
    REFUSED(tensor.slices = 0, KLS_ERROR_SLICES);
    REFUSED(tensor.slices = 2; tensor.slice_stride = 5, KLS_ERROR_SLICE_STRIDE);
#undef REFUSED
    tensor = before;
    EXPECT(KLS_ERROR_NULL, kls_optimizer_query(NULL, 1, &tensor, 1, &size, &alignment));
    EXPECT(KLS_ERROR_NULL, kls_optimizer_query(&f.group, 1, NULL, 1, &size, &alignment));
    EXPECT(KLS_ERROR_NULL, kls_optimizer_query(&f.group, 1, &tensor, 1, NULL, &alignment));
    EXPECT(KLS_ERROR_NULL, kls_optimizer_query(&f.group, 1, &tensor, 1, &size, NULL));
    EXPECT(KLS_ERROR_GROUP, kls_optimizer_query(NULL, 0, &tensor, 1, &size, &alignment));
    EXPECT(KLS_OK, kls_optimizer_query(&f.group, 1, &tensor, 1, &size, &alignment));
    return NULL;
}

/* Tensors of the header before the one that has names, one after another as its programs have them. */
const char *test_tensors_of_the_second_header(void) {
    static fixture f;
    enum { SIZE = offsetof(kls_tensor, name) };
    union {
        uint64_t aligned;
        unsigned char bytes[2 * SIZE];
    } old;
    uint64_t dims[2] = {6, 3};
    kls_tensor tensors[2];
    kls_optimizer *both[2] = {NULL, NULL};
    float params[2][2][18], grads[2][18];
    const char *failure = fixture_describe(&f);
    if (failure) return failure;
    for (int i = 0; i < 2; i++) {
        EXPECT(KLS_OK, kls_tensor_init((kls_tensor *)(void *)(old.bytes + i * SIZE), SIZE, 2, dims));
        EXPECT(KLS_OK, kls_tensor_init(&tensors[i], sizeof tensors[i], 2, dims));
        tensors[i].row_part_count = 2;
        tensors[i].row_parts[0] = tensors[i].row_parts[1] = 3;
        tensors[i].struct_size = SIZE;
        memcpy(old.bytes + i * SIZE, &tensors[i], SIZE);
        tensors[i].struct_size = sizeof tensors[i];
    }
    EXPECT(KLS_OK, kls_optimizer_create(&both[0], &f.group, 1, (const kls_tensor *)(const void *)old.bytes, 2, NULL));
    EXPECT(KLS_OK, kls_optimizer_create(&both[1], &f.group, 1, tensors, 2, NULL));
    memset(params, 0, sizeof params);
    for (int step = 0; step < 4; step++) {
        for (int i = 0; i < 36; i++) grads[i / 18][i % 18] = 0.1f * (float)((i * 5 + step * 3) % 11 - 5);
        for (int i = 0; i < 2; i++) {
            float *const own[2] = {params[i][0], params[i][1]};
            const float *const given[2] = {grads[0], grads[1]};
            EXPECT(KLS_OK, kls_optimizer_step(both[i], own, given, 2, 0.01f));
        }
    }
    CHECK(memcmp(params[0], params[1], sizeof params[0]) == 0 && params[0][0][0] != 0);
    /* All of an array are of one size. */
    tensors[1].struct_size = SIZE;
    size_t size, alignment;
    EXPECT(KLS_ERROR_STRUCT_SIZE, kls_optimizer_query(&f.group, 1, tensors, 2, &size, &alignment));
    EXPECT(KLS_OK, kls_optimizer_destroy(&both[0]));
    EXPECT(KLS_OK, kls_optimizer_destroy(&both[1]));
    return NULL;
}
