/*
 * klshampoo in llm.c's train_gpt2.cu and train_gpt2_fp32.cu: this include and two lines.
 *
 *     train_gpt2.cu, floatX bf16 or f32:
 *     kls_llmc_cuda optimizer = KLS_LLMC_CUDA_CREATE(&model, &multi_gpu_config, main_stream, NULL);     after gpt2_allocate_state
 *     KLS_LLMC_CUDA_STEP(&optimizer, &model, step_learning_rate, grad_scale, main_stream);              in place of gpt2_update
 *
 *     With -z 1 each rank has the state of what it owns (ZeRO-1): layers' tensors, rows of embeddings. Two lines more:
 *     KLS_LLMC_CUDA_REDUCE(&optimizer, model, pointers, nelem, &multi_gpu_config, main_stream);         in place of multi_gpu_async_reduce_gradient
 *     KLS_LLMC_CUDA_BROADCAST(&optimizer, &model, &multi_gpu_config, main_stream);                      after the step
 *
 *     train_gpt2_fp32.cu:
 *     kls_llmc_cuda optimizer = KLS_LLMC_CUDA_FP32_CREATE(&model, deviceIdx, NULL);                     after gpt2_build_from_checkpoint
 *     KLS_LLMC_CUDA_FP32_STEP(&optimizer, &model, learning_rate);                                       in place of gpt2_update
 *
 * They print what is wrong and end the program, as llm.c's own checks do; kls_llmc_cuda_create and kls_llmc_cuda_step are what they are made of and
 * return a kls_status. README_CUDA.md beside this file is the guide. Header only, C99 and C++ (nvcc's too); it includes nothing of CUDA and NCCL and
 * knows llm.c's types by the names of their fields alone. With MULTI_GPU it is included after llmc/zero.cuh, whose declarations it needs.
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
    int32_t ranks;           /* the model is divided among so many owners. Default 1; the macros for train_gpt2.cu set both */
    int32_t rank;            /* which of them this is, from 0 on. Default 0 */
} kls_llmc_cuda_options;

/* Neighbours in the flat buffers, in elements. */
typedef struct kls_llmc_span {
    size_t offset, count;
} kls_llmc_span;

/* A part of the model, which is owned slice by slice: a tensor with its layers; of several ranks also rows of an embedding. In elements. */
typedef struct kls_llmc_part {
    size_t offset; /* of its first slice */
    size_t slice;  /* from one to the next */
} kls_llmc_part;

enum { KLS_LLMC_MOST_PARTS = KLS_GPT2_TENSORS + 2 };

/* An optimizer of the model on the GPU, or of what a rank owns of it. All zero before kls_llmc_cuda_create and after
 * kls_llmc_cuda_destroy. */
typedef struct kls_llmc_cuda {
    kls_cuda *optimizer;                      /* for the calls of klshampoo_cuda.h */
    size_t tensor_count;                /* its tensors */
    int tensors[KLS_LLMC_MOST_PARTS];   /* the part of the model that each is of: those of which the rank owns slices */
    int rank, ranks;
    kls_cuda_memory memory;             /* what it takes on this rank */
    size_t element_bytes;
    int part_count;                     /* of one rank they are the tensors, KLS_GPT2_* */
    kls_llmc_part parts[KLS_LLMC_MOST_PARTS];
    uint64_t *first_slices;             /* who owns what, as kls_table_partition writes it */
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
    options->ranks = 1;
    return status;
}

/* What a rank owns of a part of the model: whole slices, which are neighbours. Nothing before kls_llmc_cuda_create. */
static inline kls_llmc_span kls_llmc_cuda_owned(const kls_llmc_cuda *cuda, int part, int rank) {
    kls_llmc_span span = {0, 0};
    const uint64_t *first;
    if (part < 0 || part >= cuda->part_count || rank < 0 || rank >= cuda->ranks) return span;
    first = cuda->first_slices + (size_t)part * ((size_t)cuda->ranks + 1) + (size_t)rank;
    span.offset = cuda->parts[part].offset + (size_t)first[0] * cuda->parts[part].slice;
    span.count = (size_t)(first[1] - first[0]) * cuda->parts[part].slice;
    return span;
}

