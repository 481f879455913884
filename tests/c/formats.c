/* kls_optimizer_step_with: formats, scaled gradients, strides, updates alone, ranges of tensors. */
#include "check.h"
#include "fixture.h"
#include <math.h>
#include <string.h>

static uint16_t to_bf16(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

static float from_bf16(uint16_t half) {
    const uint32_t bits = (uint32_t)half << 16;
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* A request for both tensors of a fixture. */
static const char *request_init(kls_step *step, void *const *params, const void *const *grads) {
    EXPECT(KLS_OK, kls_step_init(step, sizeof *step));
    step->lr = 0.01f;
    step->tensor_count = 2;
    step->params = params;
    step->grads = grads;
    return NULL;
}

/* bf16 parameters with and without master weights and bf16 gradients, on the heap and lent, beside f32. */
const char *test_formats(void) {
    static fixture f, lent;
    static uint16_t matrix[ELEMENTS], vector[VECTOR], matrix_grad[ELEMENTS], vector_grad[VECTOR], copy[ELEMENTS];
    static uint16_t matrix_2[ELEMENTS], vector_2[VECTOR];
    const char *failure;
    for (int master = 0; master < 2; master++) {
        for (int stochastic = 0; stochastic < 2; stochastic++) {
            kls_optimizer *made = NULL;
            kls_step step;
            float numbers[ELEMENTS];
            void *const params[2] = {matrix, vector}, *const params_2[2] = {matrix_2, vector_2};
            kls_options two_threads;
            const void *const grads[2] = {matrix_grad, vector_grad};
            if ((failure = fixture_describe(&f)) || (failure = fixture_make(&f))) return failure;
            if ((failure = fixture_describe(&lent))) return failure;
            for (int i = 0; i < 2; i++) {
                lent.tensors[i].param_format = KLS_FORMAT_BF16;
                lent.tensors[i].grad_format = KLS_FORMAT_BF16;
                lent.tensors[i].master_weights = master;
                lent.tensors[i].rounding = stochastic ? KLS_ROUNDING_STOCHASTIC : KLS_ROUNDING_NEAREST;
                lent.tensors[i].rounding_seed = 17;
            }
            if ((failure = fixture_make(&lent))) return failure;
            EXPECT(KLS_OK, kls_options_init(&two_threads, sizeof two_threads));
            two_threads.num_threads = 2;
            two_threads.backend = KLS_BACKEND_PORTABLE;
            EXPECT(KLS_OK, kls_optimizer_create(&made, &lent.group, 1, lent.tensors, 2, &two_threads));
            /* Both start from the same bf16 numbers. */
            for (int i = 0; i < ELEMENTS; i++) f.matrix[i] = from_bf16(copy[i] = matrix[i] = to_bf16(f.matrix[i]));
            for (int i = 0; i < VECTOR; i++) f.vector[i] = from_bf16(vector[i] = to_bf16(f.vector[i]));
            for (int i = 0; i < ELEMENTS; i++) f.matrix_grad[i] = from_bf16(matrix_grad[i] = to_bf16(f.matrix_grad[i]));
            for (int i = 0; i < VECTOR; i++) f.vector_grad[i] = from_bf16(vector_grad[i] = to_bf16(f.vector_grad[i]));
            memcpy(matrix_2, matrix, sizeof matrix);
            memcpy(vector_2, vector, sizeof vector);
            for (int t = 0; t < 12; t++) {
                if ((failure = request_init(&step, params_2, grads))) return failure;
                EXPECT(KLS_OK, kls_optimizer_step_with(made, &step));
                step.params = params;
                EXPECT(KLS_OK, kls_optimizer_step_with(lent.optimizer, &step));
                EXPECT(KLS_OK, kls_optimizer_step(f.optimizer, f.params, f.grads, 2, 0.01f));
                for (int i = 0; i < ELEMENTS && !stochastic; i++) {
                    CHECK(matrix[i] == to_bf16(f.matrix[i]));
                    if (!master) f.matrix[i] = from_bf16(matrix[i]);
                }
                for (int i = 0; i < VECTOR && !stochastic; i++) {
                    CHECK(vector[i] == to_bf16(f.vector[i]));
                    if (!master) f.vector[i] = from_bf16(vector[i]);
                }
            }
            CHECK(memcmp(copy, matrix, sizeof matrix) != 0);
            /* Reading what there is of master weights. */
            EXPECT(master ? KLS_OK : KLS_ERROR_NO_SUCH_STATE,
                   kls_optimizer_read_state(lent.optimizer, 0, 0, KLS_STATE_MASTER, 0, numbers, ELEMENTS));
            if (master) CHECK(memcmp(numbers, f.matrix, sizeof numbers) == 0);
            /* Stochastic rounding is within one unit in the last place of the master weights. */
            for (int i = 0; i < ELEMENTS && master; i++) CHECK(fabsf(from_bf16(matrix[i]) - numbers[i]) <= fabsf(numbers[i]) / 128 + 1e-30f);
            /* The same bits from threads, stochastic rounding included. */
            CHECK(memcmp(matrix, matrix_2, sizeof matrix) == 0 && memcmp(vector, vector_2, sizeof vector) == 0);
            EXPECT(KLS_OK, kls_optimizer_destroy(&made));
            /* Without master weights there is no copy: 4 bytes an element less. */
            size_t bytes, plain;
            EXPECT(KLS_OK, kls_optimizer_state_bytes(lent.optimizer, &bytes));
            EXPECT(KLS_OK, kls_optimizer_state_bytes(f.optimizer, &plain));
            CHECK(bytes == plain + (master ? 4 * (ELEMENTS + VECTOR) : 0));
        }
    }
    return NULL;
}

/* Master weights and rounding go on where a checkpoint was taken. */
const char *test_formats_resume(void) {
    static fixture f, g;
    static uint16_t numbers[2][ELEMENTS];
    static float grad[ELEMENTS];
    static unsigned char checkpoint[MEMORY], again[MEMORY];
    kls_step step;
    uint64_t bytes;
    const char *failure;
    for (int master = 0; master < 2; master++) {
        fixture *const both[2] = {&f, &g};
        for (int i = 0; i < 2; i++) {
            if ((failure = fixture_describe(both[i]))) return failure;
            both[i]->tensors[0].param_format = KLS_FORMAT_BF16;
            both[i]->tensors[0].master_weights = master;
            both[i]->tensors[0].rounding = KLS_ROUNDING_STOCHASTIC;
            both[i]->tensors[0].rounding_seed = 5;
            if ((failure = fixture_make(both[i]))) return failure;
            memcpy(grad, both[i]->matrix_grad, sizeof grad);
        }
        for (int i = 0; i < ELEMENTS; i++) numbers[0][i] = to_bf16(f.matrix[i]);
        for (int t = 0; t < 20; t++) {
            void *const params[2] = {numbers[0], f.vector}, *const other[2] = {numbers[1], g.vector};
            const void *const grads[2] = {grad, NULL};
            for (int i = 0; i < ELEMENTS; i++) grad[i] = 0.001f * (float)((i * 7 + t * 3) % 13 - 6);
            if (t == 9) {
                EXPECT(KLS_OK, kls_optimizer_save_size(f.optimizer, &bytes));
                CHECK(bytes <= sizeof checkpoint);
                EXPECT(KLS_OK, kls_optimizer_save(f.optimizer, checkpoint, sizeof checkpoint));
                EXPECT(KLS_OK, kls_optimizer_load(g.optimizer, checkpoint, (size_t)bytes));
                memcpy(numbers[1], numbers[0], sizeof numbers[0]);
            }
            if ((failure = request_init(&step, params, grads))) return failure;
            EXPECT(KLS_OK, kls_optimizer_step_with(f.optimizer, &step));
            step.params = other;
            if (t >= 9) EXPECT(KLS_OK, kls_optimizer_step_with(g.optimizer, &step));
        }
        CHECK(memcmp(numbers[0], numbers[1], sizeof numbers[0]) == 0);
        EXPECT(KLS_OK, kls_optimizer_save(f.optimizer, checkpoint, sizeof checkpoint));
        EXPECT(KLS_OK, kls_optimizer_save(g.optimizer, again, sizeof again));
        CHECK(memcmp(checkpoint, again, (size_t)bytes) == 0);
        /* Another seed, another rounding, and no master weights are another table. */
        for (int change = 0; change < 3; change++) {
            if ((failure = fixture_describe(&g))) return failure;
            g.tensors[0] = f.tensors[0];
            if (change == 0) g.tensors[0].rounding_seed++;
            if (change == 1) g.tensors[0].rounding = KLS_ROUNDING_NEAREST;
            if (change == 2) g.tensors[0].master_weights = !master;
            if ((failure = fixture_make(&g))) return failure;
            EXPECT(change == 2 ? KLS_ERROR_CHECKPOINT_SHAPES : KLS_ERROR_CHECKPOINT_METHOD,
                   kls_optimizer_load(g.optimizer, checkpoint, (size_t)bytes));
            CHECK(memcmp(kls_last_error(g.optimizer), "kls_optimizer_load: ", 20) == 0);
            EXPECT(KLS_OK, kls_optimizer_destroy(&g.optimizer));
        }
    }
    return NULL;
}

/* Updates that are written instead of applied, scaled gradients, ranges of tensors, strides. */
const char *test_step_with(void) {
    static fixture f, g, h;
    kls_step step, again;
    kls_optimizer *made = NULL;
    float update[ELEMENTS], vector_update[VECTOR], scaled[ELEMENTS];
    float *updates[2] = {update, vector_update};
    const char *failure;
    if ((failure = fixture_describe(&f))) return failure;
    f.group.weight_decay = 0;
    if ((failure = fixture_make(&f)) || (failure = fixture_describe(&g))) return failure;
    g.group.weight_decay = 0;
    if ((failure = fixture_make(&g))) return failure;
    const void *const grads[2] = {g.matrix_grad, g.vector_grad};
    void *const params[2] = {g.matrix, g.vector};
    for (int t = 0; t < 6; t++) {
        EXPECT(KLS_OK, kls_optimizer_step(f.optimizer, f.params, f.grads, 2, 0.01f));
        if ((failure = request_init(&step, t % 2 ? params : NULL, grads))) return failure;
        step.updates = updates;
        EXPECT(KLS_OK, kls_optimizer_step_with(g.optimizer, &step));
        for (int i = 0; i < ELEMENTS; i++) g.matrix[i] -= 0.01f * update[i];
        for (int i = 0; i < VECTOR; i++) g.vector[i] -= 0.01f * vector_update[i];
    }
    CHECK(memcmp(f.matrix, g.matrix, sizeof f.matrix) == 0 && memcmp(f.vector, g.vector, sizeof f.vector) == 0);

    /* What is skipped has no update, and what is frozen is not written. */
    if ((failure = fixture_describe(&f))) return failure;
    f.group.bad_gradient = KLS_BAD_GRADIENT_SKIP;
    if ((failure = fixture_make(&f))) return failure;
    const void *partly[2] = {f.matrix_grad, NULL};
    f.matrix_grad[3] = NAN;
    for (int i = 0; i < ELEMENTS; i++) update[i] = 7;
    vector_update[0] = 7;
    if ((failure = request_init(&step, NULL, partly))) return failure;
    step.updates = updates;
    EXPECT(KLS_OK, kls_optimizer_step_with(f.optimizer, &step));
    for (int i = 0; i < ELEMENTS; i++) CHECK(update[i] == 0);
    CHECK(vector_update[0] == 7);

    /* A step of each tensor, scaled by 4, is a step with four times the gradient; on the heap tensors need not provide for that. */
    if ((failure = fixture_describe(&f)) || (failure = fixture_make(&f)) || (failure = fixture_describe(&h))) return failure;
    EXPECT(KLS_OK, kls_optimizer_create(&made, &h.group, 1, h.tensors, 2, NULL));
    void *const moved[2] = {h.matrix, h.vector};
    if ((failure = request_init(&step, moved, grads))) return failure;
    step.grad_scale = 4;
    for (int i = 0; i < ELEMENTS; i++) scaled[i] = 4 * f.matrix_grad[i];
    for (int t = 0; t < 5; t++) {
        for (step.first_tensor = 0; step.first_tensor < 2; step.first_tensor++) {
            step.tensor_count = 1;
            step.params = moved + step.first_tensor;
            step.grads = grads + step.first_tensor;
            EXPECT(KLS_OK, kls_optimizer_step_with(made, &step));
        }
        EXPECT(KLS_OK, kls_optimizer_step_tensor(f.optimizer, 0, f.matrix, scaled, 0.01f));
    }
    for (int i = 0; i < ELEMENTS; i++) CHECK(fabsf(f.matrix[i] - h.matrix[i]) < 1e-5f);
    kls_counters counters;
    EXPECT(KLS_OK, kls_optimizer_counters(made, 1, 0, &counters, sizeof counters));
    CHECK(counters.steps == 5);
    EXPECT(KLS_OK, kls_optimizer_destroy(&made));

    /* A matrix in the left columns of a wider one, and the same matrix transposed. */
    static float wide[ROWS * 2 * COLUMNS], wide_grad[ROWS * 2 * COLUMNS], turned[ELEMENTS], turned_grad[ELEMENTS];
    static unsigned char memory[2][MEMORY];
    kls_optimizer *lent[2];
    if ((failure = fixture_describe(&f)) || (failure = fixture_make(&f))) return failure;
    for (int r = 0; r < ROWS; r++)
        for (int c = 0; c < 2 * COLUMNS; c++) {
            const int inside = c < COLUMNS;
            wide[r * 2 * COLUMNS + c] = inside ? f.matrix[r * COLUMNS + c] : 3.5f;
            wide_grad[r * 2 * COLUMNS + c] = inside ? f.matrix_grad[r * COLUMNS + c] : NAN;
            if (inside) turned[c * ROWS + r] = f.matrix[r * COLUMNS + c];
            if (inside) turned_grad[c * ROWS + r] = f.matrix_grad[r * COLUMNS + c];
        }
    for (int i = 0; i < 2; i++) {
        kls_tensor tensor = f.tensors[0];
        tensor.strides[0] = i ? 1 : 2 * COLUMNS;
        tensor.strides[1] = i ? ROWS : 1;
        unsigned char *aligned = memory[i] + (64 - (uintptr_t)memory[i] % 64) % 64;
        EXPECT(KLS_OK, kls_optimizer_init(&lent[i], aligned, MEMORY - 64, &f.group, 1, &tensor, 1));
    }
    for (int t = 0; t < 7; t++) {
        EXPECT(KLS_OK, kls_optimizer_step_tensor(f.optimizer, 0, f.matrix, f.matrix_grad, 0.01f));
        EXPECT(KLS_OK, kls_optimizer_step_tensor(lent[0], 0, wide, wide_grad, 0.01f));
        EXPECT(KLS_OK, kls_optimizer_step_tensor(lent[1], 0, turned, turned_grad, 0.01f));
    }
    for (int r = 0; r < ROWS; r++)
        for (int c = 0; c < 2 * COLUMNS; c++) {
            CHECK(wide[r * 2 * COLUMNS + c] == (c < COLUMNS ? f.matrix[r * COLUMNS + c] : 3.5f));
            if (c < COLUMNS) CHECK(turned[c * ROWS + r] == f.matrix[r * COLUMNS + c]);
        }

    /* Three transposed layers with gaps between them, on two threads, beside the same layers as rows. */
    enum { LAYERS = 3, GAP = 5, STRIDE = ELEMENTS + GAP };
    static float rows[LAYERS * ELEMENTS], rows_grad[LAYERS * ELEMENTS], columns[LAYERS * STRIDE], columns_grad[LAYERS * STRIDE];
    kls_optimizer *layers[2] = {NULL, NULL};
    for (int i = 0; i < LAYERS * STRIDE; i++) columns[i] = 2.5f;
    for (int i = 0; i < LAYERS * STRIDE; i++) columns_grad[i] = NAN;
    for (int l = 0; l < LAYERS; l++)
        for (int r = 0; r < ROWS; r++)
            for (int c = 0; c < COLUMNS; c++) {
                const int row = l * ELEMENTS + r * COLUMNS + c, column = l * STRIDE + c * ROWS + r;
                columns[column] = rows[row] = 0.1f * (float)(row % 7);
                columns_grad[column] = rows_grad[row] = 0.01f * (float)(row * 5 % 23 - 11);
            }
    for (int i = 0; i < 2; i++) {
        kls_tensor tensor = f.tensors[0];
        kls_options options;
        tensor.slices = LAYERS;
        if (i) {
            tensor.strides[0] = 1;
            tensor.strides[1] = ROWS;
            tensor.slice_stride = STRIDE;
        }
        EXPECT(KLS_OK, kls_options_init(&options, sizeof options));
        options.num_threads = 2;
        EXPECT(KLS_OK, kls_optimizer_create(&layers[i], &f.group, 1, &tensor, 1, &options));
    }
    for (int t = 0; t < 7; t++) {
        EXPECT(KLS_OK, kls_optimizer_step_tensor(layers[0], 0, rows, rows_grad, 0.01f));
        EXPECT(KLS_OK, kls_optimizer_step_tensor(layers[1], 0, columns, columns_grad, 0.01f));
    }
    for (int l = 0; l < LAYERS; l++) {
        for (int i = 0; i < ELEMENTS; i++)
            CHECK(rows[l * ELEMENTS + i] == columns[l * STRIDE + i % COLUMNS * ROWS + i / COLUMNS]);
        for (int i = ELEMENTS; i < STRIDE; i++) CHECK(columns[l * STRIDE + i] == 2.5f);
    }
    for (int i = 0; i < 2; i++) EXPECT(KLS_OK, kls_optimizer_destroy(&layers[i]));

    /* A counter counts steps that were made: not frozen, refused or skipped ones. */
    if ((failure = fixture_describe(&f))) return failure;
    f.group.bad_gradient = KLS_BAD_GRADIENT_SKIP;
    if ((failure = fixture_make(&f))) return failure;
    const void *some[2] = {NULL, f.vector_grad};
    void *const all[2] = {f.matrix, f.vector};
    if ((failure = request_init(&step, all, some))) return failure;
    EXPECT(KLS_OK, kls_optimizer_step_with(f.optimizer, &step));
    some[0] = f.matrix_grad;
    f.matrix_grad[0] = NAN;
    EXPECT(KLS_OK, kls_optimizer_step_with(f.optimizer, &step));
    f.matrix_grad[0] = 0.5f;
    again = step;
    again.lr = -1;
    EXPECT(KLS_ERROR_LEARNING_RATE, kls_optimizer_step_with(f.optimizer, &again));
    EXPECT(KLS_OK, kls_optimizer_step_with(f.optimizer, &step));
    EXPECT(KLS_OK, kls_optimizer_counters(f.optimizer, 0, 0, &counters, sizeof counters));
    CHECK(counters.steps == 1 && counters.skipped == 1);
    EXPECT(KLS_OK, kls_optimizer_counters(f.optimizer, 1, 0, &counters, sizeof counters));
    CHECK(counters.steps == 3);
    return NULL;
}

const char *test_step_with_errors(void) {
    static fixture f;
    static uint16_t halves[ELEMENTS + 1];
    static unsigned char memory[MEMORY];
    kls_step step, before;
    kls_tensor tensor;
    kls_optimizer *half = NULL;
    size_t size, alignment;
    float update[ELEMENTS];
    const char *failure;
    memset(&step, 0x5a, sizeof step);
    before = step;
    EXPECT(KLS_ERROR_NULL, kls_step_init(NULL, sizeof step));
    EXPECT(KLS_ERROR_STRUCT_SIZE, kls_step_init(&step, sizeof step - 8));
    CHECK(memcmp(&step, &before, sizeof step) == 0);
    if ((failure = fixture_describe(&f)) || (failure = fixture_make(&f))) return failure;
    void *params[2] = {f.matrix, f.vector};
    const void *grads[2] = {f.matrix_grad, f.vector_grad};
    float *updates[2] = {update, NULL};
    if ((failure = request_init(&before, params, grads))) return failure;
    EXPECT(KLS_OK, kls_optimizer_step_with(f.optimizer, &before));
    fixture_remember(&f);

#define REFUSED(change, status)                                        \
    do {                                                               \
        step = before;                                                 \
        change;                                                        \
        EXPECT(status, kls_optimizer_step_with(f.optimizer, &step));   \
        CHECK(fixture_unchanged(&f));                                  \
    } while (0)
    EXPECT(KLS_ERROR_NULL, kls_optimizer_step_with(NULL, &before));
    EXPECT(KLS_ERROR_NULL, kls_optimizer_step_with(f.optimizer, NULL));
    REFUSED(step.struct_size = 4, KLS_ERROR_STRUCT_SIZE);
    REFUSED(step.reserved = 1, KLS_ERROR_RESERVED);
    REFUSED((void)kls_step_init(&step, sizeof step); step.params = params; step.grads = grads, KLS_ERROR_TENSOR_COUNT);
    REFUSED((void)kls_step_init(&step, sizeof step); step.params = params; step.grads = grads; step.tensor_count = 2, KLS_ERROR_LEARNING_RATE);
    REFUSED(step.lr = INFINITY, KLS_ERROR_LEARNING_RATE);
    REFUSED(step.tensor_count = 3, KLS_ERROR_INDEX);
    REFUSED(step.first_tensor = 1, KLS_ERROR_INDEX);
    REFUSED(step.first_tensor = SIZE_MAX, KLS_ERROR_INDEX);
    REFUSED(step.params = NULL, KLS_ERROR_NULL);
    REFUSED(step.grads = NULL, KLS_ERROR_NULL);
    REFUSED(step.grad_scale = 2, KLS_ERROR_GRAD_SCALE);
    REFUSED(step.grad_scale = 0, KLS_ERROR_GRAD_SCALE);
    REFUSED(step.grad_scale = NAN, KLS_ERROR_GRAD_SCALE);
    REFUSED(step.updates = updates, KLS_ERROR_NULL);
    updates[1] = f.vector;
    REFUSED(step.updates = updates, KLS_ERROR_OVERLAP);
    updates[1] = f.vector_grad;
    REFUSED(step.updates = updates, KLS_ERROR_OVERLAP);
    updates[1] = (float *)(void *)((char *)update + 2);
    REFUSED(step.updates = updates, KLS_ERROR_MISALIGNED);
    params[0] = f.matrix_grad;
    REFUSED((void)0, KLS_ERROR_OVERLAP);
    params[0] = f.matrix;
#undef REFUSED

    /* A bf16 tensor: typed steps do not take it, and it has no update alone if it keeps master weights. */
    unsigned char *aligned = memory + (64 - (uintptr_t)memory % 64) % 64;
    tensor = f.tensors[0];
    tensor.param_format = KLS_FORMAT_BF16;
    tensor.master_weights = 1;
    EXPECT(KLS_OK, kls_optimizer_init(&half, aligned, MEMORY - 64, &f.group, 1, &tensor, 1));
    f.params[0] = (float *)(void *)halves;
    EXPECT(KLS_ERROR_NOT_F32, kls_optimizer_step(half, f.params, f.grads, 1, 0.01f));
    EXPECT(KLS_ERROR_NOT_F32, kls_optimizer_step_tensor(half, 0, f.params[0], f.matrix_grad, 0.01f));
    step = before;
    step.tensor_count = 1;
    params[0] = halves;
    EXPECT(KLS_OK, kls_optimizer_step_with(half, &step));
    params[0] = (char *)halves + 1;
    EXPECT(KLS_ERROR_MISALIGNED, kls_optimizer_step_with(half, &step));
    step.updates = updates;
    EXPECT(KLS_ERROR_MASTER_WEIGHTS, kls_optimizer_step_with(half, &step));
    /* L2 decay needs the parameter. */
    kls_config l2 = f.group;
    l2.weight_decay_kind = KLS_WEIGHT_DECAY_L2;
    EXPECT(KLS_OK, kls_optimizer_init(&half, aligned, MEMORY - 64, &l2, 1, f.tensors, 1));
    step.params = NULL;
    EXPECT(KLS_ERROR_NULL, kls_optimizer_step_with(half, &step));
    params[0] = f.matrix;
    step.params = params;
    EXPECT(KLS_OK, kls_optimizer_step_with(half, &step));

#define REFUSED(change, status)                                                                    \
    do {                                                                                           \
        tensor = f.tensors[0];                                                                     \
        change;                                                                                    \
        EXPECT(status, kls_optimizer_query(&f.group, 1, &tensor, 1, &size, &alignment));           \
    } while (0)
    REFUSED(tensor.grad_format = 3, KLS_ERROR_UNKNOWN_VALUE);
    REFUSED(tensor.param_format = -1, KLS_ERROR_UNKNOWN_VALUE);
    REFUSED(tensor.rounding = 2, KLS_ERROR_UNKNOWN_VALUE);
    REFUSED(tensor.reserved = 1, KLS_ERROR_RESERVED);
    REFUSED(tensor.param_format = KLS_FORMAT_F16, KLS_ERROR_FORMAT);
    REFUSED(tensor.master_weights = 1, KLS_ERROR_FORMAT);
    REFUSED(tensor.rounding = KLS_ROUNDING_STOCHASTIC, KLS_ERROR_FORMAT);
    REFUSED((tensor.strides[0] = 2, tensor.strides[1] = 1), KLS_ERROR_STRIDES);
    REFUSED(tensor.strides[0] = COLUMNS, KLS_ERROR_STRIDES);
    REFUSED((tensor.strides[0] = UINT64_MAX, tensor.strides[1] = 1), KLS_ERROR_STRIDES);
    REFUSED((tensor.strides[0] = 8, tensor.strides[1] = 1, tensor.slices = 2, tensor.slice_stride = 4), KLS_ERROR_SLICE_STRIDE);
#undef REFUSED
    return NULL;
}
