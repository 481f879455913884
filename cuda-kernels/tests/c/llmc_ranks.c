/* The adapter for llm.c with -z 1: several ranks in one process and one thread, over what stands in for NCCL and the CUDA runtime. */
#define MULTI_GPU
#include "check.h"
#include "device.h"
#include <math.h>

typedef void *cudaStream_t;
struct rank_event {
    cudaStream_t recorded;
};
typedef struct rank_event *cudaEvent_t;
typedef struct rank_calls *ncclComm_t;
typedef enum { ncclFloat, ncclBfloat16 } ncclDataType_t;
enum { ncclAvg };

/* train_gpt2.cu's. */
typedef struct {
    int process_rank, num_processes, local_device_idx, zero_stage;
    ncclComm_t nccl_comm;
    cudaStream_t nccl_stream;
    cudaEvent_t compute_nccl_sync;
} MultiGpuConfig;

static ncclDataType_t ncclFloatX;

#define cudaCheck(call) must((call), #call)
#define ncclCheck(call) must((call), #call)

static void must(int ok, const char *what) {
    if (ok) return;
    fprintf(stderr, "%s\n", what);
    exit(2);
}

enum { MOST_CALLS = 1024, MOST_ORDER = 64 };

/* What a rank has asked for and not yet got: a reduction or a broadcast. */
typedef struct {
    int reduces, root;
    void *at;
    size_t count;
} rank_call;

/* Of a rank: its calls in a group, and in which order it used streams, events and groups. */
struct rank_calls {
    rank_call calls[MOST_CALLS];
    size_t count;
    int open;
    cudaStream_t main;
    char order[MOST_ORDER + 1];
};

static struct rank_calls *current;

static void note(char what) {
    const size_t length = strlen(current->order);
    must(length < MOST_ORDER, "fewer calls");
    current->order[length] = what;
    current->order[length + 1] = 0;
}

static int cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
    event->recorded = stream;
    return 1;
}

/* M: the main stream waits for the other one; N: the other way round. */
static int cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags) {
    note(event->recorded == stream ? '?' : stream == current->main ? 'M' : 'N');
    return flags == 0;
}

static int ncclGroupStart(void) {
    note('(');
    return !current->open++;
}

static int ncclGroupEnd(void) {
    note(')');
    return --current->open == 0;
}

static int asked(struct rank_calls *rank, int reduces, void *at, size_t count, int root, cudaStream_t stream) {
    const rank_call call = {reduces, root, at, count};
    must(rank == current && rank->open == 1 && stream != rank->main && rank->count < MOST_CALLS, "a call of NCCL");
    rank->calls[rank->count++] = call;
    return 1;
}

static int ncclReduce(const void *from, void *to, size_t count, ncclDataType_t type, int operation, int root, ncclComm_t comm, cudaStream_t stream) {
    must(from == to && type == ncclFloatX && operation == ncclAvg, "ncclReduce");
    return asked(comm, 1, to, count, root, stream);
}

static int ncclBroadcast(const void *from, void *to, size_t count, ncclDataType_t type, int root, ncclComm_t comm, cudaStream_t stream) {
    must(from == to && type == ncclFloatX, "ncclBroadcast");
    return asked(comm, 0, to, count, root, stream);
}

#include "klshampoo_llmc_cuda.h"
#include "llmc_types.h"

enum { T = 6, V = 10, VP = 16, L = 2, C = 8, MOST = 4096, STEPS = 5, GRADIENTS = 2 + 12 * L + 2, SLICES = V + T + 12 * L + 2, MOST_RANKS = SLICES + 3 };

static size_t all_reduced;

/* llm.c's own, which is not for several owners. */
#define multi_gpu_async_reduce_gradient(pointers, elements, multi, stream) \
    (all_reduced += sizeof(pointers) / sizeof(pointers)[0] + 0 * ((elements)[0] + (size_t)(multi)->num_processes + (size_t)((stream) == NULL)))

