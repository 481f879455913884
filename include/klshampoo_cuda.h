/*
 * klshampoo on the GPU: the optimizers of klshampoo.h with state, parameters and gradients in the memory of a CUDA device.
 *
 * What klshampoo.h says about statuses, structs, ownership, panics and the ABI goes for this header too. Besides:
 *   Library     libklshampoo_cuda has everything that libklshampoo has, and is linked in its place, never beside it. It links no CUDA library: the
 *               driver (libcuda.so.1) is opened by the first kls_cuda_create. So it builds, links and loads where there is none, and
 *               that call then returns KLS_ERROR_CUDA_NO_DRIVER. Neither nvcc nor the CUDA runtime is needed. cuBLAS is opened in the same way
 *               for large products, and done without where there is none: kls_cuda_options.blas.
 *   Pointers    Parameters, gradients, device_lr, device_grad_scale and lent memory are addresses of device memory (a CUdeviceptr, or what
 *               cudaMalloc gives) in the C type of a pointer. The library never reads them on the host. Structs, arrays of pointers,
 *               buffers of checkpoints and of counters are in host memory.
 *   Streams     A void *stream is a CUstream or cudaStream_t of the optimizer's device; NULL is the legacy default stream. A call queues
 *               its work there after what is there already. Calls of one optimizer on several streams are ordered by the caller.
 *   Refreshes   Where kls_cuda_options.refresh_stream is not NULL they are made on it between two steps. Whatever looks at the state waits for them
 *               on its own stream; kls_cuda_join makes any other stream wait.
 *   Waiting     Steps, and copies of counters and of the norm into page-locked memory, return at once: they allocate nothing and wait for nothing. (The first few steps queue a copy
 *               of the slices' headers, and later ones look whether it has come, until every slice that had gradients had one that is not
 *               zero; frozen tensors do not count, a slice whose gradients are all zero keeps it up.) kls_cuda_create, the saves, the loads
 *               and kls_cuda_read_state wait for their stream, kls_cuda_destroy for the device.
 *   Context     Calls work in the device's primary context, as the CUDA runtime does, and leave the calling thread's current context as
 *               it was.
 *   Threads     One thread at a time per optimizer, whichever; different optimizers, on the same device too, at the same time.
 *   Gradients   A gradient that is not finite or too large is found on the device, whatever the group's bad_gradient says: its slice is
 *               left alone in this step and counted (kls_counters.skipped); the others are stepped. So is a slice whose update is not finite.
 *   Graphs      A step can be captured into a CUDA graph and replayed: kls_cuda_replayed.
 *   Results     The same calls give the same bits on the same device model, library and cuBLAS.
 *   Errors      Of the driver or of cuBLAS: KLS_ERROR_CUDA, and kls_cuda_last_error has its number and words; KLS_ERROR_CUDA_OUT_OF_MEMORY where it says
 *               that the device's memory is not enough, which any call that gives it work may return. Work that fails on the device
 *               after a call has returned is an error of a later call, as is usual with CUDA.
 */

#ifndef KLSHAMPOO_CUDA_H
#define KLSHAMPOO_CUDA_H

/* Generated from the crate klshampoo-cuda by cbindgen; do not edit. `cargo test -p klshampoo-tests --test header` compares. */

#include "klshampoo.h"

// Products of f32, without tensor cores.
#define KLS_CUDA_PRECISION_F32 0

// On tensor cores, each input as the sum of two numbers in TF32: nearly as exact as KLS_CUDA_PRECISION_F32.
#define KLS_CUDA_PRECISION_TF32X3 1

// On tensor cores, inputs rounded to TF32: 11 significant bits.
#define KLS_CUDA_PRECISION_TF32 2

// On tensor cores, inputs rounded to bf16: 8 significant bits.
#define KLS_CUDA_PRECISION_BF16 3

// cuBLAS makes the large products that it can, where there is one.
#define KLS_CUDA_BLAS_AUTO 0

// This library makes all products.
#define KLS_CUDA_BLAS_NEVER 1

// As KLS_CUDA_BLAS_AUTO; without cuBLAS no optimizer is made.
#define KLS_CUDA_BLAS_REQUIRED 2

// An optimizer on a GPU. Opaque.
typedef struct kls_cuda kls_cuda;

