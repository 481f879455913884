/*
 * klshampoo_static.h: memory for an optimizer whose table is known when the program is compiled.
 *
 *     #include "klshampoo_static.h"
 *     KLS_STATIC_MEMORY(memory, KLS_MEMORY_BYTES(1, 1, 1, KLS_KL_SHAMPOO_STATE(16, 32), KLS_KL_SHAMPOO_SCRATCH(16, 32)));
 *     ...
 *     status = kls_optimizer_init(&optimizer, memory, sizeof memory, &config, 1, &tensor, 1);
 *
 * The sizes are those of a library with everything built in (on machines of 64 bits a host, too), to the byte; one that leaves methods out needs
 * up to a few hundred bytes less.
 * kls_optimizer_init compares with what it really needs: a buffer that is too short is KLS_ERROR_MEMORY_TOO_SHORT, never written beyond its end.
 * All macros are constant expressions for constant arguments, which may be evaluated several times. They are of matrices that are neither
 * cut, merged nor given modes by hand, no longer than max_dim and of the default storage, in the configuration that kls_config_init gives, but for
 * rates and periods; ask kls_optimizer_query for others.
 */
#ifndef KLSHAMPOO_STATIC_H
#define KLSHAMPOO_STATIC_H

#include "klshampoo.h"

/* Memory of `bytes` bytes, zero (in .bss) and aligned as kls_optimizer_init wants it. In C99 it needs a compiler with GNU attributes. */
#if defined(__cplusplus)
#define KLS_STATIC_MEMORY(name, bytes) alignas(KLS_MEMORY_ALIGNMENT) static unsigned char name[bytes]
#elif defined(__STDC_VERSION__) && __STDC_VERSION__ >= 201112L
#define KLS_STATIC_MEMORY(name, bytes) _Alignas(KLS_MEMORY_ALIGNMENT) static unsigned char name[bytes]
#else
#define KLS_STATIC_MEMORY(name, bytes) static unsigned char name[bytes] __attribute__((aligned(KLS_MEMORY_ALIGNMENT)))
#endif

/*
 * Bytes of memory for `groups` groups and `tensors` tensors that have `slices` slices in all and no names; `state` is the sum of the state
 * elements of all slices, `scratch` the largest scratch of any tensor.
 */
#define KLS_MEMORY_BYTES(groups, tensors, slices, state, scratch)                                                                              \
    (KLS_ALIGNED_BYTES(KLS_OPTIMIZER_BYTES) + KLS_ALIGNED_BYTES((groups) * KLS_GROUP_BYTES) + KLS_ALIGNED_BYTES((tensors) * KLS_TENSOR_BYTES) + \
     KLS_ALIGNED_BYTES((slices) * KLS_HEADER_BYTES) + KLS_ALIGNED_BYTES(tensors) + KLS_ALIGNED_BYTES((state) * sizeof(float)) +                 \
     (scratch) * sizeof(float))

#define KLS_ALIGNED_BYTES(bytes) (((size_t)(bytes) + KLS_MEMORY_ALIGNMENT - 1) / KLS_MEMORY_ALIGNMENT * KLS_MEMORY_ALIGNMENT)

#if UINTPTR_MAX == 0xffffffff
#define KLS_OPTIMIZER_BYTES KLS_OPTIMIZER_BYTES_32
#define KLS_GROUP_BYTES KLS_GROUP_BYTES_32
#define KLS_TENSOR_BYTES KLS_TENSOR_BYTES_32
#elif UINTPTR_MAX == 0xffffffffffffffff
#define KLS_OPTIMIZER_BYTES KLS_OPTIMIZER_BYTES_64
#define KLS_GROUP_BYTES KLS_GROUP_BYTES_64
#define KLS_TENSOR_BYTES KLS_TENSOR_BYTES_64
#else
#error "klshampoo knows pointers of 32 and of 64 bits"
#endif

