/*
 * klshampoo on the GPU for C++17 and later: the interface of klshampoo_cuda.h with owners, sizes and types. Nothing to link but
 * libklshampoo_cuda; no header of CUDA is needed.
 *
 *   auto optimizer = kls::cuda::optimizer::create(kls::config(kls::method::kl_shampoo), kls::tensor(768, 3072));
 *   optimizer.step({{weights, 768 * 3072}}, {{gradient, 768 * 3072}}, kls::cuda::request(1e-3f, stream));
 *
 * Configurations, tensors, errors and the conventions are those of klshampoo.hpp, with KLS_NO_EXCEPTIONS or without; what is said in
 * klshampoo_cuda.h goes for the calls. Besides:
 *   Device memory  A kls::cuda::buffer is a typed pointer to device memory with a number of elements. Nothing here reads what it points to.
 *               Containers are not taken: theirs is memory of the host.
 *   Streams     A CUstream or cudaStream_t, which converts to void *. NULL, where none is named, is the legacy default stream.
 *   Options     kls::cuda::options and kls::cuda::request are the structs of C, filled by their init functions. All of their fields can be set
 *               by name; the functions are for what takes more than one.
 */

#ifndef KLSHAMPOO_CUDA_HPP
#define KLSHAMPOO_CUDA_HPP

#include "klshampoo.hpp"
#include "klshampoo_cuda.h"

#ifndef KLS_HOST
#error "klshampoo_cuda.hpp: a GPU needs a host"
#endif

