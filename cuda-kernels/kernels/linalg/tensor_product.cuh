// The products of product.cuh on tensor cores: inputs are rounded to tf32 or bf16, or split into two numbers in tf32 each, on their way into shared
// memory or out of it; sums are f32. See mma.cuh.
#pragma once
#include "../io/chunks.cuh"
#include "mma.cuh"
#include "product.cuh"

// Where an operand's elements are: lines (rows of A, columns of B) by depth.
struct kls_lines {
    uint32_t lines, depth, inner_depth;
    uint64_t outer, inner;

    __device__ __forceinline__ uint64_t at(uint32_t k) const { return kls_two_levels(k, depth, inner_depth, outer, inner); }
};

// A thread's share of an operand's tile of LINES lines and as much depth as makes a line of shared memory: whole quads of its lines, which lie in
// registers on their way from memory.
template <class Numbers, uint32_t LINES, uint32_t THREADS> struct kls_share {
    static constexpr uint32_t QUADS = LINES * KLS_LINE_QUADS / THREADS, IN_QUAD = 4 * Numbers::IN_WORD;
    static_assert(LINES * KLS_LINE_QUADS % THREADS == 0, "shares are equal");

    float next[QUADS][IN_QUAD];
    // Where its lines begin, and their numbers in the operand.
    uint64_t at[QUADS];
    uint32_t line[QUADS];
    bool along_depth;

    // Neighbours in memory go to neighbouring threads, or into one access of a thread. The numbers are computed anew at each step, which costs less than
    // the registers to keep them in.
    __device__ __forceinline__ uint32_t line_in_tile(uint32_t l) const {
        uint32_t number = threadIdx.x + l * THREADS;
        KLS_COMPUTED_HERE(number);
        return along_depth ? number / KLS_LINE_QUADS : number % LINES;
    }
    __device__ __forceinline__ uint32_t quad(uint32_t l) const {
        uint32_t number = threadIdx.x + l * THREADS;
        KLS_COMPUTED_HERE(number);
        return along_depth ? number % KLS_LINE_QUADS : number / LINES;
    }

    template <class Place> __device__ __forceinline__ kls_share(uint32_t first_line, bool along_depth, Place place) : along_depth(along_depth) {
KLS_UNROLL
        for (uint32_t l = 0; l < QUADS; l++) {
            line[l] = first_line + line_in_tile(l);
            at[l] = place(line[l]);
        }
    }

    // Fetches what is at `start` and behind it in depth; zeros where there is nothing. `fours`: four neighbours in depth lie together and aligned.
    __device__ __forceinline__ void load(const float *x, const kls_lines &of, bool fours, uint32_t start) {
KLS_UNROLL
        for (uint32_t l = 0; l < QUADS; l++)
KLS_UNROLL
            for (uint32_t i = 0; i < IN_QUAD; i += 4) {
                const uint32_t k = start + quad(l) * IN_QUAD + i;
                float *to = &next[l][i];
                const bool exists = line[l] < of.lines && k < of.depth;
                if (fours) {
                    kls_quad<float> four = {{0, 0, 0, 0}};
                    if (exists) four = *reinterpret_cast<const kls_quad<float> *>(x + at[l] + of.at(k));
KLS_UNROLL
                    for (uint32_t j = 0; j < 4; j++) to[j] = four.at[j];
                    continue;
                }
                // The index is divided into its levels once, and counted from there.
                const bool one_level = of.inner_depth >= of.depth;
                const uint32_t outer = one_level ? 0 : k / of.inner_depth;
                uint32_t inner = k - outer * of.inner_depth;
                uint64_t place = at[l] + outer * of.outer + inner * of.inner;
KLS_UNROLL
                for (uint32_t j = 0; j < 4; j++) {
                    to[j] = exists && k + j < of.depth ? x[place] : 0.0f;
                    place += of.inner;
                    if (++inner == of.inner_depth) inner = 0, place += of.outer - of.inner_depth * of.inner;
                }
            }
    }

    __device__ __forceinline__ void store(uint32_t *tile) const {
KLS_UNROLL
        for (uint32_t l = 0; l < QUADS; l++) {
            kls_quad<uint32_t> words;
KLS_UNROLL
            for (uint32_t w = 0; w < 4; w++) words.at[w] = Numbers::pack(&next[l][w * Numbers::IN_WORD]);
            *reinterpret_cast<kls_quad<uint32_t> *>(tile + kls_quad_at(line_in_tile(l), quad(l))) = words;
        }
    }
};

