// A warp's products on tensor cores: C += A B^T of tiles in shared memory, 16 lines of A by 8 of B at a time, and the numbers that they take.
//
// Instructions (PTX ISA, "Warp-level matrix instructions"; sections as numbered in versions 8.5 to 9.1):
//   mma.m16n8k8 of tf32       9.7.14.5.7, "Matrix fragments for mma.m16n8k8"
//   mma.m16n8k16 of bf16      9.7.14.5.8, "Matrix fragments for mma.m16n8k16 with floating point type"
//   ldmatrix                  9.7.14.5.15
//
// In words of 32 bits, of which one has a number in tf32 or two neighbours in bf16, the two products are alike: A is 16 lines of 8 words, B 8 lines
// (columns of the ISA's B) of 8 words, and with g = lane / 4, t = lane % 4 a lane holds
//   of A, register i:   word t + 4 (i / 2) of line g + 8 (i % 2)
//   of B, register i:   word t + 4 i of line g
//   of C, register i:   row g + 8 (i / 2), column 2 t + i % 2
// and ldmatrix.x4 fetches four blocks of 8 lines of 4 words, which is what a register of A or of B is over the warp: lane l says where line l % 8 of
// block l / 8 is, and receives word t of line g of block i in register i. The functions below are these words, and checked against each other.
//
// The emulator knows no fragments: its threads compute their registers of C from the tiles.
#pragma once
#include "bits.cuh"

// Shared memory: lines of 16 words, in four quads of 16 bytes. Quads change places from one pair of lines to the next, so that 8 lanes that access one
// quad of each of 8 lines, or all of two, meet in no bank.
constexpr uint32_t KLS_LINE_WORDS = 16, KLS_LINE_QUADS = 4;

__host__ __device__ constexpr uint32_t kls_quad_at(uint32_t line, uint32_t quad) {
    return line * KLS_LINE_WORDS + ((quad ^ line / 2) % KLS_LINE_QUADS) * 4;
}

__host__ __device__ constexpr uint32_t kls_mma_a_line(uint32_t lane, uint32_t i) { return lane / 4 + i % 2 * 8; }
__host__ __device__ constexpr uint32_t kls_mma_a_word(uint32_t lane, uint32_t i) { return lane % 4 + i / 2 * 4; }
__host__ __device__ constexpr uint32_t kls_mma_b_line(uint32_t lane, uint32_t) { return lane / 4; }
__host__ __device__ constexpr uint32_t kls_mma_b_word(uint32_t lane, uint32_t i) { return lane % 4 + i * 4; }
__host__ __device__ constexpr uint32_t kls_mma_c_row(uint32_t lane, uint32_t i) { return lane / 4 + i / 2 * 8; }
__host__ __device__ constexpr uint32_t kls_mma_c_column(uint32_t lane, uint32_t i) { return lane % 4 * 2 + i % 2; }

// The line and the quad that a lane points to, for the four registers of A, and for the two of B twice: of 8 lines and of the next 8.
__host__ __device__ constexpr uint32_t kls_ldmatrix_a_line(uint32_t lane) { return lane % 8 + lane / 8 % 2 * 8; }
__host__ __device__ constexpr uint32_t kls_ldmatrix_a_quad(uint32_t lane) { return lane / 16; }
__host__ __device__ constexpr uint32_t kls_ldmatrix_b_line(uint32_t lane) { return lane % 8 + lane / 16 * 8; }
__host__ __device__ constexpr uint32_t kls_ldmatrix_b_quad(uint32_t lane) { return lane / 8 % 2; }

// Whether what ldmatrix fetches is what mma takes.
constexpr bool kls_fragments_are_fetched() {
    for (uint32_t lane = 0; lane < 32; lane++)
        for (uint32_t i = 0; i < 4; i++) {
            const uint32_t pointing = i * 8 + lane / 4, word = lane % 4;
            if (kls_ldmatrix_a_line(pointing) != kls_mma_a_line(lane, i)) return false;
            if (kls_ldmatrix_a_quad(pointing) * 4 + word != kls_mma_a_word(lane, i)) return false;
            if (kls_ldmatrix_b_line(pointing) != kls_mma_b_line(lane, i % 2) + i / 2 * 8) return false;
            if (kls_ldmatrix_b_quad(pointing) * 4 + word != kls_mma_b_word(lane, i % 2)) return false;
        }
    return true;
}
static_assert(kls_fragments_are_fetched(), "ldmatrix fetches other fragments than mma takes");

// Whether every element of A, B and C belongs to one lane.
constexpr bool kls_fragments_are_whole() {
    uint32_t a[16] = {}, b[8] = {}, c[16] = {};
    for (uint32_t lane = 0; lane < 32; lane++)
        for (uint32_t i = 0; i < 4; i++) {
            a[kls_mma_a_line(lane, i)] += 1u << 4 * kls_mma_a_word(lane, i);
            c[kls_mma_c_row(lane, i)] += 1u << 4 * kls_mma_c_column(lane, i);
            if (i < 2) b[kls_mma_b_line(lane, i)] += 1u << 4 * kls_mma_b_word(lane, i);
        }
    for (uint32_t line = 0; line < 16; line++)
        if (a[line] != 0x11111111 || c[line] != 0x11111111 || b[line % 8] != 0x11111111) return false;
    return true;
}
static_assert(kls_fragments_are_whole(), "fragments overlap");

