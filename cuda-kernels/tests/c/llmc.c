/* The adapter for llm.c's CUDA trainers, with what it needs of their declarations. */
#include "check.h"
#include "device.h"
#include "klshampoo_llmc_cuda.h"
#include "llmc_types.h"
#include <math.h>

/* train_gpt2_fp32.cu's. */
typedef struct {
    GPT2Config config;
    float *params_memory, *grads_memory;
    size_t num_parameters;
} GPT2Fp32;

typedef struct {
    int local_device_idx, zero_stage, process_rank, num_processes;
} MultiGpuConfig;

enum { T = 6, V = 10, VP = 16, L = 2, C = 8, MOST = 8192, STEPS = 12 };

static const GPT2Config config = {T, V, VP, L, 2, C};
static kls_gpt2_tensor table[KLS_GPT2_TENSORS];
static float params[MOST], grads[MOST], found[MOST];

static size_t model_table(void) { return kls_gpt2_table(table, kls_gpt2_config_of(T, V, VP, L, 2, C)); }

static void fill(size_t n) {
    for (size_t i = 0; i < n; i++) params[i] = 0.2f * (float)((i * 37) % 19) / 19.0f - 0.1f;
}

/* Padding has no gradient. */
static void fill_gradients(size_t n, uint32_t step) {
    uint32_t state = 99u + step;
    for (size_t i = 0; i < n; i++) {
        state = state * 1664525u + 1013904223u;
        grads[i] = ((float)(state >> 8) / 16777216.0f - 0.5f) * 0.02f;
    }
    for (size_t i = V * C; i < VP * C; i++) grads[i] = 0;
}

/* Beside the adapter for the CPU. */
const char *test_llmc(void) {
    kls_llmc_options cpu_options;
    kls_llmc_cuda_options options;
    kls_llmc_cuda gpu, refused;
    kls_flat cpu;
    GPT2Fp32 model;
    const size_t n = model_table();
    uint64_t skipped = 7;
    double difference = 0;
    const char *folder = getenv("KLS_TEST_FOLDER");
    char path[512];
    CHECK(n > 0 && n <= MOST && folder != NULL);
    snprintf(path, sizeof path, "%s/llmc.safetensors", folder);
    EXPECT(KLS_OK, kls_llmc_options_init(&cpu_options, KLS_METHOD_KL_SHAMPOO));
    cpu_options.flat.library.backend = KLS_BACKEND_PORTABLE;
    /* By the first refresh the factors of 32 rows have their full rank. */
    cpu_options.flat.method.refresh_period = 5;
    cpu_options.flat.method.stagger = 0;
    EXPECT(KLS_OK, kls_llmc_create(&cpu, kls_gpt2_config_of(T, V, VP, L, 2, C), n, &cpu_options));
    EXPECT(KLS_OK, kls_llmc_cuda_options_init(&options, KLS_METHOD_KL_SHAMPOO));
    options.model.flat.method.refresh_period = 5;
    options.model.flat.method.stagger = 0;
    fill(n);
    model.config = config;
    model.num_parameters = n;
    model.params_memory = device_copy_of(params, n * sizeof *params);
    model.grads_memory = device_alloc(n * sizeof *grads);
    gpu = KLS_LLMC_CUDA_FP32_CREATE(&model, 0, &options);
    for (uint32_t step = 0; step < STEPS; step++) {
        fill_gradients(n, step);
        to_device(model.grads_memory, grads, n * sizeof *grads);
        EXPECT(KLS_OK, kls_flat_step(&cpu, params, grads, 0.01f));
        KLS_LLMC_CUDA_FP32_STEP(&gpu, &model, 0.01f);
        if (step > 0) continue;
        /* A file of one adapter is one of the other. From here on both have the same eigenbases: those of a first gradient whose rank is less than
         * a dim is long are a matter of rounding. */
        EXPECT(KLS_OK, kls_flat_save(&cpu, path));
        EXPECT(KLS_OK, kls_llmc_cuda_load(&gpu, path, NULL));
        to_device(model.params_memory, params, n * sizeof *params);
    }
    to_host(found, model.params_memory, n * sizeof *found);
    for (size_t i = 0; i < n; i++) difference = fmax(difference, fabs((double)found[i] - (double)params[i]));
    if (!(difference < 2e-6)) fprintf(stderr, "%g\n", difference);
    CHECK(difference < 2e-6);
    EXPECT(KLS_OK, kls_llmc_cuda_skipped(&gpu, &skipped, NULL));
    CHECK(skipped == 0);

    EXPECT(KLS_OK, kls_llmc_cuda_save(&gpu, path, NULL));
    EXPECT(KLS_OK, kls_flat_load(&cpu, path));
    CHECK(remove(path) == 0);
    EXPECT(KLS_ERROR_FILE_NOT_FOUND, kls_llmc_cuda_load(&gpu, path, NULL));
    fill_gradients(n, 50);
    grads[table[KLS_GPT2_FCW].offset + 1] = NAN;
    to_device(model.grads_memory, grads, n * sizeof *grads);
    EXPECT(KLS_OK, kls_llmc_cuda_step(&gpu, model.params_memory, model.grads_memory, 0.01f, 1.0f, NULL));
    EXPECT(KLS_OK, kls_llmc_cuda_skipped(&gpu, &skipped, NULL));
    CHECK(skipped == 1);

    /* Errors. */
    EXPECT(KLS_ERROR_NULL, kls_llmc_cuda_options_init(NULL, KLS_METHOD_KL_SHAMPOO));
    EXPECT(KLS_ERROR_UNKNOWN_VALUE, kls_llmc_cuda_options_init(&options, 99));
    EXPECT(KLS_ERROR_NULL, kls_llmc_cuda_create(NULL, kls_gpt2_config_of(T, V, VP, L, 2, C), n, 4, NULL));
    EXPECT(KLS_ERROR_FORMAT, kls_llmc_cuda_create(&refused, kls_gpt2_config_of(T, V, VP, L, 2, C), n, 8, NULL));
    EXPECT(KLS_ERROR_BUFFER_LENGTH, kls_llmc_cuda_create(&refused, kls_gpt2_config_of(T, V, VP, L, 2, C), n + 1, 4, NULL));
    EXPECT(KLS_ERROR_ZERO_DIM, kls_llmc_cuda_create(&refused, kls_gpt2_config_of(T, V, VP, 0, 2, C), n, 4, NULL));
    CHECK(refused.optimizer == NULL);
    EXPECT(KLS_ERROR_HANDLE, kls_llmc_cuda_step(&refused, params, grads, 0.1f, 1.0f, NULL));
    EXPECT(KLS_ERROR_NULL, kls_llmc_cuda_step(&gpu, NULL, grads, 0.1f, 1.0f, NULL));
    EXPECT(KLS_ERROR_HANDLE, kls_llmc_cuda_save(&refused, "x", NULL));
    EXPECT(KLS_ERROR_HANDLE, kls_llmc_cuda_load(&refused, "x", NULL));
    EXPECT(KLS_ERROR_HANDLE, kls_llmc_cuda_skipped(&refused, &skipped, NULL));
    EXPECT(KLS_OK, kls_llmc_cuda_destroy(&gpu));
    EXPECT(KLS_OK, kls_llmc_cuda_destroy(&gpu));
    EXPECT(KLS_ERROR_NULL, kls_llmc_cuda_destroy(NULL));
    EXPECT(KLS_OK, kls_flat_destroy(&cpu));
    device_free(model.params_memory);
    device_free(model.grads_memory);
    return NULL;
}

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

