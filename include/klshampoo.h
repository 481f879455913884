/*
 * klshampoo: the KL-Shampoo family of optimizers.
 *
 * API conventions
 *   Status      Every call that can fail returns a kls_status: KLS_OK (0) or the number of an error, explained by
 *               kls_status_string; kls_last_error adds where (which tensor, slice, mode). Numbers never change their meaning.
 *               An error leaves parameters, state and outputs as they were, unless the call says otherwise.
 *   Structs     Structs that a caller fills start with struct_size and are filled by their init function, which is given sizeof.
 *               Change fields after that. They are copied, names too; nothing keeps a pointer to them. A callback's `user` is kept.
 *   Ownership   kls_optimizer_create allocates, kls_optimizer_destroy frees and clears the caller's handle.
 *               kls_optimizer_init works in the caller's memory and never allocates. Parameters and gradients stay the caller's:
 *               they are only touched during a call.
 *   Alignment   Pointers are aligned for their type, elements for their format (f32: 4 bytes, bf16 and f16: 2), the memory of
 *               kls_optimizer_init as kls_optimizer_query says. What is not is KLS_ERROR_MISALIGNED.
 *   Numbers     IEEE floats in the machine's byte order: f32, and as a tensor says (kls_tensor) bf16 and f16. The arithmetic is f32.
 *               Elements are row-major unless a tensor has strides. NaN and infinity are found by their bits, so a caller may be built
 *               with -ffast-math; denormals may be flushed, by all threads of a step or by none,
 *               which is to be set before the optimizer is made.
 *   Aliasing    Parameters, gradients, updates, outputs and the optimizer's memory do not overlap. A parameter or update that overlaps
 *               its own tensor's gradient is detected (KLS_ERROR_OVERLAP), one that overlaps another tensor's is not. Tensors with
 *               strides may lie in the gaps of other tensors, but not in those of their own gradients or updates.
 *   Threads     One thread at a time per optimizer; different optimizers may be used from different threads at the same time. There is
 *               no global state that calls share. After fork() the child must not use an optimizer that has threads: they stayed with
 *               the parent.
 *   Callbacks   Functions of the caller (kls_log, kls_parallel_for, kls_sgemm, kls_read, kls_write) get their `user` handed through. They
 *               must not throw, jump out, or call into the optimizer that calls them; a log may ask for kls_last_error.
 *   Results     The same calls give the same bits: for the portable backend on every machine, for faer for the same CPU features,
 *               for any number of threads.
 *   Panics      A bug in the library never crosses the border: KLS_ERROR_INTERNAL, and the optimizer is then of no use but to destroy.
 *   ABI policy  A struct only grows at its end, a constant keeps its number, a function keeps its arguments. So a program that was
 *               compiled with an older header of the same soname runs with a newer library and gets what it had: its struct_size tells
 *               the library which fields it knows, and those that it does not know have their defaults. A newer program with an older
 *               library gets KLS_ERROR_STRUCT_SIZE. Compare kls_version with KLS_VERSION_*.
 *   Without a host   Define KLS_NO_HOST where the library was built without its feature `host` (no heap, no threads, no files).
 */

#ifndef KLSHAMPOO_H
#define KLSHAMPOO_H

/* Generated from the crate klshampoo-ffi by cbindgen; do not edit. `cargo test -p klshampoo-tests --test header` compares. */

#include <stddef.h>
#include <stdint.h>

#ifndef KLS_NO_HOST
#define KLS_HOST
#endif

// No Kronecker factors: an elementwise method.
#define KLS_ESTIMATOR_NONE 0

// KL-Shampoo's factors.
#define KLS_ESTIMATOR_KL 1

// One-sided: a tensor has one preconditioned dim.
#define KLS_ESTIMATOR_ONE_SIDED 2

// Shampoo's factors.
#define KLS_ESTIMATOR_SHAMPOO 3

// VN-Shampoo's factors, variant 2 (variant 1 has Shampoo's).
#define KLS_ESTIMATOR_VON_NEUMANN 4

// F-Shampoo's factors, variant 2.
#define KLS_ESTIMATOR_FROBENIUS 5

// F-Shampoo's factors, variant 1.
#define KLS_ESTIMATOR_FROBENIUS_FACTOR 6

// All estimates of a step from the eigenvalues of before it.
#define KLS_ESTIMATE_JACOBI 0

// The mixed order of the published code for tensors of three dims. KL estimator only.
#define KLS_ESTIMATE_REFERENCE_KL 1

// Eigenvalues are moving averages of their own.
#define KLS_EIGENVALUES_AVERAGE 0

// They are the factor's diagonal in the eigenbasis, every step, in the basis of before the refresh.
#define KLS_EIGENVALUES_INSTANTANEOUS 1

// The same, taken again in the new basis after a refresh.
#define KLS_EIGENVALUES_INSTANTANEOUS_AFTER_REFRESH 2

// They are set in the first step and by each refresh, and fixed in between.
#define KLS_EIGENVALUES_AT_REFRESH 3

// A refresh is one QR step, from Cholesky factors, and by Householder reflections where those break down.
#define KLS_REFRESH_QR 0

// A refresh is an eigendecomposition.
#define KLS_REFRESH_EIGENDECOMPOSITION 1

// A refresh is one QR step by Householder reflections: slower, and as accurate for every factor.
#define KLS_REFRESH_HOUSEHOLDER_QR 2

// The numerator over the product of the eigenvalues to the power `power`.
#define KLS_DIRECTION_KRONECKER_POWER 0

// The numerator over the root of a second moment per element: in the eigenbasis (SOAP), without factors Adam.
#define KLS_DIRECTION_SECOND_MOMENT 1

// The product of the eigenvalues to the power 1/(2K) for K preconditioned dims.
#define KLS_DIRECTION_SHAMPOO_ROOT 2

// VN-Shampoo variant 1: the root of the eigenvalues' product, scaled by the factors' traces.
#define KLS_DIRECTION_TRACE_SCALED 3

// The numerator itself: SGD.
#define KLS_DIRECTION_MOMENTUM 4

// The direction has its own length.
#define KLS_GRAFT_NONE 0

// The length of Adam's direction.
#define KLS_GRAFT_ADAM 1

// The length of the gradient.
#define KLS_GRAFT_SGD 2

// The length of RMSProp's direction.
#define KLS_GRAFT_RMSPROP 3

// The length of AdaGrad's direction.
#define KLS_GRAFT_ADAGRAD 4

// The direction sees this step's estimate and refresh.
#define KLS_ORDER_ESTIMATE_FIRST 0

// The direction sees what the previous step left.
#define KLS_ORDER_APPLY_FIRST 1

// The first non-zero gradient sets the bases and is then stepped with.
#define KLS_FIRST_STEP_FULL 0

// The first non-zero gradient sets bases and factors and leaves the parameters alone.
#define KLS_FIRST_STEP_FACTORS_ONLY 1

// The first bases are eigenvectors of the first non-zero gradient's factors.
#define KLS_FIRST_BASIS_GRADIENT 0

// The first bases are the identity, and nothing is preconditioned before the first refresh.
#define KLS_FIRST_BASIS_IDENTITY 1

// Factors start at zero.
#define KLS_FACTOR_ZERO 0

// Factors start at the first eigenvalue times the identity.
#define KLS_FACTOR_LAMBDA 1

// The first eigenvalue is `lambda_0`.
#define KLS_LAMBDA_CONSTANT 0

// The first eigenvalue is taken from the first non-zero gradient's mean square.
#define KLS_LAMBDA_SCALE_FREE 1

// The numerator is the average M of the gradients.
#define KLS_MOMENTUM_AVERAGE 0

// The numerator is beta1 M + (1 - beta1) G (Nesterov).
#define KLS_MOMENTUM_NESTEROV 1

// The numerator is the gradient; no average is kept.
#define KLS_MOMENTUM_NONE 2

// Averages are used as they are.
#define KLS_BIAS_CORRECTION_NONE 0

// The direction is multiplied by sqrt(1 - beta2^t) / (1 - beta1^t). Directions by second moments only.
#define KLS_BIAS_CORRECTION_STEP_SIZE 1

// Averages that start at zero are divided by 1 - beta^t when they are used.
#define KLS_BIAS_CORRECTION_MOMENTS 2

// `eps` is added to the whole denominator.
#define KLS_DAMPING_DENOMINATOR 0

// `eps` is added to each eigenvalue. Kronecker directions only.
#define KLS_DAMPING_FACTOR 1

// theta <- theta (1 - lr wd), then the update.
#define KLS_WEIGHT_DECAY_BEFORE 0

// The update, then theta <- theta (1 - lr wd).
#define KLS_WEIGHT_DECAY_AFTER 1

// G + wd theta is the gradient of everything.
#define KLS_WEIGHT_DECAY_L2 2

// theta <- theta (1 - wd), then the update.
#define KLS_WEIGHT_DECAY_INDEPENDENT 3

// A gradient that is not finite or too large fails the whole call; nothing is written.
#define KLS_BAD_GRADIENT_ERROR 0

// A slice with such a gradient is left alone and counted; the others are stepped.
#define KLS_BAD_GRADIENT_SKIP 1

#if defined(KLS_HOST)
// The fastest backend for this machine: faer.
#define KLS_BACKEND_AUTO 0
#endif

#if defined(KLS_HOST)
// The portable kernels: the same bits on every machine.
#define KLS_BACKEND_PORTABLE 1
#endif

