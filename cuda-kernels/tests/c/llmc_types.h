/* What the adapter for llm.c takes of the trainers' declarations. */
#ifndef KLS_CUDA_TESTS_LLMC_TYPES_H
#define KLS_CUDA_TESTS_LLMC_TYPES_H

#include <stddef.h>

typedef struct {
    int max_seq_len, vocab_size, padded_vocab_size, num_layers, num_heads, channels;
} GPT2Config;

/* train_gpt2.cu's, less what it does not look at. */
typedef struct {
    GPT2Config config;
    size_t param_sizeof[16];
    void *params_memory, *grads_memory;
    size_t num_parameters;
    int use_master_weights;
} GPT2;

#endif
