/* bindings-c/flat: who steps what, tensors that lie wrong, and that a step is the library's. */
#include "klshampoo_flat.h"
#include "tests.h"

enum { ROWS = 6, COLUMNS = 4, MATRIX = ROWS * COLUMNS, TENSORS = 4, GAP = 3 };
/* attention.weight, embedding.weight, a gap, two slices of bias and of scale that take turns. */
enum { EMBEDDING = MATRIX, BIAS = EMBEDDING + MATRIX + GAP, SCALE = BIAS + COLUMNS, ELEMENTS = BIAS + 2 * (COLUMNS + 1) };

static const char *describe(kls_flat_tensor table[TENSORS]) {
    const uint64_t matrix[2] = {ROWS, COLUMNS}, bias[1] = {COLUMNS}, scale[1] = {1};
    EXPECT(KLS_OK, kls_flat_tensor_init(&table[0], "attention.weight", 0, 2, matrix));
    EXPECT(KLS_OK, kls_flat_tensor_init(&table[1], "embedding.weight", EMBEDDING, 2, matrix));
    EXPECT(KLS_OK, kls_flat_tensor_init(&table[2], "bias", BIAS, 1, bias));
    EXPECT(KLS_OK, kls_flat_tensor_init(&table[3], "scale", SCALE, 1, scale));
    for (int i = 2; i < 4; i++) {
        table[i].shape.slices = 2;
        table[i].shape.slice_stride = COLUMNS + 1;
    }
    return NULL;
}

static int is_named(const kls_flat *flat, const char *name) { return flat->failed_tensor && strcmp(flat->failed_tensor, name) == 0; }

const char *test_flat_rules(void) {
    static const char *const excluded[] = {"head", "embedding"};
    kls_flat_tensor table[TENSORS];
    kls_flat_options options;
    kls_flat flat;
    const char *failure = describe(table);
    if (failure) return failure;
    EXPECT(KLS_ERROR_NULL, kls_flat_options_init(NULL, KLS_METHOD_SOAP));
    EXPECT(KLS_ERROR_UNKNOWN_VALUE, kls_flat_options_init(&options, -1));
    EXPECT(KLS_OK, kls_flat_options_init(&options, KLS_METHOD_SOAP));
    CHECK(options.method.direction == KLS_DIRECTION_SECOND_MOMENT && options.adamw.estimator == KLS_ESTIMATOR_NONE);

    EXPECT(KLS_OK, kls_flat_create(&flat, table, TENSORS, ELEMENTS, &options));
    CHECK(flat.tensors[0].shape.group == KLS_FLAT_GROUP_METHOD && flat.tensors[1].shape.group == KLS_FLAT_GROUP_METHOD);
    CHECK(flat.tensors[2].shape.group == KLS_FLAT_GROUP_ADAMW_NO_DECAY && flat.tensors[3].shape.group == KLS_FLAT_GROUP_ADAMW_NO_DECAY);
    EXPECT(KLS_OK, kls_flat_destroy(&flat));
    CHECK(!flat.optimizer && !flat.tensors);
    EXPECT(KLS_OK, kls_flat_destroy(&flat));
    EXPECT(KLS_ERROR_NULL, kls_flat_destroy(NULL));

    options.excluded = excluded;
    options.excluded_count = 2;
    table[0].decayed = KLS_FLAT_NO_DECAY;
    table[2].decayed = KLS_FLAT_DECAY;
    EXPECT(KLS_OK, kls_flat_create(&flat, table, TENSORS, ELEMENTS, &options));
    CHECK(flat.tensors[0].shape.group == KLS_FLAT_GROUP_METHOD_NO_DECAY && flat.tensors[1].shape.group == KLS_FLAT_GROUP_ADAMW);
    CHECK(flat.tensors[2].shape.group == KLS_FLAT_GROUP_ADAMW && flat.tensors[3].shape.group == KLS_FLAT_GROUP_ADAMW_NO_DECAY);
    EXPECT(KLS_OK, kls_flat_destroy(&flat));

    /* A tensor's own word is stronger than the rule. */
    options.smallest_dim = COLUMNS + 1;
    table[1].stepped = KLS_FLAT_METHOD;
    EXPECT(KLS_OK, kls_flat_create(&flat, table, TENSORS, ELEMENTS, &options));
    CHECK(flat.tensors[0].shape.group == KLS_FLAT_GROUP_ADAMW_NO_DECAY && flat.tensors[1].shape.group == KLS_FLAT_GROUP_METHOD);
    EXPECT(KLS_OK, kls_flat_destroy(&flat));

    /* bf16 products where there are some, and no error where not; the portable backend never has them. */
    options.bf16_if_available = 1;
    EXPECT(KLS_OK, kls_flat_create(&flat, table, TENSORS, ELEMENTS, &options));
    EXPECT(KLS_OK, kls_flat_destroy(&flat));
    options.library.backend = KLS_BACKEND_PORTABLE;
    EXPECT(KLS_OK, kls_flat_create(&flat, table, TENSORS, ELEMENTS, &options));
    EXPECT(KLS_OK, kls_flat_destroy(&flat));
    options.bf16_if_available = 0;
    options.library.products = KLS_PRODUCTS_BF16;
    EXPECT(KLS_ERROR_UNSUPPORTED, kls_flat_create(&flat, table, TENSORS, ELEMENTS, &options));
    CHECK(!flat.optimizer && !flat.failed_tensor);
    return NULL;
}

