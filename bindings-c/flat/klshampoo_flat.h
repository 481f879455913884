/*
 * klshampoo for training loops with one flat parameter buffer and a table of the tensors in it: (name, offset, shape).
 *
 *     kls_flat_options options;
 *     kls_flat_tensor table[2];
 *     kls_flat flat;
 *     kls_flat_options_init(&options, KLS_METHOD_KL_SHAMPOO);
 *     kls_flat_tensor_init(&table[0], "weight", 0, 2, (uint64_t[]){768, 3072});
 *     kls_flat_tensor_init(&table[1], "bias", 768 * 3072, 1, (uint64_t[]){768});
 *     kls_flat_create(&flat, table, 2, 768 * 3072 + 768, &options);
 *     for (...) kls_flat_step(&flat, params, grads, learning_rate);
 *     kls_flat_destroy(&flat);
 *
 * Matrices go to a method with Kronecker factors, everything else to AdamW. Header only, C99 and C++, on hosts. Every function that can fail
 * returns a kls_status, as klshampoo.h does; what that header says about threads holds for each kls_flat. Works under -ffast-math and with
 * denormals flushed to zero.
 */
#ifndef KLSHAMPOO_FLAT_H
#define KLSHAMPOO_FLAT_H

#include "klshampoo.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef KLS_HOST
#error "klshampoo_flat.h needs the host's library: do not define KLS_NO_HOST"
#endif

/* Who steps a tensor. */
enum {
    KLS_FLAT_BY_RULE, /* the rule of kls_flat_options */
    KLS_FLAT_METHOD,  /* the method */
    KLS_FLAT_ADAMW    /* AdamW */
};

/* Whether a tensor is decayed. */
enum {
    KLS_FLAT_DECAY_BY_RULE, /* matrices and tensors of more dims are, vectors are not */
    KLS_FLAT_DECAY,
    KLS_FLAT_NO_DECAY
};

/* The groups of the optimizer, for kls_optimizer_set_group. */
enum { KLS_FLAT_GROUP_METHOD, KLS_FLAT_GROUP_METHOD_NO_DECAY, KLS_FLAT_GROUP_ADAMW, KLS_FLAT_GROUP_ADAMW_NO_DECAY, KLS_FLAT_GROUPS };

/* One tensor of the buffer. Fill it with kls_flat_tensor_init, then change what you want. */
typedef struct kls_flat_tensor {
    const char *name; /* for exclusions and messages; outlives the kls_flat */
    size_t offset;    /* elements from the start of the buffer */
    int32_t stepped;  /* KLS_FLAT_BY_RULE, ... */
    int32_t decayed;  /* KLS_FLAT_DECAY_BY_RULE, ... */
    kls_tensor shape; /* dims, slices with their stride, modes, parts of the rows; its group is set by the adapter */
} kls_flat_tensor;

/* Methods and the rule. Fill it with kls_flat_options_init, then change what you want. */
typedef struct kls_flat_options {
    kls_config method;              /* of the matrices */
    kls_config adamw;               /* of the rest; its lr_scale times a step's learning rate is AdamW's rate. Default betas 0.9 and 0.95 */
    kls_options library;            /* threads, backend, products */
    int32_t bf16_if_available;      /* non-zero: KLS_PRODUCTS_BF16 where the processor has them, without an error where not. Default 0 */
    uint64_t smallest_dim;          /* the method takes tensors of 2 and more dims that are all at least this long. Default 2 */
    const char *const *excluded;    /* names that contain one of these go to AdamW; NULL if there are none (the default) */
    size_t excluded_count;
} kls_flat_options;

/* An optimizer over a flat buffer. All zero before kls_flat_create and after kls_flat_destroy. */
typedef struct kls_flat {
    kls_optimizer *optimizer;  /* for the calls of klshampoo.h; its tensor i is the table's */
    size_t tensor_count;
    kls_flat_tensor *tensors;  /* a copy of the table, the groups set */
    float **params;            /* of the latest step, by tensor */
    const float **grads;
    const char *failed_tensor; /* name of the tensor that the latest error came from; NULL: from none, or not known */
} kls_flat;

