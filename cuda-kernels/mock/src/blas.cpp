// cuBLAS: strided-batched products, column-major, with the factors rounded as the compute type allows.
#include "mock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <set>

struct handle {
    context *of;
    void *on = nullptr;
    bool has_workspace = false;
};

namespace {
enum : int { BLAS_SUCCESS = 0, BLAS_NOT_INITIALIZED = 1, BLAS_INVALID_VALUE = 7, BLAS_NOT_SUPPORTED = 15 };
enum : int { R_32F = 0, R_16F = 2, R_16BF = 14 };
enum : int { COMPUTE_32F = 68, COMPUTE_32F_FAST_16BF = 75, COMPUTE_32F_FAST_TF32 = 77 };

std::set<handle *> handles;

// To the nearest with so many bits of the mantissa left, ties to even.
float rounded(float x, int bits) {
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    const uint32_t drop = 23 - bits;
    u += ((u >> drop) & 1) + (uint32_t(1) << (drop - 1)) - 1;
    u &= ~((uint32_t(1) << drop) - 1);
    memcpy(&x, &u, sizeof x);
    return x;
}

float half(uint16_t h) {
    const int exponent = h >> 10 & 31, mantissa = h & 1023;
    const float magnitude = exponent == 0    ? mantissa * 0x1p-24f
                            : exponent == 31 ? (mantissa ? __builtin_nanf("") : __builtin_inff())
                                             : (1024 + mantissa) * __builtin_ldexpf(1, exponent - 25);
    return h & 0x8000 ? -magnitude : magnitude;
}

float factor(const char *base, int64_t at, int format, int compute) {
    float x;
    if (format == R_32F) {
        memcpy(&x, base + at * 4, sizeof x);
        if (compute == COMPUTE_32F_FAST_TF32) return rounded(x, 10);
        if (compute == COMPUTE_32F_FAST_16BF) return rounded(x, 7);
        return x;
    }
    uint16_t h;
    memcpy(&h, base + at * 2, sizeof h);
    if (format == R_16F) return half(h);
    const uint32_t u = uint32_t(h) << 16;
    memcpy(&x, &u, sizeof x);
    return x;
}
} // namespace

API int cublasCreate_v2(handle **to) {
    std::lock_guard<std::recursive_mutex> locked(everything);
    if (const int failed = begin("cublasCreate_v2")) return failed;
    if (!current()) return BLAS_NOT_INITIALIZED;
    counters.allocations++;
    *to = new handle{current()};
    handles.insert(*to);
    return BLAS_SUCCESS;
}

API int cublasDestroy_v2(handle *h) {
    std::lock_guard<std::recursive_mutex> locked(everything);
    if (!handles.erase(h)) return BLAS_NOT_INITIALIZED;
    if (!find_stream(h->on)) {
        fprintf(stderr, "mock cuBLAS: a handle outlives its stream\n");
        abort();
    }
    counters.synchronisations++;
    delete h;
    return BLAS_SUCCESS;
}

API int cublasGetVersion_v2(handle *h, int *version) {
    if (!handles.count(h)) return BLAS_NOT_INITIALIZED;
    *version = 130000;
    return BLAS_SUCCESS;
}

API int cublasSetStream_v2(handle *h, void *on) {
    std::lock_guard<std::recursive_mutex> locked(everything);
    if (const int failed = begin("cublasSetStream_v2")) return failed;
    if (!handles.count(h)) return BLAS_NOT_INITIALIZED;
    h->on = on;
    h->has_workspace = false;
    return BLAS_SUCCESS;
}

API int cublasSetWorkspace_v2(handle *h, uint64_t at, size_t bytes) {
    std::lock_guard<std::recursive_mutex> locked(everything);
    if (const int failed = begin("cublasSetWorkspace_v2")) return failed;
    if (!handles.count(h)) return BLAS_NOT_INITIALIZED;
    if (at % 256 != 0 || !is_device_memory(at, bytes)) return BLAS_INVALID_VALUE;
    h->has_workspace = true;
    return BLAS_SUCCESS;
}

API const char *cublasGetStatusString(int status) {
    switch (status) {
    case BLAS_SUCCESS: return "CUBLAS_STATUS_SUCCESS";
    case BLAS_NOT_INITIALIZED: return "the library was not initialized";
    case BLAS_INVALID_VALUE: return "an unsupported value or parameter was passed to the function";
    case 13: return "the function failed to launch on the GPU";
    default: return "an internal operation failed";
    }
}

API int cublasGemmStridedBatchedEx(handle *h, int a_operation, int b_operation, int m, int n, int k, const void *alpha, const char *a,
                                   int a_format, int a_leading, int64_t a_stride, const char *b, int b_format, int b_leading, int64_t b_stride,
                                   const void *beta, char *c, int c_format, int c_leading, int64_t c_stride, int count, int compute, int algorithm) {
    std::lock_guard<std::recursive_mutex> locked(everything);
    if (const int failed = begin("cublasGemmStridedBatchedEx")) return failed;
    if (!handles.count(h) || h->of != current()) return BLAS_NOT_INITIALIZED;
    if (m < 0 || n < 0 || k < 0 || count < 0 || algorithm != -1 || a_operation > 1 || b_operation > 1) return BLAS_INVALID_VALUE;
    if (a_leading < (a_operation ? k : m) || b_leading < (b_operation ? n : k) || c_leading < m) return BLAS_INVALID_VALUE;
    if (c_format != R_32F || a_format != b_format || (a_format != R_32F && a_format != R_16F && a_format != R_16BF)) return BLAS_NOT_SUPPORTED;
    if (compute != COMPUTE_32F && (a_format != R_32F || (compute != COMPUTE_32F_FAST_TF32 && compute != COMPUTE_32F_FAST_16BF)))
        return BLAS_NOT_SUPPORTED;
    stream *s = find_stream(h->on);
    if (!s) return BLAS_INVALID_VALUE;
    if (usable(s)) return 13;
    counters.launches++;
    if (!h->has_workspace) counters.hidden++;
    float scale, keep;
    memcpy(&scale, alpha, sizeof scale);
    memcpy(&keep, beta, sizeof keep);
    return enqueue(s, [=] {
        for (int64_t i = 0; i < count; i++)
            for (int64_t column = 0; column < n; column++)
                for (int64_t row = 0; row < m; row++) {
                    float sum = 0;
                    for (int64_t l = 0; l < k; l++) {
                        const int64_t x = a_operation ? l + row * a_leading : row + l * a_leading;
                        const int64_t y = b_operation ? column + l * b_leading : l + column * b_leading;
                        sum += factor(a, x + i * a_stride, a_format, compute) * factor(b, y + i * b_stride, b_format, compute);
                    }
                    char *at = c + 4 * (row + column * c_leading + i * c_stride);
                    float old = 0;
                    if (keep != 0) memcpy(&old, at, sizeof old);
                    sum = scale * sum + (keep != 0 ? keep * old : 0);
                    memcpy(at, &sum, sizeof sum);
                }
    });
}
