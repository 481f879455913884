/*
 * klshampoo for C++17 and later: the interface of klshampoo.h with owners, sizes and types. Nothing to link but the C library.
 *
 *   std::vector<float> weights(768 * 3072), gradient(768 * 3072);
 *   auto optimizer = kls::optimizer::create(kls::config(kls::method::kl_shampoo), kls::tensor(768, 3072));
 *   optimizer.step({weights}, {gradient}, 1e-3f);
 *
 * Conventions, beyond those of klshampoo.h
 *   Errors      A call that fails throws kls::error, which has the status and a text, and has changed nothing unless it says otherwise.
 *               With KLS_NO_EXCEPTIONS defined before the inclusion it returns a kls::status instead, or a kls::result that holds one or
 *               a value; the header then does without exceptions and run-time types. `kls::outcome` and `kls::returned<T>` below stand
 *               for void and T, or for kls::status and kls::result<T>. A program may include it both ways in different files.
 *   Ownership   A kls::optimizer is the only owner of its handle: it moves and is not copied. One that was moved from, released or made
 *               by default is empty; its calls fail with KLS_ERROR_NULL.
 *   Values      kls::config, tensor, options and step are the structs of C, filled by their init functions. Numbers are set through
 *               their fields, choices by `set` with an enum, and both are described in klshampoo.h.
 *   Buffers     Parameters, gradients and outputs come as containers, arrays or a pointer and a number of elements. Their lengths are
 *               compared with the tensors': KLS_ERROR_BUFFER_LENGTH. Nothing keeps them after the call.
 *   Memory      What create makes is on the heap, with room for the pointers of a step: after warm-up steps allocate nothing. What
 *               create_in makes allocates nothing at all.
 *   Threads     As in C: one thread at a time per optimizer, const calls included.
 *   Without a host   KLS_NO_HOST as for klshampoo.h. With KLS_NO_EXCEPTIONS the header then needs no C++ library to be linked.
 */

#ifndef KLSHAMPOO_HPP
#define KLSHAMPOO_HPP

#include "klshampoo.h"

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <iterator>
#include <limits>
#include <memory>
#include <new>
#include <type_traits>
#include <utility>
#ifdef KLS_HOST
#include <vector>
#endif
#ifndef KLS_NO_EXCEPTIONS
#ifndef __cpp_exceptions
#error "klshampoo.hpp: this compiler has no exceptions; define KLS_NO_EXCEPTIONS"
#endif
#include <exception>
#include <stdexcept>
#include <string>
#endif