/* Whether any rows of a tensor are stepped as they would be with all others: an embedding that is AdamW's, or another elementwise method's. */
static inline int kls_llmc_cuda_has_rows_(const kls_gpt2_tensor *t, const kls_tensor *shape, const kls_config *adamw) {
    return t->kind == KLS_GPT2_EMBEDDING && shape->group >= KLS_FLAT_GROUP_ADAMW && adamw->estimator == KLS_ESTIMATOR_NONE &&
           adamw->graft == KLS_GRAFT_NONE && adamw->rms_cap == 0;
}

/* Groups, and the parts of the whole model as tensors. */
static inline kls_status kls_llmc_cuda_table_(kls_llmc_cuda *cuda, kls_config groups[KLS_FLAT_GROUPS], kls_tensor tensors[KLS_LLMC_MOST_PARTS],
                                              kls_gpt2_config config, size_t num_parameters, size_t element_bytes,
                                              const kls_llmc_cuda_options *options) {
    kls_flat_tensor table[KLS_GPT2_TENSORS];
    kls_gpt2_tensor model[KLS_GPT2_TENSORS];
    kls_status status;
    if (element_bytes != 2 && element_bytes != 4) return KLS_ERROR_FORMAT;
    status = kls_llmc_table_(table, config, num_parameters, &options->model);
    if (status != KLS_OK) return status;
    if (options->ranks < 1) return KLS_ERROR_RANKS;
    if (options->rank < 0 || options->rank >= options->ranks) return KLS_ERROR_INDEX;
    kls_gpt2_table(model, config);
    kls_flat_groups_(groups, &options->model.flat);
    cuda->rank = options->rank;
    cuda->ranks = options->ranks;
    cuda->element_bytes = element_bytes;
    for (int i = 0; i < KLS_GPT2_TENSORS; i++) {
        const uint64_t rows = table[i].shape.dims[0];
        /* Some blocks of rows for each rank divide well; what they leave is a part of its own. */
        const uint64_t block = rows / (8 * (uint64_t)options->ranks) > 0 ? rows / (8 * (uint64_t)options->ranks) : 1;
        kls_tensor *tensor = &tensors[cuda->part_count];
        kls_llmc_part *part = &cuda->parts[cuda->part_count++];
        kls_flat_set_group_(&table[i], &options->model.flat);
        *tensor = table[i].shape;
        tensor->name = table[i].name;
        part->offset = model[i].offset;
        part->slice = model[i].rows * model[i].columns;
        if (element_bytes == 2) {
            tensor->param_format = tensor->grad_format = KLS_FORMAT_BF16;
            tensor->master_weights = options->master_weights;
            tensor->rounding = options->rounding;
            if (options->rounding == KLS_ROUNDING_STOCHASTIC) tensor->rounding_seed = options->rounding_seed + (uint64_t)i;
        }
        if (options->ranks == 1 || !kls_llmc_cuda_has_rows_(&model[i], tensor, &options->model.flat.adamw)) continue;
        tensor->dims[0] = block;
        tensor->slices = rows / block;
        part->slice = (size_t)block * model[i].columns;
        if (rows % block == 0) continue;
        tensor[1] = *tensor;
        tensor[1].name = i == KLS_GPT2_WTE ? "wte_rest" : "wpe_rest";
        tensor[1].dims[0] = rows % block;
        tensor[1].slices = 1;
        part[1].offset = part->offset + (size_t)tensor->slices * part->slice;
        part[1].slice = (size_t)(rows % block) * model[i].columns;
        cuda->part_count++;
    }
    return KLS_OK;
}