// Gives `bytes` of device memory at an address that is a multiple of `alignment`, or NULL. It is called once, by kls_cuda_create, while the
// primary context of the optimizer's device is current. It must not throw or jump out.
typedef void *(*kls_cuda_alloc)(void *user, size_t bytes, size_t alignment);

// Takes back what kls_cuda_alloc gave. It is called once, by kls_cuda_destroy or by a kls_cuda_create that fails, in the same way. It does not know
// of work that streams have still to do.
typedef void (*kls_cuda_free)(void *user, void *memory, size_t bytes);

// Where an optimizer lies, and how its products are made. Fill it with kls_cuda_options_init, then change what you want.
typedef struct kls_cuda_options {
  // sizeof(kls_cuda_options), set by kls_cuda_options_init.
  uint32_t struct_size;
  // The device's ordinal, as cudaGetDevice and cuDeviceGet count. Default 0.
  int32_t device;
  // The CUstream or cudaStream_t on which kls_cuda_create clears the memory, for which it waits. NULL (the default): the legacy default stream.
  void *stream;
  // The caller's own pool of device memory. NULL (the default): the driver's.
  kls_cuda_alloc alloc;
  // Where what it gave goes back to; not NULL where `alloc` is not.
  kls_cuda_free free;
  // Handed through to both.
  void *allocator_user;
  // Device memory that the caller lends until the optimizer's end; its address is a multiple of kls_cuda_memory.alignment. NULL (the
  // default): none. Not together with `alloc`.
  void *memory;
  // Bytes of it, at least kls_cuda_memory.total_bytes.
  uint64_t memory_size;
  // Bytes of workspace that tensors of one shape may take together. Beyond it they are stepped in several batches, one after another, which takes
  // less memory and more time; a single tensor may need more. Default 2^32: 4 GiB.
  uint64_t workspace_limit;
  // KLS_CUDA_PRECISION_*: of the products that take a gradient into the eigenbasis and the direction back out of it, and that move momentum along
  // with a basis that turns. Sums are f32 at every precision; a slice's first step, which sets its bases, is f32 in all. Default
  // KLS_CUDA_PRECISION_F32. What each precision costs in error is in the README of the GPU's crate.
  int32_t precision_project;
  // The same of what the Kronecker factors see of a gradient: symmetric products. Eigenvalues below the rounding of the largest one are lost.
  int32_t precision_factor;
  // The same of the products with which a refresh turns the factors. Those on which the orthogonality of a basis rests are made at no less than
  // KLS_CUDA_PRECISION_TF32X3, whatever is said here.
  int32_t precision_refresh;
  // KLS_CUDA_BLAS_*: whether large products are left to cuBLAS (libcublas.so.13 or .12, opened by kls_cuda_create; the environment variable
  // KLS_CUDA_BLAS names another file). It makes those of plain matrices at every precision but KLS_CUDA_PRECISION_TF32X3. Its
  // workspace of 32 MiB is a part of the optimizer's block, counted by kls_cuda_query whether it is there or not, if the table has a product
  // that is large enough; what cublasCreate itself allocates is not. Default KLS_CUDA_BLAS_AUTO.
  int32_t blas;
  // How large: the least number of multiplications (rows x columns x depth) in a product of one tensor. Default 2^24: 256 x 256 x 256.
  uint64_t blas_from;
  // A CUstream or cudaStream_t of the device, on which the refreshes of a step are made after it, beside what its stream is given next: the caller's
  // next forward and backward pass. It stays until the optimizer's end. With the legacy default stream nothing overlaps that does not come from
  // cudaStreamNonBlocking; it cannot be the refresh_stream itself. A refresh that is due in a step is then made from the state that this
  // step leaves, and used from the next step on: every group is stepped as with step_order KLS_ORDER_APPLY_FIRST, whatever it says. The next
  // step waits for it on the device; see kls_cuda_join. It has a workspace of its own, about as large again, and takes nothing to cuBLAS. NULL (the
  // default): refreshes are part of the step, on its stream.
  void *refresh_stream;
} kls_cuda_options;

