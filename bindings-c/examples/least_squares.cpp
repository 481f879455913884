// A least-squares fit by KL-Shampoo: W from samples of Y = T X. Prints the loss falling; 0 if it fell.
//   c++ -std=c++17 -Iinclude -Ibindings-c/include bindings-c/examples/least_squares.cpp libklshampoo_ffi.a -lm -lpthread -ldl
#include <klshampoo.hpp>

#include <cstdio>
#include <exception>
#include <random>
#include <vector>

namespace {

constexpr std::size_t out = 8, in = 16, samples = 64, steps = 300;

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

}  // namespace

int main() try {
    fit fit;
    auto optimizer = kls::optimizer::create(kls::config(kls::method::kl_shampoo), kls::tensor(out, in));
    const float first = fit.loss_and_gradient();
    for (std::size_t step = 0; step < steps; step++) {
        const float loss = fit.loss_and_gradient();
        if (step % 50 == 0) std::printf("step %3zu: loss %g\n", step, static_cast<double>(loss));
        optimizer.step({fit.w}, {fit.gradient}, 0.1f * (1 - static_cast<float>(step) / steps));
    }
    const float last = fit.loss_and_gradient();
    std::printf("step %3zu: loss %g\n", steps, static_cast<double>(last));
    return last < 1e-3f * first ? 0 : 1;
} catch (const std::exception &error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
}
