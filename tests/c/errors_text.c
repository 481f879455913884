#include "check.h"
#include "fixture.h"
#include <math.h>
#include <pthread.h>
#include <string.h>

/* A call fails with a status, and kls_last_error of `handle` (NULL: of this thread) says exactly that. */
#define SAYS(status, call, handle, text)                \
    do {                                                \
        EXPECT(status, call);                           \
        CHECK(strcmp(kls_last_error(handle), (text)) == 0); \
    } while (0)

/* Calls without an optimizer: groups, tensors, and where to write. */
static const char *texts_without_a_handle(fixture *f) {
    kls_config groups[2], config;
    kls_tensor tensors[2];
    kls_options options;
    kls_optimizer *optimizer = NULL;
    size_t size, alignment, len;
    float number;
    kls_similarity similarity;
    groups[0] = groups[1] = f->group;
    tensors[0] = f->tensors[0];
    tensors[1] = f->tensors[1];
    tensors[1].name = "wte";

    SAYS(KLS_ERROR_NULL, kls_config_init(NULL, sizeof config, KLS_METHOD_ADAMW, KLS_CONVENTION_FIGURE13), NULL,
         "kls_config_init: config: A pointer is NULL.");
    SAYS(KLS_ERROR_STRUCT_SIZE, kls_config_init(&config, 3, KLS_METHOD_ADAMW, KLS_CONVENTION_FIGURE13), NULL,
         "kls_config_init: config: struct_size is not the size of a known version of the struct: call its init function with sizeof.");
    SAYS(KLS_ERROR_UNKNOWN_VALUE, kls_config_init(&config, sizeof config, 99, KLS_CONVENTION_FIGURE13), NULL,
         "kls_config_init: method: An option's integer is none of its constants.");
    SAYS(KLS_ERROR_UNKNOWN_VALUE, kls_config_init(&config, sizeof config, KLS_METHOD_ADAMW, 99), NULL,
         "kls_config_init: convention: An option's integer is none of its constants.");
    SAYS(KLS_ERROR_ORDER, kls_tensor_init(&tensors[0], sizeof tensors[0], 7, tensors[0].dims), NULL,
         "kls_tensor_init: order: A tensor has 1 to KLS_MAX_ORDER dims.");
    SAYS(KLS_ERROR_NULL, kls_tensor_init(&tensors[0], sizeof tensors[0], 2, NULL), NULL, "kls_tensor_init: dims: A pointer is NULL.");
    SAYS(KLS_ERROR_NULL, kls_options_init(NULL, sizeof options), NULL, "kls_options_init: options: A pointer is NULL.");
    SAYS(KLS_ERROR_ZERO_DIM, kls_window_scratch_len(3, 0, 1, &len), NULL, "kls_window_scratch_len: A dim is zero.");
    SAYS(KLS_ERROR_NULL, kls_window_similarity(NULL, 2, 2, 1, &number, 1, &similarity, sizeof similarity), NULL,
         "kls_window_similarity: grads: A pointer is NULL.");

#define QUERY kls_optimizer_query(groups, 2, tensors, 2, &size, &alignment)
    SAYS(KLS_ERROR_NULL, kls_optimizer_query(NULL, 2, tensors, 2, &size, &alignment), NULL,
         "kls_optimizer_query: groups: A pointer is NULL.");
    SAYS(KLS_ERROR_NULL, kls_optimizer_query(groups, 2, NULL, 2, &size, &alignment), NULL,
         "kls_optimizer_query: tensors: A pointer is NULL.");
    SAYS(KLS_ERROR_NULL, kls_optimizer_query(groups, 2, tensors, 2, NULL, &alignment), NULL,
         "kls_optimizer_query: size: A pointer is NULL.");
    groups[1].beta1 = 1;
    SAYS(KLS_ERROR_BETA, QUERY, NULL, "kls_optimizer_query: group 1: beta1 and beta2 must lie in [0, 1).");
    groups[1] = f->group;
    groups[1].graft = 42;
    SAYS(KLS_ERROR_UNKNOWN_VALUE, QUERY, NULL, "kls_optimizer_query: group 1, graft: An option's integer is none of its constants.");
    groups[1].graft = KLS_GRAFT_NONE;
    groups[1].direction = 42;
    SAYS(KLS_ERROR_UNKNOWN_VALUE, QUERY, NULL, "kls_optimizer_query: group 1, direction: An option's integer is none of its constants.");
    groups[1] = f->group;
    groups[0].estimator = KLS_ESTIMATOR_NONE;
    SAYS(KLS_ERROR_COMBINATION, QUERY, NULL, "kls_optimizer_query: group 0: This estimator and this direction do not go together.");
    groups[0] = f->group;
    groups[1].struct_size++;
    SAYS(KLS_ERROR_STRUCT_SIZE, QUERY, NULL,
         "kls_optimizer_query: group 1: struct_size is not the size of a known version of the struct: call its init function with sizeof.");
    groups[1] = f->group;

#define BAD_TENSOR(change, status, text)                                        \
    do {                                                                        \
        const kls_tensor before = tensors[1];                                   \
        change;                                                                 \
        SAYS(status, QUERY, NULL, "kls_optimizer_query: tensor 1 \"wte\"" text); \
        tensors[1] = before;                                                    \
    } while (0)
    BAD_TENSOR((tensors[1].order = 3, tensors[1].dims[1] = 2), KLS_ERROR_ZERO_DIM, ", dims[2]: A dim is zero.");
    BAD_TENSOR(tensors[1].order = 0, KLS_ERROR_ORDER, ", order: A tensor has 1 to KLS_MAX_ORDER dims.");
    BAD_TENSOR(tensors[1].modes[0] = -1, KLS_ERROR_UNKNOWN_VALUE, ", modes[0]: An option's integer is none of its constants.");
    BAD_TENSOR(tensors[1].group = 2, KLS_ERROR_GROUP, ", group: There is no such group.");
    BAD_TENSOR(tensors[1].slices = 0, KLS_ERROR_SLICES, ": A tensor needs at least one slice.");
    BAD_TENSOR(tensors[1].row_part_count = 9, KLS_ERROR_ROW_PARTS,
               ", row_part_count: The parts of the rows must be at most KLS_MAX_ROW_PARTS, none empty, and add up to the first dim.");
    BAD_TENSOR(tensors[1].slices = (uint64_t)1 << 60, KLS_ERROR_OVERFLOW, ": The tensor or its state does not fit the address space.");
#undef BAD_TENSOR
    tensors[0].slices = 0;
    SAYS(KLS_ERROR_SLICES, QUERY, NULL, "kls_optimizer_query: tensor 0: A tensor needs at least one slice.");
    tensors[0].slices = 1;
    tensors[1].struct_size = 8;
    SAYS(KLS_ERROR_STRUCT_SIZE, QUERY, NULL,
         "kls_optimizer_query: tensor 1: struct_size is not the size of a known version of the struct: call its init function with sizeof.");
    tensors[1].struct_size = tensors[0].struct_size;
#undef QUERY

    SAYS(KLS_ERROR_MEMORY_TOO_SHORT, kls_optimizer_init(&optimizer, f->memory, 64, groups, 2, tensors, 2), NULL,
         "kls_optimizer_init: memory_size: The lent memory is shorter than the query says.");
    SAYS(KLS_ERROR_MISALIGNED, kls_optimizer_init(&optimizer, f->memory + 1, MEMORY, groups, 2, tensors, 2), NULL,
         "kls_optimizer_init: memory: A pointer is not aligned for its type; memory for an optimizer needs the alignment that the query "
         "gives.");
    SAYS(KLS_ERROR_NULL, kls_optimizer_create(NULL, groups, 2, tensors, 2, NULL), NULL,
         "kls_optimizer_create: optimizer: A pointer is NULL.");
    EXPECT(KLS_OK, kls_options_init(&options, sizeof options));
    options.num_threads = 0;
    SAYS(KLS_ERROR_THREADS, kls_optimizer_create(&optimizer, groups, 2, tensors, 2, &options), NULL,
         "kls_optimizer_create: num_threads: num_threads must be between 1 and 1024, and the threads must be startable.");
    options.num_threads = 1;
    options.backend = 7;
    SAYS(KLS_ERROR_UNKNOWN_VALUE, kls_optimizer_create(&optimizer, groups, 2, tensors, 2, &options), NULL,
         "kls_optimizer_create: backend: An option's integer is none of its constants.");
    options.backend = KLS_BACKEND_PORTABLE;
    options.products = KLS_PRODUCTS_BF16;
    SAYS(KLS_ERROR_UNSUPPORTED, kls_optimizer_create(&optimizer, groups, 2, tensors, 2, &options), NULL,
         "kls_optimizer_create: products: The portable backend has no bf16 products.");
    tensors[1].dims[0] = (uint64_t)1 << 20;
    tensors[1].modes[0] = KLS_MODE_FULL;
    SAYS(KLS_ERROR_OUT_OF_MEMORY, kls_optimizer_create(&optimizer, groups, 2, tensors, 2, NULL), NULL,
         "kls_optimizer_create: The memory for the optimizer could not be had.");
    SAYS(KLS_ERROR_NULL, kls_optimizer_destroy(NULL), NULL, "kls_optimizer_destroy: optimizer: A pointer is NULL.");
    SAYS(KLS_ERROR_NULL, kls_optimizer_step(NULL, NULL, NULL, 0, 0), NULL, "kls_optimizer_step: optimizer: A pointer is NULL.");
    CHECK(optimizer == NULL);
    return NULL;
}