// Bytes of device memory that an optimizer holds, all in one block, from its making to its end.
typedef struct kls_cuda_memory {
  // sizeof(kls_cuda_memory).
  uint32_t struct_size;
  // What the block's address is a multiple of.
  uint32_t alignment;
  // Factors, bases, eigenvalues, moments and master weights; each batch begins at a multiple of the alignment.
  uint64_t state_bytes;
  // A 64-byte header per slice or piece of one, likewise.
  uint64_t header_bytes;
  // What the kernels know of the tensors.
  uint64_t table_bytes;
  // Gradients, products and updates on their way through a step, what refreshes with a stream of their own work in, and what cuBLAS does.
  uint64_t workspace_bytes;
  // The block: all of these, and the gaps between them.
  uint64_t total_bytes;
} kls_cuda_memory;

// A step. Fill it with kls_cuda_request_init, then change what you want. Arrays are in host memory, what their pointers point to is on the device.
typedef struct kls_cuda_request {
  // sizeof(kls_cuda_request), set by kls_cuda_request_init.
  uint32_t struct_size;
  // The learning rate, multiplied by each group's lr_scale. There is no default: a step without one is KLS_ERROR_LEARNING_RATE.
  float lr;
  // Multiplies every gradient when it is read, as a clip or a loss scale wants it; finite and positive. Default 1.
  float grad_scale;
  // Bounds the norm of all gradients together, multiplied by grad_scale: if it is larger, all are scaled down to it on the device, before they are looked
  // at. Slices whose gradients are not finite do not count. It mostly costs one more pass over the gradients. 0 (the default): no bound. A step
  // with one that is negative or not finite is KLS_ERROR_GRAD_SCALE.
  float max_norm;
  // A number on the device that takes the place of `lr`, read when the step runs: a captured step then takes a new rate with each replay. A
  // step with one that is negative or not finite leaves everything alone and counts as skipped. NULL (the default): `lr`.
  const float *device_lr;
  // The same in place of `grad_scale`. With one that is not finite no gradient is; zero or less is not looked at.
  const float *device_grad_scale;
  // How many tensors there are. Default 0: must be set.
  size_t tensor_count;
  // The tensors' parameters, in their formats.
  void *const *params;
  // The tensors' gradients, in their formats; a tensor whose pointer is NULL is frozen in this step.
  const void *const *grads;
  // The CUstream or cudaStream_t on which the step runs. NULL (the default): the legacy default stream.
  void *stream;
} kls_cuda_request;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// Fills `options` with the defaults. `struct_size` is sizeof(kls_cuda_options).
//
// Errors: KLS_ERROR_NULL, KLS_ERROR_MISALIGNED, KLS_ERROR_STRUCT_SIZE; `options` is then untouched.
//
// # Safety
// `options` points to `struct_size` writable bytes.
kls_status kls_cuda_options_init(struct kls_cuda_options *options, size_t struct_size);

// Says how much device memory kls_cuda_create takes for these groups and tensors with these options, which may be NULL for the defaults. Needs neither
// a device nor a driver. `struct_size` is sizeof(kls_cuda_memory).
//
// Errors: those of kls_optimizer_query, KLS_ERROR_UNKNOWN_VALUE for an option's, KLS_ERROR_CUDA_UNSUPPORTED for what the GPU's optimizer does not do (kls_cuda_last_error says what), also
// for tables with more than 2^24 slices and pieces of slices,
// KLS_ERROR_OUT_OF_MEMORY of the host, KLS_ERROR_NULL, KLS_ERROR_MISALIGNED, KLS_ERROR_STRUCT_SIZE; `memory` is then untouched.
//
// # Safety
// `groups` and `tensors` point to `group_count` and `tensor_count` structs; `options` is NULL or readable; `memory` has `struct_size` writable bytes.
kls_status kls_cuda_query(const kls_config *groups,
                          size_t group_count,
                          const kls_tensor *tensors,
                          size_t tensor_count,
                          const struct kls_cuda_options *options,
                          struct kls_cuda_memory *memory,
                          size_t struct_size);