static float from_bf16(uint16_t x) {
    const uint32_t bits = (uint32_t)x << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static uint16_t to_bf16(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

static size_t element(void) { return ncclFloatX == ncclFloat ? sizeof(float) : sizeof(uint16_t); }

static float get(const void *values, size_t i) {
    return ncclFloatX == ncclFloat ? ((const float *)values)[i] : from_bf16(((const uint16_t *)values)[i]);
}

static void set(void *values, size_t i, float x) {
    if (ncclFloatX == ncclFloat) ((float *)values)[i] = x;
    else ((uint16_t *)values)[i] = to_bf16(x);
}

/* All ranks have asked: for the same, as NCCL wants it. Other ranks than the owner have nothing of use in a reduction's memory afterwards. */
static const char *exchange(struct rank_calls *ranks, int count) {
    static float sum[MOST], own[MOST];
    static uint16_t garbage[MOST * 2];
    memset(garbage, 0x7f, sizeof garbage);
    for (size_t i = 0; i < ranks[0].count; i++) {
        const rank_call *call = &ranks[0].calls[i];
        const size_t bytes = call->count * element();
        CHECK(call->count > 0 && call->count <= MOST && call->root >= 0 && call->root < count);
        for (int r = 0; r < count; r++) {
            const rank_call *other = &ranks[r].calls[i];
            CHECK(ranks[r].count == ranks[0].count && ranks[r].open == 0);
            CHECK(other->reduces == call->reduces && other->root == call->root && other->count == call->count);
        }
        if (call->reduces) {
            for (int r = 0; r < count; r++) {
                to_host(own, ranks[r].calls[i].at, bytes);
                for (size_t e = 0; e < call->count; e++) sum[e] = (r ? sum[e] : 0) + get(own, e);
                if (r != call->root) to_device(ranks[r].calls[i].at, garbage, bytes);
            }
            for (size_t e = 0; e < call->count; e++) set(own, e, sum[e] / (float)count);
            to_device(ranks[call->root].calls[i].at, own, bytes);
        } else {
            to_host(own, ranks[call->root].calls[i].at, bytes);
            for (int r = 0; r < count; r++) to_device(ranks[r].calls[i].at, own, bytes);
        }
    }
    for (int r = 0; r < count; r++) ranks[r].count = 0;
    return NULL;
}

/* A rank's gradients in a step; padding has none. */
static void fill_gradients(void *grads, size_t n, uint32_t step, uint32_t rank) {
    uint32_t state = 99u + step + 1000u * rank;
    for (size_t i = 0; i < n; i++) {
        state = state * 1664525u + 1013904223u;
        set(grads, i, i >= V * C && i < VP * C ? 0 : ((float)(state >> 8) / 16777216.0f - 0.5f) * 0.02f);
    }
}

/* The calls at the end of gpt2_backward_and_reduce. */
static void backward_and_reduce(kls_llmc_cuda *optimizer, GPT2 *model, const kls_gpt2_tensor *table, MultiGpuConfig *multi, cudaStream_t main_stream) {
#define AT(t, l) ((char *)model->grads_memory + (table[t].offset + (size_t)(l) * table[t].rows * table[t].columns) * element())
    for (int l = L - 1; l >= 0; l--) {
        void *const pointers[] = {AT(KLS_GPT2_LN1W, l),     AT(KLS_GPT2_LN1B, l), AT(KLS_GPT2_QKVW, l), AT(KLS_GPT2_QKVB, l),
                                  AT(KLS_GPT2_ATTPROJW, l), AT(KLS_GPT2_ATTPROJB, l), AT(KLS_GPT2_LN2W, l), AT(KLS_GPT2_LN2B, l),
                                  AT(KLS_GPT2_FCW, l),      AT(KLS_GPT2_FCB, l),  AT(KLS_GPT2_FCPROJW, l), AT(KLS_GPT2_FCPROJB, l)};
        const size_t nelem[] = {C, C, 3 * C * C, 3 * C, C * C, C, C, C, 4 * C * C, 4 * C, C * 4 * C, C};
        KLS_LLMC_CUDA_REDUCE(optimizer, model, pointers, nelem, multi, main_stream);
    }
    {
        void *const pointers[] = {AT(KLS_GPT2_WTE, 0), AT(KLS_GPT2_WPE, 0), AT(KLS_GPT2_LNFW, 0), AT(KLS_GPT2_LNFB, 0)};
        const size_t nelem[] = {VP * C, T * C, C, C};
        KLS_LLMC_CUDA_REDUCE(optimizer, model, pointers, nelem, multi, main_stream);
    }
#undef AT
}

static const char *options_of(kls_llmc_cuda_options *options) {
    EXPECT(KLS_OK, kls_llmc_cuda_options_init(options, KLS_METHOD_KL_SHAMPOO));
    options->model.flat.method.refresh_period = 3;
    options->model.flat.method.stagger = 0;
    options->rounding = ncclFloatX == ncclFloat ? options->rounding : KLS_ROUNDING_NEAREST;
    return NULL;
}

/* A model on a device. */
static GPT2 model_of(const void *params, size_t n) {
    const GPT2Config config = {T, V, VP, L, 2, C};
    GPT2 model;
    memset(&model, 0, sizeof model);
    model.config = config;
    model.num_parameters = n;
    for (int i = 0; i < 16; i++) model.param_sizeof[i] = element();
    model.params_memory = device_copy_of(params, n * element());
    model.grads_memory = device_alloc(n * element());
    return model;
}

/* The run of -z 0, with the mean of the gradients of so many ranks. */
static const char *whole_run(void *params, size_t n, int ranks, void *main_stream) {
    static float sum[MOST], grads[MOST];
    kls_llmc_cuda_options options;
    MultiGpuConfig multi = {3, 7, 0, 0, NULL, NULL, NULL};
    kls_llmc_cuda optimizer;
    GPT2 model = model_of(params, n);
    TRY(options_of(&options));
    optimizer = KLS_LLMC_CUDA_CREATE(&model, &multi, main_stream, &options);
    CHECK(optimizer.ranks == 1 && optimizer.rank == 0 && optimizer.tensor_count == KLS_GPT2_TENSORS && optimizer.memory.total_bytes > 0);
    for (uint32_t step = 0; step < STEPS; step++) {
        for (int r = 0; r < ranks; r++) {
            fill_gradients(grads, n, step, (uint32_t)r);
            for (size_t i = 0; i < n; i++) sum[i] = (r ? sum[i] : 0) + get(grads, i);
        }
        for (size_t i = 0; i < n; i++) set(grads, i, sum[i] / (float)ranks);
        to_device(model.grads_memory, grads, n * element());
        KLS_LLMC_CUDA_STEP(&optimizer, &model, 0.01f, 0.5f, main_stream);
        KLS_LLMC_CUDA_BROADCAST(&optimizer, &model, &multi, main_stream);
    }
    to_host(params, model.params_memory, n * element());
    EXPECT(KLS_OK, kls_llmc_cuda_destroy(&optimizer));
    device_free(model.params_memory);
    device_free(model.grads_memory);
    return NULL;
}

/* Every element is in one of so many spans, but for padding, which is in none. */
static const char *is_covered_once(const unsigned char *covered, size_t n) {
    for (size_t i = 0; i < n; i++) CHECK(covered[i] == (i >= V * C && i < VP * C ? 0 : 1));
    return NULL;
}

/* What is owned. A layer's tensor is whole. */
static const char *all_is_owned_once(const kls_llmc_cuda *optimizer, const kls_gpt2_tensor *table, size_t n) {
    unsigned char covered[MOST] = {0};
    for (int part = 0; part < optimizer->part_count; part++) {
        for (int r = 0; r < optimizer->ranks; r++) {
            const kls_llmc_span span = kls_llmc_cuda_owned(optimizer, part, r);
            CHECK(span.count % optimizer->parts[part].slice == 0);
            for (size_t i = 0; i < span.count; i++) covered[span.offset + i]++;
        }
        CHECK(kls_llmc_cuda_owned(optimizer, part, -1).count == 0 && kls_llmc_cuda_owned(optimizer, part, optimizer->ranks).count == 0);
        for (int t = 0; t < KLS_GPT2_TENSORS; t++) {
            if (table[t].offset != optimizer->parts[part].offset || table[t].kind == KLS_GPT2_EMBEDDING) continue;
            CHECK(optimizer->parts[part].slice == table[t].rows * table[t].columns);
        }
    }
    CHECK(kls_llmc_cuda_owned(optimizer, -1, 0).count == 0 && kls_llmc_cuda_owned(optimizer, optimizer->part_count, 0).count == 0);
    if (optimizer->ranks == 1) memset(covered + V * C, 0, (VP - V) * C);
    return is_covered_once(covered, n);
}

/* What a rank has asked for. */
static const char *all_is_asked_for_once(const struct rank_calls *rank, const void *memory, size_t n) {
    unsigned char covered[MOST] = {0};
    for (size_t c = 0; c < rank->count; c++) {
        const size_t start = (size_t)((char *)rank->calls[c].at - (const char *)memory) / element();
        for (size_t i = 0; i < rank->calls[c].count; i++) covered[start + i]++;
    }
    return is_covered_once(covered, n);
}

/* Saved in the middle, and gone on with in new optimizers: each from the file of its rank, and from no other's. */
static const char *resume(kls_llmc_cuda *optimizers, GPT2 *models, MultiGpuConfig *multis, int ranks, void *main_stream) {
    const char *folder = getenv("KLS_TEST_FOLDER");
    kls_llmc_cuda_options options;
    char path[512], other[512];
    CHECK(folder != NULL);
    TRY(options_of(&options));
    for (int r = 0; r < ranks; r++) kls_llmc_cuda_save_or_exit(&optimizers[r], folder, 3, main_stream);
    for (int r = 0; r < ranks; r++) {
        CHECK(kls_llmc_cuda_path(&optimizers[r], path, sizeof path, folder, 3) == 0);
        if (ranks == 1) snprintf(other, sizeof other, "%s/optimizer_00000003.safetensors", folder);
        else snprintf(other, sizeof other, "%s/optimizer_00000003_%05d_of_%05d.safetensors", folder, r, ranks);
        CHECK(strcmp(path, other) == 0 && kls_llmc_cuda_path(&optimizers[r], path, strlen(other), folder, 3) == -1);
        EXPECT(KLS_OK, kls_llmc_cuda_destroy(&optimizers[r]));
        CHECK(optimizers[r].first_slices == NULL && optimizers[r].ranks == 0);
        optimizers[r] = KLS_LLMC_CUDA_CREATE(&models[r], &multis[r], main_stream, &options);
        kls_llmc_cuda_load_or_exit(&optimizers[r], folder, 3, main_stream);
        CHECK(remove(other) == 0);
        EXPECT(KLS_ERROR_FILE_NOT_FOUND, kls_llmc_cuda_load(&optimizers[r], other, main_stream));
    }
    return NULL;
}

static const char *divided_run(const void *start, const void *wanted, const kls_gpt2_tensor *table, size_t n, int ranks, void *main_stream) {
    static struct rank_calls calls[MOST_RANKS];
    static unsigned char params[MOST * sizeof(float)], grads[MOST * sizeof(float)];
    kls_llmc_cuda optimizers[MOST_RANKS];
    MultiGpuConfig multis[MOST_RANKS];
    GPT2 models[MOST_RANKS];
    struct rank_event events[MOST_RANKS];
    void *nccl_stream = device_stream();
    kls_llmc_cuda_options options;
    uint64_t skipped = 7;
    size_t tensors = 0;
    TRY(options_of(&options));
    memset(calls, 0, sizeof calls);
    all_reduced = 0;
    for (int r = 0; r < ranks; r++) {
        const MultiGpuConfig multi = {r, ranks, 0, 1, &calls[r], nccl_stream, &events[r]};
        multis[r] = multi;
        calls[r].main = main_stream;
        models[r] = model_of(start, n);
        optimizers[r] = KLS_LLMC_CUDA_CREATE(&models[r], &multis[r], main_stream, &options);
        CHECK(optimizers[r].rank == r && optimizers[r].ranks == ranks);
        tensors += optimizers[r].tensor_count;
        TRY(all_is_owned_once(&optimizers[r], table, n));
        CHECK(memcmp(optimizers[r].first_slices, optimizers[0].first_slices, (size_t)optimizers[0].part_count * ((size_t)ranks + 1) * sizeof(uint64_t)) == 0);
    }
    CHECK(tensors >= KLS_GPT2_TENSORS && tensors <= SLICES);
    for (uint32_t step = 0; step < STEPS; step++) {
        for (int r = 0; r < ranks; r++) {
            current = &calls[r];
            current->order[0] = 0;
            fill_gradients(grads, n, step, (uint32_t)r);
            to_device(models[r].grads_memory, grads, n * element());
            backward_and_reduce(&optimizers[r], &models[r], table, &multis[r], main_stream);
            CHECK(strcmp(current->order, ranks == 1 ? "" : "N()N()N()") == 0);
            if (ranks > 1) TRY(all_is_asked_for_once(current, models[r].grads_memory, n));
        }
        TRY(exchange(calls, ranks));
        for (int r = 0; r < ranks; r++) {
            current = &calls[r];
            current->order[0] = 0;
            KLS_LLMC_CUDA_STEP(&optimizers[r], &models[r], 0.01f, 0.5f, main_stream);
            KLS_LLMC_CUDA_BROADCAST(&optimizers[r], &models[r], &multis[r], main_stream);
            CHECK(strcmp(current->order, ranks == 1 ? "" : "N()M") == 0);
            if (ranks > 1) TRY(all_is_asked_for_once(current, models[r].params_memory, n));
        }
        TRY(exchange(calls, ranks));
        if (step == 3) TRY(resume(optimizers, models, multis, ranks, main_stream));
    }
    CHECK(all_reduced == (ranks == 1 ? (size_t)STEPS * GRADIENTS : 0));
    for (int r = 0; r < ranks; r++) {
        to_host(params, models[r].params_memory, n * element());
        CHECK(memcmp(params, wanted, n * element()) == 0);
        EXPECT(KLS_OK, kls_llmc_cuda_skipped(&optimizers[r], &skipped, main_stream));
        CHECK(skipped == 0);
        EXPECT(KLS_OK, kls_llmc_cuda_destroy(&optimizers[r]));
        device_free(models[r].params_memory);
        device_free(models[r].grads_memory);
    }
    device_stream_destroy(nccl_stream);
    return NULL;
}

/* However many ranks: the parameters are those of -z 0, bit for bit. */
const char *test_llmc_ranks(void) {
    static const int counts[] = {1, 2, 3, MOST_RANKS};
    static unsigned char start[MOST * sizeof(float)], wanted[MOST * sizeof(float)];
    kls_gpt2_tensor table[KLS_GPT2_TENSORS];
    const size_t n = kls_gpt2_table(table, kls_gpt2_config_of(T, V, VP, L, 2, C));
    void *main_stream = device_stream();
    CHECK(n > 0 && n <= MOST);
    for (int bf16 = 0; bf16 < 2; bf16++) {
        ncclFloatX = bf16 ? ncclBfloat16 : ncclFloat;
        for (size_t i = 0; i < n; i++) set(start, i, 0.2f * (float)((i * 37) % 19) / 19.0f - 0.1f);
        for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
            if (bf16 && counts[i] != 3) continue;
            memcpy(wanted, start, n * element());
            TRY(whole_run(wanted, n, counts[i], main_stream));
            CHECK(memcmp(start, wanted, n * element()) != 0);
            TRY(divided_run(start, wanted, table, n, counts[i], main_stream));
        }
    }
    device_stream_destroy(main_stream);
    return NULL;
}

/* GPT-2 124M: what ranks do and have. Needs no device. */
const char *test_llmc_shares(void) {
    const kls_gpt2_config config = kls_gpt2_config_of(1024, 50257, 50304, 12, 12, 768);
    const size_t n = 124475904;
    kls_config groups[KLS_FLAT_GROUPS];
    kls_tensor tensors[KLS_LLMC_MOST_PARTS];
    kls_llmc_cuda_options options;
    kls_cuda_memory memory, whole;
    kls_llmc_cuda model;
    uint64_t firsts[KLS_LLMC_MOST_PARTS * 65], costs[64], largest;
    EXPECT(KLS_OK, kls_llmc_cuda_options_init(&options, KLS_METHOD_KL_SHAMPOO));
    EXPECT(KLS_OK, kls_llmc_cuda_query(&whole, config, n, 2, &options));
    memset(&model, 0, sizeof model);
    EXPECT(KLS_OK, kls_llmc_cuda_table_(&model, groups, tensors, config, n, 2, &options));
    tensors[KLS_GPT2_FCW].slices = 1;
    EXPECT(KLS_OK, kls_table_partition(groups, KLS_FLAT_GROUPS, &tensors[KLS_GPT2_FCW], 1, 1, firsts, 2, &largest));
    for (int ranks = 1; ranks <= 64; ranks = ranks < 8 ? ranks + 1 : 2 * ranks) {
        uint64_t most = 0, sum = 0, state = 0, most_state = 0, most_total = 0;
        options.ranks = ranks;
        options.rank = 0;
        memset(&model, 0, sizeof model);
        EXPECT(KLS_OK, kls_llmc_cuda_table_(&model, groups, tensors, config, n, 2, &options));
        EXPECT(KLS_OK, kls_table_partition(groups, KLS_FLAT_GROUPS, tensors, (size_t)model.part_count, (uint32_t)ranks, firsts,
                                           (size_t)model.part_count * ((size_t)ranks + 1), costs));
        for (int r = 0; r < ranks; r++) {
            sum += costs[r];
            if (costs[r] > most) most = costs[r];
            options.rank = r;
            EXPECT(KLS_OK, kls_llmc_cuda_query(&memory, config, n, 2, &options));
            state += memory.state_bytes;
            if (memory.state_bytes > most_state) most_state = memory.state_bytes;
            if (memory.total_bytes > most_total) most_total = memory.total_bytes;
        }
        fprintf(stderr, "%2d ranks: cost %.3f of the mean, state %.0f MB, largest block %.0f MB\n", ranks, (double)most * ranks / (double)sum,
                (double)most_state / 1e6, (double)most_total / 1e6);
        /* Together they have what one has, but for gaps between batches. */
        CHECK(state >= whole.state_bytes && state - whole.state_bytes < (uint64_t)ranks * 64 * 256);
        /* The 24 largest matrices are the most of it: up to 8 ranks they divide well, and with 64 no rank has more than one. */
        CHECK(most * (uint64_t)ranks <= sum + (uint64_t)(ranks - 1) * largest);
        CHECK((double)most * ranks <= (ranks <= 8 ? 1.02 : 1.13) * (double)sum || most == largest);
    }
    options.ranks = 4;
    options.rank = 4;
    EXPECT(KLS_ERROR_INDEX, kls_llmc_cuda_query(&memory, config, n, 2, &options));
    options.rank = -1;
    EXPECT(KLS_ERROR_INDEX, kls_llmc_cuda_query(&memory, config, n, 2, &options));
    options.ranks = 0;
    EXPECT(KLS_ERROR_RANKS, kls_llmc_cuda_query(&memory, config, n, 2, &options));
    EXPECT(KLS_ERROR_NULL, kls_llmc_cuda_query(NULL, config, n, 2, &options));
    EXPECT(KLS_ERROR_BUFFER_LENGTH, kls_llmc_cuda_query(&memory, config, n + 1, 2, NULL));
    return NULL;
}
