/* The 16 parameter tensors of llm.c's GPT-2: where each lies in the flat buffer, its shape, and what an optimizer should know of it. Needs
 * neither llm.c nor klshampoo: plain numbers in, plain numbers out, for host and device buffers of any element type. */
#ifndef KLSHAMPOO_GPT2_TABLE_H
#define KLSHAMPOO_GPT2_TABLE_H

#include <stddef.h>
#include <stdint.h>

/* The tensors in the order of the buffer. Matrices are row-major (out, in). */
enum {
    KLS_GPT2_WTE,      /* (Vp, C), also the head */
    KLS_GPT2_WPE,      /* (maxT, C) */
    KLS_GPT2_LN1W,     /* (L, C) */
    KLS_GPT2_LN1B,     /* (L, C) */
    KLS_GPT2_QKVW,     /* (L, 3C, C): queries, keys, values */
    KLS_GPT2_QKVB,     /* (L, 3C) */
    KLS_GPT2_ATTPROJW, /* (L, C, C) */
    KLS_GPT2_ATTPROJB, /* (L, C) */
    KLS_GPT2_LN2W,     /* (L, C) */
    KLS_GPT2_LN2B,     /* (L, C) */
    KLS_GPT2_FCW,      /* (L, 4C, C) */
    KLS_GPT2_FCB,      /* (L, 4C) */
    KLS_GPT2_FCPROJW,  /* (L, C, 4C) */
    KLS_GPT2_FCPROJB,  /* (L, C) */
    KLS_GPT2_LNFW,     /* (C) */
    KLS_GPT2_LNFB,     /* (C) */
    KLS_GPT2_TENSORS
};

/* What a tensor is to an optimizer. */
enum {
    KLS_GPT2_EMBEDDING, /* a matrix with one long side, whose rows are tokens or positions */
    KLS_GPT2_VECTOR,    /* a bias or a scale: not a matrix, even where those of all layers lie together as (L, C) */
    KLS_GPT2_MATRIX     /* a weight matrix per layer */
};

/* llm.c's GPT2Config, with its types. */
typedef struct kls_gpt2_config {
    int max_seq_len;       /* maxT */
    int vocab_size;        /* V */
    int padded_vocab_size; /* Vp, at least V */
    int num_layers;        /* L */
    int num_heads;         /* a divisor of C */
    int channels;          /* C */
} kls_gpt2_config;

/* One tensor. Sizes are in elements. */
typedef struct kls_gpt2_tensor {
    const char *name; /* llm.c's; static */
    int kind;         /* KLS_GPT2_EMBEDDING, ... */
    int decays;       /* non-zero: train_gpt2.cu decays it. train_gpt2.c decays every tensor. */
    size_t slices;    /* layers that are stacked in it, densely */
    size_t rows;      /* of one slice; 1 for vectors */
    size_t columns;   /* of one slice */
    size_t used_rows; /* as rows, but for wte V: its padding never has a gradient */
    size_t offset;    /* from the start of the buffer */
    size_t count;     /* slices * rows * columns */
} kls_gpt2_tensor;

/* The six numbers as a struct, for C and C++ alike. */
static inline kls_gpt2_config kls_gpt2_config_of(int max_seq_len, int vocab_size, int padded_vocab_size, int num_layers, int num_heads,
                                                 int channels) {
    kls_gpt2_config config;
    config.max_seq_len = max_seq_len;
    config.vocab_size = vocab_size;
    config.padded_vocab_size = padded_vocab_size;
    config.num_layers = num_layers;
    config.num_heads = num_heads;
    config.channels = channels;
    return config;
}

/* Fills the table, in the order of the buffer and without gaps, and returns the number of elements in all: llm.c's num_parameters.
 *
 * Returns 0, and leaves the table alone or partly filled, for what is no GPT-2: a number below 1, more tokens than rows for them, channels
 * that the heads cannot share, more elements than a size_t counts. */
static inline size_t kls_gpt2_table(kls_gpt2_tensor table[KLS_GPT2_TENSORS], kls_gpt2_config config) {
    const size_t t = (size_t)config.max_seq_len, v = (size_t)config.vocab_size, vp = (size_t)config.padded_vocab_size;
    const size_t l = (size_t)config.num_layers, c = (size_t)config.channels;
    const struct {
        const char *name;
        int kind;
        size_t slices, rows, columns;
    } shapes[KLS_GPT2_TENSORS] = {
        {"wte", KLS_GPT2_EMBEDDING, 1, vp, c},      {"wpe", KLS_GPT2_EMBEDDING, 1, t, c},       {"ln1w", KLS_GPT2_VECTOR, l, 1, c},
        {"ln1b", KLS_GPT2_VECTOR, l, 1, c},         {"qkvw", KLS_GPT2_MATRIX, l, 3 * c, c},     {"qkvb", KLS_GPT2_VECTOR, l, 1, 3 * c},
        {"attprojw", KLS_GPT2_MATRIX, l, c, c},     {"attprojb", KLS_GPT2_VECTOR, l, 1, c},     {"ln2w", KLS_GPT2_VECTOR, l, 1, c},
        {"ln2b", KLS_GPT2_VECTOR, l, 1, c},         {"fcw", KLS_GPT2_MATRIX, l, 4 * c, c},      {"fcb", KLS_GPT2_VECTOR, l, 1, 4 * c},
        {"fcprojw", KLS_GPT2_MATRIX, l, c, 4 * c},  {"fcprojb", KLS_GPT2_VECTOR, l, 1, c},      {"lnfw", KLS_GPT2_VECTOR, 1, 1, c},
        {"lnfb", KLS_GPT2_VECTOR, 1, 1, c},
    };
    size_t end = 0;
    if (config.max_seq_len < 1 || config.vocab_size < 1 || config.num_layers < 1 || config.num_heads < 1 || config.channels < 1) return 0;
    if (config.padded_vocab_size < config.vocab_size || config.channels % config.num_heads != 0 || c > SIZE_MAX / 4) return 0;
    for (int i = 0; i < KLS_GPT2_TENSORS; i++) {
        const size_t slices = shapes[i].slices, rows = shapes[i].rows, columns = shapes[i].columns;
        kls_gpt2_tensor *tensor = &table[i];
        if (slices > SIZE_MAX / rows || slices * rows > SIZE_MAX / columns || slices * rows * columns > SIZE_MAX - end) return 0;
        tensor->name = shapes[i].name;
        tensor->kind = shapes[i].kind;
        tensor->decays = shapes[i].kind != KLS_GPT2_VECTOR;
        tensor->slices = slices;
        tensor->rows = rows;
        tensor->columns = columns;
        tensor->used_rows = i == KLS_GPT2_WTE ? v : rows;
        tensor->offset = end;
        tensor->count = slices * rows * columns;
        end += tensor->count;
    }
    return end;
}

#endif
