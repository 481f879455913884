/* The command line of gpt-train. */
#ifndef GPT_OPTIONS_H
#define GPT_OPTIONS_H

#include "model.h"

/* A layer's expert weights for the optimizer: one (E, rows, columns) tensor, or E matrices. */
typedef enum { EXPERT_TENSORS_3D, EXPERT_TENSORS_MATRICES } expert_tensors;

typedef struct {
    const char *data;
    const char *save, *resume; /* NULL: neither */
    long save_every, stop_after, faulty_every; /* never: 0 */
    long layers, channels, heads, context, batch;
    long experts, experts_per_token, expert_width;
    long expert_tensors; /* the enum above */
    double balance;
    long steps, eval_every, eval_bytes, seed, threads;
    long method, convention, graft; /* rows of the tables in methods.h; no graft given: -1 */
    long refresh_period;
    long similarity_every, similarity_window, similarity_layer; /* never: 0 */
    double lr, adamw_lr;
    double beta1, beta2, adamw_beta1, adamw_beta2;
    double lambda0; /* 0: scale-free; -1: the method's */
    double weight_decay, vector_weight_decay;
    double warmup, final_lr, clip;
} options;

/* Ends the program with a message on a wrong option, and after --help. */
options options_parse(int argc, char **argv);

#endif