/* Divides the model among the ranks, and leaves the rank's own part in `tensors`. */
static inline kls_status kls_llmc_cuda_plan_(kls_llmc_cuda *cuda, kls_config groups[KLS_FLAT_GROUPS], kls_tensor tensors[KLS_LLMC_MOST_PARTS],
                                             kls_gpt2_config config, size_t num_parameters, size_t element_bytes,
                                             const kls_llmc_cuda_options *options) {
    kls_status status = kls_llmc_cuda_table_(cuda, groups, tensors, config, num_parameters, element_bytes, options);
    size_t row;
    if (status != KLS_OK) return status;
    row = (size_t)cuda->ranks + 1;
    cuda->first_slices = (uint64_t *)calloc((size_t)cuda->part_count * row, sizeof *cuda->first_slices);
    if (!cuda->first_slices) return KLS_ERROR_OUT_OF_MEMORY;
    status = kls_table_partition(groups, KLS_FLAT_GROUPS, tensors, (size_t)cuda->part_count, (uint32_t)cuda->ranks, cuda->first_slices,
                                 (size_t)cuda->part_count * row, NULL);
    if (status != KLS_OK) return status;
    for (int i = 0; i < cuda->part_count; i++) {
        const uint64_t *first = cuda->first_slices + (size_t)i * row + (size_t)cuda->rank;
        kls_tensor *own = &tensors[cuda->tensor_count];
        if (first[0] == first[1]) continue;
        *own = tensors[i];
        own->slices = first[1] - first[0];
        /* No two ranks make the same choices. */
        if (own->rounding == KLS_ROUNDING_STOCHASTIC && cuda->ranks > 1) own->rounding_seed += ((uint64_t)i + 1) * 4096 + (first[0] << 32);
        cuda->tensors[cuda->tensor_count++] = i;
    }
    return kls_cuda_query(groups, KLS_FLAT_GROUPS, tensors, cuda->tensor_count, &options->device, &cuda->memory, sizeof cuda->memory);
}

/* Says how much device memory kls_llmc_cuda_create takes with the same arguments, of the rank that the options name. Needs no device.
 *
 * Errors: as for kls_llmc_cuda_create as far as they are found without a device; `memory` is then untouched. */
static inline kls_status kls_llmc_cuda_query(kls_cuda_memory *memory, kls_gpt2_config config, size_t num_parameters, size_t element_bytes,
                                             const kls_llmc_cuda_options *options) {
    kls_tensor tensors[KLS_LLMC_MOST_PARTS];
    kls_config groups[KLS_FLAT_GROUPS];
    kls_llmc_cuda_options defaults;
    kls_llmc_cuda cuda;
    kls_status status;
    if (!memory) return KLS_ERROR_NULL;
    memset(&cuda, 0, sizeof cuda);
    status = kls_llmc_cuda_options_init(&defaults, KLS_METHOD_KL_SHAMPOO);
    if (status == KLS_OK)
        status = kls_llmc_cuda_plan_(&cuda, groups, tensors, config, num_parameters, element_bytes, options ? options : &defaults);
    free(cuda.first_slices);
    if (status == KLS_OK) *memory = cuda.memory;
    return status;
}

/* Ends the optimizer; a second time is no error. The device has done its steps (cudaDeviceSynchronize). */
static inline kls_status kls_llmc_cuda_destroy(kls_llmc_cuda *cuda) {
    kls_status status;
    if (!cuda) return KLS_ERROR_NULL;
    status = kls_cuda_destroy(&cuda->optimizer);
    free(cuda->first_slices);
    memset(cuda, 0, sizeof *cuda);
    return status;
}

/* Makes the optimizer of a model with this config and `num_parameters` parameters, of 4 bytes (f32) or 2 (bf16) each, as its gradients; of several
 * ranks, of what this one owns. `options` may be NULL for KL-Shampoo and the defaults. On an error `cuda` is all zero.
 *
 * Errors: KLS_ERROR_ZERO_DIM, KLS_ERROR_BUFFER_LENGTH, KLS_ERROR_UNKNOWN_VALUE as for kls_llmc_create; KLS_ERROR_FORMAT for other sizes of an
 * element; KLS_ERROR_RANKS for less than one rank, KLS_ERROR_INDEX for a rank that there is not; KLS_ERROR_OUT_OF_MEMORY; those of kls_cuda_create, of
 * which kls_cuda_last_error(NULL) says more. */