const char *test_flat_places(void) {
    kls_flat_tensor table[TENSORS], bad[TENSORS];
    kls_flat_options options, wrong;
    kls_flat flat;
    const uint64_t dims[1] = {1};
    const char *failure = describe(table);
    if (failure) return failure;
    EXPECT(KLS_OK, kls_flat_options_init(&options, KLS_METHOD_KL_SHAMPOO));
    EXPECT(KLS_ERROR_NULL, kls_flat_tensor_init(NULL, "x", 0, 1, dims));
    EXPECT(KLS_ERROR_NULL, kls_flat_tensor_init(&bad[0], NULL, 0, 1, dims));
    EXPECT(KLS_ERROR_NULL, kls_flat_tensor_init(&bad[0], "x", 0, 1, NULL));
    EXPECT(KLS_ERROR_ORDER, kls_flat_tensor_init(&bad[0], "x", 0, 7, dims));
    EXPECT(KLS_ERROR_NULL, kls_flat_create(NULL, table, TENSORS, ELEMENTS, &options));
    EXPECT(KLS_ERROR_NULL, kls_flat_create(&flat, NULL, TENSORS, ELEMENTS, &options));
    EXPECT(KLS_ERROR_NULL, kls_flat_create(&flat, table, TENSORS, ELEMENTS, NULL));

#define REFUSED(index, field, value, status)                                                                                           \
    do {                                                                                                                               \
        memcpy(bad, table, sizeof bad);                                                                                                \
        bad[index].field = (value);                                                                                                    \
        EXPECT(status, kls_flat_create(&flat, bad, TENSORS, ELEMENTS, &options));                                                      \
        CHECK(!flat.optimizer && !flat.tensors && is_named(&flat, table[index].name));                                                 \
    } while (0)
    REFUSED(0, shape.dims[1], 0, KLS_ERROR_ZERO_DIM);
    REFUSED(1, shape.modes[0], 9, KLS_ERROR_UNKNOWN_VALUE);
    REFUSED(1, stepped, 3, KLS_ERROR_UNKNOWN_VALUE);
    REFUSED(2, decayed, -1, KLS_ERROR_UNKNOWN_VALUE);
    REFUSED(2, shape.slices, 0, KLS_ERROR_SLICES);
    REFUSED(2, shape.slices, 3, KLS_ERROR_BUFFER_LENGTH);
    REFUSED(2, shape.slices, (uint64_t)1 << 40, KLS_ERROR_BUFFER_LENGTH);
    REFUSED(2, shape.slices, (uint64_t)1 << 63, KLS_ERROR_OVERFLOW);
    REFUSED(3, offset, SCALE + 1, KLS_ERROR_BUFFER_LENGTH);
    REFUSED(3, offset, (size_t)-1, KLS_ERROR_BUFFER_LENGTH);
#undef REFUSED
    /* The tensor that begins inside another one is named. */
    memcpy(bad, table, sizeof bad);
    bad[3].offset = SCALE - 1;
    EXPECT(KLS_ERROR_OVERLAP, kls_flat_create(&flat, bad, TENSORS, ELEMENTS, &options));
    CHECK(is_named(&flat, "scale"));
    memcpy(bad, table, sizeof bad);
    bad[1].offset = EMBEDDING + GAP + 1;
    EXPECT(KLS_ERROR_OVERLAP, kls_flat_create(&flat, bad, TENSORS, ELEMENTS, &options));
    CHECK(is_named(&flat, "bias"));
    /* A buffer that is one element short. */
    EXPECT(KLS_ERROR_BUFFER_LENGTH, kls_flat_create(&flat, table, TENSORS, ELEMENTS - 1, &options));
    CHECK(is_named(&flat, "scale"));
    bad[0].name = NULL;
    EXPECT(KLS_ERROR_NULL, kls_flat_create(&flat, bad, TENSORS, ELEMENTS, &options));
    /* Options that no tensor is to blame for. */
    wrong = options;
    wrong.adamw.beta1 = 1;
    EXPECT(KLS_ERROR_BETA, kls_flat_create(&flat, table, TENSORS, ELEMENTS, &wrong));
    CHECK(!flat.failed_tensor);
    wrong = options;
    wrong.library.num_threads = 0;
    EXPECT(KLS_ERROR_THREADS, kls_flat_create(&flat, table, TENSORS, ELEMENTS, &wrong));
    wrong = options;
    wrong.excluded_count = 1;
    EXPECT(KLS_ERROR_NULL, kls_flat_create(&flat, table, TENSORS, ELEMENTS, &wrong));
    wrong = options;
    wrong.method.struct_size = 0;
    EXPECT(KLS_ERROR_STRUCT_SIZE, kls_flat_create(&flat, table, TENSORS, ELEMENTS, &wrong));
    return NULL;
}

