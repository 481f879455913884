/* The header alone, first and twice. */
#include "klshampoo_cuda.h"
#include "klshampoo_cuda.h"

const char *kls_cuda_tests_header(void);
const char *kls_cuda_tests_header(void) { return kls_cuda_last_error(0); }