// Makes an optimizer on a device, in its primary context, which the CUDA runtime works in too. `options` may be NULL for the defaults. Groups and tensors
// are copied. On an error `*optimizer` is untouched. It is the only call that takes memory of the device, and it waits until that is
// cleared; later on nothing waits but saves, loads, kls_cuda_read_state, kls_cuda_destroy, and copies into memory that is not page-locked. Not while `options.stream` is being
// captured: that is KLS_ERROR_CUDA, and nothing is recorded.
//
// Errors: those of kls_cuda_query and of the options (KLS_ERROR_NULL, KLS_ERROR_MISALIGNED, KLS_ERROR_STRUCT_SIZE, KLS_ERROR_UNSUPPORTED,
// KLS_ERROR_MEMORY_TOO_SHORT, KLS_ERROR_UNKNOWN_VALUE), then KLS_ERROR_CUDA_NO_DRIVER, KLS_ERROR_CUDA_DRIVER_TOO_OLD, KLS_ERROR_CUDA_NO_DEVICE,
// KLS_ERROR_CUDA_UNSUPPORTED for a device that is too old, and where cuBLAS is required and there is none; KLS_ERROR_CUDA_OUT_OF_MEMORY,
// KLS_ERROR_CUDA: also for lent memory, or memory from the allocator, that is another device's or none, and for a cuBLAS that is there and fails.
//
// # Safety
// As for kls_cuda_query; `optimizer` is writable; `options` is NULL or readable, and what it points to is as it says.
kls_status kls_cuda_create(struct kls_cuda **optimizer,
                           const kls_config *groups,
                           size_t group_count,
                           const kls_tensor *tensors,
                           size_t tensor_count,
                           const struct kls_cuda_options *options);

// Ends an optimizer, gives its memory back and sets the caller's handle to NULL. A NULL handle is KLS_OK. Memory of the driver is given back when
// the device has done what it was given, for which the call waits; lent memory and an allocator's may only be used for something else then.
// Graphs in which its steps were captured must not be replayed any more. Not while a stream of the device is being captured: the driver may
// then end the capture and not take the memory back, and no status says so.
//
// Errors: KLS_ERROR_NULL when `optimizer` itself is NULL; KLS_ERROR_HANDLE for no live optimizer. A copy of a handle must not be used again: nothing
// can detect that.
//
// # Safety
// `*optimizer` is NULL or a handle that no other thread uses.
kls_status kls_cuda_destroy(struct kls_cuda **optimizer);

// Why the last failing call on an optimizer failed, as kls_last_error says it; of a call of the driver that failed, its name, the driver's number and
// text: `kls_cuda_step: cuLaunchKernel: CUDA error 700: an illegal memory access was encountered.` Where the driver refuses the kernels it also has
// the beginning of what its compiler says of them. An empty text if none failed. Never NULL; valid until the next call on that optimizer. With NULL, or a pointer that is no live optimizer, what kls_last_error(NULL) says.
//
// # Safety
// `optimizer` is NULL, or points to memory that may be read as an optimizer and that no other thread uses.
const char *kls_cuda_last_error(const struct kls_cuda *optimizer);

// Fills `request` with the defaults. `struct_size` is sizeof(kls_cuda_request).
//
// Errors: KLS_ERROR_NULL, KLS_ERROR_MISALIGNED, KLS_ERROR_STRUCT_SIZE; `request` is then untouched.
//
// # Safety
// `request` points to `struct_size` writable bytes.
kls_status kls_cuda_request_init(struct kls_cuda_request *request, size_t struct_size);

// One step of the whole table, queued on `request.stream`. Parameters, gradients and the numbers on the device are read and written when it runs.
// What of the request is in host memory is not needed any more when the call returns.
//
// What is checked here is checked before anything is queued. What the gradients are is found on the device: a slice whose gradient is not finite or too
// large, or whose update is not finite, is left alone and counted, and its refresh schedule goes on as if it had been stepped. The step
// counters and bias corrections of such a slice stay where they were.
//
// Errors: KLS_ERROR_STRUCT_SIZE, KLS_ERROR_TENSOR_COUNT, KLS_ERROR_LEARNING_RATE, KLS_ERROR_GRAD_SCALE (of `grad_scale` and `max_norm`),
// KLS_ERROR_NULL, KLS_ERROR_MISALIGNED, KLS_ERROR_OVERLAP and the handle's: nothing is then queued. KLS_ERROR_CUDA, and
// KLS_ERROR_CUDA_OUT_OF_MEMORY if that is what the driver or cuBLAS says: of this step, or of work that the device was given before; parameters and
// state are then not to be trusted, and the device's context is as a rule lost.
//
// # Safety
// `optimizer` is a handle that no other thread uses; `request` is readable, and its arrays have `tensor_count` pointers to as many elements
// of device memory as the tensor spans, which stay until the step has run; no parameter overlaps another or a gradient; `stream` is a stream of the
// optimizer's device.
kls_status kls_cuda_step(struct kls_cuda *optimizer,
                         const struct kls_cuda_request *request);

