/* Uses the libraries for CPU and GPU at once: of each one a function that the other has, or has not. */
#include <klshampoo_cuda.h>
#include <stdio.h>

int main(void) {
    kls_optimizer *on_cpu = NULL;
    kls_cuda *on_gpu = NULL;
    printf("%s\n", kls_version());
    return kls_optimizer_destroy(&on_cpu) || kls_cuda_destroy(&on_gpu);
}
