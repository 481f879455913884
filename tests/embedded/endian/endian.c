/*
 * Checkpoints on a machine of either byte order.
 *
 *   endian committed IN OUT   loads the committed checkpoint of version 1 and saves it again
 *   endian train OUT          trains and saves
 *   endian resume IN OUT      loads that, saves it to OUT, trains on, and saves to OUT.later
 *
 * What is saved is the same everywhere, byte for byte; so are the parameters, which are printed as the bits of their numbers.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "klshampoo.h"

enum { STEPS = 25, ELEMENTS = 240, BYTES = 1 << 18, TENSORS = 6, GROUPS = 5 };

static _Alignas(64) unsigned char memory[BYTES];
static unsigned char checkpoint[BYTES];
static float params[TENSORS][ELEMENTS], grads[TENSORS][ELEMENTS];
static uint16_t halves[2][ELEMENTS];
static kls_optimizer *optimizer;

static _Noreturn void die(const char *what, const char *why) {
    printf("FAILED: %s: %s\n", what, why);
    exit(1);
}

static void check(const char *what, kls_status status) {
    if (status != KLS_OK) die(what, kls_last_error(optimizer));
}

static void configure(kls_config *group, int32_t method) { check("a group", kls_config_init(group, sizeof *group, method, KLS_CONVENTION_FIGURE13)); }

static void describe(kls_tensor *tensor, uint32_t order, const uint64_t *dims, uint32_t group) {
    check("a tensor", kls_tensor_init(tensor, sizeof *tensor, order, dims));
    tensor->group = group;
}

static void make(const kls_config *groups, size_t group_count, const kls_tensor *tensors, size_t tensor_count) {
    size_t size, alignment;
    check("a query", kls_optimizer_query(groups, group_count, tensors, tensor_count, &size, &alignment));
    if (size > sizeof memory) die("memory", "too short");
    check("an optimizer", kls_optimizer_init(&optimizer, memory, size, groups, group_count, tensors, tensor_count));
}

/* The table of the committed checkpoint, which tests/tests/checkpoint.rs makes. */
static void make_committed(void) {
    const uint64_t dims[4][2] = {{3, 2}, {4}, {2, 2}, {1, 2}};
    kls_config groups[3];
    kls_tensor tensors[4];
    configure(&groups[0], KLS_METHOD_KL_SHAMPOO);
    configure(&groups[1], KLS_METHOD_ADAMW);
    configure(&groups[2], KLS_METHOD_KL_SHAMPOO);
    groups[0].refresh_period = 7;
    groups[2].refresh_portion = 9;
    describe(&tensors[0], 2, dims[0], 0);
    describe(&tensors[1], 1, dims[1], 1);
    describe(&tensors[2], 2, dims[2], 0);
    describe(&tensors[3], 2, dims[3], 2);
    tensors[0].slices = 2;
    tensors[2].param_format = KLS_FORMAT_BF16;
    tensors[2].master_weights = 1;
    tensors[2].rounding = KLS_ROUNDING_STOCHASTIC;
    tensors[2].rounding_seed = 0x0123456789abcdef;
    make(groups, 3, tensors, 4);
}

/* Every kind of state: factors in each format, a refresh in portions, bf16 parameters with master weights and gradients in both formats of 16 bits,
 * a tensor of three dims, a vector, slices. */
static void make_trained(void) {
    const uint64_t dims[TENSORS][3] = {{12, 20}, {10, 8}, {8, 12}, {7, 9}, {4, 3, 5}, {11}};
    const uint32_t orders[TENSORS] = {2, 2, 2, 2, 3, 1}, group_of[TENSORS] = {0, 1, 2, 3, 4, 0};
    kls_config groups[GROUPS];
    kls_tensor tensors[TENSORS];
    configure(&groups[0], KLS_METHOD_KL_SHAMPOO);
    configure(&groups[1], KLS_METHOD_KL_SHAMPOO);
    configure(&groups[2], KLS_METHOD_SOAP);
    configure(&groups[3], KLS_METHOD_KL_SHAMPOO);
    configure(&groups[4], KLS_METHOD_SHAMPOO);
    for (int i = 0; i < GROUPS; i++) groups[i].refresh_period = 4;
    groups[1].factor_format = KLS_FORMAT_F16;
    groups[2].factor_format = KLS_FORMAT_BF16;
    groups[3].refresh_portion = 300;
    for (int i = 0; i < TENSORS; i++) describe(&tensors[i], orders[i], dims[i], group_of[i]);
    tensors[1].slices = 2;
    tensors[3].param_format = KLS_FORMAT_BF16;
    tensors[3].master_weights = 1;
    tensors[3].rounding = KLS_ROUNDING_STOCHASTIC;
    tensors[3].rounding_seed = 7;
    tensors[3].grad_format = KLS_FORMAT_F16;
    make(groups, GROUPS, tensors, TENSORS);
}