namespace kls {

// As in klshampoo.hpp.
#ifndef KLS_NO_EXCEPTIONS
inline namespace throwing {
#else
inline namespace returning {
#endif

namespace detail {

inline const char *sentence(const verdict &, const kls_cuda *optimizer) noexcept { return kls_cuda_last_error(optimizer); }

}  // namespace detail

namespace cuda {

// --- Device memory

/// Elements of device memory to write: a parameter.
class buffer : public kls::buffer {
  public:
    /// `size` elements from `data` on: floats, or something of 16 bits, whose bits are what the tensor says.
    template <class T, std::enable_if_t<kls::detail::is_element<T> && !std::is_const_v<T>, int> = 0>
    constexpr buffer(T *data, std::size_t size) noexcept : kls::buffer(data, size) {}
};

/// Elements of device memory to read: a gradient. Or none, for a tensor that is frozen in a step.
class const_buffer : public kls::const_buffer {
  public:
    /// None.
    constexpr const_buffer(std::nullptr_t) noexcept : kls::const_buffer(nullptr) {}
    /// `size` elements from `data` on; none if that is NULL.
    template <class T, std::enable_if_t<kls::detail::is_element<T>, int> = 0>
    constexpr const_buffer(const T *data, std::size_t size) noexcept : kls::const_buffer(data, size) {}
    constexpr const_buffer(const buffer &other) noexcept : kls::const_buffer(other) {}
};

// --- Values

/// A kls_cuda_options: where an optimizer lies.
struct options : kls_cuda_options {
    /// The defaults. Errors: KLS_ERROR_STRUCT_SIZE (the library is older than the header); without exceptions of the create.
    options() : kls_cuda_options{} {
        const kls_status status = kls_cuda_options_init(this, sizeof(kls_cuda_options));
#ifndef KLS_NO_EXCEPTIONS
        kls::detail::conclude(status);
#else
        if (status != KLS_OK) struct_size = sizeof(kls_cuda_options);
#endif
    }

    /// On the device with this ordinal.
    options &set_device(std::int32_t ordinal) noexcept {
        device = ordinal;
        return *this;
    }
    /// The stream on which the memory is cleared.
    options &set_stream(void *value) noexcept {
        stream = value;
        return *this;
    }
    /// Refreshes after a step, on this stream, beside what its own is given next. See kls::cuda::optimizer::join.
    options &set_refresh_stream(void *value) noexcept {
        refresh_stream = value;
        return *this;
    }
    /// In device memory that the caller lends until the optimizer's end.
    options &set_memory(void *address, std::uint64_t bytes) noexcept {
        memory = address;
        memory_size = bytes;
        return *this;
    }
    /// In memory of the caller's pool of device memory: `pool.allocate(bytes, alignment)` gives a void *, NULL if it has none, and
    /// `pool.deallocate(memory, bytes)` takes it back. It must live as long as the optimizers that are made with these options, and throws
    /// nothing: std::terminate.
    template <class P>
    options &set_pool(P &pool) noexcept {
        static_assert(std::is_class_v<P> && !std::is_const_v<P>, "an object with allocate and deallocate");
        alloc = [](void *user, std::size_t bytes, std::size_t alignment) noexcept -> void * {
            return static_cast<P *>(user)->allocate(bytes, alignment);
        };
        kls_cuda_options::free = [](void *user, void *given, std::size_t bytes) noexcept { static_cast<P *>(user)->deallocate(given, bytes); };
        allocator_user = static_cast<void *>(std::addressof(pool));
        return *this;
    }
};

/// A kls_cuda_request: a learning rate, a stream and what else there is to say about a step.
struct request : kls_cuda_request {
    /// The defaults, without a learning rate. Errors: KLS_ERROR_STRUCT_SIZE (the library is older than the header); without exceptions of
    /// the step.
    request() : kls_cuda_request{} {
        const kls_status status = kls_cuda_request_init(this, sizeof(kls_cuda_request));
#ifndef KLS_NO_EXCEPTIONS
        kls::detail::conclude(status);
#else
        if (status != KLS_OK) struct_size = sizeof(kls_cuda_request);
#endif
    }
    explicit request(float rate, void *on_stream = nullptr) : request() {
        lr = rate;
        stream = on_stream;
    }

    /// Multiplies every gradient when it is read.
    request &set_grad_scale(float value) noexcept {
        grad_scale = value;
        return *this;
    }
    /// Bounds the norm of all gradients together.
    request &set_max_norm(float value) noexcept {
        max_norm = value;
        return *this;
    }
    /// The learning rate from the device, when the step runs.
    request &set_device_lr(const float *address) noexcept {
        device_lr = address;
        return *this;
    }
    /// The scale of the gradients from the device, likewise.
    request &set_device_grad_scale(const float *address) noexcept {
        device_grad_scale = address;
        return *this;
    }
};

// They are what C takes.
static_assert(sizeof(options) == sizeof(kls_cuda_options) && std::is_standard_layout_v<options>);
static_assert(sizeof(request) == sizeof(kls_cuda_request) && std::is_standard_layout_v<request>);

/// How much device memory kls::cuda::optimizer::create takes for these groups and tensors. Needs neither a device nor a driver.
///
/// Errors: those of kls_cuda_query.
inline returned<kls_cuda_memory> query(span<const config> groups, span<const tensor> tensors, const options &options = cuda::options()) {
    kls_cuda_memory memory{};
    const kls_status status =
        kls_cuda_query(groups.data(), groups.size(), tensors.data(), tensors.size(), &options, &memory, sizeof memory);
    return kls::detail::conclude_with(status, memory);
}

// --- The optimizer

/// An optimizer on a GPU over a table of tensors; the owner of a kls_cuda.
///
/// It moves and is not copied. One that was moved from, released or made by default is empty; its calls fail with KLS_ERROR_NULL. Slices and
/// modes are counted as in C.
class optimizer {
  public:
    /// Empty.
    optimizer() noexcept = default;

    optimizer(optimizer &&other) noexcept { swap(other); }
    /// Ends the optimizer that was here. Moved to itself it stays as it is.
    optimizer &operator=(optimizer &&other) noexcept {
        optimizer(std::move(other)).swap(*this);
        return *this;
    }
    /// Ends the optimizer, as kls_cuda_destroy does: it waits for the device. Lent memory and the pool must still be there.
    ~optimizer() {
        end_table();
        if (handle_ != nullptr) static_cast<void>(kls_cuda_destroy(&handle_));
    }

    /// Makes an optimizer on a device for a table of groups and one of tensors, or one of each.
    ///
    /// Errors: those of kls_cuda_create, KLS_ERROR_OUT_OF_MEMORY.
    static returned<optimizer> create(span<const config> groups, span<const tensor> tensors, const options &options = cuda::options()) {
        optimizer made;
        kls::detail::verdict verdict = made.make_table(tensors);
        if (!verdict.failed()) {
            verdict = kls_cuda_create(&made.handle_, groups.data(), groups.size(), tensors.data(), tensors.size(), &options);
        }
        return kls::detail::conclude_with(verdict, std::move(made));
    }

    /// Why the library's last failing call on the optimizer failed, and where: kls_cuda_last_error. What this header finds wrong before it
    /// calls the library is not among that. Valid until the next call.
    const char *last_error() const noexcept { return kls_cuda_last_error(handle_); }

    /// Whether there is one.
    explicit operator bool() const noexcept { return handle_ != nullptr; }
    /// For calls in C, but for kls_cuda_destroy; NULL if it is empty. It stays the optimizer's.
    kls_cuda *native_handle() const noexcept { return handle_; }
    /// Gives the handle to the caller, who destroys it; the optimizer is then empty.
    [[nodiscard]] kls_cuda *release() noexcept {
        end_table();
        return std::exchange(handle_, nullptr);
    }
    void swap(optimizer &other) noexcept {
        std::swap(handle_, other.handle_);
        std::swap(table_, other.table_);
        std::swap(block_, other.block_);
    }

    /// Number of tensors.
    std::size_t tensor_count() const noexcept { return table_.size(); }

    /// One step of the whole table, queued on the request's stream: a parameter and a gradient for each tensor, in its order and formats. Both
    /// are lists in braces, or containers of what converts to kls::cuda::buffer and kls::cuda::const_buffer. A gradient that is nullptr
    /// freezes its tensor. The request's own arrays do not matter.
    ///
    /// Errors: those of kls_cuda_step, KLS_ERROR_BUFFER_LENGTH; KLS_ERROR_NOT_F32 or KLS_ERROR_FORMAT where the elements are of another
    /// size than the tensor's format. Nothing is queued by these.
    template <class Params = std::initializer_list<buffer>, class Grads = std::initializer_list<const_buffer>>
    outcome step(Params &&params, Grads &&grads, request request) {
        using table = kls::detail::table;
        kls::detail::verdict verdict = table_.list<buffer>(0, params, &table::check_param, table_.params, request.tensor_count);
        if (!verdict.failed() && handle_ != nullptr && request.tensor_count != table_.size()) {
            verdict = {KLS_ERROR_TENSOR_COUNT, "parameters", kls::detail::no_tensor, request.tensor_count, table_.size(), "buffers"};
        }
        if (!verdict.failed()) {
            verdict = table_.list_all<const_buffer>(0, request.tensor_count, grads, "gradients", &table::check_grad, table_.grads);
        }
        request.params = table_.params;
        request.grads = table_.grads;
        if (!verdict.failed()) verdict = kls_cuda_step(handle_, &request);
        return kls::detail::conclude(verdict, handle_);
    }

    /// One step with the arrays of pointers that the request names, as C has it: their lengths are the caller's word.
    ///
    /// Errors: those of kls_cuda_step.
    outcome step(const kls_cuda_request &request) { return kls::detail::conclude(kls_cuda_step(handle_, &request), handle_); }

    /// Steps of captured graphs have been replayed. Errors: those of kls_cuda_replayed.
    outcome replayed(std::uint64_t steps) { return kls::detail::conclude(kls_cuda_replayed(handle_, steps), handle_); }

    /// Lets a stream wait for refreshes that are under way on a stream of their own. Errors: those of kls_cuda_join.
    outcome join(void *stream = nullptr) { return kls::detail::conclude(kls_cuda_join(handle_, stream), handle_); }

    /// Sets a group's learning-rate scale and weight decay from the next step on. Errors: those of kls_cuda_set_group.
    outcome set_group(std::size_t group, float lr_scale, float weight_decay) {
        return kls::detail::conclude(kls_cuda_set_group(handle_, group, lr_scale, weight_decay), handle_);
    }

    /// Bytes that copy_headers writes. Errors: the handle's.
    returned<std::size_t> headers_size() {
        std::size_t bytes = 0;
        const kls_status status = kls_cuda_headers_size(handle_, &bytes);
        return kls::detail::conclude_with(status, bytes, handle_);
    }

    /// Queues a copy of what the slices count into memory of the host, at least headers_size bytes. The call returns at once if that is
    /// page-locked, and the memory must then be there until the copy is made.
    ///
    /// Errors: those of kls_cuda_copy_headers.
    outcome copy_headers(span<std::byte> headers, void *stream = nullptr) {
        return kls::detail::conclude(kls_cuda_copy_headers(handle_, headers.data(), headers.size(), stream), handle_);
    }

    /// What a slice has counted, from what copy_headers has copied. Errors: those of kls_cuda_counters.
    returned<kls_counters> counters(span<const std::byte> headers, std::size_t tensor, std::size_t slice = 0) {
        kls_counters counters{};
        const kls_status status = kls_cuda_counters(handle_, headers.data(), headers.size(), tensor, slice, &counters, sizeof counters);
        return kls::detail::conclude_with(status, counters, handle_);
    }

    /// How often slices were left alone, all together, from what copy_headers has copied. Errors: those of kls_cuda_skipped.
    returned<std::uint64_t> skipped(span<const std::byte> headers) {
        std::uint64_t skipped = 0;
        const kls_status status = kls_cuda_skipped(handle_, headers.data(), headers.size(), &skipped);
        return kls::detail::conclude_with(status, skipped, handle_);
    }

    /// Queues a copy of the gradients' norm in the last step with a bound on it into memory of the host, as copy_headers does.
    ///
    /// Errors: those of kls_cuda_copy_norm.
    outcome copy_norm(float *norm, void *stream = nullptr) { return kls::detail::conclude(kls_cuda_copy_norm(handle_, norm, stream), handle_); }

    /// How many numbers a slice has of a part of the state. `mode` is only looked at for parts that belong to one.
    ///
    /// Errors: those of kls_cuda_state_len.
    returned<std::size_t> state_len(std::size_t tensor, std::size_t slice, state_part part, std::size_t mode = 0) {
        std::size_t len = 0;
        const kls_status status = kls_cuda_state_len(handle_, tensor, slice, std::int32_t(part), mode, &len);
        return kls::detail::conclude_with(status, len, handle_);
    }

    /// Copies a part of a slice's state into memory of the host, exactly state_len elements; waits for the stream.
    ///
    /// Errors: those of kls_cuda_read_state.
    outcome read_state(std::size_t tensor, std::size_t slice, state_part part, std::size_t mode, span<float> out, void *stream = nullptr) {
        return kls::detail::conclude(
            kls_cuda_read_state(handle_, tensor, slice, std::int32_t(part), mode, out.data(), out.size(), stream), handle_);
    }

    /// A part of a slice's state; waits for the stream. Errors: those of kls_cuda_read_state.
    returned<std::vector<float>> read_state(std::size_t tensor, std::size_t slice, state_part part, std::size_t mode = 0,
                                            void *stream = nullptr) {
        std::size_t len = 0;
        std::vector<float> out;
        kls_status status = kls_cuda_state_len(handle_, tensor, slice, std::int32_t(part), mode, &len);
        if (status == KLS_OK) {
            out.resize(len);
            status = kls_cuda_read_state(handle_, tensor, slice, std::int32_t(part), mode, out.data(), len, stream);
        }
        return kls::detail::conclude_with(status, std::move(out), handle_);
    }

    /// Bytes of a checkpoint. Errors: those of kls_cuda_save_size.
    returned<std::uint64_t> save_size() {
        std::uint64_t bytes = 0;
        const kls_status status = kls_cuda_save_size(handle_, &bytes);
        return kls::detail::conclude_with(status, bytes, handle_);
    }

    /// Saves the state into memory of the host, at least save_size bytes; waits for the stream. kls::optimizer loads it too.
    ///
    /// Errors: those of kls_cuda_save.
    outcome save(span<std::byte> out, void *stream = nullptr) {
        return kls::detail::conclude(kls_cuda_save(handle_, out.data(), out.size(), stream), handle_);
    }

    /// A checkpoint; waits for the stream. Errors: those of kls_cuda_save.
    returned<std::vector<std::byte>> save(void *stream = nullptr) {
        std::uint64_t bytes = 0;
        std::vector<std::byte> out;
        kls_status status = kls_cuda_save_size(handle_, &bytes);
        if (status == KLS_OK) {
            out.resize(static_cast<std::size_t>(bytes));
            status = kls_cuda_save(handle_, out.data(), out.size(), stream);
        }
        return kls::detail::conclude_with(status, std::move(out), handle_);
    }

    /// Takes the state from a checkpoint in memory, of this optimizer or of a kls::optimizer; waits for the stream.
    ///
    /// Errors: those of kls_cuda_load.
    outcome load(span<const std::byte> checkpoint, void *stream = nullptr) {
        return kls::detail::conclude(kls_cuda_load(handle_, checkpoint.data(), checkpoint.size(), stream), handle_);
    }

    /// Saves the state into a safetensors file. Errors: those of kls_cuda_save_file.
    outcome save_file(const char *path, void *stream = nullptr) {
        return kls::detail::conclude(kls_cuda_save_file(handle_, path, stream), handle_);
    }

    /// Takes the state from such a file. Errors: those of kls_cuda_load_file.
    outcome load_file(const char *path, void *stream = nullptr) {
        return kls::detail::conclude(kls_cuda_load_file(handle_, path, stream), handle_);
    }

  private:
    /// Makes room for the pointers of a step.
    kls::detail::verdict make_table(span<const tensor> tensors) noexcept {
        const std::size_t bytes = kls::detail::table::bytes(tensors.size());
        block_ = ::operator new(bytes, std::nothrow);
        if (block_ == nullptr) return {KLS_ERROR_OUT_OF_MEMORY, "memory", kls::detail::no_tensor, 0, bytes, "bytes"};
        table_.place(block_, {}, tensors);
        return {};
    }

    void end_table() noexcept {
        ::operator delete(block_);
        block_ = nullptr;
        table_ = {};
    }

    kls_cuda *handle_ = nullptr;
    kls::detail::table table_;
    /// The table's memory.
    void *block_ = nullptr;
};

inline void swap(optimizer &a, optimizer &b) noexcept { a.swap(b); }

}  // namespace cuda
}  // namespace
}  // namespace kls

#endif
