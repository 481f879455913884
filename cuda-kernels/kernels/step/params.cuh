// What the kernels of a step look at: one struct for all of them, as the host's side has it in `src/step/params.rs`.
#pragma once
#include "../batch.h"
#include "../io/geometry.cuh"
#include "../io/measure.cuh"
#include "../io/scalar.cuh"
#include "../linalg/bits.cuh"

// Most modes of a tensor.
constexpr uint32_t KLS_MODES = 6;

// Flags of an item, for the length of one step. Bits from 16 on are the linear algebra's.
//
// It has a gradient.
constexpr uint32_t KLS_PRESENT = 1u << 0;
// The gradient is usable.
constexpr uint32_t KLS_ACTIVE = 1u << 1;
// Its first gradient that is not zero: it sets the basis.
constexpr uint32_t KLS_STARTING = 1u << 2;
// It makes the step proper.
constexpr uint32_t KLS_RUNS = 1u << 3;
// A refresh is due.
constexpr uint32_t KLS_DUE = 1u << 4;
// A refresh would be due if this were the step that sets the basis.
constexpr uint32_t KLS_DUE_AT_START = 1u << 5;
// There is something to precondition with.
constexpr uint32_t KLS_PRECONDITIONS = 1u << 6;
// The parameter is left alone.
constexpr uint32_t KLS_RESTS = 1u << 7;
// Something came out not finite: the item stays as it was.
constexpr uint32_t KLS_FAILED = 1u << 8;
// One mode's work is to be tried; one mode's work succeeded. For as long as that mode is worked on.
constexpr uint32_t KLS_TURN = 1u << 9;
constexpr uint32_t KLS_TURNED = 1u << 10;
// This refresh polishes the basis.
constexpr uint32_t KLS_POLISHES = 1u << 11;
// Only weight decay acts.
constexpr uint32_t KLS_DECAYS = 1u << 12;
// That its update stays in range does not follow from what is known of its averages: the update has to be looked at before it is made.
constexpr uint32_t KLS_UNPROVEN = 1u << 13;

// Choices on the axes of a configuration.
constexpr uint32_t KLS_IDENTITY = 0, KLS_DIAGONAL = 1, KLS_FULL = 2;
constexpr uint32_t KLS_WEIGHT_ONE = 0, KLS_WEIGHT_INVERSE_ROOT = 1, KLS_WEIGHT_ROOT = 2;
constexpr uint32_t KLS_DIVISOR_NONE = 0, KLS_DIVISOR_SUM = 1, KLS_DIVISOR_SQUARES = 2;
constexpr uint32_t KLS_AVERAGE = 0, KLS_INSTANTANEOUS = 1, KLS_INSTANTANEOUS_AFTER_REFRESH = 2, KLS_AT_REFRESH = 3;
constexpr uint32_t KLS_KRONECKER = 0, KLS_TRACE_SCALED = 1, KLS_SECOND_MOMENT = 2, KLS_MOMENTUM = 3;
constexpr uint32_t KLS_GRAFT_NONE = 0, KLS_GRAFT_ADAM = 1, KLS_GRAFT_SGD = 2, KLS_GRAFT_RMSPROP = 3, KLS_GRAFT_ADAGRAD = 4;
constexpr uint32_t KLS_NUMERATOR_AVERAGE = 0, KLS_NUMERATOR_NESTEROV = 1, KLS_NUMERATOR_GRADIENT = 2;
constexpr uint32_t KLS_CORRECTION_NONE = 0, KLS_CORRECTION_STEP_SIZE = 1, KLS_CORRECTION_MOMENTS = 2;

// The core's SliceHeader.
struct kls_header {
    uint64_t step, last_refresh;
    uint32_t started, refreshes, refresh_failures, refreshes_skipped, skipped, floored, clamped, rebalanced, capped;
    float update_rms, update_cosine;
    uint32_t postponed;
};

// Numbers of an item that one step's kernels leave to each other.
struct kls_scalars {
    // Bias corrections: factors on the numerator, on second moments, and on factors that eigenvalues are taken from.
    float numerator, second, factor;
    // A power of two that brings the gradient near 1, and the first eigenvalue.
    float normaliser, lambda;
    // c_k
    float alpha[KLS_MODES];
    // Frobenius norms of factors.
    float norm[KLS_MODES];
};

