/* What newlib does not pass on: the arguments that QEMU was given. */
#ifndef SEMIHOSTING_H
#define SEMIHOSTING_H

#include <stddef.h>

/* Copies them, separated by blanks. An empty text if there are none. */
void semihosting_arguments(char *text, size_t size);

#endif