#if defined(KLS_HOST)
// faer's kernels: SIMD by run-time detection; the same bits for the same CPU features and any number of threads.
#define KLS_BACKEND_FAER 2
#endif

#if defined(KLS_HOST)
// Products of f32.
#define KLS_PRODUCTS_F32 0
#endif

#if defined(KLS_HOST)
// Operands of the step's large products (the gradient's way into the eigenbasis, the estimates of the factors, the direction's way back) are
// rounded to bf16, sums are f32; refreshes, diagnostics and the state stay f32. Needs a processor with AVX512-BF16, and not
// KLS_BACKEND_PORTABLE. A rounded gradient is off by up to 2^-9 of each element, so eigenvalues below about 2^-18 of the largest one are
// those of the rounding. Each thread keeps 1.5 MiB for packing from its first such product on.
#define KLS_PRODUCTS_BF16 1
#endif

// S_k in parameter coordinates: d x d, row-major.
#define KLS_STATE_FACTOR 0

// Q_k: d x d, row-major, columns are eigenvectors.
#define KLS_STATE_BASIS 1

// lambda_k: d numbers.
#define KLS_STATE_EIGENVALUES 2

// The momentum in parameter coordinates: one number per element of the slice. `mode` is not looked at.
#define KLS_STATE_MOMENTUM 3

// The second moment: one number per element of the slice. `mode` is not looked at.
#define KLS_STATE_SECOND_MOMENT 4

// The grafted method's second moment in parameter coordinates: one number per element of the slice. `mode` is not looked at.
#define KLS_STATE_GRAFT_MOMENT 5

// The f32 master weights of a bf16 parameter: one number per element of the slice, zero before the first step. `mode` is not looked at.
#define KLS_STATE_MASTER 6

// A call on the optimizer failed; the message is that of kls_last_error.
#define KLS_LOG_ERROR 0

// A step left slices alone because of their gradients (KLS_BAD_GRADIENT_SKIP), or refreshes in it failed. The call may succeed all the same.
#define KLS_LOG_WARNING 1

// KL-Shampoo (Fig. 13, Claims 2 to 4). Figures, equations and claims are those of the paper "Understanding and Improving Shampoo and
// SOAP via Kullback-Leibler Minimization".
#define KLS_METHOD_KL_SHAMPOO 0

// AdamW, with decoupled weight decay and bias correction.
#define KLS_METHOD_ADAMW 1

// KL-SOAP (Sec. 5, Claim 5): KL-Shampoo's eigenbasis, a second moment per element in it.
#define KLS_METHOD_KL_SOAP 2

// SOAP (Eq. 2).
#define KLS_METHOD_SOAP 3

// Shampoo (Eq. 1) with power 1/(2K) for K preconditioned dims. Set `graft` for a grafted one.
#define KLS_METHOD_SHAMPOO 4

// Shampoo with power 1/2.
#define KLS_METHOD_SHAMPOO_HALF 5

// Shampoo with power 1/4.
#define KLS_METHOD_SHAMPOO_QUARTER 6

// VN-Shampoo, variant 1 (Fig. 6, Claim 6).
#define KLS_METHOD_VN_SHAMPOO_1 7

// VN-Shampoo, variant 2 (Fig. 6).
#define KLS_METHOD_VN_SHAMPOO_2 8

// F-Shampoo, variant 1 (Fig. 8, Claim 7).
#define KLS_METHOD_F_SHAMPOO_1 9

// F-Shampoo, variant 2 (Fig. 8).
#define KLS_METHOD_F_SHAMPOO_2 10

// Idealized KL-Shampoo, by eigendecompositions (Fig. 3, left).
#define KLS_METHOD_IDEALIZED_KL 11

// Idealized VN-Shampoo, variant 1 (Fig. 6, left).
#define KLS_METHOD_IDEALIZED_VN_1 12

// Idealized VN-Shampoo, variant 2 (Fig. 6, left).
#define KLS_METHOD_IDEALIZED_VN_2 13

// Idealized F-Shampoo, variant 1 (Fig. 8, left).
#define KLS_METHOD_IDEALIZED_F_1 14

// Idealized F-Shampoo, variant 2 (Fig. 8, left).
#define KLS_METHOD_IDEALIZED_F_2 15

// KL-Shampoo with instantaneous eigenvalues, the ablation of Fig. 4.
#define KLS_METHOD_INSTANTANEOUS_KL 16

// One-sided preconditioning (Claim 1): of a tensor's shortest dim, unless its modes say otherwise.
#define KLS_METHOD_ONE_SIDED 17

// RMSProp.
#define KLS_METHOD_RMSPROP 18

// Adafactor as VN-Shampoo with diagonal factors (Claim 6); no cap unless `rms_cap` is set, no relative step sizes.
#define KLS_METHOD_ADAFACTOR 19

// SGD with (averaged) momentum.
#define KLS_METHOD_SGD 20

// The paper's order of operations (Fig. 13): estimate, refresh, apply. The default.
#define KLS_CONVENTION_FIGURE13 0

// The published code of KL-Shampoo's authors: apply, estimate, refresh; the first call only sets factors and bases.
#define KLS_CONVENTION_REFERENCE_KL 1

// The published code of SOAP's authors: as theirs, eigenvectors sorted, step size bias-corrected.
#define KLS_CONVENTION_REFERENCE_SOAP 2

// Distributed Shampoo: no preconditioner before the first refresh, bias-corrected moments, damping of each factor.
#define KLS_CONVENTION_REFERENCE_META 3

// Alignment of lent memory: what kls_optimizer_query gives.
#define KLS_MEMORY_ALIGNMENT 64

// Bytes of the object on machines with pointers of 32 bits, and of 64. Of use in the macros of klshampoo_static.h only, like the next ones.
#define KLS_OPTIMIZER_BYTES_32 448

// The same with pointers of 64 bits.
#define KLS_OPTIMIZER_BYTES_64 576

// Bytes of a group.
#define KLS_GROUP_BYTES_32 104

// The same with pointers of 64 bits.
#define KLS_GROUP_BYTES_64 120

// Bytes of a tensor's entry in the table.
#define KLS_TENSOR_BYTES_32 392

// The same with pointers of 64 bits.
#define KLS_TENSOR_BYTES_64 672

// Bytes of a slice's header.
#define KLS_HEADER_BYTES 64

// Largest number of dims of a tensor.
#define KLS_MAX_ORDER 6

// Most parts that the rows of a tensor are split into.
#define KLS_MAX_ROW_PARTS 8

// Most bytes that are kept of a tensor's name.
#define KLS_MAX_NAME 63

// Full up to the group's max_dim, diagonal beyond it. The default.
#define KLS_MODE_AUTO 0

// A full Kronecker factor with its eigenbasis.
#define KLS_MODE_FULL 1

// The diagonal of a factor.
#define KLS_MODE_DIAGONAL 2

// Not preconditioned.
#define KLS_MODE_IDENTITY 3

// 32-bit IEEE floats.
#define KLS_FORMAT_F32 0

// bfloat16, the upper half of an f32.
#define KLS_FORMAT_BF16 1

// IEEE binary16. No parameters.
#define KLS_FORMAT_F16 2

// To the nearest, ties to even.
#define KLS_ROUNDING_NEAREST 0

// Up or down with the probability that makes the mean right. The choice depends on the seed, the tensor's index, the slice, the element
// and the slice's step alone: not on threads, and not on other tensors.
#define KLS_ROUNDING_STOCHASTIC 1

// Major version of the header: a change breaks source or binary compatibility.
#define KLS_VERSION_MAJOR 0

// Minor version of the header: a change adds to the interface.
#define KLS_VERSION_MINOR 1

// Patch version of the header: a change mends.
#define KLS_VERSION_PATCH 0

// An optimizer over a table of tensors. Opaque.
typedef struct kls_optimizer kls_optimizer;

// Result of every call: `KLS_OK` or the number of an error. Numbers never change their meaning.
typedef int32_t kls_status;

// Takes the next `len` bytes of a checkpoint, at most 512. Returns 0 when it has taken all of them; anything else ends the call with
// KLS_ERROR_CHECKPOINT_CALLBACK. It must not use the optimizer, nor leave by longjmp or an exception.
typedef int32_t (*kls_write)(void *user, const void *bytes, size_t len);

// Fills `bytes` with the `len` bytes, at most 512, of a checkpoint that start at `offset`. Returns 0 when it has filled all of them;
// anything else, such as an end that comes too early, ends the call with KLS_ERROR_CHECKPOINT_CALLBACK. A checkpoint is read
// twice, front to back but for its first bytes, which are asked for twice each time, and never beyond its end. It must not use the optimizer, nor leave by longjmp or an exception.
typedef int32_t (*kls_read)(void *user, uint64_t offset, void *bytes, size_t len);

// What there is to say about one dim of a slice. Where the method keeps no eigenvalues (SOAP), they are the factor's diagonal in the
// eigenbasis.
typedef struct kls_mode_report {
  // sizeof(kls_mode_report).
  uint32_t struct_size;
  // Smallest eigenvalue.
  float lambda_min;
  // Largest eigenvalue.
  float lambda_max;
  // The exponential of the entropy of the eigenvalues over their sum: 1 to the dim's length.
  float effective_rank;
  // How far the eigenbasis is from diagonalising the factor S: mean over i != j of S_ij^2 / (S_ii S_jj), what the group's staleness
  // is compared with. 0 for a diagonal mode.
  float staleness_mean;
  // The largest of these.
  float staleness_max;
  // The largest element of |Q^T Q - I|; 0 for a diagonal mode.
  float orthogonality_error;
} kls_mode_report;