struct kls_step_params {
    uint32_t *flags;
    kls_header *headers;
    // The headers of after this step.
    kls_header *next;
    kls_scalars *scalars;
    // Factors on the directions: graft and cap.
    float *lengths;
    // Of the gradient, of the direction, and of the grafted direction or a factor.
    kls_measure *gradient_measure, *update_measure, *other_measure;
    double *partials;
    // An upper bound on the momentum's elements, infinity where nothing is known; NULL where none is kept.
    float *bounds;
    // Where gradients have been measured without it, the factor that clips them; else NULL.
    const float *clip;
    const kls_place *places;
    // The gradients of the table's tensors.
    void *const *grads;
    kls_scalar lr;

    // State.
    kls_array<float> basis[KLS_MODES], factor[KLS_MODES], lambda[KLS_MODES];
    kls_array<float> momentum, second_moment, graft_moment, state;
    // Scratch: the gradient; the same in the eigenbasis; averages of after this step; the ends of mode products.
    kls_array<float> grad, gradient, new_momentum, new_second_moment, product, update, aside;
    kls_array<float> delta[KLS_MODES], new_basis[KLS_MODES], new_lambda[KLS_MODES], weight[KLS_MODES];
    // diag(Delta) of modes without a factor, in `splits` partial sums.
    kls_array<float> diagonal[KLS_MODES];
    // Of eigendecompositions and refreshes: one number per index of the mode.
    kls_array<float> values;

    // Elements of a state before the master weights.
    uint64_t averages_len;
    uint32_t dims[KLS_MODES], modes[KLS_MODES], splits[KLS_MODES];
    // c_k but for the other modes' share; the lowest eigenvalue that a mode may have.
    float scale[KLS_MODES], lowest[KLS_MODES];
    uint32_t order, elements, preconditioned_modes, full_modes;
    uint32_t weighting, divisor, by_factors, has_lambda, eigenvalues, direction, graft, apply_first, factors_only, identity_first;
    uint32_t starts_from_lambda, scale_free, numerator, correction, factor_damping, sorts, capped, gauge, clamps, rests_at_first, polish_period;
    float beta1, beta2, eps, power, floor, first_lambda, cap, staleness;

    // This launch: items from `first` on that have the wanted flags, `blocks` blocks for each; the mode; what else the kernel asks for.
    uint32_t first, mask, wanted, blocks, mode, option, unused;
};

// The item that a block works on, where each has `p.blocks` of them.
__device__ __forceinline__ uint32_t kls_step_item(const kls_step_params &p) { return p.first + blockIdx.x / p.blocks; }

__device__ __forceinline__ bool kls_step_takes(const kls_step_params &p, uint32_t item) { return (p.flags[item] & p.mask) == p.wanted; }

// Every fourth number below `n`, from 0 on, that is this thread's: the first of four elements that are accessed together.
#define KLS_EACH_FOUR(i, n)                                                                                     \
    for (uint64_t i = 4 * ((uint64_t)(blockIdx.x % p.blocks) * blockDim.x + threadIdx.x); i < (uint64_t)(n);    \
         i += 4 * (uint64_t)p.blocks * blockDim.x)

// Every number below `n` that is this thread's.
#define KLS_EACH(i, n)                                                                                    \
    for (uint64_t i = (uint64_t)(blockIdx.x % p.blocks) * blockDim.x + threadIdx.x; i < (uint64_t)(n);    \
         i += (uint64_t)p.blocks * blockDim.x)

// The same where an item has one block.
#define KLS_OWN(i, n) for (uint32_t i = threadIdx.x; i < (n); i += blockDim.x)

// Elements of a triangle with its diagonal, of at most 2^15 rows.
__device__ __forceinline__ uint32_t kls_triangle(uint32_t d) { return d * (d + 1) / 2; }

// Products of the dims before mode k and after it.
__device__ __forceinline__ uint32_t kls_left(const kls_step_params &p, uint32_t k) {
    uint32_t left = 1;
    for (uint32_t j = 0; j < k; j++) left *= p.dims[j];
    return left;
}
__device__ __forceinline__ uint32_t kls_right(const kls_step_params &p, uint32_t k) {
    uint32_t right = 1;
    for (uint32_t j = k + 1; j < p.order; j++) right *= p.dims[j];
    return right;
}
