// The adapters as C++17 sees them.
#include "klshampoo_llmc.h"
#include "tests.h"

const char *test_llmc_in_cpp(void) {
    static float params[4096], grads[4096];
    kls_gpt2_tensor table[KLS_GPT2_TENSORS];
    const size_t count = kls_gpt2_table(table, kls_gpt2_config_of(4, 5, 6, 2, 2, 8));
    CHECK(count != 0 && count <= 4096);
    for (size_t i = 0; i < count; i++) {
        params[i] = 0.5f;
        grads[i] = 0.25f;
    }
    GPT2 gpt2 = {{4, 5, 6, 2, 2, 8}, params, grads, count};
    kls_llmc_options options;
    EXPECT(KLS_OK, kls_llmc_options_init(&options, KLS_METHOD_SOAP));
    kls_flat optimizer = KLS_LLMC_CREATE(&gpt2, &options);
    KLS_LLMC_STEP(&optimizer, &gpt2, 1e-2f);
    // The last row of wte is padding.
    CHECK(params[5 * 8 - 1] < 0.5f && params[5 * 8] == 0.5f && params[count - 1] < 0.5f);
    EXPECT(KLS_OK, kls_flat_destroy(&optimizer));
    return nullptr;
}