#if defined(KLS_HOST)
// A part of a step's work, to be called with the `context` that came with it and an index.
typedef void (*kls_task)(void *context, size_t index);
#endif

#if defined(KLS_HOST)
// Calls `task(context, i)` for every i below `count`, each once, on any threads, in any order, at once or one after another, and returns
// when all have returned. No task waits for another. It must not throw or jump out, and must not call into the optimizer that it works for.
typedef void (*kls_parallel_for)(void *user, size_t count, kls_task task, void *context);
#endif

#if defined(KLS_HOST)
// C <- alpha op(A) op(B) + beta C, where op(X) is X, or its transpose with `transpose_x` other than 0: as cblas_sgemm with CblasRowMajor.
// All matrices are row-major: C is m x n with rows `ldc` apart, op(A) m x k, op(B) k x n; A and B have rows `lda` and `ldb` apart. `beta`
// is 0 or 1; with 0, C is not to be read, for it may hold anything. The same call must give the same bits. It must not throw or jump
// out, and must not call into the optimizer that it works for.
typedef void (*kls_sgemm)(void *user,
                          int32_t transpose_a,
                          int32_t transpose_b,
                          size_t m,
                          size_t n,
                          size_t k,
                          float alpha,
                          const float *a,
                          size_t lda,
                          const float *b,
                          size_t ldb,
                          float beta,
                          float *c,
                          size_t ldc);
#endif

#if defined(KLS_HOST)
// How an optimizer on a host works. Fill it with kls_options_init, then change what you want.
typedef struct kls_options {
  // sizeof(kls_options), set by kls_options_init.
  uint32_t struct_size;
  // Threads of a step, the calling one included, 1 to 1024; with `parallel_for`, tasks that run at once at most. Default 1. Results do
  // not depend on it. Slices that are a large part of a step are worked on by all threads together, the others by one each. Each thread
  // has a scratch of its own, as long as the largest slice needs that it works on alone; the calling one's is as long as the largest of all
  // needs.
  uint32_t num_threads;
  // KLS_BACKEND_*.
  int32_t backend;
  // KLS_PRODUCTS_*. Default KLS_PRODUCTS_F32.
  int32_t products;
  // The caller's own pool, which then runs what the library's threads would: no thread is started. It is called several times in a step,
  // with `count` = num_threads, by the thread that makes the step; with num_threads 1 it is not called. NULL (the default): the library
  // starts threads of its own.
  kls_parallel_for parallel_for;
  // Handed through to it.
  void *parallel_for_user;
  // The caller's own matrix product, for products of f32 from 64^3 multiplications on with no side below 16; smaller ones and
  // factorisations stay with faer, and so do the tiles on the diagonal of a symmetric product. Several threads may call it at once where
  // num_threads is more than 1. A result with a NaN or an infinity fails what it was for: the slice (KLS_ERROR_LINALG) or the refresh. Not
  // with KLS_BACKEND_PORTABLE or KLS_PRODUCTS_BF16. NULL (the default): all products are the backend's.
  kls_sgemm sgemm;
  // Handed through to it.
  void *sgemm_user;
} kls_options;
#endif

// A group's method and hyper-parameters. Fill it with kls_config_init, then change what you want.
typedef struct kls_config {
  // sizeof(kls_config), set by kls_config_init.
  uint32_t struct_size;
  // KLS_ESTIMATOR_*: what the Kronecker factors estimate.
  int32_t estimator;
  // Dims longer than this get a diagonal factor instead of a full one; 0: all do. Default 8192.
  uint64_t max_dim;
  // Longer dims are cut into blocks of at most this length, with factors of their own; 0 (the default): none are.
  uint64_t block_size;
  // Neighbouring dims are merged while their product is at most this; 0 (the default): none are.
  uint64_t merge_dims;
  // KLS_ESTIMATE_*: how the dims of a tensor of three see each other's eigenvalues.
  int32_t estimate_order;
  // KLS_EIGENVALUES_*: where the eigenvalues come from.
  int32_t eigenvalues;
  // KLS_REFRESH_*: how a refresh turns the eigenbases.
  int32_t refresh;
  // Non-zero: order the eigenbases by descending diagonal of the factor before each QR. An eigendecomposition always does.
  int32_t sort;
  // T, steps between refreshes of the eigenbases, at least 1. Default 10.
  uint32_t refresh_period;
  // A refresh is due after step t when t > offset and (t - offset) mod T = 0. 0 or 1.
  uint32_t refresh_offset;
  // Non-zero: spread the refreshes of a table's slices over the T steps by their predicted cost. Not with refresh_growth.
  int32_t stagger;
  // The period grows linearly from 1 to T over this many steps, at most 2^20; 0: it is T from the start.
  uint32_t refresh_growth;
  // Refreshes that are due are skipped for bases whose staleness, the mean of S_ij^2 / (S_ii S_jj) over the factor in the
  // eigenbasis, is not above this; 0: none is skipped.
  float staleness;
  // KLS_DIRECTION_*: what the numerator is divided by.
  int32_t direction;
  // The power of the eigenvalues with KLS_DIRECTION_KRONECKER_POWER, in (0, 1].
  float power;
  // KLS_GRAFT_*: whose length the direction takes.
  int32_t graft;
  // Scales down directions whose root mean square is larger; 0: no cap.
  float rms_cap;
  // KLS_ORDER_*: which eigenvalues and bases the direction sees.
  int32_t step_order;
  // KLS_FIRST_STEP_*: what the first non-zero gradient does.
  int32_t first_step;
  // KLS_FIRST_BASIS_*: the eigenbases after it.
  int32_t first_basis;
  // KLS_FACTOR_*: the factors before the first estimate.
  int32_t factor_init;
  // KLS_LAMBDA_*: how the first eigenvalue is chosen.
  int32_t lambda_init;
  // The first eigenvalue with KLS_LAMBDA_CONSTANT, at least 2^-63 (raised to the floor of tensors with more than two dims).
  float lambda_0;
  // KLS_MOMENTUM_*: the numerator of the direction.
  int32_t momentum;
  // Decay of the momentum, in [0, 1).
  float beta1;
  // Decay of factors, eigenvalues and second moments, in [0, 1).
  float beta2;
  // KLS_BIAS_CORRECTION_*: what is done about averages that start at zero.
  int32_t bias_correction;
  // Damping, at least 0.
  float eps;
  // KLS_DAMPING_*: where eps is added.
  int32_t damping;
  // Weight decay, at least 0; per unit of learning rate unless independent of it (then at most 1).
  float weight_decay;
  // KLS_WEIGHT_DECAY_*: how weight decay acts.
  int32_t weight_decay_kind;
  // Bounds lambda_k^(-1/2) by max(10, min(d_k, clamp_limit)); 0: no bound.
  float clamp_limit;
  // Non-zero: rebalance the scale of the factors by exact powers of two when they drift apart. Not with a clamp, nor for factors
  // whose scale matters (KLS_ESTIMATOR_SHAMPOO, KLS_ESTIMATOR_ONE_SIDED, KLS_DAMPING_FACTOR).
  int32_t gauge;
  // KLS_BAD_GRADIENT_*: what to do with a gradient that is not finite or too large.
  int32_t bad_gradient;
  // Non-zero: measure each update's root mean square and angle with the gradient, for kls_optimizer_counters. Default 0.
  int32_t measure;
  // Multiplies the learning rate given to a step; at least 0. Default 1.
  float lr_scale;
  // For loops with a deadline: floating-point operations of a refresh that a step of a slice (or piece of one) spends at most. The
  // refresh is then made in portions over many steps, by Householder reflections, and takes 2 d^2 + 3 d + 5 elements of state more, d
  // the longest full dim, and d^2 more with factors in 16 bits. kls_optimizer_plan says what a step then takes at most, and how many
  // steps a refresh does. 0 (the default): a refresh is made in one step. For QR refreshes with KLS_EIGENVALUES_AVERAGE, but not with
  // KLS_ESTIMATOR_FROBENIUS_FACTOR or KLS_DIRECTION_TRACE_SCALED.
  uint32_t refresh_portion;
  // KLS_FORMAT_*: how Kronecker factors and eigenbases are kept between steps. In 16 bits they take half the memory and a step has the
  // same scratch; arithmetic stays that of f32, as do momentum, eigenvalues and second moments. Default KLS_FORMAT_F32.
  int32_t factor_format;
} kls_config;