// Whether 8 lanes meet in no bank: with one quad of 8 lines, and with all quads of two.
constexpr bool kls_quads_are_spread() {
    for (uint32_t i = 0; i < 4; i++) {
        uint32_t along = 0, across = 0;
        for (uint32_t lane = 0; lane < 8; lane++) {
            along |= 1u << kls_quad_at(2 * i + lane / 4, lane % 4) % 32 / 4;
            across |= 1u << kls_quad_at(8 + lane, i) % 32 / 4;
        }
        if (along != 0xff || across != 0xff) return false;
    }
    return true;
}
static_assert(kls_quads_are_spread(), "lanes meet in a bank");

// The nearest number of 11 significant bits, halves away from zero; a NaN becomes one of no sign.
__device__ __forceinline__ uint32_t kls_to_tf32(float x) {
#ifdef KLS_EMULATE
    const uint32_t bits = __float_as_uint(x);
    return (bits & 0x7fffffff) > 0x7f800000 ? 0x7fffffff : (bits + 0x1000) & 0xffffe000;
#else
    uint32_t rounded;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(rounded) : "f"(x));
    return rounded;
#endif
}

// The nearest numbers of 8 significant bits, halves to even: the first in the lower half.
__device__ __forceinline__ uint32_t kls_to_bf16_pair(float first, float second) {
#ifdef KLS_EMULATE
    auto round = [](float x) -> uint32_t {
        const uint32_t bits = __float_as_uint(x);
        return (bits & 0x7fffffff) > 0x7f800000 ? 0x7fff : (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    };
    return round(first) | round(second) << 16;
#else
    uint32_t pair;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(second), "f"(first));
    return pair;
#endif
}

#ifdef KLS_EMULATE
// What a thread's register of C gets from a step: each number type adds to `sum` the products of the eight words.
struct kls_step_words {
    const uint32_t *a, *b;
    uint32_t a_line, b_line, quad;

    uint32_t a_word(uint32_t w) const { return a[kls_quad_at(a_line, quad + w / 4) + w % 4]; }
    uint32_t b_word(uint32_t w) const { return b[kls_quad_at(b_line, quad + w / 4) + w % 4]; }
};
#else
__device__ __forceinline__ void kls_ldmatrix(uint32_t (&x)[4], const uint32_t *at) {
    const uint32_t address = (uint32_t)__cvta_generic_to_shared(at);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3])
                 : "r"(address)
                 : "memory");
}

#define KLS_MMA(instruction, c, a, b)                                                                                        \
    asm volatile(instruction " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"                              \
                 : "+f"((c)[0]), "+f"((c)[1]), "+f"((c)[2]), "+f"((c)[3])                                                    \
                 : "r"((a)[0]), "r"((a)[1]), "r"((a)[2]), "r"((a)[3]), "r"((b)[0]), "r"((b)[1]))
#define KLS_MMA_TF32(c, a, b) KLS_MMA("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32", c, a, b)
#define KLS_MMA_BF16(c, a, b) KLS_MMA("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32", c, a, b)
#endif

// What is multiplied. IN_WORD numbers make a word of shared memory, which `pack` makes of them; `split` makes of a word the PARTS that are multiplied.
struct kls_tf32 {
    static constexpr uint32_t IN_WORD = 1, PARTS = 1;

    static __device__ __forceinline__ uint32_t pack(const float *x) { return kls_to_tf32(x[0]); }
#ifdef KLS_EMULATE
    static void add(float &sum, const kls_step_words &at) {
        for (uint32_t w = 0; w < 8; w++) sum += __uint_as_float(at.a_word(w)) * __uint_as_float(at.b_word(w));
    }
#else
    static __device__ __forceinline__ void split(uint32_t word, uint32_t (&part)[1]) { part[0] = word; }
    static __device__ __forceinline__ void add(float (&sum)[4], const uint32_t (&a)[1][4], const uint32_t (&b)[1][2]) {
        KLS_MMA_TF32(sum, a[0], b[0]);
    }
#endif
};

struct kls_bf16 {
    static constexpr uint32_t IN_WORD = 2, PARTS = 1;

    static __device__ __forceinline__ uint32_t pack(const float *x) { return kls_to_bf16_pair(x[0], x[1]); }
#ifdef KLS_EMULATE
    static void add(float &sum, const kls_step_words &at) {
        for (uint32_t w = 0; w < 8; w++) {
            const uint32_t a = at.a_word(w), b = at.b_word(w);
            sum += __uint_as_float(a << 16) * __uint_as_float(b << 16);
            sum += __uint_as_float(a & 0xffff0000) * __uint_as_float(b & 0xffff0000);
        }
    }
#else
    static __device__ __forceinline__ void split(uint32_t word, uint32_t (&part)[1]) { part[0] = word; }
    static __device__ __forceinline__ void add(float (&sum)[4], const uint32_t (&a)[1][4], const uint32_t (&b)[1][2]) {
        KLS_MMA_BF16(sum, a[0], b[0]);
    }
#endif
};