static inline kls_status kls_llmc_cuda_create(kls_llmc_cuda *cuda, kls_gpt2_config config, size_t num_parameters, size_t element_bytes,
                                              const kls_llmc_cuda_options *options) {
    kls_tensor tensors[KLS_LLMC_MOST_PARTS];
    kls_config groups[KLS_FLAT_GROUPS];
    kls_llmc_cuda_options defaults;
    kls_status status;
    if (!cuda) return KLS_ERROR_NULL;
    memset(cuda, 0, sizeof *cuda);
    status = kls_llmc_cuda_options_init(&defaults, KLS_METHOD_KL_SHAMPOO);
    if (status != KLS_OK) return status;
    if (!options) options = &defaults;
    status = kls_llmc_cuda_plan_(cuda, groups, tensors, config, num_parameters, element_bytes, options);
    if (status == KLS_OK)
        status = kls_cuda_create(&cuda->optimizer, groups, KLS_FLAT_GROUPS, tensors, cuda->tensor_count, &options->device);
    if (status == KLS_OK) return KLS_OK;
    free(cuda->first_slices);
    memset(cuda, 0, sizeof *cuda);
    return status;
}

/* One step on a stream, which it does not wait for, of all tensors, or of several ranks of what this one owns. `params` and `grads` are the two flat
 * buffers on the device; of the gradients only what the rank owns is read. `lr` is the method's learning rate; gradients are multiplied by
 * `grad_scale` when they are read. A tensor's layer whose gradient is not finite is left alone: kls_llmc_cuda_skipped counts them.
 *
 * Errors: those of kls_cuda_step; KLS_ERROR_HANDLE before kls_llmc_cuda_create. */
static inline kls_status kls_llmc_cuda_step(kls_llmc_cuda *cuda, void *params, const void *grads, float lr, float grad_scale, void *stream) {
    void *to[KLS_LLMC_MOST_PARTS];
    const void *from[KLS_LLMC_MOST_PARTS];
    kls_cuda_request request;
    kls_status status;
    if (!cuda || !params || !grads) return KLS_ERROR_NULL;
    if (!cuda->optimizer) return KLS_ERROR_HANDLE;
    for (size_t i = 0; i < cuda->tensor_count; i++) {
        const size_t offset = kls_llmc_cuda_owned(cuda, cuda->tensors[i], cuda->rank).offset * cuda->element_bytes;
        to[i] = (char *)params + offset;
        from[i] = (const char *)grads + offset;
    }
    status = kls_cuda_request_init(&request, sizeof request);
    if (status != KLS_OK) return status;
    request.lr = lr;
    request.grad_scale = grad_scale;
    request.tensor_count = cuda->tensor_count;
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
 * optimizer was made: of those that the rank owns. Waits for the stream.
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
    headers = malloc(bytes + 1); /* a rank may own nothing */
    if (!headers) return KLS_ERROR_OUT_OF_MEMORY;
    status = kls_cuda_copy_headers(cuda->optimizer, headers, bytes, stream);
    if (status == KLS_OK) status = kls_cuda_skipped(cuda->optimizer, headers, bytes, skipped);
    free(headers);
    return status;
}

/* Writes the name of a checkpoint's file: `<folder>/optimizer_<step>.safetensors`, of several ranks
 * `<folder>/optimizer_<step>_<rank>_of_<ranks>.safetensors`. Returns 0, or -1 where `size` is too short for it. */
static inline int kls_llmc_cuda_path(const kls_llmc_cuda *cuda, char *path, size_t size, const char *folder, int step) {
    const int length = cuda->ranks > 1
        ? snprintf(path, size, "%s/optimizer_%08d_%05d_of_%05d.safetensors", folder, step, cuda->rank, cuda->ranks)
        : snprintf(path, size, "%s/optimizer_%08d.safetensors", folder, step);
    return length >= 0 && (size_t)length < size ? 0 : -1;
}

/* Saves to that file, or ends the program. Of several ranks each has its own file. */
static inline void kls_llmc_cuda_save_or_exit(kls_llmc_cuda *cuda, const char *folder, int step, void *stream) {
    char path[4096];
    const int fits = kls_llmc_cuda_path(cuda, path, sizeof path, folder, step) == 0;
    kls_llmc_cuda_or_exit(cuda, fits ? kls_llmc_cuda_save(cuda, path, stream) : KLS_ERROR_FILE_NOT_FOUND, "saving the optimizer's state");
}