/* Calls on an optimizer, and what becomes of their texts. */
static const char *texts_of_a_handle(fixture *f, kls_optimizer *other, float *matrix, float *matrix_grad) {
    float basis[ROWS * ROWS] = {0}, out[1];
    size_t len;
    float *params[2] = {matrix, f->vector};
    const float *grads[2] = {matrix_grad, f->vector_grad};
    kls_optimizer *optimizer = f->optimizer, *copy = optimizer;
    kls_counters counters;

    CHECK(strcmp(kls_last_error(optimizer), "") == 0 && strcmp(kls_last_error(other), "") == 0);
    SAYS(KLS_ERROR_NOT_STARTED, kls_optimizer_set_basis(optimizer, 0, 0, 1, basis, COLUMNS * COLUMNS), optimizer,
         "kls_optimizer_set_basis: tensor 0 \"h.0.mlp.w\", slice 0, mode 1: The slice has no eigenbasis yet: it has not seen a non-zero "
         "gradient.");
    SAYS(KLS_ERROR_TENSOR_COUNT, kls_optimizer_step(optimizer, params, grads, 1, 0.01f), optimizer,
         "kls_optimizer_step: tensor_count is not the number of tensors that the optimizer was made for.");
    SAYS(KLS_ERROR_LEARNING_RATE, kls_optimizer_step(optimizer, params, grads, 2, -1), optimizer,
         "kls_optimizer_step: The learning rate must be finite and at least 0.");
    SAYS(KLS_ERROR_NULL, kls_optimizer_step(optimizer, NULL, grads, 2, 0.01f), optimizer, "kls_optimizer_step: params: A pointer is NULL.");
    params[1] = NULL;
    SAYS(KLS_ERROR_NULL, kls_optimizer_step(optimizer, params, grads, 2, 0.01f), optimizer,
         "kls_optimizer_step: tensor 1, params: A pointer is NULL.");
    params[1] = f->vector;
    params[0] = matrix_grad;
    SAYS(KLS_ERROR_OVERLAP, kls_optimizer_step(optimizer, params, grads, 2, 0.01f), optimizer,
         "kls_optimizer_step: tensor 0 \"h.0.mlp.w\": Buffers overlap: a parameter, a gradient or an update with another.");
    params[0] = matrix;
    matrix_grad[ELEMENTS + 2] = NAN;
    SAYS(KLS_ERROR_GRADIENT_NOT_FINITE, kls_optimizer_step(optimizer, params, grads, 2, 0.01f), optimizer,
         "kls_optimizer_step: tensor 0 \"h.0.mlp.w\", slice 1: A gradient has a NaN or an infinity.");
    matrix_grad[ELEMENTS + 2] = 1e30f;
    SAYS(KLS_ERROR_GRADIENT_TOO_LARGE, kls_optimizer_step_tensor(optimizer, 0, matrix, matrix_grad, 0.01f), optimizer,
         "kls_optimizer_step_tensor: tensor 0 \"h.0.mlp.w\", slice 1: A gradient is too large: its squared norm, weighted, must stay below "
         "2^120.");
    matrix_grad[ELEMENTS + 2] = 0.01f;
    SAYS(KLS_ERROR_INDEX, kls_optimizer_step_tensor(optimizer, 2, matrix, matrix_grad, 0.01f), optimizer,
         "kls_optimizer_step_tensor: tensor 2: There is no such tensor, slice or mode.");
    SAYS(KLS_ERROR_NULL, kls_optimizer_step_tensor(optimizer, 0, matrix, NULL, 0.01f), optimizer,
         "kls_optimizer_step_tensor: tensor 0 \"h.0.mlp.w\", grad: A pointer is NULL.");

    /* A success leaves the text; other optimizers and the thread have theirs. */
    EXPECT(KLS_OK, kls_optimizer_step(optimizer, params, grads, 2, 0.01f));
    CHECK(strncmp(kls_last_error(optimizer), "kls_optimizer_step_tensor: ", 27) == 0);
    CHECK(strcmp(kls_last_error(other), "") == 0);
    CHECK(strcmp(kls_last_error(NULL), "kls_optimizer_step: optimizer: A pointer is NULL.") == 0);
    SAYS(KLS_ERROR_GROUP, kls_optimizer_set_group(other, 3, 1, 0), other, "kls_optimizer_set_group: group 3: There is no such group.");
    SAYS(KLS_ERROR_LR_SCALE, kls_optimizer_set_group(other, 0, -1, 0), other,
         "kls_optimizer_set_group: group 0: lr_scale must be finite and at least 0.");

    SAYS(KLS_ERROR_NOT_ORTHOGONAL, kls_optimizer_set_basis(optimizer, 0, 1, 0, basis, ROWS * ROWS), optimizer,
         "kls_optimizer_set_basis: tensor 0 \"h.0.mlp.w\", slice 1, mode 0: The basis is not orthogonal.");
    SAYS(KLS_ERROR_NO_SUCH_STATE, kls_optimizer_read_state(optimizer, 1, 0, KLS_STATE_BASIS, 0, out, 1), optimizer,
         "kls_optimizer_read_state: tensor 1, slice 0, mode 0: This tensor or mode does not have that part of the state.");
    SAYS(KLS_ERROR_BUFFER_LENGTH, kls_optimizer_read_state(optimizer, 1, 0, KLS_STATE_MOMENTUM, 9, out, 1), optimizer,
         "kls_optimizer_read_state: tensor 1, slice 0: A buffer does not have the right number of elements.");
    SAYS(KLS_ERROR_NO_SUCH_STATE, kls_optimizer_state_len(optimizer, 1, 0, KLS_STATE_BASIS, 0, &len), optimizer,
         "kls_optimizer_state_len: tensor 1, slice 0, mode 0: This tensor or mode does not have that part of the state.");
    SAYS(KLS_ERROR_UNKNOWN_VALUE, kls_optimizer_read_state(optimizer, 1, 0, 77, 9, out, 1), optimizer,
         "kls_optimizer_read_state: state_part: An option's integer is none of its constants.");
    SAYS(KLS_ERROR_INDEX, kls_optimizer_counters(optimizer, 0, 2, &counters, sizeof counters), optimizer,
         "kls_optimizer_counters: tensor 0 \"h.0.mlp.w\", slice 2: There is no such tensor, slice or mode.");
    SAYS(KLS_ERROR_NULL, kls_optimizer_counters(optimizer, 0, 1, NULL, sizeof counters), optimizer,
         "kls_optimizer_counters: counters: A pointer is NULL.");
    SAYS(KLS_ERROR_UNSUPPORTED, kls_optimizer_add_tensors(optimizer, f->tensors, 1), optimizer,
         "kls_optimizer_add_tensors: An optimizer in lent memory cannot grow: make a new one, or use kls_optimizer_create.");

    /* What is no optimizer any more is a call without one. */
    EXPECT(KLS_OK, kls_optimizer_destroy(&optimizer));
    SAYS(KLS_ERROR_HANDLE, kls_optimizer_step(copy, params, grads, 2, 0.01f), copy,
         "kls_optimizer_step: optimizer: Not an initialised optimizer: its init failed, or it was destroyed.");
    SAYS(KLS_ERROR_HANDLE, kls_optimizer_destroy(&copy), NULL,
         "kls_optimizer_destroy: optimizer: Not an initialised optimizer: its init failed, or it was destroyed.");
    return NULL;
}

