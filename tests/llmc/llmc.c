/* bindings-c/llmc: wrong uses, and what the choices do. */
#include "klshampoo_llmc.h"
#include "model.h"
#include <math.h>

static kls_gpt2_config config_of(const GPT2 *gpt2) {
    return kls_gpt2_config_of(gpt2->config.max_seq_len, gpt2->config.vocab_size, gpt2->config.padded_vocab_size, gpt2->config.num_layers,
                              gpt2->config.num_heads, gpt2->config.channels);
}

static int is_named(const kls_flat *flat, const char *name) { return flat->failed_tensor && strcmp(flat->failed_tensor, name) == 0; }

static const char *wrong_models(const GPT2 *gpt2) {
    const kls_gpt2_config good = config_of(gpt2);
    kls_flat flat;
#define REFUSED(field, value, status)                                                                                                  \
    do {                                                                                                                               \
        kls_gpt2_config bad = good;                                                                                                    \
        bad.field = (value);                                                                                                           \
        EXPECT(status, kls_llmc_create(&flat, bad, gpt2->num_parameters, NULL));                                                       \
        CHECK(!flat.optimizer && !flat.tensors);                                                                                       \
    } while (0)
    REFUSED(num_layers, 0, KLS_ERROR_ZERO_DIM);
    REFUSED(channels, -CHANNELS, KLS_ERROR_ZERO_DIM);
    REFUSED(padded_vocab_size, 0, KLS_ERROR_ZERO_DIM);
    REFUSED(channels, CHANNELS + HEADS, KLS_ERROR_BUFFER_LENGTH);
    REFUSED(num_layers, LAYERS + 1, KLS_ERROR_BUFFER_LENGTH);
    REFUSED(vocab_size, GPT_VOCABULARY + 1, KLS_ERROR_BUFFER_LENGTH);
    REFUSED(num_heads, 5, KLS_ERROR_BUFFER_LENGTH);
#undef REFUSED
    EXPECT(KLS_ERROR_BUFFER_LENGTH, kls_llmc_create(&flat, good, gpt2->num_parameters - 1, NULL));
    EXPECT(KLS_ERROR_BUFFER_LENGTH, kls_llmc_create(&flat, good, 0, NULL));
    EXPECT(KLS_ERROR_NULL, kls_llmc_create(NULL, good, gpt2->num_parameters, NULL));
    return NULL;
}

static const char *wrong_options(const GPT2 *gpt2) {
    kls_llmc_options good;
    kls_flat flat;
    EXPECT(KLS_ERROR_NULL, kls_llmc_options_init(NULL, KLS_METHOD_KL_SHAMPOO));
    EXPECT(KLS_ERROR_UNKNOWN_VALUE, kls_llmc_options_init(&good, 1000));
    EXPECT(KLS_OK, kls_llmc_options_init(&good, KLS_METHOD_KL_SHAMPOO));
#define REFUSED(field, value, status)                                                                                                  \
    do {                                                                                                                               \
        kls_llmc_options bad = good;                                                                                                   \
        bad.field = (value);                                                                                                           \
        EXPECT(status, kls_llmc_create(&flat, config_of(gpt2), gpt2->num_parameters, &bad));                                           \
        CHECK(!flat.optimizer && !flat.tensors);                                                                                       \
    } while (0)
    REFUSED(embeddings, 2, KLS_ERROR_UNKNOWN_VALUE);
    REFUSED(decay, -1, KLS_ERROR_UNKNOWN_VALUE);
    REFUSED(flat.method.beta2, 1.5f, KLS_ERROR_BETA);
    REFUSED(flat.adamw.lr_scale, -1, KLS_ERROR_LR_SCALE);
    REFUSED(flat.library.num_threads, 0, KLS_ERROR_THREADS);
#undef REFUSED
    return NULL;
}

