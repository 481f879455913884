/* The table of bindings-c/llmc against the layout of the example trainer, which is llm.c's. */
#include "klshampoo_gpt2_table.h"
#include "model.h"
#include <limits.h>
#include <string.h>

static int same_kind(int kind, gpt_tensor_kind example) {
    return kind == KLS_GPT2_EMBEDDING ? example == GPT_EMBEDDING : kind == KLS_GPT2_VECTOR ? example == GPT_VECTOR : example == GPT_HIDDEN_MATRIX;
}

static const char *is_the_examples(gpt_config config) {
    kls_gpt2_tensor table[KLS_GPT2_TENSORS];
    gpt_model *model = gpt_create(config, 1);
    CHECK(model);
    const size_t count =
        kls_gpt2_table(table, kls_gpt2_config_of(config.context, GPT_VOCABULARY, GPT_VOCABULARY, config.layers, config.heads, config.channels));
    CHECK(count == model->parameter_count && model->tensor_count == KLS_GPT2_TENSORS);
    for (int i = 0; i < KLS_GPT2_TENSORS; i++) {
        const kls_gpt2_tensor *ours = &table[i];
        const gpt_tensor *theirs = &model->tensors[i];
        CHECK(strcmp(ours->name, theirs->name) == 0 && same_kind(ours->kind, theirs->kind));
        CHECK(ours->offset == theirs->offset && ours->count == theirs->count && ours->slices == (size_t)theirs->slices);
        CHECK(ours->rows == (size_t)theirs->rows && ours->columns == (size_t)theirs->columns && ours->used_rows == ours->rows);
    }
    gpt_destroy(model);
    return NULL;
}

static const char *is_gpt2(void) {
    /* train_gpt2.cu decays these. */
    static const int decayed[] = {0, 1, 4, 6, 10, 12};
    kls_gpt2_tensor table[KLS_GPT2_TENSORS];
    int decays = 0;
    CHECK(kls_gpt2_table(table, kls_gpt2_config_of(1024, 50257, 50304, 12, 12, 768)) == 124475904);
    for (int i = 0; i < KLS_GPT2_TENSORS; i++) decays += table[i].decays != 0;
    CHECK(decays == 6);
    for (int i = 0; i < 6; i++) CHECK(table[decayed[i]].decays);
    CHECK(table[KLS_GPT2_WTE].rows == 50304 && table[KLS_GPT2_WTE].used_rows == 50257 && table[KLS_GPT2_WPE].used_rows == 1024);
    CHECK(table[KLS_GPT2_FCPROJW].rows == 768 && table[KLS_GPT2_FCPROJW].columns == 3072 && table[KLS_GPT2_FCPROJW].slices == 12);
    return NULL;
}

static const char *is_no_model(void) {
    const kls_gpt2_config good = {64, 250, 256, 2, 4, 32};
    kls_gpt2_tensor table[KLS_GPT2_TENSORS];
    CHECK(kls_gpt2_table(table, good) != 0);
#define REFUSED(field, value)                                                                                                          \
    do {                                                                                                                               \
        kls_gpt2_config bad = good;                                                                                                    \
        bad.field = (value);                                                                                                           \
        CHECK(kls_gpt2_table(table, bad) == 0);                                                                                        \
    } while (0)
    REFUSED(max_seq_len, 0);
    REFUSED(vocab_size, 0);
    REFUSED(padded_vocab_size, 249);
    REFUSED(num_layers, 0);
    REFUSED(num_layers, -1);
    REFUSED(num_heads, 0);
    REFUSED(num_heads, 5);
    REFUSED(channels, -32);
#undef REFUSED
    /* More than 2^64 elements: L times 12 C^2. */
    CHECK(kls_gpt2_table(table, kls_gpt2_config_of(1, 1, 1, INT_MAX, 1, INT_MAX)) == 0);
    return NULL;
}

const char *test_gpt2_table(void) {
    const gpt_config small = {.layers = LAYERS, .channels = CHANNELS, .heads = HEADS, .context = CONTEXT};
    const gpt_config shallow = {.layers = 1, .channels = 8, .heads = 1, .context = 1};
    const gpt_config usual = {.layers = 4, .channels = 128, .heads = 4, .context = 64};
    const char *failure = is_the_examples(small);
    if (!failure) failure = is_the_examples(shallow);
    if (!failure) failure = is_the_examples(usual);
    if (!failure) failure = is_gpt2();
    return failure ? failure : is_no_model();
}
