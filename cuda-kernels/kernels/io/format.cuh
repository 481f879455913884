// Formats of numbers in the caller's buffers, read and rounded bit for bit as the core does (core/src/format.rs).
#pragma once
#include "geometry.cuh"
#include "chunks.cuh"

constexpr uint32_t KLS_F32 = 0, KLS_BF16 = 1, KLS_F16 = 2;

__device__ __forceinline__ uint64_t kls_format_size(uint32_t format) { return format == KLS_F32 ? 4 : 2; }

__device__ __forceinline__ float kls_from_bf16(uint16_t bits) { return __uint_as_float(static_cast<uint32_t>(bits) << 16); }

// No operand is a denormal, so that it is right where these are flushed.
__device__ __forceinline__ float kls_from_f16(uint16_t bits) {
    const uint32_t smallest_normal = (127 - 14) << 23, one_exponent = 1u << 23;
    const uint32_t sign = (bits & 0x8000u) << 16, magnitude = (bits & 0x7fffu) << 13;
    if (magnitude < one_exponent) {
        // A denormal has the smallest exponent, but not the one in front of the point that belongs to it.
        const float denormal = __uint_as_float(magnitude + smallest_normal) - __uint_as_float(smallest_normal);
        return __uint_as_float(sign | __float_as_uint(denormal));
    }
    return __uint_as_float(sign | (magnitude + (magnitude >= 0x1fu << 23 ? (255u - 31u) << 23 : (127u - 15u) << 23)));
}

// Rounds to bf16 by adding to the bits that are dropped. What would become infinite stays finite, and what is not finite stays that.
__device__ __forceinline__ uint16_t kls_to_bf16(float x, bool stochastic, uint16_t number) {
    const uint32_t infinite = 0x7f800000, largest = 0x7f7f;
    const uint32_t bits = __float_as_uint(x), sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffff;
    // A NaN keeps a bit of its mantissa.
    if (magnitude >= infinite) return static_cast<uint16_t>(sign | magnitude >> 16 | (magnitude > infinite ? 0x40 : 0));
    const uint32_t addend = stochastic ? number : 0x7fff + (magnitude >> 16 & 1);
    const uint32_t rounded = (magnitude + addend) >> 16;
    return static_cast<uint16_t>(sign | (rounded > largest ? largest : rounded));
}

// Up to four elements of a piece that begins at `base`, from `ahead` after the index on. `quads`: whether the four can be accessed as one.
template <class T>
__device__ __forceinline__ void kls_load_piece4(const kls_geometry &g, const T *base, bool quads, const kls_index &index, uint32_t ahead,
                                                uint32_t count, T out[4]) {
    base = kls_global(base);
    if (quads && count == 4) {
        kls_load4(base, true, kls_offset(g, index, ahead), 4, out);
    } else {
        for (uint32_t j = 0; j < 4; j++)
            if (j < count) out[j] = base[kls_offset(g, index, ahead + j)];
    }
}

template <class T>
__device__ __forceinline__ void kls_store_piece4(const kls_geometry &g, T *base, bool quads, const kls_index &index, uint32_t ahead,
                                                 uint32_t count, const T x[4]) {
    base = kls_global(base);
    if (quads && count == 4) {
        kls_store4(base, true, kls_offset(g, index, ahead), 4, x);
    } else {
        for (uint32_t j = 0; j < 4; j++)
            if (j < count) base[kls_offset(g, index, ahead + j)] = x[j];
    }
}

// Whether the groups of four of a piece that begins at `base` can be accessed as one.
__device__ __forceinline__ bool kls_piece_holds_quads(const kls_geometry &g, const void *base, uint32_t format) {
    return g.quads && (reinterpret_cast<uintptr_t>(base) & (4 * kls_format_size(format) - 1)) == 0;
}

// The same elements of a piece in any format, as f32; those beyond `count` become zero.
__device__ __forceinline__ void kls_read_piece4(const kls_geometry &g, const void *base, uint32_t format, bool quads, const kls_index &index,
                                                uint32_t ahead, uint32_t count, float out[4]) {
    if (format == KLS_F32) {
        for (uint32_t j = 0; j < 4; j++) out[j] = 0;
        kls_load_piece4(g, static_cast<const float *>(base), quads, index, ahead, count, out);
        return;
    }
    uint16_t bits[4] = {0, 0, 0, 0};
    kls_load_piece4(g, static_cast<const uint16_t *>(base), quads, index, ahead, count, bits);
    for (uint32_t j = 0; j < 4; j++) out[j] = format == KLS_BF16 ? kls_from_bf16(bits[j]) : kls_from_f16(bits[j]);
}
