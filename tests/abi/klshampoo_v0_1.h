/*
 * klshampoo: the KL-Shampoo family of optimizers.
 *
 * API conventions
 *   Status      Every call that can fail returns a kls_status: KLS_OK (0) or the number of an error, explained by
 *               kls_status_string. An error leaves parameters, state and outputs as they were, unless the call says otherwise.
 *   Structs     Configuration structs start with struct_size and are filled by their init function, which is given sizeof.
 *               Change fields after that. They are copied: nothing keeps a pointer to them.
 *   Ownership   kls_optimizer_create allocates, kls_optimizer_destroy frees and clears the caller's handle.
 *               kls_optimizer_init works in the caller's memory and never allocates. Parameters and gradients stay the caller's:
 *               they are only touched during a call.
 *   Numbers     32-bit IEEE floats, row-major, aligned to 4 bytes. Denormal flushing is tolerated.
 *   Aliasing    Parameters, gradients, outputs and the optimizer's memory do not overlap; a parameter that overlaps its own
 *               gradient is detected.
 *   Threads     One thread at a time per optimizer; different optimizers may be used from different threads. No global state.
 *               After fork() the child must not use an optimizer that has threads: they stayed with the parent.
 *   Results     The same calls give the same bits: for the portable backend on every machine, for faer for the same CPU features,
 *               for any number of threads.
 *   Without a host   Define KLS_NO_HOST where the library was built without its feature `host` (no heap, no threads).
 */

#ifndef KLSHAMPOO_H
#define KLSHAMPOO_H

/* Generated from the crate klshampoo-ffi by cbindgen; do not edit. `cargo test -p klshampoo-tests --test header` compares. */

#include <stddef.h>
#include <stdint.h>

#ifndef KLS_NO_HOST
#define KLS_HOST
#endif

// KL-Shampoo (paper "Understanding and Improving Shampoo and SOAP via Kullback-Leibler Minimization", Fig. 13 and Claims 2 to 4).
#define KLS_METHOD_KL_SHAMPOO 0

// AdamW, with decoupled weight decay and bias correction.
#define KLS_METHOD_ADAMW 1

// The paper's order of operations (Fig. 13): estimate, refresh, apply. The default.
#define KLS_CONVENTION_FIGURE13 0

// The order of the authors' published code: apply, estimate, refresh; the first call only sets factors and bases.
#define KLS_CONVENTION_REFERENCE_KL 1

// No Kronecker factors: an elementwise method.
#define KLS_ESTIMATOR_NONE 0

// KL-Shampoo's factors.
#define KLS_ESTIMATOR_KL 1

// The momentum over the root of the eigenvalues' product.
#define KLS_DIRECTION_KRONECKER_ROOT 0

// The momentum over the root of a second moment per element (Adam).
#define KLS_DIRECTION_SECOND_MOMENT 1

// The direction sees this step's estimate and refresh.
#define KLS_ORDER_ESTIMATE_FIRST 0

// The direction sees what the previous step left.
#define KLS_ORDER_APPLY_FIRST 1

// The first non-zero gradient sets the bases and is then stepped with.
#define KLS_FIRST_STEP_FULL 0

// The first non-zero gradient sets bases and factors and leaves the parameters alone.
#define KLS_FIRST_STEP_FACTORS_ONLY 1

// The first eigenvalue is `lambda_0`.
#define KLS_LAMBDA_CONSTANT 0

// The first eigenvalue is taken from the first non-zero gradient's mean square.
#define KLS_LAMBDA_SCALE_FREE 1

// theta <- theta (1 - lr wd), then the update.
#define KLS_WEIGHT_DECAY_BEFORE 0

// The update, then theta <- theta (1 - lr wd).
#define KLS_WEIGHT_DECAY_AFTER 1

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

// Largest number of dims of a tensor.
#define KLS_MAX_ORDER 6