// Captured steps have been replayed: `steps` of them, that is launches of a graph times the steps in it. What the library knows of an optimizer's
// steps, and the refreshes that it makes in later steps, then are right again. Steps of a capture itself count as made when they are captured: tell it
// of every replay but the first one of each.
//
// A step under capture (cudaStreamBeginCapture on its stream, cudaStreamEndCapture after) is recorded and not run. What is recorded are the
// addresses of the request; numbers only where they are on the device (device_lr, device_grad_scale). Which refreshes it makes depends on the
// number of steps that were made before, and repeats every refresh_period steps (without refresh_growth): capture so many steps, each in a
// graph of its own or all in one, and replay them in that order for ever. A first step does more than later ones, and the library learns a step or
// two later that it is over: run a few steps before you capture, or what is captured is
// slower. In the conventions whose refreshes come a step later (reference_kl, reference_soap) the first step has to be one of these: a period that
// begins with it has a refresh less than all others.
//
// With kls_cuda_options.refresh_stream a captured step's refreshes are a branch of the graph that is over before whatever is captured after the step:
// they overlap nothing. Call kls_cuda_join before the capture begins, and before a replay that comes after steps without a capture.
//
// Errors: KLS_ERROR_OVERFLOW for steps that would bring the count beyond 2^40, or more than 2^20 at once while the refresh period still grows
// (refresh_growth): none of them then counts; and the handle's.
//
// # Safety
// `optimizer` is a handle that no other thread uses.
kls_status kls_cuda_replayed(struct kls_cuda *optimizer,
                             uint64_t steps);

// Lets `stream` wait for the refreshes that are under way on `kls_cuda_options.refresh_stream`; the call itself waits for nothing. What is queued on it
// later sees them. kls_cuda_step, the saves, the loads, kls_cuda_read_state and kls_cuda_copy_headers do so themselves. It is needed after steps without
// a capture: before one is captured, and, on the stream of the replay, before captured ones are replayed. Without a refresh_stream, or where
// nothing is under way, it does nothing.
//
// Errors: KLS_ERROR_CUDA (also while `stream` is being captured and refreshes are under way), KLS_ERROR_CUDA_OUT_OF_MEMORY and the handle's.
//
// # Safety
// `optimizer` is a handle that no other thread uses; `stream` is a stream of the optimizer's device, and what is done with the optimizer next is queued on
// it or after it.
kls_status kls_cuda_join(struct kls_cuda *optimizer,
                         void *stream);

// Sets a group's learning-rate scale and weight decay from the next step on, as kls_optimizer_set_group does. Nothing is queued. Graphs that were
// captured before keep the numbers that they were captured with.
//
// Errors: KLS_ERROR_GROUP, KLS_ERROR_LR_SCALE, KLS_ERROR_WEIGHT_DECAY and the handle's; the group is then unchanged.
//
// # Safety
// `optimizer` is a handle that no other thread uses.
kls_status kls_cuda_set_group(struct kls_cuda *optimizer,
                              size_t group,
                              float lr_scale,
                              float weight_decay);

// Bytes that kls_cuda_copy_headers writes: kls_cuda_memory.header_bytes.
//
// Errors: KLS_ERROR_NULL, KLS_ERROR_MISALIGNED and the handle's; `bytes` is then untouched.
//
// # Safety
// `optimizer` is a handle that no other thread uses; `bytes` is writable.
kls_status kls_cuda_headers_size(struct kls_cuda *optimizer, size_t *bytes);

// Queues a copy of what the slices count on `stream`, as it is after what has been queued there before, into `headers` in host memory. With page-locked
// memory (cudaMallocHost) the call returns at once, and the bytes are there when the stream has come so far (cudaEventQuery,
// cudaStreamSynchronize), and the copy can be captured (not while refreshes are under way on kls_cuda_options.refresh_stream: see kls_cuda_join); with
// other memory it returns when they are there. kls_cuda_counters and kls_cuda_skipped read them.
//
// Errors: KLS_ERROR_MEMORY_TOO_SHORT, KLS_ERROR_NULL and the handle's: nothing is then queued; KLS_ERROR_CUDA, KLS_ERROR_CUDA_OUT_OF_MEMORY.
//
// # Safety
// `optimizer` is a handle that no other thread uses; `headers` has `len` writable bytes until the copy is made; `stream` is a stream of the
// optimizer's device.
kls_status kls_cuda_copy_headers(struct kls_cuda *optimizer,
                                 void *headers,
                                 size_t len,
                                 void *stream);

