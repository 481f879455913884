/*
 * klshampoo in llm.c's train_gpt2.cu and train_gpt2_fp32.cu: this include and two lines.
 *
 *     train_gpt2.cu, floatX bf16 or f32:
 *     kls_llmc_cuda optimizer = KLS_LLMC_CUDA_CREATE(&model, &multi_gpu_config, main_stream, NULL);     after gpt2_allocate_state
 *     KLS_LLMC_CUDA_STEP(&optimizer, &model, step_learning_rate, grad_scale, main_stream);              in place of gpt2_update
 *
 *     train_gpt2_fp32.cu:
 *     kls_llmc_cuda optimizer = KLS_LLMC_CUDA_FP32_CREATE(&model, deviceIdx, NULL);                     after gpt2_build_from_checkpoint
 *     KLS_LLMC_CUDA_FP32_STEP(&optimizer, &model, learning_rate);                                       in place of gpt2_update
 *
 * They print what is wrong and end the program, as llm.c's own checks do; kls_llmc_cuda_create and kls_llmc_cuda_step are what they are made of and
 * return a kls_status. README_CUDA.md beside this file is the guide. Header only, C99 and C++ (nvcc's too); it includes nothing of CUDA
 * and knows llm.c's types by the names of their fields alone.
 */
#ifndef KLSHAMPOO_LLMC_CUDA_H
#define KLSHAMPOO_LLMC_CUDA_H

#include "klshampoo_cuda.h"
#include "klshampoo_llmc.h"

#ifdef ENABLE_FP16
#error "klshampoo_llmc_cuda.h: there are no parameters in binary16; build llm.c with PRECISION=BF16 or PRECISION=FP32"
#endif

/* What may be chosen. Fill it with kls_llmc_cuda_options_init, then change what you want. */
typedef struct kls_llmc_cuda_options {
    kls_llmc_options model;  /* methods, rates, betas, decay, embeddings, queries and keys; model.flat.library is of no use here */
    kls_cuda_options device; /* the device, and who gives the memory; the macros for train_gpt2.cu set the device's number and the stream */
    int32_t master_weights;  /* non-zero: bf16 parameters are stepped in f32 copies that are part of the state. Default 1 */
    int32_t rounding;        /* KLS_ROUNDING_* of bf16 parameters. Default stochastic, as llm.c's own */
    uint64_t rounding_seed;  /* each tensor's own is made from it. The same on all ranks, so that their parameters stay the same */
} kls_llmc_cuda_options;

/* An optimizer of the model on the GPU. All zero before kls_llmc_cuda_create and after kls_llmc_cuda_destroy. */
typedef struct kls_llmc_cuda {
    kls_cuda *optimizer;               /* for the calls of klshampoo_cuda.h; its tensor i is KLS_GPT2_* */
    size_t offsets[KLS_GPT2_TENSORS];  /* in bytes */
} kls_llmc_cuda;

/* Fills `options` with KLS_METHOD_* `method` for the matrices, AdamW for the rest, weight decay 0.1, as kls_llmc_options_init does.
 *
 * Errors: KLS_ERROR_NULL, KLS_ERROR_UNKNOWN_VALUE. */
static inline kls_status kls_llmc_cuda_options_init(kls_llmc_cuda_options *options, int32_t method) {
    kls_status status;
    if (!options) return KLS_ERROR_NULL;
    memset(options, 0, sizeof *options);
    status = kls_llmc_options_init(&options->model, method);
    if (status == KLS_OK) status = kls_cuda_options_init(&options->device, sizeof options->device);
    options->master_weights = 1;
    options->rounding = KLS_ROUNDING_STOCHASTIC;
    options->rounding_seed = 13371337;
    return status;
}

/* Ends the optimizer; a second time is no error. The device has done its steps (cudaDeviceSynchronize). */
static inline kls_status kls_llmc_cuda_destroy(kls_llmc_cuda *cuda) {
    return cuda ? kls_cuda_destroy(&cuda->optimizer) : KLS_ERROR_NULL;
}

/* Makes the optimizer of a model with this config and `num_parameters` parameters, of 4 bytes (f32) or 2 (bf16) each, as its gradients. `options`
 * may be NULL for KL-Shampoo and the defaults. On an error `cuda` is all zero.
 *
 * Errors: KLS_ERROR_ZERO_DIM, KLS_ERROR_BUFFER_LENGTH, KLS_ERROR_UNKNOWN_VALUE as for kls_llmc_create; KLS_ERROR_FORMAT for other sizes of an
 * element; those of kls_cuda_create, of which kls_cuda_last_error(NULL) says more. */