/* Fills `options` with KLS_METHOD_* `method`, its defaults, and AdamW, without weight decay.
 *
 * Errors: KLS_ERROR_NULL, KLS_ERROR_UNKNOWN_VALUE. */
static inline kls_status kls_flat_options_init(kls_flat_options *options, int32_t method) {
    kls_status status;
    if (!options) return KLS_ERROR_NULL;
    memset(options, 0, sizeof *options);
    status = kls_config_init(&options->method, sizeof options->method, method, KLS_CONVENTION_FIGURE13);
    if (status == KLS_OK) status = kls_config_init(&options->adamw, sizeof options->adamw, KLS_METHOD_ADAMW, KLS_CONVENTION_FIGURE13);
    if (status == KLS_OK) status = kls_options_init(&options->library, sizeof options->library);
    options->adamw.beta2 = 0.95f;
    options->smallest_dim = 2;
    return status;
}

/* Fills `tensor` with one slice of `order` dims, stepped and decayed by the rules.
 *
 * Errors: KLS_ERROR_NULL, KLS_ERROR_ORDER. */
static inline kls_status kls_flat_tensor_init(kls_flat_tensor *tensor, const char *name, size_t offset, uint32_t order,
                                              const uint64_t *dims) {
    if (!tensor || !name) return KLS_ERROR_NULL;
    tensor->name = name;
    tensor->offset = offset;
    tensor->stepped = KLS_FLAT_BY_RULE;
    tensor->decayed = KLS_FLAT_DECAY_BY_RULE;
    return kls_tensor_init(&tensor->shape, sizeof tensor->shape, order, dims);
}

/* Elements of a slice, and from the start of one to the start of the next. */
static inline size_t kls_flat_slice_(const kls_tensor *shape) {
    size_t count = 1;
    for (uint32_t d = 0; d < shape->order; d++) count *= (size_t)shape->dims[d];
    return count;
}

static inline size_t kls_flat_stride_(const kls_tensor *shape) {
    return shape->slice_stride ? (size_t)shape->slice_stride : kls_flat_slice_(shape);
}

/* The rules. */
static inline int kls_flat_by_method_(const kls_flat_options *options, const kls_flat_tensor *tensor) {
    if (tensor->stepped != KLS_FLAT_BY_RULE) return tensor->stepped == KLS_FLAT_METHOD;
    if (tensor->shape.order < 2) return 0;
    for (uint32_t d = 0; d < tensor->shape.order; d++)
        if (tensor->shape.dims[d] < options->smallest_dim) return 0;
    for (size_t e = 0; e < options->excluded_count; e++)
        if (strstr(tensor->name, options->excluded[e])) return 0;
    return 1;
}

static inline int kls_flat_decayed_(const kls_flat_tensor *tensor) {
    return tensor->decayed == KLS_FLAT_DECAY_BY_RULE ? tensor->shape.order >= 2 : tensor->decayed == KLS_FLAT_DECAY;
}

/* Elements [start, end) of the buffer. */
typedef struct kls_flat_span_ {
    size_t start, end, tensor;
} kls_flat_span_;

static inline int kls_flat_compare_spans_(const void *a, const void *b) {
    const size_t left = ((const kls_flat_span_ *)a)->start, right = ((const kls_flat_span_ *)b)->start;
    return (left > right) - (left < right);
}

