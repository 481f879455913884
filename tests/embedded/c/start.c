/* From reset to main: the FPU, the memory, newlib's files. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

extern uint32_t ram_start[], data_start[], data_end[], data_image[], bss_start[], bss_end[], stack_top[]; /* firmware.ld */
extern void initialise_monitor_handles(void);                                                           /* newlib's semihosting */
extern int main(void);

static void enable_fpu(void) {
    volatile uint32_t *const access_control = (volatile uint32_t *)0xe000ed88;
    *access_control |= 0xfu << 20;
    __asm__ volatile("dsb\n isb" ::: "memory");
}

/* What RAM holds when the power comes on: nothing that one may rely on. */
static void fill_with_garbage(void) {
    uint32_t *const stack = __builtin_frame_address(0);
    uint32_t garbage = 0x2545f491;
    for (volatile uint32_t *word = ram_start; word < stack - 64; word++) {
        garbage ^= garbage << 13, garbage ^= garbage >> 17, garbage ^= garbage << 5;
        *word = garbage;
    }
}

_Noreturn void reset(void) {
    enable_fpu();
    fill_with_garbage();
    memcpy(data_start, data_image, (size_t)((char *)data_end - (char *)data_start));
    memset(bss_start, 0, (size_t)((char *)bss_end - (char *)bss_start));
    initialise_monitor_handles();
    const int result = main();
    fflush(NULL);
    _exit(result);
}

static _Noreturn void fault(void) {
    static const char text[] = "FAULT\n";
    write(STDOUT_FILENO, text, sizeof text - 1);
    _exit(70);
}

/* The first word is the stack pointer, the others are functions. */
typedef union {
    uint32_t *stack;
    void (*function)(void);
} vector;

#define FAULT {.function = fault}
__attribute__((section(".vectors"), used)) static const vector vectors[16] = {
    {.stack = stack_top}, {.function = reset}, FAULT, FAULT, FAULT, FAULT, FAULT, FAULT, FAULT, FAULT, FAULT, FAULT, FAULT, FAULT, FAULT, FAULT,
};