// One parameter tensor: by default row-major, dense, 32-bit floats. Fill it with kls_tensor_init, then change what you want.
//
// 1-D tensors of a group with Kronecker factors are stepped by AdamW with the group's betas, eps, weight decay and learning rate,
// unless `modes[0]` says otherwise.
typedef struct kls_tensor {
  // sizeof(kls_tensor), set by kls_tensor_init.
  uint32_t struct_size;
  // Index of its group. Default 0.
  uint32_t group;
  // Number of dims, 1 to KLS_MAX_ORDER.
  uint32_t order;
  // Parts of the rows in use; 0 (the default): the rows are not split.
  uint32_t row_part_count;
  // Lengths of the dims of one slice.
  uint64_t dims[KLS_MAX_ORDER];
  // KLS_MODE_* per dim. A group without Kronecker factors (AdamW) has no use for it.
  int32_t modes[KLS_MAX_ORDER];
  // Number of equal slices, each a tensor of these dims with a state of its own (layers stacked in one buffer). Default 1.
  uint64_t slices;
  // Elements from the start of one slice to the start of the next; 0: slices are dense.
  uint64_t slice_stride;
  // Lengths of the parts of the first dim that have a state of their own, such as queries, keys and values in one matrix.
  uint64_t row_parts[KLS_MAX_ROW_PARTS];
  // What messages call it (kls_last_error), besides its index: a text, of which at most KLS_MAX_NAME bytes are copied when an optimizer
  // is made; NULL (the default): nothing.
  const char *name;
  // Elements from one index of a dim to the next, in parameter, gradient and update: rows with a gap, or a transposed matrix. All 0 (the
  // default): dense, row-major; strides that say the same are the same. Dims of other tensors with strides are not merged. A transposed matrix may as well be described by its dims in the order in which they lie.
  uint64_t strides[KLS_MAX_ORDER];
  // KLS_FORMAT_* of the gradient. Default KLS_FORMAT_F32.
  int32_t grad_format;
  // KLS_FORMAT_* of the parameter: f32 or bf16. Default KLS_FORMAT_F32.
  int32_t param_format;
  // Non-zero: the state holds f32 master weights of a bf16 parameter. They are taken from it in the first step; from then on they
  // are stepped, and the parameter is written from them. Default 0: the bf16 parameter itself is stepped and rounded.
  int32_t master_weights;
  // KLS_ROUNDING_* of a bf16 parameter. Default KLS_ROUNDING_NEAREST.
  int32_t rounding;
  // Seed of KLS_ROUNDING_STOCHASTIC. A checkpoint loads only where rounding and seed are those that it was saved with.
  uint64_t rounding_seed;
  // Non-zero: in lent memory, steps may scale this tensor's gradient (grad_scale of kls_step), which takes scratch for a copy of a slice
  // that has Kronecker factors. An optimizer made by kls_optimizer_create always may. Default 0.
  int32_t grad_scaling;
  // Must be 0.
  uint32_t reserved;
} kls_tensor;

// What a slice has counted.
typedef struct kls_counters {
  // Steps made, the first one included.
  uint64_t steps;
  // Refreshes of an eigenbasis done (one per mode).
  uint32_t refreshes;
  // Factorisations that failed; the old eigenbasis stayed.
  uint32_t refresh_failures;
  // Calls skipped because of their gradient (KLS_BAD_GRADIENT_SKIP).
  uint32_t skipped;
  // Eigenvalues that were raised to the floor: 2^-63, and 2^(-63/(K-1)) with K > 2 preconditioned dims.
  uint32_t floored;
  // Eigenvalues that the clamp bounded.
  uint32_t clamped;
  // Times the scale of the factors was rebalanced.
  uint32_t rebalanced;
  // Refreshes left out because the eigenbasis was not stale.
  uint32_t refreshes_skipped;
  // Updates that the cap on their root mean square scaled down.
  uint32_t capped;
  // Root mean square of the last update's direction, before learning rate and decay; 0 unless the group's `measure` is set.
  float update_rms;
  // Cosine of the angle between that direction and the gradient, likewise.
  float update_cosine;
} kls_counters;

// Receives a message: `level` is KLS_LOG_*, `message` one line without a line's end, valid during the call. It must not throw or jump out.
typedef void (*kls_log)(void *user, int32_t level, const char *message);

// Bytes that an optimizer holds, before a step has been made and after any number of them. The backend's thread-local buffers for packing
// are not in it (faer: 4 MiB per thread from the first large product on).
typedef struct kls_memory {
  // sizeof(kls_memory).
  uint32_t struct_size;
  // How many threads (tasks of a caller's pool) have a scratch of their own.
  uint32_t threads;
  // Factors, bases, eigenvalues, moments, master weights and a 64-byte header per slice: what kls_optimizer_state_bytes says.
  uint64_t state_bytes;
  // Scratch of all threads, the backend's included.
  uint64_t scratch_bytes;
  // Everything else: the object, groups, tensors and names.
  uint64_t table_bytes;
} kls_memory;

// How a tensor is treated: merged dims, cuts, modes and state.
typedef struct kls_plan {
  // sizeof(kls_plan).
  uint32_t struct_size;
  // Number of dims after merging.
  uint32_t order;
  // Their lengths.
  uint64_t dims[KLS_MAX_ORDER];
  // The first of the tensor's own dims that each of them stands for; it stands for all up to the next one's.
  uint32_t first_dim[KLS_MAX_ORDER];
  // KLS_MODE_* of each dim of the first piece.
  int32_t modes[KLS_MAX_ORDER];
  // Into how many segments each dim is cut.
  uint64_t segments[KLS_MAX_ORDER];
  // Slices of the tensor.
  uint64_t slices;
  // Pieces of each slice: the product of the segments. Where a function takes a slice, it counts these: slice * pieces + piece.
  uint64_t pieces;
  // Bytes of state of the whole tensor, without the pieces' 64-byte headers.
  uint64_t state_bytes;
  // Bytes of scratch that a step of it needs; tensors share it, each thread has one.
  uint64_t scratch_bytes;
  // Floating-point operations of matrix products in a step of the whole tensor without a refresh.
  uint64_t step_flops;
  // The same of products and factorisations of a refresh, on top of that.
  uint64_t refresh_flops;
  // What a refresh adds to one step at most: all of it, unless it is made in portions. No step takes more than step_flops and this.
  uint64_t refresh_step_flops;
  // Steps from the one in which a refresh becomes due to the one that turns the last basis, if it is made in portions and none of
  // them waits; else 0.
  uint64_t refresh_steps;
} kls_plan;

// A step with everything that one can ask for. Fill it with kls_step_init, then change what you want.
typedef struct kls_step {
  // sizeof(kls_step), set by kls_step_init.
  uint32_t struct_size;
  // The learning rate, multiplied by each group's lr_scale. There is no default: a step without one is KLS_ERROR_LEARNING_RATE. Not
  // looked at where updates are only written.
  float lr;
  // Multiplies every gradient when it is read, as a clip or a loss scale wants it; finite and positive. Default 1.
  float grad_scale;
  // Must be 0.
  uint32_t reserved;
  // The first tensor that is stepped. Default 0.
  size_t first_tensor;
  // How many are, from that one on; the arrays have as many pointers. Default 0: must be set.
  size_t tensor_count;
  // The tensors' parameters, in their formats. Where updates are only written, a pointer may be NULL unless the group's weight decay is
  // KLS_WEIGHT_DECAY_L2, and so may this array.
  void *const *params;
  // The tensors' gradients, in their formats; a tensor whose pointer is NULL is frozen in this step.
  const void *const *grads;
  // NULL (the default): updates are applied. Else nothing is: the step goes on as ever, and each tensor's update U is written here, f32, for a
  // caller that applies theta <- theta - lr U with the weight decay that it wants. U has no learning rate in it, and of weight decay only
  // KLS_WEIGHT_DECAY_L2. It is zero where a slice is skipped (KLS_BAD_GRADIENT_SKIP); what belongs to a frozen tensor or to a slice that
  // failed is not written. Not for tensors with master weights.
  float *const *updates;
} kls_step;

// Cosine similarities of H = E[gg^T] with Kronecker products L (x) R (paper "A New Perspective on Shampoo's Preconditioner", Figs. 1
// and 2).
typedef struct kls_similarity {
  // sizeof(kls_similarity).
  uint32_t struct_size;
  // Shampoo squared: L = E[G G^T], R = E[G^T G].
  float shampoo_squared;
  // Shampoo: the square roots of these.
  float shampoo;
  // The minimum of KL(H, L (x) R): L = E[G R^-1 G^T] / n, R = E[G^T L^-1 G] / m. Eigenvalues below d 2^-23 of the largest are raised
  // to that before they are inverted.
  float kullback_leibler;
  // The best there is, by power iteration.
  float optimal;
  // Of Shampoo's L with the optimal one.
  float left;
  // Of Shampoo's R with the optimal one.
  float right;
  // Eigenvalues of the Kullback-Leibler factors that were raised in the last round: if any, the window is too short for a minimum.
  uint32_t raised;
  // Rounds until the Kullback-Leibler factors came to rest; 100 if they did not.
  uint32_t rounds;
} kls_similarity;



// Success.
#define KLS_OK 0

// A pointer is NULL.
#define KLS_ERROR_NULL 1

// struct_size is not the size of a known version of the struct: call its init function with sizeof.
#define KLS_ERROR_STRUCT_SIZE 2

// Not an initialised optimizer: its init failed, or it was destroyed.
#define KLS_ERROR_HANDLE 3

// An earlier call on this optimizer met an internal error; its state cannot be trusted.
#define KLS_ERROR_POISONED 4

// An option's integer is none of its constants.
#define KLS_ERROR_UNKNOWN_VALUE 5

// A pointer is not aligned for its type; memory for an optimizer needs the alignment that the query gives.
#define KLS_ERROR_MISALIGNED 6

// The lent memory is shorter than the query says.
#define KLS_ERROR_MEMORY_TOO_SHORT 7