/* Long names are cut, between characters. */
static const char *names_are_kept(fixture *f) {
    char name[80], expected[160];
    kls_optimizer *optimizer;
    memset(name, 'n', sizeof name);
    name[KLS_MAX_NAME] = '\0';
    f->tensors[1].name = name;
    strcpy(expected, "kls_optimizer_step_tensor: tensor 1 \"");
    strcat(expected, name);
    strcat(expected, "\", params: A pointer is NULL.");
    for (int longer = 0; longer < 2; longer++) {
        EXPECT(KLS_OK, kls_optimizer_create(&optimizer, &f->group, 1, f->tensors, 2, NULL));
        name[0] = 'X'; /* the optimizer has a copy */
        SAYS(KLS_ERROR_NULL, kls_optimizer_step_tensor(optimizer, 1, NULL, f->vector_grad, 0.01f), optimizer, expected);
        EXPECT(KLS_OK, kls_optimizer_destroy(&optimizer));
        name[0] = name[KLS_MAX_NAME] = 'n';
        name[sizeof name - 1] = '\0';
    }
    /* The third byte of a Euro sign would be the 64th. */
    memcpy(name + KLS_MAX_NAME - 2, "\xe2\x82\xac", 3);
    expected[strlen("kls_optimizer_step_tensor: tensor 1 \"") + KLS_MAX_NAME - 2] = '\0';
    strcat(expected, "\", params: A pointer is NULL.");
    EXPECT(KLS_OK, kls_optimizer_create(&optimizer, &f->group, 1, f->tensors, 2, NULL));
    SAYS(KLS_ERROR_NULL, kls_optimizer_step_tensor(optimizer, 1, NULL, f->vector_grad, 0.01f), optimizer, expected);
    EXPECT(KLS_OK, kls_optimizer_destroy(&optimizer));
    f->tensors[1].name = "";
    EXPECT(KLS_OK, kls_optimizer_create(&optimizer, &f->group, 1, f->tensors, 2, NULL));
    SAYS(KLS_ERROR_NULL, kls_optimizer_step_tensor(optimizer, 1, NULL, f->vector_grad, 0.01f), optimizer,
         "kls_optimizer_step_tensor: tensor 1, params: A pointer is NULL.");
    EXPECT(KLS_OK, kls_optimizer_destroy(&optimizer));
    f->tensors[1].name = NULL;
    return NULL;
}

