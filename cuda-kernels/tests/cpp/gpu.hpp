// What the C++ tests share: arrays of device memory, and a table of tensors. Every test returns NULL or what failed.
#ifndef KLS_CUDA_TESTS_GPU_HPP
#define KLS_CUDA_TESTS_GPU_HPP

#include "check.hpp"

#include <klshampoo_cuda.hpp>

#include <algorithm>
#include <array>
#include <vector>

extern "C" {
#include "device.h"

const char *test_training();
const char *test_moves();
const char *test_places();
const char *test_requests();
const char *test_formats();
const char *test_counters();
const char *test_state();
const char *test_checkpoints();
const char *test_graphs();
const char *test_refreshes();
const char *test_wrong_steps();
const char *test_failures();
const char *test_no_driver();
const char *test_returning();
const char *test_returning_wrong();
}

// Of each file its own: they include the headers in different ways.
namespace {

constexpr std::size_t ROWS = 4, COLUMNS = 3, ELEMENTS = ROWS * COLUMNS, VECTOR = 5;

// Device memory with a copy of a container's elements.
template <class T>
class on_device {
  public:
    template <class C>
    explicit on_device(const C &host) : size_(std::size(host)), data_(static_cast<T *>(device_copy_of(std::data(host), size_ * sizeof(T)))) {}
    on_device(const on_device &) = delete;
    on_device &operator=(const on_device &) = delete;
    ~on_device() { device_free(data_); }

    operator kls::cuda::buffer() const { return {data_, size_}; }
    operator kls::cuda::const_buffer() const { return {data_, size_}; }
    T *data() const { return data_; }
    std::size_t size() const { return size_; }
    std::vector<T> host() const {
        std::vector<T> out(size_);
        to_host(out.data(), data_, size_ * sizeof(T));
        return out;
    }

  private:
    std::size_t size_;
    T *data_;
};

// A table of a matrix and a vector with gradients.
struct fixture {
    kls::config group{kls::method::kl_shampoo};
    std::vector<kls::tensor> tensors{kls::tensor(ROWS, COLUMNS), kls::tensor(VECTOR)};
    std::vector<float> matrix, matrix_grad, vector, vector_grad;

    fixture() : matrix(ELEMENTS), matrix_grad(ELEMENTS), vector(VECTOR, 1), vector_grad(VECTOR) {
        group.refresh_period = 2;
        group.weight_decay = 0.1f;
        for (std::size_t i = 0; i < ELEMENTS; i++) {
            matrix[i] = 0.1f * static_cast<float>(i % 5) - 0.2f;
            matrix_grad[i] = 0.01f * (static_cast<float>(7 * i % 11) - 5);
        }
        for (std::size_t i = 0; i < VECTOR; i++) vector_grad[i] = 0.5f - 0.2f * static_cast<float>(i);
    }
};

// Its parameters and gradients on the device too.
struct device_fixture : fixture {
    on_device<float> weights{matrix}, weights_grad{matrix_grad}, bias{vector}, bias_grad{vector_grad};
    void *stream = nullptr;

    void fill() {  // anew, as the fixture has them
        to_device(weights.data(), matrix.data(), ELEMENTS * sizeof(float));
        to_device(bias.data(), vector.data(), VECTOR * sizeof(float));
    }
    bool equals(const device_fixture &other) const { return weights.host() == other.weights.host() && bias.host() == other.bias.host(); }
};

#ifndef KLS_NO_EXCEPTIONS
inline void step(kls::cuda::optimizer &optimizer, device_fixture &f) {
    optimizer.step({f.weights, f.bias}, {f.weights_grad, f.bias_grad}, kls::cuda::request(0.01f, f.stream));
}
#endif

}  // namespace

#endif