// The memory for the optimizer could not be had.
#define KLS_ERROR_OUT_OF_MEMORY 8

// Internal error: a panic was caught. Please report it.
#define KLS_ERROR_INTERNAL 10

// num_threads must be between 1 and 1024, and the threads must be startable.
#define KLS_ERROR_THREADS 11

// A reserved field is not 0.
#define KLS_ERROR_RESERVED 12

// This processor, or the chosen backend, cannot do what an option asks for.
#define KLS_ERROR_UNSUPPORTED 13

// The caller's parallel_for did not run every task once and to its end; the step was made in full all the same.
#define KLS_ERROR_PARALLEL_FOR 14

// This build of the library leaves out a method, or what an option or a tensor needs.
#define KLS_ERROR_NOT_BUILT 15

// A table is divided among at least one rank.
#define KLS_ERROR_RANKS 16

// beta1 and beta2 must lie in [0, 1).
#define KLS_ERROR_BETA 20

// eps must be finite and at least 0.
#define KLS_ERROR_EPS 21

// weight_decay must be finite and at least 0; at most 1 if independent of the learning rate.
#define KLS_ERROR_WEIGHT_DECAY 22

// refresh_period must be at least 1, refresh_offset 0 or 1, and refresh_growth at most 2^20.
#define KLS_ERROR_REFRESH_PERIOD 23

// A constant lambda_0 must be finite and at least 2^-63.
#define KLS_ERROR_LAMBDA_INIT 24

// clamp_limit must be 0 (no clamp), or finite and at least 1; SOAP has no eigenvalues to clamp.
#define KLS_ERROR_CLAMP_LIMIT 25

// lr_scale must be finite and at least 0.
#define KLS_ERROR_LR_SCALE 26

// power must lie in (0, 1].
#define KLS_ERROR_POWER 27

// This estimator and this direction do not go together.
#define KLS_ERROR_COMBINATION 28

// A clamp and gauge rebalancing exclude each other.
#define KLS_ERROR_CLAMP_WITH_GAUGE 29

// staleness must be finite and at least 0.
#define KLS_ERROR_STALENESS 30

// rms_cap must be 0 (no cap), or finite and at least 2^-63.
#define KLS_ERROR_RMS_CAP 31

// The von Neumann direction divides by traces that only Shampoo's estimator gives it.
#define KLS_ERROR_TRACE_SCALED 32

// A graft needs a method with Kronecker factors.
#define KLS_ERROR_GRAFT 33

// Damping of each factor needs a Kronecker direction.
#define KLS_ERROR_DAMPING 34

// F-Shampoo variant 1 cannot start from factors of zero.
#define KLS_ERROR_ZERO_FACTORS 35

// The step-size form of bias correction needs a direction by second moments.
#define KLS_ERROR_BIAS_CORRECTION 36

// An identity basis at the start needs a full first step and a Kronecker direction.
#define KLS_ERROR_FIRST_BASIS 37

// The scale of these factors is not free to be rebalanced.
#define KLS_ERROR_GAUGE 38

// The reference order of estimates belongs to the estimator of KL-Shampoo.
#define KLS_ERROR_ESTIMATE_ORDER 39

// Formats that do not go together: a parameter is f32 or bf16, and only a bf16 one is rounded or has master weights.
#define KLS_ERROR_FORMAT 49

// The strides let indices of a tensor share an element, or interleave dims.
#define KLS_ERROR_STRIDES 50

// Refreshes in portions are QR refreshes of methods that read a factor for nothing else.
#define KLS_ERROR_REFRESH_PORTION 51

// A tensor has 1 to KLS_MAX_ORDER dims.
#define KLS_ERROR_ORDER 40

// A dim is zero.
#define KLS_ERROR_ZERO_DIM 41

// The tensor or its state does not fit the address space.
#define KLS_ERROR_OVERFLOW 42

// There is no such group.
#define KLS_ERROR_GROUP 43

// A tensor needs at least one slice.
#define KLS_ERROR_SLICES 44

// Slices overlap or interleave: slice_stride is smaller than a slice from its first to its last element.
#define KLS_ERROR_SLICE_STRIDE 45

// One-sided preconditioning is of one dim.
#define KLS_ERROR_ONE_SIDED 46

// The parts of the rows must be at most KLS_MAX_ROW_PARTS, none empty, and add up to the first dim.
#define KLS_ERROR_ROW_PARTS 47

// A slice would be cut into more than 65536 pieces: block_size is too small.
#define KLS_ERROR_PIECES 48

// The learning rate must be finite and at least 0.
#define KLS_ERROR_LEARNING_RATE 60

// tensor_count is not the number of tensors that the optimizer was made for.
#define KLS_ERROR_TENSOR_COUNT 61

// There is no such tensor, slice or mode.
#define KLS_ERROR_INDEX 62

// A buffer does not have the right number of elements.
#define KLS_ERROR_BUFFER_LENGTH 63

// A gradient has a NaN or an infinity.
#define KLS_ERROR_GRADIENT_NOT_FINITE 64

// A gradient is too large: its squared norm, weighted, must stay below 2^120.
#define KLS_ERROR_GRADIENT_TOO_LARGE 65

// An update came out not finite.
#define KLS_ERROR_UPDATE_NOT_FINITE 66

// A matrix product failed.
#define KLS_ERROR_LINALG 67

// The slice has no eigenbasis yet: it has not seen a non-zero gradient.
#define KLS_ERROR_NOT_STARTED 68

// This tensor or mode does not have that part of the state.
#define KLS_ERROR_NO_SUCH_STATE 69

// The basis is not orthogonal.
#define KLS_ERROR_NOT_ORTHOGONAL 70

// Buffers overlap: a parameter, a gradient or an update with another of the same tensor (in a flat buffer, of any).
#define KLS_ERROR_OVERLAP 71

// The estimate of a factor left the range of the arithmetic: the gradients are too large for this method.
#define KLS_ERROR_ESTIMATE_NOT_FINITE 72

// grad_scale must be finite and positive; in lent memory it must be 1 for tensors without grad_scaling.
#define KLS_ERROR_GRAD_SCALE 74

// A parameter or gradient of this tensor is not f32: kls_optimizer_step_with takes it, kls_optimizer_step and _step_tensor do not.
#define KLS_ERROR_NOT_F32 75

// A tensor with master weights has no update alone: the master weights would not follow.
#define KLS_ERROR_MASTER_WEIGHTS 76

// All gradients of the window are zero.
#define KLS_ERROR_ZERO_WINDOW 73

// This is no checkpoint of an optimizer.
#define KLS_ERROR_CHECKPOINT_FORMAT 80

// A later version of the library wrote the checkpoint.
#define KLS_ERROR_CHECKPOINT_VERSION 81

// The checkpoint is not as long as it says: it was cut off.
#define KLS_ERROR_CHECKPOINT_TRUNCATED 82

// The checkpoint's bytes are not those that were saved.
#define KLS_ERROR_CHECKPOINT_CHECKSUM 83

// The checkpoint's numbers, or its factors and bases (factor_format), are of another type.
#define KLS_ERROR_CHECKPOINT_ELEMENT 84

// The checkpoint is of other tensors: their number, dims, slices or pieces.
#define KLS_ERROR_CHECKPOINT_SHAPES 85

// The checkpoint is of another method, whose state means something else.
#define KLS_ERROR_CHECKPOINT_METHOD 86

// The checkpoint contradicts itself, or its state is not finite: something else than this library wrote it.
#define KLS_ERROR_CHECKPOINT_MALFORMED 87

// The read or write callback failed; the optimizer is unchanged.
#define KLS_ERROR_CHECKPOINT_CALLBACK 88

// The checkpoint changed or could not be read any more while it was loaded; the optimizer's state is that of a new one.
#define KLS_ERROR_CHECKPOINT_CHANGED 89

// There is no such file or folder.
#define KLS_ERROR_FILE_NOT_FOUND 90

// Reading or writing the file failed.
#define KLS_ERROR_IO 91

// This is no safetensors file with an optimizer's checkpoint.
#define KLS_ERROR_SAFETENSORS 92

// There is no CUDA driver on this machine.
#define KLS_ERROR_CUDA_NO_DRIVER 100

// The CUDA driver is too old for this library.
#define KLS_ERROR_CUDA_DRIVER_TOO_OLD 101

// There is no such CUDA device.
#define KLS_ERROR_CUDA_NO_DEVICE 102

// The device's memory for the optimizer could not be had.
#define KLS_ERROR_CUDA_OUT_OF_MEMORY 103

// A call of the CUDA driver failed; kls_cuda_last_error has its number and text.
#define KLS_ERROR_CUDA 104

// The GPU's optimizer does not do this; the one of the CPU does.
#define KLS_ERROR_CUDA_UNSUPPORTED 105

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// Bytes of a checkpoint of this optimizer. They depend on its groups and tensors alone, not on the steps that it has made.
//
// Errors: the handle's, KLS_ERROR_NULL, KLS_ERROR_MISALIGNED.
//
// # Safety
// `optimizer` is a handle that no other thread uses; `bytes` is writable.
kls_status kls_optimizer_save_size(struct kls_optimizer *optimizer,
                                   uint64_t *bytes);

