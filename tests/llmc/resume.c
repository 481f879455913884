/* bindings-c/flat: an optimizer that was saved beside the parameters and loaded goes on as if nothing had happened. */
#define _POSIX_C_SOURCE 200809L
#include "klshampoo_llmc.h"
#include "model.h"
#include <unistd.h>

static const char *trained(gpt_model *model, kls_flat *flat, int from, int to) {
    const GPT2 gpt2 = as_gpt2(model);
    for (int step = from; step < to; step++) {
        small_gradient(model, step);
        EXPECT(KLS_OK, kls_flat_step(flat, gpt2.params_memory, gpt2.grads_memory, 1e-2f));
    }
    return NULL;
}

static kls_flat of_layers(int layers) {
    kls_gpt2_tensor table[KLS_GPT2_TENSORS];
    const kls_gpt2_config config = kls_gpt2_config_of(CONTEXT, GPT_VOCABULARY, GPT_VOCABULARY, layers, HEADS, CHANNELS);
    return kls_llmc_create_or_exit(config, kls_gpt2_table(table, config), NULL);
}

/* Neither step divides the refresh period: the phase is part of what is resumed. */
enum { HALF = 13, END = 31 };

static const char *resumes(const char *path) {
    gpt_model *whole = small_model(), *interrupted = small_model();
    const char *failure;
    CHECK(whole && interrupted);
    kls_flat reference = of_layers(LAYERS), flat = of_layers(LAYERS), shallow = of_layers(LAYERS - 1);
    failure = trained(whole, &reference, 0, END);
    if (!failure) failure = trained(interrupted, &flat, 0, HALF);
    if (failure) return failure;
    EXPECT(KLS_OK, kls_flat_save(&flat, path));
    EXPECT(KLS_OK, kls_flat_destroy(&flat));

    /* Nothing to load into, or from. */
    EXPECT(KLS_ERROR_HANDLE, kls_flat_load(&flat, path));
    EXPECT(KLS_ERROR_HANDLE, kls_flat_save(&flat, path));
    EXPECT(KLS_ERROR_NULL, kls_flat_save(NULL, path));
    EXPECT(KLS_ERROR_NULL, kls_flat_load(NULL, path));
    EXPECT(KLS_ERROR_NULL, kls_flat_save(&shallow, NULL));
    EXPECT(KLS_ERROR_NULL, kls_flat_load(&shallow, NULL));
    EXPECT(KLS_ERROR_FILE_NOT_FOUND, kls_flat_load(&shallow, "no/such/folder/and.file"));
    EXPECT(KLS_ERROR_FILE_NOT_FOUND, kls_flat_save(&shallow, "no/such/folder/and.file"));
    EXPECT(KLS_ERROR_CHECKPOINT_SHAPES, kls_flat_load(&shallow, path));
    EXPECT(KLS_OK, kls_flat_destroy(&shallow));

    flat = of_layers(LAYERS);
    EXPECT(KLS_OK, kls_flat_load(&flat, path));
    failure = trained(interrupted, &flat, HALF, END);
    if (failure) return failure;
    CHECK(memcmp(whole->params, interrupted->params, whole->parameter_count * sizeof *whole->params) == 0);
    EXPECT(KLS_OK, kls_flat_destroy(&flat));
    EXPECT(KLS_OK, kls_flat_destroy(&reference));
    gpt_destroy(whole);
    gpt_destroy(interrupted);
    return NULL;
}

const char *test_llmc_resume(void) {
    const char *temporary = getenv("TMPDIR");
    char folder[512], path[544];
    snprintf(folder, sizeof folder, "%s/klshampoo-XXXXXX", temporary ? temporary : "/tmp");
    CHECK(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/optimizer.safetensors", folder);
    const char *failure = resumes(path);
    unlink(path);
    /* Fails if anything else was left there. */
    const int removed = rmdir(folder);
    if (failure) return failure;
    CHECK(removed == 0);
    return NULL;
}