namespace kls {

// Files that include the header in different ways mean different functions.
#if defined(KLS_HOST) && !defined(KLS_NO_EXCEPTIONS)
inline namespace throwing {
#elif defined(KLS_HOST)
inline namespace returning {
#elif !defined(KLS_NO_EXCEPTIONS)
inline namespace throwing_without_host {
#else
inline namespace returning_without_host {
#endif

// --- Constants

/// KLS_OK and KLS_ERROR_*: what came of a call. A newer library may return one that has no name here.
enum class [[nodiscard]] status : kls_status {
    ok = KLS_OK,
    null = KLS_ERROR_NULL,
    struct_size = KLS_ERROR_STRUCT_SIZE,
    handle = KLS_ERROR_HANDLE,
    poisoned = KLS_ERROR_POISONED,
    unknown_value = KLS_ERROR_UNKNOWN_VALUE,
    misaligned = KLS_ERROR_MISALIGNED,
    memory_too_short = KLS_ERROR_MEMORY_TOO_SHORT,
    out_of_memory = KLS_ERROR_OUT_OF_MEMORY,
    internal = KLS_ERROR_INTERNAL,
    threads = KLS_ERROR_THREADS,
    reserved = KLS_ERROR_RESERVED,
    unsupported = KLS_ERROR_UNSUPPORTED,
    parallel_for = KLS_ERROR_PARALLEL_FOR,
    not_built = KLS_ERROR_NOT_BUILT,
    ranks = KLS_ERROR_RANKS,
    beta = KLS_ERROR_BETA,
    eps = KLS_ERROR_EPS,
    weight_decay = KLS_ERROR_WEIGHT_DECAY,
    refresh_period = KLS_ERROR_REFRESH_PERIOD,
    lambda_init = KLS_ERROR_LAMBDA_INIT,
    clamp_limit = KLS_ERROR_CLAMP_LIMIT,
    lr_scale = KLS_ERROR_LR_SCALE,
    power = KLS_ERROR_POWER,
    combination = KLS_ERROR_COMBINATION,
    clamp_with_gauge = KLS_ERROR_CLAMP_WITH_GAUGE,
    staleness = KLS_ERROR_STALENESS,
    rms_cap = KLS_ERROR_RMS_CAP,
    trace_scaled = KLS_ERROR_TRACE_SCALED,
    graft = KLS_ERROR_GRAFT,
    damping = KLS_ERROR_DAMPING,
    zero_factors = KLS_ERROR_ZERO_FACTORS,
    bias_correction = KLS_ERROR_BIAS_CORRECTION,
    first_basis = KLS_ERROR_FIRST_BASIS,
    gauge = KLS_ERROR_GAUGE,
    estimate_order = KLS_ERROR_ESTIMATE_ORDER,
    order = KLS_ERROR_ORDER,
    zero_dim = KLS_ERROR_ZERO_DIM,
    overflow = KLS_ERROR_OVERFLOW,
    group = KLS_ERROR_GROUP,
    slices = KLS_ERROR_SLICES,
    slice_stride = KLS_ERROR_SLICE_STRIDE,
    one_sided = KLS_ERROR_ONE_SIDED,
    row_parts = KLS_ERROR_ROW_PARTS,
    pieces = KLS_ERROR_PIECES,
    format = KLS_ERROR_FORMAT,
    strides = KLS_ERROR_STRIDES,
    refresh_portion = KLS_ERROR_REFRESH_PORTION,
    learning_rate = KLS_ERROR_LEARNING_RATE,
    tensor_count = KLS_ERROR_TENSOR_COUNT,
    index = KLS_ERROR_INDEX,
    buffer_length = KLS_ERROR_BUFFER_LENGTH,
    gradient_not_finite = KLS_ERROR_GRADIENT_NOT_FINITE,
    gradient_too_large = KLS_ERROR_GRADIENT_TOO_LARGE,
    update_not_finite = KLS_ERROR_UPDATE_NOT_FINITE,
    linalg = KLS_ERROR_LINALG,
    not_started = KLS_ERROR_NOT_STARTED,
    no_such_state = KLS_ERROR_NO_SUCH_STATE,
    not_orthogonal = KLS_ERROR_NOT_ORTHOGONAL,
    overlap = KLS_ERROR_OVERLAP,
    estimate_not_finite = KLS_ERROR_ESTIMATE_NOT_FINITE,
    zero_window = KLS_ERROR_ZERO_WINDOW,
    grad_scale = KLS_ERROR_GRAD_SCALE,
    not_f32 = KLS_ERROR_NOT_F32,
    master_weights = KLS_ERROR_MASTER_WEIGHTS,
    checkpoint_format = KLS_ERROR_CHECKPOINT_FORMAT,
    checkpoint_version = KLS_ERROR_CHECKPOINT_VERSION,
    checkpoint_truncated = KLS_ERROR_CHECKPOINT_TRUNCATED,
    checkpoint_checksum = KLS_ERROR_CHECKPOINT_CHECKSUM,
    checkpoint_element = KLS_ERROR_CHECKPOINT_ELEMENT,
    checkpoint_shapes = KLS_ERROR_CHECKPOINT_SHAPES,
    checkpoint_method = KLS_ERROR_CHECKPOINT_METHOD,
    checkpoint_malformed = KLS_ERROR_CHECKPOINT_MALFORMED,
    checkpoint_callback = KLS_ERROR_CHECKPOINT_CALLBACK,
    checkpoint_changed = KLS_ERROR_CHECKPOINT_CHANGED,
    file_not_found = KLS_ERROR_FILE_NOT_FOUND,
    io = KLS_ERROR_IO,
    safetensors = KLS_ERROR_SAFETENSORS,
    cuda_no_driver = KLS_ERROR_CUDA_NO_DRIVER,
    cuda_driver_too_old = KLS_ERROR_CUDA_DRIVER_TOO_OLD,
    cuda_no_device = KLS_ERROR_CUDA_NO_DEVICE,
    cuda_out_of_memory = KLS_ERROR_CUDA_OUT_OF_MEMORY,
    cuda = KLS_ERROR_CUDA,
    cuda_unsupported = KLS_ERROR_CUDA_UNSUPPORTED,
};

/// KLS_METHOD_*.
enum class method : std::int32_t {
    kl_shampoo = KLS_METHOD_KL_SHAMPOO,
    adamw = KLS_METHOD_ADAMW,
    kl_soap = KLS_METHOD_KL_SOAP,
    soap = KLS_METHOD_SOAP,
    shampoo = KLS_METHOD_SHAMPOO,
    shampoo_half = KLS_METHOD_SHAMPOO_HALF,
    shampoo_quarter = KLS_METHOD_SHAMPOO_QUARTER,
    vn_shampoo_1 = KLS_METHOD_VN_SHAMPOO_1,
    vn_shampoo_2 = KLS_METHOD_VN_SHAMPOO_2,
    f_shampoo_1 = KLS_METHOD_F_SHAMPOO_1,
    f_shampoo_2 = KLS_METHOD_F_SHAMPOO_2,
    idealized_kl = KLS_METHOD_IDEALIZED_KL,
    idealized_vn_1 = KLS_METHOD_IDEALIZED_VN_1,
    idealized_vn_2 = KLS_METHOD_IDEALIZED_VN_2,
    idealized_f_1 = KLS_METHOD_IDEALIZED_F_1,
    idealized_f_2 = KLS_METHOD_IDEALIZED_F_2,
    instantaneous_kl = KLS_METHOD_INSTANTANEOUS_KL,
    one_sided = KLS_METHOD_ONE_SIDED,
    rmsprop = KLS_METHOD_RMSPROP,
    adafactor = KLS_METHOD_ADAFACTOR,
    sgd = KLS_METHOD_SGD,
};

/// KLS_CONVENTION_*.
enum class convention : std::int32_t {
    figure13 = KLS_CONVENTION_FIGURE13,
    reference_kl = KLS_CONVENTION_REFERENCE_KL,
    reference_soap = KLS_CONVENTION_REFERENCE_SOAP,
    reference_meta = KLS_CONVENTION_REFERENCE_META,
};

/// KLS_ESTIMATOR_*.
enum class estimator : std::int32_t {
    none = KLS_ESTIMATOR_NONE,
    kl = KLS_ESTIMATOR_KL,
    one_sided = KLS_ESTIMATOR_ONE_SIDED,
    shampoo = KLS_ESTIMATOR_SHAMPOO,
    von_neumann = KLS_ESTIMATOR_VON_NEUMANN,
    frobenius = KLS_ESTIMATOR_FROBENIUS,
    frobenius_factor = KLS_ESTIMATOR_FROBENIUS_FACTOR,
};

/// KLS_ESTIMATE_*.
enum class estimate_order : std::int32_t { jacobi = KLS_ESTIMATE_JACOBI, reference_kl = KLS_ESTIMATE_REFERENCE_KL };

/// KLS_EIGENVALUES_*.
enum class eigenvalues : std::int32_t {
    average = KLS_EIGENVALUES_AVERAGE,
    instantaneous = KLS_EIGENVALUES_INSTANTANEOUS,
    instantaneous_after_refresh = KLS_EIGENVALUES_INSTANTANEOUS_AFTER_REFRESH,
    at_refresh = KLS_EIGENVALUES_AT_REFRESH,
};

/// KLS_REFRESH_*.
enum class refresh : std::int32_t {
    qr = KLS_REFRESH_QR,
    eigendecomposition = KLS_REFRESH_EIGENDECOMPOSITION,
    householder_qr = KLS_REFRESH_HOUSEHOLDER_QR,
};

/// KLS_DIRECTION_*.
enum class direction : std::int32_t {
    kronecker_power = KLS_DIRECTION_KRONECKER_POWER,
    second_moment = KLS_DIRECTION_SECOND_MOMENT,
    shampoo_root = KLS_DIRECTION_SHAMPOO_ROOT,
    trace_scaled = KLS_DIRECTION_TRACE_SCALED,
    momentum = KLS_DIRECTION_MOMENTUM,
};

/// KLS_GRAFT_*.
enum class graft : std::int32_t {
    none = KLS_GRAFT_NONE,
    adam = KLS_GRAFT_ADAM,
    sgd = KLS_GRAFT_SGD,
    rmsprop = KLS_GRAFT_RMSPROP,
    adagrad = KLS_GRAFT_ADAGRAD,
};

/// KLS_ORDER_*.
enum class step_order : std::int32_t { estimate_first = KLS_ORDER_ESTIMATE_FIRST, apply_first = KLS_ORDER_APPLY_FIRST };

/// KLS_FIRST_STEP_*.
enum class first_step : std::int32_t { full = KLS_FIRST_STEP_FULL, factors_only = KLS_FIRST_STEP_FACTORS_ONLY };

/// KLS_FIRST_BASIS_*.
enum class first_basis : std::int32_t { gradient = KLS_FIRST_BASIS_GRADIENT, identity = KLS_FIRST_BASIS_IDENTITY };

/// KLS_FACTOR_*.
enum class factor_init : std::int32_t { zero = KLS_FACTOR_ZERO, lambda = KLS_FACTOR_LAMBDA };

/// KLS_LAMBDA_*.
enum class lambda_init : std::int32_t { constant = KLS_LAMBDA_CONSTANT, scale_free = KLS_LAMBDA_SCALE_FREE };

/// KLS_MOMENTUM_*.
enum class momentum : std::int32_t { average = KLS_MOMENTUM_AVERAGE, nesterov = KLS_MOMENTUM_NESTEROV, none = KLS_MOMENTUM_NONE };

/// KLS_BIAS_CORRECTION_*.
enum class bias_correction : std::int32_t {
    none = KLS_BIAS_CORRECTION_NONE,
    step_size = KLS_BIAS_CORRECTION_STEP_SIZE,
    moments = KLS_BIAS_CORRECTION_MOMENTS,
};

/// KLS_DAMPING_*.
enum class damping : std::int32_t { denominator = KLS_DAMPING_DENOMINATOR, factor = KLS_DAMPING_FACTOR };

/// KLS_WEIGHT_DECAY_*.
enum class weight_decay_kind : std::int32_t {
    before = KLS_WEIGHT_DECAY_BEFORE,
    after = KLS_WEIGHT_DECAY_AFTER,
    l2 = KLS_WEIGHT_DECAY_L2,
    independent = KLS_WEIGHT_DECAY_INDEPENDENT,
};

/// KLS_BAD_GRADIENT_*.
enum class bad_gradient : std::int32_t { error = KLS_BAD_GRADIENT_ERROR, skip = KLS_BAD_GRADIENT_SKIP };

/// KLS_MODE_*.
enum class mode : std::int32_t {
    automatic = KLS_MODE_AUTO,
    full = KLS_MODE_FULL,
    diagonal = KLS_MODE_DIAGONAL,
    identity = KLS_MODE_IDENTITY,
};

/// KLS_FORMAT_*.
enum class format : std::int32_t { f32 = KLS_FORMAT_F32, bf16 = KLS_FORMAT_BF16, f16 = KLS_FORMAT_F16 };

/// KLS_ROUNDING_*.
enum class rounding : std::int32_t { nearest = KLS_ROUNDING_NEAREST, stochastic = KLS_ROUNDING_STOCHASTIC };

/// KLS_STATE_*.
enum class state_part : std::int32_t {
    factor = KLS_STATE_FACTOR,
    basis = KLS_STATE_BASIS,
    eigenvalues = KLS_STATE_EIGENVALUES,
    momentum = KLS_STATE_MOMENTUM,
    second_moment = KLS_STATE_SECOND_MOMENT,
    graft_moment = KLS_STATE_GRAFT_MOMENT,
    master = KLS_STATE_MASTER,
};

/// KLS_LOG_*.
enum class log_level : std::int32_t { error = KLS_LOG_ERROR, warning = KLS_LOG_WARNING };

#ifdef KLS_HOST
/// KLS_BACKEND_*.
enum class backend : std::int32_t { automatic = KLS_BACKEND_AUTO, portable = KLS_BACKEND_PORTABLE, faer = KLS_BACKEND_FAER };

/// KLS_PRODUCTS_*.
enum class products : std::int32_t { f32 = KLS_PRODUCTS_F32, bf16 = KLS_PRODUCTS_BF16 };
#endif

// --- Errors

/// One English sentence for a status. Static.
inline const char *text(kls::status status) noexcept { return kls_status_string(static_cast<kls_status>(status)); }

/// Why the calling thread's last failing call without an optimizer failed, and where: kls_last_error(NULL). What this header finds wrong
/// before it calls the library is not among that. Valid until the thread's next such call; empty without a host.
inline const char *last_error() noexcept { return kls_last_error(nullptr); }

/// The version of the linked library, "major.minor.patch". Static; the header's is in KLS_VERSION_*.
inline const char *version() noexcept { return kls_version(); }

namespace detail {

inline constexpr std::size_t no_tensor = std::numeric_limits<std::size_t>::max();

/// What a call comes to: a status of the library, or what a check of this header found.
struct verdict {
    kls_status code = KLS_OK;
    /// What the check is about, such as "gradient"; NULL where the library said it.
    const char *what = nullptr;
    std::size_t tensor = no_tensor;
    std::size_t given = 0, wanted = 0;
    const char *unit = "";

    verdict() = default;
    verdict(kls_status status) : code(status) {}
    verdict(kls_status status, const char *about, std::size_t index, std::size_t is, std::size_t should_be, const char *of)
        : code(status), what(about), tensor(index), given(is), wanted(should_be), unit(of) {}

    bool failed() const noexcept { return code != KLS_OK; }
};

/// The library's sentence for its last failing call on an optimizer, or on none. Without a host it keeps none for the latter. It is called as a
/// dependent name, so that klshampoo_cuda.hpp can add the one for its handles.
inline const char *sentence(const verdict &, const kls_optimizer *optimizer) noexcept { return kls_last_error(optimizer); }

}  // namespace detail

#ifndef KLS_NO_EXCEPTIONS

/// A call that failed.
class error : public std::runtime_error {
  public:
    error(kls::status status, const std::string &what) : std::runtime_error(what), status_(status) {}

    /// Its status; what() is the text.
    kls::status status() const noexcept { return status_; }

  private:
    kls::status status_;
};

/// What a call without a value returns, and what one with a value does.
using outcome = void;
template <class T>
using returned = T;

namespace detail {

template <class Handle>
std::string describe(const verdict &verdict, const Handle *handle) {
    if (verdict.what == nullptr) {
        const char *const said = sentence(verdict, handle);
        return *said != '\0' ? said : kls_status_string(verdict.code);
    }
    std::string text(verdict.what);
    if (verdict.tensor != no_tensor) text += " of tensor " + std::to_string(verdict.tensor);
    text += ": " + std::to_string(verdict.given) + ' ' + verdict.unit + " instead of " + std::to_string(verdict.wanted) + ". ";
    return text + kls_status_string(verdict.code);
}

template <class Handle = kls_optimizer>
outcome conclude(const verdict &verdict, const Handle *handle = nullptr) {
    if (verdict.failed()) throw error(kls::status(verdict.code), describe(verdict, handle));
}

template <class T, class Handle = kls_optimizer>
returned<T> conclude_with(const verdict &verdict, T value, const Handle *handle = nullptr) {
    conclude(verdict, handle);
    return value;
}

}  // namespace detail

#else

/// A value, or the status of a call that failed.
template <class T>
class [[nodiscard]] result {
  public:
    result(kls::status why) : status_(why) {}
    result(T &&value) : value_(std::move(value)) {}

    kls::status status() const noexcept { return status_; }
    /// Whether there is a value.
    explicit operator bool() const noexcept { return status_ == kls::status::ok; }
    /// The value; of a failed call, a T made by default.
    T &value() & noexcept { return value_; }
    const T &value() const & noexcept { return value_; }
    T &&value() && noexcept { return std::move(value_); }
    T &operator*() & noexcept { return value_; }
    const T &operator*() const & noexcept { return value_; }
    T &&operator*() && noexcept { return std::move(value_); }
    T *operator->() noexcept { return &value_; }
    const T *operator->() const noexcept { return &value_; }

  private:
    T value_{};
    kls::status status_ = kls::status::ok;
};

/// What a call without a value returns, and what one with a value does.
using outcome = kls::status;
template <class T>
using returned = result<T>;

namespace detail {

template <class Handle = kls_optimizer>
outcome conclude(const verdict &verdict, const Handle * = nullptr) {
    return kls::status(verdict.code);
}

template <class T, class Handle = kls_optimizer>
returned<T> conclude_with(const verdict &verdict, T value, const Handle * = nullptr) {
    if (verdict.failed()) return kls::status(verdict.code);
    return value;
}

}  // namespace detail

#endif

// --- Buffers

/// Elements one after another that belong to someone else: a pointer and their number.
template <class T>
class span {
    template <class C>
    using of = std::remove_pointer_t<decltype(std::data(std::declval<C &>()))>;

  public:
    constexpr span() noexcept = default;
    constexpr span(T *data, std::size_t size) noexcept : data_(data), size_(size) {}
    /// Of a container or array whose elements lie together.
    template <class C, std::enable_if_t<std::is_convertible_v<of<C> (*)[], T (*)[]>, int> = 0>
    constexpr span(C &&container) noexcept : data_(std::data(container)), size_(std::size(container)) {}
    /// Of one struct: a table of one.
    template <class U, std::enable_if_t<std::is_class_v<U> && std::is_same_v<const U, T>, int> = 0>
    constexpr span(const U &one) noexcept : data_(&one), size_(1) {}

    constexpr T *data() const noexcept { return data_; }
    constexpr std::size_t size() const noexcept { return size_; }
    constexpr T *begin() const noexcept { return data_; }
    constexpr T *end() const noexcept { return data_ + size_; }
    constexpr T &operator[](std::size_t i) const noexcept { return data_[i]; }

  private:
    T *data_ = nullptr;
    std::size_t size_ = 0;
};

namespace detail {

/// Whether a T can be an element of a parameter or gradient: float, or something of 16 bits (uint16_t, a compiler's or a library's
/// half or bfloat16), whose bits are what the tensor says.
template <class T>
inline constexpr bool is_element =
    std::is_same_v<std::remove_cv_t<T>, float> || (sizeof(T) == 2 && alignof(T) == 2 && std::is_trivially_copyable_v<T>);
template <>
inline constexpr bool is_element<void> = false;
template <>
inline constexpr bool is_element<const void> = false;

/// Whether an N can be a length: an integer, or a constant of an old enum.
template <class N>
inline constexpr bool is_length = std::is_integral_v<N> || (std::is_enum_v<N> && std::is_convertible_v<N, std::uint64_t>);

/// The type of a container's elements.
template <class C>
using element_of = std::remove_pointer_t<decltype(std::data(std::declval<C &>()))>;

}  // namespace detail

/// Elements to write: a parameter or an update. Or none.
class buffer {
  public:
    /// None.
    constexpr buffer(std::nullptr_t) noexcept {}
    /// `size` elements from `data` on; none if that is NULL.
    template <class T, std::enable_if_t<detail::is_element<T> && !std::is_const_v<T>, int> = 0>
    constexpr buffer(T *data, std::size_t size) noexcept : data_(data), size_(size), element_(sizeof(T)), none_(data == nullptr) {}
    /// Those of a container or array.
    template <class C, class T = detail::element_of<C>, std::enable_if_t<detail::is_element<T> && !std::is_const_v<T>, int> = 0>
    constexpr buffer(C &&container) noexcept
        : data_(std::data(container)), size_(std::size(container)), element_(sizeof(T)), none_(false) {}

    constexpr void *data() const noexcept { return data_; }
    constexpr std::size_t size() const noexcept { return size_; }
    /// Bytes of an element.
    constexpr std::size_t element_size() const noexcept { return element_; }
    constexpr bool is_none() const noexcept { return none_; }

  private:
    void *data_ = nullptr;
    std::size_t size_ = 0, element_ = 0;
    bool none_ = true;
};

/// Elements to read: a gradient. Or none, for a tensor that is frozen in a step.
class const_buffer {
  public:
    /// None.
    constexpr const_buffer(std::nullptr_t) noexcept {}
    /// `size` elements from `data` on; none if that is NULL.
    template <class T, std::enable_if_t<detail::is_element<T>, int> = 0>
    constexpr const_buffer(const T *data, std::size_t size) noexcept
        : data_(data), size_(size), element_(sizeof(T)), none_(data == nullptr) {}
    /// Those of a container or array.
    template <class C, class T = detail::element_of<const C>, std::enable_if_t<detail::is_element<T>, int> = 0>
    constexpr const_buffer(const C &container) noexcept
        : data_(std::data(container)), size_(std::size(container)), element_(sizeof(T)), none_(false) {}
    constexpr const_buffer(const buffer &other) noexcept
        : data_(other.data()), size_(other.size()), element_(other.element_size()), none_(other.is_none()) {}

    constexpr const void *data() const noexcept { return data_; }
    constexpr std::size_t size() const noexcept { return size_; }
    /// Bytes of an element.
    constexpr std::size_t element_size() const noexcept { return element_; }
    constexpr bool is_none() const noexcept { return none_; }

  private:
    const void *data_ = nullptr;
    std::size_t size_ = 0, element_ = 0;
    bool none_ = true;
};

// --- Values

/// A kls_config: a group's method and hyper-parameters.
struct config : kls_config {
    /// A method's defaults in a convention. Errors: KLS_ERROR_UNKNOWN_VALUE, KLS_ERROR_STRUCT_SIZE (the library is older than the header).
    /// Without exceptions they are returned by the first call that is given the value.
    explicit config(kls::method method = kls::method::kl_shampoo, kls::convention convention = kls::convention::figure13) : kls_config{} {
        const kls_status status = kls_config_init(this, sizeof(kls_config), std::int32_t(method), std::int32_t(convention));
#ifndef KLS_NO_EXCEPTIONS
        detail::conclude(status);
#else
        if (status != KLS_OK) struct_size = sizeof(kls_config), kls_config::estimator = -1;
#endif
    }

    config &set(kls::estimator value) noexcept { return put(kls_config::estimator, value); }
    config &set(kls::estimate_order value) noexcept { return put(kls_config::estimate_order, value); }
    config &set(kls::eigenvalues value) noexcept { return put(kls_config::eigenvalues, value); }
    config &set(kls::refresh value) noexcept { return put(kls_config::refresh, value); }
    config &set(kls::direction value) noexcept { return put(kls_config::direction, value); }
    config &set(kls::graft value) noexcept { return put(kls_config::graft, value); }
    config &set(kls::step_order value) noexcept { return put(kls_config::step_order, value); }
    config &set(kls::first_step value) noexcept { return put(kls_config::first_step, value); }
    config &set(kls::first_basis value) noexcept { return put(kls_config::first_basis, value); }
    config &set(kls::factor_init value) noexcept { return put(kls_config::factor_init, value); }
    config &set(kls::lambda_init value) noexcept { return put(kls_config::lambda_init, value); }
    config &set(kls::momentum value) noexcept { return put(kls_config::momentum, value); }
    config &set(kls::bias_correction value) noexcept { return put(kls_config::bias_correction, value); }
    config &set(kls::damping value) noexcept { return put(kls_config::damping, value); }
    config &set(kls::weight_decay_kind value) noexcept { return put(kls_config::weight_decay_kind, value); }
    config &set(kls::bad_gradient value) noexcept { return put(kls_config::bad_gradient, value); }
    /// How Kronecker factors and eigenbases are kept.
    config &set_factor_format(kls::format value) noexcept { return put(factor_format, value); }

  private:
    template <class E>
    config &put(std::int32_t &field, E value) noexcept {
        field = std::int32_t(value);
        return *this;
    }
};

/// A kls_tensor: one parameter tensor. By default row-major and dense, of floats, in group 0.
///
/// A setter that is given what the tensor cannot have throws; without exceptions it leaves a tensor without dims, so that whatever is
/// made of it fails with KLS_ERROR_ORDER.
struct tensor : kls_tensor {
    /// Of the given dims, 1 to KLS_MAX_ORDER. Their values are checked when an optimizer is made.
    template <class... N, std::enable_if_t<(sizeof...(N) > 0) && (detail::is_length<N> && ...), int> = 0>
    explicit tensor(N... lengths) : kls_tensor{} {
        static_assert(sizeof...(N) <= KLS_MAX_ORDER, "a tensor has 1 to KLS_MAX_ORDER dims");
        const std::uint64_t list[] = {static_cast<std::uint64_t>(lengths)...};
        init(list, sizeof...(N));
    }

    /// The same with a list of dims. Errors: KLS_ERROR_ORDER, KLS_ERROR_STRUCT_SIZE (the library is older than the header).
    explicit tensor(kls::span<const std::uint64_t> lengths) : kls_tensor{} { init(lengths.data(), lengths.size()); }

    /// In a group, by its index.
    tensor &set_group(std::uint32_t index) noexcept {
        group = index;
        return *this;
    }
    /// What messages call it, at most KLS_MAX_NAME bytes of it. Copied when an optimizer is made; the text must live until then.
    tensor &set_name(const char *text) noexcept {
        name = text;
        return *this;
    }
    /// How a dim is preconditioned. Errors: KLS_ERROR_INDEX.
    tensor &set_mode(std::size_t dim, kls::mode value) {
        if (dim >= order) return refuse({KLS_ERROR_INDEX, "mode", detail::no_tensor, dim, order, "as a dim"});
        modes[dim] = std::int32_t(value);
        return *this;
    }
    /// As `count` equal slices with a state of their own, whose starts are `stride` elements apart; 0: they are dense.
    tensor &set_slices(std::uint64_t count, std::uint64_t stride = 0) noexcept {
        slices = count;
        slice_stride = stride;
        return *this;
    }
    /// Its rows in parts with states of their own, such as queries, keys and values: their lengths, at most KLS_MAX_ROW_PARTS.
    template <class... N, std::enable_if_t<(detail::is_length<N> && ...), int> = 0>
    tensor &set_row_parts(N... lengths) noexcept {
        static_assert(sizeof...(N) <= KLS_MAX_ROW_PARTS, "at most KLS_MAX_ROW_PARTS parts");
        std::size_t i = 0;
        ((row_parts[i++] = static_cast<std::uint64_t>(lengths)), ...);
        row_part_count = static_cast<std::uint32_t>(i);
        return *this;
    }
    /// Elements from one index of a dim to the next, one number for each dim. Errors: KLS_ERROR_STRIDES if they are more or fewer.
    template <class... N, std::enable_if_t<(sizeof...(N) > 0) && (detail::is_length<N> && ...), int> = 0>
    tensor &set_strides(N... elements) {
        static_assert(sizeof...(N) <= KLS_MAX_ORDER, "a tensor has 1 to KLS_MAX_ORDER dims");
        if (sizeof...(N) != order) return refuse({KLS_ERROR_STRIDES, "strides", detail::no_tensor, sizeof...(N), order, "numbers"});
        std::size_t i = 0;
        ((strides[i++] = static_cast<std::uint64_t>(elements)), ...);
        return *this;
    }
    /// The formats of gradient and parameter.
    tensor &set_formats(kls::format grad, kls::format param) noexcept {
        grad_format = std::int32_t(grad);
        param_format = std::int32_t(param);
        return *this;
    }
    /// With f32 master weights in the state, of a bf16 parameter.
    tensor &set_master_weights(bool value = true) noexcept {
        master_weights = value;
        return *this;
    }
    /// How a bf16 parameter is rounded, and the seed of KLS_ROUNDING_STOCHASTIC.
    tensor &set_rounding(kls::rounding value, std::uint64_t seed = 0) noexcept {
        rounding = std::int32_t(value);
        rounding_seed = seed;
        return *this;
    }
    /// Steps may scale its gradient in lent memory too.
    tensor &set_grad_scaling(bool value = true) noexcept {
        grad_scaling = value;
        return *this;
    }

    /// Whether its elements lie together, without gaps between rows or slices.
    bool is_dense() const noexcept {
        bool strided = slices > 1 && slice_stride != 0;
        for (std::size_t k = 0; k < dims_given(); k++) strided = strided || strides[k] != 0;
        return !strided;
    }
    /// Elements from its first to one past its last, all slices: the length of its buffers. The largest size_t if it is beyond that.
    std::size_t extent() const noexcept {
        std::uint64_t slice = 1, reach = 1;
        bool strided = false;
        for (std::size_t k = 0; k < dims_given(); k++) {
            slice = times(slice, dims[k]);
            reach = plus(reach, times(dims[k] - (dims[k] != 0), strides[k]));
            strided = strided || strides[k] != 0;
        }
        if (strided) slice = reach;
        const std::uint64_t all = plus(times(slices - (slices != 0), slice_stride != 0 ? slice_stride : slice), slice);
        constexpr std::size_t most = std::numeric_limits<std::size_t>::max();
        return all < most ? static_cast<std::size_t>(all) : most;
    }

  private:
    void init(const std::uint64_t *list, std::size_t count) {
        constexpr std::size_t most = KLS_MAX_ORDER;
        const auto given = static_cast<std::uint32_t>(count <= most ? count : most + 1);
        const kls_status status = kls_tensor_init(this, sizeof(kls_tensor), given, list);
#ifndef KLS_NO_EXCEPTIONS
        detail::conclude(status);
#else
        if (status != KLS_OK) struct_size = sizeof(kls_tensor), order = 0;
#endif
    }

    tensor &refuse([[maybe_unused]] const detail::verdict &why) {
#ifndef KLS_NO_EXCEPTIONS
        detail::conclude(why);
#endif
        order = 0;
        return *this;
    }

    std::size_t dims_given() const noexcept { return order < KLS_MAX_ORDER ? order : KLS_MAX_ORDER; }

    // Sums and products that stay at the largest number.
    static constexpr std::uint64_t largest = std::numeric_limits<std::uint64_t>::max();
    static std::uint64_t plus(std::uint64_t a, std::uint64_t b) noexcept { return b <= largest - a ? a + b : largest; }
    static std::uint64_t times(std::uint64_t a, std::uint64_t b) noexcept { return a == 0 || b <= largest / a ? a * b : largest; }
};

#ifdef KLS_HOST
/// What a pool calls with each index below the count that it was given.
class task {
  public:
    constexpr task(kls_task function, void *context) noexcept : function_(function), context_(context) {}
    void operator()(std::size_t index) const { function_(context_, index); }

  private:
    kls_task function_;
    void *context_;
};

/// A kls_options: how an optimizer on a host works.
struct options : kls_options {
    /// The defaults. Errors: KLS_ERROR_STRUCT_SIZE (the library is older than the header); without exceptions of the create.
    options() : kls_options{} {
        const kls_status status = kls_options_init(this, sizeof(kls_options));
#ifndef KLS_NO_EXCEPTIONS
        detail::conclude(status);
#else
        if (status != KLS_OK) struct_size = sizeof(kls_options);
#endif
    }

    options &set_threads(std::uint32_t count) noexcept {
        num_threads = count;
        return *this;
    }
    options &set(kls::backend value) noexcept {
        kls_options::backend = std::int32_t(value);
        return *this;
    }
    options &set(kls::products value) noexcept {
        kls_options::products = std::int32_t(value);
        return *this;
    }

    /// The caller's own pool in place of threads of the library: `pool(count, task)`, with a std::size_t and a kls::task, calls `task(index)`
    /// once for each index below `count`, on threads of its choice, and returns when all are done. It must live as long as the optimizers
    /// that are made with these options, and throws nothing: std::terminate.
    template <class F>
    options &set_parallel_for(F &pool) noexcept {
        static_assert(std::is_object_v<F>, "an object that can be called, such as a lambda");
        parallel_for = [](void *user, std::size_t count, kls_task function, void *context) noexcept {
            (*static_cast<F *>(user))(count, task(function, context));
        };
        parallel_for_user = address(pool);
        return *this;
    }
    /// The caller's own matrix product, C <- alpha op(A) op(B) + beta C, all row-major: `product(transpose_a, transpose_b, m, n, k, alpha, a,
    /// lda, b, ldb, beta, c, ldc)` with bools for the first two and the rest as kls_sgemm has it. It must live as long as the optimizers
    /// that are made with these options, and throws nothing: std::terminate.
    template <class F>
    options &set_sgemm(F &product) noexcept {
        static_assert(std::is_object_v<F>, "an object that can be called, such as a lambda");
        sgemm = [](void *user, std::int32_t transpose_a, std::int32_t transpose_b, std::size_t m, std::size_t n, std::size_t k, float alpha,
                   const float *a, std::size_t lda, const float *b, std::size_t ldb, float beta, float *c, std::size_t ldc) noexcept {
            (*static_cast<F *>(user))(transpose_a != 0, transpose_b != 0, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
        };
        sgemm_user = address(product);
        return *this;
    }

  private:
    template <class F>
    static void *address(F &object) noexcept {
        return const_cast<void *>(static_cast<const void *>(std::addressof(object)));
    }
};
#endif

/// A kls_step without its arrays: a learning rate and what else there is to say about a step.
struct step : kls_step {
    /// The defaults, without a learning rate: only updates can be asked for. Errors: KLS_ERROR_STRUCT_SIZE (the library is older than the
    /// header); without exceptions of the step.
    step() : kls_step{} {
        const kls_status status = kls_step_init(this, sizeof(kls_step));
#ifndef KLS_NO_EXCEPTIONS
        detail::conclude(status);
#else
        if (status != KLS_OK) struct_size = sizeof(kls_step);
#endif
    }
    explicit step(float rate) : step() { lr = rate; }

    /// Multiplies every gradient when it is read.
    step &set_grad_scale(float value) noexcept {
        grad_scale = value;
        return *this;
    }
    /// The first tensor that is stepped.
    step &set_first_tensor(std::size_t index) noexcept {
        first_tensor = index;
        return *this;
    }
};

// Arrays of them are arrays of the structs.
static_assert(sizeof(config) == sizeof(kls_config) && std::is_standard_layout_v<config>);
static_assert(sizeof(tensor) == sizeof(kls_tensor) && std::is_standard_layout_v<tensor>);
static_assert(sizeof(step) == sizeof(kls_step) && std::is_standard_layout_v<step>);

// --- The optimizer

namespace detail {

/// What is known of each tensor's buffers, and room for the pointers of a step, in one block.
class table {
  public:
    struct entry {
        std::size_t extent, grad_element, param_element;
        bool dense;
    };

    std::size_t size() const noexcept { return size_; }

    /// Alignment of the block, and the bytes that it needs. They fit a size_t: that many larger structs lie in memory.
    static constexpr std::size_t alignment = alignof(entry) > alignof(void *) ? alignof(entry) : alignof(void *);
    static constexpr std::size_t bytes(std::size_t count) noexcept { return count * (sizeof(entry) + 3 * sizeof(void *)); }

    /// Where the block begins in lent memory, behind `size` bytes.
    static constexpr std::size_t behind(std::size_t size) noexcept { return (size + alignment - 1) / alignment * alignment; }

    /// Fills the block for the tensors of another table and more.
    void place(void *memory, const table &before, kls::span<const kls::tensor> more) noexcept {
        size_ = before.size_ + more.size();
        auto *at = static_cast<unsigned char *>(memory);
        entries_ = reinterpret_cast<entry *>(at);
        params = reinterpret_cast<void **>(at += size_ * sizeof(entry));
        grads = reinterpret_cast<const void **>(at += size_ * sizeof(void *));
        updates = reinterpret_cast<float **>(at += size_ * sizeof(void *));
        for (std::size_t i = 0; i < size_; i++) {
            new (entries_ + i) entry(i < before.size_ ? before.entries_[i] : of(more[i - before.size_]));
            new (params + i) void *(nullptr);
            new (grads + i) const void *(nullptr);
            new (updates + i) float *(nullptr);
        }
    }

    /// Whether a parameter, gradient or update fits a tensor: all elements of a dense one, at least as many as the extent of another.
    verdict check_param(std::size_t i, const const_buffer &given) const noexcept {
        return check(i, "parameter", given, entries_[i].param_element);
    }
    verdict check_grad(std::size_t i, const const_buffer &given) const noexcept {
        return check(i, "gradient", given, entries_[i].grad_element);
    }
    verdict check_update(std::size_t i, const const_buffer &given) const noexcept { return check(i, "update", given, sizeof(float)); }
    using checker = verdict (table::*)(std::size_t, const const_buffer &) const noexcept;

    /// Lists buffers, each as a View, for the tensors from `first` on, each checked against its tensor; says how many there were.
    template <class View, class List, class Pointer>
    verdict list(std::size_t first, List &buffers, checker check, Pointer *out, std::size_t &count) const {
        const std::size_t room = first < size_ ? size_ - first : 0;
        std::size_t i = 0;
        for (auto &&each : buffers) {
            if (i < room) {
                const View given(each);
                if (const verdict wrong = (this->*check)(first + i, given); wrong.failed()) return wrong;
                out[i] = static_cast<Pointer>(given.data());
            }
            i++;
        }
        count = i;
        return {};
    }

    /// The same for buffers of which there must be as many as `wanted`.
    template <class View, class List, class Pointer>
    verdict list_all(std::size_t first, std::size_t wanted, List &buffers, const char *what, checker check, Pointer *out) const {
        std::size_t count = 0;
        const verdict wrong = list<View>(first, buffers, check, out, count);
        if (wrong.failed() || count == wanted) return wrong;
        return {KLS_ERROR_TENSOR_COUNT, what, no_tensor, count, wanted, "buffers"};
    }

    void **params = nullptr;
    const void **grads = nullptr;
    float **updates = nullptr;

  private:
    static entry of(const kls::tensor &tensor) noexcept {
        return {tensor.extent(), element(tensor.grad_format), element(tensor.param_format), tensor.is_dense()};
    }

    static constexpr std::size_t element(std::int32_t format) noexcept { return format == KLS_FORMAT_F32 ? sizeof(float) : 2; }

    verdict check(std::size_t i, const char *what, const const_buffer &given, std::size_t element) const noexcept {
        const std::size_t extent = entries_[i].extent;
        if (given.is_none()) return {};
        if (given.element_size() != element) {
            const kls_status status = element == sizeof(float) ? KLS_ERROR_FORMAT : KLS_ERROR_NOT_F32;
            return {status, what, i, given.element_size(), element, "bytes per element"};
        }
        if (given.size() < extent || (given.size() > extent && entries_[i].dense)) {
            return {KLS_ERROR_BUFFER_LENGTH, what, i, given.size(), extent, "elements"};
        }
        return {};
    }

    std::size_t size_ = 0;
    entry *entries_ = nullptr;
};

/// A caller's function behind a callback of C. What it throws waits until C has returned.
template <class F>
class callback {
  public:
    explicit callback(F &function) noexcept : function_(function) {}

    /// 0 if it returns true.
    template <class... Args>
    std::int32_t operator()(Args... args) noexcept {
#ifndef KLS_NO_EXCEPTIONS
        try {
            return function_(args...) ? 0 : 1;
        } catch (...) {
            thrown_ = std::current_exception();
            return 1;
        }
#else
        return function_(args...) ? 0 : 1;
#endif
    }

    void rethrow() {
#ifndef KLS_NO_EXCEPTIONS
        if (thrown_ != nullptr) std::rethrow_exception(thrown_);
#endif
    }

  private:
    F &function_;
#ifndef KLS_NO_EXCEPTIONS
    std::exception_ptr thrown_;
#endif
};

}  // namespace detail

/// Bytes and alignment of memory for an optimizer.
struct memory_needs {
    std::size_t size, alignment;
};

/// What kls::optimizer::create_in needs for these groups and tensors.
///
/// Errors: those of kls_optimizer_query, KLS_ERROR_OVERFLOW.
inline returned<memory_needs> query(span<const config> groups, span<const tensor> tensors) {
    memory_needs needs{0, 0};
    detail::verdict verdict = kls_optimizer_query(groups.data(), groups.size(), tensors.data(), tensors.size(), &needs.size, &needs.alignment);
    needs.size = detail::table::behind(needs.size) + detail::table::bytes(tensors.size());
    return detail::conclude_with(verdict, needs);
}

#ifdef KLS_HOST
/// Divides the slices of a table among as many owners as there are `ranks`: kls_table_partition. `first_slices` has a row of `ranks` + 1 numbers for
/// each tensor; `costs` is empty or has one number for each rank.
///
/// Errors: those of kls_table_partition, KLS_ERROR_BUFFER_LENGTH for other lengths of the two.
inline outcome partition(span<const config> groups, span<const tensor> tensors, std::uint32_t ranks, span<std::uint64_t> first_slices,
                         span<std::uint64_t> costs = {}) {
    detail::verdict verdict;
    if (costs.size() != 0 && costs.size() != ranks) {
        verdict = {KLS_ERROR_BUFFER_LENGTH, "costs", detail::no_tensor, costs.size(), ranks, "numbers"};
    } else {
        verdict = kls_table_partition(groups.data(), groups.size(), tensors.data(), tensors.size(), ranks, first_slices.data(),
                                      first_slices.size(), costs.size() != 0 ? costs.data() : nullptr);
    }
    return detail::conclude(verdict);
}
#endif

/// An optimizer over a table of tensors; the owner of a kls_optimizer.
///
/// Slices and modes are counted as in C: where a tensor is cut into pieces, a slice is `slice * pieces + piece`.
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
    /// Ends the optimizer. One in lent memory is only marked there, so its memory must still be there.
    ~optimizer() {
        end_table();
        if (handle_ != nullptr) static_cast<void>(kls_optimizer_destroy(&handle_));
    }

#ifdef KLS_HOST
    /// Makes an optimizer on the heap, with threads and the host's backend, for a table of groups and one of tensors, or one of each.
    ///
    /// Errors: those of kls_optimizer_create.
    static returned<optimizer> create(span<const config> groups, span<const tensor> tensors, const options &options = kls::options()) {
        optimizer made;
        detail::verdict verdict =
            kls_optimizer_create(&made.handle_, groups.data(), groups.size(), tensors.data(), tensors.size(), &options);
        if (!verdict.failed()) verdict = made.grow_table(tensors, [] { return KLS_OK; });
        return detail::conclude_with(verdict, std::move(made));
    }

    /// Adds tensors to the end of the table; the others keep their state. Not for one in lent memory.
    ///
    /// Errors: those of kls_optimizer_add_tensors; nothing is added then.
    outcome add_tensors(span<const tensor> tensors) {
        const auto add = [&] { return kls_optimizer_add_tensors(handle_, tensors.data(), tensors.size()); };
        return detail::conclude(grow_table(tensors, add), handle_);
    }
#endif

    /// Makes an optimizer in `memory`, which is as long and aligned as kls::query says and stays the optimizer's as long as it lives. It
    /// never allocates, uses one thread and the portable backend.
    ///
    /// Errors: those of kls_optimizer_init; `memory` is then untouched.
    static returned<optimizer> create_in(span<std::byte> memory, span<const config> groups, span<const tensor> tensors) {
        optimizer made;
        std::size_t size = 0, alignment = 0;
        detail::verdict verdict = kls_optimizer_query(groups.data(), groups.size(), tensors.data(), tensors.size(), &size, &alignment);
        const std::size_t own = detail::table::behind(size), all = own + detail::table::bytes(tensors.size());
        if (!verdict.failed() && memory.size() < all) {
            verdict = {KLS_ERROR_MEMORY_TOO_SHORT, "memory", detail::no_tensor, memory.size(), all, "bytes"};
        }
        if (!verdict.failed()) {
            verdict = kls_optimizer_init(&made.handle_, memory.data(), own, groups.data(), groups.size(), tensors.data(), tensors.size());
        }
        if (!verdict.failed()) made.table_.place(memory.data() + own, {}, tensors);
        return detail::conclude_with(verdict, std::move(made));
    }

    /// Why the library's last failing call on the optimizer failed, and where: kls_last_error. What this header finds wrong before it calls
    /// the library is not among that. Valid until the next call.
    const char *last_error() const noexcept { return kls_last_error(handle_); }

    /// Has failing calls and what steps meet reported: `log(level, message)`, with a kls::log_level and a text that is valid during the call.
    /// It must live until it is replaced or the optimizer ends, which may have moved meanwhile, and throws nothing: std::terminate.
    ///
    /// Errors: the handle's.
    template <class F>
    outcome set_log(F &log) {
        static_assert(std::is_object_v<F>, "an object that can be called, such as a lambda");
        const kls_log function = [](void *user, std::int32_t level, const char *message) noexcept {
            (*static_cast<F *>(user))(log_level(level), message);
        };
        void *const user = const_cast<void *>(static_cast<const void *>(std::addressof(log)));
        return detail::conclude(kls_optimizer_set_log(handle_, function, user), handle_);
    }
    /// Reports nothing any more.
    outcome set_log(std::nullptr_t) { return detail::conclude(kls_optimizer_set_log(handle_, nullptr, nullptr), handle_); }

    /// Whether there is one.
    explicit operator bool() const noexcept { return handle_ != nullptr; }
    /// For calls in C, but for kls_optimizer_destroy and kls_optimizer_add_tensors; NULL if it is empty. It stays the optimizer's.
    kls_optimizer *native_handle() const noexcept { return handle_; }
    /// Gives the handle to the caller, who destroys it; the optimizer is then empty.
    [[nodiscard]] kls_optimizer *release() noexcept {
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

    /// One step of the whole table: a parameter and a gradient for each tensor, in its order and formats. Both are lists in braces, or
    /// containers of what converts to kls::buffer and kls::const_buffer. A gradient that is nullptr freezes its tensor.
    ///
    /// Errors: those of kls_optimizer_step without KLS_ERROR_NOT_F32, KLS_ERROR_BUFFER_LENGTH; KLS_ERROR_NOT_F32 or KLS_ERROR_FORMAT
    /// where the elements are of another size than the tensor's format.
    template <class Params = std::initializer_list<buffer>, class Grads = std::initializer_list<const_buffer>>
    outcome step(Params &&params, Grads &&grads, float lr) {
        kls::step request(lr);
        detail::verdict verdict = prepare(request, params, grads);
        if (!verdict.failed() && handle_ != nullptr && request.tensor_count != table_.size()) {
            verdict = {KLS_ERROR_TENSOR_COUNT, "parameters", detail::no_tensor, request.tensor_count, table_.size(), "buffers"};
        }
        if (!verdict.failed()) {
            // A request for no tensors is refused, a table without any is not.
            verdict = table_.size() == 0 ? kls_optimizer_step(handle_, nullptr, nullptr, 0, lr) : run(request);
        }
        return detail::conclude(verdict, handle_);
    }

    /// One step of one tensor, as soon as its gradient is ready: kls_optimizer_step_tensor for all formats.
    ///
    /// Errors: as for step, KLS_ERROR_INDEX, KLS_ERROR_NULL without a gradient.
    outcome step_tensor(std::size_t tensor, buffer param, const_buffer grad, float lr) {
        if (handle_ != nullptr && grad.is_none()) return detail::conclude({KLS_ERROR_NULL, "gradient", tensor, 0, 1, "buffers"});
        const std::initializer_list<buffer> params = {param};
        const std::initializer_list<const_buffer> grads = {grad};
        return step_with(kls::step(lr).set_first_tensor(tensor), params, grads);
    }

    /// One step of as many tensors as there are buffers, from the request's first one on, with its learning rate and scale.
    ///
    /// Errors: as for step, and those of kls_optimizer_step_with.
    template <class Params = std::initializer_list<buffer>, class Grads = std::initializer_list<const_buffer>>
    outcome step_with(kls::step request, Params &&params, Grads &&grads) {
        detail::verdict verdict = prepare(request, params, grads);
        if (!verdict.failed()) verdict = run(request);
        return detail::conclude(verdict, handle_);
    }

    /// The same step, whose updates are only written, as floats; parameters are neither needed nor touched. The request needs no learning
    /// rate. See `updates` of kls_step for what an update is.
    ///
    /// Errors: as for step_with, KLS_ERROR_MASTER_WEIGHTS; KLS_ERROR_NULL where weight decay is KLS_WEIGHT_DECAY_L2, which needs the
    /// parameters.
    template <class Grads = std::initializer_list<const_buffer>, class Updates = std::initializer_list<buffer>>
    outcome write_updates(kls::step request, Grads &&grads, Updates &&updates) {
        const std::initializer_list<const_buffer> none = {};
        return write_updates(request, grads, updates, none);
    }

    /// The same with the parameters, which are read.
    template <class Grads = std::initializer_list<const_buffer>, class Updates = std::initializer_list<buffer>,
              class Params = std::initializer_list<const_buffer>>
    outcome write_updates(kls::step request, Grads &&grads, Updates &&updates, Params &&params) {
        const std::size_t first = request.first_tensor;
        detail::verdict verdict = table_.list<const_buffer>(first, grads, &detail::table::check_grad, table_.grads, request.tensor_count);
        if (!verdict.failed()) {
            verdict = table_.list_all<buffer>(first, request.tensor_count, updates, "updates", &detail::table::check_update, table_.updates);
        }
        request.params = nullptr;
        if (!verdict.failed() && std::begin(params) != std::end(params)) {
            // They are read only, whatever the table's pointers say.
            auto **const read = const_cast<const void **>(table_.params);
            verdict = table_.list_all<const_buffer>(first, request.tensor_count, params, "parameters", &detail::table::check_param, read);
            request.params = table_.params;
        }
        request.grads = table_.grads;
        request.updates = table_.updates;
        if (!verdict.failed()) verdict = run(request);
        return detail::conclude(verdict, handle_);
    }

    /// Sets a group's learning-rate scale and weight decay. Errors: those of kls_optimizer_set_group.
    outcome set_group(std::size_t group, float lr_scale, float weight_decay) {
        return detail::conclude(kls_optimizer_set_group(handle_, group, lr_scale, weight_decay), handle_);
    }

    /// Bounds the operations of a step's refreshes; 0: no bound. Errors: the handle's. See kls_optimizer_set_refresh_budget.
    outcome set_refresh_budget(std::uint64_t flops) { return detail::conclude(kls_optimizer_set_refresh_budget(handle_, flops), handle_); }

    /// Bytes of state, without scratch and table. Errors: the handle's.
    returned<std::size_t> state_bytes() const {
        std::size_t bytes = 0;
        const kls_status status = kls_optimizer_state_bytes(handle_, &bytes);
        return detail::conclude_with(status, bytes, handle_);
    }

    /// What its memory is spent on: state, scratch of all threads, table. Errors: the handle's.
    returned<kls_memory> memory() {
        kls_memory memory{};
        const kls_status status = kls_optimizer_memory(handle_, &memory, sizeof memory);
        return detail::conclude_with(status, memory, handle_);
    }

    /// How a tensor is treated. Errors: KLS_ERROR_INDEX and the handle's.
    returned<kls_plan> plan(std::size_t tensor) {
        kls_plan plan{};
        const kls_status status = kls_optimizer_plan(handle_, tensor, &plan, sizeof plan);
        return detail::conclude_with(status, plan, handle_);
    }

    /// Predicted floating-point operations of the table's step number `step`, from 1 on. Errors: the handle's.
    returned<std::uint64_t> predicted_flops(std::uint64_t step) {
        std::uint64_t flops = 0;
        const kls_status status = kls_optimizer_predicted_flops(handle_, step, &flops);
        return detail::conclude_with(status, flops, handle_);
    }

    /// What a slice has counted. Errors: KLS_ERROR_INDEX and the handle's.
    returned<kls_counters> counters(std::size_t tensor, std::size_t slice = 0) {
        kls_counters counters{};
        const kls_status status = kls_optimizer_counters(handle_, tensor, slice, &counters, sizeof counters);
        return detail::conclude_with(status, counters, handle_);
    }

    /// A report on one dim of a slice. Errors: those of kls_optimizer_mode_report.
    returned<kls_mode_report> mode_report(std::size_t tensor, std::size_t slice, std::size_t mode) {
        kls_mode_report report{};
        const kls_status status = kls_optimizer_mode_report(handle_, tensor, slice, mode, &report, sizeof report);
        return detail::conclude_with(status, report, handle_);
    }

    /// KL(E[gg^T], S) up to a constant, of a slice's part of a tensor's gradient. Errors: those of kls_optimizer_objective.
    returned<float> objective(std::size_t tensor, std::size_t slice, span<const float> grad) {
        float objective = 0;
        const kls_status status = kls_optimizer_objective(handle_, tensor, slice, grad.data(), grad.size(), &objective);
        return detail::conclude_with(status, objective, handle_);
    }

    /// How many numbers a slice has of a part of the state. `mode` is only looked at for parts that belong to one.
    ///
    /// Errors: those of kls_optimizer_state_len.
    returned<std::size_t> state_len(std::size_t tensor, std::size_t slice, state_part part, std::size_t mode = 0) {
        std::size_t len = 0;
        const kls_status status = kls_optimizer_state_len(handle_, tensor, slice, std::int32_t(part), mode, &len);
        return detail::conclude_with(status, len, handle_);
    }

    /// Copies a part of a slice's state into `out`, of exactly state_len elements. Errors: those of kls_optimizer_read_state.
    outcome read_state(std::size_t tensor, std::size_t slice, state_part part, std::size_t mode, span<float> out) {
        return detail::conclude(
            kls_optimizer_read_state(handle_, tensor, slice, std::int32_t(part), mode, out.data(), out.size()), handle_);
    }

#ifdef KLS_HOST
    /// A part of a slice's state. Errors: those of kls_optimizer_read_state.
    returned<std::vector<float>> read_state(std::size_t tensor, std::size_t slice, state_part part, std::size_t mode = 0) {
        std::size_t len = 0;
        std::vector<float> out;
        kls_status status = kls_optimizer_state_len(handle_, tensor, slice, std::int32_t(part), mode, &len);
        if (status == KLS_OK) {
            out.resize(len);
            status = kls_optimizer_read_state(handle_, tensor, slice, std::int32_t(part), mode, out.data(), len);
        }
        return detail::conclude_with(status, std::move(out), handle_);
    }
#endif

    /// Replaces the eigenbasis of one mode, d x d row-major, columns are eigenvectors. Errors: those of kls_optimizer_set_basis.
    outcome set_basis(std::size_t tensor, std::size_t slice, std::size_t mode, span<const float> basis) {
        return detail::conclude(kls_optimizer_set_basis(handle_, tensor, slice, mode, basis.data(), basis.size()), handle_);
    }

    /// Bytes of a checkpoint. Errors: the handle's.
    returned<std::uint64_t> save_size() {
        std::uint64_t bytes = 0;
        const kls_status status = kls_optimizer_save_size(handle_, &bytes);
        return detail::conclude_with(status, bytes, handle_);
    }

    /// Saves the state into memory of at least save_size bytes. Errors: those of kls_optimizer_save.
    outcome save(span<std::byte> out) { return detail::conclude(kls_optimizer_save(handle_, out.data(), out.size()), handle_); }

    /// Takes the state from a checkpoint in memory. Errors: those of kls_optimizer_load; the optimizer is then unchanged.
    outcome load(span<const std::byte> checkpoint) {
        return detail::conclude(kls_optimizer_load(handle_, checkpoint.data(), checkpoint.size()), handle_);
    }

    /// Saves the state piece by piece: `write(bytes)`, with a span<const std::byte>, returns whether it has taken them. What it throws is
    /// thrown on.
    ///
    /// Errors: those of kls_optimizer_save_to.
    template <class F>
    outcome save_to(F &&write) {
        detail::callback<std::remove_reference_t<F>> callback(write);
        const auto function = [](void *user, const void *bytes, std::size_t len) noexcept -> std::int32_t {
            return (*static_cast<decltype(callback) *>(user))(span<const std::byte>(static_cast<const std::byte *>(bytes), len));
        };
        const kls_status status = kls_optimizer_save_to(handle_, function, &callback);
        callback.rethrow();
        return detail::conclude(status, handle_);
    }

    /// Loads piece by piece: `read(offset, bytes)`, with a std::uint64_t and a span<std::byte>, returns whether it has filled them. It is
    /// asked for everything twice. What it throws is thrown on, with the optimizer as after the error that it stands for.
    ///
    /// Errors: those of kls_optimizer_load_from.
    template <class F>
    outcome load_from(F &&read) {
        detail::callback<std::remove_reference_t<F>> callback(read);
        const auto function = [](void *user, std::uint64_t offset, void *bytes, std::size_t len) noexcept -> std::int32_t {
            return (*static_cast<decltype(callback) *>(user))(offset, span<std::byte>(static_cast<std::byte *>(bytes), len));
        };
        const kls_status status = kls_optimizer_load_from(handle_, function, &callback);
        callback.rethrow();
        return detail::conclude(status, handle_);
    }

#ifdef KLS_HOST
    /// A checkpoint. Errors: the handle's.
    returned<std::vector<std::byte>> save() {
        std::uint64_t bytes = 0;
        std::vector<std::byte> out;
        kls_status status = kls_optimizer_save_size(handle_, &bytes);
        if (status == KLS_OK) {
            out.resize(static_cast<std::size_t>(bytes));
            status = kls_optimizer_save(handle_, out.data(), out.size());
        }
        return detail::conclude_with(status, std::move(out), handle_);
    }

    /// Saves the state into a safetensors file. Errors: those of kls_optimizer_save_file.
    outcome save_file(const char *path) { return detail::conclude(kls_optimizer_save_file(handle_, path), handle_); }

    /// Takes the state from such a file. Errors: those of kls_optimizer_load_file; the optimizer is then unchanged.
    outcome load_file(const char *path) { return detail::conclude(kls_optimizer_load_file(handle_, path), handle_); }
#endif

  private:
    /// Lists the buffers of a step that moves parameters.
    template <class Params, class Grads>
    detail::verdict prepare(kls::step &request, Params &params, Grads &grads) {
        const std::size_t first = request.first_tensor;
        detail::verdict verdict = table_.list<buffer>(first, params, &detail::table::check_param, table_.params, request.tensor_count);
        if (!verdict.failed()) {
            verdict = table_.list_all<const_buffer>(first, request.tensor_count, grads, "gradients", &detail::table::check_grad, table_.grads);
        }
        request.params = table_.params;
        request.grads = table_.grads;
        request.updates = nullptr;
        return verdict;
    }

    /// Makes it.
    detail::verdict run(const kls::step &request) {
        const std::size_t room = request.first_tensor < table_.size() ? table_.size() - request.first_tensor : 0;
        if (handle_ != nullptr && request.tensor_count > room) {
            return {KLS_ERROR_INDEX, "tensors", detail::no_tensor, request.tensor_count, room, "from the first one on"};
        }
        return kls_optimizer_step_with(handle_, &request);
    }

#ifdef KLS_HOST
    /// Makes room for more tensors, and adds them in the library when there is.
    template <class F>
    detail::verdict grow_table(span<const tensor> more, F &&add) noexcept {
        const std::size_t bytes = detail::table::bytes(table_.size() + more.size());
        void *const block = ::operator new(bytes, std::nothrow);
        if (block == nullptr) return {KLS_ERROR_OUT_OF_MEMORY, "memory", detail::no_tensor, 0, bytes, "bytes"};
        if (const kls_status status = add(); status != KLS_OK) {
            ::operator delete(block);
            return status;
        }
        detail::table larger;
        larger.place(block, table_, more);
        end_table();
        block_ = block;
        table_ = larger;
        return {};
    }
#endif

    void end_table() noexcept {
#ifdef KLS_HOST
        ::operator delete(block_);
#endif
        block_ = nullptr;
        table_ = {};
    }

    kls_optimizer *handle_ = nullptr;
    detail::table table_;
    /// The table's memory, where it is on the heap.
    void *block_ = nullptr;
};

inline void swap(optimizer &a, optimizer &b) noexcept { a.swap(b); }

// --- Windows of gradients

/// Elements of scratch that window_similarity needs. Errors: those of kls_window_scratch_len.
inline returned<std::size_t> window_scratch_len(std::size_t rows, std::size_t columns, std::size_t count) {
    std::size_t len = 0;
    const kls_status status = kls_window_scratch_len(rows, columns, count, &len);
    return detail::conclude_with(status, len);
}

/// Compares the second moment of `count` gradients of rows x columns, one after another in `grads`, with its Kronecker approximations.
///
/// Errors: those of kls_window_similarity, KLS_ERROR_BUFFER_LENGTH.
inline returned<kls_similarity> window_similarity(span<const float> grads, std::size_t rows, std::size_t columns, std::size_t count,
                                                  span<float> scratch) {
    kls_similarity similarity{};
    std::size_t len = 0;
    // It refuses dims of zero and what is beyond a size_t.
    detail::verdict verdict = kls_window_scratch_len(rows, columns, count, &len);
    if (!verdict.failed() && (grads.size() / rows / columns != count || grads.size() != rows * columns * count)) {
        verdict = {KLS_ERROR_BUFFER_LENGTH, "gradients", detail::no_tensor, grads.size(), rows * columns * count, "elements"};
    }
    if (!verdict.failed()) {
        verdict = kls_window_similarity(grads.data(), rows, columns, count, scratch.data(), scratch.size(), &similarity, sizeof similarity);
    }
    return detail::conclude_with(verdict, similarity);
}

#ifdef KLS_HOST
/// The same with scratch of its own.
inline returned<kls_similarity> window_similarity(span<const float> grads, std::size_t rows, std::size_t columns, std::size_t count) {
    std::size_t len = 0;
    const kls_status status = kls_window_scratch_len(rows, columns, count, &len);
    if (status != KLS_OK) return detail::conclude_with(status, kls_similarity{});
    std::vector<float> scratch(len);
    return window_similarity(grads, rows, columns, count, scratch);
}
#endif

}  // namespace
}  // namespace kls

#endif