// Saves the optimizer's state: factors, bases, eigenvalues, moments, master weights, counters and refresh phases of every slice, and the table that they
// belong to. Parameters, learning rate and refresh budget are not in it. `len` is at least what kls_optimizer_save_size gives; what
// `buffer` has beyond that is left alone. A checkpoint is the same bytes on every machine.
//
// Errors: KLS_ERROR_MEMORY_TOO_SHORT, KLS_ERROR_NULL and the handle's; `buffer` is then untouched.
//
// # Safety
// `optimizer` is a handle that no other thread uses; `buffer` has `len` writable bytes.
kls_status kls_optimizer_save(struct kls_optimizer *optimizer,
                              void *buffer,
                              size_t len);

// Takes the state from a checkpoint in memory. The optimizer was made of the same tensors, as many and in the same order, with the same
// dims, modes, slices, pieces, methods, master weights, rounding and its seed. Groups, strides (of dims that are not merged) and hyper-parameters may be others (learning rates, betas, decay, damping,
// periods, the power, ...), and so may backend and threads. With the same ones every later step gives the same bits as without the save.
// `len` may be more than the checkpoint has.
//
// Errors: KLS_ERROR_CHECKPOINT_FORMAT, KLS_ERROR_CHECKPOINT_VERSION, KLS_ERROR_CHECKPOINT_ELEMENT, KLS_ERROR_CHECKPOINT_TRUNCATED,
// KLS_ERROR_CHECKPOINT_CHECKSUM, KLS_ERROR_CHECKPOINT_SHAPES, KLS_ERROR_CHECKPOINT_METHOD, KLS_ERROR_CHECKPOINT_MALFORMED,
// KLS_ERROR_NULL and the handle's; the optimizer is then unchanged.
//
// # Safety
// `optimizer` is a handle that no other thread uses; `buffer` has `len` readable bytes that nobody writes meanwhile.
kls_status kls_optimizer_load(struct kls_optimizer *optimizer,
                              const void *buffer,
                              size_t len);

// Saves as kls_optimizer_save does, but hands the bytes to `write`, front to back, with `user` as its first argument.
//
// Errors: KLS_ERROR_CHECKPOINT_CALLBACK, KLS_ERROR_NULL and the handle's. The optimizer is never changed.
//
// # Safety
// `optimizer` is a handle that no other thread uses; `write` is NULL or a function that may be called with `user`.
kls_status kls_optimizer_save_to(struct kls_optimizer *optimizer, kls_write write, void *user);

// Loads as kls_optimizer_load does, but asks `read` for the bytes, with `user` as its first argument. All of them are read and checked
// before the optimizer is touched, and then read again.
//
// Errors: those of kls_optimizer_load and KLS_ERROR_CHECKPOINT_CALLBACK; the optimizer is then unchanged. But when the second reading
// fails or finds other bytes it is KLS_ERROR_CHECKPOINT_CHANGED, and the state is that of a new optimizer.
//
// # Safety
// `optimizer` is a handle that no other thread uses; `read` is NULL or a function that may be called with `user`.
kls_status kls_optimizer_load_from(struct kls_optimizer *optimizer,
                                   kls_read read,
                                   void *user);

// Writes KL(E[gg^T], S) up to a constant, (log det S + g^T S^-1 g) / 2, of one slice's part of `grad`: the tensor's gradient of `len`
// elements, as a step takes it. S is the square of what the method divides by after the last step, without damping. Averaged over
// gradients, the lower, the better S describes them.
//
// Errors: KLS_ERROR_NO_SUCH_STATE for SGD, which has no S; KLS_ERROR_NOT_STARTED before there is one; KLS_ERROR_INDEX,
// KLS_ERROR_BUFFER_LENGTH, KLS_ERROR_NULL, KLS_ERROR_MISALIGNED, KLS_ERROR_GRADIENT_NOT_FINITE, KLS_ERROR_GRADIENT_TOO_LARGE (also when
// the value is no float), KLS_ERROR_LINALG and the handle's; `objective` is then untouched.
//
// # Safety
// `optimizer` is a handle that no other thread uses; `grad` has `len` readable elements; `objective` is writable.
kls_status kls_optimizer_objective(struct kls_optimizer *optimizer,
                                   size_t tensor,
                                   size_t slice_index,
                                   const float *grad,
                                   size_t len,
                                   float *objective);

// Reports on one dim of a slice. `struct_size` is sizeof(kls_mode_report).
//
// Errors: KLS_ERROR_INDEX, KLS_ERROR_NO_SUCH_STATE for a dim that is not preconditioned, KLS_ERROR_NOT_STARTED before the first non-zero
// gradient, KLS_ERROR_NULL, KLS_ERROR_MISALIGNED, KLS_ERROR_STRUCT_SIZE, KLS_ERROR_LINALG and the handle's; `report` is then untouched.
//
// # Safety
// `optimizer` is a handle that no other thread uses; `report` has `struct_size` writable bytes.
kls_status kls_optimizer_mode_report(struct kls_optimizer *optimizer,
                                     size_t tensor,
                                     size_t slice,
                                     size_t mode,
                                     struct kls_mode_report *report,
                                     size_t struct_size);

#if defined(KLS_HOST)
// Fills `options` with the defaults. `struct_size` is sizeof(kls_options).
//
// Errors: KLS_ERROR_NULL, KLS_ERROR_MISALIGNED, KLS_ERROR_STRUCT_SIZE; `options` is then untouched.
//
// # Safety
// `options` points to `struct_size` writable bytes.
kls_status kls_options_init(struct kls_options *options, size_t struct_size);
#endif

#if defined(KLS_HOST)
// Makes an optimizer on the heap, with threads and the host's backend. `options` may be NULL for the defaults. Groups and tensors
// are copied. On an error `*optimizer` is untouched. After one warm-up call per thread, steps allocate nothing. kls_optimizer_add_tensors
// makes it grow.
//
// Errors: those of kls_optimizer_query, KLS_ERROR_THREADS, KLS_ERROR_UNKNOWN_VALUE, KLS_ERROR_UNSUPPORTED, KLS_ERROR_OUT_OF_MEMORY.
//
// # Safety
// As for kls_optimizer_query; `optimizer` is writable, `options` NULL or readable.
kls_status kls_optimizer_create(struct kls_optimizer **optimizer,
                                const struct kls_config *groups,
                                size_t group_count,
                                const struct kls_tensor *tensors,
                                size_t tensor_count,
                                const struct kls_options *options);
#endif

#if defined(KLS_HOST)
// Saves as kls_optimizer_save does, into a safetensors file: one tensor per part of the state, `<tensor>.<slice>.<piece>.<part>` and, for
// parts of a dim, `.<dim>` (`wte.0.0.basis.1`, `wte.0.0.momentum`), with the tensor's name, or, unless each has one and no two the same, its index in the table; groups, shapes, counters
// and checksum as JSON in the metadata. Memory for a second copy of the state is needed meanwhile.
//
// The file is written beside `path`, made durable, and renamed: at any time `path` holds the old file or the whole new one, also where the
// process is killed, the power fails, the disk is full, or several processes save to one path (the last one stays). Where `path` is a symbolic
// link, that stays, and the file that it leads to is replaced, or made. A file keeps its permissions, not its owner and its other names (hard
// links). A folder, a pipe or a device at `path` is left alone. A process that is killed leaves its temporary file, `.klshampoo-` and six letters
// or digits; the next save into that folder, by whatever process, removes those whose process is gone. It knows by a lock: so on Unix, not on
// file systems without locks, and on a shared one only if all machines that save there see each other's locks.
//
// Errors: KLS_ERROR_FILE_NOT_FOUND (the folder), KLS_ERROR_IO (kls_last_error has the system's own words), KLS_ERROR_OUT_OF_MEMORY,
// KLS_ERROR_SAFETENSORS (the names of so many pieces do not fit such a file), KLS_ERROR_NULL and the handle's; what was at `path` is then
// untouched and no temporary file is left, unless KLS_ERROR_IO is about the very last act, which makes the new name durable.
//
// # Safety
// `optimizer` is a handle that no other thread uses; `path` is NULL or a text that ends with a zero byte.
kls_status kls_optimizer_save_file(struct kls_optimizer *optimizer,
                                   const char *path);
#endif

#if defined(KLS_HOST)
// Loads as kls_optimizer_load does, from a regular file that kls_optimizer_save_file wrote. Memory for two more copies of the state is
// needed meanwhile, and for the file's header; a file that is too long for this optimizer is not read.
//
// Errors: those of kls_optimizer_load, KLS_ERROR_FILE_NOT_FOUND, KLS_ERROR_IO (also for folders, pipes and devices), KLS_ERROR_OUT_OF_MEMORY,
// KLS_ERROR_SAFETENSORS; the optimizer is then unchanged.
//
// # Safety
// As for kls_optimizer_save_file.
kls_status kls_optimizer_load_file(struct kls_optimizer *optimizer,
                                   const char *path);
#endif

#if defined(KLS_HOST)
// Adds tensors to the end of the table of an optimizer that kls_optimizer_create made: the next one gets the index that was the number of
// tensors, and later steps take that many more parameters and gradients. They belong to the groups that the optimizer has, and start as
// in a new optimizer. The handle stays valid, and the state of the others stays as it is, bit for bit; where refreshes are staggered, the
// steps in which they are due may change. For the time of the call both the old and the new memory are needed. After it, steps allocate
// nothing from one warm-up call per thread on.
//
// Errors: those of kls_optimizer_query for the tensors (messages count them from 0), KLS_ERROR_OUT_OF_MEMORY, KLS_ERROR_UNSUPPORTED in lent
// memory, which cannot grow, and the handle's; nothing is added then.
//
// # Safety
// `optimizer` is a handle that no other thread uses; `tensors` points to `tensor_count` structs.
kls_status kls_optimizer_add_tensors(struct kls_optimizer *optimizer,
                                     const struct kls_tensor *tensors,
                                     size_t tensor_count);
