#include "semihosting.h"

#include <stdint.h>

enum { SYS_GET_CMDLINE = 0x15 };

void semihosting_arguments(char *text, size_t size) {
    const struct {
        char *text;
        size_t size;
    } block = {text, size};
    register uint32_t operation __asm__("r0") = SYS_GET_CMDLINE;
    register const void *argument __asm__("r1") = &block;
    text[0] = 0;
    __asm__ volatile("bkpt 0xab" : "+r"(operation) : "r"(argument) : "memory");
    if (operation != 0) text[0] = 0;
}