/* The gradients of a step: by its number alone, and exact in every format. */
static void differentiate(uint32_t step) {
    uint32_t x = 2463534242u + 977u * step;
    for (int t = 0; t < TENSORS; t++)
        for (int i = 0; i < ELEMENTS; i++) {
            x ^= x << 13, x ^= x >> 17, x ^= x << 5;
            grads[t][i] = (float)(x % 33) - 16.0f;
        }
    /* binary16 of whole numbers from -16 to 16. */
    for (int i = 0; i < ELEMENTS; i++) {
        uint32_t bits;
        memcpy(&bits, &grads[3][i], sizeof bits);
        halves[1][i] = bits << 1 == 0 ? 0 : (uint16_t)((bits >> 16 & 0x8000) | ((bits >> 23 & 0xff) - 127 + 15) << 10 | (bits >> 13 & 0x3ff));
    }
}

static void train(uint32_t from, uint32_t to) {
    void *param[TENSORS];
    const void *grad[TENSORS];
    kls_step call;
    for (int t = 0; t < TENSORS; t++) {
        param[t] = params[t];
        grad[t] = grads[t];
    }
    param[3] = halves[0];
    grad[3] = halves[1];
    check("a step's options", kls_step_init(&call, sizeof call));
    call.params = param;
    call.grads = grad;
    call.tensor_count = TENSORS;
    call.lr = 0.01f;
    for (uint32_t step = from; step < to; step++) {
        differentiate(step);
        check("a step", kls_optimizer_step_with(optimizer, &call));
    }
    for (int t = 0; t < TENSORS; t++)
        for (int i = 0; i < 4; i++) {
            uint32_t bits;
            memcpy(&bits, &params[t][i], sizeof bits);
            printf("%08x ", t == 3 ? (unsigned)halves[0][i] : (unsigned)bits);
        }
    printf("\n");
}

static void save(const char *path) {
    uint64_t size;
    check("a size", kls_optimizer_save_size(optimizer, &size));
    if (size > sizeof checkpoint) die(path, "too long");
    check("a checkpoint", kls_optimizer_save(optimizer, checkpoint, (size_t)size));
    FILE *file = fopen(path, "wb");
    if (!file || fwrite(checkpoint, 1, (size_t)size, file) != size || fclose(file) != 0) die(path, "cannot be written");
}

static void load(const char *path) {
    FILE *file = fopen(path, "rb");
    if (!file) die(path, "cannot be read");
    const size_t size = fread(checkpoint, 1, sizeof checkpoint, file);
    fclose(file);
    check(path, kls_optimizer_load(optimizer, checkpoint, size));
    /* An altered bit is found, too. */
    for (size_t at = 0; at < size; at += size / 8) {
        checkpoint[at] ^= 16;
        if (kls_optimizer_load(optimizer, checkpoint, size) == KLS_OK) die(path, "an altered checkpoint was loaded");
        checkpoint[at] ^= 16;
    }
}

int main(int argc, char **argv) {
    const uint16_t one = 1;
    printf("%s-endian\n", *(const unsigned char *)&one ? "little" : "big");
    if (argc == 4 && strcmp(argv[1], "committed") == 0) {
        make_committed();
        load(argv[2]);
        save(argv[3]);
    } else if (argc == 3 && strcmp(argv[1], "train") == 0) {
        make_trained();
        train(0, STEPS);
        save(argv[2]);
    } else if (argc == 4 && strcmp(argv[1], "resume") == 0) {
        char later[512];
        make_trained();
        load(argv[2]);
        save(argv[3]);
        train(STEPS, 2 * STEPS);
        snprintf(later, sizeof later, "%s.later", argv[3]);
        save(later);
    } else {
        die("usage", "endian committed IN OUT | train OUT | resume IN OUT");
    }
    return 0;
}