#endif

#if defined(KLS_HOST)
// Divides the slices of a table among `ranks` owners, such as the processes of a training run, so that each has about as much to do: an owner
// makes an optimizer of its slices alone and so has the state of these alone (ZeRO-1). It steps them with their whole gradient and
// sends their parameters to the others.
//
// `first_slices` has a row of `ranks` + 1 numbers for each tensor, and `len` = tensor_count * (ranks + 1): of tensor t, rank r owns the slices from
// first_slices[t * (ranks + 1) + r] up to, and without, first_slices[t * (ranks + 1) + r + 1]. They are neighbours, so the rank's part is the tensor with so many
// `slices`, whose parameter starts that many slices (slice_stride, or dense) later; a rank that owns none of a tensor leaves it out. Every
// slice has one owner. There may be more ranks than slices: some then own nothing.
//
// `costs` may be NULL. It has `ranks` numbers: what a step of the rank's slices takes, in floating-point operations, with refreshes evened out over
// refresh_period and 16 operations for each byte of parameters, gradients and state that passes through memory. No rank has more than
// the mean and one slice.
//
// The same arguments give the same division in every process. An optimizer of a part steps its slices as one of the whole table would, but for what
// depends on a slice's place in the table: in which steps of the period it is refreshed (`stagger`, kls_optimizer_set_refresh_budget), and the choices of
// KLS_ROUNDING_STOCHASTIC.
//
// Errors: those of kls_optimizer_query, KLS_ERROR_RANKS (also for more than 2^24), KLS_ERROR_BUFFER_LENGTH for another `len`, KLS_ERROR_SLICES for more than 2^24 slices,
// KLS_ERROR_OUT_OF_MEMORY; nothing is then written.
//
// # Safety
// `groups` and `tensors` point to `group_count` and `tensor_count` structs; `first_slices` has `len` writable numbers, `costs` is NULL or has
// `ranks`; they do not overlap.
kls_status kls_table_partition(const struct kls_config *groups,
                               size_t group_count,
                               const struct kls_tensor *tensors,
                               size_t tensor_count,
                               uint32_t ranks,
                               uint64_t *first_slices,
                               size_t len,
                               uint64_t *costs);
#endif

// Writes how many elements a slice has of a part of the state (KLS_STATE_*). `mode` is only looked at for parts that belong to one.
//
// Errors: KLS_ERROR_INDEX, KLS_ERROR_UNKNOWN_VALUE, KLS_ERROR_NO_SUCH_STATE, KLS_ERROR_NULL, KLS_ERROR_MISALIGNED and the handle's; `len`
// is then untouched.
//
// # Safety
// `optimizer` is a handle that no other thread uses; `len` is writable.
kls_status kls_optimizer_state_len(struct kls_optimizer *optimizer,
                                   size_t tensor,
                                   size_t slice,
                                   int32_t state_part,
                                   size_t mode,
                                   size_t *len);

// Copies a part of a slice's state (KLS_STATE_*) into `out`, which has exactly kls_optimizer_state_len elements. Before the first non-zero
// gradient everything is zero.
//
// Errors: KLS_ERROR_INDEX, KLS_ERROR_UNKNOWN_VALUE, KLS_ERROR_NO_SUCH_STATE, KLS_ERROR_BUFFER_LENGTH and the handle's: `out` is then
// untouched. After KLS_ERROR_LINALG it holds unspecified numbers.
//
// # Safety
// `optimizer` is a handle that no other thread uses; `out` has `len` writable elements.
kls_status kls_optimizer_read_state(struct kls_optimizer *optimizer,
                                    size_t tensor,
                                    size_t slice,
                                    int32_t state_part,
                                    size_t mode,
                                    float *out,
                                    size_t len);

// Replaces the eigenbasis of one mode by `basis` (d x d row-major, columns are eigenvectors, `len` = d * d) and transforms factor
// and momentum with it.
//
// Errors: KLS_ERROR_NOT_ORTHOGONAL, KLS_ERROR_NOT_STARTED, KLS_ERROR_INDEX, KLS_ERROR_NO_SUCH_STATE, KLS_ERROR_BUFFER_LENGTH, KLS_ERROR_LINALG and the
// handle's; the state is then unchanged.
//
// # Safety
// `optimizer` is a handle that no other thread uses; `basis` has `len` readable elements.
kls_status kls_optimizer_set_basis(struct kls_optimizer *optimizer,
                                   size_t tensor,
                                   size_t slice_index,
                                   size_t mode,
                                   const float *basis,
                                   size_t len);

// Copies a slice's counters.
//
// Errors: KLS_ERROR_INDEX, KLS_ERROR_STRUCT_SIZE and the handle's; `counters` is then untouched.
//
// # Safety
// `optimizer` is a handle that no other thread uses; `counters` has `struct_size` writable bytes.
kls_status kls_optimizer_counters(struct kls_optimizer *optimizer,
                                  size_t tensor,
                                  size_t slice,
                                  struct kls_counters *counters,
                                  size_t struct_size);

// Has an optimizer report failing calls and what steps meet to `log`, with `user` handed through; NULL switches it off, the default.
// It is called on the thread of the failing call, when the call's work is done, once for each message. It must not call into the same
// optimizer, but for kls_last_error.
//
// Errors: KLS_ERROR_NOT_BUILT in a build without messages; the handle's.
//
// # Safety
// `optimizer` is a handle that no other thread uses; `log` can be called with `user` until it is replaced or the optimizer ends.
kls_status kls_optimizer_set_log(struct kls_optimizer *optimizer,
                                 kls_log log,
                                 void *user);

// Reports an optimizer's memory. `struct_size` is sizeof(kls_memory).
//
// Errors: KLS_ERROR_NULL, KLS_ERROR_MISALIGNED, KLS_ERROR_STRUCT_SIZE and the handle's; `memory` is then untouched.
//
// # Safety
// `optimizer` is a handle that no other thread uses; `memory` has `struct_size` writable bytes.
kls_status kls_optimizer_memory(struct kls_optimizer *optimizer, struct kls_memory *memory, size_t struct_size);

// Why the last failing call on an optimizer failed: the call, the tensor with its name, slice and mode as far as they matter, and an
// explanation, such as `kls_optimizer_step: tensor 3 "h.2.mlp.w", slice 1: A gradient has a NaN or an infinity.` An empty text if none
// failed. Never NULL; valid until the next call on that optimizer. A call that succeeds leaves it as it is.
//
// With NULL, or a pointer that is no live optimizer: of the calling thread's last failing call without one (queries, making optimizers,
// filling structs, and calls that were given no live optimizer), valid until the thread's next such call. Without a host it is empty.
//
// # Safety
// `optimizer` is NULL, or points to memory that may be read as an optimizer and that no other thread uses.
const char *kls_last_error(const struct kls_optimizer *optimizer);

// Fills `config` with a method's defaults in a convention (KLS_CONVENTION_*). `struct_size` is sizeof(kls_config). Methods without
// Kronecker factors have only one convention.
//
// Errors: KLS_ERROR_NULL, KLS_ERROR_MISALIGNED, KLS_ERROR_STRUCT_SIZE, KLS_ERROR_UNKNOWN_VALUE, KLS_ERROR_NOT_BUILT; `config` is then
// untouched.
//
// # Safety
// `config` points to `struct_size` writable bytes.
kls_status kls_config_init(struct kls_config *config,
                           size_t struct_size,
                           int32_t method,
                           int32_t convention);

// Bytes and alignment of the memory that kls_optimizer_init needs for these groups and tensors (scratch included).
//
// Errors: those of the groups and tensors (KLS_ERROR_NOT_BUILT, KLS_ERROR_BETA ... KLS_ERROR_REFRESH_PORTION, KLS_ERROR_UNKNOWN_VALUE, KLS_ERROR_RESERVED), KLS_ERROR_NULL, KLS_ERROR_MISALIGNED,
// KLS_ERROR_STRUCT_SIZE; `size` and `alignment` are then untouched.
//
// # Safety
// `groups` and `tensors` point to `group_count` and `tensor_count` structs; `size` and `alignment` are writable.
kls_status kls_optimizer_query(const struct kls_config *groups,
                               size_t group_count,
                               const struct kls_tensor *tensors,
                               size_t tensor_count,
                               size_t *size,
                               size_t *alignment);

// Makes an optimizer in the caller's memory. It never allocates, uses one thread and the portable backend, and needs no destroy: the
// memory may be reused at any time, which ends the optimizer.
//
// `memory_size` is at least what kls_optimizer_query gives. On success `*optimizer` points into `memory`; groups and tensors are
// copied. On an error `*optimizer` and `memory` are untouched.
//
// Errors: those of kls_optimizer_query, KLS_ERROR_MEMORY_TOO_SHORT, KLS_ERROR_MISALIGNED.
//
// # Safety
// `memory` has `memory_size` writable bytes that nothing else uses while the optimizer lives; the rest as for kls_optimizer_query.
kls_status kls_optimizer_init(struct kls_optimizer **optimizer,
                              void *memory,
                              size_t memory_size,
                              const struct kls_config *groups,
                              size_t group_count,
                              const struct kls_tensor *tensors,
                              size_t tensor_count);