// A number x is the sum of high, which is x in tf32, and low, which is the rest in tf32, but for 2^-23 |x|: the rest has 13 bits and is at most 2^12
// of the last bits of x, and of those the rounding takes one. Of (high + low) (high' + low') the product of the low ones, at most 2^-22 |x x'|, is left
// out: 2^-21 |x x'| in all.
//
// Tensor cores cut off what does not fit when they add, which over a long sum leaves a bias that fp32 does not have. So the sums of a step begin with
// zero, the small products first, and are added to those of the steps before by the other units, which round.
struct kls_tf32x3 {
    static constexpr uint32_t IN_WORD = 1, PARTS = 2;

    static __device__ __forceinline__ uint32_t pack(const float *x) { return __float_as_uint(x[0]); }
    static __device__ __forceinline__ void split(uint32_t word, uint32_t (&part)[2]) {
        const float x = __uint_as_float(word);
        // The bits that are none of a tf32 number are nobody's to mma, but here they count.
        part[0] = kls_to_tf32(x) & 0xffffe000;
        part[1] = kls_to_tf32(x - __uint_as_float(part[0]));
    }
#ifdef KLS_EMULATE
    static void add(float &sum, const kls_step_words &at) {
        float a[8][2], b[8][2], step = 0;
        for (uint32_t w = 0; w < 8; w++) {
            uint32_t part[2];
            split(at.a_word(w), part);
            for (uint32_t i = 0; i < 2; i++) a[w][i] = __uint_as_float(part[i]);
            split(at.b_word(w), part);
            for (uint32_t i = 0; i < 2; i++) b[w][i] = __uint_as_float(part[i]);
        }
        for (uint32_t w = 0; w < 8; w++) step += a[w][1] * b[w][0];
        for (uint32_t w = 0; w < 8; w++) step += a[w][0] * b[w][1];
        for (uint32_t w = 0; w < 8; w++) step += a[w][0] * b[w][0];
        sum += step;
    }
#else
    static __device__ __forceinline__ void add(float (&sum)[4], const uint32_t (&a)[2][4], const uint32_t (&b)[2][2]) {
        float step[4] = {0, 0, 0, 0};
        KLS_MMA_TF32(step, a[1], b[0]);
        KLS_MMA_TF32(step, a[0], b[1]);
        KLS_MMA_TF32(step, a[0], b[0]);
KLS_UNROLL
        for (uint32_t i = 0; i < 4; i++) sum[i] += step[i];
    }
#endif
};

// A warp's step: 16 M lines of A by 8 N of B, which begin at `a` and `b` in shared memory, at lines that are multiples of 8; of each line the eight
// words from the quad on, which is 0 or 2. All lanes of the warp are there.
template <class Numbers, uint32_t M, uint32_t N>
__device__ __forceinline__ void kls_mma_step(float (&sum)[M][N][4], const uint32_t *a, const uint32_t *b, uint32_t quad) {
    static_assert(N % 2 == 0, "B comes in pairs");
    const uint32_t lane = threadIdx.x % 32;
#ifdef KLS_EMULATE
    for (uint32_t i = 0; i < M; i++)
        for (uint32_t j = 0; j < N; j++)
            for (uint32_t r = 0; r < 4; r++)
                Numbers::add(sum[i][j][r], {a, b, i * 16 + kls_mma_c_row(lane, r), j * 8 + kls_mma_c_column(lane, r), quad});
#else
    constexpr uint32_t PARTS = Numbers::PARTS;
    const uint32_t *a_at = a + kls_quad_at(kls_ldmatrix_a_line(lane), quad + kls_ldmatrix_a_quad(lane));
    const uint32_t *b_at = b + kls_quad_at(kls_ldmatrix_b_line(lane), quad + kls_ldmatrix_b_quad(lane));
    uint32_t b_parts[N][PARTS][2];
KLS_UNROLL
    for (uint32_t j = 0; j < N; j += 2) {
        uint32_t words[4];
        kls_ldmatrix(words, b_at + j * 8 * KLS_LINE_WORDS);
KLS_UNROLL
        for (uint32_t r = 0; r < 4; r++) {
            uint32_t part[PARTS];
            Numbers::split(words[r], part);
KLS_UNROLL
            for (uint32_t s = 0; s < PARTS; s++) b_parts[j + r / 2][s][r % 2] = part[s];
        }
    }
KLS_UNROLL
    for (uint32_t i = 0; i < M; i++) {
        uint32_t words[4], a_parts[PARTS][4];
        kls_ldmatrix(words, a_at + i * 16 * KLS_LINE_WORDS);
KLS_UNROLL
        for (uint32_t r = 0; r < 4; r++) {
            uint32_t part[PARTS];
            Numbers::split(words[r], part);
KLS_UNROLL
            for (uint32_t s = 0; s < PARTS; s++) a_parts[s][r] = part[s];
        }
KLS_UNROLL
        for (uint32_t j = 0; j < N; j++) Numbers::add(sum[i][j], a_parts, b_parts[j]);
    }
#endif
}