/* Whether all slices lie in a buffer of `elements` and none overlap. Slices of different tensors may interleave. */
static inline kls_status kls_flat_check_places_(kls_flat *flat, size_t elements) {
    kls_status status = KLS_OK;
    kls_flat_span_ *spans;
    size_t count = 0, n = 0;
    for (size_t i = 0; i < flat->tensor_count; i++) {
        const kls_flat_tensor *t = &flat->tensors[i];
        const size_t slice = kls_flat_slice_(&t->shape), stride = kls_flat_stride_(&t->shape), room = elements - t->offset;
        if (t->offset > elements || slice > room || t->shape.slices - 1 > (room - slice) / stride) {
            flat->failed_tensor = t->name;
            return KLS_ERROR_BUFFER_LENGTH;
        }
        count += (size_t)t->shape.slices;
    }
    spans = (kls_flat_span_ *)calloc(count + 1, sizeof *spans);
    if (!spans) return KLS_ERROR_OUT_OF_MEMORY;
    for (size_t i = 0; i < flat->tensor_count; i++) {
        const kls_flat_tensor *t = &flat->tensors[i];
        for (size_t s = 0; s < t->shape.slices; s++, n++) {
            spans[n].tensor = i;
            spans[n].start = t->offset + s * kls_flat_stride_(&t->shape);
            spans[n].end = spans[n].start + kls_flat_slice_(&t->shape);
        }
    }
    qsort(spans, count, sizeof *spans, kls_flat_compare_spans_);
    for (size_t s = 1; s < count && status == KLS_OK; s++) {
        if (spans[s].start >= spans[s - 1].end) continue;
        flat->failed_tensor = flat->tensors[spans[s].tensor].name;
        status = KLS_ERROR_OVERLAP;
    }
    free(spans);
    return status;
}

/* Ends the optimizer; a second time is no error. */
static inline kls_status kls_flat_destroy(kls_flat *flat) {
    kls_status status;
    if (!flat) return KLS_ERROR_NULL;
    status = kls_optimizer_destroy(&flat->optimizer);
    free(flat->tensors);
    memset(flat, 0, sizeof *flat);
    return status;
}

/* The optimizer's groups. */
static inline void kls_flat_groups_(kls_config groups[KLS_FLAT_GROUPS], const kls_flat_options *options) {
    for (int g = 0; g < KLS_FLAT_GROUPS; g++) {
        groups[g] = g < KLS_FLAT_GROUP_ADAMW ? options->method : options->adamw;
        if (g == KLS_FLAT_GROUP_METHOD_NO_DECAY || g == KLS_FLAT_GROUP_ADAMW_NO_DECAY) groups[g].weight_decay = 0;
    }
}

/* The group of a tensor, by the rules. */
static inline void kls_flat_set_group_(kls_flat_tensor *tensor, const kls_flat_options *options) {
    const int by_method = kls_flat_by_method_(options, tensor);
    tensor->shape.group = by_method ? KLS_FLAT_GROUP_METHOD : KLS_FLAT_GROUP_ADAMW;
    if (!kls_flat_decayed_(tensor)) tensor->shape.group++;
}

/* The library's part of kls_flat_create, once the table is copied. */
static inline kls_status kls_flat_make_(kls_flat *flat, size_t elements, const kls_flat_options *options) {
    kls_config groups[KLS_FLAT_GROUPS];
    kls_options library = options->library;
    kls_status status;
    kls_tensor *shapes;
    kls_flat_groups_(groups, options);
    /* One by one, for the name of the one that is refused. Groups alone come first: they are not a tensor's fault. */
    size_t size, alignment;
    status = kls_optimizer_query(groups, KLS_FLAT_GROUPS, NULL, 0, &size, &alignment);
    for (size_t i = 0; i < flat->tensor_count && status == KLS_OK; i++) {
        kls_flat_tensor *t = &flat->tensors[i];
        kls_flat_set_group_(t, options);
        status = kls_optimizer_query(groups, KLS_FLAT_GROUPS, &t->shape, 1, &size, &alignment);
        if (status != KLS_OK) flat->failed_tensor = t->name;
    }
    if (status == KLS_OK) status = kls_flat_check_places_(flat, elements);
    if (status != KLS_OK) return status;

    shapes = (kls_tensor *)malloc((flat->tensor_count + 1) * sizeof *shapes);
    if (!shapes) return KLS_ERROR_OUT_OF_MEMORY;
    for (size_t i = 0; i < flat->tensor_count; i++) shapes[i] = flat->tensors[i].shape;
    if (options->bf16_if_available) library.products = KLS_PRODUCTS_BF16;
    status = kls_optimizer_create(&flat->optimizer, groups, KLS_FLAT_GROUPS, shapes, flat->tensor_count, &library);
    if (status == KLS_ERROR_UNSUPPORTED && options->bf16_if_available) {
        library.products = options->library.products;
        status = kls_optimizer_create(&flat->optimizer, groups, KLS_FLAT_GROUPS, shapes, flat->tensor_count, &library);
    }
    free(shapes);
    return status;
}

