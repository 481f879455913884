#include "errors.h"

#include <math.h>
#include <stdalign.h>
#include <stdio.h>
#include <string.h>

#include "training.h"

static uint8_t checkpoint[64 * 1024];
static alignas(64) unsigned char spare[4096];

/* How a callback fails. */
typedef struct {
    uint64_t limit; /* From this byte on there is nothing any more. */
} broken;

static int32_t read_broken(void *user, uint64_t offset, void *bytes, size_t len) {
    const broken *source = user;
    if (offset + len > source->limit) return 1;
    memcpy(bytes, checkpoint + offset, len);
    return 0;
}

static int32_t write_nothing(void *user, const void *bytes, size_t len) {
    (void)user, (void)bytes, (void)len;
    return 1;
}

static int wrong;

/* What a call said, and what it should have. */
static void expect(const char *what, kls_status status, kls_status expected) {
    if (status != expected) wrong++;
    printf("  %-40s %2d %s%s\n", what, (int)status, kls_status_string(status), status == expected ? "" : "  <-- UNEXPECTED");
}

/* Memory for an optimizer that is not what the query asked for. */
static void memory_errors(void) {
    const uint64_t dims[2] = {4, 6};
    kls_config config;
    kls_tensor tensor;
    kls_optimizer *other = NULL;
    size_t size = 0, alignment = 0;
    expect("a configuration", kls_config_init(&config, sizeof config, KLS_METHOD_KL_SHAMPOO, KLS_CONVENTION_FIGURE13), KLS_OK);
    expect("a tensor", kls_tensor_init(&tensor, sizeof tensor, 2, dims), KLS_OK);
    expect("a query", kls_optimizer_query(&config, 1, &tensor, 1, &size, &alignment), KLS_OK);
    expect("memory that is a byte too short", kls_optimizer_init(&other, spare, size - 1, &config, 1, &tensor, 1), KLS_ERROR_MEMORY_TOO_SHORT);
    expect("misaligned memory", kls_optimizer_init(&other, spare + 1, sizeof spare - 1, &config, 1, &tensor, 1), KLS_ERROR_MISALIGNED);
    config.beta2 = 1;
    expect("beta2 of 1", kls_optimizer_init(&other, spare, sizeof spare, &config, 1, &tensor, 1), KLS_ERROR_BETA);
    if (other) wrong++, printf("  an optimizer was made\n");
}

/* Sizes beyond this processor's 32 bits, cut off they would be small ones. */
static void size_errors(void) {
    const uint64_t dims[2] = {4, 6}, beyond = ((uint64_t)1 << 32) + 4;
    kls_config config;
    kls_tensor tensor;
    size_t size = 7, alignment = 7;
    expect("a configuration", kls_config_init(&config, sizeof config, KLS_METHOD_KL_SHAMPOO, KLS_CONVENTION_FIGURE13), KLS_OK);
    expect("a tensor", kls_tensor_init(&tensor, sizeof tensor, 2, dims), KLS_OK);
    tensor.dims[0] = beyond;
    expect("a dim of 2^32 + 4", kls_optimizer_query(&config, 1, &tensor, 1, &size, &alignment), KLS_ERROR_OVERFLOW);
    tensor.dims[0] = tensor.dims[1] = (uint64_t)1 << 16;
    expect("2^32 elements", kls_optimizer_query(&config, 1, &tensor, 1, &size, &alignment), KLS_ERROR_OVERFLOW);
    tensor.dims[0] = tensor.dims[1] = (uint64_t)1 << 13;
    expect("a state that does not fit", kls_optimizer_query(&config, 1, &tensor, 1, &size, &alignment), KLS_ERROR_OVERFLOW);
    memcpy(tensor.dims, dims, sizeof dims);
    tensor.slices = beyond;
    expect("2^32 + 4 slices", kls_optimizer_query(&config, 1, &tensor, 1, &size, &alignment), KLS_ERROR_OVERFLOW);
    if (size != 7 || alignment != 7) wrong++, printf("  a size was written\n");
}

static void step_errors(void) {
    const float rate = 0.02f, number = gradient.output[5];
    const float *misaligned[TENSORS], *const good = grads[0];
    memcpy(misaligned, grads, sizeof misaligned);
    misaligned[2] = (const float *)((uintptr_t)grads[2] + 1);
    expect("a misaligned gradient", kls_optimizer_step(optimizer, params, misaligned, TENSORS, rate), KLS_ERROR_MISALIGNED);
    gradient.output[5] = NAN;
    expect("NaN in a gradient", kls_optimizer_step(optimizer, params, grads, TENSORS, rate), KLS_ERROR_GRADIENT_NOT_FINITE);
    printf("    %s\n", kls_last_error(optimizer));
    gradient.output[5] = -INFINITY;
    expect("an infinity in a gradient", kls_optimizer_step(optimizer, params, grads, TENSORS, rate), KLS_ERROR_GRADIENT_NOT_FINITE);
    gradient.output[5] = 1e30f;
    expect("a number that is too large", kls_optimizer_step(optimizer, params, grads, TENSORS, rate), KLS_ERROR_GRADIENT_TOO_LARGE);
    gradient.output[5] = number;
    expect("a learning rate of NaN", kls_optimizer_step(optimizer, params, grads, TENSORS, NAN), KLS_ERROR_LEARNING_RATE);
    expect("too few tensors", kls_optimizer_step(optimizer, params, grads, TENSORS - 1, rate), KLS_ERROR_TENSOR_COUNT);
    expect("a tensor that there is not", kls_optimizer_step_tensor(optimizer, TENSORS, params[0], good, rate), KLS_ERROR_INDEX);
    expect("a gradient that is its parameter", kls_optimizer_step_tensor(optimizer, 0, params[0], params[0], rate), KLS_ERROR_OVERLAP);
    expect("no gradient", kls_optimizer_step_tensor(optimizer, 0, params[0], NULL, rate), KLS_ERROR_NULL);
}

static void checkpoint_errors(void) {
    uint64_t size = 0;
    expect("a checkpoint's size", kls_optimizer_save_size(optimizer, &size), KLS_OK);
    const size_t len = (size_t)size;
    if (size > sizeof checkpoint) {
        wrong++, printf("  the buffer is too short\n");
        return;
    }
    broken half = {size / 2};
    expect("a buffer that is a byte too short", kls_optimizer_save(optimizer, checkpoint, len - 1), KLS_ERROR_MEMORY_TOO_SHORT);
    expect("a checkpoint", kls_optimizer_save(optimizer, checkpoint, len), KLS_OK);
    expect("a write callback that fails", kls_optimizer_save_to(optimizer, write_nothing, NULL), KLS_ERROR_CHECKPOINT_CALLBACK);
    expect("a read callback that fails half way", kls_optimizer_load_from(optimizer, read_broken, &half), KLS_ERROR_CHECKPOINT_CALLBACK);
    expect("a checkpoint that was cut off", kls_optimizer_load(optimizer, checkpoint, len - 1), KLS_ERROR_CHECKPOINT_TRUNCATED);
    checkpoint[len / 2] ^= 0x10;
    expect("a flipped bit", kls_optimizer_load(optimizer, checkpoint, len), KLS_ERROR_CHECKPOINT_CHECKSUM);
    checkpoint[0] ^= 1;
    expect("something else than a checkpoint", kls_optimizer_load(optimizer, checkpoint, len), KLS_ERROR_CHECKPOINT_FORMAT);
}

int errors_made(void) {
    wrong = 0;
    memory_errors();
    size_errors();
    step_errors();
    checkpoint_errors();
    return wrong;
}
