#include "caller.h"

#if defined(__x86_64__)
#include <immintrin.h>

int32_t kls_stress_flush(int32_t flush) {
    /* Flush to zero and denormals are zero: what a program that is linked with -Ofast sets when it starts. */
    const unsigned bits = 0x8040;
    _mm_setcsr(flush ? _mm_getcsr() | bits : _mm_getcsr() & ~bits);
    return 1;
}
#else
int32_t kls_stress_flush(int32_t flush) {
    (void)flush;
    return 0;
}
#endif
