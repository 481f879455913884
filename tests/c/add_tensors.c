#include "check.h"
#include "fixture.h"
#include <math.h>
#include <string.h>

enum { FIRST = 2, ALL = 4, LARGEST = 2 * 9 * 7, TENSOR_STEPS = 4 };

/* Tensors of different kinds: a matrix, a vector, a stack of two matrices, a matrix of three dims. */
static const uint64_t dims[ALL][3] = {{6, 5, 0}, {8, 0, 0}, {9, 7, 0}, {3, 4, 2}};
static const uint32_t orders[ALL] = {2, 1, 2, 3}, slice_counts[ALL] = {1, 1, 2, 1}, of_group[ALL] = {0, 1, 0, 0};
static const int elements[ALL] = {30, 8, 126, 24};
static const char *const names[ALL] = {"first", NULL, "third", "fourth"};

typedef struct table {
    kls_config groups[2];
    kls_tensor tensors[ALL];
    float params[ALL][LARGEST], grads[ALL][LARGEST];
} table;

static const char *describe(table *t) {
    memset(t, 0, sizeof *t);
    EXPECT(KLS_OK, kls_config_init(&t->groups[0], sizeof t->groups[0], KLS_METHOD_KL_SHAMPOO, KLS_CONVENTION_FIGURE13));
    EXPECT(KLS_OK, kls_config_init(&t->groups[1], sizeof t->groups[1], KLS_METHOD_ADAMW, KLS_CONVENTION_FIGURE13));
    t->groups[0].refresh_period = 3;
    t->groups[0].stagger = 0;
    for (int i = 0; i < ALL; i++) {
        EXPECT(KLS_OK, kls_tensor_init(&t->tensors[i], sizeof t->tensors[i], orders[i], dims[i]));
        t->tensors[i].slices = slice_counts[i];
        t->tensors[i].group = of_group[i];
        t->tensors[i].name = names[i];
    }
    return NULL;
}

/* Steps with the first `count` tensors, of which those from `frozen` on have no gradient. */
static kls_status step(kls_optimizer *optimizer, table *t, size_t count, size_t frozen, int number) {
    float *params[ALL];
    const float *grads[ALL];
    for (size_t i = 0; i < ALL; i++) {
        params[i] = t->params[i];
        grads[i] = i < frozen ? t->grads[i] : NULL;
        for (int j = 0; j < elements[i]; j++) t->grads[i][j] = sinf((float)(1 + 37 * number + 11 * (int)i) * (float)(j + 1));
    }
    return kls_optimizer_step(optimizer, params, grads, count, 0.01f);
}

/* Whether two optimizers have the same state of some tensors, to the bit. */
static const char *same_state(kls_optimizer *a, kls_optimizer *b, size_t count) {
    static const int32_t parts[] = {KLS_STATE_FACTOR, KLS_STATE_BASIS, KLS_STATE_EIGENVALUES, KLS_STATE_MOMENTUM, KLS_STATE_SECOND_MOMENT};
    float numbers[2][LARGEST];
    for (size_t i = 0; i < count; i++) {
        for (size_t slice = 0; slice < slice_counts[i]; slice++) {
            kls_counters counters[2];
            EXPECT(KLS_OK, kls_optimizer_counters(a, i, slice, &counters[0], sizeof counters[0]));
            EXPECT(KLS_OK, kls_optimizer_counters(b, i, slice, &counters[1], sizeof counters[1]));
            CHECK(memcmp(&counters[0], &counters[1], sizeof counters[0]) == 0);
            for (size_t part = 0; part < sizeof parts / sizeof parts[0]; part++) {
                for (uint32_t mode = 0; mode < orders[i]; mode++) {
                    const size_t d = dims[i][mode], slice_len = (size_t)elements[i] / slice_counts[i];
                    const size_t len = part < 2 ? d * d : part == 2 ? d : slice_len;
                    const kls_status status = kls_optimizer_read_state(a, i, slice, parts[part], mode, numbers[0], len);
                    CHECK(status == KLS_OK || status == KLS_ERROR_NO_SUCH_STATE);
                    EXPECT(status, kls_optimizer_read_state(b, i, slice, parts[part], mode, numbers[1], len));
                    CHECK(status != KLS_OK || memcmp(numbers[0], numbers[1], len * sizeof(float)) == 0);
                }
            }
        }
    }
    return NULL;
}

