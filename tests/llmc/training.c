/* bindings-c/llmc trains the example trainer's model, by the two lines that a user adds, and stands tiny gradients. */
#include "klshampoo_llmc.h"
#include "model.h"
#include <math.h>

/* The losses of the first and of the last step, after training with the two lines. */
static void train(gpt_model *model, const kls_llmc_options *options, int steps, float lr, double *first, double *last) {
    const GPT2 gpt2 = as_gpt2(model);
    kls_flat optimizer = KLS_LLMC_CREATE(&gpt2, options);
    for (int step = 0; step < steps; step++) {
        *last = small_gradient(model, step);
        if (step == 0) *first = *last;
        KLS_LLMC_STEP(&optimizer, &gpt2, lr);
    }
    kls_flat_or_exit(&optimizer, kls_flat_destroy(&optimizer), "ending the optimizer");
}

static const char *learns(const kls_llmc_options *options) {
    enum { STEPS = 120 };
    double first = 0, last = 0;
    gpt_model *model = small_model();
    CHECK(model);
    train(model, options, STEPS, 1e-2f, &first, &last);
    CHECK(first > 5 && last < 1 && last >= 0);
    CHECK(parameters_are_finite(model));
    gpt_destroy(model);
    return NULL;
}

static const char *threads_change_nothing(void) {
    double first, last;
    kls_llmc_options options;
    gpt_model *alone = small_model(), *together = small_model();
    CHECK(alone && together);
    EXPECT(KLS_OK, kls_llmc_options_init(&options, KLS_METHOD_KL_SHAMPOO));
    train(alone, &options, 15, 1e-2f, &first, &last);
    options.flat.library.num_threads = 2;
    train(together, &options, 15, 1e-2f, &first, &last);
    CHECK(memcmp(alone->params, together->params, alone->parameter_count * sizeof *alone->params) == 0);
    gpt_destroy(alone);
    gpt_destroy(together);
    return NULL;
}

const char *test_llmc_training(void) {
    kls_llmc_options options;
    const char *failure = learns(NULL);
    if (failure) return failure;
    EXPECT(KLS_OK, kls_llmc_options_init(&options, KLS_METHOD_KL_SHAMPOO));
    options.embeddings = KLS_LLMC_EMBEDDINGS_DIAGONAL;
    options.split_qkv = 0;
    options.decay = KLS_LLMC_DECAY_ALL;
    failure = learns(&options);
    if (failure) return failure;
    EXPECT(KLS_OK, kls_llmc_options_init(&options, KLS_METHOD_KL_SOAP));
    options.flat.bf16_if_available = 1;
    failure = learns(&options);
    return failure ? failure : threads_change_nothing();
}

/* AdamW for all tensors and all of them decayed is what gpt2_update of train_gpt2.c computes. */
const char *test_llmc_adamw(void) {
    const double lr = 1e-2, beta1 = 0.9, beta2 = 0.95, eps = 1e-8, decay = 0.1;
    gpt_model *model = small_model();
    CHECK(model);
    const GPT2 gpt2 = as_gpt2(model);
    const size_t n = gpt2.num_parameters;
    double *expected = (double *)calloc(3 * n, sizeof *expected), *m = expected + n, *v = m + n;
    kls_llmc_options options;
    kls_flat flat;
    CHECK(expected);
    for (size_t i = 0; i < n; i++) expected[i] = model->params[i];
    EXPECT(KLS_OK, kls_llmc_options_init(&options, KLS_METHOD_ADAMW));
    options.flat.method = options.flat.adamw;
    options.decay = KLS_LLMC_DECAY_ALL;
    EXPECT(KLS_OK, kls_llmc_create(&flat, kls_gpt2_config_of(CONTEXT, GPT_VOCABULARY, GPT_VOCABULARY, LAYERS, HEADS, CHANNELS), n, &options));
    for (int t = 1; t <= 5; t++) {
        small_gradient(model, t);
        for (size_t i = 0; i < n; i++) {
            const double g = model->grads[i];
            m[i] = beta1 * m[i] + (1 - beta1) * g;
            v[i] = beta2 * v[i] + (1 - beta2) * g * g;
            expected[i] -= lr * (m[i] / (1 - pow(beta1, t)) / (sqrt(v[i] / (1 - pow(beta2, t))) + eps) + decay * expected[i]);
        }
        EXPECT(KLS_OK, kls_flat_step(&flat, gpt2.params_memory, gpt2.grads_memory, (float)lr));
        /* Where a gradient is within a few orders of eps, v is a denormal that may have been flushed. */
        for (size_t i = 0; i < n; i++) CHECK(fabs(model->params[i] - expected[i]) <= 1e-6 * (1 + fabs(expected[i])) || v[i] < 1e-30);
    }
    EXPECT(KLS_OK, kls_flat_destroy(&flat));
    free(expected);
    gpt_destroy(model);
    return NULL;
}

/* `steps` steps with the model's gradients from `*step` on, or with every element of the gradient as given by its bits. */
static const char *run(kls_flat *flat, gpt_model *model, int steps, int *step, const uint32_t *bits, double *loss) {
    const GPT2 gpt2 = as_gpt2(model);
    for (int end = *step + steps; *step < end; ++*step) {
        const double now = small_gradient(model, *step);
        if (!bits) *loss = now;
        for (size_t i = 0; bits && i < gpt2.num_parameters; i++) memcpy(&gpt2.grads_memory[i], bits, sizeof *bits);
        EXPECT(KLS_OK, kls_flat_step(flat, gpt2.params_memory, gpt2.grads_memory, 1e-2f));
    }
    CHECK(parameters_are_finite(model));
    return NULL;
}

/* Training with gradients of `bits` in steps [before, before + 5). */
static const char *stands(int before, uint32_t bits, double target) {
    int step = 0;
    double loss = 0;
    kls_flat flat;
    gpt_model *model = small_model();
    CHECK(model);
    EXPECT(KLS_OK, kls_llmc_create(&flat, kls_gpt2_config_of(CONTEXT, GPT_VOCABULARY, GPT_VOCABULARY, LAYERS, HEADS, CHANNELS),
                                   model->parameter_count, NULL));
    const char *failure = run(&flat, model, before, &step, NULL, &loss);
    if (!failure) failure = run(&flat, model, 5, &step, &bits, &loss);
    if (!failure) failure = run(&flat, model, 120 - before, &step, NULL, &loss);
    if (failure) return failure;
    CHECK(loss >= 0 && loss < target);
    EXPECT(KLS_OK, kls_flat_destroy(&flat));
    gpt_destroy(model);
    return NULL;
}

/* Gradients that are denormal, or whose squares are: every step is made. In the midst of a training they do no harm. As the first ones
 * they set the scale of KL-Shampoo's factors, which takes hundreds of steps to grow up; embeddings and biases learn meanwhile. */
const char *test_llmc_tiny_gradients(void) {
    static const uint32_t bits[] = {
        0,          /* none at all */
        1,          /* the smallest denormal, 1.4e-45 */
        0x007fffff, /* the largest one */
        0x00800000, /* the smallest normal number */
        0x0da24260, /* 1e-30 */
        0x80000001, /* and a negative one */
    };
    for (size_t kind = 0; kind < sizeof bits / sizeof bits[0]; kind++) {
        const char *failure = stands(20, bits[kind], 1);
        if (!failure) failure = stands(0, bits[kind], bits[kind] == 0 ? 1 : 3);
        if (failure) return failure;
    }
    return NULL;
}
