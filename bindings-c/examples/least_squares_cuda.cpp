// A least-squares fit by KL-Shampoo on a GPU: W from samples of Y = T X. Prints the loss falling; 0 if it fell.
//   c++ -std=c++17 least_squares_cuda.cpp $(pkg-config --cflags --libs klshampoo-cuda) -I/usr/local/cuda/include -L/usr/local/cuda/lib64 -lcudart
// The CPU computes loss and gradient here, so that no nvcc is needed; a model's backward pass leaves the gradient on the device.
#include <cuda_runtime.h>
#include <klshampoo_cuda.hpp>

#include <cstdio>
#include <exception>
#include <random>
#include <stdexcept>
#include <vector>

namespace {

constexpr std::size_t out = 8, in = 16, samples = 64, steps = 300;

void check(cudaError_t error) {
    if (error != cudaSuccess) throw std::runtime_error(cudaGetErrorString(error));
}

struct fit {
    std::vector<float> x, y;  // samples x in, samples x out
    std::vector<float> w = std::vector<float>(out * in), gradient = w;

    fit() : x(samples * in), y(samples * out) {  // inputs of very different scales, and a matrix T of which y is made
        std::mt19937 random(1);
        for (std::size_t s = 0; s < samples; s++) {
            for (std::size_t j = 0; j < in; j++) x[s * in + j] = (static_cast<float>(random() % 2000) / 1000 - 1) / static_cast<float>(1 + j);
            for (std::size_t i = 0; i < out; i++)
                for (std::size_t j = 0; j < in; j++) y[s * out + i] += x[s * in + j] * (static_cast<float>((3 * i + 5 * j) % 7) - 3);
        }
    }

    float loss_and_gradient() {  // of |W X - Y|^2 / (2 samples)
        float loss = 0;
        gradient.assign(out * in, 0);
        for (std::size_t s = 0; s < samples; s++) {
            for (std::size_t i = 0; i < out; i++) {
                float error = -y[s * out + i];
                for (std::size_t j = 0; j < in; j++) error += w[i * in + j] * x[s * in + j];
                loss += error * error / (2 * samples);
                for (std::size_t j = 0; j < in; j++) gradient[i * in + j] += error * x[s * in + j] / samples;
            }
        }
        return loss;
    }
};

// Floats on the device.
class device_floats {
  public:
    device_floats(const std::vector<float> &host, cudaStream_t stream) : size_(host.size()), stream_(stream) {
        void *memory = nullptr;
        check(cudaMalloc(&memory, bytes()));
        data_ = static_cast<float *>(memory);
        upload(host);
    }
    device_floats(const device_floats &) = delete;
    device_floats &operator=(const device_floats &) = delete;
    ~device_floats() { static_cast<void>(cudaFree(data_)); }

    void upload(const std::vector<float> &host) { check(cudaMemcpyAsync(data_, host.data(), bytes(), cudaMemcpyHostToDevice, stream_)); }
    void download(std::vector<float> &host) const {
        check(cudaMemcpyAsync(host.data(), data_, bytes(), cudaMemcpyDeviceToHost, stream_));
        check(cudaStreamSynchronize(stream_));
    }
    operator kls::cuda::buffer() const { return {data_, size_}; }
    operator kls::cuda::const_buffer() const { return {data_, size_}; }

  private:
    std::size_t bytes() const { return size_ * sizeof(float); }

    std::size_t size_;
    cudaStream_t stream_;
    float *data_ = nullptr;
};

}  // namespace

int main() try {
    fit fit;
    auto optimizer = kls::cuda::optimizer::create(kls::config(kls::method::kl_shampoo), kls::tensor(out, in));
    cudaStream_t stream;
    check(cudaStreamCreate(&stream));
    device_floats w(fit.w, stream), gradient(fit.gradient, stream);
    float first = 0, last = 0;
    for (std::size_t step = 0; step <= steps; step++) {
        last = fit.loss_and_gradient();
        if (step == 0) first = last;
        if (step % 50 == 0) std::printf("step %3zu: loss %g\n", step, static_cast<double>(last));
        gradient.upload(fit.gradient);
        optimizer.step({w}, {gradient}, kls::cuda::request(0.1f * (1 - static_cast<float>(step) / steps), stream));
        w.download(fit.w);
    }
    check(cudaStreamDestroy(stream));
    return last < 1e-3f * first ? 0 : 1;
} catch (const std::exception &error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
}