/* Tensors that come later are those that were there and frozen. */
static const char *later_is_as_frozen(const kls_options *options) {
    static table whole, grown;
    kls_optimizer *at_once, *later, *handle;
    const char *failure = describe(&whole);
    if (!failure) failure = describe(&grown);
    if (failure) return failure;
    EXPECT(KLS_OK, kls_optimizer_create(&at_once, whole.groups, 2, whole.tensors, ALL, options));
    EXPECT(KLS_OK, kls_optimizer_create(&later, grown.groups, 2, grown.tensors, FIRST, options));
    handle = later;
    EXPECT(KLS_OK, kls_optimizer_set_group(at_once, 1, 0.5f, 0.1f));
    EXPECT(KLS_OK, kls_optimizer_set_group(later, 1, 0.5f, 0.1f));
    for (int number = 0; number < TENSOR_STEPS; number++) {
        EXPECT(KLS_OK, step(at_once, &whole, ALL, FIRST, number));
        EXPECT(KLS_OK, step(later, &grown, FIRST, FIRST, number));
    }
    EXPECT(KLS_OK, kls_optimizer_add_tensors(later, NULL, 0));
    /* One by one. */
    for (size_t i = FIRST; i < ALL; i++) EXPECT(KLS_OK, kls_optimizer_add_tensors(later, &grown.tensors[i], 1));
    CHECK(later == handle);
    if ((failure = same_state(at_once, later, ALL))) return failure;
    for (int number = TENSOR_STEPS; number < 2 * TENSOR_STEPS; number++) {
        EXPECT(KLS_OK, step(at_once, &whole, ALL, ALL, number));
        EXPECT(KLS_OK, step(later, &grown, ALL, ALL, number));
    }
    CHECK(memcmp(whole.params, grown.params, sizeof whole.params) == 0 && whole.params[ALL - 1][0] != 0);
    if ((failure = same_state(at_once, later, ALL))) return failure;
    EXPECT(KLS_ERROR_TENSOR_COUNT, step(later, &grown, FIRST, FIRST, 0));
    EXPECT(KLS_OK, kls_optimizer_destroy(&at_once));
    EXPECT(KLS_OK, kls_optimizer_destroy(&later));
    return NULL;
}

static void count_messages(void *user, int32_t level, const char *message) {
    (void)level, (void)message;
    ++*(int *)user;
}