// Full up to the group's max_dim, diagonal beyond it. The default.
#define KLS_MODE_AUTO 0

// A full Kronecker factor with its eigenbasis.
#define KLS_MODE_FULL 1

// The diagonal of a factor.
#define KLS_MODE_DIAGONAL 2

// Not preconditioned.
#define KLS_MODE_IDENTITY 3

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

// A group's method and hyper-parameters. Fill it with kls_config_init, then change what you want.
typedef struct kls_config {
  // sizeof(kls_config), set by kls_config_init.
  uint32_t struct_size;
  // KLS_ESTIMATOR_*: what the Kronecker factors estimate.
  int32_t estimator;
  // Dims longer than this get a diagonal factor instead of a full one. Default 8192.
  uint64_t max_dim;
  // KLS_DIRECTION_*: how the momentum becomes a direction.
  int32_t direction;
  // KLS_ORDER_*: which eigenvalues and bases the direction sees.
  int32_t step_order;
  // KLS_FIRST_STEP_*: what the first non-zero gradient does.
  int32_t first_step;
  // T, steps between refreshes of the eigenbases, at least 1. Default 10.
  uint32_t refresh_period;
  // A refresh ends step t when t > offset and (t - offset) mod T = 0. 0 or 1.
  uint32_t refresh_offset;
  // KLS_LAMBDA_*: how the first eigenvalue is chosen.
  int32_t lambda_init;
  // The first eigenvalue with KLS_LAMBDA_CONSTANT, at least 2^-63 (raised to the floor of tensors with more than two dims).
  float lambda_0;
  // Decay of the momentum, in [0, 1).
  float beta1;
  // Decay of factors, eigenvalues and second moments, in [0, 1).
  float beta2;
  // Damping, at least 0: added to the root that the momentum is divided by.
  float eps;
  // Decoupled weight decay per unit of learning rate, at least 0.
  float weight_decay;
  // KLS_WEIGHT_DECAY_*: when weight decay acts.
  int32_t weight_decay_kind;
  // Bounds lambda_k^(-1/2) by max(10, min(d_k, clamp_limit)); 0: no bound.
  float clamp_limit;
  // Non-zero: rebalance the scale of the factors by exact powers of two when they drift apart. Not with a clamp.
  int32_t gauge;
  // Non-zero: divide the moments by 1 - beta^t when they are used.
  int32_t bias_correction;
  // KLS_BAD_GRADIENT_*: what to do with a gradient that is not finite or too large.
  int32_t bad_gradient;
  // Multiplies the learning rate given to a step; at least 0. Default 1.
  float lr_scale;
  // Must be 0.
  uint32_t reserved;
} kls_config;

#if defined(KLS_HOST)
// How an optimizer on a host works. Fill it with kls_options_init, then change what you want.
typedef struct kls_options {
  // sizeof(kls_options), set by kls_options_init.
  uint32_t struct_size;
  // Threads of a step, the calling one included, 1 to 1024. Default 1. Results do not depend on it. Each has a scratch of its own,
  // as long as the largest tensor slice needs.
  uint32_t num_threads;
  // KLS_BACKEND_*.
  int32_t backend;
  // Must be 0.
  uint32_t reserved;
} kls_options;
#endif

// One parameter tensor: row-major, the last dim contiguous, 32-bit floats. Fill it with kls_tensor_init, then change what you want.
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
  // Must be 0.
  uint32_t reserved;
  // Lengths of the dims of one slice.
  uint64_t dims[KLS_MAX_ORDER];
  // KLS_MODE_* per dim. A group without Kronecker factors (AdamW) has no use for it.
  int32_t modes[KLS_MAX_ORDER];
  // Number of equal slices, each a tensor of these dims with a state of its own (layers stacked in one buffer). Default 1.
  uint64_t slices;
  // Elements from the start of one slice to the start of the next; 0: slices are dense.
  uint64_t slice_stride;
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
} kls_counters;

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