// Queues a copy of the norm of all gradients, multiplied by grad_scale, of the last step with a `max_norm` on `stream`, as it is after what has been
// queued there before, into `norm` in host memory. It returns and is captured as kls_cuda_copy_headers.
//
// Errors: KLS_ERROR_NO_SUCH_STATE as long as no step had a bound, KLS_ERROR_NULL, KLS_ERROR_MISALIGNED and the handle's: nothing is then queued;
// KLS_ERROR_CUDA, KLS_ERROR_CUDA_OUT_OF_MEMORY.
//
// # Safety
// `optimizer` is a handle that no other thread uses; `norm` is writable until the copy is made; `stream` is a stream of the optimizer's device.
kls_status kls_cuda_copy_norm(struct kls_cuda *optimizer,
                              float *norm,
                              void *stream);

// Reads a slice's counters from what kls_cuda_copy_headers has copied; what has been counted there by an optimizer of the same groups and tensors
// is read just as well. `struct_size` is sizeof(kls_counters).
//
// Errors: KLS_ERROR_INDEX, KLS_ERROR_MEMORY_TOO_SHORT, KLS_ERROR_NULL, KLS_ERROR_MISALIGNED, KLS_ERROR_STRUCT_SIZE and the handle's; `counters`
// is then untouched.
//
// # Safety
// `optimizer` is a handle that no other thread uses; `headers` has `len` readable bytes; `counters` has `struct_size` writable bytes.
kls_status kls_cuda_counters(struct kls_cuda *optimizer,
                             const void *headers,
                             size_t len,
                             size_t tensor,
                             size_t slice_index,
                             kls_counters *counters,
                             size_t struct_size);

// Adds up kls_counters.skipped over all slices, from what kls_cuda_copy_headers has copied: how often one was left alone since the optimizer was
// made.
//
// Errors: KLS_ERROR_MEMORY_TOO_SHORT, KLS_ERROR_NULL, KLS_ERROR_MISALIGNED and the handle's; `skipped` is then untouched.
//
// # Safety
// `optimizer` is a handle that no other thread uses; `headers` has `len` readable bytes; `skipped` is writable.
kls_status kls_cuda_skipped(struct kls_cuda *optimizer,
                            const void *headers,
                            size_t len,
                            uint64_t *skipped);

// Bytes of a checkpoint of this optimizer, as kls_optimizer_save_size counts them.
//
// Errors: the handle's, KLS_ERROR_NULL, KLS_ERROR_MISALIGNED, KLS_ERROR_OUT_OF_MEMORY.
//
// # Safety
// `optimizer` is a handle that no other thread uses; `bytes` is writable.
kls_status kls_cuda_save_size(struct kls_cuda *optimizer, uint64_t *bytes);

// Saves the optimizer's state as kls_optimizer_save does: the same bytes for the same state, so that an optimizer of the CPU can load it. What was
// queued on `stream` before is in it; the call waits for that stream. Memory of the host for a copy of the state is needed meanwhile.
//
// The optimizer that saved and one that loads go on with the same bits. For that the save plans the later refreshes from the steps that the slices
// have counted, as a load does: after a skipped step they come later than they would have come without the save. So tell kls_cuda_replayed
// of what was replayed before the save before it, not after, and capture graphs anew when a slice was skipped before it.
//
// Errors: KLS_ERROR_MEMORY_TOO_SHORT, KLS_ERROR_NULL, KLS_ERROR_OUT_OF_MEMORY, KLS_ERROR_CUDA_OUT_OF_MEMORY, KLS_ERROR_CUDA (also while
// `stream` is being captured) and the handle's; `buffer` is then untouched.
//
// # Safety
// `optimizer` is a handle that no other thread uses; `buffer` has `len` writable bytes; `stream` is a stream of the optimizer's device, and every
// step has been queued on it or before it.
kls_status kls_cuda_save(struct kls_cuda *optimizer,
                         void *buffer,
                         size_t len,
                         void *stream);