/* State elements of a slice, an m x n matrix, and scratch elements of its step, by method. */
#define KLS_KL_SHAMPOO_STATE(m, n) (KLS_ELEMENTS(m, n) + KLS_FACTORS(m, n) + (size_t)(m) + (n))
#define KLS_KL_SHAMPOO_SCRATCH(m, n) (3 * KLS_ELEMENTS(m, n) + KLS_FACTOR_SCRATCH(m, n))
#define KLS_KL_SOAP_STATE(m, n) (2 * KLS_ELEMENTS(m, n) + KLS_FACTORS(m, n) + (size_t)(m) + (n))
#define KLS_KL_SOAP_SCRATCH(m, n) (5 * KLS_ELEMENTS(m, n) + KLS_FACTOR_SCRATCH(m, n))
#define KLS_SOAP_STATE(m, n) (2 * KLS_ELEMENTS(m, n) + KLS_FACTORS(m, n))
#define KLS_SOAP_SCRATCH(m, n) KLS_KL_SOAP_SCRATCH(m, n)
/* Shampoo, and VN- and F-Shampoo (but F-Shampoo 1, which has KLS_ELEMENTS(m, n) of scratch more): as KL-Shampoo. */
#define KLS_SHAMPOO_STATE(m, n) KLS_KL_SHAMPOO_STATE(m, n)
#define KLS_SHAMPOO_SCRATCH(m, n) KLS_KL_SHAMPOO_SCRATCH(m, n)
/* The same with factors and bases in 16 bits (factor_format); the scratch does not change. */
#define KLS_KL_SHAMPOO_STATE_16(m, n) (KLS_ELEMENTS(m, n) + KLS_FACTORS_16(m, n) + (size_t)(m) + (n))
#define KLS_KL_SOAP_STATE_16(m, n) (2 * KLS_ELEMENTS(m, n) + KLS_FACTORS_16(m, n) + (size_t)(m) + (n))
#define KLS_SOAP_STATE_16(m, n) (2 * KLS_ELEMENTS(m, n) + KLS_FACTORS_16(m, n))
#define KLS_SHAMPOO_STATE_16(m, n) KLS_KL_SHAMPOO_STATE_16(m, n)
/* What refreshes in portions (refresh_portion) add to the state: with factors in f32, and in 16 bits. */
#define KLS_PORTIONS_STATE(m, n) (2 * KLS_LONGER(m, n) * KLS_LONGER(m, n) + 3 * KLS_LONGER(m, n) + 5)
#define KLS_PORTIONS_STATE_16(m, n) (KLS_PORTIONS_STATE(m, n) + KLS_LONGER(m, n) * KLS_LONGER(m, n))
/* Elementwise methods, of `elements` elements in any shape; they have no scratch. */
#define KLS_ADAMW_STATE(elements) (2 * (size_t)(elements))
#define KLS_RMSPROP_STATE(elements) ((size_t)(elements))
#define KLS_SGD_STATE(elements) ((size_t)(elements))

#define KLS_ELEMENTS(m, n) ((size_t)(m) * (n))
#define KLS_TRIANGLE(d) ((size_t)(d) * ((size_t)(d) + 1) / 2)
#define KLS_FACTORS(m, n) (KLS_ELEMENTS(m, m) + KLS_ELEMENTS(n, n) + KLS_TRIANGLE(m) + KLS_TRIANGLE(n))
#define KLS_PAIRS(count) (((size_t)(count) + 1) / 2)
#define KLS_FACTORS_16(m, n)                                                                                                                   \
    (KLS_PAIRS(KLS_ELEMENTS(m, m)) + KLS_PAIRS(KLS_ELEMENTS(n, n)) + KLS_PAIRS(KLS_TRIANGLE(m)) + KLS_PAIRS(KLS_TRIANGLE(n)))
#define KLS_LONGER(m, n) ((size_t)(m) < (size_t)(n) ? (size_t)(n) : (size_t)(m))
#define KLS_FACTOR_SCRATCH(m, n)                                                                                                               \
    (2 * (KLS_ELEMENTS(m, m) + KLS_ELEMENTS(n, n)) + 2 * ((size_t)(m) + (n)) + 2 * KLS_LONGER(m, n) * KLS_LONGER(m, n) + 5 * KLS_LONGER(m, n))

#endif