// beta1 and beta2 must lie in [0, 1).
#define KLS_ERROR_BETA 20

// eps must be finite and at least 0.
#define KLS_ERROR_EPS 21

// weight_decay must be finite and at least 0.
#define KLS_ERROR_WEIGHT_DECAY 22

// refresh_period must be at least 1 and refresh_offset 0 or 1.
#define KLS_ERROR_REFRESH_PERIOD 23

// A constant lambda_0 must be finite and at least 2^-63.
#define KLS_ERROR_LAMBDA_INIT 24

// clamp_limit must be 0 (no clamp), or finite and at least 1.
#define KLS_ERROR_CLAMP_LIMIT 25

// lr_scale must be finite and at least 0.
#define KLS_ERROR_LR_SCALE 26

// max_dim must be at least 1.
#define KLS_ERROR_MAX_DIM 27

// This estimator and this direction do not go together.
#define KLS_ERROR_COMBINATION 28

// A clamp and gauge rebalancing exclude each other.
#define KLS_ERROR_CLAMP_WITH_GAUGE 29

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

// Slices overlap: slice_stride is smaller than a slice.
#define KLS_ERROR_SLICE_STRIDE 45

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

// A parameter buffer overlaps a gradient buffer.
#define KLS_ERROR_OVERLAP 71

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// Fills `config` with a method's defaults. `struct_size` is sizeof(kls_config). The convention matters to KL-Shampoo only.
//
// Errors: KLS_ERROR_NULL, KLS_ERROR_MISALIGNED, KLS_ERROR_STRUCT_SIZE, KLS_ERROR_UNKNOWN_VALUE; `config` is then untouched.
//
// # Safety
// `config` points to `struct_size` writable bytes.
kls_status kls_config_init(struct kls_config *config,
                           size_t struct_size,
                           int32_t method,
                           int32_t convention);

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
// are copied. On an error `*optimizer` is untouched. After one warm-up call per thread, steps allocate nothing.
//
// Errors: those of kls_optimizer_query, KLS_ERROR_THREADS, KLS_ERROR_UNKNOWN_VALUE, KLS_ERROR_OUT_OF_MEMORY.
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

// Copies a part of a slice's state (KLS_STATE_*) into `out`, which has exactly `len` elements. Before the first non-zero gradient
// everything is zero.
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
// Errors: KLS_ERROR_NOT_ORTHOGONAL, KLS_ERROR_NOT_STARTED, KLS_ERROR_INDEX, KLS_ERROR_NO_SUCH_STATE, KLS_ERROR_BUFFER_LENGTH and the
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

// Bytes and alignment of the memory that kls_optimizer_init needs for these groups and tensors (scratch included).
//
// Errors: those of the groups and tensors (KLS_ERROR_BETA ... KLS_ERROR_SLICE_STRIDE), KLS_ERROR_NULL, KLS_ERROR_MISALIGNED,
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

// One English sentence for a status. Never NULL; the text is static.
const char *kls_status_string(kls_status status);

// One step of the whole table. `params[i]` and `grads[i]` are the row-major f32 elements of tensor i, which is frozen in this step
// when `grads[i]` is NULL. `lr` is multiplied by each group's lr_scale.
//
// All gradients are checked before anything is written. Then each slice is a transaction of its own: when one fails
// (KLS_ERROR_UPDATE_NOT_FINITE, KLS_ERROR_LINALG), it is left as it was, the others are stepped, and the first failure is returned.
//
// Errors: KLS_ERROR_NULL, KLS_ERROR_MISALIGNED, KLS_ERROR_OVERLAP, KLS_ERROR_TENSOR_COUNT, KLS_ERROR_LEARNING_RATE,
// KLS_ERROR_GRADIENT_NOT_FINITE, KLS_ERROR_GRADIENT_TOO_LARGE (nothing is written), and the two above.
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

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* KLSHAMPOO_H */