/* What is refused changes nothing. */
static const char *refusals(void) {
    static table t, other;
    kls_optimizer *optimizer, *untouched;
    kls_tensor more[2];
    size_t bytes, bytes_before;
    int messages = 0;
    const char *failure = describe(&t);
    if (!failure) failure = describe(&other);
    if (failure) return failure;
    EXPECT(KLS_OK, kls_optimizer_create(&optimizer, t.groups, 2, t.tensors, FIRST, NULL));
    EXPECT(KLS_OK, kls_optimizer_create(&untouched, t.groups, 2, t.tensors, FIRST, NULL));
    EXPECT(KLS_OK, kls_optimizer_state_bytes(optimizer, &bytes_before));
    EXPECT(KLS_OK, step(optimizer, &t, FIRST, FIRST, 0));
    EXPECT(KLS_OK, step(untouched, &other, FIRST, FIRST, 0));
    EXPECT(KLS_OK, kls_optimizer_set_log(optimizer, count_messages, &messages));

#define REFUSED(change, status, text)                                          \
    do {                                                                       \
        more[0] = t.tensors[2];                                                \
        more[1] = t.tensors[3];                                                \
        change;                                                                \
        EXPECT(status, kls_optimizer_add_tensors(optimizer, more, 2));         \
        CHECK(strcmp(kls_last_error(optimizer), "kls_optimizer_add_tensors: " text) == 0); \
        EXPECT(KLS_OK, kls_optimizer_state_bytes(optimizer, &bytes));          \
        CHECK(bytes == bytes_before);                                          \
    } while (0)
    REFUSED(more[1].dims[2] = 0, KLS_ERROR_ZERO_DIM, "tensor 1 \"fourth\", dims[2]: A dim is zero.");
    REFUSED(more[1].group = 2, KLS_ERROR_GROUP, "tensor 1 \"fourth\", group: There is no such group.");
    REFUSED(more[0].modes[1] = 9, KLS_ERROR_UNKNOWN_VALUE, "tensor 0 \"third\", modes[1]: An option's integer is none of its constants.");
    REFUSED(more[1].struct_size = 1, KLS_ERROR_STRUCT_SIZE,
            "tensor 1: struct_size is not the size of a known version of the struct: call its init function with sizeof.");
    REFUSED((more[1].slices = (uint64_t)1 << 60), KLS_ERROR_OVERFLOW,
            "tensor 1 \"fourth\": The tensor or its state does not fit the address space.");
    REFUSED((more[1].dims[0] = (uint64_t)1 << 20, more[1].modes[0] = KLS_MODE_FULL), KLS_ERROR_OUT_OF_MEMORY,
            "The memory for the optimizer could not be had.");
#undef REFUSED
    EXPECT(KLS_ERROR_NULL, kls_optimizer_add_tensors(optimizer, NULL, 2));
    CHECK(strcmp(kls_last_error(optimizer), "kls_optimizer_add_tensors: tensors: A pointer is NULL.") == 0);
    EXPECT(KLS_ERROR_NULL, kls_optimizer_add_tensors(NULL, more, 2));
    CHECK(messages == 7);

    /* After all that it is what it was, and can grow; the log stays with it. */
    if ((failure = same_state(optimizer, untouched, FIRST))) return failure;
    EXPECT(KLS_OK, step(optimizer, &t, FIRST, FIRST, 1));
    EXPECT(KLS_OK, step(untouched, &other, FIRST, FIRST, 1));
    CHECK(memcmp(t.params, other.params, sizeof t.params) == 0);
    EXPECT(KLS_OK, kls_optimizer_add_tensors(optimizer, &t.tensors[2], 2));
    if ((failure = same_state(optimizer, untouched, FIRST))) return failure;
    messages = 0;
    t.grads[3][0] = NAN;
    EXPECT(KLS_ERROR_GRADIENT_NOT_FINITE, kls_optimizer_step_tensor(optimizer, 3, t.params[3], t.grads[3], 0.01f));
    CHECK(strcmp(kls_last_error(optimizer), "kls_optimizer_step_tensor: tensor 3 \"fourth\", slice 0: A gradient has a NaN or an infinity.") == 0);
    EXPECT(KLS_ERROR_NULL, kls_optimizer_step_tensor(optimizer, 0, NULL, t.grads[0], 0.01f));
    CHECK(strncmp(kls_last_error(optimizer), "kls_optimizer_step_tensor: tensor 0 \"first\", ", 45) == 0 && messages == 2);
    EXPECT(KLS_OK, kls_optimizer_destroy(&optimizer));
    EXPECT(KLS_OK, kls_optimizer_destroy(&untouched));
    return NULL;
}

const char *test_add_tensors(void) {
    static fixture lent;
    static table t;
    kls_optimizer *optimizer;
    kls_options options;
    const char *failure = NULL;
    EXPECT(KLS_OK, kls_options_init(&options, sizeof options));
    for (options.num_threads = 1; options.num_threads <= 2; options.num_threads++) {
        for (options.backend = KLS_BACKEND_AUTO; options.backend <= KLS_BACKEND_PORTABLE; options.backend++) {
            if ((failure = later_is_as_frozen(&options))) return failure;
        }
    }
    if ((failure = refusals()) || (failure = describe(&t))) return failure;

    /* From nothing; without groups there is nothing to add. */
    EXPECT(KLS_OK, kls_optimizer_create(&optimizer, t.groups, 2, NULL, 0, NULL));
    EXPECT(KLS_OK, kls_optimizer_add_tensors(optimizer, t.tensors, ALL));
    EXPECT(KLS_OK, step(optimizer, &t, ALL, ALL, 0));
    EXPECT(KLS_OK, kls_optimizer_destroy(&optimizer));
    EXPECT(KLS_OK, kls_optimizer_create(&optimizer, NULL, 0, NULL, 0, NULL));
    EXPECT(KLS_ERROR_GROUP, kls_optimizer_add_tensors(optimizer, t.tensors, ALL));
    EXPECT(KLS_OK, kls_optimizer_destroy(&optimizer));

    /* Lent memory stays as long as it is. */
    failure = fixture_describe(&lent);
    if (!failure) failure = fixture_make(&lent);
    if (failure) return failure;
    fixture_remember(&lent);
    EXPECT(KLS_ERROR_UNSUPPORTED, kls_optimizer_add_tensors(lent.optimizer, t.tensors, 1));
    CHECK(fixture_unchanged(&lent));
    return NULL;
}
