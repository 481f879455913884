#include "caller.h"
#include <math.h>
#include <string.h>

enum { ROWS = 8, COLUMNS = 6, SIZE = ROWS * COLUMNS, CALM = 200, LONG = 3000 };

static uint32_t state;

static float normal(void) {
    float sum = 0;
    for (int i = 0; i < 4; i++) {
        state = state * 1664525u + 1013904223u;
        sum += (float)(state >> 8) / 8388608.0f - 1.0f;
    }
    return sum * 0.8660254f;
}

/* Neither NaN nor infinite, by the bits: under -ffast-math isfinite is always true. */
static int is_finite(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return (bits >> 23 & 0xff) != 0xff;
}

static float from_bits(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

typedef struct run {
    kls_optimizer *optimizer;
    float param[SIZE], grad[SIZE], update_rms;
    caller_result *result;
    int finite;
} run;

static void step(run *r, float scale, kls_status expected) {
    float *const params[1] = {r->param};
    const float *const grads[1] = {r->grad};
    kls_counters counters;
    for (int i = 0; i < SIZE; i++) r->grad[i] = scale * normal();
    if (expected != KLS_OK) r->grad[SIZE / 2] = from_bits(expected == KLS_ERROR_GRADIENT_NOT_FINITE ? 0x7fc00000u : 0x7f7fffffu);
    const kls_status status = kls_optimizer_step(r->optimizer, params, grads, 1, 1e-3f);
    r->result->wrongly += status != expected;
    r->result->steps += status == KLS_OK;
    r->result->refused += status != KLS_OK;
    r->result->wrongly += kls_optimizer_counters(r->optimizer, 0, 0, &counters, sizeof counters) != KLS_OK;
    r->update_rms = counters.update_rms;
    r->finite &= is_finite(r->update_rms);
    if (r->update_rms > r->result->largest_update) r->result->largest_update = r->update_rms;
    for (int i = 0; i < SIZE; i++) {
        const float size = r->param[i] < 0 ? -r->param[i] : r->param[i];
        r->finite &= is_finite(r->param[i]);
        if (size > r->result->largest_parameter) r->result->largest_parameter = size;
    }
}

int32_t kls_stress_caller(int32_t method, uint64_t rounds, caller_result *result) {
    /* Jumps, denormals, zeros, a single large number. */
    static const float scales[] = {1e8f, 1e-8f, 1e-30f, 1e-42f, 0.0f, 1e5f};
    const uint64_t dims[2] = {ROWS, COLUMNS};
    kls_config group;
    kls_tensor tensor;
    run r;
    memset(&r, 0, sizeof r);
    memset(result, 0, sizeof *result);
    r.result = result;
    r.finite = 1;
    state = 12345;
    if (kls_config_init(&group, sizeof group, method, KLS_CONVENTION_FIGURE13) != KLS_OK) return 0;
    group.measure = 1;
    if (kls_tensor_init(&tensor, sizeof tensor, 2, dims) != KLS_OK) return 0;
    if (kls_optimizer_create(&r.optimizer, &group, 1, &tensor, 1, NULL) != KLS_OK) return 0;
    for (uint64_t round = 0; round < rounds; round++) {
        for (size_t kind = 0; kind < sizeof scales / sizeof scales[0]; kind++) {
            float calm = 0;
            uint64_t recovery = 0;
            for (int i = 0; i < CALM; i++) {
                step(&r, 1, KLS_OK);
                calm += r.update_rms / CALM;
            }
            for (int i = 0; i < CALM; i++) step(&r, scales[kind], KLS_OK);
            step(&r, 1, KLS_ERROR_GRADIENT_NOT_FINITE);
            step(&r, 1, KLS_ERROR_GRADIENT_TOO_LARGE);
            for (uint64_t i = 1; i <= LONG; i++) {
                step(&r, 1, KLS_OK);
                if (r.update_rms > 2 * calm || r.update_rms < calm / 2) recovery = i;
            }
            if (recovery > result->recovery) result->recovery = recovery;
        }
    }
    return kls_optimizer_destroy(&r.optimizer) == KLS_OK && r.finite;
}
