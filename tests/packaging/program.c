/* A user's program: KL-Shampoo brings a matrix to a target; 0 if it does. */
#include <klshampoo.h>
#ifdef __has_include
#if __has_include(<klshampoo/klshampoo_llmc.h>)
#include <klshampoo/klshampoo_llmc.h>
#endif
#endif
#include <stdio.h>
#include <string.h>

enum { ROWS = 24, COLUMNS = 40, COUNT = ROWS * COLUMNS, STEPS = 300 };

static float weights[COUNT], gradient[COUNT], target[COUNT];

static int check(const char *what, kls_status status) {
    if (status) fprintf(stderr, "%s: %s\n", what, kls_status_string(status));
    return status != KLS_OK;
}

int main(void) {
    const uint64_t dims[2] = {ROWS, COLUMNS};
    float *params[1] = {weights};
    const float *grads[1] = {gradient};
    float first = 0, last = 0;
    char version[64];
    kls_config config;
    kls_tensor tensor;
    kls_options options;
    kls_optimizer *optimizer = NULL;

    snprintf(version, sizeof version, "%d.%d.%d", KLS_VERSION_MAJOR, KLS_VERSION_MINOR, KLS_VERSION_PATCH);
    if (strcmp(version, kls_version()) != 0) {
        fprintf(stderr, "header %s, library %s\n", version, kls_version());
        return 1;
    }
    if (check("config", kls_config_init(&config, sizeof config, KLS_METHOD_KL_SHAMPOO, KLS_CONVENTION_FIGURE13))) return 1;
    if (check("tensor", kls_tensor_init(&tensor, sizeof tensor, 2, dims))) return 1;
    if (check("options", kls_options_init(&options, sizeof options))) return 1;
    options.num_threads = 2;
    if (check("create", kls_optimizer_create(&optimizer, &config, 1, &tensor, 1, &options))) return 1;
    for (int i = 0; i < COUNT; i++) target[i] = (float)((i * 7919) % 1000) / 500.0f - 1.0f;
    for (int step = 0; step < STEPS; step++) {
        last = 0;
        for (int i = 0; i < COUNT; i++) {
            gradient[i] = weights[i] - target[i];
            last += gradient[i] * gradient[i] / 2;
        }
        if (step == 0) first = last;
        if (check("step", kls_optimizer_step(optimizer, params, grads, 1, 0.05f * (1 - (float)step / STEPS)))) return 1;
    }
    printf("klshampoo %s: loss %g to %g\n", kls_version(), (double)first, (double)last);
    return check("destroy", kls_optimizer_destroy(&optimizer)) || !(last < 1e-2f * first);
}
