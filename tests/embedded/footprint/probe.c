/*
 * One matrix, ROWS x COLUMNS, stepped STEPS times by METHOD. Says how much memory and how much stack it takes. The calls of step_begins and
 * step_ends around each step are what count.c looks for.
 */
#include <stdint.h>

#include "klshampoo.h"

enum { STEPS = 20, PERIOD = 10, STACK = 16 * 1024, PAINT = 0x5a };

static float weights[ROWS * COLUMNS], gradient[ROWS * COLUMNS];
static union {
    max_align_t alignment;
    unsigned char bytes[512 * 1024];
} memory;

extern uint32_t stack_top[]; /* probe.ld */

static void say(const char *text) {
    register uint32_t operation __asm__("r0") = 4; /* SYS_WRITE0 */
    register const char *argument __asm__("r1") = text;
    __asm__ volatile("bkpt 0xab" : "+r"(operation) : "r"(argument) : "memory");
}

static void say_number(const char *name, uint32_t number) {
    char digits[12];
    int at = 11;
    digits[at] = 0;
    digits[--at] = '\n';
    do digits[--at] = (char)('0' + number % 10);
    while ((number /= 10) != 0);
    say(name);
    say(digits + at);
}

/* Marks the stack below the caller, and how much of it is not marked any more. */
static __attribute__((noinline)) void paint(void) {
    volatile unsigned char *const end = (unsigned char *)__builtin_frame_address(0) - 64;
    for (volatile unsigned char *byte = end - STACK; byte < end; byte++) *byte = PAINT;
}

static __attribute__((noinline)) uint32_t used(void) {
    const volatile unsigned char *const end = (unsigned char *)__builtin_frame_address(0), *byte = end - STACK;
    /* Both ends of a frame may differ a little from paint's; if nothing is left of the mark here, there is no telling. */
    for (int i = 128; i < 256; i++)
        if (byte[i] != PAINT) return UINT32_MAX;
    byte += 128;
    while (*byte == PAINT) byte++;
    return (uint32_t)(end - byte);
}

__attribute__((noinline)) void step_begins(void) { __asm__ volatile("" ::: "memory"); }
__attribute__((noinline)) void step_ends(void) { __asm__ volatile("" ::: "memory"); }

static float uniform(void) { /* xorshift32, in [-1, 1) */
    static uint32_t x = 2463534242u;
    x ^= x << 13, x ^= x >> 17, x ^= x << 5;
    return (float)(x >> 8) / 8388608.0f - 1.0f;
}

static kls_status run(void) {
    const uint64_t dims[2] = {ROWS, COLUMNS};
    float *params[1] = {weights};
    const float *grads[1] = {gradient};
    uint32_t most_other = 0, most_refresh = 0; /* The first step is among the others. */
    size_t size, alignment;
    kls_config config;
    kls_tensor tensor;
    kls_optimizer *optimizer;
    kls_memory report;

    paint();
    kls_status status = kls_config_init(&config, sizeof config, METHOD, KLS_CONVENTION_FIGURE13);
    config.refresh_period = PERIOD;
    if (!status) status = kls_tensor_init(&tensor, sizeof tensor, 2, dims);
    if (!status) status = kls_optimizer_query(&config, 1, &tensor, 1, &size, &alignment);
    if (status) return status;
    const size_t skip = (alignment - (uintptr_t)memory.bytes % alignment) % alignment;
    status = kls_optimizer_init(&optimizer, memory.bytes + skip, sizeof memory.bytes - skip, &config, 1, &tensor, 1);
    if (status) return status;
    say_number("stack_init ", used());
    status = kls_optimizer_memory(optimizer, &report, sizeof report);
    if (status) return status;
    say_number("state ", (uint32_t)report.state_bytes);
    say_number("scratch ", (uint32_t)report.scratch_bytes);
    say_number("table ", (uint32_t)report.table_bytes);
    for (int step = 1; step <= STEPS; step++) {
        /* Rows and columns of different sizes, and something to learn. */
        for (int i = 0; i < ROWS * COLUMNS; i++)
            gradient[i] = uniform() * (float)(1 + i % COLUMNS) / (float)(1 + i / COLUMNS) + 0.3f * weights[i];
        paint();
        step_begins();
        status = kls_optimizer_step(optimizer, params, grads, 1, 0.01f);
        step_ends();
        if (status) return status;
        uint32_t *const most = step % PERIOD == 0 ? &most_refresh : &most_other;
        const uint32_t now = used();
        if (now > *most) *most = now;
    }
    say_number("stack_other ", most_other);
    say_number("stack_refresh ", most_refresh);
    return KLS_OK;
}

_Noreturn void reset(void) {
    extern uint32_t bss_start[], bss_end[], data_start[], data_end[], data_image[];
#ifdef __ARM_FP
    *(volatile uint32_t *)0xe000ed88 |= 0xfu << 20;
    __asm__ volatile("dsb\n isb" ::: "memory");
#endif
    for (uint32_t *to = data_start, *from = data_image; to < data_end;) *to++ = *from++;
    for (uint32_t *word = bss_start; word < bss_end;) *word++ = 0;
    say_number("status ", (uint32_t)run());
    register uint32_t operation __asm__("r0") = 0x18; /* SYS_EXIT: ADP_Stopped_ApplicationExit */
    register uint32_t reason __asm__("r1") = 0x20026;
    for (;;) __asm__ volatile("bkpt 0xab" : "+r"(operation) : "r"(reason) : "memory");
}

static void fault(void) {
    say("FAULT\n");
    for (;;) continue;
}

typedef union {
    uint32_t *stack;
    void (*function)(void);
} vector;

__attribute__((section(".vectors"), used)) static const vector vectors[8] = {
    {.stack = stack_top},   {.function = (void (*)(void))reset}, {.function = fault}, {.function = fault}, {.function = fault},
    {.function = fault}, {.function = fault},                 {.function = fault},
};