static inline kls_status kls_llmc_cuda_create(kls_llmc_cuda *cuda, kls_gpt2_config config, size_t num_parameters, size_t element_bytes,
                                              const kls_llmc_cuda_options *options) {
    kls_flat_tensor table[KLS_GPT2_TENSORS];
    kls_tensor tensors[KLS_GPT2_TENSORS];
    kls_config groups[KLS_FLAT_GROUPS];
    kls_llmc_cuda_options defaults;
    kls_status status;
    if (!cuda) return KLS_ERROR_NULL;
    memset(cuda, 0, sizeof *cuda);
    status = kls_llmc_cuda_options_init(&defaults, KLS_METHOD_KL_SHAMPOO);
    if (status != KLS_OK) return status;
    if (!options) options = &defaults;
    if (element_bytes != 2 && element_bytes != 4) return KLS_ERROR_FORMAT;
    status = kls_llmc_table_(table, config, num_parameters, &options->model);
    if (status != KLS_OK) return status;
    kls_flat_groups_(groups, &options->model.flat);
    for (int i = 0; i < KLS_GPT2_TENSORS; i++) {
        kls_flat_set_group_(&table[i], &options->model.flat);
        cuda->offsets[i] = table[i].offset * element_bytes;
        tensors[i] = table[i].shape;
        tensors[i].name = table[i].name;
        if (element_bytes == 4) continue;
        tensors[i].param_format = tensors[i].grad_format = KLS_FORMAT_BF16;
        tensors[i].master_weights = options->master_weights;
        tensors[i].rounding = options->rounding;
        if (options->rounding == KLS_ROUNDING_STOCHASTIC) tensors[i].rounding_seed = options->rounding_seed + (uint64_t)i;
    }
    status = kls_cuda_create(&cuda->optimizer, groups, KLS_FLAT_GROUPS, tensors, KLS_GPT2_TENSORS, &options->device);
    if (status != KLS_OK) memset(cuda, 0, sizeof *cuda);
    return status;
}

/* One step of all tensors on a stream, which it does not wait for. `params` and `grads` are the two flat buffers on the device; `lr` is the
 * method's learning rate; gradients are multiplied by `grad_scale` when they are read. A tensor's layer whose gradient is not finite is left
 * alone: kls_llmc_cuda_skipped counts them.
 *
 * Errors: those of kls_cuda_step; KLS_ERROR_HANDLE before kls_llmc_cuda_create. */
static inline kls_status kls_llmc_cuda_step(kls_llmc_cuda *cuda, void *params, const void *grads, float lr, float grad_scale, void *stream) {
    void *to[KLS_GPT2_TENSORS];
    const void *from[KLS_GPT2_TENSORS];
    kls_cuda_request request;
    kls_status status;
    if (!cuda || !params || !grads) return KLS_ERROR_NULL;
    if (!cuda->optimizer) return KLS_ERROR_HANDLE;
    for (int i = 0; i < KLS_GPT2_TENSORS; i++) {
        to[i] = (char *)params + cuda->offsets[i];
        from[i] = (const char *)grads + cuda->offsets[i];
    }
    status = kls_cuda_request_init(&request, sizeof request);
    if (status != KLS_OK) return status;
    request.lr = lr;
    request.grad_scale = grad_scale;
    request.tensor_count = KLS_GPT2_TENSORS;
    request.params = to;
    request.grads = from;
    request.stream = stream;
    return kls_cuda_step(cuda->optimizer, &request);
}

/* For programs that have nothing better to do on an error: nothing for KLS_OK; otherwise a line on stderr that says what failed and why, and the end
 * of the program. */
static inline void kls_llmc_cuda_or_exit(const kls_llmc_cuda *cuda, kls_status status, const char *what) {
    const kls_cuda *optimizer = cuda ? cuda->optimizer : NULL;
    const char *text;
    if (status == KLS_OK) return;
    text = kls_cuda_last_error(optimizer);
    fprintf(stderr, "klshampoo: %s failed: %s\n", what, *text ? text : kls_status_string(status));
    exit(EXIT_FAILURE);
}

/* Saves the optimizer's state to a safetensors file, which is replaced as a whole or not at all, and waits for the stream. Save the parameters of the
 * same step with it.
 *
 * Errors: those of kls_cuda_save_file; KLS_ERROR_HANDLE before kls_llmc_cuda_create. */
static inline kls_status kls_llmc_cuda_save(kls_llmc_cuda *cuda, const char *path, void *stream) {
    if (!cuda || !path) return KLS_ERROR_NULL;
    if (!cuda->optimizer) return KLS_ERROR_HANDLE;
    return kls_cuda_save_file(cuda->optimizer, path, stream);
}

/* Loads a state that kls_llmc_cuda_save wrote, or kls_flat_save of the adapter for the CPU, for the same model and methods. With the parameters of
 * that step training goes on.
 *
 * Errors: those of kls_cuda_load_file; KLS_ERROR_HANDLE before kls_llmc_cuda_create. */