static const char *wrong_steps(GPT2 *gpt2) {
    kls_flat flat;
    float *before = (float *)malloc(gpt2->num_parameters * sizeof *before);
    CHECK(before);
    memcpy(before, gpt2->params_memory, gpt2->num_parameters * sizeof *before);
    EXPECT(KLS_OK, kls_llmc_create(&flat, config_of(gpt2), gpt2->num_parameters, NULL));
    EXPECT(KLS_ERROR_NULL, kls_flat_step(&flat, NULL, gpt2->grads_memory, 1e-3f));
    EXPECT(KLS_ERROR_NULL, kls_flat_step(&flat, gpt2->params_memory, NULL, 1e-3f));
    /* The last element of the second layer's fcprojw. */
    memset(&gpt2->grads_memory[flat.tensors[KLS_GPT2_FCPROJB].offset - 1], 0xff, sizeof(float));
    EXPECT(KLS_ERROR_GRADIENT_NOT_FINITE, kls_flat_step(&flat, gpt2->params_memory, gpt2->grads_memory, 1e-3f));
    CHECK(is_named(&flat, "fcprojw") && memcmp(before, gpt2->params_memory, gpt2->num_parameters * sizeof *before) == 0);
    EXPECT(KLS_OK, kls_flat_destroy(&flat));
    EXPECT(KLS_ERROR_HANDLE, kls_flat_step(&flat, gpt2->params_memory, gpt2->grads_memory, 1e-3f));
    free(before);
    return NULL;
}

const char *test_llmc_errors(void) {
    gpt_model *model = small_model();
    CHECK(model);
    GPT2 gpt2 = as_gpt2(model);
    const char *failure = wrong_models(&gpt2);
    if (!failure) failure = wrong_options(&gpt2);
    if (!failure) failure = wrong_steps(&gpt2);
    gpt_destroy(model);
    return failure;
}

void llmc_exit(void) {
    gpt_model *model = small_model();
    GPT2 gpt2 = as_gpt2(model);
    kls_flat optimizer = KLS_LLMC_CREATE(&gpt2, NULL);
    memset(&gpt2.grads_memory[optimizer.tensors[KLS_GPT2_FCW].offset + 7], 0xff, sizeof(float));
    KLS_LLMC_STEP(&optimizer, &gpt2, 1e-3f);
}

/* Whether any element of a tensor differs between the two buffers. */
static int differs(const kls_gpt2_tensor *t, const float *a, const float *b) {
    return memcmp(a + t->offset, b + t->offset, t->count * sizeof *a) != 0;
}

/* The parameters after two steps with these options from the same start, in `params`. */
static const char *two_steps(const GPT2 *gpt2, const kls_llmc_options *options, float *params) {
    kls_flat flat;
    memcpy(params, gpt2->params_memory, gpt2->num_parameters * sizeof *params);
    EXPECT(KLS_OK, kls_llmc_create(&flat, config_of(gpt2), gpt2->num_parameters, options));
    EXPECT(KLS_OK, kls_flat_step(&flat, params, gpt2->grads_memory, 1e-2f));
    EXPECT(KLS_OK, kls_flat_step(&flat, params, gpt2->grads_memory, 1e-2f));
    EXPECT(KLS_OK, kls_flat_destroy(&flat));
    return NULL;
}

static const char *decay_is_chosen(const GPT2 *gpt2, float *plain, float *decayed) {
    kls_gpt2_tensor table[KLS_GPT2_TENSORS];
    kls_llmc_options options;
    CHECK(kls_gpt2_table(table, config_of(gpt2)) == gpt2->num_parameters);
    /* Biases start at 0 and are not changed by decay before they have moved: the second step decays them. */
    for (int choice = KLS_LLMC_DECAY_MATRICES; choice <= KLS_LLMC_DECAY_ALL; choice++) {
        const char *failure;
        EXPECT(KLS_OK, kls_llmc_options_init(&options, KLS_METHOD_KL_SHAMPOO));
        options.decay = choice;
        CHECK(options.flat.method.weight_decay == 0.1f && options.flat.adamw.weight_decay == 0.1f);
        options.flat.method.weight_decay = options.flat.adamw.weight_decay = 0;
        failure = two_steps(gpt2, &options, plain);
        if (failure) return failure;
        options.flat.method.weight_decay = options.flat.adamw.weight_decay = 0.5f;
        failure = two_steps(gpt2, &options, decayed);
        if (failure) return failure;
        for (int i = 0; i < KLS_GPT2_TENSORS; i++)
            CHECK(differs(&table[i], plain, decayed) == (table[i].decays || choice == KLS_LLMC_DECAY_ALL));
    }
    return NULL;
}