// Takes the state from a checkpoint in memory, of an optimizer of the GPU or of the CPU, under the conditions of kls_optimizer_load. Steps that are
// queued on `stream` later see it; the call waits for that stream. Memory of the host for a copy of the state is needed meanwhile. A graph that
// was captured before belongs to the refresh plan of the state before: capture anew.
//
// Errors: those of kls_optimizer_load, KLS_ERROR_OVERFLOW for a slice that has counted more than 2^40 steps, KLS_ERROR_OUT_OF_MEMORY, the optimizer is
// then unchanged; KLS_ERROR_CUDA (also while `stream` is being captured), KLS_ERROR_CUDA_OUT_OF_MEMORY, after which it is to be loaded anew or
// destroyed.
//
// # Safety
// `optimizer` is a handle that no other thread uses; `buffer` has `len` readable bytes that nobody writes meanwhile; `stream` as for
// kls_cuda_save.
kls_status kls_cuda_load(struct kls_cuda *optimizer,
                         const void *buffer,
                         size_t len,
                         void *stream);

// Saves as kls_cuda_save does, into a safetensors file, as kls_optimizer_save_file writes it: atomically, and to be loaded by either optimizer.
//
// Errors: those of kls_optimizer_save_file, KLS_ERROR_CUDA (also while `stream` is being captured), KLS_ERROR_CUDA_OUT_OF_MEMORY.
//
// # Safety
// `optimizer` is a handle that no other thread uses; `path` is NULL or a text that ends with a zero byte; `stream` as for kls_cuda_save.
kls_status kls_cuda_save_file(struct kls_cuda *optimizer,
                              const char *path,
                              void *stream);

// Loads as kls_cuda_load does, from a file that kls_cuda_save_file or kls_optimizer_save_file wrote.
//
// Errors: those of kls_optimizer_load_file, KLS_ERROR_OVERFLOW as for kls_cuda_load, the optimizer is then unchanged; KLS_ERROR_CUDA (also while
// `stream` is being captured), KLS_ERROR_CUDA_OUT_OF_MEMORY, after which it is to be loaded anew or destroyed.
//
// # Safety
// As for kls_cuda_save_file.
kls_status kls_cuda_load_file(struct kls_cuda *optimizer,
                              const char *path,
                              void *stream);

// Writes how many elements a slice has of a part of the state (KLS_STATE_*), as kls_optimizer_state_len does.
//
// Errors: KLS_ERROR_INDEX, KLS_ERROR_UNKNOWN_VALUE, KLS_ERROR_NO_SUCH_STATE, KLS_ERROR_NULL, KLS_ERROR_MISALIGNED, KLS_ERROR_OUT_OF_MEMORY and the
// handle's; `len` is then untouched.
//
// # Safety
// `optimizer` is a handle that no other thread uses; `len` is writable.
kls_status kls_cuda_state_len(struct kls_cuda *optimizer,
                              size_t tensor,
                              size_t slice,
                              int32_t state_part,
                              size_t mode,
                              size_t *len);

// Copies a part of a slice's state (KLS_STATE_*) into `out` in host memory, as kls_optimizer_read_state does. What was queued on `stream` before is in
// it; the call waits for that stream.
//
// Errors: KLS_ERROR_INDEX, KLS_ERROR_UNKNOWN_VALUE, KLS_ERROR_NO_SUCH_STATE, KLS_ERROR_BUFFER_LENGTH, KLS_ERROR_OUT_OF_MEMORY,
// KLS_ERROR_CUDA_OUT_OF_MEMORY, KLS_ERROR_CUDA (also while `stream` is being captured) and the handle's: `out` is then untouched. After KLS_ERROR_LINALG it holds unspecified numbers.
//
// # Safety
// `optimizer` is a handle that no other thread uses; `out` has `len` writable elements; `stream` as for kls_cuda_save.
kls_status kls_cuda_read_state(struct kls_cuda *optimizer,
                               size_t tensor,
                               size_t slice,
                               int32_t state_part,
                               size_t mode,
                               float *out,
                               size_t len,
                               void *stream);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* KLSHAMPOO_CUDA_H */