static inline kls_status kls_llmc_cuda_load(kls_llmc_cuda *cuda, const char *path, void *stream) {
    if (!cuda || !path) return KLS_ERROR_NULL;
    if (!cuda->optimizer) return KLS_ERROR_HANDLE;
    return kls_cuda_load_file(cuda->optimizer, path, stream);
}

/* Writes how often the gradient of a layer's tensor was not finite, or too large, or its update not finite, and it was left alone, since the
 * optimizer was made. Waits for the stream.
 *
 * Errors: KLS_ERROR_OUT_OF_MEMORY, those of kls_cuda_copy_headers; KLS_ERROR_HANDLE before kls_llmc_cuda_create. */
static inline kls_status kls_llmc_cuda_skipped(kls_llmc_cuda *cuda, uint64_t *skipped, void *stream) {
    kls_status status;
    size_t bytes = 0;
    void *headers;
    if (!cuda || !skipped) return KLS_ERROR_NULL;
    if (!cuda->optimizer) return KLS_ERROR_HANDLE;
    status = kls_cuda_headers_size(cuda->optimizer, &bytes);
    if (status != KLS_OK) return status;
    headers = malloc(bytes);
    if (!headers) return KLS_ERROR_OUT_OF_MEMORY;
    status = kls_cuda_copy_headers(cuda->optimizer, headers, bytes, stream);
    if (status == KLS_OK) status = kls_cuda_skipped(cuda->optimizer, headers, bytes, skipped);
    free(headers);
    return status;
}

/* The number of the device, or the end of the program where the trainer's flags do not fit: the optimizer needs whole matrices, and keeps master
 * weights itself. */
static inline int kls_llmc_cuda_device_(int zero_stage, int use_master_weights, int device) {
    if (zero_stage == 0 && !use_master_weights) return device;
    fprintf(stderr, "klshampoo: train with %s\n", zero_stage ? "-z 0: the optimizer needs whole matrices" : "-w 0: the optimizer keeps master weights");
    exit(EXIT_FAILURE);
}

/* Made, or the end of the program. */
static inline kls_llmc_cuda kls_llmc_cuda_create_or_exit(kls_gpt2_config config, size_t num_parameters, size_t element_bytes, int device,
                                                         void *stream, const kls_llmc_cuda_options *options) {
    kls_llmc_cuda_options own;
    kls_llmc_cuda cuda;
    memset(&cuda, 0, sizeof cuda);
    if (options) {
        own = *options;
    } else {
        kls_llmc_cuda_or_exit(NULL, kls_llmc_cuda_options_init(&own, KLS_METHOD_KL_SHAMPOO), "choosing KL-Shampoo");
    }
    own.device.device = device;
    own.device.stream = stream;
    kls_llmc_cuda_or_exit(NULL, kls_llmc_cuda_create(&cuda, config, num_parameters, element_bytes, &own), "creating the optimizer");
    return cuda;
}

#define KLS_LLMC_CUDA_CONFIG_(model)                                                                                                    \
    kls_gpt2_config_of((model)->config.max_seq_len, (model)->config.vocab_size, (model)->config.padded_vocab_size,                      \
                       (model)->config.num_layers, (model)->config.num_heads, (model)->config.channels)

/* For train_gpt2.cu, run with -z 0 -w 0. `model` points to its GPT2, `multi` to its MultiGpuConfig, `options` to a kls_llmc_cuda_options or is
 * NULL. */
#define KLS_LLMC_CUDA_CREATE(model, multi, stream, options)                                                                             \
    kls_llmc_cuda_create_or_exit(KLS_LLMC_CUDA_CONFIG_(model), (model)->num_parameters, (model)->param_sizeof[0],                       \
                                 kls_llmc_cuda_device_((multi)->zero_stage, (model)->use_master_weights, (multi)->local_device_idx),   \
                                 (stream), (options))
#define KLS_LLMC_CUDA_STEP(optimizer, model, lr, grad_scale, stream)                                                                    \
    kls_llmc_cuda_or_exit((optimizer),                                                                                                  \
                          kls_llmc_cuda_step((optimizer), (model)->params_memory, (model)->grads_memory, (lr), (grad_scale), (stream)), \
                          "the optimizer's step")

/* For train_gpt2_fp32.cu, which works on the legacy default stream. */
#define KLS_LLMC_CUDA_FP32_CREATE(model, device, options)                                                                               \
    kls_llmc_cuda_create_or_exit(KLS_LLMC_CUDA_CONFIG_(model), (model)->num_parameters, sizeof(float), (device), NULL, (options))
#define KLS_LLMC_CUDA_FP32_STEP(optimizer, model, lr) KLS_LLMC_CUDA_STEP((optimizer), (model), (lr), 1.0f, NULL)

#endif