/* bf16 parameters on a stream: decayed where they are to be, padding left alone, rounded by chance. */
const char *test_llmc_bf16(void) {
    static uint16_t before[MOST], after[MOST], again[MOST], zeros[MOST];
    const MultiGpuConfig multi_gpu_config = {0, 0, 0, 1};
    void *main_stream = device_stream();
    const size_t n = model_table();
    uint16_t *runs[2] = {after, again};
    CHECK(n > 0 && n <= MOST);
    fill(n);
    for (size_t i = 0; i < n; i++) before[i] = to_bf16(params[i] + 0.5f);
    for (int run = 0; run < 2; run++) {
        GPT2 model;
        kls_llmc_cuda optimizer;
        memset(&model, 0, sizeof model);
        model.config = config;
        model.num_parameters = n;
        for (int i = 0; i < 16; i++) model.param_sizeof[i] = sizeof(uint16_t);
        model.params_memory = device_copy_of(before, n * sizeof *before);
        model.grads_memory = device_copy_of(zeros, n * sizeof *zeros);
        optimizer = KLS_LLMC_CUDA_CREATE(&model, &multi_gpu_config, main_stream, NULL);
        /* Without gradients there is nothing but decay: by 0.1 * 0.01 a step, of masters in f32, and what is rounded by chance follows them. */
        for (int step = 0; step < 20; step++) KLS_LLMC_CUDA_STEP(&optimizer, &model, 0.01f, 1.0f, main_stream);
        to_host(runs[run], model.params_memory, n * sizeof *after);
        EXPECT(KLS_OK, kls_llmc_cuda_destroy(&optimizer));
        device_free(model.params_memory);
        device_free(model.grads_memory);
    }
    CHECK(memcmp(after, again, sizeof after) == 0);
    for (int t = 0; t < KLS_GPT2_TENSORS; t++) {
        const size_t used = table[t].slices * table[t].used_rows * table[t].columns;
        double sum = 0;
        for (size_t i = 0; i < table[t].count; i++) {
            const size_t at = table[t].offset + i;
            if (!table[t].decays || i >= used) CHECK(after[at] == before[at]);
            sum += i < used ? (double)from_bf16(after[at]) / (double)from_bf16(before[at]) : 0;
        }
        if (table[t].decays) CHECK(fabs(sum / (double)used - pow(1 - 0.001, 20)) < 0.004);
    }
    /* With gradients everything but the padding moves. */
    {
        GPT2 model;
        kls_llmc_cuda optimizer;
        int moved = 0;
        fill_gradients(n, 1);
        for (size_t i = 0; i < n; i++) again[i] = to_bf16(grads[i]);
        memset(&model, 0, sizeof model);
        model.config = config;
        model.num_parameters = n;
        for (int i = 0; i < 16; i++) model.param_sizeof[i] = sizeof(uint16_t);
        model.params_memory = device_copy_of(before, n * sizeof *before);
        model.grads_memory = device_copy_of(again, n * sizeof *again);
        optimizer = KLS_LLMC_CUDA_CREATE(&model, &multi_gpu_config, main_stream, NULL);
        for (int step = 0; step < 3; step++) KLS_LLMC_CUDA_STEP(&optimizer, &model, 0.05f, 0.5f, main_stream);
        to_host(after, model.params_memory, n * sizeof *after);
        for (size_t i = 0; i < n; i++) moved += after[i] != before[i];
        for (size_t i = V * C; i < VP * C; i++) CHECK(after[i] == before[i]);
        CHECK(moved > (int)n * 9 / 10 - (VP - V) * C);
        EXPECT(KLS_OK, kls_llmc_cuda_destroy(&optimizer));
        device_free(model.params_memory);
        device_free(model.grads_memory);
    }
    device_stream_destroy(main_stream);
    return NULL;
}
