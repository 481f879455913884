#include "similarity.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(sizeof(real) == sizeof(float), "the library's gradients are float");

struct similarity {
    long every, window, layer;
    float *grads[GPT_MAX_TENSORS]; /* `window` gradients of each hidden matrix, oldest first; NULL for other tensors */
    float *scratch;
    size_t scratch_len;
};

static size_t elements(const gpt_tensor *t) {
    return (size_t)t->rows * (size_t)t->columns;
}

similarity *similarity_create(const gpt_model *model, const options *o) {
    similarity *s = calloc(1, sizeof *s);
    if (!s) return NULL;
    s->every = o->similarity_every;
    s->window = o->similarity_window;
    s->layer = o->similarity_layer;
    for (int i = 0; i < model->tensor_count; i++) {
        const gpt_tensor *t = &model->tensors[i];
        if (t->kind != GPT_HIDDEN_MATRIX) continue;
        size_t len = 0;
        if (kls_window_scratch_len((size_t)t->rows, (size_t)t->columns, (size_t)s->window, &len) == KLS_OK)
            s->grads[i] = calloc((size_t)s->window, elements(t) * sizeof(float));
        if (!s->grads[i]) {
            similarity_destroy(s);
            return NULL;
        }
        if (len > s->scratch_len) s->scratch_len = len;
    }
    s->scratch = malloc(s->scratch_len * sizeof(float));
    if (!s->scratch) {
        similarity_destroy(s);
        return NULL;
    }
    return s;
}

void similarity_destroy(similarity *s) {
    if (!s) return;
    for (int i = 0; i < GPT_MAX_TENSORS; i++) free(s->grads[i]);
    free(s->scratch);
    free(s);
}

static kls_status measure(similarity *s, const gpt_tensor *t, const float *grads, long done) {
    kls_similarity found;
    const kls_status status = kls_window_similarity(grads, (size_t)t->rows, (size_t)t->columns, (size_t)s->window, s->scratch,
                                                    s->scratch_len, &found, sizeof found);
    if (status == KLS_ERROR_ZERO_WINDOW) return KLS_OK;
    if (status != KLS_OK) return status;
    printf("{\"event\":\"similarity\",\"step\":%ld,\"tensor\":\"%s\",\"layer\":%ld,\"rows\":%d,\"columns\":%d,\"window\":%ld,"
           "\"optimal\":%.6f,\"shampoo_squared\":%.6f,\"shampoo\":%.6f,\"kullback_leibler\":%.6f,\"left\":%.6f,\"right\":%.6f,"
           "\"raised\":%u,\"rounds\":%u}\n",
           done, t->name, s->layer, t->rows, t->columns, s->window, (double)found.optimal, (double)found.shampoo_squared,
           (double)found.shampoo, (double)found.kullback_leibler, (double)found.left, (double)found.right, (unsigned)found.raised,
           (unsigned)found.rounds);
    fflush(stdout);
    return KLS_OK;
}

kls_status similarity_watch(similarity *s, const gpt_model *model, long done) {
    /* The steps up to the next measurement; only the last `window` of them are remembered. */
    const long ahead = (s->every - done % s->every) % s->every;
    if (ahead >= s->window) return KLS_OK;
    const size_t place = (size_t)(s->window - 1 - ahead);
    for (int i = 0; i < model->tensor_count; i++) {
        const gpt_tensor *t = &model->tensors[i];
        if (!s->grads[i]) continue;
        const real *gradient = gpt_slice(model, model->grads, (gpt_tensor_id)i, (int)s->layer);
        memcpy(s->grads[i] + place * elements(t), gradient, elements(t) * sizeof(float));
        if (ahead > 0) continue;
        const kls_status status = measure(s, t, s->grads[i], done);
        if (status != KLS_OK) return status;
    }
    return KLS_OK;
}
