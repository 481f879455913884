// Shared libraries that are opened at run time.
#pragma once
#include <stdatomic.h>

// NULL if there is none of this name.
void *kls_shim_open(const char *name);
// NULL if it has none of this name.
void *kls_shim_symbol(void *library, const char *name);