static const char *treatment_is_chosen(const GPT2 *gpt2) {
    static const char *const excluded[] = {"attproj", "wpe"};
    kls_llmc_options options;
    kls_plan plan;
    kls_flat flat;
    EXPECT(KLS_OK, kls_llmc_options_init(&options, KLS_METHOD_KL_SHAMPOO));
    EXPECT(KLS_OK, kls_llmc_create(&flat, config_of(gpt2), gpt2->num_parameters, &options));
    CHECK(flat.tensors[KLS_GPT2_WTE].shape.group == KLS_FLAT_GROUP_ADAMW && flat.tensors[KLS_GPT2_WPE].shape.group == KLS_FLAT_GROUP_ADAMW);
    CHECK(flat.tensors[KLS_GPT2_ATTPROJW].shape.group == KLS_FLAT_GROUP_METHOD);
    CHECK(flat.tensors[KLS_GPT2_LNFB].shape.group == KLS_FLAT_GROUP_ADAMW_NO_DECAY);
    EXPECT(KLS_OK, kls_optimizer_plan(flat.optimizer, KLS_GPT2_QKVW, &plan, sizeof plan));
    CHECK(plan.slices == LAYERS && plan.pieces == 3 && plan.modes[0] == KLS_MODE_FULL);
    EXPECT(KLS_OK, kls_optimizer_plan(flat.optimizer, KLS_GPT2_FCW, &plan, sizeof plan));
    CHECK(plan.slices == LAYERS && plan.pieces == 1 && plan.dims[0] == 4 * CHANNELS && plan.dims[1] == CHANNELS);
    EXPECT(KLS_OK, kls_flat_destroy(&flat));

    options.embeddings = KLS_LLMC_EMBEDDINGS_DIAGONAL;
    options.split_qkv = 0;
    options.flat.excluded = excluded;
    options.flat.excluded_count = 2;
    EXPECT(KLS_OK, kls_llmc_create(&flat, config_of(gpt2), gpt2->num_parameters, &options));
    CHECK(flat.tensors[KLS_GPT2_WPE].shape.group == KLS_FLAT_GROUP_ADAMW);
    CHECK(flat.tensors[KLS_GPT2_ATTPROJW].shape.group == KLS_FLAT_GROUP_ADAMW);
    EXPECT(KLS_OK, kls_optimizer_plan(flat.optimizer, KLS_GPT2_WTE, &plan, sizeof plan));
    CHECK(plan.modes[0] == KLS_MODE_DIAGONAL && plan.modes[1] == KLS_MODE_FULL && plan.dims[0] == GPT_VOCABULARY);
    EXPECT(KLS_OK, kls_optimizer_plan(flat.optimizer, KLS_GPT2_QKVW, &plan, sizeof plan));
    CHECK(plan.pieces == 1 && plan.dims[0] == 3 * CHANNELS);
    EXPECT(KLS_OK, kls_flat_destroy(&flat));
    return NULL;
}

/* Rows of padding belong to no tensor of the optimizer, whoever steps wte. */
static const char *padding_is_left_alone(const GPT2 *gpt2) {
    enum { USED = 250 };
    kls_gpt2_config config = config_of(gpt2);
    kls_llmc_options options;
    kls_flat flat;
    config.vocab_size = USED;
    EXPECT(KLS_OK, kls_llmc_options_init(&options, KLS_METHOD_KL_SHAMPOO));
    for (int choice = KLS_LLMC_EMBEDDINGS_ADAMW; choice <= KLS_LLMC_EMBEDDINGS_DIAGONAL; choice++) {
        options.embeddings = choice;
        EXPECT(KLS_OK, kls_llmc_create(&flat, config, gpt2->num_parameters, &options));
        CHECK(flat.tensors[KLS_GPT2_WTE].shape.dims[0] == USED && flat.tensors[KLS_GPT2_WPE].offset == GPT_VOCABULARY * CHANNELS);
        EXPECT(KLS_OK, kls_flat_destroy(&flat));
    }
    return NULL;
}

const char *test_llmc_choices(void) {
    gpt_model *model = small_model();
    CHECK(model);
    const GPT2 gpt2 = as_gpt2(model);
    float *room = (float *)malloc(2 * gpt2.num_parameters * sizeof *room);
    CHECK(room);
    small_gradient(model, 0);
    const char *failure = decay_is_chosen(&gpt2, room, room + gpt2.num_parameters);
    if (!failure) failure = treatment_is_chosen(&gpt2);
    if (!failure) failure = padding_is_left_alone(&gpt2);
    free(room);
    gpt_destroy(model);
    return failure;
}