/* Makes the optimizer of a buffer of `elements` floats, whose tensors lie as the table says; gaps between them are left alone. The table is
 * copied, but not the names. On an error `flat` is all zero, but for failed_tensor.
 *
 * Errors: those of kls_optimizer_create; KLS_ERROR_BUFFER_LENGTH for a tensor that leaves the buffer, KLS_ERROR_OVERLAP for two that
 * overlap, KLS_ERROR_UNKNOWN_VALUE for a tensor's `stepped` or `decayed`. */
static inline kls_status kls_flat_create(kls_flat *flat, const kls_flat_tensor *tensors, size_t tensor_count, size_t elements,
                                         const kls_flat_options *options) {
    kls_status status = KLS_OK;
    const char *failed = NULL;
    char *memory;
    if (!flat) return KLS_ERROR_NULL;
    memset(flat, 0, sizeof *flat);
    if (!tensors || !options || (options->excluded_count > 0 && !options->excluded)) return KLS_ERROR_NULL;
    if (tensor_count >= SIZE_MAX / (sizeof *flat->tensors + 2 * sizeof(float *))) return KLS_ERROR_OUT_OF_MEMORY;
    for (size_t i = 0; i < tensor_count && status == KLS_OK; i++) {
        const kls_flat_tensor *t = &tensors[i];
        if (!t->name) return KLS_ERROR_NULL;
        if (t->stepped < KLS_FLAT_BY_RULE || t->stepped > KLS_FLAT_ADAMW) status = KLS_ERROR_UNKNOWN_VALUE;
        if (t->decayed < KLS_FLAT_DECAY_BY_RULE || t->decayed > KLS_FLAT_NO_DECAY) status = KLS_ERROR_UNKNOWN_VALUE;
        if (status != KLS_OK) flat->failed_tensor = t->name;
    }
    if (status != KLS_OK) return status;

    /* One allocation: the table, then the two arrays of pointers. */
    memory = (char *)calloc(tensor_count + 1, sizeof *flat->tensors + 2 * sizeof(float *));
    if (!memory) return KLS_ERROR_OUT_OF_MEMORY;
    flat->tensor_count = tensor_count;
    flat->tensors = (kls_flat_tensor *)(void *)memory;
    flat->params = (float **)(void *)(memory + tensor_count * sizeof *flat->tensors);
    flat->grads = (const float **)(void *)(memory + tensor_count * (sizeof *flat->tensors + sizeof(float *)));
    memcpy(memory, tensors, tensor_count * sizeof *tensors);
    status = kls_flat_make_(flat, elements, options);
    if (status == KLS_OK) return KLS_OK;
    failed = flat->failed_tensor;
    kls_flat_destroy(flat);
    flat->failed_tensor = failed;
    return status;
}

/* Whether a number is neither infinite nor NaN, by its bits: isfinite() is always true under -ffinite-math-only. */
static inline int kls_flat_finite_(const float *x) {
    uint32_t bits;
    memcpy(&bits, x, sizeof bits);
    return (bits & 0x7f800000u) != 0x7f800000u;
}

