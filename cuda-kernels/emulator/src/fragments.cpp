// A warp's step on tensor cores as the device does it, instruction by instruction, beside what the emulator's threads compute in its place: kernels of
// tests alone.
#include "linalg/mma.cuh"

namespace {
constexpr uint32_t M = 4, N = 4;

struct kls_test_fragments_params {
    // M 16 and N 8 lines of 16 words.
    const uint32_t *a, *b;
    // 16 M x 8 N: by fragments, and by words.
    float *by_fragments, *by_words;
};

template <class Numbers> void steps(const kls_test_fragments_params &p) {
    static uint32_t a[M * 16 * KLS_LINE_WORDS], b[N * 8 * KLS_LINE_WORDS];
    const uint32_t lane = threadIdx.x;
    auto fill = [&](uint32_t *tile, const uint32_t *lines, uint32_t count) {
        for (uint32_t line = 0; line < count; line++)
            if (lane < KLS_LINE_WORDS) tile[kls_quad_at(line, lane / 4) + lane % 4] = lines[line * KLS_LINE_WORDS + lane];
    };
    fill(a, p.a, M * 16);
    fill(b, p.b, N * 8);
    __syncthreads();
    float fragments[M][N][4] = {}, words[M][N][4] = {};
    for (uint32_t quad = 0; quad < KLS_LINE_QUADS; quad += 2) {
        kls_mma_step_of_fragments<Numbers>(fragments, a, b, quad);
        kls_mma_step<Numbers>(words, a, b, quad);
    }
    for (uint32_t i = 0; i < M; i++)
        for (uint32_t j = 0; j < N; j++)
            for (uint32_t r = 0; r < 4; r++) {
                const uint32_t at = (i * 16 + kls_mma_c_row(lane, r)) * N * 8 + j * 8 + kls_mma_c_column(lane, r);
                p.by_fragments[at] = fragments[i][j][r];
                p.by_words[at] = words[i][j][r];
            }
}

KLS_KERNEL(kls_test_fragments_tf32, kls_test_fragments_params, 32) { steps<kls_tf32>(p); }
KLS_KERNEL(kls_test_fragments_tf32x3, kls_test_fragments_params, 32) { steps<kls_tf32x3>(p); }
KLS_KERNEL(kls_test_fragments_bf16, kls_test_fragments_params, 32) { steps<kls_bf16>(p); }
} // namespace
