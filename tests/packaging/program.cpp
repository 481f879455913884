// A user's C++ program: KL-Shampoo brings a matrix to a target; 0 if it does. Its exceptions are its own.
#include <klshampoo.h>
#if __has_include(<klshampoo.hpp>)
#include <klshampoo.hpp>
#endif

#include <iostream>
#include <stdexcept>
#include <vector>

namespace {

void check(kls_status status) {
    if (status != KLS_OK) throw std::runtime_error(kls_status_string(status));
}

struct Optimizer {
    kls_optimizer *handle = nullptr;
    ~Optimizer() { kls_optimizer_destroy(&handle); }
};

bool refused(kls_optimizer *optimizer) {
    try {
        check(kls_optimizer_step(optimizer, nullptr, nullptr, 1, 0.1f));
    } catch (const std::runtime_error &error) {
        return true;
    }
    return false;
}

}  // namespace

int main() try {
    constexpr std::size_t rows = 24, columns = 40, steps = 300;
    const std::uint64_t dims[2] = {rows, columns};
    std::vector<float> weights(rows * columns), gradient(weights.size());
    kls_config config;
    kls_tensor tensor;
    Optimizer optimizer;
    check(kls_config_init(&config, sizeof config, KLS_METHOD_KL_SHAMPOO, KLS_CONVENTION_FIGURE13));
    check(kls_tensor_init(&tensor, sizeof tensor, 2, dims));
    check(kls_optimizer_create(&optimizer.handle, &config, 1, &tensor, 1, nullptr));
    float first = 0, last = 0;
    for (std::size_t step = 0; step < steps; step++) {
        last = 0;
        for (std::size_t i = 0; i < weights.size(); i++) {
            gradient[i] = weights[i] - (static_cast<float>(i * 7919 % 1000) / 500 - 1);
            last += gradient[i] * gradient[i] / 2;
        }
        if (step == 0) first = last;
        float *params[1] = {weights.data()};
        const float *grads[1] = {gradient.data()};
        check(kls_optimizer_step(optimizer.handle, params, grads, 1, 0.05f * (1 - static_cast<float>(step) / steps)));
    }
    std::cout << "klshampoo " << kls_version() << ": loss " << first << " to " << last << '\n';
    return last < 1e-2f * first && refused(optimizer.handle) ? 0 : 1;
} catch (const std::exception &error) {
    std::cerr << error.what() << '\n';
    return 1;
}