/* Sum of squares of a tensor's elements in the buffer that starts at `start`; negative if there are some that are not finite. */
static inline double kls_flat_square_(const kls_tensor *shape, const float *start) {
    const size_t slice = kls_flat_slice_(shape), stride = kls_flat_stride_(shape);
    double sum = 0;
    for (size_t s = 0; s < shape->slices; s++) {
        for (size_t e = 0; e < slice; e++) {
            const float *x = start + s * stride + e;
            if (!kls_flat_finite_(x)) return -1;
            sum += (double)*x * (double)*x;
        }
    }
    return sum;
}

/* Name of the tensor whose gradient made a step fail: the first one that is not finite, else the largest; NULL for other failures. */
static inline const char *kls_flat_find_failed_(const kls_flat *flat, kls_status status) {
    const char *largest = NULL;
    double most = 0;
    if (status != KLS_ERROR_GRADIENT_NOT_FINITE && status != KLS_ERROR_GRADIENT_TOO_LARGE && status != KLS_ERROR_ESTIMATE_NOT_FINITE)
        return NULL;
    for (size_t i = 0; i < flat->tensor_count; i++) {
        const double square = kls_flat_square_(&flat->tensors[i].shape, flat->grads[i]);
        if (square < 0) return flat->tensors[i].name;
        if (square > most) {
            most = square;
            largest = flat->tensors[i].name;
        }
    }
    return largest;
}

/* One step of all tensors. `params` and `grads` are the two flat buffers; `lr` is the method's learning rate.
 *
 * Errors: those of kls_optimizer_step; KLS_ERROR_HANDLE before kls_flat_create. */
static inline kls_status kls_flat_step(kls_flat *flat, float *params, const float *grads, float lr) {
    kls_status status;
    if (!flat || !params || !grads) return KLS_ERROR_NULL;
    if (!flat->optimizer) return KLS_ERROR_HANDLE;
    for (size_t i = 0; i < flat->tensor_count; i++) {
        flat->params[i] = params + flat->tensors[i].offset;
        flat->grads[i] = grads + flat->tensors[i].offset;
    }
    status = kls_optimizer_step(flat->optimizer, flat->params, flat->grads, flat->tensor_count, lr);
    flat->failed_tensor = status == KLS_OK ? NULL : kls_flat_find_failed_(flat, status);
    return status;
}

/* Saves the optimizer's state to a safetensors file, which is replaced as a whole or not at all. Save the parameters of the same step with it.
 *
 * Errors: those of kls_optimizer_save_file; KLS_ERROR_HANDLE before kls_flat_create. */
static inline kls_status kls_flat_save(kls_flat *flat, const char *path) {
    if (!flat || !path) return KLS_ERROR_NULL;
    if (!flat->optimizer) return KLS_ERROR_HANDLE;
    flat->failed_tensor = NULL;
    return kls_optimizer_save_file(flat->optimizer, path);
}

/* Loads a state that kls_flat_save wrote for the same table and methods. With the parameters of that step, training goes on with the same
 * bits as if it had not been interrupted.
 *
 * Errors: those of kls_optimizer_load_file; KLS_ERROR_HANDLE before kls_flat_create. */
static inline kls_status kls_flat_load(kls_flat *flat, const char *path) {
    if (!flat || !path) return KLS_ERROR_NULL;
    if (!flat->optimizer) return KLS_ERROR_HANDLE;
    flat->failed_tensor = NULL;
    return kls_optimizer_load_file(flat->optimizer, path);
}

/* For programs that have nothing better to do on an error: nothing for KLS_OK; otherwise a line on stderr that says what failed, for which
 * tensor, and why, and the end of the program. */
static inline void kls_flat_or_exit(const kls_flat *flat, kls_status status, const char *what) {
    const char *tensor = flat ? flat->failed_tensor : NULL;
    if (status == KLS_OK) return;
    fprintf(stderr, "klshampoo: %s failed%s%s: %s\n", what, tensor ? " for tensor " : "", tensor ? tensor : "", kls_status_string(status));
    exit(EXIT_FAILURE);
}

#endif
