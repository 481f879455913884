/* A GPT-2 over bytes: pre-norm transformer blocks, learned positions, tied head. Forward and backward pass by hand, one thread. The MLP of
 * every block is dense, or a mixture of experts (moe.h). */
#ifndef GPT_MODEL_H
#define GPT_MODEL_H

#include "real.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { GPT_VOCABULARY = 256 };

typedef struct {
    int layers;   /* L */
    int channels; /* C, a multiple of heads */
    int heads;
    int context; /* maxT */
    /* The mixture of experts; all else is ignored when there are no experts. */
    int experts;           /* E; 0: a dense MLP */
    int experts_per_token; /* at most E */
    int expert_width;      /* H, hidden width of one expert */
    real balance;          /* coefficient of the load-balancing loss */
} gpt_config;

/* The tensors in the order of the flat buffer, which is llm.c's. Matrices are row-major (out, in). Where there are experts, each of them
 * has its own MLP, and a router chooses between them. */
typedef enum {
    GPT_WTE,      /* (V, C), also the head */
    GPT_WPE,      /* (maxT, C) */
    GPT_LN1W,     /* (L, C) */
    GPT_LN1B,     /* (L, C) */
    GPT_QKVW,     /* (L, 3C, C) */
    GPT_QKVB,     /* (L, 3C) */
    GPT_ATTPROJW, /* (L, C, C) */
    GPT_ATTPROJB, /* (L, C) */
    GPT_LN2W,     /* (L, C) */
    GPT_LN2B,     /* (L, C) */
    GPT_FCW,      /* (L, 4C, C), or (L, E, H, C) */
    GPT_FCB,      /* (L, 4C), or (L, E, H) */
    GPT_FCPROJW,  /* (L, C, 4C), or (L, E, C, H) */
    GPT_FCPROJB,  /* (L, C), or (L, E, C) */
    GPT_LNFW,     /* (C) */
    GPT_LNFB,     /* (C) */
    GPT_ROUTERW,  /* (L, E, C), only where there are experts: the last one, so that the others are the dense model's */
    GPT_MAX_TENSORS
} gpt_tensor_id;

typedef enum { GPT_EMBEDDING, GPT_VECTOR, GPT_HIDDEN_MATRIX, GPT_EXPERT_MATRICES } gpt_tensor_kind;

typedef struct {
    const char *name;
    gpt_tensor_kind kind;
    int slices;   /* layers stacked in the tensor */
    int matrices; /* in a slice, each of rows x columns: an expert's each, else 1 */
    int rows, columns;
    size_t offset, count; /* elements in the flat buffer */
} gpt_tensor;

/* What the backward pass needs of one layer's routing. A slot is a row given to one of its experts: there are k per row, if a row has k
 * experts, and they are grouped by expert, in the order of the rows. */
typedef struct {
    real *prob;   /* (B T, E) router's softmax */
    int *chosen;  /* (B T, k) experts, ascending */
    real *weight; /* (B T, k) of the chosen experts, sum 1 per row */
    int *slot;    /* (B T, k) slots of the row */
    int *first;   /* (E + 1) first slot of each expert, and the end */
    real *in;     /* (slots, C) */
    real *out;    /* (slots, C) before the weight */
} gpt_routing;

/* What the backward pass needs of one layer, B T rows each. */
typedef struct {
    real *ln1, *ln1_mean, *ln1_rstd;
    real *qkv;       /* 3C columns: queries, keys, values, heads side by side */
    real *attention; /* (B, heads, T, T) probabilities */
    real *heads;     /* the heads' outputs, side by side */
    real *after_attention;
    real *ln2, *ln2_mean, *ln2_rstd;
    real *fc, *gelu; /* 4C columns; with experts (slots, H) */
    gpt_routing routing;
    real *out;
} gpt_layer;

typedef struct {
    gpt_config config;
    int max_batch;
    gpt_tensor tensors[GPT_MAX_TENSORS];
    int tensor_count;
    size_t parameter_count;
    real *params, *grads; /* flat, parameter_count elements each */

    /* Activations of the latest forward pass. */
    const uint8_t *tokens;
    int batch;
    gpt_layer *layers;
    real *embedded, *lnf, *lnf_mean, *lnf_rstd, *logits;
    /* Derivatives by activations, one buffer per width, used again by every layer. */
    real *d_residual, *d_channels, *d_heads, *d_qkv, *d_fc, *d_attention, *d_slots, *d_router;
    void *arena;

    double balance_loss; /* of the latest forward pass, its coefficient included; 0 without experts */
} gpt_model;

/* NULL if memory runs out. Parameters and gradients are zero. */
gpt_model *gpt_create(gpt_config config, int max_batch);
void gpt_destroy(gpt_model *model);

/* GPT-2's: weights normal with deviation 0.02, residual projections 0.02 / sqrt(2 L), layer norms 1, biases 0. */
void gpt_initialize(gpt_model *model, uint64_t seed);

/* Mean negative log likelihood in nats of targets given tokens, (batch, context) bytes each, batch <= max_batch. The balance loss is not
 * in it. */
double gpt_loss(gpt_model *model, const uint8_t *tokens, const uint8_t *targets, int batch);

/* The same, and grads becomes the gradient of it plus the balance loss. */
double gpt_loss_and_gradient(gpt_model *model, const uint8_t *tokens, const uint8_t *targets, int batch);

/* The passes themselves, in forward.c and backward.c. `keep` stores every layer's activations, without it one layer's room serves all. */
void gpt_forward(gpt_model *model, const uint8_t *tokens, int batch, bool keep);
/* Takes the derivative of the loss by the logits from model->logits. */
void gpt_backward(gpt_model *model);

/* The first matrix of tensor `id` of layer `layer` in a flat buffer. */
static inline real *gpt_slice(const gpt_model *model, real *buffer, gpt_tensor_id id, int layer) {
    const gpt_tensor *t = &model->tensors[id];
    return buffer + t->offset + (size_t)layer * (size_t)t->matrices * (size_t)t->rows * (size_t)t->columns;
}

#endif