/* Loads from that file, or ends the program: also where it was saved by another number of ranks, each of which had other layers. */
static inline void kls_llmc_cuda_load_or_exit(kls_llmc_cuda *cuda, const char *folder, int step, void *stream) {
    char path[4096];
    const int fits = kls_llmc_cuda_path(cuda, path, sizeof path, folder, step) == 0;
    const kls_status status = fits ? kls_llmc_cuda_load(cuda, path, stream) : KLS_ERROR_FILE_NOT_FOUND;
    if (status == KLS_ERROR_FILE_NOT_FOUND) {
        fprintf(stderr, "klshampoo: there is no %s: resume with the -z and the number of processes that the checkpoint was saved with\n", path);
        exit(EXIT_FAILURE);
    }
    kls_llmc_cuda_or_exit(cuda, status, "loading the optimizer's state");
}

/* The number of the device, or the end of the program where the trainer's flags do not fit: the optimizer keeps master weights itself. */
static inline int kls_llmc_cuda_device_(int zero_stage, int use_master_weights, int device) {
    if (zero_stage >= 0 && zero_stage <= 1 && !use_master_weights) return device;
    fprintf(stderr, "klshampoo: train with %s\n", use_master_weights ? "-w 0: the optimizer keeps master weights" : "-z 0 or -z 1");
    exit(EXIT_FAILURE);
}

/* Made, or the end of the program. */
static inline kls_llmc_cuda kls_llmc_cuda_create_or_exit(kls_gpt2_config config, size_t num_parameters, size_t element_bytes, int device, int rank,
                                                         int ranks, void *stream, const kls_llmc_cuda_options *options) {
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
    own.rank = rank;
    own.ranks = ranks;
    kls_llmc_cuda_or_exit(NULL, kls_llmc_cuda_create(&cuda, config, num_parameters, element_bytes, &own), "creating the optimizer");
    return cuda;
}

#define KLS_LLMC_CUDA_CONFIG_(model)                                                                                                    \
    kls_gpt2_config_of((model)->config.max_seq_len, (model)->config.vocab_size, (model)->config.padded_vocab_size,                      \
                       (model)->config.num_layers, (model)->config.num_heads, (model)->config.channels)

/* For train_gpt2.cu, run with -w 0. `model` points to its GPT2, `multi` to its MultiGpuConfig, `options` to a kls_llmc_cuda_options or is NULL. With
 * -z 0 every rank has all, and with -z 1 what it owns. */
#define KLS_LLMC_CUDA_CREATE(model, multi, stream, options)                                                                             \
    kls_llmc_cuda_create_or_exit(KLS_LLMC_CUDA_CONFIG_(model), (model)->num_parameters, (model)->param_sizeof[0],                       \
                                 kls_llmc_cuda_device_((multi)->zero_stage, (model)->use_master_weights, (multi)->local_device_idx),   \
                                 (multi)->zero_stage == 1 ? (multi)->process_rank : 0,                                                  \
                                 (multi)->zero_stage == 1 ? (multi)->num_processes : 1, (stream), (options))
#define KLS_LLMC_CUDA_STEP(optimizer, model, lr, grad_scale, stream)                                                                    \
    kls_llmc_cuda_or_exit((optimizer),                                                                                                  \
                          kls_llmc_cuda_step((optimizer), (model)->params_memory, (model)->grads_memory, (lr), (grad_scale), (stream)), \
                          "the optimizer's step")

#ifdef MULTI_GPU
/* What is queued on `later` from now on comes after what is on `earlier`. */
static inline void kls_llmc_cuda_order_(MultiGpuConfig *multi, cudaStream_t earlier, cudaStream_t later) {
    cudaCheck(cudaEventRecord(multi->compute_nccl_sync, earlier));
    cudaCheck(cudaStreamWaitEvent(later, multi->compute_nccl_sync, 0));
}

