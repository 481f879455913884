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
// The emulator has no warps: its threads compute their registers of C from the tiles (kls_mma_step). What the device does is also there, for blocks of
// one warp that meets at every instruction, so that a test can compare the two: emulator/src/fragments.cpp.
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
inline void kls_ldmatrix(uint32_t (&x)[4], const uint32_t *at) {
    static const uint32_t *pointed[32];
    const uint32_t lane = threadIdx.x;
    pointed[lane] = at;
    __syncthreads();
    for (uint32_t i = 0; i < 4; i++) x[i] = pointed[i * 8 + lane / 4][lane % 4];
    __syncthreads();
}

// `times` adds the product of two words. Which lane has an element of A or B is said from the other side here: by row, column and word.
template <class Times> inline void kls_mma(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], Times times) {
    static uint32_t all_a[32][4], all_b[32][2];
    const uint32_t lane = threadIdx.x;
    for (uint32_t i = 0; i < 4; i++) all_a[lane][i] = a[i];
    for (uint32_t i = 0; i < 2; i++) all_b[lane][i] = b[i];
    __syncthreads();
    for (uint32_t i = 0; i < 4; i++) {
        const uint32_t row = lane / 4 + (i < 2 ? 0 : 8), column = lane % 4 * 2 + (i & 1);
        for (uint32_t word = 0; word < 8; word++)
            times(c[i], all_a[row % 8 * 4 + word % 4][(row < 8 ? 0 : 1) + (word < 4 ? 0 : 2)], all_b[column * 4 + word % 4][word < 4 ? 0 : 1]);
    }
    __syncthreads();
}
// The lowest 13 bits are not looked at.
inline void kls_times_tf32(float &sum, uint32_t a, uint32_t b) { sum += __uint_as_float(a & 0xffffe000) * __uint_as_float(b & 0xffffe000); }
inline void kls_times_bf16(float &sum, uint32_t a, uint32_t b) {
    sum += __uint_as_float(a << 16) * __uint_as_float(b << 16);
    sum += __uint_as_float(a & 0xffff0000) * __uint_as_float(b & 0xffff0000);
}
inline void kls_mma_tf32(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) { kls_mma(c, a, b, kls_times_tf32); }
inline void kls_mma_bf16(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) { kls_mma(c, a, b, kls_times_bf16); }
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
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])                                                            \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]))
__device__ __forceinline__ void kls_mma_tf32(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    KLS_MMA("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32", c, a, b);
}
__device__ __forceinline__ void kls_mma_bf16(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    KLS_MMA("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32", c, a, b);
}
#undef KLS_MMA
#endif

// What is multiplied. IN_WORD numbers make a word of shared memory, which `pack` makes of them; `split` makes of a word the PARTS that are multiplied;
// `add` adds the products of a step's fragments, and in the emulator `add_words` those of eight words of two lines.
struct kls_tf32 {
    static constexpr uint32_t IN_WORD = 1, PARTS = 1;

    static __device__ __forceinline__ uint32_t pack(const float *x) { return kls_to_tf32(x[0]); }
    static __device__ __forceinline__ void split(uint32_t word, uint32_t (&part)[1]) { part[0] = word; }
    static __device__ __forceinline__ void add(float (&sum)[4], const uint32_t (&a)[1][4], const uint32_t (&b)[1][2]) {
        kls_mma_tf32(sum, a[0], b[0]);
    }
#ifdef KLS_EMULATE
    static void add_words(float &sum, const uint32_t (&a)[8], const uint32_t (&b)[8]) {
        for (uint32_t w = 0; w < 8; w++) kls_times_tf32(sum, a[w], b[w]);
    }
#endif
};

struct kls_bf16 {
    static constexpr uint32_t IN_WORD = 2, PARTS = 1;

    static __device__ __forceinline__ uint32_t pack(const float *x) { return kls_to_bf16_pair(x[0], x[1]); }
    static __device__ __forceinline__ void split(uint32_t word, uint32_t (&part)[1]) { part[0] = word; }
    static __device__ __forceinline__ void add(float (&sum)[4], const uint32_t (&a)[1][4], const uint32_t (&b)[1][2]) {
        kls_mma_bf16(sum, a[0], b[0]);
    }
#ifdef KLS_EMULATE
    static void add_words(float &sum, const uint32_t (&a)[8], const uint32_t (&b)[8]) {
        for (uint32_t w = 0; w < 8; w++) kls_times_bf16(sum, a[w], b[w]);
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
    static __device__ __forceinline__ void add(float (&sum)[4], const uint32_t (&a)[2][4], const uint32_t (&b)[2][2]) {
        float step[4] = {0, 0, 0, 0};
        kls_mma_tf32(step, a[1], b[0]);
        kls_mma_tf32(step, a[0], b[1]);
        kls_mma_tf32(step, a[0], b[0]);
KLS_UNROLL
        for (uint32_t i = 0; i < 4; i++) sum[i] += step[i];
    }
#ifdef KLS_EMULATE
    static void add_words(float &sum, const uint32_t (&a)[8], const uint32_t (&b)[8]) {
        uint32_t a_part[8][2], b_part[8][2];
        float step = 0;
        for (uint32_t w = 0; w < 8; w++) split(a[w], a_part[w]), split(b[w], b_part[w]);
        for (uint32_t w = 0; w < 8; w++) kls_times_tf32(step, a_part[w][1], b_part[w][0]);
        for (uint32_t w = 0; w < 8; w++) kls_times_tf32(step, a_part[w][0], b_part[w][1]);
        for (uint32_t w = 0; w < 8; w++) kls_times_tf32(step, a_part[w][0], b_part[w][0]);
        sum += step;
    }
#endif
};

// A warp's step: 16 M lines of A by 8 N of B, which begin at `a` and `b` in shared memory, at lines that are multiples of 8; of each line the eight
// words from the quad on, which is 0 or 2. All lanes of the warp are there.
template <class Numbers, uint32_t M, uint32_t N>
__device__ __forceinline__ void kls_mma_step_of_fragments(float (&sum)[M][N][4], const uint32_t *a, const uint32_t *b, uint32_t quad) {
    static_assert(N % 2 == 0, "B comes in pairs");
    constexpr uint32_t PARTS = Numbers::PARTS;
    const uint32_t lane = threadIdx.x % 32;
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
}

template <class Numbers, uint32_t M, uint32_t N>
__device__ __forceinline__ void kls_mma_step(float (&sum)[M][N][4], const uint32_t *a, const uint32_t *b, uint32_t quad) {
#ifdef KLS_EMULATE
    const uint32_t lane = threadIdx.x % 32;
    auto fetch = [&](uint32_t (&words)[8], const uint32_t *from, uint32_t line) {
        for (uint32_t w = 0; w < 8; w++) words[w] = from[kls_quad_at(line, quad + w / 4) + w % 4];
    };
    // The columns of B that the lane has to do with.
    uint32_t b_words[N][2][8], a_words[8];
    for (uint32_t j = 0; j < N; j++)
        for (uint32_t r = 0; r < 2; r++) fetch(b_words[j][r], b, j * 8 + kls_mma_c_column(lane, r));
    for (uint32_t i = 0; i < M; i++)
        for (uint32_t h = 0; h < 4; h += 2) {
            fetch(a_words, a, i * 16 + kls_mma_c_row(lane, h));
            for (uint32_t j = 0; j < N; j++)
                for (uint32_t r = 0; r < 2; r++) Numbers::add_words(sum[i][j][h + r], a_words, b_words[j][r]);
        }
#else
    kls_mma_step_of_fragments<Numbers>(sum, a, b, quad);
#endif
}
