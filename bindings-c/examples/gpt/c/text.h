/* Training and validation text, as bytes. */
#ifndef GPT_TEXT_H
#define GPT_TEXT_H

#include "rng.h"
#include <stddef.h>
#include <stdint.h>

/* Consecutive bytes of one work; `before` counts the possible contexts (or windows) in all earlier spans. */
typedef struct {
    const uint8_t *bytes;
    size_t length, before;
} text_span;

typedef struct {
    uint8_t *bytes;
    size_t length, works;
    int context;
    text_span *training, *validation;
    size_t training_bytes, validation_bytes;
    size_t contexts; /* places where a training context can begin */
    size_t windows;  /* validation windows that do not overlap */
} text;

/* Reads a file (one work) or every .txt file of a folder (one work each, in the order of their names). The last 6 % of each work are
 * validation. Ends the program with a message if there is nothing to read or too little of it. */
text text_load(const char *path, int context);
void text_free(text *t);

/* `batch` training contexts drawn uniformly, and the same shifted by one byte: (batch, context) each. */
void text_sample(const text *t, rng *random, int batch, uint8_t *tokens, uint8_t *targets);

/* Validation window `index` of t->windows: context bytes and the same shifted by one. */
void text_window(const text *t, size_t index, uint8_t *tokens, uint8_t *targets);

#endif
