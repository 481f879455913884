/*
 * klshampoo in llm.c's train_gpt2.c: this include and two lines.
 *
 *     kls_flat optimizer = KLS_LLMC_CREATE(&model, NULL);     after gpt2_build_from_checkpoint
 *     KLS_LLMC_STEP(&optimizer, &model, 1e-4f);               in place of gpt2_update
 *
 * Both print what is wrong and end the program, as llm.c's own checks do; kls_llmc_create and kls_flat_step are what they are made of and
 * return a kls_status. The optimizer is a kls_flat: all of klshampoo_flat.h is for it. README.md beside this file is the guide. Header only,
 * C99 and C++; it knows llm.c's types by the names of their fields alone.
 */
#ifndef KLSHAMPOO_LLMC_H
#define KLSHAMPOO_LLMC_H

#include "klshampoo_flat.h"
#include "klshampoo_gpt2_table.h"

/* Who steps wte and wpe. */
enum {
    KLS_LLMC_EMBEDDINGS_ADAMW,   /* AdamW */
    KLS_LLMC_EMBEDDINGS_DIAGONAL /* the method, with the diagonal of a factor for tokens or positions and a full one for channels */
};

/* Which tensors are decayed. */
enum {
    KLS_LLMC_DECAY_MATRICES, /* embeddings and matrices, as in train_gpt2.cu */
    KLS_LLMC_DECAY_ALL       /* all, as in train_gpt2.c */
};

/* What may be chosen. Fill it with kls_llmc_options_init, then change what you want. */
typedef struct kls_llmc_options {
    kls_flat_options flat; /* methods, rates, betas, decay; threads; exclusions by llm.c's names, such as "attproj" */
    int32_t embeddings;    /* KLS_LLMC_EMBEDDINGS_*. Default AdamW */
    int32_t split_qkv;     /* non-zero: queries, keys and values have states of their own. Default 1 */
    int32_t decay;         /* KLS_LLMC_DECAY_*. Default matrices */
} kls_llmc_options;

/* Fills `options` with KLS_METHOD_* `method` for the matrices, AdamW for the rest, weight decay 0.1.
 *
 * Errors: KLS_ERROR_NULL, KLS_ERROR_UNKNOWN_VALUE. */
static inline kls_status kls_llmc_options_init(kls_llmc_options *options, int32_t method) {
    kls_status status;
    if (!options) return KLS_ERROR_NULL;
    memset(options, 0, sizeof *options);
    status = kls_flat_options_init(&options->flat, method);
    options->flat.method.weight_decay = 0.1f;
    options->flat.adamw.weight_decay = 0.1f;
    options->split_qkv = 1;
    return status;
}

/* The row of klshampoo_flat.h's table for a tensor of the model. */
static inline kls_status kls_llmc_describe_(kls_flat_tensor *tensor, const kls_gpt2_tensor *t, int is_qkv,
                                            const kls_llmc_options *options) {
    /* Rows of padding have no gradient, so no optimizer would move them; a factor that counted them would be scaled down. */
    const uint64_t dims[2] = {t->used_rows, t->columns};
    const int is_vector = t->kind == KLS_GPT2_VECTOR;
    const kls_status status = kls_flat_tensor_init(tensor, t->name, t->offset, is_vector ? 1 : 2, is_vector ? dims + 1 : dims);
    tensor->shape.slices = t->slices;
    tensor->decayed = t->decays || options->decay == KLS_LLMC_DECAY_ALL ? KLS_FLAT_DECAY : KLS_FLAT_NO_DECAY;
    if (t->kind == KLS_GPT2_EMBEDDING) {
        if (options->embeddings == KLS_LLMC_EMBEDDINGS_ADAMW) tensor->stepped = KLS_FLAT_ADAMW;
        tensor->shape.modes[0] = KLS_MODE_DIAGONAL;
    }
    if (is_qkv && options->split_qkv) {
        tensor->shape.row_part_count = 3;
        for (int part = 0; part < 3; part++) tensor->shape.row_parts[part] = t->columns;
    }
    return status;
}

/* The table of a model with this config and `num_parameters` parameters. */
static inline kls_status kls_llmc_table_(kls_flat_tensor table[KLS_GPT2_TENSORS], kls_gpt2_config config, size_t num_parameters,
                                         const kls_llmc_options *options) {
    kls_gpt2_tensor model[KLS_GPT2_TENSORS];
    kls_status status = KLS_OK;
    if (config.max_seq_len < 1 || config.vocab_size < 1 || config.padded_vocab_size < 1 || config.num_layers < 1 || config.num_heads < 1 ||
        config.channels < 1)
        return KLS_ERROR_ZERO_DIM;
    if (num_parameters == 0 || kls_gpt2_table(model, config) != num_parameters) return KLS_ERROR_BUFFER_LENGTH;
    if (options->embeddings < KLS_LLMC_EMBEDDINGS_ADAMW || options->embeddings > KLS_LLMC_EMBEDDINGS_DIAGONAL ||
        options->decay < KLS_LLMC_DECAY_MATRICES || options->decay > KLS_LLMC_DECAY_ALL)
        return KLS_ERROR_UNKNOWN_VALUE;
    for (int i = 0; i < KLS_GPT2_TENSORS && status == KLS_OK; i++)
        status = kls_llmc_describe_(&table[i], &model[i], i == KLS_GPT2_QKVW, options);
    return status;
}

/* Makes the optimizer of a model with this config and `num_parameters` parameters. `options` may be NULL for KL-Shampoo and the defaults.
 *
 * Errors: KLS_ERROR_ZERO_DIM for a number of the config below 1, KLS_ERROR_BUFFER_LENGTH for a config that is no GPT-2 of so many
 * parameters, KLS_ERROR_UNKNOWN_VALUE for an option, those of kls_flat_create. */
static inline kls_status kls_llmc_create(kls_flat *flat, kls_gpt2_config config, size_t num_parameters, const kls_llmc_options *options) {
    kls_flat_tensor table[KLS_GPT2_TENSORS];
    kls_llmc_options defaults;
    kls_status status;
    if (!flat) return KLS_ERROR_NULL;
    memset(flat, 0, sizeof *flat);
    status = kls_llmc_options_init(&defaults, KLS_METHOD_KL_SHAMPOO);
    if (status != KLS_OK) return status;
    if (!options) options = &defaults;
    status = kls_llmc_table_(table, config, num_parameters, options);
    if (status == KLS_OK) status = kls_flat_create(flat, table, KLS_GPT2_TENSORS, num_parameters, &options->flat);
    return status;
}

/* The same, or the end of the program. */
static inline kls_flat kls_llmc_create_or_exit(kls_gpt2_config config, size_t num_parameters, const kls_llmc_options *options) {
    kls_flat flat;
    kls_flat_or_exit(&flat, kls_llmc_create(&flat, config, num_parameters, options), "creating the optimizer");
    return flat;
}

/* The two lines. `model` points to llm.c's GPT2, `options` to a kls_llmc_options or is NULL. */
#define KLS_LLMC_CREATE(model, options)                                                                                                \
    kls_llmc_create_or_exit(kls_gpt2_config_of((model)->config.max_seq_len, (model)->config.vocab_size,                                \
                                               (model)->config.padded_vocab_size, (model)->config.num_layers,                          \
                                               (model)->config.num_heads, (model)->config.channels),                                   \
                            (model)->num_parameters, (options))
#define KLS_LLMC_STEP(optimizer, model, lr)                                                                                            \
    kls_flat_or_exit((optimizer), kls_flat_step((optimizer), (model)->params_memory, (model)->grads_memory, (lr)), "the optimizer's step")

#endif