static void *in_another_thread(void *empty_at_first) {
    *(int *)empty_at_first = strcmp(kls_last_error(NULL), "") == 0;
    kls_optimizer_destroy(NULL);
    return NULL;
}

const char *test_error_texts(void) {
    static fixture f, other;
    static float stacked[2][2 * ELEMENTS];
    pthread_t thread;
    int empty_at_first = 0;
    const char *failure = fixture_describe(&f), *text;
    if (!failure) failure = fixture_describe(&other);
    if (failure) return failure;
    f.memory = f.raw + (64 - (uintptr_t)f.raw % 64) % 64;
    failure = texts_without_a_handle(&f);
    if (!failure) failure = names_are_kept(&f);
    EXPECT(KLS_ERROR_NULL, kls_optimizer_step(NULL, NULL, NULL, 0, 0));
    f.tensors[0].name = "h.0.mlp.w";
    f.tensors[0].slices = 2;
    if (!failure) failure = fixture_make(&f);
    if (!failure) failure = fixture_make(&other);
    if (failure) return failure;
    for (int i = 0; i < 2 * ELEMENTS; i++) stacked[1][i] = f.matrix_grad[i % ELEMENTS];
    failure = texts_of_a_handle(&f, other.optimizer, stacked[0], stacked[1]);
    if (failure) return failure;

    /* Each thread has its own. */
    text = kls_last_error(NULL);
    CHECK(pthread_create(&thread, NULL, in_another_thread, &empty_at_first) == 0 && pthread_join(thread, NULL) == 0);
    CHECK(empty_at_first && kls_last_error(NULL) == text && strncmp(text, "kls_optimizer_destroy: optimizer: Not an", 40) == 0);
    return NULL;
}