/* The mean of a gradient over the ranks: to the owners alone, each what it owns. Nobody needs what no one owns, the rows of padding. */
static inline void kls_llmc_cuda_reduce_(const kls_llmc_cuda *cuda, void *grads, const void *gradient, size_t count, MultiGpuConfig *multi) {
    const size_t start = (size_t)((const char *)gradient - (const char *)grads) / cuda->element_bytes, end = start + count;
    for (int part = 0; part < cuda->part_count; part++) {
        for (int rank = 0; rank < cuda->ranks; rank++) {
            const kls_llmc_span span = kls_llmc_cuda_owned(cuda, part, rank);
            const size_t from = span.offset > start ? span.offset : start;
            const size_t to = span.offset + span.count < end ? span.offset + span.count : end;
            void *const at = (char *)grads + from * cuda->element_bytes;
            if (from >= to) continue;
            ncclCheck(ncclReduce(at, at, to - from, ncclFloatX, ncclAvg, rank, multi->nccl_comm, multi->nccl_stream));
        }
    }
}

/* The parameters from their owners to all ranks. `stream` goes on when they are there. */
static inline void kls_llmc_cuda_broadcast_(const kls_llmc_cuda *cuda, void *params, MultiGpuConfig *multi, cudaStream_t stream) {
    if (cuda->ranks < 2) return;
    kls_llmc_cuda_order_(multi, stream, multi->nccl_stream);
    ncclCheck(ncclGroupStart());
    for (int part = 0; part < cuda->part_count; part++) {
        for (int rank = 0; rank < cuda->ranks; rank++) {
            const kls_llmc_span span = kls_llmc_cuda_owned(cuda, part, rank);
            void *const at = (char *)params + span.offset * cuda->element_bytes;
            if (span.count == 0) continue;
            ncclCheck(ncclBroadcast(at, at, span.count, ncclFloatX, rank, multi->nccl_comm, multi->nccl_stream));
        }
    }
    ncclCheck(ncclGroupEnd());
    kls_llmc_cuda_order_(multi, multi->nccl_stream, stream);
}

/* In place of multi_gpu_async_reduce_gradient(pointers, elements, multi, stream), which is what it is with -z 0: `pointers` and `elements` are arrays of
 * the places and lengths of gradients. */
#define KLS_LLMC_CUDA_REDUCE(optimizer, model, pointers, elements, multi, stream)                                                       \
    do {                                                                                                                                \
        if ((optimizer)->ranks < 2) {                                                                                                   \
            multi_gpu_async_reduce_gradient((pointers), (elements), (multi), (stream));                                                 \
            break;                                                                                                                      \
        }                                                                                                                               \
        kls_llmc_cuda_order_((multi), (stream), (multi)->nccl_stream);                                                                  \
        ncclCheck(ncclGroupStart());                                                                                                    \
        for (size_t kls_i_ = 0; kls_i_ < sizeof(pointers) / sizeof(pointers)[0]; kls_i_++)                                              \
            kls_llmc_cuda_reduce_((optimizer), (model)->grads_memory, (pointers)[kls_i_], (elements)[kls_i_], (multi));                 \
        ncclCheck(ncclGroupEnd());                                                                                                      \
    } while (0)
#define KLS_LLMC_CUDA_BROADCAST(optimizer, model, multi, stream)                                                                        \
    kls_llmc_cuda_broadcast_((optimizer), (model)->params_memory, (multi), (stream))
#else
#define KLS_LLMC_CUDA_REDUCE(optimizer, model, pointers, elements, multi, stream)                                                       \
    multi_gpu_async_reduce_gradient((pointers), (elements), (multi), (stream))
#define KLS_LLMC_CUDA_BROADCAST(optimizer, model, multi, stream) ((void)0)
#endif

/* For train_gpt2_fp32.cu, which works on the legacy default stream. */
#define KLS_LLMC_CUDA_FP32_CREATE(model, device, options)                                                                               \
    kls_llmc_cuda_create_or_exit(KLS_LLMC_CUDA_CONFIG_(model), (model)->num_parameters, sizeof(float), (device), 0, 1, NULL, (options))
#define KLS_LLMC_CUDA_FP32_STEP(optimizer, model, lr) KLS_LLMC_CUDA_STEP((optimizer), (model), (lr), 1.0f, NULL)

#endif
