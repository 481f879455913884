/* The mistake of using the libraries for CPU and GPU at once; 0 if it works. With SHARED it says whether the calls that both have come from another
 * copy than the GPU's own. */
#include <klshampoo_cuda.h>
#include <stdio.h>
#include <string.h>

int main(void) {
    kls_optimizer *on_cpu = NULL;
    kls_cuda *on_gpu = NULL;
    if (kls_optimizer_destroy(&on_cpu) || kls_cuda_destroy(&on_gpu)) return 1;
    if (kls_cuda_replayed(NULL, 1) != KLS_ERROR_NULL) return 2;
    printf("%s: \"%s\"\n", kls_cuda_last_error(NULL), kls_last_error(NULL));
#ifdef SHARED
    return *kls_last_error(NULL) != 0;
#else
    return strcmp(kls_last_error(NULL), kls_cuda_last_error(NULL)) != 0;
#endif
}