// Ends an optimizer and sets the caller's handle to NULL. One made by kls_optimizer_create gives its memory back; lent memory is
// only marked. A NULL handle is KLS_OK.
//
// Errors: KLS_ERROR_NULL when `optimizer` itself is NULL; KLS_ERROR_HANDLE when the lent memory holds no live optimizer. A copy of a
// handle to the heap must not be used again: nothing can detect that.
//
// # Safety
// `*optimizer` is NULL or a handle that no other thread uses.
kls_status kls_optimizer_destroy(struct kls_optimizer **optimizer);

// Bytes of optimizer state: factors, bases, eigenvalues, moments and one header per slice. Scratch and table are not counted.
//
// Errors: KLS_ERROR_NULL, KLS_ERROR_HANDLE, KLS_ERROR_POISONED.
//
// # Safety
// `optimizer` is a handle that no other thread uses; `bytes` is writable.
kls_status kls_optimizer_state_bytes(const struct kls_optimizer *optimizer,
                                     size_t *bytes);

// Sets a group's learning-rate scale and weight decay from the next step on.
//
// Errors: KLS_ERROR_GROUP, KLS_ERROR_LR_SCALE, KLS_ERROR_WEIGHT_DECAY and the handle's; the group is then unchanged.
//
// # Safety
// `optimizer` is a handle that no other thread uses.
kls_status kls_optimizer_set_group(struct kls_optimizer *optimizer, size_t group, float lr_scale, float weight_decay);

// Bounds the floating-point operations that one call of a step spends on refreshes, as kls_plan counts them (refresh_step_flops), from the
// next step on: what would go beyond waits for the next step, the longest overdue first. One refresh a step is made in any case. 0: no
// bound, the default. A slice's first step, which sets its basis, is not bounded. Together with staggered refreshes it bounds the longest step; a budget below the mean demand lengthens the periods.
// The budget is not part of the state.
//
// Errors: KLS_ERROR_NOT_BUILT, the handle's.
//
// # Safety
// `optimizer` is a handle that no other thread uses.
kls_status kls_optimizer_set_refresh_budget(struct kls_optimizer *optimizer,
                                            uint64_t flops);

// Copies how a tensor is treated. `struct_size` is sizeof(kls_plan).
//
// Errors: KLS_ERROR_INDEX, KLS_ERROR_NULL, KLS_ERROR_MISALIGNED, KLS_ERROR_STRUCT_SIZE and the handle's; `plan` is then untouched.
//
// # Safety
// `optimizer` is a handle that no other thread uses; `plan` has `struct_size` writable bytes.
kls_status kls_optimizer_plan(struct kls_optimizer *optimizer,
                              size_t tensor,
                              struct kls_plan *plan,
                              size_t struct_size);

// Predicted floating-point operations of the table's step number `step` (the first one is 1): products and factorisations, if all
// tensors have a gradient in every step and no refresh is left out. With refreshes in portions, the most that the step may take.
//
// Errors: KLS_ERROR_NULL, KLS_ERROR_MISALIGNED and the handle's; `flops` is then untouched.
//
// # Safety
// `optimizer` is a handle that no other thread uses; `flops` is writable.
kls_status kls_optimizer_predicted_flops(struct kls_optimizer *optimizer,
                                         uint64_t step,
                                         uint64_t *flops);

// One English sentence for a status. Never NULL; the text is static.
const char *kls_status_string(kls_status status);

// One step of the whole table. `params[i]` and `grads[i]` are the f32 elements of tensor i, which is frozen in this step
// when `grads[i]` is NULL. `lr` is multiplied by each group's lr_scale.
//
// All gradients are checked before anything is written. Then each slice is a transaction of its own: when one fails
// (KLS_ERROR_ESTIMATE_NOT_FINITE, KLS_ERROR_UPDATE_NOT_FINITE, KLS_ERROR_LINALG), it is left as it was, the others are stepped, and the first failure is returned.
//
// A slice's steps are counted when they are made: what was frozen, refused or skipped leaves its counter, refresh schedule and bias
// correction where they were.
//
// Errors: KLS_ERROR_NULL, KLS_ERROR_MISALIGNED, KLS_ERROR_OVERLAP, KLS_ERROR_TENSOR_COUNT, KLS_ERROR_NOT_F32, KLS_ERROR_LEARNING_RATE,
// KLS_ERROR_GRADIENT_NOT_FINITE, KLS_ERROR_GRADIENT_TOO_LARGE (nothing is written), and the three above. With KLS_WEIGHT_DECAY_L2 the
// parameter is part of the gradient; it is looked at when its slice's turn comes, not before. KLS_ERROR_PARALLEL_FOR, if no slice failed:
// the caller's parallel_for left tasks out, repeated some or returned early; the step was made in full all the same, for what it left out was
// done by the calling thread and what it repeated was not.
//
// # Safety
// `optimizer` is a handle that no other thread uses; `params` and `grads` point to `tensor_count` pointers to as many elements as the
// tensor spans; no parameter overlaps another or a gradient.
kls_status kls_optimizer_step(struct kls_optimizer *optimizer,
                              float *const *params,
                              const float *const *grads,
                              size_t tensor_count,
                              float lr);

// One step of one tensor, as soon as its gradient is ready. A NULL gradient is KLS_ERROR_NULL here.
//
// Errors: as for kls_optimizer_step, and KLS_ERROR_INDEX.
//
// # Safety
// As for kls_optimizer_step, with one tensor's parameter and gradient.
kls_status kls_optimizer_step_tensor(struct kls_optimizer *optimizer,
                                     size_t tensor,
                                     float *param,
                                     const float *grad,
                                     float lr);

// Fills `step` with the defaults. `struct_size` is sizeof(kls_step).
//
// Errors: KLS_ERROR_NULL, KLS_ERROR_MISALIGNED, KLS_ERROR_STRUCT_SIZE; `step` is then untouched.
//
// # Safety
// `step` points to `struct_size` writable bytes.
kls_status kls_step_init(struct kls_step *step, size_t struct_size);

// One step of a range of tensors, with gradients and parameters in their formats, scaled gradients, or updates that are only written.
//
// Errors: as for kls_optimizer_step without KLS_ERROR_NOT_F32, KLS_ERROR_STRUCT_SIZE, KLS_ERROR_RESERVED, KLS_ERROR_INDEX for a range beyond the
// table, KLS_ERROR_TENSOR_COUNT for none, KLS_ERROR_GRAD_SCALE, KLS_ERROR_MASTER_WEIGHTS.
//
// # Safety
// `optimizer` is a handle that no other thread uses; `request` is readable, and its arrays have `tensor_count` pointers to as many
// elements as the tensor spans; no parameter or update overlaps another or a gradient.
kls_status kls_optimizer_step_with(struct kls_optimizer *optimizer,
                                   const struct kls_step *request);

// Fills `tensor` with `order` dims, one slice, group 0, automatic modes. `struct_size` is sizeof(kls_tensor).
//
// Errors: KLS_ERROR_NULL, KLS_ERROR_MISALIGNED, KLS_ERROR_STRUCT_SIZE, KLS_ERROR_ORDER; `tensor` is then untouched. The dims'
// values are checked when an optimizer is made.
//
// # Safety
// `tensor` points to `struct_size` writable bytes, `dims` to `order` numbers.
kls_status kls_tensor_init(struct kls_tensor *tensor,
                           size_t struct_size,
                           uint32_t order,
                           const uint64_t *dims);

// The version of the linked library, "major.minor.patch". Static; compare it with KLS_VERSION_*, which are the header's.
const char *kls_version(void);

// Writes how many elements of scratch kls_window_similarity needs.
//
// Errors: KLS_ERROR_NULL, KLS_ERROR_MISALIGNED, KLS_ERROR_ZERO_DIM, KLS_ERROR_OVERFLOW; `len` is then untouched.
//
// # Safety
// `len` is writable.
kls_status kls_window_scratch_len(size_t rows, size_t columns, size_t count, size_t *len);

// Compares the second moment of `count` gradients with its Kronecker approximations. They are rows x columns each, row-major, one after
// another in `grads`. Needs no optimizer and allocates nothing; the arithmetic is that of the portable backend. `struct_size` is
// sizeof(kls_similarity).
//
// Errors: KLS_ERROR_ZERO_DIM, KLS_ERROR_OVERFLOW, KLS_ERROR_NULL, KLS_ERROR_MISALIGNED, KLS_ERROR_STRUCT_SIZE,
// KLS_ERROR_MEMORY_TOO_SHORT for the scratch, KLS_ERROR_GRADIENT_NOT_FINITE, KLS_ERROR_ZERO_WINDOW, KLS_ERROR_LINALG; `similarity` is
// then untouched.
//
// # Safety
// `grads` has `count * rows * columns` readable elements, `scratch` has `scratch_len` writable ones, `similarity` has `struct_size`
// writable bytes; none overlap.
kls_status kls_window_similarity(const float *grads,
                                 size_t rows,
                                 size_t columns,
                                 size_t count,
                                 float *scratch,
                                 size_t scratch_len,
                                 struct kls_similarity *similarity,
                                 size_t struct_size);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* KLSHAMPOO_H */
