#include "library.h"

#include <dlfcn.h>
#include <stddef.h>

// Never closed: CUDA's libraries hold threads and exit handlers.
void *kls_shim_open(const char *name) { return dlopen(name, RTLD_NOW | RTLD_LOCAL); }

void *kls_shim_symbol(void *library, const char *name) { return dlsym(library, name); }
