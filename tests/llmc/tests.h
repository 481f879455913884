/* The tests of bindings-c/flat and bindings-c/llmc, and the model that they share: the example trainer's GPT, seen as llm.c's. */
#ifndef KLS_TESTS_LLMC_TESTS_H
#define KLS_TESTS_LLMC_TESTS_H

#include "check.h"

/* What the adapter's macros read of llm.c's struct of that name. */
typedef struct {
    struct {
        int max_seq_len, vocab_size, padded_vocab_size, num_layers, num_heads, channels;
    } config;
    float *params_memory, *grads_memory;
    size_t num_parameters;
} GPT2;

#ifdef __cplusplus
extern "C" {
#endif

const char *test_gpt2_table(void);
const char *test_flat_rules(void);
const char *test_flat_places(void);
const char *test_flat_steps(void);
const char *test_llmc_errors(void);
const char *test_llmc_choices(void);
const char *test_llmc_adamw(void);
const char *test_llmc_training(void);
const char *test_llmc_tiny_gradients(void);
const char *test_llmc_resume(void);
const char *test_llmc_in_cpp(void);

/* Ends the program with a message about tensor fcw. */
void llmc_exit(void);

#ifdef __cplusplus
}
#endif
#endif