// A block of DOWN x ACROSS warps makes a tile of TILE x TILE, from 16 words of depth at a time: one such step in shared memory, one under way.
template <class Numbers, uint32_t TILE, uint32_t DOWN, uint32_t ACROSS>
__device__ __forceinline__ void kls_tensor_product(const kls_product_params &p) {
    constexpr uint32_t THREADS = DOWN * ACROSS * 32, DEPTH = KLS_LINE_WORDS * Numbers::IN_WORD;
    // What a warp makes.
    constexpr uint32_t ROWS = TILE / DOWN, COLUMNS = TILE / ACROSS, M = ROWS / 16, N = COLUMNS / 8;
    alignas(16) __shared__ uint32_t tiles[2][2][TILE * KLS_LINE_WORDS];

    const bool lower = p.options & KLS_PRODUCT_LOWER;
    uint32_t row0, column0;
    kls_product_place(p, TILE, row0, column0);
    const uint32_t first = p.options & KLS_PRODUCT_UPPER_A ? row0 : 0;
    const bool one_column_level = p.inner_columns >= p.columns, one_depth_level = p.inner_depth >= p.depth;

    const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const uint32_t down = warp / ACROSS * ROWS, across = warp % ACROSS * COLUMNS;
    const uint32_t warp_row = row0 + down, warp_column = column0 + across;
    const bool works = warp_row < p.rows && warp_column < p.columns && !(lower && warp_row + (ROWS - 1) < warp_column);

    const kls_lines a_lines = {p.rows, p.depth, p.inner_depth, p.a_outer, p.a_inner};
    const kls_lines b_lines = {p.columns, p.depth, p.inner_depth, p.b_outer, p.b_inner};
    auto column_place = [&](uint32_t column, uint64_t outer, uint64_t inner) {
        return kls_two_levels(column, p.columns, p.inner_columns, outer, inner);
    };
    kls_share<Numbers, TILE, THREADS> a_share(row0, p.a_inner == 1, [&](uint32_t row) { return row * p.a_row; });
    kls_share<Numbers, TILE, THREADS> b_share(column0, p.b_inner == 1, [&](uint32_t column) {
        return column_place(column, p.b_column_outer, p.b_column_inner);
    });
    // Whether four neighbours in depth lie together at a place that is a multiple of four, but for where an item begins.
    const bool depth_in_fours = p.depth % 4 == 0 && (one_depth_level || p.inner_depth % 4 == 0);
    const bool a_in_fours = depth_in_fours && p.a_inner == 1 && p.a_row % 4 == 0 && (one_depth_level || p.a_outer % 4 == 0);
    const bool b_in_fours = depth_in_fours && p.b_inner == 1 && p.b_column_inner % 4 == 0 && (one_column_level || p.b_column_outer % 4 == 0) &&
                            (one_depth_level || p.b_outer % 4 == 0);
    // The same of two neighbouring columns of C.
    const bool c_in_twos = p.columns % 2 == 0 && p.c_column_inner == 1 && p.c_row % 2 == 0 &&
                           (one_column_level || (p.inner_columns % 2 == 0 && p.c_column_outer % 2 == 0));

    for (uint32_t item = blockIdx.y; item < p.items.count; item += gridDim.y) {
        if (!kls_takes_part(p.items, item)) continue;
        const float *a = p.a.of(item), *b = p.b.of(item);
        float *c = p.c.of(item);
        const bool a_fours = a_in_fours && kls_holds_quads(a), b_fours = b_in_fours && kls_holds_quads(b);
        float sum[M][N][4];
KLS_UNROLL
        for (uint32_t i = 0; i < M; i++)
KLS_UNROLL
            for (uint32_t j = 0; j < N; j++)
KLS_UNROLL
                for (uint32_t r = 0; r < 4; r++) sum[i][j][r] = 0;

        a_share.load(a, a_lines, a_fours, first);
        b_share.load(b, b_lines, b_fours, first);
        // The item before may still be read.
        __syncthreads();
        a_share.store(tiles[0][0]);
        b_share.store(tiles[0][1]);
        __syncthreads();
        uint32_t buffer = 0;
        for (uint32_t start = first; start < p.depth; start += DEPTH, buffer ^= 1) {
            const bool more = p.depth - start > DEPTH;
            if (more) {
                a_share.load(a, a_lines, a_fours, start + DEPTH);
                b_share.load(b, b_lines, b_fours, start + DEPTH);
            }
            if (works) {
                const uint32_t *a_tile = tiles[buffer][0] + down * KLS_LINE_WORDS, *b_tile = tiles[buffer][1] + across * KLS_LINE_WORDS;
                // One step's fragments in registers at a time.
KLS_NO_UNROLL
                for (uint32_t quad = 0; quad < KLS_LINE_QUADS; quad += 2) kls_mma_step<Numbers>(sum, a_tile, b_tile, quad);
            }
            if (more) {
                a_share.store(tiles[buffer ^ 1][0]);
                b_share.store(tiles[buffer ^ 1][1]);
                __syncthreads();
            }
        }
        if (!works) continue;

        uint32_t first_row = warp_row + kls_mma_c_row(lane, 0), first_column = warp_column + kls_mma_c_column(lane, 0);
        KLS_COMPUTED_HERE(first_row);
        KLS_COMPUTED_HERE(first_column);
        const float alpha = p.scale.base ? p.alpha * p.scale.of(item)[0] : p.alpha;
        const bool accumulate = p.options & KLS_PRODUCT_ACCUMULATE;
        const bool c_twos = c_in_twos && (reinterpret_cast<uintptr_t>(c) & 7) == 0;
        struct alignas(8) two {
            float at[2];
        };
KLS_UNROLL
        for (uint32_t j = 0; j < N; j++) {
            const uint32_t column = first_column + j * 8;
            if (column >= p.columns) break;
            float *at = c + column_place(column, p.c_column_outer, p.c_column_inner);
            const bool has_next = column + 1 < p.columns;
            float *next_at = has_next ? c + column_place(column + 1, p.c_column_outer, p.c_column_inner) : at;
            auto exists = [&](uint32_t row) { return row < p.rows && !(lower && row < column); };
            auto next_exists = [&](uint32_t row) { return has_next && row < p.rows && !(lower && row <= column); };
            // All that is read of two columns is under way before the first element is written: the compiler cannot know that this does not change
            // the others.
            float old[M][4] = {};
            if (accumulate) {
KLS_UNROLL
                for (uint32_t i = 0; i < M; i++)
KLS_UNROLL
                    for (uint32_t r = 0; r < 4; r += 2) {
                        const uint32_t row = first_row + i * 16 + r / 2 * 8;
                        if (exists(row)) old[i][r] = at[row * p.c_row];
                        if (next_exists(row)) old[i][r + 1] = next_at[row * p.c_row];
                    }
            }
KLS_UNROLL
            for (uint32_t i = 0; i < M; i++)
KLS_UNROLL
                for (uint32_t r = 0; r < 4; r += 2) {
                    const uint32_t row = first_row + i * 16 + r / 2 * 8;
                    const uint64_t down_to = row * p.c_row;
                    float x = alpha * sum[i][j][r], next = alpha * sum[i][j][r + 1];
                    if (accumulate) x = old[i][r] + x, next = old[i][r + 1] + next;
                    if (c_twos && next_exists(row)) {
                        *reinterpret_cast<two *>(at + down_to) = two{{x, next}};
                        continue;
                    }
                    if (exists(row)) at[down_to] = x;
                    if (next_exists(row)) next_at[down_to] = next;
                }
        }
    }
}

// Large tiles where there are enough of them for a device, small ones else: src/linalg/tensor_product.rs chooses.
KLS_KERNEL(kls_product_tf32_large, kls_product_params, 256) { kls_tensor_product<kls_tf32, 128, 2, 4>(p); }
KLS_KERNEL(kls_product_tf32_small, kls_product_params, 128) { kls_tensor_product<kls_tf32, 64, 2, 2>(p); }
KLS_KERNEL(kls_product_tf32x3_large, kls_product_params, 256) { kls_tensor_product<kls_tf32x3, 128, 2, 4>(p); }
KLS_KERNEL(kls_product_tf32x3_small, kls_product_params, 128) { kls_tensor_product<kls_tf32x3, 64, 2, 2>(p); }
KLS_KERNEL(kls_product_bf16_large, kls_product_params, 256) { kls_tensor_product<kls_bf16, 128, 2, 4>(p); }
KLS_KERNEL(kls_product_bf16_small, kls_product_params, 128) { kls_tensor_product<kls_bf16, 64, 2, 2>(p); }