/* What a log was told. */
typedef struct notes {
    const kls_optimizer *optimizer;
    int errors, warnings, is_last_error;
    char last[MESSAGE];
} notes;

static void take_note(void *user, int32_t level, const char *message) {
    notes *n = user;
    n->errors += level == KLS_LOG_ERROR;
    n->warnings += level == KLS_LOG_WARNING;
    n->is_last_error = strcmp(message, kls_last_error(n->optimizer)) == 0;
    strcpy(n->last, message);
}

const char *test_log(void) {
    static fixture f;
    notes n = {0};
    const char *failure = fixture_describe(&f);
    if (failure) return failure;
    f.group.bad_gradient = KLS_BAD_GRADIENT_SKIP;
    f.tensors[1].name = "ln";
    failure = fixture_make(&f);
    if (failure) return failure;
    n.optimizer = f.optimizer;
    EXPECT(KLS_ERROR_NULL, kls_optimizer_set_log(NULL, take_note, &n));
    EXPECT(KLS_OK, kls_optimizer_set_log(f.optimizer, take_note, &n));
    EXPECT(KLS_OK, kls_optimizer_step(f.optimizer, f.params, f.grads, 2, 0.01f));
    CHECK(n.errors == 0 && n.warnings == 0);
    EXPECT(KLS_ERROR_GROUP, kls_optimizer_set_group(f.optimizer, 7, 1, 0));
    CHECK(n.errors == 1 && n.warnings == 0 && n.is_last_error);
    CHECK(strcmp(n.last, "kls_optimizer_set_group: group 7: There is no such group.") == 0);

    f.vector_grad[0] = NAN;
    EXPECT(KLS_OK, kls_optimizer_step(f.optimizer, f.params, f.grads, 2, 0.01f));
    CHECK(n.errors == 1 && n.warnings == 1 && !n.is_last_error);
    CHECK(strcmp(n.last, "kls_optimizer_step: slices skipped: 1, the first in tensor 1 \"ln\". "
                         "Their gradients are not finite or too large.") == 0);
    f.matrix_grad[0] = INFINITY;
    EXPECT(KLS_OK, kls_optimizer_step(f.optimizer, f.params, f.grads, 2, 0.01f));
    CHECK(n.warnings == 2);
    CHECK(strcmp(n.last, "kls_optimizer_step: slices skipped: 2, the first in tensor 0. "
                         "Their gradients are not finite or too large.") == 0);

    EXPECT(KLS_OK, kls_optimizer_set_log(f.optimizer, NULL, NULL));
    EXPECT(KLS_OK, kls_optimizer_step(f.optimizer, f.params, f.grads, 2, 0.01f));
    EXPECT(KLS_ERROR_GROUP, kls_optimizer_set_group(f.optimizer, 7, 1, 0));
    CHECK(n.errors == 1 && n.warnings == 2);
    return NULL;
}