/* Gradients of a step; none in the gap. */
static void fill(float *grads, int step) {
    for (int i = 0; i < ELEMENTS; i++) grads[i] = 0.01f * (float)((7 * i + 3 * step) % 11 - 5);
}

const char *test_flat_steps(void) {
    const uint64_t matrix[2] = {ROWS, COLUMNS}, bias[1] = {COLUMNS}, scale[1] = {1};
    float params[ELEMENTS], expected[ELEMENTS], grads[ELEMENTS];
    kls_flat_tensor table[TENSORS];
    kls_flat_options options;
    kls_tensor shapes[TENSORS];
    kls_config groups[2];
    kls_optimizer *by_hand = NULL;
    kls_flat flat;
    float *pointers[TENSORS] = {expected, expected + EMBEDDING, expected + BIAS, expected + SCALE};
    const float *gradients[TENSORS] = {grads, grads + EMBEDDING, grads + BIAS, grads + SCALE};
    const char *failure = describe(table);
    if (failure) return failure;
    for (int i = 0; i < ELEMENTS; i++) params[i] = expected[i] = 0.1f * (float)(i % 5);
    EXPECT(KLS_OK, kls_flat_options_init(&options, KLS_METHOD_KL_SHAMPOO));
    options.method.weight_decay = options.adamw.weight_decay = 0.1f;
    options.method.refresh_period = 2;
    options.adamw.lr_scale = 0.5f;
    memset(&flat, 0, sizeof flat);
    EXPECT(KLS_ERROR_HANDLE, kls_flat_step(&flat, params, grads, 0.01f));
    EXPECT(KLS_OK, kls_flat_create(&flat, table, TENSORS, ELEMENTS, &options));

    groups[0] = options.method;
    groups[1] = options.adamw;
    groups[1].weight_decay = 0;
    EXPECT(KLS_OK, kls_tensor_init(&shapes[0], sizeof shapes[0], 2, matrix));
    shapes[1] = shapes[0];
    EXPECT(KLS_OK, kls_tensor_init(&shapes[2], sizeof shapes[2], 1, bias));
    EXPECT(KLS_OK, kls_tensor_init(&shapes[3], sizeof shapes[3], 1, scale));
    for (int i = 2; i < 4; i++) {
        shapes[i].group = 1;
        shapes[i].slices = 2;
        shapes[i].slice_stride = COLUMNS + 1;
    }
    EXPECT(KLS_OK, kls_optimizer_create(&by_hand, groups, 2, shapes, TENSORS, NULL));
    for (int step = 0; step < 7; step++) {
        fill(grads, step);
        EXPECT(KLS_OK, kls_flat_step(&flat, params, grads, 0.01f));
        EXPECT(KLS_OK, kls_optimizer_step(by_hand, pointers, gradients, TENSORS, 0.01f));
    }
    CHECK(memcmp(params, expected, sizeof params) == 0 && params[0] != 0 && params[SCALE] != 0);
    for (int i = EMBEDDING + MATRIX; i < BIAS; i++) CHECK(params[i] == 0.1f * (float)(i % 5));
    EXPECT(KLS_OK, kls_optimizer_destroy(&by_hand));

    /* What is wrong with a step, and where; nothing is written. */
    EXPECT(KLS_ERROR_NULL, kls_flat_step(NULL, params, grads, 0.01f));
    EXPECT(KLS_ERROR_NULL, kls_flat_step(&flat, NULL, grads, 0.01f));
    EXPECT(KLS_ERROR_NULL, kls_flat_step(&flat, params, NULL, 0.01f));
    EXPECT(KLS_ERROR_LEARNING_RATE, kls_flat_step(&flat, params, grads, -1));
    CHECK(!flat.failed_tensor);
    EXPECT(KLS_ERROR_OVERLAP, kls_flat_step(&flat, params, params, 0.01f));
    grads[SCALE + COLUMNS + 1] = 1e30f;
    EXPECT(KLS_ERROR_GRADIENT_TOO_LARGE, kls_flat_step(&flat, params, grads, 0.01f));
    CHECK(is_named(&flat, "scale"));
    memset(&grads[EMBEDDING + 5], 0xff, sizeof grads[0]); /* a NaN, whatever the compiler thinks of those */
    EXPECT(KLS_ERROR_GRADIENT_NOT_FINITE, kls_flat_step(&flat, params, grads, 0.01f));
    CHECK(is_named(&flat, "embedding.weight"));
    CHECK(memcmp(params, expected, sizeof params) == 0);
    /* One in the gap is nobody's. */
    fill(grads, 7);
    memset(&grads[BIAS - 1], 0xff, sizeof grads[0]);
    EXPECT(KLS_OK, kls_flat_step(&flat, params, grads, 0.01f));
    CHECK(!flat.failed_tensor);
    /* An update that no gradient is to blame for. */
    EXPECT(KLS_ERROR_UPDATE_NOT_FINITE, kls_flat_step(&flat, params, grads, 3e38f));
    CHECK(!flat.failed_tensor);
    EXPECT(KLS_OK, kls_flat_destroy(&flat));
    return NULL;
}
